/* From a call's steps to enqueued commands. All arguments are set before the first command is enqueued, so that a call that
 * cannot be set up enqueues nothing. */
#include "opencl.h"
#include "problem.h"

#include <stddef.h>
#include <string.h>

/* A kernel, or a fill with zeros. */
struct command {
    cl_kernel kernel;
    size_t work_groups, work_group_size;
    struct cln_span fill;
};

enum { MAX_COMMANDS = CLN_MAX_STEPS + 2 };

struct batch {
    struct cln_cl_plan *plan;
    const struct cln_cl_device *device;
    const clnorm_device *plan_device;
    const struct cln_op *op;
    cl_mem workspace; /* the plan's own, or NULL */
    struct command commands[MAX_COMMANDS];
    int count;
    cl_int code; /* first failure of clSetKernelArg */
};

/* ---- arguments ---- */

/* The plan's word of what its calls found, which is no role of a call. */
#define CLN_FOUND CLN_ROLE_COUNT

/* A buffer argument; a role that is not bound gets a buffer that the kernel does not touch. */
static cl_mem buffer_of(const struct batch *b, enum cln_role role)
{
    return role != CLN_FOUND && cln_bound(b->op, role) ? b->op->role[role].handle : b->plan->found;
}

/* Whether a buffer is the plan's own: it lives as long as the plan, so that an equal handle is the same buffer. A caller's handle may be
 * another buffer's by now. */
static int is_own(const struct batch *b, cl_mem buffer)
{
    return buffer == b->plan->found || buffer == b->workspace;
}

_Static_assert(offsetof(struct cln_problem, factor) + sizeof(cl_float) == sizeof(struct cln_problem),
               "problems are compared byte by byte: no padding");

/* Of bits, not of values: a NaN equals itself, and -0 is not 0. */
static int equal_bytes(const void *a, const void *b, size_t size)
{
    return memcmp(a, b, size) == 0;
}

/* Sets a kernel's arguments (the problem, then the buffers of the roles) as far as they may have changed, and notes the launch. */
static void push_kernel(struct batch *b, enum cln_kernel which, const struct cln_problem *problem,
                        const struct cln_geometry *g, const enum cln_role *roles, cl_uint role_count)
{
    cl_kernel kernel = b->plan->kernels[which];
    struct cln_cl_arguments *set = &b->plan->arguments[which];
    cl_int code = CL_SUCCESS;
    if (!set->has_problem || !equal_bytes(&set->problem, problem, sizeof *problem)) {
        code = clSetKernelArg(kernel, 0, sizeof *problem, problem);
        set->has_problem = code == CL_SUCCESS;
        set->problem = *problem;
    }
    for (cl_uint i = 0; i < role_count && code == CL_SUCCESS; i++) {
        cl_mem buffer = buffer_of(b, roles[i]);
        if (buffer == set->own[i])
            continue;
        code = clSetKernelArg(kernel, i + 1, sizeof buffer, &buffer);
        set->own[i] = code == CL_SUCCESS && is_own(b, buffer) ? buffer : NULL;
    }
    if (b->code == CL_SUCCESS)
        b->code = code;
    b->commands[b->count++] = (struct command){kernel, g->work_groups, g->work_group_size, {0}};
}

#define PUSH(b, which, problem, geometry, ...)                                                                         \
    push_kernel(b, CLN_KERNEL_##which, problem, geometry, (const enum cln_role[]){__VA_ARGS__},                        \
                (cl_uint)(sizeof((enum cln_role[]){__VA_ARGS__}) / sizeof(enum cln_role)))

static void push_zero(struct batch *b, enum cln_role role, size_t planes)
{
    if (!cln_bound(b->op, role))
        return;
    struct command c = {.fill = b->op->role[role]};
    c.fill.bytes = planes * b->op->view.groups * sizeof(float);
    b->commands[b->count++] = c;
}

/* ---- steps ---- */

static struct cln_geometry reduction_geometry(const struct batch *b)
{
    struct cln_cutter cutter = cln_cl_cutter(b->plan_device);
    return cln_geometry_reduce(&b->op->view, &cutter);
}

static struct cln_geometry apply_geometry(const struct batch *b)
{
    struct cln_cutter cutter = cln_cl_cutter(b->plan_device);
    return cln_geometry_apply(&b->op->view, &cutter);
}

static cl_uint stream_flag(const struct batch *b, uint32_t tensors)
{
    return cln_cl_streams(b->plan_device, &b->op->view, tensors) ? CLN_STREAM : 0;
}

