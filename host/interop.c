/* The user's own OpenCL objects as arguments, and the library's objects for the user. */
#include "opencl.h"

/* Sub-buffers are told from their parents, so that overlap is seen through them. */
static clnorm_status describe_buffer(const struct cln_cl_device *device, const char *who, const char *name,
                                     cl_mem buffer, struct cln_span *span, size_t *size)
{
    cl_context context = NULL;
    cl_mem parent = NULL;
    size_t origin = 0;
    cl_int code = clGetMemObjectInfo(buffer, CL_MEM_CONTEXT, sizeof context, &context, NULL);
    if (code != CL_SUCCESS)
        return cln_fail(CLNORM_E_BUFFER_KIND,
                        "%s: %s is no cl_mem (clGetMemObjectInfo failed with code %d, %s) but must be one", who, name,
                        (int)code, cln_cl_code_name(code));
    if (context != device->context)
        return cln_fail(CLNORM_E_BUFFER_DEVICE,
                        "%s: %s belongs to another OpenCL context but must belong to the device's", who, name);
    code = clGetMemObjectInfo(buffer, CL_MEM_SIZE, sizeof *size, size, NULL);
    if (code == CL_SUCCESS)
        code = clGetMemObjectInfo(buffer, CL_MEM_ASSOCIATED_MEMOBJECT, sizeof parent, &parent, NULL);
    if (code == CL_SUCCESS)
        code = clGetMemObjectInfo(buffer, CL_MEM_OFFSET, sizeof origin, &origin, NULL);
    if (code != CL_SUCCESS)
        return cln_cl_fail("clGetMemObjectInfo", code);
    span->handle = buffer;
    span->root = parent ? parent : buffer;
    span->begin = parent ? origin : 0;
    return CLNORM_OK;
}

clnorm_status cln_cl_resolve(const clnorm_device *device, const char *who, const char *name,
                             const clnorm_buffer *buffer, struct cln_span *span)
{
    cl_mem memory = NULL;
    if (buffer->kind == CLNORM_BUFFER_CL) {
        memory = buffer->handle;
    } else if (buffer->kind == CLNORM_BUFFER_MEMORY && buffer->handle) {
        const clnorm_memory *own = buffer->handle;
        if (own->device->backend != device->backend)
            return cln_fail(CLNORM_E_BUFFER_DEVICE, "%s: %s is memory of another device but must be of the plan's", who,
                            name);
        memory = clnorm_memory_cl(own);
        if (buffer->offset > own->bytes || buffer->bytes > own->bytes - buffer->offset)
            return cln_fail(CLNORM_E_BUFFER_SIZE, "%s: %s is %zu bytes at offset %zu but its memory has only %zu", who,
                            name, buffer->bytes, buffer->offset, own->bytes);
    } else if (buffer->kind != CLNORM_BUFFER_MEMORY) {
        return cln_fail(
            CLNORM_E_BUFFER_KIND,
            "%s: %s has kind %d but must be a cl_mem or library memory on an OpenCL device (host memory would need a "
            "hidden copy)",
            who, name, (int)buffer->kind);
    }
    if (!memory)
        return cln_fail(CLNORM_E_NULL, "%s: %s is NULL but must be a buffer", who, name);
    size_t size = 0;
    clnorm_status status = describe_buffer(device->impl, who, name, memory, span, &size);
    if (status != CLNORM_OK)
        return status;
    if (buffer->offset > size || buffer->bytes > size - buffer->offset)
        return cln_fail(CLNORM_E_BUFFER_SIZE, "%s: %s is %zu bytes at offset %zu but its cl_mem has only %zu", who,
                        name, buffer->bytes, buffer->offset, size);
    span->offset = buffer->offset;
    span->bytes = buffer->bytes;
    span->begin += buffer->offset;
    return CLNORM_OK;
}

clnorm_status cln_cl_check_stream(const clnorm_device *device, const char *who, const void *stream)
{
    const struct cln_cl_device *impl = device->impl;
    const clnorm_cl_stream *s = stream;
    cl_context context = NULL;
    cl_device_id id = NULL;
    if (!s)
        return CLNORM_OK;
    if (!s->queue)
        return cln_fail(CLNORM_E_STREAM, "%s: stream->queue is NULL but must be a queue", who);
    if (s->wait_count && !s->wait)
        return cln_fail(CLNORM_E_STREAM, "%s: stream->wait is NULL but must hold %u events", who,
                        (unsigned)s->wait_count);
    if (clGetCommandQueueInfo(s->queue, CL_QUEUE_CONTEXT, sizeof context, &context, NULL) != CL_SUCCESS ||
        clGetCommandQueueInfo(s->queue, CL_QUEUE_DEVICE, sizeof id, &id, NULL) != CL_SUCCESS)
        return cln_fail(CLNORM_E_STREAM, "%s: stream->queue is no command queue but must be one", who);
    if (context != impl->context || id != impl->id)
        return cln_fail(CLNORM_E_STREAM,
                        "%s: stream->queue belongs to another OpenCL %s but must belong to the plan's device", who,
                        context != impl->context ? "context" : "device");
    for (cl_uint i = 0; i < s->wait_count; i++) {
        cl_context of_event = NULL;
        if (!s->wait[i] ||
            clGetEventInfo(s->wait[i], CL_EVENT_CONTEXT, sizeof of_event, &of_event, NULL) != CL_SUCCESS ||
            of_event != impl->context)
            return cln_fail(CLNORM_E_STREAM, "%s: stream->wait[%u] is no event of the device's context but must be one",
                            who, (unsigned)i);
    }
    return CLNORM_OK;
}

static const struct cln_cl_device *opencl_of(const clnorm_device *device)
{
    return device && device->backend == &cln_opencl_backend ? device->impl : NULL;
}

cl_context clnorm_device_cl_context(const clnorm_device *device)
{
    return opencl_of(device) ? opencl_of(device)->context : NULL;
}

cl_device_id clnorm_device_cl_id(const clnorm_device *device)
{
    return opencl_of(device) ? opencl_of(device)->id : NULL;
}

cl_command_queue clnorm_device_cl_queue(const clnorm_device *device)
{
    return opencl_of(device) ? opencl_of(device)->queue : NULL;
}

cl_mem clnorm_memory_cl(const clnorm_memory *memory)
{
    if (!memory || !opencl_of(memory->device))
        return NULL;
    return ((const struct cln_cl_memory *)memory->impl)->buffer;
}
