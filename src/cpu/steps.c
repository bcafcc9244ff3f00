#include "cpu/steps.h"

#include "cpu/statistic.h"

#include <float.h>
#include <math.h>
#include <string.h>

enum { SUMS = 2, SCALARS = 6 }; /* planes of a part's sums, and of struct cln_scalars */

static float *floats(const struct cln_op *op, enum cln_role role)
{
    return op->role[role].handle;
}

/* PARTIALS: double[parts][SUMS][groups], then float[SCALARS][groups]. */
size_t cln_cpu_partials_bytes(const struct cln_view *view)
{
    return (size_t)view->groups * ((size_t)cln_grid_most_parts(view) * SUMS * sizeof(double) + SCALARS * sizeof(float));
}

double *cln_cpu_partials(const struct cln_op *op, uint64_t part, int plane)
{
    double *all = op->role[CLN_PARTIALS].handle;
    return all + (part * SUMS + (uint64_t)plane) * op->view.groups;
}

/* Scalars begin where as many parts as this problem has end. */
static float *scalar_plane(const struct cln_share *s, int plane)
{
    void *end = cln_cpu_partials(s->op, cln_grid_parts(s->grid), 0);
    return (float *)end + (uint64_t)plane * s->op->view.groups;
}

/* ---- statistics ---- */

/* The public form: counts exact as a pair up to 2^48, the mean as a pair. */
static void put_statistics(float *planes, uint64_t groups, uint64_t g, const struct cln_moments *t)
{
    double mean = isfinite(t->mean) ? t->mean : NAN; /* a NaN or Inf makes the channel NaN, whichever part saw it */
    float count = (float)t->count, m = (float)mean;
    planes[g] = count;
    planes[groups + g] = (float)(t->count - count);
    planes[2 * groups + g] = m;
    planes[3 * groups + g] = isfinite(m) ? (float)(mean - m) : 0.0f;
    planes[4 * groups + g] = t->count > 0.0 ? (float)(t->m2 / t->count) : 0.0f;
}

static struct cln_moments get_statistics(const float *planes, uint64_t groups, uint64_t g)
{
    double count = (double)planes[g] + planes[groups + g];
    double mean = (double)planes[2 * groups + g] + planes[3 * groups + g];
    return (struct cln_moments){count, mean, count * planes[4 * groups + g]};
}

static void rstd_each(const float *var, float eps, uint32_t n, float *rstd)
{
    for (uint32_t i = 0; i < n; i++)
        rstd[i] = cln_rstd(var[i], eps);
}

static void copy(float *to, const float *from, uint32_t n)
{
    memcpy(to, from, n * sizeof *to);
}

static void step_finalize(const struct cln_share *s)
{
    const struct cln_op *op = s->op;
    uint64_t groups = op->view.groups;
    uint32_t n = s->count;
    const float *m = floats(op, CLN_STATISTICS) + 2 * groups + s->first, *c = m + groups, *var = c + groups;
    float *state = floats(op, CLN_STATE) + s->first, *rstd = state + 2 * groups;
    copy(state, m, n);
    copy(state + groups, c, n);
    rstd_each(var, op->eps, n, rstd);
    if (cln_bound(op, CLN_MEAN)) {
        float *mean = floats(op, CLN_MEAN) + s->first;
        for (uint32_t i = 0; i < n; i++)
            mean[i] = m[i] + c[i];
    }
    if (cln_bound(op, CLN_VAR))
        copy(floats(op, CLN_VAR) + s->first, var, n);
    if (cln_bound(op, CLN_RSTD))
        copy(floats(op, CLN_RSTD) + s->first, rstd, n);
}

/* A part of every group into what the parts before it make. All groups have the same counts, so that nothing is divided group by group
 * (cln_moments_add is the same for one). */
static void add_part(double before, double count, uint32_t groups, const double *part_mean, const double *part_m2,
                     double *mean, double *m2)
{
    double share = count / (before + count), weight = before * share;
    for (uint32_t g = 0; g < groups; g++) {
        double delta = part_mean[g] - mean[g];
        m2[g] += part_m2[g] + delta * delta * weight;
        mean[g] += delta * share;
    }
}

static void step_finish(const struct cln_share *s)
{
    uint64_t parts = cln_grid_parts(s->grid), groups = s->op->view.groups, offset;
    double *mean = cln_cpu_partials(s->op, 0, 0), *m2 = cln_cpu_partials(s->op, 0, 1), count = 0.0;
    for (uint64_t k = 0; k < parts; k++) {
        struct cln_band band = cln_grid_part(s->grid, &s->op->view, 0, k, &offset);
        double more = (double)(band.outers * band.inners);
        if (k > 0 && more > 0.0)
            add_part(count, more, s->count, cln_cpu_partials(s->op, k, 0) + s->first,
                     cln_cpu_partials(s->op, k, 1) + s->first, mean + s->first, m2 + s->first);
        count += more;
    }
    for (uint64_t g = s->first; g < s->first + s->count; g++) {
        struct cln_moments all = {count, mean[g], m2[g]};
        put_statistics(floats(s->op, CLN_STATISTICS), groups, g, &all);
    }
    step_finalize(s);
}

