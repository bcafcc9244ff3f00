/* In f32 a norm with an activation and a residual gives what the norm alone gives with the plain operations before and after it, value
 * for value; forward, and backward by y and from x again. */
#include "support.h"

#include <stdio.h>

enum { N = 5, C = 12, S = 21, ELEMENTS = N * C * S };

static const struct norm {
    const char *name;
    clnorm_norm norm;
    clnorm_layout layout;
    int64_t groups;
    int32_t dims;
    size_t weights;
} norms[] = {
    {"batch ncs", CLNORM_BATCH, CLNORM_NCS, 0, 0, C},       {"batch nsc", CLNORM_BATCH, CLNORM_NSC, 0, 0, C},
    {"layer nsc", CLNORM_LAYER, CLNORM_NSC, 0, 1, C},       {"layer ncs 2", CLNORM_LAYER, CLNORM_NCS, 0, 2, C *S},
    {"rms nsc", CLNORM_RMS, CLNORM_NSC, 0, 1, C},           {"rms nsc 2", CLNORM_RMS, CLNORM_NSC, 0, 2, C *S},
    {"group ncs", CLNORM_GROUP, CLNORM_NCS, 3, 0, C},       {"group nsc", CLNORM_GROUP, CLNORM_NSC, 4, 0, C},
    {"instance ncs", CLNORM_INSTANCE, CLNORM_NCS, 0, 0, C}, {"instance nsc", CLNORM_INSTANCE, CLNORM_NSC, 0, 0, C}};
enum { NORMS = sizeof norms / sizeof *norms };

static const clnorm_activation activations[] = {CLNORM_NO_ACTIVATION, CLNORM_RELU, CLNORM_LEAKY_RELU};

static clnorm_plan *plan_of(clnorm_device *device, const struct norm *norm, clnorm_activation activation,
                            clnorm_residual residual)
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
    desc.residual = residual;
    desc.slope = 0.25f;
    return test_plan_of(device, &desc);
}

/* Zeros of either sign are the same. */
static void expect_equal(const struct array *got, const struct array *want, const char *name, const char *what)
{
    const float *a = array_get(got), *b = array_get(want);
    size_t off = 0, first = 0;
    for (size_t i = got->count; i-- > 0;) {
        if (!(a[i] == b[i])) {
            off++;
            first = i;
        }
    }
    expect(off == 0, "%s: %zu values of %s differ, the first is %a and not %a", what, off, name, (double)a[first],
           (double)b[first]);
}

/* ---- the plain operations -------------------------------------------------------------------------------------- */

static float activate(clnorm_activation activation, float t)
{
    return activation == CLNORM_NO_ACTIVATION || t > 0 ? t : activation == CLNORM_RELU ? 0 : 0.25f * t;
}

static float slope(clnorm_activation activation, float t)
{
    return activation == CLNORM_NO_ACTIVATION || t > 0 ? 1 : activation == CLNORM_RELU ? 0 : 0.25f;
}

struct side { /* what one of the two ways writes */
    struct array y, sum, state, dx, dweight, dbias, dz;
};

static struct side side_new(clnorm_device *device, clnorm_plan *plan, size_t weights)
{
    struct side side = {.y = array_new(device, ELEMENTS, NULL),
                        .sum = array_new(device, ELEMENTS, NULL),
                        .state = array_bytes(device, clnorm_plan_state_bytes(plan)),
                        .dx = array_new(device, ELEMENTS, NULL),
                        .dweight = array_new(device, weights, NULL),
                        .dbias = array_new(device, weights, NULL),
                        .dz = array_new(device, ELEMENTS, NULL)};
    return side;
}

struct inputs {
    struct array x, z, dy, weight, bias;
};

static clnorm_forward_args forward_args(const struct inputs *in, const struct side *side)
{
    clnorm_forward_args args = CLNORM_FORWARD_ARGS_INIT;
    args.x = in->x.buffer;
    args.y = side->y.buffer;
    args.weight = in->weight.buffer;
    args.bias = in->bias.buffer;
    args.state = side->state.buffer;
    return args;
}

static clnorm_backward_args backward_args(const struct inputs *in, const struct side *side)
{
    clnorm_backward_args args = CLNORM_BACKWARD_ARGS_INIT;
    args.x = in->x.buffer;
    args.dy = in->dy.buffer;
    args.weight = in->weight.buffer;
    args.state = side->state.buffer;
    args.dx = side->dx.buffer;
    args.dweight = side->dweight.buffer;
    args.dbias = side->dbias.buffer;
    return args;
}

