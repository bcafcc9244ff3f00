/* What the files of this folder share. */
#ifndef CLNORM_TESTS_CASES_INTERNAL_H
#define CLNORM_TESTS_CASES_INTERNAL_H

#include "cases.h"
#include "reference.h"

#define NO_GROUP SIZE_MAX

enum case_input {
    INPUT_X,
    INPUT_DY,
    INPUT_WEIGHT,
    INPUT_BIAS,
    INPUT_RUNNING_MEAN, /* before the call */
    INPUT_RUNNING_VAR,
    INPUT_MEAN, /* of CASE_GIVEN */
    INPUT_RSTD,
    INPUTS
};

struct case_problem {
    struct clnorm_case c;
    struct reference_problem shape;
    size_t elements, m; /* m: values of a statistics group */
    size_t groups, weights;
    float *input[INPUTS]; /* NULL: the case has none */
    size_t count[CASE_OUTPUTS];
    double *reference[CASE_OUTPUTS], *tolerance[CASE_OUTPUTS]; /* of count values, of case_parts; NULL: not judged */
    size_t poisoned;            /* the statistics group with the NaN or Inf, or NO_GROUP */
    struct case_problem *clean; /* with a poisoned group: the same problem without; else NULL */
};

bool case_mode_has_dy(enum case_mode mode);
/* The case's problem with n samples. */
struct reference_problem case_shape(const struct clnorm_case *c, int64_t n);
/* Values of an input. */
size_t problem_input_count(const struct reference_problem *shape, enum case_input input);

/* data.c: the tensors of elements floats each. dy may be NULL. */
void data_fill(const struct clnorm_case *c, const struct reference_problem *shape, float *x, float *dy);
/* Puts the NaN or Inf of the kind of data into x or dy. -> its group, or NO_GROUP for the other kinds. */
size_t data_poison(const struct clnorm_case *c, const struct reference_problem *shape, float *x, float *dy);
/* weight, bias, running_mean, running_var: any may be NULL. mean and var are those of the batch, per channel, of m values a
 * statistics group. */
void data_fill_parameters(const struct clnorm_case *c, size_t m, const double *mean, const double *var, float *weight,
                          float *bias, float *running_mean, float *running_var);

/* expect.c: allocates and fills reference and tolerance of every output of the case, from its inputs. -> false: out of memory. */
bool problem_expect(struct case_problem *p);

#endif
