/* What calls on a built plan do not do: allocate, build, wait, flush, copy. Counted by the preloaded shim.c. */
#define _GNU_SOURCE /* RTLD_DEFAULT */
#include "calls.h"
#include "layer.h"
#include "shim.h"

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

static struct shim_counts *counts(void)
{
    static struct shim_counts *found; /* looked up once: dlsym allocates, and so does an assertion */
    if (!found) {
        found = dlsym(RTLD_DEFAULT, SHIM_SYMBOL);
        ck_assert_msg(found != NULL, "the shim is not there: LD_PRELOAD it");
    }
    return found;
}

static void reset(void)
{
    memset(counts(), 0, sizeof *counts());
}

static void expect_none(const struct shim_counts *seen, enum shim_group group, const char *what)
{
    expect(seen->of[group] == 0, "%s: %lu calls of %s and the like", what, seen->of[group], seen->last[group]);
}

/* What a call of a plan must not do on any device. */
static void expect_launches_alone(const struct shim_counts *seen, const char *what)
{
    static const enum shim_group groups[] = {SHIM_allocate, SHIM_free, SHIM_create, SHIM_build, SHIM_wait, SHIM_flush};
    for (size_t i = 0; i < sizeof groups / sizeof groups[0]; i++)
        expect_none(seen, groups[i], what);
}

static const struct shape shapes[] = {
    {CLNORM_NC, 64, 48, 0, {0, 0, 0}}, {CLNORM_NCS, 4, 6, 2, {15, 17, 0}}, {CLNORM_NSC, 4, 6, 2, {15, 17, 0}}};
enum { SHAPES = sizeof shapes / sizeof *shapes };

/* The shim sees what it should: making things allocates and creates, and a copy copies. */
START_TEST(the_shim_counts)
{
    reset();
    clnorm_device *device = test_device(_i);
    clnorm_plan *plan = test_plan(device, &shapes[0], -1);
    ck_assert_ptr_nonnull(plan);
    struct shim_counts seen = *counts();
    expect(seen.of[SHIM_allocate] > 0, "opening a device and making a plan allocated nothing");
    if (!on_host(device)) {
        float value = 0;
        expect(seen.of[SHIM_create] > 0 && seen.of[SHIM_build] > 0, "%lu objects, %lu builds", seen.of[SHIM_create],
               seen.of[SHIM_build]);
        clnorm_memory *memory = test_memory(device, 4);
        reset();
        ck_assert_int_eq(clnorm_memory_write(memory, 0, &value, 4), CLNORM_OK);
        ck_assert_int_eq(clnorm_device_finish(device), CLNORM_OK);
        seen = *counts();
        expect(seen.of[SHIM_copy] > 0 && seen.of[SHIM_wait] > 0, "%lu copies, %lu waits", seen.of[SHIM_copy],
               seen.of[SHIM_wait]);
    }
}
END_TEST

/* Every call 1200 times: 200 for each shape and each kind of workspace. */
START_TEST(a_thousand_calls)
{
    clnorm_device *device = test_device(_i);
    bool host = on_host(device);
    for (int s = 0; s < SHAPES; s++) {
        clnorm_plan *plan = plan_of_all_calls(device, &shapes[s]);
        clnorm_build_counts before, after;
        ck_assert_int_eq(clnorm_device_get_build_counts(device, &before), CLNORM_OK);
        for (const struct call *call = calls; call->name; call++) {
            struct stage *stage = stage_new(device, plan, &shapes[s], call, CLNORM_BUFFER_MEMORY);
            for (int of_plan = 0; of_plan < 2; of_plan++) {
                unsigned long failed = 0;
                char what[128];
                snprintf(what, sizeof what, "%s, %s, workspace of its %s", call->name, shape_text(&shapes[s]),
                         of_plan ? "plan" : "caller");
                if (of_plan) {
                    for (int i = 0; call->slots[i].name; i++) {
                        if (call->slots[i].size == SLOT_WORKSPACE)
                            *slot_buffer(&stage->args, &call->slots[i]) = clnorm_none();
                    }
                }
                for (int block = 0; block < 2; block++) {
                    struct shim_counts seen;
                    reset();
                    for (int i = 0; i < 100; i++)
                        failed += call->run(plan, &stage->args) != CLNORM_OK;
                    seen = *counts();
                    expect_launches_alone(&seen, what);
                    expect_none(&seen, SHIM_copy, what);
                    expect(host ? seen.of[SHIM_launch] == 0 : seen.of[SHIM_launch] >= 100, "%s: %lu launches", what,
                           seen.of[SHIM_launch]);
                    ck_assert_int_eq(clnorm_device_finish(device), CLNORM_OK);
                }
                expect(failed == 0, "%s: %lu calls failed", what, failed);
            }
        }
        ck_assert_int_eq(clnorm_device_get_build_counts(device, &after), CLNORM_OK);
        expect(memcmp(&before, &after, sizeof before) == 0, "calls built programs");
    }
}
END_TEST

