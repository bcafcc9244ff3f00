/* Every pair of a buffer that a call writes and any other: refused when they share a byte, but for the pairs that the
 * contract lets be the very same bytes. */
#include "calls.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef CLNORM_WITH_OPENCL
#include <clnorm/opencl.h>
#endif

static const struct shape small = {CLNORM_NSC, 3, 5, 1, {7, 0, 0}};

static bool may_be_same(const struct call *call, const char *a, const char *b)
{
    for (int i = 0; i < 4 && call->in_place[i]; i += 2) {
        const char *in = call->in_place[i], *out = call->in_place[i + 1];
        if ((strcmp(a, in) == 0 && strcmp(b, out) == 0) || (strcmp(b, in) == 0 && strcmp(a, out) == 0))
            return true;
    }
    return false;
}

/* Puts slot b at `at` and runs. The sentence must name both. */
static void place(struct stage *stage, int a, int b, size_t at, bool allowed, const char *how)
{
    char what[256];
    const char *first = stage->call->slots[a].name, *second = stage->call->slots[b].name;
    union call_args args = stage->args;
    *slot_buffer(&args, &stage->call->slots[b]) = stage_part(stage, at, stage->length[b]);
    snprintf(what, sizeof what, "%s (buffers of kind %d), %s %s %s", stage->call->name, (int)stage->kind, second, how,
             first);
    if (allowed) {
        expect_status(stage->call->run(stage->plan, &args), CLNORM_OK, what);
        stage_remember(stage);
        return;
    }
    clnorm_status got = stage->call->run(stage->plan, &args);
    if (expect_error(got, CLNORM_E_OVERLAP, first, NULL, what))
        expect_error(got, CLNORM_E_OVERLAP, second, NULL, what);
    stage_unchanged(stage, what);
}

START_TEST(every_pair)
{
    clnorm_device *device = test_device(_i);
    clnorm_buffer_kind kinds[2];
    stage_kinds(device, kinds);
    clnorm_plan *plan = plan_of_all_calls(device, &small);
    for (const struct call *call = calls; call->name; call++) {
        for (int kind = 0; kind < 2; kind++) {
            struct stage *stage = stage_new(device, plan, &small, call, kinds[kind]);
            expect_status(call->run(plan, &stage->args), CLNORM_OK, call->name);
            stage_remember(stage);
            for (int a = 0; call->slots[a].name; a++) {
                for (int b = 0; call->slots[b].name; b++) {
                    if (a == b || !stage->length[a] || !stage->length[b])
                        continue;
                    bool written = call->slots[a].written || call->slots[b].written;
                    bool same = may_be_same(call, call->slots[a].name, call->slots[b].name);
                    place(stage, a, b, stage->at[a], !written || same, "over");
                    place(stage, a, b, stage->at[a] + stage->length[a] - 4, !written, "from the last element of");
                    if (stage->length[a] > 4)
                        place(stage, a, b, stage->at[a] + 4, !written, "from the second element of");
                    place(stage, a, b, stage->at[a] + stage->length[a], true, "right after");
                }
            }
        }
    }
}
END_TEST

#ifdef CLNORM_WITH_OPENCL

