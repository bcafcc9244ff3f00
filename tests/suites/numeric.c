/* Forward, inference, backward and running statistics: the whole table of cases (tests/cases) on every device, against the
 * fp64 reference. A test takes a batch of cases in one process, for opening a device takes longer than most cases. */
#include "cases.h"
#include "support.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BATCH = 64 };

/* The cases of a suite that have one of the modes. */
static size_t select_cases(enum case_suite suite, unsigned modes, const struct clnorm_case **selected)
{
    size_t count = 0;
    for (size_t i = 0; i < cases_count(suite); i++) {
        const struct clnorm_case *c = cases_get(suite, i);
        if (!(modes >> c->mode & 1u))
            continue;
        if (selected)
            selected[count] = c;
        count++;
    }
    return count;
}

static enum case_suite wanted_suite(void)
{
    const char *text = getenv("CLNORM_TEST_CASES");
    return text && strcmp(text, "full") == 0 ? CASE_FULL : CASE_SHORT;
}

static int batches(unsigned modes)
{
    return (int)((select_cases(wanted_suite(), modes, NULL) + BATCH - 1) / BATCH);
}

static void run_batch(unsigned modes, int i)
{
    int per_device = batches(modes);
    size_t count = select_cases(wanted_suite(), modes, NULL);
    const struct clnorm_case **selected = scratch(count * sizeof *selected);
    clnorm_device *device = test_device(i / per_device);
    select_cases(wanted_suite(), modes, selected);
    for (size_t at = (size_t)(i % per_device) * BATCH, end = at + BATCH; at < end && at < count; at++) {
        struct case_problem *problem = case_prepare(selected[at]);
        ck_assert_ptr_nonnull(problem);
        struct case_result result;
        case_execute(problem, device, NULL, NULL, NULL, &result);
        expect(result.pass, "%s: %s", selected[at]->name, result.message);
        case_problem_free(problem);
    }
}

#define MODE(mode)     (1u << CASE_##mode)
#define FORWARD_MODES  (MODE(TRAIN) | MODE(STEPS_FORWARD))
#define INFER_MODES    MODE(INFER)
#define BACKWARD_MODES (MODE(BACKWARD) | MODE(FROZEN) | MODE(GIVEN) | MODE(STEPS_BACKWARD))
#define DOUBLE_MODES   (MODE(DOUBLE) | MODE(DOUBLE_FROZEN) | MODE(DOUBLE_GIVEN))

START_TEST(forward)
{
    run_batch(FORWARD_MODES, _i);
}
END_TEST

START_TEST(infer)
{
    run_batch(INFER_MODES, _i);
}
END_TEST

START_TEST(backward)
{
    run_batch(BACKWARD_MODES, _i);
}
END_TEST

START_TEST(double_backward)
{
    run_batch(DOUBLE_MODES, _i);
}
END_TEST

/* What CLNORM_ISA allows and this machine has, by the compiler's word for it: the cases above do not run on less. */
static const char *best_instruction_set(void)
{
    const char *most = getenv("CLNORM_ISA");
    if (most && strcmp(most, "plain") == 0)
        return "plain C";
#if defined(__aarch64__)
    return "NEON";
#elif defined(__x86_64__)
    if (__builtin_cpu_supports("avx512f") && !(most && strcmp(most, "avx2") == 0))
        return "AVX-512";
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? "AVX2" : "plain C";
#else
    return "plain C";
#endif
}

START_TEST(instruction_set)
{
    static const struct shape shapes[] = {{CLNORM_NCS, 2, 3, 1, {5, 0, 0}}, {CLNORM_NSC, 2, 3, 1, {5, 0, 0}}};
    const char *want = best_instruction_set();
    clnorm_device *device = test_device(0);
    clnorm_device_info info = CLNORM_DEVICE_INFO_INIT;
    ck_assert_int_eq(clnorm_device_get_info(device, &info), CLNORM_OK);
    expect(strstr(info.tuning, want) == info.tuning, "the device has '%s', not %s", info.tuning, want);
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        const char *explained = clnorm_plan_explain(test_plan(device, &shapes[i], -1));
        expect(strstr(explained, want) != NULL, "a plan has '%s', not %s", explained, want);
    }
}
END_TEST

/* Every mode has its test above. */
START_TEST(no_mode_is_left_out)
{
    ck_assert_uint_eq(FORWARD_MODES | INFER_MODES | BACKWARD_MODES | DOUBLE_MODES, (1u << CASE_MODES) - 1);
    for (int mode = 0; mode < CASE_MODES; mode++)
        ck_assert_uint_gt(select_cases(wanted_suite(), 1u << mode, NULL), 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("numeric");
    TCase *tcase = add_case(suite, "cases", 1000);
    tcase_add_test(tcase, no_mode_is_left_out);
    if (strcmp(device_name(0), "cpu") == 0)
        tcase_add_test(tcase, instruction_set);
    tcase_add_loop_test(tcase, forward, 0, batches(FORWARD_MODES) * device_count());
    tcase_add_loop_test(tcase, infer, 0, batches(INFER_MODES) * device_count());
    tcase_add_loop_test(tcase, backward, 0, batches(BACKWARD_MODES) * device_count());
    tcase_add_loop_test(tcase, double_backward, 0, batches(DOUBLE_MODES) * device_count());
    return run_suites(&suite, 1);
}
