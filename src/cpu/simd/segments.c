/* The segments family, a vector at a time. */
#include "cpu/kernels.h"
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

/* Lines as many as SIDE vectors have, if any are wanted. */
INLINE void fetch_side(const float *x, size_t ahead)
{
    for (int t = 0; ahead && t < SIDE; t++)
        fetch(x + ahead + t * LANES);
}

/* ---- what a group is normalized with ---- */

/* The scalars of one group, or of two that meet within a vector. */
struct scalars {
    vec m, c, a, q, b;
};

INLINE struct scalars scalars_of(const struct cln_scalars *k, uint64_t g, int gradient)
{
    return (struct scalars){splat(k->m[g]), splat(k->c[g]), splat(k->a[g]), gradient ? splat(k->q[g]) : splat(0.0f),
                            splat(k->b[g])};
}

INLINE struct scalars scalars_meet(struct scalars s, struct scalars t, size_t n, int gradient)
{
    return (struct scalars){first_lanes(s.m, t.m, n), first_lanes(s.c, t.c, n), first_lanes(s.a, t.a, n),
                            gradient ? first_lanes(s.q, t.q, n) : s.q, first_lanes(s.b, t.b, n)};
}

INLINE vec value_of(vec x, vec dy, const struct scalars *s, int gradient)
{
    vec d = (x - s->m) - s->c;
    return gradient ? s->a * dy + (s->q * d + s->b) : d * s->a + s->b;
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

/* x from element `at` on, of any type. */
struct source {
    const void *x;
    clnorm_dtype type;
    uint64_t at;
};

INLINE struct source further(struct source of, uint64_t elements)
{
    return (struct source){of.x, of.type, of.at + elements};
}

INLINE void fetch_source(struct source of, size_t i, size_t ahead)
{
    size_t bytes = of.type == CLNORM_F32 ? 4 : 2;
    const char *next = (const char *)of.x + (of.at + i + ahead) * bytes;
    for (size_t t = 0; ahead && t < SIDE * LANES * bytes; t += LANES * sizeof(float))
        __builtin_prefetch(next + t, 0, 2);
}

/* Adds (x − p) and (x − p)² of n ≤ STRETCH elements. */
INLINE void run_squares(struct source of, size_t n, size_t ahead, struct cln_beside *beside, vec p, vec *s, vec *q)
{
    size_t i = 0;
    for (; i + SIDE * LANES <= n; i += SIDE * LANES) {
        for (int t = 0; t < SIDE; t++)
            square_add(load_as(of.x, of.type, of.at + i + t * LANES, LANES) - p, &s[t], &q[t]);
        fetch_source(of, i, ahead);
        beside_side(beside, 0);
    }
    if (i < n)
        fetch_source(of, i, ahead);
    for (int t = 0; t < SIDE - 1 && i + LANES <= n; t++, i += LANES)
        square_add(load_as(of.x, of.type, of.at + i, LANES) - p, &s[t], &q[t]);
    if (i < n)
        square_add(load_part_as(of.x, of.type, of.at + i, n - i, p) - p, &s[SIDE - 1], &q[SIDE - 1]);
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
    float x0 = of.type == CLNORM_F32 ? ((const float *)of.x)[of.at] : load_as(of.x, of.type, of.at, 1)[0];
    if (n < FIRST)
        return x0;
    for (int i = 0; i < FIRST; i += LANES)
        s += load_as(of.x, of.type, of.at + i, LANES) - splat(x0);
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
INLINE void run_dots(const float *x, const float *dy, size_t n, size_t ahead, struct cln_beside *beside, vec m, vec c,
                     vec *a, vec *b)
{
    size_t i = 0;
    for (; i + SIDE * LANES <= n; i += SIDE * LANES) {
        for (int t = 0; t < SIDE; t++)
            dot_add(load(dy + i + t * LANES), (load(x + i + t * LANES) - m) - c, &a[t], &b[t]);
        fetch_side(x + i, ahead);
        fetch_side(dy + i, ahead);
        beside_side(beside, 1);
    }
    if (i < n) {
        fetch_side(x + i, ahead);
        fetch_side(dy + i, ahead);
    }
    for (int t = 0; t < SIDE - 1 && i + LANES <= n; t++, i += LANES)
        dot_add(load(dy + i), (load(x + i) - m) - c, &a[t], &b[t]);
    if (i < n)
        dot_add(load_part(dy + i, n - i, splat(0.0f)), (load_part(x + i, n - i, m) - m) - c, &a[SIDE - 1],
                &b[SIDE - 1]);
}

INLINE void group_dots(const float *x, const float *dy, const struct cln_band *b, struct cln_beside *beside, float m_,
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
                run_dots(x + at, dy + at, least(STRETCH, n - i), b->ahead, beside, m, c, sa, sb);
            }
            sums_add(&total, sa, sb);
        }
    }
    sums_end(&total, sum_dy, sum_dyd);
}

