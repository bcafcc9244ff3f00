#include "cpu/steps.h"

#include <math.h>
#include <string.h>

/* PARTIALS holds one of these a group. */
union partial {
    struct cln_moments moments;
    struct cln_dots dots;
};

size_t cln_cpu_partials_bytes(const struct cln_view *view)
{
    return view->groups * sizeof(union partial);
}

static float *floats(const struct cln_op *op, enum cln_role role)
{
    return op->role[role].handle;
}

static struct cln_runs runs_of(const struct cln_view *v)
{
    return (struct cln_runs){v->outers, v->inners, v->outer_stride};
}

static struct cln_block block_of(const struct cln_view *v, uint64_t first)
{
    uint64_t left = v->groups - first;
    return (struct cln_block){v->outers, v->outer_stride, (uint32_t)(left < CLN_COLUMNS ? left : CLN_COLUMNS)};
}

/* ---- statistics ---- */

static void step_statistics(const struct cln_cpu_plan *plan, const struct cln_op *op)
{
    const struct cln_view *v = &op->view;
    const float *x = floats(op, CLN_X);
    union partial *partials = op->role[CLN_PARTIALS].handle;
    if (v->family == CLN_SEGMENTS) {
        for (uint64_t g = 0; g < v->groups; g++)
            plan->kernels.segments_statistics(x + g * v->group_stride, runs_of(v), &partials[g].moments);
        return;
    }
    struct cln_moments moments[CLN_COLUMNS];
    for (uint64_t g = 0; g < v->groups; g += CLN_COLUMNS) {
        struct cln_block block = block_of(v, g);
        plan->kernels.columns_statistics(x + g, block, moments);
        for (uint32_t j = 0; j < block.count; j++)
            partials[g + j].moments = moments[j];
    }
}

/* The public form: counts exact as a pair up to 2^48, the mean as a pair. */
static void put_statistics(float *planes, uint64_t groups, uint64_t g, const struct cln_moments *t)
{
    double mean = t->count > 0.0 ? t->sum / t->count : 0.0;
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
    return (struct cln_moments){count, count * mean, count * planes[4 * groups + g]};
}

static float rstd_of(float var, float eps)
{
    return (float)(1.0 / sqrt((double)var + eps));
}

