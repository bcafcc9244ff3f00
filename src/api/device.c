#include "backend/backend.h"
#include "base/status.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Device i of this machine, counted over all backends. */
static const struct cln_backend *locate(uint32_t i, uint32_t *inner)
{
    *inner = 0;
    for (size_t b = 0; cln_backends[b]; b++) {
        uint32_t count = cln_backends[b]->count();
        if (i < count) {
            *inner = i;
            return cln_backends[b];
        }
        i -= count;
    }
    return NULL;
}

static uint32_t device_count(void)
{
    uint32_t total = 0;
    for (size_t b = 0; cln_backends[b]; b++)
        total += cln_backends[b]->count();
    return total;
}

static clnorm_status describe(uint32_t i, clnorm_device_info *info)
{
    uint32_t inner;
    const struct cln_backend *backend = locate(i, &inner);
    *info = (clnorm_device_info)CLNORM_DEVICE_INFO_INIT;
    return backend->describe(inner, info);
}

clnorm_status clnorm_device_list(uint32_t i, clnorm_device_info *info, uint32_t *count)
{
    if (!count)
        return cln_fail(CLNORM_E_NULL, "clnorm_device_list: count is NULL but must point to a number");
    if (info && info->size != sizeof *info)
        return cln_fail(CLNORM_E_STRUCT_SIZE,
                        "clnorm_device_list: info->size is %zu but must be %zu (use the initialiser)", info->size,
                        sizeof *info);
    *count = device_count();
    if (!info)
        return CLNORM_OK;
    if (i >= *count)
        return cln_fail(CLNORM_E_DEVICE_UNKNOWN,
                        "clnorm_device_list: i is %u but must be below the number of devices, %u", i, *count);
    return describe(i, info);
}

clnorm_status clnorm_device_get_info(const clnorm_device *device, clnorm_device_info *info)
{
    if (!device)
        return cln_fail(CLNORM_E_NULL, "clnorm_device_get_info: device is NULL but must be a device");
    if (!info)
        return cln_fail(CLNORM_E_NULL, "clnorm_device_get_info: info is NULL but must point to a struct");
    if (info->size != sizeof *info)
        return cln_fail(CLNORM_E_STRUCT_SIZE,
                        "clnorm_device_get_info: info->size is %zu but must be %zu (use the initialiser)", info->size,
                        sizeof *info);
    *info = device->info;
    return CLNORM_OK;
}

static clnorm_status open_index(uint32_t i, clnorm_device **out)
{
    uint32_t inner;
    const struct cln_backend *backend = locate(i, &inner);
    clnorm_device *device = cln_device_new(backend);
    if (!device)
        return cln_fail(CLNORM_E_NO_MEMORY, "clnorm_device_open: out of memory for a device");
    clnorm_status status = backend->open(inner, device);
    if (status == CLNORM_OK)
        *out = device;
    else
        cln_device_release(device);
    return status;
}

/* Whether the device builds and runs: a forward of four values that must come out right. */
static clnorm_status try_device(clnorm_device *device)
{
    const float x[4] = {1.0f, 2.0f, 3.0f, 4.0f}, want[4] = {-1.0f, -1.0f, 1.0f, 1.0f};
    float y[4] = {0};
    clnorm_desc desc = CLNORM_DESC_INIT;
    desc.n = desc.c = 2;
    desc.eps = 0.0f;
    clnorm_memory *in = NULL, *out = NULL;
    clnorm_plan *plan = NULL;
    clnorm_status status = clnorm_plan_create(device, &desc, &plan);
    if (status == CLNORM_OK)
        status = clnorm_memory_create(device, sizeof x, &in);
    if (status == CLNORM_OK)
        status = clnorm_memory_create(device, sizeof y, &out);
    if (status == CLNORM_OK)
        status = clnorm_memory_write(in, 0, x, sizeof x);
    if (status == CLNORM_OK) {
        clnorm_forward_args f = CLNORM_FORWARD_ARGS_INIT;
        f.x = clnorm_memory_buffer(in);
        f.y = clnorm_memory_buffer(out);
        status = clnorm_forward(plan, &f);
    }
    if (status == CLNORM_OK)
        status = clnorm_memory_read(out, 0, y, sizeof y);
    for (int i = 0; status == CLNORM_OK && i < 4; i++) {
        if (!(y[i] - want[i] < 1e-5f && want[i] - y[i] < 1e-5f))
            status = cln_fail(CLNORM_E_DEVICE_FAILED, "a first kernel gave %g where it must give %g", (double)y[i],
                              (double)want[i]);
    }
    clnorm_memory_destroy(in);
    clnorm_memory_destroy(out);
    clnorm_plan_destroy(plan);
    return status;
}

/* What the environment says is no row for device i. Another device may hold it, so this is told only if none is found. */
static clnorm_status refusal(uint32_t i)
{
    clnorm_device_info info;
    return describe(i, &info);
}

