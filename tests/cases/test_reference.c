/* The fp64 reference against numbers worked out by hand, the stepwise form of backward, and central differences. */
#include "reference.h"

#include <check.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>

enum { N = 3, C = 4, S = 5, ELEMENTS = N * C * S, MOST = ELEMENTS /* groups, weights */ };

static uint32_t state;

static double draw(void) /* in (−1, 1), from a linear congruential generator (Knuth's constants) */
{
    state = state * 1664525u + 1013904223u;
    return (double)(int32_t)state * 0x1p-31;
}

struct data {
    double x[ELEMENTS], dy[ELEMENTS], weight[MOST], bias[MOST], mean[MOST], var[MOST];
};

static struct data make_data(const struct reference_problem *p)
{
    struct data d;
    state = 7;
    for (size_t i = 0; i < reference_elements(p); i++) {
        d.x[i] = 3 + 2 * draw();
        d.dy[i] = draw();
    }
    for (size_t w = 0; w < reference_weights(p); w++) {
        d.weight[w] = draw();
        d.bias[w] = draw();
    }
    reference_statistics(p, d.x, d.mean, d.var);
    return d;
}

static const struct reference_problem problems[] = {
    {.layout = REFERENCE_NC, .n = N * S, .c = C, .s = 1, .eps = 1e-5},
    {.layout = REFERENCE_NCS, .n = N, .c = C, .s = S, .eps = 1e-5},
    {.layout = REFERENCE_NSC, .n = N, .c = C, .s = S, .eps = 1e-3},
    {.layout = REFERENCE_NC, .n = N * S, .c = C, .s = 1, .eps = 1e-5, .batch = 4},
    {.layout = REFERENCE_NCS, .n = N, .c = C, .s = S, .eps = 1e-5, .batch = 2},
    {.layout = REFERENCE_NSC, .n = N, .c = C, .s = S, .eps = 1e-3, .batch = 1},
    {.layout = REFERENCE_NC, .n = N, .c = C, .s = 1, .eps = 1e-3, .norm = REFERENCE_LAYER, .length = C},
    {.layout = REFERENCE_NCS, .n = N, .c = C, .s = S, .eps = 1e-3, .norm = REFERENCE_LAYER, .length = C * S},
    {.layout = REFERENCE_NSC, .n = N, .c = C, .s = S, .eps = 1e-3, .norm = REFERENCE_LAYER, .length = C},
    {.layout = REFERENCE_NCS, .n = N, .c = C, .s = S, .eps = 1e-3, .norm = REFERENCE_RMS, .length = S},
    {.layout = REFERENCE_NSC, .n = N, .c = C, .s = S, .eps = 1e-3, .norm = REFERENCE_RMS, .length = C * S},
    {.layout = REFERENCE_NC, .n = N, .c = C, .s = 1, .eps = 1e-3, .norm = REFERENCE_GROUP, .groups = 1},
    {.layout = REFERENCE_NCS, .n = N, .c = C, .s = S, .eps = 1e-3, .norm = REFERENCE_GROUP, .groups = 2},
    {.layout = REFERENCE_NSC, .n = N, .c = C, .s = S, .eps = 1e-3, .norm = REFERENCE_GROUP, .groups = 2},
    {.layout = REFERENCE_NCS, .n = N, .c = C, .s = S, .eps = 1e-3, .norm = REFERENCE_INSTANCE},
    {.layout = REFERENCE_NSC, .n = N, .c = C, .s = S, .eps = 1e-3, .norm = REFERENCE_INSTANCE}};
enum { PROBLEMS = sizeof problems / sizeof *problems };

