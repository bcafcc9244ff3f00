/* Backward by direct calls: each source of statistics, each gradient left out, smaller batches, the steps. */
#include "layer.h"
#include "model.h"

#include <stdio.h>
#include <string.h>

static const struct shape shapes[] = {
    {CLNORM_NC, 31, 17, 0, {0, 0, 0}}, {CLNORM_NCS, 6, 5, 3, {3, 4, 5}}, {CLNORM_NSC, 6, 5, 3, {3, 4, 5}}};
enum { SHAPES = sizeof shapes / sizeof *shapes };

struct setting {
    struct layer *layer;
    struct model *model;
    struct gradients *want;
    float *x, *weight, *dy;
};

/* A layer after its forward, with what its backward has to give. */
static struct setting set_up(clnorm_device *device, int s, int64_t n)
{
    struct setting t;
    size_t count = shape_elements(&shapes[s], n), c = (size_t)shapes[s].c;
    t.x = random_floats(11, count, 2, -3);
    t.weight = random_floats(12, c, 1, 0);
    t.layer = layer_new(device, &shapes[s], n, -1, t.x, t.weight, NULL);
    t.dy = layer_dy(t.layer);
    t.model = model_forward(&shapes[s], n, 1e-5, t.x, t.weight, NULL);
    t.want = model_backward(t.model, t.dy, false);
    layer_forward(t.layer);
    return t;
}

START_TEST(from_state)
{
    clnorm_device *device = test_device(_i);
    for (int s = 0; s < SHAPES; s++) {
        for (int64_t n = shapes[s].n; n > 0; n -= 2) {
            struct setting t = set_up(device, s, n);
            layer_backward(t.layer);
            model_check_gradients(t.model, t.want, array_get(&t.layer->dx), array_get(&t.layer->dweight),
                                  array_get(&t.layer->dbias), shape_text(&shapes[s]));
            expect_same(array_get(&t.layer->x), t.x, t.layer->count, "x after backward");
            expect_same(array_get(&t.layer->dy), t.dy, t.layer->count, "dy after backward");
        }
    }
}
END_TEST

/* Every set of gradients but none; what is left out changes no bit of the others. */
START_TEST(gradients_left_out)
{
    clnorm_device *device = test_device(_i);
    for (int s = 0; s < SHAPES; s++) {
        for (int source = 0; source < 2; source++) {
            float *all[3] = {NULL, NULL, NULL};
            for (int set = 7; set > 0; set--) {
                struct setting t = set_up(device, s, shapes[s].n);
                struct layer *l = t.layer;
                if (source) { /* frozen */
                    l->backward.state = clnorm_none();
                    l->backward.running_mean = l->running_mean.buffer;
                    l->backward.running_var = l->running_var.buffer;
                }
                const struct array *arrays[3] = {&l->dx, &l->dweight, &l->dbias};
                clnorm_buffer *buffers[3] = {&l->backward.dx, &l->backward.dweight, &l->backward.dbias};
                for (int k = 0; k < 3; k++) {
                    if (!(set >> k & 1))
                        *buffers[k] = clnorm_none();
                }
                layer_backward(l);
                for (int k = 0; k < 3; k++) {
                    char what[96];
                    float *got = array_get(arrays[k]);
                    snprintf(what, sizeof what, "%s, source %d, set %d, gradient %d", shape_text(&shapes[s]), source,
                             set, k);
                    if (set == 7)
                        all[k] = got;
                    else if (set >> k & 1)
                        expect_same(got, all[k], arrays[k]->count, what);
                    else
                        expect(untouched(got, arrays[k]->count), "%s was written", what);
                }
            }
        }
    }
}
END_TEST

/* Statistics of another framework: what f32 mean and rstd say, taken as exact, to the bound. */
START_TEST(from_mean_and_rstd)
{
    clnorm_device *device = test_device(_i);
    for (int s = 0; s < SHAPES; s++) {
        struct setting t = set_up(device, s, shapes[s].n);
        struct layer *l = t.layer;
        float *mean = array_get(&l->mean), *rstd = array_get(&l->rstd);
        l->backward.state = clnorm_none();
        l->backward.mean = l->mean.buffer;
        l->backward.rstd = l->rstd.buffer;
        layer_backward(l);
        for (size_t c = 0; c < l->channels; c++) {
            t.model->mean[c] = mean[c];
            t.model->rstd[c] = rstd[c];
            t.model->var[c] = 1 / ((double)rstd[c] * rstd[c]) - t.model->eps;
        }
        t.want = model_backward(t.model, t.dy, false);
        model_check_gradients(t.model, t.want, array_get(&l->dx), array_get(&l->dweight), array_get(&l->dbias),
                              "from mean and rstd");
    }
}
END_TEST

