#include "cpu/samples_patch.h"

#include "base/integers.h"

static float *floats(const struct cln_op *op, enum cln_role role)
{
    return op->role[role].handle;
}

uint64_t cln_patch_offset(const struct cln_samples_call *call, const struct cln_patch *p)
{
    const struct cln_samples_grid *g = &call->grid;
    uint64_t in_sample =
        g->family == CLN_COLUMNS ? p->first * g->channels + p->channel : p->channel * g->positions + p->first;
    return p->sample * g->channels * g->positions + in_sample;
}

struct cln_band cln_patch_band(const struct cln_samples_call *call, const struct cln_patch *p)
{
    const struct cln_samples_grid *g = &call->grid;
    if (g->family == CLN_COLUMNS)
        return (struct cln_band){p->positions, 1, g->channels, 1, (uint32_t)p->count, 0, NULL};
    return (struct cln_band){1, p->positions, p->positions, g->positions, (uint32_t)p->count, 0, NULL};
}

struct cln_scalars cln_patch_fold(const struct cln_samples_call *call, const struct cln_patch *p,
                                  const struct cln_group_scalars *of, uint64_t first, struct cln_patch_scalars *t)
{
    const float *weight = floats(call->op, CLN_WEIGHT), *bias = floats(call->op, CLN_BIAS);
    uint64_t merged = call->grid.merged, group = p->channel / merged;
    for (uint64_t j = 0, end; j < p->count; group++) { /* group by group: a division a channel would be felt */
        const struct cln_group_scalars *s = &of[group - first];
        for (end = least(p->count, (group + 1) * merged - p->channel); j < end; j++) {
            uint64_t channel = p->channel + j;
            t->m[j] = s->m;
            t->c[j] = s->c;
            t->a[j] = s->rstd * (weight ? weight[channel] : 1.0f);
            t->q[j] = s->q;
            t->bias[j] = bias ? bias[channel] : 0.0f;
            t->b[j] = call->backward ? s->r : t->bias[j];
            if (call->stage.from_y)
                t->undo[j] = cln_undo(weight ? weight[channel] : 1.0f, s->rstd);
        }
    }
    return (struct cln_scalars){t->m, t->c, t->a, t->q, t->b, t->bias, t->undo};
}

static void write_stretch(const struct cln_samples_call *call, uint64_t at, struct cln_stretch stretch,
                          const struct cln_scalars *k)
{
    if (call->backward)
        cln_stage_gradient(&call->stage, call->kernels, at, stretch, k);
    else
        cln_stage_apply(&call->stage, call->kernels, at, stretch, k);
}

void cln_patch_write(const struct cln_samples_call *call, const struct cln_patch *p, const struct cln_scalars *k)
{
    const struct cln_samples_grid *g = &call->grid;
    uint64_t at = cln_patch_offset(call, p);
    struct cln_stretch stretch = {
        .count = p->count * p->positions, .groups = p->count, .inners = g->family == CLN_COLUMNS ? 1 : p->positions};
    if (g->family == CLN_COLUMNS ? p->count == g->channels : p->positions == g->positions) {
        write_stretch(call, at, stretch, k);
    } else if (g->family == CLN_COLUMNS) {
        stretch.count = p->count;
        for (uint64_t i = 0; i < p->positions; i++)
            write_stretch(call, at + i * g->channels, stretch, k);
    } else { /* a part of one channel, or of a few */
        stretch.count = p->positions;
        for (uint64_t j = 0; j < p->count; j++) {
            struct cln_scalars of = cln_stage_scalars(k, j);
            write_stretch(call, at + j * g->positions, stretch, &of);
        }
    }
}

void cln_samples_put(const struct cln_samples_call *call, uint64_t channel, double first, double second)
{
    const struct cln_op *op = call->op;
    double samples = (double)call->grid.samples;
    if (cln_bound(op, CLN_RUNNING_MEAN))
        cln_statistic_commit(call->plan, op, channel, first / samples, second / samples);
    if (cln_bound(op, CLN_DWEIGHT))
        floats(op, CLN_DWEIGHT)[channel] =
            cln_statistic_total(op, CLNORM_ADD_DWEIGHT, floats(op, CLN_DWEIGHT)[channel], (float)first);
    if (cln_bound(op, CLN_DBIAS))
        floats(op, CLN_DBIAS)[channel] =
            cln_statistic_total(op, CLNORM_ADD_DBIAS, floats(op, CLN_DBIAS)[channel], (float)second);
}
