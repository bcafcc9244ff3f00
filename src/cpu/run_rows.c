#include "cpu/run_rows.h"

#include "base/integers.h"
#include "cpu/rows_call.h"
#include "cpu/simd/simd.h"
#include "cpu/threads.h"

#include <stdio.h>
#include <string.h>

enum {
    SMALL = 1 << 16,    /* elements up to which waking threads costs more than they do */
    ENOUGH_TASKS = 8,   /* from here on whole rows keep all threads busy */
    MOST_TASKS = 64,    /* of whole rows */
    MOST_PIECES = 32,   /* of all rows, split */
    LEAST_PIECE = 4096, /* elements */
    SHARE = 32,         /* samples that a block has at least if it keeps sums of weights: an eighth of the tensor */
    CHAIN = 8,          /* rows added up together */
    TILE = 1 << 13,     /* elements of a tile that is in the nearest cache when it is written, */
    BACKWARD_TILE = 1 << 15, /* and of one that has to have enough rows for a chain */
    GROUP = 1 << 21,         /* elements that are summed up, then written: what is in the last cache by then */
    WEIGHTS = 1 << 12        /* added up by one task */
};

static uint64_t tile_of(const struct cln_view *v, int backward)
{
    uint64_t rows = (backward ? BACKWARD_TILE : TILE) / v->inners, unit = most(v->cycle, backward ? CHAIN : 1);
    if (backward && rows < CHAIN && v->inners <= 2 * BACKWARD_TILE / CHAIN)
        rows = CHAIN;
    rows = most(1, least(rows, CLN_BAND));
    return rows > unit ? rows - rows % unit : rows;
}

static uint64_t blocks_of(uint64_t samples, int gathers)
{
    return most(1, least(gathers ? samples / SHARE : samples, gathers ? MOST_TASKS / 2 : MOST_TASKS));
}

struct cln_rows_grid cln_rows_grid_make(const struct cln_view *v, int backward, int gathers)
{
    struct cln_rows_grid g = {.samples = most(1, v->groups / v->cycle), .cycle = v->cycle, .length = v->inners};
    g.blocks = blocks_of(g.samples, gathers);
    g.block = divide_up(g.samples, g.blocks);
    g.blocks = divide_up(g.samples, g.block);
    g.band = divide_up(v->cycle, divide_up(MOST_TASKS / 2, g.blocks));
    if (g.blocks >= MOST_TASKS / 4) /* enough of them */
        g.band = v->cycle;
    g.bands = divide_up(v->cycle, g.band);
    g.tile = tile_of(v, backward);
    g.split = g.blocks * g.bands < ENOUGH_TASKS && cln_view_elements(v) > SMALL;
    if (g.split) {
        g.group = most(1, least(g.samples, GROUP / (v->cycle * v->inners)));
        if (gathers && g.samples < SHARE) /* too few for sums of every weight: memory is read twice */
            g.group = g.samples;
        else if (g.group > CHAIN)
            g.group -= g.group % CHAIN;
        uint64_t pieces = least(divide_up(MOST_PIECES, g.group * v->cycle), most(1, v->inners / LEAST_PIECE));
        g.piece = divide_up(divide_up(v->inners, pieces), 16) * 16;
        g.pieces = divide_up(v->inners, g.piece);
        g.column = divide_up(divide_up(v->inners * v->cycle, MOST_PIECES), 64) * 64;
        g.column = least(g.column, CLN_ROWS_COLUMN);
        g.columns = divide_up(v->inners, g.column);
    }
    return g;
}

enum { SCALARS = 5 };

/* PARTIALS, not split: double[blocks][CLN_ROWS_SUMS][weights]; split: double[CLN_ROWS_SUMS][rows of a group · pieces], double[CLN_ROWS_SUMS][weights] if there
 * are several groups, float[SCALARS][rows]. */
