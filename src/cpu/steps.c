#include "cpu/steps.h"

#include "cpu/grid.h"
#include "cpu/threads.h"

#include <math.h>
#include <string.h>

/* PARTIALS: [parts][groups] of these. */
union partial {
    struct cln_moments moments;
    struct cln_dots dots;
};

size_t cln_cpu_partials_bytes(const struct cln_view *view)
{
    return (size_t)(view->groups * cln_grid_most_parts(view)) * sizeof(union partial);
}

/* A task's share of a call: a part of a band of groups. */
struct share {
    struct cln_cpu_plan *plan;
    const struct cln_op *op;
    const struct cln_grid *grid;
    uint64_t first, part, offset; /* group, part of it, element where it starts */
    struct cln_band band;
    int stream;
};

static float *floats(const struct cln_op *op, enum cln_role role)
{
    return op->role[role].handle;
}

/* Partial `part` of the share's first group; its other groups follow. */
static union partial *partials_of(const struct share *s, uint64_t part)
{
    union partial *all = s->op->role[CLN_PARTIALS].handle;
    return all + part * s->grid->groups + s->first;
}

static const struct cln_family_kernels *kernels_of(const struct share *s)
{
    return s->op->view.family == CLN_SEGMENTS ? &s->plan->kernels.segments : &s->plan->kernels.columns;
}

/* ---- statistics ---- */

static void step_statistics(const struct share *s)
{
    struct cln_moments moments[CLN_BAND];
    union partial *to = partials_of(s, s->part);
    kernels_of(s)->statistics(floats(s->op, CLN_X) + s->offset, s->band, moments);
    for (uint32_t j = 0; j < s->band.count; j++)
        to[j].moments = moments[j];
}

