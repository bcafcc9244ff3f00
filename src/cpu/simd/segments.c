/* The segments family, sixteen lanes at a time. */
#include "cpu/kernels.h"
#include "cpu/simd/simd.h"
#include "cpu/simd/vector.h"

/* ---- statistics: 5 operations and 4 bytes an element ---- */

/* Σ(x − p) and Σ(x − p)² of n ≤ STRETCH elements, chains of CHAIN at most. */
INLINE void stretch_sums(const float *x, size_t n, vec p, vec *s, vec *q)
{
    vec s0 = {0}, s1 = {0}, s2 = {0}, s3 = {0}, q0 = {0}, q1 = {0}, q2 = {0}, q3 = {0};
    size_t i = 0;
    for (; i + 4 * LANES <= n; i += 4 * LANES) {
        vec d0 = load(x + i) - p, d1 = load(x + i + LANES) - p;
        vec d2 = load(x + i + 2 * LANES) - p, d3 = load(x + i + 3 * LANES) - p;
        s0 += d0;
        s1 += d1;
        s2 += d2;
        s3 += d3;
        q0 += d0 * d0;
        q1 += d1 * d1;
        q2 += d2 * d2;
        q3 += d3 * d3;
    }
    for (; i + LANES <= n; i += LANES) {
        vec d = load(x + i) - p;
        s0 += d;
        q0 += d * d;
    }
    if (i < n) {
        vec d = load_part(x + i, n - i, p) - p;
        s1 += d;
        q1 += d * d;
    }
    *s += (s0 + s1) + (s2 + s3);
    *q += (q0 + q1) + (q2 + q3);
}

/* Near the mean of the first elements, and exactly the value itself if they are all equal. */
INLINE float pivot_of(const float *x, size_t n)
{
    if (n < LANES)
        return x[0];
    return x[0] + (float)(sum(load(x) - splat(x[0])) / LANES);
}

/* The moments of `outers` runs of n elements, at most BLOCK in all and CHAIN stretches of a run. */
INLINE struct cln_moments block_moments(const float *x, uint64_t outers, size_t n, uint64_t stride)
{
    float pivot = pivot_of(x, n);
    double count = (double)(outers * n), s, q;
    for (int again = 0;; again++) {
        vec vs = {0}, vq = {0};
        for (uint64_t o = 0; o < outers; o++) {
            for (size_t i = 0; i < n; i += STRETCH)
                stretch_sums(x + o * stride + i, least(STRETCH, n - i), splat(pivot), &vs, &vq);
        }
        s = sum(vs);
        q = sum(vq);
        if (again || !cln_pivot_is_far(count, s, q))
            break;
        pivot = (float)(pivot + s / count); /* in cache: the second pass costs no memory */
    }
    return cln_moments_about(pivot, count, s, q);
}

/* Runs that share a pivot: CHAIN stretches, or CHAIN short runs. */
INLINE uint64_t runs_of_block(size_t n)
{
    return n >= BLOCK ? 1 : n > STRETCH ? CHAIN / ((n + STRETCH - 1) / STRETCH) : CHAIN;
}

static void statistics(const float *x, struct cln_band b, struct cln_moments *out)
{
    for (uint32_t j = 0; j < b.count; j++)
        out[j] = (struct cln_moments){0};
    uint64_t step = runs_of_block(b.inners);
    for (uint64_t o = 0; o < b.outers; o += step) {
        uint64_t outers = least(step, b.outers - o);
        for (uint32_t j = 0; j < b.count; j++) {
            const float *run = x + o * b.outer_stride + j * b.group_stride;
            for (uint64_t i = 0; i < b.inners; i += BLOCK) {
                struct cln_moments part = block_moments(run + i, outers, least(BLOCK, b.inners - i), b.outer_stride);
                cln_moments_add(&out[j], &part);
            }
        }
    }
}

/* ---- sums for backward: 6 operations and 8 bytes an element ---- */

INLINE void stretch_dots(const float *x, const float *dy, size_t n, vec m, vec c, vec *a, vec *b)
{
    vec a0 = {0}, a1 = {0}, b0 = {0}, b1 = {0};
    size_t i = 0;
    for (; i + 2 * LANES <= n; i += 2 * LANES) {
        vec g0 = load(dy + i), g1 = load(dy + i + LANES);
        a0 += g0;
        a1 += g1;
        b0 += g0 * ((load(x + i) - m) - c);
        b1 += g1 * ((load(x + i + LANES) - m) - c);
    }
    for (; i + LANES <= n; i += LANES) {
        vec g = load(dy + i);
        a0 += g;
        b0 += g * ((load(x + i) - m) - c);
    }
    if (i < n) {
        vec g = load_part(dy + i, n - i, splat(0.0f));
        a1 += g;
        b1 += g * ((load_part(x + i, n - i, m) - m) - c);
    }
    *a += a0 + a1;
    *b += b0 + b1;
}

