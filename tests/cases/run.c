/* Runs a case through library memory, which is one path for the CPU and for OpenCL devices. */
#include "run.h"

#include <stdlib.h>
#include <string.h>

enum { STATISTICS_PLANES = 5, SUMS_PLANES = 4 };

/* The samples [begin, begin + n) of a tensor. */
static clnorm_buffer samples(const struct case_run *run, enum case_slot i, size_t begin, size_t n)
{
    const size_t sample = run->problem->shape.c * run->problem->shape.s;
    clnorm_buffer b = slot_buffer(run, i);
    b.offset += slot_bytes(&run->slots[i], begin * sample);
    b.bytes = slot_bytes(&run->slots[i], n * sample);
    return b;
}

/* Item i of a slot of items of `floats` floats. */
static clnorm_buffer item(const struct case_run *run, enum case_slot slot, size_t i, size_t floats)
{
    clnorm_buffer b = slot_buffer(run, slot);
    b.offset += i * floats * sizeof(float);
    b.bytes = floats * sizeof(float);
    return b;
}

clnorm_status case_bind(const struct case_problem *problem, clnorm_device *device, struct case_run **run)
{
    const struct clnorm_case *c = &problem->c;
    struct case_run *r = calloc(1, sizeof *r);
    if (!r)
        return CLNORM_E_NO_MEMORY;
    r->problem = problem;
    r->device = device;
    clnorm_desc desc = CLNORM_DESC_INIT;
    desc.norm = c->norm;
    desc.groups = c->groups;
    desc.normalized_dims = c->normalized_dims;
    desc.layout = c->layout;
    desc.n = c->plan_n;
    desc.c = c->c;
    desc.spatial_dims = c->spatial_dims;
    memcpy(desc.spatial, c->spatial, sizeof desc.spatial);
    desc.eps = c->eps;
    desc.dtype = c->dtype;
    desc.y_dtype = c->y_dtype;
    desc.activation = c->activation;
    desc.slope = c->slope;
    desc.residual = c->residual;
    desc.virtual_batch = c->virtual_batch;
    desc.double_backward = case_mode_is_double(c->mode);
    desc.backward_from_y = c->from_y;
    desc.lengths = c->lengths != CASE_NO_LENGTHS;
    desc.activation_mask = c->by == CASE_BY_MASK;
    clnorm_status status = clnorm_plan_create(device, &desc, &r->plan);
    if (status == CLNORM_OK)
        status = slots_make(r);
    if (status == CLNORM_OK)
        status = case_reset(r);
    for (int o = 0; o < CASE_OUTPUTS && status == CLNORM_OK; o++) {
        if (problem->count[o] && !(r->value[o] = malloc(problem->count[o] * sizeof(double))))
            status = CLNORM_E_NO_MEMORY;
    }
    if (status != CLNORM_OK) {
        case_run_free(r);
        return status;
    }
    *run = r;
    return CLNORM_OK;
}

void case_run_free(struct case_run *run)
{
    if (!run)
        return;
    for (int i = 0; i < SLOTS; i++) {
        clnorm_memory_destroy(run->slots[i].memory);
        free(run->slots[i].image);
        free(run->slots[i].back);
    }
    for (int o = 0; o < CASE_OUTPUTS; o++)
        free(run->value[o]);
    clnorm_plan_destroy(run->plan);
    free(run);
}

clnorm_plan *case_plan(struct case_run *run)
{
    return run->plan;
}

clnorm_status case_reset(struct case_run *run)
{
    clnorm_status status = CLNORM_OK;
    for (int i = 0; i < SLOTS && status == CLNORM_OK; i++) {
        const struct slot *slot = &run->slots[i];
        if (slot->memory)
            status = clnorm_memory_write(slot->memory, 0, slot->image, slot_bytes(slot, slot->total));
    }
    return status;
}

/* ---- the calls ------------------------------------------------------------------------------------------------- */