/* Smaller batches of the same plan: nothing either. */
START_TEST(any_batch_size)
{
    clnorm_device *device = test_device(_i);
    struct layer *l = layer_new(device, &shapes[1], shapes[1].n, -1,
                                random_floats(1, shape_elements(&shapes[1], 4), 1, 0), NULL, NULL);
    for (int64_t n = 0; n <= shapes[1].n; n++) {
        struct shim_counts seen;
        l->forward.n = l->infer.n = l->backward.n = n;
        reset();
        clnorm_status f = clnorm_forward(l->plan, &l->forward), i = clnorm_infer(l->plan, &l->infer);
        clnorm_status b = clnorm_backward(l->plan, &l->backward);
        seen = *counts();
        expect(f == CLNORM_OK && i == CLNORM_OK && b == CLNORM_OK, "%d samples: a call failed", (int)n);
        expect_none(&seen, SHIM_allocate, "a smaller batch");
        expect_none(&seen, SHIM_create, "a smaller batch");
        expect_none(&seen, SHIM_build, "a smaller batch");
        expect_none(&seen, SHIM_wait, "a smaller batch");
        expect_none(&seen, SHIM_flush, "a smaller batch");
        expect_none(&seen, SHIM_copy, "a smaller batch");
        if (n == 0)
            expect_none(&seen, SHIM_launch, "an empty batch");
    }
    ck_assert_int_eq(clnorm_device_finish(device), CLNORM_OK);
}
END_TEST

/* Virtual batches: a call is the calls on the batches, and the running statistics, c floats each, are copied to where the batches enter
 * them and back. */
START_TEST(virtual_batches)
{
    clnorm_device *device = test_device(_i);
    for (int s = 0; s < SHAPES; s++) {
        const size_t count = shape_elements(&shapes[s], shapes[s].n), c = (size_t)shapes[s].c;
        clnorm_desc desc = shape_desc(&shapes[s]);
        unsigned long launches[2][2];
        for (int batches = 1; batches <= 2; batches++) {
            desc.n = shapes[s].n / 2 * batches;
            desc.virtual_batch = shapes[s].n / 2;
            clnorm_plan *plan = test_plan_of(device, &desc);
            const struct array x = array_new(device, count, random_floats(1, count, 1, 0)),
                               y = array_new(device, count, NULL), gradient = array_new(device, c, NULL),
                               running[] = {array_new(device, c, random_floats(2, c, 1, 0)),
                                            array_new(device, c, random_floats(3, c, 0.1f, 1))},
                               state = array_bytes(device, clnorm_plan_state_bytes(plan));
            clnorm_forward_args f = CLNORM_FORWARD_ARGS_INIT;
            f.x = x.buffer;
            f.y = y.buffer;
            f.state = state.buffer;
            f.running_mean = running[0].buffer;
            f.running_var = running[1].buffer;
            clnorm_backward_args b = CLNORM_BACKWARD_ARGS_INIT;
            b.x = b.dy = x.buffer;
            b.state = state.buffer;
            b.dx = y.buffer;
            b.dweight = gradient.buffer;
            for (int backward = 0; backward < 2; backward++) {
                const char *what = backward ? "backward of virtual batches" : "forward of virtual batches";
                reset();
                const clnorm_status status = backward ? clnorm_backward(plan, &b) : clnorm_forward(plan, &f);
                const struct shim_counts seen = *counts();
                expect(status == CLNORM_OK, "%s: %s", what, clnorm_last_error());
                expect_launches_alone(&seen, what);
                const unsigned long copies = batches > 1 && !backward && !on_host(device) ? 4 : 0;
                expect(seen.of[SHIM_copy] == copies, "%s: %lu copies", what, seen.of[SHIM_copy]);
                launches[batches - 1][backward] = seen.of[SHIM_launch];
            }
            ck_assert_int_eq(clnorm_device_finish(device), CLNORM_OK);
        }
        for (int backward = 0; backward < 2; backward++)
            expect(launches[1][backward] == 2 * launches[0][backward], "%s: %lu launches for 2 batches, %lu for 1",
                   shape_text(&shapes[s]), launches[1][backward], launches[0][backward]);
    }
}
END_TEST

