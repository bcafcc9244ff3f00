/* A case on a device. */
#ifndef CLNORM_TESTS_CASES_RUN_H
#define CLNORM_TESTS_CASES_RUN_H

#include "internal.h"

/* The buffers of a case: its inputs in the order of enum case_input, then what the calls write. */
enum case_slot {
    SLOT_X,
    SLOT_DY,
    SLOT_WEIGHT,
    SLOT_BIAS,
    SLOT_RUNNING_MEAN,
    SLOT_RUNNING_VAR,
    SLOT_GIVEN_MEAN,
    SLOT_GIVEN_RSTD,
    SLOT_Y,
    SLOT_STATE,
    SLOT_MEAN,
    SLOT_VAR,
    SLOT_RSTD,
    SLOT_DX,
    SLOT_DWEIGHT,
    SLOT_DBIAS,
    SLOT_STATISTICS,
    SLOT_GATHERED,
    SLOT_SUMS,
    SLOTS
};

/* Memory of `before` guard floats, `floats` of content, and as many guards again. */
struct slot {
    clnorm_memory *memory; /* NULL: the case has no such buffer */
    size_t before, floats, total;
    size_t written; /* floats of the content that the calls write; the rest must stay as it was */
    bool
        some; /* of what may be written some may stay: statistics of no samples are a count alone, RMS norm's state is opaque */
    float *image; /* what was written to the device before the calls, all of it */
    float *back;  /* what was read back */
};

struct case_run {
    const struct case_problem *problem;
    clnorm_device *device;
    clnorm_plan *plan;
    struct slot slots[SLOTS];
    double *value[CASE_OUTPUTS]; /* of the problem's count, from case_collect */
};

/* Guards and outputs start as this NaN, which no arithmetic makes: where it is still there, nothing was written. */
#define CASE_FILL_BITS 0x7fe5a5a5u
bool case_is_fill(float value);

const char *case_slot_name(enum case_slot slot);
/* The slot in which y or dx lies: that of x or dy in place. */
enum case_slot case_slot_y(const struct clnorm_case *c);
enum case_slot case_slot_dx(const struct clnorm_case *c);

#endif
