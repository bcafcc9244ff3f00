/* The steps of src/backend/op.h on the CPU. */
#ifndef CLNORM_SRC_CPU_STEPS_H
#define CLNORM_SRC_CPU_STEPS_H

#include "backend/op.h"
#include "cpu/kernels.h"

#include <stdatomic.h>

struct cln_cpu_plan {
    struct cln_cpu_kernels kernels;
    atomic_uint found;    /* CLNORM_FOUND_… */
    uint64_t cache_bytes; /* of the last level: larger outputs are stored past it */
};

size_t cln_cpu_partials_bytes(const struct cln_view *view);
void cln_cpu_run(struct cln_cpu_plan *plan, const struct cln_op *op);

#endif
