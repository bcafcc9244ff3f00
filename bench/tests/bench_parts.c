/* bench_parts DEVICE: runs every limit of bench on that device, over sizes that fill no vector and no slice, and compares what they
 * wrote, and the elements after that. One line a limit: its stream, its name, and how many values were wrong. Exit code 1 if
 * something could not be run. */
#include "bench_limits.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SETS 2

static const size_t counts[] = {1, 3, 15, 16, 17, 1000, 100003, 262144};
static const float untouched = -12345.0f;

struct buffers {
    clnorm_device *device;
    size_t count;
    clnorm_memory *memory[3]; /* target, source, other: each SETS sets */
};

static void fail(const char *what)
{
    fprintf(stderr, "bench_parts: %s: %s\n", what, clnorm_last_error());
    exit(1);
}

static float value(size_t set, size_t array, size_t i)
{
    return (float)(array * 1000003 + set * 5003 + i % 4999);
}

/* From one set to the next: there are elements between them. */
static size_t stride_of(const struct buffers *b)
{
    return (b->count + 127) / 64 * 64;
}

static float expected(const struct buffers *b, size_t array, size_t i)
{
    size_t set = i / stride_of(b);
    i %= stride_of(b);
    return array && i < b->count ? value(set, array, i) : untouched;
}

static void make_buffers(struct buffers *b)
{
    size_t elements = SETS * stride_of(b);
    float *values = malloc(elements * sizeof *values);
    if (!values)
        fail("out of memory");
    for (size_t array = 0; array < 3; array++) {
        for (size_t i = 0; i < elements; i++)
            values[i] = expected(b, array, i);
        if (clnorm_memory_create(b->device, elements * sizeof *values, &b->memory[array]) != CLNORM_OK ||
            clnorm_memory_write(b->memory[array], 0, values, elements * sizeof *values) != CLNORM_OK)
            fail("memory");
    }
    free(values);
}

static void free_buffers(struct buffers *b)
{
    for (size_t array = 0; array < 3; array++)
        clnorm_memory_destroy(b->memory[array]);
}

/* Compares the target after one set was run, and makes it as it was. */
static size_t wrong_values(struct buffers *b, enum bench_stream stream, size_t set)
{
    size_t elements = SETS * stride_of(b), wrong = 0;
    float *got = malloc(elements * sizeof *got);
    if (!got || clnorm_memory_read(b->memory[0], 0, got, elements * sizeof *got) != CLNORM_OK)
        fail("reading");
    for (size_t i = 0; i < elements; i++) {
        float want = untouched;
        if (i / stride_of(b) == set && i % stride_of(b) < b->count)
            want = expected(b, 1, i) + (stream == BENCH_ADD ? expected(b, 2, i) : 0);
        wrong += !(got[i] == want);
        got[i] = untouched;
    }
    if (clnorm_memory_write(b->memory[0], 0, got, elements * sizeof *got) != CLNORM_OK)
        fail("writing");
    free(got);
    return wrong;
}

static void run_targets(struct buffers *b, enum bench_stream stream, const struct bench_target *targets, size_t count)
{
    for (size_t t = 0; t < count; t++) {
        size_t wrong = 0;
        for (size_t set = 0; set < SETS; set++) {
            if (!targets[t].call(targets[t].context, set) ||
                (targets[t].finish && !targets[t].finish(targets[t].context)))
                fail(targets[t].name);
            if (targets[t].rest)
                targets[t].rest(targets[t].context);
            wrong += wrong_values(b, stream, set);
        }
        printf("%s\t%s\t%zu\t%zu\n", stream == BENCH_COPY ? "copy" : "add", targets[t].name, b->count, wrong);
    }
}

static void run_host(struct buffers *b, struct bench_host *host)
{
    struct bench_target targets[BENCH_LIMITS_MAX];
    void *address[3];
    for (size_t array = 0; array < 3; array++) {
        if (clnorm_memory_map(b->memory[array], 0, clnorm_memory_bytes(b->memory[array]), &address[array]) !=
                CLNORM_OK ||
            clnorm_memory_unmap(b->memory[array]) != CLNORM_OK)
            fail("mapping");
    }
    struct bench_arrays arrays = {address[0], address[1], address[2], stride_of(b)};
    for (int stream = BENCH_COPY; stream <= BENCH_ADD; stream++)
        run_targets(b, stream, targets, bench_host_targets(host, stream, &arrays, b->count, targets));
}

#ifdef CLNORM_BENCH_OPENCL
static void run_opencl(struct buffers *b, struct bench_opencl *opencl)
{
    struct bench_target targets[BENCH_LIMITS_MAX];
    struct bench_memories memories = {b->memory[0], b->memory[1], b->memory[2], stride_of(b)};
    for (int stream = BENCH_COPY; stream <= BENCH_ADD; stream++)
        run_targets(b, stream, targets, bench_opencl_targets(opencl, stream, &memories, b->count, targets));
}
#endif

int main(int argc, char **argv)
{
    struct buffers b = {0};
    clnorm_device_info info = CLNORM_DEVICE_INFO_INIT;
    if (argc != 2 || clnorm_device_open(argv[1], &b.device) != CLNORM_OK ||
        clnorm_device_get_info(b.device, &info) != CLNORM_OK)
        fail("device");
    struct bench_host *host = info.kind == CLNORM_CLASS_HOST ? bench_host_create() : NULL;
#ifdef CLNORM_BENCH_OPENCL
    char error[512];
    struct bench_opencl *opencl = host ? NULL : bench_opencl_create(b.device, error);
    if (!host && !opencl) {
        fprintf(stderr, "bench_parts: %s\n", error);
        return 1;
    }
#endif
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        b.count = counts[i];
        make_buffers(&b);
        if (host)
            run_host(&b, host);
#ifdef CLNORM_BENCH_OPENCL
        if (opencl)
            run_opencl(&b, opencl);
#endif
        free_buffers(&b);
    }
    bench_host_destroy(host);
#ifdef CLNORM_BENCH_OPENCL
    bench_opencl_destroy(opencl);
#endif
    clnorm_device_destroy(b.device);
    return 0;
}
