/* Runs a case through library memory, which is one path for the CPU and for OpenCL devices. */
#include "run.h"

#include <stdlib.h>
#include <string.h>

enum { GUARD = 16, STATE_PLANES = 3, STATISTICS_PLANES = 5, SUMS_PLANES = 4 };

static const char *const slot_names[SLOTS] = {
    "x",    "dy",  "weight", "bias", "running_mean", "running_var", "mean (given)", "rstd (given)", "y",   "state",
    "mean", "var", "rstd",   "dx",   "dweight",      "dbias",       "statistics",   "gathered",     "sums"};

const char *case_slot_name(enum case_slot slot)
{
    return slot_names[slot];
}

bool case_is_fill(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits == CASE_FILL_BITS;
}

enum case_slot case_slot_y(const struct clnorm_case *c)
{
    return c->in_place ? SLOT_X : SLOT_Y;
}

enum case_slot case_slot_dx(const struct clnorm_case *c)
{
    return c->in_place ? SLOT_DY : SLOT_DX;
}

/* ---- buffers --------------------------------------------------------------------------------------------------- */

static clnorm_status slot_make(struct case_run *run, enum case_slot i, size_t floats, size_t written)
{
    struct slot *slot = &run->slots[i];
    const uint32_t fill = CASE_FILL_BITS;
    slot->before = GUARD + run->problem->c.offset;
    slot->floats = floats;
    slot->written = written;
    slot->total = slot->before + floats + GUARD;
    slot->image = malloc(slot->total * sizeof(float));
    slot->back = malloc(slot->total * sizeof(float));
    if (!slot->image || !slot->back)
        return CLNORM_E_NO_MEMORY;
    for (size_t k = 0; k < slot->total; k++)
        memcpy(&slot->image[k], &fill, sizeof fill);
    if ((size_t)i < INPUTS) { /* a tensor's samples beyond those of the call stay NaN: nothing may read them */
        const size_t count = problem_input_count(&run->problem->shape, (enum case_input)i);
        memcpy(slot->image + slot->before, run->problem->input[i], count * sizeof(float));
    }
    slot->some = i == SLOT_STATISTICS || i == SLOT_GATHERED || (i == SLOT_STATE && run->problem->c.norm == CLNORM_RMS);
    return clnorm_memory_create(run->device, slot->total * sizeof(float), &slot->memory);
}

static clnorm_buffer buffer(const struct case_run *run, enum case_slot i)
{
    const struct slot *slot = &run->slots[i];
    if (!slot->memory)
        return clnorm_none();
    return clnorm_memory_part(slot->memory, slot->before * sizeof(float), slot->floats * sizeof(float));
}

/* The samples [begin, begin + n) of a tensor. */
static clnorm_buffer samples(const struct case_run *run, enum case_slot i, size_t begin, size_t n)
{
    const size_t sample = run->problem->shape.c * run->problem->shape.s;
    clnorm_buffer b = buffer(run, i);
    b.offset += begin * sample * sizeof(float);
    b.bytes = n * sample * sizeof(float);
    return b;
}

/* Item i of a slot of items of `floats` floats. */
static clnorm_buffer item(const struct case_run *run, enum case_slot slot, size_t i, size_t floats)
{
    clnorm_buffer b = buffer(run, slot);
    b.offset += i * floats * sizeof(float);
    b.bytes = floats * sizeof(float);
    return b;
}

