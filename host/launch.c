/* From a call's commands to its queue. All arguments are set before the first command is enqueued, so that a call that cannot be set up
 * enqueues nothing. */
#include "steps.h"

#include <stddef.h>
#include <string.h>

/* ---- arguments ---- */

/* A buffer argument; a role that is not bound gets a buffer that the kernel does not touch. */
static cl_mem buffer_of(const struct cln_batch *b, enum cln_role role)
{
    return role != CLN_FOUND && cln_bound(b->op, role) ? b->op->role[role].handle : b->plan->found;
}

/* Whether a buffer is the plan's own: it lives as long as the plan, so that an equal handle is the same buffer. A caller's handle may be
 * another buffer's by now. */
static int is_own(const struct cln_batch *b, cl_mem buffer)
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

/* As far as they may have changed. */
void cln_push_kernel(struct cln_batch *b, enum cln_kernel which, const struct cln_problem *problem,
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
    b->commands[b->count++] = (struct cln_command){kernel, g->work_groups, g->work_group_size, {0}, {0}};
}

void cln_push_zero(struct cln_batch *b, enum cln_role role, uint64_t floats)
{
    if (!cln_bound(b->op, role) || floats == 0)
        return;
    struct cln_command c = {.to = b->op->role[role]};
    c.to.bytes = (size_t)floats * sizeof(float);
    b->commands[b->count++] = c;
}

void cln_push_copy(struct cln_batch *b, enum cln_role from, enum cln_role to, uint64_t floats)
{
    cln_push_zero(b, to, floats);
    b->commands[b->count - 1].from = b->op->role[from];
}

/* ---- enqueue ---- */

static cl_int enqueue_one(cl_command_queue queue, const struct cln_command *c, cl_uint wait_count, const cl_event *wait,
                          cl_event *event)
{
    const cl_uint zero = 0;
    if (c->from.handle)
        return clEnqueueCopyBuffer(queue, c->from.handle, c->to.handle, c->from.offset, c->to.offset, c->to.bytes,
                                   wait_count, wait, event);
    if (!c->kernel)
        return clEnqueueFillBuffer(queue, c->to.handle, &zero, sizeof zero, c->to.offset, c->to.bytes, wait_count, wait,
                                   event);
    size_t global = c->work_groups * c->work_group_size;
    return clEnqueueNDRangeKernel(queue, c->kernel, 1, NULL, &global, &c->work_group_size, wait_count, wait, event);
}

static const char *name_of(const struct cln_command *c)
{
    return c->kernel ? "clEnqueueNDRangeKernel" : c->from.handle ? "clEnqueueCopyBuffer" : "clEnqueueFillBuffer";
}

static void forget_last(struct cln_cl_plan *plan)
{
    if (plan->last)
        clReleaseEvent(plan->last);
    plan->last = NULL;
}

/* The first command of a call waits for the caller's events, the last gives the caller's event; on an out-of-order queue each waits for
 * the one before it. */
static clnorm_status enqueue(const struct cln_batch *b, cl_command_queue queue, const clnorm_cl_stream *stream)
{
    cl_command_queue_properties properties = 0;
    const struct cln_op *op = b->op;
    cl_uint wait_count = stream && !op->follows ? stream->wait_count : 0;
    const cl_event *wait = wait_count ? stream->wait : NULL;
    cl_event *out = stream && !op->precedes ? stream->event : NULL;
    cl_event previous = NULL, last = NULL;
    cl_int code = clGetCommandQueueInfo(queue, CL_QUEUE_PROPERTIES, sizeof properties, &properties, NULL);
    if (code != CL_SUCCESS)
        return cln_cl_fail("clGetCommandQueueInfo", code);
    int chained = (properties & CL_QUEUE_OUT_OF_ORDER_EXEC_MODE_ENABLE) != 0;
    if (op->follows && chained) {
        previous = b->plan->last;
        b->plan->last = NULL;
    }
    if (op->precedes && chained)
        out = &b->plan->last;

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
        if (i > 0 || op->follows) {
            wait_count = chained ? 1 : 0;
            wait = chained ? &previous : NULL;
        }
        code = enqueue_one(queue, &b->commands[i], wait_count, wait, wants_event ? &event : NULL);
        if (previous)
            clReleaseEvent(previous);
        previous = NULL;
        if (code != CL_SUCCESS)
            return cln_cl_fail(name_of(&b->commands[i]), code);
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

clnorm_status cln_cl_run(clnorm_plan *plan, const struct cln_op *call)
{
    const clnorm_cl_stream *stream = call->stream;
    struct cln_op op = *call;
    struct cln_batch b = {.plan = plan->impl,
                          .device = plan->device->impl,
                          .plan_device = plan->device,
                          .op = &op,
                          .is_batch_norm = plan->desc.norm == CLNORM_BATCH,
                          .forward_more = plan->desc.residual != CLNORM_NO_RESIDUAL,
                          .backward_more = plan->desc.activation || plan->desc.residual || plan->desc.backward_from_y,
                          .weights_more = plan->desc.activation || plan->desc.residual == CLNORM_RESIDUAL_AFTER ||
                                          plan->desc.backward_from_y,
                          .has_lengths = plan->desc.lengths != 0,
                          .workspace = plan->workspace.handle};
    cl_command_queue queue = stream ? stream->queue : b.device->queue;
    if (!op.follows) /* of a call that failed */
        forget_last(b.plan);
    cln_bind_few_rows(plan, &op);
    cln_push_steps(&b);
    if (b.code != CL_SUCCESS)
        return cln_cl_fail("clSetKernelArg", b.code);
    clnorm_status status = remember_queue(b.plan, queue);
    return status == CLNORM_OK ? enqueue(&b, queue, stream) : status;
}
