/* What calls refuse of data types, activations, residuals and accumulation: each with its status and a sentence that names the argument,
 * and nothing written. */
#include "support.h"

#include <string.h>

enum { N = 6, C = 10, ELEMENTS = N * C };

/* One buffer a role, each with room for f32. */
struct bench {
    clnorm_device *device;
    clnorm_plan *plan;
    struct array x, y, z, sum, dy, dx, dz, weight, bias, dweight, dbias, mean, var, state;
};

static struct bench bench_new(int device, clnorm_norm norm, clnorm_activation activation, clnorm_residual residual,
                              clnorm_dtype dtype, clnorm_dtype y_dtype)
{
    struct bench b = {.device = test_device(device)};
    clnorm_desc desc = CLNORM_DESC_INIT;
    desc.norm = norm;
    desc.n = N;
    desc.c = C;
    desc.normalized_dims = norm == CLNORM_LAYER;
    desc.activation = activation;
    desc.residual = residual;
    desc.dtype = dtype;
    desc.y_dtype = y_dtype;
    b.plan = test_plan_of(b.device, &desc);
    struct array *const tensors[] = {&b.x, &b.y, &b.z, &b.sum, &b.dy, &b.dx, &b.dz};
    struct array *const parameters[] = {&b.weight, &b.bias, &b.dweight, &b.dbias, &b.mean, &b.var};
    for (size_t i = 0; i < sizeof tensors / sizeof *tensors; i++)
        *tensors[i] = array_new(b.device, ELEMENTS, random_floats(i, ELEMENTS, 1, 0));
    for (size_t i = 0; i < sizeof parameters / sizeof *parameters; i++)
        *parameters[i] = array_new(b.device, C, random_floats(i, C, 0.1f, 2));
    b.state = array_bytes(b.device, clnorm_plan_state_bytes(b.plan));
    return b;
}

static struct bench bench_f32(int device, clnorm_norm norm, clnorm_activation activation, clnorm_residual residual)
{
    return bench_new(device, norm, activation, residual, CLNORM_F32, CLNORM_F32);
}

/* All that the plan needs, and no more. */
static clnorm_forward_args forward_of(const struct bench *b, clnorm_residual residual)
{
    clnorm_forward_args args = CLNORM_FORWARD_ARGS_INIT;
    args.x = b->x.buffer;
    args.y = b->y.buffer;
    if (residual != CLNORM_NO_RESIDUAL)
        args.z = b->z.buffer;
    if (residual == CLNORM_RESIDUAL_BEFORE)
        args.sum = b->sum.buffer;
    return args;
}

static clnorm_infer_args infer_of(const struct bench *b)
{
    clnorm_infer_args args = CLNORM_INFER_ARGS_INIT;
    args.x = b->x.buffer;
    args.y = b->y.buffer;
    args.running_mean = b->mean.buffer;
    args.running_var = b->var.buffer;
    return args;
}

/* From running statistics, which batch norm has: no forward is needed before. */
static clnorm_backward_args backward_of(const struct bench *b)
{
    clnorm_backward_args args = CLNORM_BACKWARD_ARGS_INIT;
    args.x = b->x.buffer;
    args.dy = b->dy.buffer;
    args.dx = b->dx.buffer;
    args.running_mean = b->mean.buffer;
    args.running_var = b->var.buffer;
    return args;
}

/* Runs a call, which must fail and write nothing. */
#define REFUSED(bench, call, status, name, number, what)                                                               \
    do {                                                                                                               \
        float *y_ = array_get(&(bench)->y), *dx_ = array_get(&(bench)->dx);                                            \
        expect_error(call, status, name, number, what);                                                                \
        expect_same(array_get(&(bench)->y), y_, ELEMENTS, what);                                                       \
        expect_same(array_get(&(bench)->dx), dx_, ELEMENTS, what);                                                     \
    } while (0)

