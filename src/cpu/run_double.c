#include "cpu/run_double.h"

#include "base/integers.h"
#include "cpu/double_values.h"
#include "cpu/grid.h"
#include "cpu/threads.h"

#include <string.h>

enum {
    SMALL = 1 << 13, /* elements up to which waking threads costs more than they do */
    TENSORS = 3,     /* that are read together */
    MANY_ROWS = 256, /* from here on blocks of whole rows keep all threads busy */
    MOST_BLOCKS = 32,
    LEAST_BLOCK = 32, /* rows of a block, whose sums of weights are a sixteenth of its part of a tensor then */
    MOST_PIECES = 32, /* of a row, where there are fewer */
    LEAST_PIECE = 4096,
    CHUNK = 64 /* columns that are written together there; their sums are kept */
};

struct call {
    const struct cln_op *op;
    struct cln_values at;
    struct cln_grid grid;                        /* batch norm */
    uint64_t rows, length, blocks, pieces, task; /* layer norm; task: columns of a task */
    double *partials;
    struct cln_second *groups;
};

/* ---- batch norm ---- */

/* PARTIALS: double[parts][groups][CLN_SECOND_SUMS], struct cln_second[groups]. */
static size_t batch_bytes(uint64_t parts, uint64_t groups)
{
    return (size_t)groups * ((size_t)parts * CLN_SECOND_SUMS * sizeof(double) + sizeof(struct cln_second));
}

/* Sums of a part of a band: 12 bytes an element. */
static void read_task(void *context, size_t i)
{
    const struct call *call = context;
    const struct cln_view *v = &call->op->view;
    uint64_t band = i % call->grid.bands, part = i / call->grid.bands, first = cln_grid_first(&call->grid, band),
             offset;
    struct cln_band b = cln_grid_part(&call->grid, v, band, part, &offset);
    double *sums = call->partials + (part * v->groups + first) * CLN_SECOND_SUMS;
    memset(sums, 0, b.count * CLN_SECOND_SUMS * sizeof *sums);
    for (uint64_t o = 0; o < b.outers; o++) {
        for (uint32_t j = 0; j < b.count; j++) {
            const struct cln_second k = cln_second_begin(call->op, first + j);
            cln_second_add(&call->at, offset + o * b.outer_stride + j * b.group_stride, b.inners, &k, NULL,
                           sums + j * CLN_SECOND_SUMS);
        }
    }
}

static void finish_task(void *context, size_t band)
{
    const struct call *call = context;
    const struct cln_op *op = call->op;
    const float *w = op->role[CLN_WEIGHT].handle, *p = op->role[CLN_V_DWEIGHT].handle,
                *q = op->role[CLN_V_DBIAS].handle;
    float *g_weight = op->role[CLN_G_WEIGHT].handle;
    uint64_t groups = op->view.groups, first = cln_grid_first(&call->grid, band);
    for (uint64_t g = first; g < first + cln_grid_count(&call->grid, band); g++) {
        double *sums = call->partials + g * CLN_SECOND_SUMS;
        for (uint64_t part = 1; part < cln_grid_parts(&call->grid); part++) {
            const double *more = sums + part * groups * CLN_SECOND_SUMS;
            for (int s = 0; s < CLN_SECOND_SUMS; s++)
                sums[s] += more[s];
        }
        struct cln_second k = cln_second_begin(op, g);
        k.w = w ? w[g] : 1.0;
        k.p = p ? p[g] : 0.0;
        k.has_p = p != NULL;
        k.q = q ? q[g] : 0.0;
        /* Of a group's one weight they are sums of dy. */
        double of_dy[] = {sums[0], sums[1], sums[4]};
        sums[0] *= k.w;
        sums[1] *= k.w;
        sums[4] *= k.w;
        sums[5] = k.p * of_dy[0];
        sums[6] = k.p * of_dy[1];
        cln_second_finish(&k, (double)cln_view_count(&op->view), sums);
        call->groups[g] = k;
        if (g_weight)
            g_weight[g] = (float)(k.rstd * of_dy[2] + (k.constant ? 0.0 : k.e * of_dy[1] + k.f * of_dy[0]));
    }
}

