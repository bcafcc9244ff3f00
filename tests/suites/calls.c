#include "calls.h"

#include <stdlib.h>
#include <string.h>

#ifdef CLNORM_WITH_OPENCL
#include <clnorm/opencl.h>
#endif

/* Each call's function and initialiser behind one signature. */
#define CALL_FUNCTIONS(name, init)                                                                                     \
    static clnorm_status run_##name(clnorm_plan *plan, const union call_args *args)                                    \
    {                                                                                                                  \
        return clnorm_##name(plan, args ? &args->name : NULL);                                                         \
    }                                                                                                                  \
    static void initialise_##name(union call_args *args)                                                               \
    {                                                                                                                  \
        static const clnorm_##name##_args initial = init;                                                              \
        memset(args, 0, sizeof *args);                                                                                 \
        args->name = initial;                                                                                          \
    }
CALL_FUNCTIONS(forward, CLNORM_FORWARD_ARGS_INIT)
CALL_FUNCTIONS(infer, CLNORM_INFER_ARGS_INIT)
CALL_FUNCTIONS(fold, CLNORM_FOLD_ARGS_INIT)
CALL_FUNCTIONS(backward, CLNORM_BACKWARD_ARGS_INIT)
CALL_FUNCTIONS(statistics, CLNORM_STATISTICS_ARGS_INIT)
CALL_FUNCTIONS(merge, CLNORM_MERGE_ARGS_INIT)
CALL_FUNCTIONS(commit, CLNORM_COMMIT_ARGS_INIT)
CALL_FUNCTIONS(apply, CLNORM_APPLY_ARGS_INIT)
CALL_FUNCTIONS(backward_reduce, CLNORM_BACKWARD_REDUCE_ARGS_INIT)
CALL_FUNCTIONS(backward_apply, CLNORM_BACKWARD_APPLY_ARGS_INIT)
CALL_FUNCTIONS(double_backward, CLNORM_DOUBLE_BACKWARD_ARGS_INIT)
#undef CALL_FUNCTIONS

static void initialise_merge_parts(union call_args *args)
{
    initialise_merge(args);
    args->merge.parts = CALL_PARTS;
}

#define IN(type, name, size, missing)                                                                                  \
    {                                                                                                                  \
#name, offsetof(clnorm_##type##_args, name), SLOT_##size, false, CLNORM_##missing                              \
    }
#define OUT(type, name, size, missing)                                                                                 \
    {                                                                                                                  \
#name, offsetof(clnorm_##type##_args, name), SLOT_##size, true, CLNORM_##missing                               \
    }
#define FIELD(type, name) offsetof(clnorm_##type##_args, name)
#define NO                CALL_NO_FIELD

#define FORWARD_SLOTS                                                                                                  \
    IN(forward, x, TENSOR, E_MISSING), OUT(forward, y, TENSOR, E_MISSING), IN(forward, weight, CHANNEL, OK),           \
        IN(forward, bias, CHANNEL, OK), OUT(forward, mean, CHANNEL, OK), OUT(forward, var, CHANNEL, OK),               \
        OUT(forward, rstd, CHANNEL, OK), OUT(forward, running_mean, CHANNEL, E_STATISTICS_MISSING),                    \
        OUT(forward, running_var, CHANNEL, E_STATISTICS_MISSING), OUT(forward, workspace, WORKSPACE, OK)
#define BACKWARD_SLOTS                                                                                                 \
    IN(backward, dy, TENSOR, E_MISSING), IN(backward, weight, CHANNEL, OK), OUT(backward, dx, TENSOR, OK),             \
        OUT(backward, dweight, CHANNEL, OK), OUT(backward, dbias, CHANNEL, OK),                                        \
        OUT(backward, workspace, WORKSPACE, OK)
#define DOUBLE_SLOTS                                                                                                   \
    IN(double_backward, x, TENSOR, E_MISSING), IN(double_backward, dy, TENSOR, E_MISSING),                             \
        IN(double_backward, weight, CHANNEL, OK), IN(double_backward, v_dx, TENSOR, OK),                               \
        IN(double_backward, v_dweight, CHANNEL, OK), IN(double_backward, v_dbias, CHANNEL, OK),                        \
        OUT(double_backward, g_x, TENSOR, OK), OUT(double_backward, g_dy, TENSOR, OK),                                 \
        OUT(double_backward, g_weight, CHANNEL, OK), OUT(double_backward, workspace, WORKSPACE, OK)
#define APPLY_SLOTS                                                                                                    \
    IN(apply, x, TENSOR, E_MISSING), OUT(apply, y, TENSOR, E_MISSING), IN(apply, weight, CHANNEL, OK),                 \
        IN(apply, bias, CHANNEL, OK), IN(apply, statistics, STATISTICS, E_MISSING), OUT(apply, mean, CHANNEL, OK),     \
        OUT(apply, var, CHANNEL, OK), OUT(apply, rstd, CHANNEL, OK), OUT(apply, workspace, WORKSPACE, OK)
