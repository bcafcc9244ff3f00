#include "cpu/run_samples.h"

#include "base/integers.h"
#include "cpu/samples_patch.h"
#include "cpu/simd/simd.h"
#include "cpu/threads.h"

#include <stdio.h>
#include <string.h>

enum {
    SMALL = 1 << 16,   /* elements up to which waking threads costs more than they do */
    ENOUGH_TASKS = 8,  /* from here on whole statistics groups keep all threads busy */
    MOST_TASKS = 64,   /* of whole statistics groups */
    MOST_PARTS = 32,   /* of all of them, split */
    LEAST_PART = 8192, /* elements of a part, */
    LEAST_ROWS = 64,   /* and its rows in columns */
    SHARE = 32,     /* values of a channel that a block has at least for the sums it keeps: an eighth of the tensor */
    TILE = 1 << 15, /* elements of a tile of segments that stays in a core's own cache, with the next one */
    LARGE_TILE = 1 << 20 /* of columns, for the last cache: of whole rows, else what is split is faster */
};

/* Statistics groups of a tile. */
static uint64_t tile_of(const struct cln_samples_grid *g, unsigned tensors)
{
    uint64_t wanted = TILE / tensors / g->positions;
    if (g->family == CLN_COLUMNS)
        wanted = LARGE_TILE / tensors / g->positions;
    return most(1, least(least(wanted, CLN_BAND) / g->merged, g->groups));
}

/* Most blocks of samples. */
static uint64_t blocks_of(const struct cln_view *v, uint64_t samples)
{
    return most(1, least(least(samples, MOST_TASKS), samples * v->outers * v->inners / SHARE));
}

struct cln_samples_grid cln_samples_grid_make(const struct cln_view *v, int backward)
{
    struct cln_samples_grid g = {.family = v->family,
                                 .samples = most(1, v->groups / v->weights),
                                 .channels = v->weights,
                                 .positions = v->outers * v->inners,
                                 .merged = v->merged,
                                 .groups = v->weights / v->merged};
    g.tile = tile_of(&g, backward ? 2 : 1);
    g.blocks = blocks_of(v, g.samples);
    g.block = divide_up(g.samples, g.blocks);
    g.blocks = divide_up(g.samples, g.block);
    uint64_t tiles = divide_up(g.groups, g.tile), bands = least(tiles, divide_up(MOST_TASKS, g.blocks));
    g.band = divide_up(tiles, bands) * g.tile;
    g.bands = divide_up(g.groups, g.band);
    int few = g.samples < ENOUGH_TASKS && g.blocks * g.bands < ENOUGH_TASKS,
        parts_of_rows = g.family == CLN_COLUMNS && g.tile < least(g.groups, CLN_BAND / g.merged);
    g.split = (few || parts_of_rows) && cln_view_elements(v) > SMALL;
    if (g.split) {
        uint64_t per_sample = divide_up(MOST_PARTS, g.samples), enough;
        g.strip = g.family == CLN_COLUMNS ? divide_up(g.channels, divide_up(g.channels, CLN_BAND))
                                          : least(CLN_BAND, divide_up(g.channels, per_sample));
        g.strips = divide_up(g.channels, g.strip);
        enough = g.family == CLN_COLUMNS ? most(LEAST_ROWS, LEAST_PART / g.channels) : LEAST_PART;
        uint64_t parts = most(1, least(per_sample / g.strips, g.positions / enough));
        g.part = divide_up(g.positions, parts);
        g.parts = divide_up(g.positions, g.part);
    }
    return g;
}

enum { SCALARS = sizeof(struct cln_group_scalars) / sizeof(float) };

/* PARTIALS, whole: double[blocks][CLN_SAMPLES_SUMS][channels]; split: double[parts][CLN_SAMPLES_SUMS][samples · channels], float[SCALARS][statistics groups].
 * Of the samples of a plan and of fewer. */
