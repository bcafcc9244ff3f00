#include "plan/plan.h"

#include "base/integers.h"
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

size_t cln_plan_state_bytes(const clnorm_plan *plan)
{
    return (size_t)cln_view_batches(&plan->desc, (uint64_t)plan->desc.n) *
           cln_plan_planes_bytes(plan, CLN_STATE_PLANES);
}

/* Of planes in the workspace; virtual batches take turns there. */
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
    plan->view = plan->batch = cln_view_make(desc, (uint64_t)desc->n);
    if (desc->virtual_batch > 0 && desc->virtual_batch < desc->n)
        plan->batch = cln_view_make(desc, (uint64_t)desc->virtual_batch);

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

static int is_host(const clnorm_plan *plan)
{
    return plan->device->backend == &cln_cpu_backend;
}

static void bind_workspace(const clnorm_plan *plan, struct cln_op *op)
{
    const struct cln_span *w = cln_bound(op, CLN_WORKSPACE) ? &op->role[CLN_WORKSPACE] : &plan->workspace;
    int host = is_host(plan);
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

static void push_double_steps(const clnorm_plan *plan, struct cln_op *op)
{
    push(op, CLN_STEP_DOUBLE_REDUCE);
    push(op, CLN_STEP_DOUBLE_FINISH);
    if (cln_bound(op, CLN_G_WEIGHT) && plan->view.along)
        push(op, CLN_STEP_DOUBLE_WEIGHTS);
    if (cln_bound(op, CLN_G_X) || cln_bound(op, CLN_G_DY))
        push(op, CLN_STEP_DOUBLE_APPLY);
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
    case CLN_CALL_DOUBLE_BACKWARD:
        if (!empty)
            push_double_steps(plan, op);
        else if (cln_bound(op, CLN_G_WEIGHT))
            push(op, CLN_STEP_ZERO_SUMS);
        break;
    case CLN_CALL_COUNT:
        break;
    }
}

static clnorm_status run(clnorm_plan *plan, enum cln_call call, struct cln_op *op)
{
    op->step_count = 0;
    push_steps(plan, call, op);
    bind_workspace(plan, op);
    return plan->device->backend->run(plan, op);
}

/* ---- virtual batches ---- */

/* `bytes` of a role from `offset` on, where it is bound. */
static void narrow(const clnorm_plan *plan, struct cln_op *op, enum cln_role role, uint64_t offset, uint64_t bytes)
{
    if (cln_bound(op, role))
        op->role[role] = part_of(&op->role[role], is_host(plan), (size_t)offset, (size_t)bytes);
}

/* Batch k of a call of n samples, of `sample` elements each, as a call of its own: its samples of the tensors, and its planes of what
 * statistics groups have. The gradients of weights are added to those of the batches before. */
static struct cln_op batch_of(const clnorm_plan *plan, const struct cln_op *whole, uint64_t n, uint64_t sample,
                              uint64_t k)
{
    static const enum cln_role tensors[] = {CLN_X, CLN_Y, CLN_DY, CLN_DX, CLN_Z, CLN_DZ},
                               planes[] = {CLN_STATE, CLN_MEAN, CLN_VAR, CLN_RSTD};
    struct cln_op op = *whole;
    uint64_t samples = (uint64_t)plan->desc.virtual_batch, first = k * samples;
    op.first = first * sample;
    op.view = cln_view_make(&plan->desc, least(samples, n - first));
    for (size_t i = 0; i < sizeof tensors / sizeof tensors[0]; i++) {
        size_t bytes = cln_role_bytes(whole, tensors[i]);
        narrow(plan, &op, tensors[i], first * sample * bytes, cln_view_elements(&op.view) * bytes);
    }
    for (size_t i = 0; i < sizeof planes / sizeof planes[0]; i++) {
        uint64_t bytes = cln_plan_planes_bytes(plan, planes[i] == CLN_STATE ? CLN_STATE_PLANES : 1);
        narrow(plan, &op, planes[i], k * bytes, bytes);
    }
    if (k > 0)
        op.accumulate |= CLNORM_ADD_DWEIGHT | CLNORM_ADD_DBIAS;
    op.running.count += k;
    return op;
}

/* Where the batches of a call commit to: room for sums, which a forward has no use for. */
static struct cln_span kept(const clnorm_plan *plan, const struct cln_op *whole, size_t plane)
{
    struct cln_op op = *whole;
    size_t bytes = cln_plan_planes_bytes(plan, 1);
    bind_workspace(plan, &op);
    return part_of(&op.role[CLN_SUMS], is_host(plan), plane * bytes, bytes);
}

/* The caller's running statistics to where they are kept, before the batches; or back, after them. */
static clnorm_status copy_running(clnorm_plan *plan, const struct cln_op *whole, int back)
{
    struct cln_op op = *whole;
    enum cln_role from[] = {CLN_RUNNING_MEAN, CLN_RUNNING_VAR}, to[] = {CLN_MEAN, CLN_VAR};
    for (size_t i = 0; i < 2; i++) {
        op.role[to[i]] = back ? whole->role[from[i]] : kept(plan, whole, i);
        if (back)
            op.role[from[i]] = kept(plan, whole, i);
    }
    op.view = plan->batch;
    op.steps[0] = CLN_STEP_COPY_RUNNING;
    op.step_count = 1;
    op.follows = back;
    op.precedes = !back || whole->precedes;
    bind_workspace(plan, &op);
    return plan->device->backend->run(plan, &op);
}

/* Running statistics are the caller's only when all has been enqueued, as in a call without virtual batches. */
static clnorm_status run_batches(clnorm_plan *plan, enum cln_call call, const struct cln_op *whole)
{
    struct cln_view one = cln_view_make(&plan->desc, 1);
    uint64_t sample = cln_view_elements(&one), n = whole->elements / sample, batches = cln_view_batches(&plan->desc, n);
    int commits = cln_bound(whole, CLN_RUNNING_MEAN);
    clnorm_status status = commits ? copy_running(plan, whole, 0) : CLNORM_OK;
    for (uint64_t k = 0; k < batches && status == CLNORM_OK; k++) {
        struct cln_op op = batch_of(plan, whole, n, sample, k);
        if (commits) {
            op.role[CLN_RUNNING_MEAN] = kept(plan, whole, 0);
            op.role[CLN_RUNNING_VAR] = kept(plan, whole, 1);
        }
        op.follows = commits || k > 0;
        op.precedes = whole->precedes || commits || k + 1 < batches;
        status = run(plan, call, &op);
    }
    return status == CLNORM_OK && commits ? copy_running(plan, whole, 1) : status;
}

/* ---- calls ---- */

/* The mask of all of y, as the last part of a call. */
static clnorm_status run_mask(clnorm_plan *plan, const struct cln_op *whole)
{
    struct cln_op op = *whole;
    op.steps[0] = CLN_STEP_MASK;
    op.step_count = 1;
    op.follows = 1;
    op.precedes = 0;
    return plan->device->backend->run(plan, &op);
}

clnorm_status cln_plan_run(clnorm_plan *plan, enum cln_call call, struct cln_op *op)
{
    int own = (call == CLN_CALL_FORWARD || call == CLN_CALL_BACKWARD) && op->source != CLN_FROM_RUNNING;
    int masks = call != CLN_CALL_BACKWARD && cln_bound(op, CLN_MASK) && op->elements > 0;
    op->precedes = masks;
    clnorm_status status =
        own && op->groups > cln_view_statistics(&op->view) ? run_batches(plan, call, op) : run(plan, call, op);
    return status == CLNORM_OK && masks ? run_mask(plan, op) : status;
}
