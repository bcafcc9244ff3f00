#include "network.h"
#include "random.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static struct array create_filled(struct backend *b, size_t count, float value)
{
    struct array a = b->operations->allocate(b, count);
    float *values = malloc(count * sizeof *values);
    if (values) {
        for (size_t i = 0; i < count; i++)
            values[i] = value;
        b->operations->write(b, a, values);
    } else {
        backend_fail(b, "out of memory for %zu values", count);
    }
    free(values);
    return a;
}

static struct array create_uniform(struct backend *b, size_t count, double bound, struct random *r)
{
    struct array a = b->operations->allocate(b, count);
    float *values = malloc(count * sizeof *values);
    if (values) {
        for (size_t i = 0; i < count; i++)
            values[i] = (float)(bound * (2 * random_uniform(r) - 1));
        b->operations->write(b, a, values);
    } else {
        backend_fail(b, "out of memory for %zu values", count);
    }
    free(values);
    return a;
}

static void create_norm(struct network *net, struct network_layer *layer)
{
    struct backend *b = net->backend;
    const struct backend_operations *op = b->operations;
    layer->norm_weight = create_filled(b, layer->outputs, 1);
    layer->norm_bias = create_filled(b, layer->outputs, 0);
    layer->dnorm_weight = op->allocate(b, layer->outputs);
    layer->dnorm_bias = op->allocate(b, layer->outputs);
    layer->running_mean = create_filled(b, layer->outputs, 0);
    layer->running_var = create_filled(b, layer->outputs, 1);
    layer->state = op->allocate(b, clnorm_plan_state_bytes(net->plan) / sizeof(float));
    layer->normalized = op->allocate(b, net->rows * layer->outputs);
}

void network_create(struct network *net, struct backend *backend, size_t inputs, size_t rows, bool batch_norm,
                    uint64_t seed)
{
    memset(net, 0, sizeof *net);
    net->backend = backend;
    net->batch_norm = batch_norm;
    net->rows = rows;
    const struct backend_operations *op = backend->operations;
    if (batch_norm && !backend_failed(backend)) {
        clnorm_desc desc = CLNORM_DESC_INIT;
        desc.layout = CLNORM_NC;
        desc.n = (int64_t)rows;
        desc.c = NETWORK_WIDTH;
        backend_check(backend, clnorm_plan_create(backend->device, &desc, &net->plan), "clnorm_plan_create");
    }
    struct random r = {seed};
    for (size_t i = 0; i <= NETWORK_HIDDEN; i++) {
        struct network_layer *layer = &net->layers[i];
        layer->inputs = i == 0 ? inputs : NETWORK_WIDTH;
        layer->outputs = i < NETWORK_HIDDEN ? NETWORK_WIDTH : NETWORK_CLASSES;
        double bound = 1 / sqrt((double)layer->inputs);
        layer->weight = create_uniform(backend, layer->inputs * layer->outputs, bound, &r);
        layer->bias = create_uniform(backend, layer->outputs, bound, &r);
        layer->dweight = op->allocate(backend, layer->inputs * layer->outputs);
        layer->dbias = op->allocate(backend, layer->outputs);
        layer->linear = op->allocate(backend, rows * layer->outputs);
        if (i == NETWORK_HIDDEN)
            break;
        layer->activation = op->allocate(backend, rows * layer->outputs);
        if (batch_norm)
            create_norm(net, layer);
    }
    for (size_t i = 0; i < 2; i++)
        net->gradient[i] = op->allocate(backend, rows * NETWORK_WIDTH);
    net->losses = op->allocate(backend, rows);
}

void network_destroy(struct network *net)
{
    if (!net->backend)
        return;
    void (*release)(struct backend *, struct array *) = net->backend->operations->release;
    for (size_t i = 0; i <= NETWORK_HIDDEN; i++) {
        struct network_layer *l = &net->layers[i];
        struct array *arrays[] = {&l->weight,      &l->bias,      &l->dweight,      &l->dbias,      &l->linear,
                                  &l->norm_weight, &l->norm_bias, &l->dnorm_weight, &l->dnorm_bias, &l->running_mean,
                                  &l->running_var, &l->state,     &l->normalized,   &l->activation};
        for (size_t k = 0; k < sizeof arrays / sizeof arrays[0]; k++)
            release(net->backend, arrays[k]);
    }
    for (size_t i = 0; i < 2; i++)
        release(net->backend, &net->gradient[i]);
    release(net->backend, &net->losses);
    clnorm_plan_destroy(net->plan);
    memset(net, 0, sizeof *net);
}

