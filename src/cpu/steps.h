/* The steps of src/backend/op.h on the CPU that do not go over a tensor: what they do to a band of groups. */
#ifndef CLNORM_SRC_CPU_STEPS_H
#define CLNORM_SRC_CPU_STEPS_H

#include "backend/op.h"
#include "cpu/grid.h"
#include "cpu/run.h"

/* A task's share of a call: neighbouring groups. */
struct cln_share {
    struct cln_cpu_plan *plan;
    const struct cln_op *op;
    const struct cln_grid *grid;
    uint64_t first;
    uint32_t count;
};

void cln_cpu_step(const struct cln_share *share, enum cln_step step);

/* Sums of a part of every group. plane 0: mean or Σdy, 1: Σ(x − mean)² or Σ dy·(x − mean). */
double *cln_cpu_partials(const struct cln_op *op, uint64_t part, int plane);

/* The mean m + c that a reduction over dy is about (0 from y, for it has x − mean), from the share's first group on. */
struct cln_center {
    const float *m, *c;
};
struct cln_center cln_cpu_center(const struct cln_share *share);
/* The scalars a and b of forward's y, of each group of the share. */
void cln_cpu_fold_forward(const struct cln_share *share, float *a, float *bias);

/* What makes x − mean of y: struct cln_scalars. */
void cln_cpu_fold_undo(const struct cln_share *share, float *undo, float *bias);

/* Works out the scalars of the share's groups for APPLY or BACKWARD_APPLY, and where they are, from its first group on. */
void cln_cpu_fold(const struct cln_share *share, enum cln_step step);
struct cln_scalars cln_cpu_scalars(const struct cln_share *share);

#endif