/* Whole groups in one kernel, in place of the first three steps of a forward or a backward. */
static int push_forward_fused(struct batch *b)
{
    const struct cln_op *op = b->op;
    static const enum cln_step steps[] = {CLN_STEP_STATISTICS, CLN_STEP_FINISH, CLN_STEP_APPLY};
    struct cln_cutter cutter = cln_cl_cutter(b->plan_device);
    struct cln_geometry g;
    if (op->step_count < 3 || memcmp(op->steps, steps, sizeof steps) != 0 ||
        cln_geometry_fused(&op->view, &cutter, 1, &g))
        return 0;
    struct cln_problem p = cln_problem_of(op, &g);
    p.flags = CLN_WRITE_STATISTICS | cln_forward_outputs(op) | cln_flag_if(op, CLN_WEIGHT, CLN_HAS_WEIGHT) |
              cln_flag_if(op, CLN_BIAS, CLN_HAS_BIAS) | stream_flag(b, 2);
    PUSH(b, FORWARD_FUSED, &p, &g, CLN_X, CLN_Y, CLN_STATISTICS, CLN_STATE, CLN_MEAN, CLN_VAR, CLN_RSTD, CLN_WEIGHT,
         CLN_BIAS);
    return 3;
}

static int push_backward_fused(struct batch *b)
{
    const struct cln_op *op = b->op;
    static const enum cln_step steps[] = {CLN_STEP_REDUCE, CLN_STEP_REDUCE_FINISH, CLN_STEP_BACKWARD_APPLY};
    struct cln_cutter cutter = cln_cl_cutter(b->plan_device);
    struct cln_geometry g;
    if (op->step_count < 3 || memcmp(op->steps, steps, sizeof steps) != 0 || op->source == CLN_FROM_RUNNING ||
        cln_geometry_fused(&op->view, &cutter, 2, &g))
        return 0;
    struct cln_problem p = cln_problem_of(op, &g);
    struct cln_source_arrays from = cln_source_of(op);
    p.flags |= cln_flag_if(op, CLN_WEIGHT, CLN_HAS_WEIGHT) | cln_flag_if(op, CLN_DWEIGHT, CLN_WRITE_DWEIGHT) |
               cln_flag_if(op, CLN_DBIAS, CLN_WRITE_DBIAS) | stream_flag(b, 3);
    PUSH(b, BACKWARD_FUSED, &p, &g, CLN_X, CLN_DY, CLN_DX, from.mean, from.resid, from.scale, CLN_WEIGHT, CLN_SUMS,
         CLN_DWEIGHT, CLN_DBIAS);
    return 3;
}

static void push_reduction(struct batch *b, enum cln_step step)
{
    struct cln_geometry g = reduction_geometry(b);
    struct cln_problem p = cln_problem_of(b->op, &g);
    struct cln_source_arrays from = cln_source_of(b->op);
    if (step == CLN_STEP_STATISTICS)
        PUSH(b, FORWARD_STATISTICS, &p, &g, CLN_X, CLN_PARTIALS);
    else
        PUSH(b, BACKWARD_REDUCE, &p, &g, cln_bound(b->op, CLN_X) ? CLN_X : CLN_DY, CLN_DY, from.mean, from.resid,
             from.scale, CLN_PARTIALS);
}

/* Merges partials, gathered statistics, or the one set of statistics. */
static void push_forward_finish(struct batch *b, enum cln_step step)
{
    const struct cln_op *op = b->op;
    struct cln_geometry reduction = reduction_geometry(b);
    enum cln_role parts_role = CLN_PARTIALS;
    cl_uint parts = cln_geometry_parts(&op->view, &reduction);
    cl_uint flags = CLN_WRITE_STATISTICS;
    if (step == CLN_STEP_MERGE) {
        parts_role = CLN_GATHERED;
        parts = op->parts;
        flags |= CLN_PARTS_ARE_GATHERED;
    } else if (step == CLN_STEP_FINALIZE) {
        parts_role = CLN_STATISTICS;
        parts = 1;
        flags = CLN_PARTS_ARE_GATHERED;
    }
    if (step != CLN_STEP_MERGE)
        flags |= cln_forward_outputs(op);
    struct cln_geometry g = cln_geometry_groups(&op->view, &b->device->tuning, parts);
    g.fold = reduction.fold; /* of the partials */
    struct cln_problem p = cln_problem_of(op, &g);
    p.flags = flags;
    p.parts = parts;
    p.gathered = cln_element_offset(op, parts_role);
    /* FINALIZE only reads the statistics: bound twice, written never. */
    PUSH(b, FORWARD_FINISH, &p, &g, parts_role, CLN_STATISTICS, CLN_STATE, CLN_MEAN, CLN_VAR, CLN_RSTD);
}

