/* Library memory on an OpenCL device. */
#include "opencl.h"

#include <stdlib.h>

static struct cln_cl_device *device_of(const clnorm_memory *memory)
{
    return memory->device->impl;
}

static cl_mem buffer_of(const clnorm_memory *memory)
{
    return ((struct cln_cl_memory *)memory->impl)->buffer;
}

clnorm_status cln_cl_memory_create(clnorm_memory *memory)
{
    struct cln_cl_memory *impl = calloc(1, sizeof *impl);
    if (!impl)
        return cln_fail(CLNORM_E_NO_MEMORY, "clnorm_memory_create: out of memory for a handle");
    cl_int code;
    impl->buffer =
        clCreateBuffer(device_of(memory)->context, CL_MEM_READ_WRITE, memory->bytes ? memory->bytes : 4, NULL, &code);
    if (code != CL_SUCCESS) {
        free(impl);
        return cln_cl_fail("clCreateBuffer", code);
    }
    memory->impl = impl;
    return CLNORM_OK;
}

void cln_cl_memory_destroy(clnorm_memory *memory)
{
    clReleaseMemObject(buffer_of(memory));
    free(memory->impl);
}

/* A blocking write only says that the source may be reused; another queue must wait for the event to see the data. */
cl_int cln_cl_write_and_wait(cl_command_queue queue, cl_mem buffer, size_t offset, const void *source, size_t bytes)
{
    cl_event written = NULL;
    cl_int code = clEnqueueWriteBuffer(queue, buffer, CL_FALSE, offset, bytes, source, 0, NULL, &written);
    if (code != CL_SUCCESS)
        return code;
    code = clWaitForEvents(1, &written);
    clReleaseEvent(written);
    return code;
}

clnorm_status cln_cl_memory_write(clnorm_memory *memory, size_t offset, const void *source, size_t bytes)
{
    cl_int code = cln_cl_write_and_wait(device_of(memory)->queue, buffer_of(memory), offset, source, bytes);
    return code == CL_SUCCESS ? CLNORM_OK : cln_cl_fail("clEnqueueWriteBuffer", code);
}

clnorm_status cln_cl_memory_read(clnorm_memory *memory, size_t offset, void *target, size_t bytes)
{
    cl_int code =
        clEnqueueReadBuffer(device_of(memory)->queue, buffer_of(memory), CL_TRUE, offset, bytes, target, 0, NULL, NULL);
    return code == CL_SUCCESS ? CLNORM_OK : cln_cl_fail("clEnqueueReadBuffer", code);
}

clnorm_status cln_cl_memory_map(clnorm_memory *memory, size_t offset, size_t bytes, void **pointer)
{
    cl_int code;
    void *mapped = clEnqueueMapBuffer(device_of(memory)->queue, buffer_of(memory), CL_TRUE, CL_MAP_READ | CL_MAP_WRITE,
                                      offset, bytes, 0, NULL, NULL, &code);
    if (code != CL_SUCCESS)
        return cln_cl_fail("clEnqueueMapBuffer", code);
    ((struct cln_cl_memory *)memory->impl)->mapped = *pointer = mapped;
    return CLNORM_OK;
}

clnorm_status cln_cl_memory_unmap(clnorm_memory *memory)
{
    struct cln_cl_memory *impl = memory->impl;
    cl_int code = clEnqueueUnmapMemObject(device_of(memory)->queue, impl->buffer, impl->mapped, 0, NULL, NULL);
    if (code == CL_SUCCESS) /* other queues must see what was written */
        code = clFinish(device_of(memory)->queue);
    return code == CL_SUCCESS ? CLNORM_OK : cln_cl_fail("clEnqueueUnmapMemObject", code);
}

static clnorm_status check_async(const char *who, const clnorm_memory *memory, size_t offset, const void *pointer,
                                 const char *pointer_name, size_t bytes, const clnorm_cl_stream *stream)
{
    if (!memory || (!pointer && bytes) || !stream)
        return cln_fail(CLNORM_E_NULL, "%s: %s is NULL but must not be", who,
                        !memory   ? "memory"
                        : !stream ? "stream"
                                  : pointer_name);
    if (memory->device->backend != &cln_opencl_backend)
        return cln_fail(CLNORM_E_UNSUPPORTED, "%s: memory is on cpu but must be on an OpenCL device", who);
    if (offset > memory->bytes || bytes > memory->bytes - offset || bytes == 0)
        return cln_fail(CLNORM_E_BUFFER_SIZE,
                        "%s: bytes %zu at offset %zu must be at least 1 and lie in memory of %zu bytes", who, bytes,
                        offset, memory->bytes);
    return cln_cl_check_stream(memory->device, who, stream);
}

clnorm_status clnorm_memory_write_async(clnorm_memory *memory, size_t offset, const void *source, size_t bytes,
                                        const clnorm_cl_stream *stream)
{
    clnorm_status status = check_async("clnorm_memory_write_async", memory, offset, source, "source", bytes, stream);
    if (status != CLNORM_OK)
        return status;
    cl_int code = clEnqueueWriteBuffer(stream->queue, buffer_of(memory), CL_FALSE, offset, bytes, source,
                                       stream->wait_count, stream->wait, stream->event);
    return code == CL_SUCCESS ? CLNORM_OK : cln_cl_fail("clEnqueueWriteBuffer", code);
}

clnorm_status clnorm_memory_read_async(clnorm_memory *memory, size_t offset, void *target, size_t bytes,
                                       const clnorm_cl_stream *stream)
{
    clnorm_status status = check_async("clnorm_memory_read_async", memory, offset, target, "target", bytes, stream);
    if (status != CLNORM_OK)
        return status;
    cl_int code = clEnqueueReadBuffer(stream->queue, buffer_of(memory), CL_FALSE, offset, bytes, target,
                                      stream->wait_count, stream->wait, stream->event);
    return code == CL_SUCCESS ? CLNORM_OK : cln_cl_fail("clEnqueueReadBuffer", code);
}
