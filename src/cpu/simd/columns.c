/* The columns family, a vector of columns at a time. */
#include "cpu/kernels.h"
#include "cpu/simd/simd.h"
#include "cpu/simd/tensors.h"
#include "cpu/simd/typed.h"

enum {
    PIVOT_ROWS = 16,
    ROWS = 256,           /* that share a pivot */
    TURN = CHAIN * CHAIN, /* rows after which sums are carried on in double */
    AHEAD = 4096,         /* elements that are fetched before they are added up */
    WRITE_AHEAD = 2048    /* and before they are normalized */
};

/* `lanes` of a row: LANES but in the last vector of a band. */
INLINE vec row_load(struct source of, uint64_t i, size_t lanes)
{
    return source_load(of, i, least(lanes, LANES));
}

INLINE vec plane_load(const float *p, size_t lanes)
{
    return lanes >= LANES ? load(p) : load_part(p, lanes, splat(0.0f));
}

/* Near the mean of the first rows of each column, and exactly the value itself if they are all equal. */
INLINE vec pivot_of(struct source x, uint64_t rows, uint64_t stride, size_t lanes)
{
    uint64_t first = 1;
    while (first < PIVOT_ROWS && 2 * first <= rows)
        first *= 2;
    vec x0 = row_load(x, 0, lanes), s = {0};
    for (uint64_t i = 1; i < first; i++)
        s += row_load(x, i * stride, lanes) - x0;
    return x0 + s / splat((float)first);
}

/* Two sums of every column of a band: chains of chains, then double. Planes are padded to whole vectors. */
struct sums {
    float chain[2][CLN_BAND];
    double total[2][CLN_BAND];
};

INLINE size_t padded(uint32_t count)
{
    return (count + LANES - 1) / LANES * LANES;
}

/* What is added up: x − m and its square, or dy and dy·((x − m) − c) if there is a dy. */
struct terms {
    struct source x, dy;
    const float *m, *c;
};

/* `rows` rows of one vector of columns. */
INLINE void rows_add(const struct terms *of, uint64_t at, uint64_t rows, uint64_t stride, vec m, vec c, size_t lanes,
                     int dots, vec *a, vec *b)
{
    for (uint64_t r = 0; r < rows; r++, at += stride) {
        vec d = row_load(of->x, at, lanes) - m;
        if (dots) {
            vec g = row_load(of->dy, at, lanes);
            *a += g;
            *b += g * (d - c);
        } else {
            *a += d;
            *b += d * d;
        }
    }
}

/* The lines that are fetched while CHAIN rows are added up: as many, `ahead` elements on, in the order of their addresses, and not into
 * the nearest cache: they would push each other out before they are used. */
struct fetches {
    size_t next, column, width, gap; /* element; its column; columns of a row, and from its end to the next row */
};

INLINE void fetch_chain(const struct terms *of, struct fetches *f, int dots)
{
    source_fetch(of->x, f->next, CHAIN * LANES);
    if (dots)
        source_fetch(of->dy, f->next, CHAIN * LANES);
    f->next += CHAIN * LANES;
    f->column += CHAIN * LANES;
    if (f->column >= f->width) {
        f->next += f->gap;
        f->column = 0;
    }
}

/* `rows` ≤ CHAIN rows of every column from element `at` on: a vector of columns stays in registers for a chain. The rows are in the
 * cache by then, for they were fetched one after the other: that is what memory delivers fastest. */
INLINE void chains_add(const struct terms *of, uint64_t at, uint64_t rows, const struct cln_band *band, size_t ahead,
                       int dots, struct sums *t)
{
    size_t width = padded(band->count), stride = band->outer_stride;
    struct fetches f = {at + ahead, 0, SIZE_MAX, 0};
    if (stride > width) {
        f.width = (width + CHAIN * LANES - 1) / (CHAIN * LANES) * (CHAIN * LANES);
        f.gap = stride > f.width ? stride - f.width : 0;
    }
    for (size_t j = 0; j < band->count; j += LANES) {
        size_t lanes = band->count - j;
        vec a = {0}, b = {0}, m = plane_load(of->m + j, lanes), c = dots ? plane_load(of->c + j, lanes) : m;
        fetch_chain(of, &f, dots);
        if (lanes >= LANES && rows == CHAIN)
            rows_add(of, at + j, CHAIN, stride, m, c, LANES, dots, &a, &b);
        else
            rows_add(of, at + j, rows, stride, m, c, lanes, dots, &a, &b);
        store(t->chain[0] + j, load(t->chain[0] + j) + a);
        store(t->chain[1] + j, load(t->chain[1] + j) + b);
    }
}