static void dots(const float *x, const float *dy, struct cln_band b, const float *m, const float *c, double *sum_dy,
                 double *sum_dyd)
{
    for (uint32_t j = 0; j < b.count; j++) {
        uint64_t at = j * b.group_stride;
        if (b.beside)
            group_dots(x + at, dy + at, &b, b.beside, m[j], c[j], &sum_dy[j], &sum_dyd[j]);
        else
            group_dots(x + at, dy + at, &b, NULL, m[j], c[j], &sum_dy[j], &sum_dyd[j]);
    }
}

/* ---- apply and gradient: 4 and 6 operations, 8 and 12 bytes an element ---- */

/* What is read and written: dy for a gradient alone, then all is f32. */
struct tensors {
    const void *x;
    const float *dy;
    void *out;
    clnorm_dtype x_type, out_type;
};

INLINE void part_of(struct tensors of, size_t i, size_t n, struct scalars s, int gradient)
{
    vec g = gradient ? load_part(of.dy + i, n, s.m) : s.m;
    vec x = n == LANES ? load_as(of.x, of.x_type, i, n) : load_part_as(of.x, of.x_type, i, n, s.m);
    store_as(value_of(x, g, &s, gradient), of.out, of.out_type, i, n, 0);
}

INLINE void vector_of(struct tensors of, size_t i, const struct scalars *s, int gradient, int streaming)
{
    vec v = value_of(load_as(of.x, of.x_type, i, LANES), gradient ? load(of.dy + i) : s->m, s, gradient);
    store_as(v, of.out, of.out_type, i, LANES, streaming);
}

/* In the order of addresses, so that vectors begin on a line of `out` and only the first and the last of the stretch are parts: a
 * vector in which two runs meet takes each lane's scalars from its own group. */
INLINE void walk(struct tensors of, const struct cln_stretch *at, const struct cln_scalars *k, int gradient,
                 int streaming)
{
    size_t i = 0, n = at->count, head = before_line_as(of.out, of.out_type, n), g = at->group,
           left = at->inners - at->inner;
    struct scalars s = scalars_of(k, g, gradient);
    while (i < n) {
        size_t part = i < head ? head - i : n - i < LANES || at->inners < LANES ? n - i : 0;
        if (part) { /* less than a vector, or of a run that is */
            part = least(least(part, left), LANES);
            part_of(of, i, part, s, gradient);
            i += part;
            left -= part;
        } else {
            for (size_t end = i + least(left, n - i) / LANES * LANES; i < end; i += LANES, left -= LANES)
                vector_of(of, i, &s, gradient, streaming);
        }
        if (left && (left >= LANES || n - i < LANES || i < head || at->inners < LANES))
            continue;
        g = g + 1 < at->groups ? g + 1 : 0;
        struct scalars next = scalars_of(k, g, gradient);
        if (left) {
            struct scalars both = scalars_meet(s, next, left, gradient);
            vector_of(of, i, &both, gradient, streaming);
            i += LANES;
            left = at->inners - (LANES - left);
        } else {
            left = at->inners;
        }
        s = next;
    }
}

INLINE void walk_as(struct tensors of, const struct cln_stretch *at, const struct cln_scalars *k, int gradient)
{
    if (at->streaming && at->inners >= LANES)
        walk(of, at, k, gradient, 1);
    else
        walk(of, at, k, gradient, 0);
}

static void apply(const float *x, float *y, struct cln_stretch at, const struct cln_scalars *k)
{
    walk_as((struct tensors){x, x, y, CLNORM_F32, CLNORM_F32}, &at, k, 0);
}

static void gradient(const float *x, const float *dy, float *dx, struct cln_stretch at, const struct cln_scalars *k)
{
    walk_as((struct tensors){x, dy, dx, CLNORM_F32, CLNORM_F32}, &at, k, 1);
}

static void apply_typed(const void *x, clnorm_dtype x_type, void *y, clnorm_dtype y_type, struct cln_stretch at,
                        const struct cln_scalars *k)
{
    if (x_type == CLNORM_F16 && y_type == CLNORM_F16)
        walk_as((struct tensors){x, NULL, y, CLNORM_F16, CLNORM_F16}, &at, k, 0);
    else if (x_type == CLNORM_BF16 && y_type == CLNORM_BF16)
        walk_as((struct tensors){x, NULL, y, CLNORM_BF16, CLNORM_BF16}, &at, k, 0);
    else
        walk_as((struct tensors){x, NULL, y, x_type, y_type}, &at, k, 0);
}

void CLN_SIMD(segments)(struct cln_family_kernels *kernels)
{
    *kernels = (struct cln_family_kernels){statistics, dots, apply, gradient};
}

void CLN_SIMD(segments_typed)(struct cln_typed_kernels *kernels)
{
    kernels->statistics = statistics_typed;
    kernels->apply = apply_typed;
}
