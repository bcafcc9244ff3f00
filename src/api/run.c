/* The calls that run a plan: each checks its struct, binds its buffers by a table and hands over to src/plan. */
#include "api/checks.h"
#include "api/roles.h"
#include "base/status.h"

#include <inttypes.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static const struct cln_alias y_over_x[] = {{CLN_Y, CLN_X}}, dx_over_dy[] = {{CLN_DX, CLN_DY}};

/* What every call has in common. n is CLNORM_PLAN_N for calls without samples. */
static clnorm_status begin(clnorm_plan *plan, const char *who, int64_t n, const void *stream, struct cln_op *op)
{
    *op = (struct cln_op){.x_dtype = plan->desc.dtype,
                          .y_dtype = plan->desc.y_dtype,
                          .activation = plan->desc.activation,
                          .residual = plan->desc.residual,
                          .slope = plan->desc.slope,
                          .eps = plan->desc.eps,
                          .stream = stream};
    if (n == CLNORM_PLAN_N)
        n = plan->desc.n;
    if (n < 0 || n > plan->desc.n)
        return cln_fail(CLNORM_E_N, "%s: n is %" PRId64 " but must be from 0 to the plan's n, %" PRId64, who, n,
                        plan->desc.n);
    op->view = cln_view_make(&plan->desc, (uint64_t)n);
    op->samples = (uint64_t)n;
    op->elements = cln_view_elements(&op->view);
    op->groups = cln_view_groups(&plan->desc, (uint64_t)n);
    return plan->device->backend->check_stream(plan->device, who, stream);
}

/* NULL and struct size, before any field but size is read. */
static clnorm_status check_struct(const clnorm_plan *plan, const char *who, const void *args, size_t known)
{
    if (!plan)
        return cln_fail(CLNORM_E_NULL, "%s: plan is NULL but must be a plan", who);
    if (!args)
        return cln_fail(CLNORM_E_NULL, "%s: args is NULL but must be an initialised struct", who);
    size_t size = *(const size_t *)args;
    if (size != known)
        return cln_fail(CLNORM_E_STRUCT_SIZE, "%s: args->size is %zu but must be %zu (use the initialiser)", who, size,
                        known);
    return CLNORM_OK;
}

#define TRY(call)                                                                                                      \
    do {                                                                                                               \
        clnorm_status status_ = (call);                                                                                \
        if (status_ != CLNORM_OK)                                                                                      \
            return status_;                                                                                            \
    } while (0)

#define BEGIN(n)                                                                                                       \
    struct cln_op op = {0};                                                                                            \
    TRY(check_struct(plan, __func__, args, sizeof *args));                                                             \
    TRY(begin(plan, __func__, n, args->stream, &op))