size_t cln_samples_partials_bytes(const struct cln_view *v)
{
    uint64_t samples = v->groups / v->weights,
             bytes = blocks_of(v, samples) * CLN_SAMPLES_SUMS * v->weights * sizeof(double);
    /* From MOST_PARTS samples on each is one part, so that the most of them need the most. */
    for (uint64_t n = 1; n <= least(samples, MOST_PARTS + 1); n++) {
        struct cln_view fewer = *v;
        fewer.groups = (n > MOST_PARTS ? samples : n) * v->weights;
        for (int backward = 0; backward < 2; backward++) {
            struct cln_samples_grid g = cln_samples_grid_make(&fewer, backward);
            uint64_t split = g.parts * CLN_SAMPLES_SUMS * fewer.groups * sizeof(double) +
                             SCALARS * g.samples * g.groups * sizeof(float);
            bytes = most(bytes, g.split ? split : 0);
        }
    }
    return (size_t)bytes;
}

static float *floats(const struct cln_op *op, enum cln_role role)
{
    return op->role[role].handle;
}

/* ---- whole statistics groups ---- */

/* Statistics groups of a sample, and what their task keeps for every channel. */
struct tile {
    uint64_t sample, group, count;
    double *sums[CLN_SAMPLES_SUMS];
};

static uint64_t statistic_index(const struct cln_samples_call *call, const struct tile *t, uint64_t j)
{
    return t->sample * call->grid.groups + t->group + j;
}

/* Channels `channel` on of a tile, at most a band of them. */
static struct cln_patch patch_of(const struct cln_samples_call *call, const struct tile *t, uint64_t channel)
{
    uint64_t end = (t->group + t->count) * call->grid.merged;
    return (struct cln_patch){t->sample, channel, least(CLN_BAND, end - channel), 0, call->grid.positions};
}

static void tile_moments(const struct cln_samples_call *call, const struct tile *t, struct cln_moments *of)
{
    const struct cln_samples_grid *g = &call->grid;
    double mean[CLN_BAND], m2[CLN_BAND];
    uint64_t first = t->group * g->merged;
    if (g->family == CLN_SEGMENTS) { /* a statistics group is one run */
        struct cln_patch p = {t->sample, first, 0, 0, 0};
        uint64_t run = g->merged * g->positions;
        cln_stage_statistics(&call->stage, call->kernels, cln_patch_offset(call, &p),
                             (struct cln_band){1, run, run, run, (uint32_t)t->count, 0, NULL}, mean, m2);
        for (uint64_t j = 0; j < t->count; j++)
            of[j] = (struct cln_moments){(double)run, mean[j], m2[j]};
        return;
    }
    struct cln_parts group = {0}; /* its channels, which may be of several patches */
    uint64_t left = 0, j = 0;     /* so many are still to come; groups that are done */
    for (uint64_t channel = first, end = first + t->count * g->merged; channel < end;) {
        struct cln_patch p = patch_of(call, t, channel);
        cln_stage_statistics(&call->stage, call->kernels, cln_patch_offset(call, &p), cln_patch_band(call, &p), mean,
                             m2);
        for (uint64_t i = 0; i < p.count; i++) {
            if (left == 0) {
                group = (struct cln_parts){.pivot = mean[i]};
                left = g->merged;
            }
            cln_parts_add(&group, (double)g->positions, mean[i], m2[i]);
            if (--left == 0)
                of[j++] = cln_parts_total(&group);
        }
        channel += p.count;
    }
}

static void write_tile(const struct cln_samples_call *call, const struct tile *t, const struct cln_group_scalars *of)
{
    struct cln_patch_scalars scalars;
    uint64_t end = (t->group + t->count) * call->grid.merged;
    for (uint64_t channel = t->group * call->grid.merged; channel < end;) {
        struct cln_patch p = patch_of(call, t, channel);
        struct cln_scalars k = cln_patch_fold(call, &p, of, t->group, &scalars);
        cln_patch_write(call, &p, &k);
        channel += p.count;
    }
}

