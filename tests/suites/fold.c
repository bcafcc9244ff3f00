/* Folding batch norm into the layer before it: both formulas in double, what may be left out, in place, and channels that keep apart.
 * fold_network.c shows that the folded layer does what layer and norm did. */
#include "support.h"

#include <stdio.h>
#include <string.h>

/* Tensors of a layer's weights. */
static const struct shape shapes[] = {
    {CLNORM_NCS, 1, 13, 3, {5, 3, 3}},   /* convolution [c_out, c_in, kh, kw] */
    {CLNORM_NCS, 1, 37, 1, {29, 0, 0}},  /* linear [out, in] */
    {CLNORM_NC, 29, 37, 0, {0, 0, 0}},   /* linear [in, out] */
    {CLNORM_NCS, 6, 5, 2, {3, 3, 0}},    /* transposed convolution [c_in, c_out, kh, kw] */
    {CLNORM_NSC, 3, 16, 2, {3, 5, 0}},   /* convolution [kh, kw, c_in, c_out] */
    {CLNORM_NCS, 1, 1, 1, {1, 0, 0}},    /* one weight */
    {CLNORM_NC, 3, 2000, 0, {0, 0, 0}},  /* many outputs, few inputs */
    {CLNORM_NCS, 1, 300, 3, {90, 3, 3}}, /* large enough for all threads */
};
enum { SHAPES = sizeof shapes / sizeof *shapes };

/* What may be left out. */
enum { WEIGHT = 1, BIAS = 2, LAYER_BIAS = 4, ALL = 7 };

/* A call, its inputs here and on the device. */
struct fold {
    const struct shape *shape;
    size_t count, channels;
    float *layer_weight, *layer_bias, *weight, *bias, *mean, *var;
    clnorm_plan *plan;
    struct array in[6], layer_weight_out, layer_bias_out;
    clnorm_fold_args args;
};

/* Means of 10⁶, means next to the layer's bias, variances far below eps and a weight of 0 are among the channels. */
static struct fold *fold_new(clnorm_device *device, const struct shape *shape, int options)
{
    struct fold *f = scratch(sizeof *f);
    size_t c = (size_t)shape->c, count = shape_elements(shape, shape->n);
    f->shape = shape;
    f->count = count;
    f->channels = c;
    f->layer_weight = random_floats(1, count, 0.3f, 0.1f);
    f->layer_bias = options & LAYER_BIAS ? random_floats(2, c, 1, 0.5f) : NULL;
    f->weight = options & WEIGHT ? random_floats(3, c, 1, 0) : NULL;
    f->bias = options & BIAS ? random_floats(4, c, 1, -0.5f) : NULL;
    f->mean = random_floats(5, c, 2, 1);
    f->var = scratch_floats(c);
    struct random random = {6};
    for (size_t g = 0; g < c; g++) {
        f->var[g] = random_uniform(&random, 0.1f, 4);
        if (g % 7 == 1)
            f->mean[g] = 1e6f + (float)g;
        if (g % 7 == 2 && f->layer_bias)
            f->mean[g] = f->layer_bias[g] * (1 + 0x1p-20f);
        if (g % 7 == 3)
            f->var[g] = 1e-12f;
        if (g % 7 == 4 && f->weight)
            f->weight[g] = 0;
    }
    f->plan = test_plan(device, shape, -1);
    const float *values[6] = {f->layer_weight, f->layer_bias, f->weight, f->bias, f->mean, f->var};
    clnorm_fold_args args = CLNORM_FOLD_ARGS_INIT;
    clnorm_buffer *buffers[6] = {&args.layer_weight, &args.layer_bias,   &args.weight,
                                 &args.bias,         &args.running_mean, &args.running_var};
    for (int i = 0; i < 6; i++) {
        if (!values[i])
            continue;
        f->in[i] = array_new(device, i ? c : count, values[i]);
        *buffers[i] = f->in[i].buffer;
    }
    f->layer_weight_out = array_new(device, count, NULL);
    f->layer_bias_out = array_new(device, c, NULL);
    args.layer_weight_out = f->layer_weight_out.buffer;
    args.layer_bias_out = f->layer_bias_out.buffer;
    f->args = args;
    return f;
}

static void fold_run(struct fold *f)
{
    expect_status(clnorm_fold(f->plan, &f->args), CLNORM_OK, shape_text(f->shape));
}

/* The header's formulas and bounds. The factor is off by 2.5u of the square root and its reciprocal and u of the product with weight; then
 * the layer's weight has one rounding more (4.5u, below 5u), and the bias has a difference, a product (5.5u, below 6u) and a sum, which
 * rounds what it gives: 7u of the one term, u of the other. */
static void fold_check(const struct fold *f, const float *layer_weight, const float *layer_bias, const char *what)
{
    size_t positions = shape_positions(f->shape), n = (size_t)f->shape->n;
    for (size_t c = 0; c < f->channels; c++) {
        double a = (f->weight ? (double)f->weight[c] : 1.0) / sqrt((double)f->var[c] + (double)1e-5f);
        double moved = ((f->layer_bias ? (double)f->layer_bias[c] : 0.0) - f->mean[c]) * a;
        double bias = f->bias ? (double)f->bias[c] : 0.0;
        expect_near(layer_bias[c], moved + bias, 7 * U * fabs(moved) + U * fabs(bias), what);
        for (size_t i = 0; i < n * positions; i++) {
            size_t at = shape_index(f->shape, i / positions, c, i % positions);
            double want = f->layer_weight[at] * a;
            if (!expect_near(layer_weight[at], want, 5 * U * fabs(want), what))
                return;
        }
    }
}