clnorm_status clnorm_forward(clnorm_plan *plan, const clnorm_forward_args *args)
{
    BEGIN(args->n);
    if (!cln_has_running(plan)) {
        TRY(cln_refuse(plan, __func__, "running_mean", &args->running_mean));
        TRY(cln_refuse(plan, __func__, "running_var", &args->running_var));
    }
    if (!plan->view.centred) {
        TRY(cln_refuse(plan, __func__, "mean", &args->mean));
        TRY(cln_refuse(plan, __func__, "var", &args->var));
    }
    TRY(cln_check_pair(__func__, &args->running_mean, &args->running_var));
    TRY(cln_check_running(__func__, &args->running));
    TRY(cln_check_residual(plan, __func__, &args->z, &args->sum));
    TRY(cln_check_lengths(plan, __func__, &args->lengths));
    TRY(cln_check_mask(plan, __func__, &args->mask));
    op.running = args->running;
    const struct cln_argument arguments[] = {
        {CLN_X, CLN_IN, CLN_TENSOR, 1, &args->x},
        {CLN_Y, CLN_OUT, CLN_TENSOR, 1, &args->y},
        {CLN_WEIGHT, CLN_IN, CLN_PER_WEIGHT, 0, &args->weight},
        {CLN_BIAS, CLN_IN, CLN_PER_WEIGHT, 0, &args->bias},
        {CLN_STATE, CLN_OUT, CLN_STATE_SIZE, 0, &args->state},
        {CLN_MEAN, CLN_OUT, CLN_PER_GROUP, 0, &args->mean},
        {CLN_VAR, CLN_OUT, CLN_PER_GROUP, 0, &args->var},
        {CLN_RSTD, CLN_OUT, CLN_PER_GROUP, 0, &args->rstd},
        {CLN_RUNNING_MEAN, CLN_INOUT, CLN_CHANNEL, 0, &args->running_mean},
        {CLN_RUNNING_VAR, CLN_INOUT, CLN_CHANNEL, 0, &args->running_var},
        {CLN_Z, CLN_IN, CLN_TENSOR, plan->desc.residual != CLNORM_NO_RESIDUAL, &args->z},
        {CLN_SUM, CLN_OUT, CLN_TENSOR, plan->desc.residual == CLNORM_RESIDUAL_BEFORE, &args->sum},
        {CLN_LENGTHS, CLN_IN, CLN_PER_SAMPLE, plan->desc.lengths != 0, &args->lengths},
        {CLN_MASK, CLN_OUT, CLN_MASK_SIZE, 0, &args->mask},
        {CLN_WORKSPACE, CLN_OUT, CLN_WORKSPACE_SIZE, 0, &args->workspace},
    };
    const struct cln_alias aliases[] = {{CLN_SUM, CLN_X}, {CLN_SUM, CLN_Z}, {CLN_Y, CLN_X}};
    int keeps_x = cln_given(&args->state) && !plan->desc.backward_from_y;
    TRY(cln_bind(plan, __func__, arguments, COUNT(arguments), aliases, keeps_x ? 2 : 3, &op));
    return cln_plan_run(plan, CLN_CALL_FORWARD, &op);
}

clnorm_status clnorm_infer(clnorm_plan *plan, const clnorm_infer_args *args)
{
    BEGIN(args->n);
    TRY(cln_check_norm(plan, __func__, cln_has_running(plan), "clnorm_forward"));
    TRY(cln_check_residual(plan, __func__, &args->z, NULL));
    TRY(cln_check_lengths(plan, __func__, &args->lengths));
    TRY(cln_check_mask(plan, __func__, &args->mask));
    op.source = CLN_FROM_RUNNING;
    const struct cln_argument arguments[] = {
        {CLN_X, CLN_IN, CLN_TENSOR, 1, &args->x},
        {CLN_Y, CLN_OUT, CLN_TENSOR, 1, &args->y},
        {CLN_WEIGHT, CLN_IN, CLN_PER_WEIGHT, 0, &args->weight},
        {CLN_BIAS, CLN_IN, CLN_PER_WEIGHT, 0, &args->bias},
        {CLN_RUNNING_MEAN, CLN_IN, CLN_CHANNEL, 1, &args->running_mean},
        {CLN_RUNNING_VAR, CLN_IN, CLN_CHANNEL, 1, &args->running_var},
        {CLN_Z, CLN_IN, CLN_TENSOR, plan->desc.residual != CLNORM_NO_RESIDUAL, &args->z},
        {CLN_LENGTHS, CLN_IN, CLN_PER_SAMPLE, plan->desc.lengths != 0, &args->lengths},
        {CLN_MASK, CLN_OUT, CLN_MASK_SIZE, 0, &args->mask},
        {CLN_WORKSPACE, CLN_OUT, CLN_WORKSPACE_SIZE, 0, &args->workspace},
    };
    TRY(cln_bind(plan, __func__, arguments, COUNT(arguments), y_over_x, 1, &op));
    return cln_plan_run(plan, CLN_CALL_INFER, &op);
}

