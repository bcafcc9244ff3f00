/* What every output must be, by the fp64 reference, and how far off it may be.
 *
 * u = 2^-24 is half a unit in the last place of 1: one rounding to nearest is off by at most u·|result|. Tolerances are per
 * part (case_parts: statistics group, weight or channel) and to first order (products of two u are left out). The constants 16 and
 * 32 are the contract's (clnorm.h); the rest follows:
 *
 *   y      The contract: 16u·max|y64| with weight 1 and bias 0, so 16u·P with P = max|x̂64|·max|w| over the group. A weight adds a
 *          rounding of the factor w·rstd (u·P), a bias the rounding of the sum (u·max|y64|). Where P = 0 every product is 0 and y is bias.
 *   mean   A sum of m deviations in a tree of depth D is off by D·u·Σ|d|, the mean by D·u·mean|d| ≤ D·u·std; D = 16 is what y's
 *          bound can bear (y is off by rstd times the error of the mean, and max|x − mean| ≥ std). The pair m + c has that error alone; the
 *          output `mean` is rounded to f32 as well (u·|mean|). Where all values are the same the mean is that value; where all
 *          sums are floats (CASE_DATA_EXACT_INTEGERS) it is the true mean, rounded.
 *   var    16u·var in the same way (relative errors of var enter y by half). A square, c², or the variance may be below the
 *          smallest normal float and flushed, each by at most 2^-126. Exactly 0 where all values are the same.
 *   rstd   A factor of y, so within the same 16u, plus half of what flushing may do to var + eps. RMS norm's too: squares about 0.
 *   running_…   The roundings of the formula in clnorm.h one by one, and the batch value's own error times its share. An OpenCL
 *          division may be off by 2.5 units in the last place: 5u. A product by 0 or 1 is exact. Instance norm's batch value is the mean
 *          of n samples' values, again a sum of deviations in a tree of depth 16: 16u·std of the means, 16u·(mean of the variances).
 *   dx     The contract: 32u·rstd·max(|g| + |mean g| + |x̂·mean(g·x̂)|) over the group, g = w·dy; RMS norm has no mean g.
 *   dweight, dbias   The contract: 16u·Σ|dy·x̂| and 16u·Σ|dy| of a weight. Layer and group norm's mean is that of more values than the
 *          weight's, so that all x̂ of the weight may be small where the group's are not: x̂ is off by rstd·16u·mean|d| ≤ 16u through the
 *          mean however small it is, which adds 16u·Σ|dy|. The sums of the steps are dbias and dweight by another name; adding
 *          those of k parts rounds k − 1 times more.
 *   counts are exact. */
#include "internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const double u = 0x1p-24, smallest_normal = 0x1p-126, division = 5 * 0x1p-24;

/* The inputs in double, and the statistics that the case normalizes by. */
struct wide {
    double *x, *dy, *mean, *var;
    double *weight, *bias; /* NULL: 1 and 0 */
};

static double *zeros(size_t count)
{
    return calloc(count ? count : 1, sizeof(double));
}

static double *widen(const float *from, size_t count)
{
    double *to = malloc((count ? count : 1) * sizeof(double));
    for (size_t i = 0; to && i < count; i++)
        to[i] = from[i];
    return to;
}

static void wide_free(struct wide *w)
{
    free(w->x);
    free(w->dy);
    free(w->mean);
    free(w->var);
    free(w->weight);
    free(w->bias);
}

static bool wide_make(const struct case_problem *p, struct wide *w)
{
    const float *const *in = (const float *const *)p->input;
    memset(w, 0, sizeof *w);
    w->x = widen(in[INPUT_X], p->elements);
    w->mean = zeros(p->groups);
    w->var = zeros(p->groups);
    if (in[INPUT_DY])
        w->dy = widen(in[INPUT_DY], p->elements);
    if (in[INPUT_WEIGHT])
        w->weight = widen(in[INPUT_WEIGHT], p->weights);
    if (in[INPUT_BIAS])
        w->bias = widen(in[INPUT_BIAS], p->weights);
    if (!w->x || !w->mean || !w->var || (in[INPUT_DY] && !w->dy) || (in[INPUT_WEIGHT] && !w->weight) ||
        (in[INPUT_BIAS] && !w->bias)) {
        wide_free(w);
        return false;
    }
    const bool by_running = p->c.mode == CASE_INFER || p->c.mode == CASE_FROZEN;
    if (!by_running && p->c.mode != CASE_GIVEN)
        reference_statistics(&p->shape, w->x, w->mean, w->var);
    for (size_t g = 0; by_running && g < p->groups; g++) { /* of the channel, in every sample */
        w->mean[g] = in[INPUT_RUNNING_MEAN][g % p->shape.c];
        w->var[g] = in[INPUT_RUNNING_VAR][g % p->shape.c];
    }
    for (size_t i = 0; p->c.mode == CASE_GIVEN && i < p->groups; i++) {
        double rstd = in[INPUT_RSTD][i];
        w->mean[i] = in[INPUT_MEAN] ? in[INPUT_MEAN][i] : 0; /* RMS norm has none */
        w->var[i] = 1 / (rstd * rstd) - p->shape.eps;
    }
    return true;
}

