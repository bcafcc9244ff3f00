/* Judges a run: every output against the reference and against the CPU path, everything else for being unchanged. */
#include "run.h"

#include <float.h>
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

static bool same_bits(float a, float b)
{
    uint32_t bits[2];
    memcpy(&bits[0], &a, sizeof a);
    memcpy(&bits[1], &b, sizeof b);
    return bits[0] == bits[1];
}

/* One unit in the last place of the float nearest to value. */
static double ulp_of(double value)
{
    const double magnitude = fabs(value);
    if (!(magnitude >= FLT_MIN))
        return 0x1p-149;
    return ldexp(1, ilogb(magnitude) - (FLT_MANT_DIG - 1));
}

/* |got − want| over tolerance: 0 where it is off by nothing, infinite for a NaN, another kind of value, or a miss where
 * nothing may be missed. What is not finite must be of the same kind. */
static double excess(double got, double want, double tolerance)
{
    if (isnan(want))
        return isnan(got) ? 0 : INFINITY;
    if (isinf(want))
        return got == want ? 0 : INFINITY;
    if (!isfinite(got))
        return INFINITY;
    const double off = fabs(got - want);
    return off == 0 ? 0 : tolerance > 0 ? off / tolerance : INFINITY;
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

static double spoil(const struct case_injection *injection, double got, double want, double tolerance)
{
    if (injection->nan)
        return NAN;
    const double away = got < want ? -1 : 1;
    return tolerance > 0 ? got + away * 2 * tolerance : got + away * ulp_of(got);
}

static void judge_output(const struct case_run *run, enum case_output output, const struct case_injection *injection,
                         const struct case_run *cpu, struct case_result *result)
{
    const struct case_problem *p = run->problem;
    struct case_error *e = &result->outputs[output];
    const size_t count = p->count[output], parts = case_parts(p, output);
    const size_t spoiled = injection && injection->output == output ? injection_place(p, output) : count;
    e->present = true;
    e->pass = true;
    e->parts = parts;
    for (size_t i = 0; i < count; i++) {
        const size_t part = case_part(p, output, i);
        const double want = p->reference[output][i], tolerance = p->tolerance[output][part];
        double got = run->value[output][i];
        if (i == spoiled)
            got = spoil(injection, got, want, tolerance);
        const double off = excess(got, want, tolerance);
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
            e->ulp = fmax(e->ulp, fabs(got - want) / ulp_of(want));
        if (cpu) {
            const double apart = excess(got, cpu->value[output][i], 2 * tolerance);
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
            if (case_is_fill(slot->back[k]) && !slot->some) {
                fail(result, "%s[%zu] was not written", case_slot_name(i), k - begin);
                return;
            }
        } else if (!same_bits(slot->back[k], slot->image[k])) {
            fail(result,
                 "%s: the float at %td was overwritten with %.9g (its buffer has %zu, of which the call has %zu)",
                 case_slot_name(i), (ptrdiff_t)k - (ptrdiff_t)begin, (double)slot->back[k], slot->floats,
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

/* May the NaN or Inf change this value? What is of its statistics group, or of its channel, may; of the gradients of weights that
 * many groups share, what is no number. But an Inf makes RMS norm's rstd 0, so that dweight stays one. */
static bool is_touched(const struct case_problem *p, enum case_output output, size_t i)
{
    if (output == CASE_DWEIGHT && p->c.norm == CLNORM_RMS && p->c.data == CASE_DATA_INF_MIDDLE)
        return true;
    if (output == CASE_DWEIGHT || output == CASE_DBIAS)
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