static void step_merge(const struct cln_share *s)
{
    const struct cln_op *op = s->op;
    uint64_t groups = op->view.groups;
    for (uint64_t g = s->first; g < s->first + s->count; g++) {
        struct cln_moments total = {0};
        for (uint32_t k = 0; k < op->parts; k++) {
            struct cln_moments part =
                get_statistics(floats(op, CLN_GATHERED) + (size_t)k * CLN_STATISTICS_PLANES * groups, groups, g);
            cln_moments_add(&total, &part);
        }
        put_statistics(floats(op, CLN_STATISTICS), groups, g, &total);
    }
}

/* The usual case, without a choice group by group: all counts above 1, all values finite, f between 0 and 1. Else nothing is done. */
static int commit_plain(const struct cln_share *share)
{
    const struct cln_op *op = share->op;
    float f = cln_statistic_share(op);
    uint64_t groups = op->view.groups;
    const float *count = floats(op, CLN_STATISTICS) + share->first, *low = count + groups, *m = low + groups,
                *c = m + groups, *var = c + groups;
    float *running_mean = floats(op, CLN_RUNNING_MEAN) + share->first,
          *running_var = floats(op, CLN_RUNNING_VAR) + share->first;
    int usual = f > 0.0f && f < 1.0f, unbiased = op->running.variance == CLNORM_UNBIASED;
    for (uint32_t i = 0; i < share->count; i++)
        usual &= (count[i] > 1.0f) & (fabsf(m[i]) <= FLT_MAX) & (var[i] <= FLT_MAX);
    for (uint32_t i = 0; usual && i < share->count; i++) {
        double n = (double)count[i] + low[i], mean = (double)m[i] + c[i], v = var[i];
        v *= unbiased ? n / (n - 1.0) : 1.0;
        running_mean[i] = (float)(running_mean[i] + f * (mean - running_mean[i]));
        running_var[i] = (float)(running_var[i] + f * (v - running_var[i]));
    }
    return usual;
}

static void step_commit(const struct cln_share *share)
{
    const struct cln_op *op = share->op;
    uint64_t groups = op->view.groups;
    const float *s = floats(op, CLN_STATISTICS);
    if (commit_plain(share))
        return;
    for (uint64_t g = share->first; g < share->first + share->count; g++) {
        double count = (double)s[g] + s[groups + g];
        double mean = (double)s[2 * groups + g] + s[3 * groups + g];
        if (count > 0.0)
            cln_statistic_commit(share->plan, op, g, mean, cln_statistic_running_var(op, count, s[4 * groups + g]));
    }
}

/* ---- normalize ---- */

/* The statistics that a group is normalized with: mean m + c. */
struct source {
    float m, c, rstd;
};

static struct source source_of(const struct cln_op *op, uint64_t g)
{
    uint64_t groups = op->view.groups;
    if (op->source == CLN_FROM_STATE) {
        const float *state = floats(op, CLN_STATE);
        return (struct source){state[g], state[groups + g], state[2 * groups + g]};
    }
    if (op->source == CLN_FROM_GIVEN)
        return (struct source){floats(op, CLN_MEAN)[g], 0.0f, floats(op, CLN_RSTD)[g]};
    return (struct source){floats(op, CLN_RUNNING_MEAN)[g], 0.0f, cln_rstd(floats(op, CLN_RUNNING_VAR)[g], op->eps)};
}

/* ---- backward ---- */

static void step_reduce_finish(const struct cln_share *s)
{
    const struct cln_op *op = s->op;
    uint64_t groups = op->view.groups, parts = cln_grid_parts(s->grid);
    float *sums = floats(op, CLN_SUMS), *dweight = floats(op, CLN_DWEIGHT), *dbias = floats(op, CLN_DBIAS);
    double count = (double)cln_view_count(&op->view);
    double *dy = cln_cpu_partials(op, 0, 0), *dyd = cln_cpu_partials(op, 0, 1);
    for (uint64_t k = 1; k < parts; k++) {
        const double *part_dy = cln_cpu_partials(op, k, 0), *part_dyd = cln_cpu_partials(op, k, 1);
        for (uint64_t g = s->first; g < s->first + s->count; g++) {
            dy[g] += part_dy[g];
            dyd[g] += part_dyd[g];
        }
    }
    for (uint64_t g = s->first; g < s->first + s->count; g++) {
        sums[g] = (float)count;
        sums[groups + g] = (float)(count - sums[g]);
        sums[2 * groups + g] = (float)dy[g];
        sums[3 * groups + g] = (float)(dyd[g] * source_of(op, g).rstd);
        if (dweight)
            dweight[g] = cln_statistic_total(op, CLNORM_ADD_DWEIGHT, dweight[g], sums[3 * groups + g]);
        if (dbias)
            dbias[g] = cln_statistic_total(op, CLNORM_ADD_DBIAS, dbias[g], sums[2 * groups + g]);
    }
}

