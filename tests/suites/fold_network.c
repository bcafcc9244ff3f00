/* What folding is for: a network of layers each with its batch norm, and the network of the folded layers, give the same output. The
 * layers are multiplied by CLBlast on OpenCL devices and by CBLAS on cpu, on the device's own queue, where clnorm's calls are. */
#include "support.h"

#include <cblas.h>
#include <stdio.h>

#ifdef CLNORM_WITH_OPENCL
#include <clblast_c.h>
#include <clnorm/opencl.h>
#endif

/* The buffer from element `first` on. */
static clnorm_buffer from(const struct array *array, size_t first)
{
    clnorm_buffer buffer = array->buffer;
    buffer.offset += first * sizeof(float);
    buffer.bytes -= first * sizeof(float);
    return buffer;
}

/* c = a·b + beta·c, row-major: a is m × k, b is k × n (transposed: n × k). */
static void multiply(clnorm_device *device, bool transposed, size_t m, size_t n, size_t k, clnorm_buffer a,
                     clnorm_buffer b, float beta, clnorm_buffer c)
{
    if (on_host(device)) {
        const float *left = (float *)a.handle + a.offset / sizeof(float);
        const float *right = (float *)b.handle + b.offset / sizeof(float);
        cblas_sgemm(CblasRowMajor, CblasNoTrans, transposed ? CblasTrans : CblasNoTrans, (int)m, (int)n, (int)k, 1,
                    left, (int)k, right, (int)(transposed ? k : n), beta, (float *)c.handle + c.offset / sizeof(float),
                    (int)n);
        return;
    }
#ifdef CLNORM_WITH_OPENCL
    cl_command_queue queue = clnorm_device_cl_queue(device);
    CLBlastStatusCode status = CLBlastSgemm(
        CLBlastLayoutRowMajor, CLBlastTransposeNo, transposed ? CLBlastTransposeYes : CLBlastTransposeNo, m, n, k, 1,
        clnorm_memory_cl(a.handle), a.offset / sizeof(float), k, clnorm_memory_cl(b.handle), b.offset / sizeof(float),
        transposed ? k : n, beta, clnorm_memory_cl(c.handle), c.offset / sizeof(float), n, &queue, NULL);
    ck_assert_msg(status == CLBlastSuccess, "CLBlastSgemm failed with status %d", (int)status);
#endif
}

/* ---- a layer and the norm after it ------------------------------------------------------------------------------- */

enum order {
    OUT_IN,     /* y[samples, out] = x[samples, in]·Wᵀ */
    IN_OUT,     /* y[samples, out] = x[samples, in]·W */
    CONVOLUTION /* of each sample: y[out, positions] = W[out, in]·x[in, positions], where in is c_in·kh·kw */
};

struct block {
    enum order order;
    size_t samples, in, out, positions; /* positions: 1 but for a convolution */
    clnorm_device *device;
    float *w, *b, *weight, *bias, *mean, *var;
    struct array device_w, device_b, device_weight, device_bias, device_mean, device_var, ones;
};

static void block_fill(struct block *block, clnorm_device *device, uint64_t seed)
{
    size_t out = block->out;
    block->device = device;
    block->w = random_floats(seed, block->in * out, 0.4f, 0.1f);
    block->b = random_floats(seed + 1, out, 1, 0);
    block->weight = random_floats(seed + 2, out, 1, 0.5f);
    block->bias = random_floats(seed + 3, out, 1, 0);
    block->mean = random_floats(seed + 4, out, 2, 1);
    block->var = scratch_floats(out);
    struct random random = {seed + 5};
    for (size_t c = 0; c < out; c++)
        block->var[c] = random_uniform(&random, 0.5f, 4);
    block->weight[out / 2] = 0;
    size_t length = block->samples > block->positions ? block->samples : block->positions;
    float *ones = scratch_floats(length);
    for (size_t i = 0; i < length; i++)
        ones[i] = 1;
    block->device_w = array_new(device, block->in * out, block->w);
    block->device_b = array_new(device, out, block->b);
    block->device_weight = array_new(device, out, block->weight);
    block->device_bias = array_new(device, out, block->bias);
    block->device_mean = array_new(device, out, block->mean);
    block->device_var = array_new(device, out, block->var);
    block->ones = array_new(device, length, ones);
}

/* The layer alone. Its bias is a product too, with ones, so that nothing but the multiplication is needed. */
static struct array layer(const struct block *l, struct array x, struct array w, struct array b)
{
    struct array y = array_new(l->device, l->samples * l->out * l->positions, NULL);
    if (l->order != CONVOLUTION) {
        multiply(l->device, false, l->samples, l->out, 1, l->ones.buffer, b.buffer, 0, y.buffer);
        multiply(l->device, l->order == OUT_IN, l->samples, l->out, l->in, x.buffer, w.buffer, 1, y.buffer);
        return y;
    }
    for (size_t s = 0; s < l->samples; s++) {
        clnorm_buffer columns = from(&x, s * l->in * l->positions), to = from(&y, s * l->out * l->positions);
        multiply(l->device, false, l->out, l->positions, 1, b.buffer, l->ones.buffer, 0, to);
        multiply(l->device, false, l->out, l->positions, l->in, w.buffer, columns, 1, to);
    }
    return y;
}

