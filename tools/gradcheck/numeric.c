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
    size_t elements = reference_elements(problem), weights = reference_weights(problem);
    memset(d, 0, sizeof *d);
    d->problem = *problem;
    d->frozen = frozen;
    legacy_random_seed(&r, seed);
    draw(&r, d->x, elements, as_f32);
    draw(&r, d->weight, weights, as_f32);
    draw(&r, d->bias, weights, as_f32);
    draw(&r, d->dy, elements, as_f32);
    if (!frozen) {
        reference_statistics(problem, d->x, d->mean, d->var);
        return;
    }
    draw(&r, d->mean, problem->c, as_f32);
    draw(&r, d->var, problem->c, as_f32);
    for (size_t c = 0; c < problem->c; c++) /* a variance: positive, and not far from 1 */
        d->var[c] = (double)(float)(0.5 + fabs(d->var[c]));
    for (size_t g = problem->c; g < reference_groups(problem); g++) { /* the same for every sample */
        d->mean[g] = d->mean[g - problem->c];
        d->var[g] = d->var[g - problem->c];
    }
}

static void forward(const struct check_data *d, double *y)
{
    double mean[CHECK_ELEMENTS], var[CHECK_ELEMENTS];
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

/* Rounding. The reference works in long double and rounds mean, var and y to double, each by a relative 2^-53: an element of y moves by
 * that times |y| + |weight|·rstd·|mean| + |weight·x̂|. Twice, over 2h. x moves its statistics group, a weight its elements. */
static double rounding(const struct check_data *d, const double *y, size_t i)
{
    const struct reference_problem *p = &d->problem;
    const size_t g = reference_group_of(p, i);
    const double rstd = 1 / sqrt(d->var[g] + p->eps), w = fabs(d->weight[reference_weight_of(p, i)]);
    const double xhat = fabs(d->x[i] - d->mean[g]) * rstd;
    const double moved = fabs(y[i]) + w * rstd * fabs(d->mean[g]) + w * xhat;
    return DBL_EPSILON / 2 * fabs(d->dy[i]) * moved / CHECK_STEP;
}

void numeric_gradients(const struct check_data *d, struct gradients *numeric, struct gradients *error)
{
    struct check_data work = *d;
    const struct reference_problem *p = &d->problem;
    double y[CHECK_ELEMENTS], of_group[CHECK_ELEMENTS] = {0};
    difference_list(&work, work.x, reference_elements(p), numeric->dx, error->dx);
    difference_list(&work, work.weight, reference_weights(p), numeric->dweight, error->dweight);
    difference_list(&work, work.bias, reference_weights(p), numeric->dbias, error->dbias);
    forward(d, y);
    for (size_t i = 0; i < reference_elements(p); i++) {
        const double e = rounding(d, y, i);
        of_group[reference_group_of(p, i)] += e;
        error->dweight[reference_weight_of(p, i)] += e;
        error->dbias[reference_weight_of(p, i)] += e;
    }
    for (size_t i = 0; i < reference_elements(p); i++)
        error->dx[i] += of_group[reference_group_of(p, i)];
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
