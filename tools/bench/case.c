#include "case.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *bench_mode_name(enum bench_mode mode)
{
    static const char *const names[] = {"train", "infer", "backward"};
    return names[mode];
}

/* A bit an element. */
static uint64_t mask_bytes(const struct bench_shape *shape)
{
    return ((uint64_t)bench_shape_elements(shape) + 7) / 8;
}

uint64_t bench_mode_bytes(enum bench_mode mode, const struct bench_shape *shape)
{
    static const uint64_t read[] = {2, 1, 4};
    const uint64_t mask = shape->mask ? mask_bytes(shape) : 0;
    return bench_shape_valid_bytes(shape) * (read[mode] + (shape->residual != CLNORM_NO_RESIDUAL)) +
           bench_shape_bytes(shape) +
           (mode == BENCH_BACKWARD ? 2 * mask
            : mask                 ? bench_shape_bytes(shape) + mask
                                   : 0);
}

enum bench_stream bench_mode_stream(enum bench_mode mode, const struct bench_shape *shape)
{
    return mode == BENCH_BACKWARD || shape->residual != CLNORM_NO_RESIDUAL ? BENCH_ADD : BENCH_COPY;
}

bool bench_mode_is_of(enum bench_mode mode, const struct bench_shape *shape)
{
    if (mode == BENCH_BACKWARD)
        return shape->residual == CLNORM_NO_RESIDUAL;
    return mode != BENCH_INFER || norm_has_running(shape->norm.norm);
}

/* Every set begins on a page of its own where it fills one, else on a cache line of any device. */
static size_t stride_of(size_t elements)
{
    size_t unit = elements >= 1024 ? 1024 : 64;
    return (elements + unit - 1) / unit * unit;
}

/* Weight … dbias, and a state of three values a statistics group; more than the state's size would be an error of make_memories. */
static size_t parameter_stride_of(const struct bench_shape *shape)
{
    return stride_of((size_t)bench_shape_weights(shape) * BENCH_STATE + 3 * (size_t)bench_shape_groups(shape));
}

size_t bench_set_count(const struct bench_shape *shape, size_t cache_bytes)
{
    uint64_t pair = stride_of(bench_shape_words(shape)) * 2 * sizeof(float);
    return (size_t)((uint64_t)cache_bytes * 4 / pair) + 1;
}

uint64_t bench_case_largest(const struct bench_shape *shape, size_t sets)
{
    size_t tensor = stride_of(bench_shape_words(shape));
    size_t parameters = parameter_stride_of(shape);
    return (uint64_t)sets * (tensor > parameters ? tensor : parameters) * sizeof(float);
}

uint64_t bench_case_bytes(const struct bench_shape *shape, size_t sets, bool host_streams)
{
    uint64_t tensor = stride_of(bench_shape_words(shape)) * sizeof(float);
    uint64_t whole = (uint64_t)bench_shape_elements(shape) * sizeof(float); /* the host's are f32 */
    uint64_t parameters = parameter_stride_of(shape) * sizeof(float);
    /* Of rows the check takes all, with copies in f32 and in double. */
    uint64_t check = (norm_is_of_rows(shape->norm.norm) ? 16 : 3) * whole,
             limits = host_streams ? sets * 3 * tensor : 0;
    return sets * (3 * tensor + parameters) + (check > limits ? check : limits);
}

/* Values about 0 with variance 1, no two channels or sets of neighbours alike: the sum of four uniform numbers of a
 * multiplicative generator. */
static void fill(float *values, size_t count, uint64_t seed)
{
    uint64_t state = seed * 2 + 1;
    for (size_t i = 0; i < count; i++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        uint64_t bits = state ^ state >> 32;
        float sum =
            (float)(bits & 0xffff) + (float)(bits >> 16 & 0xffff) + (float)(bits >> 32 & 0xffff) + (float)(bits >> 48);
        values[i] = (sum - 2 * 65535.0f) * (1.7320508f / 65535.0f);
    }
}

