#include "bench_limits.h"

#include <clnorm/opencl.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

extern const char bench_limits_source[]; /* limits.cl */

enum cut { CUT_GRID, CUT_STRIDE, CUT_SPAN };

/* The shapes that are tried. items: work-items a compute unit (grid: as many as there are vectors). */
static const struct shape {
    enum cut cut;
    int program; /* of programs[] */
    size_t group, items;
} shapes[] = {
    {CUT_GRID, 0, 64, 0}, {CUT_GRID, 0, 256, 0}, {CUT_STRIDE, 0, 256, 1024}, {CUT_SPAN, 0, 1, 4},  {CUT_GRID, 1, 64, 0},
    {CUT_SPAN, 1, 1, 4},  {CUT_GRID, 2, 64, 0},  {CUT_SPAN, 2, 1, 1},        {CUT_SPAN, 2, 1, 16},
};
#define SHAPES (sizeof shapes / sizeof shapes[0])

static const struct program {
    int width;
    bool non_temporal;
} programs[] = {{4, false}, {16, false}, {16, true}};
#define PROGRAMS (sizeof programs / sizeof programs[0])

static const char *const cut_names[] = {"grid", "stride", "span"};

struct way {
    struct bench_opencl *opencl;
    const struct shape *shape; /* NULL: clEnqueueCopyBuffer */
    cl_kernel kernels[2];      /* by enum bench_stream */
    enum bench_stream stream;
    char name[64];
};

struct bench_opencl {
    cl_context context;
    cl_device_id id;
    cl_command_queue queue;
    cl_uint units;
    size_t group_max;
    cl_program programs[PROGRAMS];
    struct way ways[SHAPES + 1];
    const struct bench_memories *memories;
    size_t count;
    char error[256];
};

static bool failed(struct bench_opencl *opencl, const char *call, cl_int code)
{
    snprintf(opencl->error, sizeof opencl->error, "%s of a limit failed with code %d", call, code);
    return false;
}

static bool run_copy_buffer(void *context, size_t set)
{
    struct bench_opencl *opencl = ((struct way *)context)->opencl;
    const struct bench_memories *m = opencl->memories;
    size_t begin = set * m->stride * sizeof(cl_float);
    cl_int code = clEnqueueCopyBuffer(opencl->queue, clnorm_memory_cl(m->source), clnorm_memory_cl(m->target), begin,
                                      begin, opencl->count * sizeof(cl_float), 0, NULL, NULL);
    return code == CL_SUCCESS || failed(opencl, "clEnqueueCopyBuffer", code);
}

static bool run_kernel(void *context, size_t set)
{
    const struct way *way = context;
    struct bench_opencl *opencl = way->opencl;
    const struct bench_memories *m = opencl->memories;
    cl_kernel kernel = way->kernels[way->stream];
    cl_mem target = clnorm_memory_cl(m->target), source = clnorm_memory_cl(m->source);
    cl_mem other = clnorm_memory_cl(m->other);
    cl_ulong begin = set * m->stride, count = opencl->count;
    cl_int code = clSetKernelArg(kernel, 0, sizeof(cl_mem), &target);
    code |= clSetKernelArg(kernel, 1, sizeof(cl_mem), &source);
    code |= clSetKernelArg(kernel, 2, sizeof(cl_mem), &other);
    code |= clSetKernelArg(kernel, 3, sizeof begin, &begin);
    code |= clSetKernelArg(kernel, 4, sizeof count, &count);
    if (code != CL_SUCCESS)
        return failed(opencl, "clSetKernelArg", code);
    size_t vectors = opencl->count / (size_t)programs[way->shape->program].width;
    size_t items = way->shape->cut == CUT_GRID ? vectors : way->shape->items * opencl->units;
    size_t group = way->shape->group < opencl->group_max ? way->shape->group : opencl->group_max;
    items = (items + group - 1) / group * group;
    items = items ? items : group;
    code = clEnqueueNDRangeKernel(opencl->queue, kernel, 1, NULL, &items, &group, 0, NULL, NULL);
    return code == CL_SUCCESS || failed(opencl, "clEnqueueNDRangeKernel", code);
}

static bool finish(void *context)
{
    struct bench_opencl *opencl = ((struct way *)context)->opencl;
    cl_int code = clFinish(opencl->queue);
    return code == CL_SUCCESS || failed(opencl, "clFinish", code);
}

