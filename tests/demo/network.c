/* The demo's network on every device against the same network in plain double: losses, every gradient, running statistics and
 * inference over the first steps of a training on real digits.
 *
 * Bound: a step passes 2·5 layers; in each the longest chain of float additions is 256 (the width, or the rows), so to first
 * order a result is off by 10·256·u relative to the norm of what it is part of. That holds as long as both networks agree on
 * the sign of every value that enters a ReLU; where a value is so near 0 that they do not, the reference takes the device's
 * word, after it has checked that the value itself is within the bound. */
#include "network.h"
#include "data.h"
#include "devices.h"

#include <math.h>
#include <stdlib.h>

enum { ROWS = 200, STEPS = 5, LAYERS = NETWORK_HIDDEN + 1 };
static const double bound = 2.0 * LAYERS * NETWORK_WIDTH * U;
static const double rate = 0.01, eps = 1e-5, momentum = 0.1;

struct reference_layer {
    size_t inputs, outputs;
    double *weight, *bias, *scale, *shift, *running_mean, *running_var; /* parameters */
    double *dweight, *dbias, *dscale, *dshift;                          /* gradients */
    double *linear, *normalized, *before, *activation, mean[NETWORK_WIDTH],
        rstd[NETWORK_WIDTH]; /* of the last forward */
};

struct reference {
    bool batch_norm;
    struct reference_layer layers[LAYERS];
    double loss;
};

static double *zeros(size_t count)
{
    double *values = calloc(count, sizeof *values);
    ck_assert_ptr_nonnull(values);
    return values;
}

static double *widened(struct backend *b, struct array a)
{
    float *narrow = download(b, a);
    double *wide = zeros(a.count);
    for (size_t i = 0; i < a.count; i++)
        wide[i] = narrow[i];
    free(narrow);
    return wide;
}

/* Begins with the parameters of the network on the device. */
static void reference_create(struct reference *r, struct network *net)
{
    r->batch_norm = net->batch_norm;
    for (size_t i = 0; i < LAYERS; i++) {
        struct reference_layer *to = &r->layers[i];
        struct network_layer *from = &net->layers[i];
        to->inputs = from->inputs;
        to->outputs = from->outputs;
        to->weight = widened(net->backend, from->weight);
        to->bias = widened(net->backend, from->bias);
        double **zeroed[] = {&to->shift, &to->running_mean, &to->dbias, &to->dscale, &to->dshift};
        for (size_t k = 0; k < sizeof zeroed / sizeof zeroed[0]; k++)
            *zeroed[k] = zeros(to->outputs);
        to->scale = zeros(to->outputs);
        to->running_var = zeros(to->outputs);
        for (size_t k = 0; k < to->outputs; k++)
            to->scale[k] = to->running_var[k] = 1;
        to->dweight = zeros(to->inputs * to->outputs);
        double **batch[] = {&to->linear, &to->normalized, &to->before, &to->activation};
        for (size_t k = 0; k < sizeof batch / sizeof batch[0]; k++)
            *batch[k] = zeros(ROWS * to->outputs);
    }
}

static void reference_destroy(struct reference *r)
{
    for (size_t i = 0; i < LAYERS; i++) {
        struct reference_layer *l = &r->layers[i];
        double *all[] = {l->weight, l->bias,   l->scale,  l->shift,  l->running_mean, l->running_var, l->dweight,
                         l->dbias,  l->dscale, l->dshift, l->linear, l->normalized,   l->before,      l->activation};
        for (size_t k = 0; k < sizeof all / sizeof all[0]; k++)
            free(all[k]);
    }
}

