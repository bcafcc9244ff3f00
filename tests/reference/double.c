#include "reference.h"

#include <math.h>

/* By the formulas of clnorm.h, a statistics group at a time, in long double. */

/* A group's means: of g, g·x̂, v, v·x̂, g·v, p·dy and p·dy·x̂, g = weight·dy; all 0 if frozen. */
struct means {
    long double g, gx, v, vx, gv, p, px;
};

struct values {
    long double xhat, dy, g, v, w, p, q;
};

static struct values values_at(const struct reference_problem *p, const struct reference_double *in, size_t i,
                               long double mean, long double rstd)
{
    const size_t w = reference_weight_of(p, i);
    struct values e = {((long double)in->x[i] - mean) * rstd,
                       in->dy[i],
                       0,
                       in->v_dx ? in->v_dx[i] : 0,
                       in->weight ? in->weight[w] : 1,
                       in->v_dweight ? in->v_dweight[w] : 0,
                       in->v_dbias ? in->v_dbias[w] : 0};
    e.g = e.w * e.dy;
    return e;
}

static struct means means_of(const struct reference_problem *p, const struct reference_double *in, size_t group,
                             long double mean, long double rstd)
{
    const size_t size = reference_group_size(p, group);
    struct means s = {0, 0, 0, 0, 0, 0, 0};
    for (size_t k = 0; k < size; k++) {
        const struct values e = values_at(p, in, reference_group_element(p, group, k), mean, rstd);
        s.g += e.g / size;
        s.gx += e.g * e.xhat / size;
        s.v += e.v / size;
        s.vx += e.v * e.xhat / size;
        s.gv += e.g * e.v / size;
        s.p += e.p * e.dy / size;
        s.px += e.p * e.dy * e.xhat / size;
    }
    return s;
}

void reference_double_backward(const struct reference_problem *p, const struct reference_double *in, bool frozen,
                               double *g_x, double *g_dy, double *g_weight)
{
    for (size_t w = 0; w < reference_weights(p); w++)
        g_weight[w] = 0;
    for (size_t group = 0; group < reference_groups(p); group++) {
        const long double mean = in->mean[group], rstd = 1 / sqrtl((long double)in->var[group] + (long double)p->eps);
        struct means s = {0, 0, 0, 0, 0, 0, 0};
        if (!frozen)
            s = means_of(p, in, group, mean, rstd);
        for (size_t k = 0; k < reference_group_size(p, group); k++) {
            const size_t i = reference_group_element(p, group, k);
            const struct values e = values_at(p, in, i, mean, rstd);
            const long double first = e.p * e.dy, t = rstd * (frozen ? e.v : e.v - s.v - e.xhat * s.vx);
            const long double by_p = rstd * (frozen ? first : first - s.p - e.xhat * s.px);
            const long double of_xhat = s.gv - s.g * s.v - 3 * s.gx * s.vx;
            const long double by_v =
                frozen ? 0 : rstd * rstd * (s.vx * (e.g - s.g) + s.gx * (e.v - s.v) + e.xhat * of_xhat);
            g_x[i] = (double)(by_p - by_v);
            g_dy[i] = (double)(e.w * t + (in->v_dweight ? e.p * e.xhat : 0) + e.q);
            g_weight[reference_weight_of(p, i)] += (double)(e.dy * t);
        }
    }
}
