#include "cpu/steps.h"

#include "cpu/statistic.h"

#include <math.h>
#include <string.h>

enum { SUMS = 2, SCALARS = 5 }; /* planes of a part's sums, and of struct cln_scalars */

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

static void step_finalize(const struct cln_share *s)
{
    const struct cln_op *op = s->op;
    uint64_t groups = op->view.groups;
    const float *m = floats(op, CLN_STATISTICS) + 2 * groups, *c = m + groups, *var = c + groups;
    float *state = floats(op, CLN_STATE);
    float *mean_out = floats(op, CLN_MEAN), *var_out = floats(op, CLN_VAR), *rstd_out = floats(op, CLN_RSTD);
    for (uint64_t g = s->first; g < s->first + s->count; g++) {
        float rstd = cln_rstd(var[g], op->eps);
        state[g] = m[g];
        state[groups + g] = c[g];
        state[2 * groups + g] = rstd;
        if (mean_out)
            mean_out[g] = m[g] + c[g];
        if (var_out)
            var_out[g] = var[g];
        if (rstd_out)
            rstd_out[g] = rstd;
    }
}

static void step_finish(const struct cln_share *s)
{
    uint64_t parts = cln_grid_parts(s->grid), groups = s->op->view.groups, offset;
    double *mean = cln_cpu_partials(s->op, 0, 0), *m2 = cln_cpu_partials(s->op, 0, 1);
    struct cln_moments total = {0};
    for (uint64_t k = 0; k < parts; k++) {
        const double *part_mean = cln_cpu_partials(s->op, k, 0), *part_m2 = cln_cpu_partials(s->op, k, 1);
        struct cln_band band = cln_grid_part(s->grid, &s->op->view, 0, k, &offset);
        double before = total.count, count = (double)(band.outers * band.inners);
        for (uint64_t g = s->first; k > 0 && g < s->first + s->count; g++) {
            struct cln_moments part = {count, part_mean[g], part_m2[g]};
            total = (struct cln_moments){before, mean[g], m2[g]};
            cln_moments_add(&total, &part);
            mean[g] = total.mean;
            m2[g] = total.m2;
        }
        total.count = before + count;
    }
    for (uint64_t g = s->first; g < s->first + s->count; g++) {
        struct cln_moments all = {total.count, mean[g], m2[g]};
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

static void step_commit(const struct cln_share *share)
{
    const struct cln_op *op = share->op;
    uint64_t groups = op->view.groups;
    const float *s = floats(op, CLN_STATISTICS);
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

static float weight_of(const struct cln_op *op, uint64_t g)
{
    return cln_bound(op, CLN_WEIGHT) ? floats(op, CLN_WEIGHT)[g] : 1.0f;
}

/* ---- backward ---- */

static void step_reduce_finish(const struct cln_share *s)
{
    const struct cln_op *op = s->op;
    uint64_t groups = op->view.groups, parts = cln_grid_parts(s->grid);
    float *sums = floats(op, CLN_SUMS), *dweight = floats(op, CLN_DWEIGHT), *dbias = floats(op, CLN_DBIAS);
    double count = (double)cln_view_count(&op->view);
    for (uint64_t g = s->first; g < s->first + s->count; g++) {
        double dy = 0.0, dyd = 0.0;
        for (uint64_t k = 0; k < parts; k++) {
            dy += cln_cpu_partials(op, k, 0)[g];
            dyd += cln_cpu_partials(op, k, 1)[g];
        }
        sums[g] = (float)count;
        sums[groups + g] = (float)(count - sums[g]);
        sums[2 * groups + g] = (float)dy;
        sums[3 * groups + g] = (float)(dyd * source_of(op, g).rstd);
        if (dweight)
            dweight[g] = sums[3 * groups + g];
        if (dbias)
            dbias[g] = sums[2 * groups + g];
    }
}

/* ---- what is the same for a whole group, folded once ---- */

struct cln_center cln_cpu_center(const struct cln_share *s)
{
    static const float zeros[CLN_BAND];
    const struct cln_op *op = s->op;
    if (op->source == CLN_FROM_STATE)
        return (struct cln_center){floats(op, CLN_STATE) + s->first,
                                   floats(op, CLN_STATE) + op->view.groups + s->first};
    return (struct cln_center){floats(op, op->source == CLN_FROM_GIVEN ? CLN_MEAN : CLN_RUNNING_MEAN) + s->first,
                               zeros};
}

void cln_cpu_fold(const struct cln_share *s, enum cln_step step)
{
    const struct cln_op *op = s->op;
    uint64_t groups = op->view.groups;
    float *m = scalar_plane(s, 0), *c = scalar_plane(s, 1), *a = scalar_plane(s, 2), *q = scalar_plane(s, 3),
          *b = scalar_plane(s, 4);
    for (uint64_t g = s->first; g < s->first + s->count; g++) {
        struct source from = source_of(op, g);
        m[g] = from.m;
        c[g] = from.c;
        a[g] = from.rstd * weight_of(op, g);
        q[g] = 0.0f;
        b[g] = step == CLN_STEP_APPLY && cln_bound(op, CLN_BIAS) ? floats(op, CLN_BIAS)[g] : 0.0f;
        if (step == CLN_STEP_BACKWARD_APPLY && op->source == CLN_FROM_RUNNING) {
            m[g] = c[g] = 0.0f; /* constants: dx = a·dy */
        } else if (step == CLN_STEP_BACKWARD_APPLY) {
            const float *sums = floats(op, CLN_SUMS);
            double count = (double)sums[g] + sums[groups + g];
            q[g] = (float)(-(double)a[g] * from.rstd * (sums[3 * groups + g] / count));
            b[g] = (float)(-(double)a[g] * (sums[2 * groups + g] / count));
        }
    }
}

struct cln_scalars cln_cpu_scalars(const struct cln_share *s)
{
    return (struct cln_scalars){scalar_plane(s, 0) + s->first, scalar_plane(s, 1) + s->first,
                                scalar_plane(s, 2) + s->first, scalar_plane(s, 3) + s->first,
                                scalar_plane(s, 4) + s->first};
}

/* The bias of the layer before, with the factor that its weights get. */
static void step_fold(const struct cln_share *s)
{
    const struct cln_op *op = s->op;
    const float *layer_bias = floats(op, CLN_LAYER_BIAS), *bias = floats(op, CLN_BIAS);
    float *out = floats(op, CLN_LAYER_BIAS_OUT);
    for (uint64_t g = s->first; g < s->first + s->count; g++) {
        struct source from = source_of(op, g);
        float a = from.rstd * weight_of(op, g);
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
        zero(s, CLN_DWEIGHT, 1);
        zero(s, CLN_DBIAS, 1);
        break;
    case CLN_STEP_WEIGHTS:
    case CLN_STEP_WEIGHTS_FINISH: /* not of batch norm */
    case CLN_STEP_STATISTICS:
    case CLN_STEP_REDUCE:
    case CLN_STEP_APPLY:
    case CLN_STEP_BACKWARD_APPLY: /* src/cpu/run.c */
        break;
    }
}
