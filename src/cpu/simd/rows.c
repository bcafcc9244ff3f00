/* Rows with weights along them, a vector at a time. Short rows are summed up LANES rows together, so that their lanes are added by one
 * tree. */
#include "cpu/kernels.h"
#include "cpu/simd/simd.h"
#include "cpu/simd/vector.h"

enum {
    SIDE = 4,                       /* accumulators side by side */
    STRETCH = SIDE * CHAIN * LANES, /* elements that they take */
    SHORT = STRETCH < CLN_SHORT_ROW ? STRETCH : CLN_SHORT_ROW,
    COLUMNS = 1024 /* whose sums over rows are kept at a time, in the nearest cache */
};

/* ---- sums along a row ---- */

/* Lane r of the result is the sum of the lanes of v[r]. */
#if defined(__aarch64__)
INLINE vec sums_of_rows(vec *v)
{
    for (int i = 0; i < 2; i++)
        v[i] =
            __builtin_shufflevector(v[i], v[i + 2], 0, 1, 4, 5) + __builtin_shufflevector(v[i], v[i + 2], 2, 3, 6, 7);
    return __builtin_shufflevector(v[0], v[1], 0, 4, 2, 6) + __builtin_shufflevector(v[0], v[1], 1, 5, 3, 7);
}
#else
INLINE vec sums_of_rows(vec *v)
{
#define MEET(a, b, ...) __builtin_shufflevector((a), (b), __VA_ARGS__)
    for (int i = 0; i < 8; i++)
        v[i] = MEET(v[i], v[i + 8], 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23) +
               MEET(v[i], v[i + 8], 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31);
    for (int i = 0; i < 4; i++)
        v[i] = MEET(v[i], v[i + 4], 0, 1, 2, 3, 16, 17, 18, 19, 8, 9, 10, 11, 24, 25, 26, 27) +
               MEET(v[i], v[i + 4], 4, 5, 6, 7, 20, 21, 22, 23, 12, 13, 14, 15, 28, 29, 30, 31);
    for (int i = 0; i < 2; i++)
        v[i] = MEET(v[i], v[i + 2], 0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29) +
               MEET(v[i], v[i + 2], 2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31);
    return MEET(v[0], v[1], 0, 16, 2, 18, 4, 20, 6, 22, 8, 24, 10, 26, 12, 28, 14, 30) +
           MEET(v[0], v[1], 1, 17, 3, 19, 5, 21, 7, 23, 9, 25, 11, 27, 13, 29, 15, 31);
#undef MEET
}
#endif

/* Calls ADD(element, number of elements, accumulator) for the vectors of n ≤ STRETCH elements; the last may be a part. */
#define FOR_VECTORS(n, ADD)                                                                                            \
    do {                                                                                                               \
        size_t i_ = 0;                                                                                                 \
        for (; i_ + SIDE * LANES <= (n); i_ += SIDE * LANES) {                                                         \
            for (int t_ = 0; t_ < SIDE; t_++)                                                                          \
                ADD(i_ + t_ * LANES, LANES, t_);                                                                       \
        }                                                                                                              \
        for (int t_ = 0; t_ < SIDE - 1 && i_ + LANES <= (n); t_++, i_ += LANES)                                        \
            ADD(i_, LANES, t_);                                                                                        \
        if (i_ < (n))                                                                                                  \
            ADD(i_, (n)-i_, SIDE - 1);                                                                                 \
    } while (0)

INLINE vec load_lanes(const float *p, size_t n, vec fill)
{
    return n == LANES ? load(p) : load_part(p, n, fill);
}

INLINE vec tree(const vec *s)
{
    return (s[0] + s[1]) + (s[2] + s[3]);
}

INLINE vec run_sum(const float *x, size_t n, vec p)
{
    vec s[SIDE] = {{0}};
#define ADD(i, lanes, t) s[t] += load_lanes(x + (i), (lanes), p) - p
    FOR_VECTORS(n, ADD);
#undef ADD
    return tree(s);
}

