/* The CPU backend: devices, memory, and the dispatch of steps to src/cpu/steps.c. */
#include "backend/backend.h"
#include "base/status.h"
#include "cpu/explain.h"
#include "cpu/grid.h"
#include "cpu/mask.h"
#include "cpu/run.h"
#include "cpu/run_double.h"
#include "cpu/run_lengths.h"
#include "cpu/run_rows.h"
#include "cpu/run_samples.h"
#include "cpu/simd/simd.h"
#include "cpu/threads.h"

#include <cpuinfo.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static uint32_t cpu_count(void)
{
    return 1;
}

static clnorm_status cpu_describe(uint32_t i, clnorm_device_info *info)
{
    (void)i;
    long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE), processors = sysconf(_SC_NPROCESSORS_ONLN);
    snprintf(info->id, sizeof info->id, "cpu");
    snprintf(info->name, sizeof info->name, "cpu");
    snprintf(info->platform, sizeof info->platform, "host");
    snprintf(info->version, sizeof info->version, "clnorm %s", clnorm_version());
    struct cln_cpu_kernels kernels;
    cln_cpu_fill_plain(&kernels);
    cln_cpu_fill_simd(&kernels);
    snprintf(info->tuning, sizeof info->tuning, "%s, %ld threads", kernels.name, processors > 0 ? processors : 1);
    info->kind = CLNORM_CLASS_HOST;
    info->memory = pages > 0 && page > 0 ? (uint64_t)pages * (uint64_t)page : 0;
    info->max_allocation = info->memory;
    info->compute_units = processors > 0 ? (uint32_t)processors : 1;
    info->work_group_size = 1;
    info->fp64 = 1;
    return CLNORM_OK;
}

static clnorm_status cpu_open(uint32_t i, clnorm_device *device)
{
    return cpu_describe(i, &device->info);
}

static void cpu_close(clnorm_device *device)
{
    (void)device;
}

static clnorm_status cpu_nothing(clnorm_device *device)
{
    (void)device;
    return CLNORM_OK;
}

static clnorm_status cpu_save_tuning(const clnorm_device *device, const char *row)
{
    (void)row;
    return cln_fail(CLNORM_E_UNSUPPORTED,
                    "clnorm_device_save_tuning: device is %s, which has no tuning row, but must be an OpenCL device",
                    device->info.id);
}

static void cpu_build_counts(const clnorm_device *device, clnorm_build_counts *counts)
{
    (void)device;
    *counts = (clnorm_build_counts){0, 0};
}

static clnorm_status cpu_memory_create(clnorm_memory *memory)
{
    if (memory->bytes > SIZE_MAX - 64 || posix_memalign(&memory->impl, 64, memory->bytes ? memory->bytes : 1) != 0)
        return cln_fail(CLNORM_E_NO_MEMORY, "clnorm_memory_create: out of memory for bytes %zu", memory->bytes);
    return CLNORM_OK;
}

static void cpu_memory_destroy(clnorm_memory *memory)
{
    free(memory->impl);
}

static clnorm_status cpu_memory_write(clnorm_memory *memory, size_t offset, const void *source, size_t bytes)
{
    memcpy((char *)memory->impl + offset, source, bytes);
    return CLNORM_OK;
}

static clnorm_status cpu_memory_read(clnorm_memory *memory, size_t offset, void *target, size_t bytes)
{
    memcpy(target, (const char *)memory->impl + offset, bytes);
    return CLNORM_OK;
}

static clnorm_status cpu_memory_map(clnorm_memory *memory, size_t offset, size_t bytes, void **pointer)
{
    (void)bytes;
    *pointer = (char *)memory->impl + offset;
    return CLNORM_OK;
}

static clnorm_status cpu_memory_unmap(clnorm_memory *memory)
{
    (void)memory;
    return CLNORM_OK;
}