size_t cln_rows_partials_bytes(const struct cln_view *v)
{
    uint64_t samples = v->groups / v->cycle, blocks = blocks_of(samples, 1),
             sums = CLN_ROWS_SUMS * v->weights * sizeof(double);
    if (v->cycle >= ENOUGH_TASKS) /* never split */
        return (size_t)(blocks * sums);
    uint64_t rows = least(samples, ENOUGH_TASKS * SHARE) * v->cycle;
    uint64_t split = most(2 * rows, 2 * MOST_PIECES) * CLN_ROWS_SUMS * sizeof(double) + rows * SCALARS * sizeof(float) +
                     (samples < SHARE ? 0 : sums);
    int large = v->cycle == 1 && blocks < ENOUGH_TASKS && v->weights > SMALL; /* always split */
    return (size_t)most(split, large ? 0 : blocks * sums);
}

static float *floats(const struct cln_op *op, enum cln_role role)
{
    return op->role[role].handle;
}

struct cln_rows cln_rows_at(const struct cln_rows_call *call, uint64_t row, uint64_t count)
{
    const struct cln_op *op = call->op;
    return (struct cln_rows){.count = count,
                             .length = op->view.inners,
                             .stride = op->view.inners,
                             .first = row % op->view.cycle,
                             .cycle = op->view.cycle,
                             .weight = floats(op, CLN_WEIGHT),
                             .bias = floats(op, CLN_BIAS),
                             .streaming = call->stage.streaming};
}

struct cln_scalars cln_rows_source(const struct cln_op *op, uint64_t row)
{
    static const float zeros[CLN_BAND];
    if (op->from_y) /* which has x − mean */
        return (struct cln_scalars){.m = zeros,
                                    .c = zeros,
                                    .a = op->source == CLN_FROM_STATE
                                             ? floats(op, CLN_STATE) + 2 * op->view.groups + row
                                             : floats(op, CLN_RSTD) + row};
    if (op->source == CLN_FROM_STATE) {
        const float *state = floats(op, CLN_STATE) + row;
        return (struct cln_scalars){.m = state, .c = state + op->view.groups, .a = state + 2 * op->view.groups};
    }
    return (struct cln_scalars){
        .m = cln_bound(op, CLN_MEAN) ? floats(op, CLN_MEAN) + row : zeros, .c = zeros, .a = floats(op, CLN_RSTD) + row};
}

/* ---- whole rows ---- */

/* Planes of a tile's rows. */
struct planes {
    float m[CLN_BAND], c[CLN_BAND], rstd[CLN_BAND], var[CLN_BAND];
};

/* Writes what was asked for of the rows' statistics. */
static void keep_planes(const struct cln_op *op, uint64_t row, uint64_t count, const struct planes *p)
{
    size_t bytes = (size_t)count * sizeof(float);
    if (cln_bound(op, CLN_STATE)) {
        float *state = floats(op, CLN_STATE) + row;
        memcpy(state, p->m, bytes);
        memcpy(state + op->view.groups, p->c, bytes);
        memcpy(state + 2 * op->view.groups, p->rstd, bytes);
    }
    if (cln_bound(op, CLN_VAR))
        memcpy(floats(op, CLN_VAR) + row, p->var, bytes);
    if (cln_bound(op, CLN_RSTD))
        memcpy(floats(op, CLN_RSTD) + row, p->rstd, bytes);
    for (uint64_t j = 0; cln_bound(op, CLN_MEAN) && j < count; j++)
        floats(op, CLN_MEAN)[row + j] = p->m[j] + p->c[j];
}

static void forward_tile(const struct cln_rows_call *call, uint64_t row, uint64_t count, size_t ahead)
{
    const struct cln_op *op = call->op;
    struct cln_rows rows = cln_rows_at(call, row, count);
    uint64_t at = row * rows.length;
    double mean[CLN_BAND], m2[CLN_BAND];
    struct cln_row_sums sums = {count, (double)rows.length, mean, m2};
    struct planes p;
    struct cln_scalars k = {.m = p.m, .c = p.c, .a = p.rstd};
    if (cln_bound(op, CLN_SUM))
        cln_stage_sum(&call->before, at, count * rows.length);
    cln_stage_rows_statistics(&call->stage, at, &rows, mean, m2);
    call->kernels->finish(&sums, op->view.centred, op->eps, p.m, p.c, p.rstd, p.var);
    keep_planes(op, row, count, &p);
    rows.ahead = ahead;
    cln_stage_rows_apply(&call->stage, at, &rows, &k);
}