static void push_forward_apply(struct batch *b)
{
    const struct cln_op *op = b->op;
    struct cln_geometry g = apply_geometry(b);
    struct cln_problem p = cln_problem_of(op, &g);
    struct cln_source_arrays from = cln_source_of(op);
    p.flags |=
        cln_flag_if(op, CLN_WEIGHT, CLN_HAS_WEIGHT) | cln_flag_if(op, CLN_BIAS, CLN_HAS_BIAS) | stream_flag(b, 2);
    PUSH(b, FORWARD_APPLY, &p, &g, CLN_X, CLN_Y, from.mean, from.resid, from.scale, CLN_WEIGHT, CLN_BIAS);
}

static void push_forward_commit(struct batch *b)
{
    const struct cln_op *op = b->op;
    const clnorm_running *r = &op->running;
    struct cln_geometry g = cln_geometry_groups(&op->view, &b->device->tuning, 1);
    struct cln_problem p = cln_problem_of(op, &g);
    p.flags = (r->variance == CLNORM_UNBIASED ? CLN_UNBIASED : 0u) |
              (r->guard == CLNORM_GUARD_FINITE ? CLN_GUARD_FINITE : 0u);
    p.factor = r->average == CLNORM_CUMULATIVE ? (float)(1.0 / ((double)r->count + 1.0)) : r->momentum;
    PUSH(b, FORWARD_COMMIT, &p, &g, CLN_STATISTICS, CLN_RUNNING_MEAN, CLN_RUNNING_VAR, CLN_FOUND);
}

static void push_backward_finish(struct batch *b)
{
    const struct cln_op *op = b->op;
    struct cln_geometry reduction = reduction_geometry(b);
    cl_uint parts = cln_geometry_parts(&op->view, &reduction);
    struct cln_geometry g = cln_geometry_groups(&op->view, &b->device->tuning, parts);
    g.fold = reduction.fold; /* of the partials */
    struct cln_problem p = cln_problem_of(op, &g);
    p.parts = parts;
    p.flags |=
        CLN_WRITE_SUMS | cln_flag_if(op, CLN_DWEIGHT, CLN_WRITE_DWEIGHT) | cln_flag_if(op, CLN_DBIAS, CLN_WRITE_DBIAS);
    PUSH(b, BACKWARD_FINISH, &p, &g, CLN_PARTIALS, cln_source_of(op).scale, CLN_SUMS, CLN_DWEIGHT, CLN_DBIAS);
}

static void push_backward_apply(struct batch *b)
{
    const struct cln_op *op = b->op;
    struct cln_geometry g = apply_geometry(b);
    struct cln_problem p = cln_problem_of(op, &g);
    struct cln_source_arrays from = cln_source_of(op);
    p.flags |= cln_flag_if(op, CLN_WEIGHT, CLN_HAS_WEIGHT) | (op->source == CLN_FROM_RUNNING ? CLN_FROZEN : 0u) |
               stream_flag(b, 3);
    PUSH(b, BACKWARD_APPLY, &p, &g, cln_bound(op, CLN_X) ? CLN_X : CLN_DY, CLN_DY, CLN_DX, from.mean, from.resid,
         from.scale, CLN_WEIGHT, CLN_SUMS);
}

static void push_step(struct batch *b, enum cln_step step)
{
    switch (step) {
    case CLN_STEP_STATISTICS:
    case CLN_STEP_REDUCE:
        push_reduction(b, step);
        break;
    case CLN_STEP_FINISH:
    case CLN_STEP_MERGE:
    case CLN_STEP_FINALIZE:
        push_forward_finish(b, step);
        break;
    case CLN_STEP_APPLY:
        push_forward_apply(b);
        break;
    case CLN_STEP_COMMIT:
        push_forward_commit(b);
        break;
    case CLN_STEP_REDUCE_FINISH:
        push_backward_finish(b);
        break;
    case CLN_STEP_BACKWARD_APPLY:
        push_backward_apply(b);
        break;
    case CLN_STEP_WEIGHTS:
    case CLN_STEP_WEIGHTS_FINISH: /* batch norm has neither */
        break;
    case CLN_STEP_ZERO_STATISTICS:
        push_zero(b, CLN_STATISTICS, CLN_STATISTICS_PLANES);
        break;
    case CLN_STEP_ZERO_SUMS:
        push_zero(b, CLN_SUMS, CLN_SUMS_PLANES);
        push_zero(b, CLN_DWEIGHT, 1);
        push_zero(b, CLN_DBIAS, 1);
        break;
    }
}

