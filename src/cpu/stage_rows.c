/* src/cpu/stage.h for rows: blocks are whole rows, or a stretch of a long one, or the same columns of a chain of rows. */
#include "cpu/stage.h"

#include "base/integers.h"

#include <string.h>

enum {
    READ = 1 << 12,  /* elements of each tensor that are in scratch when they are added up, */
    WRITE = 1 << 11, /* and when they are written */
    CHAIN = 8,       /* rows whose gradients of the weights are added up together */
    COLUMNS = READ / CHAIN
};

/* A block: rows from j on, elements of each from i on. */
struct block {
    uint64_t j, i;
    struct cln_runs runs;
    struct cln_rows rows; /* in scratch */
};

static const float *weights_of(const struct cln_rows *rows, const float *all, uint64_t j, uint64_t i)
{
    return all ? all + (rows->first + j) % rows->cycle * rows->stride + i : NULL;
}

/* count rows, `step` apart. A block of more than a row is of whole rows that follow each other, or of rows that have the same weights. */
static struct block block_of(const struct cln_rows *rows, uint64_t at, uint64_t j, uint64_t count, uint64_t step,
                             uint64_t i, uint64_t n)
{
    struct block b = {j, i, {at + j * rows->stride + i, count, n, step * rows->stride, rows->ahead}, *rows};
    b.rows.count = count;
    b.rows.length = b.rows.stride = n;
    b.rows.ahead = 0;
    b.rows.streaming = 0;
    if (n == rows->length && step == 1 && rows->stride == n) {
        b.rows.first = (rows->first + j) % rows->cycle;
        b.runs = (struct cln_runs){b.runs.at, 1, count * n, count * n, rows->ahead}; /* they are one run */
        return b;
    }
    b.rows.first = 0;
    b.rows.cycle = 1;
    b.rows.weight = weights_of(rows, rows->weight, j, i);
    b.rows.bias = weights_of(rows, rows->bias, j, i);
    return b;
}

/* Calls BODY for blocks of at most `elements`: whole rows if weights are where a block of them can have them, else pieces of a row. */
#define FOR_BLOCKS(rows, at, elements, BODY)                                                                           \
    do {                                                                                                               \
        int many_ = (rows)->stride == (rows)->length || (rows)->cycle == 1;                                            \
        uint64_t step_ = many_ ? most(1, (elements) / (rows)->length) : 1;                                             \
        for (uint64_t j_ = 0; j_ < (rows)->count; j_ += step_) {                                                       \
            for (uint64_t i_ = 0; i_ < (rows)->length; i_ += (elements))                                               \
                BODY(block_of((rows), (at), j_, least(step_, (rows)->count - j_), 1, i_,                               \
                              least((elements), (rows)->length - i_)));                                                \
        }                                                                                                              \
    } while (0)

/* ---- sums ---- */

static void rows_statistics(const struct cln_stage *s, const float *x, const struct cln_rows *rows, double *mean,
                            double *m2)
{
    int centred = s->op->view.centred;
    if (centred && rows->length > CLN_SHORT_ROW) {
        struct cln_band band = {1, rows->length, rows->length, rows->stride, (uint32_t)rows->count, 0, NULL};
        s->kernels->segments.statistics(x, band, mean, m2);
    } else {
        s->kernels->rows.statistics(x, rows, centred, mean, m2);
    }
}

