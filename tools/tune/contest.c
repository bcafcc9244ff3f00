#include "contest.h"

#include "bench/bench_check.h"
#include "bench/measure.h"

#include <clnorm/opencl.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ROUNDS_MAX = 32, REPEATS = 2, STOP_ROUNDS = 2 };
#define STOP_RATIO 1.1

/* What networks have, in both families: large and middle-sized tensors, short segments, few channels, small tensors. */
static const char full_shapes[] = "large  ncs 32x64x56x56\n"
                                  "middle ncs 32x256x14x14\n"
                                  "short  ncs 32x512x7x7\n"
                                  "few    ncs 8x3x256x256\n"
                                  "small  ncs 8x16x14x14\n"
                                  "large  nsc 32x64x56x56\n"
                                  "rows   nc  1024x1024\n"
                                  "short  nsc 32x512x7x7\n"
                                  "few    nsc 8x3x256x256\n"
                                  "small  nc  64x256\n";
static const char quick_shapes[] = "middle ncs 32x64x28x28\n"
                                   "small  ncs 8x16x14x14\n"
                                   "middle nsc 32x64x28x28\n"
                                   "small  nc  64x256\n";
/* Sizes that fill no vector and no work-group; one group that must be cut, many that need not. */
static const char check_shapes[] = "odd  ncs 3x5x7x5\n"
                                   "many ncs 5x130x3x3\n"
                                   "cut  ncs 4x2x61x67\n"
                                   "odd  nsc 3x5x7x3\n"
                                   "cut  nsc 9x3x41x17\n"
                                   "wide nc  67x515\n";

static bool failed(struct tune_contest *contest, const char *what)
{
    snprintf(contest->error, sizeof contest->error, "%s", what);
    return false;
}

unsigned tune_case_family(const struct bench_shape *shape)
{
    return shape->layout == CLNORM_NCS ? TUNE_SEGMENTS : TUNE_COLUMNS;
}

/* Enough sets for cold calls, fewer if all cases together would take too much. 0: not even one fits. */
static size_t set_count(const struct tune_contest *contest, const struct bench_shape *shape)
{
    const clnorm_device_info *info = &contest->info;
    uint64_t memory = info->memory / 2 < BENCH_MEMORY_MAX ? info->memory / 2 : BENCH_MEMORY_MAX;
    size_t cache = info->kind == CLNORM_CLASS_CPU ? bench_cache_bytes() : BENCH_GPU_CACHE_BYTES;
    size_t sets = bench_set_count(shape, cache);
    while (sets && (bench_case_bytes(shape, sets, false) > memory / contest->shapes.count ||
                    bench_case_largest(shape, sets) > info->max_allocation))
        sets--;
    return sets;
}

/* The results of a training step are there for backward to take, in every set. */
static bool make_case(struct tune_contest *contest, size_t i)
{
    struct bench_case *c = &contest->start.cases[i];
    const struct bench_shape *shape = &contest->shapes.list[i];
    size_t sets = set_count(contest, shape);
    contest->rotations[i] = (struct bench_rotation){sets, 0};
    if (!sets)
        return failed(contest, "the device has too little memory for the cases");
    if (!bench_case_create(c, contest->start.device, shape, sets, NULL) || !bench_case_call(c, BENCH_TRAIN, 0) ||
        !bench_case_finish(c) || !bench_case_spread_state(c))
        return failed(contest, c->error);
    return true;
}

struct call {
    struct bench_case *c;
    enum bench_mode mode;
};

static bool run_call(void *context, size_t set)
{
    struct call *call = context;
    return bench_case_call(call->c, call->mode, set);
}

static bool finish_call(void *context)
{
    return bench_case_finish(((struct call *)context)->c);
}

static bool choose_calls(struct tune_contest *contest, size_t i)
{
    for (int mode = 0; mode < BENCH_MODES; mode++) {
        struct call call = {&contest->start.cases[i], mode};
        const struct bench_target target = {"row", &call, run_call, finish_call, NULL};
        if (!bench_choose_calls(&target, &contest->rotations[i], &contest->calls[i][mode]))
            return failed(contest, call.c->error);
    }
    return true;
}

