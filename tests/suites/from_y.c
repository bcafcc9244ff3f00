/* Backward from y: a training step in place, y over x and dx over dy, against the same step apart; weights that are 0; what is refused. */
#include "support.h"

#include "reference.h"

#include <stdio.h>
#include <string.h>

enum { N = 6, C = 12, S = 49, ELEMENTS = N * C * S };

static const struct norm {
    const char *name;
    clnorm_norm norm;
    clnorm_layout layout;
    int64_t groups;
    int32_t dims;
    size_t weights;
} norms[] = {
    {"batch ncs", CLNORM_BATCH, CLNORM_NCS, 0, 0, C},       {"batch nsc", CLNORM_BATCH, CLNORM_NSC, 0, 0, C},
    {"layer nsc", CLNORM_LAYER, CLNORM_NSC, 0, 1, C},       {"rms ncs 2", CLNORM_RMS, CLNORM_NCS, 0, 2, C *S},
    {"group ncs", CLNORM_GROUP, CLNORM_NCS, 3, 0, C},       {"group nsc", CLNORM_GROUP, CLNORM_NSC, 4, 0, C},
    {"instance ncs", CLNORM_INSTANCE, CLNORM_NCS, 0, 0, C}, {"instance nsc", CLNORM_INSTANCE, CLNORM_NSC, 0, 0, C}};
enum { NORMS = sizeof norms / sizeof *norms };

/* Those of the cases (tests/cases/table_from_y.c) that are f32, so that a device compiles each once. */
static const clnorm_activation activations[] = {CLNORM_NO_ACTIVATION, CLNORM_LEAKY_RELU};

static clnorm_desc desc_of(const struct norm *norm, clnorm_activation activation, uint32_t from_y)
{
    clnorm_desc desc = CLNORM_DESC_INIT;
    desc.norm = norm->norm;
    desc.layout = norm->layout;
    desc.n = N;
    desc.c = C;
    desc.spatial_dims = 1;
    desc.spatial[0] = S;
    desc.groups = norm->groups;
    desc.normalized_dims = norm->dims;
    desc.activation = activation;
    desc.backward_from_y = from_y;
    return desc;
}

struct step {
    struct array x, y, state, weight, bias, dy, dx, dweight, dbias;
};

/* x, dy and the parameters of a step; y and dx apart from them, or in place. */
static struct step step_new(clnorm_device *device, clnorm_plan *plan, const float *weight, const float *bias,
                            size_t weights, bool in_place)
{
    struct step s = {.x = array_new(device, ELEMENTS, random_floats(1, ELEMENTS, 2, 3)),
                     .state = array_bytes(device, clnorm_plan_state_bytes(plan)),
                     .weight = array_new(device, weights, weight),
                     .bias = array_new(device, weights, bias),
                     .dy = array_new(device, ELEMENTS, random_floats(2, ELEMENTS, 1, 0)),
                     .dweight = array_new(device, weights, NULL),
                     .dbias = array_new(device, weights, NULL)};
    s.y = in_place ? s.x : array_new(device, ELEMENTS, NULL);
    s.dx = in_place ? s.dy : array_new(device, ELEMENTS, NULL);
    return s;
}

static clnorm_forward_args forward_args(const struct step *s)
{
    clnorm_forward_args f = CLNORM_FORWARD_ARGS_INIT;
    f.x = s->x.buffer;
    f.y = s->y.buffer;
    f.weight = s->weight.buffer;
    f.bias = s->bias.buffer;
    f.state = s->state.buffer;
    return f;
}

/* Of a plan whose backward is from y. */
static clnorm_backward_args backward_args(const struct step *s)
{
    clnorm_backward_args b = CLNORM_BACKWARD_ARGS_INIT;
    b.y = s->y.buffer;
    b.dy = s->dy.buffer;
    b.weight = s->weight.buffer;
    b.bias = s->bias.buffer;
    b.state = s->state.buffer;
    b.dx = s->dx.buffer;
    b.dweight = s->dweight.buffer;
    b.dbias = s->dbias.buffer;
    return b;
}

static float *weights_away_from_0(size_t count)
{
    struct random random = {7};
    float *weight = scratch_floats(count);
    for (size_t i = 0; i < count; i++)
        weight[i] = (i % 2 ? -1.0f : 1.0f) * random_uniform(&random, 0.5f, 1.5f);
    return weight;
}

/* ---- in place is apart, but for what y does not tell ---- */