static bool allocate(struct case_problem *p)
{
    for (int o = 0; o < CASE_OUTPUTS; o++) {
        if (!case_has(&p->c, (enum case_output)o))
            continue;
        const bool tensor = o == CASE_Y || o == CASE_DX;
        const size_t parts = case_parts(p, (enum case_output)o);
        /* Of no samples, forward writes nothing but a count; running statistics stay, gradients and sums are 0. */
        const bool nothing = p->c.n == 0 && (o == CASE_MEAN || o == CASE_VAR || o == CASE_RSTD ||
                                             o == CASE_STATISTICS_MEAN || o == CASE_STATISTICS_VAR);
        p->count[o] = nothing ? 0 : tensor ? p->elements : parts;
        p->reference[o] = zeros(p->count[o]);
        p->tolerance[o] = zeros(parts);
        if (!p->reference[o] || !p->tolerance[o])
            return false;
    }
    return true;
}

/* Reference and tolerance of value and part i of an output with one value a part, if the case has it. */
static void expect(struct case_problem *p, enum case_output o, size_t i, double reference, double tolerance)
{
    if (p->reference[o]) {
        p->reference[o][i] = reference;
        p->tolerance[o][i] = isfinite(tolerance) ? tolerance : 0; /* then the reference is not finite either */
    }
}

static void grow(double *largest, double value) /* NaN and Inf do not count: they are compared by their kind */
{
    if (isfinite(value) && value > *largest)
        *largest = value;
}

static double weight_of(const struct case_problem *p, const struct wide *w, size_t i)
{
    return w->weight ? w->weight[reference_weight_of(&p->shape, i)] : 1;
}

static double rstd_of(const struct case_problem *p, const struct wide *w, size_t g)
{
    return 1 / sqrt(w->var[g] + p->shape.eps);
}

/* ---- statistics groups ----------------------------------------------------------------------------------------- */

/* What the tolerances of a group are made of. */
struct magnitudes {
    double deviation;       /* max|x − mean| */
    double xhat, weight, y; /* max|x̂|, max|w|, max|y| */
    double dx;              /* max(|g| + |mean g| + |x̂·mean(g·x̂)|); frozen: max|g| */
};

static struct magnitudes measure(const struct case_problem *p, const struct wide *w, size_t g)
{
    struct magnitudes a = {0, 0, 0, 0, 0};
    const double rstd = rstd_of(p, w, g), m = p->m ? (double)p->m : 1;
    double mean_delta = 0, mean_delta_xhat = 0;
    for (size_t k = 0; k < p->m; k++) {
        const size_t i = reference_group_element(&p->shape, g, k);
        const double d = w->x[i] - w->mean[g], xhat = d * rstd, weight = weight_of(p, w, i);
        const double bias = w->bias ? w->bias[reference_weight_of(&p->shape, i)] : 0;
        grow(&a.deviation, fabs(d));
        grow(&a.xhat, fabs(xhat));
        grow(&a.weight, fabs(weight));
        grow(&a.y, fabs(weight * xhat + bias));
        if (w->dy && p->c.mode != CASE_FROZEN) {
            mean_delta += p->c.norm == CLNORM_RMS ? 0 : weight * w->dy[i] / m;
            mean_delta_xhat += weight * w->dy[i] * xhat / m;
        }
    }
    for (size_t k = 0; k < p->m && w->dy; k++) {
        const size_t i = reference_group_element(&p->shape, g, k);
        const double xhat = (w->x[i] - w->mean[g]) * rstd, delta = weight_of(p, w, i) * w->dy[i];
        const double through_var = p->c.mode == CASE_FROZEN ? 0 : fabs(xhat * mean_delta_xhat); /* Inf·0 is NaN */
        grow(&a.dx, fabs(delta) + fabs(mean_delta) + through_var);
    }
    return a;
}