static void forward_tile(const struct cln_samples_call *call, const struct tile *t)
{
    struct cln_moments moments[CLN_BAND];
    struct cln_group_scalars of[CLN_BAND];
    tile_moments(call, t, moments);
    for (uint64_t j = 0; j < t->count; j++) {
        struct cln_statistic s = cln_statistic_keep(call->op, statistic_index(call, t, j), &moments[j]);
        of[j] = cln_group_scalars_of(&s);
        if (t->sums[0]) { /* instance norm: a statistics group is a channel */
            t->sums[0][t->group + j] += (double)s.m + s.c;
            t->sums[1][t->group + j] += cln_statistic_running_var(call->op, moments[j].count, s.var);
        }
    }
    write_tile(call, t, of);
}

/* Σdy and Σdy·d of a patch's channels; what they add to the sums of the weights and to Σg, Σg·d of their groups. */
static void add_dots(const struct cln_samples_call *call, const struct tile *t, const struct cln_patch *p,
                     const struct cln_group_scalars *of, double (*sums)[CLN_SAMPLES_SUMS])
{
    const struct cln_op *op = call->op;
    const float *weight = floats(op, CLN_WEIGHT);
    double dy[CLN_BAND], dyd[CLN_BAND];
    struct cln_patch_scalars scalars;
    struct cln_scalars k = cln_patch_fold(call, p, of, t->group, &scalars);
    cln_stage_dots(&call->stage, call->kernels, cln_patch_offset(call, p), cln_patch_band(call, p), &k, dy, dyd);
    uint64_t merged = call->grid.merged, group = p->channel / merged - t->group;
    for (uint64_t j = 0, end; j < p->count; group++) {
        for (end = least(p->count, (t->group + group + 1) * merged - p->channel); j < end; j++) {
            uint64_t channel = p->channel + j;
            double w = weight ? weight[channel] : 1.0;
            sums[group][0] += w * dy[j];
            sums[group][1] += w * dyd[j];
            if (t->sums[0])
                t->sums[0][channel] += of[group].rstd * dyd[j];
            if (t->sums[1])
                t->sums[1][channel] += dy[j];
        }
    }
}

static void backward_tile(const struct cln_samples_call *call, const struct tile *t)
{
    const struct cln_op *op = call->op;
    struct cln_group_scalars of[CLN_BAND];
    double sums[CLN_BAND][CLN_SAMPLES_SUMS];
    memset(sums, 0, t->count * sizeof sums[0]);
    for (uint64_t j = 0; j < t->count; j++) {
        struct cln_statistic s = cln_statistic_of(op, statistic_index(call, t, j));
        of[j] = cln_group_scalars_of(&s);
    }
    uint64_t end = (t->group + t->count) * call->grid.merged;
    for (uint64_t channel = t->group * call->grid.merged; channel < end;) {
        struct cln_patch p = patch_of(call, t, channel);
        add_dots(call, t, &p, of, sums);
        channel += p.count;
    }
    for (uint64_t j = 0; j < t->count; j++) {
        struct cln_statistic s = {of[j].m, of[j].c, of[j].rstd, 0.0f};
        struct cln_slope slope =
            cln_statistic_slope(op, &s, (double)cln_view_statistics_count(&op->view), sums[j][0], sums[j][1]);
        of[j].q = slope.q;
        of[j].r = slope.r;
    }
    if (cln_bound(op, CLN_DX) || cln_bound(op, CLN_DZ))
        write_tile(call, t, of);
}

static double *block_sums(const struct cln_samples_call *call, uint64_t block, int plane)
{
    double *all = call->op->role[CLN_PARTIALS].handle;
    return all + (block * CLN_SAMPLES_SUMS + (uint64_t)plane) * call->grid.channels;
}

