#include "plan/plan.h"

#include "base/status.h"

#include <stdlib.h>

/* Workspace: state | statistics | sums | partials, each at a multiple of 64 bytes. */
static size_t round_up(size_t bytes)
{
    return (bytes + 63) / 64 * 64;
}

size_t cln_plan_planes_bytes(const clnorm_plan *plan, size_t planes)
{
    return planes * cln_view_statistics(&plan->view) * sizeof(float);
}

/* Of planes in the workspace. */
static size_t kept_bytes(const clnorm_plan *plan, size_t planes)
{
    return plan->needs_no_planes ? 0 : round_up(cln_plan_planes_bytes(plan, planes));
}

static size_t state_offset(void)
{
    return 0;
}

static size_t statistics_offset(const clnorm_plan *plan)
{
    return kept_bytes(plan, CLN_STATE_PLANES);
}

static size_t sums_offset(const clnorm_plan *plan)
{
    return statistics_offset(plan) + kept_bytes(plan, CLN_STATISTICS_PLANES);
}

static size_t partials_offset(const clnorm_plan *plan)
{
    return sums_offset(plan) + kept_bytes(plan, CLN_SUMS_PLANES);
}

size_t cln_plan_workspace_bytes(const clnorm_plan *plan)
{
    return partials_offset(plan) + round_up(plan->partials_bytes) + 64; /* room to align a caller's workspace */
}

clnorm_status cln_plan_new(clnorm_device *device, const clnorm_desc *desc, clnorm_plan **out)
{
    clnorm_plan *plan = calloc(1, sizeof *plan);
    if (!plan)
        return cln_fail(CLNORM_E_NO_MEMORY, "clnorm_plan_create: out of memory for a plan");
    cln_device_retain(device);
    plan->device = device;
    plan->desc = *desc;
    plan->view = cln_view_make(desc, (uint64_t)desc->n);

    clnorm_status status = device->backend->plan_create(plan);
    if (status == CLNORM_OK)
        status = clnorm_memory_create(device, cln_plan_workspace_bytes(plan), &plan->workspace_memory);
    if (status == CLNORM_OK) {
        clnorm_buffer all = clnorm_memory_buffer(plan->workspace_memory);
        status = device->backend->resolve(device, "clnorm_plan_create", "workspace", &all, &plan->workspace);
    }
    if (status == CLNORM_OK)
        *out = plan;
    else
        cln_plan_free(plan);
    return status;
}

void cln_plan_free(clnorm_plan *plan)
{
    if (!plan)
        return;
    if (plan->impl)
        plan->device->backend->plan_destroy(plan);
    clnorm_memory_destroy(plan->workspace_memory);
    cln_device_release(plan->device);
    free(plan);
}

static struct cln_span part_of(const struct cln_span *all, int host, size_t offset, size_t bytes)
{
    struct cln_span part = *all;
    if (host)
        part.handle = (char *)all->handle + offset;
    else
        part.offset += offset;
    part.begin += offset;
    part.bytes = bytes;
    return part;
}

static void bind_workspace(const clnorm_plan *plan, struct cln_op *op)
{
    const struct cln_span *w = cln_bound(op, CLN_WORKSPACE) ? &op->role[CLN_WORKSPACE] : &plan->workspace;
    int host = plan->device->backend == &cln_cpu_backend;
    size_t skip = host ? (64 - w->begin % 64) % 64 : 0; /* the CPU path keeps doubles there */
    const struct {
        enum cln_role role;
        size_t offset, bytes;
    } parts[] = {
        {CLN_STATE, state_offset(), kept_bytes(plan, CLN_STATE_PLANES)},
        {CLN_STATISTICS, statistics_offset(plan), kept_bytes(plan, CLN_STATISTICS_PLANES)},
        {CLN_SUMS, sums_offset(plan), kept_bytes(plan, CLN_SUMS_PLANES)},
        {CLN_PARTIALS, partials_offset(plan), plan->partials_bytes},
    };
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        if (!cln_bound(op, parts[i].role) && parts[i].bytes > 0)
            op->role[parts[i].role] = part_of(w, host, skip + parts[i].offset, parts[i].bytes);
    }
}

static void push(struct cln_op *op, enum cln_step step)
{
    op->steps[op->step_count++] = step;
}