size_t bench_input_count(const struct bench_shape *shape)
{
    return 2 * (size_t)bench_shape_elements(shape) + 4 * (size_t)bench_shape_weights(shape);
}

static bool make_inputs(struct bench_case *c, float *given)
{
    c->inputs = given ? given : malloc(bench_input_count(c->shape) * sizeof(float));
    if (!c->inputs)
        return false;
    c->first_x = c->inputs;
    c->first_dy = c->first_x + c->elements;
    c->weight = c->first_dy + c->elements;
    c->bias = c->weight + c->weights;
    c->running_mean = c->bias + c->weights;
    c->running_var = c->running_mean + c->weights;
    if (given)
        return true;
    fill(c->first_x, c->elements, 1);
    fill(c->first_dy, c->elements, 2);
    fill(c->weight, c->weights * 4, 3);
    for (size_t i = 0; i < c->weights; i++)
        c->running_var[i] = 0.5f + c->running_var[i] * c->running_var[i];
    return true;
}

size_t bench_parameter_offset(const struct bench_case *c, enum bench_parameter parameter)
{
    return (size_t)parameter * c->weights * sizeof(float);
}

static bool keep(struct bench_case *c, clnorm_status status)
{
    if (status == CLNORM_OK)
        return true;
    c->status = status;
    snprintf(c->error, sizeof c->error, "%s", clnorm_last_error());
    return false;
}

/* values at the begin of every set. */
static bool write_sets(struct bench_case *c, clnorm_memory *memory, size_t stride, const void *values, size_t count)
{
    void *pointer = NULL;
    if (!keep(c, clnorm_memory_map(memory, 0, c->set_count * stride * sizeof(float), &pointer)))
        return false;
    for (size_t set = 0; set < c->set_count; set++)
        memcpy((float *)pointer + set * stride, values, count * sizeof(float));
    return keep(c, clnorm_memory_unmap(memory));
}

/* f32 of moderate size to the nearest value of f16: its digits are kept by rounding a number scaled to 2^10 and more. */
static uint16_t to_f16(float value)
{
    int exponent;
    frexpf(value, &exponent);
    if (value == 0 || exponent < -13) /* below the normal values, in units of 2^-24 */
        return (uint16_t)((signbit(value) ? 0x8000 : 0) + (int)nearbyintf(fabsf(value) * 0x1p24f));
    const int digits = (int)nearbyintf(ldexpf(fabsf(value), 11 - exponent));
    return (uint16_t)((signbit(value) ? 0x8000 : 0) + ((exponent + 13) << 10) + digits);
}