struct truth {
    struct reference_problem shape;
    const double *x, *dy, *weight, *bias;
    double *mean, *var, *off; /* off: of x̂ */
};

static double xhat_of(const struct truth *t, size_t i)
{
    const size_t g = reference_group_of(&t->shape, i);
    return (t->x[i] - t->mean[g]) / sqrt(t->var[g] + t->shape.eps);
}

/* How far off x̂ of y may be. y is off by 17u·max|x̂|·|w| (the contract's bound with a weight) and a rounding each of the sum with the
 * bias, of the activation, and of y; working x̂ out adds the contract's e. */
static void set_off(const struct truth *t)
{
    for (size_t g = 0; g < reference_groups(&t->shape); g++) {
        double largest = 0;
        for (size_t k = 0; k < reference_group_size(&t->shape, g); k++)
            largest = fmax(largest, fabs(xhat_of(t, reference_group_element(&t->shape, g, k))));
        for (size_t k = 0; k < reference_group_size(&t->shape, g); k++) {
            const size_t i = reference_group_element(&t->shape, g, k), w = reference_weight_of(&t->shape, i);
            t->off[i] = 17 * U * largest + (3 + 20) * U * (fabs(xhat_of(t, i)) + fabs(t->bias[w] / t->weight[w]));
        }
    }
}

/* Both dx are within the contract's bound, and x̂'s part. dy' is dy or slope·dy, so at most dy. */
static void compare_dx(const struct truth *t, const float *got, const float *want, const char *what)
{
    size_t wrong = 0;
    for (size_t g = 0; g < reference_groups(&t->shape); g++) {
        const size_t size = reference_group_size(&t->shape, g);
        const double m = (double)size, rstd = 1 / sqrt(t->var[g] + t->shape.eps);
        double mean_g = 0, mean_gx = 0, by_off = 0;
        for (size_t k = 0; k < size; k++) {
            const size_t i = reference_group_element(&t->shape, g, k);
            const double of_g = fabs(t->weight[reference_weight_of(&t->shape, i)] * t->dy[i]);
            mean_g += of_g / m;
            mean_gx += of_g * fabs(xhat_of(t, i)) / m;
            by_off += of_g * t->off[i] / m;
        }
        double largest = 0;
        for (size_t k = 0; k < size; k++) {
            const size_t i = reference_group_element(&t->shape, g, k);
            const double of_g = fabs(t->weight[reference_weight_of(&t->shape, i)] * t->dy[i]);
            largest = fmax(largest, of_g + mean_g + fabs(xhat_of(t, i)) * mean_gx);
        }
        for (size_t k = 0; k < size; k++) {
            const size_t i = reference_group_element(&t->shape, g, k);
            const double bound = rstd * (64 * U * largest + t->off[i] * mean_gx + fabs(xhat_of(t, i)) * by_off);
            wrong += !(fabs((double)got[i] - (double)want[i]) <= bound);
        }
    }
    expect(wrong == 0, "%s: %zu values of dx are off", what, wrong);
}

static void compare_weights(const struct truth *t, const float *got, const float *want, const char *what)
{
    for (size_t w = 0; w < reference_weights(&t->shape); w++) {
        double bound = 0;
        for (size_t k = 0; k < reference_weight_size(&t->shape); k++) {
            const size_t i = reference_weight_element(&t->shape, w, k);
            bound += fabs(t->dy[i]) * (32 * U * (fabs(xhat_of(t, i)) + 1) + t->off[i]);
        }
        expect_near((double)got[w], (double)want[w], bound, what);
    }
}

static void compare_dbias(const struct truth *t, const float *got, const float *want, const char *what)
{
    for (size_t w = 0; w < reference_weights(&t->shape); w++) {
        double bound = 0;
        for (size_t k = 0; k < reference_weight_size(&t->shape); k++)
            bound += 32 * U * fabs(t->dy[reference_weight_element(&t->shape, w, k)]);
        expect_near((double)got[w], (double)want[w], bound, what);
    }
}

static struct reference_problem reference_shape(const struct norm *norm)
{
    return (struct reference_problem){.layout = (enum reference_layout)norm->layout,
                                      .n = N,
                                      .c = C,
                                      .s = S,
                                      .eps = (double)1e-5f,
                                      .norm = (enum reference_norm)norm->norm,
                                      .groups = (size_t)norm->groups,
                                      .length = norm->weights};
}

