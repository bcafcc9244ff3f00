#include "bench_check.h"
#include "types.h"

#include "cases.h"
#include "reference.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK_VALUES ((size_t)1 << 22)

static bool is_of_rows(const struct bench_case *c)
{
    return norm_is_of_rows(c->desc.norm);
}

/* Channels of a unit. */
static size_t width_of(const struct bench_case *c)
{
    return c->desc.norm == CLNORM_GROUP ? (size_t)(c->desc.c / c->desc.groups) : 1;
}

size_t bench_check_units(const struct bench_case *c)
{
    return is_of_rows(c) ? (size_t)bench_shape_groups(c->shape) : (size_t)c->desc.c / width_of(c);
}

static size_t checked_units(const struct bench_case *c)
{
    const size_t units = bench_check_units(c);
    size_t most = CHECK_VALUES / (c->elements / units);
    most = most < 2 ? 2 : most;
    return is_of_rows(c) || units < most ? units : most;
}

/* Channel k of the chosen ones, whose units are evenly spread from the first to the last. */
static size_t chosen_channel(const struct bench_case *c, size_t k, size_t checked)
{
    const size_t width = width_of(c), unit = k / width;
    return (checked == 1 ? 0 : unit * (bench_check_units(c) - 1) / (checked - 1)) * width + k % width;
}

/* The chosen channels of a tensor as one of [n, chosen, positions]. */
static void gather_tensor(const struct bench_case *c, const float *tensor, size_t checked, float *chosen)
{
    struct reference_problem whole = {.layout = (enum reference_layout)c->shape->layout,
                                      .n = (size_t)c->desc.n,
                                      .c = (size_t)c->desc.c,
                                      .s = c->elements / (size_t)(c->desc.n * c->desc.c)};
    for (size_t n = 0; n < whole.n; n++) {
        for (size_t k = 0; k < checked * width_of(c); k++) {
            size_t channel = chosen_channel(c, k, checked);
            for (size_t s = 0; s < whole.s; s++)
                *chosen++ = tensor[reference_index(&whole, n, channel, s)];
        }
    }
}

static void gather_channels(const struct bench_case *c, const float *vector, size_t checked, float *chosen)
{
    for (size_t k = 0; k < checked * width_of(c); k++)
        chosen[k] = vector[chosen_channel(c, k, checked)];
}

static bool is_tensor(enum case_output output)
{
    return output == CASE_Y || output == CASE_DX;
}

/* What the chosen units have of a tensor, or of a vector of one value a weight. NULL: out of memory. */
static float *chosen_values(const struct bench_case *c, const float *values, size_t checked, bool vector)
{
    const size_t all = vector ? c->weights : c->elements;
    const size_t count = is_of_rows(c) ? all : all / bench_check_units(c) * checked;
    float *chosen = calloc(count, sizeof(float));
    if (chosen && is_of_rows(c))
        memcpy(chosen, values, count * sizeof(float));
    else if (chosen && vector)
        gather_channels(c, values, checked, chosen);
    else if (chosen)
        gather_tensor(c, values, checked, chosen);
    return chosen;
}

/* The problem of the chosen units alone. */
static struct clnorm_case case_of(const struct bench_case *c, enum bench_mode mode, size_t checked)
{
    static const enum case_mode modes[] = {CASE_TRAIN, CASE_INFER, CASE_BACKWARD};
    struct clnorm_case chosen = CLNORM_CASE_INIT;
    chosen.norm = c->desc.norm;
    chosen.n = chosen.plan_n = c->desc.n;
    chosen.mode = modes[mode];
    chosen.eps = c->desc.eps;
    chosen.dtype = c->desc.dtype;
    chosen.y_dtype = c->desc.y_dtype;
    chosen.activation = c->desc.activation;
    chosen.residual = c->desc.residual;
    chosen.virtual_batch = c->desc.virtual_batch;
    chosen.lengths = c->desc.lengths ? CASE_LENGTHS_RAGGED : CASE_NO_LENGTHS;
    chosen.from_y = c->shape->from_y && mode == BENCH_BACKWARD;
    chosen.by = c->shape->mask ? CASE_BY_MASK : CASE_BY_INPUTS;
    chosen.omit = CASE_BIT(CASE_MEAN) | CASE_BIT(CASE_VAR) | CASE_BIT(CASE_RSTD);
    if (is_of_rows(c)) {
        chosen.layout = c->desc.layout;
        chosen.c = c->desc.c;
        chosen.spatial_dims = c->desc.spatial_dims;
        memcpy(chosen.spatial, c->desc.spatial, sizeof chosen.spatial);
        chosen.normalized_dims = c->desc.normalized_dims;
    } else {
        chosen.layout = CLNORM_NCS;
        chosen.c = (int64_t)(checked * width_of(c));
        chosen.spatial_dims = 1;
        chosen.spatial[0] = (int64_t)c->elements / (c->desc.n * c->desc.c);
        chosen.groups = c->desc.norm == CLNORM_GROUP ? (int64_t)checked : 0;
    }
    return chosen;
}

/* Widened from the end, for the bits lie where the values go. */
static clnorm_status read_tensor(const struct bench_case *c, clnorm_memory *tensor, float *values)
{
    const clnorm_status status = clnorm_memory_read(tensor, 0, values, (size_t)bench_shape_bytes(c->shape));
    for (size_t i = c->elements; c->desc.dtype != CLNORM_F32 && i-- > 0;) {
        uint16_t bits;
        memcpy(&bits, (const char *)values + i * sizeof bits, sizeof bits);
        values[i] = (float)reference_widen((enum reference_dtype)c->desc.dtype, bits);
    }
    return status;
}