static clnorm_status enqueue_forward(struct case_run *run, const void *stream)
{
    const struct clnorm_case *c = &run->problem->c;
    clnorm_forward_args a = CLNORM_FORWARD_ARGS_INIT;
    a.n = c->n;
    a.x = slot_buffer(run, SLOT_X);
    a.y = slot_buffer(run, case_mode_has_dy(c->mode) ? SLOT_Y : case_slot_y(c));
    a.weight = slot_buffer(run, SLOT_WEIGHT);
    a.bias = slot_buffer(run, SLOT_BIAS);
    a.state = slot_buffer(run, SLOT_STATE);
    a.mean = slot_buffer(run, SLOT_MEAN);
    a.var = slot_buffer(run, SLOT_VAR);
    a.rstd = slot_buffer(run, SLOT_RSTD);
    a.running_mean = slot_buffer(run, SLOT_RUNNING_MEAN);
    a.running_var = slot_buffer(run, SLOT_RUNNING_VAR);
    a.running = c->running;
    a.z = slot_buffer(run, SLOT_Z);
    if (c->residual == CLNORM_RESIDUAL_BEFORE)
        a.sum = slot_buffer(run, case_slot_sum(c));
    a.lengths = slot_buffer(run, SLOT_LENGTHS);
    a.mask = slot_buffer(run, SLOT_MASK);
    a.stream = stream;
    return clnorm_forward(run->plan, &a);
}

static clnorm_status enqueue_infer(struct case_run *run, const void *stream)
{
    const struct clnorm_case *c = &run->problem->c;
    clnorm_infer_args a = CLNORM_INFER_ARGS_INIT;
    a.n = c->n;
    a.x = slot_buffer(run, SLOT_X);
    a.y = slot_buffer(run, case_mode_has_dy(c->mode) ? SLOT_Y : case_slot_y(c));
    a.weight = slot_buffer(run, SLOT_WEIGHT);
    a.bias = slot_buffer(run, SLOT_BIAS);
    a.running_mean = slot_buffer(run, SLOT_RUNNING_MEAN);
    a.running_var = slot_buffer(run, SLOT_RUNNING_VAR);
    a.z = slot_buffer(run, SLOT_Z);
    a.lengths = slot_buffer(run, SLOT_LENGTHS);
    a.mask = slot_buffer(run, SLOT_MASK);
    a.stream = stream;
    return clnorm_infer(run->plan, &a);
}

static clnorm_status enqueue_backward(struct case_run *run, const void *stream)
{
    const struct clnorm_case *c = &run->problem->c;
    clnorm_backward_args a = CLNORM_BACKWARD_ARGS_INIT;
    a.n = c->n;
    const bool again = case_works_out_again(c);
    const bool normalized = c->mode != CASE_FROZEN || case_has(c, CASE_DWEIGHT);
    if (!c->from_y && (normalized || again)) /* else x is not needed */
        a.x = slot_buffer(run,
                          c->residual == CLNORM_RESIDUAL_BEFORE && c->mode != CASE_GIVEN ? case_slot_sum(c) : SLOT_X);
    a.dy = slot_buffer(run, SLOT_DY);
    a.weight = slot_buffer(run, SLOT_WEIGHT);
    a.state = slot_buffer(run, SLOT_STATE);
    a.mean = slot_buffer(run, SLOT_GIVEN_MEAN);
    a.rstd = slot_buffer(run, SLOT_GIVEN_RSTD);
    a.running_mean = slot_buffer(run, SLOT_RUNNING_MEAN);
    a.running_var = slot_buffer(run, SLOT_RUNNING_VAR);
    if (case_has(c, CASE_DX))
        a.dx = slot_buffer(run, case_slot_dx(c));
    a.dweight = slot_buffer(run, SLOT_DWEIGHT);
    a.dbias = slot_buffer(run, SLOT_DBIAS);
    a.dz = slot_buffer(run, SLOT_DZ);
    if (c->by == CASE_BY_Y)
        a.y = slot_buffer(run, SLOT_Y);
    if (c->from_y)
        a.y = slot_buffer(run, SLOT_GIVEN_Y);
    if (again || c->from_y) {
        a.bias = slot_buffer(run, SLOT_BIAS);
        if (c->residual == CLNORM_RESIDUAL_AFTER)
            a.z = slot_buffer(run, SLOT_Z);
    }
    a.accumulate = c->accumulate;
    a.lengths = slot_buffer(run, SLOT_LENGTHS);
    a.mask = slot_buffer(run, SLOT_MASK);
    a.stream = stream;
    return clnorm_backward(run->plan, &a);
}

