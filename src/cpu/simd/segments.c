/* The segments family, a vector at a time: what is added up. */
#include "cpu/kernels.h"
#include "cpu/simd/segments_values.h"
#include "cpu/simd/simd.h"
#include "cpu/simd/typed.h"

enum {
    SIDE = 4,                       /* accumulators side by side */
    STRETCH = SIDE * CHAIN * LANES, /* elements that they take */
    BLOCK = 1 << 14                 /* about as many elements share a pivot: what a second reading finds in the cache */
};

/* Runs of n ≤ STRETCH elements whose vectors make one chain of each accumulator. */
INLINE uint64_t runs_of_chain(size_t n)
{
    size_t vectors = (n + SIDE * LANES - 1) / (SIDE * LANES);
    return CHAIN / (vectors ? vectors : 1);
}

/* Two sums: chains, a tree over SIDE, a chain of those, then double. */
struct sums {
    vec chain[2];
    struct wide total[2];
    int length; /* of the chain */
};

INLINE void sums_add(struct sums *t, const vec *s, const vec *q)
{
    t->chain[0] += (s[0] + s[1]) + (s[2] + s[3]);
    t->chain[1] += (q[0] + q[1]) + (q[2] + q[3]);
    if (++t->length < CHAIN)
        return;
    for (int i = 0; i < 2; i++) {
        wide_add(&t->total[i], t->chain[i]);
        t->chain[i] = splat(0.0f);
    }
    t->length = 0;
}

INLINE void sums_end(struct sums *t, double *s, double *q)
{
    wide_add(&t->total[0], t->chain[0]);
    wide_add(&t->total[1], t->chain[1]);
    *s = wide_sum(&t->total[0]);
    *q = wide_sum(&t->total[1]);
}

/* ---- what is written beside ---- */

INLINE void beside_vector(const struct cln_beside *w, size_t i, const struct scalars *s, int gradient)
{
    store_stream(w->out + i, value_of(load(w->x + i), gradient ? load(w->dy + i) : s->m, s, gradient));
}

INLINE void beside_advance(struct cln_beside *w, size_t n, int gradient)
{
    w->x += n;
    w->out += n;
    w->count -= n;
    w->left -= n;
    if (gradient)
        w->dy += n;
}

/* SIDE vectors among which groups meet, or the end of a stretch. */
INLINE void beside_edge(struct cln_beside *w, int gradient)
{
    if (w->count < SIDE * LANES) {
        w->next(w);
        return;
    }
    struct scalars s = scalars_of(w->scalars, w->group, gradient);
    for (int t = 0; t < SIDE; t++) {
        if (w->left >= LANES) {
            beside_vector(w, 0, &s, gradient);
        } else {
            struct scalars next = scalars_of(w->scalars, ++w->group, gradient),
                           both = scalars_meet(s, next, w->left, gradient);
            beside_vector(w, 0, &both, gradient);
            w->left += w->inners;
            s = next;
        }
        beside_advance(w, LANES, gradient);
    }
}

static __attribute__((noinline)) void beside_edge_apply(struct cln_beside *w)
{
    beside_edge(w, 0);
}

static __attribute__((noinline)) void beside_edge_gradient(struct cln_beside *w)
{
    beside_edge(w, 1);
}

/* SIDE vectors, after as many have been read. */
INLINE void beside_side(struct cln_beside *w, int gradient)
{
    if (!w)
        return;
    if (w->left >= SIDE * LANES) {
        struct scalars s = scalars_of(w->scalars, w->group, gradient);
        for (int t = 0; t < SIDE; t++)
            beside_vector(w, t * LANES, &s, gradient);
        beside_advance(w, SIDE * LANES, gradient);
    } else if (gradient) {
        beside_edge_gradient(w);
    } else {
        beside_edge_apply(w);
    }
}

/* ---- statistics: 5 operations and 4 bytes an element ---- */

INLINE void square_add(vec d, vec *s, vec *q)
{
    *s += d;
    *q += d * d;
}

/* Lines as many as SIDE vectors have, if any are wanted. */
INLINE void fetch_side(struct source of, size_t i, size_t ahead)
{
    if (ahead)
        source_fetch(of, i + ahead, SIDE * LANES);
}