static void reference_norm(struct reference_layer *l, bool train)
{
    for (size_t c = 0; c < l->outputs; c++) {
        double mean = 0, var = 0;
        for (size_t row = 0; row < ROWS; row++)
            mean += l->linear[row * l->outputs + c] / ROWS;
        for (size_t row = 0; row < ROWS; row++)
            var += pow(l->linear[row * l->outputs + c] - mean, 2) / ROWS;
        if (train) {
            l->running_mean[c] = (1 - momentum) * l->running_mean[c] + momentum * mean;
            l->running_var[c] = (1 - momentum) * l->running_var[c] + momentum * var * ROWS / (ROWS - 1);
        } else {
            mean = l->running_mean[c];
            var = l->running_var[c];
        }
        l->mean[c] = mean;
        l->rstd[c] = 1 / sqrt(var + eps);
        for (size_t row = 0; row < ROWS; row++) {
            size_t i = row * l->outputs + c;
            l->normalized[i] = (l->linear[i] - mean) * l->rstd[c];
            l->before[i] = l->normalized[i] * l->scale[c] + l->shift[c];
        }
    }
}

static void reference_linear(struct reference_layer *l, const double *x)
{
    for (size_t row = 0; row < ROWS; row++) {
        double *to = l->linear + row * l->outputs;
        for (size_t c = 0; c < l->outputs; c++)
            to[c] = l->bias[c];
        for (size_t k = 0; k < l->inputs; k++) {
            for (size_t c = 0; c < l->outputs; c++)
                to[c] += x[row * l->inputs + k] * l->weight[k * l->outputs + c];
        }
    }
}

/* before: what entered the ReLU on the device; it decides the sign where the two are too close to 0 to agree. */
static void reference_relu(struct reference_layer *l, const double *before)
{
    double norm = 0;
    for (size_t i = 0; i < ROWS * l->outputs; i++)
        norm += l->before[i] * l->before[i] / (ROWS * (double)l->outputs);
    for (size_t i = 0; i < ROWS * l->outputs; i++) {
        /* One value may be off by more than the root of the mean square: by the width's share of the layer's error. */
        double allowed = bound * sqrt(norm) * sqrt(NETWORK_WIDTH);
        ck_assert_msg(fabs(before[i] - l->before[i]) <= allowed, "value %zu before ReLU is %.9g, not %.9g", i,
                      before[i], l->before[i]);
        l->activation[i] = before[i] > 0 ? l->before[i] : 0;
    }
}

static void reference_forward(struct reference *r, struct network *net, const double *images, bool train)
{
    const double *x = images;
    for (size_t i = 0; i < LAYERS; i++) {
        struct reference_layer *l = &r->layers[i];
        reference_linear(l, x);
        if (i == NETWORK_HIDDEN)
            break;
        if (r->batch_norm) {
            reference_norm(l, train);
        } else {
            for (size_t k = 0; k < ROWS * l->outputs; k++)
                l->before[k] = l->linear[k];
        }
        double *before = widened(net->backend, network_before_activation(net, i));
        reference_relu(l, before);
        free(before);
        x = l->activation;
    }
}

static double *reference_softmax(struct reference *r, const int32_t *labels)
{
    double *gradient = zeros(ROWS * NETWORK_WIDTH);
    r->loss = 0;
    for (size_t row = 0; row < ROWS; row++) {
        const double *z = r->layers[NETWORK_HIDDEN].linear + row * NETWORK_CLASSES;
        double sum = 0;
        for (int i = 0; i < NETWORK_CLASSES; i++)
            sum += exp(z[i]);
        for (int i = 0; i < NETWORK_CLASSES; i++)
            gradient[row * NETWORK_CLASSES + (size_t)i] = (exp(z[i]) / sum - (i == labels[row])) / ROWS;
        r->loss -= log(exp(z[labels[row]]) / sum) / ROWS;
    }
    return gradient;
}

/* Exercise A4 of the formulas, by channel; g becomes the gradient of the linear layer's output. */
static void reference_norm_backward(struct reference_layer *l, double *g)
{
    for (size_t c = 0; c < l->outputs; c++) {
        l->dscale[c] = l->dshift[c] = 0;
        for (size_t i = c; i < ROWS * l->outputs; i += l->outputs) {
            l->dscale[c] += g[i] * l->normalized[i];
            l->dshift[c] += g[i];
        }
        for (size_t i = c; i < ROWS * l->outputs; i += l->outputs)
            g[i] = l->scale[c] * l->rstd[c] * (g[i] - (l->dshift[c] + l->normalized[i] * l->dscale[c]) / ROWS);
    }
}