static clnorm_status enqueue_double(struct case_run *run, const void *stream)
{
    const struct clnorm_case *c = &run->problem->c;
    clnorm_double_backward_args a = CLNORM_DOUBLE_BACKWARD_ARGS_INIT;
    a.n = c->n;
    a.x = slot_buffer(run, SLOT_X);
    a.dy = slot_buffer(run, SLOT_DY);
    a.weight = slot_buffer(run, SLOT_WEIGHT);
    a.state = slot_buffer(run, SLOT_STATE);
    a.mean = slot_buffer(run, SLOT_GIVEN_MEAN);
    a.rstd = slot_buffer(run, SLOT_GIVEN_RSTD);
    a.running_mean = slot_buffer(run, SLOT_RUNNING_MEAN);
    a.running_var = slot_buffer(run, SLOT_RUNNING_VAR);
    a.v_dx = slot_buffer(run, SLOT_V_DX);
    a.v_dweight = slot_buffer(run, SLOT_V_DWEIGHT);
    a.v_dbias = slot_buffer(run, SLOT_V_DBIAS);
    a.g_x = slot_buffer(run, SLOT_G_X);
    a.g_dy = slot_buffer(run, SLOT_G_DY);
    a.g_weight = slot_buffer(run, SLOT_G_WEIGHT);
    a.stream = stream;
    return clnorm_double_backward(run->plan, &a);
}

/* Where part i of the batch begins. Of three parts the one in the middle is empty. */
static size_t part_begin(const struct case_run *run, uint32_t i)
{
    const size_t n = run->problem->shape.n;
    const uint32_t parts = run->problem->c.parts;
    if (i == parts)
        return n;
    if (parts == 3)
        return i == 0 ? 0 : n / 2;
    return i * (n / (parts + 1));
}

static clnorm_status enqueue_steps_forward(struct case_run *run, const void *stream)
{
    const struct clnorm_case *c = &run->problem->c;
    clnorm_status status = CLNORM_OK;
    for (uint32_t i = 0; i < c->parts && status == CLNORM_OK; i++) {
        const size_t begin = part_begin(run, i), n = part_begin(run, i + 1) - begin;
        clnorm_statistics_args a = CLNORM_STATISTICS_ARGS_INIT;
        a.n = (int64_t)n;
        a.x = samples(run, SLOT_X, begin, n);
        a.statistics = c->parts == 1 ? slot_buffer(run, SLOT_STATISTICS)
                                     : item(run, SLOT_GATHERED, i, STATISTICS_PLANES * run->problem->shape.c);
        a.stream = stream;
        status = clnorm_statistics(run->plan, &a);
    }
    if (status == CLNORM_OK && c->parts > 1) {
        clnorm_merge_args a = CLNORM_MERGE_ARGS_INIT;
        a.parts = c->parts;
        a.gathered = slot_buffer(run, SLOT_GATHERED);
        a.statistics = slot_buffer(run, SLOT_STATISTICS);
        a.stream = stream;
        status = clnorm_merge(run->plan, &a);
    }
    if (status == CLNORM_OK) {
        clnorm_apply_args a = CLNORM_APPLY_ARGS_INIT;
        a.n = c->n;
        a.x = slot_buffer(run, SLOT_X);
        a.y = slot_buffer(run, case_slot_y(c));
        a.weight = slot_buffer(run, SLOT_WEIGHT);
        a.bias = slot_buffer(run, SLOT_BIAS);
        a.statistics = slot_buffer(run, SLOT_STATISTICS);
        a.state = slot_buffer(run, SLOT_STATE);
        a.mean = slot_buffer(run, SLOT_MEAN);
        a.var = slot_buffer(run, SLOT_VAR);
        a.rstd = slot_buffer(run, SLOT_RSTD);
        a.stream = stream;
        status = clnorm_apply(run->plan, &a);
    }
    if (status == CLNORM_OK && run->slots[SLOT_RUNNING_MEAN].memory) {
        clnorm_commit_args a = CLNORM_COMMIT_ARGS_INIT;
        a.statistics = slot_buffer(run, SLOT_STATISTICS);
        a.running_mean = slot_buffer(run, SLOT_RUNNING_MEAN);
        a.running_var = slot_buffer(run, SLOT_RUNNING_VAR);
        a.running = c->running;
        a.stream = stream;
        status = clnorm_commit(run->plan, &a);
    }
    return status;
}

