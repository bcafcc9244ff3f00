/* Gradients of L = sum(dy·y) by central differences of the fp64 reference, and how well they are known. */
#ifndef CLNORM_TOOLS_GRADCHECK_NUMERIC_H
#define CLNORM_TOOLS_GRADCHECK_NUMERIC_H

#include <reference.h>
#include <stdint.h>

enum { CHECK_N = 5, CHECK_C = 4, CHECK_POSITIONS = 12, CHECK_ELEMENTS = CHECK_N * CHECK_C * CHECK_POSITIONS };

#define CHECK_STEP 1e-5

/* A problem with its data. mean and var: the statistics of x, or, if frozen, constants. */
struct check_data {
    struct reference_problem problem;
    bool frozen;
    double x[CHECK_ELEMENTS], dy[CHECK_ELEMENTS];
    double weight[CHECK_ELEMENTS], bias[CHECK_ELEMENTS]; /* of the problem's weights */
    double mean[CHECK_ELEMENTS], var[CHECK_ELEMENTS];    /* of its statistics groups */
};

/* Draws x, weight, bias and dy, in this order, from NumPy's legacy stream of this seed; then, if frozen, mean and var of
 * each channel. Batch and instance norm alone have frozen statistics.
 * as_f32: all values are rounded to f32 first, so that a device can be given the very same. */
void check_data_draw(struct check_data *d, const struct reference_problem *problem, uint32_t seed, bool frozen,
                     bool as_f32);

struct gradients {
    double dx[CHECK_ELEMENTS], dweight[CHECK_ELEMENTS], dbias[CHECK_ELEMENTS];
};

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
