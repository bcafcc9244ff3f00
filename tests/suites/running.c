/* Running statistics: momentum, cumulative average, biased and unbiased variance, the guard, and inference after training. */
#include "layer.h"
#include "model.h"

#include <stdio.h>
#include <string.h>

static const struct shape shapes[] = {
    {CLNORM_NC, 29, 13, 0, {0, 0, 0}}, {CLNORM_NCS, 6, 5, 2, {7, 9, 0}}, {CLNORM_NSC, 6, 5, 2, {7, 9, 0}}};
enum { SHAPES = sizeof shapes / sizeof *shapes };

static struct layer *new_layer(clnorm_device *device, int s, uint64_t seed)
{
    size_t count = shape_elements(&shapes[s], shapes[s].n);
    return layer_new(device, &shapes[s], shapes[s].n, -1, random_floats(seed, count, 1.5f, 3), NULL, NULL);
}

START_TEST(momentum_of_0_keeps)
{
    clnorm_device *device = test_device(_i);
    for (int s = 0; s < SHAPES; s++) {
        struct layer *l = new_layer(device, s, 1);
        size_t c = l->channels;
        float *mean = random_floats(2, c, 1, 0), *var = random_floats(3, c, 0.1f, 1);
        array_put(&l->running_mean, mean);
        array_put(&l->running_var, var);
        l->forward.running.momentum = 0;
        layer_forward(l);
        expect_same(array_get(&l->running_mean), mean, c, "running_mean after momentum 0");
        expect_same(array_get(&l->running_var), var, c, "running_var after momentum 0");
    }
}
END_TEST

/* What came before is forgotten: the running values are the batch's, to the bit, as 0·old + 1·batch is. */
START_TEST(momentum_of_1_takes_the_batch)
{
    clnorm_device *device = test_device(_i);
    for (int s = 0; s < SHAPES; s++) {
        struct layer *l = new_layer(device, s, 1);
        size_t c = l->channels;
        array_put(&l->running_mean, random_floats(2, c, 100, 0));
        array_put(&l->running_var, random_floats(3, c, 100, 1000));
        l->forward.running.momentum = 1;
        layer_forward(l);
        expect_same(array_get(&l->running_mean), array_get(&l->mean), c, "running_mean after momentum 1");
        expect_same(array_get(&l->running_var), array_get(&l->var), c, "running_var after momentum 1");
    }
}
END_TEST

START_TEST(exponential_average)
{
    clnorm_device *device = test_device(_i);
    for (int s = 0; s < SHAPES; s++) {
        for (int unbiased = 0; unbiased < 2; unbiased++) {
            struct layer *l = new_layer(device, s, 1);
            size_t c = l->channels, count = l->count;
            double *mean = scratch_doubles(c), *var = scratch_doubles(c);
            for (size_t i = 0; i < c; i++)
                var[i] = 1;
            l->forward.running.momentum = 0.25f;
            l->forward.running.variance = unbiased ? CLNORM_UNBIASED : CLNORM_BIASED;
            for (uint64_t batch = 0; batch < 5; batch++) {
                float *x = random_floats(100 + batch, count, 1, (float)batch);
                struct model *model = model_forward(&shapes[s], shapes[s].n, 1e-5, x, NULL, NULL);
                double factor = unbiased ? (double)model->m / (double)(model->m - 1) : 1;
                array_put(&l->x, x);
                layer_forward(l);
                for (size_t i = 0; i < c; i++) {
                    mean[i] = 0.75 * mean[i] + 0.25 * model->mean[i];
                    var[i] = 0.75 * var[i] + 0.25 * model->var[i] * factor;
                }
            }
            float *running_mean = array_get(&l->running_mean), *running_var = array_get(&l->running_var);
            for (size_t i = 0; i < c; i++) {
                /* A step rounds a few times; older errors decay by the momentum, so that they add up to four steps'. */
                expect_near(running_mean[i], mean[i], 4 * 6 * U * 5, "running_mean");
                expect_near(running_var[i], var[i], 4 * (32 + 4) * U * 2, "running_var");
            }
        }
    }
}
END_TEST