clnorm_status clnorm_fold(clnorm_plan *plan, const clnorm_fold_args *args)
{
    BEGIN(CLNORM_PLAN_N);
    TRY(cln_check_steps(plan, __func__, "a batch norm plan of the layer's weights"));
    if (plan->desc.dtype != CLNORM_F32 || plan->desc.y_dtype != CLNORM_F32)
        return cln_fail(CLNORM_E_UNSUPPORTED, "%s: desc.dtype is %d and desc.y_dtype %d but both must be CLNORM_F32",
                        __func__, (int)plan->desc.dtype, (int)plan->desc.y_dtype);
    op.source = CLN_FROM_RUNNING;
    const struct cln_argument arguments[] = {
        {CLN_LAYER_WEIGHT, CLN_IN, CLN_TENSOR, 1, &args->layer_weight},
        {CLN_LAYER_BIAS, CLN_IN, CLN_CHANNEL, 0, &args->layer_bias},
        {CLN_WEIGHT, CLN_IN, CLN_PER_WEIGHT, 0, &args->weight},
        {CLN_BIAS, CLN_IN, CLN_PER_WEIGHT, 0, &args->bias},
        {CLN_RUNNING_MEAN, CLN_IN, CLN_CHANNEL, 1, &args->running_mean},
        {CLN_RUNNING_VAR, CLN_IN, CLN_CHANNEL, 1, &args->running_var},
        {CLN_LAYER_WEIGHT_OUT, CLN_OUT, CLN_TENSOR, 1, &args->layer_weight_out},
        {CLN_LAYER_BIAS_OUT, CLN_OUT, CLN_CHANNEL, 1, &args->layer_bias_out},
        {CLN_WORKSPACE, CLN_OUT, CLN_WORKSPACE_SIZE, 0, &args->workspace},
    };
    const struct cln_alias in_place[] = {{CLN_LAYER_WEIGHT_OUT, CLN_LAYER_WEIGHT},
                                         {CLN_LAYER_BIAS_OUT, CLN_LAYER_BIAS}};
    TRY(cln_bind(plan, __func__, arguments, COUNT(arguments), in_place, COUNT(in_place), &op));
    return cln_plan_run(plan, CLN_CALL_FOLD, &op);
}

clnorm_status clnorm_backward(clnorm_plan *plan, const clnorm_backward_args *args)
{
    BEGIN(args->n);
    TRY(cln_check_pair(__func__, &args->running_mean, &args->running_var));
    if (!cln_has_running(plan)) {
        TRY(cln_refuse(plan, __func__, "running_mean", &args->running_mean));
        TRY(cln_refuse(plan, __func__, "running_var", &args->running_var));
    }
    TRY(cln_choose_source(__func__, plan, &args->state, &args->mean, &args->rstd, &args->running_mean, &op.source));
    TRY(cln_check_activation(plan, __func__, args));
    TRY(cln_check_mask(plan, __func__, &args->mask));
    TRY(cln_check_lengths(plan, __func__, &args->lengths));
    if (!cln_given(&args->dx) && !cln_given(&args->dweight) && !cln_given(&args->dbias) && !cln_given(&args->dz))
        return cln_fail(CLNORM_E_MISSING, "%s: dx, dweight and dbias are all missing but at least one must be given",
                        __func__);
    op.accumulate = args->accumulate;
    op.from_y = plan->desc.backward_from_y != 0;
    int activates = plan->desc.activation != CLNORM_NO_ACTIVATION;
    int masked = plan->desc.activation_mask != 0;
    int again = activates && !cln_given(&args->y) && !op.from_y && !masked; /* the value before it, from x */
    int normalized_needed = op.source != CLN_FROM_RUNNING || cln_given(&args->dweight),
        x_needed = normalized_needed || again;
    int z_needed = again || (op.from_y && normalized_needed);
    const struct cln_argument arguments[] = {
        {CLN_X, CLN_IN, CLN_TENSOR, x_needed && !op.from_y, &args->x},
        {CLN_DY, CLN_IN, CLN_TENSOR, 1, &args->dy},
        {CLN_WEIGHT, CLN_IN, CLN_PER_WEIGHT, 0, &args->weight},
        {CLN_STATE, CLN_IN, CLN_STATE_SIZE, 0, &args->state},
        {CLN_MEAN, CLN_IN, CLN_PER_GROUP, 0, &args->mean},
        {CLN_RSTD, CLN_IN, CLN_PER_GROUP, 0, &args->rstd},
        {CLN_RUNNING_MEAN, CLN_IN, CLN_CHANNEL, 0, &args->running_mean},
        {CLN_RUNNING_VAR, CLN_IN, CLN_CHANNEL, 0, &args->running_var},
        {CLN_DX, CLN_OUT, CLN_TENSOR, 0, &args->dx},
        {CLN_DWEIGHT, CLN_OUT, CLN_PER_WEIGHT, 0, &args->dweight},
        {CLN_DBIAS, CLN_OUT, CLN_PER_WEIGHT, 0, &args->dbias},
        {CLN_Y, CLN_IN, CLN_TENSOR, op.from_y && (normalized_needed || activates), &args->y},
        {CLN_BIAS, CLN_IN, CLN_PER_WEIGHT, 0, &args->bias},
        {CLN_Z, CLN_IN, CLN_TENSOR, z_needed && plan->desc.residual == CLNORM_RESIDUAL_AFTER, &args->z},
        {CLN_DZ, CLN_OUT, CLN_TENSOR, 0, &args->dz},
        {CLN_LENGTHS, CLN_IN, CLN_PER_SAMPLE, plan->desc.lengths != 0, &args->lengths},
        {CLN_MASK, CLN_IN, CLN_MASK_SIZE, masked, &args->mask},
        {CLN_WORKSPACE, CLN_OUT, CLN_WORKSPACE_SIZE, 0, &args->workspace},
    };
    TRY(cln_bind(plan, __func__, arguments, COUNT(arguments), dx_over_dy, args->accumulate & CLNORM_ADD_DX ? 0 : 1,
                 &op));
    if (op.from_y && normalized_needed)
        op.role[CLN_X] = op.role[CLN_Y];
    return cln_plan_run(plan, CLN_CALL_BACKWARD, &op);
}

