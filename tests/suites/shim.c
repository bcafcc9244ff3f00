/* Counts what libclnorm itself calls: memory from the heap, and OpenCL's entry points; makes single ones of them fail; and
 * makes its writes to files fail or its process die in the middle of one, if CLNORM_SHIM_WRITE is "fail" or "die". To be
 * preloaded (LD_PRELOAD).
 *
 * A call is libclnorm's if it returns into libclnorm. A call that libclnorm makes as its last act (a tail call) returns into
 * its caller, so calls that return into the test program count too; the test makes none of its own while it counts. */
#define _GNU_SOURCE
#include "shim.h"

#include <dlfcn.h>
#include <errno.h>
#include <link.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

extern struct shim_counts clnorm_shim_counts;
struct shim_counts clnorm_shim_counts;
extern struct shim_fault clnorm_shim_fault;
struct shim_fault clnorm_shim_fault;

/* glibc's own names, for those of dlsym would allocate. */
extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t count, size_t size);
extern void *__libc_realloc(void *block, size_t size);
extern void *__libc_memalign(size_t alignment, size_t size);
extern void __libc_free(void *block);

static uintptr_t library_low, library_high, program_low, program_high;

static int find_ranges(struct dl_phdr_info *info, size_t size, void *unused)
{
    (void)size;
    (void)unused;
    uintptr_t low = UINTPTR_MAX, high = 0;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *header = &info->dlpi_phdr[i];
        if (header->p_type != PT_LOAD || !(header->p_flags & PF_X))
            continue;
        uintptr_t from = info->dlpi_addr + header->p_vaddr;
        low = from < low ? from : low;
        high = from + header->p_memsz > high ? from + header->p_memsz : high;
    }
    if (info->dlpi_name[0] == '\0' && program_high == 0) {
        program_low = low;
        program_high = high;
    } else if (strstr(info->dlpi_name, "/libclnorm.so")) {
        library_low = low;
        library_high = high;
    }
    return 0;
}

__attribute__((constructor)) static void start(void)
{
    dl_iterate_phdr(find_ranges, NULL);
}

static int is_ours(const void *return_address)
{
    uintptr_t at = (uintptr_t)return_address;
    return (at >= library_low && at < library_high) || (at >= program_low && at < program_high);
}

static void count(enum shim_group group, const char *name, const void *return_address)
{
    if (is_ours(return_address)) {
        __atomic_add_fetch(&clnorm_shim_counts.of[group], 1, __ATOMIC_RELAXED);
        __atomic_store_n(&clnorm_shim_counts.last[group], name, __ATOMIC_RELAXED);
    }
}

/* Whether this call of the function is the one that is to fail. */
static int fails(const char *name, const void *return_address)
{
    struct shim_fault *fault = &clnorm_shim_fault;
    if (!fault->function || strcmp(fault->function, name) != 0 || !is_ours(return_address))
        return 0;
    long left = __atomic_fetch_sub(&fault->after, 1, __ATOMIC_RELAXED);
    if (left > 0 || (left < 0 && !fault->always))
        return 0;
    fault->fired = 1;
    return 1;
}

/* ---- the heap ---------------------------------------------------------------------------------------------------- */

#define COUNT(group, name) count(SHIM_##group, name, __builtin_return_address(0))
#define HEAP_FAILS         fails("malloc", __builtin_return_address(0))

void *malloc(size_t size)
{
    COUNT(allocate, "malloc");
    return HEAP_FAILS ? NULL : __libc_malloc(size);
}

void *calloc(size_t number, size_t size)
{
    COUNT(allocate, "calloc");
    return HEAP_FAILS ? NULL : __libc_calloc(number, size);
}

void *realloc(void *block, size_t size)
{
    COUNT(allocate, "realloc");
    return HEAP_FAILS ? NULL : __libc_realloc(block, size);
}

void *aligned_alloc(size_t alignment, size_t size)
{
    COUNT(allocate, "aligned_alloc");
    return HEAP_FAILS ? NULL : __libc_memalign(alignment, size);
}