/* The roles that the sums of a block end in. */
static const enum cln_role *summed(const struct cln_samples_call *call)
{
    static const enum cln_role forward[CLN_SAMPLES_SUMS] = {CLN_RUNNING_MEAN, CLN_RUNNING_VAR},
                               backward[CLN_SAMPLES_SUMS] = {CLN_DWEIGHT, CLN_DBIAS};
    return call->backward ? backward : forward;
}

/* A band of the statistics groups of a block's samples, tile by tile. */
static void tile_task(void *context, size_t i)
{
    const struct cln_samples_call *call = context;
    const struct cln_samples_grid *g = &call->grid;
    uint64_t block = i / g->bands, first = i % g->bands * g->band, end = least(g->groups, first + g->band);
    uint64_t s0 = block * g->block, s1 = least(g->samples, s0 + g->block);
    struct tile t = {0};
    for (int plane = 0; plane < CLN_SAMPLES_SUMS; plane++) {
        if (cln_bound(call->op, summed(call)[plane])) {
            t.sums[plane] = block_sums(call, block, plane);
            memset(t.sums[plane] + first * g->merged, 0, (end - first) * g->merged * sizeof(double));
        }
    }
    for (t.sample = s0; t.sample < s1; t.sample++) {
        for (t.group = first; t.group < end; t.group += t.count) {
            t.count = least(g->tile, end - t.group);
            if (call->backward)
                backward_tile(call, &t);
            else
                forward_tile(call, &t);
        }
    }
    if (call->stage.streaming)
        cln_cpu_stream_end();
}

/* Adds up the blocks in order. */
static void finish_channels(const struct cln_samples_call *call)
{
    for (uint64_t channel = 0; channel < call->grid.channels; channel++) {
        double total[CLN_SAMPLES_SUMS] = {0};
        for (int plane = 0; plane < CLN_SAMPLES_SUMS; plane++) {
            for (uint64_t b = 0; cln_bound(call->op, summed(call)[plane]) && b < call->grid.blocks; b++)
                total[plane] += block_sums(call, b, plane)[channel];
        }
        cln_samples_put(call, channel, total[0], total[1]);
    }
}

/* ---- calls ---- */

void cln_samples_explain(struct cln_explained *e, const struct cln_view *view, int backward)
{
    struct cln_samples_grid g = cln_samples_grid_make(view, backward);
    e->fused = !g.split;
    if (g.split)
        snprintf(e->how, sizeof e->how,
                 "there are few large groups; their channels are cut into %llu strips of a sample and %llu parts",
                 (unsigned long long)g.strips, (unsigned long long)g.parts);
    else
        snprintf(e->how, sizeof e->how,
                 "whole groups fit a cache; tiles of %llu groups go through all steps one by one, in %llu blocks of "
                 "samples and %llu bands of groups",
                 (unsigned long long)g.tile, (unsigned long long)g.blocks, (unsigned long long)g.bands);
}

void cln_samples_run(struct cln_cpu_plan *plan, const struct cln_op *op)
{
    struct cln_samples_call call = {.plan = plan, .op = op};
    uint64_t elements = cln_view_elements(&op->view);
    call.backward = cln_bound(op, CLN_DY);
    call.grid = cln_samples_grid_make(&op->view, call.backward);
    call.kernels = call.grid.family == CLN_SEGMENTS ? &plan->kernels.segments : &plan->kernels.columns;
    call.stage = cln_stage_make(&plan->kernels, op, cln_cpu_streams(plan, op));
    int sums = cln_bound(op, summed(&call)[0]) || cln_bound(op, summed(&call)[1]);
    if (call.grid.split) {
        cln_samples_run_split(&call, sums, !call.backward || cln_bound(op, CLN_DX) || cln_bound(op, CLN_DZ));
        return;
    }
    cln_parallel((size_t)(call.grid.blocks * call.grid.bands), elements <= SMALL ? CLN_ALONE : CLN_LAST, tile_task,
                 &call);
    if (sums)
        finish_channels(&call);
}