INLINE vec run_squares(const float *x, size_t n, vec p, vec *sum)
{
    vec s[SIDE] = {{0}}, q[SIDE] = {{0}};
#define ADD(i, lanes, t)                                                                                               \
    do {                                                                                                               \
        vec d_ = load_lanes(x + (i), (lanes), p) - p;                                                                  \
        s[t] += d_;                                                                                                    \
        q[t] += d_ * d_;                                                                                               \
    } while (0)
    FOR_VECTORS(n, ADD);
#undef ADD
    *sum = tree(s);
    return tree(q);
}

/* Σg and Σ g·((x − m) − c), g = w·dy, or dy without w. */
INLINE vec run_dots(const float *x, const float *dy, const float *w, size_t n, vec m, vec c, vec *sum)
{
    vec a[SIDE] = {{0}}, b[SIDE] = {{0}}, zero = splat(0.0f);
#define ADD(i, lanes, t)                                                                                               \
    do {                                                                                                               \
        vec g_ = load_lanes(dy + (i), (lanes), zero);                                                                  \
        g_ = w ? load_lanes(w + (i), (lanes), zero) * g_ : g_;                                                         \
        a[t] += g_;                                                                                                    \
        b[t] += g_ * ((load_lanes(x + (i), (lanes), m) - m) - c);                                                      \
    } while (0)
    FOR_VECTORS(n, ADD);
#undef ADD
    *sum = tree(a);
    return tree(b);
}

/* Adds vectors up: a chain of CHAIN, then double. */
struct sum {
    vec chain;
    struct wide total;
};

INLINE void sum_add(struct sum *t, vec v, uint64_t turn)
{
    t->chain += v;
    if (turn % CHAIN == CHAIN - 1) {
        wide_add(&t->total, t->chain);
        t->chain = splat(0.0f);
    }
}

INLINE double sum_end(struct sum *t)
{
    wide_add(&t->total, t->chain);
    return wide_sum(&t->total);
}

/* ---- statistics: 5 operations (short rows 7) and 4 bytes an element ---- */

/* Of n ≤ LANES short rows: their mean, about their first elements, is the pivot. */
static void short_moments(const float *x, size_t n, const struct cln_rows *rows, double *mean, double *m2)
{
    vec s[LANES], q[LANES];
    float pivot[LANES] = {0}, first[LANES] = {0}, squares[LANES];
    double length = (double)rows->length;
    for (size_t r = 0; r < LANES; r++) {
        s[r] = q[r] = splat(0.0f);
        if (r < n) {
            first[r] = x[r * rows->stride];
            s[r] = run_sum(x + r * rows->stride, rows->length, splat(first[r]));
        }
    }
    store(pivot, load(first) + sums_of_rows(s) / splat((float)length));
    for (size_t r = 0; r < n; r++)
        q[r] = run_squares(x + r * rows->stride, rows->length, splat(pivot[r]), &s[r]);
    store(first, sums_of_rows(s));
    store(squares, sums_of_rows(q));
    for (size_t r = 0; r < n; r++) {
        double offset = first[r] / length, rest = squares[r] - first[r] * offset;
        mean[r] = pivot[r] + offset;
        m2[r] = rest < 0.0 ? 0.0 : rest; /* rounding; a NaN stays */
    }
}

static double row_squares(const float *x, size_t n)
{
    struct sum total = {0};
    for (size_t i = 0; i < n; i += STRETCH) {
        vec ignored;
        sum_add(&total, run_squares(x + i, least(STRETCH, n - i), splat(0.0f), &ignored), i / STRETCH);
    }
    return sum_end(&total);
}

