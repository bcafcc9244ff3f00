/* The one table of named cases that feeds the tests, `clnorm parity` and `clnorm bench`, and what it takes to run a case on a
 * device and to judge its outputs.
 *
 *     for (size_t i = 0; i < cases_count(CASE_SHORT); i++) {
 *         struct case_problem *problem = case_prepare(cases_get(CASE_SHORT, i));    inputs and fp64 reference, once
 *         struct case_result result;
 *         case_execute(problem, device, NULL, NULL, NULL, &result);                 plan, run, read back, judge
 *         ck_assert_msg(result.pass, "%s", result.message);
 *         case_problem_free(problem);
 *     }
 *
 * A name decodes: [types_][before_][norm_][after_][activation_]layout_mode[_affine]_shape_data[_option…]; what is not named is the
 * default of CLNORM_CASE_INIT. Types are x's and y's, once if they are the same; before, norm, after and activation are in the order in
 * which they are computed. */
#ifndef CLNORM_TESTS_CASES_H
#define CLNORM_TESTS_CASES_H

#include <clnorm/clnorm.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum case_suite { CASE_SHORT, CASE_FULL }; /* the short suite is a part of the full one */

enum case_mode {                /* which of them a norm has: case_norm_has */
                 CASE_TRAIN,    /* clnorm_forward */
                 CASE_INFER,    /* clnorm_infer */
                 CASE_BACKWARD, /* clnorm_forward, then clnorm_backward from its state */
                 CASE_FROZEN,   /* clnorm_backward from running statistics */
                 CASE_GIVEN,    /* clnorm_backward from a given mean and rstd */
                 CASE_STEPS_FORWARD, /* clnorm_statistics of `parts` parts of the batch, clnorm_merge, clnorm_apply, clnorm_commit */
                 CASE_STEPS_BACKWARD, /* the former's state, clnorm_backward_reduce of `parts` parts, sums added, clnorm_backward_apply */
                 CASE_DOUBLE, /* clnorm_forward, then clnorm_double_backward from its state; batch and layer norm alone, as below */
                 CASE_DOUBLE_FROZEN, /* … from running statistics: batch norm alone */
                 CASE_DOUBLE_GIVEN,  /* … from a given mean and rstd */
                 CASE_MODES
};

enum case_affine { CASE_AFFINE_BOTH, CASE_AFFINE_NO_BIAS, CASE_AFFINE_NO_WEIGHT, CASE_AFFINE_NONE, CASE_AFFINES };

/* Where `sum` of CLNORM_RESIDUAL_BEFORE is written. */
enum case_sum_place { CASE_SUM_APART, CASE_SUM_OVER_X, CASE_SUM_OVER_Z, CASE_SUM_PLACES };

/* Lengths of the samples, of desc.lengths. What x, dy and z have beyond them is NaN. */
enum case_lengths {
    CASE_NO_LENGTHS,
    CASE_LENGTHS_RAGGED,  /* from 0 to all positions; of three samples or more one has all, and one none */
    CASE_LENGTHS_WHOLE,   /* all positions */
    CASE_LENGTHS_EMPTY,   /* 0 */
    CASE_LENGTHS_OUTSIDE, /* as ragged, but one in three is below 0 and one above all positions */
    CASE_LENGTHS_KINDS
};

/* What x is; dy and z are N(0, 1) unless said. In 16 bits all tensors are these values rounded; what would leave the range of f16 is scaled
 * by a power of two. */
