#include "numeric.h"

#include "legacy_random.h"

#include <float.h>
#include <math.h>
#include <string.h>

const size_t check_lengths[CHECK_N] = {3, 0, 2, 1, 3};

static void draw(struct legacy_random *r, double *values, size_t count, bool rounded, enum reference_dtype dtype)
{
    legacy_random_normal(r, values, count);
    for (size_t i = 0; rounded && i < count; i++)
        values[i] = reference_round(dtype, values[i]);
}

void check_data_draw(struct check_data *d, const struct reference_problem *problem, uint32_t seed,
                     const struct check_kind *kind)
{
    struct legacy_random r;
    const size_t elements = reference_elements(problem), weights = reference_weights(problem);
    const bool rounded = kind->rounded;
    memset(d, 0, sizeof *d);
    d->problem = *problem;
    d->kind = *kind;
    legacy_random_seed(&r, seed);
    draw(&r, d->x, elements, rounded, kind->dtype);
    draw(&r, d->weight, weights, rounded, REFERENCE_F32);
    draw(&r, d->bias, weights, rounded, REFERENCE_F32);
    draw(&r, d->dy, elements, rounded, kind->y_dtype);
    if (kind->frozen) {
        draw(&r, d->mean, problem->c, rounded, REFERENCE_F32);
        draw(&r, d->var, problem->c, rounded, REFERENCE_F32);
        for (size_t c = 0; c < problem->c; c++) /* a variance: positive, and not far from 1 */
            d->var[c] = (double)(float)(0.5 + fabs(d->var[c]));
        for (size_t g = problem->c; g < reference_groups(problem); g++) { /* the same for every sample */
            d->mean[g] = d->mean[g - problem->c];
            d->var[g] = d->var[g - problem->c];
        }
    }
    if (kind->residual != CHECK_NO_RESIDUAL)
        draw(&r, d->z, elements, rounded, kind->dtype);
    for (size_t i = 0; kind->residual == CHECK_BEFORE && i < elements; i++) {
        d->addend[i] = d->x[i];
        d->x[i] += d->z[i];
        if (rounded)
            d->x[i] = reference_round(kind->dtype, d->x[i]);
    }
    if (!kind->frozen)
        reference_statistics(problem, d->x, d->mean, d->var);
}

/* t of every element, with the statistics of the x there is now; 0 where it is padding, as y is. */
static void value(const struct check_data *d, double *t)
{
    double mean[CHECK_ELEMENTS], var[CHECK_ELEMENTS];
    memcpy(mean, d->mean, sizeof mean);
    memcpy(var, d->var, sizeof var);
    if (!d->kind.frozen)
        reference_statistics(&d->problem, d->x, mean, var);
    reference_apply(&d->problem, d->x, mean, var, d->weight, d->bias, t);
    for (size_t i = 0; i < reference_elements(&d->problem); i++) {
        if (!reference_is_valid(&d->problem, i))
            t[i] = 0;
        else if (d->kind.residual == CHECK_AFTER)
            t[i] += d->z[i];
    }
}

void check_values(const struct check_data *d, double *t, double *delta)
{
    value(d, t);
    for (size_t i = 0; i < reference_elements(&d->problem); i++) {
        const double slope = reference_activation_slope(d->kind.activation, d->kind.slope, t[i]);
        delta[i] = reference_is_valid(&d->problem, i) ? d->dy[i] * slope : 0;
    }
}

void formula_gradients(const struct check_data *d, struct gradients *g)
{
    double t[CHECK_ELEMENTS];
    check_values(d, t, g->dz);
    memset(g->dx, 0, sizeof g->dx); /* of padding */
    reference_backward(&d->problem, d->x, g->dz, d->mean, d->var, d->weight, d->kind.frozen, g->dx, g->dweight,
                       g->dbias);
}

/* act(to) for the step from t = `from`. Where 0 is between them the kink is left out: `to` is taken on the side of `from`, for that
 * is what the gradient there goes on as. */
static double activate(const struct check_kind *k, double from, double to)
{
    const bool kinked = k->activation == REFERENCE_RELU || k->activation == REFERENCE_LEAKY_RELU;
    if (!kinked || (from > 0) == (to > 0))
        return reference_activate(k->activation, k->slope, to);
    return reference_activation_slope(k->activation, k->slope, from) * to;
}

/* dL/d(*parameter), a value inside *d, whose values before the activation are t. The differences of y are summed, not those of L: what a
 * step leaves alone cancels exactly. The step is what the sum in floating point makes of it. */
