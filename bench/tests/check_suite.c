/* The check before the timing sees a wrong value in every output. The library's calls are wrapped by the linker (see CMakeLists.txt): the
 * real call runs, then one value of one of its outputs is spoilt. */
#include "bench_check.h"

#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

clnorm_status __real_clnorm_forward(clnorm_plan *plan, const clnorm_forward_args *args);
clnorm_status __real_clnorm_infer(clnorm_plan *plan, const clnorm_infer_args *args);
clnorm_status __real_clnorm_backward(clnorm_plan *plan, const clnorm_backward_args *args);
clnorm_status __wrap_clnorm_forward(clnorm_plan *plan, const clnorm_forward_args *args);
clnorm_status __wrap_clnorm_infer(clnorm_plan *plan, const clnorm_infer_args *args);
clnorm_status __wrap_clnorm_backward(clnorm_plan *plan, const clnorm_backward_args *args);

enum damage { NONE, SLIGHT, NOT_A_NUMBER };

static struct {
    const char *output; /* "y" */
    bool last;          /* the last value, else the first */
    enum damage damage;
    float slight; /* about twice the tolerance, or a little more */
} spoilt;

static void spoil(const char *output, const clnorm_buffer *buffer)
{
    if (spoilt.damage == NONE || strcmp(output, spoilt.output) != 0)
        return;
    void *pointer = NULL;
    ck_assert_int_eq(clnorm_memory_map(buffer->handle, buffer->offset, buffer->bytes, &pointer), CLNORM_OK);
    float *value = (float *)pointer + (spoilt.last ? buffer->bytes / sizeof(float) - 1 : 0);
    *value = spoilt.damage == NOT_A_NUMBER ? NAN : *value + spoilt.slight;
    ck_assert_int_eq(clnorm_memory_unmap(buffer->handle), CLNORM_OK);
}

clnorm_status __wrap_clnorm_forward(clnorm_plan *plan, const clnorm_forward_args *args)
{
    clnorm_status status = __real_clnorm_forward(plan, args);
    spoil("y", &args->y);
    spoil("running_mean", &args->running_mean);
    spoil("running_var", &args->running_var);
    return status;
}

clnorm_status __wrap_clnorm_infer(clnorm_plan *plan, const clnorm_infer_args *args)
{
    clnorm_status status = __real_clnorm_infer(plan, args);
    spoil("y", &args->y);
    return status;
}

clnorm_status __wrap_clnorm_backward(clnorm_plan *plan, const clnorm_backward_args *args)
{
    clnorm_status status = __real_clnorm_backward(plan, args);
    spoil("dx", &args->dx);
    spoil("dweight", &args->dweight);
    spoil("dbias", &args->dbias);
    return status;
}

static const struct {
    enum bench_mode mode;
    const char *output;
} outputs[] = {{BENCH_TRAIN, "y"},     {BENCH_TRAIN, "running_mean"}, {BENCH_TRAIN, "running_var"}, {BENCH_INFER, "y"},
               {BENCH_BACKWARD, "dx"}, {BENCH_BACKWARD, "dweight"},   {BENCH_BACKWARD, "dbias"}};

/* The last two have more values than are all compared: then the first and the last channel are among those that are. */
static const struct bench_shape shapes[] = {
    {.name = "added", .layout = CLNORM_NCS, .dims = 4, .size = {5, 3, 7, 11}, .residual = CLNORM_RESIDUAL_AFTER},
    {.name = "plain", .layout = CLNORM_NC, .dims = 2, .size = {37, 19}},
    {.name = "batches", .layout = CLNORM_NC, .dims = 2, .size = {37, 19}, .norm = {.batch = 8}},
    {.name = "first", .layout = CLNORM_NCS, .dims = 4, .size = {5, 3, 7, 11}},
    {.name = "last", .layout = CLNORM_NSC, .dims = 5, .size = {2, 6, 3, 5, 7}},
    {.name = "large_first", .layout = CLNORM_NCS, .dims = 3, .size = {2, 12, 262144}},
    {.name = "large_last", .layout = CLNORM_NSC, .dims = 3, .size = {2, 12, 262144}},
    {.name = "rows", .layout = CLNORM_NSC, .dims = 3, .size = {5, 19, 7}, .norm = {CLNORM_LAYER, 0, 1, 0}},
    {.name = "rows", .layout = CLNORM_NCS, .dims = 4, .size = {37, 3, 5, 7}, .norm = {CLNORM_RMS, 0, 3, 0}},
    {.name = "first", .layout = CLNORM_NCS, .dims = 3, .size = {5, 6, 77}, .norm = {CLNORM_GROUP, 2, 0, 0}},
    {.name = "last", .layout = CLNORM_NSC, .dims = 3, .size = {5, 6, 77}, .norm = {CLNORM_INSTANCE, 0, 0, 0}},
    {.name = "large_groups",
     .layout = CLNORM_NSC,
     .dims = 3,
     .size = {2, 24, 131072},
     .norm = {CLNORM_GROUP, 12, 0, 0}},
    {.name = "padded", .layout = CLNORM_NCS, .dims = 3, .size = {5, 6, 77}, .lengths = true},
    {.name = "padded",
     .layout = CLNORM_NSC,
     .dims = 3,
     .size = {5, 6, 77},
     .norm = {CLNORM_GROUP, 2, 0, 0},
     .lengths = true}};