/* The public form: counts exact as a pair up to 2^48, the mean as a pair. */
static void put_statistics(float *planes, uint64_t groups, uint64_t g, const struct cln_moments *t)
{
    double mean = t->count > 0.0 ? t->sum / t->count : 0.0;
    if (!isfinite(mean))
        mean = NAN; /* a NaN or Inf makes the channel NaN, whichever part saw it */
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

static void step_finalize(const struct share *s)
{
    const struct cln_op *op = s->op;
    uint64_t groups = op->view.groups;
    const float *m = floats(op, CLN_STATISTICS) + 2 * groups, *c = m + groups, *var = c + groups;
    float *state = floats(op, CLN_STATE);
    float *mean_out = floats(op, CLN_MEAN), *var_out = floats(op, CLN_VAR), *rstd_out = floats(op, CLN_RSTD);
    for (uint64_t g = s->first; g < s->first + s->band.count; g++) {
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

static void step_finish(const struct share *s)
{
    uint64_t parts = cln_grid_parts(s->grid);
    for (uint32_t j = 0; j < s->band.count; j++) {
        struct cln_moments total = {0};
        for (uint64_t k = 0; k < parts; k++)
            cln_moments_add(&total, &partials_of(s, k)[j].moments);
        put_statistics(floats(s->op, CLN_STATISTICS), s->op->view.groups, s->first + j, &total);
    }
    step_finalize(s);
}

static void step_merge(const struct share *s)
{
    const struct cln_op *op = s->op;
    uint64_t groups = op->view.groups;
    for (uint64_t g = s->first; g < s->first + s->band.count; g++) {
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

static void step_commit(const struct share *share)
{
    const struct cln_op *op = share->op;
    uint64_t groups = op->view.groups;
    const float *s = floats(op, CLN_STATISTICS);
    float *running_mean = floats(op, CLN_RUNNING_MEAN), *running_var = floats(op, CLN_RUNNING_VAR);
    const clnorm_running *r = &op->running;
    float f = r->average == CLNORM_CUMULATIVE ? (float)(1.0 / ((double)r->count + 1.0)) : r->momentum;
    for (uint64_t g = share->first; g < share->first + share->band.count; g++) {
        double count = (double)s[g] + s[groups + g];
        double mean = (double)s[2 * groups + g] + s[3 * groups + g], var = s[4 * groups + g];
        if (count == 0.0)
            continue;
        if (!isfinite(mean) || !isfinite(var)) {
            atomic_fetch_or(&share->plan->found, CLNORM_FOUND_NONFINITE);
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

static void step_apply(const struct share *s)
{
    struct cln_affine k[CLN_BAND];
    for (uint32_t j = 0; j < s->band.count; j++)
        k[j] = affine_of(s->op, s->first + j);
    kernels_of(s)->apply(floats(s->op, CLN_X) + s->offset, floats(s->op, CLN_Y) + s->offset, s->band, k, s->stream);
}

/* ---- backward ---- */

static void step_reduce(const struct share *s)
{
    struct cln_center at[CLN_BAND];
    struct cln_dots dots[CLN_BAND];
    union partial *to = partials_of(s, s->part);
    const float *dy = floats(s->op, CLN_DY);
    const float *x = cln_bound(s->op, CLN_X) ? floats(s->op, CLN_X) : dy; /* without x only Σdy is asked for */
    for (uint32_t j = 0; j < s->band.count; j++) {
        struct source from = source_of(s->op, s->first + j);
        at[j] = (struct cln_center){from.m, from.c};
    }
    kernels_of(s)->dots(x + s->offset, dy + s->offset, s->band, at, dots);
    for (uint32_t j = 0; j < s->band.count; j++)
        to[j].dots = dots[j];
}

static void step_reduce_finish(const struct share *s)
{
    const struct cln_op *op = s->op;
    uint64_t groups = op->view.groups, parts = cln_grid_parts(s->grid);
    float *sums = floats(op, CLN_SUMS), *dweight = floats(op, CLN_DWEIGHT), *dbias = floats(op, CLN_DBIAS);
    double count = (double)cln_view_count(&op->view);
    for (uint32_t j = 0; j < s->band.count; j++) {
        uint64_t g = s->first + j;
        struct cln_dots total = {0};
        for (uint64_t k = 0; k < parts; k++) {
            total.dy += partials_of(s, k)[j].dots.dy;
            total.dyd += partials_of(s, k)[j].dots.dyd;
        }
        sums[g] = (float)count;
        sums[groups + g] = (float)(count - sums[g]);
        sums[2 * groups + g] = (float)total.dy;
        sums[3 * groups + g] = (float)(total.dyd * source_of(op, g).rstd);
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

static void step_backward_apply(const struct share *s)
{
    const float *x = s->op->source == CLN_FROM_RUNNING ? NULL : floats(s->op, CLN_X) + s->offset;
    struct cln_gradient k[CLN_BAND];
    for (uint32_t j = 0; j < s->band.count; j++)
        k[j] = gradient_of(s->op, s->first + j);
    kernels_of(s)->gradient(x, floats(s->op, CLN_DY) + s->offset, floats(s->op, CLN_DX) + s->offset, s->band, k,
                            s->stream);
}

static void zero(const struct share *s, enum cln_role role, uint64_t planes)
{
    for (uint64_t p = 0; p < planes && cln_bound(s->op, role); p++)
        memset(floats(s->op, role) + p * s->grid->groups + s->first, 0, s->band.count * sizeof(float));
}

/* ---- tasks ---- */

static void run_step(const struct share *s, enum cln_step step)
{
    switch (step) {
    case CLN_STEP_STATISTICS:
        step_statistics(s);
        break;
    case CLN_STEP_FINISH:
        step_finish(s);
        break;
    case CLN_STEP_MERGE:
        step_merge(s);
        break;
    case CLN_STEP_FINALIZE:
        step_finalize(s);
        break;
    case CLN_STEP_APPLY:
        step_apply(s);
        break;
    case CLN_STEP_COMMIT:
        step_commit(s);
        break;
    case CLN_STEP_REDUCE:
        step_reduce(s);
        break;
    case CLN_STEP_REDUCE_FINISH:
        step_reduce_finish(s);
        break;
    case CLN_STEP_BACKWARD_APPLY:
        step_backward_apply(s);
        break;
    case CLN_STEP_ZERO_STATISTICS:
        zero(s, CLN_STATISTICS, CLN_STATISTICS_PLANES);
        break;
    case CLN_STEP_ZERO_SUMS:
        zero(s, CLN_SUMS, CLN_SUMS_PLANES);
        zero(s, CLN_DWEIGHT, 1);
        zero(s, CLN_DBIAS, 1);
        break;
    }
}

static int walks_tensor(enum cln_step step)
{
    return step == CLN_STEP_STATISTICS || step == CLN_STEP_APPLY || step == CLN_STEP_REDUCE ||
           step == CLN_STEP_BACKWARD_APPLY;
}

struct call {
    struct cln_cpu_plan *plan;
    const struct cln_op *op;
    struct cln_grid grid;
    int first_step, last_step; /* the steps of a task */
    uint64_t parts;            /* tasks a band */
    int stream;
};

static void task(void *context, size_t i)
{
    const struct call *call = context;
    uint64_t band = i / call->parts, part = i % call->parts, offset;
    struct cln_band shape = cln_grid_part(&call->grid, &call->op->view, band, part, &offset);
    struct share s = {call->plan, call->op, &call->grid, cln_grid_first(&call->grid, band),
                      part,       offset,   shape,       call->stream};
    for (int k = call->first_step; k < call->last_step; k++)
        run_step(&s, call->op->steps[k]);
}

void cln_cpu_run(struct cln_cpu_plan *plan, const struct cln_op *op)
{
    enum { SMALL = 1 << 15 }; /* elements below which waking threads costs more than they do */
    struct call call = {.plan = plan, .op = op, .grid = cln_grid_make(&op->view)};
    uint64_t elements = cln_view_elements(&op->view);
    int small = elements < SMALL;
    call.stream = elements * sizeof(float) > plan->cache_bytes;
    if (cln_grid_parts(&call.grid) == 1) { /* a band goes through all steps while it is in the cache */
        call.parts = 1;
        call.last_step = op->step_count;
        cln_parallel((size_t)call.grid.bands, small ? CLN_ALONE : CLN_LAST, task, &call);
        return;
    }
    int last_walk = -1;
    for (int k = 0; k < op->step_count; k++)
        last_walk = walks_tensor(op->steps[k]) ? k : last_walk;
    for (int k = 0; k < op->step_count; k++) {
        int walks = walks_tensor(op->steps[k]);
        call.first_step = k;
        call.last_step = k + 1;
        call.parts = walks ? cln_grid_parts(&call.grid) : 1;
        cln_parallel((size_t)(call.grid.bands * call.parts),
                     small || !walks  ? CLN_ALONE
                     : k == last_walk ? CLN_LAST
                                      : CLN_ON,
                     task, &call);
    }
}
