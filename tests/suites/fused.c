/* In f32 a norm with an activation and a residual gives what the norm alone gives with the plain operations before and after it, value
 * for value; forward, and backward by y and from x again. */
#include "support.h"

#include <stdio.h>
#include <string.h>

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

/* Those of the cases' forms that are f32 (tests/cases/table_fused.c), so that a device compiles each once. */
static const struct form {
    clnorm_activation activation;
    clnorm_residual residual;
} forms[] = {{CLNORM_RELU, CLNORM_NO_RESIDUAL},
             {CLNORM_NO_ACTIVATION, CLNORM_RESIDUAL_AFTER},
             {CLNORM_LEAKY_RELU, CLNORM_RESIDUAL_AFTER},
             {CLNORM_RELU, CLNORM_RESIDUAL_BEFORE}};

static clnorm_plan *plan_of(clnorm_device *device, const struct norm *norm, clnorm_activation activation,
                            clnorm_residual residual, bool masked)
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
    desc.activation_mask = masked;
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

/* What backward has the activation's gradient from. */
enum by { BY_INPUTS, BY_Y, BY_MASK, BYS };

struct inputs {
    clnorm_device *device;
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
    clnorm_plan *plan = plan_of(device, norm, CLNORM_NO_ACTIVATION, CLNORM_NO_RESIDUAL, false);
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
                      clnorm_residual residual, enum by by, struct inputs in, struct side *side)
{
    const struct array mask = array_bytes(in.device, clnorm_plan_mask_bytes(plan));
    clnorm_forward_args f = forward_args(&in, side);
    if (by == BY_MASK)
        f.mask = mask.buffer;
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
    if (by == BY_MASK) {
        b.mask = mask.buffer;
    } else if (by == BY_Y) {
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
    static const char *const ways[] = {"", ", by y", ", by a mask"};
    const struct inputs in = {.device = device,
                              .x = array_new(device, ELEMENTS, random_floats(1, ELEMENTS, 2, 3)),
                              .z = array_new(device, ELEMENTS, random_floats(2, ELEMENTS, 1, 0)),
                              .dy = array_new(device, ELEMENTS, random_floats(3, ELEMENTS, 1, 0)),
                              .weight = array_new(device, norm->weights, random_floats(4, norm->weights, 1, 0)),
                              .bias = array_new(device, norm->weights, random_floats(5, norm->weights, 1, 0))};
    struct side apart;
    run_apart(device, norm, activation, residual, in, &apart);
    for (int i = 0; i < (activation == CLNORM_NO_ACTIVATION ? 1 : BYS); i++) {
        const enum by by = (enum by)i;
        if (by == BY_MASK && activation != CLNORM_RELU)
            continue;
        clnorm_plan *plan = plan_of(device, norm, activation, residual, by == BY_MASK);
        struct side fused = side_new(device, plan, norm->weights);
        char what[128];
        snprintf(what, sizeof what, "%s%s%s%s", norm->name, acts[activation], words[residual], ways[by]);
        run_fused(plan, norm, activation, residual, by, in, &fused);
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
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
        if (rows || forms[i].residual != CLNORM_RESIDUAL_BEFORE)
            compare(device, norm, forms[i].activation, forms[i].residual);
    }
}
END_TEST

/* Two values of 16 bits in each float. */
static struct array halves_new(clnorm_device *device, size_t count, uint16_t bits)
{
    const uint32_t pair = (uint32_t)bits << 16 | bits;
    float value, *values = scratch_floats(count / 2);
    memcpy(&value, &pair, sizeof value);
    for (size_t i = 0; i < count / 2; i++)
        values[i] = value;
    return array_new(device, count / 2, values);
}

/* A t of 1e-9 is positive, and 0 as f16: y, and the mask of it, tell of a gradient of 0 where x tells of dy. */
START_TEST(gradient_by_a_y_that_is_rounded_to_0)
{
    enum { ROWS = 8, COLUMNS = 6, ALL = ROWS * COLUMNS };
    const uint16_t one_f16 = 0x3C00;
    clnorm_device *device = test_device(_i);
    clnorm_desc desc = CLNORM_DESC_INIT;
    desc.n = ROWS;
    desc.c = COLUMNS;
    desc.dtype = CLNORM_BF16;
    desc.y_dtype = CLNORM_F16;
    desc.activation = CLNORM_RELU;
    desc.residual = CLNORM_RESIDUAL_AFTER;
    desc.activation_mask = 1;
    clnorm_plan *masked = test_plan_of(device, &desc);
    desc.activation_mask = 0;
    clnorm_plan *plan = test_plan_of(device, &desc);
    float weights[COLUMNS] = {0}, biases[COLUMNS];
    for (size_t j = 0; j < COLUMNS; j++)
        biases[j] = 1e-9f;
    const struct array zeros = halves_new(device, ALL, 0), dy = halves_new(device, ALL, one_f16),
                       y = halves_new(device, ALL, one_f16), dz = halves_new(device, ALL, one_f16),
                       state = array_bytes(device, clnorm_plan_state_bytes(plan)),
                       weight = array_new(device, COLUMNS, weights), bias = array_new(device, COLUMNS, biases),
                       dbias = array_new(device, COLUMNS, NULL),
                       mask = array_bytes(device, clnorm_plan_mask_bytes(masked));
    clnorm_forward_args f = CLNORM_FORWARD_ARGS_INIT;
    f.x = f.z = zeros.buffer;
    f.y = y.buffer;
    f.weight = weight.buffer;
    f.bias = bias.buffer;
    f.state = state.buffer;
    f.mask = mask.buffer;
    expect_status(clnorm_forward(masked, &f), CLNORM_OK, "forward");
    const float *written = array_get(&y);
    for (size_t i = 0; i < ALL / 2; i++)
        expect(written[i] == 0, "y[%zu] is %a", i, (double)written[i]);
    for (int by = 0; by < BYS; by++) {
        clnorm_backward_args b = CLNORM_BACKWARD_ARGS_INIT;
        b.x = zeros.buffer;
        b.dy = dy.buffer;
        b.weight = weight.buffer;
        b.state = state.buffer;
        b.dz = dz.buffer;
        b.dbias = dbias.buffer;
        if (by == BY_MASK) {
            b.mask = mask.buffer;
        } else if (by == BY_Y) {
            b.y = y.buffer;
        } else {
            b.z = zeros.buffer;
            b.bias = bias.buffer;
        }
        expect_status(clnorm_backward(by == BY_MASK ? masked : plan, &b), CLNORM_OK, "backward");
        const float *sums = array_get(&dbias);
        for (size_t j = 0; j < COLUMNS; j++)
            expect(sums[j] == (by == BY_INPUTS ? ROWS : 0), "dbias[%zu] is %g by %d", j, (double)sums[j], by);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("fused");
    tcase_add_loop_test(add_case(suite, "fused", 300), fused_is_unfused, 0, NORMS * device_count());
    add_device_test(add_case(suite, "rounded to 0", 300), gradient_by_a_y_that_is_rounded_to_0);
    return run_suites(&suite, 1);
}