/* Writes neighbouring elements: 12 bytes read and 8 written an element. */
static void write_task(void *context, size_t i)
{
    const struct call *call = context;
    uint64_t offset;
    struct cln_stretch at = cln_grid_chunk(&call->grid, &call->op->view, i, &offset);
    uint64_t g = at.group, left = at.inners - at.inner;
    for (uint64_t done = 0, n; done < at.count; done += n) {
        n = least(left, at.count - done);
        cln_second_apply(&call->at, offset + done, n, &call->groups[g], NULL, NULL);
        left = at.inners;
        g = g + 1 == at.groups ? 0 : g + 1;
    }
}

static void run_batch(struct call *call)
{
    const struct cln_view *v = &call->op->view;
    call->grid = cln_grid_make(v, TENSORS);
    uint64_t bands = call->grid.bands, parts = cln_grid_parts(&call->grid);
    enum cln_parallel_hint hint = cln_view_elements(v) <= SMALL ? CLN_ALONE : CLN_ON;
    call->groups = (struct cln_second *)(call->partials + parts * v->groups * CLN_SECOND_SUMS);
    cln_parallel((size_t)(bands * parts), hint, read_task, call);
    cln_parallel((size_t)bands, hint, finish_task, call);
    if (call->at.g_x || call->at.g_dy)
        cln_parallel((size_t)call->grid.chunks, hint == CLN_ON ? CLN_LAST : hint, write_task, call);
}

/* ---- layer norm ---- */

static const float *from_element(const struct cln_op *op, enum cln_role role, uint64_t from)
{
    return cln_bound(op, role) ? (const float *)op->role[role].handle + from : NULL;
}

static struct cln_weights row_weights(const struct cln_op *op, uint64_t from)
{
    return (struct cln_weights){from_element(op, CLN_WEIGHT, from), from_element(op, CLN_V_DWEIGHT, from),
                                from_element(op, CLN_V_DBIAS, from)};
}

/* Many rows: PARTIALS are double[blocks][length]. A row goes through everything while it is in the cache: 12 bytes read from memory and 8
 * written an element. */
static void block_task(void *context, size_t i)
{
    const struct call *call = context;
    struct cln_weights weights = row_weights(call->op, 0);
    double *gathered = call->op->role[CLN_G_WEIGHT].handle ? call->partials + i * call->length : NULL;
    if (gathered)
        memset(gathered, 0, call->length * sizeof *gathered);
    uint64_t end = cln_grid_cut(call->rows, i + 1, call->blocks);
    for (uint64_t row = cln_grid_cut(call->rows, i, call->blocks); row < end; row++) {
        double sums[CLN_SECOND_SUMS] = {0};
        struct cln_second k = cln_second_begin(call->op, row);
        cln_second_add(&call->at, row * call->length, call->length, &k, &weights, sums);
        cln_second_finish(&k, (double)call->length, sums);
        cln_second_apply(&call->at, row * call->length, call->length, &k, &weights, gathered);
    }
}

static void gather_task(void *context, size_t i)
{
    const struct call *call = context;
    float *g_weight = call->op->role[CLN_G_WEIGHT].handle;
    for (uint64_t e = i * call->task; e < least(call->length, (i + 1) * call->task); e++) {
        double sum = 0.0;
        for (uint64_t block = 0; block < call->blocks; block++)
            sum += call->partials[block * call->length + e];
        g_weight[e] = (float)sum;
    }
}

/* Few rows: PARTIALS are double[rows][pieces][CLN_SECOND_SUMS], struct cln_second[rows]; memory is read twice. */
static void piece_task(void *context, size_t i)
{
    const struct call *call = context;
    uint64_t row = i / call->pieces, piece = i % call->pieces, from = cln_grid_cut(call->length, piece, call->pieces);
    struct cln_weights weights = row_weights(call->op, from);
    double *sums = call->partials + i * CLN_SECOND_SUMS;
    const struct cln_second k = cln_second_begin(call->op, row);
    memset(sums, 0, CLN_SECOND_SUMS * sizeof *sums);
    cln_second_add(&call->at, row * call->length + from, cln_grid_cut(call->length, piece + 1, call->pieces) - from, &k,
                   &weights, sums);
}