#define REDUCE_SLOTS                                                                                                   \
    IN(backward_reduce, x, TENSOR, E_MISSING), IN(backward_reduce, dy, TENSOR, E_MISSING),                             \
        OUT(backward_reduce, sums, SUMS, E_MISSING), OUT(backward_reduce, dweight, CHANNEL, OK),                       \
        OUT(backward_reduce, dbias, CHANNEL, OK), OUT(backward_reduce, workspace, WORKSPACE, OK)
#define BACKWARD_APPLY_SLOTS                                                                                           \
    IN(backward_apply, x, TENSOR, E_MISSING), IN(backward_apply, dy, TENSOR, E_MISSING),                               \
        IN(backward_apply, weight, CHANNEL, OK), IN(backward_apply, sums, SUMS, E_MISSING),                            \
        OUT(backward_apply, dx, TENSOR, E_MISSING), OUT(backward_apply, workspace, WORKSPACE, OK)

const struct call calls[] = {
    {"forward",
     run_forward,
     initialise_forward,
     FIELD(forward, n),
     FIELD(forward, running),
     FIELD(forward, stream),
     {NULL, NULL},
     {FORWARD_SLOTS, OUT(forward, state, STATE, OK)}},
    {"forward without state",
     run_forward,
     initialise_forward,
     FIELD(forward, n),
     FIELD(forward, running),
     FIELD(forward, stream),
     {"x", "y"},
     {FORWARD_SLOTS}},
    {"infer",
     run_infer,
     initialise_infer,
     FIELD(infer, n),
     NO,
     FIELD(infer, stream),
     {"x", "y"},
     {IN(infer, x, TENSOR, E_MISSING), OUT(infer, y, TENSOR, E_MISSING), IN(infer, weight, CHANNEL, OK),
      IN(infer, bias, CHANNEL, OK), IN(infer, running_mean, CHANNEL, E_STATISTICS_MISSING),
      IN(infer, running_var, CHANNEL, E_STATISTICS_MISSING), OUT(infer, workspace, WORKSPACE, OK)}},
    {"fold",
     run_fold,
     initialise_fold,
     NO,
     NO,
     FIELD(fold, stream),
     {"layer_weight", "layer_weight_out", "layer_bias", "layer_bias_out"},
     {IN(fold, layer_weight, TENSOR, E_MISSING), OUT(fold, layer_weight_out, TENSOR, E_MISSING),
      IN(fold, layer_bias, CHANNEL, OK), OUT(fold, layer_bias_out, CHANNEL, E_MISSING), IN(fold, weight, CHANNEL, OK),
      IN(fold, bias, CHANNEL, OK), IN(fold, running_mean, CHANNEL, E_STATISTICS_MISSING),
      IN(fold, running_var, CHANNEL, E_STATISTICS_MISSING), OUT(fold, workspace, WORKSPACE, OK)}},
    {"backward from state",
     run_backward,
     initialise_backward,
     FIELD(backward, n),
     NO,
     FIELD(backward, stream),
     {"dy", "dx"},
     {IN(backward, x, TENSOR, E_MISSING), BACKWARD_SLOTS, IN(backward, state, STATE, E_STATISTICS_SOURCE)}},
    {"backward from mean and rstd",
     run_backward,
     initialise_backward,
     FIELD(backward, n),
     NO,
     FIELD(backward, stream),
     {"dy", "dx"},
     {IN(backward, x, TENSOR, E_MISSING), BACKWARD_SLOTS, IN(backward, mean, CHANNEL, E_STATISTICS_MISSING),
      IN(backward, rstd, CHANNEL, E_STATISTICS_MISSING)}},
    {"backward from running statistics",
     run_backward,
     initialise_backward,
     FIELD(backward, n),
     NO,
     FIELD(backward, stream),
     {"dy", "dx"},
     {IN(backward, x, TENSOR, E_MISSING), BACKWARD_SLOTS, IN(backward, running_mean, CHANNEL, E_STATISTICS_MISSING),
      IN(backward, running_var, CHANNEL, E_STATISTICS_MISSING)}},
    {"statistics",
     run_statistics,
     initialise_statistics,
     FIELD(statistics, n),
     NO,
     FIELD(statistics, stream),
     {NULL, NULL},
     {IN(statistics, x, TENSOR, E_MISSING), OUT(statistics, statistics, STATISTICS, E_MISSING),
      OUT(statistics, workspace, WORKSPACE, OK)}},
    {"merge",
     run_merge,
     initialise_merge_parts,
     NO,
     NO,
     FIELD(merge, stream),
     {NULL, NULL},
     {IN(merge, gathered, GATHERED, E_MISSING), OUT(merge, statistics, STATISTICS, E_MISSING),
      OUT(merge, workspace, WORKSPACE, OK)}},
    {"commit",
     run_commit,
     initialise_commit,
     NO,
     FIELD(commit, running),
     FIELD(commit, stream),
     {NULL, NULL},
     {IN(commit, statistics, STATISTICS, E_MISSING), OUT(commit, running_mean, CHANNEL, E_STATISTICS_MISSING),
      OUT(commit, running_var, CHANNEL, E_STATISTICS_MISSING), OUT(commit, workspace, WORKSPACE, OK)}},
    {"apply",
     run_apply,
     initialise_apply,
     FIELD(apply, n),
     NO,
     FIELD(apply, stream),
     {NULL, NULL},
     {APPLY_SLOTS, OUT(apply, state, STATE, OK)}},
    {"apply without state",
     run_apply,
     initialise_apply,
     FIELD(apply, n),
     NO,
     FIELD(apply, stream),
     {"x", "y"},
     {APPLY_SLOTS}},
    {"backward_reduce from state",
     run_backward_reduce,
     initialise_backward_reduce,
     FIELD(backward_reduce, n),
     NO,
     FIELD(backward_reduce, stream),
     {NULL, NULL},
     {REDUCE_SLOTS, IN(backward_reduce, state, STATE, E_STATISTICS_SOURCE)}},
    {"backward_reduce from mean and rstd",
     run_backward_reduce,
     initialise_backward_reduce,
     FIELD(backward_reduce, n),
     NO,
     FIELD(backward_reduce, stream),
     {NULL, NULL},
     {REDUCE_SLOTS, IN(backward_reduce, mean, CHANNEL, E_STATISTICS_MISSING),
      IN(backward_reduce, rstd, CHANNEL, E_STATISTICS_MISSING)}},
    {"backward_apply from state",
     run_backward_apply,
     initialise_backward_apply,
     FIELD(backward_apply, n),
     NO,
     FIELD(backward_apply, stream),
     {"dy", "dx"},
     {BACKWARD_APPLY_SLOTS, IN(backward_apply, state, STATE, E_STATISTICS_SOURCE)}},
    {"backward_apply from mean and rstd",
     run_backward_apply,
     initialise_backward_apply,
     FIELD(backward_apply, n),
     NO,
     FIELD(backward_apply, stream),
     {"dy", "dx"},
     {BACKWARD_APPLY_SLOTS, IN(backward_apply, mean, CHANNEL, E_STATISTICS_MISSING),
      IN(backward_apply, rstd, CHANNEL, E_STATISTICS_MISSING)}},
    {"double_backward from state",
     run_double_backward,
     initialise_double_backward,
     FIELD(double_backward, n),
     NO,
     FIELD(double_backward, stream),
     {NULL, NULL},
     {DOUBLE_SLOTS, IN(double_backward, state, STATE, E_STATISTICS_SOURCE)}},
    {"double_backward from mean and rstd",
     run_double_backward,
     initialise_double_backward,
     FIELD(double_backward, n),
     NO,
     FIELD(double_backward, stream),
     {NULL, NULL},
     {DOUBLE_SLOTS, IN(double_backward, mean, CHANNEL, E_STATISTICS_MISSING),
      IN(double_backward, rstd, CHANNEL, E_STATISTICS_MISSING)}},
    {"double_backward from running statistics",
     run_double_backward,
     initialise_double_backward,
     FIELD(double_backward, n),
     NO,
     FIELD(double_backward, stream),
     {NULL, NULL},
     {DOUBLE_SLOTS, IN(double_backward, running_mean, CHANNEL, E_STATISTICS_MISSING),
      IN(double_backward, running_var, CHANNEL, E_STATISTICS_MISSING)}},
    {NULL, NULL, NULL, NO, NO, NO, {NULL, NULL}, {{NULL, 0, SLOT_TENSOR, false, CLNORM_OK}}},
};