void cln_stage_rows_statistics(const struct cln_stage *s, uint64_t at, const struct cln_rows *rows, double *mean,
                               double *m2)
{
    if (s->op->x_dtype == CLNORM_F32) {
        rows_statistics(s, cln_stage_at(s->op, CLN_X, at), rows, mean, m2);
        return;
    }
    if (s->op->view.centred && rows->length > CLN_SHORT_ROW && s->kernels->typed.segments.statistics) {
        struct cln_band band = {1, rows->length, rows->length, rows->stride, (uint32_t)rows->count, 0, NULL};
        s->kernels->typed.segments.statistics(cln_stage_at(s->op, CLN_X, at), s->op->x_dtype, band, mean, m2);
        return;
    }
    float scratch[READ];
    double first[CLN_BAND], second[CLN_BAND];
#define BODY(made)                                                                                                     \
    do {                                                                                                               \
        struct block b = (made);                                                                                       \
        const float *x = cln_stage_x(s, &b.runs, scratch);                                                             \
        if (b.rows.length == rows->length) {                                                                           \
            rows_statistics(s, x, &b.rows, mean + b.j, m2 + b.j);                                                      \
        } else {                                                                                                       \
            rows_statistics(s, x, &b.rows, first, second);                                                             \
            struct cln_moments part = {(double)b.rows.length, first[0], second[0]},                                    \
                               total = {(double)b.i, b.i ? mean[b.j] : 0.0, b.i ? m2[b.j] : 0.0};                      \
            cln_moments_add(&total, &part);                                                                            \
            mean[b.j] = total.mean;                                                                                    \
            m2[b.j] = total.m2;                                                                                        \
        }                                                                                                              \
    } while (0)
    FOR_BLOCKS(rows, at, READ, BODY);
#undef BODY
}

/* x of a block, or what takes its place: x − mean from y. */
static const float *block_x(const struct cln_stage *s, const struct block *b, const struct cln_scalars *k,
                            float *scratch)
{
    const struct cln_op *op = s->op;
    uint64_t n = b->rows.length, together = b->runs.length / n; /* rows of a run */
    if (!s->from_y)
        return cln_stage_x(s, &b->runs, scratch);
    for (uint64_t j = 0; j < b->rows.count; j++) {
        uint64_t at = b->runs.at + j / together * b->runs.stride + j % together * n;
        s->kernels->elements.undo(cln_stage_at(op, CLN_X, at), cln_stage_at(op, CLN_Z, at),
                                  weights_of(&b->rows, b->rows.bias, j, 0), weights_of(&b->rows, b->rows.weight, j, 0),
                                  1.0f / k->a[j], scratch + j * n, &s->fusion, n);
    }
    return scratch;
}

/* dy·act′(t) of a block. */
static void block_dy(const struct cln_stage *s, const struct block *b, const float *x, const struct cln_scalars *k,
                     float *dy)
{
    if (s->again)
        s->kernels->rows.apply(x, dy, &b->rows, k);
    cln_stage_dy(s, &b->runs, s->again ? dy : NULL, dy);
}

void cln_stage_rows_dots(const struct cln_stage *s, uint64_t at, const struct cln_rows *rows,
                         const struct cln_scalars *k, double *sum_g, double *sum_gd)
{
    const struct cln_op *op = s->op;
    if (op->x_dtype == CLNORM_F32 && op->y_dtype == CLNORM_F32 && !op->activation && !s->from_y) {
        s->kernels->rows.dots(cln_stage_at(op, CLN_X, at), cln_stage_at(op, CLN_DY, at), rows, k, sum_g, sum_gd);
        return;
    }
    float x_scratch[READ], dy[READ];
    double first[CLN_BAND], second[CLN_BAND];
#define BODY(made)                                                                                                     \
    do {                                                                                                               \
        struct block b = (made);                                                                                       \
        struct cln_scalars of = cln_stage_scalars(k, b.j);                                                             \
        const float *x = block_x(s, &b, &of, x_scratch);                                                               \
        block_dy(s, &b, x, &of, dy);                                                                                   \
        s->kernels->rows.dots(x, dy, &b.rows, &of, first, second);                                                     \
        for (uint64_t r = 0; r < b.rows.count; r++) {                                                                  \
            sum_g[b.j + r] = b.i ? sum_g[b.j + r] + first[r] : first[r];                                               \
            sum_gd[b.j + r] = b.i ? sum_gd[b.j + r] + second[r] : second[r];                                           \
        }                                                                                                              \
    } while (0)
    FOR_BLOCKS(rows, at, READ, BODY);
#undef BODY
}

/* ---- what is written ---- */

