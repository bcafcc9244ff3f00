/* The columns family, sixteen lanes at a time: four vectors of neighbouring columns down the rows. */
#include "cpu/kernels.h"
#include "cpu/simd/simd.h"
#include "cpu/simd/vector.h"

enum {
    PIVOT_ROWS = 16,
    ROWS = 256, /* that share a pivot */
    TILE = 4    /* vectors side by side */
};

INLINE size_t padded(uint32_t count)
{
    return (count + LANES - 1) / LANES * LANES;
}

/* `lanes` of a row: LANES but in the last vector of a band. */
INLINE vec row_load(const float *p, size_t lanes)
{
    return lanes >= LANES ? load(p) : load_part(p, lanes, splat(0.0f));
}

/* Near the mean of the first rows of each column, and exactly the value itself if they are all equal. */
INLINE vec pivot_of(const float *x, uint64_t rows, uint64_t stride, size_t lanes)
{
    uint64_t first = 1;
    while (first < PIVOT_ROWS && 2 * first <= rows)
        first *= 2;
    vec x0 = row_load(x, lanes), s = {0};
    for (uint64_t i = 1; i < first; i++)
        s += row_load(x + i * stride, lanes) - x0;
    return x0 + s / splat((float)first);
}

/* Σ(x − p) and Σ(x − p)² down the rows of `vectors` ≤ TILE vectors, to double arrays. `full`: no vector is cut. */
INLINE void tile_sums(const float *x, uint64_t rows, uint64_t stride, int vectors, size_t lanes, int full,
                      const float *pivot, double *s_out, double *q_out)
{
    vec p[TILE];
    for (int t = 0; t < vectors; t++)
        p[t] = load(pivot + t * LANES);
    for (int t = 0; t < vectors * LANES; t++)
        s_out[t] = q_out[t] = 0.0;
    for (uint64_t start = 0; start < rows; start += CHAIN * CHAIN) {
        vec s1[TILE] = {{0}}, q1[TILE] = {{0}};
        uint64_t end = least(rows, start + CHAIN * CHAIN);
        for (uint64_t i = start; i < end; i += CHAIN) {
            vec s[TILE] = {{0}}, q[TILE] = {{0}};
            uint64_t last = least(end, i + CHAIN);
            for (uint64_t r = i; r < last; r++) {
                const float *row = x + r * stride;
                for (int t = 0; t < vectors; t++) {
                    vec v = full ? load(row + t * LANES) : row_load(row + t * LANES, lanes - (size_t)t * LANES);
                    vec d = v - p[t];
                    s[t] += d;
                    q[t] += d * d;
                }
            }
            for (int t = 0; t < vectors; t++) {
                s1[t] += s[t];
                q1[t] += q[t];
            }
        }
        for (int t = 0; t < vectors; t++) {
            for (int l = 0; l < LANES; l++) {
                s_out[t * LANES + l] += (double)s1[t][l];
                q_out[t * LANES + l] += (double)q1[t][l];
            }
        }
    }
}

static void band_sums(const float *x, uint64_t rows, struct cln_band b, const float *pivot, double *s, double *q)
{
    uint32_t j = 0;
    for (; j + TILE * LANES <= b.count; j += TILE * LANES)
        tile_sums(x + j, rows, b.outer_stride, TILE, TILE * LANES, 1, pivot + j, s + j, q + j);
    for (; j + LANES <= b.count; j += LANES)
        tile_sums(x + j, rows, b.outer_stride, 1, LANES, 1, pivot + j, s + j, q + j);
    if (j < b.count)
        tile_sums(x + j, rows, b.outer_stride, 1, b.count - j, 0, pivot + j, s + j, q + j);
}

/* Sums of a band so far: the count is the same in every column. */
struct totals {
    double count, sum[CLN_BAND], m2[CLN_BAND];
};