/* Adds the sums of all parts into the first, in f32 and in their order, as an all-reduce would. */
static clnorm_status add_sums(struct case_run *run)
{
    const uint32_t parts = run->problem->c.parts;
    const struct slot *slot = &run->slots[SLOT_SUMS];
    const size_t one = slot->count / parts, offset = slot->before * sizeof(float);
    float *sums = malloc(slot->count * sizeof(float));
    if (!sums)
        return CLNORM_E_NO_MEMORY;
    clnorm_status status = clnorm_device_finish(run->device);
    if (status == CLNORM_OK)
        status = clnorm_memory_read(slot->memory, offset, sums, slot->count * sizeof(float));
    if (status == CLNORM_OK) {
        for (size_t k = one; k < slot->count; k++)
            sums[k % one] += sums[k];
        status = clnorm_memory_write(slot->memory, offset, sums, one * sizeof(float));
    }
    free(sums);
    return status;
}

static clnorm_status enqueue_steps_backward(struct case_run *run, const void *stream)
{
    const struct clnorm_case *c = &run->problem->c;
    const size_t one = SUMS_PLANES * run->problem->shape.c;
    clnorm_status status = CLNORM_OK;
    for (uint32_t i = 0; i < c->parts && status == CLNORM_OK; i++) {
        const size_t begin = part_begin(run, i), n = part_begin(run, i + 1) - begin;
        clnorm_backward_reduce_args a = CLNORM_BACKWARD_REDUCE_ARGS_INIT;
        a.n = (int64_t)n;
        a.x = samples(run, SLOT_X, begin, n);
        a.dy = samples(run, SLOT_DY, begin, n);
        a.state = slot_buffer(run, SLOT_STATE);
        a.sums = item(run, SLOT_SUMS, i, one);
        a.dweight = slot_buffer(run, SLOT_DWEIGHT);
        a.dbias = slot_buffer(run, SLOT_DBIAS);
        a.stream = stream;
        status = clnorm_backward_reduce(run->plan, &a);
    }
    if (status == CLNORM_OK && c->parts > 1)
        status = add_sums(run);
    if (status == CLNORM_OK && case_has(c, CASE_DX)) {
        clnorm_backward_apply_args a = CLNORM_BACKWARD_APPLY_ARGS_INIT;
        a.n = c->n;
        a.x = slot_buffer(run, SLOT_X);
        a.dy = slot_buffer(run, SLOT_DY);
        a.weight = slot_buffer(run, SLOT_WEIGHT);
        a.state = slot_buffer(run, SLOT_STATE);
        a.sums = item(run, SLOT_SUMS, 0, one);
        a.dx = slot_buffer(run, case_slot_dx(c));
        a.stream = stream;
        status = clnorm_backward_apply(run->plan, &a);
    }
    return status;
}

