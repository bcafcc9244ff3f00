/* OpenCL devices: listing, opening, the user's own context, errors. */
#include "opencl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *cln_cl_code_name(cl_int code)
{
    static const struct {
        cl_int code;
        const char *name;
    } names[] = {
#define CODE(name) {name, #name}
        CODE(CL_DEVICE_NOT_FOUND),
        CODE(CL_DEVICE_NOT_AVAILABLE),
        CODE(CL_COMPILER_NOT_AVAILABLE),
        CODE(CL_MEM_OBJECT_ALLOCATION_FAILURE),
        CODE(CL_OUT_OF_RESOURCES),
        CODE(CL_OUT_OF_HOST_MEMORY),
        CODE(CL_BUILD_PROGRAM_FAILURE),
        CODE(CL_MISALIGNED_SUB_BUFFER_OFFSET),
        CODE(CL_EXEC_STATUS_ERROR_FOR_EVENTS_IN_WAIT_LIST),
        CODE(CL_INVALID_VALUE),
        CODE(CL_INVALID_DEVICE),
        CODE(CL_INVALID_CONTEXT),
        CODE(CL_INVALID_COMMAND_QUEUE),
        CODE(CL_INVALID_MEM_OBJECT),
        CODE(CL_INVALID_BINARY),
        CODE(CL_INVALID_BUILD_OPTIONS),
        CODE(CL_INVALID_PROGRAM),
        CODE(CL_INVALID_PROGRAM_EXECUTABLE),
        CODE(CL_INVALID_KERNEL_NAME),
        CODE(CL_INVALID_KERNEL),
        CODE(CL_INVALID_ARG_INDEX),
        CODE(CL_INVALID_ARG_VALUE),
        CODE(CL_INVALID_ARG_SIZE),
        CODE(CL_INVALID_KERNEL_ARGS),
        CODE(CL_INVALID_WORK_GROUP_SIZE),
        CODE(CL_INVALID_WORK_ITEM_SIZE),
        CODE(CL_INVALID_EVENT_WAIT_LIST),
        CODE(CL_INVALID_EVENT),
        CODE(CL_INVALID_OPERATION),
        CODE(CL_INVALID_BUFFER_SIZE),
#undef CODE
    };
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (names[i].code == code)
            return names[i].name;
    }
    return "an OpenCL code";
}

clnorm_status cln_cl_fail(const char *call, cl_int code)
{
    int memory = code == CL_MEM_OBJECT_ALLOCATION_FAILURE || code == CL_OUT_OF_HOST_MEMORY ||
                 code == CL_OUT_OF_RESOURCES || code == CL_INVALID_BUFFER_SIZE;
    return cln_fail(memory ? CLNORM_E_NO_MEMORY : CLNORM_E_DEVICE_FAILED, "%s failed with code %d (%s)", call,
                    (int)code, cln_cl_code_name(code));
}

/* ---- listing ---- */

enum { MAX_PLATFORMS = 32, MAX_DEVICES = 64 };

struct found_device {
    cl_platform_id platform;
    cl_device_id id;
    unsigned platform_index, device_index;
};

/* All devices, in the order of platforms. A loader without platforms gives none. */
static uint32_t list_devices(struct found_device found[MAX_DEVICES])
{
    cl_platform_id platforms[MAX_PLATFORMS];
    cl_uint platform_count = 0, total = 0;
    if (clGetPlatformIDs(MAX_PLATFORMS, platforms, &platform_count) != CL_SUCCESS)
        return 0;
    if (platform_count > MAX_PLATFORMS)
        platform_count = MAX_PLATFORMS;
    for (cl_uint p = 0; p < platform_count; p++) {
        cl_device_id ids[MAX_DEVICES];
        cl_uint count = 0;
        if (clGetDeviceIDs(platforms[p], CL_DEVICE_TYPE_ALL, MAX_DEVICES, ids, &count) != CL_SUCCESS)
            continue;
        for (cl_uint d = 0; d < count && d < MAX_DEVICES && total < MAX_DEVICES; d++)
            found[total++] = (struct found_device){platforms[p], ids[d], p, d};
    }
    return total;
}

