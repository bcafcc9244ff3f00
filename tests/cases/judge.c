/* Judges a run: every output against the reference and against the CPU path, everything else for being unchanged. */
#include "run.h"

#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

/* The first failure is told. */
static void fail(struct case_result *result, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void fail(struct case_result *result, const char *format, ...)
{
    if (result->pass) {
        va_list list;
        va_start(list, format);
        vsnprintf(result->message, sizeof result->message, format, list);
        va_end(list);
    }
    result->pass = false;
}

/* How far apart two values of the type must have been at least before they were rounded to it; 0 where both may have been the same. */
static double apart(clnorm_dtype dtype, double got, double other)
{
    double low[2], high[2];
    reference_preimage((enum reference_dtype)dtype, got, &low[0], &high[0]);
    reference_preimage((enum reference_dtype)dtype, other, &low[1], &high[1]);
    return fmax(0, fmax(low[0] - high[1], low[1] - high[0]));
}

/* By how much got misses want, over tolerance: 0 where it is off by nothing, infinite for a NaN, another kind of value, or a miss where
 * nothing may be missed. What is not finite must be of the same kind. In 16 bits it is the value before its rounding that may be off by
 * the tolerance: rounding keeps the order, so `got` tells where that value lay at least, and an Inf that it was beyond the largest
 * one. Where the tolerance is 0 got must be want, rounded. */
static double excess(clnorm_dtype dtype, double got, double want, double tolerance)
{
    if (isnan(want) || isnan(got))
        return isnan(got) && isnan(want) ? 0 : INFINITY;
    if (isinf(want) || (isinf(got) && dtype == CLNORM_F32))
        return got == want ? 0 : INFINITY;
    if (dtype == CLNORM_F32) {
        const double off = fabs(got - want);
        return off == 0 ? 0 : tolerance > 0 ? off / tolerance : INFINITY;
    }
    if (tolerance == 0)
        return got == reference_round((enum reference_dtype)dtype, want) ? 0 : INFINITY;
    double low, high;
    reference_preimage((enum reference_dtype)dtype, got, &low, &high);
    return fmax(0, fmax(low - want, want - high)) / tolerance;
}

/* The same between two devices' outputs, both rounded. */
static double excess_of_two(clnorm_dtype dtype, double got, double other, double tolerance)
{
    if (dtype == CLNORM_F32 || isnan(got) || isnan(other))
        return excess(CLNORM_F32, got, other, tolerance);
    const double off = apart(dtype, got, other);
    return got == other ? 0 : tolerance > 0 ? off / tolerance : INFINITY;
}

/* By given statistics the double backward makes an Inf in x an Inf or a NaN: which of them is not promised, but that it is one of them. */
static bool same_kind(const struct case_problem *p, double got, double want)
{
    return p->c.mode == CASE_DOUBLE_GIVEN && !isfinite(got) && !isfinite(want);
}

/* The value of an output to spoil: the first finite one from a place that the seed gives. -> count: none. */
static size_t injection_place(const struct case_problem *p, enum case_output output)
{
    const size_t count = p->count[output];
    for (size_t k = 0; k < count; k++) {
        size_t i = (size_t)((p->c.seed * 2654435761u + count / 3 + k) % count);
        if (isfinite(p->reference[output][i]))
            return i;
    }
    return count;
}

static double spoil(const struct case_injection *injection, clnorm_dtype dtype, double got, double want,
                    double tolerance)
{
    if (injection->nan)
        return NAN;
    const double away = got < want ? -1 : 1, step = reference_ulp((enum reference_dtype)dtype, got);
    if (dtype != CLNORM_F32) /* so far that rounding does not hide it */
        return reference_round((enum reference_dtype)dtype, got + away * (2 * tolerance + 2 * step));
    return tolerance > 0 ? got + away * 2 * tolerance : got + away * step;
}

static void judge_output(const struct case_run *run, enum case_output output, const struct case_injection *injection,
                         const struct case_run *cpu, struct case_result *result)
{
    const struct case_problem *p = run->problem;
    struct case_error *e = &result->outputs[output];
    const size_t count = p->count[output], parts = case_parts(p, output);
    const clnorm_dtype dtype = case_output_dtype(&p->c, output);
    const size_t spoiled = injection && injection->output == output ? injection_place(p, output) : count;
    e->present = true;
    e->pass = true;
    e->parts = parts;
    for (size_t i = 0; i < count; i++) {
        const size_t part = case_part(p, output, i);
        const double want = p->reference[output][i], tolerance = case_allowed(p, output, i);
        double got = run->value[output][i];
        if (i == spoiled)
            got = spoil(injection, dtype, got, want, tolerance);
        const double off = same_kind(p, got, want) ? 0 : excess(dtype, got, want, tolerance);
        float *cell = &e->strip[part * CASE_STRIP / parts];
        if (!(off <= *cell))
            *cell = (float)off;
        if (i == 0 || off > e->worst) {
            e->worst = off;
            e->index = i;
            e->part = part;
            e->got = got;
            e->want = want;
            e->tolerance = tolerance;
        }
        e->finite += isfinite(want) != 0;
        if (isfinite(got) && isfinite(want))
            e->ulp = fmax(e->ulp, fabs(got - want) / reference_ulp((enum reference_dtype)dtype, want));
        if (cpu && !same_kind(p, got, cpu->value[output][i])) {
            const double apart = excess_of_two(dtype, got, cpu->value[output][i], 2 * tolerance);
            if (apart > e->cpu_worst)
                e->cpu_worst = apart;
        }
    }
    if (!(e->worst <= 1)) {
        e->pass = false;
        fail(result, "%s[%zu] (%s %zu) is %.9g instead of %.17g: off by %.3g times its tolerance %.3g",
             case_output_name(output), e->index, case_part_name(&p->c, output), e->part, e->got, e->want, e->worst,
             e->tolerance);
    } else if (!(e->cpu_worst <= 1)) {
        e->pass = false;
        fail(result, "%s is off the CPU path by %.3g times the sum of both tolerances", case_output_name(output),
             e->cpu_worst);
    }
}

/* What no call may write: guards, inputs, samples beyond those of the call. What it must: every element of an output. */
static void judge_slot(const struct case_run *run, enum case_slot i, struct case_result *result)
{
    const struct slot *slot = &run->slots[i];
    const size_t begin = slot->before, end = slot->before + slot->written;
    for (size_t k = 0; k < slot->total; k++) {
        if (k >= begin && k < end) {
            if (slot_is_fill(slot, slot->back, k) && !slot->some) {
                fail(result, "%s[%zu] was not written", case_slot_name(i), k - begin);
                return;
            }
        } else if (!slot_is_unchanged(slot, k)) {
            fail(result,
                 "%s: the element at %td was overwritten with %.9g (its buffer has %zu, of which the call has %zu)",
                 case_slot_name(i), (ptrdiff_t)k - (ptrdiff_t)begin, slot_get(slot, slot->back, k), slot->count,
                 slot->written);
            return;
        }
    }
}

void case_judge(const struct case_run *run, const struct case_injection *injection, const struct case_run *cpu,
                struct case_result *result)
{
    const struct case_problem *p = run->problem;
    result->pass = true;
    result->message[0] = '\0';
    memset(result->outputs, 0, sizeof result->outputs);
    for (int o = 0; o < CASE_OUTPUTS; o++) {
        if (p->reference[o])
            judge_output(run, (enum case_output)o, injection, cpu, result);
    }
    for (int i = 0; i < SLOTS; i++) {
        if (run->slots[i].memory)
            judge_slot(run, (enum case_slot)i, result);
    }
}

/* ---- all of it ------------------------------------------------------------------------------------------------- */

static double now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6;
}

