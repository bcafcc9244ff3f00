#include "bench_limits.h"
#include "streams.h"

#include <pthreadpool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SLICE       65536 /* elements a task: small enough to even out threads that are held up, large enough to stream */
#define STREAMS_MAX 8

struct way {
    struct bench_host *host;
    stream_function function;
    bool single;
    char name[32];
};

struct bench_host {
    pthreadpool_t pool;
    const struct stream *streams;
    size_t stream_count;
    const struct bench_arrays *arrays;
    size_t count;
    struct way ways[2 * STREAMS_MAX];
    char text[128];
};

struct job {
    stream_function function;
    float *target;
    const float *source, *other;
    size_t count, slice;
};

static void run_slice(void *context, size_t i)
{
    const struct job *job = context;
    size_t begin = i * job->slice, left = job->count - begin;
    job->function(job->target + begin, job->source + begin, job->other + begin, left < job->slice ? left : job->slice);
}

static bool run_way(void *context, size_t set)
{
    const struct way *way = context;
    struct bench_host *host = way->host;
    const struct bench_arrays *a = host->arrays;
    size_t at = set * a->stride;
    struct job job = {way->function, a->target + at, a->source + at, a->other + at, host->count, host->count};
    if (way->single) {
        run_slice(&job, 0);
        return true;
    }
    size_t threads = bench_host_threads(host), share = (host->count + threads - 1) / threads;
    job.slice = ((share < SLICE ? share : SLICE) + 15) / 16 * 16; /* whole cache lines */
    pthreadpool_parallelize_1d(host->pool, run_slice, &job, (host->count + job.slice - 1) / job.slice, 0);
    return true;
}

static void do_nothing(void *context, size_t i)
{
    (void)context;
    (void)i;
}

/* Sends the pool's threads to sleep at once, where they would spin for milliseconds. */
static void rest_pool(void *context)
{
    const struct way *way = context;
    if (!way->single)
        pthreadpool_parallelize_1d(way->host->pool, do_nothing, NULL, bench_host_threads(way->host),
                                   PTHREADPOOL_FLAG_YIELD_WORKERS);
}

struct bench_host *bench_host_create(void)
{
    struct bench_host *host = calloc(1, sizeof *host);
    if (!host || !(host->pool = pthreadpool_create(0))) {
        free(host);
        return NULL;
    }
    host->stream_count = streams_supported(&host->streams);
    for (size_t i = 0; i < host->stream_count; i++) {
        strncat(host->text, i ? ", " : "", sizeof host->text - strlen(host->text) - 1);
        strncat(host->text, host->streams[i].name, sizeof host->text - strlen(host->text) - 1);
    }
    return host;
}

void bench_host_destroy(struct bench_host *host)
{
    if (!host)
        return;
    pthreadpool_destroy(host->pool);
    free(host);
}

size_t bench_host_threads(const struct bench_host *host)
{
    return pthreadpool_get_threads_count(host->pool);
}

const char *bench_host_streams(const struct bench_host *host)
{
    return host->text;
}

static size_t add_way(struct bench_host *host, size_t i, const struct stream *stream, enum bench_stream kind,
                      bool single, struct bench_target *target)
{
    struct way *way = &host->ways[i];
    *way = (struct way){host, kind == BENCH_COPY ? stream->copy : stream->add, single, ""};
    const char *name = kind == BENCH_ADD && !strcmp(stream->name, "memcpy") ? "plain" : stream->name;
    snprintf(way->name, sizeof way->name, "%s%s", name, single ? ", 1 thread" : "");
    *target = (struct bench_target){way->name, way, run_way, NULL, rest_pool};
    return i + 1;
}

size_t bench_host_targets(struct bench_host *host, enum bench_stream stream, const struct bench_arrays *arrays,
                          size_t count, struct bench_target *targets)
{
    size_t n = 0;
    host->arrays = arrays;
    host->count = count;
    for (size_t i = 0; i < host->stream_count && i < STREAMS_MAX; i++) {
        n = add_way(host, n, &host->streams[i], stream, false, targets + n);
        n = add_way(host, n, &host->streams[i], stream, true, targets + n);
    }
    return n;
}
