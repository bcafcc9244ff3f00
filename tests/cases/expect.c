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
 *   virtual batches   Each group is one of those above, of its batch. dweight and dbias are those of the batches, added in their order:
 *          K − 1 roundings of sums no larger than the sum of the terms' magnitudes, (K − 1)u of it more. Running statistics take the
 *          batches one after the other: what they are off by after one goes into the next with the old value's share.
 *   from y   What x̂ of the given y is off by goes into dx and dweight: from_y.c.
 *   lengths   What is not valid is of no group and no weight: all of the above is of what is valid. Padding is exact.
 *   counts are exact.
 *   activation, residual   What they add to y and to the gradients: wide.c. The rounded sum x + z before a norm is exact, and what
 *          the norm is judged by. dz is dy', with what that may be off by.
 *   16 bits   Reading is exact; writing rounds the value that the bounds above are of, once: judge.c. Adding to what is there is one
 *          more rounding to f32 before it. */
#include "internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const double u = 0x1p-24, smallest_normal = 0x1p-126, division = 5 * 0x1p-24;

static double *zeros(size_t count)
{
    return calloc(count ? count : 1, sizeof(double));
}

static bool allocate(struct case_problem *p)
{
    for (int o = 0; o < CASE_OUTPUTS; o++) {
        if (!case_has(&p->c, (enum case_output)o))
            continue;
        const bool tensor =
            o == CASE_Y || o == CASE_DX || o == CASE_SUM || o == CASE_DZ || o == CASE_G_X || o == CASE_G_DY;
        const size_t parts = case_parts(p, (enum case_output)o);
        /* Of no samples, forward writes nothing but a count; running statistics stay, gradients and sums are 0. */
        const bool nothing = p->c.n == 0 && (o == CASE_MEAN || o == CASE_VAR || o == CASE_RSTD ||
                                             o == CASE_STATISTICS_MEAN || o == CASE_STATISTICS_VAR);
        p->count[o] = nothing ? 0 : tensor ? p->elements : parts;
        p->reference[o] = zeros(p->count[o]);
        p->tolerance[o] = zeros(parts);
        if (o == CASE_DX || o == CASE_DZ)
            p->alone[o] = zeros(p->count[o]);
        if (!p->reference[o] || !p->tolerance[o] || ((o == CASE_DX || o == CASE_DZ) && !p->alone[o]))
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

/* ---- statistics groups ----------------------------------------------------------------------------------------- */

/* What the tolerances of a group are made of. */
struct magnitudes {
    double deviation;       /* max|x − mean| */
    double xhat, weight, y; /* max|x̂|, max|w|, max|x̂·w + bias| */
    double value;           /* max|t|, the value before the activation */
    double dx;              /* max(|g| + |mean g| + |x̂·mean(g·x̂)|); frozen: max|g| */
    double off, off_xhat;   /* of dy': mean|w·off| (RMS norm: 0) and mean|w·off·x̂|; frozen: 0 */
    double by_xhat, by_off; /* from y: |mean(g·x̂)|, and mean(|g|·e) of what x̂ is off by; else, and frozen: 0 */
};

static struct magnitudes measure(const struct case_problem *p, const struct wide *w, size_t g)
{
    struct magnitudes a = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0};
    const size_t size = problem_group_size(p, g);
    const double m = size ? (double)size : 1;
    const bool frozen = p->c.mode == CASE_FROZEN, centred = p->c.norm != CLNORM_RMS;
    double mean_delta = 0, mean_delta_xhat = 0;
    for (size_t k = 0; k < size; k++) {
        const size_t i = reference_group_element(&p->shape, g, k);
        const double xhat = wide_xhat(p, w, i), weight = wide_weight(p, w, i);
        wide_grow(&a.deviation, fabs(w->x[i] - w->mean[g]));
        wide_grow(&a.xhat, fabs(xhat));
        wide_grow(&a.weight, fabs(weight));
        wide_grow(&a.y, fabs(weight * xhat + wide_bias(p, w, i)));
        wide_grow(&a.value, fabs(wide_value(p, w, i)));
        if (w->delta && !frozen) {
            mean_delta += centred ? weight * w->delta[i] / m : 0;
            mean_delta_xhat += weight * w->delta[i] * xhat / m;
            a.off += centred ? fabs(weight * w->delta_off[i]) / m : 0;
            a.off_xhat += fabs(weight * w->delta_off[i] * xhat) / m;
            a.by_off += w->xhat_off ? fabs(weight * w->delta[i]) * w->xhat_off[i] / m : 0;
        }
    }
    a.by_xhat = fabs(mean_delta_xhat);
    for (size_t k = 0; k < size && w->delta; k++) {
        const size_t i = reference_group_element(&p->shape, g, k);
        const double through_var = frozen ? 0 : fabs(wide_xhat(p, w, i) * mean_delta_xhat); /* Inf·0 is NaN */
        wide_grow(&a.dx, fabs(wide_weight(p, w, i) * w->delta[i]) + fabs(mean_delta) + through_var);
    }
    return a;
}

/* dx is linear in dy': what dy' is off by goes through the same formula, by its terms. So does what x̂ of y is off by. */
static void expect_dx_alone(struct case_problem *p, const struct wide *w, size_t g, const struct magnitudes *a)
{
    for (size_t k = 0; k < problem_group_size(p, g) && p->alone[CASE_DX]; k++) {
        const size_t i = reference_group_element(&p->shape, g, k);
        const double through_var = a->off_xhat > 0 ? fabs(wide_xhat(p, w, i)) * a->off_xhat : 0;
        double off = w->rstd[g] * (fabs(wide_weight(p, w, i)) * w->delta_off[i] + a->off + through_var);
        if (w->xhat_off)
            off += w->rstd[g] * (w->xhat_off[i] * a->by_xhat + fabs(wide_xhat(p, w, i)) * a->by_off);
        p->alone[CASE_DX][i] = isfinite(off) ? off : 0;
    }
}

static void expect_group(struct case_problem *p, const struct wide *w, size_t g)
{
    const struct magnitudes a = measure(p, w, g);
    const double mean = w->mean[g], var = w->var[g], rstd = w->rstd[g], product = a.xhat * a.weight;
    const bool centred = p->c.norm != CLNORM_RMS, exact = p->c.data == CASE_DATA_EXACT_INTEGERS;
    const bool same = a.deviation == 0 && isfinite(mean);
    const double flushed = same ? 0 : 3 * smallest_normal;
    const double var_tolerance = 16 * u * var + flushed;
    const double pair_tolerance = centred ? 16 * u * sqrt(var) : 0;
    const double dx_tolerance = 32 * u * rstd * a.dx;

    double y_tolerance = product > 0 ? (w->weight ? 17 * u : 16 * u) * product + (w->bias ? u * a.y : 0) : 0;
    y_tolerance += w->z ? u * a.value : 0;
    if (p->tolerance[CASE_Y])
        p->tolerance[CASE_Y][g] = wide_activated_off(&p->c, y_tolerance, a.value);
    expect_dx_alone(p, w, g, &a);
    if (p->tolerance[CASE_DX])
        p->tolerance[CASE_DX][g] = isfinite(dx_tolerance) ? dx_tolerance : 0;
    expect(p, CASE_STATISTICS_COUNT, g, (double)problem_group_size(p, g), 0);
    if (p->c.n > 0) {
        expect(p, CASE_MEAN, g, exact ? (double)(float)mean : mean,
               exact || same ? 0 : pair_tolerance + u * fabs(mean));
        expect(p, CASE_VAR, g, var, var_tolerance);
        expect(p, CASE_RSTD, g, rstd, 16 * u * rstd + flushed / 2 * rstd * rstd * rstd);
        expect(p, CASE_STATISTICS_MEAN, g, mean, pair_tolerance);
        expect(p, CASE_STATISTICS_VAR, g, var, var_tolerance);
    }
}

/* ---- weights --------------------------------------------------------------------------------------------------- */

/* A gradient of a weight, added to what is there: one rounding more. */
static void expect_gradient(struct case_problem *p, enum case_output o, enum case_input old, size_t i, double gradient,
                            double tolerance)
{
    const double sum = gradient + (p->input[old] ? p->input[old][i] : 0);
    expect(p, o, i, sum, tolerance + (p->input[old] ? u * fabs(sum) : 0));
}

static void expect_weight(struct case_problem *p, const struct wide *w, size_t i, double dweight, double dbias)
{
    const double added = (p->c.parts - 1) * u, batches = ((double)case_batches(&p->c) - 1) * u;
    const bool of_others = p->c.norm == CLNORM_LAYER || p->c.norm == CLNORM_GROUP;
    double sum_dy = 0, sum_dy_xhat = 0, off = 0, off_xhat = 0;
    for (size_t k = 0; k < reference_weight_size(&p->shape); k++) {
        const size_t e = reference_weight_element(&p->shape, i, k);
        const double xhat = wide_xhat(p, w, e);
        sum_dy += fabs(w->delta[e]);
        sum_dy_xhat += fabs(w->delta[e] * xhat);
        off += w->delta_off[e];
        off_xhat += w->delta_off[e] > 0 ? w->delta_off[e] * fabs(xhat) : 0;
        off_xhat += w->xhat_off ? fabs(w->delta[e]) * w->xhat_off[e] : 0;
    }
    expect_gradient(p, CASE_DWEIGHT, INPUT_DWEIGHT, i, dweight,
                    16 * u * (sum_dy_xhat + (of_others ? sum_dy : 0)) + batches * sum_dy_xhat + off_xhat);
    expect_gradient(p, CASE_DBIAS, INPUT_DBIAS, i, dbias, (16 * u + batches) * sum_dy + off);
    if (p->reference[CASE_SUMS_COUNT]) /* of batch norm, whose weights are its groups */
        expect(p, CASE_SUMS_COUNT, i, (double)problem_group_size(p, i), 0);
    expect(p, CASE_SUMS_DY, i, dbias, (16 * u + added) * sum_dy);
    expect(p, CASE_SUMS_DY_XHAT, i, dweight, (16 * u + added) * sum_dy_xhat);
}

static bool expect_weights(struct case_problem *p, const struct wide *w)
{
    double *dweight = zeros(p->weights), *dbias = zeros(p->weights);
    const bool ok = dweight && dbias;
    if (ok) {
        reference_backward(&p->shape, w->x, w->delta, w->mean, w->var, w->weight, p->c.mode == CASE_FROZEN,
                           p->reference[CASE_DX], dweight, dbias);
        for (size_t i = 0; i < p->weights; i++)
            expect_weight(p, w, i, dweight[i], dbias[i]);
    }
    free(dweight);
    free(dbias);
    return ok;
}

/* ---- running statistics ---------------------------------------------------------------------------------------- */

/* A running value and how far off it may be. */
struct running {
    double value, tolerance;
};

/* From an old value and that of batch k with its tolerance. What the old one is off by goes on with its share. */
static struct running blend(const struct case_problem *p, struct running old, size_t k, double batch,
                            double batch_tolerance)
{
    const clnorm_running *r = &p->c.running;
    if ((r->guard == CLNORM_GUARD_FINITE && !isfinite(batch)))
        return old;
    if (r->average == CLNORM_CUMULATIVE) {
        const double count = (double)r->count + (double)k + 1, value = old.value + (batch - old.value) / count;
        return (struct running){value, (u + division) * fabs(batch - old.value) / count + u * fabs(value) +
                                           batch_tolerance / count + (1 - 1 / count) * old.tolerance};
    }
    const double momentum = r->momentum, value = (1 - momentum) * old.value + momentum * batch;
    double tolerance = momentum * batch_tolerance + (1 - momentum) * old.tolerance;
    if (momentum > 0 && momentum < 1) /* 1 − momentum and its product; the other product; the sum */
        tolerance += 2 * u * fabs((1 - momentum) * old.value) + u * fabs(momentum * batch) + u * fabs(value);
    return (struct running){value, tolerance};
}

/* What a batch gives to a channel, and how far off that may be. Without values it gives nothing. */
struct batch {
    double mean, var, mean_tolerance, var_tolerance;
    bool has_values;
};

/* The unbiased variance of m values has m/(m − 1), and its product with var. */
static double unbiased(const struct case_problem *p, size_t m)
{
    return p->c.running.variance == CLNORM_UNBIASED && m > 1 ? (double)m / ((double)m - 1) : 1;
}

/* Of batch norm's group of the channel in batch k, or the mean over the samples that have values. */
static struct batch batch_of(const struct case_problem *p, const struct wide *w, const double *channel_mean, size_t k,
                             size_t c)
{
    const bool over_samples = p->c.norm == CLNORM_INSTANCE, exact = p->c.data == CASE_DATA_EXACT_INTEGERS;
    const size_t samples = over_samples ? p->shape.n : 1, first = k * p->shape.c + c;
    const double mean = over_samples ? channel_mean[c] : w->mean[first];
    double n = 0, var = 0, pair = 0, apart = 0, flushed = 0;
    bool same = isfinite(mean), corrected = false;
    for (size_t i = 0; i < samples; i++) {
        const size_t g = first + i * p->shape.c, m = problem_group_size(p, g);
        const double off = w->mean[g] - mean, factor = unbiased(p, m);
        if (m == 0)
            continue;
        n++;
        var += factor * w->var[g];
        pair += 16 * u * sqrt(w->var[g]);
        apart += off * off;
        flushed += w->var[g] > 0 ? 3 * factor * smallest_normal : 0;
        same = same && w->var[g] == 0 && off == 0;
        corrected = corrected || factor > 1;
    }
    struct batch b = {.mean = mean, .has_values = n > 0};
    if (n == 0)
        return b;
    b.var = var / n;
    b.var_tolerance = ((over_samples ? 32 : 16) * u + (corrected ? division + u : 0)) * b.var + flushed / n;
    if (!same)
        b.mean_tolerance = (exact && !over_samples ? 0 : pair / n) + 16 * u * sqrt(apart / n) + u * fabs(mean);
    return b;
}

/* The batches enter one after the other. */
static void expect_channel(struct case_problem *p, const struct wide *w, const double *channel_mean, size_t c)
{
    const float *mean = p->input[INPUT_RUNNING_MEAN], *var = p->input[INPUT_RUNNING_VAR];
    struct running of_mean = {mean ? mean[c] : 0, 0}, of_var = {var ? var[c] : 0, 0};
    for (size_t k = 0; k < case_batches(&p->c); k++) {
        const struct batch b = batch_of(p, w, channel_mean, k, c);
        if (!b.has_values)
            continue;
        of_mean = blend(p, of_mean, k, b.mean, b.mean_tolerance);
        of_var = blend(p, of_var, k, b.var, b.var_tolerance);
    }
    if (mean)
        expect(p, CASE_RUNNING_MEAN, c, of_mean.value, of_mean.tolerance);
    if (var)
        expect(p, CASE_RUNNING_VAR, c, of_var.value, of_var.tolerance);
}

static bool expect_channels(struct case_problem *p, const struct wide *w)
{
    double *mean = zeros(p->shape.c), *var = zeros(p->shape.c);
    const bool ok = mean && var;
    if (ok) {
        reference_channel_statistics(&p->shape, w->mean, w->var, mean, var);
        for (size_t c = 0; c < p->shape.c; c++)
            expect_channel(p, w, mean, c);
    }
    free(mean);
    free(var);
    return ok;
}

/* ---- tensors --------------------------------------------------------------------------------------------------- */

static void expect_y(struct case_problem *p, const struct wide *w)
{
    const enum reference_activation activation = (enum reference_activation)p->c.activation;
    double *y = p->reference[CASE_Y];
    if (!y)
        return;
    reference_apply(&p->shape, w->x, w->mean, w->var, w->weight, w->bias, y);
    for (size_t i = 0; i < p->elements; i++)
        y[i] = reference_activate(activation, p->c.slope, y[i] + (w->z ? w->z[i] : 0));
}

/* What is not valid is 0, exactly. */
static void expect_padding(struct case_problem *p)
{
    static const enum case_output outputs[] = {CASE_Y, CASE_DX, CASE_DZ};
    for (size_t k = 0; k < sizeof outputs / sizeof *outputs; k++) {
        for (size_t i = 0; p->valid && p->reference[outputs[k]] && i < p->elements; i++) {
            if (!reference_is_valid(&p->shape, i))
                p->reference[outputs[k]][i] = 0;
        }
    }
}

/* Gradients of tensors are added to what is there: one rounding more. */
static void add_old(struct case_problem *p, enum case_output o, enum case_input old)
{
    for (size_t i = 0; p->reference[o] && p->input[old] && i < p->elements; i++) {
        p->reference[o][i] += p->input[old][i];
        if (isfinite(p->reference[o][i]))
            p->alone[o][i] += u * fabs(p->reference[o][i]);
    }
}

bool problem_expect(struct case_problem *p)
{
    struct wide w;
    if (!allocate(p) || !wide_make(p, &w))
        return false;
    if (case_mode_is_double(p->c.mode)) {
        const bool made = problem_expect_double(p, &w);
        wide_free(&w);
        return made;
    }
    expect_y(p, &w);
    bool ok = !w.delta || expect_weights(p, &w);
    for (size_t g = 0; g < p->groups; g++)
        expect_group(p, &w, g);
    if (p->reference[CASE_RUNNING_MEAN] || p->reference[CASE_RUNNING_VAR])
        ok = ok && expect_channels(p, &w);
    const size_t bytes = p->elements * sizeof(double);
    if (p->reference[CASE_SUM])
        memcpy(p->reference[CASE_SUM], w.x, bytes);
    if (p->reference[CASE_DZ] && w.delta) {
        memcpy(p->reference[CASE_DZ], w.delta, bytes);
        memcpy(p->alone[CASE_DZ], w.delta_off, bytes);
    }
    expect_padding(p);
    add_old(p, CASE_DX, INPUT_DX);
    add_old(p, CASE_DZ, INPUT_DZ);
    wide_free(&w);
    return ok;
}
