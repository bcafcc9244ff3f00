#include "backend/backend.h"

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
