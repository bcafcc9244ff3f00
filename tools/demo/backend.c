#include "backend.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

bool backend_create(struct backend *b, clnorm_device *device)
{
    memset(b, 0, sizeof *b);
    b->device = device;
    clnorm_device_info info = CLNORM_DEVICE_INFO_INIT;
    backend_check(b, clnorm_device_get_info(device, &info), "clnorm_device_get_info");
    if (backend_failed(b))
        return false;
    if (info.kind == CLNORM_CLASS_HOST)
        return backend_cpu_create(b);
#ifdef DEMO_WITH_OPENCL
    return backend_opencl_create(b);
#else
    backend_fail(b, "%s is an OpenCL device, and this program was built without OpenCL", info.id);
    return false;
#endif
}

void backend_destroy(struct backend *b)
{
    if (b->operations)
        b->operations->destroy(b);
    b->operations = NULL;
}

bool backend_failed(const struct backend *b)
{
    return b->error[0] != '\0';
}

void backend_fail(struct backend *b, const char *format, ...)
{
    if (backend_failed(b))
        return;
    va_list list;
    va_start(list, format);
    vsnprintf(b->error, sizeof b->error, format, list);
    va_end(list);
}

void backend_check(struct backend *b, clnorm_status status, const char *call)
{
    if (status != CLNORM_OK)
        backend_fail(b, "%s: %s (%s)", call, clnorm_last_error(), clnorm_status_name(status));
}
