/* Few large statistics groups: parts of channels are summed up, then written. */
#include "base/integers.h"
#include "cpu/samples_patch.h"
#include "cpu/simd/simd.h"
#include "cpu/threads.h"

static float *floats(const struct cln_op *op, enum cln_role role)
{
    return op->role[role].handle;
}

static double *part_sums(const struct cln_samples_call *call, uint64_t part, int plane)
{
    double *all = call->op->role[CLN_PARTIALS].handle;
    return all + (part * CLN_SAMPLES_SUMS + (uint64_t)plane) * call->op->view.groups;
}

static struct cln_group_scalars *split_scalars(const struct cln_samples_call *call)
{
    void *end = part_sums(call, call->grid.parts, 0);
    return end;
}

static struct cln_patch split_patch(const struct cln_samples_call *call, size_t i)
{
    const struct cln_samples_grid *g = &call->grid;
    uint64_t part = i % g->parts, strip = i / g->parts % g->strips, sample = i / g->parts / g->strips;
    return (struct cln_patch){sample, strip * g->strip, least(g->strip, g->channels - strip * g->strip), part * g->part,
                              least(g->part, g->positions - part * g->part)};
}

static void read_task(void *context, size_t i)
{
    const struct cln_samples_call *call = context;
    const struct cln_op *op = call->op;
    struct cln_patch p = split_patch(call, i);
    uint64_t at = cln_patch_offset(call, &p), group = p.sample * call->grid.channels + p.channel,
             part = i % call->grid.parts;
    double *first = part_sums(call, part, 0) + group, *second = part_sums(call, part, 1) + group;
    if (!call->backward) {
        cln_stage_statistics(&call->stage, call->kernels, at, cln_patch_band(call, &p), first, second);
        return;
    }
    struct cln_group_scalars of[CLN_BAND];
    struct cln_patch_scalars scalars;
    uint64_t first_group = p.channel / call->grid.merged, last_group = (p.channel + p.count - 1) / call->grid.merged;
    for (uint64_t j = first_group; j <= last_group; j++) {
        struct cln_statistic s = cln_statistic_of(op, p.sample * call->grid.groups + j);
        of[j - first_group] = cln_group_scalars_of(&s);
    }
    struct cln_scalars k = cln_patch_fold(call, &p, of, first_group, &scalars);
    cln_stage_dots(&call->stage, call->kernels, at, cln_patch_band(call, &p), &k, first, second);
}

static struct cln_statistic merge_parts(const struct cln_samples_call *call, uint64_t statistic)
{
    const struct cln_samples_grid *g = &call->grid;
    uint64_t first = statistic * g->merged;
    struct cln_parts parts = {.pivot = part_sums(call, 0, 0)[first]};
    for (uint64_t k = 0; k < g->parts; k++) {
        const double *mean = part_sums(call, k, 0), *m2 = part_sums(call, k, 1);
        double count = (double)least(g->part, g->positions - k * g->part);
        for (uint64_t group = first; group < first + g->merged; group++)
            cln_parts_add(&parts, count, mean[group], m2[group]);
    }
    struct cln_moments total = cln_parts_total(&parts);
    return cln_statistic_keep(call->op, statistic, &total);
}

/* The sums of every group over its parts, into those of the first. */
static void sum_parts(const struct cln_samples_call *call)
{
    for (int plane = 0; plane < CLN_SAMPLES_SUMS; plane++) {
        double *total = part_sums(call, 0, plane);
        for (uint64_t k = 1; k < call->grid.parts; k++) {
            const double *part = part_sums(call, k, plane);
            for (uint64_t group = 0; group < call->op->view.groups; group++)
                total[group] += part[group];
        }
    }
}

static void merge_groups(const struct cln_samples_call *call)
{
    const struct cln_op *op = call->op;
    const struct cln_samples_grid *g = &call->grid;
    const float *weight = floats(op, CLN_WEIGHT);
    struct cln_group_scalars *of = split_scalars(call);
    const double *dy = part_sums(call, 0, 0), *dyd = part_sums(call, 0, 1);
    if (call->backward)
        sum_parts(call);
    for (uint64_t i = 0; i < g->samples * g->groups; i++) {
        struct cln_statistic s = call->backward ? cln_statistic_of(op, i) : merge_parts(call, i);
        double sum_g = 0.0, sum_gd = 0.0;
        of[i] = cln_group_scalars_of(&s);
        for (uint64_t group = i * g->merged; call->backward && group < (i + 1) * g->merged; group++) {
            double w = weight ? weight[group - i / g->groups * g->channels] : 1.0;
            sum_g += w * dy[group];
            sum_gd += w * dyd[group];
        }
        struct cln_slope slope =
            cln_statistic_slope(op, &s, (double)cln_view_statistics_count(&op->view), sum_g, sum_gd);
        of[i].q = slope.q;
        of[i].r = slope.r;
        if (cln_bound(op, CLN_RUNNING_MEAN)) { /* instance norm: into the place of what the first part had */
            part_sums(call, 0, 0)[i] = (double)s.m + s.c;
            part_sums(call, 0, 1)[i] = cln_statistic_running_var(op, (double)g->positions, s.var);
        }
    }
}

static void finish_split_channels(const struct cln_samples_call *call)
{
    const struct cln_samples_grid *g = &call->grid;
    for (uint64_t channel = 0; channel < g->channels; channel++) {
        const struct cln_group_scalars *of = split_scalars(call) + channel / g->merged;
        double first = 0.0, second = 0.0;
        for (uint64_t s = 0; s < g->samples; s++) {
            uint64_t group = s * g->channels + channel;
            double a = part_sums(call, 0, 0)[group], b = part_sums(call, 0, 1)[group];
            first += call->backward ? of[s * g->groups].rstd * b : a;
            second += call->backward ? a : b;
        }
        cln_samples_put(call, channel, first, second);
    }
}

static void write_task(void *context, size_t i)
{
    const struct cln_samples_call *call = context;
    struct cln_patch p = split_patch(call, i);
    struct cln_patch_scalars scalars;
    const struct cln_group_scalars *of = split_scalars(call) + p.sample * call->grid.groups;
    struct cln_scalars k = cln_patch_fold(call, &p, of, 0, &scalars);
    cln_patch_write(call, &p, &k);
    if (call->stage.streaming)
        cln_cpu_stream_end();
}

void cln_samples_run_split(struct cln_samples_call *call, int sums, int writes)
{
    size_t tasks = (size_t)(call->grid.samples * call->grid.strips * call->grid.parts);
    cln_parallel(tasks, CLN_ON, read_task, call);
    merge_groups(call);
    if (sums)
        finish_split_channels(call);
    if (writes)
        cln_parallel(tasks, CLN_LAST, write_task, call);
}