int posix_memalign(void **block, size_t alignment, size_t size)
{
    COUNT(allocate, "posix_memalign");
    *block = HEAP_FAILS ? NULL : __libc_memalign(alignment, size);
    return *block ? 0 : ENOMEM;
}

void free(void *block)
{
    if (block)
        COUNT(free, "free");
    __libc_free(block);
}

/* ---- files ------------------------------------------------------------------------------------------------------- */

/* Half of what is to be written is; then the disk is full, or the process is gone. A binary is larger than a header: what is
 * short is written as it is, so that the half file is a header and half a binary. */
size_t fwrite(const void *data, size_t size, size_t number, FILE *stream)
{
    static size_t (*next)(const void *, size_t, size_t, FILE *);
    if (!next) {
        void *found = dlsym(RTLD_NEXT, "fwrite");
        memcpy(&next, &found, sizeof next);
    }
    const char *fault = getenv("CLNORM_SHIM_WRITE");
    if (!fault || size * number < 1024 || !is_ours(__builtin_return_address(0)))
        return next(data, size, number, stream);
    next(data, 1, size * number / 2, stream);
    fflush(stream);
    if (strcmp(fault, "die") == 0)
        raise(SIGKILL);
    errno = ENOSPC;
    return 0;
}

/* ---- OpenCL ------------------------------------------------------------------------------------------------------ */

#ifdef CLNORM_WITH_OPENCL

#define CL_TARGET_OPENCL_VERSION 120
#include <CL/cl.h>

/* X(group, name, parameters, arguments), in three lists: functions that return an object, a code, or a code and do away with
 * (−1) or add (1) a reference. */
#define WAIT_LIST      cl_uint waits, const cl_event *wait, cl_event *event
#define WAIT_ARGUMENTS waits, wait, event
typedef void(CL_CALLBACK *program_done)(cl_program, void *);
typedef void(CL_CALLBACK *context_notify)(const char *, const void *, size_t, void *);
#define SHIM_OBJECT_LIST(X)                                                                                            \
    X(create, cl_mem, clCreateBuffer, (cl_context c, cl_mem_flags f, size_t n, void *p, cl_int *e), (c, f, n, p, e))   \
    X(create, cl_mem, clCreateSubBuffer,                                                                               \
      (cl_mem m, cl_mem_flags f, cl_buffer_create_type t, const void *i, cl_int *e), (m, f, t, i, e))                  \
    X(create, cl_kernel, clCreateKernel, (cl_program p, const char *n, cl_int *e), (p, n, e))                          \
    X(create, cl_command_queue, clCreateCommandQueue,                                                                  \
      (cl_context c, cl_device_id d, cl_command_queue_properties p, cl_int * e), (c, d, p, e))                         \
    X(create, cl_context, clCreateContext,                                                                             \
      (const cl_context_properties *p, cl_uint n, const cl_device_id *d, context_notify f, void *u, cl_int *e),        \
      (p, n, d, f, u, e))                                                                                              \
    X(build, cl_program, clCreateProgramWithSource,                                                                    \
      (cl_context c, cl_uint n, const char **s, const size_t *l, cl_int *e), (c, n, s, l, e))                          \
    X(build, cl_program, clCreateProgramWithBinary,                                                                    \
      (cl_context c, cl_uint n, const cl_device_id *d, const size_t *l, const unsigned char **b, cl_int *s,            \
       cl_int *e),                                                                                                     \
      (c, n, d, l, b, s, e))                                                                                           \
    X(build, cl_program, clLinkProgram,                                                                                \
      (cl_context c, cl_uint n, const cl_device_id *d, const char *o, cl_uint k, const cl_program *p, program_done f,  \
       void *u, cl_int *e),                                                                                            \
      (c, n, d, o, k, p, f, u, e))