static void short_squares(const float *x, size_t n, const struct cln_rows *rows, double *m2)
{
    vec q[LANES], ignored;
    float squares[LANES];
    for (size_t r = 0; r < LANES; r++)
        q[r] = r < n ? run_squares(x + r * rows->stride, rows->length, splat(0.0f), &ignored) : splat(0.0f);
    store(squares, sums_of_rows(q));
    for (size_t r = 0; r < n; r++)
        m2[r] = squares[r];
}

static void statistics(const float *x, const struct cln_rows *rows, int centred, double *mean, double *m2)
{
    int is_short = rows->length <= SHORT;
    for (uint64_t j = 0; j < rows->count; j += is_short ? LANES : 1) {
        const float *row = x + j * rows->stride;
        size_t n = least(LANES, rows->count - j);
        if (is_short && centred)
            short_moments(row, n, rows, mean + j, m2 + j);
        else if (is_short)
            short_squares(row, n, rows, m2 + j);
        else
            m2[j] = row_squares(row, rows->length);
    }
    if (!centred)
        memset(mean, 0, rows->count * sizeof *mean);
}

/* ---- sums for backward: 6 operations and 8 bytes an element ---- */

INLINE const float *weights_of(const struct cln_rows *rows, const float *all, uint64_t j)
{
    return all + (rows->cycle == 1 ? 0 : (rows->first + j) % rows->cycle * rows->stride);
}

INLINE void dots_as(const float *x, const float *dy, const struct cln_rows *rows, const struct cln_scalars *k,
                    double *sum_g, double *sum_gd, int weighted)
{
#define WEIGHTS(j) (weighted ? weights_of(rows, rows->weight, (j)) : NULL)
    for (uint64_t j = 0; rows->length <= SHORT && j < rows->count; j += LANES) {
        vec g[LANES], gd[LANES];
        float sums[2][LANES];
        for (uint64_t r = 0; r < LANES; r++) {
            g[r] = gd[r] = splat(0.0f);
            if (j + r < rows->count) {
                uint64_t at = (j + r) * rows->stride;
                gd[r] = run_dots(x + at, dy + at, WEIGHTS(j + r), rows->length, splat(k->m[j + r]), splat(k->c[j + r]),
                                 &g[r]);
            }
        }
        store(sums[0], sums_of_rows(g));
        store(sums[1], sums_of_rows(gd));
        for (uint64_t r = 0; r < least(LANES, rows->count - j); r++) {
            sum_g[j + r] = sums[0][r];
            sum_gd[j + r] = sums[1][r];
        }
    }
    for (uint64_t j = 0; rows->length > SHORT && j < rows->count; j++) {
        const float *px = x + j * rows->stride, *pdy = dy + j * rows->stride, *w = WEIGHTS(j);
        vec m = splat(k->m[j]), c = splat(k->c[j]), g, gd;
        struct sum total_g = {0}, total_gd = {0};
        for (size_t i = 0; i < rows->length; i += STRETCH) {
            gd = run_dots(px + i, pdy + i, weighted ? w + i : NULL, least(STRETCH, rows->length - i), m, c, &g);
            sum_add(&total_g, g, i / STRETCH);
            sum_add(&total_gd, gd, i / STRETCH);
        }
        sum_g[j] = sum_end(&total_g);
        sum_gd[j] = sum_end(&total_gd);
    }
#undef WEIGHTS
}

static void dots(const float *x, const float *dy, const struct cln_rows *rows, const struct cln_scalars *k,
                 double *sum_g, double *sum_gd)
{
    if (rows->weight)
        dots_as(x, dy, rows, k, sum_g, sum_gd, 1);
    else
        dots_as(x, dy, rows, k, sum_g, sum_gd, 0);
}

/* ---- apply: 5 operations and 8 bytes an element ---- */

struct scalars {
    vec m, c, a, q, b;
};

INLINE struct scalars scalars_of(const struct cln_scalars *k, uint64_t j, int gradient)
{
    vec zero = splat(0.0f);
    return (struct scalars){splat(k->m[j]), splat(k->c[j]), splat(k->a[j]), gradient ? splat(k->q[j]) : zero,
                            gradient ? splat(k->b[j]) : zero};
}