START_TEST(by_hand)
{
    /* One channel {1, 2, 3, 6}: mean 3, variance (4 + 1 + 0 + 9)/4 = 3.5; eps 0.5 makes rstd exactly 1/2. */
    const struct reference_problem p = {.layout = REFERENCE_NC, .n = 4, .c = 1, .s = 1, .eps = 0.5};
    const double x[] = {1, 2, 3, 6}, dy[] = {1, 0, 0, 3}, weight[] = {2}, bias[] = {10};
    double mean, var, y[4], dx[4], dweight, dbias;
    reference_statistics(&p, x, &mean, &var);
    ck_assert_double_eq(mean, 3);
    ck_assert_double_eq(var, 3.5);
    reference_apply(&p, x, &mean, &var, weight, bias, y);
    const double want_y[] = {8, 9, 10, 13};
    /* Σdy = 4, x̂ = {−1, −1/2, 0, 3/2}, Σdy·x̂ = −1 + 9/2 = 7/2; dx = 2·1/2·(dy − 1 − x̂·7/8) */
    const double want_dx[] = {0.875, -0.5625, -1, 0.6875};
    reference_backward(&p, x, dy, &mean, &var, weight, false, dx, &dweight, &dbias);
    ck_assert_double_eq(dbias, 4);
    ck_assert_double_eq(dweight, 3.5);
    for (int i = 0; i < 4; i++) {
        ck_assert_double_eq(y[i], want_y[i]);
        ck_assert_double_eq(dx[i], want_dx[i]);
    }
    reference_backward(&p, x, dy, &mean, &var, weight, true, dx, NULL, NULL);
    for (int i = 0; i < 4; i++)
        ck_assert_double_eq(dx[i], dy[i]);
    double running_mean = 1, running_var = 2;
    reference_running(1, 4, &mean, &var, 0.25, false, &running_mean, &running_var);
    ck_assert_double_eq(running_mean, 1.5);
    ck_assert_double_eq(running_var, 2.375);
    running_var = 2;
    reference_running(1, 8, &mean, &var, 0.5, true, &running_mean, &running_var);
    ck_assert_double_eq(running_var, 3); /* (2 + 3.5·8/7)/2 */
    running_var = 2;
    reference_running(1, 1, &mean, &var, 1, true, &running_mean, &running_var);
    ck_assert_double_eq(running_var, 3.5);
}
END_TEST

START_TEST(by_hand_without_mean)
{
    /* RMS norm of {2, 2, 4, 0}, {1, 1, 1, 1}: mean squares 6 and 1; eps 3 makes rstd 1/3 and 1/2. */
    const struct reference_problem p = {
        .layout = REFERENCE_NC, .n = 2, .c = 4, .s = 1, .eps = 3, .norm = REFERENCE_RMS, .length = 4};
    const double x[] = {2, 2, 4, 0, 1, 1, 1, 1}, dy[] = {1, 0, 0, 2, 0, 4, 0, 0}, weight[] = {3, 2, 6, 1};
    const double bias[] = {0, 1, 0, 5};
    double mean[2], var[2], y[8], dx[8], dweight[4], dbias[4];
    reference_statistics(&p, x, mean, var);
    ck_assert(mean[0] == 0 && mean[1] == 0 && var[0] == 6 && var[1] == 1);
    reference_apply(&p, x, mean, var, weight, bias, y);
    /* g = {3, 0, 0, 2}, {0, 8, 0, 0}; x̂ = {2, 2, 4, 0}/3, {1, 1, 1, 1}/2; Σg·x̂ = 2 and 4; dx = rstd·(g − x̂·Σg·x̂/4) */
    reference_backward(&p, x, dy, mean, var, weight, false, dx, dweight, dbias);
    const double want_y[] = {2, 1 + 4.0 / 3, 8, 5, 1.5, 2, 3, 5.5};
    const double want_dx[] = {8.0 / 9, -1.0 / 9, -2.0 / 9, 2.0 / 3, -0.25, 3.75, -0.25, -0.25};
    const double want_dweight[] = {2.0 / 3, 2, 0, 0}, want_dbias[] = {1, 4, 0, 2};
    for (int i = 0; i < 8; i++) {
        ck_assert_double_le(fabs(y[i] - want_y[i]), 1e-15);
        ck_assert_double_le(fabs(dx[i] - want_dx[i]), 1e-15);
    }
    for (int i = 0; i < 4; i++) {
        ck_assert_double_le(fabs(dweight[i] - want_dweight[i]), 1e-15);
        ck_assert_double_eq(dbias[i], want_dbias[i]);
    }
}
END_TEST