START_TEST(in_place_is_apart)
{
    const struct norm *norm = &norms[_i % NORMS];
    clnorm_device *device = test_device(_i / NORMS);
    for (size_t a = 0; a < sizeof activations / sizeof *activations; a++) {
        char what[64];
        snprintf(what, sizeof what, "%s%s", norm->name, a ? ", leaky ReLU" : "");
        const float *weight = weights_away_from_0(norm->weights), *bias = random_floats(3, norm->weights, 1, 0);
        const clnorm_desc plain = desc_of(norm, activations[a], 0), from_y = desc_of(norm, activations[a], 1);
        clnorm_plan *plan = test_plan_of(device, &plain), *in_place_plan = test_plan_of(device, &from_y);
        const struct step apart = step_new(device, plan, weight, bias, norm->weights, false),
                          in_place = step_new(device, in_place_plan, weight, bias, norm->weights, true);
        const float *x = array_get(&apart.x), *dy = array_get(&apart.dy);
        clnorm_forward_args f = forward_args(&apart);
        expect_status(clnorm_forward(plan, &f), CLNORM_OK, what);
        f = forward_args(&in_place);
        expect_status(clnorm_forward(in_place_plan, &f), CLNORM_OK, what);
        expect_same(array_get(&in_place.y), array_get(&apart.y), ELEMENTS, what);
        clnorm_backward_args b = backward_args(&apart);
        b.x = apart.x.buffer;
        b.y = b.bias = clnorm_none();
        if (activations[a] != CLNORM_NO_ACTIVATION)
            b.y = apart.y.buffer;
        expect_status(clnorm_backward(plan, &b), CLNORM_OK, what);
        b = backward_args(&in_place);
        expect_status(clnorm_backward(in_place_plan, &b), CLNORM_OK, what);

        struct truth t = {.shape = reference_shape(norm),
                          .x = widened(x, ELEMENTS),
                          .dy = widened(dy, ELEMENTS),
                          .weight = widened(weight, norm->weights),
                          .bias = widened(bias, norm->weights)};
        t.mean = scratch_doubles(reference_groups(&t.shape));
        t.var = scratch_doubles(reference_groups(&t.shape));
        t.off = scratch_doubles(ELEMENTS);
        reference_statistics(&t.shape, t.x, t.mean, t.var);
        set_off(&t);
        compare_dx(&t, array_get(&in_place.dx), array_get(&apart.dx), what);
        compare_weights(&t, array_get(&in_place.dweight), array_get(&apart.dweight), what);
        compare_dbias(&t, array_get(&in_place.dbias), array_get(&apart.dbias), what);
        uint32_t found = 1;
        expect_status(clnorm_plan_query_found(in_place_plan, &found), CLNORM_OK, what);
        expect(found == 0, "%s: found %u", what, found);
    }
}
END_TEST

/* ---- weights that count as 0 ---- */

START_TEST(zero_weights)
{
    static const float zeros[] = {0.0f, -0.0f, 1e-40f, -1e-38f, 0x1.fffffcp-127f};
    const struct norm *norm = &norms[_i % NORMS];
    clnorm_device *device = test_device(_i / NORMS);
    const clnorm_desc desc = desc_of(norm, CLNORM_NO_ACTIVATION, 1);
    clnorm_plan *plan = test_plan_of(device, &desc);
    float *weight = weights_away_from_0(norm->weights);
    for (size_t i = 0; i < norm->weights; i += 2)
        weight[i] = zeros[i / 2 % (sizeof zeros / sizeof *zeros)];
    const struct step s = step_new(device, plan, weight, random_floats(3, norm->weights, 1, 0), norm->weights, true);
    const clnorm_forward_args f = forward_args(&s);
    const clnorm_backward_args b = backward_args(&s);
    expect_status(clnorm_forward(plan, &f), CLNORM_OK, norm->name);
    uint32_t found = 0;
    expect_status(clnorm_plan_query_found(plan, &found), CLNORM_OK, norm->name);
    expect(found == 0, "%s: forward found %u", norm->name, found);
    expect_status(clnorm_backward(plan, &b), CLNORM_OK, norm->name);
    expect_status(clnorm_plan_query_found(plan, &found), CLNORM_OK, norm->name);
    expect(found == CLNORM_FOUND_ZERO_WEIGHT, "%s: found %u", norm->name, found);
    expect_status(clnorm_plan_query_found(plan, &found), CLNORM_OK, norm->name);
    expect(found == 0, "%s: found %u once more", norm->name, found);

    const struct reference_problem shape = reference_shape(norm);
    const float *dx = array_get(&s.dx), *dweight = array_get(&s.dweight), *dbias = array_get(&s.dbias);
    size_t wrong = 0;
    for (size_t i = 0; i < ELEMENTS; i++) {
        const size_t w = reference_weight_of(&shape, i);
        const bool alone =
            norm->norm == CLNORM_BATCH || norm->norm == CLNORM_INSTANCE; /* the group has no other weight */
        wrong += !isfinite(dx[i]) || (alone && w % 2 == 0 && fabsf(dx[i]) > 1e-36f);
    }
    expect(wrong == 0, "%s: %zu values of dx are off", norm->name, wrong);
    for (size_t w = 0; w < norm->weights; w++)
        expect(w % 2 ? dweight[w] != 0 : dweight[w] == 0, "%s: dweight[%zu] is %g", norm->name, w, (double)dweight[w]);
    for (size_t w = 0; w < norm->weights; w++)
        expect(isfinite(dbias[w]) && dbias[w] != 0, "%s: dbias[%zu] is %g", norm->name, w, (double)dbias[w]);
}
END_TEST

