/* The calls that run a plan: each checks its struct, binds its buffers by a table and hands over to src/plan. */
#include "api/roles.h"
#include "base/status.h"

#include <inttypes.h>
#include <math.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static const int no_alias[] = {-1};

/* What every call has in common. n is CLNORM_PLAN_N for calls without samples. */
static clnorm_status begin(clnorm_plan *plan, const char *who, int64_t n, const void *stream, struct cln_op *op)
{
    *op = (struct cln_op){.eps = plan->desc.eps, .stream = stream};
    if (n == CLNORM_PLAN_N)
        n = plan->desc.n;
    if (n < 0 || n > plan->desc.n)
        return cln_fail(CLNORM_E_N, "%s: n is %" PRId64 " but must be from 0 to the plan's n, %" PRId64, who, n,
                        plan->desc.n);
    op->view = cln_view_make(&plan->desc, (uint64_t)n);
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

static clnorm_status check_running(const char *who, const clnorm_running *r)
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

static int given(const clnorm_buffer *b)
{
    return b->kind != CLNORM_BUFFER_NONE;
}

static clnorm_status check_pair(const char *who, const clnorm_buffer *mean, const clnorm_buffer *var)
{
    if (given(mean) != given(var))
        return cln_fail(CLNORM_E_STATISTICS_MISSING, "%s: %s is missing but must be given with %s", who,
                        given(mean) ? "running_var" : "running_mean", given(mean) ? "running_mean" : "running_var");
    return CLNORM_OK;
}

static const char *norm_name(const clnorm_plan *plan)
{
    static const char *const names[] = {"batch norm", "layer norm", "group norm", "instance norm", "RMS norm"};
    return names[plan->desc.norm];
}

/* A buffer that the plan's norm has not. */
static clnorm_status refuse(const clnorm_plan *plan, const char *who, const char *name, const clnorm_buffer *b)
{
    if (given(b))
        return cln_fail(CLNORM_E_UNSUPPORTED, "%s: %s is given but must be left out, for %s has none", who, name,
                        norm_name(plan));
    return CLNORM_OK;
}

static int has_running(const clnorm_plan *plan)
{
    return plan->desc.norm == CLNORM_BATCH || plan->desc.norm == CLNORM_INSTANCE;
}

/* A call that only some norms have. */
static clnorm_status check_norm(const clnorm_plan *plan, const char *who, int has, const char *instead)
{
    if (!has)
        return cln_fail(CLNORM_E_UNSUPPORTED, "%s: the plan is of %s, which has no such call: use %s", who,
                        norm_name(plan), instead);
    return CLNORM_OK;
}

/* Exactly one of state, (mean, rstd) and, if allowed, the running pair. */
static clnorm_status choose_source(const char *who, const clnorm_plan *plan, const clnorm_buffer *state,
                                   const clnorm_buffer *mean, const clnorm_buffer *rstd,
                                   const clnorm_buffer *running_mean, enum cln_source *source)
{
    if (!plan->view.centred) {
        clnorm_status status = refuse(plan, who, "mean", mean);
        if (status != CLNORM_OK)
            return status;
        mean = rstd; /* which stands for the pair */
    }
    if (given(mean) != given(rstd))
        return cln_fail(CLNORM_E_STATISTICS_MISSING, "%s: %s is missing but must be given with %s", who,
                        given(mean) ? "rstd" : "mean", given(mean) ? "mean" : "rstd");
    int frozen = running_mean && given(running_mean);
    int sources = given(state) + given(mean) + frozen;
    if (sources != 1)
        return cln_fail(CLNORM_E_STATISTICS_SOURCE,
                        "%s: %d sources of statistics are given but it must be one: state, or %s%s", who, sources,
                        plan->view.centred ? "mean and rstd" : "rstd",
                        running_mean && has_running(plan) ? ", or running_mean and running_var" : "");
    *source = frozen ? CLN_FROM_RUNNING : given(state) ? CLN_FROM_STATE : CLN_FROM_GIVEN;
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
    if (!has_running(plan)) {
        TRY(refuse(plan, __func__, "running_mean", &args->running_mean));
        TRY(refuse(plan, __func__, "running_var", &args->running_var));
    }
    if (!plan->view.centred) {
        TRY(refuse(plan, __func__, "mean", &args->mean));
        TRY(refuse(plan, __func__, "var", &args->var));
    }
    TRY(check_pair(__func__, &args->running_mean, &args->running_var));
    TRY(check_running(__func__, &args->running));
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
        {CLN_WORKSPACE, CLN_OUT, CLN_WORKSPACE_SIZE, 0, &args->workspace},
    };
    const int in_place[] = {CLN_Y, CLN_X, -1};
    TRY(cln_bind(plan, __func__, arguments, COUNT(arguments), given(&args->state) ? no_alias : in_place, &op));
    return cln_plan_run(plan, CLN_CALL_FORWARD, &op);
}

