/* Few long rows: pieces of some rows are summed up, then pieces of their columns are written. */
#include "base/integers.h"
#include "cpu/rows_call.h"
#include "cpu/simd/simd.h"
#include "cpu/threads.h"

#include <string.h>

static double *piece_sums(const struct cln_rows_call *call, int plane)
{
    double *all = call->op->role[CLN_PARTIALS].handle;
    return all + (uint64_t)plane * call->grid.group * call->grid.cycle * call->grid.pieces;
}

static int is_one_group(const struct cln_rows_call *call)
{
    return call->grid.group == call->grid.samples;
}

/* Sums of the weights over the groups so far. */
static double *weight_sums(const struct cln_rows_call *call, int plane)
{
    return piece_sums(call, CLN_ROWS_SUMS) + (is_one_group(call) ? 0 : (uint64_t)plane * call->op->view.weights);
}

/* Scalars of the rows that have the weights of row `k` of a sample, one after the other. */
static float *split_scalars(const struct cln_rows_call *call, int plane, uint64_t k)
{
    void *end = weight_sums(call, call->backward ? CLN_ROWS_SUMS : 0);
    return (float *)end + (uint64_t)plane * call->op->view.groups + k * call->grid.samples;
}

static void piece_task(void *context, size_t i)
{
    const struct cln_rows_call *call = context;
    const struct cln_op *op = call->op;
    uint64_t row = call->sample * call->grid.cycle + i / call->grid.pieces;
    uint64_t first = i % call->grid.pieces * call->grid.piece;
    struct cln_rows rows = cln_rows_at(call, row, 1);
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
        struct cln_scalars k = cln_rows_source(op, row);
        cln_stage_rows_dots(&call->stage, at, &rows, &k, s, t);
    }
}

static struct cln_statistic merge_pieces(const struct cln_rows_call *call, uint64_t row)
{
    struct cln_moments total = {0};
    uint64_t length = call->grid.length, first = (row - call->sample * call->grid.cycle) * call->grid.pieces;
    for (uint64_t i = 0; i < call->grid.pieces; i++) {
        double count = (double)least(call->grid.piece, length - i * call->grid.piece);
        struct cln_moments part = {count, piece_sums(call, 0)[first + i], piece_sums(call, 1)[first + i]};
        cln_moments_add(&total, &part);
    }
    return cln_statistic_keep(call->op, row, &total);
}

static void merge_rows(const struct cln_rows_call *call)
{
    const struct cln_op *op = call->op;
    uint64_t pieces = call->grid.pieces, first = call->sample * call->grid.cycle;
    for (uint64_t row = first; row < first + call->samples * call->grid.cycle; row++) {
        uint64_t k = row % call->grid.cycle, j = row / call->grid.cycle;
        struct cln_statistic s = call->backward ? cln_statistic_of(op, row) : merge_pieces(call, row);
        struct cln_slope slope = {0};
        if (call->backward && cln_bound(op, CLN_DX)) {
            double sum_g = 0.0, sum_gd = 0.0;
            for (uint64_t i = (row - first) * pieces; i < (row - first + 1) * pieces; i++) {
                sum_g += piece_sums(call, 0)[i];
                sum_gd += piece_sums(call, 1)[i];
            }
            slope = cln_statistic_slope(op, &s, (double)cln_view_statistics_count(&op->view), sum_g, sum_gd);
        }
        split_scalars(call, 0, k)[j] = s.m;
        split_scalars(call, 1, k)[j] = s.c;
        split_scalars(call, 2, k)[j] = s.rstd;
        split_scalars(call, 3, k)[j] = slope.q;
        split_scalars(call, 4, k)[j] = slope.r;
    }
}

/* What the groups add up to, which ends with the last one. */
static void put_sums(const struct cln_rows_call *call, int plane, double *sums, uint64_t first, uint64_t count)
{
    const struct cln_op *op = call->op;
    enum cln_role role = plane == 0 ? CLN_DWEIGHT : CLN_DBIAS;
    int last = call->sample + call->samples == call->grid.samples;
    double *total = is_one_group(call) ? NULL : weight_sums(call, plane) + first;
    if (!cln_bound(op, role))
        return;
    if (call->sample > 0) {
        for (uint64_t i = 0; i < count; i++)
            total[i] += sums[i]; /* NOLINT(clang-analyzer-core.NullDereference): one group has sample 0 alone */
    } else if (!last && total) { /* one group has no sums to keep */
        memcpy(total, sums, (size_t)count * sizeof *total);
    } else {
        total = sums;
    }
    for (uint64_t i = 0; last && i < count; i++)
        cln_rows_put(op, role, first + i, total[i]);
}

/* The same columns of all rows of the group that have the same weights. */
static void column_task(void *context, size_t i)
{
    const struct cln_rows_call *call = context;
    const struct cln_op *op = call->op;
    const struct cln_rows_grid *g = &call->grid;
    uint64_t k = i / g->columns, first = i % g->columns * g->column, weight = k * g->length + first;
    struct cln_rows rows = cln_rows_at(call, 0, call->samples);
    struct cln_scalars scalars = {.m = split_scalars(call, 0, k) + call->sample,
                                  .c = split_scalars(call, 1, k) + call->sample,
                                  .a = split_scalars(call, 2, k) + call->sample,
                                  .q = split_scalars(call, 3, k) + call->sample,
                                  .b = split_scalars(call, 4, k) + call->sample};
    rows.length = least(g->column, g->length - first);
    rows.stride = g->cycle * g->length;
    rows.cycle = 1;
    rows.weight = rows.weight ? rows.weight + weight : NULL;
    rows.bias = rows.bias ? rows.bias + weight : NULL;
    uint64_t at = call->sample * rows.stride + weight;
    if (!call->backward) {
        cln_stage_rows_apply(&call->stage, at, &rows, &scalars);
    } else {
        double dweight[CLN_ROWS_COLUMN] = {0}, dbias[CLN_ROWS_COLUMN] = {0};
        struct cln_gather sums = {cln_bound(op, CLN_DWEIGHT) ? dweight : NULL, cln_bound(op, CLN_DBIAS) ? dbias : NULL};
        cln_stage_rows_gradient(&call->stage, at, &rows, &scalars, &sums);
        put_sums(call, 0, dweight, weight, rows.length);
        put_sums(call, 1, dbias, weight, rows.length);
    }
    if (call->stage.streaming)
        cln_cpu_stream_end();
}

void cln_rows_run_split(struct cln_rows_call *call)
{
    const struct cln_rows_grid *g = &call->grid;
    for (call->sample = 0; call->sample < g->samples; call->sample += g->group) {
        call->samples = least(g->group, g->samples - call->sample);
        if (!call->backward || cln_bound(call->op, CLN_DX))
            cln_parallel((size_t)(call->samples * g->cycle * g->pieces), CLN_ON, piece_task, call);
        merge_rows(call);
        int last = call->sample + call->samples == g->samples;
        cln_parallel((size_t)(g->cycle * g->columns), last ? CLN_LAST : CLN_ON, column_task, call);
    }
}