static void reference_backward(struct reference *r, const double *images, const int32_t *labels)
{
    double *g = reference_softmax(r, labels);
    for (size_t n = LAYERS; n-- > 0;) {
        struct reference_layer *l = &r->layers[n];
        const double *x = n == 0 ? images : r->layers[n - 1].activation;
        if (n < NETWORK_HIDDEN) {
            for (size_t i = 0; i < ROWS * l->outputs; i++)
                g[i] = l->activation[i] != 0 ? g[i] : 0;
            if (r->batch_norm)
                reference_norm_backward(l, g);
        }
        double *dx = zeros(ROWS * NETWORK_WIDTH);
        for (size_t i = 0; i < l->inputs * l->outputs; i++)
            l->dweight[i] = 0;
        for (size_t c = 0; c < l->outputs; c++)
            l->dbias[c] = 0;
        for (size_t row = 0; row < ROWS; row++) {
            for (size_t c = 0; c < l->outputs; c++)
                l->dbias[c] += g[row * l->outputs + c];
            for (size_t k = 0; k < l->inputs; k++) {
                for (size_t c = 0; c < l->outputs; c++) {
                    l->dweight[k * l->outputs + c] += x[row * l->inputs + k] * g[row * l->outputs + c];
                    if (n > 0)
                        dx[row * l->inputs + k] += g[row * l->outputs + c] * l->weight[k * l->outputs + c];
                }
            }
        }
        free(g);
        g = dx;
    }
    free(g);
}

static void descend(double *weight, const double *gradient, size_t count)
{
    for (size_t i = 0; i < count; i++)
        weight[i] -= rate * gradient[i];
}

static void reference_descend(struct reference *r)
{
    for (size_t i = 0; i < LAYERS; i++) {
        struct reference_layer *l = &r->layers[i];
        descend(l->weight, l->dweight, l->inputs * l->outputs);
        descend(l->bias, l->dbias, l->outputs);
        descend(l->scale, l->dscale, l->outputs);
        descend(l->shift, l->dshift, l->outputs);
    }
}

/* ‖got − want‖ ≤ bound·(‖want‖ + more); NaN fails. */
static void require_near(struct network *net, struct array got, const double *want, size_t count, double more,
                         const char *what, size_t layer)
{
    double *values = widened(net->backend, got), off = 0, norm = 0;
    for (size_t i = 0; i < count; i++) {
        off += (values[i] - want[i]) * (values[i] - want[i]);
        norm += want[i] * want[i];
    }
    free(values);
    ck_assert_msg(sqrt(off) <= bound * (sqrt(norm) + more),
                  "%s of layer %zu is off by %.3g of its norm %.3g, bound %.3g", what, layer,
                  sqrt(off) / (sqrt(norm) + more), sqrt(norm), bound);
}

static double norm_of(const double *values, size_t count)
{
    double sum = 0;
    for (size_t i = 0; i < count; i++)
        sum += values[i] * values[i];
    return sqrt(sum);
}

static void compare_gradients(struct network *net, const struct reference *r)
{
    for (size_t i = 0; i < LAYERS; i++) {
        const struct network_layer *l = &net->layers[i];
        const struct reference_layer *want = &r->layers[i];
        const bool norm = net->batch_norm && i < NETWORK_HIDDEN;
        require_near(net, l->dweight, want->dweight, l->inputs * l->outputs, 0, "dweight", i);
        /* Batch norm makes the bias before it useless: its gradient is a sum that cancels to 0. What it may be off by goes
         * with the terms, whose size the weights' gradient tells. */
        require_near(net, l->dbias, want->dbias, l->outputs, norm ? norm_of(want->dweight, l->inputs * l->outputs) : 0,
                     "dbias", i);
        if (!norm)
            continue;
        require_near(net, l->dnorm_weight, want->dscale, l->outputs, 0, "dweight of batch norm", i);
        require_near(net, l->dnorm_bias, want->dshift, l->outputs, 0, "dbias of batch norm", i);
        require_near(net, l->running_mean, want->running_mean, l->outputs, 0, "running mean", i);
        require_near(net, l->running_var, want->running_var, l->outputs, 0, "running variance", i);
    }
}

