/* The reference of tests/reference on f32 data, for tests that call the library step by step. */
#ifndef CLNORM_TESTS_SUITES_MODEL_H
#define CLNORM_TESTS_SUITES_MODEL_H

#include "support.h"

/* Forward in fp64 of f32 data. All arrays are freed after the test. */
struct model {
    struct shape shape;
    double eps;
    double *x, *weight, *bias; /* widened; weight and bias NULL if left out */
    double *mean, *var, *rstd; /* per channel; var biased */
    double *y;
    double *xhat_max, *y_max;     /* per channel: max |weight·x̂|, max |y| */
    size_t elements, channels, m; /* m: values per channel */
};
struct model *model_forward(const struct shape *shape, int64_t n, double eps, const float *x, const float *weight,
                            const float *bias);
/* The same with given statistics (inference). */
struct model *model_infer(const struct shape *shape, int64_t n, double eps, const float *x, const float *weight,
                          const float *bias, const float *mean, const float *var);
/* The contract's bound: 16u·max|weight·x̂| per channel, and the rounding of the product by weight and of the sum with bias. */
void model_check_y(const struct model *model, const float *y, const char *what);
/* mean to 2u·|mean| + 16u·std, var and rstd to what a y within 16u of the reference implies: 32u and 16u. */
void model_check_statistics(const struct model *model, const float *mean, const float *var, const float *rstd,
                            const char *what);

struct gradients {
    double *dx, *dweight, *dbias;
    double *dx_bound, *dweight_bound, *dbias_bound; /* the contract's; dx's per channel */
};
struct gradients *model_backward(const struct model *model, const float *dy, bool frozen);
/* Any of the three may be NULL. */
void model_check_gradients(const struct model *model, const struct gradients *want, const float *dx,
                           const float *dweight, const float *dbias, const char *what);

#endif