static clnorm_status make_slots(struct case_run *run)
{
    const struct case_problem *p = run->problem;
    const struct clnorm_case *c = &p->c;
    const bool steps_forward = c->mode == CASE_STEPS_FORWARD, steps_backward = c->mode == CASE_STEPS_BACKWARD;
    const bool infer = c->mode == CASE_INFER, dy = case_mode_has_dy(c->mode);
    const bool by_state = c->mode == CASE_BACKWARD || steps_backward;
    const struct reference_problem plan = case_shape(c, c->plan_n);
    const size_t channels = p->shape.c, weights = p->weights, whole = reference_elements(&plan), elements = p->elements;
    const size_t groups = reference_groups(&plan);
    /* Of no samples nothing is written but gradients, counts and sums. */
    const size_t per_group = c->n ? p->groups : 0, per_channel = c->n ? channels : 0;
    struct {
        bool has;
        size_t floats, written;
    } want[SLOTS];
    memset(want, 0, sizeof want);
    for (size_t i = 0; i < INPUTS; i++) {
        want[i].has = p->input[i] != NULL;
        want[i].floats = problem_input_count(&plan, (enum case_input)i);
    }
    if (c->in_place && dy && case_has(c, CASE_DX))
        want[SLOT_DY].written = elements;
    if (c->in_place && !dy)
        want[SLOT_X].written = elements;
    if (!dy && !infer)
        want[SLOT_RUNNING_MEAN].written = want[SLOT_RUNNING_VAR].written = per_channel;

#define WANT(slot, condition, size, count)                                                                             \
    want[slot].has = (condition), want[slot].floats = (size), want[slot].written = (count)
    WANT(SLOT_Y, (!c->in_place && !dy) || by_state, whole, elements);
    WANT(SLOT_STATE, (!c->in_place && !dy && !infer) || by_state, clnorm_plan_state_bytes(run->plan) / sizeof(float),
         STATE_PLANES * per_group);
    WANT(SLOT_MEAN, case_has(c, CASE_MEAN), groups, per_group);
    WANT(SLOT_VAR, case_has(c, CASE_VAR), groups, per_group);
    WANT(SLOT_RSTD, case_has(c, CASE_RSTD), groups, per_group);
    WANT(SLOT_DX, case_has(c, CASE_DX) && !c->in_place, whole, elements);
    WANT(SLOT_DWEIGHT, case_has(c, CASE_DWEIGHT), weights, weights);
    WANT(SLOT_DBIAS, case_has(c, CASE_DBIAS), weights, weights);
    WANT(SLOT_STATISTICS, steps_forward, STATISTICS_PLANES * channels, STATISTICS_PLANES * channels);
    WANT(SLOT_GATHERED, steps_forward && c->parts > 1, c->parts * STATISTICS_PLANES * channels,
         c->parts * STATISTICS_PLANES * channels);
    WANT(SLOT_SUMS, steps_backward, c->parts * SUMS_PLANES * channels, c->parts * SUMS_PLANES * channels);
#undef WANT

    clnorm_status status = CLNORM_OK;
    for (int i = 0; i < SLOTS && status == CLNORM_OK; i++) {
        if (want[i].has)
            status = slot_make(run, (enum case_slot)i, want[i].floats, want[i].written);
    }
    return status;
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
    clnorm_status status = clnorm_plan_create(device, &desc, &r->plan);
    if (status == CLNORM_OK)
        status = make_slots(r);
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
            status = clnorm_memory_write(slot->memory, 0, slot->image, slot->total * sizeof(float));
    }
    return status;
}

/* ---- the calls ------------------------------------------------------------------------------------------------- */

static clnorm_status enqueue_forward(struct case_run *run, const void *stream)
{
    const struct clnorm_case *c = &run->problem->c;
    clnorm_forward_args a = CLNORM_FORWARD_ARGS_INIT;
    a.n = c->n;
    a.x = buffer(run, SLOT_X);
    a.y = buffer(run, case_mode_has_dy(c->mode) ? SLOT_Y : case_slot_y(c));
    a.weight = buffer(run, SLOT_WEIGHT);
    a.bias = buffer(run, SLOT_BIAS);
    a.state = buffer(run, SLOT_STATE);
    a.mean = buffer(run, SLOT_MEAN);
    a.var = buffer(run, SLOT_VAR);
    a.rstd = buffer(run, SLOT_RSTD);
    a.running_mean = buffer(run, SLOT_RUNNING_MEAN);
    a.running_var = buffer(run, SLOT_RUNNING_VAR);
    a.running = c->running;
    a.stream = stream;
    return clnorm_forward(run->plan, &a);
}

static clnorm_status enqueue_infer(struct case_run *run, const void *stream)
{
    const struct clnorm_case *c = &run->problem->c;
    clnorm_infer_args a = CLNORM_INFER_ARGS_INIT;
    a.n = c->n;
    a.x = buffer(run, SLOT_X);
    a.y = buffer(run, case_slot_y(c));
    a.weight = buffer(run, SLOT_WEIGHT);
    a.bias = buffer(run, SLOT_BIAS);
    a.running_mean = buffer(run, SLOT_RUNNING_MEAN);
    a.running_var = buffer(run, SLOT_RUNNING_VAR);
    a.stream = stream;
    return clnorm_infer(run->plan, &a);
}