static clnorm_status run_once(const struct case_problem *p, clnorm_device *device, double *ms, struct case_run **run)
{
    clnorm_status status = case_bind(p, device, run);
    if (status == CLNORM_OK)
        status = case_enqueue_before(*run, NULL);
    if (status == CLNORM_OK)
        status = clnorm_device_finish(device);
    const double begin = now_ms();
    if (status == CLNORM_OK)
        status = case_enqueue(*run, NULL);
    if (status == CLNORM_OK)
        status = clnorm_device_finish(device);
    *ms = now_ms() - begin;
    return status == CLNORM_OK ? case_collect(*run) : status;
}

/* Does the weight have an element in the statistics group with the NaN or Inf? */
static bool weight_is_of_poisoned(const struct case_problem *p, size_t weight)
{
    for (size_t k = 0; k < reference_weight_size(&p->shape); k++) {
        if (reference_group_of(&p->shape, reference_weight_element(&p->shape, weight, k)) == p->poisoned)
            return true;
    }
    return false;
}

/* May the NaN or Inf change this value? What is of its statistics group, or of its channel, may; of the gradients of weights that
 * many groups share, what is no number. But an Inf makes RMS norm's rstd 0, so that dweight stays one; and an activation's gradient
 * may be 0 where the value before it is NaN. */
