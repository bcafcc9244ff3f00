/* The CPU path's inner loops as a table. cln_cpu_fill_plain fills every slot with plain C; faster code overrides single
 * slots afterwards (src/cpu/simd), so no slot is ever empty.
 *
 * Accuracy (docs/math.md): sums run in f32 in many short lanes about a pivot near the mean, and are carried on in double. */
#ifndef CLNORM_SRC_CPU_KERNELS_H
#define CLNORM_SRC_CPU_KERNELS_H

#include "base/mask.h"

#include <clnorm/clnorm.h>

#include <stddef.h>
#include <stdint.h>

/* Most groups of one band. */
#define CLN_BAND 1024
/* Elements up to which a row is short: the rows family has its statistics, and those of longer rows the segments family. At most what
 * the accumulators of simd/rows.c take, which NEON has fewer of. */
#if defined(__aarch64__)
#define CLN_SHORT_ROW 128
#else
#define CLN_SHORT_ROW 512
#endif
/* Elements below which a row is narrow. */
#define CLN_NARROW_ROW 64

/* What kernels read, and what groups are normalized with: below. */
struct cln_scalars;

/* A band that a kernel of segments writes, bit by bit and past the cache, while it reads another one: memory is then read and written at
 * the same time. Stretch by stretch; in each the kernel writes whole cache lines. */
struct cln_beside {
    /* Ends this stretch and begins the next one, if there is one. */
    void (*next)(struct cln_beside *self);
    const float *x, *dy; /* here; dy for a gradient */
    float *out;          /* on a cache line */
    uint64_t count;      /* elements of the stretch from here on, */
    uint64_t left;       /* of the run of this group, */
    uint64_t inners;     /* and of a whole one */
    uint64_t group;
    const struct cln_scalars *scalars;
};

/* A band of neighbouring groups.
 * segments: group j is `outers` runs of `inners` floats, outer_stride apart, the first at j·group_stride
 * columns:  group j is column j of `outers` rows, outer_stride apart; inners = group_stride = 1 */
struct cln_band {
    uint64_t outers, inners, outer_stride, group_stride;
    uint32_t count; /* ≤ CLN_BAND */
    size_t ahead; /* segments: elements from here to what is wanted next and is to be fetched into the cache; 0: none */
    struct cln_beside *beside; /* segments: for statistics of f32 what applies, for dots the gradient; NULL: none */
};

/* What neighbouring groups are normalized with, a plane each; q only for the gradient.
 *     y = ((x − m) − c)·a + b        dx = a·dy + (q·((x − m) − c) + b)
 * bias: what was b of y, where a gradient needs y again, or has it in place of x; undo: there 1/(weight·rstd), and m = c = 0
 * (src/cpu/stage.h). No kernel reads these two. */
struct cln_scalars {
    const float *m, *c, *a, *q, *b, *bias, *undo;
};

/* Neighbouring elements of a tensor. The first one is element `inner` of a run of `inners` of group `group`; after the last of `groups`
 * comes the first again. A column is a run of one element. */
struct cln_stretch {
    uint64_t count, group, inner, groups, inners;
    int streaming; /* stores are to bypass the cache; cln_cpu_stream_end ends them */
};

/* Pointers are at the first element of the band or stretch; the planes of a band begin with its first group, those of a stretch with
 * its group 0. Bytes moved per element: statistics 4, dots 8, apply 8, gradient 12. */
struct cln_family_kernels {
    /* Σx/n and Σ(x − mean)² of each group */
    void (*statistics)(const float *x, struct cln_band band, double *mean, double *m2);
    /* Σdy and Σ dy·((x − m) − c) of each group */
    void (*dots)(const float *x, const float *dy, struct cln_band band, const float *m, const float *c, double *sum_dy,
                 double *sum_dyd);
    void (*apply)(const float *x, float *y, struct cln_stretch at, const struct cln_scalars *k);
    void (*gradient)(const float *x, const float *dy, float *dx, struct cln_stretch at, const struct cln_scalars *k);
};

/* Rows that weights run along: row j is `length` floats from j·stride on. Its weights and biases are at
 * ((first + j) % cycle)·stride. */