static void step_finalize(const struct cln_op *op)
{
    uint64_t groups = op->view.groups;
    const float *m = floats(op, CLN_STATISTICS) + 2 * groups, *c = m + groups, *var = c + groups;
    float *state = floats(op, CLN_STATE);
    float *mean_out = floats(op, CLN_MEAN), *var_out = floats(op, CLN_VAR), *rstd_out = floats(op, CLN_RSTD);
    for (uint64_t g = 0; g < groups; g++) {
        float rstd = rstd_of(var[g], op->eps);
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

static void step_finish(const struct cln_op *op)
{
    const union partial *partials = op->role[CLN_PARTIALS].handle;
    for (uint64_t g = 0; g < op->view.groups; g++)
        put_statistics(floats(op, CLN_STATISTICS), op->view.groups, g, &partials[g].moments);
    step_finalize(op);
}

static void step_merge(const struct cln_op *op)
{
    uint64_t groups = op->view.groups;
    for (uint64_t g = 0; g < groups; g++) {
        struct cln_moments total = {0};
        for (uint32_t k = 0; k < op->parts; k++) {
            struct cln_moments part =
                get_statistics(floats(op, CLN_GATHERED) + (size_t)k * CLN_STATISTICS_PLANES * groups, groups, g);
            cln_moments_add(&total, &part);
        }
        put_statistics(floats(op, CLN_STATISTICS), groups, g, &total);
    }
}

/* (1 − f)·old + f·batch in double; the ends are exact, so that f = 1 forgets even a NaN and f = 0 takes none. */
static float blend(float old, double batch, float f)
{
    if (f == 1.0f)
        return (float)batch;
    if (f == 0.0f)
        return old;
    return (float)(old + f * (batch - old));
}

static void step_commit(struct cln_cpu_plan *plan, const struct cln_op *op)
{
    uint64_t groups = op->view.groups;
    const float *s = floats(op, CLN_STATISTICS);
    float *running_mean = floats(op, CLN_RUNNING_MEAN), *running_var = floats(op, CLN_RUNNING_VAR);
    const clnorm_running *r = &op->running;
    float f = r->average == CLNORM_CUMULATIVE ? (float)(1.0 / ((double)r->count + 1.0)) : r->momentum;
    for (uint64_t g = 0; g < groups; g++) {
        double count = (double)s[g] + s[groups + g];
        double mean = (double)s[2 * groups + g] + s[3 * groups + g], var = s[4 * groups + g];
        if (count == 0.0)
            continue;
        if (!isfinite(mean) || !isfinite(var)) {
            plan->found |= CLNORM_FOUND_NONFINITE;
            if (r->guard == CLNORM_GUARD_FINITE)
                continue;
        }
        if (r->variance == CLNORM_UNBIASED && count > 1.0)
            var *= count / (count - 1.0);
        running_mean[g] = blend(running_mean[g], mean, f);
        running_var[g] = blend(running_var[g], var, f);
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
    return (struct source){floats(op, CLN_RUNNING_MEAN)[g], 0.0f, rstd_of(floats(op, CLN_RUNNING_VAR)[g], op->eps)};
}

static float weight_of(const struct cln_op *op, uint64_t g)
{
    return cln_bound(op, CLN_WEIGHT) ? floats(op, CLN_WEIGHT)[g] : 1.0f;
}

static struct cln_affine affine_of(const struct cln_op *op, uint64_t g)
{
    struct source from = source_of(op, g);
    float bias = cln_bound(op, CLN_BIAS) ? floats(op, CLN_BIAS)[g] : 0.0f;
    return (struct cln_affine){from.m, from.c, from.rstd * weight_of(op, g), bias};
}

static void step_apply(const struct cln_cpu_plan *plan, const struct cln_op *op)
{
    const struct cln_view *v = &op->view;
    const float *x = floats(op, CLN_X);
    float *y = floats(op, CLN_Y);
    if (v->family == CLN_SEGMENTS) {
        for (uint64_t g = 0; g < v->groups; g++)
            plan->kernels.segments_apply(x + g * v->group_stride, y + g * v->group_stride, runs_of(v),
                                         affine_of(op, g));
        return;
    }
    struct cln_affine k[CLN_COLUMNS];
    for (uint64_t g = 0; g < v->groups; g += CLN_COLUMNS) {
        struct cln_block block = block_of(v, g);
        for (uint32_t j = 0; j < block.count; j++)
            k[j] = affine_of(op, g + j);
        plan->kernels.columns_apply(x + g, y + g, block, k);
    }
}

/* ---- backward ---- */

static void step_reduce(const struct cln_cpu_plan *plan, const struct cln_op *op)
{
    const struct cln_view *v = &op->view;
    const float *dy = floats(op, CLN_DY);
    const float *x = cln_bound(op, CLN_X) ? floats(op, CLN_X) : dy; /* without x only Σdy is asked for */
    union partial *partials = op->role[CLN_PARTIALS].handle;
    if (v->family == CLN_SEGMENTS) {
        for (uint64_t g = 0; g < v->groups; g++) {
            struct source from = source_of(op, g);
            plan->kernels.segments_dots(x + g * v->group_stride, dy + g * v->group_stride, runs_of(v), from.m, from.c,
                                        &partials[g].dots);
        }
        return;
    }
    float m[CLN_COLUMNS], c[CLN_COLUMNS];
    struct cln_dots dots[CLN_COLUMNS];
    for (uint64_t g = 0; g < v->groups; g += CLN_COLUMNS) {
        struct cln_block block = block_of(v, g);
        for (uint32_t j = 0; j < block.count; j++) {
            struct source from = source_of(op, g + j);
            m[j] = from.m;
            c[j] = from.c;
        }
        plan->kernels.columns_dots(x + g, dy + g, block, m, c, dots);
        for (uint32_t j = 0; j < block.count; j++)
            partials[g + j].dots = dots[j];
    }
}

static void step_reduce_finish(const struct cln_op *op)
{
    uint64_t groups = op->view.groups;
    const union partial *partials = op->role[CLN_PARTIALS].handle;
    float *sums = floats(op, CLN_SUMS), *dweight = floats(op, CLN_DWEIGHT), *dbias = floats(op, CLN_DBIAS);
    double count = (double)cln_view_count(&op->view);
    for (uint64_t g = 0; g < groups; g++) {
        float rstd = source_of(op, g).rstd;
        sums[g] = (float)count;
        sums[groups + g] = (float)(count - sums[g]);
        sums[2 * groups + g] = (float)partials[g].dots.dy;
        sums[3 * groups + g] = (float)(partials[g].dots.dyd * rstd);
        if (dweight)
            dweight[g] = sums[3 * groups + g];
        if (dbias)
            dbias[g] = sums[2 * groups + g];
    }
}

static struct cln_gradient gradient_of(const struct cln_op *op, uint64_t g)
{
    struct source from = source_of(op, g);
    struct cln_gradient k = {from.m, from.c, from.rstd * weight_of(op, g), 0.0f, 0.0f};
    if (op->source != CLN_FROM_RUNNING) {
        uint64_t groups = op->view.groups;
        const float *s = floats(op, CLN_SUMS);
        double count = (double)s[g] + s[groups + g];
        k.q = (float)(-(double)k.p * from.rstd * (s[3 * groups + g] / count));
        k.r = (float)(-(double)k.p * (s[2 * groups + g] / count));
    }
    return k;
}

static void step_backward_apply(const struct cln_cpu_plan *plan, const struct cln_op *op)
{
    const struct cln_view *v = &op->view;
    const float *x = op->source == CLN_FROM_RUNNING ? NULL : floats(op, CLN_X), *dy = floats(op, CLN_DY);
    float *dx = floats(op, CLN_DX);
    if (v->family == CLN_SEGMENTS) {
        for (uint64_t g = 0; g < v->groups; g++) {
            uint64_t at = g * v->group_stride;
            plan->kernels.segments_gradient(x ? x + at : NULL, dy + at, dx + at, runs_of(v), gradient_of(op, g));
        }
        return;
    }
    struct cln_gradient k[CLN_COLUMNS];
    for (uint64_t g = 0; g < v->groups; g += CLN_COLUMNS) {
        struct cln_block block = block_of(v, g);
        for (uint32_t j = 0; j < block.count; j++)
            k[j] = gradient_of(op, g + j);
        plan->kernels.columns_gradient(x ? x + g : NULL, dy + g, dx + g, block, k);
    }
}

static void zero(const struct cln_op *op, enum cln_role role, size_t planes)
{
    if (cln_bound(op, role))
        memset(op->role[role].handle, 0, planes * op->view.groups * sizeof(float));
}

void cln_cpu_step(struct cln_cpu_plan *plan, const struct cln_op *op, enum cln_step step)
{
    switch (step) {
    case CLN_STEP_STATISTICS:
        step_statistics(plan, op);
        break;
    case CLN_STEP_FINISH:
        step_finish(op);
        break;
    case CLN_STEP_MERGE:
        step_merge(op);
        break;
    case CLN_STEP_FINALIZE:
        step_finalize(op);
        break;
    case CLN_STEP_APPLY:
        step_apply(plan, op);
        break;
    case CLN_STEP_COMMIT:
        step_commit(plan, op);
        break;
    case CLN_STEP_REDUCE:
        step_reduce(plan, op);
        break;
    case CLN_STEP_REDUCE_FINISH:
        step_reduce_finish(op);
        break;
    case CLN_STEP_BACKWARD_APPLY:
        step_backward_apply(plan, op);
        break;
    case CLN_STEP_ZERO_STATISTICS:
        zero(op, CLN_STATISTICS, CLN_STATISTICS_PLANES);
        break;
    case CLN_STEP_ZERO_SUMS:
        zero(op, CLN_SUMS, CLN_SUMS_PLANES);
        zero(op, CLN_DWEIGHT, 1);
        zero(op, CLN_DBIAS, 1);
        break;
    }
}
