/* The steps of src/backend/op.h on the CPU. */
#ifndef CLNORM_SRC_CPU_STEPS_H
#define CLNORM_SRC_CPU_STEPS_H

#include "backend/op.h"
#include "cpu/kernels.h"

struct cln_cpu_plan {
    struct cln_cpu_kernels kernels;
    uint32_t found; /* CLNORM_FOUND_… */
};

size_t cln_cpu_partials_bytes(const struct cln_view *view);
void cln_cpu_step(struct cln_cpu_plan *plan, const struct cln_op *op, enum cln_step step);

#endif
