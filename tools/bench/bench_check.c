#include "bench_check.h"

#include "cases.h"
#include "reference.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK_VALUES ((size_t)1 << 22)

static size_t checked_channels(const struct bench_case *c)
{
    size_t most = CHECK_VALUES / c->samples_a_channel;
    most = most < 2 ? 2 : most;
    return c->channels < most ? c->channels : most;
}

/* The k-th of `checked` channels, evenly spread from the first to the last. */
static size_t chosen_channel(const struct bench_case *c, size_t k, size_t checked)
{
    return checked == 1 ? 0 : k * (c->channels - 1) / (checked - 1);
}

/* The chosen channels of a tensor as one of [n, checked, positions]. */
static void gather_tensor(const struct bench_case *c, const float *tensor, size_t checked, float *chosen)
{
    struct reference_problem whole = {.layout = (enum reference_layout)c->shape->layout,
                                      .n = (size_t)c->desc.n,
                                      .c = c->channels,
                                      .s = c->samples_a_channel / (size_t)c->desc.n};
    for (size_t n = 0; n < whole.n; n++) {
        for (size_t k = 0; k < checked; k++) {
            size_t channel = chosen_channel(c, k, checked);
            for (size_t s = 0; s < whole.s; s++)
                *chosen++ = tensor[reference_index(&whole, n, channel, s)];
        }
    }
}

static void gather_channels(const struct bench_case *c, const float *vector, size_t checked, float *chosen)
{
    for (size_t k = 0; k < checked; k++)
        chosen[k] = vector[chosen_channel(c, k, checked)];
}

static bool is_tensor(enum case_output output)
{
    return output == CASE_Y || output == CASE_DX;
}

/* What the chosen channels have of a tensor, or of a vector of one value a channel. NULL: out of memory. */
static float *chosen_values(const struct bench_case *c, const float *values, size_t checked, bool vector)
{
    float *chosen = calloc((vector ? 1 : c->samples_a_channel) * checked, sizeof(float));
    if (chosen && vector)
        gather_channels(c, values, checked, chosen);
    else if (chosen)
        gather_tensor(c, values, checked, chosen);
    return chosen;
}

/* The problem of the chosen channels alone, with its reference and tolerances. NULL: out of memory. */
static struct case_problem *make_problem(const struct bench_case *c, enum bench_mode mode, size_t checked)
{
    static const enum case_mode modes[] = {CASE_TRAIN, CASE_INFER, CASE_BACKWARD};
    struct clnorm_case chosen = CLNORM_CASE_INIT;
    chosen.layout = CLNORM_NCS;
    chosen.n = chosen.plan_n = c->desc.n;
    chosen.c = (int64_t)checked;
    chosen.spatial_dims = 1;
    chosen.spatial[0] = (int64_t)c->samples_a_channel / c->desc.n;
    chosen.mode = modes[mode];
    chosen.eps = c->desc.eps;
    chosen.omit = CASE_BIT(CASE_MEAN) | CASE_BIT(CASE_VAR) | CASE_BIT(CASE_RSTD);
    struct case_inputs inputs = {.x = chosen_values(c, c->first_x, checked, false),
                                 .weight = chosen_values(c, c->weight, checked, true),
                                 .bias = chosen_values(c, c->bias, checked, true),
                                 .running_mean = chosen_values(c, c->running_mean, checked, true),
                                 .running_var = chosen_values(c, c->running_var, checked, true)};
    if (mode == BENCH_BACKWARD)
        inputs.dy = chosen_values(c, c->first_dy, checked, false);
    return case_prepare_given(&chosen, &inputs);
}

static clnorm_status read_output(const struct bench_case *c, enum case_output output, float *values)
{
    clnorm_memory *parameters = c->parameters;
    size_t bytes = c->channels * sizeof(float);
    switch (output) {
    case CASE_RUNNING_MEAN:
        return clnorm_memory_read(parameters, bench_parameter_offset(c, BENCH_RUNNING_MEAN), values, bytes);
    case CASE_RUNNING_VAR:
        return clnorm_memory_read(parameters, bench_parameter_offset(c, BENCH_RUNNING_VAR), values, bytes);
    case CASE_DWEIGHT:
        return clnorm_memory_read(parameters, bench_parameter_offset(c, BENCH_DWEIGHT), values, bytes);
    case CASE_DBIAS:
        return clnorm_memory_read(parameters, bench_parameter_offset(c, BENCH_DBIAS), values, bytes);
    default:
        return clnorm_memory_read(c->y, 0, values, c->elements * sizeof(float));
    }
}

static bool compare(const struct bench_case *c, const struct case_problem *p, enum case_output output,
                    const float *chosen, char error[512])
{
    const size_t checked = (size_t)case_problem_case(p)->c;
    for (size_t i = 0; i < case_output_count(p, output); i++) {
        size_t k = case_part(p, output, i);
        double want = case_reference(p, output)[i], tolerance = case_tolerance(p, output)[k];
        if (!(fabs((double)chosen[i] - want) <= tolerance)) {
            snprintf(error, 512, "%s of channel %zu is %.9g where the fp64 reference has %.9g, off by more than %.3g",
                     case_output_name(output), chosen_channel(c, k, checked), (double)chosen[i], want, tolerance);
            return false;
        }
    }
    return true;
}

static bool check_output(struct bench_case *c, const struct case_problem *p, enum case_output output, char error[512])
{
    float *values = malloc((is_tensor(output) ? c->elements : c->channels) * sizeof *values);
    clnorm_status status = values ? read_output(c, output, values) : CLNORM_OK;
    float *chosen = NULL;
    if (values && status == CLNORM_OK)
        chosen = chosen_values(c, values, (size_t)case_problem_case(p)->c, !is_tensor(output));
    bool ok = chosen && compare(c, p, output, chosen, error);
    if (!chosen)
        snprintf(error, 512, "reading %s back: %s", case_output_name(output),
                 status == CLNORM_OK ? "out of memory" : clnorm_last_error());
    free(values);
    free(chosen);
    return ok;
}

/* The call on set 0, with the parameters as they were at first. */
static bool run_once(struct bench_case *c, enum bench_mode mode)
{
    c->status = clnorm_memory_write(c->parameters, 0, c->weight, c->channels * 4 * sizeof(float));
    if (c->status != CLNORM_OK) {
        snprintf(c->error, sizeof c->error, "%s", clnorm_last_error());
        return false;
    }
    return (mode != BENCH_BACKWARD || bench_case_call(c, BENCH_TRAIN, 0)) && bench_case_call(c, mode, 0) &&
           bench_case_finish(c);
}

bool bench_check(struct bench_case *c, enum bench_mode mode, size_t *checked, char error[512])
{
    *checked = checked_channels(c);
    struct case_problem *p = make_problem(c, mode, *checked);
    bool ok = p != NULL;
    if (!ok) {
        snprintf(error, 512, "out of memory for the fp64 reference");
    } else if (!run_once(c, mode)) {
        snprintf(error, 512, "%s", c->error);
        ok = false;
    }
    for (int output = 0; ok && output < CASE_OUTPUTS; output++)
        ok = !case_output_count(p, output) || check_output(c, p, output, error);
    case_problem_free(p);
    return ok;
}
