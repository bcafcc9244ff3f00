/* clnorm with your own OpenCL context, queue, buffers and events. Valid C11 and C++17; needs the OpenCL 1.2 headers.
 * In a build without OpenCL (CLNORM_OPENCL=OFF) this header is not installed and these calls do not exist. */
#ifndef CLNORM_OPENCL_H
#define CLNORM_OPENCL_H

#ifndef CL_TARGET_OPENCL_VERSION
#define CL_TARGET_OPENCL_VERSION 120
#endif
#include <CL/cl.h>
#include <clnorm/clnorm.h>

#ifdef __cplusplus
extern "C" {
#endif

/* A cl_mem (a sub-buffer too) of the device's context as a buffer argument; offset in bytes, a multiple of 4. */
static inline clnorm_buffer clnorm_cl(cl_mem memory, size_t offset, size_t bytes)
{
    clnorm_buffer b;
    b.kind = CLNORM_BUFFER_CL;
    b.handle = (void *)memory;
    b.offset = offset;
    b.bytes = bytes;
    return b;
}

/* Where a call is enqueued. The call starts after the events of wait (all of the device's context) and, on an in-order
 * queue, after what the queue holds. An out-of-order queue works too: the launches of a call are chained by events.
 * event, if not NULL, receives an event that is the caller's to release; it is set on success only. Nothing is flushed. */
typedef struct clnorm_cl_stream {
    cl_command_queue queue;
    cl_uint wait_count;
    const cl_event *wait;
    cl_event *event;
} clnorm_cl_stream;

/* A device on the user's own context; both are retained. -> E_NULL, E_DEVICE_UNKNOWN (device is not of that context), E_BUILD,
 * E_DEVICE_FAILED, E_NO_MEMORY. */
CLNORM_API clnorm_status clnorm_device_open_cl(cl_context context, cl_device_id id, clnorm_device **device);

/* The device's own objects (for CLBlast, say), not retained for the caller. NULL on cpu and for NULL. */
CLNORM_API cl_context clnorm_device_cl_context(const clnorm_device *device);
CLNORM_API cl_device_id clnorm_device_cl_id(const clnorm_device *device);
CLNORM_API cl_command_queue clnorm_device_cl_queue(const clnorm_device *device);
/* The cl_mem behind library memory, not retained. NULL on cpu and for NULL. */
CLNORM_API cl_mem clnorm_memory_cl(const clnorm_memory *memory);

/* Copies between host and library memory on the given stream without waiting; source and target must stay until the
 * stream's event has completed. -> E_NULL, E_BUFFER_SIZE, E_STREAM, E_UNSUPPORTED (memory on cpu), E_DEVICE_FAILED. */
CLNORM_API clnorm_status clnorm_memory_write_async(clnorm_memory *memory, size_t offset, const void *source,
                                                   size_t bytes, const clnorm_cl_stream *stream);
CLNORM_API clnorm_status clnorm_memory_read_async(clnorm_memory *memory, size_t offset, void *target, size_t bytes,
                                                  const clnorm_cl_stream *stream);

#ifdef __cplusplus
}
#endif
#endif