clnorm_plan *plan_of_all_calls(clnorm_device *device, const struct shape *shape)
{
    clnorm_desc desc = shape_desc(shape);
    desc.double_backward = 1;
    return test_plan_of(device, &desc);
}

int call_count(void)
{
    int count = 0;
    while (calls[count].name)
        count++;
    return count;
}

const struct call *call_named(const char *name)
{
    for (const struct call *call = calls; call->name; call++) {
        if (strcmp(call->name, name) == 0)
            return call;
    }
    ck_abort_msg("no call '%s'", name);
    return NULL;
}

clnorm_buffer *slot_buffer(union call_args *args, const struct slot *slot)
{
    return (clnorm_buffer *)(void *)((char *)args + slot->field);
}

size_t slot_bytes(const struct slot *slot, const clnorm_plan *plan, const struct shape *shape)
{
    switch (slot->size) {
    case SLOT_TENSOR:
        return shape_elements(shape, shape->n) * sizeof(float);
    case SLOT_CHANNEL:
        return (size_t)shape->c * sizeof(float);
    case SLOT_STATE:
        return clnorm_plan_state_bytes(plan);
    case SLOT_STATISTICS:
        return clnorm_plan_statistics_bytes(plan);
    case SLOT_SUMS:
        return clnorm_plan_sums_bytes(plan);
    case SLOT_GATHERED:
        return CALL_PARTS * clnorm_plan_statistics_bytes(plan);
    case SLOT_WORKSPACE:
        return clnorm_plan_workspace_bytes(plan);
    }
    ck_abort_msg("no such size");
    return 0;
}

