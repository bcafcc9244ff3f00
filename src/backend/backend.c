#include "backend/backend.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

const struct cln_backend *const cln_backends[] = {
    &cln_cpu_backend,
#ifdef CLNORM_WITH_OPENCL
    &cln_opencl_backend,
#endif
    NULL,
};

clnorm_device *cln_device_new(const struct cln_backend *backend)
{
    clnorm_device *device = calloc(1, sizeof *device);
    if (device) {
        device->backend = backend;
        device->info.size = sizeof device->info;
        atomic_init(&device->references, 1);
    }
    return device;
}

void cln_device_retain(clnorm_device *device)
{
    atomic_fetch_add_explicit(&device->references, 1, memory_order_relaxed);
}

void cln_device_release(clnorm_device *device)
{
    if (atomic_fetch_sub_explicit(&device->references, 1, memory_order_acq_rel) == 1) {
        if (device->impl)
            device->backend->close(device);
        free(device);
    }
}

uint64_t cln_cache_bytes_told(void)
{
    const char *told = getenv("CLNORM_LLC_BYTES");
    return told ? strtoull(told, NULL, 10) : 0;
}

uint64_t cln_cache_share(uint64_t bytes, uint32_t cores)
{
    const uint64_t most = (uint64_t)cores << 24;
    return cores && bytes > most ? most : bytes;
}

size_t cln_plan_explain_batches(const clnorm_plan *plan, char *text, size_t bytes)
{
    uint64_t batches = cln_view_batches(&plan->desc, (uint64_t)plan->desc.n);
    if (batches < 2)
        return 0;
    int n = snprintf(text, bytes,
                     "virtual batches: %" PRIu64 " of up to %" PRId64
                     " samples, one after the other; forward and backward are those of one\n",
                     batches, plan->desc.virtual_batch);
    return n > 0 && (size_t)n < bytes ? (size_t)n : 0;
}
