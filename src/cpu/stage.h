/* Between the calls and the kernels, most of which compute on f32 alone: tensors of 16 bits and what is fused with the norm.
 *
 * A block of a tensor is widened into scratch on the stack that stays in the near caches, the kernel runs on it, and a last pass over
 * what it gave adds the residual, does the activation, rounds and stores. In backward dy·act′(t) takes the place of dy: t is worked out
 * again from x, as forward did, so that it has the same bits. In a backward from y what takes the place of x is x − mean, worked out
 * from y. A tensor that is read twice is widened twice. Where tensors are f32 and
 * nothing is fused the kernels get the tensors themselves; so do those of struct cln_typed_kernels. Cuts depend on the shape alone.
 *
 * Bytes moved are those of the tensors in their types; each scratch pass is one of the nearest or the second cache. */
#ifndef CLNORM_SRC_CPU_STAGE_H
#define CLNORM_SRC_CPU_STAGE_H

#include "backend/op.h"
#include "cpu/kernels.h"

struct cln_stage {
    const struct cln_cpu_kernels *kernels;
    const struct cln_op *op;
    struct cln_fusion fusion;
    int unfused; /* nothing is fused or added to, */
    int plain;   /* and all is f32 */
    int again;   /* backward has to work out t again */
    int from_y;  /* backward has y in place of x: the kernels get x − mean, and m = c = 0 */
    int streaming;
};

/* The op must stay. */
struct cln_stage cln_stage_make(const struct cln_cpu_kernels *kernels, const struct cln_op *op, int streaming);

/* Element i of a tensor; NULL if it is not bound. */
void *cln_stage_at(const struct cln_op *op, enum cln_role role, uint64_t i);
/* What becomes of the values from element `at` on. */
struct cln_finish cln_stage_finish(const struct cln_stage *s, uint64_t at);
/* n elements of x. */
void cln_stage_widen(const struct cln_stage *s, uint64_t at, uint64_t n, float *to);
/* sum = x + z for n elements from `at` on. */
void cln_stage_sum(const struct cln_stage *s, uint64_t at, uint64_t n);

/* The kernels of a family on X, DY → Y, DX, DZ from element `at` on. Where the stage is to do it `again`, k has a and bias of forward;
 * from_y: bias and undo. */
void cln_stage_statistics(const struct cln_stage *s, const struct cln_family_kernels *family, uint64_t at,
                          struct cln_band band, double *mean, double *m2);
void cln_stage_dots(const struct cln_stage *s, const struct cln_family_kernels *family, uint64_t at,
                    struct cln_band band, const struct cln_scalars *k, double *sum_dy, double *sum_dyd);
void cln_stage_apply(const struct cln_stage *s, const struct cln_family_kernels *family, uint64_t at,
                     struct cln_stretch all, const struct cln_scalars *k);
/* With frozen statistics dx = a·dy, and q and b are 0. */
void cln_stage_gradient(const struct cln_stage *s, const struct cln_family_kernels *family, uint64_t at,
                        struct cln_stretch all, const struct cln_scalars *k);

/* The same of rows; rows->bias is that of forward. Statistics are those of segments for long rows. */
void cln_stage_rows_statistics(const struct cln_stage *s, uint64_t at, const struct cln_rows *rows, double *mean,
                               double *m2);
void cln_stage_rows_dots(const struct cln_stage *s, uint64_t at, const struct cln_rows *rows,
                         const struct cln_scalars *k, double *sum_g, double *sum_gd);
void cln_stage_rows_apply(const struct cln_stage *s, uint64_t at, const struct cln_rows *rows,
                          const struct cln_scalars *k);
void cln_stage_rows_gradient(const struct cln_stage *s, uint64_t at, const struct cln_rows *rows,
                             const struct cln_scalars *k, const struct cln_gather *sums);

/* Runs of `length` elements, `stride` apart in a tensor and one after the other in scratch; `ahead` as struct cln_band has it. */
struct cln_runs {
    uint64_t at, count, length, stride;
    size_t ahead;
};
/* act⁻¹(y) − z of the runs, in scratch. */
void cln_stage_before(const struct cln_stage *s, const struct cln_runs *runs, float *scratch);
/* x of the runs: in scratch, or where it is. */
const float *cln_stage_x(const struct cln_stage *s, const struct cln_runs *runs, float *scratch);
/* dy·act′(t), in scratch, which may hold t. */
void cln_stage_dy(const struct cln_stage *s, const struct cln_runs *runs, const float *t, float *scratch);
/* Rounds what is in scratch into DX or DZ, or adds it to what is there. */
void cln_stage_put(const struct cln_stage *s, const struct cln_runs *runs, enum cln_role role, const float *v);
/* y = act(t + z). */
void cln_stage_y(const struct cln_stage *s, const struct cln_runs *runs, const float *t);

/* The planes from group j on. */
struct cln_scalars cln_stage_scalars(const struct cln_scalars *k, uint64_t j);

#endif