/* cln_moments_about and cln_moments_add, column by column without a division in the loop. */
static void totals_add(struct totals *t, size_t columns, double count, const float *pivot, const double *s,
                       const double *q)
{
    double all = t->count + count, inverse = 1.0 / count, old_inverse = t->count > 0.0 ? 1.0 / t->count : 0.0;
    double weight = t->count * (count / all);
    for (size_t j = 0; j < columns; j++) {
        double part_sum = count * pivot[j] + s[j], part_m2 = q[j] - s[j] * (s[j] * inverse);
        double delta = part_sum * inverse - t->sum[j] * old_inverse;
        part_m2 = part_m2 < 0.0 ? 0.0 : part_m2;
        t->m2[j] += part_m2 + (weight > 0.0 ? delta * delta * weight : 0.0);
        t->sum[j] += part_sum;
    }
    t->count = all;
}

static void statistics(const float *x, struct cln_band b, struct cln_moments *out)
{
    struct totals total = {0};
    float pivot[CLN_BAND];
    double s[CLN_BAND], q[CLN_BAND];
    size_t columns = padded(b.count);
    for (uint64_t i = 0; i < b.outers; i += ROWS) {
        uint64_t rows = least(ROWS, b.outers - i);
        const float *first = x + i * b.outer_stride;
        for (uint32_t j = 0; j < b.count; j += LANES)
            store(pivot + j, pivot_of(first + j, rows, b.outer_stride, b.count - j));
        band_sums(first, rows, b, pivot, s, q);
        int far = 0;
        for (size_t j = 0; j < columns; j++)
            far |= cln_pivot_is_far((double)rows, s[j], q[j]);
        if (far) { /* in cache: the second pass costs no memory */
            for (size_t j = 0; j < columns; j++)
                pivot[j] =
                    cln_pivot_is_far((double)rows, s[j], q[j]) ? (float)(pivot[j] + s[j] / (double)rows) : pivot[j];
            band_sums(first, rows, b, pivot, s, q);
        }
        totals_add(&total, columns, (double)rows, pivot, s, q);
    }
    for (uint32_t j = 0; j < b.count; j++)
        out[j] = (struct cln_moments){total.count, total.sum[j], total.m2[j]};
}

/* ---- sums for backward ---- */

INLINE void tile_dots(const float *x, const float *dy, uint64_t rows, uint64_t stride, int vectors, size_t lanes,
                      int full, const float *m, const float *c, double *a_out, double *b_out)
{
    vec vm[TILE], vc[TILE];
    for (int t = 0; t < vectors; t++) {
        vm[t] = load(m + t * LANES);
        vc[t] = load(c + t * LANES);
    }
    for (int t = 0; t < vectors * LANES; t++)
        a_out[t] = b_out[t] = 0.0;
    for (uint64_t start = 0; start < rows; start += CHAIN * CHAIN) {
        vec a1[TILE] = {{0}}, b1[TILE] = {{0}};
        uint64_t end = least(rows, start + CHAIN * CHAIN);
        for (uint64_t i = start; i < end; i += CHAIN) {
            vec a[TILE] = {{0}}, b[TILE] = {{0}};
            uint64_t last = least(end, i + CHAIN);
            for (uint64_t r = i; r < last; r++) {
                for (int t = 0; t < vectors; t++) {
                    size_t at = r * stride + (size_t)t * LANES, left = lanes - (size_t)t * LANES;
                    vec g = full ? load(dy + at) : row_load(dy + at, left);
                    vec v = full ? load(x + at) : row_load(x + at, left);
                    a[t] += g;
                    b[t] += g * ((v - vm[t]) - vc[t]);
                }
            }
            for (int t = 0; t < vectors; t++) {
                a1[t] += a[t];
                b1[t] += b[t];
            }
        }
        for (int t = 0; t < vectors; t++) {
            for (int l = 0; l < LANES; l++) {
                a_out[t * LANES + l] += (double)a1[t][l];
                b_out[t * LANES + l] += (double)b1[t][l];
            }
        }
    }
}