void cln_stage_rows_apply(const struct cln_stage *s, uint64_t at, const struct cln_rows *rows,
                          const struct cln_scalars *k)
{
    const struct cln_op *op = s->op;
    if (s->plain) {
        s->kernels->rows.apply(cln_stage_at(op, CLN_X, at), cln_stage_at(op, CLN_Y, at), rows, k);
        return;
    }
    if (cln_can_finish(op->activation) && rows->length >= CLN_NARROW_ROW && s->kernels->typed.rows_apply) {
        struct cln_finish finish = cln_stage_finish(s, at);
        s->kernels->typed.rows_apply(cln_stage_at(op, CLN_X, at), op->x_dtype, cln_stage_at(op, CLN_Y, at), op->y_dtype,
                                     rows, k, s->unfused ? NULL : &finish);
        return;
    }
    float x[WRITE], t[WRITE];
#define BODY(made)                                                                                                     \
    do {                                                                                                               \
        struct block b = (made);                                                                                       \
        struct cln_scalars of = cln_stage_scalars(k, b.j);                                                             \
        s->kernels->rows.apply(cln_stage_x(s, &b.runs, x), t, &b.rows, &of);                                           \
        cln_stage_y(s, &b.runs, t);                                                                                    \
    } while (0)
    FOR_BLOCKS(rows, at, WRITE, BODY);
#undef BODY
}

static void block_gradient(const struct cln_stage *s, const struct block *b, const struct cln_scalars *k,
                           const struct cln_gather *sums)
{
    const struct cln_op *op = s->op;
    float x_scratch[READ], dy[READ];
    const float *x = block_x(s, b, k, x_scratch);
    block_dy(s, b, x, k, dy);
    if (cln_bound(op, CLN_DZ))
        cln_stage_put(s, &b->runs, CLN_DZ, dy);
    if (!cln_bound(op, CLN_DX) && !sums->dweight && !sums->dbias)
        return;
    s->kernels->rows.gradient(x, dy, cln_bound(op, CLN_DX) ? dy : NULL, &b->rows, k, sums);
    if (cln_bound(op, CLN_DX))
        cln_stage_put(s, &b->runs, CLN_DX, dy);
}

/* The same columns of chains of rows that have the same weights. */
static void chains_gradient(const struct cln_stage *s, uint64_t at, const struct cln_rows *rows,
                            const struct cln_scalars *k, const struct cln_gather *sums)
{
    for (uint64_t first = 0; first < least(rows->cycle, rows->count); first++) {
        uint64_t weight = (rows->first + first) % rows->cycle * rows->stride;
        for (uint64_t j = first; j < rows->count; j += CHAIN * rows->cycle) {
            uint64_t count = least(CHAIN, (rows->count - j + rows->cycle - 1) / rows->cycle);
            float plane[5][CHAIN];
            for (uint64_t r = 0; r < count; r++) {
                uint64_t row = j + r * rows->cycle;
                const float of[5] = {k->m[row], k->c[row], k->a[row], k->q[row], k->b[row]};
                for (int p = 0; p < 5; p++)
                    plane[p][r] = of[p];
            }
            struct cln_scalars of = {.m = plane[0], .c = plane[1], .a = plane[2], .q = plane[3], .b = plane[4]};
            for (uint64_t i = 0; i < rows->length; i += COLUMNS) {
                struct block b = block_of(rows, at, j, count, rows->cycle, i, least(COLUMNS, rows->length - i));
                struct cln_gather part = {sums->dweight ? sums->dweight + weight + i : NULL,
                                          sums->dbias ? sums->dbias + weight + i : NULL};
                block_gradient(s, &b, &of, &part);
            }
        }
    }
}

void cln_stage_rows_gradient(const struct cln_stage *s, uint64_t at, const struct cln_rows *rows,
                             const struct cln_scalars *k, const struct cln_gather *sums)
{
    const struct cln_op *op = s->op;
    if (s->plain) {
        s->kernels->rows.gradient(cln_stage_at(op, CLN_X, at), cln_stage_at(op, CLN_DY, at),
                                  cln_stage_at(op, CLN_DX, at), rows, k, sums);
        return;
    }
    if (rows->stride != rows->length || rows->length > COLUMNS) {
        chains_gradient(s, at, rows, k, sums);
        return;
    }
#define BODY(made)                                                                                                     \
    do {                                                                                                               \
        struct block b = (made);                                                                                       \
        struct cln_scalars of = cln_stage_scalars(k, b.j);                                                             \
        block_gradient(s, &b, &of, sums);                                                                              \
    } while (0)
    FOR_BLOCKS(rows, at, READ, BODY);
#undef BODY
}