static bool is_touched(const struct case_problem *p, enum case_output output, size_t i)
{
    if (output == CASE_DWEIGHT && p->c.norm == CLNORM_RMS && p->c.data == CASE_DATA_INF_MIDDLE)
        return true;
    if ((output == CASE_DWEIGHT || output == CASE_DBIAS) && p->c.activation != CLNORM_NO_ACTIVATION)
        return weight_is_of_poisoned(p, i);
    if (output == CASE_DWEIGHT || output == CASE_DBIAS || output == CASE_G_WEIGHT)
        return !isfinite(p->reference[output][i]);
    if (output == CASE_RUNNING_MEAN || output == CASE_RUNNING_VAR)
        return i == p->poisoned % p->shape.c;
    return case_part(p, output, i) == p->poisoned;
}

/* It leaves every bit of all else as it is without. */
static void judge_untouched(const struct case_run *run, const struct case_run *clean, struct case_result *result)
{
    const struct case_problem *p = run->problem;
    for (int o = 0; o < CASE_OUTPUTS; o++) {
        const enum case_output output = (enum case_output)o;
        for (size_t i = 0; i < p->count[o]; i++) {
            const double got = run->value[o][i], want = clean->value[o][i];
            const bool same = got == want && !signbit(got) == !signbit(want);
            if (is_touched(p, output, i) || (isfinite(got) && same))
                continue;
            fail(result, "%s[%zu] (%s %zu) is %.9g, and %.9g without the NaN or Inf in %s %zu",
                 case_output_name(output), i, case_part_name(&p->c, output), case_part(p, output, i), got, want,
                 case_part_name(&p->c, CASE_Y), p->poisoned);
            result->outputs[o].pass = false;
            break;
        }
    }
}

bool case_execute(const struct case_problem *p, clnorm_device *device, const struct case_injection *injection,
                  const struct case_run *cpu, struct case_run **keep, struct case_result *result)
{
    struct case_run *run = NULL, *clean = NULL;
    memset(result, 0, sizeof *result);
    result->pass = true;
    if (keep)
        *keep = NULL;
    result->status = run_once(p, device, &result->ms, &run);
    if (result->status == CLNORM_OK && p->clean) {
        double unused;
        result->status = run_once(p->clean, device, &unused, &clean);
    }
    if (result->status == CLNORM_OK) {
        case_judge(run, injection, cpu, result);
        if (clean)
            judge_untouched(run, clean, result);
    } else {
        const char *sentence = clnorm_last_error();
        fail(result, "%s: %s", clnorm_status_name(result->status),
             sentence[0] ? sentence : clnorm_status_text(result->status));
    }
    case_run_free(clean);
    if (keep && result->status == CLNORM_OK)
        *keep = run;
    else
        case_run_free(run);
    return result->pass;
}