static bool build(struct bench_opencl *opencl, size_t i)
{
    char options[64];
    const char *source = bench_limits_source;
    cl_int code;
    snprintf(options, sizeof options, "-cl-std=CL1.2 -D WIDTH=%d -D NON_TEMPORAL=%d", programs[i].width,
             programs[i].non_temporal);
    opencl->programs[i] = clCreateProgramWithSource(opencl->context, 1, &source, NULL, &code);
    if (!opencl->programs[i])
        return failed(opencl, "clCreateProgramWithSource", code);
    code = clBuildProgram(opencl->programs[i], 1, &opencl->id, options, NULL, NULL);
    return code == CL_SUCCESS || failed(opencl, "clBuildProgram", code);
}

static bool make_way(struct bench_opencl *opencl, size_t i)
{
    const struct shape *shape = &shapes[i];
    struct way *way = &opencl->ways[i];
    way->opencl = opencl;
    way->shape = shape;
    snprintf(way->name, sizeof way->name, "kernel %s%s w%d wg%zu", cut_names[shape->cut],
             programs[shape->program].non_temporal ? "-nt" : "", programs[shape->program].width, shape->group);
    if (shape->cut == CUT_SPAN)
        snprintf(way->name + strlen(way->name), sizeof way->name - strlen(way->name), " x%zu", shape->items);
    for (int stream = BENCH_COPY; stream <= BENCH_ADD; stream++) {
        char kernel[32];
        cl_int code;
        snprintf(kernel, sizeof kernel, "%s_%s", stream == BENCH_COPY ? "copy" : "add", cut_names[shape->cut]);
        way->kernels[stream] = clCreateKernel(opencl->programs[shape->program], kernel, &code);
        if (!way->kernels[stream])
            return failed(opencl, "clCreateKernel", code);
    }
    return true;
}

struct bench_opencl *bench_opencl_create(const clnorm_device *device, char error[512])
{
    struct bench_opencl *opencl = calloc(1, sizeof *opencl);
    if (!opencl) {
        snprintf(error, 512, "out of memory");
        return NULL;
    }
    opencl->context = clnorm_device_cl_context(device);
    opencl->id = clnorm_device_cl_id(device);
    opencl->queue = clnorm_device_cl_queue(device);
    cl_int code = clGetDeviceInfo(opencl->id, CL_DEVICE_MAX_COMPUTE_UNITS, sizeof opencl->units, &opencl->units, NULL);
    code |=
        clGetDeviceInfo(opencl->id, CL_DEVICE_MAX_WORK_GROUP_SIZE, sizeof opencl->group_max, &opencl->group_max, NULL);
    bool ok = code == CL_SUCCESS || failed(opencl, "clGetDeviceInfo", code);
    for (size_t i = 0; ok && i < PROGRAMS; i++)
        ok = build(opencl, i);
    for (size_t i = 0; ok && i < SHAPES; i++)
        ok = make_way(opencl, i);
    opencl->ways[SHAPES].opencl = opencl;
    if (!ok) {
        snprintf(error, 512, "%s", opencl->error);
        bench_opencl_destroy(opencl);
        return NULL;
    }
    return opencl;
}

void bench_opencl_destroy(struct bench_opencl *opencl)
{
    if (!opencl)
        return;
    for (size_t i = 0; i < SHAPES; i++) {
        for (int stream = BENCH_COPY; stream <= BENCH_ADD; stream++) {
            if (opencl->ways[i].kernels[stream])
                clReleaseKernel(opencl->ways[i].kernels[stream]);
        }
    }
    for (size_t i = 0; i < PROGRAMS; i++) {
        if (opencl->programs[i])
            clReleaseProgram(opencl->programs[i]);
    }
    free(opencl);
}

size_t bench_opencl_cache_bytes(const struct bench_opencl *opencl)
{
    cl_ulong bytes = 0;
    if (clGetDeviceInfo(opencl->id, CL_DEVICE_GLOBAL_MEM_CACHE_SIZE, sizeof bytes, &bytes, NULL) != CL_SUCCESS)
        return 0;
    return (size_t)bytes;
}

size_t bench_opencl_targets(struct bench_opencl *opencl, enum bench_stream stream,
                            const struct bench_memories *memories, size_t count, struct bench_target *targets)
{
    size_t n = 0;
    opencl->memories = memories;
    opencl->count = count;
    if (stream == BENCH_COPY)
        targets[n++] =
            (struct bench_target){"clEnqueueCopyBuffer", &opencl->ways[SHAPES], run_copy_buffer, finish, NULL};
    for (size_t i = 0; i < SHAPES; i++) {
        struct way *way = &opencl->ways[i];
        way->stream = stream;
        targets[n++] = (struct bench_target){way->name, way, run_kernel, finish, NULL};
    }
    return n;
}

const char *bench_opencl_error(const struct bench_opencl *opencl)
{
    return opencl->error;
}
