/* Every wrong argument of every run call: its own status, one sentence that names it, and nothing touched. */
#include "calls.h"

#include <float.h>
#include <stdio.h>
#include <string.h>

#ifdef CLNORM_WITH_OPENCL
#include <clnorm/opencl.h>
#endif

static const struct shape small = {CLNORM_NCS, 3, 5, 2, {2, 3, 0}};

/* A stage whose correct call has succeeded, so that the one thing changed later is what fails. */
static struct stage *working_stage(clnorm_device *device, const struct call *call, clnorm_buffer_kind kind)
{
    struct stage *stage = stage_new(device, plan_of_all_calls(device, &small), &small, call, kind);
    clnorm_status status = call->run(stage->plan, &stage->args);
    ck_assert_msg(status == CLNORM_OK, "%s with correct arguments: %s: %s", call->name, clnorm_status_name(status),
                  clnorm_last_error());
    stage_remember(stage);
    return stage;
}

/* Runs the call on changed arguments. */
static void refuse(struct stage *stage, const union call_args *args, clnorm_status want, const char *name,
                   const char *number, const char *why)
{
    char what[256];
    snprintf(what, sizeof what, "%s (buffers of kind %d), %s", stage->call->name, (int)stage->kind, why);
    expect_error(stage->call->run(stage->plan, args), want, name, number, what);
    stage_unchanged(stage, what);
}

static void refuse_buffer(struct stage *stage, int i, clnorm_buffer buffer, clnorm_status want, const char *number,
                          const char *why)
{
    char what[128];
    union call_args args = stage->args;
    *slot_buffer(&args, &stage->call->slots[i]) = buffer;
    snprintf(what, sizeof what, "%s %s", stage->call->slots[i].name, why);
    refuse(stage, &args, want, stage->call->slots[i].name, number, what);
}

static const char *number_text(long long value)
{
    static char text[4][32];
    static int next;
    char *at = text[next++ % 4];
    snprintf(at, sizeof text[0], "%lld", value);
    return at;
}

static struct stage *each_stage(clnorm_device *device, int call, int kind)
{
    clnorm_buffer_kind kinds[2];
    stage_kinds(device, kinds);
    return working_stage(device, &calls[call], kinds[kind]);
}

#define FOR_EACH_STAGE(stage, device)                                                                                  \
    for (int call_ = 0; call_ < call_count(); call_++)                                                                 \
        for (int kind_ = 0; kind_ < 2; kind_++)                                                                        \
            for (struct stage *stage = each_stage(device, call_, kind_); stage; stage = NULL)

/* ---- the call itself --------------------------------------------------------------------------------------------- */

START_TEST(null_pointers)
{
    clnorm_device *device = test_device(_i);
    FOR_EACH_STAGE(stage, device)
    {
        expect_error(stage->call->run(NULL, &stage->args), CLNORM_E_NULL, "plan", NULL, stage->call->name);
        stage_unchanged(stage, "plan NULL");
        refuse(stage, NULL, CLNORM_E_NULL, "args", NULL, "args NULL");
        expect_error(stage->call->run(NULL, NULL), CLNORM_E_NULL, NULL, NULL, stage->call->name);
    }
}
END_TEST

START_TEST(struct_sizes)
{
    clnorm_device *device = test_device(_i);
    FOR_EACH_STAGE(stage, device)
    {
        const size_t right = stage->args.size;
        const size_t wrong[] = {0, 1, sizeof(size_t), right - 1, right + 1, right - 8, right + 8, 1u << 20, SIZE_MAX};
        for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
            char number[32], what[64];
            union call_args args = stage->args;
            args.size = wrong[i];
            snprintf(number, sizeof number, "%zu", wrong[i]);
            snprintf(what, sizeof what, "size %zu", wrong[i]);
            refuse(stage, &args, CLNORM_E_STRUCT_SIZE, "size", number, what);
        }
    }
}
END_TEST

START_TEST(samples)
{
    static const int64_t wrong[] = {-2, -3, 4, 5, 1000, INT64_MAX, INT64_MIN, (int64_t)1 << 32, ((int64_t)1 << 32) + 1};
    clnorm_device *device = test_device(_i);
    FOR_EACH_STAGE(stage, device)
    {
        if (stage->call->n == CALL_NO_FIELD)
            continue;
        for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
            union call_args args = stage->args;
            char what[64];
            memcpy((char *)&args + stage->call->n, &wrong[i], sizeof wrong[i]);
            snprintf(what, sizeof what, "n = %lld", (long long)wrong[i]);
            refuse(stage, &args, CLNORM_E_N, "n", number_text(wrong[i]), what);
        }
    }
}
END_TEST