clnorm_status clnorm_double_backward(clnorm_plan *plan, const clnorm_double_backward_args *args)
{
    BEGIN(args->n);
    if (!plan->desc.double_backward)
        return cln_fail(CLNORM_E_UNSUPPORTED, "%s: desc.double_backward of the plan is 0 but must be 1", __func__);
    TRY(cln_check_pair(__func__, &args->running_mean, &args->running_var));
    if (!cln_has_running(plan)) {
        TRY(cln_refuse(plan, __func__, "running_mean", &args->running_mean));
        TRY(cln_refuse(plan, __func__, "running_var", &args->running_var));
    }
    TRY(cln_choose_source(__func__, plan, &args->state, &args->mean, &args->rstd, &args->running_mean, &op.source));
    if (!cln_given(&args->v_dx) && !cln_given(&args->v_dweight) && !cln_given(&args->v_dbias))
        return cln_fail(CLNORM_E_MISSING,
                        "%s: v_dx, v_dweight and v_dbias are all missing but at least one must be given", __func__);
    if (!cln_given(&args->g_x) && !cln_given(&args->g_dy) && !cln_given(&args->g_weight))
        return cln_fail(CLNORM_E_MISSING, "%s: g_x, g_dy and g_weight are all missing but at least one must be given",
                        __func__);
    const struct cln_argument arguments[] = {
        {CLN_X, CLN_IN, CLN_TENSOR, 1, &args->x},
        {CLN_DY, CLN_IN, CLN_TENSOR, 1, &args->dy},
        {CLN_WEIGHT, CLN_IN, CLN_PER_WEIGHT, 0, &args->weight},
        {CLN_STATE, CLN_IN, CLN_STATE_SIZE, 0, &args->state},
        {CLN_MEAN, CLN_IN, CLN_PER_GROUP, 0, &args->mean},
        {CLN_RSTD, CLN_IN, CLN_PER_GROUP, 0, &args->rstd},
        {CLN_RUNNING_MEAN, CLN_IN, CLN_CHANNEL, 0, &args->running_mean},
        {CLN_RUNNING_VAR, CLN_IN, CLN_CHANNEL, 0, &args->running_var},
        {CLN_V_DX, CLN_IN, CLN_TENSOR, 0, &args->v_dx},
        {CLN_V_DWEIGHT, CLN_IN, CLN_PER_WEIGHT, 0, &args->v_dweight},
        {CLN_V_DBIAS, CLN_IN, CLN_PER_WEIGHT, 0, &args->v_dbias},
        {CLN_G_X, CLN_OUT, CLN_TENSOR, 0, &args->g_x},
        {CLN_G_DY, CLN_OUT, CLN_TENSOR, 0, &args->g_dy},
        {CLN_G_WEIGHT, CLN_OUT, CLN_PER_WEIGHT, 0, &args->g_weight},
        {CLN_WORKSPACE, CLN_OUT, CLN_WORKSPACE_SIZE, 0, &args->workspace},
    };
    TRY(cln_bind(plan, __func__, arguments, COUNT(arguments), NULL, 0, &op));
    return cln_plan_run(plan, CLN_CALL_DOUBLE_BACKWARD, &op);
}