static struct array layer_then_norm(const struct block *l, struct array x)
{
    struct array y = layer(l, x, l->device_w, l->device_b);
    struct shape shape = {CLNORM_NC, (int64_t)l->samples, (int64_t)l->out, 0, {0, 0, 0}};
    if (l->order == CONVOLUTION) {
        shape.layout = CLNORM_NCS;
        shape.dims = 1;
        shape.spatial[0] = (int64_t)l->positions;
    }
    clnorm_infer_args args = CLNORM_INFER_ARGS_INIT;
    args.x = args.y = y.buffer;
    args.weight = l->device_weight.buffer;
    args.bias = l->device_bias.buffer;
    args.running_mean = l->device_mean.buffer;
    args.running_var = l->device_var.buffer;
    expect_status(clnorm_infer(test_plan(l->device, &shape, -1), &args), CLNORM_OK, "infer");
    return y;
}

static struct array folded_layer(const struct block *l, struct array x)
{
    struct shape shape = {CLNORM_NCS, 1, (int64_t)l->out, 1, {(int64_t)l->in, 0, 0}};
    if (l->order == IN_OUT) {
        struct shape columns = {CLNORM_NC, (int64_t)l->in, (int64_t)l->out, 0, {0, 0, 0}};
        shape = columns;
    }
    struct array w = array_new(l->device, l->in * l->out, NULL), b = array_new(l->device, l->out, NULL);
    clnorm_fold_args args = CLNORM_FOLD_ARGS_INIT;
    args.layer_weight = l->device_w.buffer;
    args.layer_bias = l->device_b.buffer;
    args.weight = l->device_weight.buffer;
    args.bias = l->device_bias.buffer;
    args.running_mean = l->device_mean.buffer;
    args.running_var = l->device_var.buffer;
    args.layer_weight_out = w.buffer;
    args.layer_bias_out = b.buffer;
    expect_status(clnorm_fold(test_plan(l->device, &shape, -1), &args), CLNORM_OK, "fold");
    return layer(l, x, w, b);
}

/* ---- in double --------------------------------------------------------------------------------------------------- */

enum { APART, FOLDED, NETWORKS };

/* What a tensor should hold, and how far each network's may be from it. */
struct wanted {
    double *values, *bound[NETWORKS];
};

static struct wanted wanted_new(size_t count)
{
    struct wanted wanted = {scratch_doubles(count), {scratch_doubles(count), scratch_doubles(count)}};
    return wanted;
}

/* What the block gives for x, which is off by bounds of its own. With z = Σ x·w + b, S = Σ |x·w| and a = weight/√(var + eps):
 * - a sum of `in` products and a bias, in whatever order, fused or not, rounds each of them at most in + 1 times: (in + 1)u·(S + |b|).
 *   Two u more are more than enough for the products of small terms.
 * - the norm takes z to (z − mean)·a + bias: 5.5u of its first term (fold.c counts them) and u of the result, again with a little more.
 * - folding is off by 5u·|a|·S in the weights and by 7u·|(b − mean)·a| + u·|bias| in the bias. */
static struct wanted block_wanted(const struct block *l, const struct wanted *x)
{
    size_t count = l->samples * l->out * l->positions;
    struct wanted y = wanted_new(count);
    double rounds = ((double)l->in + 3) * U;
    for (size_t i = 0; i < count; i++) {
        bool rows = l->order != CONVOLUTION;
        size_t c = rows ? i % l->out : i / l->positions % l->out, sample = i / (l->out * l->positions);
        double z = l->b[c], sum[NETWORKS] = {0, 0}, off[NETWORKS] = {0, 0};
        for (size_t k = 0; k < l->in; k++) {
            double w = l->w[l->order == IN_OUT ? k * l->out + c : c * l->in + k];
            size_t at = rows ? sample * l->in + k : (sample * l->in + k) * l->positions + i % l->positions;
            z += x->values[at] * w;
            for (int network = 0; network < NETWORKS; network++) {
                off[network] += x->bound[network][at] * fabs(w);
                sum[network] += (fabs(x->values[at]) + x->bound[network][at]) * fabs(w);
            }
        }
        double a = l->weight[c] / sqrt((double)l->var[c] + (double)1e-5f), mean = l->mean[c], bias = l->bias[c];
        double moved = (l->b[c] - mean) * a;
        y.values[i] = (z - mean) * a + bias;
        y.bound[APART][i] = fabs(a) * (off[APART] + rounds * (sum[APART] + fabs((double)l->b[c]))) +
                            7 * U * fabs((z - mean) * a) + 2 * U * fabs(y.values[i]);
        y.bound[FOLDED][i] = fabs(a) * (off[FOLDED] + (rounds + 5 * U) * sum[FOLDED]) + rounds * fabs(moved + bias) +
                             7 * U * fabs(moved) + U * fabs(bias);
    }
    return y;
}

