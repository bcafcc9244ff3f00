/* Calls of norms whose weights run along the groups: layer and RMS norm, group norm of (n, c).
 *
 * A row goes through everything while it is in the cache: memory is read once. A task has a block of samples (a sample: as many rows as
 * there are until the weights repeat), or a band of the rows of each of them; the sums of dweight and dbias are kept a block, and
 * blocks are added up in order. Few long rows are split: pieces of rows are summed up, then pieces of columns are written. */
#ifndef CLNORM_SRC_CPU_RUN_ROWS_H
#define CLNORM_SRC_CPU_RUN_ROWS_H

#include "backend/op.h"
#include "cpu/run.h"

struct cln_rows_grid {
    uint64_t samples, cycle, length; /* cycle: rows of a sample */
    uint64_t blocks, block;          /* samples of a block; the last may have fewer, as with all that follow */
    uint64_t bands, band;            /* rows of a band */
    uint64_t tile;                   /* rows that go through everything together */
    int split;
    uint64_t pieces, piece;   /* split: elements of a row that are summed up by one task, */
    uint64_t columns, column; /* and that are written by one */
};

/* gathers: dweight or dbias is wanted. The cut depends on the shape alone. */
struct cln_rows_grid cln_rows_grid_make(const struct cln_view *view, int backward, int gathers);
size_t cln_rows_partials_bytes(const struct cln_view *view);
/* A line for people on a forward or backward call; returns its length. */
size_t cln_rows_explain(char *text, size_t bytes, const struct cln_cpu_plan *plan, const struct cln_op *op);
void cln_rows_run(struct cln_cpu_plan *plan, const struct cln_op *op);

#endif
