/* Rows with weights along them, a vector at a time: what writes. */
#include "cpu/simd/rows_vector.h"

/* ---- apply: 5 operations and 8 bytes an element ---- */

INLINE struct scalars scalars_of(const struct cln_scalars *k, uint64_t j, int gradient)
{
    vec zero = splat(0.0f);
    return (struct scalars){splat(k->m[j]), splat(k->c[j]), splat(k->a[j]), gradient ? splat(k->q[j]) : zero,
                            gradient ? splat(k->b[j]) : zero};
}

/* x and y, of their types. */
struct tensors {
    const void *x;
    void *y;
    clnorm_dtype x_type, y_type;
    const struct cln_finish *finish;
};

INLINE void apply_as(struct tensors of, const struct cln_rows *rows, const struct cln_scalars *k, int weighted,
                     int biased, int streaming, size_t ahead)
{
    for (uint64_t j = 0; j < rows->count; j++) {
        const float *w = weighted ? weights_of(rows, rows->weight, j) : NULL;
        const float *bias = biased ? weights_of(rows, rows->bias, j) : NULL;
        struct scalars s = scalars_of(k, j, 0);
        size_t at = j * rows->stride, y_bytes = of.y_type == CLNORM_F32 ? 4 : 2;
        size_t i = 0, n = rows->length;
        size_t head = streaming ? before_line_as((char *)of.y + at * y_bytes, of.y_type, n) : 0;
#define VECTOR(lanes)                                                                                                  \
    apply_vector_as(of.x, of.x_type, of.y, of.y_type, at + i, (lanes), &s, weighted ? w + i : NULL,                    \
                    biased ? bias + i : NULL, streaming, ahead, of.finish)
        for (size_t part; i < head; i += part) {
            part = least(LANES, head - i);
            if (part == LANES) /* of 16 bits there are two vectors a line */
                apply_vector_as(of.x, of.x_type, of.y, of.y_type, at + i, LANES, &s, weighted ? w + i : NULL,
                                biased ? bias + i : NULL, 0, ahead, of.finish);
            else
                VECTOR(part);
        }
        for (; i + LANES <= n; i += LANES)
            VECTOR(LANES);
        if (i < n)
            VECTOR(n - i);
#undef VECTOR
    }
}

INLINE void apply_affine(struct tensors of, const struct cln_rows *rows, const struct cln_scalars *k, int streaming,
                         size_t ahead)
{
    if (rows->weight && rows->bias)
        apply_as(of, rows, k, 1, 1, streaming, ahead);
    else if (rows->weight)
        apply_as(of, rows, k, 1, 0, streaming, ahead);
    else
        apply_as(of, rows, k, 0, rows->bias != NULL, streaming, ahead);
}

static void apply(const float *x, float *y, const struct cln_rows *rows, const struct cln_scalars *k)
{
    int whole = rows->length % LANES == 0 && elements_before_line(y, LANES) == 0; /* vectors, on lines of y */
    if (rows->length < NARROW && rows->stride == rows->length && !whole)
        CLN_SIMD(rows_apply_narrow)(x, y, rows, k);
    else if (rows->streaming && rows->ahead)
        apply_affine((struct tensors){x, y, CLNORM_F32, CLNORM_F32, NULL}, rows, k, 1, rows->ahead);
    else
        apply_affine((struct tensors){x, y, CLNORM_F32, CLNORM_F32, NULL}, rows, k, rows->streaming, 0);
}

static void apply_typed(const void *x, clnorm_dtype x_type, void *y, clnorm_dtype y_type, const struct cln_rows *rows,
                        const struct cln_scalars *k, const struct cln_finish *finish)
{
#define CALL(of_x, of_y)                                                                                               \
    apply_affine((struct tensors){x, y, (of_x), (of_y), NULL}, rows, k, rows->streaming, rows->ahead)
#define FINISHED(of_x, of_y)                                                                                           \
    apply_affine((struct tensors){x, y, (of_x), (of_y), finish}, rows, k, rows->streaming, rows->ahead)
    if (finish)
        BY_TYPES(x_type, y_type, FINISHED);
    else
        BY_NARROW_TYPES(x_type, y_type, CALL);
#undef CALL
#undef FINISHED
}

/* ---- gradient: 11 operations and 12 bytes an element ---- */

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
    if (rows->length < NARROW && rows->stride == rows->length)
        CLN_SIMD(rows_gradient_narrow)(x, dy, dx, rows, k, sums);
    else if (!dx)
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

void CLN_SIMD(rows_writes)(struct cln_rows_kernels *kernels)
{
    kernels->apply = apply;
    kernels->gradient = gradient;
}

void CLN_SIMD(rows_typed)(struct cln_typed_kernels *kernels)
{
    kernels->rows_apply = apply_typed;
}