/* ---- what is refused ---- */

static const struct {
    const char *what;
    clnorm_activation activation;
    float slope;
    uint32_t value, second;
    clnorm_status want;
} wrong_plans[] = {{"2", CLNORM_NO_ACTIVATION, 0.01f, 2, 0, CLNORM_E_ENUM},
                   {"ReLU", CLNORM_RELU, 0.01f, 1, 0, CLNORM_E_UNSUPPORTED},
                   {"GELU", CLNORM_GELU_TANH, 0.01f, 1, 0, CLNORM_E_UNSUPPORTED},
                   {"SiLU", CLNORM_SILU, 0.01f, 1, 0, CLNORM_E_UNSUPPORTED},
                   {"leaky ReLU of slope 0", CLNORM_LEAKY_RELU, 0, 1, 0, CLNORM_E_UNSUPPORTED},
                   {"leaky ReLU of slope -1", CLNORM_LEAKY_RELU, -1, 1, 0, CLNORM_E_UNSUPPORTED},
                   {"double backward", CLNORM_NO_ACTIVATION, 0.01f, 1, 1, CLNORM_E_UNSUPPORTED}};

START_TEST(wrong_plan)
{
    clnorm_device *device = test_device(_i);
    for (size_t k = 0; k < sizeof wrong_plans / sizeof *wrong_plans; k++) {
        clnorm_desc desc = desc_of(&norms[0], wrong_plans[k].activation, wrong_plans[k].value);
        clnorm_plan *plan = NULL;
        desc.slope = wrong_plans[k].slope;
        desc.double_backward = wrong_plans[k].second;
        expect_error(clnorm_plan_create(device, &desc, &plan), wrong_plans[k].want, "backward_from_y", NULL,
                     wrong_plans[k].what);
        ck_assert_ptr_null(plan);
    }
}
END_TEST

static void refuse(clnorm_plan *plan, const struct step *s, const clnorm_backward_args *b, clnorm_status want,
                   const char *name, const char *what)
{
    expect_error(clnorm_backward(plan, b), want, name, NULL, what);
    expect(untouched(array_get(&s->dx), ELEMENTS), "%s: dx was written", what);
    expect(untouched(array_get(&s->dweight), s->dweight.count), "%s: dweight was written", what);
}

