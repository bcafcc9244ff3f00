/* The columns family, a vector of columns at a time. */
#include "cpu/kernels.h"
#include "cpu/simd/simd.h"
#include "cpu/simd/vector.h"

enum {
    PIVOT_ROWS = 16,
    ROWS = 256,           /* that share a pivot */
    TURN = CHAIN * CHAIN, /* rows after which sums are carried on in double */
    AHEAD = 4096,         /* elements that are fetched before they are added up */
    WRITE_AHEAD = 2048    /* and before they are normalized */
};

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
    const float *x, *dy, *m, *c;
};

/* `rows` rows of one vector of columns. */
INLINE void rows_add(const struct terms *of, uint64_t at, uint64_t rows, uint64_t stride, vec m, vec c, size_t lanes,
                     int dots, vec *a, vec *b)
{
    for (uint64_t r = 0; r < rows; r++, at += stride) {
        vec d = row_load(of->x + at, lanes) - m;
        if (dots) {
            vec g = row_load(of->dy + at, lanes);
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
    for (size_t i = 0; i < CHAIN * LANES; i += LANES) {
        fetch(of->x + f->next + i);
        if (dots)
            fetch(of->dy + f->next + i);
    }
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
        vec a = {0}, b = {0}, m = row_load(of->m + j, lanes), c = dots ? row_load(of->c + j, lanes) : m;
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

static void statistics(const float *x, struct cln_band b, double *mean, double *m2)
{
    float pivot[CLN_BAND];
    struct sums t;
    memset(mean, 0, b.count * sizeof *mean);
    memset(m2, 0, b.count * sizeof *m2);
    for (uint64_t i = 0; i < b.outers; i += ROWS) {
        uint64_t rows = least(ROWS, b.outers - i);
        double count = (double)rows;
        struct terms of = {x + i * b.outer_stride, NULL, pivot, NULL};
        for (uint32_t j = 0; j < b.count; j += LANES)
            store(pivot + j, pivot_of(of.x + j, rows, b.outer_stride, b.count - j));
        sums_of(&of, rows, &b, 0, &t);
        int far = 0;
        for (size_t j = 0; j < b.count; j++)
            far |= cln_pivot_is_far(count, t.total[0][j], t.total[1][j]);
        if (far) { /* in cache: the second pass costs no memory */
            for (size_t j = 0; j < b.count; j++) {
                if (cln_pivot_is_far(count, t.total[0][j], t.total[1][j]))
                    pivot[j] = (float)(pivot[j] + t.total[0][j] / count);
            }
            sums_of(&of, rows, &b, 0, &t);
        }
        moments_add((double)i, count, b.count, pivot, &t, mean, m2);
    }
}

/* ---- sums for backward: 5 operations and 8 bytes an element ---- */

static void dots(const float *x, const float *dy, struct cln_band b, const float *m, const float *c, double *sum_dy,
                 double *sum_dyd)
{
    struct sums t;
    struct terms of = {x, dy, m, c};
    sums_of(&of, b.outers, &b, 1, &t);
    memcpy(sum_dy, t.total[0], b.count * sizeof *sum_dy);
    memcpy(sum_dyd, t.total[1], b.count * sizeof *sum_dyd);
}

/* ---- apply and gradient, row by row: 4 and 6 operations, 8 and 12 bytes an element ---- */

/* n elements of a row from column j on; n ≤ LANES, less if `part`. */
INLINE void vector_of(const float *x, const float *dy, float *out, size_t n, const struct cln_scalars *k, size_t j,
                      int gradient, int part, int streaming)
{
    vec zero = splat(0.0f);
#define LOAD(p) (part ? load_part((p), n, zero) : load(p))
    vec d = (LOAD(x) - LOAD(k->m + j)) - LOAD(k->c + j), v;
    if (gradient)
        v = LOAD(k->a + j) * LOAD(dy) + (LOAD(k->q + j) * d + LOAD(k->b + j));
    else
        v = d * LOAD(k->a + j) + LOAD(k->b + j);
#undef LOAD
    if (part)
        store_part(out, n, v);
    else if (streaming)
        store_stream(out, v);
    else
        store(out, v);
}

INLINE void walk(const float *x, const float *dy, float *out, const struct cln_stretch *at, const struct cln_scalars *k,
                 int gradient, int streaming)
{
    size_t j = at->group;
    for (size_t i = 0; i < at->count;) { /* what is left of a row */
        size_t end = i + least(at->groups - j, at->count - i);
        size_t head = streaming ? elements_before_line(out + i, end - i) : 0;
        if (head) {
            vector_of(x + i, dy + i, out + i, head, k, j, gradient, 1, 0);
            i += head;
            j += head;
        }
        for (; i + LANES <= end; i += LANES, j += LANES) {
            fetch(x + i + WRITE_AHEAD); /* the processor alone loses track of x among the planes of scalars */
            if (gradient)
                fetch(dy + i + WRITE_AHEAD);
            vector_of(x + i, dy + i, out + i, LANES, k, j, gradient, 0, streaming);
        }
        if (i < end)
            vector_of(x + i, dy + i, out + i, end - i, k, j, gradient, 1, 0);
        i = end;
        j = 0;
    }
}

INLINE void walk_as(const float *x, const float *dy, float *out, const struct cln_stretch *at,
                    const struct cln_scalars *k, int gradient)
{
    if (at->streaming)
        walk(x, dy, out, at, k, gradient, 1);
    else
        walk(x, dy, out, at, k, gradient, 0);
}

static void apply(const float *x, float *y, struct cln_stretch at, const struct cln_scalars *k)
{
    walk_as(x, x, y, &at, k, 0);
}

static void gradient(const float *x, const float *dy, float *dx, struct cln_stretch at, const struct cln_scalars *k)
{
    walk_as(x, dy, dx, &at, k, 1);
}

void CLN_SIMD(columns)(struct cln_family_kernels *kernels)
{
    *kernels = (struct cln_family_kernels){statistics, dots, apply, gradient};
}