/* The norm alone, and the rest here. Puts the sum before it, the activated y, and dz. */
static void run_apart(clnorm_device *device, const struct norm *norm, clnorm_activation activation,
                      clnorm_residual residual, struct inputs in, struct side *side)
{
    clnorm_plan *plan = plan_of(device, norm, CLNORM_NO_ACTIVATION, CLNORM_NO_RESIDUAL);
    *side = side_new(device, plan, norm->weights);
    const float *x = array_get(&in.x), *z = array_get(&in.z), *dy = array_get(&in.dy);
    float *sum = scratch_floats(ELEMENTS), *y = scratch_floats(ELEMENTS), *dz = scratch_floats(ELEMENTS);
    for (size_t i = 0; i < ELEMENTS; i++)
        sum[i] = x[i] + z[i];
    array_put(&side->sum, sum);
    if (residual == CLNORM_RESIDUAL_BEFORE)
        in.x = side->sum;
    const clnorm_forward_args f = forward_args(&in, side);
    expect_status(clnorm_forward(plan, &f), CLNORM_OK, norm->name);
    const float *normalized = array_get(&side->y);
    for (size_t i = 0; i < ELEMENTS; i++) {
        const float t = residual == CLNORM_RESIDUAL_AFTER ? normalized[i] + z[i] : normalized[i];
        y[i] = activate(activation, t);
        dz[i] = dy[i] * slope(activation, t);
    }
    array_put(&side->y, y);
    array_put(&side->dz, dz);
    in.dy = side->dz;
    const clnorm_backward_args b = backward_args(&in, side);
    expect_status(clnorm_backward(plan, &b), CLNORM_OK, norm->name);
}

static void run_fused(clnorm_plan *plan, const struct norm *norm, clnorm_activation activation,
                      clnorm_residual residual, bool by_y, struct inputs in, struct side *side)
{
    clnorm_forward_args f = forward_args(&in, side);
    if (residual != CLNORM_NO_RESIDUAL)
        f.z = in.z.buffer;
    if (residual == CLNORM_RESIDUAL_BEFORE) {
        f.sum = side->sum.buffer;
        in.x = side->sum;
    }
    expect_status(clnorm_forward(plan, &f), CLNORM_OK, norm->name);
    clnorm_backward_args b = backward_args(&in, side);
    if (residual == CLNORM_RESIDUAL_AFTER)
        b.dz = side->dz.buffer;
    if (by_y) {
        b.y = side->y.buffer;
    } else if (activation != CLNORM_NO_ACTIVATION) {
        b.bias = in.bias.buffer;
        if (residual == CLNORM_RESIDUAL_AFTER)
            b.z = in.z.buffer;
    }
    expect_status(clnorm_backward(plan, &b), CLNORM_OK, norm->name);
}

static void compare(clnorm_device *device, const struct norm *norm, clnorm_activation activation,
                    clnorm_residual residual)
{
    static const char *const words[] = {"", ", a residual after", ", a residual before"};
    static const char *const acts[] = {"", ", ReLU", ", leaky ReLU"};
    const struct inputs in = {.x = array_new(device, ELEMENTS, random_floats(1, ELEMENTS, 2, 3)),
                              .z = array_new(device, ELEMENTS, random_floats(2, ELEMENTS, 1, 0)),
                              .dy = array_new(device, ELEMENTS, random_floats(3, ELEMENTS, 1, 0)),
                              .weight = array_new(device, norm->weights, random_floats(4, norm->weights, 1, 0)),
                              .bias = array_new(device, norm->weights, random_floats(5, norm->weights, 1, 0))};
    struct side apart;
    run_apart(device, norm, activation, residual, in, &apart);
    clnorm_plan *plan = plan_of(device, norm, activation, residual);
    for (int by_y = 0; by_y <= (activation != CLNORM_NO_ACTIVATION); by_y++) {
        struct side fused = side_new(device, plan, norm->weights);
        char what[128];
        snprintf(what, sizeof what, "%s%s%s%s", norm->name, acts[activation], words[residual], by_y ? ", by y" : "");
        run_fused(plan, norm, activation, residual, by_y, in, &fused);
        expect_equal(&fused.y, &apart.y, "y", what);
        expect_equal(&fused.dx, &apart.dx, "dx", what);
        expect_equal(&fused.dweight, &apart.dweight, "dweight", what);
        expect_equal(&fused.dbias, &apart.dbias, "dbias", what);
        if (residual == CLNORM_RESIDUAL_BEFORE)
            expect_equal(&fused.sum, &apart.sum, "sum", what);
        if (residual == CLNORM_RESIDUAL_AFTER)
            expect_equal(&fused.dz, &apart.dz, "dz", what);
    }
}

START_TEST(fused_is_unfused)
{
    const struct norm *norm = &norms[_i % NORMS];
    clnorm_device *device = test_device(_i / NORMS);
    const bool rows = norm->norm == CLNORM_LAYER || norm->norm == CLNORM_RMS;
    for (size_t a = 0; a < sizeof activations / sizeof *activations; a++) {
        for (int residual = CLNORM_NO_RESIDUAL; residual <= (rows ? CLNORM_RESIDUAL_BEFORE : CLNORM_RESIDUAL_AFTER);
             residual++)
            compare(device, norm, activations[a], (clnorm_residual)residual);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("fused");
    tcase_add_loop_test(add_case(suite, "fused", 100), fused_is_unfused, 0, NORMS * device_count());
    return run_suites(&suite, 1);
}
