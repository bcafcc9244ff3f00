/* How bench takes times: by the wall clock around enqueue and finish of a few calls, each on the next set of buffers.
 *
 * A sample is: wait until the process is idle (worker threads of a pool or an OpenCL runtime spin for a while after their
 * work, and would slow down whoever is timed next); one call that is not timed (it wakes the workers of this target); then the
 * timed calls. Limits and cases are sampled alike. */
#ifndef CLNORM_BENCH_TIMING_H
#define CLNORM_BENCH_TIMING_H

#include <stdbool.h>
#include <stddef.h>

/* Something to time. The functions return false on a failure, which the context keeps. */
struct bench_target {
    const char *name;
    void *context;
    bool (*call)(void *context, size_t set); /* runs or enqueues one call on a set of buffers */
    bool (*finish)(void *context);           /* waits for what was enqueued; NULL if call does */
    void (*rest)(void *context);             /* after a sample: sends worker threads to sleep; NULL: nothing to do */
};

/* Which set of buffers is next: all targets of a case take turns through them. */
struct bench_rotation {
    size_t sets, next;
};

struct bench_samples {
    double *seconds; /* a call, one entry a sample */
    size_t count, capacity;
    double best;         /* the least of them; INFINITY if there is none */
    double best_enqueue; /* least time a call until it returned, without finish */
};

double bench_now(void);
/* Waits until no other thread of this process runs, for 0.1 s at most. */
void bench_wait_idle(void);

/* Timed calls a sample, so that a sample is long against the clock and the finish. *calls is set from one run of target. */
bool bench_choose_calls(const struct bench_target *target, struct bench_rotation *rotation, size_t *calls);
/* Appends `repeats` samples of `calls` calls each. false: the target failed, or out of memory (errno is ENOMEM). */
bool bench_sample(const struct bench_target *target, struct bench_rotation *rotation, size_t calls, size_t repeats,
                  struct bench_samples *samples);
void bench_samples_clear(struct bench_samples *samples); /* makes it empty; also how to begin */
void bench_samples_free(struct bench_samples *samples);
double bench_samples_median(const struct bench_samples *samples); /* NAN if there is none */

/* Bytes of the last-level cache; 32 MiB where the system does not tell. */
size_t bench_cache_bytes(void);

#endif
