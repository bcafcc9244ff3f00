#include "bench_check.h"

#include "../../tests/cases/internal.h"

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
    struct reference_problem whole = {(enum reference_layout)c->shape->layout, (size_t)c->desc.n, c->channels,
                                      c->samples_a_channel / (size_t)c->desc.n, 0};
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

static bool add_input(struct case_problem *p, const struct bench_case *c, enum case_input input, const float *values)
{
    bool tensor = input == INPUT_X || input == INPUT_DY;
    p->input[input] = malloc((tensor ? p->elements : p->shape.c) * sizeof(float));
    if (!p->input[input])
        return false;
    if (tensor)
        gather_tensor(c, values, p->shape.c, p->input[input]);
    else
        gather_channels(c, values, p->shape.c, p->input[input]);
    return true;
}

/* The problem of the chosen channels alone, with its reference and tolerances. NULL: out of memory. */
static struct case_problem *make_problem(const struct bench_case *c, enum bench_mode mode, size_t checked)
{
    static const enum case_mode modes[] = {CASE_TRAIN, CASE_INFER, CASE_BACKWARD};
    struct case_problem *p = calloc(1, sizeof *p);
    if (!p)
        return NULL;
    p->c = (struct clnorm_case)CLNORM_CASE_INIT;
    p->c.layout = CLNORM_NCS;
    p->c.n = p->c.plan_n = c->desc.n;
    p->c.c = (int64_t)checked;
    p->c.spatial_dims = 1;
    p->c.spatial[0] = (int64_t)c->samples_a_channel / c->desc.n;
    p->c.mode = modes[mode];
    p->c.eps = c->desc.eps;
    p->c.omit = CASE_BIT(CASE_MEAN) | CASE_BIT(CASE_VAR) | CASE_BIT(CASE_RSTD);
    p->shape = (struct reference_problem){REFERENCE_NCS, (size_t)c->desc.n, checked, (size_t)p->c.spatial[0],
                                          (double)c->desc.eps};
    p->m = c->samples_a_channel;
    p->elements = p->m * checked;
    p->poisoned = NO_CHANNEL;
    bool ok = add_input(p, c, INPUT_X, c->first_x) && add_input(p, c, INPUT_WEIGHT, c->weight);
    if (mode == BENCH_BACKWARD)
        ok = ok && add_input(p, c, INPUT_DY, c->first_dy);
    else
        ok = ok && add_input(p, c, INPUT_BIAS, c->bias) && add_input(p, c, INPUT_RUNNING_MEAN, c->running_mean) &&
             add_input(p, c, INPUT_RUNNING_VAR, c->running_var);
    if (!ok || !problem_expect(p)) {
        case_problem_free(p);
        return NULL;
    }
    return p;
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
    for (size_t i = 0; i < p->count[output]; i++) {
        size_t k = is_tensor(output) ? i / p->shape.s % p->shape.c : i;
        double want = p->reference[output][i], tolerance = p->tolerance[output][k];
        if (!(fabs((double)chosen[i] - want) <= tolerance)) {
            snprintf(error, 512, "%s of channel %zu is %.9g where the fp64 reference has %.9g, off by more than %.3g",
                     case_output_name(output), chosen_channel(c, k, p->shape.c), (double)chosen[i], want, tolerance);
            return false;
        }
    }
    return true;
}

static bool check_output(struct bench_case *c, const struct case_problem *p, enum case_output output, char error[512])
{
    float *values = malloc((is_tensor(output) ? c->elements : c->channels) * sizeof *values);
    float *chosen = malloc(p->count[output] * sizeof *chosen);
    clnorm_status status = values && chosen ? read_output(c, output, values) : CLNORM_E_NO_MEMORY;
    bool ok = status == CLNORM_OK;
    if (!ok) {
        snprintf(error, 512, "reading %s back: %s", case_output_name(output),
                 values && chosen ? clnorm_last_error() : "out of memory");
    } else {
        if (is_tensor(output))
            gather_tensor(c, values, p->shape.c, chosen);
        else
            gather_channels(c, values, p->shape.c, chosen);
        ok = compare(c, p, output, chosen, error);
    }
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