struct cln_rows {
    uint64_t count, length, stride;
    uint64_t first, cycle;
    const float *weight, *bias; /* NULL: 1 and 0 */
    size_t ahead; /* elements from here to those that are wanted next and may be fetched into the cache; 0: none */
    int streaming;
};

/* Sums that a gradient over rows adds to, one a weight: Σ dy·((x − m) − c)·a and Σdy; where the weights are, but in planes of
 * `double`. NULL: not wanted. */
struct cln_gather {
    double *dweight, *dbias;
};

/* Two sums of `count` rows of `length` values: what statistics or dots gave. */
struct cln_row_sums {
    uint64_t count;
    double length;
    const double *first, *second;
};

/* Bytes moved per element: statistics 4, dots 8, apply 8, gradient 12, beside the weights, which stay in the cache; scalars: a plane
 * a row.
 *     y = ((x − m) − c)·a·weight + bias        dx = a·weight·dy + (q·((x − m) − c) + b) */
struct cln_rows_kernels {
    /* Σx/n and Σ(x − mean)² of each row, which is short (longer ones are segments), or of any row 0 and Σx² */
    void (*statistics)(const float *x, const struct cln_rows *rows, int centred, double *mean, double *m2);
    /* Σg and Σ g·((x − m) − c) of each row, g = weight·dy */
    void (*dots)(const float *x, const float *dy, const struct cln_rows *rows, const struct cln_scalars *k,
                 double *sum_g, double *sum_gd);
    void (*apply)(const float *x, float *y, const struct cln_rows *rows, const struct cln_scalars *k);
    /* dx may be NULL, or dy */
    void (*gradient)(const float *x, const float *dy, float *dx, const struct cln_rows *rows,
                     const struct cln_scalars *k, const struct cln_gather *sums);
    /* What rows are normalized with, of their statistics, and the slopes q and r of their gradient, of their dots. */
    void (*finish)(const struct cln_row_sums *sums, int centred, float eps, float *m, float *c, float *rstd,
                   float *var);
    void (*slopes)(const struct cln_row_sums *sums, int centred, const float *rstd, float *q, float *r);
};

/* What is done to the normalized value t before it is stored, and the types of what that reads and writes. */
struct cln_fusion {
    clnorm_activation activation;
    float slope;
    clnorm_dtype x_type, y_type;
};

/* n elements one after the other, in the types of the tensors. Reading widens exactly; writing rounds once, to nearest even, NaN and Inf
 * stay what they are. Scratch of f32 is in the nearest cache, so that bytes moved are those of the tensors. */
struct cln_element_kernels {
    /* to = from; as many bytes `ahead` of from are fetched into a cache, unless that is 0 */
    void (*widen)(const void *from, clnorm_dtype type, float *to, size_t n, size_t ahead);
    /* to = v, or to + v. streaming: past the cache */
    void (*put)(const float *v, void *to, clnorm_dtype type, size_t n, int add, int streaming);
    /* sum = x + z, which sum may be */
    void (*add)(const void *x, const void *z, void *sum, clnorm_dtype type, size_t n);
    /* y = act(t + z); z may be NULL: 0 */
    void (*activate)(const float *t, const void *z, void *y, const struct cln_fusion *f, size_t n, int streaming);
    /* to = (act⁻¹(y) − z − bias)/weight·scale, 0·(…) where cln_is_zero(weight); z, bias and weight may be NULL: 0, 0 and 1 */
    void (*undo)(const void *y, const void *z, const float *bias, const float *weight, float scale, float *to,
                 const struct cln_fusion *f, size_t n);
    /* to = dy·act′(t + z), or, without a t, by the sign of y. `to` may be t */
    void (*differentiate)(const float *t, const void *z, const void *y, const void *dy, float *to,
                          const struct cln_fusion *f, size_t n);
    /* Bits from the first of `mask` on: whether y > 0 (base/mask.h). Reads y, writes a bit an element */
    void (*mask)(const void *y, clnorm_dtype type, uint32_t *mask, size_t n);
    /* As differentiate, by the bits from the first-th on: those of dy */
    void (*differentiate_by_mask)(const uint32_t *mask, uint64_t first, const void *dy, float *to,
                                  const struct cln_fusion *f, size_t n);
};