/* Two sub-buffers of one parent, the parent beside them, and library memory beside the cl_mem behind it. */
START_TEST(sub_buffers)
{
    clnorm_device *device = test_opencl_device(_i);
    clnorm_plan *plan = test_plan(device, &small, -1);
    size_t bytes = shape_elements(&small, small.n) * sizeof(float), room = (size_t)1 << 16, origin = (size_t)1 << 14;
    clnorm_memory *memory = test_memory(device, room);
    cl_mem parent = clnorm_memory_cl(memory);
    float *filled = random_floats(5, room / sizeof(float), 1, 0);
    ck_assert_int_eq(clnorm_memory_write(memory, 0, filled, room), CLNORM_OK);
    cl_buffer_region regions[3] = {{origin, origin}, {origin, 2 * origin}, {2 * origin, origin}};
    cl_mem sub[3];
    for (int i = 0; i < 3; i++) {
        cl_int error;
        sub[i] = clCreateSubBuffer(parent, CL_MEM_READ_WRITE, CL_BUFFER_CREATE_TYPE_REGION, &regions[i], &error);
        ck_assert_int_eq(error, CL_SUCCESS);
    }
    const struct {
        const char *what;
        clnorm_buffer x, y;
        bool allowed;
    } rows[] = {
        {"two sub-buffers of the same region", clnorm_cl(sub[0], 0, bytes), clnorm_cl(sub[1], 0, bytes), true},
        {"two sub-buffers that share an element", clnorm_cl(sub[0], 0, bytes), clnorm_cl(sub[1], bytes - 4, bytes),
         false},
        {"a sub-buffer and its parent", clnorm_cl(sub[0], 0, bytes), clnorm_cl(parent, origin + 4, bytes), false},
        {"the parent and a sub-buffer", clnorm_cl(parent, origin + 4, bytes), clnorm_cl(sub[0], 0, bytes), false},
        {"library memory and a sub-buffer of its cl_mem", clnorm_memory_part(memory, origin + 4, bytes),
         clnorm_cl(sub[0], 0, bytes), false},
        {"library memory and its cl_mem", clnorm_memory_part(memory, 4, bytes), clnorm_cl(parent, 0, bytes), false},
        {"sub-buffers apart", clnorm_cl(sub[0], 0, bytes), clnorm_cl(sub[2], 0, bytes), true},
        {"a sub-buffer and what its parent has beside it", clnorm_cl(sub[0], 0, bytes),
         clnorm_cl(parent, origin + bytes, bytes), true},
    };
    struct array mean = array_new(device, 5, random_floats(1, 5, 1, 0));
    struct array var = array_new(device, 5, random_floats(1, 5, 0.1f, 1));
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        clnorm_infer_args args = CLNORM_INFER_ARGS_INIT;
        args.x = rows[i].x;
        args.y = rows[i].y;
        args.running_mean = mean.buffer;
        args.running_var = var.buffer;
        expect_status(clnorm_infer(plan, &args), rows[i].allowed ? CLNORM_OK : CLNORM_E_OVERLAP, rows[i].what);
    }
    /* A range within its sub-buffer's parent, but not within the sub-buffer. */
    clnorm_infer_args args = CLNORM_INFER_ARGS_INIT;
    args.x = clnorm_cl(sub[0], origin - bytes + 4, bytes);
    args.y = clnorm_memory_part(memory, 0, bytes);
    args.running_mean = mean.buffer;
    args.running_var = var.buffer;
    expect_error(clnorm_infer(plan, &args), CLNORM_E_BUFFER_SIZE, "x", NULL, "beyond a sub-buffer");
    for (int i = 0; i < 3; i++)
        clReleaseMemObject(sub[i]);
}
END_TEST

#endif

/* On cpu library memory is host memory, which a map shows: the two kinds can meet. */
START_TEST(host_pointer_into_library_memory)
{
    clnorm_device *device = open_device("cpu");
    clnorm_plan *plan = test_plan(device, &small, -1);
    size_t bytes = shape_elements(&small, small.n) * sizeof(float);
    clnorm_memory *memory = test_memory(device, 4 * bytes);
    float *values = random_floats(7, bytes, 1, 0);
    ck_assert_int_eq(clnorm_memory_write(memory, 0, values, 4 * bytes), CLNORM_OK);
    void *mapped = NULL;
    ck_assert_int_eq(clnorm_memory_map(memory, 0, 4 * bytes, &mapped), CLNORM_OK);
    ck_assert_int_eq(clnorm_memory_unmap(memory), CLNORM_OK);
    clnorm_forward_args args = CLNORM_FORWARD_ARGS_INIT;
    args.x = clnorm_memory_part(memory, 4, bytes);
    args.y = clnorm_host(mapped, bytes);
    expect_error(clnorm_forward(plan, &args), CLNORM_E_OVERLAP, "y", NULL, "a host pointer into library memory");
    args.x = clnorm_memory_part(memory, 2 * bytes, bytes);
    expect_status(clnorm_forward(plan, &args), CLNORM_OK, "a host pointer into library memory, apart");
}
END_TEST

