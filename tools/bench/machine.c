#include "measure.h"

#include <stdio.h>

#ifdef CLNORM_BENCH_OPENCL
static clnorm_status open_opencl(struct bench_machine *m, char error[512])
{
    m->opencl = bench_opencl_create(m->device, error);
    if (!m->opencl)
        return CLNORM_E_DEVICE_FAILED;
    size_t told = bench_opencl_cache_bytes(m->opencl);
    if (m->info.kind != CLNORM_CLASS_CPU)
        m->cache_bytes = told > BENCH_GPU_CACHE_BYTES ? told : BENCH_GPU_CACHE_BYTES;
    return CLNORM_OK;
}
#endif

clnorm_status bench_machine_open(struct bench_machine *m, const char *device, char error[512])
{
    m->info = (clnorm_device_info)CLNORM_DEVICE_INFO_INIT;
    clnorm_status status = clnorm_device_open(device, &m->device);
    if (status == CLNORM_OK)
        status = clnorm_device_get_info(m->device, &m->info);
    if (status != CLNORM_OK) {
        snprintf(error, 512, "%s", clnorm_last_error());
        return status;
    }
    m->cache_bytes = bench_cache_bytes();
    if (m->info.kind == CLNORM_CLASS_HOST || m->info.kind == CLNORM_CLASS_CPU) {
        m->host = bench_host_create();
        if (!m->host) {
            snprintf(error, 512, "out of memory");
            return CLNORM_E_NO_MEMORY;
        }
    }
#ifdef CLNORM_BENCH_OPENCL
    if (m->info.kind != CLNORM_CLASS_HOST)
        return open_opencl(m, error);
#endif
    return CLNORM_OK;
}

void bench_machine_close(struct bench_machine *m)
{
    bench_host_destroy(m->host);
#ifdef CLNORM_BENCH_OPENCL
    bench_opencl_destroy(m->opencl);
#endif
    clnorm_device_destroy(m->device);
}

uint64_t bench_machine_memory(const struct bench_machine *m)
{
    uint64_t half = m->info.memory / 2;
    return half < BENCH_MEMORY_MAX ? half : BENCH_MEMORY_MAX;
}

size_t bench_machine_sets(const struct bench_machine *m, const struct bench_shape *shape)
{
    bool own_arrays = m->host && m->opencl;
    size_t sets = bench_set_count(shape, m->warm ? 0 : m->cache_bytes);
    while (sets && (bench_case_bytes(shape, sets, own_arrays) > bench_machine_memory(m) ||
                    bench_case_largest(shape, sets) > m->info.max_allocation))
        sets--;
    return sets;
}