START_TEST(residuals)
{
    struct bench b = bench_f32(_i, CLNORM_BATCH, CLNORM_NO_ACTIVATION, CLNORM_NO_RESIDUAL);
    clnorm_forward_args f = forward_of(&b, CLNORM_NO_RESIDUAL);
    f.z = b.z.buffer;
    REFUSED(&b, clnorm_forward(b.plan, &f), CLNORM_E_UNSUPPORTED, "z", NULL, "z without a residual");
    f = forward_of(&b, CLNORM_NO_RESIDUAL);
    f.sum = b.sum.buffer;
    REFUSED(&b, clnorm_forward(b.plan, &f), CLNORM_E_UNSUPPORTED, "sum", NULL, "sum without a residual");
    clnorm_infer_args i = infer_of(&b);
    i.z = b.z.buffer;
    REFUSED(&b, clnorm_infer(b.plan, &i), CLNORM_E_UNSUPPORTED, "z", NULL, "infer: z without a residual");

    b = bench_f32(_i, CLNORM_BATCH, CLNORM_RELU, CLNORM_RESIDUAL_AFTER);
    f = forward_of(&b, CLNORM_RESIDUAL_AFTER);
    expect_status(clnorm_forward(b.plan, &f), CLNORM_OK, "a residual after");
    f.sum = b.sum.buffer;
    REFUSED(&b, clnorm_forward(b.plan, &f), CLNORM_E_UNSUPPORTED, "sum", NULL, "sum of a residual after");
    f = forward_of(&b, CLNORM_NO_RESIDUAL);
    REFUSED(&b, clnorm_forward(b.plan, &f), CLNORM_E_MISSING, "z", NULL, "no z");
    i = infer_of(&b);
    REFUSED(&b, clnorm_infer(b.plan, &i), CLNORM_E_MISSING, "z", NULL, "infer: no z");
    clnorm_backward_args g = backward_of(&b);
    g.bias = b.bias.buffer;
    REFUSED(&b, clnorm_backward(b.plan, &g), CLNORM_E_MISSING, "z", NULL, "backward from x: no z");
    g.z = b.z.buffer;
    expect_status(clnorm_backward(b.plan, &g), CLNORM_OK, "backward from x and z");

    b = bench_f32(_i, CLNORM_LAYER, CLNORM_NO_ACTIVATION, CLNORM_RESIDUAL_BEFORE);
    f = forward_of(&b, CLNORM_RESIDUAL_AFTER);
    REFUSED(&b, clnorm_forward(b.plan, &f), CLNORM_E_MISSING, "sum", NULL, "no sum");
    f = forward_of(&b, CLNORM_RESIDUAL_BEFORE);
    f.sum = f.y = b.x.buffer;
    REFUSED(&b, clnorm_forward(b.plan, &f), CLNORM_E_OVERLAP, NULL, NULL, "sum and y over x");
    f.y = b.y.buffer;
    expect_status(clnorm_forward(b.plan, &f), CLNORM_OK, "sum over x");
    f.sum = b.z.buffer;
    expect_status(clnorm_forward(b.plan, &f), CLNORM_OK, "sum over z");
}
END_TEST

START_TEST(activations)
{
    struct bench b = bench_f32(_i, CLNORM_BATCH, CLNORM_NO_ACTIVATION, CLNORM_NO_RESIDUAL);
    clnorm_backward_args g = backward_of(&b);
    g.y = b.y.buffer;
    REFUSED(&b, clnorm_backward(b.plan, &g), CLNORM_E_UNSUPPORTED, "y", NULL, "y without an activation");
    g = backward_of(&b);
    g.bias = b.bias.buffer;
    REFUSED(&b, clnorm_backward(b.plan, &g), CLNORM_E_UNSUPPORTED, "bias", NULL, "bias without an activation");
    g = backward_of(&b);
    g.dz = b.dz.buffer;
    REFUSED(&b, clnorm_backward(b.plan, &g), CLNORM_E_UNSUPPORTED, "dz", NULL, "dz without a residual");

    b = bench_f32(_i, CLNORM_BATCH, CLNORM_GELU_TANH, CLNORM_NO_RESIDUAL);
    g = backward_of(&b);
    g.y = b.y.buffer;
    REFUSED(&b, clnorm_backward(b.plan, &g), CLNORM_E_UNSUPPORTED, "y", NULL, "y of GELU");
    g = backward_of(&b);
    g.x = clnorm_none();
    REFUSED(&b, clnorm_backward(b.plan, &g), CLNORM_E_MISSING, "x", NULL, "frozen, without x or y");

    b = bench_f32(_i, CLNORM_BATCH, CLNORM_RELU, CLNORM_NO_RESIDUAL);
    g = backward_of(&b);
    g.x = clnorm_none();
    g.y = b.y.buffer;
    expect_status(clnorm_backward(b.plan, &g), CLNORM_OK, "frozen, by y alone");
    clnorm_statistics_args s = CLNORM_STATISTICS_ARGS_INIT;
    s.x = b.x.buffer;
    s.statistics = b.sum.buffer;
    REFUSED(&b, clnorm_statistics(b.plan, &s), CLNORM_E_UNSUPPORTED, "activation", NULL, "steps with an activation");
}
END_TEST

