/* Calls of norms whose groups are channels of a sample, or neighbouring ones together: instance and group norm.
 *
 * A tile, whole statistics groups of a sample, goes through everything while it is in a cache: memory is read once. A task has a band
 * of the statistics groups of a block of samples; the sums of dweight and dbias (and of what instance norm commits) are kept a
 * block, and blocks are added up in order. Few large statistics groups are split: parts of channels are summed up, then written. */
#ifndef CLNORM_SRC_CPU_RUN_SAMPLES_H
#define CLNORM_SRC_CPU_RUN_SAMPLES_H

#include "backend/op.h"
#include "cpu/run.h"

struct cln_samples_grid {
    enum cln_family family;
    uint64_t samples, channels, positions, merged;
    uint64_t groups;        /* statistics groups of a sample */
    uint64_t blocks, block; /* samples of a block; the last may have fewer, as with all that follow */
    uint64_t bands, band;   /* statistics groups of a band */
    uint64_t tile;          /* statistics groups that go through everything together */
    int split;
    uint64_t strips, strip; /* split: channels that are read by one task, */
    uint64_t parts, part;   /* at so many positions */
};

struct cln_samples_grid cln_samples_grid_make(const struct cln_view *view, int backward);
size_t cln_samples_partials_bytes(const struct cln_view *view);
/* A line for people on a forward or backward call; returns its length. */
size_t cln_samples_explain(char *text, size_t bytes, const struct cln_cpu_plan *plan, const struct cln_op *op);
void cln_samples_run(struct cln_cpu_plan *plan, const struct cln_op *op);

#endif