/* All rows. */
INLINE void sums_of(const struct terms *of, uint64_t rows, const struct cln_band *band, int dots, struct sums *t)
{
    size_t columns = padded(band->count), stride = band->outer_stride;
    size_t rows_ahead = AHEAD / stride, ahead = (rows_ahead > CHAIN ? rows_ahead : CHAIN) * stride;
    for (int k = 0; k < 2; k++) {
        /* cppcheck-suppress uninitvar ; cleared here, not read */
        memset(t->total[k], 0, columns * sizeof(double));
    }
    for (uint64_t start = 0; start < rows; start += TURN) {
        uint64_t end = least(rows, start + TURN);
        for (int k = 0; k < 2; k++)
            memset(t->chain[k], 0, columns * sizeof(float));
        for (uint64_t i = start; i < end; i += CHAIN)
            chains_add(of, i * stride, least(CHAIN, end - i), band, ahead, dots, t);
        for (int k = 0; k < 2; k++) {
            for (size_t j = 0; j < columns; j++)
                t->total[k][j] += (double)t->chain[k][j];
        }
    }
}

/* ---- statistics: 5 operations and 4 bytes an element ---- */

/* cln_moments_about and cln_moments_add, column by column without a division in the loop. */
static void moments_add(double before, double count, size_t columns, const float *pivot, const struct sums *t,
                        double *mean, double *m2)
{
    double inverse = 1.0 / count, share = count / (before + count), weight = before * share;
    for (size_t j = 0; j < columns; j++) {
        double s = t->total[0][j], part_m2 = t->total[1][j] - s * (s * inverse);
        double delta = pivot[j] + s * inverse - mean[j];
        part_m2 = part_m2 < 0.0 ? 0.0 : part_m2;
        m2[j] += part_m2 + (weight > 0.0 ? delta * delta * weight : 0.0);
        mean[j] += delta * share;
    }
}

INLINE void statistics_of(struct source x, const struct cln_band *b, double *mean, double *m2)
{
    float pivot[CLN_BAND];
    struct sums t;
    memset(mean, 0, b->count * sizeof *mean);
    memset(m2, 0, b->count * sizeof *m2);
    for (uint64_t i = 0; i < b->outers; i += ROWS) {
        uint64_t rows = least(ROWS, b->outers - i);
        double count = (double)rows;
        struct source from = further(x, i * b->outer_stride);
        struct terms of = {from, from, pivot, NULL};
        for (uint32_t j = 0; j < b->count; j += LANES)
            store(pivot + j, pivot_of(further(from, j), rows, b->outer_stride, b->count - j));
        sums_of(&of, rows, b, 0, &t);
        int far = 0;
        for (size_t j = 0; j < b->count; j++)
            far |= cln_pivot_is_far(count, t.total[0][j], t.total[1][j]);
        if (far) { /* in cache: the second pass costs no memory */
            for (size_t j = 0; j < b->count; j++) {
                if (cln_pivot_is_far(count, t.total[0][j], t.total[1][j]))
                    pivot[j] = (float)(pivot[j] + t.total[0][j] / count);
            }
            sums_of(&of, rows, b, 0, &t);
        }
        moments_add((double)i, count, b->count, pivot, &t, mean, m2);
    }
}

static void statistics(const float *x, struct cln_band b, double *mean, double *m2)
{
    statistics_of((struct source){x, CLNORM_F32, 0}, &b, mean, m2);
}

static void statistics_typed(const void *x, clnorm_dtype type, struct cln_band b, double *mean, double *m2)
{
    if (type == CLNORM_F16)
        statistics_of((struct source){x, CLNORM_F16, 0}, &b, mean, m2);
    else
        statistics_of((struct source){x, CLNORM_BF16, 0}, &b, mean, m2);
}