static void expect_group(struct case_problem *p, const struct wide *w, size_t g)
{
    const struct magnitudes a = measure(p, w, g);
    const double mean = w->mean[g], var = w->var[g], rstd = rstd_of(p, w, g), product = a.xhat * a.weight;
    const bool centred = p->c.norm != CLNORM_RMS, exact = p->c.data == CASE_DATA_EXACT_INTEGERS;
    const bool same = a.deviation == 0 && isfinite(mean);
    const double flushed = same ? 0 : 3 * smallest_normal;
    const double var_tolerance = 16 * u * var + flushed;
    const double pair_tolerance = centred ? 16 * u * sqrt(var) : 0;
    const double dx_tolerance = 32 * u * rstd * a.dx;

    if (p->tolerance[CASE_Y] && product > 0)
        p->tolerance[CASE_Y][g] = (w->weight ? 17 * u : 16 * u) * product + (w->bias ? u * a.y : 0);
    if (p->tolerance[CASE_DX])
        p->tolerance[CASE_DX][g] = isfinite(dx_tolerance) ? dx_tolerance : 0;
    expect(p, CASE_STATISTICS_COUNT, g, (double)p->m, 0);
    if (p->m > 0) {
        expect(p, CASE_MEAN, g, exact ? (double)(float)mean : mean,
               exact || same ? 0 : pair_tolerance + u * fabs(mean));
        expect(p, CASE_VAR, g, var, var_tolerance);
        expect(p, CASE_RSTD, g, rstd, 16 * u * rstd + flushed / 2 * rstd * rstd * rstd);
        expect(p, CASE_STATISTICS_MEAN, g, mean, pair_tolerance);
        expect(p, CASE_STATISTICS_VAR, g, var, var_tolerance);
    }
}

/* ---- weights --------------------------------------------------------------------------------------------------- */

static void expect_weight(struct case_problem *p, const struct wide *w, size_t i, double dweight, double dbias)
{
    const double added = (p->c.parts - 1) * u;
    const bool of_others = p->c.norm == CLNORM_LAYER || p->c.norm == CLNORM_GROUP;
    double sum_dy = 0, sum_dy_xhat = 0;
    for (size_t k = 0; k < reference_weight_size(&p->shape); k++) {
        const size_t e = reference_weight_element(&p->shape, i, k), g = reference_group_of(&p->shape, e);
        sum_dy += fabs(w->dy[e]);
        sum_dy_xhat += fabs(w->dy[e] * ((w->x[e] - w->mean[g]) * rstd_of(p, w, g)));
    }
    expect(p, CASE_DWEIGHT, i, dweight, 16 * u * (sum_dy_xhat + (of_others ? sum_dy : 0)));
    expect(p, CASE_DBIAS, i, dbias, 16 * u * sum_dy);
    expect(p, CASE_SUMS_COUNT, i, (double)p->m, 0);
    expect(p, CASE_SUMS_DY, i, dbias, (16 * u + added) * sum_dy);
    expect(p, CASE_SUMS_DY_XHAT, i, dweight, (16 * u + added) * sum_dy_xhat);
}

static bool expect_weights(struct case_problem *p, const struct wide *w)
{
    double *dweight = zeros(p->weights), *dbias = zeros(p->weights);
    const bool ok = dweight && dbias;
    if (ok) {
        reference_backward(&p->shape, w->x, w->dy, w->mean, w->var, w->weight, p->c.mode == CASE_FROZEN,
                           p->reference[CASE_DX], dweight, dbias);
        for (size_t i = 0; i < p->weights; i++)
            expect_weight(p, w, i, dweight[i], dbias[i]);
    }
    free(dweight);
    free(dbias);
    return ok;
}

/* ---- running statistics ---------------------------------------------------------------------------------------- */