static double central_difference(struct check_data *d, const double *t, double *parameter, double step)
{
    double above[CHECK_ELEMENTS], below[CHECK_ELEMENTS];
    const double old = *parameter, high = old + step, low = old - step;
    long double sum = 0;
    *parameter = high;
    value(d, above);
    *parameter = low;
    value(d, below);
    *parameter = old;
    for (size_t i = 0; i < reference_elements(&d->problem); i++)
        sum += (long double)d->dy[i] *
               ((long double)activate(&d->kind, t[i], above[i]) - activate(&d->kind, t[i], below[i]));
    return (double)(sum / ((long double)high - low));
}

/* Truncation: D(h) = L' + k·h² + O(h⁴), so D(2h) − D(h) = 3·k·h², three times what D(h) is off by; taken whole, to
 * cover O(h⁴). */
static void difference_list(struct check_data *d, const double *t, double *parameters, size_t count, double *numeric,
                            double *error)
{
    for (size_t i = 0; i < count; i++) {
        numeric[i] = central_difference(d, t, &parameters[i], CHECK_STEP);
        error[i] = fabs(central_difference(d, t, &parameters[i], 2 * CHECK_STEP) - numeric[i]);
    }
}

/* max|act'|, and what working act out costs, in 2^-53·|t|: as in tests/cases/wide.c. */
static const double steepest[] = {[REFERENCE_LINEAR] = 1,
                                  [REFERENCE_RELU] = 1,
                                  [REFERENCE_LEAKY_RELU] = 1,
                                  [REFERENCE_GELU_TANH] = 1.129,
                                  [REFERENCE_SILU] = 1.1};
static const double costs[] = {[REFERENCE_LINEAR] = 0,
                               [REFERENCE_RELU] = 0,
                               [REFERENCE_LEAKY_RELU] = 1,
                               [REFERENCE_GELU_TANH] = 9,
                               [REFERENCE_SILU] = 8};

/* Rounding. The reference works in long double and rounds mean, var and its result to double, each by a relative 2^-53: the normalized
 * value moves by that times itself + |weight|·rstd·|mean| + |weight·x̂|, with z by |t| more, and the activation passes that on and adds
 * its own. Twice, over 2h. x moves its statistics group, a weight its elements. */
static double rounding(const struct check_data *d, double t, size_t i)
{
    const struct reference_problem *p = &d->problem;
    const bool after = d->kind.residual == CHECK_AFTER;
    const size_t g = reference_group_of(p, i);
    const double rstd = 1 / sqrt(d->var[g] + p->eps), w = fabs(d->weight[reference_weight_of(p, i)]);
    const double xhat = fabs(d->x[i] - d->mean[g]) * rstd;
    const double normalized = fabs(t - (after ? d->z[i] : 0)), sum = after ? fabs(t) : 0;
    const double moved = normalized + w * rstd * fabs(d->mean[g]) + w * xhat + sum;
    const double steep =
        fmax(steepest[d->kind.activation], d->kind.activation == REFERENCE_LEAKY_RELU ? fabs(d->kind.slope) : 0);
    return DBL_EPSILON / 2 * fabs(d->dy[i]) * (steep * moved + costs[d->kind.activation] * steep * fabs(t)) /
           CHECK_STEP;
}

void numeric_gradients(const struct check_data *d, struct gradients *numeric, struct gradients *error)
{
    struct check_data work = *d;
    const struct reference_problem *p = &d->problem;
    const bool after = d->kind.residual == CHECK_AFTER;
    double t[CHECK_ELEMENTS], of_group[CHECK_ELEMENTS] = {0};
    value(d, t);
    difference_list(&work, t, work.x, reference_elements(p), numeric->dx, error->dx);
    difference_list(&work, t, work.weight, reference_weights(p), numeric->dweight, error->dweight);
    difference_list(&work, t, work.bias, reference_weights(p), numeric->dbias, error->dbias);
    difference_list(&work, t, work.z, after ? reference_elements(p) : 0, numeric->dz, error->dz);
    for (size_t i = 0; i < reference_elements(p); i++) {
        const double e = rounding(d, t[i], i);
        of_group[reference_group_of(p, i)] += e;
        error->dweight[reference_weight_of(p, i)] += e;
        error->dbias[reference_weight_of(p, i)] += e;
        if (after)
            error->dz[i] += e;
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
