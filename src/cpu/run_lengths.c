#include "cpu/run_lengths.h"

#include "base/integers.h"
#include "cpu/samples_patch.h"
#include "cpu/simd/simd.h"
#include "cpu/threads.h"

#include <stdio.h>
#include <string.h>

enum {
    SMALL = 1 << 16,      /* elements up to which waking threads costs more than they do */
    TILE = 1 << 15,       /* elements of a patch of segments */
    ENOUGH_TASKS = 32,    /* all patches together */
    LEAST_RUN = 4096,     /* positions of a patch of segments, */
    LEAST_ROWS = 64,      /* and of one of columns */
    FINISHED_GROUPS = 256 /* statistics groups of a sample that are finished by one task */
};

/* How a call is cut: into strips of channels and pieces of positions. */
struct cut {
    uint64_t strips, strip, pieces, piece;
};

struct run {
    struct cln_samples_call call; /* its grid has the shape alone; a batch norm's channels are groups of one */
    const int32_t *lengths;
    int is_batch;   /* a statistics group is a channel of all samples */
    int is_channel; /* scalars are those of channels: of a batch norm, or of running statistics */
    struct cut cut;
    double *sums;                      /* [pieces][CLN_SAMPLES_SUMS][samples][channels] */
    struct cln_group_scalars *scalars; /* one a statistics group, or a channel */
};

static float *floats(const struct cln_op *op, enum cln_role role)
{
    return op->role[role].handle;
}

static struct cut cut_of(const struct cln_view *v)
{
    uint64_t channels = v->weights, samples = most(1, v->groups / channels);
    int columns = v->family == CLN_COLUMNS;
    struct cut c = {.strip = least(channels, columns ? CLN_BAND : most(1, least(CLN_BAND, TILE / v->positions)))};
    c.strips = divide_up(channels, c.strip);
    uint64_t wanted = divide_up(ENOUGH_TASKS, samples * c.strips),
             most_pieces = v->positions / (columns ? LEAST_ROWS : LEAST_RUN);
    c.piece = divide_up(v->positions, most(1, least(wanted, most_pieces)));
    c.pieces = divide_up(v->positions, c.piece);
    return c;
}

size_t cln_lengths_partials_bytes(const clnorm_desc *desc)
{
    /* Of n samples and fewer: pieces·n is never above n + ENOUGH_TASKS. */
    uint64_t channels = (uint64_t)desc->c, samples = (uint64_t)desc->n;
    return (size_t)(((samples + ENOUGH_TASKS) * CLN_SAMPLES_SUMS * sizeof(double) +
                     most(1, samples) * sizeof(struct cln_group_scalars)) *
                    channels);
}

/* ---- patches ---- */

/* Valid positions of a sample, and of its k-th piece. */
static uint64_t valid_of(const struct run *r, uint64_t sample)
{
    int32_t length = r->lengths[sample];
    return length < 0 ? 0 : least((uint64_t)length, r->call.grid.positions);
}

static uint64_t valid_of_piece(const struct run *r, uint64_t sample, uint64_t k)
{
    uint64_t valid = valid_of(r, sample), first = k * r->cut.piece;
    return valid > first ? least(valid - first, r->cut.piece) : 0;
}

/* Patch i, all of it. */
static struct cln_patch patch_of(const struct run *r, size_t i, uint64_t *piece)
{
    const struct cut *c = &r->cut;
    uint64_t strip = i / c->pieces % c->strips, channel = strip * c->strip;
    *piece = i % c->pieces;
    return (struct cln_patch){i / c->pieces / c->strips, channel, least(c->strip, r->call.grid.channels - channel),
                              *piece * c->piece, least(c->piece, r->call.grid.positions - *piece * c->piece)};
}

static double *sums_at(const struct run *r, uint64_t piece, int plane, uint64_t sample)
{
    const struct cln_samples_grid *g = &r->call.grid;
    return r->sums + ((piece * CLN_SAMPLES_SUMS + (uint64_t)plane) * g->samples + sample) * g->channels;
}

