/* Gradients of L = sum(dy·y), y = act(norm(x) + z), by central differences of the fp64 reference, and how well they are known. */
#ifndef CLNORM_TOOLS_GRADCHECK_NUMERIC_H
#define CLNORM_TOOLS_GRADCHECK_NUMERIC_H

#include <activation.h>
#include <reference.h>
#include <stdint.h>
#include <types.h>

enum { CHECK_N = 5, CHECK_C = 4, CHECK_POSITIONS = 12, CHECK_ELEMENTS = CHECK_N * CHECK_C * CHECK_POSITIONS };

#define CHECK_STEP 1e-5

/* Of samples with lengths: what is valid of 3 positions. */
extern const size_t check_lengths[CHECK_N];

enum check_residual { CHECK_NO_RESIDUAL, CHECK_AFTER, CHECK_BEFORE }; /* as clnorm_residual */

/* What is checked beside the norm. Zeros: batch statistics, the norm alone, values in double. */
struct check_kind {
    bool frozen;  /* mean and var are constants; batch and instance norm alone */
    bool rounded; /* tensors to their types and parameters to f32, so that a device can be given the very same */
    enum reference_dtype dtype, y_dtype; /* of dy: y_dtype */
    enum reference_activation activation;
    double slope; /* of REFERENCE_LEAKY_RELU */
    enum check_residual residual;
    bool from_y; /* the device's backward is from y */
};

/* A problem with its data. mean and var: the statistics of x, or, if frozen, constants. */
struct check_data {
    struct reference_problem problem;
    struct check_kind kind;
    double x[CHECK_ELEMENTS], dy[CHECK_ELEMENTS]; /* CHECK_BEFORE: x is the sum, as it is stored */
    double z[CHECK_ELEMENTS];
    double addend[CHECK_ELEMENTS];                       /* CHECK_BEFORE: what z was added to */
    double weight[CHECK_ELEMENTS], bias[CHECK_ELEMENTS]; /* of the problem's weights */
    double mean[CHECK_ELEMENTS], var[CHECK_ELEMENTS];    /* of its statistics groups */
};

/* Draws x, weight, bias and dy, in this order, from NumPy's legacy stream of this seed; then, if frozen, mean and var of
 * each channel; then, with a residual, z. */
void check_data_draw(struct check_data *d, const struct reference_problem *problem, uint32_t seed,
                     const struct check_kind *kind);

struct gradients {
    double dx[CHECK_ELEMENTS], dweight[CHECK_ELEMENTS], dbias[CHECK_ELEMENTS];
    double dz[CHECK_ELEMENTS]; /* CHECK_AFTER */
};

/* The values before the activation, and dy·act' of them, the gradient that reaches the norm. */
void check_values(const struct check_data *d, double *t, double *delta);
/* By the formulas. */
void formula_gradients(const struct check_data *d, struct gradients *g);

/* The central differences with CHECK_STEP; error: a bound of what rounding and truncation can have done to each. */
void numeric_gradients(const struct check_data *d, struct gradients *numeric, struct gradients *error);

/* The largest difference of a list, in relation to what is allowed. A NaN is larger than anything. */
struct worst {
    double difference, tolerance;
    bool pass; /* all of them are within their tolerances */
};
/* tolerance: one for each, or NULL: limit for all. */
struct worst compare(const double *got, const double *want, const double *tolerance, double limit, size_t count);

#endif