START_TEST(accumulation)
{
    struct bench b = bench_f32(_i, CLNORM_BATCH, CLNORM_NO_ACTIVATION, CLNORM_NO_RESIDUAL);
    clnorm_backward_args g = backward_of(&b);
    g.accumulate = 16;
    REFUSED(&b, clnorm_backward(b.plan, &g), CLNORM_E_ENUM, "accumulate", "0x10", "a strange bit");
    g.accumulate = CLNORM_ADD_DX;
    g.dx = g.dy;
    REFUSED(&b, clnorm_backward(b.plan, &g), CLNORM_E_OVERLAP, "dx", NULL, "dx over dy, and added to");
    g.accumulate = CLNORM_ADD_DWEIGHT;
    expect_status(clnorm_backward(b.plan, &g), CLNORM_OK, "dx over dy");
}
END_TEST

static clnorm_buffer cut(clnorm_buffer buffer, size_t skip, size_t bytes)
{
    if (buffer.kind == CLNORM_BUFFER_HOST)
        return clnorm_host((char *)buffer.handle + skip, bytes);
    buffer.offset += skip;
    buffer.bytes = bytes;
    return buffer;
}

START_TEST(types)
{
    struct bench b = bench_new(_i, CLNORM_BATCH, CLNORM_NO_ACTIVATION, CLNORM_NO_RESIDUAL, CLNORM_F16, CLNORM_F32);
    const size_t half = ELEMENTS * 2, whole = ELEMENTS * 4;
    clnorm_forward_args f = forward_of(&b, CLNORM_NO_RESIDUAL);
    f.x = cut(b.x.buffer, 0, half);
    expect_status(clnorm_forward(b.plan, &f), CLNORM_OK, "2 bytes a value");
    f.x = cut(b.x.buffer, 2, half);
    expect_status(clnorm_forward(b.plan, &f), CLNORM_OK, "from the second value");
    f.x = cut(b.x.buffer, 1, half);
    REFUSED(&b, clnorm_forward(b.plan, &f), CLNORM_E_BUFFER_ALIGNMENT, "x", "2", "from the second byte");
    f.x = cut(b.x.buffer, 0, half - 2);
    REFUSED(&b, clnorm_forward(b.plan, &f), CLNORM_E_BUFFER_SIZE, "x", "120", "a value too few");
    f.x = cut(b.x.buffer, 0, half);
    f.y = cut(b.y.buffer, 0, whole - 4);
    REFUSED(&b, clnorm_forward(b.plan, &f), CLNORM_E_BUFFER_SIZE, "y", "240", "a value of y too few");
    f.y = b.x.buffer;
    REFUSED(&b, clnorm_forward(b.plan, &f), CLNORM_E_OVERLAP, "y", NULL, "f32 over f16");

    b = bench_new(_i, CLNORM_BATCH, CLNORM_NO_ACTIVATION, CLNORM_NO_RESIDUAL, CLNORM_F16, CLNORM_BF16);
    f = forward_of(&b, CLNORM_NO_RESIDUAL);
    f.x = f.y = cut(b.x.buffer, 0, half);
    REFUSED(&b, clnorm_forward(b.plan, &f), CLNORM_E_OVERLAP, "y", NULL, "bf16 over f16, the same bytes");
    clnorm_backward_args g = backward_of(&b);
    g.dx = g.dy;
    REFUSED(&b, clnorm_backward(b.plan, &g), CLNORM_E_OVERLAP, "dx", NULL, "f16 over bf16, the same bytes");
}
END_TEST

static clnorm_status make(clnorm_device *device, const clnorm_desc *desc)
{
    clnorm_plan *plan = NULL;
    const clnorm_status status = clnorm_plan_create(device, desc, &plan);
    clnorm_plan_destroy(plan);
    return status;
}

