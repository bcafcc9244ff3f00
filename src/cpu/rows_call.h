/* What both ways of running rows share (src/cpu/run_rows.h). */
#ifndef CLNORM_SRC_CPU_ROWS_CALL_H
#define CLNORM_SRC_CPU_ROWS_CALL_H

#include "cpu/run_rows.h"
#include "cpu/stage.h"
#include "cpu/statistic.h"

/* Sums of a row or of a weight, and the most columns that are written by one task. */
enum { CLN_ROWS_SUMS = 2, CLN_ROWS_COLUMN = 1024 };

struct cln_rows_call {
    struct cln_cpu_plan *plan;
    const struct cln_op *op;
    const struct cln_rows_kernels *kernels;
    struct cln_rows_grid grid;
    struct cln_stage stage;
    struct cln_stage
        before; /* CLNORM_RESIDUAL_BEFORE: of x and z as they come; everything else has their sum as its x */
    int backward;
    uint64_t sample, samples; /* split: those of the group that is being worked on */
};

/* `count` rows from `row` on. */
struct cln_rows cln_rows_at(const struct cln_rows_call *call, uint64_t row, uint64_t count);
/* Where the statistics of `row` and those behind it are, for backward. */
struct cln_scalars cln_rows_source(const struct cln_op *op, uint64_t row);

/* The sum of weight `w`, into DWEIGHT or DBIAS. */
static inline void cln_rows_put(const struct cln_op *op, enum cln_role role, uint64_t w, double sum)
{
    uint32_t flag = role == CLN_DWEIGHT ? CLNORM_ADD_DWEIGHT : CLNORM_ADD_DBIAS;
    float *total = (float *)op->role[role].handle + w;
    *total = cln_statistic_total(op, flag, *total, (float)sum);
}

/* Few long rows. */
void cln_rows_run_split(struct cln_rows_call *call);

#endif