/* The scalars of a sample's statistics groups. */
static struct cln_group_scalars *scalars_of(const struct run *r, uint64_t sample)
{
    return r->scalars + (r->is_channel ? 0 : sample * r->call.grid.groups);
}

static void read_task(void *context, size_t i)
{
    const struct run *r = context;
    uint64_t piece;
    struct cln_patch p = patch_of(r, i, &piece);
    double *first = sums_at(r, piece, 0, p.sample) + p.channel, *second = sums_at(r, piece, 1, p.sample) + p.channel;
    p.positions = valid_of_piece(r, p.sample, piece);
    if (p.positions == 0) {
        memset(first, 0, p.count * sizeof *first);
        memset(second, 0, p.count * sizeof *second);
        return;
    }
    uint64_t at = cln_patch_offset(&r->call, &p);
    struct cln_band band = cln_patch_band(&r->call, &p);
    if (!r->call.backward) {
        cln_stage_statistics(&r->call.stage, r->call.kernels, at, band, first, second);
        return;
    }
    struct cln_patch_scalars scalars;
    struct cln_scalars k = cln_patch_fold(&r->call, &p, scalars_of(r, p.sample), 0, &scalars);
    cln_stage_dots(&r->call.stage, r->call.kernels, at, band, &k, first, second);
}

/* A patch of an output: zeros. */
static void zero(const struct run *r, enum cln_role role, const struct cln_patch *p)
{
    const struct cln_samples_grid *g = &r->call.grid;
    size_t bytes = cln_role_bytes(r->call.op, role);
    uint64_t at = cln_patch_offset(&r->call, p);
    int columns = g->family == CLN_COLUMNS;
    uint64_t runs = columns ? p->positions : p->count, run = columns ? p->count : p->positions,
             stride = columns ? g->channels : g->positions;
    if (run == stride) {
        run *= runs;
        runs = 1;
    }
    for (uint64_t i = 0; i < runs; i++)
        memset(cln_stage_at(r->call.op, role, at + i * stride), 0, run * bytes);
}

static void zero_padding(const struct run *r, const struct cln_patch *p)
{
    static const enum cln_role outputs[] = {CLN_Y, CLN_DX, CLN_DZ};
    const uint32_t adds[] = {0, CLNORM_ADD_DX, CLNORM_ADD_DZ};
    const struct cln_op *op = r->call.op;
    for (int i = r->call.backward; i < (r->call.backward ? 3 : 1); i++) {
        if (cln_bound(op, outputs[i]) && !(op->accumulate & adds[i]))
            zero(r, outputs[i], p);
    }
}

static void write_task(void *context, size_t i)
{
    const struct run *r = context;
    uint64_t piece;
    struct cln_patch p = patch_of(r, i, &piece), padding = p;
    p.positions = valid_of_piece(r, p.sample, piece);
    padding.first += p.positions;
    padding.positions -= p.positions;
    if (p.positions > 0) {
        struct cln_patch_scalars scalars;
        struct cln_scalars k = cln_patch_fold(&r->call, &p, scalars_of(r, p.sample), 0, &scalars);
        cln_patch_write(&r->call, &p, &k);
    }
    if (padding.positions > 0)
        zero_padding(r, &padding);
    if (r->call.stage.streaming)
        cln_cpu_stream_end();
}

/* ---- statistics groups ---- */

/* What the samples from `first` to below `end` have of a statistics group: group j of each. */
static struct cln_moments moments_of(const struct run *r, uint64_t j, uint64_t first, uint64_t end)
{
    uint64_t merged = r->call.grid.merged;
    struct cln_moments total = {0};
    for (uint64_t s = first; s < end; s++) {
        for (uint64_t channel = j * merged; channel < (j + 1) * merged; channel++) {
            for (uint64_t k = 0; k < r->cut.pieces; k++) {
                struct cln_moments part = {(double)valid_of_piece(r, s, k), sums_at(r, k, 0, s)[channel],
                                           sums_at(r, k, 1, s)[channel]};
                cln_moments_add(&total, &part);
            }
        }
    }
    return total;
}