uint32_t cln_cl_count(void)
{
    struct found_device found[MAX_DEVICES];
    return list_devices(found);
}

static void device_text(cl_device_id id, cl_device_info what, char *text, size_t size)
{
    char whole[4096] = "";
    if (clGetDeviceInfo(id, what, sizeof whole - 1, whole, NULL) != CL_SUCCESS)
        whole[0] = '\0';
    snprintf(text, size, "%.*s", (int)size - 1, whole);
}

static uint64_t device_number(cl_device_id id, cl_device_info what, size_t bytes)
{
    uint64_t value = 0; /* little-endian hosts, as all that OpenCL runs on here: a smaller number fills the low bytes */
    return clGetDeviceInfo(id, what, bytes, &value, NULL) == CL_SUCCESS ? value : 0;
}

/* Of global memory. */
static cl_ulong cache_bytes(cl_device_id id, uint32_t compute_units)
{
    cl_ulong bytes = cln_cache_bytes_told();
    return bytes ? bytes
                 : cln_cache_share(device_number(id, CL_DEVICE_GLOBAL_MEM_CACHE_SIZE, sizeof bytes), compute_units);
}

/* Everything but id. */
static clnorm_status describe_device(cl_device_id id, clnorm_device_info *info, struct cln_tuning *tuning)
{
    char extensions[4096] = "", vendor[256] = "";
    cl_platform_id platform = NULL;
    clGetDeviceInfo(id, CL_DEVICE_PLATFORM, sizeof platform, &platform, NULL);
    device_text(id, CL_DEVICE_NAME, info->name, sizeof info->name);
    device_text(id, CL_DEVICE_VERSION, info->version, sizeof info->version);
    device_text(id, CL_DRIVER_VERSION, info->driver, sizeof info->driver);
    device_text(id, CL_DEVICE_VENDOR, vendor, sizeof vendor);
    device_text(id, CL_DEVICE_EXTENSIONS, extensions, sizeof extensions);
    if (!platform ||
        clGetPlatformInfo(platform, CL_PLATFORM_NAME, sizeof info->platform, info->platform, NULL) != CL_SUCCESS)
        snprintf(info->platform, sizeof info->platform, "unknown");
    uint64_t type = device_number(id, CL_DEVICE_TYPE, sizeof(cl_device_type));
    info->kind = type & CL_DEVICE_TYPE_GPU   ? CLNORM_CLASS_GPU
                 : type & CL_DEVICE_TYPE_CPU ? CLNORM_CLASS_CPU
                                             : CLNORM_CLASS_ACCELERATOR;
    info->memory = device_number(id, CL_DEVICE_GLOBAL_MEM_SIZE, sizeof(cl_ulong));
    info->max_allocation = device_number(id, CL_DEVICE_MAX_MEM_ALLOC_SIZE, sizeof(cl_ulong));
    info->local_memory = device_number(id, CL_DEVICE_LOCAL_MEM_SIZE, sizeof(cl_ulong));
    info->compute_units = (uint32_t)device_number(id, CL_DEVICE_MAX_COMPUTE_UNITS, sizeof(cl_uint));
    info->work_group_size = (uint32_t)device_number(id, CL_DEVICE_MAX_WORK_GROUP_SIZE, sizeof(size_t));
    info->fp64 = device_number(id, CL_DEVICE_DOUBLE_FP_CONFIG, sizeof(cl_device_fp_config)) != 0;
    info->fp16 = strstr(extensions, "cl_khr_fp16") != NULL;
    info->subgroups =
        strstr(extensions, "cl_khr_subgroups") != NULL || strstr(extensions, "cl_intel_subgroups") != NULL;
    return cln_tuning_choose(info, vendor, tuning);
}

clnorm_status cln_cl_describe(uint32_t i, clnorm_device_info *info)
{
    struct found_device found[MAX_DEVICES];
    struct cln_tuning tuning = {0};
    if (i >= list_devices(found))
        return cln_fail(CLNORM_E_DEVICE_UNKNOWN, "OpenCL device %u is gone", i);
    snprintf(info->id, sizeof info->id, "opencl:%u.%u", found[i].platform_index, found[i].device_index);
    return describe_device(found[i].id, info, &tuning);
}