static void finish_rows(const struct call *call)
{
    for (uint64_t row = 0; row < call->rows; row++) {
        double *sums = call->partials + row * call->pieces * CLN_SECOND_SUMS;
        for (uint64_t i = CLN_SECOND_SUMS; i < call->pieces * CLN_SECOND_SUMS; i++)
            sums[i % CLN_SECOND_SUMS] += sums[i];
        call->groups[row] = cln_second_begin(call->op, row);
        cln_second_finish(&call->groups[row], (double)call->length, sums);
    }
}

/* Columns of all rows, so that each weight's sum is in one task. */
static void column_task(void *context, size_t i)
{
    const struct call *call = context;
    float *g_weight = call->op->role[CLN_G_WEIGHT].handle;
    uint64_t end = least(call->length, (i + 1) * call->task);
    for (uint64_t from = i * call->task, n; from < end; from += n) {
        double gathered[CHUNK] = {0};
        struct cln_weights weights = row_weights(call->op, from);
        n = least(CHUNK, end - from);
        for (uint64_t row = 0; row < call->rows; row++)
            cln_second_apply(&call->at, row * call->length + from, n, &call->groups[row], &weights,
                             g_weight ? gathered : NULL);
        for (uint64_t e = 0; g_weight && e < n; e++)
            g_weight[from + e] = (float)gathered[e];
    }
}

static uint64_t pieces_of(uint64_t length)
{
    return most(1, least(MOST_PIECES, length / LEAST_PIECE));
}

static uint64_t blocks_of(uint64_t rows)
{
    return least(MOST_BLOCKS, rows / LEAST_BLOCK);
}

static void run_rows(struct call *call)
{
    const struct cln_view *v = &call->op->view;
    enum cln_parallel_hint hint = cln_view_elements(v) <= SMALL ? CLN_ALONE : CLN_ON;
    call->rows = v->groups;
    call->length = v->inners;
    call->task = divide_up(divide_up(v->inners, MOST_BLOCKS), CHUNK) * CHUNK;
    size_t tasks = (size_t)divide_up(v->inners, call->task);
    if (v->groups >= MANY_ROWS) {
        call->blocks = blocks_of(v->groups);
        cln_parallel((size_t)call->blocks, hint, block_task, call);
        if (cln_bound(call->op, CLN_G_WEIGHT))
            cln_parallel(tasks, hint, gather_task, call);
        return;
    }
    call->pieces = pieces_of(v->inners);
    call->groups = (struct cln_second *)(call->partials + v->groups * call->pieces * CLN_SECOND_SUMS);
    cln_parallel((size_t)(v->groups * call->pieces), hint, piece_task, call);
    finish_rows(call);
    cln_parallel(tasks, hint == CLN_ON ? CLN_LAST : hint, column_task, call);
}

/* ---- both ---- */

size_t cln_double_partials_bytes(const struct cln_view *v)
{
    if (!v->along)
        return batch_bytes(cln_grid_most_parts(v), v->groups);
    size_t few = batch_bytes(pieces_of(v->inners), least(v->groups, MANY_ROWS - 1));
    size_t many = v->groups < MANY_ROWS ? 0 : (size_t)(blocks_of(v->groups) * v->inners) * sizeof(double);
    return (size_t)most(few, many);
}

uint32_t cln_double_readings(const struct cln_view *v)
{
    return v->along && v->groups >= MANY_ROWS ? 1 : 2;
}

void cln_double_run(const struct cln_op *op)
{
    struct call call = {.op = op,
                        .at = {op->role[CLN_X].handle, op->role[CLN_DY].handle, op->role[CLN_V_DX].handle,
                               op->role[CLN_G_X].handle, op->role[CLN_G_DY].handle},
                        .partials = op->role[CLN_PARTIALS].handle};
    if (cln_view_elements(&op->view) == 0) {
        if (cln_bound(op, CLN_G_WEIGHT))
            memset(op->role[CLN_G_WEIGHT].handle, 0, (size_t)op->view.weights * sizeof(float));
    } else if (op->view.along) {
        run_rows(&call);
    } else {
        run_batch(&call);
    }
}
