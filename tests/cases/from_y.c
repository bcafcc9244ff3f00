/* Backward from y: the y that a case is given, and what it makes of x̂. u = 2^-24.
 *
 * y is what the reference makes of x, rounded to its type, so that no device's forward has a part in it; and x̂ = (t − z − bias)/weight is
 * what the reference makes of that y. What is left is what working x̂ out in f32 is off by. Divisions are off by 2.5 units in the last
 * place at most: 5u. With |t| ≤ |x̂·w| + |bias| + |z|:
 *     t = y/slope             5u·|t|
 *     t − z, less bias        u·(|x̂·w| + |bias|) + u·|x̂·w|
 *     times 1/weight, 1/rstd  5u + 5u and a rounding each: 12u·|x̂|; the product by rstd is one of those of the contract's bounds
 * so that x̂ is off by at most 19u·|x̂| + 6u·|bias/w| + 5u·|z/w|, within e = 20u·(|x̂| + (|bias| + |z|)/|w|). It is linear in dx and dweight
 * but for the product x̂·mean(g·x̂), which has it twice. */
#include "internal.h"

#include <math.h>
#include <stdlib.h>

static const double u = 0x1p-24, least_weight = 0x1p-126;

static double inverse(const struct clnorm_case *c, double y)
{
    return c->activation == CLNORM_LEAKY_RELU && !(y > 0) ? y / c->slope : y;
}

bool problem_make_y(struct case_problem *p)
{
    struct wide w;
    double *y = malloc((p->elements ? p->elements : 1) * sizeof *y);
    bool ok = y && (p->input[INPUT_Y] || (p->input[INPUT_Y] = malloc((p->elements ? p->elements : 1) * sizeof(float))));
    p->c.from_y = false; /* from x, then */
    ok = ok && wide_make(p, &w);
    p->c.from_y = true;
    if (ok) {
        reference_apply(&p->shape, w.x, w.mean, w.var, w.weight, w.bias, y);
        for (size_t i = 0; i < p->elements; i++) {
            const double t = y[i] + (w.z ? w.z[i] : 0);
            const double value = reference_activate((enum reference_activation)p->c.activation, p->c.slope, t);
            p->input[INPUT_Y][i] = p->c.y_dtype == CLNORM_F32
                                       ? (float)value
                                       : (float)reference_round((enum reference_dtype)p->c.y_dtype, value);
        }
        wide_free(&w);
    }
    free(y);
    return ok;
}

bool wide_from_y(const struct case_problem *p, struct wide *w)
{
    w->xhat_off = malloc((p->elements ? p->elements : 1) * sizeof(double));
    if (!w->xhat_off)
        return false;
    for (size_t i = 0; i < p->elements; i++) {
        const double weight = wide_weight(p, w, i), bias = wide_bias(p, w, i), z = w->z ? w->z[i] : 0;
        const bool zero = fabs(weight) < least_weight;
        const double v = inverse(&p->c, p->input[INPUT_Y][i]) - z - bias, xhat = zero ? 0 * v : v / weight;
        w->x[i] = xhat / w->rstd[reference_group_of(&p->shape, i)];
        w->xhat_off[i] = zero ? 0 : 20 * u * (fabs(xhat) + (fabs(bias) + fabs(z)) / fabs(weight));
    }
    for (size_t g = 0; g < p->groups; g++)
        w->mean[g] = 0;
    for (size_t i = 0; i < p->elements && w->delta; i++) {
        const double dy = p->input[INPUT_DY][i];
        const double slope = reference_activation_slope((enum reference_activation)p->c.activation, p->c.slope,
                                                        p->input[INPUT_Y][i]); /* y has t's sign */
        w->delta[i] = p->c.activation == CLNORM_NO_ACTIVATION ? dy : dy * slope;
        w->delta_off[i] = p->c.activation == CLNORM_NO_ACTIVATION || !isfinite(dy) ? 0 : u * fabs(dy * slope);
    }
    return true;
}
