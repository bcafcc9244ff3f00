#include "numeric.h"

#include "legacy_random.h"

#include <float.h>
#include <math.h>
#include <string.h>

static void draw(struct legacy_random *r, double *values, size_t count, bool as_f32)
{
    legacy_random_normal(r, values, count);
    for (size_t i = 0; as_f32 && i < count; i++)
        values[i] = (double)(float)values[i];
}

void check_data_draw(struct check_data *d, const struct reference_problem *problem, uint32_t seed, bool frozen,
                     bool as_f32)
{
    struct legacy_random r;
    size_t elements = reference_elements(problem);
    memset(d, 0, sizeof *d);
    d->problem = *problem;
    d->frozen = frozen;
    legacy_random_seed(&r, seed);
    draw(&r, d->x, elements, as_f32);
    draw(&r, d->weight, problem->c, as_f32);
    draw(&r, d->bias, problem->c, as_f32);
    draw(&r, d->dy, elements, as_f32);
    if (!frozen) {
        reference_statistics(problem, d->x, d->mean, d->var);
        return;
    }
    draw(&r, d->mean, problem->c, as_f32);
    draw(&r, d->var, problem->c, as_f32);
    for (size_t c = 0; c < problem->c; c++) /* a variance: positive, and not far from 1 */
        d->var[c] = (double)(float)(0.5 + fabs(d->var[c]));
}

static void forward(const struct check_data *d, double *y)
{
    double mean[CHECK_C], var[CHECK_C];
    memcpy(mean, d->mean, sizeof mean);
    memcpy(var, d->var, sizeof var);
    if (!d->frozen)
        reference_statistics(&d->problem, d->x, mean, var);
    reference_apply(&d->problem, d->x, mean, var, d->weight, d->bias, y);
}

/* dL/d(*parameter), a value inside *d. The differences of y are summed, not those of L: what a step leaves alone
 * cancels exactly. The step is what the sum in floating point makes of it. */
static double central_difference(struct check_data *d, double *parameter, double step)
{
    double above[CHECK_ELEMENTS], below[CHECK_ELEMENTS];
    const double old = *parameter, high = old + step, low = old - step;
    long double sum = 0;
    *parameter = high;
    forward(d, above);
    *parameter = low;
    forward(d, below);
    *parameter = old;
    for (size_t i = 0; i < reference_elements(&d->problem); i++)
        sum += (long double)d->dy[i] * ((long double)above[i] - below[i]);
    return (double)(sum / ((long double)high - low));
}

/* Truncation: D(h) = L' + k·h² + O(h⁴), so D(2h) − D(h) = 3·k·h², three times what D(h) is off by; taken whole, to
 * cover O(h⁴). */
static void difference_list(struct check_data *d, double *parameters, size_t count, double *numeric, double *error)
{
    for (size_t i = 0; i < count; i++) {
        numeric[i] = central_difference(d, &parameters[i], CHECK_STEP);
        error[i] = fabs(central_difference(d, &parameters[i], 2 * CHECK_STEP) - numeric[i]);
    }
}

/* Rounding, per channel. The reference works in long double and rounds mean, var and y to double, each by a relative
 * 2^-53: y moves by that times |y| + |weight|·rstd·|mean| + |weight·x̂|. Twice, over 2h. */
static void rounding(const struct check_data *d, double *error)
{
    double y[CHECK_ELEMENTS];
    const struct reference_problem *p = &d->problem;
    forward(d, y);
    for (size_t c = 0; c < p->c; c++) {
        double rstd = 1 / sqrt(d->var[c] + p->eps), w = fabs(d->weight[c]), sum = 0;
        for (size_t n = 0; n < p->n; n++) {
            for (size_t s = 0; s < p->s; s++) {
                size_t i = reference_index(p, n, c, s);
                double xhat = fabs(d->x[i] - d->mean[c]) * rstd;
                sum += fabs(d->dy[i]) * (fabs(y[i]) + w * rstd * fabs(d->mean[c]) + w * xhat);
            }
        }
        error[c] = DBL_EPSILON / 2 * sum / CHECK_STEP;
    }
}

void numeric_gradients(const struct check_data *d, struct gradients *numeric, struct gradients *error)
{
    struct check_data work = *d;
    const struct reference_problem *p = &d->problem;
    double of_channel[CHECK_C];
    difference_list(&work, work.x, reference_elements(p), numeric->dx, error->dx);
    difference_list(&work, work.weight, p->c, numeric->dweight, error->dweight);
    difference_list(&work, work.bias, p->c, numeric->dbias, error->dbias);
    rounding(d, of_channel);
    for (size_t c = 0; c < p->c; c++) {
        error->dweight[c] += of_channel[c];
        error->dbias[c] += of_channel[c];
        for (size_t n = 0; n < p->n; n++) {
            for (size_t s = 0; s < p->s; s++)
                error->dx[reference_index(p, n, c, s)] += of_channel[c];
        }
    }
}

struct worst compare(const double *got, const double *want, const double *tolerance, double limit, size_t count)
{
    struct worst w = {0, 0, true};
    double worst_ratio = -1;
    for (size_t i = 0; i < count; i++) {
        double difference = fabs(got[i] - want[i]), allowed = tolerance ? tolerance[i] : limit;
        bool within = difference <= allowed; /* false for NaN */
        double ratio = difference / allowed;
        if (isnan(ratio))
            ratio = within ? 0 : INFINITY;
        if (ratio > worst_ratio) {
            worst_ratio = ratio;
            w.difference = difference;
            w.tolerance = allowed;
        }
        w.pass = w.pass && within;
    }
    return w;
}