START_TEST(merge_of_no_parts)
{
    clnorm_device *device = test_device(_i);
    struct stage *stage = working_stage(device, call_named("merge"), CLNORM_BUFFER_MEMORY);
    union call_args args = stage->args;
    args.merge.parts = 0;
    refuse(stage, &args, CLNORM_E_SHAPE, "parts", "0", "no parts");
    args.merge.parts = CALL_PARTS + 1;
    refuse(stage, &args, CLNORM_E_BUFFER_SIZE, "gathered", NULL, "one part more than gathered");
    args.merge.parts = UINT32_MAX;
    refuse(stage, &args, CLNORM_E_BUFFER_SIZE, "gathered", NULL, "2^32 - 1 parts");
}
END_TEST

/* ---- buffers ----------------------------------------------------------------------------------------------------- */

START_TEST(missing_buffers)
{
    clnorm_device *device = test_device(_i);
    FOR_EACH_STAGE(stage, device)
    {
        for (int i = 0; stage->call->slots[i].name; i++) {
            const struct slot *slot = &stage->call->slots[i];
            if (slot->missing != CLNORM_OK) {
                /* No source of statistics at all is not one missing buffer: the sentence tells of the sources. */
                union call_args args = stage->args;
                *slot_buffer(&args, slot) = clnorm_none();
                refuse(stage, &args, slot->missing, slot->name, NULL, slot->name);
                continue;
            }
            union call_args args = stage->args;
            *slot_buffer(&args, slot) = clnorm_none();
            char what[128];
            snprintf(what, sizeof what, "%s without %s", stage->call->name, slot->name);
            expect_status(stage->call->run(stage->plan, &args), CLNORM_OK, what);
            stage_remember(stage);
        }
    }
}
END_TEST

START_TEST(small_buffers)
{
    clnorm_device *device = test_device(_i);
    FOR_EACH_STAGE(stage, device)
    {
        for (int i = 0; stage->call->slots[i].name; i++) {
            size_t at = stage->at[i], length = stage->length[i];
            bool exact = stage->call->slots[i].size == SLOT_CHANNEL;
            clnorm_status want = exact ? CLNORM_E_LENGTH : CLNORM_E_BUFFER_SIZE;
            if (!length)
                continue;
            refuse_buffer(stage, i, stage_part(stage, at, length - 4), want, number_text((long long)length - 4),
                          "an element short");
            refuse_buffer(stage, i, stage_part(stage, at, length - 1), want, number_text((long long)length - 1),
                          "a byte short");
            refuse_buffer(stage, i, stage_part(stage, at, 0), want, "0", "of no bytes");
            if (exact) {
                refuse_buffer(stage, i, stage_part(stage, at, length + 4), want, number_text((long long)length + 4),
                              "an element long");
                refuse_buffer(stage, i, stage_part(stage, at, 4 * length), want, number_text(4 * (long long)length),
                              "four times as long");
            }
        }
    }
}
END_TEST

START_TEST(buffers_beyond_their_memory)
{
    clnorm_device *device = test_device(_i);
    FOR_EACH_STAGE(stage, device)
    {
        if (stage->kind == CLNORM_BUFFER_HOST)
            continue; /* host memory has no end that the library could know */
        for (int i = 0; stage->call->slots[i].name; i++) {
            size_t length = stage->length[i];
            if (!length)
                continue;
            refuse_buffer(stage, i, stage_part(stage, stage->bytes - length + 4, length), CLNORM_E_BUFFER_SIZE, NULL,
                          "ends 4 bytes after the memory");
            refuse_buffer(stage, i, stage_part(stage, stage->bytes, length), CLNORM_E_BUFFER_SIZE, NULL,
                          "begins at the end of the memory");
            refuse_buffer(stage, i, stage_part(stage, stage->bytes + 4096, length), CLNORM_E_BUFFER_SIZE, NULL,
                          "begins after the memory");
            refuse_buffer(stage, i, stage_part(stage, SIZE_MAX - 3, length), CLNORM_E_BUFFER_SIZE, NULL,
                          "begins at 2^64 - 4");
            refuse_buffer(stage, i, stage_part(stage, SIZE_MAX - length + 1, length), CLNORM_E_BUFFER_SIZE, NULL,
                          "ends at 2^64");
        }
    }
}
END_TEST

