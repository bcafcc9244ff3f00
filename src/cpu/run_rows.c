#include "cpu/run_rows.h"

#include "cpu/simd/simd.h"
#include "cpu/stage.h"
#include "cpu/statistic.h"
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
    MOST_COLUMN = 1024,
    WEIGHTS = 1 << 12 /* added up by one task */
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
        uint64_t pieces = least(most(1, MOST_PIECES / most(1, v->groups)), most(1, v->inners / LEAST_PIECE));
        g.piece = divide_up(divide_up(v->inners, pieces), 16) * 16;
        g.pieces = divide_up(v->inners, g.piece);
        g.column = divide_up(divide_up(v->inners * v->cycle, MOST_PIECES), 64) * 64;
        g.column = least(g.column, MOST_COLUMN);
        g.columns = divide_up(v->inners, g.column);
    }
    return g;
}

enum { SUMS = 2, SCALARS = 5 };

/* PARTIALS, not split: double[blocks][SUMS][weights]; split: double[SUMS][rows · pieces], float[SCALARS][rows]. */
size_t cln_rows_partials_bytes(const struct cln_view *v)
{
    uint64_t samples = v->groups / v->cycle, whole = blocks_of(samples, 1) * SUMS * v->weights * sizeof(double);
    if (v->cycle >= ENOUGH_TASKS)
        return (size_t)whole;
    uint64_t rows = least(samples, ENOUGH_TASKS * SHARE) * v->cycle;
    return (size_t)most(whole, most(rows, MOST_PIECES) * SUMS * sizeof(double) + rows * SCALARS * sizeof(float));
}

struct call {
    struct cln_cpu_plan *plan;
    const struct cln_op *op;
    const struct cln_rows_kernels *kernels;
    struct cln_rows_grid grid;
    struct cln_stage stage;
    struct cln_stage
        before; /* CLNORM_RESIDUAL_BEFORE: of x and z as they come; everything else has their sum as its x */
    int backward;
};

static float *floats(const struct cln_op *op, enum cln_role role)
{
    return op->role[role].handle;
}

static struct cln_rows rows_at(const struct call *call, uint64_t row, uint64_t count)
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

