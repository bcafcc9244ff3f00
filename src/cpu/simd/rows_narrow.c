/* Narrow rows that follow each other. They are walked through as if they were wide ones, of as many rows as it takes until weights
 * and vectors begin together again; the scalars, the same all along a row, are laid out element by element. */
#include "cpu/simd/rows_vector.h"

enum {
    WIDE = 256,       /* elements of a wide row, at least, if weights repeat sooner, */
    MOST_WIDE = 1024, /* and at most */
    PIECE = 512,      /* elements whose scalars are laid out at a time */
    MARGIN = NARROW   /* a row's scalars may begin before a piece and end behind it */
};

struct wide_rows {
    uint64_t elements, length, unit; /* of all, of a wide row; elements after which weights repeat */
    uint64_t first;                  /* weight of the first element */
    const float *weight, *bias;      /* of a wide row; NULL: 1 and 0 */
    float pattern[2][MOST_WIDE];
};

static const float *repeat(const float *from, uint64_t unit, uint64_t length, float *to)
{
    for (uint64_t i = 0; from && i < length; i++)
        to[i] = i < unit ? from[i] : to[i - unit];
    return from ? to : NULL;
}

static void make_wide(const struct cln_rows *rows, struct wide_rows *w)
{
    w->elements = rows->count * rows->length;
    w->unit = w->length = rows->cycle * rows->length;
    w->first = rows->first * rows->length;
    w->weight = rows->weight ? rows->weight + w->first : NULL;
    w->bias = rows->bias ? rows->bias + w->first : NULL;
    if (w->length > WIDE || w->first > 0) /* a part of one sample is a wide row */
        return;
    while (w->length % LANES != 0)
        w->length += w->length;
    while (w->length < WIDE)
        w->length += w->length;
    if (w->length <= MOST_WIDE) {
        w->weight = repeat(w->weight, w->unit, w->length, w->pattern[0]);
        w->bias = repeat(w->bias, w->unit, w->length, w->pattern[1]);
    } else {
        w->length = w->unit;
    }
}

struct laid_out {
    float plane[5][PIECE + 2 * MARGIN];
};

/* Lays out the scalars of n elements from `element` on; returns where they are. */
INLINE struct cln_scalars lay_out(const struct cln_scalars *k, uint64_t element, uint64_t n, uint64_t length,
                                  int gradient, struct laid_out *to)
{
    const float *from[5] = {k->m, k->c, k->a, k->q, k->b};
    int planes = gradient ? 5 : 3;
    uint64_t row = element / length, before = element % length;
    if (length == 1)
        return (struct cln_scalars){.m = k->m + row,
                                    .c = k->c + row,
                                    .a = k->a + row,
                                    .q = gradient ? k->q + row : k->a,
                                    .b = gradient ? k->b + row : k->a};
    for (uint64_t at = MARGIN - before; at < MARGIN + n; at += length, row++) {
        for (int p = 0; p < planes; p++) { /* what is written too far is the next row's */
            vec v = splat(from[p][row]);
            for (uint64_t i = 0; i < length; i += LANES)
                store(to->plane[p] + at + i, v);
        }
    }
    return (struct cln_scalars){.m = to->plane[0] + MARGIN,
                                .c = to->plane[1] + MARGIN,
                                .a = to->plane[2] + MARGIN,
                                .q = to->plane[3] + MARGIN,
                                .b = to->plane[4] + MARGIN};
}

INLINE struct scalars scalars_at(const struct cln_scalars *k, size_t i, size_t n, int gradient)
{
    vec zero = splat(0.0f);
    return (struct scalars){load_lanes(k->m + i, n, zero), load_lanes(k->c + i, n, zero), load_lanes(k->a + i, n, zero),
                            gradient ? load_lanes(k->q + i, n, zero) : zero,
                            gradient ? load_lanes(k->b + i, n, zero) : zero};
}

/* Calls VECTOR(element, lanes) for n elements so that whole vectors begin on a line of `out`. */
#define FOR_LINES(out, n, VECTOR)                                                                                      \
    do {                                                                                                               \
        size_t i_ = elements_before_line((out), (n));                                                                  \
        if (i_)                                                                                                        \
            VECTOR((size_t)0, i_);                                                                                     \
        for (; i_ + LANES <= (n); i_ += LANES)                                                                         \
            VECTOR(i_, (size_t)LANES);                                                                                 \
        if (i_ < (n))                                                                                                  \
            VECTOR(i_, (n)-i_);                                                                                        \
    } while (0)

/* ---- apply ---- */