clnorm_status clnorm_infer(clnorm_plan *plan, const clnorm_infer_args *args)
{
    BEGIN(args->n);
    TRY(check_norm(plan, __func__, has_running(plan), "clnorm_forward"));
    op.source = CLN_FROM_RUNNING;
    const struct cln_argument arguments[] = {
        {CLN_X, CLN_IN, CLN_TENSOR, 1, &args->x},
        {CLN_Y, CLN_OUT, CLN_TENSOR, 1, &args->y},
        {CLN_WEIGHT, CLN_IN, CLN_PER_WEIGHT, 0, &args->weight},
        {CLN_BIAS, CLN_IN, CLN_PER_WEIGHT, 0, &args->bias},
        {CLN_RUNNING_MEAN, CLN_IN, CLN_CHANNEL, 1, &args->running_mean},
        {CLN_RUNNING_VAR, CLN_IN, CLN_CHANNEL, 1, &args->running_var},
        {CLN_WORKSPACE, CLN_OUT, CLN_WORKSPACE_SIZE, 0, &args->workspace},
    };
    const int in_place[] = {CLN_Y, CLN_X, -1};
    TRY(cln_bind(plan, __func__, arguments, COUNT(arguments), in_place, &op));
    return cln_plan_run(plan, CLN_CALL_INFER, &op);
}

clnorm_status clnorm_fold(clnorm_plan *plan, const clnorm_fold_args *args)
{
    BEGIN(CLNORM_PLAN_N);
    TRY(check_norm(plan, __func__, plan->desc.norm == CLNORM_BATCH, "a batch norm plan of the layer's weights"));
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
    const int in_place[] = {CLN_LAYER_WEIGHT_OUT, CLN_LAYER_WEIGHT, CLN_LAYER_BIAS_OUT, CLN_LAYER_BIAS, -1};
    TRY(cln_bind(plan, __func__, arguments, COUNT(arguments), in_place, &op));
    return cln_plan_run(plan, CLN_CALL_FOLD, &op);
}

clnorm_status clnorm_backward(clnorm_plan *plan, const clnorm_backward_args *args)
{
    BEGIN(args->n);
    TRY(check_pair(__func__, &args->running_mean, &args->running_var));
    if (!has_running(plan)) {
        TRY(refuse(plan, __func__, "running_mean", &args->running_mean));
        TRY(refuse(plan, __func__, "running_var", &args->running_var));
    }
    TRY(choose_source(__func__, plan, &args->state, &args->mean, &args->rstd, &args->running_mean, &op.source));
    if (!given(&args->dx) && !given(&args->dweight) && !given(&args->dbias))
        return cln_fail(CLNORM_E_MISSING, "%s: dx, dweight and dbias are all missing but at least one must be given",
                        __func__);
    int x_needed = op.source != CLN_FROM_RUNNING || given(&args->dweight);
    const struct cln_argument arguments[] = {
        {CLN_X, CLN_IN, CLN_TENSOR, x_needed, &args->x},
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
        {CLN_WORKSPACE, CLN_OUT, CLN_WORKSPACE_SIZE, 0, &args->workspace},
    };
    const int in_place[] = {CLN_DX, CLN_DY, -1};
    TRY(cln_bind(plan, __func__, arguments, COUNT(arguments), in_place, &op));
    return cln_plan_run(plan, CLN_CALL_BACKWARD, &op);
}

clnorm_status clnorm_statistics(clnorm_plan *plan, const clnorm_statistics_args *args)
{
    BEGIN(args->n);
    TRY(check_norm(plan, __func__, plan->desc.norm == CLNORM_BATCH, "clnorm_forward"));
    const struct cln_argument arguments[] = {
        {CLN_X, CLN_IN, CLN_TENSOR, 1, &args->x},
        {CLN_STATISTICS, CLN_OUT, CLN_STATISTICS_SIZE, 1, &args->statistics},
        {CLN_WORKSPACE, CLN_OUT, CLN_WORKSPACE_SIZE, 0, &args->workspace},
    };
    TRY(cln_bind(plan, __func__, arguments, COUNT(arguments), no_alias, &op));
    return cln_plan_run(plan, CLN_CALL_STATISTICS, &op);
}

