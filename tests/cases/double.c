/* What clnorm_double_backward must give, and how far off it may be. u = 2^-24.
 *
 * Of the factors of a term, rstd is off by at most 16u of itself (the bound of rstd), x̂ by 16u·(|x̂| + 1) (rstd's part, and the mean's
 * 16u·std: expect.c), a mean over the group by what its terms are off by and 16u of the mean of their absolute values (the bound of
 * dweight and dbias), and each operation by u. With |x̂| + 1 for |x̂| and means of absolute values, so that nothing cancels:
 *
 *   g_x       rstd²·x̂·3·⟨g·x̂⟩·⟨v·x̂⟩ has most of them: two rstd, three x̂, two means, and fewer than 16 operations: 128u. The others less.
 *   g_dy      w·rstd·x̂·⟨v·x̂⟩: one rstd, two x̂, one mean would be 64u with the operations of x̂ and of the mean in their own bounds;
 *             five roundings more are within it, for rstd is in x̂'s part already (its error and that of x̂ are of one source): 64u.
 *   g_weight  as g_dy without w, and a sum of dy times that: 16u more, and its operations: 96u.
 *
 * Frozen statistics are given, and the same terms without means. */
#include "internal.h"

#include <math.h>
#include <stdlib.h>

static const double u = 0x1p-24;

/* Means of absolute values. */
struct sizes {
    double g, gx, v, vx, gv, p, px;
};

struct element {
    double x, dy, g, v, w, p, q; /* x: |x̂| + 1 */
};

struct bounded {
    const struct reference_problem *shape;
    const struct reference_double *in;
    bool frozen;
};

static struct element element_at(const struct bounded *b, size_t i)
{
    const struct reference_double *in = b->in;
    const size_t group = reference_group_of(b->shape, i), weight = reference_weight_of(b->shape, i);
    struct element e = {fabs((in->x[i] - in->mean[group]) / sqrt(in->var[group] + b->shape->eps)) + 1,
                        fabs(in->dy[i]),
                        0,
                        in->v_dx ? fabs(in->v_dx[i]) : 0,
                        in->weight ? fabs(in->weight[weight]) : 1,
                        in->v_dweight ? fabs(in->v_dweight[weight]) : 0,
                        in->v_dbias ? fabs(in->v_dbias[weight]) : 0};
    e.g = e.w * e.dy;
    return e;
}

static struct sizes sizes_of(const struct bounded *b, size_t group)
{
    struct sizes s = {0, 0, 0, 0, 0, 0, 0};
    const size_t size = reference_group_size(b->shape, group);
    const double m = (double)size;
    for (size_t k = 0; k < size; k++) {
        const struct element e = element_at(b, reference_group_element(b->shape, group, k));
        s.g += e.g / m;
        s.gx += e.g * e.x / m;
        s.v += e.v / m;
        s.vx += e.v * e.x / m;
        s.gv += e.g * e.v / m;
        s.p += e.p * e.dy / m;
        s.px += e.p * e.dy * e.x / m;
    }
    return s;
}

static void add_group(const struct bounded *b, size_t group, double *g_x_out, double *g_dy_out, double *g_weight)
{
    struct sizes s = {0, 0, 0, 0, 0, 0, 0};
    const double rstd = 1 / sqrt(b->in->var[group] + b->shape->eps);
    const bool frozen = b->frozen;
    double g_x = 0, g_dy = 0;
    if (!frozen)
        s = sizes_of(b, group);
    for (size_t k = 0; k < reference_group_size(b->shape, group); k++) {
        const size_t i = reference_group_element(b->shape, group, k);
        const struct element e = element_at(b, i);
        const double t = rstd * (e.v + s.v + (frozen ? 0 : e.x * s.vx));
        const double by_v = s.vx * (e.g + s.g) + s.gx * (e.v + s.v) + e.x * (s.gv + s.g * s.v + 3 * s.gx * s.vx);
        const double by_p = e.p * e.dy + (frozen ? 0 : s.p + e.x * s.px);
        wide_grow(&g_x, rstd * by_p + (frozen ? 0 : rstd * rstd * by_v));
        wide_grow(&g_dy, e.w * t + e.p * e.x + e.q);
        if (g_weight && isfinite(e.dy * t))
            g_weight[reference_weight_of(b->shape, i)] += 96 * u * e.dy * t;
    }
    if (g_x_out)
        g_x_out[group] = 128 * u * g_x;
    if (g_dy_out)
        g_dy_out[group] = 64 * u * g_dy;
}

void case_double_bounds(const struct reference_problem *shape, const struct reference_double *in, bool frozen,
                        double *g_x, double *g_dy, double *g_weight)
{
    const struct bounded b = {shape, in, frozen};
    for (size_t w = 0; g_weight && w < reference_weights(shape); w++)
        g_weight[w] = 0;
    for (size_t group = 0; group < reference_groups(shape); group++)
        add_group(&b, group, g_x, g_dy, g_weight);
}

bool problem_expect_double(struct case_problem *p, const struct wide *w)
{
    const size_t elements = p->elements ? p->elements : 1;
    double *all = calloc(3 * elements + 3 * p->weights, sizeof *all);
    if (!all)
        return false;
    double *v_dx = all, *g_x = v_dx + elements, *g_dy = g_x + elements;
    double *v_dweight = g_dy + elements, *v_dbias = v_dweight + p->weights, *g_weight = v_dbias + p->weights;
    const struct {
        enum case_input input;
        double *to;
        size_t count;
    } wanted[] = {{INPUT_V_DX, v_dx, p->elements},
                  {INPUT_V_DWEIGHT, v_dweight, p->weights},
                  {INPUT_V_DBIAS, v_dbias, p->weights}};
    for (size_t k = 0; k < sizeof wanted / sizeof *wanted; k++) {
        for (size_t i = 0; p->input[wanted[k].input] && i < wanted[k].count; i++)
            wanted[k].to[i] = p->input[wanted[k].input][i];
    }
    const struct reference_double in = {w->x,
                                        w->delta,
                                        w->weight,
                                        w->mean,
                                        w->var,
                                        p->input[INPUT_V_DX] ? v_dx : NULL,
                                        p->input[INPUT_V_DWEIGHT] ? v_dweight : NULL,
                                        p->input[INPUT_V_DBIAS] ? v_dbias : NULL};
    reference_double_backward(&p->shape, &in, p->c.mode == CASE_DOUBLE_FROZEN, g_x, g_dy, g_weight);
    const struct {
        enum case_output output;
        const double *from;
    } found[] = {{CASE_G_X, g_x}, {CASE_G_DY, g_dy}, {CASE_G_WEIGHT, g_weight}};
    for (size_t k = 0; k < sizeof found / sizeof *found; k++) {
        for (size_t i = 0; i < p->count[found[k].output]; i++)
            p->reference[found[k].output][i] = found[k].from[i];
    }
    case_double_bounds(&p->shape, &in, p->c.mode == CASE_DOUBLE_FROZEN, p->tolerance[CASE_G_X], p->tolerance[CASE_G_DY],
                       p->tolerance[CASE_G_WEIGHT]);
    free(all);
    return true;
}