static clnorm_status cpu_resolve(const clnorm_device *device, const char *who, const char *name,
                                 const clnorm_buffer *buffer, struct cln_span *span)
{
    char *base;
    if (buffer->kind == CLNORM_BUFFER_HOST) {
        base = buffer->handle;
        if (!base && buffer->bytes)
            return cln_fail(CLNORM_E_NULL, "%s: %s is NULL but must point to %zu bytes", who, name, buffer->bytes);
    } else if (buffer->kind == CLNORM_BUFFER_MEMORY) {
        const clnorm_memory *memory = buffer->handle;
        if (!memory)
            return cln_fail(CLNORM_E_NULL, "%s: %s is NULL but must be library memory", who, name);
        if (memory->device != device)
            return cln_fail(CLNORM_E_BUFFER_DEVICE, "%s: %s is memory of another device but must be of the plan's", who,
                            name);
        if (buffer->offset > memory->bytes || buffer->bytes > memory->bytes - buffer->offset)
            return cln_fail(CLNORM_E_BUFFER_SIZE, "%s: %s is %zu bytes at offset %zu but its memory has only %zu", who,
                            name, buffer->bytes, buffer->offset, memory->bytes);
        base = memory->impl;
    } else {
        return cln_fail(CLNORM_E_BUFFER_KIND, "%s: %s has kind %d but must be host memory or library memory on cpu",
                        who, name, (int)buffer->kind);
    }
    /* A bound role has a handle; an empty tensor may come without an address. */
    static char nothing[4];
    span->handle = base ? base + buffer->offset : nothing;
    span->offset = 0;
    span->bytes = buffer->bytes;
    span->root = NULL;
    span->begin = (uintptr_t)(base ? base + buffer->offset : NULL);
    return CLNORM_OK;
}

static clnorm_status cpu_check_stream(const clnorm_device *device, const char *who, const void *stream)
{
    (void)device;
    if (stream)
        return cln_fail(CLNORM_E_STREAM, "%s: stream is not NULL but must be NULL on cpu", who);
    return CLNORM_OK;
}

static uint64_t cache_bytes(void)
{
    uint64_t bytes = cln_cache_bytes_told();
    if (!bytes && cpuinfo_initialize()) {
        uint32_t l3 = cpuinfo_get_l3_caches_count(), l2 = cpuinfo_get_l2_caches_count();
        if (l3 && cpuinfo_get_l3_cache(0))
            bytes = cln_cache_share((uint64_t)cpuinfo_get_l3_cache(0)->size * l3, cpuinfo_get_cores_count());
        else if (l2 && cpuinfo_get_l2_cache(0))
            bytes = (uint64_t)cpuinfo_get_l2_cache(0)->size * l2;
    }
    return bytes ? bytes : 8u << 20; /* unknown: as a small machine's */
}

/* SUMS of batch norm, before its PARTIALS. */
static size_t batch_sums_bytes(const clnorm_plan *plan)
{
    return (size_t)(plan->desc.c * CLN_SUMS_PLANES + 15) / 16 * 16 * sizeof(float);
}

static size_t first_order_bytes(const clnorm_plan *plan)
{
    if (plan->desc.norm == CLNORM_BATCH)
        return cln_cpu_partials_bytes(&plan->view);
    size_t bytes = (plan->view.along ? cln_rows_partials_bytes : cln_samples_partials_bytes)(&plan->view);
    if (plan->desc.norm == CLNORM_INSTANCE) {
        struct cln_view batch = cln_view_as_batch(&plan->desc, (uint64_t)plan->desc.n);
        size_t as_batch = batch_sums_bytes(plan) + cln_cpu_partials_bytes(&batch);
        bytes = as_batch > bytes ? as_batch : bytes;
    }
    return bytes;
}

static size_t partials_bytes(const clnorm_plan *plan)
{
    if (plan->desc.lengths)
        return cln_lengths_partials_bytes(&plan->desc);
    size_t bytes = first_order_bytes(plan), second = 0;
    if (plan->desc.double_backward)
        second = cln_double_partials_bytes(&plan->view);
    return second > bytes ? second : bytes;
}

static clnorm_status cpu_plan_create(clnorm_plan *plan)
{
    struct cln_cpu_plan *impl = calloc(1, sizeof *impl);
    if (!impl)
        return cln_fail(CLNORM_E_NO_MEMORY, "clnorm_plan_create: out of memory for a plan");
    cln_cpu_fill_plain(&impl->kernels);
    cln_cpu_fill_simd(&impl->kernels);
    cln_threads_prepare();
    impl->cache_bytes = cache_bytes();
    plan->impl = impl;
    plan->partials_bytes = partials_bytes(plan);
    plan->needs_no_planes = plan->desc.norm != CLNORM_BATCH;
    cln_cpu_explain(plan);
    return CLNORM_OK;
}

static void cpu_plan_destroy(clnorm_plan *plan)
{
    free(plan->impl);
}

