/* The OpenCL row of the backend table; plans. */
#include "opencl.h"

#include <stdlib.h>

static clnorm_status build_all(clnorm_device *device)
{
    clnorm_status status = CLNORM_OK;
    for (int i = 0; i < CLN_PROGRAM_COUNT && status == CLNORM_OK; i++) {
        cl_program program;
        if (i == CLN_PROGRAM_DOUBLE) /* for plans that ask for it */
            continue;
        status = cln_program_get(device, (enum cln_program)i, (struct cln_form){0}, &program);
    }
    return status;
}

static void build_counts(const clnorm_device *device, clnorm_build_counts *counts)
{
    struct cln_cl_device *impl = device->impl;
    pthread_mutex_lock(&impl->lock);
    *counts = impl->counts;
    pthread_mutex_unlock(&impl->lock);
}

static clnorm_status finish(clnorm_device *device)
{
    struct cln_cl_device *impl = device->impl;
    cl_int code = clFinish(impl->queue);
    return code == CL_SUCCESS ? CLNORM_OK : cln_cl_fail("clFinish", code);
}

/* Kernel objects are the plan's own: clSetKernelArg on a shared one is not safe between threads. */
static clnorm_status create_kernels(clnorm_plan *plan, struct cln_cl_plan *impl)
{
    for (int k = 0; k < CLN_KERNEL_COUNT; k++) {
        enum cln_kernel kernel = (enum cln_kernel)k;
        cl_program program;
        char name[64];
        cl_int code;
        if (kernel == CLN_KERNEL_ROWS_WEIGHTS && !plan->view.along)
            continue;
        if (kernel == CLN_KERNEL_BACKWARD_FOUND && !plan->desc.backward_from_y)
            continue;
        if (plan->desc.lengths ? kernel == CLN_KERNEL_FORWARD_FUSED || kernel == CLN_KERNEL_BACKWARD_FUSED
                               : kernel == CLN_KERNEL_LENGTHS_FOUND)
            continue;
        if (kernel == CLN_KERNEL_FORWARD_MASK && !plan->desc.activation_mask)
            continue;
        enum cln_program which = cln_kernel_program(kernel, &plan->view);
        if (which == CLN_PROGRAM_DOUBLE && !plan->desc.double_backward)
            continue;
        clnorm_status status = cln_program_get(plan->device, which, cln_form_of(&plan->desc, which), &program);
        if (status != CLNORM_OK)
            return status;
        cln_kernel_name(kernel, &plan->view, name, sizeof name);
        impl->kernels[k] = clCreateKernel(program, name, &code);
        if (code != CL_SUCCESS)
            return cln_fail(CLNORM_E_DEVICE_FAILED, "clCreateKernel of %s failed with code %d (%s)", name, (int)code,
                            cln_cl_code_name(code));
    }
    return CLNORM_OK;
}

static clnorm_status plan_create(clnorm_plan *plan)
{
    const struct cln_cl_device *device = plan->device->impl;
    struct cln_cl_plan *impl = calloc(1, sizeof *impl);
    if (!impl)
        return cln_fail(CLNORM_E_NO_MEMORY, "clnorm_plan_create: out of memory for a plan");
    plan->impl = impl; /* plan_destroy frees what there is */
    clnorm_status status = create_kernels(plan, impl);
    if (status != CLNORM_OK)
        return status;
    cl_uint zero = 0;
    cl_int code;
    impl->found = clCreateBuffer(device->context, CL_MEM_READ_WRITE | CL_MEM_COPY_HOST_PTR, sizeof zero, &zero, &code);
    if (code != CL_SUCCESS)
        return cln_cl_fail("clCreateBuffer", code);
    cln_cl_size_partials(plan);
    cln_cl_explain(plan);
    return CLNORM_OK;
}

static void plan_destroy(clnorm_plan *plan)
{
    struct cln_cl_plan *impl = plan->impl;
    for (int k = 0; k < CLN_KERNEL_COUNT; k++) {
        if (impl->kernels[k])
            clReleaseKernel(impl->kernels[k]);
    }
    if (impl->found)
        clReleaseMemObject(impl->found);
    if (impl->last_queue)
        clReleaseCommandQueue(impl->last_queue);
    if (impl->last)
        clReleaseEvent(impl->last);
    free(impl);
}

static clnorm_status query_found(clnorm_plan *plan, uint32_t *found)
{
    struct cln_cl_plan *impl = plan->impl;
    *found = 0;
    if (!impl->last_queue)
        return CLNORM_OK;
    const cl_uint zero = 0;
    cl_uint value = 0;
    cl_int code = clFinish(impl->last_queue);
    if (code == CL_SUCCESS)
        code = clEnqueueReadBuffer(impl->last_queue, impl->found, CL_TRUE, 0, sizeof value, &value, 0, NULL, NULL);
    if (code == CL_SUCCESS && value)
        code = cln_cl_write_and_wait(impl->last_queue, impl->found, 0, &zero, sizeof zero);
    if (code != CL_SUCCESS)
        return cln_cl_fail("clEnqueueReadBuffer", code);
    *found = value;
    return CLNORM_OK;
}

const struct cln_backend cln_opencl_backend = {
    .count = cln_cl_count,
    .describe = cln_cl_describe,
    .open = cln_cl_open,
    .close = cln_cl_close,
    .build_all = build_all,
    .build_counts = build_counts,
    .finish = finish,
    .save_tuning = cln_entry_save,
    .memory_create = cln_cl_memory_create,
    .memory_destroy = cln_cl_memory_destroy,
    .memory_write = cln_cl_memory_write,
    .memory_read = cln_cl_memory_read,
    .memory_map = cln_cl_memory_map,
    .memory_unmap = cln_cl_memory_unmap,
    .resolve = cln_cl_resolve,
    .check_stream = cln_cl_check_stream,
    .plan_create = plan_create,
    .plan_destroy = plan_destroy,
    .run = cln_cl_run,
    .query_found = query_found,
};