static void check_network(int device, bool batch_norm)
{
    struct backend b;
    struct data data;
    struct network net;
    struct reference r;
    device_backend(device, &b);
    ck_assert(data_digits(&data));
    double *images = zeros(ROWS * data.inputs);
    for (size_t i = 0; i < ROWS * data.inputs; i++)
        images[i] = data.training.images[i];
    struct array x = upload(&b, data.training.images, ROWS * data.inputs);
    struct array labels = upload(&b, data.training.labels, ROWS), moments = b.operations->allocate(&b, 2);
    network_create(&net, &b, data.inputs, ROWS, batch_norm, 7);
    require_success(&b);
    reference_create(&r, &net);
    for (int step = 0; step < STEPS; step++) {
        network_forward(&net, NETWORK_TRAIN, x, ROWS);
        reference_forward(&r, &net, images, true);
        network_backward(&net, x, labels, ROWS);
        b.operations->moments(&b, ROWS, net.losses, moments, 0);
        reference_backward(&r, images, data.training.labels);
        compare_gradients(&net, &r);
        float *loss = download(&b, moments);
        ck_assert_msg(fabs(loss[0] - r.loss) <= bound * r.loss, "the loss at step %d is %.9g, not %.9g", step, loss[0],
                      r.loss);
        free(loss);
        network_descend(&net, (float)rate);
        reference_descend(&r);
    }
    /* Observing changes no running statistics; inference uses them. */
    network_forward(&net, NETWORK_OBSERVE, x, ROWS / 2);
    compare_gradients(&net, &r);
    network_forward(&net, NETWORK_INFER, x, ROWS);
    reference_forward(&r, &net, images, false);
    require_near(&net, network_logits(&net), r.layers[NETWORK_HIDDEN].linear, ROWS * NETWORK_CLASSES, 0, "logits",
                 LAYERS);
    reference_destroy(&r);
    network_destroy(&net);
    b.operations->release(&b, &x);
    b.operations->release(&b, &labels);
    b.operations->release(&b, &moments);
    backend_destroy(&b);
    data_free(&data);
    free(images);
}

START_TEST(without_batch_norm)
{
    check_network(_i, false);
}
END_TEST

START_TEST(with_batch_norm)
{
    check_network(_i, true);
}
END_TEST

/* The data set is what its README says: 8×8 digits, as many of each class and as much ink as in the original. */
START_TEST(digits)
{
    static const int in_class[DEMO_CLASSES] = {178, 182, 177, 183, 181, 182, 181, 179, 174, 180};
    struct data data;
    int counts[DEMO_CLASSES] = {0};
    double ink = 0;
    ck_assert(data_digits(&data));
    ck_assert_uint_eq(data.inputs, 64);
    ck_assert_uint_eq(data.training.count, 1400);
    ck_assert_uint_eq(data.held_out.count, 397);
    const struct data_part *parts[] = {&data.training, &data.held_out};
    for (int p = 0; p < 2; p++) {
        for (size_t i = 0; i < parts[p]->count; i++)
            counts[parts[p]->labels[i]]++;
        for (size_t i = 0; i < parts[p]->count * data.inputs; i++)
            ink += 16 * (double)parts[p]->images[i];
    }
    for (int i = 0; i < DEMO_CLASSES; i++)
        ck_assert_int_eq(counts[i], in_class[i]);
    ck_assert_msg(ink == 561718, "the pixels sum up to %g, not 561718", ink);
    data_free(&data);
}
END_TEST

static void add_tests(TCase *tcase, int devices)
{
    tcase_add_test(tcase, digits);
    tcase_add_loop_test(tcase, without_batch_norm, 0, devices);
    tcase_add_loop_test(tcase, with_batch_norm, 0, devices);
}

int main(void)
{
    return run_on_devices("network of the demo", add_tests);
}
