/* The segments family, a vector at a time: what is written. */
#include "cpu/kernels.h"
#include "cpu/simd/segments_values.h"
#include "cpu/simd/simd.h"
#include "cpu/simd/typed.h"

/* ---- apply and gradient: 4 and 6 operations, 8 and 12 bytes an element ---- */

/* What is read and written: dy for a gradient alone. */
struct tensors {
    const void *x, *dy;
    void *out;
    clnorm_dtype x_type, dy_type, out_type;
    const struct cln_finish *finish;
};

INLINE void part_of(struct tensors of, size_t i, size_t n, struct scalars s, int gradient)
{
    vec g = !gradient    ? s.m
            : n == LANES ? load_as(of.dy, of.dy_type, i, n)
                         : load_part_as(of.dy, of.dy_type, i, n, s.m);
    vec x = n == LANES ? load_as(of.x, of.x_type, i, n) : load_part_as(of.x, of.x_type, i, n, s.m);
    store_as(finished(value_of(x, g, &s, gradient), of.finish, of.x_type, i, n), of.out, of.out_type, i, n, 0);
}

INLINE void vector_of(struct tensors of, size_t i, const struct scalars *s, int gradient, int streaming)
{
    vec v = value_of(load_as(of.x, of.x_type, i, LANES), gradient ? load_as(of.dy, of.dy_type, i, LANES) : s->m, s,
                     gradient);
    store_as(finished(v, of.finish, of.x_type, i, LANES), of.out, of.out_type, i, LANES, streaming);
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
    walk_as((struct tensors){x, NULL, y, CLNORM_F32, CLNORM_F32, CLNORM_F32, NULL}, &at, k, 0);
}

static void gradient(const float *x, const float *dy, float *dx, struct cln_stretch at, const struct cln_scalars *k)
{
    walk_as((struct tensors){x, dy, dx, CLNORM_F32, CLNORM_F32, CLNORM_F32, NULL}, &at, k, 1);
}

static void apply_typed(const void *x, clnorm_dtype x_type, void *y, clnorm_dtype y_type, struct cln_stretch at,
                        const struct cln_scalars *k, const struct cln_finish *finish)
{
#define CALL(of_x, of_y)     walk_as((struct tensors){x, NULL, y, (of_x), (of_y), (of_y), NULL}, &at, k, 0)
#define FINISHED(of_x, of_y) walk_as((struct tensors){x, NULL, y, (of_x), (of_y), (of_y), finish}, &at, k, 0)
    if (finish)
        BY_TYPES(x_type, y_type, FINISHED);
    else
        BY_NARROW_TYPES(x_type, y_type, CALL);
#undef CALL
#undef FINISHED
}

static void gradient_typed(const void *x, clnorm_dtype x_type, const void *dy, clnorm_dtype dy_type, void *dx,
                           struct cln_stretch at, const struct cln_scalars *k)
{
#define CALL(of_x, of_dy) walk_as((struct tensors){x, dy, dx, (of_x), (of_dy), (of_x), NULL}, &at, k, 1)
    BY_NARROW_TYPES(x_type, dy_type, CALL);
#undef CALL
}

void CLN_SIMD(segments_writes)(struct cln_family_kernels *kernels)
{
    kernels->apply = apply;
    kernels->gradient = gradient;
}

void CLN_SIMD(segments_typed_writes)(struct cln_typed_family_kernels *kernels)
{
    kernels->apply = apply_typed;
    kernels->gradient = gradient_typed;
}
