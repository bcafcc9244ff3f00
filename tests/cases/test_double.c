/* The fp64 reference of the double backward against central differences of that of backward, and by hand. */
#include "reference.h"

#include <check.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>

enum { N = 3, C = 4, S = 5, ELEMENTS = N * C * S };

static const struct reference_problem problems[] = {
    {.layout = REFERENCE_NC, .n = N * S, .c = C, .s = 1, .eps = 1e-2},
    {.layout = REFERENCE_NCS, .n = N, .c = C, .s = S, .eps = 1e-5},
    {.layout = REFERENCE_NSC, .n = N, .c = C, .s = S, .eps = 1e-2},
    {.layout = REFERENCE_NC, .n = N, .c = C, .s = 1, .eps = 1e-1, .norm = REFERENCE_LAYER, .length = C},
    {.layout = REFERENCE_NCS, .n = N, .c = C, .s = S, .eps = 1e-2, .norm = REFERENCE_LAYER, .length = C * S},
    {.layout = REFERENCE_NCS, .n = N, .c = C, .s = S, .eps = 1e-2, .norm = REFERENCE_LAYER, .length = S},
    {.layout = REFERENCE_NSC, .n = N, .c = C, .s = S, .eps = 1e-2, .norm = REFERENCE_LAYER, .length = C}};
enum { PROBLEMS = sizeof problems / sizeof *problems };

struct data {
    double x[ELEMENTS], dy[ELEMENTS], weight[ELEMENTS], mean[ELEMENTS], var[ELEMENTS];
    double v_dx[ELEMENTS], v_dweight[ELEMENTS], v_dbias[ELEMENTS];
};

static void draw(double *values, double mean, uint32_t *state) /* Knuth's linear congruential generator */
{
    for (size_t i = 0; i < ELEMENTS; i++) {
        *state = *state * 1664525u + 1013904223u;
        values[i] = mean + (double)(int32_t)*state * 0x1p-31;
    }
}

static void make_data(const struct reference_problem *p, struct data *d)
{
    uint32_t state = 11;
    draw(d->x, 3, &state);
    draw(d->dy, 0.5, &state);
    draw(d->weight, 0, &state);
    draw(d->v_dx, -0.5, &state);
    draw(d->v_dweight, 0, &state);
    draw(d->v_dbias, 0, &state);
    reference_statistics(p, d->x, d->mean, d->var);
}

/* Σ v·gradient of all that backward gives. */
static double loss(const struct reference_problem *p, const struct data *d, bool frozen)
{
    double mean[ELEMENTS], var[ELEMENTS], dx[ELEMENTS], dweight[ELEMENTS], dbias[ELEMENTS], sum = 0;
    reference_statistics(p, d->x, mean, var);
    reference_backward(p, d->x, d->dy, frozen ? d->mean : mean, frozen ? d->var : var, d->weight, frozen, dx, dweight,
                       dbias);
    for (size_t i = 0; i < reference_elements(p); i++)
        sum += d->v_dx[i] * dx[i];
    for (size_t w = 0; w < reference_weights(p); w++)
        sum += d->v_dweight[w] * dweight[w] + d->v_dbias[w] * dbias[w];
    return sum;
}

/* Two steps, whose difference is three times what is left of the third derivative: extrapolated. */
static double slope(const struct reference_problem *p, struct data *d, double *at, bool frozen)
{
    const double here = *at;
    double difference[2];
    for (int k = 0; k < 2; k++) {
        const double step = (1 + k) * 1e-4;
        *at = here + step;
        const double above = loss(p, d, frozen);
        *at = here - step;
        difference[k] = (above - loss(p, d, frozen)) / (2 * step);
    }
    *at = here;
    return (4 * difference[0] - difference[1]) / 3;
}

START_TEST(central_differences)
{
    const struct reference_problem *p = &problems[_i / 2];
    const bool frozen = _i % 2;
    struct data d;
    double g_x[ELEMENTS], g_dy[ELEMENTS], g_weight[ELEMENTS];
    make_data(p, &d);
    const struct reference_double in = {d.x, d.dy, d.weight, d.mean, d.var, d.v_dx, d.v_dweight, d.v_dbias};
    reference_double_backward(p, &in, frozen, g_x, g_dy, g_weight);
    double largest = 0; /* in relation to it: a difference of losses is off by 1e-16·loss/step */
    for (size_t i = 0; i < reference_elements(p); i++)
        largest = fmax(largest, fmax(fabs(g_x[i]), fabs(g_dy[i])));
    for (size_t i = 0; i < reference_elements(p); i++) {
        ck_assert_double_le(fabs(slope(p, &d, &d.x[i], frozen) - g_x[i]), 1e-8 * largest);
        ck_assert_double_le(fabs(slope(p, &d, &d.dy[i], frozen) - g_dy[i]), 1e-8 * largest);
    }
    for (size_t w = 0; w < reference_weights(p); w++)
        ck_assert_double_le(fabs(slope(p, &d, &d.weight[w], frozen) - g_weight[w]), 1e-8 * largest);
}
END_TEST

/* x = {−1, 1}, eps 0: x̂ = x, rstd 1, dx is 0 for any dy. dy = {2, 4}, v = {3, 5}, w = 1, p = 2, q = 10: ⟨g⟩ = 3, ⟨g·x̂⟩ = 1, ⟨v⟩ = 4,
 * ⟨v·x̂⟩ = 1, ⟨g·v⟩ = 13: t = 0, and g_x = 0, for whatever x is x̂ stays ±1. */
START_TEST(by_hand)
{
    const struct reference_problem p = {.layout = REFERENCE_NC, .n = 2, .c = 1, .s = 1, .eps = 0};
    const double x[] = {-1, 1}, dy[] = {2, 4}, v_dx[] = {3, 5}, mean = 0, var = 1, v_dweight = 2, v_dbias = 10;
    const struct reference_double in = {x, dy, NULL, &mean, &var, v_dx, &v_dweight, &v_dbias};
    double g_x[2], g_dy[2], g_weight;
    reference_double_backward(&p, &in, false, g_x, g_dy, &g_weight);
    ck_assert(g_dy[0] == 8 && g_dy[1] == 12 && g_weight == 0);
    ck_assert(g_x[0] == 0 && g_x[1] == 0);
    reference_double_backward(&p, &in, true, g_x, g_dy, &g_weight); /* t = v */
    ck_assert(g_dy[0] == 11 && g_dy[1] == 17 && g_weight == 26);
    ck_assert(g_x[0] == 4 && g_x[1] == 8);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("double");
    TCase *tcase = tcase_create("reference");
    tcase_add_test(tcase, by_hand);
    tcase_add_loop_test(tcase, central_differences, 0, 2 * PROBLEMS);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