/* Adds (x − p) and (x − p)² of n ≤ STRETCH elements. */
INLINE void run_squares(struct source of, size_t n, size_t ahead, struct cln_beside *beside, vec p, vec *s, vec *q)
{
    size_t i = 0;
    for (; i + SIDE * LANES <= n; i += SIDE * LANES) {
        for (int t = 0; t < SIDE; t++)
            square_add(source_load(of, i + t * LANES, LANES) - p, &s[t], &q[t]);
        fetch_side(of, i, ahead);
        beside_side(beside, 0);
    }
    if (i < n)
        fetch_side(of, i, ahead);
    for (int t = 0; t < SIDE - 1 && i + LANES <= n; t++, i += LANES)
        square_add(source_load(of, i, LANES) - p, &s[t], &q[t]);
    if (i < n)
        square_add(source_load_part(of, i, n - i, p) - p, &s[SIDE - 1], &q[SIDE - 1]);
}

INLINE void block_squares(struct source of, uint64_t outers, size_t n, uint64_t stride, size_t ahead,
                          struct cln_beside *beside, float pivot, double *s_out, double *q_out)
{
    struct sums total = {.length = 0};
    vec p = splat(pivot);
    uint64_t step = n < STRETCH ? runs_of_chain(n) : 1;
    for (uint64_t o = 0; o < outers; o += step) {
        uint64_t last = least(outers, o + step);
        for (size_t i = 0; i < n; i += STRETCH) {
            vec s[SIDE] = {{0}}, q[SIDE] = {{0}};
            for (uint64_t r = o; r < last; r++)
                run_squares(further(of, r * stride + i), least(STRETCH, n - i), ahead, beside, p, s, q);
            sums_add(&total, s, q);
        }
    }
    sums_end(&total, s_out, q_out);
}

/* Near the mean of the first elements, and exactly the value itself if they are all equal. */
INLINE float pivot_of(struct source of, size_t n)
{
    enum { FIRST = 16 };
    vec s = {0};
    float x0 = of.type == CLNORM_F32 ? ((const float *)of.p)[of.at] : source_load(of, 0, 1)[0];
    if (n < FIRST)
        return x0;
    for (int i = 0; i < FIRST; i += LANES)
        s += source_load(of, i, LANES) - splat(x0);
    return x0 + sum_of_lanes(s) / FIRST;
}

/* The moments of `outers` runs of n elements. */
INLINE struct cln_moments block_moments(struct source of, uint64_t outers, size_t n, uint64_t stride, size_t ahead,
                                        struct cln_beside *beside)
{
    float pivot = pivot_of(of, n);
    double count = (double)(outers * n), s, q;
    block_squares(of, outers, n, stride, ahead, beside, pivot, &s, &q);
    if (cln_pivot_is_far(count, s, q)) { /* in cache: the second pass costs no memory */
        pivot = (float)(pivot + s / count);
        block_squares(of, outers, n, stride, 0, NULL, pivot, &s, &q);
    }
    return cln_moments_about(pivot, count, s, q);
}

/* beside: that of the band, or a constant NULL, which leaves its tests out of the loops. */
INLINE void statistics_of(const void *x, clnorm_dtype type, struct cln_band b, struct cln_beside *beside, double *mean,
                          double *m2)
{
    struct source of = {x, type, 0};
    uint64_t step = b.inners < BLOCK ? BLOCK / b.inners : 1;
    for (uint32_t j = 0; j < b.count; j++) {
        struct cln_moments total = {0};
        for (uint64_t o = 0; o < b.outers; o += step) {
            struct source run = further(of, o * b.outer_stride + j * b.group_stride);
            for (uint64_t i = 0; i < b.inners; i += BLOCK) {
                struct cln_moments part = block_moments(further(run, i), least(step, b.outers - o),
                                                        least(BLOCK, b.inners - i), b.outer_stride, b.ahead, beside);
                cln_moments_add(&total, &part);
            }
        }
        mean[j] = total.mean;
        m2[j] = total.m2;
    }
}

static void statistics(const float *x, struct cln_band b, double *mean, double *m2)
{
    if (b.beside)
        statistics_of(x, CLNORM_F32, b, b.beside, mean, m2);
    else
        statistics_of(x, CLNORM_F32, b, NULL, mean, m2);
}

static void statistics_typed(const void *x, clnorm_dtype type, struct cln_band b, double *mean, double *m2)
{
    if (type == CLNORM_F16)
        statistics_of(x, CLNORM_F16, b, NULL, mean, m2);
    else
        statistics_of(x, CLNORM_BF16, b, NULL, mean, m2);
}

