/* What the calls that run a plan check beside their buffers: which go together, and with the plan's norm. `who` is the call. */
#ifndef CLNORM_SRC_API_CHECKS_H
#define CLNORM_SRC_API_CHECKS_H

#include "plan/plan.h"

static inline int cln_given(const clnorm_buffer *b)
{
    return b->kind != CLNORM_BUFFER_NONE;
}

clnorm_status cln_check_running(const char *who, const clnorm_running *r);
clnorm_status cln_check_pair(const char *who, const clnorm_buffer *mean, const clnorm_buffer *var);
/* A buffer that the plan's norm has not. */
clnorm_status cln_refuse(const clnorm_plan *plan, const char *who, const char *name, const clnorm_buffer *b);
int cln_has_running(const clnorm_plan *plan);
/* A call that only some norms have. */
clnorm_status cln_check_norm(const clnorm_plan *plan, const char *who, int has, const char *instead);
clnorm_status cln_check_steps(const clnorm_plan *plan, const char *who, const char *instead);
clnorm_status cln_check_backward_steps(const clnorm_plan *plan, const char *who);
/* z and sum of a forward or an inference: there with the residual that has them, and only then. */
clnorm_status cln_check_residual(const clnorm_plan *plan, const char *who, const clnorm_buffer *z,
                                 const clnorm_buffer *sum);
/* Whether the sign of y tells the gradient of the activation. */
int cln_tells_by_sign(const clnorm_desc *desc);
/* mask: only with desc.activation_mask. */
clnorm_status cln_check_mask(const clnorm_plan *plan, const char *who, const clnorm_buffer *mask);
/* lengths: only with desc.lengths. */
clnorm_status cln_check_lengths(const clnorm_plan *plan, const char *who, const clnorm_buffer *lengths);
/* What backward works the activation's gradient out from, and dz. */
clnorm_status cln_check_activation(const clnorm_plan *plan, const char *who, const clnorm_backward_args *args);
/* Exactly one of state, (mean, rstd) and, if allowed, the running pair. */
clnorm_status cln_choose_source(const char *who, const clnorm_plan *plan, const clnorm_buffer *state,
                                const clnorm_buffer *mean, const clnorm_buffer *rstd, const clnorm_buffer *running_mean,
                                enum cln_source *source);

#endif