static clnorm_status open_auto(clnorm_device **out)
{
    char reason[512] = "";
    uint32_t count = device_count(), passed_over = 0, refused = 0;
    for (uint32_t i = 1; i < count; i++) {
        clnorm_device_info info;
        clnorm_device *device = NULL;
        clnorm_status described = describe(i, &info);
        if (described == CLNORM_E_ENUM)
            refused = i;
        if (described != CLNORM_OK)
            continue;
        if (info.kind != CLNORM_CLASS_GPU && info.kind != CLNORM_CLASS_ACCELERATOR) {
            passed_over++;
            continue;
        }
        clnorm_status status = open_index(i, &device);
        if (status == CLNORM_OK)
            status = try_device(device);
        if (status == CLNORM_OK) {
            *out = device;
            return CLNORM_OK;
        }
        if (!reason[0])
            snprintf(reason, sizeof reason, "%s (%s) does not run: %.300s", info.id, info.name, clnorm_last_error());
        if (device) /* a driver that fails is not to be left with commands in flight */
            (void)device->backend->finish(device);
        clnorm_device_destroy(device);
    }
    if (refused)
        return refusal(refused);
    clnorm_status status = open_index(0, out);
    if (status == CLNORM_OK) {
        if (!reason[0])
            snprintf(reason, sizeof reason, "no OpenCL GPU or accelerator was found (%u OpenCL device%s of type CPU)",
                     passed_over, passed_over == 1 ? "" : "s");
        memcpy((*out)->info.fallback, reason, sizeof reason);
    }
    return status;
}

static int contains(const char *text, const char *part)
{
    for (; *text; text++) {
        size_t i = 0;
        while (part[i] && tolower((unsigned char)text[i]) == tolower((unsigned char)part[i]))
            i++;
        if (!part[i])
            return 1;
    }
    return 0;
}

static clnorm_status unknown(const char *name)
{
    char known[1024] = "";
    size_t used = 0;
    uint32_t count = device_count();
    for (uint32_t i = 0; i < count && used < sizeof known; i++) {
        clnorm_device_info info;
        if (describe(i, &info) == CLNORM_OK)
            used += (size_t)snprintf(known + used, sizeof known - used, "%s%s (%s)", i ? ", " : "", info.id, info.name);
    }
    return cln_fail(CLNORM_E_DEVICE_UNKNOWN,
                    "clnorm_device_open: name is \"%s\" but must be auto%s or (part of) one of: %s", name,
                    count > 1 ? ", opencl" : "", known);
}

clnorm_status clnorm_device_open(const char *name, clnorm_device **device)
{
    if (!name)
        return cln_fail(CLNORM_E_NULL, "clnorm_device_open: name is NULL but must be a device's name");
    if (!device)
        return cln_fail(CLNORM_E_NULL, "clnorm_device_open: device is NULL but must point to a handle");
    if (!strcmp(name, "auto"))
        return open_auto(device);
    if (!strcmp(name, "cpu"))
        return open_index(0, device);
    int any_opencl = !strcmp(name, "opencl"), by_id = !strncmp(name, "opencl:", 7);
    uint32_t count = device_count(), refused = 0;
    for (uint32_t i = 1; name[0] && i < count; i++) {
        clnorm_device_info info;
        clnorm_status described = describe(i, &info);
        if (described == CLNORM_E_ENUM)
            refused = i;
        if (described != CLNORM_OK)
            continue;
        if (any_opencl || (by_id && !strcmp(name, info.id)) ||
            (!by_id && (contains(info.name, name) || contains(info.platform, name))))
            return open_index(i, device);
    }
    return refused ? refusal(refused) : unknown(name);
}

void clnorm_device_destroy(clnorm_device *device)
{
    if (device)
        cln_device_release(device);
}

clnorm_status clnorm_device_build_all(clnorm_device *device)
{
    if (!device)
        return cln_fail(CLNORM_E_NULL, "clnorm_device_build_all: device is NULL but must be a device");
    return device->backend->build_all(device);
}

clnorm_status clnorm_device_get_build_counts(const clnorm_device *device, clnorm_build_counts *counts)
{
    if (!device)
        return cln_fail(CLNORM_E_NULL, "clnorm_device_get_build_counts: device is NULL but must be a device");
    if (!counts)
        return cln_fail(CLNORM_E_NULL, "clnorm_device_get_build_counts: counts is NULL but must point to a struct");
    device->backend->build_counts(device, counts);
    return CLNORM_OK;
}

clnorm_status clnorm_device_finish(clnorm_device *device)
{
    if (!device)
        return cln_fail(CLNORM_E_NULL, "clnorm_device_finish: device is NULL but must be a device");
    return device->backend->finish(device);
}

clnorm_status clnorm_device_save_tuning(const clnorm_device *device, const char *row)
{
    if (!device)
        return cln_fail(CLNORM_E_NULL, "clnorm_device_save_tuning: device is NULL but must be a device");
    return device->backend->save_tuning(device, row);
}
