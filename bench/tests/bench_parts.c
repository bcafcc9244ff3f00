/* bench_parts DEVICE: runs every limit of bench on that device, over sizes that fill no vector and no slice, and compares what they
 * wrote, and the elements after that. One line a limit: its stream, its name, and how many values were wrong. Exit code 1 if
 * something could not be run. */
#include "bench_limits.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SETS  2
#define GUARD 64

static const size_t counts[] = {1, 3, 15, 16, 17, 1000, 100003, 262144};
static const float untouched = -12345.0f;

struct buffers {
    clnorm_device *device;
    bool host;
    size_t count;
    clnorm_memory *memory[SETS][3]; /* target, source, other */
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

static void make_buffers(struct buffers *b)
{
    size_t bytes = (b->count + GUARD) * sizeof(float);
    float *values = malloc(bytes);
    for (size_t set = 0; values && set < SETS; set++) {
        for (size_t array = 0; array < 3; array++) {
            for (size_t i = 0; i < b->count + GUARD; i++)
                values[i] = array ? value(set, array, i) : untouched;
            if (clnorm_memory_create(b->device, bytes, &b->memory[set][array]) != CLNORM_OK ||
                clnorm_memory_write(b->memory[set][array], 0, values, bytes) != CLNORM_OK)
                fail("memory");
        }
    }
    if (!values)
        fail("out of memory");
    free(values);
}

static void free_buffers(struct buffers *b)
{
    for (size_t i = 0; i < SETS * 3; i++)
        clnorm_memory_destroy(b->memory[i / 3][i % 3]);
}

static size_t wrong_values(struct buffers *b, enum bench_stream stream, size_t set)
{
    size_t bytes = (b->count + GUARD) * sizeof(float), wrong = 0;
    float *got = malloc(bytes);
    if (!got || clnorm_memory_read(b->memory[set][0], 0, got, bytes) != CLNORM_OK)
        fail("reading");
    for (size_t i = 0; i < b->count + GUARD; i++) {
        float want = value(set, 1, i) + (stream == BENCH_ADD ? value(set, 2, i) : 0);
        want = i < b->count ? want : untouched;
        wrong += !(got[i] == want);
        got[i] = untouched;
    }
    if (clnorm_memory_write(b->memory[set][0], 0, got, bytes) != CLNORM_OK)
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
    struct bench_arrays arrays[SETS];
    for (size_t set = 0; set < SETS; set++) {
        void *address[3];
        for (size_t array = 0; array < 3; array++) {
            if (clnorm_memory_map(b->memory[set][array], 0, clnorm_memory_bytes(b->memory[set][array]),
                                  &address[array]) != CLNORM_OK ||
                clnorm_memory_unmap(b->memory[set][array]) != CLNORM_OK)
                fail("mapping");
        }
        arrays[set] = (struct bench_arrays){address[0], address[1], address[2]};
    }
    for (int stream = BENCH_COPY; stream <= BENCH_ADD; stream++)
        run_targets(b, stream, targets, bench_host_targets(host, stream, arrays, b->count, targets));
}

#ifdef CLNORM_BENCH_OPENCL
static void run_opencl(struct buffers *b, struct bench_opencl *opencl)
{
    struct bench_target targets[BENCH_LIMITS_MAX];
    struct bench_memories memories[SETS];
    for (size_t set = 0; set < SETS; set++)
        memories[set] = (struct bench_memories){b->memory[set][0], b->memory[set][1], b->memory[set][2]};
    for (int stream = BENCH_COPY; stream <= BENCH_ADD; stream++)
        run_targets(b, stream, targets, bench_opencl_targets(opencl, stream, memories, b->count, targets));
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
