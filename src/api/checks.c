/* What the calls that run a plan check beside their buffers: which go together, and with the plan's norm. */
#include "api/checks.h"

#include "base/status.h"

#include <inttypes.h>
#include <math.h>

clnorm_status cln_check_running(const char *who, const clnorm_running *r)
{
    if (r->average != CLNORM_EXPONENTIAL && r->average != CLNORM_CUMULATIVE)
        return cln_fail(CLNORM_E_ENUM, "%s: running.average is %d but must be CLNORM_EXPONENTIAL or CLNORM_CUMULATIVE",
                        who, (int)r->average);
    if (r->variance != CLNORM_BIASED && r->variance != CLNORM_UNBIASED)
        return cln_fail(CLNORM_E_ENUM, "%s: running.variance is %d but must be CLNORM_BIASED or CLNORM_UNBIASED", who,
                        (int)r->variance);
    if (r->guard != CLNORM_GUARD_NONE && r->guard != CLNORM_GUARD_FINITE)
        return cln_fail(CLNORM_E_ENUM, "%s: running.guard is %d but must be CLNORM_GUARD_NONE or CLNORM_GUARD_FINITE",
                        who, (int)r->guard);
    if (r->average == CLNORM_EXPONENTIAL && !(r->momentum >= 0.0f && r->momentum <= 1.0f))
        return cln_fail(CLNORM_E_MOMENTUM, "%s: running.momentum is %g but must be from 0 to 1", who,
                        (double)r->momentum);
    return CLNORM_OK;
}

clnorm_status cln_check_pair(const char *who, const clnorm_buffer *mean, const clnorm_buffer *var)
{
    if (cln_given(mean) != cln_given(var))
        return cln_fail(CLNORM_E_STATISTICS_MISSING, "%s: %s is missing but must be given with %s", who,
                        cln_given(mean) ? "running_var" : "running_mean",
                        cln_given(mean) ? "running_mean" : "running_var");
    return CLNORM_OK;
}

static const char *norm_name(const clnorm_plan *plan)
{
    static const char *const names[] = {"batch norm", "layer norm", "group norm", "instance norm", "RMS norm"};
    return names[plan->desc.norm];
}

clnorm_status cln_refuse(const clnorm_plan *plan, const char *who, const char *name, const clnorm_buffer *b)
{
    if (cln_given(b))
        return cln_fail(CLNORM_E_UNSUPPORTED, "%s: %s is given but must be left out, for %s has none", who, name,
                        norm_name(plan));
    return CLNORM_OK;
}

int cln_has_running(const clnorm_plan *plan)
{
    return plan->desc.norm == CLNORM_BATCH || plan->desc.norm == CLNORM_INSTANCE;
}

clnorm_status cln_check_norm(const clnorm_plan *plan, const char *who, int has, const char *instead)
{
    if (!has)
        return cln_fail(CLNORM_E_UNSUPPORTED, "%s: the plan is of %s, which has no such call: use %s", who,
                        norm_name(plan), instead);
    return CLNORM_OK;
}

clnorm_status cln_check_steps(const clnorm_plan *plan, const char *who, const char *instead)
{
    clnorm_status status = cln_check_norm(plan, who, plan->desc.norm == CLNORM_BATCH, instead);
    if (status == CLNORM_OK &&
        (plan->desc.activation != CLNORM_NO_ACTIVATION || plan->desc.residual != CLNORM_NO_RESIDUAL))
        return cln_fail(CLNORM_E_UNSUPPORTED, "%s: the plan has %s, but the steps are without it: use %s", who,
                        plan->desc.activation != CLNORM_NO_ACTIVATION ? "an activation" : "a residual", instead);
    if (status == CLNORM_OK && plan->desc.virtual_batch != 0)
        return cln_fail(CLNORM_E_UNSUPPORTED,
                        "%s: the plan has virtual batches, but the steps are without them: use %s", who, instead);
    if (status == CLNORM_OK && plan->desc.lengths)
        return cln_fail(CLNORM_E_UNSUPPORTED, "%s: the plan has lengths, but the steps are without them: use %s", who,
                        instead);
    return status;
}

clnorm_status cln_check_backward_steps(const clnorm_plan *plan, const char *who)
{
    clnorm_status status = cln_check_steps(plan, who, "clnorm_backward");
    if (status == CLNORM_OK && plan->desc.backward_from_y)
        return cln_fail(CLNORM_E_UNSUPPORTED,
                        "%s: desc.backward_from_y of the plan is 1, but this step takes x: use clnorm_backward", who);
    return status;
}