START_TEST(misaligned_buffers)
{
    clnorm_device *device = test_device(_i);
    FOR_EACH_STAGE(stage, device)
    {
        for (int i = 0; stage->call->slots[i].name; i++) {
            if (!stage->length[i])
                continue;
            for (size_t shift = 1; shift < 4; shift++)
                refuse_buffer(stage, i, stage_part(stage, stage->at[i] + shift, stage->length[i]),
                              CLNORM_E_BUFFER_ALIGNMENT, NULL, "off by one to three bytes");
        }
    }
}
END_TEST

START_TEST(buffers_without_an_object)
{
    clnorm_device *device = test_device(_i);
    FOR_EACH_STAGE(stage, device)
    {
        for (int i = 0; stage->call->slots[i].name; i++) {
            if (!stage->length[i])
                continue;
            clnorm_buffer buffer = stage_part(stage, stage->at[i], stage->length[i]);
            buffer.handle = NULL;
            refuse_buffer(stage, i, buffer, CLNORM_E_NULL, NULL, "of a NULL handle");
        }
    }
}
END_TEST

START_TEST(buffers_of_another_kind)
{
    clnorm_device *device = test_device(_i);
    static _Alignas(64) float outside[4096];
    bool host = on_host(device);
    FOR_EACH_STAGE(stage, device)
    {
        for (int i = 0; stage->call->slots[i].name; i++) {
            size_t length = stage->length[i];
            if (!length)
                continue;
            clnorm_buffer buffer = clnorm_host(outside, length);
            if (host)
                buffer.kind = CLNORM_BUFFER_CL;
            refuse_buffer(stage, i, buffer, CLNORM_E_BUFFER_KIND, NULL, "of a kind for other devices");
            buffer = stage_part(stage, stage->at[i], length);
            buffer.kind = (clnorm_buffer_kind)4;
            refuse_buffer(stage, i, buffer, CLNORM_E_BUFFER_KIND, "4", "of kind 4");
            buffer.kind = (clnorm_buffer_kind)-1;
            refuse_buffer(stage, i, buffer, CLNORM_E_BUFFER_KIND, NULL, "of kind -1");
        }
    }
    for (size_t i = 0; i < sizeof outside / sizeof *outside; i++)
        expect(outside[i] == 0, "host memory was written");
}
END_TEST

START_TEST(buffers_of_another_device)
{
    clnorm_device *device = test_device(_i), *twin = test_device(_i);
    clnorm_device *cpu = open_device("cpu");
    enum { ROOM = 1 << 16 };
    clnorm_memory *of_twin = test_memory(twin, ROOM), *of_cpu = test_memory(cpu, ROOM);
    FOR_EACH_STAGE(stage, device)
    {
        for (int i = 0; stage->call->slots[i].name; i++) {
            size_t length = stage->length[i];
            if (!length)
                continue;
            refuse_buffer(stage, i, clnorm_memory_part(of_twin, 0, length), CLNORM_E_BUFFER_DEVICE, NULL,
                          "in memory of the same device opened again");
            refuse_buffer(stage, i, clnorm_memory_part(of_cpu, 0, length), CLNORM_E_BUFFER_DEVICE, NULL,
                          "in memory of another cpu device");
#ifdef CLNORM_WITH_OPENCL
            if (!on_host(device))
                refuse_buffer(stage, i, clnorm_cl(clnorm_memory_cl(of_twin), 0, length), CLNORM_E_BUFFER_DEVICE, NULL,
                              "a cl_mem of another context");
#endif
        }
    }
}
END_TEST

/* ---- running statistics and sources ------------------------------------------------------------------------------ */

static clnorm_running *running_of(union call_args *args, const struct call *call)
{
    return (clnorm_running *)(void *)((char *)args + call->running);
}