/* What becomes of a normalized value t before it is stored, y = act(t + z): without an activation, with ReLU or a leaky one. */
struct cln_finish {
    const void *z; /* where y is, of x's type; NULL: 0 */
    clnorm_activation activation;
    float slope;
};
static inline int cln_can_finish(clnorm_activation activation)
{
    return activation == CLNORM_NO_ACTIVATION || activation == CLNORM_RELU || activation == CLNORM_LEAKY_RELU;
}

/* cln_family_kernels for tensors of any type as they are, so that no scratch is needed; dx is of x's type. Empty slots: there are
 * none, and src/cpu/stage.h goes by blocks. */
struct cln_typed_family_kernels {
    void (*statistics)(const void *x, clnorm_dtype type, struct cln_band band, double *mean, double *m2);
    void (*dots)(const void *x, clnorm_dtype x_type, const void *dy, clnorm_dtype dy_type, struct cln_band band,
                 const float *m, const float *c, double *sum_dy, double *sum_dyd);
    /* finish: NULL where t is y */
    void (*apply)(const void *x, clnorm_dtype x_type, void *y, clnorm_dtype y_type, struct cln_stretch at,
                  const struct cln_scalars *k, const struct cln_finish *finish);
    void (*gradient)(const void *x, clnorm_dtype x_type, const void *dy, clnorm_dtype dy_type, void *dx,
                     struct cln_stretch at, const struct cln_scalars *k);
};

/* All slots, or none. */
struct cln_typed_kernels {
    struct cln_typed_family_kernels segments, columns;
    /* Rows of CLN_NARROW_ROW elements or more. */
    void (*rows_apply)(const void *x, clnorm_dtype x_type, void *y, clnorm_dtype y_type, const struct cln_rows *rows,
                       const struct cln_scalars *k, const struct cln_finish *finish);
};

struct cln_cpu_kernels {
    struct cln_family_kernels segments, columns;
    struct cln_typed_kernels typed;
    struct cln_rows_kernels rows;
    struct cln_element_kernels elements;
    const char *name; /* of the instruction set, for people */
};

void cln_cpu_fill_plain(struct cln_cpu_kernels *kernels);
/* The parts of it, one a family. */
void cln_cpu_fill_segments(struct cln_family_kernels *kernels);
void cln_cpu_fill_columns(struct cln_family_kernels *kernels);
void cln_cpu_fill_rows(struct cln_rows_kernels *kernels);
void cln_cpu_fill_elements(struct cln_element_kernels *kernels);

/* Statistics of a part of a group. An empty part is all zeros. */
struct cln_moments {
    double count, mean;
    double m2; /* Σ(x − mean)² */
};

/* Adds a part to a total by Chan's formula. Parts of the same mean leave it as it is. */
static inline void cln_moments_add(struct cln_moments *total, const struct cln_moments *part)
{
    if (part->count == 0.0)
        return;
    if (total->count == 0.0) {
        *total = *part;
        return;
    }
    double count = total->count + part->count, share = part->count / count;
    double delta = part->mean - total->mean;
    total->m2 += part->m2 + delta * delta * (total->count * share);
    total->mean += delta * share;
    total->count = count;
}

/* Many parts of a group, added up about the mean of the first without a division each. Parts of the same mean leave it as it is. */
struct cln_parts {
    double count, pivot;
    double s, q; /* Σ count·(mean − pivot) and Σ count·(mean − pivot)² of the parts */
    double m2;   /* Σ of theirs */
};

static inline void cln_parts_add(struct cln_parts *t, double count, double mean, double m2)
{
    double d = mean - t->pivot;
    t->count += count;
    t->s += count * d;
    t->q += count * d * d;
    t->m2 += m2;
}

static inline struct cln_moments cln_parts_total(const struct cln_parts *t)
{
    double offset = t->s / t->count, between = t->q - t->s * offset;
    return (struct cln_moments){t->count, t->pivot + offset, t->m2 + (between < 0.0 ? 0.0 : between)};
}

/* The part that `count` values with Σ(x − pivot) = s and Σ(x − pivot)² = q make. */
static inline struct cln_moments cln_moments_about(float pivot, double count, double s, double q)
{
    double offset = s / count;
    struct cln_moments part = {count, pivot + offset, q - s * offset};
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