/* ---- sums for backward: 5 operations and 8 bytes an element ---- */

INLINE void dot_add(vec g, vec d, vec *a, vec *b)
{
    *a += g;
    *b += g * d;
}

/* Adds dy and dy·((x − m) − c) of n ≤ STRETCH elements. */
INLINE void run_dots(struct source x, struct source dy, size_t n, size_t ahead, struct cln_beside *beside, vec m, vec c,
                     vec *a, vec *b)
{
    size_t i = 0;
    for (; i + SIDE * LANES <= n; i += SIDE * LANES) {
        for (int t = 0; t < SIDE; t++)
            dot_add(source_load(dy, i + t * LANES, LANES), (source_load(x, i + t * LANES, LANES) - m) - c, &a[t],
                    &b[t]);
        fetch_side(x, i, ahead);
        fetch_side(dy, i, ahead);
        beside_side(beside, 1);
    }
    if (i < n) {
        fetch_side(x, i, ahead);
        fetch_side(dy, i, ahead);
    }
    for (int t = 0; t < SIDE - 1 && i + LANES <= n; t++, i += LANES)
        dot_add(source_load(dy, i, LANES), (source_load(x, i, LANES) - m) - c, &a[t], &b[t]);
    if (i < n)
        dot_add(source_load(dy, i, n - i), (source_load_part(x, i, n - i, m) - m) - c, &a[SIDE - 1], &b[SIDE - 1]);
}

INLINE void group_dots(struct source x, struct source dy, const struct cln_band *b, struct cln_beside *beside, float m_,
                       float c_, double *sum_dy, double *sum_dyd)
{
    struct sums total = {.length = 0};
    vec m = splat(m_), c = splat(c_);
    size_t n = b->inners;
    uint64_t step = n < STRETCH ? runs_of_chain(n) : 1;
    for (uint64_t o = 0; o < b->outers; o += step) {
        uint64_t last = least(b->outers, o + step);
        for (size_t i = 0; i < n; i += STRETCH) {
            vec sa[SIDE] = {{0}}, sb[SIDE] = {{0}};
            for (uint64_t r = o; r < last; r++) {
                uint64_t at = r * b->outer_stride + i;
                run_dots(further(x, at), further(dy, at), least(STRETCH, n - i), b->ahead, beside, m, c, sa, sb);
            }
            sums_add(&total, sa, sb);
        }
    }
    sums_end(&total, sum_dy, sum_dyd);
}

INLINE void dots_of(struct source x, struct source dy, const struct cln_band *b, struct cln_beside *beside,
                    const float *m, const float *c, double *sum_dy, double *sum_dyd)
{
    for (uint32_t j = 0; j < b->count; j++) {
        uint64_t at = j * b->group_stride;
        group_dots(further(x, at), further(dy, at), b, beside, m[j], c[j], &sum_dy[j], &sum_dyd[j]);
    }
}

static void dots(const float *x, const float *dy, struct cln_band b, const float *m, const float *c, double *sum_dy,
                 double *sum_dyd)
{
    struct source of_x = {x, CLNORM_F32, 0}, of_dy = {dy, CLNORM_F32, 0};
    if (b.beside)
        dots_of(of_x, of_dy, &b, b.beside, m, c, sum_dy, sum_dyd);
    else
        dots_of(of_x, of_dy, &b, NULL, m, c, sum_dy, sum_dyd);
}

static void dots_typed(const void *x, clnorm_dtype x_type, const void *dy, clnorm_dtype dy_type, struct cln_band b,
                       const float *m, const float *c, double *sum_dy, double *sum_dyd)
{
#define CALL(of_x, of_dy)                                                                                              \
    dots_of((struct source){x, (of_x), 0}, (struct source){dy, (of_dy), 0}, &b, NULL, m, c, sum_dy, sum_dyd)
    BY_NARROW_TYPES(x_type, dy_type, CALL);
#undef CALL
}

void CLN_SIMD(segments)(struct cln_family_kernels *kernels)
{
    kernels->statistics = statistics;
    kernels->dots = dots;
}

void CLN_SIMD(segments_typed)(struct cln_typed_family_kernels *kernels)
{
    kernels->statistics = statistics_typed;
    kernels->dots = dots_typed;
}