clnorm_status clnorm_statistics(clnorm_plan *plan, const clnorm_statistics_args *args)
{
    BEGIN(args->n);
    TRY(cln_check_steps(plan, __func__, "clnorm_forward"));
    const struct cln_argument arguments[] = {
        {CLN_X, CLN_IN, CLN_TENSOR, 1, &args->x},
        {CLN_STATISTICS, CLN_OUT, CLN_STATISTICS_SIZE, 1, &args->statistics},
        {CLN_WORKSPACE, CLN_OUT, CLN_WORKSPACE_SIZE, 0, &args->workspace},
    };
    TRY(cln_bind(plan, __func__, arguments, COUNT(arguments), NULL, 0, &op));
    return cln_plan_run(plan, CLN_CALL_STATISTICS, &op);
}

clnorm_status clnorm_merge(clnorm_plan *plan, const clnorm_merge_args *args)
{
    BEGIN(CLNORM_PLAN_N);
    TRY(cln_check_steps(plan, __func__, "clnorm_forward"));
    if (args->parts < 1)
        return cln_fail(CLNORM_E_SHAPE, "%s: parts is %" PRIu32 " but must be at least 1", __func__, args->parts);
    op.parts = args->parts;
    const struct cln_argument arguments[] = {
        {CLN_GATHERED, CLN_IN, CLN_GATHERED_SIZE, 1, &args->gathered},
        {CLN_STATISTICS, CLN_OUT, CLN_STATISTICS_SIZE, 1, &args->statistics},
        {CLN_WORKSPACE, CLN_OUT, CLN_WORKSPACE_SIZE, 0, &args->workspace},
    };
    TRY(cln_bind(plan, __func__, arguments, COUNT(arguments), NULL, 0, &op));
    return cln_plan_run(plan, CLN_CALL_MERGE, &op);
}

clnorm_status clnorm_commit(clnorm_plan *plan, const clnorm_commit_args *args)
{
    BEGIN(CLNORM_PLAN_N);
    TRY(cln_check_steps(plan, __func__, "clnorm_forward"));
    TRY(cln_check_running(__func__, &args->running));
    op.running = args->running;
    const struct cln_argument arguments[] = {
        {CLN_STATISTICS, CLN_IN, CLN_STATISTICS_SIZE, 1, &args->statistics},
        {CLN_RUNNING_MEAN, CLN_INOUT, CLN_CHANNEL, 1, &args->running_mean},
        {CLN_RUNNING_VAR, CLN_INOUT, CLN_CHANNEL, 1, &args->running_var},
        {CLN_WORKSPACE, CLN_OUT, CLN_WORKSPACE_SIZE, 0, &args->workspace},
    };
    TRY(cln_bind(plan, __func__, arguments, COUNT(arguments), NULL, 0, &op));
    return cln_plan_run(plan, CLN_CALL_COMMIT, &op);
}