clnorm_status clnorm_merge(clnorm_plan *plan, const clnorm_merge_args *args)
{
    BEGIN(CLNORM_PLAN_N);
    TRY(check_norm(plan, __func__, plan->desc.norm == CLNORM_BATCH, "clnorm_forward"));
    if (args->parts < 1)
        return cln_fail(CLNORM_E_SHAPE, "%s: parts is %" PRIu32 " but must be at least 1", __func__, args->parts);
    op.parts = args->parts;
    const struct cln_argument arguments[] = {
        {CLN_GATHERED, CLN_IN, CLN_GATHERED_SIZE, 1, &args->gathered},
        {CLN_STATISTICS, CLN_OUT, CLN_STATISTICS_SIZE, 1, &args->statistics},
        {CLN_WORKSPACE, CLN_OUT, CLN_WORKSPACE_SIZE, 0, &args->workspace},
    };
    TRY(cln_bind(plan, __func__, arguments, COUNT(arguments), no_alias, &op));
    return cln_plan_run(plan, CLN_CALL_MERGE, &op);
}

clnorm_status clnorm_commit(clnorm_plan *plan, const clnorm_commit_args *args)
{
    BEGIN(CLNORM_PLAN_N);
    TRY(check_norm(plan, __func__, plan->desc.norm == CLNORM_BATCH, "clnorm_forward"));
    TRY(check_running(__func__, &args->running));
    op.running = args->running;
    const struct cln_argument arguments[] = {
        {CLN_STATISTICS, CLN_IN, CLN_STATISTICS_SIZE, 1, &args->statistics},
        {CLN_RUNNING_MEAN, CLN_INOUT, CLN_CHANNEL, 1, &args->running_mean},
        {CLN_RUNNING_VAR, CLN_INOUT, CLN_CHANNEL, 1, &args->running_var},
        {CLN_WORKSPACE, CLN_OUT, CLN_WORKSPACE_SIZE, 0, &args->workspace},
    };
    TRY(cln_bind(plan, __func__, arguments, COUNT(arguments), no_alias, &op));
    return cln_plan_run(plan, CLN_CALL_COMMIT, &op);
}

clnorm_status clnorm_apply(clnorm_plan *plan, const clnorm_apply_args *args)
{
    BEGIN(args->n);
    TRY(check_norm(plan, __func__, plan->desc.norm == CLNORM_BATCH, "clnorm_forward"));
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
    const int in_place[] = {CLN_Y, CLN_X, -1};
    TRY(cln_bind(plan, __func__, arguments, COUNT(arguments), given(&args->state) ? no_alias : in_place, &op));
    return cln_plan_run(plan, CLN_CALL_APPLY, &op);
}

clnorm_status clnorm_backward_reduce(clnorm_plan *plan, const clnorm_backward_reduce_args *args)
{
    BEGIN(args->n);
    TRY(check_norm(plan, __func__, plan->desc.norm == CLNORM_BATCH, "clnorm_backward"));
    TRY(choose_source(__func__, plan, &args->state, &args->mean, &args->rstd, NULL, &op.source));
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
    TRY(cln_bind(plan, __func__, arguments, COUNT(arguments), no_alias, &op));
    return cln_plan_run(plan, CLN_CALL_BACKWARD_REDUCE, &op);
}

clnorm_status clnorm_backward_apply(clnorm_plan *plan, const clnorm_backward_apply_args *args)
{
    BEGIN(args->n);
    TRY(check_norm(plan, __func__, plan->desc.norm == CLNORM_BATCH, "clnorm_backward"));
    TRY(choose_source(__func__, plan, &args->state, &args->mean, &args->rstd, NULL, &op.source));
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
    const int in_place[] = {CLN_DX, CLN_DY, -1};
    TRY(cln_bind(plan, __func__, arguments, COUNT(arguments), in_place, &op));
    return cln_plan_run(plan, CLN_CALL_BACKWARD_APPLY, &op);
}