START_TEST(momentum)
{
    static const struct {
        float value;
        const char *text;
    } wrong[] = {{-0.5f, "-0.5"}, {1.5f, "1.5"},     {-1e-30f, NULL},    {1.0000001f, NULL},
                 {NAN, "nan"},    {INFINITY, "inf"}, {-INFINITY, "inf"}, {FLT_MAX, NULL}};
    clnorm_device *device = test_device(_i);
    FOR_EACH_STAGE(stage, device)
    {
        if (stage->call->running == CALL_NO_FIELD)
            continue;
        for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
            union call_args args = stage->args;
            char what[64];
            running_of(&args, stage->call)->momentum = wrong[i].value;
            snprintf(what, sizeof what, "momentum %g", (double)wrong[i].value);
            refuse(stage, &args, CLNORM_E_MOMENTUM, "momentum", wrong[i].text, what);
        }
        /* A cumulative average ignores the momentum; the ends of the range are in it. */
        union call_args args = stage->args;
        running_of(&args, stage->call)->average = CLNORM_CUMULATIVE;
        running_of(&args, stage->call)->momentum = NAN;
        expect_status(stage->call->run(stage->plan, &args), CLNORM_OK, "momentum NaN in a cumulative average");
        args = stage->args;
        running_of(&args, stage->call)->momentum = 0;
        expect_status(stage->call->run(stage->plan, &args), CLNORM_OK, "momentum 0");
        running_of(&args, stage->call)->momentum = 1;
        expect_status(stage->call->run(stage->plan, &args), CLNORM_OK, "momentum 1");
    }
}
END_TEST

START_TEST(running_enumerations)
{
    clnorm_device *device = test_device(_i);
    FOR_EACH_STAGE(stage, device)
    {
        if (stage->call->running == CALL_NO_FIELD)
            continue;
        for (int wrong = 2; wrong < 1000; wrong *= 7) {
            union call_args args = stage->args;
            running_of(&args, stage->call)->average = (clnorm_average)wrong;
            refuse(stage, &args, CLNORM_E_ENUM, "average", number_text(wrong), "average out of range");
            args = stage->args;
            running_of(&args, stage->call)->variance = (clnorm_variance)wrong;
            refuse(stage, &args, CLNORM_E_ENUM, "variance", number_text(wrong), "variance out of range");
            args = stage->args;
            running_of(&args, stage->call)->guard = (clnorm_guard)wrong;
            refuse(stage, &args, CLNORM_E_ENUM, "guard", number_text(wrong), "guard out of range");
        }
    }
}
END_TEST

START_TEST(statistics_sources)
{
    clnorm_device *device = test_device(_i);
    struct stage *stage = working_stage(device, call_named("backward from state"), CLNORM_BUFFER_MEMORY);
    struct array spare[4];
    for (int i = 0; i < 4; i++)
        spare[i] = array_new(device, 5, random_floats(3, 5, 0.1f, 1));
    for (int sources = 0; sources < 8; sources++) {
        if (sources == 1 || sources == 2 || sources == 4)
            continue;
        union call_args args = stage->args;
        char what[64];
        if (!(sources & 1))
            args.backward.state = clnorm_none();
        if (sources & 2) {
            args.backward.mean = spare[0].buffer;
            args.backward.rstd = spare[1].buffer;
        }
        if (sources & 4) {
            args.backward.running_mean = spare[2].buffer;
            args.backward.running_var = spare[3].buffer;
        }
        snprintf(what, sizeof what, "sources %d%d%d", sources & 1, sources >> 1 & 1, sources >> 2 & 1);
        refuse(stage, &args, CLNORM_E_STATISTICS_SOURCE, NULL, NULL, what);
    }
    static const char *const steps[] = {"backward_reduce from state", "backward_apply from state"};
    for (int step = 0; step < 2; step++) {
        stage = working_stage(device, call_named(steps[step]), CLNORM_BUFFER_MEMORY);
        for (int both = 0; both < 2; both++) {
            union call_args args = stage->args;
            clnorm_buffer *state = step ? &args.backward_apply.state : &args.backward_reduce.state;
            if (both && step) {
                args.backward_apply.mean = spare[0].buffer;
                args.backward_apply.rstd = spare[1].buffer;
            } else if (both) {
                args.backward_reduce.mean = spare[0].buffer;
                args.backward_reduce.rstd = spare[1].buffer;
            } else {
                *state = clnorm_none();
            }
            refuse(stage, &args, CLNORM_E_STATISTICS_SOURCE, NULL, NULL, both ? "two sources" : "no source");
        }
    }
}
END_TEST