/* ---- enqueue ---- */

static cl_int enqueue_one(cl_command_queue queue, const struct command *c, cl_uint wait_count, const cl_event *wait,
                          cl_event *event)
{
    const cl_uint zero = 0;
    if (!c->kernel)
        return clEnqueueFillBuffer(queue, c->fill.handle, &zero, sizeof zero, c->fill.offset, c->fill.bytes, wait_count,
                                   wait, event);
    size_t global = c->work_groups * c->work_group_size;
    return clEnqueueNDRangeKernel(queue, c->kernel, 1, NULL, &global, &c->work_group_size, wait_count, wait, event);
}

/* The first command waits for the caller's events, the last gives the caller's event; on an out-of-order queue each waits for
 * the one before it. */
static clnorm_status enqueue(const struct batch *b, cl_command_queue queue, const clnorm_cl_stream *stream)
{
    cl_command_queue_properties properties = 0;
    cl_uint wait_count = stream ? stream->wait_count : 0;
    const cl_event *wait = wait_count ? stream->wait : NULL;
    cl_event *out = stream ? stream->event : NULL;
    cl_event previous = NULL, last = NULL;
    cl_int code = clGetCommandQueueInfo(queue, CL_QUEUE_PROPERTIES, sizeof properties, &properties, NULL);
    if (code != CL_SUCCESS)
        return cln_cl_fail("clGetCommandQueueInfo", code);
    int chained = (properties & CL_QUEUE_OUT_OF_ORDER_EXEC_MODE_ENABLE) != 0;

    if (b->count == 0) {
        if (!out && !wait_count)
            return CLNORM_OK;
        code = clEnqueueMarkerWithWaitList(queue, wait_count, wait, out ? &last : NULL);
        if (code != CL_SUCCESS)
            return cln_cl_fail("clEnqueueMarkerWithWaitList", code);
    }
    for (int i = 0; i < b->count; i++) {
        int is_last = i + 1 == b->count;
        cl_event event = NULL;
        int wants_event = is_last ? out != NULL : chained;
        if (i > 0) {
            wait_count = chained ? 1 : 0;
            wait = chained ? &previous : NULL;
        }
        code = enqueue_one(queue, &b->commands[i], wait_count, wait, wants_event ? &event : NULL);
        if (previous)
            clReleaseEvent(previous);
        previous = NULL;
        if (code != CL_SUCCESS)
            return cln_cl_fail(b->commands[i].kernel ? "clEnqueueNDRangeKernel" : "clEnqueueFillBuffer", code);
        if (is_last)
            last = event;
        else
            previous = event;
    }
    if (out)
        *out = last;
    return CLNORM_OK;
}

/* clnorm_plan_query_found waits where the last call went. */
static clnorm_status remember_queue(struct cln_cl_plan *plan, cl_command_queue queue)
{
    if (plan->last_queue == queue)
        return CLNORM_OK;
    cl_int code = clRetainCommandQueue(queue);
    if (code != CL_SUCCESS)
        return cln_cl_fail("clRetainCommandQueue", code);
    if (plan->last_queue)
        clReleaseCommandQueue(plan->last_queue);
    plan->last_queue = queue;
    return CLNORM_OK;
}

clnorm_status cln_cl_run(clnorm_plan *plan, const struct cln_op *op)
{
    const clnorm_cl_stream *stream = op->stream;
    struct batch b = {.plan = plan->impl,
                      .device = plan->device->impl,
                      .plan_device = plan->device,
                      .op = op,
                      .workspace = plan->workspace.handle};
    cl_command_queue queue = stream ? stream->queue : b.device->queue;
    int fused = push_forward_fused(&b);
    if (fused == 0)
        fused = push_backward_fused(&b);
    for (int i = fused; i < op->step_count; i++)
        push_step(&b, op->steps[i]);
    if (b.code != CL_SUCCESS)
        return cln_cl_fail("clSetKernelArg", b.code);
    clnorm_status status = remember_queue(b.plan, queue);
    return status == CLNORM_OK ? enqueue(&b, queue, stream) : status;
}
