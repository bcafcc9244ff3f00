/* What the files of this folder share. */
#ifndef CLNORM_TESTS_CASES_INTERNAL_H
#define CLNORM_TESTS_CASES_INTERNAL_H

#include "cases.h"
#include "reference.h"

#define NO_CHANNEL SIZE_MAX

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
    size_t elements, m;   /* m: values of a channel */
    float *input[INPUTS]; /* NULL: the case has none */
    size_t count[CASE_OUTPUTS];
    double *reference[CASE_OUTPUTS], *tolerance[CASE_OUTPUTS]; /* of count values, of c channels; NULL: not judged */
    size_t poisoned;                                           /* the channel with the NaN or Inf, or NO_CHANNEL */
    struct case_problem *clean; /* with a poisoned channel: the same problem without; else NULL */
};

bool case_mode_has_dy(enum case_mode mode);
size_t case_plan_elements(const struct clnorm_case *c);

/* data.c: the tensors of elements floats each. dy may be NULL. */
void data_fill(const struct clnorm_case *c, const struct reference_problem *shape, float *x, float *dy);
/* Puts the NaN or Inf of the kind of data into x or dy. -> its channel, or NO_CHANNEL for the other kinds. */
size_t data_poison(const struct clnorm_case *c, const struct reference_problem *shape, float *x, float *dy);
/* weight, bias, running_mean, running_var: any may be NULL. mean and var are those of the batch of m values a channel. */
void data_fill_parameters(const struct clnorm_case *c, size_t m, const double *mean, const double *var, float *weight,
                          float *bias, float *running_mean, float *running_var);

/* expect.c: allocates and fills reference and tolerance of every output of the case, from its inputs. -> false: out of memory. */
bool problem_expect(struct case_problem *p);

#endif