static clnorm_status enqueue_backward(struct case_run *run, const void *stream)
{
    const struct clnorm_case *c = &run->problem->c;
    clnorm_backward_args a = CLNORM_BACKWARD_ARGS_INIT;
    a.n = c->n;
    if (c->mode != CASE_FROZEN || case_has(c, CASE_DWEIGHT)) /* else x is not needed */
        a.x = buffer(run, SLOT_X);
    a.dy = buffer(run, SLOT_DY);
    a.weight = buffer(run, SLOT_WEIGHT);
    a.state = buffer(run, SLOT_STATE);
    a.mean = buffer(run, SLOT_GIVEN_MEAN);
    a.rstd = buffer(run, SLOT_GIVEN_RSTD);
    a.running_mean = buffer(run, SLOT_RUNNING_MEAN);
    a.running_var = buffer(run, SLOT_RUNNING_VAR);
    if (case_has(c, CASE_DX))
        a.dx = buffer(run, case_slot_dx(c));
    a.dweight = buffer(run, SLOT_DWEIGHT);
    a.dbias = buffer(run, SLOT_DBIAS);
    a.stream = stream;
    return clnorm_backward(run->plan, &a);
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
        a.statistics = c->parts == 1 ? buffer(run, SLOT_STATISTICS)
                                     : item(run, SLOT_GATHERED, i, STATISTICS_PLANES * run->problem->shape.c);
        a.stream = stream;
        status = clnorm_statistics(run->plan, &a);
    }
    if (status == CLNORM_OK && c->parts > 1) {
        clnorm_merge_args a = CLNORM_MERGE_ARGS_INIT;
        a.parts = c->parts;
        a.gathered = buffer(run, SLOT_GATHERED);
        a.statistics = buffer(run, SLOT_STATISTICS);
        a.stream = stream;
        status = clnorm_merge(run->plan, &a);
    }
    if (status == CLNORM_OK) {
        clnorm_apply_args a = CLNORM_APPLY_ARGS_INIT;
        a.n = c->n;
        a.x = buffer(run, SLOT_X);
        a.y = buffer(run, case_slot_y(c));
        a.weight = buffer(run, SLOT_WEIGHT);
        a.bias = buffer(run, SLOT_BIAS);
        a.statistics = buffer(run, SLOT_STATISTICS);
        a.state = buffer(run, SLOT_STATE);
        a.mean = buffer(run, SLOT_MEAN);
        a.var = buffer(run, SLOT_VAR);
        a.rstd = buffer(run, SLOT_RSTD);
        a.stream = stream;
        status = clnorm_apply(run->plan, &a);
    }
    if (status == CLNORM_OK && run->slots[SLOT_RUNNING_MEAN].memory) {
        clnorm_commit_args a = CLNORM_COMMIT_ARGS_INIT;
        a.statistics = buffer(run, SLOT_STATISTICS);
        a.running_mean = buffer(run, SLOT_RUNNING_MEAN);
        a.running_var = buffer(run, SLOT_RUNNING_VAR);
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
    const size_t one = slot->floats / parts, offset = slot->before * sizeof(float);
    float *sums = malloc(slot->floats * sizeof(float));
    if (!sums)
        return CLNORM_E_NO_MEMORY;
    clnorm_status status = clnorm_device_finish(run->device);
    if (status == CLNORM_OK)
        status = clnorm_memory_read(slot->memory, offset, sums, slot->floats * sizeof(float));
    if (status == CLNORM_OK) {
        for (size_t k = one; k < slot->floats; k++)
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
        a.state = buffer(run, SLOT_STATE);
        a.sums = item(run, SLOT_SUMS, i, one);
        a.dweight = buffer(run, SLOT_DWEIGHT);
        a.dbias = buffer(run, SLOT_DBIAS);
        a.stream = stream;
        status = clnorm_backward_reduce(run->plan, &a);
    }
    if (status == CLNORM_OK && c->parts > 1)
        status = add_sums(run);
    if (status == CLNORM_OK && case_has(c, CASE_DX)) {
        clnorm_backward_apply_args a = CLNORM_BACKWARD_APPLY_ARGS_INIT;
        a.n = c->n;
        a.x = buffer(run, SLOT_X);
        a.dy = buffer(run, SLOT_DY);
        a.weight = buffer(run, SLOT_WEIGHT);
        a.state = buffer(run, SLOT_STATE);
        a.sums = item(run, SLOT_SUMS, 0, one);
        a.dx = buffer(run, case_slot_dx(c));
        a.stream = stream;
        status = clnorm_backward_apply(run->plan, &a);
    }
    return status;
}

clnorm_status case_enqueue_before(struct case_run *run, const void *stream)
{
    const enum case_mode mode = run->problem->c.mode;
    return mode == CASE_BACKWARD || mode == CASE_STEPS_BACKWARD ? enqueue_forward(run, stream) : CLNORM_OK;
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
    default:
        return enqueue_backward(run, stream);
    }
}

/* ---- results --------------------------------------------------------------------------------------------------- */

/* value = plane `high` + plane `low` of a slot, or one plane alone; a sum of two floats is exact in double, within 53 bits. */
static void take(struct case_run *run, enum case_output output, enum case_slot slot, size_t high, int low)
{
    const size_t count = run->problem->count[output], channels = run->problem->shape.c;
    const float *content = run->slots[slot].back + run->slots[slot].before;
    for (size_t i = 0; i < count; i++) {
        run->value[output][i] = content[high * channels + i];
        if (low >= 0)
            run->value[output][i] += content[(size_t)low * channels + i];
    }
}

clnorm_status case_collect(struct case_run *run)
{
    const struct clnorm_case *c = &run->problem->c;
    clnorm_status status = clnorm_device_finish(run->device);
    for (int i = 0; i < SLOTS && status == CLNORM_OK; i++) {
        const struct slot *slot = &run->slots[i];
        if (slot->memory)
            status = clnorm_memory_read(slot->memory, 0, slot->back, slot->total * sizeof(float));
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
    return CLNORM_OK;
}
