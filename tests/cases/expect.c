/* What every output must be, by the fp64 reference, and how far off it may be.
 *
 * u = 2^-24 is half a unit in the last place of 1: one rounding to nearest is off by at most u·|result|. Tolerances are per
 * channel and to first order (products of two u are left out). The constants 16 and 32 are the contract's (clnorm.h); the
 * rest follows:
 *
 *   y      The contract: 16u·max|y64| with weight 1 and bias 0, so 16u·P with P = max|w·x̂64|. A weight adds a rounding of the
 *          factor w·rstd (u·P), a bias the rounding of the sum (u·max|y64|). Where P = 0 every product is 0 and y is bias.
 *   mean   A sum of m deviations in a tree of depth D is off by D·u·Σ|d|, the mean by D·u·mean|d| ≤ D·u·std; D = 16 is what y's
 *          bound can bear (y is off by rstd times the error of the mean, and max|x − mean| ≥ std). The pair m + c has that error alone; the
 *          output `mean` is rounded to f32 as well (u·|mean|). Where all values are the same the mean is that value; where all
 *          sums are floats (CASE_DATA_EXACT_INTEGERS) it is the true mean, rounded.
 *   var    16u·var in the same way (relative errors of var enter y by half). A square, c², or the variance may be below the
 *          smallest normal float and flushed, each by at most 2^-126. Exactly 0 where all values are the same.
 *   rstd   A factor of y, so within the same 16u, plus half of what flushing may do to var + eps.
 *   running_…   The roundings of the formula in clnorm.h one by one, and the batch value's own error times its share. An OpenCL
 *          division may be off by 2.5 units in the last place: 5u. A product by 0 or 1 is exact.
 *   dx, dweight, dbias   The contract. The sums of the steps are dbias and dweight by another name; adding those of k parts
 *          rounds k − 1 times more.
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
    const size_t c = p->shape.c;
    const float *const *in = (const float *const *)p->input;
    memset(w, 0, sizeof *w);
    w->x = widen(in[INPUT_X], p->elements);
    w->mean = zeros(c);
    w->var = zeros(c);
    if (in[INPUT_DY])
        w->dy = widen(in[INPUT_DY], p->elements);
    if (in[INPUT_WEIGHT])
        w->weight = widen(in[INPUT_WEIGHT], c);
    if (in[INPUT_BIAS])
        w->bias = widen(in[INPUT_BIAS], c);
    if (!w->x || !w->mean || !w->var || (in[INPUT_DY] && !w->dy) || (in[INPUT_WEIGHT] && !w->weight) ||
        (in[INPUT_BIAS] && !w->bias)) {
        wide_free(w);
        return false;
    }
    const bool by_running = p->c.mode == CASE_INFER || p->c.mode == CASE_FROZEN;
    if (!by_running && p->c.mode != CASE_GIVEN)
        reference_statistics(&p->shape, w->x, w->mean, w->var);
    for (size_t i = 0; by_running && i < c; i++) {
        w->mean[i] = in[INPUT_RUNNING_MEAN][i];
        w->var[i] = in[INPUT_RUNNING_VAR][i];
    }
    for (size_t i = 0; p->c.mode == CASE_GIVEN && i < c; i++) {
        double rstd = in[INPUT_RSTD][i];
        w->mean[i] = in[INPUT_MEAN][i];
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
        /* Of no samples, forward writes nothing but a count; running statistics stay, gradients and sums are 0. */
        const bool nothing = p->c.n == 0 && (o == CASE_MEAN || o == CASE_VAR || o == CASE_RSTD ||
                                             o == CASE_STATISTICS_MEAN || o == CASE_STATISTICS_VAR);
        p->count[o] = nothing ? 0 : tensor ? p->elements : p->shape.c;
        p->reference[o] = zeros(p->count[o]);
        p->tolerance[o] = zeros(p->shape.c);
        if (!p->reference[o] || !p->tolerance[o])
            return false;
    }
    return true;
}

/* Reference and tolerance of value or channel i of an output with one value a channel, if the case has it. */
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

/* What the tolerances of a channel are made of. */
struct magnitudes {
    double deviation;      /* max|x − mean| */
    double product, y;     /* max|w·x̂|, max|y| */
    double sum_dy, sum_dx; /* Σ|dy|, Σ|dy·x̂| */
    double dx;             /* max(|dy| + |mean dy| + |x̂·mean(dy·x̂)|); frozen: max|dy| */
};

static struct magnitudes measure(const struct case_problem *p, const struct wide *w, size_t c, double mean_dy,
                                 double mean_dy_xhat)
{
    struct magnitudes a = {0, 0, 0, 0, 0, 0};
    const double rstd = 1 / sqrt(w->var[c] + p->shape.eps), weight = w->weight ? w->weight[c] : 1;
    const double bias = w->bias ? w->bias[c] : 0;
    for (size_t n = 0; n < p->shape.n; n++) {
        for (size_t s = 0; s < p->shape.s; s++) {
            const size_t i = reference_index(&p->shape, n, c, s);
            const double d = w->x[i] - w->mean[c], xhat = d * rstd;
            grow(&a.deviation, fabs(d));
            grow(&a.product, fabs(weight * xhat));
            grow(&a.y, fabs(weight * xhat + bias));
            if (w->dy) {
                a.sum_dy += fabs(w->dy[i]);
                a.sum_dx += fabs(w->dy[i] * xhat);
                grow(&a.dx, p->c.mode == CASE_FROZEN ? fabs(w->dy[i])
                                                     : fabs(w->dy[i]) + fabs(mean_dy) + fabs(xhat * mean_dy_xhat));
            }
        }
    }
    return a;
}

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