START_TEST(formula)
{
    clnorm_device *device = test_device(_i);
    for (int s = 0; s < SHAPES; s++) {
        for (int options = 0; options <= ALL; options++) {
            struct fold *f = fold_new(device, &shapes[s], options);
            char what[96];
            snprintf(what, sizeof what, "%s, options %d", shape_text(&shapes[s]), options);
            fold_run(f);
            fold_check(f, array_get(&f->layer_weight_out), array_get(&f->layer_bias_out), what);
            const float *values[6] = {f->layer_weight, f->layer_bias, f->weight, f->bias, f->mean, f->var};
            for (int i = 0; i < 6; i++) {
                if (values[i])
                    expect_same(array_get(&f->in[i]), values[i], i ? f->channels : f->count, "an input after the call");
            }
        }
    }
}
END_TEST

/* Each pair alone and both: the bits of separate buffers. */
START_TEST(in_place)
{
    clnorm_device *device = test_device(_i);
    for (int s = 0; s < SHAPES; s++) {
        struct fold *apart = fold_new(device, &shapes[s], ALL);
        fold_run(apart);
        float *weight = array_get(&apart->layer_weight_out), *bias = array_get(&apart->layer_bias_out);
        for (int pairs = 1; pairs < 4; pairs++) {
            struct fold *f = fold_new(device, &shapes[s], ALL);
            if (pairs & 1)
                f->args.layer_weight_out = f->args.layer_weight;
            if (pairs & 2)
                f->args.layer_bias_out = f->args.layer_bias;
            fold_run(f);
            char what[96];
            snprintf(what, sizeof what, "%s, pairs in place %d", shape_text(&shapes[s]), pairs);
            expect_same(array_get(pairs & 1 ? &f->in[0] : &f->layer_weight_out), weight, f->count, what);
            expect_same(array_get(pairs & 2 ? &f->in[1] : &f->layer_bias_out), bias, f->channels, what);
        }
    }
}
END_TEST

/* A mean of NaN spoils its channel's bias, a variance of NaN or below −eps all of its channel, and nothing else a bit. */
START_TEST(what_is_not_finite)
{
    clnorm_device *device = test_device(_i);
    for (int s = 0; s < 5; s++) {
        struct fold *clean = fold_new(device, &shapes[s], ALL), *f = fold_new(device, &shapes[s], ALL);
        size_t positions = shape_positions(f->shape);
        f->mean[0] = f->var[2] = NAN;
        f->var[4] = -1;
        array_put(&f->in[4], f->mean);
        array_put(&f->in[5], f->var);
        fold_run(clean);
        fold_run(f);
        float *bias = array_get(&f->layer_bias_out), *clean_bias = array_get(&clean->layer_bias_out);
        float *weight = array_get(&f->layer_weight_out), *clean_weight = array_get(&clean->layer_weight_out);
        for (size_t c = 0; c < f->channels; c++) {
            if (c == 0 || c == 2 || c == 4)
                expect(isnan(bias[c]), "%s: the bias of channel %zu is %g", shape_text(f->shape), c, (double)bias[c]);
            else
                expect_same(&bias[c], &clean_bias[c], 1, "the bias of another channel");
            size_t at = shape_index(f->shape, (size_t)f->shape->n - 1, c, positions - 1);
            if (c == 2 || c == 4)
                expect(isnan(weight[at]), "%s: a weight of channel %zu is %g", shape_text(f->shape), c,
                       (double)weight[at]);
            else
                expect_same(&weight[at], &clean_weight[at], 1, "a weight of another channel");
        }
    }
}
END_TEST

/* A layer without inputs has a bias. */
START_TEST(no_inputs)
{
    static const struct shape none = {CLNORM_NC, 0, 7, 0, {0, 0, 0}};
    clnorm_device *device = test_device(_i);
    struct fold *f = fold_new(device, &none, ALL);
    f->args.layer_weight = f->args.layer_weight_out = clnorm_none();
    fold_run(f);
    fold_check(f, NULL, array_get(&f->layer_bias_out), "no inputs");
}
END_TEST

/* Plans of other norms fold nothing and leave everything as it was. */
START_TEST(other_norms)
{
    static const clnorm_norm norms[] = {CLNORM_LAYER, CLNORM_GROUP, CLNORM_INSTANCE, CLNORM_RMS};
    clnorm_device *device = test_device(_i);
    struct fold *f = fold_new(device, &shapes[0], ALL);
    for (size_t i = 0; i < sizeof norms / sizeof *norms; i++) {
        clnorm_desc desc = shape_desc(&shapes[0]);
        desc.norm = norms[i];
        desc.groups = norms[i] == CLNORM_GROUP ? 1 : 0;
        desc.normalized_dims = norms[i] == CLNORM_LAYER || norms[i] == CLNORM_RMS ? 1 : 0;
        expect_error(clnorm_fold(test_plan_of(device, &desc), &f->args), CLNORM_E_UNSUPPORTED, "plan", NULL,
                     "fold of another norm");
    }
    expect(untouched(array_get(&f->layer_weight_out), f->count), "layer_weight_out was written");
    expect(untouched(array_get(&f->layer_bias_out), f->channels), "layer_bias_out was written");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("fold");
    TCase *tcase = add_case(suite, "fold", 60);
    add_device_test(tcase, formula);
    add_device_test(tcase, in_place);
    add_device_test(tcase, what_is_not_finite);
    add_device_test(tcase, no_inputs);
    add_device_test(tcase, other_norms);
    return run_suites(&suite, 1);
}
