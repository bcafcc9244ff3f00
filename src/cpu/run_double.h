/* clnorm_double_backward on the CPU, in plain C and in double: the sums of a statistics group over x, dy and v_dx, what is made of them, and
 * a pass that writes g_x and g_dy. Cuts depend on the shape alone. */
#ifndef CLNORM_SRC_CPU_RUN_DOUBLE_H
#define CLNORM_SRC_CPU_RUN_DOUBLE_H

#include "backend/op.h"

/* Of the plan's n, or fewer samples. */
size_t cln_double_partials_bytes(const struct cln_view *view);
/* How often memory is read: 1 where a row stays in the cache between its two passes. */
uint32_t cln_double_readings(const struct cln_view *v);
void cln_double_run(const struct cln_op *op);

#endif