START_TEST(wrong_calls)
{
    clnorm_device *device = test_device(_i);
    clnorm_desc desc = desc_of(&norms[0], CLNORM_NO_ACTIVATION, 1);
    clnorm_plan *plan = test_plan_of(device, &desc);
    const float *weight = weights_away_from_0(C), *bias = random_floats(3, C, 1, 0);
    const struct step s = step_new(device, plan, weight, bias, C, false);
    clnorm_forward_args f = forward_args(&s);
    expect_status(clnorm_forward(plan, &f), CLNORM_OK, "forward");

    clnorm_backward_args b = backward_args(&s);
    b.x = s.x.buffer;
    refuse(plan, &s, &b, CLNORM_E_UNSUPPORTED, "x", "x beside y");
    b.y = clnorm_none();
    refuse(plan, &s, &b, CLNORM_E_UNSUPPORTED, "backward_from_y", "x in place of y");
    b = backward_args(&s);
    b.y = clnorm_none();
    refuse(plan, &s, &b, CLNORM_E_MISSING, "y", "neither x nor y");
    b = backward_args(&s);
    b.z = s.x.buffer;
    refuse(plan, &s, &b, CLNORM_E_UNSUPPORTED, "z", "z without a residual");
    b = backward_args(&s);
    b.dx = s.y.buffer;
    refuse(plan, &s, &b, CLNORM_E_OVERLAP, "y", "dx over y");

    const struct step twice = step_new(device, plan, weight, bias, C, true);
    f = forward_args(&twice);
    expect_status(clnorm_forward(plan, &f), CLNORM_OK, "y over x");
    f.y.offset += f.y.kind == CLNORM_BUFFER_HOST ? 0 : 4;
    f.y.handle = f.y.kind == CLNORM_BUFFER_HOST ? (char *)f.y.handle + 4 : f.y.handle;
    expect_error(clnorm_forward(plan, &f), CLNORM_E_OVERLAP, "y", NULL, "y from the second element of x");

    desc.residual = CLNORM_RESIDUAL_AFTER;
    desc.dtype = CLNORM_F16; /* a form of the cases */
    desc.activation = CLNORM_LEAKY_RELU;
    desc.slope = 0.25f;
    b = backward_args(&s);
    refuse(test_plan_of(device, &desc), &s, &b, CLNORM_E_MISSING, "z", "no z");

    const clnorm_desc plain = desc_of(&norms[0], CLNORM_NO_ACTIVATION, 0);
    clnorm_plan *without = test_plan_of(device, &plain);
    b = backward_args(&s);
    b.bias = clnorm_none();
    refuse(without, &s, &b, CLNORM_E_UNSUPPORTED, "y", "y in a plan without it");
    f = forward_args(&twice);
    expect_error(clnorm_forward(without, &f), CLNORM_E_OVERLAP, "y", NULL, "y over x with state in a plan without it");

    clnorm_backward_reduce_args reduce = CLNORM_BACKWARD_REDUCE_ARGS_INIT;
    expect_error(clnorm_backward_reduce(plan, &reduce), CLNORM_E_UNSUPPORTED, "backward_from_y", NULL, "reduce");
    clnorm_backward_apply_args apply = CLNORM_BACKWARD_APPLY_ARGS_INIT;
    expect_error(clnorm_backward_apply(plan, &apply), CLNORM_E_UNSUPPORTED, "backward_from_y", NULL, "apply");
}
END_TEST

/* Frozen statistics: dx and dbias need neither x nor y. */
START_TEST(frozen_without_y)
{
    clnorm_device *device = test_device(_i);
    const clnorm_desc desc = desc_of(&norms[0], CLNORM_NO_ACTIVATION, 1);
    clnorm_plan *plan = test_plan_of(device, &desc);
    const float *weight = weights_away_from_0(C), *ones = random_floats(9, C, 0, 1);
    const struct step s = step_new(device, plan, weight, ones, C, false);
    const struct array running = array_new(device, C, ones);
    clnorm_backward_args b = CLNORM_BACKWARD_ARGS_INIT;
    b.dy = s.dy.buffer;
    b.weight = s.weight.buffer;
    b.running_mean = b.running_var = running.buffer;
    b.dx = s.dx.buffer;
    b.dbias = s.dbias.buffer;
    expect_status(clnorm_backward(plan, &b), CLNORM_OK, "frozen without y");
    const float *dx = array_get(&s.dx), *dy = array_get(&s.dy);
    for (size_t i = 0; i < ELEMENTS; i++) {
        const double want = (double)dy[i] * (double)weight[i / S % C] / sqrt(1 + (double)1e-5f);
        expect_near((double)dx[i], want, 32 * U * fabs(want), "dx");
    }
    b.dweight = s.dweight.buffer;
    expect_error(clnorm_backward(plan, &b), CLNORM_E_MISSING, "y", NULL, "dweight without y");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("from_y");
    tcase_add_loop_test(add_case(suite, "in place", 300), in_place_is_apart, 0, NORMS * device_count());
    tcase_add_loop_test(add_case(suite, "zero weights", 300), zero_weights, 0, NORMS * device_count());
    TCase *tcase = add_case(suite, "calls", 300);
    add_device_test(tcase, wrong_plan);
    add_device_test(tcase, wrong_calls);
    add_device_test(tcase, frozen_without_y);
    return run_suites(&suite, 1);
}