/* The gradients of the weights come before dx, which may lie over dy. */
static void push_backward_steps(const clnorm_plan *plan, struct cln_op *op)
{
    int wants_weights = cln_bound(op, CLN_DWEIGHT) || cln_bound(op, CLN_DBIAS);
    int wants_sums = cln_bound(op, CLN_DX) && op->source != CLN_FROM_RUNNING;
    int with_sums = plan->desc.norm == CLNORM_BATCH; /* its sums are the gradients */
    if (wants_sums || (wants_weights && !op->view.along))
        push(op, CLN_STEP_REDUCE);
    if (wants_sums || (wants_weights && with_sums))
        push(op, CLN_STEP_REDUCE_FINISH);
    if (wants_weights && op->view.along)
        push(op, CLN_STEP_WEIGHTS);
    if (wants_weights && !with_sums)
        push(op, CLN_STEP_WEIGHTS_FINISH);
    if (cln_bound(op, CLN_DX) || cln_bound(op, CLN_DZ))
        push(op, CLN_STEP_BACKWARD_APPLY);
}

/* Of no samples, 0 is added to a gradient: it stays. */
static void leave_accumulated(struct cln_op *op)
{
    if (op->accumulate & CLNORM_ADD_DWEIGHT)
        op->role[CLN_DWEIGHT].handle = NULL;
    if (op->accumulate & CLNORM_ADD_DBIAS)
        op->role[CLN_DBIAS].handle = NULL;
}

/* The steps of a call; running statistics are committed last, when everything else has been enqueued. */
static void push_steps(const clnorm_plan *plan, enum cln_call call, struct cln_op *op)
{
    int empty = cln_view_elements(&op->view) == 0;
    switch (call) {
    case CLN_CALL_FORWARD:
        if (empty)
            break;
        push(op, CLN_STEP_STATISTICS);
        push(op, CLN_STEP_FINISH);
        push(op, CLN_STEP_APPLY);
        if (cln_bound(op, CLN_RUNNING_MEAN))
            push(op, CLN_STEP_COMMIT);
        break;
    case CLN_CALL_INFER:
        if (!empty)
            push(op, CLN_STEP_APPLY);
        break;
    case CLN_CALL_FOLD:
        push(op, CLN_STEP_FOLD);
        if (empty)
            break;
        op->role[CLN_DY] = op->role[CLN_LAYER_WEIGHT]; /* scaled as a frozen backward scales dy */
        op->role[CLN_DX] = op->role[CLN_LAYER_WEIGHT_OUT];
        push(op, CLN_STEP_BACKWARD_APPLY);
        break;
    case CLN_CALL_BACKWARD:
        if (empty)
            leave_accumulated(op);
        if (empty && (cln_bound(op, CLN_DWEIGHT) || cln_bound(op, CLN_DBIAS)))
            push(op, CLN_STEP_ZERO_SUMS);
        else if (!empty)
            push_backward_steps(plan, op);
        break;
    case CLN_CALL_STATISTICS:
        if (empty) {
            push(op, CLN_STEP_ZERO_STATISTICS);
            break;
        }
        push(op, CLN_STEP_STATISTICS);
        push(op, CLN_STEP_FINISH);
        break;
    case CLN_CALL_MERGE:
        push(op, CLN_STEP_MERGE);
        break;
    case CLN_CALL_COMMIT:
        push(op, CLN_STEP_COMMIT);
        break;
    case CLN_CALL_APPLY:
        if (empty)
            break;
        push(op, CLN_STEP_FINALIZE);
        push(op, CLN_STEP_APPLY);
        break;
    case CLN_CALL_BACKWARD_REDUCE:
        if (empty) {
            push(op, CLN_STEP_ZERO_SUMS);
            break;
        }
        push(op, CLN_STEP_REDUCE);
        push(op, CLN_STEP_REDUCE_FINISH);
        break;
    case CLN_CALL_BACKWARD_APPLY:
        if (!empty)
            push(op, CLN_STEP_BACKWARD_APPLY);
        break;
    case CLN_CALL_COUNT:
        break;
    }
}

clnorm_status cln_plan_run(clnorm_plan *plan, enum cln_call call, struct cln_op *op)
{
    op->step_count = 0;
    push_steps(plan, call, op);
    bind_workspace(plan, op);
    return plan->device->backend->run(plan, op);
}