static void dots(const float *x, const float *dy, struct cln_band b, const struct cln_center *at, struct cln_dots *out)
{
    enum { HALF = STRETCH / 2 }; /* two accumulators */
    for (uint32_t j = 0; j < b.count; j++)
        out[j] = (struct cln_dots){0};
    uint64_t step = runs_of_block(2 * b.inners);
    for (uint64_t o = 0; o < b.outers; o += step) {
        uint64_t last = least(b.outers, o + step);
        for (uint32_t j = 0; j < b.count; j++) {
            vec m = splat(at[j].m), c = splat(at[j].c), va = {0}, vb = {0};
            int chain = 0;
            for (uint64_t r = o; r < last; r++) {
                uint64_t run = r * b.outer_stride + j * b.group_stride;
                for (uint64_t i = 0; i < b.inners; i += HALF) {
                    stretch_dots(x + run + i, dy + run + i, least(HALF, b.inners - i), m, c, &va, &vb);
                    if (++chain == CHAIN || (r + 1 == last && i + HALF >= b.inners)) {
                        out[j].dy += sum(va);
                        out[j].dyd += sum(vb);
                        va = vb = splat(0.0f);
                        chain = 0;
                    }
                }
            }
        }
    }
}

/* ---- apply and gradient: 4 and 6 operations, 8 and 12 bytes an element ---- */

INLINE void apply_run(const float *x, float *y, size_t n, struct cln_affine k, int stream)
{
    vec m = splat(k.m), c = splat(k.c), a = splat(k.a), b = splat(k.b);
    size_t i = 0;
    if (stream) {
        i = elements_before_line(y, n);
        if (i)
            store_part(y, i, ((load_part(x, i, m) - m) - c) * a + b);
        for (; i + LANES <= n; i += LANES)
            store_stream(y + i, ((load(x + i) - m) - c) * a + b);
    }
    for (; i + LANES <= n; i += LANES)
        store(y + i, ((load(x + i) - m) - c) * a + b);
    if (i < n)
        store_part(y + i, n - i, ((load_part(x + i, n - i, m) - m) - c) * a + b);
}

static void apply(const float *x, float *y, struct cln_band b, const struct cln_affine *k, int stream)
{
    for (uint64_t o = 0; o < b.outers; o++) {
        for (uint32_t j = 0; j < b.count; j++) {
            uint64_t run = o * b.outer_stride + j * b.group_stride;
            apply_run(x + run, y + run, b.inners, k[j], stream);
        }
    }
    if (stream)
        stream_end();
}

INLINE vec gradient_of(vec g, vec x, vec m, vec c, vec p, vec q, vec r)
{
    return p * g + (q * ((x - m) - c) + r);
}

INLINE void gradient_run(const float *x, const float *dy, float *dx, size_t n, struct cln_gradient k, int stream)
{
    vec m = splat(k.m), c = splat(k.c), p = splat(k.p), q = splat(k.q), r = splat(k.r);
    size_t i = 0;
    if (stream) {
        i = elements_before_line(dx, n);
        if (i)
            store_part(dx, i, gradient_of(load_part(dy, i, m), load_part(x, i, m), m, c, p, q, r));
        for (; i + LANES <= n; i += LANES)
            store_stream(dx + i, gradient_of(load(dy + i), load(x + i), m, c, p, q, r));
    }
    for (; i + LANES <= n; i += LANES)
        store(dx + i, gradient_of(load(dy + i), load(x + i), m, c, p, q, r));
    if (i < n)
        store_part(dx + i, n - i, gradient_of(load_part(dy + i, n - i, m), load_part(x + i, n - i, m), m, c, p, q, r));
}

static void gradient(const float *x, const float *dy, float *dx, struct cln_band b, const struct cln_gradient *k,
                     int stream)
{
    for (uint64_t o = 0; o < b.outers; o++) {
        for (uint32_t j = 0; j < b.count; j++) {
            uint64_t run = o * b.outer_stride + j * b.group_stride;
            if (x)
                gradient_run(x + run, dy + run, dx + run, b.inners, k[j], stream);
            else /* dx = p·dy */
                apply_run(dy + run, dx + run, b.inners, (struct cln_affine){0.0f, 0.0f, k[j].p, 0.0f}, stream);
        }
    }
    if (stream)
        stream_end();
}

void CLN_SIMD(segments)(struct cln_family_kernels *kernels)
{
    *kernels = (struct cln_family_kernels){statistics, dots, apply, gradient};
}