enum case_data {
    CASE_DATA_NORMAL,
    CASE_DATA_MEAN1E2, /* mean 1e2, standard deviation 1; likewise below */
    CASE_DATA_MEAN1E4,
    CASE_DATA_MEAN1E6,
    CASE_DATA_MEAN1E4_STD1E_2,
    CASE_DATA_MEAN1E6_STD1E_2,
    CASE_DATA_STEPS_AT_40000,   /* 40000 + {0, 1, 2, 3} */
    CASE_DATA_OUTLIER1E4_FIRST, /* N(0, 1) with one value of 1e4 a channel */
    CASE_DATA_OUTLIER1E4_MIDDLE,
    CASE_DATA_OUTLIER1E4_LAST,
    CASE_DATA_OUTLIER1E8_FIRST,
    CASE_DATA_OUTLIER1E8_MIDDLE,
    CASE_DATA_OUTLIER1E8_LAST,
    CASE_DATA_ALTERNATING1E4,    /* ±1e4 in turn */
    CASE_DATA_SKEWED,            /* exp(2·N(0, 1)) */
    CASE_DATA_SPARSE,            /* one value in 64 is not 0 */
    CASE_DATA_TINY,              /* 1e-20·N(0, 1) */
    CASE_DATA_HUGE,              /* uniform in ±1e17; z after the norm is 1e5·N(0, 1), more than f16 has */
    CASE_DATA_CONSTANT_1234_567, /* y is bias, var is 0, exactly; z before the norm is 0.5 */
    CASE_DATA_CONSTANT_0_1,
    CASE_DATA_CONSTANT_1E6,
    CASE_DATA_EXACT_INTEGERS, /* every partial sum is a float: mean is the correctly rounded mean */
    CASE_DATA_DY_MEAN1E4,     /* x is N(0, 1), dy is N(1e4, 1) */
    CASE_DATA_NAN_FIRST,      /* N(0, 1) with one NaN, in the first value of channel 0 */
    CASE_DATA_NAN_LAST,       /* … in the last value of the last channel */
    CASE_DATA_INF_MIDDLE,     /* … +Inf in the middle of the middle channel */
    CASE_DATA_NAN_DY,         /* x is N(0, 1), dy has one NaN in the middle channel */
    CASE_DATA_KINDS
};

enum case_output { /* what is judged; each has one value a tensor element, statistics group, weight or channel */
                   CASE_Y,
                   CASE_MEAN,
                   CASE_VAR,
                   CASE_RSTD,
                   CASE_RUNNING_MEAN,
                   CASE_RUNNING_VAR,
                   CASE_DX,
                   CASE_DWEIGHT,
                   CASE_DBIAS,
                   CASE_STATISTICS_COUNT, /* high + low */
                   CASE_STATISTICS_MEAN,  /* m + c, unrounded */
                   CASE_STATISTICS_VAR,
                   CASE_SUMS_COUNT, /* high + low */
                   CASE_SUMS_DY,
                   CASE_SUMS_DY_XHAT,
                   CASE_SUM, /* x + z of CLNORM_RESIDUAL_BEFORE */
                   CASE_DZ,
                   CASE_G_X,
                   CASE_G_DY,
                   CASE_G_WEIGHT,
                   CASE_OUTPUTS
};
#define CASE_BIT(output) (1u << (output))

/* The activation's gradient: of the value before it, worked out again; or by the sign of forward's y; or by forward's mask. */
enum case_by { CASE_BY_INPUTS, CASE_BY_Y, CASE_BY_MASK, CASE_BYS };

struct clnorm_case {
    char name[128];
    clnorm_norm norm;
    int64_t groups;          /* CLNORM_GROUP, else 0 */
    int32_t normalized_dims; /* CLNORM_LAYER, CLNORM_RMS, else 0 */
    clnorm_layout layout;
    int64_t n, plan_n; /* samples of the call, and of the plan (≥ n) */
    int64_t c;
    int32_t spatial_dims;
    int64_t spatial[CLNORM_MAX_SPATIAL];
    enum case_mode mode;
    enum case_affine affine;
    bool in_place; /* y over x, or dx over dy */
    /* CASE_BIT of the outputs that are left out (of y … dbias, dz, g_…); of the double backward dx, dweight and dbias stand for v_… */
    unsigned omit;
    uint32_t parts; /* of the steps: how many parts the batch is cut into, ≥ 1 */
    size_t offset;  /* elements by which every buffer is shifted in its memory */
    float eps;
    clnorm_running running;
    enum case_data data;
    uint64_t seed;
    clnorm_dtype dtype, y_dtype;
    clnorm_activation activation;
    float slope;
    clnorm_residual residual;
    enum case_sum_place sum;
    enum case_by by;     /* what backward takes for the activation's gradient; forward writes the mask */
    bool from_y;         /* … takes y in place of x; y is the reference's, rounded to its type */
    float bias_ratio;    /* |bias/weight| where the weight is not 0; 0: of N(0, 1) and of 0.5 to 1.5 */
    uint32_t accumulate; /* CLNORM_ADD_… */
    int64_t virtual_batch;
    enum case_lengths lengths;
    bool in_short;
};
#define CLNORM_CASE_INIT                                                                                               \
    {                                                                                                                  \
        "", CLNORM_BATCH, 0, 0, CLNORM_NC, 0, 0, 1, 0, {0, 0, 0}, CASE_TRAIN, CASE_AFFINE_BOTH, false, 0, 1, 0, 1e-5f, \
            CLNORM_RUNNING_INIT, CASE_DATA_NORMAL, 1, CLNORM_F32, CLNORM_F32, CLNORM_NO_ACTIVATION, 0.01f,             \
            CLNORM_NO_RESIDUAL, CASE_SUM_APART, CASE_BY_INPUTS, false, 0, 0, 0, CASE_NO_LENGTHS, false                 \
    }