START_TEST(masks)
{
    struct bench b = bench_f32(_i, CLNORM_BATCH, CLNORM_RELU, CLNORM_NO_RESIDUAL);
    clnorm_forward_args f = forward_of(&b, CLNORM_NO_RESIDUAL);
    f.mask = b.z.buffer;
    REFUSED(&b, clnorm_forward(b.plan, &f), CLNORM_E_UNSUPPORTED, "mask", NULL, "a mask of a plan without");
    clnorm_infer_args i = infer_of(&b);
    i.mask = b.z.buffer;
    REFUSED(&b, clnorm_infer(b.plan, &i), CLNORM_E_UNSUPPORTED, "mask", NULL, "infer: a mask of a plan without");
    clnorm_backward_args g = backward_of(&b);
    g.mask = b.z.buffer;
    REFUSED(&b, clnorm_backward(b.plan, &g), CLNORM_E_UNSUPPORTED, "mask", NULL, "backward: a mask of a plan without");
    expect(clnorm_plan_mask_bytes(b.plan) == 0 && clnorm_plan_mask_bytes(NULL) == 0, "bytes of no mask");

    clnorm_desc desc = CLNORM_DESC_INIT;
    desc.n = N;
    desc.c = C;
    desc.activation_mask = 1;
    expect_error(make(b.device, &desc), CLNORM_E_UNSUPPORTED, "activation_mask", NULL, "no activation");
    desc.activation = CLNORM_SILU;
    expect_error(make(b.device, &desc), CLNORM_E_UNSUPPORTED, "activation_mask", NULL, "SiLU");
    desc.activation = CLNORM_LEAKY_RELU;
    desc.slope = -0.5f;
    expect_error(make(b.device, &desc), CLNORM_E_UNSUPPORTED, "activation_mask", "-0.5", "a slope below 0");
    desc.slope = 0.5f;
    desc.backward_from_y = 1;
    expect_error(make(b.device, &desc), CLNORM_E_UNSUPPORTED, "activation_mask", NULL, "backward from y");
    desc.backward_from_y = 0;
    desc.activation_mask = 2;
    expect_error(make(b.device, &desc), CLNORM_E_ENUM, "activation_mask", "2", "2");
    desc.activation_mask = 1;
    desc.activation = CLNORM_RELU;
    b.plan = test_plan_of(b.device, &desc);
    const size_t bytes = (ELEMENTS + 31) / 32 * 4;
    expect(clnorm_plan_mask_bytes(b.plan) == bytes, "%zu bytes", clnorm_plan_mask_bytes(b.plan));
    f.mask = cut(b.z.buffer, 0, bytes - 1);
    REFUSED(&b, clnorm_forward(b.plan, &f), CLNORM_E_BUFFER_SIZE, "mask", "8", "a byte too few");
    f.mask = cut(b.z.buffer, 2, bytes);
    REFUSED(&b, clnorm_forward(b.plan, &f), CLNORM_E_BUFFER_ALIGNMENT, "mask", "4", "half a word on");
    f.mask = cut(b.y.buffer, (ELEMENTS - 1) * 4, 4);
    f.n = 3;
    f.mask.bytes = 4;
    expect_status(clnorm_forward(b.plan, &f), CLNORM_OK, "a mask of 3 samples behind them");
    f.n = N;
    f.mask = cut(b.y.buffer, 0, bytes);
    REFUSED(&b, clnorm_forward(b.plan, &f), CLNORM_E_OVERLAP, "mask", NULL, "a mask over y");
    f.mask = clnorm_none();
    expect_status(clnorm_forward(b.plan, &f), CLNORM_OK, "no mask wanted");
    f.mask = cut(b.z.buffer, 0, bytes);
    expect_status(clnorm_forward(b.plan, &f), CLNORM_OK, "a mask");
    g = backward_of(&b);
    REFUSED(&b, clnorm_backward(b.plan, &g), CLNORM_E_MISSING, "mask", NULL, "no mask");
    g.mask = cut(b.z.buffer, 0, bytes);
    g.y = b.y.buffer;
    REFUSED(&b, clnorm_backward(b.plan, &g), CLNORM_E_UNSUPPORTED, "y", NULL, "y beside a mask");
    g.y = clnorm_none();
    g.x = clnorm_none();
    expect_status(clnorm_backward(b.plan, &g), CLNORM_OK, "frozen, by a mask alone");
}
END_TEST