static uint16_t to_bf16(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

/* A tensor of the case's type at the begin of every set. */
static bool write_tensor(struct bench_case *c, clnorm_memory *memory, const float *values)
{
    if (c->desc.dtype == CLNORM_F32)
        return write_sets(c, memory, c->stride, values, c->elements);
    const size_t words = bench_shape_words(c->shape);
    uint16_t *narrow = calloc(words, 2 * sizeof *narrow); /* words: of floats */
    for (size_t i = 0; narrow && i < c->elements; i++)
        narrow[i] = c->desc.dtype == CLNORM_F16 ? to_f16(values[i]) : to_bf16(values[i]);
    const bool ok = narrow && write_sets(c, memory, c->stride, narrow, words);
    free(narrow);
    return ok;
}

static bool make_lengths(struct bench_case *c)
{
    const size_t bytes = (size_t)c->desc.n * sizeof(int32_t);
    if (!c->desc.lengths)
        return true;
    int32_t *lengths = malloc(bytes);
    for (int64_t n = 0; lengths && n < c->desc.n; n++)
        lengths[n] = bench_shape_length(c->shape, n);
    const bool ok = lengths && keep(c, clnorm_memory_create(c->device, bytes, &c->lengths)) &&
                    keep(c, clnorm_memory_write(c->lengths, 0, lengths, bytes));
    free(lengths);
    return ok;
}

static bool make_mask(struct bench_case *c)
{
    c->mask_stride = stride_of(clnorm_plan_mask_bytes(c->plan));
    return c->mask_stride == 0 || keep(c, clnorm_memory_create(c->device, c->set_count * c->mask_stride, &c->mask));
}

/* A call of backward on another set than the first goes by the first's mask: all sets have the same x. */
static bool spread_mask(struct bench_case *c)
{
    const size_t bytes = clnorm_plan_mask_bytes(c->plan);
    char *all = NULL;
    if (!c->mask)
        return true;
    if (!keep(c, clnorm_memory_map(c->mask, 0, c->set_count * c->mask_stride, (void **)&all)))
        return false;
    for (size_t set = 1; set < c->set_count; set++)
        memcpy(all + set * c->mask_stride, all, bytes);
    return keep(c, clnorm_memory_unmap(c->mask));
}

static bool make_memories(struct bench_case *c)
{
    size_t bytes = c->set_count * c->stride * sizeof(float);
    size_t parameters = bench_parameter_offset(c, BENCH_STATE) + clnorm_plan_state_bytes(c->plan);
    if (parameters > c->parameter_stride * sizeof(float)) {
        snprintf(c->error, sizeof c->error, "the state of the plan has %zu bytes, more than bench allows for",
                 clnorm_plan_state_bytes(c->plan));
        return false;
    }
    parameters = c->set_count * c->parameter_stride * sizeof(float);
    return keep(c, clnorm_memory_create(c->device, bytes, &c->x)) &&
           keep(c, clnorm_memory_create(c->device, bytes, &c->y)) &&
           keep(c, clnorm_memory_create(c->device, bytes, &c->dy)) &&
           keep(c, clnorm_memory_create(c->device, parameters, &c->parameters)) && write_tensor(c, c->x, c->first_x) &&
           write_tensor(c, c->dy, c->first_dy) &&
           write_tensor(c, c->y, c->first_dy) && /* so that its pages are there */
           write_sets(c, c->parameters, c->parameter_stride, c->weight, c->weights * 4);
}

bool bench_case_spread_state(struct bench_case *c)
{
    size_t bytes = bench_parameter_offset(c, BENCH_STATE) + clnorm_plan_state_bytes(c->plan);
    float *first = malloc(bytes);
    bool ok = first && keep(c, clnorm_memory_read(c->parameters, 0, first, bytes)) &&
              write_sets(c, c->parameters, c->parameter_stride, first, bytes / sizeof(float));
    free(first);
    return ok && spread_mask(c);
}

bool bench_case_create(struct bench_case *c, clnorm_device *device, const struct bench_shape *shape, size_t sets,
                       float *inputs)
{
    memset(c, 0, sizeof *c);
    c->shape = shape;
    c->device = device;
    c->desc = bench_shape_desc(shape);
    c->elements = (size_t)bench_shape_elements(shape);
    c->weights = (size_t)bench_shape_weights(shape);
    c->status = CLNORM_E_NO_MEMORY;
    snprintf(c->error, sizeof c->error, "out of memory");
    c->set_count = sets;
    c->stride = stride_of(bench_shape_words(shape));
    c->parameter_stride = parameter_stride_of(shape);
    return make_inputs(c, inputs) && keep(c, clnorm_plan_create(device, &c->desc, &c->plan)) && make_lengths(c) &&
           make_mask(c) && make_memories(c);
}

void bench_case_free_inputs(struct bench_case *c)
{
    free(c->inputs);
    c->inputs = NULL;
}

void bench_case_destroy(struct bench_case *c)
{
    clnorm_plan_destroy(c->plan);
    clnorm_memory_destroy(c->x);
    clnorm_memory_destroy(c->y);
    clnorm_memory_destroy(c->dy);
    clnorm_memory_destroy(c->parameters);
    clnorm_memory_destroy(c->lengths);
    clnorm_memory_destroy(c->mask);
    bench_case_free_inputs(c);
    memset(c, 0, sizeof *c);
}

static clnorm_buffer tensor_part(const struct bench_case *c, clnorm_memory *tensor, size_t set)
{
    return clnorm_memory_part(tensor, set * c->stride * sizeof(float), (size_t)bench_shape_bytes(c->shape));
}

static clnorm_buffer parameter_part(const struct bench_case *c, size_t set, enum bench_parameter parameter)
{
    size_t bytes = parameter == BENCH_STATE ? clnorm_plan_state_bytes(c->plan) : c->weights * sizeof(float);
    size_t begin = set * c->parameter_stride * sizeof(float);
    return clnorm_memory_part(c->parameters, begin + bench_parameter_offset(c, parameter), bytes);
}

static clnorm_buffer lengths_of(const struct bench_case *c)
{
    return c->lengths ? clnorm_memory_buffer(c->lengths) : clnorm_none();
}

static clnorm_buffer mask_of(const struct bench_case *c, size_t set)
{
    return c->mask ? clnorm_memory_part(c->mask, set * c->mask_stride, clnorm_plan_mask_bytes(c->plan)) : clnorm_none();
}

static bool call_train(struct bench_case *c, size_t set)
{
    clnorm_forward_args args = CLNORM_FORWARD_ARGS_INIT;
    args.x = tensor_part(c, c->x, set);
    args.y = tensor_part(c, c->y, set);
    args.weight = parameter_part(c, set, BENCH_WEIGHT);
    args.bias = parameter_part(c, set, BENCH_BIAS);
    if (norm_has_running(c->desc.norm)) {
        args.running_mean = parameter_part(c, set, BENCH_RUNNING_MEAN);
        args.running_var = parameter_part(c, set, BENCH_RUNNING_VAR);
    }
    args.state = parameter_part(c, set, BENCH_STATE);
    if (c->desc.residual != CLNORM_NO_RESIDUAL)
        args.z = tensor_part(c, c->dy, set);
    args.lengths = lengths_of(c);
    args.mask = mask_of(c, set);
    return keep(c, clnorm_forward(c->plan, &args));
}

static bool call_infer(struct bench_case *c, size_t set)
{
    clnorm_infer_args args = CLNORM_INFER_ARGS_INIT;
    args.x = tensor_part(c, c->x, set);
    args.y = tensor_part(c, c->y, set);
    args.weight = parameter_part(c, set, BENCH_WEIGHT);
    args.bias = parameter_part(c, set, BENCH_BIAS);
    args.running_mean = parameter_part(c, set, BENCH_RUNNING_MEAN);
    args.running_var = parameter_part(c, set, BENCH_RUNNING_VAR);
    if (c->desc.residual != CLNORM_NO_RESIDUAL)
        args.z = tensor_part(c, c->dy, set);
    args.lengths = lengths_of(c);
    args.mask = mask_of(c, set);
    return keep(c, clnorm_infer(c->plan, &args));
}

static bool call_backward(struct bench_case *c, size_t set)
{
    clnorm_backward_args args = CLNORM_BACKWARD_ARGS_INIT;
    *(c->shape->from_y ? &args.dx : &args.x) = tensor_part(c, c->x, set);
    args.dy = tensor_part(c, c->dy, set);
    args.weight = parameter_part(c, set, BENCH_WEIGHT);
    args.state = parameter_part(c, set, BENCH_STATE);
    *(c->shape->from_y ? &args.y : &args.dx) = tensor_part(c, c->y, set);
    args.dweight = parameter_part(c, set, BENCH_DWEIGHT);
    args.dbias = parameter_part(c, set, BENCH_DBIAS);
    if (c->desc.activation != CLNORM_NO_ACTIVATION || c->shape->from_y)
        args.bias =
            parameter_part(c, set, BENCH_BIAS); /* t is worked out again, for dx lies where y was; or x̂ from y */
    args.lengths = lengths_of(c);
    args.mask = mask_of(c, set);
    return keep(c, clnorm_backward(c->plan, &args));
}

bool bench_case_call(struct bench_case *c, enum bench_mode mode, size_t set)
{
    return mode == BENCH_TRAIN ? call_train(c, set) : mode == BENCH_INFER ? call_infer(c, set) : call_backward(c, set);
}

bool bench_case_finish(struct bench_case *c)
{
    return keep(c, clnorm_device_finish(c->device));
}