/* Frozen statistics are constants: dx = dy·weight·rstd. */
START_TEST(frozen)
{
    clnorm_device *device = test_device(_i);
    for (int s = 0; s < SHAPES; s++) {
        for (int without_x = 0; without_x < 2; without_x++) {
            struct setting t = set_up(device, s, shapes[s].n);
            struct layer *l = t.layer;
            float *mean = random_floats(5, l->channels, 1, -3), *var = random_floats(6, l->channels, 0.2f, 2);
            array_put(&l->running_mean, mean);
            array_put(&l->running_var, var);
            l->backward.state = clnorm_none();
            l->backward.running_mean = l->running_mean.buffer;
            l->backward.running_var = l->running_var.buffer;
            if (without_x)
                l->backward.x = l->backward.dweight = clnorm_none();
            layer_backward(l);
            struct model *model = model_infer(&shapes[s], shapes[s].n, 1e-5, t.x, t.weight, NULL, mean, var);
            struct gradients *want = model_backward(model, t.dy, true);
            model_check_gradients(model, want, array_get(&l->dx), without_x ? NULL : array_get(&l->dweight),
                                  array_get(&l->dbias), without_x ? "frozen without x" : "frozen");
            expect_same(array_get(&l->running_mean), mean, l->channels, "running_mean after a frozen backward");
            expect_same(array_get(&l->running_var), var, l->channels, "running_var after a frozen backward");
        }
    }
}
END_TEST

/* backward_reduce → backward_apply gives what backward gives, to both bounds; the sums' own counts are exact. */
START_TEST(as_steps)
{
    clnorm_device *device = test_device(_i);
    for (int s = 0; s < SHAPES; s++) {
        for (int given = 0; given < 2; given++) {
            struct setting t = set_up(device, s, shapes[s].n);
            struct layer *l = t.layer;
            struct array sums = array_bytes(device, clnorm_plan_sums_bytes(l->plan));
            clnorm_backward_reduce_args r = CLNORM_BACKWARD_REDUCE_ARGS_INIT;
            r.x = l->x.buffer;
            r.dy = l->dy.buffer;
            r.sums = sums.buffer;
            r.dweight = l->dweight.buffer;
            r.dbias = l->dbias.buffer;
            clnorm_backward_apply_args a = CLNORM_BACKWARD_APPLY_ARGS_INIT;
            a.x = l->x.buffer;
            a.dy = l->dy.buffer;
            a.weight = l->weight.buffer;
            a.sums = sums.buffer;
            a.dx = l->dx.buffer;
            if (given) {
                r.mean = a.mean = l->mean.buffer;
                r.rstd = a.rstd = l->rstd.buffer;
                float *mean = array_get(&l->mean), *rstd = array_get(&l->rstd);
                for (size_t c = 0; c < l->channels; c++) {
                    t.model->mean[c] = mean[c];
                    t.model->rstd[c] = rstd[c];
                    t.model->var[c] = 1 / ((double)rstd[c] * rstd[c]) - t.model->eps;
                }
                t.want = model_backward(t.model, t.dy, false);
            } else {
                r.state = a.state = l->state.buffer;
            }
            expect_status(clnorm_backward_reduce(l->plan, &r), CLNORM_OK, "backward_reduce");
            expect_status(clnorm_backward_apply(l->plan, &a), CLNORM_OK, "backward_apply");
            model_check_gradients(t.model, t.want, array_get(&l->dx), array_get(&l->dweight), array_get(&l->dbias),
                                  "steps");
            float *planes = array_get(&sums);
            size_t c = l->channels;
            for (size_t k = 0; k < c; k++) {
                expect((double)planes[k] + planes[c + k] == (double)t.model->m, "count %g + %g, not %zu",
                       (double)planes[k], (double)planes[c + k], t.model->m);
                expect_near(planes[2 * c + k], t.want->dbias[k], t.want->dbias_bound[k], "sum of dy");
                expect_near(planes[3 * c + k], t.want->dweight[k], t.want->dweight_bound[k], "sum of dy times xhat");
            }
        }
    }
}
END_TEST

/* Every kind of backward reads the weight: left out it is 1. */
START_TEST(without_weight)
{
    clnorm_device *device = test_device(_i);
    for (int s = 0; s < SHAPES; s++) {
        struct setting t = set_up(device, s, shapes[s].n);
        struct model *model = model_forward(&shapes[s], shapes[s].n, 1e-5, t.x, NULL, NULL);
        t.layer->backward.weight = clnorm_none();
        layer_backward(t.layer);
        model_check_gradients(model, model_backward(model, t.dy, false), array_get(&t.layer->dx),
                              array_get(&t.layer->dweight), array_get(&t.layer->dbias), "without weight");
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("backward");
    TCase *tcase = add_case(suite, "backward", 100);
    add_device_test(tcase, from_state);
    add_device_test(tcase, gradients_left_out);
    add_device_test(tcase, from_mean_and_rstd);
    add_device_test(tcase, frozen);
    add_device_test(tcase, as_steps);
    add_device_test(tcase, without_weight);
    return run_suites(&suite, 1);
}