/* ---- what is the same for a whole group, folded once ---- */

struct cln_center cln_cpu_center(const struct cln_share *s)
{
    static const float zeros[CLN_BAND];
    const struct cln_op *op = s->op;
    if (op->from_y)
        return (struct cln_center){zeros, zeros};
    if (op->source == CLN_FROM_STATE)
        return (struct cln_center){floats(op, CLN_STATE) + s->first,
                                   floats(op, CLN_STATE) + op->view.groups + s->first};
    return (struct cln_center){floats(op, op->source == CLN_FROM_GIVEN ? CLN_MEAN : CLN_RUNNING_MEAN) + s->first,
                               zeros};
}

/* rstd of each group, in `to` or where it is. */
static const float *rstd_of(const struct cln_share *s, float *to)
{
    const struct cln_op *op = s->op;
    if (op->source == CLN_FROM_STATE)
        return floats(op, CLN_STATE) + 2 * op->view.groups + s->first;
    if (op->source == CLN_FROM_GIVEN)
        return floats(op, CLN_RSTD) + s->first;
    rstd_each(floats(op, CLN_RUNNING_VAR) + s->first, op->eps, s->count, to);
    return to;
}

static void fold_slope(const struct cln_share *s, const float *rstd, float *a)
{
    if (cln_bound(s->op, CLN_WEIGHT)) {
        const float *weight = floats(s->op, CLN_WEIGHT) + s->first;
        for (uint32_t i = 0; i < s->count; i++)
            a[i] = rstd[i] * weight[i];
    } else if (rstd != a) {
        copy(a, rstd, s->count);
    }
}

static void fold_bias(const struct cln_share *s, float *b)
{
    if (cln_bound(s->op, CLN_BIAS))
        copy(b, floats(s->op, CLN_BIAS) + s->first, s->count);
    else
        memset(b, 0, s->count * sizeof *b);
}

void cln_cpu_fold_forward(const struct cln_share *s, float *a, float *bias)
{
    fold_slope(s, rstd_of(s, a), a);
    fold_bias(s, bias);
}

static void fold_undo(const struct cln_share *s, const float *rstd, float *undo)
{
    const float *weight = cln_bound(s->op, CLN_WEIGHT) ? floats(s->op, CLN_WEIGHT) + s->first : NULL;
    for (uint32_t i = 0; i < s->count; i++)
        undo[i] = cln_undo(weight ? weight[i] : 1.0f, rstd[i]);
}

void cln_cpu_fold_undo(const struct cln_share *s, float *undo, float *bias)
{
    fold_undo(s, rstd_of(s, undo), undo);
    fold_bias(s, bias);
}

/* dx from the sums; with constant statistics, or without dx, none are needed. */
static void fold_gradient(const struct cln_share *s, const float *rstd, float *const plane[SCALARS])
{
    const struct cln_op *op = s->op;
    uint64_t groups = op->view.groups;
    float *a = plane[2], *q = plane[3], *b = plane[4];
    if (op->source == CLN_FROM_RUNNING || !cln_bound(op, CLN_DX))
        return;
    const float *count = floats(op, CLN_SUMS) + s->first, *low = count + groups, *dy = low + groups, *dyd = dy + groups;
    for (uint32_t i = 0; i < s->count; i++) {
        double n = (double)count[i] + low[i];
        q[i] = (float)(-(double)a[i] * rstd[i] * (dyd[i] / n));
        b[i] = (float)(-(double)a[i] * (dy[i] / n));
    }
}