static void forward_tile(const struct call *call, uint64_t row, uint64_t count, size_t ahead)
{
    const struct cln_op *op = call->op;
    struct cln_rows rows = rows_at(call, row, count);
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

/* Where the statistics of `row` and those behind it are. */
static struct cln_scalars source_of(const struct cln_op *op, uint64_t row)
{
    static const float zeros[CLN_BAND];
    if (op->source == CLN_FROM_STATE) {
        const float *state = floats(op, CLN_STATE) + row;
        return (struct cln_scalars){.m = state, .c = state + op->view.groups, .a = state + 2 * op->view.groups};
    }
    return (struct cln_scalars){
        .m = cln_bound(op, CLN_MEAN) ? floats(op, CLN_MEAN) + row : zeros, .c = zeros, .a = floats(op, CLN_RSTD) + row};
}

static void backward_tile(const struct call *call, uint64_t row, uint64_t count, size_t ahead,
                          const struct cln_gather *gather)
{
    const struct cln_op *op = call->op;
    struct cln_rows rows = rows_at(call, row, count);
    struct cln_scalars k = source_of(op, row);
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
    return all + (block * SUMS + (uint64_t)plane) * op->view.weights;
}

/* Where a block adds up what is wanted, cleared from weight w0 to w1. */
static struct cln_gather gather_of(const struct call *call, uint64_t block, uint64_t w0, uint64_t w1)
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
    const struct call *call = context;
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

static void put_total(const struct cln_op *op, enum cln_role role, uint64_t w, double sum)
{
    uint32_t flag = role == CLN_DWEIGHT ? CLNORM_ADD_DWEIGHT : CLNORM_ADD_DBIAS;
    floats(op, role)[w] = cln_statistic_total(op, flag, floats(op, role)[w], (float)sum);
}

/* Adds up the blocks in order. */
static void weights_task(void *context, size_t i)
{
    const struct call *call = context;
    const struct cln_op *op = call->op;
    const enum cln_role roles[SUMS] = {CLN_DWEIGHT, CLN_DBIAS};
    uint64_t first = i * WEIGHTS, end = least(op->view.weights, first + WEIGHTS);
    for (int plane = 0; plane < SUMS; plane++) {
        if (!cln_bound(op, roles[plane]))
            continue;
        for (uint64_t w = first; w < end; w++) {
            double sum = 0.0;
            for (uint64_t block = 0; block < call->grid.blocks; block++)
                sum += block_sums(op, block, plane)[w];
            put_total(op, roles[plane], w, sum);
        }
    }
}

/* ---- split rows ---- */

static double *piece_sums(const struct call *call, int plane)
{
    double *all = call->op->role[CLN_PARTIALS].handle;
    return all + (uint64_t)plane * call->op->view.groups * call->grid.pieces;
}

/* Scalars of the rows that have the weights of row `k` of a sample, one after the other. */
static float *split_scalars(const struct call *call, int plane, uint64_t k)
{
    void *end = piece_sums(call, SUMS);
    return (float *)end + (uint64_t)plane * call->op->view.groups + k * call->grid.samples;
}

static void piece_task(void *context, size_t i)
{
    const struct call *call = context;
    const struct cln_op *op = call->op;
    uint64_t row = i / call->grid.pieces, first = i % call->grid.pieces * call->grid.piece;
    struct cln_rows rows = rows_at(call, row, 1);
    uint64_t at = row * rows.stride + first;
    double *s = piece_sums(call, 0) + i, *t = piece_sums(call, 1) + i;
    rows.length = least(call->grid.piece, rows.length - first);
    rows.weight = rows.weight ? rows.weight + rows.first * rows.stride + first : NULL;
    rows.bias = rows.bias ? rows.bias + rows.first * rows.stride + first : NULL;
    rows.first = 0;
    rows.cycle = 1;
    if (cln_bound(op, CLN_SUM))
        cln_stage_sum(&call->before, at, rows.length);
    if (!call->backward) {
        cln_stage_rows_statistics(&call->stage, at, &rows, s, t);
    } else {
        struct cln_statistic of = cln_statistic_of(op, row);
        struct cln_scalars k = {.m = &of.m, .c = &of.c, .a = &of.rstd};
        cln_stage_rows_dots(&call->stage, at, &rows, &k, s, t);
    }
}

static struct cln_statistic merge_pieces(const struct call *call, uint64_t row)
{
    struct cln_moments total = {0};
    uint64_t length = call->grid.length, first = row * call->grid.pieces;
    for (uint64_t i = 0; i < call->grid.pieces; i++) {
        double count = (double)least(call->grid.piece, length - i * call->grid.piece);
        struct cln_moments part = {count, piece_sums(call, 0)[first + i], piece_sums(call, 1)[first + i]};
        cln_moments_add(&total, &part);
    }
    return cln_statistic_keep(call->op, row, &total);
}

static void merge_rows(const struct call *call)
{
    const struct cln_op *op = call->op;
    uint64_t pieces = call->grid.pieces;
    for (uint64_t row = 0; row < op->view.groups; row++) {
        uint64_t k = row % call->grid.cycle, j = row / call->grid.cycle;
        struct cln_statistic s = call->backward ? cln_statistic_of(op, row) : merge_pieces(call, row);
        struct cln_slope slope = {0};
        if (call->backward && cln_bound(op, CLN_DX)) {
            double sum_g = 0.0, sum_gd = 0.0;
            for (uint64_t i = row * pieces; i < (row + 1) * pieces; i++) {
                sum_g += piece_sums(call, 0)[i];
                sum_gd += piece_sums(call, 1)[i];
            }
            slope = cln_statistic_slope(op, &s, sum_g, sum_gd);
        }
        split_scalars(call, 0, k)[j] = s.m;
        split_scalars(call, 1, k)[j] = s.c;
        split_scalars(call, 2, k)[j] = s.rstd;
        split_scalars(call, 3, k)[j] = slope.q;
        split_scalars(call, 4, k)[j] = slope.r;
    }
}

static void put_sums(const struct cln_op *op, enum cln_role role, const double *sums, uint64_t first, uint64_t count)
{
    for (uint64_t i = 0; cln_bound(op, role) && i < count; i++)
        put_total(op, role, first + i, sums[i]);
}

/* The same columns of all rows that have the same weights. */
static void column_task(void *context, size_t i)
{
    const struct call *call = context;
    const struct cln_op *op = call->op;
    const struct cln_rows_grid *g = &call->grid;
    uint64_t k = i / g->columns, first = i % g->columns * g->column, at = k * g->length + first;
    struct cln_rows rows = rows_at(call, 0, g->samples);
    struct cln_scalars scalars = {.m = split_scalars(call, 0, k),
                                  .c = split_scalars(call, 1, k),
                                  .a = split_scalars(call, 2, k),
                                  .q = split_scalars(call, 3, k),
                                  .b = split_scalars(call, 4, k)};
    rows.length = least(g->column, g->length - first);
    rows.stride = g->cycle * g->length;
    rows.cycle = 1;
    rows.weight = rows.weight ? rows.weight + at : NULL;
    rows.bias = rows.bias ? rows.bias + at : NULL;
    if (!call->backward) {
        cln_stage_rows_apply(&call->stage, at, &rows, &scalars);
    } else {
        double dweight[MOST_COLUMN] = {0}, dbias[MOST_COLUMN] = {0};
        struct cln_gather sums = {cln_bound(op, CLN_DWEIGHT) ? dweight : NULL, cln_bound(op, CLN_DBIAS) ? dbias : NULL};
        cln_stage_rows_gradient(&call->stage, at, &rows, &scalars, &sums);
        put_sums(op, CLN_DWEIGHT, dweight, at, rows.length);
        put_sums(op, CLN_DBIAS, dbias, at, rows.length);
    }
    if (call->stage.streaming)
        cln_cpu_stream_end();
}

/* ---- calls ---- */

/* Instance norm of (n, c): a row is one value, which is its mean. Before x may be written over. */
static void commit_values(const struct call *call)
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

static void run_whole(const struct call *call, enum cln_parallel_hint hint, int gathers)
{
    enum cln_parallel_hint last = hint == CLN_ON ? CLN_LAST : hint;
    void *context = (void *)(uintptr_t)call; /* tasks only read it */
    cln_parallel((size_t)(call->grid.blocks * call->grid.bands), gathers ? hint : last, tile_task, context);
    if (gathers)
        cln_parallel((size_t)divide_up(call->op->view.weights, WEIGHTS), last, weights_task, context);
}

static void run_split(const struct call *call)
{
    void *context = (void *)(uintptr_t)call;
    if (!call->backward || cln_bound(call->op, CLN_DX))
        cln_parallel((size_t)(call->op->view.groups * call->grid.pieces), CLN_ON, piece_task, context);
    merge_rows(call);
    cln_parallel((size_t)(call->grid.cycle * call->grid.columns), CLN_LAST, column_task, context);
}

size_t cln_rows_explain(char *text, size_t bytes, const struct cln_cpu_plan *plan, const struct cln_op *op)
{
    int backward = cln_bound(op, CLN_DY);
    struct cln_rows_grid g = cln_rows_grid_make(&op->view, backward, backward);
    const char *what = backward ? "backward" : "forward", *in = backward ? "x and dy" : "x",
               *out = backward ? "dx" : "y", *past = cln_cpu_streams(plan, op) ? ", stored past the cache" : "";
    if (g.split)
        return (size_t)snprintf(
            text, bytes,
            "%s: %s read twice, %s written once%s: few long rows are summed up in %llu pieces each, "
            "then %llu columns at a time are written\n",
            what, in, out, past, (unsigned long long)g.pieces, (unsigned long long)g.column);
    return (size_t)snprintf(text, bytes,
                            "%s: %s read once from memory and once from the cache, %s written once%s: tiles of %llu "
                            "rows go through all steps one by one, in %llu blocks\n",
                            what, in, out, past, (unsigned long long)g.tile, (unsigned long long)(g.blocks * g.bands));
}

void cln_rows_run(struct cln_cpu_plan *plan, const struct cln_op *op)
{
    struct call call = {.plan = plan, .op = op, .kernels = &plan->kernels.rows};
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
        run_split(&call);
    else
        run_whole(&call, elements <= SMALL ? CLN_ALONE : CLN_ON, gathers);
}
