#include "case.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *bench_mode_name(enum bench_mode mode)
{
    static const char *const names[] = {"train", "infer", "backward"};
    return names[mode];
}

uint64_t bench_mode_bytes(enum bench_mode mode, uint64_t tensor_bytes)
{
    return tensor_bytes * (mode == BENCH_TRAIN ? 3 : mode == BENCH_INFER ? 2 : 5);
}

enum bench_stream bench_mode_stream(enum bench_mode mode)
{
    return mode == BENCH_BACKWARD ? BENCH_ADD : BENCH_COPY;
}

size_t bench_set_count(uint64_t tensor_bytes, int tensors, size_t cache_bytes)
{
    return (size_t)((uint64_t)cache_bytes * 4 / (tensor_bytes * (uint64_t)tensors)) + 1;
}

uint64_t bench_case_bytes(const struct bench_shape *shape, size_t sets, bool host_streams)
{
    uint64_t tensor = (uint64_t)bench_shape_elements(shape) * sizeof(float);
    uint64_t parameters = (uint64_t)shape->size[1] * sizeof(float) * 16;
    uint64_t device = sets * (3 * tensor + parameters);
    uint64_t check = 3 * tensor, limits = host_streams ? sets * 3 * tensor : 0;
    return device + (check > limits ? check : limits);
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

static bool make_inputs(struct bench_case *c)
{
    c->x = malloc(c->elements * sizeof(float));
    c->dy = malloc(c->elements * sizeof(float));
    c->weight = malloc(c->channels * 4 * sizeof(float));
    if (!c->x || !c->dy || !c->weight)
        return false;
    c->bias = c->weight + c->channels;
    c->running_mean = c->bias + c->channels;
    c->running_var = c->running_mean + c->channels;
    fill(c->x, c->elements, 1);
    fill(c->dy, c->elements, 2);
    fill(c->weight, c->channels * 4, 3);
    for (size_t i = 0; i < c->channels; i++)
        c->running_var[i] = 0.5f + c->running_var[i] * c->running_var[i];
    return true;
}

size_t bench_parameter_offset(const struct bench_case *c, enum bench_parameter parameter)
{
    return (size_t)parameter * c->channels * sizeof(float);
}

static clnorm_buffer parameter_part(const struct bench_case *c, size_t set, enum bench_parameter parameter)
{
    size_t bytes = parameter == BENCH_STATE ? clnorm_plan_state_bytes(c->plan) : c->channels * sizeof(float);
    return clnorm_memory_part(c->sets[set].parameters, bench_parameter_offset(c, parameter), bytes);
}

static bool keep(struct bench_case *c, clnorm_status status)
{
    if (status == CLNORM_OK)
        return true;
    c->status = status;
    snprintf(c->error, sizeof c->error, "%s", clnorm_last_error());
    return false;
}

static bool make_set(struct bench_case *c, struct bench_set *set)
{
    size_t bytes = c->elements * sizeof(float);
    size_t parameters = bench_parameter_offset(c, BENCH_STATE) + clnorm_plan_state_bytes(c->plan);
    return keep(c, clnorm_memory_create(c->device, bytes, &set->x)) &&
           keep(c, clnorm_memory_create(c->device, bytes, &set->y)) &&
           keep(c, clnorm_memory_create(c->device, bytes, &set->dy)) &&
           keep(c, clnorm_memory_create(c->device, parameters, &set->parameters)) &&
           keep(c, clnorm_memory_write(set->x, 0, c->x, bytes)) &&
           keep(c, clnorm_memory_write(set->dy, 0, c->dy, bytes)) &&
           keep(c, clnorm_memory_write(set->y, 0, c->dy, bytes)) && /* so that its pages are there */
           keep(c, clnorm_memory_write(set->parameters, 0, c->weight, c->channels * 4 * sizeof(float)));
}

bool bench_case_create(struct bench_case *c, clnorm_device *device, const struct bench_shape *shape, size_t sets)
{
    memset(c, 0, sizeof *c);
    c->shape = shape;
    c->device = device;
    c->desc = (clnorm_desc)CLNORM_DESC_INIT;
    c->desc.layout = shape->layout;
    c->desc.n = shape->size[0];
    c->desc.c = shape->size[1];
    c->desc.spatial_dims = shape->dims - 2;
    for (int d = 2; d < shape->dims; d++)
        c->desc.spatial[d - 2] = shape->size[d];
    c->elements = (size_t)bench_shape_elements(shape);
    c->channels = (size_t)shape->size[1];
    c->samples_a_channel = c->elements / c->channels;
    c->status = CLNORM_E_NO_MEMORY;
    snprintf(c->error, sizeof c->error, "out of memory");
    c->sets = calloc(sets, sizeof *c->sets);
    bool ok = c->sets && make_inputs(c) && keep(c, clnorm_plan_create(device, &c->desc, &c->plan));
    while (ok && c->set_count < sets)
        ok = make_set(c, &c->sets[c->set_count++]);
    return ok;
}

void bench_case_free_inputs(struct bench_case *c)
{
    free(c->x);
    free(c->dy);
    free(c->weight);
    c->x = c->dy = c->weight = c->bias = c->running_mean = c->running_var = NULL;
}

void bench_case_destroy(struct bench_case *c)
{
    clnorm_plan_destroy(c->plan);
    for (size_t i = 0; c->sets && i < c->set_count; i++) {
        clnorm_memory_destroy(c->sets[i].x);
        clnorm_memory_destroy(c->sets[i].y);
        clnorm_memory_destroy(c->sets[i].dy);
        clnorm_memory_destroy(c->sets[i].parameters);
    }
    free(c->sets);
    bench_case_free_inputs(c);
    memset(c, 0, sizeof *c);
}

static bool call_train(struct bench_case *c, size_t set)
{
    clnorm_forward_args args = CLNORM_FORWARD_ARGS_INIT;
    args.x = clnorm_memory_buffer(c->sets[set].x);
    args.y = clnorm_memory_buffer(c->sets[set].y);
    args.weight = parameter_part(c, set, BENCH_WEIGHT);
    args.bias = parameter_part(c, set, BENCH_BIAS);
    args.running_mean = parameter_part(c, set, BENCH_RUNNING_MEAN);
    args.running_var = parameter_part(c, set, BENCH_RUNNING_VAR);
    args.state = parameter_part(c, set, BENCH_STATE);
    return keep(c, clnorm_forward(c->plan, &args));
}

static bool call_infer(struct bench_case *c, size_t set)
{
    clnorm_infer_args args = CLNORM_INFER_ARGS_INIT;
    args.x = clnorm_memory_buffer(c->sets[set].x);
    args.y = clnorm_memory_buffer(c->sets[set].y);
    args.weight = parameter_part(c, set, BENCH_WEIGHT);
    args.bias = parameter_part(c, set, BENCH_BIAS);
    args.running_mean = parameter_part(c, set, BENCH_RUNNING_MEAN);
    args.running_var = parameter_part(c, set, BENCH_RUNNING_VAR);
    return keep(c, clnorm_infer(c->plan, &args));
}

static bool call_backward(struct bench_case *c, size_t set)
{
    clnorm_backward_args args = CLNORM_BACKWARD_ARGS_INIT;
    args.x = clnorm_memory_buffer(c->sets[set].x);
    args.dy = clnorm_memory_buffer(c->sets[set].dy);
    args.weight = parameter_part(c, set, BENCH_WEIGHT);
    args.state = parameter_part(c, set, BENCH_STATE);
    args.dx = clnorm_memory_buffer(c->sets[set].y);
    args.dweight = parameter_part(c, set, BENCH_DWEIGHT);
    args.dbias = parameter_part(c, set, BENCH_DBIAS);
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
