#include "cpu/run_samples.h"

#include "cpu/simd/simd.h"
#include "cpu/stage.h"
#include "cpu/statistic.h"
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
    LARGE_TILE = 1 << 20, /* of columns, for the last cache: rows are wanted whole, */
    LEAST_ROW = 256       /* or so much of them */
};

static uint64_t divide_up(uint64_t a, uint64_t b)
{
    return (a + b - 1) / b;
}

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static uint64_t most(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

/* Statistics groups of a tile. */
static uint64_t tile_of(const struct cln_samples_grid *g, unsigned tensors)
{
    uint64_t wanted = TILE / tensors / g->positions;
    if (g->family == CLN_COLUMNS)
        wanted = most(LEAST_ROW, LARGE_TILE / tensors / g->positions);
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
    g.split = g.samples < ENOUGH_TASKS && g.blocks * g.bands < ENOUGH_TASKS && cln_view_elements(v) > SMALL;
    if (g.split) {
        uint64_t per_sample = divide_up(MOST_PARTS, g.samples), enough;
        g.strip = g.family == CLN_COLUMNS ? CLN_BAND : least(CLN_BAND, divide_up(g.channels, per_sample));
        g.strips = divide_up(g.channels, g.strip);
        enough = g.family == CLN_COLUMNS ? most(LEAST_ROWS, LEAST_PART / g.channels) : LEAST_PART;
        uint64_t parts = most(1, least(per_sample / g.strips, g.positions / enough));
        g.part = divide_up(g.positions, parts);
        g.parts = divide_up(g.positions, g.part);
    }
    return g;
}

enum { SUMS = 2, SCALARS = 5 };

/* PARTIALS, whole: double[blocks][SUMS][channels]; split: double[parts][SUMS][samples · channels], float[SCALARS][statistics groups].
 * Of the samples of a plan and of fewer. */
size_t cln_samples_partials_bytes(const struct cln_view *v)
{
    uint64_t samples = v->groups / v->weights, bytes = blocks_of(v, samples) * SUMS * v->weights * sizeof(double);
    for (uint64_t n = 1; n <= least(samples, ENOUGH_TASKS); n++) {
        struct cln_view fewer = *v;
        fewer.groups = n * v->weights;
        for (int backward = 0; backward < 2; backward++) {
            struct cln_samples_grid g = cln_samples_grid_make(&fewer, backward);
            uint64_t split = g.parts * SUMS * fewer.groups * sizeof(double) + SCALARS * n * g.groups * sizeof(float);
            bytes = most(bytes, g.split ? split : 0);
        }
    }
    return (size_t)bytes;
}

struct call {
    struct cln_cpu_plan *plan;
    const struct cln_op *op;
    const struct cln_family_kernels *kernels;
    struct cln_samples_grid grid;
    struct cln_stage stage;
    int backward;
};

static float *floats(const struct cln_op *op, enum cln_role role)
{
    return op->role[role].handle;
}

/* ---- a patch: neighbouring channels of a sample at some positions ---- */

struct patch {
    uint64_t sample, channel, count; /* count ≤ CLN_BAND */
    uint64_t first, positions;
};

static uint64_t offset_of(const struct call *call, const struct patch *p)
{
    const struct cln_samples_grid *g = &call->grid;
    uint64_t in_sample =
        g->family == CLN_COLUMNS ? p->first * g->channels + p->channel : p->channel * g->positions + p->first;
    return p->sample * g->channels * g->positions + in_sample;
}

static struct cln_band band_of(const struct call *call, const struct patch *p)
{
    const struct cln_samples_grid *g = &call->grid;
    if (g->family == CLN_COLUMNS)
        return (struct cln_band){p->positions, 1, g->channels, 1, (uint32_t)p->count, 0};
    return (struct cln_band){1, p->positions, p->positions, g->positions, (uint32_t)p->count, 0};
}

struct patch_scalars {
    float m[CLN_BAND], c[CLN_BAND], a[CLN_BAND], q[CLN_BAND], b[CLN_BAND], bias[CLN_BAND];
};

/* Of a group, which its channels share. */
struct group_scalars {
    float m, c, rstd, q, r;
};

static struct group_scalars scalars_of(const struct cln_statistic *s)
{
    return (struct group_scalars){s->m, s->c, s->rstd, 0.0f, 0.0f};
}

/* of: the scalars of the patch's groups, from group `first` of the sample on. */
static struct cln_scalars fold(const struct call *call, const struct patch *p, const struct group_scalars *of,
                               uint64_t first, struct patch_scalars *t)
{
    const float *weight = floats(call->op, CLN_WEIGHT), *bias = floats(call->op, CLN_BIAS);
    for (uint64_t j = 0; j < p->count; j++) {
        uint64_t channel = p->channel + j;
        const struct group_scalars *s = &of[channel / call->grid.merged - first];
        t->m[j] = s->m;
        t->c[j] = s->c;
        t->a[j] = s->rstd * (weight ? weight[channel] : 1.0f);
        t->q[j] = s->q;
        t->bias[j] = bias ? bias[channel] : 0.0f;
        t->b[j] = call->backward ? s->r : t->bias[j];
    }
    return (struct cln_scalars){t->m, t->c, t->a, t->q, t->b, t->bias};
}

static void write_stretch(const struct call *call, uint64_t at, struct cln_stretch stretch, const struct cln_scalars *k)
{
    if (call->backward)
        cln_stage_gradient(&call->stage, call->kernels, at, stretch, k);
    else
        cln_stage_apply(&call->stage, call->kernels, at, stretch, k);
}

static void write_patch(const struct call *call, const struct patch *p, const struct cln_scalars *k)
{
    const struct cln_samples_grid *g = &call->grid;
    uint64_t at = offset_of(call, p);
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

/* ---- whole statistics groups ---- */

/* Statistics groups of a sample, and what their task keeps for every channel. */
struct tile {
    uint64_t sample, group, count;
    double *sums[SUMS];
};

static uint64_t statistic_index(const struct call *call, const struct tile *t, uint64_t j)
{
    return t->sample * call->grid.groups + t->group + j;
}

/* Channels `channel` on of a tile, at most a band of them. */
static struct patch patch_of(const struct call *call, const struct tile *t, uint64_t channel)
{
    uint64_t end = (t->group + t->count) * call->grid.merged;
    return (struct patch){t->sample, channel, least(CLN_BAND, end - channel), 0, call->grid.positions};
}

static void tile_moments(const struct call *call, const struct tile *t, struct cln_moments *of)
{
    const struct cln_samples_grid *g = &call->grid;
    double mean[CLN_BAND], m2[CLN_BAND];
    uint64_t first = t->group * g->merged;
    if (g->family == CLN_SEGMENTS) { /* a statistics group is one run */
        struct patch p = {t->sample, first, 0, 0, 0};
        uint64_t run = g->merged * g->positions;
        cln_stage_statistics(&call->stage, call->kernels, offset_of(call, &p),
                             (struct cln_band){1, run, run, run, (uint32_t)t->count, 0}, mean, m2);
        for (uint64_t j = 0; j < t->count; j++)
            of[j] = (struct cln_moments){(double)run, mean[j], m2[j]};
        return;
    }
    memset(of, 0, t->count * sizeof *of);
    for (uint64_t channel = first, end = first + t->count * g->merged; channel < end;) {
        struct patch p = patch_of(call, t, channel);
        cln_stage_statistics(&call->stage, call->kernels, offset_of(call, &p), band_of(call, &p), mean, m2);
        for (uint64_t j = 0; j < p.count; j++) {
            struct cln_moments part = {(double)g->positions, mean[j], m2[j]};
            cln_moments_add(&of[(channel + j) / g->merged - t->group], &part);
        }
        channel += p.count;
    }
}

static void write_tile(const struct call *call, const struct tile *t, const struct group_scalars *of)
{
    struct patch_scalars scalars;
    uint64_t end = (t->group + t->count) * call->grid.merged;
    for (uint64_t channel = t->group * call->grid.merged; channel < end;) {
        struct patch p = patch_of(call, t, channel);
        struct cln_scalars k = fold(call, &p, of, t->group, &scalars);
        write_patch(call, &p, &k);
        channel += p.count;
    }
}

static void forward_tile(const struct call *call, const struct tile *t)
{
    struct cln_moments moments[CLN_BAND];
    struct group_scalars of[CLN_BAND];
    tile_moments(call, t, moments);
    for (uint64_t j = 0; j < t->count; j++) {
        struct cln_statistic s = cln_statistic_keep(call->op, statistic_index(call, t, j), &moments[j]);
        of[j] = scalars_of(&s);
        if (t->sums[0]) { /* instance norm: a statistics group is a channel */
            t->sums[0][t->group + j] += (double)s.m + s.c;
            t->sums[1][t->group + j] += cln_statistic_running_var(call->op, moments[j].count, s.var);
        }
    }
    write_tile(call, t, of);
}

/* Σdy and Σdy·d of a patch's channels; what they add to the sums of the weights and to Σg, Σg·d of their groups. */
static void add_dots(const struct call *call, const struct tile *t, const struct patch *p,
                     const struct group_scalars *of, double (*sums)[SUMS])
{
    const struct cln_op *op = call->op;
    const float *weight = floats(op, CLN_WEIGHT);
    double dy[CLN_BAND], dyd[CLN_BAND];
    struct patch_scalars scalars;
    struct cln_scalars k = fold(call, p, of, t->group, &scalars);
    cln_stage_dots(&call->stage, call->kernels, offset_of(call, p), band_of(call, p), &k, dy, dyd);
    for (uint64_t j = 0; j < p->count; j++) {
        uint64_t channel = p->channel + j, group = channel / call->grid.merged - t->group;
        double w = weight ? weight[channel] : 1.0;
        sums[group][0] += w * dy[j];
        sums[group][1] += w * dyd[j];
        if (t->sums[0])
            t->sums[0][channel] += of[group].rstd * dyd[j];
        if (t->sums[1])
            t->sums[1][channel] += dy[j];
    }
}

static void backward_tile(const struct call *call, const struct tile *t)
{
    const struct cln_op *op = call->op;
    struct group_scalars of[CLN_BAND];
    double sums[CLN_BAND][SUMS];
    memset(sums, 0, t->count * sizeof sums[0]);
    for (uint64_t j = 0; j < t->count; j++) {
        struct cln_statistic s = cln_statistic_of(op, statistic_index(call, t, j));
        of[j] = scalars_of(&s);
    }
    uint64_t end = (t->group + t->count) * call->grid.merged;
    for (uint64_t channel = t->group * call->grid.merged; channel < end;) {
        struct patch p = patch_of(call, t, channel);
        add_dots(call, t, &p, of, sums);
        channel += p.count;
    }
    for (uint64_t j = 0; j < t->count; j++) {
        struct cln_statistic s = {of[j].m, of[j].c, of[j].rstd, 0.0f};
        struct cln_slope slope = cln_statistic_slope(op, &s, sums[j][0], sums[j][1]);
        of[j].q = slope.q;
        of[j].r = slope.r;
    }
    if (cln_bound(op, CLN_DX) || cln_bound(op, CLN_DZ))
        write_tile(call, t, of);
}

static double *block_sums(const struct call *call, uint64_t block, int plane)
{
    double *all = call->op->role[CLN_PARTIALS].handle;
    return all + (block * SUMS + (uint64_t)plane) * call->grid.channels;
}

/* The roles that the sums of a block end in. */
static const enum cln_role *summed(const struct call *call)
{
    static const enum cln_role forward[SUMS] = {CLN_RUNNING_MEAN, CLN_RUNNING_VAR},
                               backward[SUMS] = {CLN_DWEIGHT, CLN_DBIAS};
    return call->backward ? backward : forward;
}

/* A band of the statistics groups of a block's samples, tile by tile. */
static void tile_task(void *context, size_t i)
{
    const struct call *call = context;
    const struct cln_samples_grid *g = &call->grid;
    uint64_t block = i / g->bands, first = i % g->bands * g->band, end = least(g->groups, first + g->band);
    uint64_t s0 = block * g->block, s1 = least(g->samples, s0 + g->block);
    struct tile t = {0};
    for (int plane = 0; plane < SUMS; plane++) {
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

static void put_channel(const struct call *call, uint64_t channel, double first, double second)
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

/* Adds up the blocks in order. */
static void finish_channels(const struct call *call)
{
    for (uint64_t channel = 0; channel < call->grid.channels; channel++) {
        double total[SUMS] = {0};
        for (int plane = 0; plane < SUMS; plane++) {
            for (uint64_t b = 0; cln_bound(call->op, summed(call)[plane]) && b < call->grid.blocks; b++)
                total[plane] += block_sums(call, b, plane)[channel];
        }
        put_channel(call, channel, total[0], total[1]);
    }
}

/* ---- split statistics groups ---- */

static double *part_sums(const struct call *call, uint64_t part, int plane)
{
    double *all = call->op->role[CLN_PARTIALS].handle;
    return all + (part * SUMS + (uint64_t)plane) * call->op->view.groups;
}

static struct group_scalars *split_scalars(const struct call *call)
{
    void *end = part_sums(call, call->grid.parts, 0);
    return end;
}

static struct patch split_patch(const struct call *call, size_t i)
{
    const struct cln_samples_grid *g = &call->grid;
    uint64_t part = i % g->parts, strip = i / g->parts % g->strips, sample = i / g->parts / g->strips;
    return (struct patch){sample, strip * g->strip, least(g->strip, g->channels - strip * g->strip), part * g->part,
                          least(g->part, g->positions - part * g->part)};
}

static void read_task(void *context, size_t i)
{
    const struct call *call = context;
    const struct cln_op *op = call->op;
    struct patch p = split_patch(call, i);
    uint64_t at = offset_of(call, &p), group = p.sample * call->grid.channels + p.channel, part = i % call->grid.parts;
    double *first = part_sums(call, part, 0) + group, *second = part_sums(call, part, 1) + group;
    if (!call->backward) {
        cln_stage_statistics(&call->stage, call->kernels, at, band_of(call, &p), first, second);
        return;
    }
    struct group_scalars of[CLN_BAND];
    struct patch_scalars scalars;
    uint64_t first_group = p.channel / call->grid.merged, last_group = (p.channel + p.count - 1) / call->grid.merged;
    for (uint64_t j = first_group; j <= last_group; j++) {
        struct cln_statistic s = cln_statistic_of(op, p.sample * call->grid.groups + j);
        of[j - first_group] = scalars_of(&s);
    }
    struct cln_scalars k = fold(call, &p, of, first_group, &scalars);
    cln_stage_dots(&call->stage, call->kernels, at, band_of(call, &p), &k, first, second);
}

static struct cln_statistic merge_parts(const struct call *call, uint64_t statistic)
{
    const struct cln_samples_grid *g = &call->grid;
    struct cln_moments total = {0};
    for (uint64_t group = statistic * g->merged; group < (statistic + 1) * g->merged; group++) {
        for (uint64_t k = 0; k < g->parts; k++) {
            struct cln_moments part = {(double)least(g->part, g->positions - k * g->part), part_sums(call, k, 0)[group],
                                       part_sums(call, k, 1)[group]};
            cln_moments_add(&total, &part);
        }
    }
    return cln_statistic_keep(call->op, statistic, &total);
}

/* The sums of a group over its parts, into those of the first. */
static void sum_parts(const struct call *call, uint64_t group, double *dy, double *dyd)
{
    for (int plane = 0; plane < SUMS; plane++) {
        double sum = 0.0;
        for (uint64_t k = 0; k < call->grid.parts; k++)
            sum += part_sums(call, k, plane)[group];
        part_sums(call, 0, plane)[group] = sum;
    }
    *dy = part_sums(call, 0, 0)[group];
    *dyd = part_sums(call, 0, 1)[group];
}

static void merge_groups(const struct call *call)
{
    const struct cln_op *op = call->op;
    const struct cln_samples_grid *g = &call->grid;
    const float *weight = floats(op, CLN_WEIGHT);
    struct group_scalars *of = split_scalars(call);
    for (uint64_t i = 0; i < g->samples * g->groups; i++) {
        struct cln_statistic s = call->backward ? cln_statistic_of(op, i) : merge_parts(call, i);
        double sum_g = 0.0, sum_gd = 0.0;
        of[i] = scalars_of(&s);
        for (uint64_t group = i * g->merged; call->backward && group < (i + 1) * g->merged; group++) {
            double dy, dyd, w = weight ? weight[group % g->channels] : 1.0;
            sum_parts(call, group, &dy, &dyd);
            sum_g += w * dy;
            sum_gd += w * dyd;
        }
        struct cln_slope slope = cln_statistic_slope(op, &s, sum_g, sum_gd);
        of[i].q = slope.q;
        of[i].r = slope.r;
        if (cln_bound(op, CLN_RUNNING_MEAN)) { /* instance norm: into the place of what the first part had */
            part_sums(call, 0, 0)[i] = (double)s.m + s.c;
            part_sums(call, 0, 1)[i] = cln_statistic_running_var(op, (double)g->positions, s.var);
        }
    }
}

static void finish_split_channels(const struct call *call)
{
    const struct cln_samples_grid *g = &call->grid;
    for (uint64_t channel = 0; channel < g->channels; channel++) {
        double first = 0.0, second = 0.0;
        for (uint64_t s = 0; s < g->samples; s++) {
            uint64_t group = s * g->channels + channel;
            double a = part_sums(call, 0, 0)[group], b = part_sums(call, 0, 1)[group];
            first += call->backward ? split_scalars(call)[group / g->merged].rstd * b : a;
            second += call->backward ? a : b;
        }
        put_channel(call, channel, first, second);
    }
}

static void write_task(void *context, size_t i)
{
    const struct call *call = context;
    struct patch p = split_patch(call, i);
    struct patch_scalars scalars;
    const struct group_scalars *of = split_scalars(call) + p.sample * call->grid.groups;
    struct cln_scalars k = fold(call, &p, of, 0, &scalars);
    write_patch(call, &p, &k);
    if (call->stage.streaming)
        cln_cpu_stream_end();
}

/* ---- calls ---- */

static void run_split(const struct call *call, void *context, int sums, int writes)
{
    size_t tasks = (size_t)(call->grid.samples * call->grid.strips * call->grid.parts);
    cln_parallel(tasks, CLN_ON, read_task, context);
    merge_groups(call);
    if (sums)
        finish_split_channels(call);
    if (writes)
        cln_parallel(tasks, CLN_LAST, write_task, context);
}

size_t cln_samples_explain(char *text, size_t bytes, const struct cln_cpu_plan *plan, const struct cln_op *op)
{
    int backward = cln_bound(op, CLN_DY);
    struct cln_samples_grid g = cln_samples_grid_make(&op->view, backward);
    const char *what = backward ? "backward" : "forward", *in = backward ? "x and dy" : "x",
               *out = backward ? "dx" : "y", *past = cln_cpu_streams(plan, op) ? ", stored past the cache" : "";
    if (g.split)
        return (size_t)snprintf(text, bytes,
                                "%s: %s read twice, %s written once%s: few large groups, whose channels are cut into "
                                "%llu strips of a sample and %llu parts\n",
                                what, in, out, past, (unsigned long long)g.strips, (unsigned long long)g.parts);
    return (size_t)snprintf(
        text, bytes,
        "%s: %s read once from memory and once from a cache, %s written once%s: tiles of %llu groups "
        "go through all steps one by one, in %llu blocks of samples and %llu bands of groups\n",
        what, in, out, past, (unsigned long long)g.tile, (unsigned long long)g.blocks, (unsigned long long)g.bands);
}

void cln_samples_run(struct cln_cpu_plan *plan, const struct cln_op *op)
{
    struct call call = {.plan = plan, .op = op};
    uint64_t elements = cln_view_elements(&op->view);
    call.backward = cln_bound(op, CLN_DY);
    call.grid = cln_samples_grid_make(&op->view, call.backward);
    call.kernels = call.grid.family == CLN_SEGMENTS ? &plan->kernels.segments : &plan->kernels.columns;
    call.stage = cln_stage_make(&plan->kernels, op, cln_cpu_streams(plan, op));
    int sums = cln_bound(op, summed(&call)[0]) || cln_bound(op, summed(&call)[1]);
    if (call.grid.split) {
        run_split(&call, &call, sums, !call.backward || cln_bound(op, CLN_DX) || cln_bound(op, CLN_DZ));
        return;
    }
    cln_parallel((size_t)(call.grid.blocks * call.grid.bands), elements <= SMALL ? CLN_ALONE : CLN_LAST, tile_task,
                 &call);
    if (sums)
        finish_channels(&call);
}