/* A backward from y is launches alone, too: one more than from x, which tells of zero weights. */
START_TEST(backward_from_y)
{
    clnorm_device *device = test_device(_i);
    for (int s = 0; s < SHAPES; s++) {
        const size_t count = shape_elements(&shapes[s], shapes[s].n), c = (size_t)shapes[s].c;
        clnorm_desc desc = shape_desc(&shapes[s]);
        unsigned long launches[2];
        for (int from_y = 0; from_y < 2; from_y++) {
            desc.backward_from_y = (uint32_t)from_y;
            clnorm_plan *plan = test_plan_of(device, &desc);
            const struct array y = array_new(device, count, random_floats(1, count, 1, 0)),
                               dx = array_new(device, count, random_floats(2, count, 1, 0)),
                               weight = array_new(device, c, random_floats(3, c, 0.1f, 1)),
                               dweight = array_new(device, c, NULL);
            clnorm_backward_args b = CLNORM_BACKWARD_ARGS_INIT;
            *(from_y ? &b.y : &b.x) = y.buffer;
            b.dy = b.dx = dx.buffer;
            b.weight = b.mean = b.rstd = weight.buffer;
            b.dweight = dweight.buffer;
            reset();
            const clnorm_status status = clnorm_backward(plan, &b);
            const struct shim_counts seen = *counts();
            expect(status == CLNORM_OK, "%s", clnorm_last_error());
            expect_launches_alone(&seen, "backward from y");
            expect_none(&seen, SHIM_copy, "backward from y");
            launches[from_y] = seen.of[SHIM_launch];
            ck_assert_int_eq(clnorm_device_finish(device), CLNORM_OK);
        }
        expect(launches[1] == launches[0] + !on_host(device), "%s: %lu launches from y, %lu from x",
               shape_text(&shapes[s]), launches[1], launches[0]);
    }
}
END_TEST

/* A mask is one launch more of a forward, and none of a backward. */
START_TEST(activation_masks)
{
    clnorm_device *device = test_device(_i);
    for (int s = 0; s < SHAPES; s++) {
        const size_t count = shape_elements(&shapes[s], shapes[s].n);
        clnorm_desc desc = shape_desc(&shapes[s]);
        desc.activation = CLNORM_RELU;
        unsigned long launches[2][2];
        for (int masked = 0; masked < 2; masked++) {
            desc.activation_mask = (uint32_t)masked;
            clnorm_plan *plan = test_plan_of(device, &desc);
            const struct array x = array_new(device, count, random_floats(1, count, 1, 0)),
                               y = array_new(device, count, NULL), dx = array_new(device, count, NULL),
                               state = array_bytes(device, clnorm_plan_state_bytes(plan)),
                               mask = array_bytes(device, clnorm_plan_mask_bytes(plan));
            clnorm_forward_args f = CLNORM_FORWARD_ARGS_INIT;
            f.x = x.buffer;
            f.y = y.buffer;
            f.state = state.buffer;
            clnorm_backward_args b = CLNORM_BACKWARD_ARGS_INIT;
            b.x = b.dy = x.buffer;
            b.dx = dx.buffer;
            b.state = state.buffer;
            if (masked)
                f.mask = b.mask = mask.buffer;
            for (int backward = 0; backward < 2; backward++) {
                reset();
                const clnorm_status status = backward ? clnorm_backward(plan, &b) : clnorm_forward(plan, &f);
                const struct shim_counts seen = *counts();
                expect(status == CLNORM_OK, "%s", clnorm_last_error());
                expect_launches_alone(&seen, "a mask");
                expect_none(&seen, SHIM_copy, "a mask");
                launches[masked][backward] = seen.of[SHIM_launch];
                ck_assert_int_eq(clnorm_device_finish(device), CLNORM_OK);
            }
        }
        expect(launches[1][0] == launches[0][0] + !on_host(device) && launches[1][1] == launches[0][1],
               "%s: %lu and %lu launches with a mask, %lu and %lu without", shape_text(&shapes[s]), launches[1][0],
               launches[1][1], launches[0][0], launches[0][1]);
    }
}
END_TEST