START_TEST(what_backward_needs)
{
    clnorm_device *device = test_device(_i);
    static const char *const rows[] = {"backward from state", "backward from mean and rstd",
                                       "backward from running statistics"};
    for (int row = 0; row < 3; row++) {
        struct stage *stage = working_stage(device, call_named(rows[row]), CLNORM_BUFFER_MEMORY);
        union call_args args = stage->args;
        args.backward.dx = args.backward.dweight = args.backward.dbias = clnorm_none();
        refuse(stage, &args, CLNORM_E_MISSING, NULL, NULL, "no gradient asked for");
        args = stage->args;
        args.backward.x = args.backward.dweight = clnorm_none();
        if (row == 2) /* frozen: dx and dbias do not depend on x */
            expect_status(stage->call->run(stage->plan, &args), CLNORM_OK, "frozen without x and dweight");
        else
            refuse(stage, &args, CLNORM_E_MISSING, "x", NULL, "no x, no dweight");
        stage_remember(stage);
    }
}
END_TEST

START_TEST(what_double_backward_needs)
{
    clnorm_device *device = test_device(_i);
    struct stage *stage = working_stage(device, call_named("double_backward from state"), CLNORM_BUFFER_MEMORY);
    union call_args args = stage->args;
    args.double_backward.g_x = args.double_backward.g_dy = args.double_backward.g_weight = clnorm_none();
    refuse(stage, &args, CLNORM_E_MISSING, "g_weight", NULL, "no gradient asked for");
    args = stage->args;
    args.double_backward.v_dx = args.double_backward.v_dweight = args.double_backward.v_dbias = clnorm_none();
    refuse(stage, &args, CLNORM_E_MISSING, "v_dbias", NULL, "no gradient given");
    struct stage other = *stage; /* the same buffers, of a plan that was not made for it */
    other.plan = test_plan(device, &small, -1);
    refuse(&other, &stage->args, CLNORM_E_UNSUPPORTED, "double_backward", "0", "of a plan without it");
}
END_TEST

static const struct {
    const char *what;
    clnorm_norm norm;
    clnorm_dtype dtype, y_dtype;
    clnorm_activation activation;
    clnorm_residual residual;
    uint32_t value;
    clnorm_status want;
} no_double[] = {
    {"2", CLNORM_BATCH, CLNORM_F32, CLNORM_F32, CLNORM_NO_ACTIVATION, CLNORM_NO_RESIDUAL, 2, CLNORM_E_ENUM},
    {"RMS", CLNORM_RMS, CLNORM_F32, CLNORM_F32, CLNORM_NO_ACTIVATION, CLNORM_NO_RESIDUAL, 1, CLNORM_E_UNSUPPORTED},
    {"instance", CLNORM_INSTANCE, CLNORM_F32, CLNORM_F32, CLNORM_NO_ACTIVATION, CLNORM_NO_RESIDUAL, 1,
     CLNORM_E_UNSUPPORTED},
    {"f16", CLNORM_LAYER, CLNORM_F16, CLNORM_F32, CLNORM_NO_ACTIVATION, CLNORM_NO_RESIDUAL, 1, CLNORM_E_UNSUPPORTED},
    {"bf16", CLNORM_BATCH, CLNORM_F32, CLNORM_BF16, CLNORM_NO_ACTIVATION, CLNORM_NO_RESIDUAL, 1, CLNORM_E_UNSUPPORTED},
    {"ReLU", CLNORM_BATCH, CLNORM_F32, CLNORM_F32, CLNORM_RELU, CLNORM_NO_RESIDUAL, 1, CLNORM_E_UNSUPPORTED},
    {"z", CLNORM_LAYER, CLNORM_F32, CLNORM_F32, CLNORM_NO_ACTIVATION, CLNORM_RESIDUAL_AFTER, 1, CLNORM_E_UNSUPPORTED},
};

