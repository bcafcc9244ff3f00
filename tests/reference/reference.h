/* The fp64 reference: batch normalization from the formulas (tutorial, parts A and B), element by element, in double with
 * long double sums. Independent of src/ on purpose: it shares no code, no constants and no tricks with the library. */
#ifndef CLNORM_TESTS_REFERENCE_H
#define CLNORM_TESTS_REFERENCE_H

#include <stdbool.h>
#include <stddef.h>

enum reference_layout { REFERENCE_NC, REFERENCE_NCS, REFERENCE_NSC }; /* as clnorm_layout */

/* A tensor of n samples, c channels, s positions (the product of the spatial dimensions; 1 for NC). */
struct reference_problem {
    enum reference_layout layout;
    size_t n, c, s;
    double eps;
};

size_t reference_elements(const struct reference_problem *p);
/* Where element (n, c, s) lies in the tensor. */
size_t reference_index(const struct reference_problem *p, size_t n, size_t c, size_t s);

/* mean and biased variance per channel. var may be NULL. */
void reference_statistics(const struct reference_problem *p, const double *x, double *mean, double *var);
/* y from any mean and var per channel; weight and bias may be NULL (1, 0). */
void reference_apply(const struct reference_problem *p, const double *x, const double *mean, const double *var,
                     const double *weight, const double *bias, double *y);
/* Gradients of sum(dy·y); the boxed formulas. frozen: mean and var are constants. Any output may be NULL. */
void reference_backward(const struct reference_problem *p, const double *x, const double *dy, const double *mean,
                        const double *var, const double *weight, bool frozen, double *dx, double *dweight,
                        double *dbias);
/* The same by the tutorial's B2: dvar, then dmean (with its Σ −2(x − mean) term), then dx. A second oracle. */
void reference_backward_stepwise(const struct reference_problem *p, const double *x, const double *dy,
                                 const double *mean, const double *var, const double *weight, double *dx,
                                 double *dweight, double *dbias);
/* new = (1 − momentum)·old + momentum·batch per channel, in place. m: values per channel (unbiased: m/(m − 1), biased if m = 1). */
void reference_running(size_t c, size_t m, const double *mean, const double *var, double momentum, bool unbiased,
                       double *running_mean, double *running_var);

#endif
