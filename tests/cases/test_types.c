/* The reference's 16-bit types against values from the standards, and its activations against numbers and central differences. */
#include "activation.h"
#include "types.h"

#include <check.h>
#include <math.h>
#include <stdlib.h>

static const enum reference_dtype dtypes[] = {REFERENCE_F16, REFERENCE_BF16};

START_TEST(values_by_hand)
{
    static const struct {
        enum reference_dtype dtype;
        uint16_t bits;
        double value;
    } rows[] = {{REFERENCE_F16, 0x0000, 0},         {REFERENCE_F16, 0x3c00, 1},
                {REFERENCE_F16, 0xc000, -2},        {REFERENCE_F16, 0x7bff, 65504},
                {REFERENCE_F16, 0x0400, 0x1p-14},   {REFERENCE_F16, 0x03ff, 1023 * 0x1p-24},
                {REFERENCE_F16, 0x0001, 0x1p-24},   {REFERENCE_F16, 0x3555, 0x1.554p-2},
                {REFERENCE_F16, 0x7c00, INFINITY},  {REFERENCE_F16, 0xfc00, -INFINITY},
                {REFERENCE_BF16, 0x3f80, 1},        {REFERENCE_BF16, 0x4049, 3.140625},
                {REFERENCE_BF16, 0xc2f7, -123.5},   {REFERENCE_BF16, 0x7f7f, 0x1.fep127},
                {REFERENCE_BF16, 0x0001, 0x1p-133}, {REFERENCE_BF16, 0x0080, 0x1p-126},
                {REFERENCE_BF16, 0xff80, -INFINITY}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        ck_assert_double_eq(reference_widen(rows[i].dtype, rows[i].bits), rows[i].value);
        ck_assert_uint_eq(reference_narrow(rows[i].dtype, rows[i].value), rows[i].bits);
    }
}
END_TEST

