#include "layer.h"

static size_t weights_of(const clnorm_desc *desc)
{
    size_t count = (size_t)desc->c;
    if (!desc->normalized_dims)
        return count;
    /* Channels are the first of the dimensions but n, or channels-last the last. */
    const int dims = 1 + desc->spatial_dims, channel = desc->layout == CLNORM_NSC ? dims - 1 : 0;
    count = 1;
    for (int d = dims - desc->normalized_dims; d < dims; d++)
        count *= (size_t)(d == channel ? desc->c : desc->spatial[d - (channel == 0)]);
    return count;
}

struct layer *layer_new(clnorm_device *device, const struct shape *shape, int64_t n, float eps, const float *x,
                        const float *weight, const float *bias)
{
    clnorm_desc desc = shape_desc(shape);
    if (eps >= 0)
        desc.eps = eps;
    return layer_of(device, &desc, n, x, weight, bias);
}

struct layer *layer_of(clnorm_device *device, const clnorm_desc *desc, int64_t n, const float *x, const float *weight,
                       const float *bias)
{
    struct layer *l = scratch(sizeof *l);
    const bool running = desc->norm == CLNORM_BATCH || desc->norm == CLNORM_INSTANCE;
    l->device = device;
    l->plan = test_plan_of(device, desc);
    l->shape = (struct shape){
        desc->layout, desc->n, desc->c, desc->spatial_dims, {desc->spatial[0], desc->spatial[1], desc->spatial[2]}};
    l->n = n;
    l->count = shape_elements(&l->shape, n);
    l->channels = (size_t)desc->c;
    l->weights = weights_of(desc);
    l->groups = (size_t)clnorm_plan_groups(l->plan, n);
    float *ones = scratch_floats(l->channels);
    for (size_t c = 0; c < l->channels; c++)
        ones[c] = 1;
    l->x = array_new(device, l->count, x);
    l->y = array_new(device, l->count, NULL);
    l->dy = array_new(device, l->count, random_floats(4711, l->count, 1, 0));
    l->dx = array_new(device, l->count, NULL);
    if (weight)
        l->weight = array_new(device, l->weights, weight);
    if (bias)
        l->bias = array_new(device, l->weights, bias);
    l->state = array_bytes(device, clnorm_plan_state_bytes(l->plan));
    if (running) {
        l->running_mean = array_new(device, l->channels, scratch_floats(l->channels));
        l->running_var = array_new(device, l->channels, ones);
    }
    if (desc->norm != CLNORM_RMS) {
        l->mean = array_new(device, l->groups, NULL);
        l->var = array_new(device, l->groups, NULL);
    }
    l->rstd = array_new(device, l->groups, NULL);
    l->dweight = array_new(device, l->weights, NULL);
    l->dbias = array_new(device, l->weights, NULL);

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
