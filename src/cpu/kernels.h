/* The CPU path's inner loops as a table. cln_cpu_fill_plain fills every slot with plain C; faster code overrides single
 * slots afterwards, so no slot is ever empty.
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

/* dx = p·dy + q·((x − m) − c) + r */
struct cln_gradient {
    float m, c, p, q, r;
};

/* Σdy and Σ dy·((x − m) − c) */
struct cln_dots {
    double dy, dyd;
};

/* A segments group: `outers` runs of `inners` floats, `stride` apart. */
struct cln_runs {
    uint64_t outers, inners, stride;
};

/* A block of columns: `rows` rows of `count` ≤ CLN_COLUMNS floats, `stride` apart. */
#define CLN_COLUMNS 256
struct cln_block {
    uint64_t rows, stride;
    uint32_t count;
};

/* Pointers are at the first element of the group or block. Bytes moved: statistics 4 per element; dots 8; apply 8;
 * gradient 12 (8 if q is 0 in every column: x is not read and may be NULL). */
struct cln_cpu_kernels {
    void (*segments_statistics)(const float *x, struct cln_runs runs, struct cln_moments *out);
    void (*segments_dots)(const float *x, const float *dy, struct cln_runs runs, float m, float c,
                          struct cln_dots *out);
    void (*segments_apply)(const float *x, float *y, struct cln_runs runs, struct cln_affine k);
    void (*segments_gradient)(const float *x, const float *dy, float *dx, struct cln_runs runs, struct cln_gradient k);
    void (*columns_statistics)(const float *x, struct cln_block block, struct cln_moments *out);
    void (*columns_dots)(const float *x, const float *dy, struct cln_block block, const float *m, const float *c,
                         struct cln_dots *out);
    void (*columns_apply)(const float *x, float *y, struct cln_block block, const struct cln_affine *k);
    void (*columns_gradient)(const float *x, const float *dy, float *dx, struct cln_block block,
                             const struct cln_gradient *k);
};

void cln_cpu_fill_plain(struct cln_cpu_kernels *kernels);
/* The two halves of it, one a family. */
void cln_cpu_fill_segments(struct cln_cpu_kernels *kernels);
void cln_cpu_fill_columns(struct cln_cpu_kernels *kernels);

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