/* Samples with lengths: launches alone, of which the first looks at the lengths. The host reads none. */
START_TEST(samples_with_lengths)
{
    static const struct shape padded[] = {{CLNORM_NCS, 4, 3, 1, {50, 0, 0}}, {CLNORM_NSC, 4, 3, 1, {50, 0, 0}}};
    clnorm_device *device = test_device(_i);
    for (size_t s = 0; s < sizeof padded / sizeof *padded; s++) {
        const size_t count = shape_elements(&padded[s], padded[s].n), c = (size_t)padded[s].c;
        clnorm_desc desc = shape_desc(&padded[s]);
        desc.lengths = 1;
        clnorm_plan *plan = test_plan_of(device, &desc);
        const struct array x = array_new(device, count, random_floats(1, count, 1, 0)),
                           y = array_new(device, count, NULL), gradient = array_new(device, c, NULL),
                           lengths = array_new(device, (size_t)desc.n, random_floats(4, (size_t)desc.n, 1e-44f, 0)),
                           mean = array_new(device, c, random_floats(2, c, 1, 0)),
                           var = array_new(device, c, random_floats(3, c, 0.1f, 1)),
                           state = array_bytes(device, clnorm_plan_state_bytes(plan));
        clnorm_forward_args f = CLNORM_FORWARD_ARGS_INIT;
        f.x = x.buffer;
        f.y = y.buffer;
        f.state = state.buffer;
        f.running_mean = mean.buffer;
        f.running_var = var.buffer;
        clnorm_infer_args i = CLNORM_INFER_ARGS_INIT;
        i.x = x.buffer;
        i.y = y.buffer;
        i.running_mean = mean.buffer;
        i.running_var = var.buffer;
        clnorm_backward_args b = CLNORM_BACKWARD_ARGS_INIT;
        b.x = b.dy = x.buffer;
        b.state = state.buffer;
        b.dx = y.buffer;
        b.dweight = gradient.buffer;
        f.lengths = i.lengths = b.lengths = lengths.buffer;
        static const unsigned long launches[] = {5, 2, 4};
        for (int call = 0; call < 3; call++) {
            reset();
            const clnorm_status status = call == 0   ? clnorm_forward(plan, &f)
                                         : call == 1 ? clnorm_infer(plan, &i)
                                                     : clnorm_backward(plan, &b);
            const struct shim_counts seen = *counts();
            expect(status == CLNORM_OK, "call %d: %s", call, clnorm_last_error());
            expect_launches_alone(&seen, "samples with lengths");
            expect_none(&seen, SHIM_copy, "samples with lengths");
            expect(seen.of[SHIM_launch] == (on_host(device) ? 0 : launches[call]), "call %d: %lu launches", call,
                   seen.of[SHIM_launch]);
            ck_assert_int_eq(clnorm_device_finish(device), CLNORM_OK);
        }
    }
}
END_TEST