/* Running statistics from an old value and a batch's with its tolerance. */
static void expect_running(struct case_problem *p, enum case_output o, size_t c, double old, double batch,
                           double batch_tolerance)
{
    const clnorm_running *r = &p->c.running;
    if (p->m == 0 || (r->guard == CLNORM_GUARD_FINITE && !isfinite(batch))) {
        expect(p, o, c, old, 0);
    } else if (r->average == CLNORM_CUMULATIVE) {
        const double k = (double)r->count + 1, value = old + (batch - old) / k;
        expect(p, o, c, value, (u + division) * fabs(batch - old) / k + u * fabs(value) + batch_tolerance / k);
    } else {
        const double momentum = r->momentum, value = (1 - momentum) * old + momentum * batch;
        double tolerance = momentum * batch_tolerance;
        if (momentum > 0 && momentum < 1) /* 1 − momentum and its product; the other product; the sum */
            tolerance += 2 * u * fabs((1 - momentum) * old) + u * fabs(momentum * batch) + u * fabs(value);
        expect(p, o, c, value, tolerance);
    }
}

/* What the batch gives to a channel, and how far off that may be. */
struct batch {
    double mean, var, mean_tolerance, var_tolerance;
};

/* Of batch norm's one group of the channel, or the mean over the samples. */
static struct batch batch_of(const struct case_problem *p, const struct wide *w, const double *channel_mean,
                             const double *channel_var, size_t c)
{
    const bool over_samples = p->c.norm == CLNORM_INSTANCE, exact = p->c.data == CASE_DATA_EXACT_INTEGERS;
    const size_t samples = over_samples ? p->shape.n : 1;
    const double mean = channel_mean[c], var = channel_var[c], n = (double)samples;
    double pair = 0, apart = 0, flushed = 0;
    bool same = isfinite(mean);
    for (size_t i = 0; i < samples; i++) {
        const size_t g = i * p->shape.c + c;
        const double off = w->mean[g] - mean;
        pair += 16 * u * sqrt(w->var[g]) / n;
        apart += off * off / n;
        flushed += w->var[g] > 0 ? 3 * smallest_normal / n : 0;
        same = same && w->var[g] == 0 && off == 0;
    }
    struct batch b = {mean, var, 0, 16 * u * var + flushed};
    if (!same)
        b.mean_tolerance = (exact && !over_samples ? 0 : pair) + 16 * u * sqrt(apart) + u * fabs(mean);
    if (over_samples)
        b.var_tolerance += 16 * u * var;
    return b;
}

static void expect_channel(struct case_problem *p, const struct batch *b, size_t c)
{
    const double m = (double)p->m;
    double factor = 1, factor_tolerance = 0;
    if (p->input[INPUT_RUNNING_MEAN])
        expect_running(p, CASE_RUNNING_MEAN, c, p->input[INPUT_RUNNING_MEAN][c], b->mean, b->mean_tolerance);
    if (p->c.running.variance == CLNORM_UNBIASED && p->m > 1) { /* m/(m − 1), and its product with var */
        factor = m / (m - 1);
        factor_tolerance = (division + u) * factor * b->var;
    }
    if (p->input[INPUT_RUNNING_VAR])
        expect_running(p, CASE_RUNNING_VAR, c, p->input[INPUT_RUNNING_VAR][c], factor * b->var,
                       factor * b->var_tolerance + factor_tolerance);
}

static bool expect_channels(struct case_problem *p, const struct wide *w)
{
    double *mean = zeros(p->shape.c), *var = zeros(p->shape.c);
    const bool ok = mean && var;
    if (ok) {
        reference_channel_statistics(&p->shape, w->mean, w->var, mean, var);
        for (size_t c = 0; c < p->shape.c; c++) {
            const struct batch b = batch_of(p, w, mean, var, c);
            expect_channel(p, &b, c);
        }
    }
    free(mean);
    free(var);
    return ok;
}

bool problem_expect(struct case_problem *p)
{
    struct wide w;
    if (!allocate(p) || !wide_make(p, &w))
        return false;
    if (p->reference[CASE_Y])
        reference_apply(&p->shape, w.x, w.mean, w.var, w.weight, w.bias, p->reference[CASE_Y]);
    bool ok = !w.dy || expect_weights(p, &w);
    for (size_t g = 0; g < p->groups; g++)
        expect_group(p, &w, g);
    if (p->reference[CASE_RUNNING_MEAN] || p->reference[CASE_RUNNING_VAR])
        ok = ok && expect_channels(p, &w);
    wide_free(&w);
    return ok;
}
