#include "backend/backend.h"
#include "base/status.h"

#include <stdlib.h>

clnorm_status clnorm_memory_create(clnorm_device *device, size_t bytes, clnorm_memory **out)
{
    if (!device)
        return cln_fail(CLNORM_E_NULL, "clnorm_memory_create: device is NULL but must be a device");
    if (!out)
        return cln_fail(CLNORM_E_NULL, "clnorm_memory_create: memory is NULL but must point to a handle");
    clnorm_memory *memory = calloc(1, sizeof *memory);
    if (!memory)
        return cln_fail(CLNORM_E_NO_MEMORY, "clnorm_memory_create: out of memory for a handle");
    memory->device = device;
    memory->bytes = bytes;
    clnorm_status status = device->backend->memory_create(memory);
    if (status != CLNORM_OK) {
        free(memory);
        return status;
    }
    cln_device_retain(device);
    *out = memory;
    return CLNORM_OK;
}

void clnorm_memory_destroy(clnorm_memory *memory)
{
    if (!memory)
        return;
    memory->device->backend->memory_destroy(memory);
    cln_device_release(memory->device);
    free(memory);
}

size_t clnorm_memory_bytes(const clnorm_memory *memory)
{
    return memory ? memory->bytes : 0;
}

clnorm_buffer clnorm_memory_buffer(clnorm_memory *memory)
{
    return memory ? clnorm_memory_part(memory, 0, memory->bytes) : clnorm_none();
}

static clnorm_status check_range(const char *who, const clnorm_memory *memory, size_t offset, const void *pointer,
                                 const char *pointer_name, size_t bytes)
{
    if (!memory)
        return cln_fail(CLNORM_E_NULL, "%s: memory is NULL but must be library memory", who);
    if (!pointer && bytes)
        return cln_fail(CLNORM_E_NULL, "%s: %s is NULL but must point to %zu bytes", who, pointer_name, bytes);
    if (offset > memory->bytes || bytes > memory->bytes - offset)
        return cln_fail(CLNORM_E_BUFFER_SIZE, "%s: bytes %zu at offset %zu reach past the end of memory of %zu bytes",
                        who, bytes, offset, memory->bytes);
    return CLNORM_OK;
}

clnorm_status clnorm_memory_write(clnorm_memory *memory, size_t offset, const void *source, size_t bytes)
{
    clnorm_status status = check_range("clnorm_memory_write", memory, offset, source, "source", bytes);
    if (status == CLNORM_OK && bytes)
        status = memory->device->backend->memory_write(memory, offset, source, bytes);
    return status;
}

clnorm_status clnorm_memory_read(clnorm_memory *memory, size_t offset, void *target, size_t bytes)
{
    clnorm_status status = check_range("clnorm_memory_read", memory, offset, target, "target", bytes);
    if (status == CLNORM_OK && bytes)
        status = memory->device->backend->memory_read(memory, offset, target, bytes);
    return status;
}

clnorm_status clnorm_memory_map(clnorm_memory *memory, size_t offset, size_t bytes, void **pointer)
{
    clnorm_status status = check_range("clnorm_memory_map", memory, offset, pointer, "pointer", bytes);
    if (status != CLNORM_OK)
        return status;
    if (!pointer || !bytes)
        return cln_fail(pointer ? CLNORM_E_BUFFER_SIZE : CLNORM_E_NULL, "clnorm_memory_map: %s",
                        pointer ? "bytes is 0 but must be at least 1" : "pointer is NULL but must point to a pointer");
    if (memory->mapped)
        return cln_fail(CLNORM_E_BUSY, "clnorm_memory_map: memory is mapped already and must be unmapped first");
    status = memory->device->backend->memory_map(memory, offset, bytes, pointer);
    memory->mapped = status == CLNORM_OK;
    return status;
}

clnorm_status clnorm_memory_unmap(clnorm_memory *memory)
{
    if (!memory)
        return cln_fail(CLNORM_E_NULL, "clnorm_memory_unmap: memory is NULL but must be library memory");
    if (!memory->mapped)
        return cln_fail(CLNORM_E_BUSY, "clnorm_memory_unmap: memory is not mapped but must be");
    clnorm_status status = memory->device->backend->memory_unmap(memory);
    memory->mapped = status != CLNORM_OK;
    return status;
}
