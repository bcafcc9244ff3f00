/* What both ways of running rows share (src/cpu/run_rows.h). */
#ifndef CLNORM_SRC_CPU_ROWS_CALL_H
#define CLNORM_SRC_CPU_ROWS_CALL_H

#include "cpu/run_rows.h"
#include "cpu/statistic.h"

/* Sums of a row or of a weight, and the most columns that are written by one task. */
enum { CLN_ROWS_SUMS = 2, CLN_ROWS_COLUMN = 1024 };

struct cln_rows_call {
    struct cln_cpu_plan *plan;
    const struct cln_op *op;
    const struct cln_rows_kernels *kernels;
    struct cln_rows_grid grid;
    int backward, streaming;
    uint64_t sample, samples; /* split: those of the group that is being worked on */
};

/* `count` rows from `row` on. */
struct cln_rows cln_rows_at(const struct cln_rows_call *call, uint64_t row, uint64_t count);
/* Their statistics. */
void cln_rows_read(const struct cln_rows_call *call, const float *x, const struct cln_rows *rows, double *mean,
                   double *m2);
/* Where the statistics of `row` and those behind it are, for backward. */
struct cln_scalars cln_rows_source(const struct cln_op *op, uint64_t row);

/* Few long rows. */
void cln_rows_run_split(struct cln_rows_call *call);

#endif
