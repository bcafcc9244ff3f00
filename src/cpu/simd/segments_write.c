/* The segments family, a vector at a time: what is written. */
#include "cpu/kernels.h"
#include "cpu/simd/segments_values.h"
#include "cpu/simd/simd.h"
#include "cpu/simd/tensors.h"

/* ---- apply and gradient: 4 and 6 operations, 8 and 12 bytes an element ---- */

INLINE void part_of(const struct tensors *of, size_t i, size_t n, struct scalars s, int gradient)
{
    vec g = gradient ? source_load_part(of->dy, i, n, s.m) : s.m,
        v = value_of(source_load_part(of->x, i, n, s.m), g, &s, gradient);
    store_as(finished(v, of->finish, of->x.type, i, n), of->out, of->out_type, i, n, 0);
}

INLINE void vector_of(const struct tensors *of, size_t i, const struct scalars *s, int gradient, int streaming)
{
    vec g = gradient ? source_load(of->dy, i, LANES) : s->m, v = value_of(source_load(of->x, i, LANES), g, s, gradient);
    store_as(finished(v, of->finish, of->x.type, i, LANES), of->out, of->out_type, i, LANES, streaming);
}

/* In the order of addresses, so that vectors begin on a line of `out` and only the first and the last of the stretch are parts: a
 * vector in which two runs meet takes each lane's scalars from its own group. */
INLINE void walk(const struct tensors *of, const struct cln_stretch *at, const struct cln_scalars *k, int gradient,
                 int streaming)
{
    size_t i = 0, n = at->count, head = before_line_as(of->out, of->out_type, n), g = at->group,
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

INLINE void walk_as(const struct tensors *of, const struct cln_stretch *at, const struct cln_scalars *k, int gradient)
{
    if (at->streaming && at->inners >= LANES)
        walk(of, at, k, gradient, 1);
    else
        walk(of, at, k, gradient, 0);
}

#include "cpu/simd/writes.h"

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