#define SHIM_CODE_LIST(X)                                                                                              \
    X(create, clCreateKernelsInProgram, (cl_program p, cl_uint n, cl_kernel * k, cl_uint * r), (p, n, k, r))           \
    X(argument, clSetKernelArg, (cl_kernel k, cl_uint i, size_t n, const void *p), (k, i, n, p))                       \
    X(build, clBuildProgram, (cl_program p, cl_uint n, const cl_device_id *d, const char *o, program_done f, void *u), \
      (p, n, d, o, f, u))                                                                                              \
    X(build, clCompileProgram,                                                                                         \
      (cl_program p, cl_uint n, const cl_device_id *d, const char *o, cl_uint k, const cl_program *h, const char **s,  \
       program_done f, void *u),                                                                                       \
      (p, n, d, o, k, h, s, f, u))                                                                                     \
    X(wait, clFinish, (cl_command_queue q), (q))                                                                       \
    X(wait, clWaitForEvents, (cl_uint n, const cl_event *l), (n, l))                                                   \
    X(flush, clFlush, (cl_command_queue q), (q))                                                                       \
    X(copy, clEnqueueReadBuffer, (cl_command_queue q, cl_mem m, cl_bool b, size_t o, size_t n, void *p, WAIT_LIST),    \
      (q, m, b, o, n, p, WAIT_ARGUMENTS))                                                                              \
    X(copy, clEnqueueWriteBuffer,                                                                                      \
      (cl_command_queue q, cl_mem m, cl_bool b, size_t o, size_t n, const void *p, WAIT_LIST),                         \
      (q, m, b, o, n, p, WAIT_ARGUMENTS))                                                                              \
    X(copy, clEnqueueCopyBuffer, (cl_command_queue q, cl_mem s, cl_mem t, size_t o, size_t u, size_t n, WAIT_LIST),    \
      (q, s, t, o, u, n, WAIT_ARGUMENTS))                                                                              \
    X(copy, clEnqueueUnmapMemObject, (cl_command_queue q, cl_mem m, void *p, WAIT_LIST), (q, m, p, WAIT_ARGUMENTS))    \
    X(copy, clEnqueueMigrateMemObjects,                                                                                \
      (cl_command_queue q, cl_uint n, const cl_mem *m, cl_mem_migration_flags f, WAIT_LIST),                           \
      (q, n, m, f, WAIT_ARGUMENTS))                                                                                    \
    X(fill, clEnqueueFillBuffer,                                                                                       \
      (cl_command_queue q, cl_mem m, const void *p, size_t s, size_t o, size_t n, WAIT_LIST),                          \
      (q, m, p, s, o, n, WAIT_ARGUMENTS))                                                                              \
    X(mark, clEnqueueMarkerWithWaitList, (cl_command_queue q, WAIT_LIST), (q, WAIT_ARGUMENTS))                         \
    X(mark, clEnqueueBarrierWithWaitList, (cl_command_queue q, WAIT_LIST), (q, WAIT_ARGUMENTS))                        \
    X(query, clGetProgramInfo, (cl_program p, cl_program_info i, size_t n, void *v, size_t *r), (p, i, n, v, r))       \
    X(query, clGetDeviceIDs, (cl_platform_id p, cl_device_type t, cl_uint n, cl_device_id * d, cl_uint * r),           \
      (p, t, n, d, r))                                                                                                 \
    X(launch, clEnqueueNDRangeKernel,                                                                                  \
      (cl_command_queue q, cl_kernel k, cl_uint d, const size_t *o, const size_t *g, const size_t *l, WAIT_LIST),      \
      (q, k, d, o, g, l, WAIT_ARGUMENTS))                                                                              \
    X(launch, clEnqueueTask, (cl_command_queue q, cl_kernel k, WAIT_LIST), (q, k, WAIT_ARGUMENTS))
#define SHIM_REFERENCE_LIST(X)                                                                                         \
    X(1, clRetainContext, cl_context)                                                                                  \
    X(1, clRetainCommandQueue, cl_command_queue)                                                                       \
    X(1, clRetainMemObject, cl_mem)                                                                                    \
    X(1, clRetainProgram, cl_program)                                                                                  \
    X(1, clRetainKernel, cl_kernel)                                                                                    \
    X(-1, clReleaseContext, cl_context)                                                                                \
    X(-1, clReleaseCommandQueue, cl_command_queue)                                                                     \
    X(-1, clReleaseMemObject, cl_mem)                                                                                  \
    X(-1, clReleaseProgram, cl_program)                                                                                \
    X(-1, clReleaseKernel, cl_kernel)

