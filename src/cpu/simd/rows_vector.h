/* What apply and gradient do to one vector of a row: shared by rows whose scalars are the same all along and by narrow ones, of which
 * several meet in a vector. */
#ifndef CLNORM_SRC_CPU_SIMD_ROWS_VECTOR_H
#define CLNORM_SRC_CPU_SIMD_ROWS_VECTOR_H

#include "cpu/kernels.h"
#include "cpu/simd/simd.h"
#include "cpu/simd/typed.h"

enum {
    NARROW = CLN_NARROW_ROW,
    COLUMNS = 1024 /* whose sums over rows are kept at a time, in the nearest cache */
};

/* The same for rows that are narrow and follow each other. */
void CLN_SIMD(rows_apply_narrow)(const float *x, float *y, const struct cln_rows *rows, const struct cln_scalars *k);
void CLN_SIMD(rows_gradient_narrow)(const float *x, const float *dy, float *dx, const struct cln_rows *rows,
                                    const struct cln_scalars *k, const struct cln_gather *sums);

INLINE const float *weights_of(const struct cln_rows *rows, const float *all, uint64_t j)
{
    return all + (rows->cycle == 1 ? 0 : (rows->first + j) % rows->cycle * rows->stride);
}

INLINE vec load_lanes(const float *p, size_t n, vec fill)
{
    return n == LANES ? load(p) : load_part(p, n, fill);
}

struct scalars {
    vec m, c, a, q, b;
};

/* n elements of a row from its element i on: LANES of them unless it is its first or last ones. */
INLINE void apply_vector_as(const void *x, clnorm_dtype x_type, void *y, clnorm_dtype y_type, size_t i, size_t n,
                            const struct scalars *s, const float *w, const float *bias, int streaming, size_t ahead,
                            const struct cln_finish *finish)
{
    size_t bytes = x_type == CLNORM_F32 ? 4 : 2;
    vec v = ((n == LANES ? load_as(x, x_type, i, n) : load_part_as(x, x_type, i, n, s->m)) - s->m - s->c) * s->a;
    if (w)
        v *= load_lanes(w, n, s->m);
    if (bias)
        v += load_lanes(bias, n, s->m);
    if (ahead)
        __builtin_prefetch((const char *)x + (i + ahead) * bytes, 0, 2);
    store_as(finished(v, finish, x_type, i, n), y, y_type, i, n, streaming);
}

INLINE void apply_vector(const float *x, float *y, size_t n, const struct scalars *s, const float *w, const float *bias,
                         int streaming, size_t ahead)
{
    apply_vector_as(x, CLNORM_F32, y, CLNORM_F32, 0, n, s, w, bias, streaming, ahead, NULL);
}

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

#endif