/* Buffers that are only read may share all they like, and give what separate ones give. */
START_TEST(inputs_may_overlap)
{
    clnorm_device *device = test_device(_i);
    clnorm_plan *plan = test_plan(device, &small, -1);
    size_t count = shape_elements(&small, small.n);
    float *x = random_floats(9, count, 1, 0), *w = random_floats(10, 5, 1, 0);
    struct array one = array_new(device, count, x), two = array_new(device, count, x);
    struct array weight = array_new(device, 5, w), bias = array_new(device, 5, w);
    struct array y[2], dx[2], state = array_bytes(device, clnorm_plan_state_bytes(plan));
    for (int shared = 0; shared < 2; shared++) {
        y[shared] = array_new(device, count, NULL);
        dx[shared] = array_new(device, count, NULL);
        clnorm_forward_args f = CLNORM_FORWARD_ARGS_INIT;
        f.x = one.buffer;
        f.y = y[shared].buffer;
        f.weight = weight.buffer;
        f.bias = shared ? weight.buffer : bias.buffer;
        f.state = state.buffer;
        expect_status(clnorm_forward(plan, &f), CLNORM_OK, "weight as bias");
        clnorm_backward_args b = CLNORM_BACKWARD_ARGS_INIT;
        b.x = one.buffer;
        b.dy = shared ? one.buffer : two.buffer;
        b.weight = weight.buffer;
        b.state = state.buffer;
        b.dx = dx[shared].buffer;
        expect_status(clnorm_backward(plan, &b), CLNORM_OK, "x as dy");
    }
    expect_same(array_get(&y[1]), array_get(&y[0]), count, "y with one buffer as weight and bias");
    expect_same(array_get(&dx[1]), array_get(&dx[0]), count, "dx with one buffer as x and dy");
}
END_TEST

/* The allowed in-place calls give the bits of the calls with separate buffers. */
START_TEST(in_place_gives_the_same_bits)
{
    clnorm_device *device = test_device(_i);
    static const struct shape shapes[] = {
        {CLNORM_NC, 37, 19, 0, {0, 0, 0}}, {CLNORM_NCS, 5, 7, 2, {9, 11, 0}}, {CLNORM_NSC, 5, 7, 2, {9, 11, 0}}};
    static const char *const rows[] = {"forward without state",
                                       "infer",
                                       "apply without state",
                                       "backward from state",
                                       "backward from running statistics",
                                       "backward_apply from state"};
    for (size_t s = 0; s < 3; s++) {
        clnorm_plan *plan = test_plan(device, &shapes[s], -1);
        size_t count = shape_elements(&shapes[s], shapes[s].n);
        for (size_t r = 0; r < sizeof rows / sizeof *rows; r++) {
            const struct call *call = call_named(rows[r]);
            struct stage *stage = stage_new(device, plan, &shapes[s], call, CLNORM_BUFFER_MEMORY);
            int in = -1, out = -1;
            for (int i = 0; call->slots[i].name; i++) {
                if (strcmp(call->slots[i].name, call->in_place[0]) == 0)
                    in = i;
                if (strcmp(call->slots[i].name, call->in_place[1]) == 0)
                    out = i;
            }
            ck_assert(in >= 0 && out >= 0);
            float *apart = scratch_floats(count), *together = scratch_floats(count);
            /* In the same state of all inputs: the first call may update running statistics, so put everything back. */
            struct stage *again = stage_new(device, plan, &shapes[s], call, CLNORM_BUFFER_MEMORY);
            expect_status(call->run(plan, &stage->args), CLNORM_OK, call->name);
            ck_assert_int_eq(clnorm_memory_read(stage->memory, stage->at[out], apart, count * 4), CLNORM_OK);
            *slot_buffer(&again->args, &call->slots[out]) = stage_part(again, again->at[in], again->length[in]);
            expect_status(call->run(plan, &again->args), CLNORM_OK, call->name);
            ck_assert_int_eq(clnorm_memory_read(again->memory, again->at[in], together, count * 4), CLNORM_OK);
            char what[128];
            snprintf(what, sizeof what, "%s in place, %s", call->name, shape_text(&shapes[s]));
            expect_same(together, apart, count, what);
        }
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("overlap");
    TCase *tcase = add_case(suite, "overlap", 100);
    add_device_test(tcase, every_pair);
#ifdef CLNORM_WITH_OPENCL
    add_opencl_device_test(tcase, sub_buffers);
#endif
    tcase_add_test(tcase, host_pointer_into_library_memory);
    add_device_test(tcase, inputs_may_overlap);
    add_device_test(tcase, in_place_gives_the_same_bits);
    return run_suites(&suite, 1);
}
