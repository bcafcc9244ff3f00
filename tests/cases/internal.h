/* What the files of this folder share. */
#ifndef CLNORM_TESTS_CASES_INTERNAL_H
#define CLNORM_TESTS_CASES_INTERNAL_H

#include "activation.h"
#include "cases.h"
#include "reference.h"
#include "types.h"

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
    INPUT_Z,
    INPUT_Y,  /* of a backward from y */
    INPUT_DX, /* before they are added to */
    INPUT_DWEIGHT,
    INPUT_DBIAS,
    INPUT_DZ,
    INPUT_V_DX,
    INPUT_V_DWEIGHT,
    INPUT_V_DBIAS,
    INPUTS
};

struct case_problem {
    struct clnorm_case c;
    struct reference_problem shape;
    int32_t *lengths; /* of the samples; NULL: c.lengths is CASE_NO_LENGTHS */
    size_t *valid;    /* what they count as */
    size_t elements, groups, weights;
    float *input[INPUTS]; /* NULL: the case has none. Tensors are values of their type */
    size_t count[CASE_OUTPUTS];
    double *reference[CASE_OUTPUTS], *tolerance[CASE_OUTPUTS]; /* of count values, of case_parts; NULL: not judged */
    double *alone[CASE_OUTPUTS]; /* what each value of a tensor may be off beside its part's tolerance; NULL: nothing */
    size_t poisoned;             /* the statistics group with the NaN or Inf, or NO_GROUP */
    struct case_problem *clean;  /* with a poisoned group: the same problem without; else NULL */
};

bool case_mode_has_dy(enum case_mode mode);
bool case_mode_is_double(enum case_mode mode);
/* The case's problem with n samples. */
struct reference_problem case_shape(const struct clnorm_case *c, int64_t n);
/* Batches that have statistics of their own: more than 1 with virtual ones. */
size_t case_batches(const struct clnorm_case *c);
/* Values of a statistics group; of no samples 0. */
size_t problem_group_size(const struct case_problem *p, size_t g);
/* Values of an input. */
size_t problem_input_count(const struct reference_problem *shape, enum case_input input);

clnorm_dtype problem_input_dtype(const struct clnorm_case *c, enum case_input input);
/* Does backward work out the value before the activation from x? */
bool case_works_out_again(const struct clnorm_case *c);

/* data.c: the tensors of elements floats each. dy and z may be NULL. */
void data_fill(const struct clnorm_case *c, const struct reference_problem *shape, float *x, float *dy, float *z);
void data_fill_lengths(const struct clnorm_case *c, const struct reference_problem *shape, int32_t *lengths);
/* What gradients are added to, and cotangents: N(0, 1); v_dx of CASE_DATA_DY_MEAN1E4: N(1e4, 1). */
void data_fill_old(const struct clnorm_case *c, enum case_input input, size_t count, float *values);
/* Puts the NaN or Inf of the kind of data into x or dy. -> its group, or NO_GROUP for the other kinds. */
size_t data_poison(const struct clnorm_case *c, const struct reference_problem *shape, float *x, float *dy);
/* weight, bias, running_mean, running_var: any may be NULL. mean and var are those of the batch, per channel, of m values a
 * statistics group. */
void data_fill_parameters(const struct clnorm_case *c, size_t m, const double *mean, const double *var, float *weight,
                          float *bias, float *running_mean, float *running_var);

/* wide.c: the inputs in double, the statistics that the case normalizes by, and the gradient that reaches the norm. */
struct wide {
    double *x; /* what is normalized: with a residual before the norm x + z, rounded */
    double *z; /* NULL: there is no residual after the norm */
    double *mean, *var, *rstd;
    double *weight, *bias; /* NULL: 1 and 0 */
    double *xhat_largest;  /* max|x̂| of each group */
    double *delta;         /* dy·act'(t); NULL: the case has no dy */
    double *delta_off;     /* how far off each may be; 0 without an activation */
    double *xhat_off;      /* how far off what a backward from y makes of x̂ may be; NULL for the others */
};
bool wide_make(const struct case_problem *p, struct wide *w); /* false: out of memory */
void wide_free(struct wide *w);
double wide_weight(const struct case_problem *p, const struct wide *w, size_t i); /* of element i */
double wide_bias(const struct case_problem *p, const struct wide *w, size_t i);
double wide_xhat(const struct case_problem *p, const struct wide *w, size_t i);
/* t = x̂·weight + bias (+ z): the value before the activation. */
double wide_value(const struct case_problem *p, const struct wide *w, size_t i);
/* The largest of two, of which a second one that is not finite does not count: such values are compared by their kind. */
void wide_grow(double *largest, double value);
/* What y may be off by, if the values before the activation are at most `largest` and off by `off`. */
double wide_activated_off(const struct clnorm_case *c, double off, double largest);

/* from_y.c: y of a case that is given it, unless there is one; x − mean from y in place of x, with mean 0, and dy'. -> false: out of
 * memory. */
bool problem_make_y(struct case_problem *p);
bool wide_from_y(const struct case_problem *p, struct wide *w);

/* expect.c: allocates and fills reference and tolerance of every output of the case, from its inputs. -> false: out of memory. */
bool problem_expect(struct case_problem *p);
/* double.c: fills those of the double backward. */
bool problem_expect_double(struct case_problem *p, const struct wide *w);

#endif