INLINE void apply_as(const float *x, float *y, const struct cln_rows *rows, const struct cln_scalars *k,
                     const struct wide_rows *w, int weighted, int biased, int streaming)
{
    struct laid_out planes;
    for (uint64_t begin = 0; begin < w->elements; begin += w->length) {
        uint64_t end = least(w->length, w->elements - begin);
        for (uint64_t c = 0, n; c < end; c += n) {
            n = least(PIECE, end - c);
            uint64_t at = begin + c;
            struct cln_scalars of = lay_out(k, at, n, rows->length, 0, &planes);
#define VECTOR(i, lanes)                                                                                               \
    do {                                                                                                               \
        struct scalars s = scalars_at(&of, (i), (lanes), 0);                                                           \
        apply_vector(x + at + (i), y + at + (i), (lanes), &s, weighted ? w->weight + c + (i) : NULL,                   \
                     biased ? w->bias + c + (i) : NULL, streaming, rows->ahead);                                       \
    } while (0)
            FOR_LINES(y + at, n, VECTOR);
#undef VECTOR
        }
    }
}

void CLN_SIMD(rows_apply_narrow)(const float *x, float *y, const struct cln_rows *rows, const struct cln_scalars *k)
{
    struct wide_rows w;
    make_wide(rows, &w);
    if (rows->streaming && rows->weight && rows->bias)
        apply_as(x, y, rows, k, &w, 1, 1, 1);
    else
        apply_as(x, y, rows, k, &w, rows->weight != NULL, rows->bias != NULL, rows->streaming);
}

/* ---- gradient ---- */

INLINE void gradient_piece(const float *x, const float *dy, float *dx, uint64_t n, const struct cln_scalars *of,
                           const float *weight, struct column_sums *t, struct parts p, size_t ahead)
{
#define VECTOR(i, lanes)                                                                                               \
    do {                                                                                                               \
        struct scalars s = scalars_at(of, (i), (lanes), 1);                                                            \
        gradient_vector(x + (i), dy + (i), p.writes ? dx + (i) : dx, (lanes), &s, p.weighted ? weight + (i) : weight,  \
                        t->w + (i), t->b + (i), p, ahead);                                                             \
    } while (0)
    FOR_LINES(p.writes ? dx : x, n, VECTOR);
#undef VECTOR
}

/* Into the sums of the weights, which repeat after `unit` elements. */
static void carry(const float *from, double *to, uint64_t first, uint64_t n, uint64_t unit)
{
    for (uint64_t i = 0, e = first % unit; i < n; i++) {
        to[e] += (double)from[i];
        e = e + 1 < unit ? e + 1 : 0;
    }
}

INLINE void gradient_as(const float *x, const float *dy, float *dx, const struct cln_rows *rows,
                        const struct cln_scalars *k, const struct cln_gather *sums, const struct wide_rows *w,
                        struct parts p)
{
    struct laid_out planes;
    struct column_sums t;
    for (uint64_t begin = 0; begin < w->elements; begin += CHAIN * w->length) {
        uint64_t first_row = least(w->length, w->elements - begin);
        for (uint64_t c = 0, n; c < first_row; c += n) {
            n = least(PIECE, first_row - c);
            memset(t.w, 0, (n + LANES) * sizeof(float));
            memset(t.b, 0, (n + LANES) * sizeof(float));
            for (uint64_t j = 0, at = begin + c; j < CHAIN && at < w->elements; j++, at += w->length) {
                uint64_t some = least(n, w->elements - at);
                struct cln_scalars of = lay_out(k, at, some, rows->length, 1, &planes);
                gradient_piece(x + at, dy + at, p.writes ? dx + at : dx, some, &of, p.weighted ? w->weight + c : NULL,
                               &t, p, rows->ahead);
            }
            if (p.sums && sums->dweight)
                carry(t.w, sums->dweight, w->first + c, n, w->unit);
            if (p.sums && sums->dbias)
                carry(t.b, sums->dbias, w->first + c, n, w->unit);
        }
    }
}

void CLN_SIMD(rows_gradient_narrow)(const float *x, const float *dy, float *dx, const struct cln_rows *rows,
                                    const struct cln_scalars *k, const struct cln_gather *sums)
{
    struct wide_rows w;
    make_wide(rows, &w);
    int gathers = sums->dweight || sums->dbias;
    if (dx && rows->weight && gathers && rows->streaming)
        gradient_as(x, dy, dx, rows, k, sums, &w, (struct parts){1, 1, 1, 1});
    else if (dx)
        gradient_as(x, dy, dx, rows, k, sums, &w, (struct parts){rows->weight != NULL, 1, gathers, rows->streaming});
    else
        gradient_as(x, dy, dx, rows, k, sums, &w, (struct parts){0, 0, 1, 0});
}
