/* The fp64 reference: every norm from the formulas (tutorial, parts A and B; docs/math.md), element by element, in double with
 * long double sums. Independent of src/ on purpose: it shares no code, no constants and no tricks with the library.
 *
 * Two partitions of a tensor's elements say all about a norm. Elements of a *group* share mean and variance, elements of a
 * *weight* share weight and bias:
 *
 *     norm       group                                               weight
 *     batch      a channel, of `batch` samples                       a channel
 *     layer, rms the `length` last elements for each index before    an index in these elements
 *     group      c / groups neighbouring channels of a sample        a channel
 *     instance   a channel of a sample                               a channel
 *
 * RMS norm's mean is 0 and its "variance" is the mean of the squares. */
#ifndef CLNORM_TESTS_REFERENCE_H
#define CLNORM_TESTS_REFERENCE_H

#include <stdbool.h>
#include <stddef.h>

enum reference_layout { REFERENCE_NC, REFERENCE_NCS, REFERENCE_NSC }; /* as clnorm_layout */
enum reference_norm {                                                 /* as clnorm_norm */
                      REFERENCE_BATCH,
                      REFERENCE_LAYER,
                      REFERENCE_GROUP,
                      REFERENCE_INSTANCE,
                      REFERENCE_RMS
};

/* A tensor of n samples, c channels, s positions (the product of the spatial dimensions; 1 for NC). */
struct reference_problem {
    enum reference_layout layout;
    size_t n, c, s;
    double eps;
    enum reference_norm norm;
    size_t groups; /* group norm: a divisor of c */
    size_t length; /* layer, rms: elements of the normalized dimensions, which are the last ones of the layout */
    size_t batch;  /* batch norm: neighbouring samples that share statistics, of the last ones perhaps fewer; 0: all */
    /* Batch (of all samples), group and instance norm: how many positions of each sample are valid, the first ones; NULL: all. The others are
     * of no group and of no weight; outputs are not written there. Statistics of no values are 0. */
    const size_t *lengths;
};

size_t reference_elements(const struct reference_problem *p);
/* Where element (n, c, s) lies in the tensor. */
size_t reference_index(const struct reference_problem *p, size_t n, size_t c, size_t s);

bool reference_is_valid(const struct reference_problem *p, size_t element);

/* Groups (batch norm: a batch's channels, then the next one's), values of group g, where value k of group g lies, and the group of an element. */
size_t reference_groups(const struct reference_problem *p);
size_t reference_group_size(const struct reference_problem *p, size_t g);
size_t reference_group_element(const struct reference_problem *p, size_t g, size_t k);
size_t reference_group_of(const struct reference_problem *p, size_t element);
/* The same of weights. */
size_t reference_weights(const struct reference_problem *p);
size_t reference_weight_size(const struct reference_problem *p);
size_t reference_weight_element(const struct reference_problem *p, size_t w, size_t k);
size_t reference_weight_of(const struct reference_problem *p, size_t element);

/* mean and biased variance per group. var may be NULL. */
void reference_statistics(const struct reference_problem *p, const double *x, double *mean, double *var);
/* y from any mean and var per group; weight and bias may be NULL (1, 0). */
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
/* Gradients of Σ v_dx·dx + Σ v_dweight·dweight + Σ v_dbias·dbias, of what reference_backward gives. weight may be NULL (1), v_… too (0).
 * Not of RMS norm. */
struct reference_double {
    const double *x, *dy, *weight, *mean, *var;
    const double *v_dx, *v_dweight, *v_dbias;
};
void reference_double_backward(const struct reference_problem *p, const struct reference_double *in, bool frozen,
                               double *g_x, double *g_dy, double *g_weight);
/* Batch and instance norm: what a channel gives to its running statistics, from the groups' mean and var: its own, or the mean of
 * the samples' that have values. Of none: 0. */
void reference_channel_statistics(const struct reference_problem *p, const double *mean, const double *var,
                                  double *channel_mean, double *channel_var);
/* new = (1 − momentum)·old + momentum·batch per channel, in place. m: values per group (unbiased: m/(m − 1), biased if m = 1). */
void reference_running(size_t c, size_t m, const double *mean, const double *var, double momentum, bool unbiased,
                       double *running_mean, double *running_var);

#endif
