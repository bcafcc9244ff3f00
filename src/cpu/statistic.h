/* What is made of the sums of one statistics group, for the norms whose groups lie in one sample: src/cpu/run_rows.c and run_samples.c. */
#ifndef CLNORM_SRC_CPU_STATISTIC_H
#define CLNORM_SRC_CPU_STATISTIC_H

#include "backend/op.h"
#include "cpu/run.h"

#include <math.h>

/* What a group is normalized with: x̂ = ((x − m) − c)·rstd. */
struct cln_statistic {
    float m, c, rstd;
    float var; /* of cln_statistic_keep alone */
};

static inline float cln_rstd(float var, float eps)
{
    return (float)(1.0 / sqrt((double)var + eps));
}

/* What makes x − mean of a backward from y (src/cpu/stage.h): 0 where y says nothing of x. */
static inline float cln_undo(float weight, float rstd)
{
    return cln_is_zero(weight) ? 0.0f : (float)(1.0 / ((double)weight * rstd));
}

/* From the sums t of statistics group g (of no values: 0), written to STATE, MEAN, VAR and RSTD where they are bound. RMS norm: sums of mean 0. */
struct cln_statistic cln_statistic_keep(const struct cln_op *op, uint64_t g, const struct cln_moments *t);
/* From STATE, or from MEAN and RSTD; in a backward from y, which has x − mean, m and c are 0. */
struct cln_statistic cln_statistic_of(const struct cln_op *op, uint64_t g);

/* The scalars of dx = rstd·weight·dy + (q·((x − m) − c) + r), of Σg and Σ g·((x − m) − c) over the group's `count` values; g = weight·dy. */
struct cln_slope {
    float q, r;
};
struct cln_slope cln_statistic_slope(const struct cln_op *op, const struct cln_statistic *s, double count, double sum_g,
                                     double sum_gd);

/* The gradient of a weight: the sum, or, if the call is to add with `flag`, what is there and the sum. */
static inline float cln_statistic_total(const struct cln_op *op, uint32_t flag, float there, float sum)
{
    return op->accumulate & flag ? there + sum : sum;
}

/* How much of a batch enters the running statistics. */
float cln_statistic_share(const struct cln_op *op);
/* Blends a batch's mean and variance into the running ones of channel c. */
void cln_statistic_commit(struct cln_cpu_plan *plan, const struct cln_op *op, uint64_t c, double mean, double var);
/* The variance of `count` values as running statistics take it. */
double cln_statistic_running_var(const struct cln_op *op, double count, double var);

#endif
