/* The columns family in plain C: whole rows of a block of columns at a time, so that neighbouring lanes read neighbouring
 * addresses; each column has its own pivot and its own short chains. */
#include "cpu/kernels.h"

#include "base/integers.h"

enum {
    PIVOT_ROWS = 16,
    CHAIN = 8, /* floats added before a column is carried on in double, as in segments.c */
    BLOCK = 64 /* rows that share a pivot */
};

/* As in segments.c, a column at a time. */
static void pivots_of(const float *x, uint64_t rows, uint64_t stride, uint32_t count, float *pivot)
{
    uint64_t first = 1;
    while (first < PIVOT_ROWS && 2 * first <= rows)
        first *= 2;
    for (uint32_t j = 0; j < count; j++)
        pivot[j] = 0.0f;
    for (uint64_t i = 1; i < first; i++) {
        for (uint32_t j = 0; j < count; j++)
            pivot[j] += x[i * stride + j] - x[j];
    }
    for (uint32_t j = 0; j < count; j++)
        pivot[j] = x[j] + pivot[j] / (float)first;
}

static void sums_about(const float *x, uint64_t rows, uint64_t stride, uint32_t count, const float *pivot,
                       double *s_out, double *q_out)
{
    for (uint32_t j = 0; j < count; j++)
        s_out[j] = q_out[j] = 0.0;
    for (uint64_t start = 0; start < rows; start += CHAIN) {
        float s[CLN_BAND] = {0}, q[CLN_BAND] = {0};
        for (uint64_t i = start; i < least(rows, start + CHAIN); i++) {
            const float *row = x + i * stride;
            for (uint32_t j = 0; j < count; j++) {
                float d = row[j] - pivot[j];
                s[j] += d;
                q[j] += d * d;
            }
        }
        for (uint32_t j = 0; j < count; j++) {
            s_out[j] += s[j];
            q_out[j] += q[j];
        }
    }
}

/* Moves the pivots that were far from their column's mean; returns how many. */
static int move_far_pivots(uint64_t rows, uint32_t count, const double *s, const double *q, float *pivot)
{
    int moved = 0;
    for (uint32_t j = 0; j < count; j++) {
        if (cln_pivot_is_far((double)rows, s[j], q[j])) {
            pivot[j] = (float)(pivot[j] + s[j] / (double)rows);
            moved++;
        }
    }
    return moved;
}

static void statistics(const float *x, struct cln_band block, double *mean, double *m2)
{
    float pivot[CLN_BAND];
    double s[CLN_BAND], q[CLN_BAND];
    for (uint32_t j = 0; j < block.count; j++)
        mean[j] = m2[j] = 0.0;
    for (uint64_t i = 0; i < block.outers; i += BLOCK) {
        uint64_t rows = least(BLOCK, block.outers - i);
        const float *first = x + i * block.outer_stride;
        pivots_of(first, rows, block.outer_stride, block.count, pivot);
        sums_about(first, rows, block.outer_stride, block.count, pivot, s, q);
        if (move_far_pivots(rows, block.count, s, q, pivot)) /* in cache: the second pass costs no memory */
            sums_about(first, rows, block.outer_stride, block.count, pivot, s, q);
        for (uint32_t j = 0; j < block.count; j++) {
            struct cln_moments total = {(double)i, mean[j], m2[j]};
            struct cln_moments part = cln_moments_about(pivot[j], (double)rows, s[j], q[j]);
            cln_moments_add(&total, &part);
            mean[j] = total.mean;
            m2[j] = total.m2;
        }
    }
}

static void dots(const float *x, const float *dy, struct cln_band block, const float *m, const float *c, double *sum_dy,
                 double *sum_dyd)
{
    float a[CLN_BAND], b[CLN_BAND];
    for (uint32_t j = 0; j < block.count; j++)
        sum_dy[j] = sum_dyd[j] = 0.0;
    for (uint64_t start = 0; start < block.outers; start += CHAIN) {
        uint64_t end = least(block.outers, start + CHAIN);
        for (uint32_t j = 0; j < block.count; j++)
            a[j] = b[j] = 0.0f;
        for (uint64_t i = start; i < end; i++) {
            const float *px = x + i * block.outer_stride, *pdy = dy + i * block.outer_stride;
            for (uint32_t j = 0; j < block.count; j++) {
                a[j] += pdy[j];
                b[j] += pdy[j] * ((px[j] - m[j]) - c[j]);
            }
        }
        for (uint32_t j = 0; j < block.count; j++) {
            sum_dy[j] += a[j];
            sum_dyd[j] += b[j];
        }
    }
}

static void apply(const float *x, float *y, struct cln_stretch at, const struct cln_scalars *k)
{
    uint64_t g = at.group;
    for (uint64_t i = 0, n; i < at.count; i += n, g = 0) { /* what is left of a row */
        const float *m = k->m + g, *c = k->c + g, *a = k->a + g, *b = k->b + g;
        n = least(at.groups - g, at.count - i);
        for (uint64_t j = 0; j < n; j++)
            y[i + j] = ((x[i + j] - m[j]) - c[j]) * a[j] + b[j];
    }
}

static void gradient(const float *x, const float *dy, float *dx, struct cln_stretch at, const struct cln_scalars *k)
{
    uint64_t g = at.group;
    for (uint64_t i = 0, n; i < at.count; i += n, g = 0) {
        const float *m = k->m + g, *c = k->c + g, *a = k->a + g, *q = k->q + g, *b = k->b + g;
        n = least(at.groups - g, at.count - i);
        for (uint64_t j = 0; j < n; j++)
            dx[i + j] = a[j] * dy[i + j] + (q[j] * ((x[i + j] - m[j]) - c[j]) + b[j]);
    }
}

void cln_cpu_fill_columns(struct cln_family_kernels *kernels)
{
    *kernels = (struct cln_family_kernels){statistics, dots, apply, gradient};
}

void cln_cpu_fill_plain(struct cln_cpu_kernels *kernels)
{
    cln_cpu_fill_segments(&kernels->segments);
    cln_cpu_fill_columns(&kernels->columns);
    cln_cpu_fill_rows(&kernels->rows);
    cln_cpu_fill_elements(&kernels->elements);
    kernels->typed = (struct cln_typed_kernels){.rows_apply = NULL};
    kernels->name = "plain C";
}