clnorm_status clnorm_apply(clnorm_plan *plan, const clnorm_apply_args *args)
{
    BEGIN(args->n);
    TRY(cln_check_steps(plan, __func__, "clnorm_forward"));
    const struct cln_argument arguments[] = {
        {CLN_X, CLN_IN, CLN_TENSOR, 1, &args->x},
        {CLN_Y, CLN_OUT, CLN_TENSOR, 1, &args->y},
        {CLN_WEIGHT, CLN_IN, CLN_PER_WEIGHT, 0, &args->weight},
        {CLN_BIAS, CLN_IN, CLN_PER_WEIGHT, 0, &args->bias},
        {CLN_STATISTICS, CLN_IN, CLN_STATISTICS_SIZE, 1, &args->statistics},
        {CLN_STATE, CLN_OUT, CLN_STATE_SIZE, 0, &args->state},
        {CLN_MEAN, CLN_OUT, CLN_PER_GROUP, 0, &args->mean},
        {CLN_VAR, CLN_OUT, CLN_PER_GROUP, 0, &args->var},
        {CLN_RSTD, CLN_OUT, CLN_PER_GROUP, 0, &args->rstd},
        {CLN_WORKSPACE, CLN_OUT, CLN_WORKSPACE_SIZE, 0, &args->workspace},
    };
    TRY(cln_bind(plan, __func__, arguments, COUNT(arguments), y_over_x, cln_given(&args->state) ? 0 : 1, &op));
    return cln_plan_run(plan, CLN_CALL_APPLY, &op);
}

clnorm_status clnorm_backward_reduce(clnorm_plan *plan, const clnorm_backward_reduce_args *args)
{
    BEGIN(args->n);
    TRY(cln_check_backward_steps(plan, __func__));
    TRY(cln_choose_source(__func__, plan, &args->state, &args->mean, &args->rstd, NULL, &op.source));
    const struct cln_argument arguments[] = {
        {CLN_X, CLN_IN, CLN_TENSOR, 1, &args->x},
        {CLN_DY, CLN_IN, CLN_TENSOR, 1, &args->dy},
        {CLN_STATE, CLN_IN, CLN_STATE_SIZE, 0, &args->state},
        {CLN_MEAN, CLN_IN, CLN_PER_GROUP, 0, &args->mean},
        {CLN_RSTD, CLN_IN, CLN_PER_GROUP, 0, &args->rstd},
        {CLN_SUMS, CLN_OUT, CLN_SUMS_SIZE, 1, &args->sums},
        {CLN_DWEIGHT, CLN_OUT, CLN_PER_WEIGHT, 0, &args->dweight},
        {CLN_DBIAS, CLN_OUT, CLN_PER_WEIGHT, 0, &args->dbias},
        {CLN_WORKSPACE, CLN_OUT, CLN_WORKSPACE_SIZE, 0, &args->workspace},
    };
    TRY(cln_bind(plan, __func__, arguments, COUNT(arguments), NULL, 0, &op));
    return cln_plan_run(plan, CLN_CALL_BACKWARD_REDUCE, &op);
}

clnorm_status clnorm_backward_apply(clnorm_plan *plan, const clnorm_backward_apply_args *args)
{
    BEGIN(args->n);
    TRY(cln_check_backward_steps(plan, __func__));
    TRY(cln_choose_source(__func__, plan, &args->state, &args->mean, &args->rstd, NULL, &op.source));
    const struct cln_argument arguments[] = {
        {CLN_X, CLN_IN, CLN_TENSOR, 1, &args->x},
        {CLN_DY, CLN_IN, CLN_TENSOR, 1, &args->dy},
        {CLN_WEIGHT, CLN_IN, CLN_PER_WEIGHT, 0, &args->weight},
        {CLN_STATE, CLN_IN, CLN_STATE_SIZE, 0, &args->state},
        {CLN_MEAN, CLN_IN, CLN_PER_GROUP, 0, &args->mean},
        {CLN_RSTD, CLN_IN, CLN_PER_GROUP, 0, &args->rstd},
        {CLN_SUMS, CLN_IN, CLN_SUMS_SIZE, 1, &args->sums},
        {CLN_DX, CLN_OUT, CLN_TENSOR, 1, &args->dx},
        {CLN_WORKSPACE, CLN_OUT, CLN_WORKSPACE_SIZE, 0, &args->workspace},
    };
    TRY(cln_bind(plan, __func__, arguments, COUNT(arguments), dx_over_dy, 1, &op));
    return cln_plan_run(plan, CLN_CALL_BACKWARD_APPLY, &op);
}