/* Arguments that a call has in common with the one before it are not set again; those of the caller's buffers always are. */
START_TEST(equal_calls)
{
    clnorm_device *device = test_device(_i);
    struct layer *l = layer_new(device, &shapes[1], shapes[1].n, -1,
                                random_floats(1, shape_elements(&shapes[1], 4), 1, 0), NULL, NULL);
    unsigned long set[4];
    for (int i = 0; i < 4; i++) {
        l->forward.n = i < 3 ? shapes[1].n : shapes[1].n - 1;
        reset();
        ck_assert_int_eq(clnorm_forward(l->plan, &l->forward), CLNORM_OK);
        set[i] = counts()->of[SHIM_argument];
    }
    if (on_host(device))
        expect(set[0] == 0 && set[3] == 0, "%lu arguments of kernels on the CPU path", set[0] + set[3]);
    else
        expect(set[1] < set[0] && set[1] > 0 && set[2] == set[1] && set[3] > set[2],
               "%lu, %lu and %lu arguments set by equal calls, %lu by one of a smaller batch", set[0], set[1], set[2],
               set[3]);
    ck_assert_int_eq(clnorm_device_finish(device), CLNORM_OK);
}
END_TEST

/* Refused calls enqueue nothing. */
START_TEST(refused_calls)
{
    clnorm_device *device = test_device(_i);
    clnorm_plan *plan = plan_of_all_calls(device, &shapes[0]);
    for (const struct call *call = calls; call->name; call++) {
        struct stage *stage = stage_new(device, plan, &shapes[0], call, CLNORM_BUFFER_MEMORY);
        stage->args.size++;
        reset();
        clnorm_status status = call->run(plan, &stage->args);
        struct shim_counts seen = *counts();
        expect(status == CLNORM_E_STRUCT_SIZE, "%s: %s", call->name, clnorm_status_name(status));
        expect_none(&seen, SHIM_launch, call->name);
        expect_none(&seen, SHIM_allocate, call->name);
    }
}
END_TEST

/* A hundred shapes build no more programs than build_all does for all variants. */
START_TEST(a_hundred_shapes)
{
    clnorm_device *device = test_device(_i), *whole = test_device(_i);
    struct random random = {99};
    clnorm_build_counts built, all;
    reset();
    for (int i = 0; i < 100; i++) {
        struct shape shape = {(clnorm_layout)(i % 3), 1, 1, 0, {0, 0, 0}};
        shape.n = 1 + (int64_t)random_uniform(&random, 0, 300);
        shape.c = 1 + (int64_t)random_uniform(&random, 0, 1000);
        shape.dims = shape.layout == CLNORM_NC ? 0 : 1 + i % 3 % 3;
        for (int k = 0; k < shape.dims; k++)
            shape.spatial[k] = 1 + (int64_t)random_uniform(&random, 0, 40);
        test_plan(device, &shape, -1);
    }
    unsigned long builds = counts()->of[SHIM_build];
    ck_assert_int_eq(clnorm_device_get_build_counts(device, &built), CLNORM_OK);
    ck_assert_int_eq(clnorm_device_build_all(whole), CLNORM_OK);
    ck_assert_int_eq(clnorm_device_get_build_counts(whole, &all), CLNORM_OK);
    unsigned long long programs = built.from_source + built.from_cache, variants = all.from_source + all.from_cache;
    expect(programs <= variants, "%llu programs for 100 shapes, %llu variants", programs, variants);
    expect(on_host(device) ? programs == 0 && builds == 0
                           : programs > 0 && builds >= programs && builds <= 4 * programs,
           "%llu programs by %lu calls of OpenCL", programs, builds);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("counts");
    TCase *tcase = add_case(suite, "counts", 300);
    add_device_test(tcase, the_shim_counts);
    add_device_test(tcase, a_thousand_calls);
    add_device_test(tcase, any_batch_size);
    add_device_test(tcase, virtual_batches);
    add_device_test(tcase, backward_from_y);
    add_device_test(tcase, samples_with_lengths);
    add_device_test(tcase, activation_masks);
    add_device_test(tcase, equal_calls);
    add_device_test(tcase, refused_calls);
    add_device_test(tcase, a_hundred_shapes);
    return run_suites(&suite, 1);
}
