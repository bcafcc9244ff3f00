#include "measure.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ROUNDS_MIN      5
#define ROUNDS_MAX      25
#define ROUNDS_SECONDS  1.5
#define SAMPLES_A_ROUND 2
/* After so many rounds the limits that are not within this factor of the best are timed no more. */
#define TRIAL_ROUNDS 3
#define TRIAL_FACTOR 1.1

/* A target with what was measured of it. */
struct contender {
    struct bench_target target;
    struct bench_samples samples;
    size_t calls;
    bool out;
};

/* All that was measured of one stream; train and infer share their copies. */
struct trial {
    struct contender contenders[BENCH_LIMITS_MAX];
    size_t count, rounds;
};

struct bench_limits {
    struct trial trials[2]; /* by enum bench_stream */
    size_t count;
    struct bench_arrays arrays; /* for the host's streams */
    bool own_arrays;
#ifdef CLNORM_BENCH_OPENCL
    struct bench_memories memories;
#endif
};

static float *new_array(size_t count)
{
    size_t bytes = (count * sizeof(float) + 4095) / 4096 * 4096;
    float *array = aligned_alloc(4096, bytes);
    uint32_t bits = 1;
    /* Values, not zeros: there are machines that move cache lines of zeros faster than others, by a fifth where this was found. */
    for (size_t i = 0; array && i < count; i++) {
        bits = bits * 1664525 + 1013904223;
        array[i] = (float)(bits >> 8) / (1 << 24) - 0.5f;
    }
    return array;
}

static bool make_own_arrays(struct bench_limits *limits, size_t count)
{
    struct bench_arrays *a = &limits->arrays;
    limits->own_arrays = true;
    a->target = new_array(count);
    a->source = new_array(count);
    a->other = new_array(count);
    return a->target && a->source && a->other;
}

/* The address of memory on "cpu": it stays while the memory does. */
static float *address_of(struct bench_case *c, clnorm_memory *memory)
{
    void *pointer = NULL;
    c->status = clnorm_memory_map(memory, 0, clnorm_memory_bytes(memory), &pointer);
    if (c->status == CLNORM_OK)
        c->status = clnorm_memory_unmap(memory);
    return c->status == CLNORM_OK ? pointer : NULL;
}

static bool borrow_arrays(struct bench_limits *limits, struct bench_case *c)
{
    struct bench_arrays *a = &limits->arrays;
    a->target = address_of(c, c->y);
    a->source = address_of(c, c->x);
    a->other = address_of(c, c->dy);
    return a->target && a->source && a->other;
}

struct bench_limits *bench_limits_create(const struct bench_machine *machine, struct bench_case *c, char error[512])
{
    struct bench_limits *limits = calloc(1, sizeof *limits);
    bool ok = limits != NULL;
    if (ok) {
        limits->count = bench_shape_words(c->shape);
        limits->arrays.stride = c->stride;
        for (size_t i = 0; i < 2 * BENCH_LIMITS_MAX; i++)
            bench_samples_clear(&limits->trials[i % 2].contenders[i / 2].samples);
#ifdef CLNORM_BENCH_OPENCL
        limits->memories = (struct bench_memories){c->y, c->x, c->dy, c->stride};
#endif
    }
    if (ok && machine->host)
        ok = machine->opencl ? make_own_arrays(limits, c->set_count * c->stride) : borrow_arrays(limits, c);
    if (!ok) {
        snprintf(error, 512, "out of memory for the buffers of the limits");
        bench_limits_destroy(limits);
        return NULL;
    }
    return limits;
}

void bench_limits_destroy(struct bench_limits *limits)
{
    if (!limits)
        return;
    for (size_t i = 0; i < 2 * BENCH_LIMITS_MAX; i++)
        bench_samples_free(&limits->trials[i % 2].contenders[i / 2].samples);
    if (limits->own_arrays) {
        free(limits->arrays.target);
        free((void *)(uintptr_t)limits->arrays.source);
        free((void *)(uintptr_t)limits->arrays.other);
    }
    free(limits);
}

struct runner {
    struct bench_case *c;
    enum bench_mode mode;
};

static bool run_case(void *context, size_t set)
{
    struct runner *runner = context;
    return bench_case_call(runner->c, runner->mode, set);
}

static bool finish_case(void *context)
{
    return bench_case_finish(((struct runner *)context)->c);
}

static bool sample(struct contender *contender, struct bench_rotation *rotation)
{
    if (!contender->calls && !bench_choose_calls(&contender->target, rotation, &contender->calls))
        return false;
    return bench_sample(&contender->target, rotation, contender->calls, SAMPLES_A_ROUND, &contender->samples);
}

static const struct contender *fastest(const struct trial *trial)
{
    const struct contender *best = trial->contenders;
    for (size_t i = 1; i < trial->count; i++) {
        if (trial->contenders[i].samples.best < best->samples.best)
            best = &trial->contenders[i];
    }
    return best;
}