START_TEST(virtual_batches)
{
    /* 3 samples of 2 channels in batches of 2: means {2, 5}, {7, 9}; variances {1, 4}, {0, 0}. */
    const struct reference_problem p = {.layout = REFERENCE_NC, .n = 3, .c = 2, .s = 1, .eps = 0, .batch = 2};
    const double x[] = {1, 7, 3, 3, 7, 9}, want_mean[] = {2, 5, 7, 9}, want_var[] = {1, 4, 0, 0};
    double mean[4], var[4];
    ck_assert_uint_eq(reference_groups(&p), 4);
    ck_assert_uint_eq(reference_group_size(&p, 1), 2);
    ck_assert_uint_eq(reference_group_size(&p, 3), 1);
    reference_statistics(&p, x, mean, var);
    for (int g = 0; g < 4; g++)
        ck_assert(mean[g] == want_mean[g] && var[g] == want_var[g]);
}
END_TEST

START_TEST(channels_of_instance_norm)
{
    /* 2 samples of 2 channels of 2 positions: means {1, 5}, {3, −1}, variances {1, 0}, {4, 1}. */
    const struct reference_problem p = {
        .layout = REFERENCE_NSC, .n = 2, .c = 2, .s = 2, .eps = 0, .norm = REFERENCE_INSTANCE};
    const double x[] = {0, 5, 2, 5, 1, 0, 5, -2};
    double mean[4], var[4], channel_mean[2], channel_var[2];
    reference_statistics(&p, x, mean, var);
    reference_channel_statistics(&p, mean, var, channel_mean, channel_var);
    ck_assert(channel_mean[0] == 2 && channel_mean[1] == 2);
    ck_assert(channel_var[0] == 2.5 && channel_var[1] == 0.5);
}
END_TEST

/* Groups and weights, each element in exactly one, by the table in reference.h. */
START_TEST(groups_and_weights)
{
    const struct reference_problem *p = &problems[_i];
    size_t seen[2][ELEMENTS] = {{0}};
    ck_assert_uint_eq(reference_weights(p) * reference_weight_size(p), reference_elements(p));
    for (size_t g = 0; g < reference_groups(p); g++) {
        for (size_t k = 0; k < reference_group_size(p, g); k++) {
            seen[0][reference_group_element(p, g, k)]++;
            ck_assert_uint_eq(reference_group_of(p, reference_group_element(p, g, k)), g);
        }
    }
    for (size_t w = 0; w < reference_weights(p); w++) {
        for (size_t k = 0; k < reference_weight_size(p); k++) {
            seen[1][reference_weight_element(p, w, k)]++;
            ck_assert_uint_eq(reference_weight_of(p, reference_weight_element(p, w, k)), w);
        }
    }
    for (size_t i = 0; i < reference_elements(p); i++)
        ck_assert(seen[0][i] == 1 && seen[1][i] == 1);
    for (size_t n = 0; n < p->n; n++) {
        for (size_t c = 0; c < p->c; c++) {
            for (size_t s = 0; s < p->s; s++) {
                const size_t i = reference_index(p, n, c, s);
                const bool rows = p->norm == REFERENCE_LAYER || p->norm == REFERENCE_RMS;
                const size_t group = p->norm == REFERENCE_BATCH      ? (p->batch ? n / p->batch * p->c : 0) + c
                                     : p->norm == REFERENCE_GROUP    ? n * p->groups + c / (p->c / p->groups)
                                     : p->norm == REFERENCE_INSTANCE ? n * p->c + c
                                     : p->length == p->c * p->s      ? n
                                     : p->layout == REFERENCE_NSC    ? n * p->s + s
                                                                     : n * p->c + c;
                ck_assert_uint_eq(reference_group_of(p, i), group);
                ck_assert_uint_eq(reference_weight_of(p, i), rows ? i % p->length : c);
            }
        }
    }
}
END_TEST

START_TEST(large_mean)
{
    const struct reference_problem p = {.layout = REFERENCE_NC, .n = 4, .c = 1, .s = 1, .eps = 0};
    const double x[] = {1e12 + 1, 1e12 + 2, 1e12 + 3, 1e12 + 6};
    double mean, var;
    reference_statistics(&p, x, &mean, &var);
    ck_assert_double_eq(mean, 1e12 + 3);
    ck_assert_double_eq(var, 3.5);
}
END_TEST

