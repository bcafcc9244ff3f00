/* A call on the CPU: its steps as tasks of threads. */
#ifndef CLNORM_SRC_CPU_RUN_H
#define CLNORM_SRC_CPU_RUN_H

#include "backend/op.h"
#include "cpu/grid.h"
#include "cpu/kernels.h"
#include "cpu/stage.h"

#include <stdatomic.h>

struct cln_cpu_plan {
    struct cln_cpu_kernels kernels;
    atomic_uint found;    /* CLNORM_FOUND_… */
    uint64_t cache_bytes; /* of the last level */
};

size_t cln_cpu_partials_bytes(const struct cln_view *view);
/* Whether a call stores past the cache: if its tensors together are larger than a quarter of it: an output kept there would often be
 * gone before its reader comes, and a store into the cache first reads what it overwrites. */
int cln_cpu_streams(const struct cln_cpu_plan *plan, const struct cln_op *op);
/* Bytes of all tensors of a call. */
uint64_t cln_cpu_tensor_bytes(const struct cln_op *op);
/* Whether a band of a batch norm is written while the sums of the next one are taken. */
int cln_cpu_chains(const struct cln_grid *grid, const struct cln_view *view, const struct cln_stage *stage);
void cln_cpu_run(struct cln_cpu_plan *plan, const struct cln_op *op);

#endif