/* After k batches the running values are the plain means of the batches' values. The momentum does not matter. */
START_TEST(cumulative_average)
{
    enum { BATCHES = 5 };
    clnorm_device *device = test_device(_i);
    for (int s = 0; s < SHAPES; s++) {
        struct layer *l = new_layer(device, s, 1);
        size_t c = l->channels;
        double *mean = scratch_doubles(c), *var = scratch_doubles(c);
        array_put(&l->running_mean, random_floats(2, c, 10, 0));
        array_put(&l->running_var, random_floats(3, c, 10, 0));
        l->forward.running.average = CLNORM_CUMULATIVE;
        l->forward.running.momentum = 0.9f;
        for (uint64_t batch = 0; batch < BATCHES; batch++) {
            float *x = random_floats(100 + batch, l->count, 1, (float)batch);
            struct model *model = model_forward(&shapes[s], shapes[s].n, 1e-5, x, NULL, NULL);
            array_put(&l->x, x);
            l->forward.running.count = batch;
            layer_forward(l);
            for (size_t i = 0; i < c; i++) {
                mean[i] += model->mean[i] / BATCHES;
                var[i] += model->var[i] / BATCHES;
            }
        }
        float *running_mean = array_get(&l->running_mean), *running_var = array_get(&l->running_var);
        for (size_t i = 0; i < c; i++) {
            /* The first batch replaces old + (batch − old), which rounds at the size of old, 10 to 40. */
            expect_near(running_mean[i], mean[i], 4 * U * (BATCHES * 5 + 60), "running_mean");
            expect_near(running_var[i], var[i], (BATCHES * 4 + 32) * 2 * U + 4 * U * 60, "running_var");
        }
    }
}
END_TEST

/* With a count of 0 there is no old value, however large what stands there is. */
START_TEST(cumulative_average_begins_afresh)
{
    clnorm_device *device = test_device(_i);
    struct layer *l = new_layer(device, 0, 1);
    size_t c = l->channels;
    float *old = scratch_floats(c);
    for (size_t i = 0; i < c; i++)
        old[i] = i % 2 ? 1e30f : -1e30f;
    array_put(&l->running_mean, old);
    array_put(&l->running_var, old);
    l->forward.running.average = CLNORM_CUMULATIVE;
    layer_forward(l);
    expect_same(array_get(&l->running_mean), array_get(&l->mean), c, "running_mean of the first batch");
    expect_same(array_get(&l->running_var), array_get(&l->var), c, "running_var of the first batch");
}
END_TEST

/* A count that f32 or 32 bits cannot hold moves nothing. */
START_TEST(cumulative_average_of_very_many)
{
    clnorm_device *device = test_device(_i);
    static const uint64_t counts[] = {(uint64_t)1 << 32, UINT64_MAX, UINT64_MAX - 1};
    for (size_t i = 0; i < 3; i++) {
        struct layer *l = new_layer(device, 0, 1);
        size_t c = l->channels;
        l->forward.running.average = CLNORM_CUMULATIVE;
        l->forward.running.count = counts[i];
        layer_forward(l);
        float *mean = array_get(&l->running_mean), *var = array_get(&l->running_var);
        for (size_t k = 0; k < c; k++) {
            expect_near(mean[k], 0, 10 / 4294967296.0, "running_mean after a huge count");
            expect_near(var[k], 1, U, "running_var after a huge count");
        }
    }
}
END_TEST

START_TEST(unbiased_of_one_value_keeps_biased)
{
    clnorm_device *device = test_device(_i);
    static const struct shape one = {CLNORM_NC, 1, 9, 0, {0, 0, 0}};
    struct layer *l = layer_new(device, &one, 1, -1, random_floats(1, 9, 1, 5), NULL, NULL);
    l->forward.running.variance = CLNORM_UNBIASED;
    l->forward.running.momentum = 0.5f;
    layer_forward(l);
    float *var = array_get(&l->running_var);
    for (size_t c = 0; c < 9; c++)
        expect(var[c] == 0.5f, "running_var[%zu] is %g, not 0.5", c, (double)var[c]);
}
END_TEST