/* A channel's running statistics take its batch's, or the mean over the samples that have values. */
static void finish_forward(const struct run *r, uint64_t j)
{
    const struct cln_op *op = r->call.op;
    const struct cln_samples_grid *g = &r->call.grid;
    uint64_t sets = r->is_batch ? 1 : g->samples, each = r->is_batch ? g->samples : 1;
    double mean = 0.0, var = 0.0, sets_with_values = 0.0;
    for (uint64_t set = 0; set < sets; set++) {
        struct cln_moments all = moments_of(r, j, set * each, (set + 1) * each);
        struct cln_statistic s = cln_statistic_keep(op, set * g->groups + j, &all);
        r->scalars[set * g->groups + j] = cln_group_scalars_of(&s);
        if (all.count == 0.0)
            continue;
        mean += (double)s.m + s.c;
        var += cln_statistic_running_var(op, all.count, s.var);
        sets_with_values += 1.0;
    }
    if (cln_bound(op, CLN_RUNNING_MEAN) && sets_with_values > 0.0)
        cln_statistic_commit(r->call.plan, op, j, mean / sets_with_values, var / sets_with_values);
}

/* Σdy or Σdy·d of a channel of a sample. */
static double dots_of(const struct run *r, int plane, uint64_t sample, uint64_t channel)
{
    double sum = 0.0;
    for (uint64_t k = 0; k < r->cut.pieces; k++)
        sum += sums_at(r, k, plane, sample)[channel];
    return sum;
}

static void put_weight(const struct run *r, uint64_t channel)
{
    const struct cln_op *op = r->call.op;
    float *dweight = floats(op, CLN_DWEIGHT), *dbias = floats(op, CLN_DBIAS);
    double dy = 0.0, dyx = 0.0;
    for (uint64_t s = 0; s < r->call.grid.samples; s++) {
        dy += dots_of(r, 0, s, channel);
        dyx += scalars_of(r, s)[channel / r->call.grid.merged].rstd * dots_of(r, 1, s, channel);
    }
    if (dweight)
        dweight[channel] = cln_statistic_total(op, CLNORM_ADD_DWEIGHT, dweight[channel], (float)dyx);
    if (dbias)
        dbias[channel] = cln_statistic_total(op, CLNORM_ADD_DBIAS, dbias[channel], (float)dy);
}

static void finish_backward(const struct run *r, uint64_t j)
{
    const struct cln_op *op = r->call.op;
    const struct cln_samples_grid *g = &r->call.grid;
    const float *weight = floats(op, CLN_WEIGHT);
    uint64_t sets = r->is_batch ? 1 : g->samples, each = r->is_batch ? g->samples : 1;
    for (uint64_t channel = j * g->merged; channel < (j + 1) * g->merged; channel++)
        put_weight(r, channel);
    for (uint64_t set = 0; set < sets && op->source != CLN_FROM_RUNNING; set++) {
        struct cln_group_scalars *of = &r->scalars[set * g->groups + j];
        struct cln_statistic s = {of->m, of->c, of->rstd, 0.0f};
        double sum_g = 0.0, sum_gd = 0.0, count = 0.0;
        for (uint64_t sample = set * each; sample < (set + 1) * each; sample++) {
            count += (double)(valid_of(r, sample) * g->merged);
            for (uint64_t channel = j * g->merged; channel < (j + 1) * g->merged; channel++) {
                double w = weight ? weight[channel] : 1.0;
                sum_g += w * dots_of(r, 0, sample, channel);
                sum_gd += w * dots_of(r, 1, sample, channel);
            }
        }
        if (count == 0.0)
            continue;
        struct cln_slope slope = cln_statistic_slope(op, &s, count, sum_g, sum_gd);
        of->q = slope.q;
        of->r = slope.r;
    }
}

static void finish_task(void *context, size_t i)
{
    const struct run *r = context;
    uint64_t first = i * FINISHED_GROUPS, end = least(r->call.grid.groups, first + FINISHED_GROUPS);
    for (uint64_t j = first; j < end; j++) {
        if (r->call.backward)
            finish_backward(r, j);
        else
            finish_forward(r, j);
    }
}