/* ---- opening ---- */

/* Takes over one reference of context; releases it on failure. */
static clnorm_status open_on(clnorm_device *device, cl_context context, cl_device_id id)
{
    struct cln_cl_device *impl = calloc(1, sizeof *impl);
    if (!impl || pthread_mutex_init(&impl->lock, NULL) != 0) {
        free(impl);
        clReleaseContext(context);
        return cln_fail(CLNORM_E_NO_MEMORY, "clnorm_device_open: out of memory for a device");
    }
    device->impl = impl;
    impl->context = context;
    impl->id = id;
    clnorm_status status = describe_device(id, &device->info, &impl->tuning);
    if (status == CLNORM_OK) {
        cl_int code;
        impl->cache_bytes = cache_bytes(id, device->info.compute_units);
        impl->queue = clCreateCommandQueue(context, id, 0, &code);
        if (code != CL_SUCCESS)
            status = cln_cl_fail("clCreateCommandQueue", code);
    }
    return status;
}

clnorm_status cln_cl_open(uint32_t i, clnorm_device *device)
{
    struct found_device found[MAX_DEVICES];
    if (i >= list_devices(found))
        return cln_fail(CLNORM_E_DEVICE_UNKNOWN, "OpenCL device %u is gone", i);
    snprintf(device->info.id, sizeof device->info.id, "opencl:%u.%u", found[i].platform_index, found[i].device_index);
    const cl_context_properties properties[] = {CL_CONTEXT_PLATFORM, (cl_context_properties)found[i].platform, 0};
    cl_int code;
    cl_context context = clCreateContext(properties, 1, &found[i].id, NULL, NULL, &code);
    if (code != CL_SUCCESS)
        return cln_cl_fail("clCreateContext", code);
    return open_on(device, context, found[i].id);
}

void cln_cl_close(clnorm_device *device)
{
    struct cln_cl_device *impl = device->impl;
    cln_programs_release(impl);
    if (impl->queue)
        clReleaseCommandQueue(impl->queue);
    clReleaseContext(impl->context);
    pthread_mutex_destroy(&impl->lock);
    free(impl);
    device->impl = NULL;
}

static int context_has(cl_context context, cl_device_id id)
{
    cl_device_id ids[MAX_DEVICES];
    size_t bytes = 0;
    if (clGetContextInfo(context, CL_CONTEXT_DEVICES, sizeof ids, ids, &bytes) != CL_SUCCESS)
        return 0;
    for (size_t i = 0; i < bytes / sizeof ids[0]; i++) {
        if (ids[i] == id)
            return 1;
    }
    return 0;
}

clnorm_status clnorm_device_open_cl(cl_context context, cl_device_id id, clnorm_device **out)
{
    if (!context || !id || !out)
        return cln_fail(CLNORM_E_NULL, "clnorm_device_open_cl: %s is NULL but must not be",
                        !context ? "context"
                        : !id    ? "id"
                                 : "device");
    if (!context_has(context, id))
        return cln_fail(CLNORM_E_DEVICE_UNKNOWN,
                        "clnorm_device_open_cl: id is not a device of the given context but must be");
    clnorm_device *device = cln_device_new(&cln_opencl_backend);
    if (!device)
        return cln_fail(CLNORM_E_NO_MEMORY, "clnorm_device_open_cl: out of memory for a device");
    struct found_device found[MAX_DEVICES];
    uint32_t count = list_devices(found);
    snprintf(device->info.id, sizeof device->info.id, "opencl"); /* a sub-device has no number */
    for (uint32_t i = 0; i < count; i++) {
        if (found[i].id == id)
            snprintf(device->info.id, sizeof device->info.id, "opencl:%u.%u", found[i].platform_index,
                     found[i].device_index);
    }
    cl_int code = clRetainContext(context);
    clnorm_status status = code == CL_SUCCESS ? open_on(device, context, id) : cln_cl_fail("clRetainContext", code);
    if (status == CLNORM_OK)
        *out = device;
    else
        cln_device_release(device);
    return status;
}
