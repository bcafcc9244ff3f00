/* Rows with weights along them, a vector at a time: what sums up. Short rows are taken LANES together, so that their lanes are added
 * by one tree. */
#include "cpu/rows_planes.h"
#include "cpu/simd/rows_vector.h"

enum {
    SIDE = 4,                       /* accumulators side by side */
    STRETCH = SIDE * CHAIN * LANES, /* elements that they take */
    SHORT = STRETCH < CLN_SHORT_ROW ? STRETCH : CLN_SHORT_ROW
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

/* Of a row a lane, of which n are wanted; cln_moments_about without branches. */
INLINE void moments_of(vec pivot, vec sum, vec squares, uint64_t length, size_t n, double *mean, double *m2)
{
    float p[LANES], s[LANES], q[LANES];
    double means[LANES], rests[LANES], count = (double)length;
    store(p, pivot);
    store(s, sum);
    store(q, squares);
    for (size_t r = 0; r < LANES; r++) {
        double total = (double)s[r], offset = total / count, rest = (double)q[r] - total * offset;
        means[r] = (double)p[r] + offset;
        rests[r] = rest < 0.0 ? 0.0 : rest; /* rounding; a NaN stays */
    }
    memcpy(mean, means, n * sizeof *mean);
    memcpy(m2, rests, n * sizeof *m2);
}

/* Of n ≤ LANES short rows: their mean, about their first elements, is the pivot. */
static void short_moments(const float *x, size_t n, const struct cln_rows *rows, double *mean, double *m2)
{
    vec s[LANES], q[LANES];
    float pivot[LANES], first[LANES] = {0};
    for (size_t r = 0; r < LANES; r++) {
        s[r] = q[r] = splat(0.0f);
        if (r < n) {
            first[r] = x[r * rows->stride];
            s[r] = run_sum(x + r * rows->stride, rows->length, splat(first[r]));
        }
    }
    store(pivot, load(first) + sums_of_rows(s) / splat((float)rows->length));
    for (size_t r = 0; r < n; r++)
        q[r] = run_squares(x + r * rows->stride, rows->length, splat(pivot[r]), &s[r]);
    moments_of(load(pivot), sums_of_rows(s), sums_of_rows(q), rows->length, n, mean, m2);
}

/* ---- tiny rows: less than a vector long, a lane each ---- */

/* Laid out at a time, long before they are loaded as vectors: those would wait for single stores. */
enum { TINY = 8 * LANES };
struct tiny {
    float value[TINY / LANES][LANES][LANES]; /* of each register of rows, each element: a row a lane */
};

/* The values of n ≤ TINY rows; lanes without a row are 0. */
static void lanes_of_rows(const float *x, size_t n, size_t length, size_t stride, struct tiny *to)
{
    for (size_t begin = 0; begin < n; begin += LANES) {
        float(*value)[LANES] = to->value[begin / LANES];
        size_t rows = least(LANES, n - begin);
        if (rows < LANES)
            memset(value, 0, sizeof to->value[0]);
        for (size_t i = 0; i < length; i++) {
            const float *from = x + begin * stride + i;
            if (rows == LANES) {
                for (size_t r = 0; r < LANES; r++)
                    value[i][r] = from[r * stride];
            } else {
                for (size_t r = 0; r < rows; r++)
                    value[i][r] = from[r * stride];
            }
        }
    }
}

/* Σ(x − p) and Σ(x − p)², two chains each. */
INLINE vec tiny_squares(const float (*x)[LANES], size_t length, vec p, vec *sum)
{
    vec s[2] = {{0}}, q[2] = {{0}};
    for (size_t i = 0; i < length; i++) {
        vec d = load(x[i]) - p;
        s[i % 2] += d;
        q[i % 2] += d * d;
    }
    *sum = s[0] + s[1];
    return q[0] + q[1];
}

/* Of n ≤ TINY rows. */
static void tiny_statistics(const float *x, size_t n, const struct cln_rows *rows, int centred, double *mean,
                            double *m2)
{
    struct tiny t;
    lanes_of_rows(x, n, rows->length, rows->stride, &t);
    for (size_t r = 0; r < n; r += LANES) {
        const float(*values)[LANES] = (const float(*)[LANES])t.value[r / LANES];
        vec pivot = splat(0.0f), sum, squares;
        size_t some = least(LANES, n - r);
        if (centred) {
            tiny_squares(values, rows->length, load(values[0]), &sum);
            pivot = load(values[0]) + sum / splat((float)rows->length);
        }
        squares = tiny_squares(values, rows->length, pivot, &sum);
        if (centred) {
            moments_of(pivot, sum, squares, rows->length, some, mean + r, m2 + r);
        } else {
            float q[LANES];
            store(q, squares);
            for (size_t l = 0; l < some; l++)
                m2[r + l] = (double)q[l];
        }
    }
}

/* ---- rows ---- */

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
    for (uint64_t j = 0; rows->length == 1 && j < rows->count; j++) { /* its own mean */
        double value = (double)x[j * rows->stride];
        mean[j] = centred ? value : 0.0;
        m2[j] = centred ? value - value : value * value;
    }
    if (rows->length == 1)
        return;
    uint64_t step = rows->length < LANES ? TINY : rows->length <= SHORT ? LANES : 1;
    for (uint64_t j = 0; j < rows->count; j += step) {
        const float *row = x + j * rows->stride;
        size_t n = least(step, rows->count - j);
        if (rows->length < LANES)
            tiny_statistics(row, n, rows, centred, mean + j, m2 + j);
        else if (rows->length <= SHORT && centred)
            short_moments(row, n, rows, mean + j, m2 + j);
        else if (rows->length <= SHORT)
            short_squares(row, n, rows, m2 + j);
        else
            m2[j] = row_squares(row, rows->length);
    }
    if (!centred)
        memset(mean, 0, rows->count * sizeof *mean);
}