/* ---- the table ------------------------------------------------------------------------------------------------- */

size_t cases_count(enum case_suite suite);
const struct clnorm_case *cases_get(enum case_suite suite,
                                    size_t i); /* i < cases_count(suite); lives as long as the program */
/* Writes the name that the fields decode to. For cases built elsewhere, from a file of shapes say. */
void case_set_name(struct clnorm_case *c);

const char *case_norm_name(clnorm_norm norm); /* "batch", "layer", "group", "instance", "rms" */
bool case_norm_has(clnorm_norm norm, enum case_mode mode);
const char *case_dtype_name(clnorm_dtype dtype);                /* "f32", "f16", "bf16" */
const char *case_activation_name(clnorm_activation activation); /* "none", "relu", "leaky", "gelu", "silu" */
const char *case_residual_name(clnorm_residual residual);       /* "none", "after", "before" */
const char *case_mode_name(enum case_mode mode);
const char *case_lengths_name(enum case_lengths lengths); /* "none", "ragged", "whole", "empty", "outside" */
const char *case_data_name(enum case_data data);
const char *case_output_name(enum case_output output); /* "y", "running_mean", "statistics_count", … */
bool case_output_parse(const char *name, enum case_output *output);
/* Is this output one of the case's mode, and not left out? */
bool case_has(const struct clnorm_case *c, enum case_output output);
clnorm_dtype case_output_dtype(const struct clnorm_case *c, enum case_output output);
size_t case_elements(const struct clnorm_case *c); /* n·c·spatial… */
size_t case_weights(const struct clnorm_case *c);  /* values of weight, bias, dweight and dbias */

/* ---- inputs and reference -------------------------------------------------------------------------------------- */

/* Host inputs of a case, the fp64 reference of every output and its tolerance. Made once, used for every device. */
struct case_problem;
struct case_problem *case_prepare(const struct clnorm_case *c); /* NULL: out of memory */
/* The same with given inputs instead of those that c->data names: tensors of case_elements(c), weight and bias of
 * case_weights(c), running statistics of c->c, mean and rstd of one a statistics group, all finite; tensors are rounded to their type
 * here. What the case does not read may be NULL. From malloc; taken over, whatever comes back. NULL: out of memory, or one is missing. */
struct case_inputs {
    float *x, *dy, *weight, *bias, *running_mean, *running_var, *mean, *rstd;
    float *z, *dx, *dweight, *dbias, *dz; /* the gradients: what is there before they are added to */
    float *v_dx, *v_dweight, *v_dbias;
    float *y;         /* of c->from_y; NULL: what forward makes of x */
    int32_t *lengths; /* one a sample */
};
struct case_problem *case_prepare_given(const struct clnorm_case *c, const struct case_inputs *inputs);
void case_problem_free(struct case_problem *problem);
const struct clnorm_case *case_problem_case(const struct case_problem *problem);
/* Values of an output (0: the case does not have it), their reference, and the tolerance of each of its parts. */
size_t case_output_count(const struct case_problem *problem, enum case_output output);
const double *case_reference(const struct case_problem *problem, enum case_output output);
const double *case_tolerance(const struct case_problem *problem, enum case_output output);
/* The tolerance of value i: that of its part, and what this value alone may be off by. It is that of the value before it is rounded
 * to 16 bits, which is judged apart. */
