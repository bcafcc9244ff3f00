/* The inputs of a case in double, the value t before the activation, and the gradient dy' = dy·act'(t) that reaches the norm, with what
 * each may be off by. u = 2^-24.
 *
 * Of element i, t is off by
 *     T = 16u·max|x̂|·|w|  (the contract's bound of y with weight 1 and bias 0, times the weight)
 *         + u·|x̂·w| with a weight + u·|x̂·w + b| with a bias + u·|t| with a residual: one rounding each.
 * So with max|act''| = k2 and dE for what working act' out costs, dy' is off by |dy|·(k2·T + dE + u·|act'|). OpenCL's exp may be off by 3
 * units in the last place (6u of the value), tanh by 5 (10u), a division by 2.5 (5u):
 *
 *     GELU   v = √(2/π)(t + 0.044715t³) is off by 7u|v| (seven operations on terms of one sign). As t·σ(2v), σ = 1/(1 + exp(−2v)): the
 *            exponential is off by 6u + 14u|v| of itself, σ by (1 − σ) times that + 6u, so y by at most 8.3u·|t|; by tanh it is
 *            |t|/2·(10u·|tanh| + 7u·|v|·sech²v) + 2u·|y| ≤ 8.6u·|t|. Both: 9u·|t|. act' = σ + 2t·v'·σ(1 − σ), whose factors are off by their
 *            terms and 8u more: at most 22u (at t = 1.2), where 1 − σ is not made by subtraction; 24u. max|act'| = 1.129, k2 = 0.798.
 *     SiLU   t·σ: (1 − σ)·6u + 6u + u, at most 8u·|t|; the exponential of a large −t is Inf and y then 0, or it was flushed: 2^-126.
 *            act' = σ·(1 + t(1 − σ)), at most 13u (at t = 1.6); 14u. max|act'| = 1.0999, k2 = 0.5.
 *     ReLU, leaky ReLU   exact, but for the product by slope: u. Where |t| ≤ T either side of the kink is right, and dy' is off by
 *            |dy|·(1 − slope). If backward goes by the sign of y, a positive t that the type of y rounds (or a device flushes) to 0 is
 *            on the other side too. */
#include "internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const double u = 0x1p-24, smallest_normal = 0x1p-126;

static const struct {
    double slope, second; /* max|act'|, max|act''| */
    double value_off;     /* by |t| */
    double slope_off;
} smooth[] = {[CLNORM_GELU_TANH] = {1.129, 0.798, 9 * 0x1p-24, 24 * 0x1p-24},
              [CLNORM_SILU] = {1.0999, 0.5, 8 * 0x1p-24, 14 * 0x1p-24}};

static double *zeros(size_t count)
{
    return calloc(count ? count : 1, sizeof(double));
}

static double *widen(const float *from, size_t count)
{
    double *to = from ? zeros(count) : NULL;
    for (size_t i = 0; to && i < count; i++)
        to[i] = from[i];
    return to;
}

void wide_free(struct wide *w)
{
    double *const all[] = {w->x,     w->z,         w->mean,    w->var, w->rstd, w->weight, w->bias, w->xhat_largest,
                           w->delta, w->delta_off, w->xhat_off};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        free(all[i]);
}

double wide_weight(const struct case_problem *p, const struct wide *w, size_t i)
{
    return w->weight ? w->weight[reference_weight_of(&p->shape, i)] : 1;
}

double wide_bias(const struct case_problem *p, const struct wide *w, size_t i)
{
    return w->bias ? w->bias[reference_weight_of(&p->shape, i)] : 0;
}

double wide_xhat(const struct case_problem *p, const struct wide *w, size_t i)
{
    const size_t group = reference_group_of(&p->shape, i);
    return (w->x[i] - w->mean[group]) * w->rstd[group];
}

double wide_value(const struct case_problem *p, const struct wide *w, size_t i)
{
    return wide_xhat(p, w, i) * wide_weight(p, w, i) + wide_bias(p, w, i) + (w->z ? w->z[i] : 0);
}

void wide_grow(double *largest, double value)
{
    if (isfinite(value) && value > *largest)
        *largest = value;
}

/* ---- the activation -------------------------------------------------------------------------------------------- */

double wide_activated_off(const struct clnorm_case *c, double off, double largest)
{
    switch (c->activation) {
    case CLNORM_LEAKY_RELU:
        return fmax(1, fabs((double)c->slope)) * off + u * fabs((double)c->slope) * largest;
    case CLNORM_GELU_TANH:
    case CLNORM_SILU:
        return smooth[c->activation].slope * off + smooth[c->activation].value_off * largest + smallest_normal;
    default:
        return off;
    }
}

/* T of element i. */
static double value_off(const struct case_problem *p, const struct wide *w, size_t i)
{
    const double weight = wide_weight(p, w, i), product = wide_xhat(p, w, i) * weight, bias = wide_bias(p, w, i);
    double off = 16 * u * w->xhat_largest[reference_group_of(&p->shape, i)] * fabs(weight);
    if (off > 0)
        off += (w->weight ? u * fabs(product) : 0) + (w->bias ? u * fabs(product + bias) : 0);
    return off + (w->z ? u * fabs(product + bias + w->z[i]) : 0);
}

