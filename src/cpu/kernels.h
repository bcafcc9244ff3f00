/* The CPU path's inner loops as a table. cln_cpu_fill_plain fills every slot with plain C; faster code overrides single
 * slots afterwards (src/cpu/simd), so no slot is ever empty.
 *
 * Accuracy (docs/math.md): sums run in f32 in many short lanes about a pivot near the mean, and are carried on in double. */
#ifndef CLNORM_SRC_CPU_KERNELS_H
#define CLNORM_SRC_CPU_KERNELS_H

#include <stdint.h>

/* Statistics of a part of a group. An empty part is all zeros. */
struct cln_moments {
    double count;
    double sum;
    double m2; /* Σ(x − sum/count)² */
};

/* y = ((x − m) − c)·a + b */
struct cln_affine {
    float m, c, a, b;
};

/* dx = p·dy + (q·((x − m) − c) + r) */
struct cln_gradient {
    float m, c, p, q, r;
};

/* Σdy and Σ dy·((x − m) − c) */
struct cln_dots {
    double dy, dyd;
};

/* What a mean is for a reduction over dy: m + c. */
struct cln_center {
    float m, c;
};

/* Most groups of one band. */
#define CLN_BAND 256

/* A band of neighbouring groups.
 * segments: group j is `outers` runs of `inners` floats, outer_stride apart, the first at j·group_stride
 * columns:  group j is column j of `outers` rows, outer_stride apart; inners = group_stride = 1 */
struct cln_band {
    uint64_t outers, inners, outer_stride, group_stride;
    uint32_t count; /* ≤ CLN_BAND */
};

/* Pointers are at the band's first element; per-group arrays have `count` entries. `stream` asks for stores that bypass the cache.
 * Bytes moved per element: statistics 4, dots 8, apply 8, gradient 12 (8 if x is NULL: then q and r are not used). */
struct cln_family_kernels {
    void (*statistics)(const float *x, struct cln_band band, struct cln_moments *out);
    void (*dots)(const float *x, const float *dy, struct cln_band band, const struct cln_center *at,
                 struct cln_dots *out);
    void (*apply)(const float *x, float *y, struct cln_band band, const struct cln_affine *k, int stream);
    void (*gradient)(const float *x, const float *dy, float *dx, struct cln_band band, const struct cln_gradient *k,
                     int stream);
};

struct cln_cpu_kernels {
    struct cln_family_kernels segments, columns;
    const char *name; /* of the instruction set, for people */
};

void cln_cpu_fill_plain(struct cln_cpu_kernels *kernels);
/* The two halves of it, one a family. */
void cln_cpu_fill_segments(struct cln_family_kernels *kernels);
void cln_cpu_fill_columns(struct cln_family_kernels *kernels);

/* Adds a part to a total by Chan's formula. Sums of floats of like magnitude are exact here up to 2^29 values. */
static inline void cln_moments_add(struct cln_moments *total, const struct cln_moments *part)
{
    if (part->count == 0.0)
        return;
    if (total->count == 0.0) {
        *total = *part;
        return;
    }
    double count = total->count + part->count;
    double delta = part->sum / part->count - total->sum / total->count;
    total->m2 += part->m2 + delta * delta * (total->count * (part->count / count));
    total->sum += part->sum;
    total->count = count;
}

/* The part that `count` values with Σ(x − pivot) = s and Σ(x − pivot)² = q make. */
static inline struct cln_moments cln_moments_about(float pivot, double count, double s, double q)
{
    struct cln_moments part = {count, count * pivot + s, q - s * (s / count)};
    if (part.m2 < 0.0) /* rounding; a NaN stays */
        part.m2 = 0.0;
    return part;
}

/* Whether the pivot was so far from the mean that q − s²/count cancels; a NaN says no. */
static inline int cln_pivot_is_far(double count, double s, double q)
{
    return s * s > 0.5 * count * q;
}

#endif