static void backward_tile(const struct cln_rows_call *call, uint64_t row, uint64_t count, size_t ahead,
                          const struct cln_gather *gather)
{
    const struct cln_op *op = call->op;
    struct cln_rows rows = cln_rows_at(call, row, count);
    struct cln_scalars k = cln_rows_source(op, row);
    uint64_t at = row * rows.length;
    float q[CLN_BAND] = {0}, r[CLN_BAND] = {0};
    if (cln_bound(op, CLN_DX)) {
        double sum_g[CLN_BAND], sum_gd[CLN_BAND];
        struct cln_row_sums sums = {count, (double)rows.length, sum_g, sum_gd};
        cln_stage_rows_dots(&call->stage, at, &rows, &k, sum_g, sum_gd);
        call->kernels->slopes(&sums, op->view.centred, k.a, q, r);
    }
    k.q = q;
    k.b = r;
    rows.ahead = ahead;
    cln_stage_rows_gradient(&call->stage, at, &rows, &k, gather);
}

static double *block_sums(const struct cln_op *op, uint64_t block, int plane)
{
    double *all = op->role[CLN_PARTIALS].handle;
    return all + (block * CLN_ROWS_SUMS + (uint64_t)plane) * op->view.weights;
}

/* Where a block adds up what is wanted, cleared from weight w0 to w1. */
static struct cln_gather gather_of(const struct cln_rows_call *call, uint64_t block, uint64_t w0, uint64_t w1)
{
    struct cln_gather sums = {0};
    if (call->backward && cln_bound(call->op, CLN_DWEIGHT))
        sums.dweight = block_sums(call->op, block, 0);
    if (call->backward && cln_bound(call->op, CLN_DBIAS))
        sums.dbias = block_sums(call->op, block, 1);
    if (sums.dweight)
        memset(sums.dweight + w0, 0, (size_t)(w1 - w0) * sizeof(double));
    if (sums.dbias)
        memset(sums.dbias + w0, 0, (size_t)(w1 - w0) * sizeof(double));
    return sums;
}

/* A band of the rows of a block's samples, tile by tile; while one is written the next one is fetched. */
static void tile_task(void *context, size_t i)
{
    const struct cln_rows_call *call = context;
    const struct cln_rows_grid *g = &call->grid;
    uint64_t block = i / g->bands, k0 = i % g->bands * g->band, k1 = least(g->cycle, k0 + g->band);
    uint64_t s0 = block * g->block, s1 = least(g->samples, s0 + g->block);
    struct cln_gather sums = gather_of(call, block, k0 * g->length, k1 * g->length);
    /* Samples whose rows of the band follow each other; a tile is of whole samples, or of one. */
    uint64_t together = g->bands == 1 && g->tile >= g->cycle ? s1 - s0 : 1;
    for (uint64_t s = s0; s < s1; s += together) {
        uint64_t end = (s + together - 1) * g->cycle + k1;
        for (uint64_t row = s * g->cycle + k0, count; row < end; row += count) {
            count = least(g->tile, end - row);
            size_t ahead = row + count < end ? count * g->length : 0;
            if (call->backward)
                backward_tile(call, row, count, ahead, &sums);
            else
                forward_tile(call, row, count, ahead);
        }
    }
    if (call->stage.streaming)
        cln_cpu_stream_end();
}