static void run_as_batch(const clnorm_plan *plan, const struct cln_op *op)
{
    struct cln_op batch = *op;
    batch.view = cln_view_as_batch(&plan->desc, op->view.groups / op->view.weights);
    batch.role[CLN_SUMS] = op->role[CLN_PARTIALS];
    batch.role[CLN_PARTIALS].handle = (char *)op->role[CLN_PARTIALS].handle + batch_sums_bytes(plan);
    batch.step_count = 0;
    if (cln_bound(op, CLN_DWEIGHT) || cln_bound(op, CLN_DBIAS)) {
        batch.steps[batch.step_count++] = CLN_STEP_REDUCE;
        batch.steps[batch.step_count++] = CLN_STEP_REDUCE_FINISH;
    }
    if (!cln_bound(op, CLN_DY))
        batch.steps[batch.step_count++] = CLN_STEP_APPLY;
    else if (cln_bound(op, CLN_DX) || cln_bound(op, CLN_DZ))
        batch.steps[batch.step_count++] = CLN_STEP_BACKWARD_APPLY;
    cln_cpu_run(plan->impl, &batch);
}

/* Without samples. */
static void zero_weights(const struct cln_op *op)
{
    const enum cln_role roles[] = {CLN_DWEIGHT, CLN_DBIAS};
    const uint32_t adds[] = {CLNORM_ADD_DWEIGHT, CLNORM_ADD_DBIAS};
    for (int i = 0; i < 2; i++) {
        if (cln_bound(op, roles[i]) && !(op->accumulate & adds[i]))
            memset(op->role[roles[i]].handle, 0, (size_t)op->view.weights * sizeof(float));
    }
}

/* In a backward from y; of a call with virtual batches once. */
static void find_zero_weights(const clnorm_plan *plan, const struct cln_op *op)
{
    struct cln_cpu_plan *impl = plan->impl;
    const float *weight = op->role[CLN_WEIGHT].handle;
    int zeros = 0;
    for (uint64_t i = 0; i < op->view.weights; i++)
        zeros |= cln_is_zero(weight[i]);
    if (zeros)
        atomic_fetch_or(&impl->found, CLNORM_FOUND_ZERO_WEIGHT);
}

static clnorm_status cpu_run(clnorm_plan *plan, const struct cln_op *op)
{
    if (op->step_count > 0 && op->steps[0] == CLN_STEP_MASK) {
        cln_mask_run(&((struct cln_cpu_plan *)plan->impl)->kernels.elements, op);
        return CLNORM_OK;
    }
    if (op->from_y && cln_bound(op, CLN_X) && cln_bound(op, CLN_WEIGHT) && !op->follows && op->step_count > 0)
        find_zero_weights(plan, op);
    if (cln_bound(op, CLN_V_DX) || cln_bound(op, CLN_V_DWEIGHT) || cln_bound(op, CLN_V_DBIAS))
        cln_double_run(op);
    else if (cln_bound(op, CLN_LENGTHS) && op->elements > 0)
        cln_lengths_run(plan->impl, &plan->desc, op);
    else if (plan->desc.norm == CLNORM_BATCH)
        cln_cpu_run(plan->impl, op);
    else if (cln_view_elements(&op->view) == 0)
        zero_weights(op);
    else if (op->source == CLN_FROM_RUNNING)
        run_as_batch(plan, op);
    else if (op->view.along)
        cln_rows_run(plan->impl, op);
    else
        cln_samples_run(plan->impl, op);
    return CLNORM_OK;
}

static clnorm_status cpu_query_found(clnorm_plan *plan, uint32_t *found)
{
    struct cln_cpu_plan *impl = plan->impl;
    *found = atomic_exchange(&impl->found, 0);
    return CLNORM_OK;
}

const struct cln_backend cln_cpu_backend = {
    .count = cpu_count,
    .describe = cpu_describe,
    .open = cpu_open,
    .close = cpu_close,
    .build_all = cpu_nothing,
    .build_counts = cpu_build_counts,
    .finish = cpu_nothing,
    .save_tuning = cpu_save_tuning,
    .memory_create = cpu_memory_create,
    .memory_destroy = cpu_memory_destroy,
    .memory_write = cpu_memory_write,
    .memory_read = cpu_memory_read,
    .memory_map = cpu_memory_map,
    .memory_unmap = cpu_memory_unmap,
    .resolve = cpu_resolve,
    .check_stream = cpu_check_stream,
    .plan_create = cpu_plan_create,
    .plan_destroy = cpu_plan_destroy,
    .run = cpu_run,
    .query_found = cpu_query_found,
};
