/* What both ways of running a norm within samples share: a call, and patches of a sample (src/cpu/run_samples.h). */
#ifndef CLNORM_SRC_CPU_SAMPLES_PATCH_H
#define CLNORM_SRC_CPU_SAMPLES_PATCH_H

#include "cpu/run_samples.h"
#include "cpu/stage.h"
#include "cpu/statistic.h"

struct cln_samples_call {
    struct cln_cpu_plan *plan;
    const struct cln_op *op;
    const struct cln_family_kernels *kernels;
    struct cln_samples_grid grid;
    struct cln_stage stage;
    int backward;
};

/* Sums of a channel: Σdy·x̂ and Σdy, or of the samples' means and variances. */
enum { CLN_SAMPLES_SUMS = 2 };

/* Neighbouring channels of a sample at some positions. */
struct cln_patch {
    uint64_t sample, channel, count; /* count ≤ CLN_BAND */
    uint64_t first, positions;
};

uint64_t cln_patch_offset(const struct cln_samples_call *call, const struct cln_patch *p);
struct cln_band cln_patch_band(const struct cln_samples_call *call, const struct cln_patch *p);

struct cln_patch_scalars {
    float m[CLN_BAND], c[CLN_BAND], a[CLN_BAND], q[CLN_BAND], b[CLN_BAND], bias[CLN_BAND], undo[CLN_BAND];
};

/* Of a statistics group, which its channels share. */
struct cln_group_scalars {
    float m, c, rstd, q, r;
};

static inline struct cln_group_scalars cln_group_scalars_of(const struct cln_statistic *s)
{
    return (struct cln_group_scalars){s->m, s->c, s->rstd, 0.0f, 0.0f};
}

/* of: the scalars of the patch's groups, from group `first` of the sample on. */
struct cln_scalars cln_patch_fold(const struct cln_samples_call *call, const struct cln_patch *p,
                                  const struct cln_group_scalars *of, uint64_t first, struct cln_patch_scalars *t);
/* The output at a patch. */
void cln_patch_write(const struct cln_samples_call *call, const struct cln_patch *p, const struct cln_scalars *k);

/* Both sums of a channel, to where they are wanted. */
void cln_samples_put(const struct cln_samples_call *call, uint64_t channel, double first, double second);

/* Few large statistics groups. sums, writes: whether sums of channels are wanted, and the output. */
void cln_samples_run_split(struct cln_samples_call *call, int sums, int writes);

#endif
