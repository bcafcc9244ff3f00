/* A plan with one array for each argument, and the arguments of forward, infer and backward filled in with all of them. */
#ifndef CLNORM_TESTS_SUITES_LAYER_H
#define CLNORM_TESTS_SUITES_LAYER_H

#include "support.h"

struct layer {
    clnorm_device *device;
    clnorm_plan *plan;
    struct shape shape;
    int64_t n; /* of the calls; the plan's may be larger */
    size_t count, channels, weights, groups;
    struct array x, y, weight, bias, state, mean, var, rstd, running_mean, running_var, dy, dx, dweight, dbias;
    clnorm_forward_args forward;
    clnorm_infer_args infer;
    clnorm_backward_args backward; /* from the state */
};
/* Batch norm. weight, bias NULL: left out. running_mean and running_var begin as 0 and 1, dy as N(0, 1), outputs as the pattern. */
struct layer *layer_new(clnorm_device *device, const struct shape *shape, int64_t n, float eps, const float *x,
                        const float *weight, const float *bias);
/* Any norm. What the norm has not is left out: running statistics, RMS norm's mean and var. */
struct layer *layer_of(clnorm_device *device, const clnorm_desc *desc, int64_t n, const float *x, const float *weight,
                       const float *bias);
/* Reads dy back. */
float *layer_dy(const struct layer *layer);
/* Run and must succeed. */
void layer_forward(struct layer *layer);
void layer_infer(struct layer *layer);
void layer_backward(struct layer *layer);

#endif
