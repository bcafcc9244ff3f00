/* What an element of a group of segments becomes, in vectors. */
#ifndef CLNORM_SRC_CPU_SIMD_SEGMENTS_VALUES_H
#define CLNORM_SRC_CPU_SIMD_SEGMENTS_VALUES_H

#include "cpu/kernels.h"
#include "cpu/simd/vector.h"

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

#endif