double case_allowed(const struct case_problem *problem, enum case_output output, size_t i);
/* An output's parts are what has one tolerance: statistics groups for tensors, mean, var, rstd and sums (batch norm: channels), weights
 * for dweight and dbias, channels for running statistics. How many there are, the part of value i, and the word for one. */
size_t case_parts(const struct case_problem *problem, enum case_output output);
size_t case_part(const struct case_problem *problem, enum case_output output, size_t i);
const char *case_part_name(const struct clnorm_case *c, enum case_output output);
/* What clnorm_double_backward may be off by, for who has other problems than cases: g_x and g_dy of each statistics group, g_weight of
 * each weight; NULL: not asked for. */
struct reference_problem;
struct reference_double;
void case_double_bounds(const struct reference_problem *shape, const struct reference_double *in, bool frozen,
                        double *g_x, double *g_dy, double *g_weight);

/* ---- run ------------------------------------------------------------------------------------------------------- */

/* A case on a device: its plan and its buffers, in library memory, each between guards. */
struct case_run;
/* Makes plan and buffers and writes the inputs. *run is set on success only. */
clnorm_status case_bind(const struct case_problem *problem, clnorm_device *device, struct case_run **run);
void case_run_free(struct case_run *run);
clnorm_plan *case_plan(struct case_run *run);
/* Writes the inputs again and fills the outputs with a NaN of its own, so that a second run starts like the first. */
clnorm_status case_reset(struct case_run *run);
/* For CASE_BACKWARD and CASE_STEPS_BACKWARD: the forward that makes the state. Nothing for the others. Once after each bind or reset. */
clnorm_status case_enqueue_before(struct case_run *run, const void *stream);
/* The call that the mode names, asynchronous as the library's calls are (but the sums of several parts are added on the
 * host). May be called again and again: for timing. stream as in clnorm.h. */
clnorm_status case_enqueue(struct case_run *run, const void *stream);
/* Waits for the device's own queue and reads the outputs, the inputs and the guards back. */
clnorm_status case_collect(struct case_run *run);

/* ---- judge ----------------------------------------------------------------------------------------------------- */

#define CASE_STRIP 24 /* cells of the strip that shows which parts are off */

struct case_error {
    bool present, pass;
    double
        worst; /* largest error / tolerance (0 where both are 0; INFINITY for a NaN or a value off where it must be exact) */
    double ulp;                  /* largest error in units in the last place of the output's type, over all values */
    size_t index, part, parts;   /* where `worst` sits, and of how many parts */
    size_t finite;               /* values whose reference is finite */
    double got, want, tolerance; /* at `worst` */
    double cpu_worst; /* against the CPU path: largest difference / sum of both tolerances; 0 if it was not asked for */
    float strip[CASE_STRIP]; /* largest error / tolerance by part; cell = part·CASE_STRIP/parts */
};

struct case_result {
    bool pass;
    clnorm_status status; /* of the library's calls */
    double ms;            /* wall time of the calls with their wait, without the copies */
    char message[512];    /* the first failure as a sentence; "" if there is none */
    struct case_error outputs[CASE_OUTPUTS];
};

/* Spoils one value of one output between run and comparison, to prove that the comparison sees it. */
struct case_injection {
    enum case_output output;
    bool nan; /* NaN; else away from the reference by twice its tolerance (the next float where that is 0) */
};

/* Judges what case_collect read: every output against the reference, guards and inputs for being unchanged. injection and cpu (a
 * collected run of the same problem on "cpu") may be NULL. */
void case_judge(const struct case_run *run, const struct case_injection *injection, const struct case_run *cpu,
                struct case_result *result);
/* All of it: bind, run, collect, judge; for data with a NaN or Inf also the clean twin, which must have the same bits
 * in all that the NaN or Inf does not touch. *keep, if not NULL, receives the run (for `cpu` of later calls), else it is freed. Returns result->pass. */
bool case_execute(const struct case_problem *problem, clnorm_device *device, const struct case_injection *injection,
                  const struct case_run *cpu, struct case_run **keep, struct case_result *result);

#endif