START_TEST(plans_without_double_backward)
{
    clnorm_device *device = test_device(_i);
    for (size_t k = 0; k < sizeof no_double / sizeof *no_double; k++) {
        clnorm_desc desc = shape_desc(&small);
        clnorm_plan *plan = NULL;
        desc.norm = no_double[k].norm;
        desc.normalized_dims = desc.norm == CLNORM_LAYER || desc.norm == CLNORM_RMS;
        desc.dtype = no_double[k].dtype;
        desc.y_dtype = no_double[k].y_dtype;
        desc.activation = no_double[k].activation;
        desc.residual = no_double[k].residual;
        desc.double_backward = no_double[k].value;
        expect_error(clnorm_plan_create(device, &desc, &plan), no_double[k].want, "double_backward", NULL,
                     no_double[k].what);
        ck_assert_ptr_null(plan);
    }
    clnorm_desc of_batches = shape_desc(&small);
    clnorm_plan *plan = NULL;
    of_batches.virtual_batch = 2;
    of_batches.double_backward = 1;
    expect_error(clnorm_plan_create(device, &of_batches, &plan), CLNORM_E_UNSUPPORTED, "double_backward", NULL,
                 "virtual batches");
    ck_assert_ptr_null(plan);
}
END_TEST

/* ---- streams ----------------------------------------------------------------------------------------------------- */

static void set_stream(union call_args *args, const struct call *call, const void *stream)
{
    memcpy((char *)args + call->stream, &stream, sizeof stream);
}

START_TEST(streams)
{
    clnorm_device *device = test_device(_i);
#ifdef CLNORM_WITH_OPENCL
    clnorm_device *twin = test_device(_i);
#endif
    FOR_EACH_STAGE(stage, device)
    {
        union call_args args = stage->args;
        if (on_host(device)) {
            static const size_t anything[8];
            set_stream(&args, stage->call, anything);
            refuse(stage, &args, CLNORM_E_STREAM, "stream", NULL, "a stream on cpu");
            continue;
        }
#ifdef CLNORM_WITH_OPENCL
        cl_event left_alone = (cl_event)(void *)&args, event = left_alone, none = NULL;
        clnorm_cl_stream stream = {clnorm_device_cl_queue(twin), 0, NULL, &event};
        set_stream(&args, stage->call, &stream);
        refuse(stage, &args, CLNORM_E_STREAM, "stream", NULL, "a queue of another context");
        stream.queue = NULL;
        refuse(stage, &args, CLNORM_E_STREAM, "stream", NULL, "no queue");
        stream.queue = clnorm_device_cl_queue(device);
        stream.wait_count = 1;
        refuse(stage, &args, CLNORM_E_STREAM, "stream", NULL, "a wait list of one event that is NULL");
        stream.wait = &none;
        refuse(stage, &args, CLNORM_E_STREAM, "stream", NULL, "a NULL event in the wait list");
        cl_int error;
        cl_event foreign = clCreateUserEvent(clnorm_device_cl_context(twin), &error);
        ck_assert_int_eq(error, CL_SUCCESS);
        clSetUserEventStatus(foreign, CL_COMPLETE);
        stream.wait = &foreign;
        refuse(stage, &args, CLNORM_E_STREAM, "stream", NULL, "an event of another context");
        clReleaseEvent(foreign);
        expect(event == left_alone, "%s: the event was set on an error", stage->call->name);
#endif
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("errors");
    TCase *tcase = add_case(suite, "call", 60);
    add_device_test(tcase, null_pointers);
    add_device_test(tcase, struct_sizes);
    add_device_test(tcase, samples);
    add_device_test(tcase, merge_of_no_parts);
    tcase = add_case(suite, "buffers", 60);
    add_device_test(tcase, missing_buffers);
    add_device_test(tcase, small_buffers);
    add_device_test(tcase, buffers_beyond_their_memory);
    add_device_test(tcase, misaligned_buffers);
    add_device_test(tcase, buffers_without_an_object);
    add_device_test(tcase, buffers_of_another_kind);
    add_device_test(tcase, buffers_of_another_device);
    tcase = add_case(suite, "statistics", 60);
    add_device_test(tcase, momentum);
    add_device_test(tcase, running_enumerations);
    add_device_test(tcase, statistics_sources);
    add_device_test(tcase, what_backward_needs);
    add_device_test(tcase, what_double_backward_needs);
    add_device_test(tcase, plans_without_double_backward);
    tcase = add_case(suite, "streams", 60);
    add_device_test(tcase, streams);
    return run_suites(&suite, 1);
}