/* m is the call's, not the plan's: unbiased with a smaller batch divides by that batch's m − 1. */
START_TEST(unbiased_of_a_partial_batch)
{
    clnorm_device *device = test_device(_i);
    static const struct shape large = {CLNORM_NSC, 50, 3, 1, {2, 0, 0}};
    float *x = random_floats(1, 2 * 2 * 3, 1, 5);
    struct layer *l = layer_new(device, &large, 2, -1, x, NULL, NULL);
    struct model *model = model_forward(&large, 2, 1e-5, x, NULL, NULL);
    l->forward.running.variance = CLNORM_UNBIASED;
    l->forward.running.momentum = 1;
    layer_forward(l);
    float *var = array_get(&l->running_var);
    for (size_t c = 0; c < 3; c++)
        expect_near(var[c], model->var[c] * 4 / 3, 36 * U * model->var[c] * 4 / 3, "running_var");
}
END_TEST

/* One channel of NaN, one of Inf, one whose variance overflows: they keep their running statistics, the others move. */
START_TEST(guard)
{
    clnorm_device *device = test_device(_i);
    for (int s = 0; s < SHAPES; s++) {
        for (int guarded = 0; guarded < 2; guarded++) {
            size_t count = shape_elements(&shapes[s], shapes[s].n), c = (size_t)shapes[s].c;
            float *x = random_floats(1, count, 1, 0), *clean = random_floats(1, count, 1, 0);
            x[shape_index(&shapes[s], 1, 0, 0)] = NAN;
            x[shape_index(&shapes[s], 3, 2, 0)] = INFINITY;
            for (size_t n = 0; n < (size_t)shapes[s].n; n++) {
                for (size_t p = 0; p < shape_positions(&shapes[s]); p++)
                    x[shape_index(&shapes[s], n, 3, p)] = (n + p) % 2 ? 3e38f : -3e38f;
            }
            struct layer *l = layer_new(device, &shapes[s], shapes[s].n, -1, x, NULL, NULL);
            struct layer *reference = layer_new(device, &shapes[s], shapes[s].n, -1, clean, NULL, NULL);
            float *mean = random_floats(2, c, 1, 0), *var = random_floats(3, c, 0.1f, 1);
            struct layer *both[] = {l, reference};
            uint32_t found = 77;
            expect_status(clnorm_plan_query_found(l->plan, &found), CLNORM_OK, "query_found");
            expect(found == 0, "found %u before any call", found);
            for (int k = 0; k < 2; k++) {
                array_put(&both[k]->running_mean, mean);
                array_put(&both[k]->running_var, var);
                both[k]->forward.running.guard = guarded ? CLNORM_GUARD_FINITE : CLNORM_GUARD_NONE;
                layer_forward(both[k]);
            }
            float *new_mean = array_get(&l->running_mean), *new_var = array_get(&l->running_var);
            float *clean_mean = array_get(&reference->running_mean), *clean_var = array_get(&reference->running_var);
            for (size_t k = 0; k < c; k++) {
                char what[64];
                snprintf(what, sizeof what, "channel %zu, guard %d", k, guarded);
                if (k != 0 && k != 2 && k != 3) {
                    expect_same(new_mean + k, clean_mean + k, 1, what);
                    expect_same(new_var + k, clean_var + k, 1, what);
                } else if (guarded) {
                    expect_same(new_mean + k, mean + k, 1, what);
                    expect_same(new_var + k, var + k, 1, what);
                } else {
                    expect(!isfinite(new_var[k]), "%s: running_var is %g", what, (double)new_var[k]);
                }
            }
            expect_status(clnorm_plan_query_found(l->plan, &found), CLNORM_OK, "query_found");
            expect(found == CLNORM_FOUND_NONFINITE, "guard %d: found %u", guarded, found);
            expect_status(clnorm_plan_query_found(l->plan, &found), CLNORM_OK, "query_found");
            expect(found == 0, "asking did not clear it: %u", found);
            expect_status(clnorm_plan_query_found(reference->plan, &found), CLNORM_OK, "query_found");
            expect(found == 0, "a clean run found %u", found);
        }
    }
}
END_TEST