/* The steps are of one batch; statistics are one a batch and channel. */
START_TEST(virtual_batches)
{
    struct bench b = {.device = test_device(_i)};
    clnorm_desc desc = CLNORM_DESC_INIT;
    desc.n = N;
    desc.c = C;
    desc.virtual_batch = 4; /* two of them */
    b.plan = test_plan_of(b.device, &desc);
    struct array *const arrays[] = {&b.x, &b.y, &b.dy, &b.dx, &b.sum, &b.dz};
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++)
        *arrays[i] = array_new(b.device, ELEMENTS, random_floats(i, ELEMENTS, 1, 0));
    b.mean = array_new(b.device, 3 * C, random_floats(8, 3 * C, 0.1f, 2));
    b.dweight = array_new(b.device, C, random_floats(9, C, 0.1f, 2));
    b.dbias = array_new(b.device, C, random_floats(9, C, 0.1f, 2));
    b.state = array_bytes(b.device, clnorm_plan_state_bytes(b.plan));
#define STEP(call, ...)                                                                                                \
    do {                                                                                                               \
        const clnorm_##call##_args args_ = {sizeof args_, __VA_ARGS__};                                                \
        REFUSED(&b, clnorm_##call(b.plan, &args_), CLNORM_E_UNSUPPORTED, "virtual batches", NULL, #call);              \
    } while (0)
    STEP(statistics, .n = N, .x = b.x.buffer, .statistics = b.sum.buffer);
    STEP(merge, .parts = 1, .gathered = b.dz.buffer, .statistics = b.sum.buffer);
    STEP(commit, .statistics = b.sum.buffer, .running_mean = b.dweight.buffer, .running_var = b.dbias.buffer,
         .running = CLNORM_RUNNING_INIT);
    STEP(apply, .n = N, .x = b.x.buffer, .y = b.y.buffer, .statistics = b.sum.buffer);
    STEP(backward_reduce, .n = N, .x = b.x.buffer, .dy = b.dy.buffer, .state = b.state.buffer, .sums = b.sum.buffer);
    STEP(backward_apply, .n = N, .x = b.x.buffer, .dy = b.dy.buffer, .state = b.state.buffer, .sums = b.sum.buffer,
         .dx = b.dx.buffer);
    STEP(fold, .layer_weight = b.x.buffer, .running_mean = b.dweight.buffer, .running_var = b.dbias.buffer,
         .layer_weight_out = b.y.buffer, .layer_bias_out = b.state.buffer);
#undef STEP
    clnorm_forward_args f = forward_of(&b, CLNORM_NO_RESIDUAL);
    f.mean = cut(b.mean.buffer, 0, 2 * C * sizeof(float));
    f.state = b.state.buffer;
    expect_status(clnorm_forward(b.plan, &f), CLNORM_OK, "a mean a batch and channel");
    f.mean = cut(b.mean.buffer, 0, C * sizeof(float));
    REFUSED(&b, clnorm_forward(b.plan, &f), CLNORM_E_BUFFER_SIZE, "mean", "80", "a mean a channel");
    f.n = 4; /* one batch */
    expect_status(clnorm_forward(b.plan, &f), CLNORM_OK, "a mean a channel of one batch");
    f = forward_of(&b, CLNORM_NO_RESIDUAL);
    f.state = cut(b.state.buffer, 0, clnorm_plan_state_bytes(b.plan) / 2);
    REFUSED(&b, clnorm_forward(b.plan, &f), CLNORM_E_BUFFER_SIZE, "state", "240", "state of one batch");
    f = forward_of(&b, CLNORM_NO_RESIDUAL);
    f.mean = cut(b.mean.buffer, 0, 2 * C * sizeof(float));
    f.rstd = cut(b.mean.buffer, C * sizeof(float), 2 * C * sizeof(float));
    REFUSED(&b, clnorm_forward(b.plan, &f), CLNORM_E_OVERLAP, "rstd", NULL, "rstd over the second batch's mean");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("refused");
    TCase *tcase = add_case(suite, "refused", 300);
    add_device_test(tcase, residuals);
    add_device_test(tcase, activations);
    add_device_test(tcase, accumulation);
    add_device_test(tcase, types);
    add_device_test(tcase, masks);
    add_device_test(tcase, virtual_batches);
    return run_suites(&suite, 1);
}
