/* The mask of a forward with an activation: a call's last part. */
#ifndef CLNORM_SRC_CPU_MASK_H
#define CLNORM_SRC_CPU_MASK_H

#include "backend/op.h"
#include "cpu/kernels.h"

/* Y → MASK of all elements of the call: of so many bytes 1/8 a element is written, and y is read. */
void cln_mask_run(const struct cln_element_kernels *kernels, const struct cln_op *op);

#endif