static clnorm_status open_with(const struct tune_contest *contest, const struct tune_row *row, clnorm_device **device)
{
    char text[160];
    tune_row_print(row, text);
    setenv("CLNORM_TUNING", text, 1);
    clnorm_status status = clnorm_device_open_cl(clnorm_device_cl_context(contest->start.device),
                                                 clnorm_device_cl_id(contest->start.device), device);
    unsetenv("CLNORM_TUNING");
    return status;
}

static bool check_case(struct tune_contest *contest, struct bench_case *c)
{
    size_t checked;
    for (int mode = 0; mode < BENCH_MODES; mode++) {
        if (!bench_check(c, mode, &checked, contest->error))
            return false;
    }
    return true;
}

static bool check_small(struct tune_contest *contest, clnorm_device *device, unsigned families)
{
    for (size_t i = 0; i < contest->checks.count; i++) {
        const struct bench_shape *shape = &contest->checks.list[i];
        struct bench_case c;
        if (!(tune_case_family(shape) & families))
            continue;
        bool made = bench_case_create(&c, device, shape, 1, NULL);
        bool ok = made ? check_case(contest, &c) : failed(contest, c.error);
        bench_case_destroy(&c);
        if (!ok)
            return false;
    }
    return true;
}

bool tune_contest_open(struct tune_contest *contest, clnorm_device *device, const clnorm_device_info *info, bool quick)
{
    memset(contest, 0, sizeof *contest);
    contest->info = *info;
    contest->start.device = device;
    if (!tune_row_read(info->tuning, &contest->start.row)) {
        snprintf(contest->error, sizeof contest->error, "the library's row is \"%s\", which this program does not know",
                 info->tuning);
        return false;
    }
    if (!bench_shapes_parse(&contest->shapes, "shapes", quick ? quick_shapes : full_shapes, contest->error) ||
        !bench_shapes_parse(&contest->checks, "shapes", check_shapes, contest->error) ||
        !check_small(contest, device, TUNE_SEGMENTS | TUNE_COLUMNS))
        return false;
    for (size_t i = 0; i < contest->shapes.count; i++) {
        if (!make_case(contest, i) || !choose_calls(contest, i))
            return false;
    }
    return true;
}

void tune_contest_close(struct tune_contest *contest)
{
    for (size_t i = 0; i < TUNE_CASES_MAX; i++)
        bench_case_destroy(&contest->start.cases[i]);
    bench_shapes_free(&contest->shapes);
    bench_shapes_free(&contest->checks);
}

enum tune_entry tune_contender_open(struct tune_contest *contest, const struct tune_row *row, unsigned families,
                                    struct tune_contender *contender)
{
    memset(contender, 0, sizeof *contender);
    contender->row = *row;
    clnorm_status status = open_with(contest, row, &contender->device);
    if (status != CLNORM_OK) {
        failed(contest, clnorm_last_error());
        return status == CLNORM_E_ENUM ? TUNE_REFUSED : TUNE_WRONG;
    }
    if (check_small(contest, contender->device, families))
        return TUNE_ENTERED;
    tune_contender_close(contender);
    return TUNE_WRONG;
}

void tune_contender_close(struct tune_contender *contender)
{
    for (size_t i = 0; i < TUNE_CASES_MAX; i++)
        clnorm_plan_destroy(contender->cases[i].plan); /* the rest is the start's */
    clnorm_device_destroy(contender->device);
    memset(contender, 0, sizeof *contender);
}

/* A case with the contender's own plan and the start's buffers. */
static struct bench_case *case_of(struct tune_contest *contest, struct tune_contender *contender, size_t i)
{
    struct bench_case *c = &contender->cases[i];
    if (!c->plan) {
        *c = contest->start.cases[i];
        c->device = contender->device;
        c->plan = NULL;
        if (clnorm_plan_create(c->device, &c->desc, &c->plan) != CLNORM_OK) {
            failed(contest, clnorm_last_error());
            return NULL;
        }
    }
    return c;
}