/* Where the statistics are there before anything is read. */
static void get_scalars(const struct run *r)
{
    const struct cln_op *op = r->call.op;
    uint64_t count = r->is_channel ? r->call.grid.channels : cln_view_statistics(&op->view);
    for (uint64_t i = 0; i < count; i++) {
        struct cln_statistic s;
        if (op->source == CLN_FROM_RUNNING)
            s = (struct cln_statistic){floats(op, CLN_RUNNING_MEAN)[i], 0.0f,
                                       cln_rstd(floats(op, CLN_RUNNING_VAR)[i], op->eps), 0.0f};
        else
            s = cln_statistic_of(op, i);
        r->scalars[i] = cln_group_scalars_of(&s);
    }
}

/* ---- calls ---- */

void cln_lengths_explain(struct cln_explained *e, const clnorm_desc *desc)
{
    struct cln_view v = cln_view_per_sample(desc, (uint64_t)desc->n);
    struct cut c = cut_of(&v);
    e->fused = 0;
    snprintf(e->how, sizeof e->how,
             "samples have lengths of their own; their channels are cut into %llu strips and %llu pieces",
             (unsigned long long)c.strips, (unsigned long long)c.pieces);
}

/* Lengths that do not fit are told, and count as what is nearest. */
static void check_lengths(struct cln_cpu_plan *plan, const struct run *r)
{
    int out = 0;
    for (uint64_t s = 0; s < r->call.grid.samples; s++)
        out |= r->lengths[s] < 0 || (uint64_t)r->lengths[s] > r->call.grid.positions;
    if (out)
        atomic_fetch_or(&plan->found, CLNORM_FOUND_LENGTH);
}

void cln_lengths_run(struct cln_cpu_plan *plan, const clnorm_desc *desc, const struct cln_op *op)
{
    struct cln_view v = cln_view_per_sample(desc, op->samples);
    struct run r = {.call = {.plan = plan, .op = op, .backward = cln_bound(op, CLN_DY)},
                    .lengths = op->role[CLN_LENGTHS].handle,
                    .is_batch = desc->norm == CLNORM_BATCH,
                    .cut = cut_of(&v)};
    r.call.grid = (struct cln_samples_grid){.family = v.family,
                                            .samples = op->samples,
                                            .channels = v.weights,
                                            .positions = v.positions,
                                            .merged = v.merged,
                                            .groups = v.weights / v.merged};
    r.call.kernels = v.family == CLN_SEGMENTS ? &plan->kernels.segments : &plan->kernels.columns;
    r.call.stage = cln_stage_make(&plan->kernels, op, cln_cpu_streams(plan, op));
    r.is_channel = r.is_batch || op->source == CLN_FROM_RUNNING;
    r.sums = op->role[CLN_PARTIALS].handle;
    r.scalars = (void *)sums_at(&r, r.cut.pieces, 0, 0);
    int wants_weights = cln_bound(op, CLN_DWEIGHT) || cln_bound(op, CLN_DBIAS),
        writes = !r.call.backward || cln_bound(op, CLN_DX) || cln_bound(op, CLN_DZ),
        reads = r.call.backward ? wants_weights || op->source != CLN_FROM_RUNNING : op->source != CLN_FROM_RUNNING;
    size_t tasks = (size_t)(op->samples * r.cut.strips * r.cut.pieces);
    enum cln_parallel_hint hint = op->elements <= SMALL ? CLN_ALONE : CLN_ON;
    check_lengths(plan, &r);
    if (r.call.backward || op->source == CLN_FROM_RUNNING)
        get_scalars(&r);
    if (reads) {
        cln_parallel(tasks, hint, read_task, &r);
        cln_parallel((size_t)divide_up(r.call.grid.groups, FINISHED_GROUPS), hint, finish_task, &r);
    }
    if (writes)
        cln_parallel(tasks, hint == CLN_ON ? CLN_LAST : hint, write_task, &r);
}