static void norm_forward(struct network *net, struct network_layer *layer, enum network_mode mode, size_t rows)
{
    struct backend *b = net->backend;
    if (backend_failed(b))
        return;
    clnorm_buffer (*buffer)(struct array, size_t) = b->operations->buffer;
    if (mode == NETWORK_INFER) {
        clnorm_infer_args args = CLNORM_INFER_ARGS_INIT;
        args.n = (int64_t)rows;
        args.x = buffer(layer->linear, rows * layer->outputs);
        args.y = buffer(layer->normalized, rows * layer->outputs);
        args.weight = buffer(layer->norm_weight, layer->outputs);
        args.bias = buffer(layer->norm_bias, layer->outputs);
        args.running_mean = buffer(layer->running_mean, layer->outputs);
        args.running_var = buffer(layer->running_var, layer->outputs);
        backend_check(b, clnorm_infer(net->plan, &args), "clnorm_infer");
        return;
    }
    clnorm_forward_args args = CLNORM_FORWARD_ARGS_INIT;
    args.n = (int64_t)rows;
    args.x = buffer(layer->linear, rows * layer->outputs);
    args.y = buffer(layer->normalized, rows * layer->outputs);
    args.weight = buffer(layer->norm_weight, layer->outputs);
    args.bias = buffer(layer->norm_bias, layer->outputs);
    if (mode == NETWORK_TRAIN) {
        args.state = buffer(layer->state, layer->state.count);
        args.running_mean = buffer(layer->running_mean, layer->outputs);
        args.running_var = buffer(layer->running_var, layer->outputs);
        args.running.variance = CLNORM_UNBIASED; /* as PyTorch, with which the accuracies are compared */
    }
    backend_check(b, clnorm_forward(net->plan, &args), "clnorm_forward");
}

void network_forward(struct network *net, enum network_mode mode, struct array images, size_t rows)
{
    struct backend *b = net->backend;
    const struct backend_operations *op = b->operations;
    struct array x = images;
    for (size_t i = 0; i <= NETWORK_HIDDEN; i++) {
        struct network_layer *layer = &net->layers[i];
        op->multiply(b, false, false, rows, layer->outputs, layer->inputs, x, layer->weight, layer->linear);
        op->add_bias(b, rows, layer->outputs, layer->linear, layer->bias);
        if (i == NETWORK_HIDDEN)
            break;
        if (net->batch_norm)
            norm_forward(net, layer, mode, rows);
        op->relu(b, rows * layer->outputs, network_before_activation(net, i), layer->activation);
        x = layer->activation;
    }
}

/* dy becomes dx in place. */
static void norm_backward(struct network *net, struct network_layer *layer, struct array dy, size_t rows)
{
    struct backend *b = net->backend;
    if (backend_failed(b))
        return;
    clnorm_buffer (*buffer)(struct array, size_t) = b->operations->buffer;
    clnorm_backward_args args = CLNORM_BACKWARD_ARGS_INIT;
    args.n = (int64_t)rows;
    args.x = buffer(layer->linear, rows * layer->outputs);
    args.dy = buffer(dy, rows * layer->outputs);
    args.dx = args.dy;
    args.weight = buffer(layer->norm_weight, layer->outputs);
    args.state = buffer(layer->state, layer->state.count);
    args.dweight = buffer(layer->dnorm_weight, layer->outputs);
    args.dbias = buffer(layer->dnorm_bias, layer->outputs);
    backend_check(b, clnorm_backward(net->plan, &args), "clnorm_backward");
}

void network_backward(struct network *net, struct array images, struct array labels, size_t rows)
{
    struct backend *b = net->backend;
    const struct backend_operations *op = b->operations;
    struct array dy = net->gradient[0], dx = net->gradient[1];
    op->softmax_cross_entropy(b, rows, NETWORK_CLASSES, network_logits(net), labels, dy, net->losses);
    for (size_t i = NETWORK_HIDDEN + 1; i-- > 0;) {
        struct network_layer *layer = &net->layers[i];
        if (i < NETWORK_HIDDEN) {
            op->relu_backward(b, rows * layer->outputs, layer->activation, dy);
            if (net->batch_norm)
                norm_backward(net, layer, dy, rows);
        }
        struct array x = i == 0 ? images : net->layers[i - 1].activation;
        op->multiply(b, true, false, layer->inputs, layer->outputs, rows, x, dy, layer->dweight);
        op->column_sums(b, rows, layer->outputs, dy, layer->dbias);
        if (i == 0)
            break;
        op->multiply(b, false, true, rows, layer->inputs, layer->outputs, dy, layer->weight, dx);
        struct array other = dy;
        dy = dx;
        dx = other;
    }
}

void network_descend(struct network *net, float rate)
{
    struct backend *b = net->backend;
    const struct backend_operations *op = b->operations;
    for (size_t i = 0; i <= NETWORK_HIDDEN; i++) {
        struct network_layer *layer = &net->layers[i];
        op->sgd(b, layer->weight.count, rate, layer->weight, layer->dweight);
        op->sgd(b, layer->bias.count, rate, layer->bias, layer->dbias);
        if (net->batch_norm && i < NETWORK_HIDDEN) {
            op->sgd(b, layer->norm_weight.count, rate, layer->norm_weight, layer->dnorm_weight);
            op->sgd(b, layer->norm_bias.count, rate, layer->norm_bias, layer->dnorm_bias);
        }
    }
}

struct array network_before_activation(const struct network *net, size_t layer)
{
    return net->batch_norm ? net->layers[layer].normalized : net->layers[layer].linear;
}

struct array network_after_activation(const struct network *net, size_t layer)
{
    return net->layers[layer].activation;
}

struct array network_logits(const struct network *net)
{
    return net->layers[NETWORK_HIDDEN].linear;
}