bool tune_contender_check(struct tune_contest *contest, struct tune_contender *contender)
{
    for (size_t i = 0; i < contest->shapes.count; i++) {
        struct bench_case *c = case_of(contest, contender, i);
        if (!c || !check_case(contest, c))
            return false;
    }
    return true;
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(const double *values, size_t count)
{
    double sorted[ROUNDS_MAX];
    memcpy(sorted, values, count * sizeof *sorted);
    qsort(sorted, count, sizeof *sorted, ascending);
    return (sorted[(count - 1) / 2] + sorted[count / 2]) / 2;
}

static bool sample(struct tune_contest *contest, struct tune_contender *contender, size_t i, enum bench_mode mode,
                   double *seconds)
{
    struct call call = {case_of(contest, contender, i), mode};
    if (!call.c)
        return false;
    const struct bench_target target = {"row", &call, run_call, finish_call, NULL};
    struct bench_samples samples = {0};
    bench_samples_clear(&samples);
    bool ok = bench_sample(&target, &contest->rotations[i], contest->calls[i][mode], REPEATS, &samples);
    *seconds = samples.best;
    bench_samples_free(&samples);
    return ok || failed(contest, call.c->error[0] ? call.c->error : "out of memory");
}

struct turns {
    double ratios[TUNE_CASES_MAX][BENCH_MODES][ROUNDS_MAX];
};

static bool take_turn(struct tune_contest *contest, struct tune_contender *contenders[2], size_t i,
                      enum bench_mode mode, size_t round, struct turns *turns, struct tune_result *result)
{
    double seconds[2];
    for (size_t k = 0; k < 2; k++) {
        size_t who = (k + round) % 2;
        if (!sample(contest, contenders[who], i, mode, &seconds[who]))
            return false;
        result->best[who][i][mode] = fmin(result->best[who][i][mode], seconds[who]);
    }
    turns->ratios[i][mode][round] = seconds[1] / seconds[0];
    return true;
}

static void sum_up(const struct tune_contest *contest, unsigned families, size_t rounds, const struct turns *turns,
                   struct tune_result *result)
{
    double sum = 0;
    size_t count = 0;
    for (size_t i = 0; i < contest->shapes.count; i++) {
        for (int mode = 0; mode < BENCH_MODES; mode++) {
            bool timed = tune_case_family(&contest->shapes.list[i]) & families;
            result->ratios[i][mode] = timed ? median(turns->ratios[i][mode], rounds) : (double)NAN;
            sum += timed ? log(result->ratios[i][mode]) : 0;
            count += timed;
        }
    }
    result->ratio = exp(sum / (double)count);
}

bool tune_compare(struct tune_contest *contest, struct tune_contender *one, struct tune_contender *other,
                  unsigned families, struct tune_limits limits, struct tune_result *result)
{
    struct tune_contender *contenders[2] = {one, other};
    struct turns turns;
    double begin = bench_now();
    for (size_t k = 0; k < 2 * (size_t)TUNE_CASES_MAX * BENCH_MODES; k++)
        (&result->best[0][0][0])[k] = INFINITY;
    for (result->rounds = 0; result->rounds < limits.rounds && result->rounds < ROUNDS_MAX;) {
        if (result->rounds > 0 && bench_now() - begin > limits.seconds)
            break;
        for (size_t i = 0; i < contest->shapes.count; i++) {
            bool timed = tune_case_family(&contest->shapes.list[i]) & families;
            for (int mode = 0; timed && mode < BENCH_MODES; mode++) {
                if (!take_turn(contest, contenders, i, mode, result->rounds, &turns, result))
                    return false;
            }
        }
        sum_up(contest, families, ++result->rounds, &turns, result);
        if (limits.may_stop && result->rounds == STOP_ROUNDS && !(result->ratio < STOP_RATIO))
            break;
    }
    return true;
}
