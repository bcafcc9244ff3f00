#include "layer.h"

struct layer *layer_new(clnorm_device *device, const struct shape *shape, int64_t n, float eps, const float *x,
                        const float *weight, const float *bias)
{
    struct layer *l = scratch(sizeof *l);
    l->device = device;
    l->plan = test_plan(device, shape, eps);
    l->shape = *shape;
    l->n = n;
    l->count = shape_elements(shape, n);
    l->channels = (size_t)shape->c;
    float *ones = scratch_floats(l->channels);
    for (size_t c = 0; c < l->channels; c++)
        ones[c] = 1;
    l->x = array_new(device, l->count, x);
    l->y = array_new(device, l->count, NULL);
    l->dy = array_new(device, l->count, random_floats(4711, l->count, 1, 0));
    l->dx = array_new(device, l->count, NULL);
    if (weight)
        l->weight = array_new(device, l->channels, weight);
    if (bias)
        l->bias = array_new(device, l->channels, bias);
    l->state = array_bytes(device, clnorm_plan_state_bytes(l->plan));
    l->running_mean = array_new(device, l->channels, scratch_floats(l->channels));
    l->running_var = array_new(device, l->channels, ones);
    struct array *outputs[] = {&l->mean, &l->var, &l->rstd, &l->dweight, &l->dbias};
    for (size_t i = 0; i < sizeof outputs / sizeof *outputs; i++)
        *outputs[i] = array_new(device, l->channels, NULL);

    static const clnorm_forward_args forward = CLNORM_FORWARD_ARGS_INIT;
    l->forward = forward;
    l->forward.n = n;
    l->forward.x = l->x.buffer;
    l->forward.y = l->y.buffer;
    l->forward.weight = l->weight.buffer;
    l->forward.bias = l->bias.buffer;
    l->forward.state = l->state.buffer;
    l->forward.mean = l->mean.buffer;
    l->forward.var = l->var.buffer;
    l->forward.rstd = l->rstd.buffer;
    l->forward.running_mean = l->running_mean.buffer;
    l->forward.running_var = l->running_var.buffer;

    static const clnorm_infer_args infer = CLNORM_INFER_ARGS_INIT;
    l->infer = infer;
    l->infer.n = n;
    l->infer.x = l->x.buffer;
    l->infer.y = l->y.buffer;
    l->infer.weight = l->weight.buffer;
    l->infer.bias = l->bias.buffer;
    l->infer.running_mean = l->running_mean.buffer;
    l->infer.running_var = l->running_var.buffer;

    static const clnorm_backward_args backward = CLNORM_BACKWARD_ARGS_INIT;
    l->backward = backward;
    l->backward.n = n;
    l->backward.x = l->x.buffer;
    l->backward.dy = l->dy.buffer;
    l->backward.weight = l->weight.buffer;
    l->backward.state = l->state.buffer;
    l->backward.dx = l->dx.buffer;
    l->backward.dweight = l->dweight.buffer;
    l->backward.dbias = l->dbias.buffer;
    return l;
}

float *layer_dy(const struct layer *layer)
{
    return array_get(&layer->dy);
}

void layer_forward(struct layer *layer)
{
    expect_status(clnorm_forward(layer->plan, &layer->forward), CLNORM_OK, "forward");
}

void layer_infer(struct layer *layer)
{
    expect_status(clnorm_infer(layer->plan, &layer->infer), CLNORM_OK, "infer");
}

void layer_backward(struct layer *layer)
{
    expect_status(clnorm_backward(layer->plan, &layer->backward), CLNORM_OK, "backward");
}