clnorm_status cln_check_residual(const clnorm_plan *plan, const char *who, const clnorm_buffer *z,
                                 const clnorm_buffer *sum)
{
    if (plan->desc.residual == CLNORM_NO_RESIDUAL && cln_given(z))
        return cln_fail(CLNORM_E_UNSUPPORTED, "%s: z is given but must be left out, for the plan has no residual", who);
    if (plan->desc.residual != CLNORM_RESIDUAL_BEFORE && sum && cln_given(sum))
        return cln_fail(CLNORM_E_UNSUPPORTED,
                        "%s: sum is given but must be left out, for desc.residual is not CLNORM_RESIDUAL_BEFORE", who);
    return CLNORM_OK;
}

clnorm_status cln_check_lengths(const clnorm_plan *plan, const char *who, const clnorm_buffer *lengths)
{
    if (!plan->desc.lengths && cln_given(lengths))
        return cln_fail(CLNORM_E_UNSUPPORTED, "%s: lengths is given but must be left out, for desc.lengths is 0", who);
    return CLNORM_OK;
}

int cln_tells_by_sign(const clnorm_desc *desc)
{
    return desc->activation == CLNORM_RELU || (desc->activation == CLNORM_LEAKY_RELU && desc->slope > 0.0f);
}

clnorm_status cln_check_mask(const clnorm_plan *plan, const char *who, const clnorm_buffer *mask)
{
    if (!plan->desc.activation_mask && cln_given(mask))
        return cln_fail(CLNORM_E_UNSUPPORTED, "%s: mask is given but must be left out, for desc.activation_mask is 0",
                        who);
    return CLNORM_OK;
}

clnorm_status cln_check_activation(const clnorm_plan *plan, const char *who, const clnorm_backward_args *args)
{
    clnorm_activation activation = plan->desc.activation;
    int from_y = plan->desc.backward_from_y != 0;
    if (from_y && cln_given(&args->x))
        return cln_fail(CLNORM_E_UNSUPPORTED,
                        "%s: x is given but must be left out, for desc.backward_from_y of the plan is 1", who);
    if (cln_given(&args->y) && !cln_tells_by_sign(&plan->desc) && !from_y)
        return cln_fail(CLNORM_E_UNSUPPORTED,
                        "%s: y is given but must be left out: its sign tells the gradient of CLNORM_RELU and of "
                        "CLNORM_LEAKY_RELU with slope > 0 alone",
                        who);
    if (cln_given(&args->y) && plan->desc.activation_mask)
        return cln_fail(CLNORM_E_UNSUPPORTED,
                        "%s: y is given but must be left out, for desc.activation_mask of the plan is 1: mask says it",
                        who);
    if (activation == CLNORM_NO_ACTIVATION && !from_y && (cln_given(&args->bias) || cln_given(&args->z)))
        return cln_fail(CLNORM_E_UNSUPPORTED, "%s: %s is given but must be left out, for the plan has no activation",
                        who, cln_given(&args->bias) ? "bias" : "z");
    if (plan->desc.residual != CLNORM_RESIDUAL_AFTER && (cln_given(&args->z) || cln_given(&args->dz)))
        return cln_fail(CLNORM_E_UNSUPPORTED,
                        "%s: %s is given but must be left out, for desc.residual is not CLNORM_RESIDUAL_AFTER", who,
                        cln_given(&args->z) ? "z" : "dz");
    if (args->accumulate & ~(CLNORM_ADD_DX | CLNORM_ADD_DWEIGHT | CLNORM_ADD_DBIAS | CLNORM_ADD_DZ))
        return cln_fail(CLNORM_E_ENUM, "%s: accumulate is %#" PRIx32 " but must be CLNORM_ADD_… values or'ed", who,
                        args->accumulate);
    return CLNORM_OK;
}

clnorm_status cln_choose_source(const char *who, const clnorm_plan *plan, const clnorm_buffer *state,
                                const clnorm_buffer *mean, const clnorm_buffer *rstd, const clnorm_buffer *running_mean,
                                enum cln_source *source)
{
    if (!plan->view.centred) {
        clnorm_status status = cln_refuse(plan, who, "mean", mean);
        if (status != CLNORM_OK)
            return status;
        mean = rstd; /* which stands for the pair */
    }
    if (cln_given(mean) != cln_given(rstd))
        return cln_fail(CLNORM_E_STATISTICS_MISSING, "%s: %s is missing but must be given with %s", who,
                        cln_given(mean) ? "rstd" : "mean", cln_given(mean) ? "mean" : "rstd");
    int frozen = running_mean && cln_given(running_mean);
    int sources = cln_given(state) + cln_given(mean) + frozen;
    if (sources != 1)
        return cln_fail(CLNORM_E_STATISTICS_SOURCE,
                        "%s: %d sources of statistics are given but it must be one: state, or %s%s", who, sources,
                        plan->view.centred ? "mean and rstd" : "rstd",
                        running_mean && cln_has_running(plan) ? ", or running_mean and running_var" : "");
    *source = frozen ? CLN_FROM_RUNNING : cln_given(state) ? CLN_FROM_STATE : CLN_FROM_GIVEN;
    return CLNORM_OK;
}
