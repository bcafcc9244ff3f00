#include "timing.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define SAMPLE_SECONDS 200e-6 /* a sample of short calls lasts about this long */
#define CALLS_MAX      256
#define IDLE_PROBE     100e-6 /* how long the process is watched for threads that run */
#define IDLE_SHARE     0.25   /* processors' time in that while that still counts as idle */
#define IDLE_WAIT_MAX  100e-3
#define CACHE_FALLBACK ((size_t)32 << 20)

static double clock_seconds(clockid_t id)
{
    struct timespec t;
    clock_gettime(id, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

double bench_now(void)
{
    return clock_seconds(CLOCK_MONOTONIC);
}

void bench_wait_idle(void)
{
    const struct timespec probe = {0, (long)(IDLE_PROBE * 1e9)};
    for (double start = bench_now(); bench_now() - start < IDLE_WAIT_MAX;) {
        double begin = bench_now(), busy = clock_seconds(CLOCK_PROCESS_CPUTIME_ID);
        nanosleep(&probe, NULL);
        if (clock_seconds(CLOCK_PROCESS_CPUTIME_ID) - busy < IDLE_SHARE * (bench_now() - begin))
            return;
    }
}

static bool run_calls(const struct bench_target *target, struct bench_rotation *rotation, size_t calls, double *seconds,
                      double *enqueue)
{
    double start = bench_now();
    for (size_t i = 0; i < calls; i++) {
        if (!target->call(target->context, rotation->next))
            return false;
        rotation->next = (rotation->next + 1) % rotation->sets;
    }
    double enqueued = bench_now();
    if (target->finish && !target->finish(target->context))
        return false;
    *seconds = (bench_now() - start) / (double)calls;
    *enqueue = (enqueued - start) / (double)calls;
    return true;
}

bool bench_choose_calls(const struct bench_target *target, struct bench_rotation *rotation, size_t *calls)
{
    double seconds = 0, enqueue;
    for (int i = 0; i < 2; i++) { /* the first run may build, allocate and touch pages */
        if (!run_calls(target, rotation, 1, &seconds, &enqueue))
            return false;
    }
    double wanted = ceil(SAMPLE_SECONDS / fmax(seconds, 1e-9));
    *calls = wanted < CALLS_MAX ? (size_t)wanted : CALLS_MAX;
    return true;
}

static bool reserve(struct bench_samples *samples, size_t more)
{
    if (samples->count + more <= samples->capacity)
        return true;
    size_t capacity = 2 * samples->capacity + more;
    double *grown = realloc(samples->seconds, capacity * sizeof *grown);
    if (!grown) {
        errno = ENOMEM;
        return false;
    }
    samples->seconds = grown;
    samples->capacity = capacity;
    return true;
}

bool bench_sample(const struct bench_target *target, struct bench_rotation *rotation, size_t calls, size_t repeats,
                  struct bench_samples *samples)
{
    double seconds, enqueue;
    if (!reserve(samples, repeats))
        return false;
    bench_wait_idle();
    if (!run_calls(target, rotation, 1, &seconds, &enqueue))
        return false;
    for (size_t i = 0; i < repeats; i++) {
        if (!run_calls(target, rotation, calls, &seconds, &enqueue))
            return false;
        samples->seconds[samples->count++] = seconds;
        samples->best = fmin(samples->best, seconds);
        samples->best_enqueue = fmin(samples->best_enqueue, enqueue);
    }
    if (target->rest)
        target->rest(target->context);
    return true;
}

void bench_samples_clear(struct bench_samples *samples)
{
    samples->count = 0;
    samples->best = samples->best_enqueue = INFINITY;
}

void bench_samples_free(struct bench_samples *samples)
{
    free(samples->seconds);
    memset(samples, 0, sizeof *samples);
    bench_samples_clear(samples);
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double bench_samples_median(const struct bench_samples *samples)
{
    size_t n = samples->count;
    double *sorted = n ? malloc(n * sizeof *sorted) : NULL;
    if (!sorted)
        return NAN;
    memcpy(sorted, samples->seconds, n * sizeof *sorted);
    qsort(sorted, n, sizeof *sorted, ascending);
    double median = (sorted[(n - 1) / 2] + sorted[n / 2]) / 2;
    free(sorted);
    return median;
}

/* Linux tells the size of each cache as "32768K". sysconf is no help: on some processors it adds up those of a whole package. */
size_t bench_cache_bytes(void)
{
    size_t largest = 0;
    for (int index = 0; index < 8; index++) {
        char text[96];
        snprintf(text, sizeof text, "/sys/devices/system/cpu/cpu0/cache/index%d/size", index);
        FILE *file = fopen(text, "r");
        if (!file)
            break;
        if (fgets(text, sizeof text, file)) {
            char *unit = text;
            size_t size = strtoull(text, &unit, 10);
            size <<= *unit == 'K' ? 10 : *unit == 'M' ? 20 : *unit == 'G' ? 30 : 0;
            largest = size > largest ? size : largest;
        }
        fclose(file);
    }
    return largest ? largest : CACHE_FALLBACK;
}
