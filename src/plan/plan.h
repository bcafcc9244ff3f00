/* Plan life cycle and workspace; the decomposition of each call into steps. */
#ifndef CLNORM_SRC_PLAN_PLAN_H
#define CLNORM_SRC_PLAN_PLAN_H

#include "backend/backend.h"

/* The calls that run a plan. */
enum cln_call {
    CLN_CALL_FORWARD,
    CLN_CALL_INFER,
    CLN_CALL_FOLD,
    CLN_CALL_BACKWARD,
    CLN_CALL_STATISTICS,
    CLN_CALL_MERGE,
    CLN_CALL_COMMIT,
    CLN_CALL_APPLY,
    CLN_CALL_BACKWARD_REDUCE,
    CLN_CALL_BACKWARD_APPLY,
    CLN_CALL_DOUBLE_BACKWARD,
    CLN_CALL_COUNT
};

/* From a checked descriptor. */
clnorm_status cln_plan_new(clnorm_device *device, const clnorm_desc *desc, clnorm_plan **out);
void cln_plan_free(clnorm_plan *plan);

/* Bytes of one array of f32[planes][statistics groups], of one virtual batch; and of the state, which has three planes of each. */
size_t cln_plan_planes_bytes(const clnorm_plan *plan, size_t planes);
size_t cln_plan_state_bytes(const clnorm_plan *plan);
size_t cln_plan_workspace_bytes(const clnorm_plan *plan);

/* Fills in the steps and the roles that the caller left to the workspace, and runs; virtual batches one after the other. op's other
 * fields and the caller's roles are set and checked. */
clnorm_status cln_plan_run(clnorm_plan *plan, enum cln_call call, struct cln_op *op);

#endif