static void add_objects(long number, const void *return_address)
{
    if (is_ours(return_address))
        __atomic_add_fetch(&clnorm_shim_counts.objects, number, __ATOMIC_RELAXED);
}

/* The next object's function of the same name, in the static `next` of that type. */
#define FIND_NEXT(name)                                                                                                \
    if (!next) {                                                                                                       \
        void *found = dlsym(RTLD_NEXT, #name);                                                                         \
        memcpy(&next, &found, sizeof next);                                                                            \
    }
#define SHIM_OBJECT(group, result, name, parameters, arguments)                                                        \
    CL_API_ENTRY result CL_API_CALL name parameters                                                                    \
    {                                                                                                                  \
        static result(*next) parameters;                                                                               \
        const void *caller = __builtin_return_address(0);                                                              \
        count(SHIM_##group, #name, caller);                                                                            \
        if (fails(#name, caller)) {                                                                                    \
            if (e)                                                                                                     \
                *e = (cl_int)clnorm_shim_fault.code;                                                                   \
            return NULL;                                                                                               \
        }                                                                                                              \
        FIND_NEXT(name)                                                                                                \
        result object = next arguments;                                                                                \
        add_objects(object != NULL, caller);                                                                           \
        return object;                                                                                                 \
    }
#define SHIM_CODE(group, name, parameters, arguments)                                                                  \
    CL_API_ENTRY cl_int CL_API_CALL name parameters                                                                    \
    {                                                                                                                  \
        static cl_int(*next) parameters;                                                                               \
        const void *caller = __builtin_return_address(0);                                                              \
        count(SHIM_##group, #name, caller);                                                                            \
        if (fails(#name, caller))                                                                                      \
            return (cl_int)clnorm_shim_fault.code;                                                                     \
        FIND_NEXT(name)                                                                                                \
        return next arguments;                                                                                         \
    }
#define SHIM_REFERENCE(number, name, type)                                                                             \
    CL_API_ENTRY cl_int CL_API_CALL name(type object)                                                                  \
    {                                                                                                                  \
        static cl_int (*next)(type);                                                                                   \
        add_objects(number, __builtin_return_address(0));                                                              \
        FIND_NEXT(name)                                                                                                \
        return next(object);                                                                                           \
    }
SHIM_OBJECT_LIST(SHIM_OBJECT)
SHIM_CODE_LIST(SHIM_CODE)
SHIM_REFERENCE_LIST(SHIM_REFERENCE)

CL_API_ENTRY void *CL_API_CALL clEnqueueMapBuffer(cl_command_queue q, cl_mem m, cl_bool b, cl_map_flags f, size_t o,
                                                  size_t n, WAIT_LIST, cl_int *e)
{
    static void *(*next)(cl_command_queue, cl_mem, cl_bool, cl_map_flags, size_t, size_t, cl_uint, const cl_event *,
                         cl_event *, cl_int *);
    COUNT(copy, "clEnqueueMapBuffer");
    if (fails("clEnqueueMapBuffer", __builtin_return_address(0))) {
        if (e)
            *e = (cl_int)clnorm_shim_fault.code;
        return NULL;
    }
    FIND_NEXT(clEnqueueMapBuffer)
    return next(q, m, b, f, o, n, WAIT_ARGUMENTS, e);
}

CL_API_ENTRY cl_int CL_API_CALL clGetDeviceInfo(cl_device_id d, cl_device_info i, size_t n, void *v, size_t *r)
{
    static cl_int (*next)(cl_device_id, cl_device_info, size_t, void *, size_t *);
    FIND_NEXT(clGetDeviceInfo)
    cl_int error = next(d, i, n, v, r);
    cl_device_type gpu = CL_DEVICE_TYPE_GPU;
    if (clnorm_shim_fault.as_gpu && i == CL_DEVICE_TYPE && v && n >= sizeof gpu && is_ours(__builtin_return_address(0)))
        memcpy(v, &gpu, sizeof gpu);
    return error;
}

#endif