/* ---- stage ----------------------------------------------------------------------------------------------------- */

static void block_read(const struct stage *stage, unsigned char *target)
{
    if (stage->host)
        memcpy(target, stage->host, stage->bytes);
    else
        ck_assert_msg(clnorm_memory_read(stage->memory, 0, target, stage->bytes) == CLNORM_OK, "%s",
                      clnorm_last_error());
}

static void block_write(const struct stage *stage, const unsigned char *source)
{
    if (stage->host)
        memcpy(stage->host, source, stage->bytes);
    else
        ck_assert_msg(clnorm_memory_write(stage->memory, 0, source, stage->bytes) == CLNORM_OK, "%s",
                      clnorm_last_error());
}

clnorm_buffer stage_part(const struct stage *stage, size_t offset, size_t bytes)
{
    clnorm_buffer buffer;
    switch (stage->kind) {
    case CLNORM_BUFFER_HOST:
        return clnorm_host(stage->host + offset, bytes);
    case CLNORM_BUFFER_MEMORY:
        return clnorm_memory_part(stage->memory, offset, bytes);
    default:
#ifdef CLNORM_WITH_OPENCL
        buffer = clnorm_cl(clnorm_memory_cl(stage->memory), offset, bytes);
#else
        buffer = clnorm_none();
#endif
        return buffer;
    }
}

struct stage *stage_new(clnorm_device *device, clnorm_plan *plan, const struct shape *shape, const struct call *call,
                        clnorm_buffer_kind kind)
{
    enum { ALIGNMENT = 256 };
    struct stage *stage = scratch(sizeof *stage);
    stage->call = call;
    stage->device = device;
    stage->plan = plan;
    stage->shape = *shape;
    stage->kind = kind;
    size_t gap = ALIGNMENT;
    for (int i = 0; call->slots[i].name; i++) {
        stage->length[i] = slot_bytes(&call->slots[i], plan, shape);
        gap = stage->length[i] + ALIGNMENT > gap ? stage->length[i] + ALIGNMENT : gap;
    }
    size_t end = gap / ALIGNMENT * ALIGNMENT;
    for (int i = 0; call->slots[i].name; i++) {
        stage->at[i] = end;
        end = (end + stage->length[i] + gap + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    }
    stage->bytes = end;
    stage->before = scratch(end);
    struct random random = {1};
    for (size_t i = 0; i < end; i += sizeof(float)) {
        float value = random_uniform(&random, 0.5f, 1.5f);
        memcpy(stage->before + i, &value, sizeof value);
    }
    if (kind == CLNORM_BUFFER_HOST) {
        stage->host = scratch(end);
    } else {
        stage->memory = test_memory(device, end);
    }
    block_write(stage, stage->before);
    call->initialise(&stage->args);
    for (int i = 0; call->slots[i].name; i++) {
        if (stage->length[i])
            *slot_buffer(&stage->args, &call->slots[i]) = stage_part(stage, stage->at[i], stage->length[i]);
    }
    return stage;
}

void stage_remember(struct stage *stage)
{
    block_read(stage, stage->before);
}

bool stage_unchanged(struct stage *stage, const char *what)
{
    unsigned char *now = malloc(stage->bytes);
    ck_assert_ptr_nonnull(now);
    block_read(stage, now);
    bool same = memcmp(now, stage->before, stage->bytes) == 0;
    for (int i = 0; !same && stage->call->slots[i].name; i++)
        expect(memcmp(now + stage->at[i], stage->before + stage->at[i], stage->length[i]) == 0, "%s: %s changed", what,
               stage->call->slots[i].name);
    expect(same, "%s: memory changed", what);
    if (!same)
        block_write(stage, stage->before);
    free(now);
    return same;
}

void stage_kinds(const clnorm_device *device, clnorm_buffer_kind kinds[2])
{
    kinds[0] = CLNORM_BUFFER_MEMORY;
    kinds[1] = on_host(device) ? CLNORM_BUFFER_HOST : CLNORM_BUFFER_CL;
}