/* Adds up the blocks in order. */
static void weights_task(void *context, size_t i)
{
    const struct cln_rows_call *call = context;
    const struct cln_op *op = call->op;
    const enum cln_role roles[CLN_ROWS_SUMS] = {CLN_DWEIGHT, CLN_DBIAS};
    uint64_t first = i * WEIGHTS, end = least(op->view.weights, first + WEIGHTS);
    for (int plane = 0; plane < CLN_ROWS_SUMS; plane++) {
        if (!cln_bound(op, roles[plane]))
            continue;
        for (uint64_t w = first; w < end; w++) {
            double sum = 0.0;
            for (uint64_t block = 0; block < call->grid.blocks; block++)
                sum += block_sums(op, block, plane)[w];
            cln_rows_put(op, roles[plane], w, sum);
        }
    }
}

/* ---- calls ---- */

/* Instance norm of (n, c): a row is one value, which is its mean. Before x may be written over. */
static void commit_values(const struct cln_rows_call *call)
{
    const struct cln_op *op = call->op;
    uint64_t weights = op->view.weights, count;
    for (uint64_t first = 0; first < weights; first += count) {
        double sum[CLN_BAND] = {0};
        float x[CLN_BAND];
        count = least(CLN_BAND, weights - first);
        for (uint64_t s = 0; s < call->grid.samples; s++) {
            cln_stage_widen(&call->stage, s * weights + first, count, x);
            for (uint64_t c = 0; c < count; c++)
                sum[c] += (double)x[c];
        }
        for (uint64_t c = 0; c < count; c++)
            cln_statistic_commit(call->plan, op, first + c, sum[c] / (double)call->grid.samples, 0.0);
    }
}

static void run_whole(const struct cln_rows_call *call, enum cln_parallel_hint hint, int gathers)
{
    enum cln_parallel_hint last = hint == CLN_ON ? CLN_LAST : hint;
    void *context = (void *)(uintptr_t)call; /* tasks only read it */
    cln_parallel((size_t)(call->grid.blocks * call->grid.bands), gathers ? hint : last, tile_task, context);
    if (gathers)
        cln_parallel((size_t)divide_up(call->op->view.weights, WEIGHTS), last, weights_task, context);
}

void cln_rows_explain(struct cln_explained *e, const struct cln_view *view, int backward)
{
    struct cln_rows_grid g = cln_rows_grid_make(view, backward, backward);
    e->fused = !g.split || g.group * g.cycle * g.length <= GROUP;
    if (g.split)
        snprintf(e->how, sizeof e->how,
                 "%s; few long rows, %llu at a time, are summed up in %llu pieces each, then %llu columns at a time "
                 "are written",
                 e->fused ? "these rows fit the last cache" : "these rows do not fit the last cache",
                 (unsigned long long)g.group * g.cycle, (unsigned long long)g.pieces, (unsigned long long)g.column);
    else
        snprintf(e->how, sizeof e->how,
                 "rows fit a core's cache; tiles of %llu rows go through all steps one by one, in %llu blocks",
                 (unsigned long long)g.tile, (unsigned long long)g.blocks * g.bands);
}

void cln_rows_run(struct cln_cpu_plan *plan, const struct cln_op *op)
{
    struct cln_rows_call call = {.plan = plan, .op = op, .kernels = &plan->kernels.rows};
    uint64_t elements = cln_view_elements(&op->view);
    call.backward = cln_bound(op, CLN_DY);
    int gathers = cln_bound(op, CLN_DWEIGHT) || cln_bound(op, CLN_DBIAS);
    call.grid = cln_rows_grid_make(&op->view, call.backward, gathers);
    call.stage = call.before = cln_stage_make(&plan->kernels, op, cln_cpu_streams(plan, op));
    struct cln_op of_sum = *op;
    if (cln_bound(op, CLN_SUM)) {
        of_sum.role[CLN_X] = op->role[CLN_SUM];
        call.op = call.stage.op = &of_sum;
    }
    if (cln_bound(op, CLN_RUNNING_MEAN))
        commit_values(&call);
    if (call.grid.split)
        cln_rows_run_split(&call);
    else
        run_whole(&call, elements <= SMALL ? CLN_ALONE : CLN_ON, gathers);
}