/* A forward without running statistics commits nothing, so finds nothing. */
START_TEST(no_running_statistics)
{
    clnorm_device *device = test_device(_i);
    struct layer *l = new_layer(device, 1, 1), *with = new_layer(device, 1, 1);
    l->forward.running_mean = l->forward.running_var = clnorm_none();
    layer_forward(l);
    layer_forward(with);
    expect_same(array_get(&l->y), array_get(&with->y), l->count, "y without running statistics");
    float *zero = array_get(&l->running_mean);
    for (size_t c = 0; c < l->channels; c++)
        expect(zero[c] == 0, "a buffer that is no argument was written");
}
END_TEST

/* Trained with momentum 1 on a batch, inference on that batch gives what training gave, to its bound and the rounding of the
 * f32 running mean. */
START_TEST(train_then_infer)
{
    clnorm_device *device = test_device(_i);
    for (int s = 0; s < SHAPES; s++) {
        size_t count = shape_elements(&shapes[s], shapes[s].n), c = (size_t)shapes[s].c;
        float *x = random_floats(5, count, 2, 1), *w = random_floats(6, c, 1, 0), *b = random_floats(7, c, 1, 0);
        struct layer *l = layer_new(device, &shapes[s], shapes[s].n, -1, x, w, b);
        l->forward.running.momentum = 1;
        layer_forward(l);
        struct model *trained = model_forward(&shapes[s], shapes[s].n, 1e-5, x, w, b);
        model_check_y(trained, array_get(&l->y), "training");
        model_check_statistics(trained, array_get(&l->mean), array_get(&l->var), array_get(&l->rstd), "training");
        layer_infer(l);
        float *mean = array_get(&l->running_mean), *var = array_get(&l->running_var), *y = array_get(&l->y);
        struct model *inferred = model_infer(&shapes[s], shapes[s].n, 1e-5, x, w, b, mean, var);
        model_check_y(inferred, y, "inference on the f32 running values");
        expect_same(array_get(&l->running_mean), mean, c, "running_mean after infer");
        expect_same(array_get(&l->running_var), var, c, "running_var after infer");
        for (size_t i = 0; i < count; i++) {
            size_t k = shapes[s].layout == CLNORM_NCS ? i / shape_positions(&shapes[s]) % c : i % c;
            double bound = 2 * (18 * U * trained->xhat_max[k] + 2 * U * trained->y_max[k]) +
                           16 * U * trained->xhat_max[k] +
                           2 * U * fabs(trained->mean[k] * trained->rstd[k] * (double)w[k]);
            if (!expect_near(y[i], trained->y[i], bound, "inference against training"))
                break;
        }
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("running statistics");
    TCase *tcase = add_case(suite, "running", 60);
    add_device_test(tcase, momentum_of_0_keeps);
    add_device_test(tcase, momentum_of_1_takes_the_batch);
    add_device_test(tcase, exponential_average);
    add_device_test(tcase, cumulative_average);
    add_device_test(tcase, cumulative_average_begins_afresh);
    add_device_test(tcase, cumulative_average_of_very_many);
    add_device_test(tcase, unbiased_of_one_value_keeps_biased);
    add_device_test(tcase, unbiased_of_a_partial_batch);
    add_device_test(tcase, guard);
    add_device_test(tcase, no_running_statistics);
    add_device_test(tcase, train_then_infer);
    return run_suites(&suite, 1);
}