START_TEST(index_of_every_layout)
{
    const struct reference_problem nc = {.layout = REFERENCE_NC, .n = 2, .c = 3, .s = 1, .eps = 0},
                                   ncs = {.layout = REFERENCE_NCS, .n = 2, .c = 3, .s = 4, .eps = 0},
                                   nsc = {.layout = REFERENCE_NSC, .n = 2, .c = 3, .s = 4, .eps = 0};
    ck_assert_uint_eq(reference_index(&nc, 1, 2, 0), 1 * 3 + 2);
    ck_assert_uint_eq(reference_index(&ncs, 1, 2, 3), (1 * 3 + 2) * 4 + 3);
    ck_assert_uint_eq(reference_index(&nsc, 1, 2, 3), (1 * 4 + 3) * 3 + 2);
    ck_assert_uint_eq(reference_elements(&ncs), 24);
}
END_TEST

START_TEST(stepwise_form_is_the_same)
{
    const struct reference_problem *p = &problems[_i];
    const struct data d = make_data(p);
    double dx[2][ELEMENTS], dweight[2][MOST], dbias[2][MOST];
    reference_backward(p, d.x, d.dy, d.mean, d.var, d.weight, false, dx[0], dweight[0], dbias[0]);
    reference_backward_stepwise(p, d.x, d.dy, d.mean, d.var, d.weight, dx[1], dweight[1], dbias[1]);
    for (size_t i = 0; i < reference_elements(p); i++)
        ck_assert_double_le(fabs(dx[0][i] - dx[1][i]), 1e-13);
    for (size_t c = 0; c < reference_weights(p); c++) {
        ck_assert_double_le(fabs(dweight[0][c] - dweight[1][c]), 1e-14);
        ck_assert_double_le(fabs(dbias[0][c] - dbias[1][c]), 1e-14);
    }
}
END_TEST

/* Σ dy·y; frozen: with the statistics of d, else with those of d's x. */
static double loss(const struct reference_problem *p, const struct data *d, bool frozen)
{
    double mean[MOST], var[MOST], y[ELEMENTS], sum = 0;
    reference_statistics(p, d->x, mean, var);
    reference_apply(p, d->x, frozen ? d->mean : mean, frozen ? d->var : var, d->weight, d->bias, y);
    for (size_t i = 0; i < reference_elements(p); i++)
        sum += d->dy[i] * y[i];
    return sum;
}

static double slope(const struct reference_problem *p, struct data *d, double *at, bool frozen)
{
    const double step = 1e-5, here = *at;
    *at = here + step;
    const double above = loss(p, d, frozen);
    *at = here - step;
    const double below = loss(p, d, frozen);
    *at = here;
    return (above - below) / (2 * step);
}

START_TEST(central_differences)
{
    const struct reference_problem *p = &problems[_i / 2];
    const bool frozen = _i % 2;
    struct data d = make_data(p);
    double dx[ELEMENTS], dweight[MOST], dbias[MOST];
    reference_backward(p, d.x, d.dy, d.mean, d.var, d.weight, frozen, dx, dweight, dbias);
    for (size_t i = 0; i < reference_elements(p); i++)
        ck_assert_double_le(fabs(slope(p, &d, &d.x[i], frozen) - dx[i]), 1e-8);
    for (size_t c = 0; c < reference_weights(p); c++) {
        ck_assert_double_le(fabs(slope(p, &d, &d.weight[c], frozen) - dweight[c]), 1e-8);
        ck_assert_double_le(fabs(slope(p, &d, &d.bias[c], frozen) - dbias[c]), 1e-8);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("reference");
    TCase *tcase = tcase_create("reference");
    tcase_add_test(tcase, by_hand);
    tcase_add_test(tcase, by_hand_without_mean);
    tcase_add_test(tcase, virtual_batches);
    tcase_add_test(tcase, channels_of_instance_norm);
    tcase_add_loop_test(tcase, groups_and_weights, 0, PROBLEMS);
    tcase_add_test(tcase, large_mean);
    tcase_add_test(tcase, index_of_every_layout);
    tcase_add_loop_test(tcase, stepwise_form_is_the_same, 0, PROBLEMS);
    tcase_add_loop_test(tcase, central_differences, 0, 2 * PROBLEMS);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