/* May the activation take t for being on the other side of its kink? */
static bool is_at_kink(const struct case_problem *p, double t, double off)
{
    if (off > 0 && fabs(t) <= off)
        return true;
    const double lost = p->c.y_dtype == CLNORM_F16 ? 0x1p-25 : smallest_normal;
    return p->c.by && t > 0 && t <= off + lost;
}

static double delta_off(const struct case_problem *p, const struct wide *w, size_t i, double dy, double t, double slope)
{
    const clnorm_activation activation = p->c.activation;
    const double off = value_off(p, w, i);
    if (activation == CLNORM_GELU_TANH || activation == CLNORM_SILU)
        return fabs(dy) * (smooth[activation].second * off + smooth[activation].slope_off + u * fabs(slope));
    const double other = activation == CLNORM_LEAKY_RELU ? p->c.slope : 0;
    return fabs(dy) * ((is_at_kink(p, t, off) ? fabs(1 - other) : 0) + u * fabs(other));
}

static void make_delta(const struct case_problem *p, struct wide *w)
{
    const enum reference_activation activation = (enum reference_activation)p->c.activation;
    const float *dy = p->input[INPUT_DY];
    for (size_t i = 0; i < p->elements; i++) {
        const double t = wide_value(p, w, i);
        const double slope = reference_activation_slope(activation, p->c.slope, t);
        w->delta[i] = activation == REFERENCE_LINEAR ? dy[i] : dy[i] * slope;
        const double off = activation == REFERENCE_LINEAR ? 0 : delta_off(p, w, i, dy[i], t, slope);
        w->delta_off[i] = isfinite(off) ? off : 0; /* then dy' is not finite either */
    }
}

/* ---- all of it ------------------------------------------------------------------------------------------------- */

static void make_statistics(const struct case_problem *p, struct wide *w)
{
    const float *const *in = (const float *const *)p->input;
    const bool by_running = p->c.mode == CASE_INFER || p->c.mode == CASE_FROZEN || p->c.mode == CASE_DOUBLE_FROZEN;
    const bool given = p->c.mode == CASE_GIVEN || p->c.mode == CASE_DOUBLE_GIVEN;
    if (!by_running && !given)
        reference_statistics(&p->shape, w->x, w->mean, w->var);
    for (size_t g = 0; by_running && g < p->groups; g++) { /* of the channel, in every sample */
        w->mean[g] = in[INPUT_RUNNING_MEAN][g % p->shape.c];
        w->var[g] = in[INPUT_RUNNING_VAR][g % p->shape.c];
    }
    for (size_t i = 0; given && i < p->groups; i++) {
        double rstd = in[INPUT_RSTD][i];
        w->mean[i] = in[INPUT_MEAN] ? in[INPUT_MEAN][i] : 0; /* RMS norm has none */
        w->var[i] = 1 / (rstd * rstd) - p->shape.eps;
    }
    for (size_t g = 0; g < p->groups; g++)
        w->rstd[g] = 1 / sqrt(w->var[g] + p->shape.eps);
    for (size_t i = 0; i < p->elements; i++)
        if (reference_is_valid(&p->shape, i))
            wide_grow(&w->xhat_largest[reference_group_of(&p->shape, i)], fabs(wide_xhat(p, w, i)));
}

bool wide_make(const struct case_problem *p, struct wide *w)
{
    const float *const *in = (const float *const *)p->input;
    const bool before = p->c.residual == CLNORM_RESIDUAL_BEFORE && in[INPUT_Z];
    const bool after = p->c.residual == CLNORM_RESIDUAL_AFTER;
    memset(w, 0, sizeof *w);
    w->x = widen(in[INPUT_X], p->elements);
    w->mean = zeros(p->groups);
    w->var = zeros(p->groups);
    w->rstd = zeros(p->groups);
    w->xhat_largest = zeros(p->groups);
    w->weight = widen(in[INPUT_WEIGHT], p->weights);
    w->bias = widen(in[INPUT_BIAS], p->weights);
    w->z = after ? widen(in[INPUT_Z], p->elements) : NULL;
    w->delta = in[INPUT_DY] ? zeros(p->elements) : NULL;
    w->delta_off = in[INPUT_DY] ? zeros(p->elements) : NULL;
    if (!w->x || !w->mean || !w->var || !w->rstd || !w->xhat_largest || (in[INPUT_WEIGHT] && !w->weight) ||
        (in[INPUT_BIAS] && !w->bias) || (after && !w->z) || (in[INPUT_DY] && (!w->delta || !w->delta_off))) {
        wide_free(w);
        return false;
    }
    for (size_t i = 0; before && i < p->elements; i++)
        w->x[i] = reference_round((enum reference_dtype)p->c.dtype, w->x[i] + in[INPUT_Z][i]);
    make_statistics(p, w);
    if (p->c.from_y && !wide_from_y(p, w)) {
        wide_free(w);
        return false;
    }
    if (w->delta && !p->c.from_y)
        make_delta(p, w);
    return true;
}
