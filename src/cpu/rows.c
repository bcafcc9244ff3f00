/* Rows with weights along them, in plain C: sixteen lanes as in segments.c; sums over rows take a chunk of columns at a time. */
#include "base/integers.h"
#include "cpu/kernels.h"
#include "cpu/rows_planes.h"

enum {
    LANES = 16,
    CHAIN = 8, /* floats added before a lane or a column is carried on in double, as in segments.c */
    STRETCH = LANES * CHAIN,
    CHUNK = 256 /* columns whose sums over rows are kept at a time */
};

static double square_sum(const float *x, uint64_t n)
{
    double total[LANES] = {0}, sum = 0.0;
    for (uint64_t start = 0; start < n; start += STRETCH) {
        float q[LANES] = {0};
        uint64_t end = least(n, start + STRETCH), i = start;
        for (; i + LANES <= end; i += LANES) {
            for (int l = 0; l < LANES; l++)
                q[l] += x[i + l] * x[i + l];
        }
        for (int l = 0; i < end; i++, l++)
            q[l] += x[i] * x[i];
        for (int l = 0; l < LANES; l++)
            total[l] += q[l];
    }
    for (int l = 0; l < LANES; l++)
        sum += total[l];
    return sum;
}

static void statistics(const float *x, const struct cln_rows *rows, int centred, double *mean, double *m2)
{
    if (centred) { /* rows are runs, of which that family has statistics */
        struct cln_family_kernels segments;
        struct cln_band band = {1, rows->length, rows->length, rows->stride, (uint32_t)rows->count, 0, NULL};
        cln_cpu_fill_segments(&segments);
        segments.statistics(x, band, mean, m2);
        return;
    }
    for (uint64_t j = 0; j < rows->count; j++) {
        mean[j] = 0.0;
        m2[j] = square_sum(x + j * rows->stride, rows->length);
    }
}

static const float *weights_of(const struct cln_rows *rows, const float *all, uint64_t j)
{
    return all ? all + (rows->first + j) % rows->cycle * rows->stride : NULL;
}

static void row_dots(const float *x, const float *dy, const float *w, uint64_t length, float m, float c, double *sum_g,
                     double *sum_gd)
{
    double aa[LANES] = {0}, bb[LANES] = {0};
    for (uint64_t start = 0; start < length; start += STRETCH) {
        float a[LANES] = {0}, b[LANES] = {0};
        uint64_t end = least(length, start + STRETCH);
        for (uint64_t i = start; i < end; i++) {
            float g = w ? w[i] * dy[i] : dy[i];
            a[i % LANES] += g;
            b[i % LANES] += g * ((x[i] - m) - c);
        }
        for (int l = 0; l < LANES; l++) {
            aa[l] += a[l];
            bb[l] += b[l];
        }
    }
    *sum_g = *sum_gd = 0.0;
    for (int l = 0; l < LANES; l++) {
        *sum_g += aa[l];
        *sum_gd += bb[l];
    }
}

static void dots(const float *x, const float *dy, const struct cln_rows *rows, const struct cln_scalars *k,
                 double *sum_g, double *sum_gd)
{
    for (uint64_t j = 0; j < rows->count; j++) {
        uint64_t at = j * rows->stride;
        row_dots(x + at, dy + at, weights_of(rows, rows->weight, j), rows->length, k->m[j], k->c[j], &sum_g[j],
                 &sum_gd[j]);
    }
}

static void apply(const float *x, float *y, const struct cln_rows *rows, const struct cln_scalars *k)
{
    for (uint64_t j = 0; j < rows->count; j++) {
        const float *w = weights_of(rows, rows->weight, j), *bias = weights_of(rows, rows->bias, j);
        const float *px = x + j * rows->stride;
        float *py = y + j * rows->stride, m = k->m[j], c = k->c[j], a = k->a[j];
        for (uint64_t i = 0; i < rows->length; i++)
            py[i] = ((px[i] - m) - c) * a * (w ? w[i] : 1.0f) + (bias ? bias[i] : 0.0f);
    }
}

/* Adds up n ≤ CHUNK columns of up to CHAIN rows `step` apart, from row j on, and writes their dx. */
static void chain_of(const float *x, const float *dy, float *dx, const struct cln_rows *rows,
                     const struct cln_scalars *k, uint64_t j, uint64_t i, uint64_t n, float *sw, float *sb)
{
    const float *w = weights_of(rows, rows->weight, j);
    for (int length = 0; length < CHAIN && j < rows->count; length++, j += rows->cycle) {
        uint64_t at = j * rows->stride + i;
        float m = k->m[j], c = k->c[j], a = k->a[j], q = k->q[j], b = k->b[j];
        for (uint64_t e = 0; e < n; e++) {
            float g = dy[at + e], d = (x[at + e] - m) - c;
            sw[e] += g * (d * a);
            sb[e] += g;
            if (dx)
                dx[at + e] = (w ? a * w[i + e] : a) * g + (q * d + b);
        }
    }
}

static void gradient(const float *x, const float *dy, float *dx, const struct cln_rows *rows,
                     const struct cln_scalars *k, const struct cln_gather *sums)
{
    for (uint64_t first = 0; first < least(rows->cycle, rows->count); first++) {
        uint64_t weight = (rows->first + first) % rows->cycle * rows->stride;
        for (uint64_t j = first; j < rows->count; j += CHAIN * rows->cycle) {
            for (uint64_t i = 0, n; i < rows->length; i += n) {
                float sw[CHUNK] = {0}, sb[CHUNK] = {0};
                n = least(CHUNK, rows->length - i);
                chain_of(x, dy, dx, rows, k, j, i, n, sw, sb);
                for (uint64_t e = 0; sums->dweight && e < n; e++)
                    sums->dweight[weight + i + e] += sw[e];
                for (uint64_t e = 0; sums->dbias && e < n; e++)
                    sums->dbias[weight + i + e] += sb[e];
            }
        }
    }
}

static void finish(const struct cln_row_sums *sums, int centred, float eps, float *m, float *c, float *rstd, float *var)
{
    rows_finish(sums, centred, eps, m, c, rstd, var);
}

static void slopes(const struct cln_row_sums *sums, int centred, const float *rstd, float *q, float *r)
{
    rows_slopes(sums, centred, rstd, q, r);
}

void cln_cpu_fill_rows(struct cln_rows_kernels *kernels)
{
    *kernels = (struct cln_rows_kernels){statistics, dots, apply, gradient, finish, slopes};
}