static void expect_statistics(struct case_problem *p, const struct wide *w, size_t c, const struct magnitudes *a)
{
    const double mean = w->mean[c], var = w->var[c], m = (double)p->m;
    const bool same = a->deviation == 0 && isfinite(mean), exact = p->c.data == CASE_DATA_EXACT_INTEGERS;
    const double flushed = same ? 0 : 3 * smallest_normal;
    const double var_tolerance = 16 * u * var + flushed;
    const double pair_tolerance = 16 * u * sqrt(var);
    const double rounded = same ? 0 : u * fabs(mean), mean_error = exact ? 0 : pair_tolerance;
    const double mean_tolerance = exact ? 0 : mean_error + rounded;
    const double rstd = 1 / sqrt(var + p->shape.eps);

    expect(p, CASE_STATISTICS_COUNT, c, m, 0);
    if (p->m > 0) {
        expect(p, CASE_MEAN, c, exact ? (double)(float)mean : mean, mean_tolerance);
        expect(p, CASE_VAR, c, var, var_tolerance);
        expect(p, CASE_RSTD, c, rstd, 16 * u * rstd + flushed / 2 * rstd * rstd * rstd);
        expect(p, CASE_STATISTICS_MEAN, c, mean, pair_tolerance);
        expect(p, CASE_STATISTICS_VAR, c, var, var_tolerance);
    }
    if (p->input[INPUT_RUNNING_MEAN])
        expect_running(p, CASE_RUNNING_MEAN, c, p->input[INPUT_RUNNING_MEAN][c], mean, mean_error + rounded);
    if (p->input[INPUT_RUNNING_VAR]) {
        double factor = 1, factor_tolerance = 0;
        if (p->c.running.variance == CLNORM_UNBIASED && p->m > 1) { /* m/(m − 1), and its product with var */
            factor = m / (m - 1);
            factor_tolerance = (division + u) * factor * var;
        }
        expect_running(p, CASE_RUNNING_VAR, c, p->input[INPUT_RUNNING_VAR][c], factor * var,
                       factor * var_tolerance + factor_tolerance);
    }
}

static void expect_gradients(struct case_problem *p, const struct wide *w, size_t c, const struct magnitudes *a,
                             double dweight, double dbias)
{
    const double rstd = 1 / sqrt(w->var[c] + p->shape.eps), weight = w->weight ? w->weight[c] : 1;
    const double dx_tolerance = 32 * u * fabs(weight) * rstd * a->dx, added = (p->c.parts - 1) * u;
    expect(p, CASE_DWEIGHT, c, dweight, 16 * u * a->sum_dx);
    expect(p, CASE_DBIAS, c, dbias, 16 * u * a->sum_dy);
    expect(p, CASE_SUMS_COUNT, c, (double)p->m, 0);
    expect(p, CASE_SUMS_DY, c, dbias, (16 * u + added) * a->sum_dy);
    expect(p, CASE_SUMS_DY_XHAT, c, dweight, (16 * u + added) * a->sum_dx);
    if (p->tolerance[CASE_DX])
        p->tolerance[CASE_DX][c] = isfinite(dx_tolerance) ? dx_tolerance : 0;
}

bool problem_expect(struct case_problem *p)
{
    const size_t c = p->shape.c;
    struct wide w;
    if (!allocate(p) || !wide_make(p, &w))
        return false;
    double *dweight = zeros(c), *dbias = zeros(c);
    if (!dweight || !dbias) {
        free(dweight);
        free(dbias);
        wide_free(&w);
        return false;
    }
    if (p->reference[CASE_Y])
        reference_apply(&p->shape, w.x, w.mean, w.var, w.weight, w.bias, p->reference[CASE_Y]);
    if (w.dy)
        reference_backward(&p->shape, w.x, w.dy, w.mean, w.var, w.weight, p->c.mode == CASE_FROZEN,
                           p->reference[CASE_DX], dweight, dbias);
    for (size_t i = 0; i < c; i++) {
        const double m = p->m ? (double)p->m : 1;
        const struct magnitudes a = measure(p, &w, i, dbias[i] / m, dweight[i] / m);
        if (p->reference[CASE_Y] && a.product > 0)
            p->tolerance[CASE_Y][i] = (w.weight ? 17 * u : 16 * u) * a.product + (w.bias ? u * a.y : 0);
        if (w.dy)
            expect_gradients(p, &w, i, &a, dweight[i], dbias[i]);
        else
            expect_statistics(p, &w, i, &a);
    }
    free(dweight);
    free(dbias);
    wide_free(&w);
    return true;
}