static bool has(const struct bench_case *c, enum bench_mode mode, const char *output)
{
    return bench_mode_is_of(mode, c->shape) && (norm_has_running(c->desc.norm) || strncmp(output, "running", 7) != 0);
}

/* "channel 11", "row 3", "weight 18": where the first or the last value of an output is. */
static void place_of(const struct bench_case *c, const char *output, bool last, char place[32])
{
    const bool rows = norm_is_of_rows(c->desc.norm),
               of_weights = !strcmp(output, "dweight") || !strcmp(output, "dbias");
    const size_t count = rows && !of_weights ? (size_t)bench_shape_groups(c->shape) : c->weights;
    snprintf(place, 32, "%s %zu", !rows ? "channel" : of_weights ? "weight" : "row", last ? count - 1 : 0);
}

static void check_shape(const struct bench_shape *shape)
{
    clnorm_device *device = NULL;
    struct bench_case c;
    char error[512] = "";
    size_t checked = 0;
    ck_assert_int_eq(clnorm_device_open("cpu", &device), CLNORM_OK);
    ck_assert(bench_case_create(&c, device, shape, 1, NULL));
    spoilt.damage = NONE;
    for (int mode = 0; mode < BENCH_MODES; mode++)
        ck_assert_msg(!bench_mode_is_of(mode, shape) || bench_check(&c, mode, &checked, error), "%s", error);
    bool large = !strncmp(shape->name, "large", 5);
    if (large)
        ck_assert(checked >= 2 && checked < bench_check_units(&c));
    else
        ck_assert_uint_eq(checked, bench_check_units(&c));
    for (size_t i = 0; i < sizeof outputs / sizeof outputs[0]; i++) {
        for (int variant = 0; variant < 4 && has(&c, outputs[i].mode, outputs[i].output); variant += large ? 3 : 1) {
            spoilt.output = outputs[i].output;
            spoilt.last = variant % 2;
            spoilt.damage = variant / 2 ? NOT_A_NUMBER : SLIGHT;
            /* The bound of a sum of m products of about 1 is 16u·m·2/pi; other outputs are themselves about 1. */
            bool sum = !strcmp(spoilt.output, "dweight") || !strcmp(spoilt.output, "dbias");
            spoilt.slight = sum ? 2e-6f * (float)(c.elements / c.weights) : 1e-4f;
            char place[32], told[64];
            place_of(&c, spoilt.output, spoilt.last, place);
            snprintf(told, sizeof told, "%s of %s is ", spoilt.output, place);
            ck_assert_msg(!bench_check(&c, outputs[i].mode, &checked, error), "%s was spoilt unseen", spoilt.output);
            ck_assert_msg(!strncmp(error, told, strlen(told)), "\"%s\" does not begin with \"%s\"", error, told);
        }
    }
    bench_case_destroy(&c);
    clnorm_device_destroy(device);
}

START_TEST(every_output_is_checked)
{
    check_shape(&shapes[_i]);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("bench_check");
    TCase *tests = tcase_create("check");
    tcase_set_timeout(tests, 300);
    tcase_add_loop_test(tests, every_output_is_checked, 0, (int)(sizeof shapes / sizeof shapes[0]));
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
