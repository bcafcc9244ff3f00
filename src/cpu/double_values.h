/* The formulas of clnorm_double_backward (docs/math.md) on runs of elements, in double: what x, dy and v_dx are rounded to is all that is
 * lost. */
#ifndef CLNORM_SRC_CPU_DOUBLE_VALUES_H
#define CLNORM_SRC_CPU_DOUBLE_VALUES_H

#include "cpu/statistic.h"

struct cln_values {
    const float *x, *dy, *v; /* v: v_dx; NULL: 0 */
    float *g_x, *g_dy;       /* NULL: not wanted */
};

/* weight, v_dweight and v_dbias of each element of a run; NULL: 1 and 0. */
struct cln_weights {
    const float *w, *p, *q;
};

/* Sums over a group: Σg, Σ g·x̂, Σv, Σ v·x̂, Σ g·v, Σ p·dy, Σ p·dy·x̂ with g = w·dy. */
enum { CLN_SECOND_SUMS = 7 };

/* What its elements are made of, with the weights where they are the whole group's:
 *     t = rstd·v + e·x̂ + f      g_dy = w·t + p·x̂ + q      g_x = rstd·((p + w·e)·dy + b·v + k·x̂ + h) */
struct cln_second {
    double mean, rstd;
    double e, f, b, k, h;
    double w, p, q;
    int constant; /* the statistics are: e, f, b, k and h are 0, whatever x̂ is */
    int has_p;    /* else there is no p·x̂, whatever x̂ is */
};

static inline struct cln_second cln_second_begin(const struct cln_op *op, uint64_t g)
{
    struct cln_statistic s;
    if (op->source == CLN_FROM_RUNNING)
        s = (struct cln_statistic){.m = ((const float *)op->role[CLN_RUNNING_MEAN].handle)[g],
                                   .rstd = cln_rstd(((const float *)op->role[CLN_RUNNING_VAR].handle)[g], op->eps)};
    else
        s = cln_statistic_of(op, g);
    return (struct cln_second){
        .mean = (double)s.m + s.c, .rstd = s.rstd, .w = 1.0, .constant = op->source == CLN_FROM_RUNNING};
}

/* n elements from `at` on. weights NULL: the whole group has the same, which do not enter: the sums are of dy, and none of p. */
static inline void cln_second_add(const struct cln_values *t, uint64_t at, uint64_t n, const struct cln_second *k,
                                  const struct cln_weights *weights, double *sums)
{
    double s[CLN_SECOND_SUMS] = {0};
    for (uint64_t i = 0; i < n; i++) {
        double xhat = (t->x[at + i] - k->mean) * k->rstd, dy = t->dy[at + i], v = t->v ? t->v[at + i] : 0.0;
        double g = weights && weights->w ? weights->w[i] * dy : dy;
        double pdy = weights && weights->p ? weights->p[i] * dy : 0.0;
        s[0] += g;
        s[1] += g * xhat;
        s[2] += v;
        s[3] += v * xhat;
        s[4] += g * v;
        s[5] += pdy;
        s[6] += pdy * xhat;
    }
    for (int i = 0; i < CLN_SECOND_SUMS; i++)
        sums[i] += s[i];
}

static inline void cln_second_finish(struct cln_second *k, double count, const double *sums)
{
    if (k->constant)
        return;
    double g = sums[0] / count, gx = sums[1] / count, v = sums[2] / count, vx = sums[3] / count, gv = sums[4] / count;
    k->e = -k->rstd * vx;
    k->f = -k->rstd * v;
    k->b = -k->rstd * gx;
    k->k = -sums[6] / count - k->rstd * (gv - g * v - 3.0 * gx * vx);
    k->h = -sums[5] / count + k->rstd * (vx * g + gx * v);
}

/* n elements from `at` on. gathered: what dy·t is added to, one an element; NULL: not wanted. */
static inline void cln_second_apply(const struct cln_values *t, uint64_t at, uint64_t n, const struct cln_second *k,
                                    const struct cln_weights *weights, double *gathered)
{
    const int has_p = weights ? weights->p != NULL : k->has_p;
    for (uint64_t i = 0; i < n; i++) {
        double xhat = (t->x[at + i] - k->mean) * k->rstd, dy = t->dy[at + i], v = t->v ? t->v[at + i] : 0.0;
        double w = weights && weights->w ? weights->w[i] : k->w, p = weights && weights->p ? weights->p[i] : k->p;
        double q = weights && weights->q ? weights->q[i] : k->q, own = k->constant ? 0.0 : xhat;
        double along = k->rstd * v + k->e * own + k->f, direct = has_p ? p * xhat : 0.0; /* 0·Inf is NaN */
        if (t->g_dy)
            t->g_dy[at + i] = (float)(w * along + direct + q);
        if (t->g_x)
            t->g_x[at + i] = (float)(k->rstd * ((p + w * k->e) * dy + k->b * v + k->k * own + k->h));
        if (gathered)
            gathered[i] += dy * along;
    }
}

#endif