static bool sample_limits(struct trial *trial, struct bench_rotation *rotation)
{
    for (size_t i = 0; i < trial->count; i++) {
        if (!trial->contenders[i].out && !sample(&trial->contenders[i], rotation))
            return false;
    }
    trial->rounds++;
    double threshold = TRIAL_FACTOR * fastest(trial)->samples.best;
    for (size_t i = 0; trial->rounds == TRIAL_ROUNDS && i < trial->count; i++)
        trial->contenders[i].out = trial->contenders[i].samples.best > threshold;
    return true;
}

/* limit, case, limit, case, ...: what disturbs the machine for a while disturbs both. A case cannot be faster than the limit: while it
 * looks so the limit was disturbed, and it goes on. */
static bool take_turns(struct trial *trial, struct contender *own, size_t sets, size_t rounds, size_t *done)
{
    struct bench_rotation rotation = {sets, 0};
    double start = bench_now();
    for (*done = 0; *done < (rounds ? rounds : ROUNDS_MAX); ++*done) {
        bool settled = fastest(trial)->samples.best <= own->samples.best && bench_now() - start > ROUNDS_SECONDS;
        if (!rounds && *done >= ROUNDS_MIN && settled)
            break;
        if (!sample_limits(trial, &rotation) || !sample(own, &rotation))
            return false;
    }
    return true;
}

static void make_targets(const struct bench_machine *machine, struct bench_limits *limits, enum bench_stream stream)
{
    struct trial *trial = &limits->trials[stream];
    struct bench_target targets[BENCH_LIMITS_MAX];
    size_t count = 0;
    if (machine->host)
        count += bench_host_targets(machine->host, stream, &limits->arrays, limits->count, targets);
#ifdef CLNORM_BENCH_OPENCL
    if (machine->opencl)
        count += bench_opencl_targets(machine->opencl, stream, &limits->memories, limits->count, targets + count);
#endif
    for (size_t i = 0; i < count; i++)
        trial->contenders[i].target = targets[i];
    trial->count = count;
}

static void tell_failure(const struct bench_machine *machine, const struct bench_case *c, char error[512])
{
    const char *text = c->error;
#ifdef CLNORM_BENCH_OPENCL
    if (machine->opencl && bench_opencl_error(machine->opencl)[0])
        text = bench_opencl_error(machine->opencl);
#else
    (void)machine;
#endif
    snprintf(error, 512, "%s", text[0] ? text : "out of memory");
}

bool bench_limits_turn(const struct bench_machine *machine, struct bench_case *c, struct bench_limits *limits,
                       enum bench_mode mode, struct bench_rotation *rotation, double *seconds, const char **name,
                       char error[512])
{
    struct trial *trial = &limits->trials[bench_mode_stream(mode, c->shape)];
    size_t before[BENCH_LIMITS_MAX] = {0};
    make_targets(machine, limits, bench_mode_stream(mode, c->shape));
    for (size_t i = 0; i < trial->count; i++)
        before[i] = trial->contenders[i].samples.count;
    if (!sample_limits(trial, rotation)) {
        tell_failure(machine, c, error);
        return false;
    }
    *seconds = INFINITY;
    for (size_t i = 0; i < trial->count; i++) {
        const struct bench_samples *samples = &trial->contenders[i].samples;
        for (size_t k = before[i]; k < samples->count; k++)
            *seconds = fmin(*seconds, samples->seconds[k]);
    }
    *name = fastest(trial)->target.name;
    return true;
}

bool bench_measure(const struct bench_machine *machine, struct bench_case *c, struct bench_limits *limits,
                   enum bench_mode mode, struct bench_result *result, char error[512])
{
    struct runner runner = {c, mode};
    struct trial *trial = &limits->trials[bench_mode_stream(mode, c->shape)];
    struct contender own = {.target = {"case", &runner, run_case, machine->opencl ? finish_case : NULL, NULL}};
    make_targets(machine, limits, bench_mode_stream(mode, c->shape));
    bench_samples_clear(&own.samples);
    memset(result, 0, sizeof *result);
    bool ok = take_turns(trial, &own, c->set_count, machine->rounds, &result->rounds);
    if (ok) {
        const struct contender *limit = fastest(trial);
        result->shape = c->shape;
        result->mode = mode;
        result->best_ms = own.samples.best * 1e3;
        result->median_ms = bench_samples_median(&own.samples) * 1e3;
        result->enqueue_us = own.samples.best_enqueue * 1e6;
        result->limit_ms = limit->samples.best * 1e3;
        result->ratio = result->best_ms / result->limit_ms;
        snprintf(result->limit_name, sizeof result->limit_name, "%s", limit->target.name);
        result->bytes = bench_mode_bytes(mode, c->shape);
        result->calls = own.calls;
    } else {
        tell_failure(machine, c, error);
    }
    bench_samples_free(&own.samples);
    return ok;
}