/* y as the call that was checked had it. NULL: out of memory, or it cannot be read. */
static float *chosen_y(const struct bench_case *c, size_t checked)
{
    float *values = malloc(c->elements * sizeof *values), *chosen = NULL;
    if (values && read_tensor(c, c->y, values) == CLNORM_OK)
        chosen = chosen_values(c, values, checked, false);
    free(values);
    return chosen;
}

/* NULL: out of memory. */
static int32_t *lengths_of(const struct bench_case *c)
{
    int32_t *lengths = malloc((size_t)c->desc.n * sizeof *lengths);
    for (int64_t n = 0; lengths && n < c->desc.n; n++)
        lengths[n] = bench_shape_length(c->shape, n);
    return lengths;
}

/* With its reference and tolerances. NULL: out of memory. */
static struct case_problem *make_problem(const struct bench_case *c, enum bench_mode mode, size_t checked)
{
    const struct clnorm_case chosen = case_of(c, mode, checked);
    float *y = chosen.from_y ? chosen_y(c, checked) : NULL;
    int32_t *lengths = c->desc.lengths ? lengths_of(c) : NULL;
    if ((chosen.from_y && !y) || (c->desc.lengths && !lengths)) {
        free(y);
        free(lengths);
        return NULL;
    }
    struct case_inputs inputs = {.y = y,
                                 .lengths = lengths,
                                 .x = chosen_values(c, c->first_x, checked, false),
                                 .weight = chosen_values(c, c->weight, checked, true),
                                 .bias = chosen_values(c, c->bias, checked, true),
                                 .running_mean = chosen_values(c, c->running_mean, checked, true),
                                 .running_var = chosen_values(c, c->running_var, checked, true)};
    if (mode == BENCH_BACKWARD)
        inputs.dy = chosen_values(c, c->first_dy, checked, false);
    if (c->desc.residual != CLNORM_NO_RESIDUAL)
        inputs.z = chosen_values(c, c->first_dy, checked, false);
    return case_prepare_given(&chosen, &inputs);
}

static clnorm_status read_output(const struct bench_case *c, enum case_output output, float *values)
{
    clnorm_memory *parameters = c->parameters;
    size_t bytes = c->weights * sizeof(float);
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
        return read_tensor(c, output == CASE_DX && c->shape->from_y ? c->x : c->y, values);
    }
}

/* Where value i of an output of the problem is in the case: "channel 3", "row 3", "weight 3". */
static void place_of(const struct bench_case *c, const struct case_problem *p, enum case_output output, size_t i,
                     size_t checked, char place[64])
{
    const struct clnorm_case *chosen = case_problem_case(p);
    if (is_of_rows(c)) {
        snprintf(place, 64, "%s %zu", case_part_name(chosen, output), case_part(p, output, i));
        return;
    }
    const size_t k = is_tensor(output) ? i / (size_t)chosen->spatial[0] % (size_t)chosen->c : i;
    snprintf(place, 64, "channel %zu", chosen_channel(c, k, checked));
}

static bool compare(const struct bench_case *c, const struct case_problem *p, enum case_output output,
                    const float *chosen, size_t checked, char error[512])
{
    for (size_t i = 0; i < case_output_count(p, output); i++) {
        double want = case_reference(p, output)[i], tolerance = case_allowed(p, output, i);
        if (is_tensor(output) && c->desc.dtype != CLNORM_F32) /* and rounded once */
            tolerance += reference_ulp((enum reference_dtype)c->desc.dtype, fabs(want) + tolerance) / 2;
        if (!(fabs((double)chosen[i] - want) <= tolerance)) {
            char place[64];
            place_of(c, p, output, i, checked, place);
            snprintf(error, 512, "%s of %s is %.9g where the fp64 reference has %.9g, off by more than %.3g",
                     case_output_name(output), place, (double)chosen[i], want, tolerance);
            return false;
        }
    }
    return true;
}

static bool check_output(struct bench_case *c, const struct case_problem *p, enum case_output output, size_t checked,
                         char error[512])
{
    float *values = malloc((is_tensor(output) ? c->elements : c->weights) * sizeof *values);
    clnorm_status status = values ? read_output(c, output, values) : CLNORM_OK;
    float *chosen = NULL;
    if (values && status == CLNORM_OK)
        chosen = chosen_values(c, values, checked, !is_tensor(output));
    bool ok = chosen && compare(c, p, output, chosen, checked, error);
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
    c->status = clnorm_memory_write(c->parameters, 0, c->weight, c->weights * 4 * sizeof(float));
    if (c->status != CLNORM_OK) {
        snprintf(c->error, sizeof c->error, "%s", clnorm_last_error());
        return false;
    }
    return (mode != BENCH_BACKWARD || bench_case_call(c, BENCH_TRAIN, 0)) && bench_case_call(c, mode, 0) &&
           bench_case_finish(c);
}

bool bench_check(struct bench_case *c, enum bench_mode mode, size_t *checked, char error[512])
{
    *checked = checked_units(c);
    if (!run_once(c, mode)) {
        snprintf(error, 512, "%s", c->error);
        return false;
    }
    struct case_problem *p = make_problem(c, mode, *checked);
    bool ok = p != NULL;
    if (!ok)
        snprintf(error, 512, "out of memory for the fp64 reference");
    for (int output = 0; ok && output < CASE_OUTPUTS; output++)
        ok = !case_output_count(p, output) || check_output(c, p, output, *checked, error);
    case_problem_free(p);
    return ok;
}