static void dots(const float *x, const float *dy, struct cln_band b, const struct cln_center *at, struct cln_dots *out)
{
    float m[CLN_BAND] = {0}, c[CLN_BAND] = {0};
    double sa[CLN_BAND], sb[CLN_BAND];
    uint32_t j = 0;
    for (uint32_t k = 0; k < b.count; k++) {
        m[k] = at[k].m;
        c[k] = at[k].c;
    }
    for (; j + TILE * LANES <= b.count; j += TILE * LANES)
        tile_dots(x + j, dy + j, b.outers, b.outer_stride, TILE, TILE * LANES, 1, m + j, c + j, sa + j, sb + j);
    for (; j + LANES <= b.count; j += LANES)
        tile_dots(x + j, dy + j, b.outers, b.outer_stride, 1, LANES, 1, m + j, c + j, sa + j, sb + j);
    if (j < b.count)
        tile_dots(x + j, dy + j, b.outers, b.outer_stride, 1, b.count - j, 0, m + j, c + j, sa + j, sb + j);
    for (uint32_t k = 0; k < b.count; k++)
        out[k] = (struct cln_dots){sa[k], sb[k]};
}

/* ---- apply and gradient, row by row ---- */

static void apply(const float *x, float *y, struct cln_band b, const struct cln_affine *k, int stream)
{
    float m[CLN_BAND], c[CLN_BAND], a[CLN_BAND], s[CLN_BAND];
    for (uint32_t j = 0; j < b.count; j++) {
        m[j] = k[j].m;
        c[j] = k[j].c;
        a[j] = k[j].a;
        s[j] = k[j].b;
    }
    int aligned = (uintptr_t)y % 64 == 0 && b.outer_stride % LANES == 0;
    for (uint64_t i = 0; i < b.outers; i++) {
        const float *row = x + i * b.outer_stride;
        float *to = y + i * b.outer_stride;
        uint32_t j = 0;
        for (; j + LANES <= b.count; j += LANES) {
            vec v = ((load(row + j) - load(m + j)) - load(c + j)) * load(a + j) + load(s + j);
            if (stream && aligned)
                store_stream(to + j, v);
            else
                store(to + j, v);
        }
        for (; j < b.count; j++)
            to[j] = ((row[j] - m[j]) - c[j]) * a[j] + s[j];
    }
    if (stream)
        stream_end();
}

static void gradient(const float *x, const float *dy, float *dx, struct cln_band b, const struct cln_gradient *k,
                     int stream)
{
    float m[CLN_BAND], c[CLN_BAND], p[CLN_BAND], q[CLN_BAND], r[CLN_BAND];
    for (uint32_t j = 0; j < b.count; j++) {
        m[j] = k[j].m;
        c[j] = k[j].c;
        p[j] = k[j].p;
        q[j] = k[j].q;
        r[j] = k[j].r;
    }
    int aligned = (uintptr_t)dx % 64 == 0 && b.outer_stride % LANES == 0;
    for (uint64_t i = 0; i < b.outers; i++) {
        const float *row = x ? x + i * b.outer_stride : NULL, *from = dy + i * b.outer_stride;
        float *to = dx + i * b.outer_stride;
        uint32_t j = 0;
        for (; j + LANES <= b.count; j += LANES) {
            vec v = load(p + j) * load(from + j);
            if (row)
                v += load(q + j) * ((load(row + j) - load(m + j)) - load(c + j)) + load(r + j);
            if (stream && aligned)
                store_stream(to + j, v);
            else
                store(to + j, v);
        }
        for (; j < b.count; j++)
            to[j] = p[j] * from[j] + (row ? q[j] * ((row[j] - m[j]) - c[j]) + r[j] : 0.0f);
    }
    if (stream)
        stream_end();
}

void CLN_SIMD(columns)(struct cln_family_kernels *kernels)
{
    *kernels = (struct cln_family_kernels){statistics, dots, apply, gradient};
}