/* ---- sums for backward: 6 operations and 8 bytes an element ---- */

/* Of n ≤ TINY rows from row `first` on, which x and dy are at. */
static void tiny_dots(const float *x, const float *dy, size_t n, const struct cln_rows *rows, uint64_t first,
                      const struct cln_scalars *k, double *sum_g, double *sum_gd)
{
    struct tiny value, grad, weight;
    size_t length = rows->length;
    int weights_differ = rows->weight && rows->cycle > 1; /* from row to row */
    lanes_of_rows(x, n, length, rows->stride, &value);
    lanes_of_rows(dy, n, length, rows->stride, &grad);
    if (weights_differ) {
        float w[TINY * LANES];
        for (size_t r = 0; r < n; r++)
            memcpy(w + r * length, weights_of(rows, rows->weight, first + r), length * sizeof *w);
        lanes_of_rows(w, n, length, length, &weight);
    }
    for (size_t r = 0; r < n; r += LANES) {
        size_t some = least(LANES, n - r), at = first + r;
        vec zero = splat(0.0f), m = load_lanes(k->m + at, some, zero), c = load_lanes(k->c + at, some, zero);
        vec a[2] = {{0}}, b[2] = {{0}};
        float sums[2][LANES];
        for (size_t i = 0; i < length; i++) {
            vec g = load(grad.value[r / LANES][i]);
            if (rows->weight)
                g *= weights_differ ? load(weight.value[r / LANES][i]) : splat(rows->weight[i]);
            a[i % 2] += g;
            b[i % 2] += g * ((load(value.value[r / LANES][i]) - m) - c);
        }
        store(sums[0], a[0] + a[1]);
        store(sums[1], b[0] + b[1]);
        for (size_t l = 0; l < some; l++) {
            sum_g[r + l] = (double)sums[0][l];
            sum_gd[r + l] = (double)sums[1][l];
        }
    }
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
    for (uint64_t j = 0; rows->length < LANES && j < rows->count; j += TINY)
        tiny_dots(x + j * rows->stride, dy + j * rows->stride, least(TINY, rows->count - j), rows, j, k, sum_g + j,
                  sum_gd + j);
    if (rows->length < LANES)
        return;
    if (rows->weight)
        dots_as(x, dy, rows, k, sum_g, sum_gd, 1);
    else
        dots_as(x, dy, rows, k, sum_g, sum_gd, 0);
}

static void finish(const struct cln_row_sums *sums, int centred, float eps, float *m, float *c, float *rstd, float *var)
{
    rows_finish(sums, centred, eps, m, c, rstd, var);
}

static void slopes(const struct cln_row_sums *sums, int centred, const float *rstd, float *q, float *r)
{
    rows_slopes(sums, centred, rstd, q, r);
}

void CLN_SIMD(rows)(struct cln_rows_kernels *kernels)
{
    kernels->statistics = statistics;
    kernels->dots = dots;
    kernels->finish = finish;
    kernels->slopes = slopes;
    CLN_SIMD(rows_writes)(kernels);
}