/* n elements of a row: LANES of them unless it is its first or last ones. */
INLINE void apply_vector(const float *x, float *y, size_t n, const struct scalars *s, const float *w, const float *bias,
                         int streaming, size_t ahead)
{
    vec v = ((load_lanes(x, n, s->m) - s->m) - s->c) * s->a;
    if (w)
        v *= load_lanes(w, n, s->m);
    if (bias)
        v += load_lanes(bias, n, s->m);
    if (ahead)
        fetch(x + ahead);
    if (n < LANES)
        store_part(y, n, v);
    else if (streaming)
        store_stream(y, v);
    else
        store(y, v);
}

INLINE void apply_as(const float *x, float *y, const struct cln_rows *rows, const struct cln_scalars *k, int weighted,
                     int biased, int streaming, size_t ahead)
{
    for (uint64_t j = 0; j < rows->count; j++) {
        const float *w = weighted ? weights_of(rows, rows->weight, j) : NULL, *px = x + j * rows->stride;
        const float *bias = biased ? weights_of(rows, rows->bias, j) : NULL;
        struct scalars s = scalars_of(k, j, 0);
        float *py = y + j * rows->stride;
        size_t i = 0, n = rows->length, head = streaming ? elements_before_line(py, n) : 0;
#define VECTOR(lanes)                                                                                                  \
    apply_vector(px + i, py + i, (lanes), &s, weighted ? w + i : NULL, biased ? bias + i : NULL, streaming, ahead)
        if (head) {
            VECTOR(head);
            i = head;
        }
        for (; i + LANES <= n; i += LANES)
            VECTOR(LANES);
        if (i < n)
            VECTOR(n - i);
#undef VECTOR
    }
}

INLINE void apply_affine(const float *x, float *y, const struct cln_rows *rows, const struct cln_scalars *k,
                         int streaming, size_t ahead)
{
    if (rows->weight && rows->bias)
        apply_as(x, y, rows, k, 1, 1, streaming, ahead);
    else if (rows->weight)
        apply_as(x, y, rows, k, 1, 0, streaming, ahead);
    else
        apply_as(x, y, rows, k, 0, rows->bias != NULL, streaming, ahead);
}

static void apply(const float *x, float *y, const struct cln_rows *rows, const struct cln_scalars *k)
{
    if (rows->streaming && rows->ahead)
        apply_affine(x, y, rows, k, 1, rows->ahead);
    else
        apply_affine(x, y, rows, k, rows->streaming, 0);
}

/* ---- gradient: 11 operations and 12 bytes an element ---- */

/* Sums over rows of a chunk of columns, in chains of CHAIN rows. */
struct column_sums {
    float w[COLUMNS + LANES], b[COLUMNS + LANES];
};

/* What a gradient does, constants of each copy of the code. */
struct parts {
    int weighted, writes, sums, streaming;
};

INLINE void gradient_vector(const float *x, const float *dy, float *dx, size_t n, const struct scalars *s,
                            const float *w, float *sum_w, float *sum_b, struct parts p, size_t ahead)
{
    vec zero = splat(0.0f), g = load_lanes(dy, n, zero), d = (load_lanes(x, n, s->m) - s->m) - s->c;
    if (p.sums) { /* lanes behind the row's end add zeros */
        store(sum_w, load(sum_w) + g * (d * s->a));
        store(sum_b, load(sum_b) + g);
    }
    if (ahead) {
        fetch(x + ahead);
        fetch(dy + ahead);
    }
    if (!p.writes)
        return;
    vec v = (p.weighted ? s->a * load_lanes(w, n, zero) : s->a) * g + (s->q * d + s->b);
    if (n < LANES)
        store_part(dx, n, v);
    else if (p.streaming)
        store_stream(dx, v);
    else
        store(dx, v);
}