void cln_cpu_fold(const struct cln_share *s, enum cln_step step)
{
    const struct cln_op *op = s->op;
    uint64_t groups = op->view.groups;
    uint32_t n = s->count;
    float *plane[SCALARS];
    for (int k = 0; k < SCALARS; k++)
        plane[k] = scalar_plane(s, k) + s->first;
    float *m = plane[0], *c = plane[1], *a = plane[2], *q = plane[3], *b = plane[4], *bias = plane[5];
    const float *rstd = rstd_of(s, a);
    if (op->from_y) {
        memset(m, 0, n * sizeof *m);
        fold_undo(s, rstd, c); /* m is c, too, so that this plane is free */
    } else if (op->source == CLN_FROM_STATE) {
        const float *state = floats(op, CLN_STATE) + s->first;
        copy(m, state, n);
        copy(c, state + groups, n);
    } else {
        copy(m, floats(op, op->source == CLN_FROM_GIVEN ? CLN_MEAN : CLN_RUNNING_MEAN) + s->first, n);
        memset(c, 0, n * sizeof *c);
    }
    fold_slope(s, rstd, a);
    memset(q, 0, n * sizeof *q);
    if (step == CLN_STEP_APPLY) {
        fold_bias(s, b);
    } else {
        fold_bias(s, bias);
        memset(b, 0, n * sizeof *b);
        fold_gradient(s, rstd, plane);
    }
}

struct cln_scalars cln_cpu_scalars(const struct cln_share *s)
{
    const float *m = scalar_plane(s, 0) + s->first, *c = scalar_plane(s, 1) + s->first;
    return (struct cln_scalars){.m = m,
                                .c = s->op->from_y ? m : c,
                                .a = scalar_plane(s, 2) + s->first,
                                .q = scalar_plane(s, 3) + s->first,
                                .b = scalar_plane(s, 4) + s->first,
                                .bias = scalar_plane(s, 5) + s->first,
                                .undo = s->op->from_y ? c : NULL};
}

/* The bias of the layer before, with the factor that its weights get. */
static void step_fold(const struct cln_share *s)
{
    const struct cln_op *op = s->op;
    const float *layer_bias = floats(op, CLN_LAYER_BIAS), *bias = floats(op, CLN_BIAS),
                *weight = floats(op, CLN_WEIGHT);
    float *out = floats(op, CLN_LAYER_BIAS_OUT);
    for (uint64_t g = s->first; g < s->first + s->count; g++) {
        struct source from = source_of(op, g);
        float a = from.rstd * (weight ? weight[g] : 1.0f);
        double d = (layer_bias ? (double)layer_bias[g] : 0.0) - from.m;
        out[g] = (float)(d * a + (bias ? (double)bias[g] : 0.0));
    }
}

static void zero(const struct cln_share *s, enum cln_role role, uint64_t planes)
{
    for (uint64_t p = 0; p < planes && cln_bound(s->op, role); p++)
        memset(floats(s->op, role) + p * s->op->view.groups + s->first, 0, s->count * sizeof(float));
}

void cln_cpu_step(const struct cln_share *s, enum cln_step step)
{
    switch (step) {
    case CLN_STEP_FINISH:
        step_finish(s);
        break;
    case CLN_STEP_MERGE:
        step_merge(s);
        break;
    case CLN_STEP_FINALIZE:
        step_finalize(s);
        break;
    case CLN_STEP_COMMIT:
        step_commit(s);
        break;
    case CLN_STEP_COPY_RUNNING:
        copy(floats(s->op, CLN_MEAN) + s->first, floats(s->op, CLN_RUNNING_MEAN) + s->first, s->count);
        copy(floats(s->op, CLN_VAR) + s->first, floats(s->op, CLN_RUNNING_VAR) + s->first, s->count);
        break;
    case CLN_STEP_REDUCE_FINISH:
        step_reduce_finish(s);
        break;
    case CLN_STEP_FOLD:
        step_fold(s);
        break;
    case CLN_STEP_ZERO_STATISTICS:
        zero(s, CLN_STATISTICS, CLN_STATISTICS_PLANES);
        break;
    case CLN_STEP_ZERO_SUMS:
        zero(s, CLN_SUMS, CLN_SUMS_PLANES);
        zero(s, CLN_DWEIGHT, s->op->accumulate & CLNORM_ADD_DWEIGHT ? 0 : 1);
        zero(s, CLN_DBIAS, s->op->accumulate & CLNORM_ADD_DBIAS ? 0 : 1);
        break;
    case CLN_STEP_DOUBLE_REDUCE:
    case CLN_STEP_DOUBLE_FINISH:
    case CLN_STEP_DOUBLE_WEIGHTS:
    case CLN_STEP_DOUBLE_APPLY: /* src/cpu/run_double.c */
    case CLN_STEP_MASK:         /* src/cpu/mask.c */
    case CLN_STEP_WEIGHTS:
    case CLN_STEP_WEIGHTS_FINISH: /* not of batch norm */
    case CLN_STEP_STATISTICS:
    case CLN_STEP_REDUCE:
    case CLN_STEP_APPLY:
    case CLN_STEP_BACKWARD_APPLY: /* src/cpu/run.c */
        break;
    }
}