clnorm_status case_enqueue_before(struct case_run *run, const void *stream)
{
    const struct clnorm_case *c = &run->problem->c;
    if (c->mode == CASE_BACKWARD || c->mode == CASE_STEPS_BACKWARD || c->mode == CASE_DOUBLE)
        return enqueue_forward(run, stream);
    return c->mode == CASE_FROZEN && c->by ? enqueue_infer(run, stream) : CLNORM_OK;
}

clnorm_status case_enqueue(struct case_run *run, const void *stream)
{
    switch (run->problem->c.mode) {
    case CASE_TRAIN:
        return enqueue_forward(run, stream);
    case CASE_INFER:
        return enqueue_infer(run, stream);
    case CASE_STEPS_FORWARD:
        return enqueue_steps_forward(run, stream);
    case CASE_STEPS_BACKWARD:
        return enqueue_steps_backward(run, stream);
    case CASE_DOUBLE:
    case CASE_DOUBLE_FROZEN:
    case CASE_DOUBLE_GIVEN:
        return enqueue_double(run, stream);
    default:
        return enqueue_backward(run, stream);
    }
}

/* ---- results --------------------------------------------------------------------------------------------------- */

/* value = plane `high` + plane `low` of a slot, or one plane alone; a sum of two floats is exact in double, within 53 bits. */
static void take(struct case_run *run, enum case_output output, enum case_slot slot, size_t high, int low)
{
    const size_t count = run->problem->count[output], channels = run->problem->shape.c;
    const struct slot *from = &run->slots[slot];
    for (size_t i = 0; i < count; i++) {
        run->value[output][i] = slot_get(from, from->back, from->before + high * channels + i);
        if (low >= 0)
            run->value[output][i] += slot_get(from, from->back, from->before + (size_t)low * channels + i);
    }
}

clnorm_status case_collect(struct case_run *run)
{
    const struct clnorm_case *c = &run->problem->c;
    clnorm_status status = clnorm_device_finish(run->device);
    for (int i = 0; i < SLOTS && status == CLNORM_OK; i++) {
        const struct slot *slot = &run->slots[i];
        if (slot->memory)
            status = clnorm_memory_read(slot->memory, 0, slot->back, slot_bytes(slot, slot->total));
    }
    if (status != CLNORM_OK)
        return status;
    take(run, CASE_Y, case_slot_y(c), 0, -1);
    take(run, CASE_MEAN, SLOT_MEAN, 0, -1);
    take(run, CASE_VAR, SLOT_VAR, 0, -1);
    take(run, CASE_RSTD, SLOT_RSTD, 0, -1);
    take(run, CASE_RUNNING_MEAN, SLOT_RUNNING_MEAN, 0, -1);
    take(run, CASE_RUNNING_VAR, SLOT_RUNNING_VAR, 0, -1);
    take(run, CASE_DX, case_slot_dx(c), 0, -1);
    take(run, CASE_DWEIGHT, SLOT_DWEIGHT, 0, -1);
    take(run, CASE_DBIAS, SLOT_DBIAS, 0, -1);
    take(run, CASE_STATISTICS_COUNT, SLOT_STATISTICS, 0, 1);
    take(run, CASE_STATISTICS_MEAN, SLOT_STATISTICS, 2, 3);
    take(run, CASE_STATISTICS_VAR, SLOT_STATISTICS, 4, -1);
    take(run, CASE_SUMS_COUNT, SLOT_SUMS, 0, 1);
    take(run, CASE_SUMS_DY, SLOT_SUMS, 2, -1);
    take(run, CASE_SUMS_DY_XHAT, SLOT_SUMS, 3, -1);
    take(run, CASE_SUM, case_slot_sum(c), 0, -1);
    take(run, CASE_DZ, SLOT_DZ, 0, -1);
    take(run, CASE_G_X, SLOT_G_X, 0, -1);
    take(run, CASE_G_DY, SLOT_G_DY, 0, -1);
    take(run, CASE_G_WEIGHT, SLOT_G_WEIGHT, 0, -1);
    return CLNORM_OK;
}