/* Each network against double, and against the other. */
static void compare(const struct wanted *wanted, struct array apart, struct array folded, const char *what)
{
    float *one = array_get(&apart), *other = array_get(&folded);
    for (size_t i = 0; i < apart.count; i++) {
        char where[96];
        snprintf(where, sizeof where, "%s, element %zu", what, i);
        bool ok = expect_near(one[i], wanted->values[i], wanted->bound[APART][i], where);
        ok = expect_near(other[i], wanted->values[i], wanted->bound[FOLDED][i], where) && ok;
        ok = expect_near(other[i], one[i], wanted->bound[APART][i] + wanted->bound[FOLDED][i], where) && ok;
        if (!ok)
            break;
    }
}

/* ---- networks ---------------------------------------------------------------------------------------------------- */

/* Two linear layers, their weights in either order. */
START_TEST(linear)
{
    enum { SAMPLES = 37, IN = 29, HIDDEN = 45, OUT = 11 };
    clnorm_device *device = test_device(_i);
    struct wanted x = wanted_new((size_t)SAMPLES * IN);
    float *values = random_floats(1, (size_t)SAMPLES * IN, 1, 0.5f);
    x.values = widened(values, (size_t)SAMPLES * IN);
    struct block first = {.order = IN_OUT, .samples = SAMPLES, .in = IN, .out = HIDDEN, .positions = 1};
    struct block second = {.order = OUT_IN, .samples = SAMPLES, .in = HIDDEN, .out = OUT, .positions = 1};
    block_fill(&first, device, 10);
    block_fill(&second, device, 20);
    struct array input = array_new(device, (size_t)SAMPLES * IN, values);
    struct array hidden[NETWORKS] = {layer_then_norm(&first, input), folded_layer(&first, input)};
    struct array output[NETWORKS] = {layer_then_norm(&second, hidden[APART]), folded_layer(&second, hidden[FOLDED])};
    struct wanted between = block_wanted(&first, &x), last = block_wanted(&second, &between);
    compare(&between, hidden[APART], hidden[FOLDED], "weights [in, out]");
    compare(&last, output[APART], output[FOLDED], "weights [out, in], the second layer");
}
END_TEST

/* The values under a kernel of 3 × 3 at each position of an image with a border of zeros: [samples, channels·9, height·width]. */
static float *columns_of(const float *image, size_t samples, size_t channels, size_t height, size_t width)
{
    enum { KERNEL = 3 };
    float *columns = scratch_floats(samples * channels * KERNEL * KERNEL * height * width), *to = columns;
    for (size_t plane = 0; plane < samples * channels; plane++) {
        for (size_t tap = 0; tap < KERNEL * KERNEL; tap++) {
            for (size_t position = 0; position < height * width; position++, to++) {
                size_t row = position / width + tap / KERNEL, column = position % width + tap % KERNEL; /* 1 too many */
                if (row >= 1 && row <= height && column >= 1 && column <= width)
                    *to = image[(plane * height + row - 1) * width + column - 1];
            }
        }
    }
    return columns;
}

START_TEST(convolution)
{
    enum { SAMPLES = 2, IN = 3, OUT = 13, HEIGHT = 9, WIDTH = 11, TAPS = 9, POSITIONS = HEIGHT * WIDTH };
    clnorm_device *device = test_device(_i);
    size_t count = (size_t)SAMPLES * IN * TAPS * POSITIONS;
    float *image = random_floats(2, (size_t)SAMPLES * IN * POSITIONS, 1, 0.5f);
    float *columns = columns_of(image, SAMPLES, IN, HEIGHT, WIDTH);
    struct wanted x = wanted_new(count);
    x.values = widened(columns, count);
    struct block block = {
        .order = CONVOLUTION, .samples = SAMPLES, .in = (size_t)IN * TAPS, .out = OUT, .positions = POSITIONS};
    block_fill(&block, device, 30);
    struct array input = array_new(device, count, columns);
    struct array apart = layer_then_norm(&block, input), folded = folded_layer(&block, input);
    struct wanted y = block_wanted(&block, &x);
    compare(&y, apart, folded, "a convolution");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("folded networks");
    TCase *tcase = add_case(suite, "networks", 300);
    add_device_test(tcase, linear);
    add_device_test(tcase, convolution);
    return run_suites(&suite, 1);
}
