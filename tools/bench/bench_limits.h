/* The limit of a case: the least time in which this machine can move the same data, whatever the way.
 *   forward    a copy of x into y
 *   backward   a stream that reads x and dy and writes dx
 * On "cpu" these run on the very buffers of the case, by all threads and by one (a small tensor is not worth waking threads for, nor are threads that others hold up), with
 * ordinary and with non-temporal stores. On an OpenCL device its own buffer copy and a few copy kernels are tried too; if it is
 * a CPU, so are the host's streams on memory of their own, for the memory is the same. */
#ifndef CLNORM_BENCH_LIMITS_H
#define CLNORM_BENCH_LIMITS_H

#include "timing.h"

#include <clnorm/clnorm.h>

enum bench_stream { BENCH_COPY, BENCH_ADD };

/* The host's streams and their threads. Made once; NULL: out of memory. */
struct bench_host;
struct bench_host *bench_host_create(void);
void bench_host_destroy(struct bench_host *host);
size_t bench_host_threads(const struct bench_host *host);
const char *bench_host_streams(const struct bench_host *host); /* "memcpy, avx512f, avx512f-nt", for people */

/* The buffers of the host's streams, target = source (+ other): set i begins i * stride elements after these. */
struct bench_arrays {
    float *target;
    const float *source, *other;
    size_t stride;
};

/* Appends the host's streams to targets, of which there is room for BENCH_LIMITS_MAX in all. They work on count elements of a set, and
 * use host and arrays until the next call of this. Returns how many were appended. */
#define BENCH_LIMITS_MAX 32
size_t bench_host_targets(struct bench_host *host, enum bench_stream stream, const struct bench_arrays *arrays,
                          size_t count, struct bench_target *targets);

#ifdef CLNORM_BENCH_OPENCL
/* The same on an OpenCL device: its kernels, built once a device. error has one sentence on false or NULL. */
struct bench_opencl;
struct bench_opencl *bench_opencl_create(const clnorm_device *device, char error[512]);
void bench_opencl_destroy(struct bench_opencl *opencl);
/* Bytes of the device's last-level cache, as far as OpenCL tells. */
size_t bench_opencl_cache_bytes(const struct bench_opencl *opencl);
/* The same in library memory. */
struct bench_memories {
    clnorm_memory *target, *source, *other;
    size_t stride;
};
size_t bench_opencl_targets(struct bench_opencl *opencl, enum bench_stream stream,
                            const struct bench_memories *memories, size_t count, struct bench_target *targets);
/* What failed, after a target returned false; "" if nothing did. */
const char *bench_opencl_error(const struct bench_opencl *opencl);
#endif

#endif