START_TEST(rounding_by_hand)
{
    static const struct {
        enum reference_dtype dtype;
        double value, rounded;
    } rows[] = {{REFERENCE_F16, 1 + 0x1p-11, 1}, /* halfway: to the even one */
                {REFERENCE_F16, 1 + 3 * 0x1p-11, 1 + 0x1p-9},
                {REFERENCE_F16, 1 + 0x1p-11 + 0x1p-40, 1 + 0x1p-10},
                {REFERENCE_F16, 65519.99, 65504},
                {REFERENCE_F16, 65520, INFINITY},
                {REFERENCE_F16, -1e30, -INFINITY},
                {REFERENCE_F16, 0x1p-25, 0},
                {REFERENCE_F16, 0x1.001p-25, 0x1p-24},
                {REFERENCE_F16, 3 * 0x1p-25, 0x1p-23},
                {REFERENCE_BF16, 1 + 0x1p-8, 1},
                {REFERENCE_BF16, 1 + 3 * 0x1p-8, 1 + 0x1p-6},
                {REFERENCE_BF16, 0x1.fefffep127, 0x1.fep127},
                {REFERENCE_BF16, 0x1.ffp127, INFINITY},
                {REFERENCE_F32, 1 + 0x1p-24, 1},
                {REFERENCE_F32, 1 + 3 * 0x1p-24, 1 + 0x1p-22}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        ck_assert_double_eq(reference_round(rows[i].dtype, rows[i].value), rows[i].rounded);
}
END_TEST

/* Every value is its own rounding, and all between two halfway points round to it: the even one has the points, too. */
START_TEST(every_value)
{
    const enum reference_dtype dtype = dtypes[_i];
    for (uint32_t bits = 0; bits < 0x10000; bits++) {
        const double value = reference_widen(dtype, (uint16_t)bits);
        double low, high;
        if (isnan(value)) {
            ck_assert(isnan(reference_round(dtype, value)));
            continue;
        }
        ck_assert_uint_eq(reference_narrow(dtype, value), bits);
        reference_preimage(dtype, value, &low, &high);
        ck_assert_double_lt(low, high);
        ck_assert(low <= value && value <= high);
        const double inside = bits % 2 ? (value == 0 ? 0 : 1e-12) : 0;
        for (int sign = -1; sign <= 1; sign += 2) {
            const double end = sign < 0 ? low : high, beyond = nextafter(end, sign * INFINITY);
            if (isinf(end))
                continue;
            ck_assert_double_eq(reference_round(dtype, end - sign * inside * fabs(end)), value);
            if (isfinite(value)) /* an Inf has but one end */
                ck_assert_double_ne(reference_round(dtype, beyond), value);
        }
        const double next = bits < 0x7fff ? reference_widen(dtype, (uint16_t)(bits + 1)) : NAN;
        if (isfinite(value) && isfinite(next))
            ck_assert_double_eq(reference_ulp(dtype, value), next - value);
    }
}
END_TEST

START_TEST(activations_by_hand)
{
    ck_assert_double_eq(reference_activate(REFERENCE_RELU, 0, -3), 0);
    ck_assert_double_eq(reference_activate(REFERENCE_RELU, 0, 3), 3);
    ck_assert(isnan(reference_activate(REFERENCE_RELU, 0, NAN)));
    ck_assert_double_eq(reference_activate(REFERENCE_LEAKY_RELU, 0.25, -8), -2);
    ck_assert_double_eq(reference_activate(REFERENCE_LEAKY_RELU, 0.25, 8), 8);
    ck_assert_double_eq(reference_activate(REFERENCE_LINEAR, 0.25, -8), -8);
    /* By Python's math module. */
    ck_assert_double_le(fabs(reference_activate(REFERENCE_GELU_TANH, 0, 1) - 0.8411919906082768), 1e-15);
    ck_assert_double_le(fabs(reference_activate(REFERENCE_GELU_TANH, 0, -1) + 0.15880800939172324), 1e-15);
    ck_assert_double_le(fabs(reference_activate(REFERENCE_SILU, 0, 1) - 0.7310585786300049), 1e-15);
    ck_assert_double_le(fabs(reference_activate(REFERENCE_SILU, 0, -1) + 0.2689414213699951), 1e-15);
    /* At the kink the gradient is that of the left. */
    ck_assert_double_eq(reference_activation_slope(REFERENCE_RELU, 0, 0), 0);
    ck_assert_double_eq(reference_activation_slope(REFERENCE_LEAKY_RELU, 0.25, 0), 0.25);
    ck_assert_double_eq(reference_activation_slope(REFERENCE_RELU, 0, NAN), 0);
    ck_assert_double_eq(reference_activation_slope(REFERENCE_GELU_TANH, 0, 40), 1);
    ck_assert_double_eq(reference_activation_slope(REFERENCE_GELU_TANH, 0, -40), 0);
    ck_assert_double_le(fabs(reference_activation_slope(REFERENCE_SILU, 0, -800)), 0);
}
END_TEST

START_TEST(slopes_are_central_differences)
{
    const enum reference_activation activation = (enum reference_activation)_i;
    for (int i = -80; i <= 80; i++) {
        const double t = i * 0.1 + 0.03, step = 1e-5;
        const double above = reference_activate(activation, 0.25, t + step);
        const double below = reference_activate(activation, 0.25, t - step);
        ck_assert_double_le(fabs((above - below) / (2 * step) - reference_activation_slope(activation, 0.25, t)), 1e-9);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("types");
    TCase *tcase = tcase_create("types");
    tcase_add_test(tcase, values_by_hand);
    tcase_add_test(tcase, rounding_by_hand);
    tcase_add_loop_test(tcase, every_value, 0, 2);
    tcase_add_test(tcase, activations_by_hand);
    tcase_add_loop_test(tcase, slopes_are_central_differences, REFERENCE_LINEAR, REFERENCE_SILU + 1);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
