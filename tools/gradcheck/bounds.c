#include "bounds.h"

#include <float.h>
#include <math.h>

/* 2^-24: half the distance from 1 to the next f32. */
#define U 0x1p-24

static const struct {
    double second; /* max|act''| */
    double cost;   /* of working act' out */
} smooth[] = {[REFERENCE_GELU_TANH] = {0.798, 24 * U}, [REFERENCE_SILU] = {0.5, 14 * U}};

/* What is needed of an element. */
struct element {
    size_t w;
    double xhat, delta, off; /* off: what delta is off by through the activation */
    double xhat_off;         /* what x̂ is off by that a backward from y works out; else 0 */
};

/* What t is off by: the contract's bound of y with weight 1 and bias 0, and a rounding each of weight, bias and residual. */
static double value_off(const struct check_data *d, size_t i, double xhat, double xhat_largest, double t)
{
    const size_t w = reference_weight_of(&d->problem, i);
    const double product = d->weight[w] * xhat;
    const double off = 16 * U * xhat_largest * fabs(d->weight[w]) + U * fabs(product) + U * fabs(product + d->bias[w]);
    return off + (d->kind.residual == CHECK_AFTER ? U * fabs(t) : 0);
}

/* Where t is within what it is off by, either side of the kink is right; by the sign of y, a t that its type rounds to 0 is
 * on the other side, too. */
static double delta_off(const struct check_data *d, size_t i, double t, double t_off)
{
    const struct check_kind *k = &d->kind;
    const double slope = reference_activation_slope(k->activation, k->slope, t);
    if (k->activation == REFERENCE_LINEAR)
        return 0;
    if (k->activation == REFERENCE_GELU_TANH || k->activation == REFERENCE_SILU)
        return fabs(d->dy[i]) * (smooth[k->activation].second * t_off + smooth[k->activation].cost + U * fabs(slope));
    const double other = k->activation == REFERENCE_LEAKY_RELU ? k->slope : 0;
    const double lost = k->y_dtype == REFERENCE_F16 ? 0x1p-25 : FLT_MIN;
    const bool at_kink = fabs(t) <= t_off || (t > 0 && t <= t_off + lost);
    return fabs(d->dy[i]) * ((at_kink ? fabs(1 - other) : 0) + U * fabs(other));
}

/* y is off by what t is, and rounded; then the contract's e. An f16 below the normal ones is rounded to a multiple of 2^-24. */
static double xhat_off(const struct check_data *d, size_t i, double xhat, double t, double t_off)
{
    static const double roundings[] = {0x1p-24, 0x1p-11, 0x1p-8};
    const struct check_kind *k = &d->kind;
    const size_t w = reference_weight_of(&d->problem, i);
    const double weight = fabs(d->weight[w]), z = k->residual == CHECK_AFTER ? fabs(d->z[i]) : 0;
    const double slope = k->activation == REFERENCE_LEAKY_RELU ? k->slope : 1, large = fabs(t) + t_off;
    if (!k->from_y)
        return 0;
    double y_off = t_off + (U + roundings[k->y_dtype]) * large;
    y_off += k->y_dtype == REFERENCE_F16 ? 0x1p-25 / slope : 0;
    return y_off / weight + 20 * U * (fabs(xhat) + (fabs(d->bias[w]) + z + y_off) / weight);
}

/* In the promise for dx the largest term of the statistics group counts. What delta is off by goes through the formulas by
 * its terms. */
static void add_group(const struct check_data *d, size_t g, const double *t, const double *delta,
                      struct gradients *tolerance)
{
    const struct reference_problem *p = &d->problem;
    const size_t m = reference_group_size(p, g);
    const double batches = p->norm == REFERENCE_BATCH ? (double)reference_groups(p) / (double)p->c : 1;
    const double sums = 16 + batches - 1; /* those of the batches are added up */
    const double share = d->kind.frozen ? 0 : 1 / (double)m, mean_share = p->norm == REFERENCE_RMS ? 0 : share;
    const bool of_others = p->norm == REFERENCE_LAYER || p->norm == REFERENCE_GROUP;
    const double rstd = 1 / sqrt(d->var[g] + p->eps);
    double xhat_largest = 0, mean = 0, mean_xhat = 0, off = 0, off_xhat = 0, largest = 0, by_xhat_off = 0;
    struct element e[CHECK_ELEMENTS];
    for (size_t k = 0; k < m; k++) {
        const size_t i = reference_group_element(p, g, k);
        e[k] = (struct element){reference_weight_of(p, i), (d->x[i] - d->mean[g]) * rstd, delta[i], 0, 0};
        xhat_largest = fmax(xhat_largest, fabs(e[k].xhat));
        mean += mean_share * d->weight[e[k].w] * delta[i];
        mean_xhat += share * d->weight[e[k].w] * delta[i] * e[k].xhat;
    }
    for (size_t k = 0; k < m; k++) {
        const size_t i = reference_group_element(p, g, k);
        const double w = d->weight[e[k].w];
        const double t_off = value_off(d, i, e[k].xhat, xhat_largest, t[i]);
        e[k].off = delta_off(d, i, t[i], t_off);
        e[k].xhat_off = xhat_off(d, i, e[k].xhat, t[i], t_off);
        by_xhat_off += share * fabs(w) * (fabs(delta[i]) + e[k].off) * e[k].xhat_off;
        off += mean_share * fabs(w) * e[k].off;
        off_xhat += share * fabs(w * e[k].xhat) * e[k].off;
        largest = fmax(largest, fabs(w * delta[i]) + fabs(mean) + fabs(e[k].xhat * mean_xhat));
    }
    for (size_t k = 0; k < m; k++) {
        const size_t i = reference_group_element(p, g, k);
        const double xhat = fabs(e[k].xhat);
        tolerance->dx[i] += 32 * U * rstd * largest;
        tolerance->dx[i] += rstd * (fabs(d->weight[e[k].w]) * e[k].off + off + xhat * off_xhat);
        tolerance->dweight[e[k].w] += sums * U * fabs(e[k].delta) * (xhat + of_others) + e[k].off * xhat;
        tolerance->dx[i] += rstd * (e[k].xhat_off * (fabs(mean_xhat) + off_xhat + by_xhat_off) + xhat * by_xhat_off);
        tolerance->dweight[e[k].w] += (fabs(e[k].delta) + e[k].off) * e[k].xhat_off;
        tolerance->dbias[e[k].w] += sums * U * fabs(e[k].delta) + e[k].off;
        tolerance->dz[i] += e[k].off;
    }
}

void add_device_bounds(const struct check_data *d, struct gradients *tolerance)
{
    double t[CHECK_ELEMENTS], delta[CHECK_ELEMENTS];
    check_values(d, t, delta);
    for (size_t g = 0; g < reference_groups(&d->problem); g++)
        add_group(d, g, t, delta, tolerance);
}

static void add_half_a_unit(enum reference_dtype dtype, double want, double *tolerance)
{
    *tolerance += reference_ulp(dtype, fabs(want) + *tolerance) / 2;
}

void add_rounding(const struct check_data *d, const struct gradients *want, struct gradients *tolerance)
{
    if (d->kind.dtype == REFERENCE_F32) /* whose bounds have it */
        return;
    for (size_t i = 0; i < reference_elements(&d->problem); i++) {
        add_half_a_unit(d->kind.dtype, want->dx[i], &tolerance->dx[i]);
        if (d->kind.residual == CHECK_AFTER)
            add_half_a_unit(d->kind.dtype, want->dz[i], &tolerance->dz[i]);
    }
}
