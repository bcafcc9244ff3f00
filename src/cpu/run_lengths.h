/* Calls of plans whose samples have lengths of their own: batch, group and instance norm in every layout.
 *
 * A patch, neighbouring channels of a sample at some of its positions, is summed up by one task as far as it is valid; what a statistics
 * group has in its patches is put together in their order; then patches are written, with zeros where padding is. What is valid of the
 * inputs is read twice, outputs are written once. Cuts depend on the shape alone. */
#ifndef CLNORM_SRC_CPU_RUN_LENGTHS_H
#define CLNORM_SRC_CPU_RUN_LENGTHS_H

#include "backend/op.h"
#include "cpu/explain.h"
#include "cpu/run.h"

/* Of the descriptor's n samples, or fewer. */
size_t cln_lengths_partials_bytes(const clnorm_desc *desc);
void cln_lengths_explain(struct cln_explained *e, const clnorm_desc *desc);
void cln_lengths_run(struct cln_cpu_plan *plan, const clnorm_desc *desc, const struct cln_op *op);

#endif