INLINE void gradient_row(const float *x, const float *dy, float *dx, size_t n, const struct scalars *s, const float *w,
                         struct column_sums *t, struct parts p, size_t ahead)
{
    size_t i = 0, head = p.writes && p.streaming ? elements_before_line(dx, n) : 0;
#define VECTOR(lanes)                                                                                                  \
    gradient_vector(x + i, dy + i, p.writes ? dx + i : dx, (lanes), s, p.weighted ? w + i : w, t->w + i, t->b + i, p,  \
                    ahead)
    if (head) {
        VECTOR(head);
        i = head;
    }
    for (; i + LANES <= n; i += LANES)
        VECTOR(LANES);
    if (i < n)
        VECTOR(n - i);
#undef VECTOR
}

static void carry(const float *from, double *to, size_t n)
{
    for (size_t i = 0; i < n; i++)
        to[i] += (double)from[i];
}

INLINE void gradient_as(const float *x, const float *dy, float *dx, const struct cln_rows *rows,
                        const struct cln_scalars *k, const struct cln_gather *sums, struct parts p, size_t ahead)
{
    uint64_t step = rows->cycle;
    struct column_sums t;
    for (uint64_t first = 0; first < least(step, rows->count); first++) {
        uint64_t weight = (rows->first + first) % step * rows->stride;
        for (uint64_t begin = first; begin < rows->count; begin += CHAIN * step) {
            uint64_t end = least(rows->count, begin + CHAIN * step);
            for (uint64_t i = 0, n; i < rows->length; i += n) {
                n = least(COLUMNS, rows->length - i);
                if (p.sums) {
                    memset(t.w, 0, (n + LANES) * sizeof(float));
                    memset(t.b, 0, (n + LANES) * sizeof(float));
                }
                for (uint64_t j = begin; j < end; j += step) {
                    uint64_t at = j * rows->stride + i;
                    struct scalars s = scalars_of(k, j, 1);
                    gradient_row(x + at, dy + at, p.writes ? dx + at : dx, n, &s,
                                 p.weighted ? rows->weight + weight + i : NULL, &t, p, ahead);
                }
                if (p.sums && sums->dweight)
                    carry(t.w, sums->dweight + weight + i, n);
                if (p.sums && sums->dbias)
                    carry(t.b, sums->dbias + weight + i, n);
            }
        }
    }
}

INLINE void gradient_write(const float *x, const float *dy, float *dx, const struct cln_rows *rows,
                           const struct cln_scalars *k, const struct cln_gather *sums, struct parts p)
{
    if (p.streaming && rows->ahead)
        gradient_as(x, dy, dx, rows, k, sums, p, rows->ahead);
    else
        gradient_as(x, dy, dx, rows, k, sums, p, 0);
}

static void gradient(const float *x, const float *dy, float *dx, const struct cln_rows *rows,
                     const struct cln_scalars *k, const struct cln_gather *sums)
{
    int gathers = sums->dweight || sums->dbias;
#define CASE(weighted, gathers_)                                                                                       \
    do {                                                                                                               \
        if (rows->streaming)                                                                                           \
            gradient_write(x, dy, dx, rows, k, sums, (struct parts){(weighted), 1, (gathers_), 1});                    \
        else                                                                                                           \
            gradient_write(x, dy, dx, rows, k, sums, (struct parts){(weighted), 1, (gathers_), 0});                    \
    } while (0)
    if (!dx)
        gradient_as(x, dy, dx, rows, k, sums, (struct parts){0, 0, 1, 0}, 0);
    else if (rows->weight && gathers)
        CASE(1, 1);
    else if (rows->weight)
        CASE(1, 0);
    else if (gathers)
        CASE(0, 1);
    else
        CASE(0, 0);
#undef CASE
}

void CLN_SIMD(rows)(struct cln_rows_kernels *kernels)
{
    *kernels = (struct cln_rows_kernels){statistics, dots, apply, gradient};
}