/* ---- sums for backward: 5 operations and 8 bytes an element ---- */

INLINE void dots_of(struct source x, struct source dy, const struct cln_band *b, const float *m, const float *c,
                    double *sum_dy, double *sum_dyd)
{
    struct sums t;
    struct terms of = {x, dy, m, c};
    sums_of(&of, b->outers, b, 1, &t);
    memcpy(sum_dy, t.total[0], b->count * sizeof *sum_dy);
    memcpy(sum_dyd, t.total[1], b->count * sizeof *sum_dyd);
}

static void dots(const float *x, const float *dy, struct cln_band b, const float *m, const float *c, double *sum_dy,
                 double *sum_dyd)
{
    dots_of((struct source){x, CLNORM_F32, 0}, (struct source){dy, CLNORM_F32, 0}, &b, m, c, sum_dy, sum_dyd);
}

static void dots_typed(const void *x, clnorm_dtype x_type, const void *dy, clnorm_dtype dy_type, struct cln_band b,
                       const float *m, const float *c, double *sum_dy, double *sum_dyd)
{
#define CALL(of_x, of_dy)                                                                                              \
    dots_of((struct source){x, (of_x), 0}, (struct source){dy, (of_dy), 0}, &b, m, c, sum_dy, sum_dyd)
    BY_NARROW_TYPES(x_type, dy_type, CALL);
#undef CALL
}

/* ---- apply and gradient, row by row: 4 and 6 operations, 8 and 12 bytes an element ---- */

/* n ≤ LANES elements of a row from element i on, which is of column j. */
INLINE void vector_of(const struct tensors *of, size_t i, size_t n, const struct cln_scalars *k, size_t j, int gradient,
                      int streaming)
{
    vec zero = splat(0.0f);
#define PLANE(p) (n < LANES ? load_part((p) + j, n, zero) : load((p) + j))
    vec d = (row_load(of->x, i, n) - PLANE(k->m)) - PLANE(k->c), v;
    if (gradient)
        v = PLANE(k->a) * row_load(of->dy, i, n) + (PLANE(k->q) * d + PLANE(k->b));
    else
        v = d * PLANE(k->a) + PLANE(k->b);
#undef PLANE
    store_as(finished(v, of->finish, of->x.type, i, n), of->out, of->out_type, i, n, streaming);
}

INLINE void walk(const struct tensors *of, const struct cln_stretch *at, const struct cln_scalars *k, int gradient,
                 int streaming)
{
    size_t j = at->group, bytes = of->out_type == CLNORM_F32 ? 4 : 2;
    for (size_t i = 0; i < at->count;) { /* what is left of a row */
        size_t end = i + least(at->groups - j, at->count - i);
        size_t head = streaming ? before_line_as((const char *)of->out + i * bytes, of->out_type, end - i) : 0;
        for (size_t n; head > 0; i += n, j += n, head -= n) {
            n = least(head, LANES);
            vector_of(of, i, n, k, j, gradient, 0);
        }
        for (; i + LANES <= end; i += LANES, j += LANES) {
            /* the processor alone loses track of x among the planes of scalars */
            source_fetch(of->x, i + WRITE_AHEAD, LANES);
            if (gradient)
                source_fetch(of->dy, i + WRITE_AHEAD, LANES);
            vector_of(of, i, LANES, k, j, gradient, streaming);
        }
        if (i < end)
            vector_of(of, i, end - i, k, j, gradient, 0);
        i = end;
        j = 0;
    }
}

INLINE void walk_as(const struct tensors *of, const struct cln_stretch *at, const struct cln_scalars *k, int gradient)
{
    if (at->streaming)
        walk(of, at, k, gradient, 1);
    else
        walk(of, at, k, gradient, 0);
}

#include "cpu/simd/writes.h"

void CLN_SIMD(columns)(struct cln_family_kernels *kernels)
{
    *kernels = (struct cln_family_kernels){statistics, dots, apply, gradient};
}

void CLN_SIMD(columns_typed)(struct cln_typed_family_kernels *kernels)
{
    *kernels = (struct cln_typed_family_kernels){statistics_typed, dots_typed, apply_typed, gradient_typed};
}
