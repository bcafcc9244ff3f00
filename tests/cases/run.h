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
    SLOT_Z,
    SLOT_GIVEN_Y,
    SLOT_DX,
    SLOT_DWEIGHT,
    SLOT_DBIAS,
    SLOT_DZ,
    SLOT_V_DX,
    SLOT_V_DWEIGHT,
    SLOT_V_DBIAS,
    SLOT_Y,
    SLOT_STATE,
    SLOT_MEAN,
    SLOT_VAR,
    SLOT_RSTD,
    SLOT_SUM,
    SLOT_STATISTICS,
    SLOT_GATHERED,
    SLOT_SUMS,
    SLOT_G_X,
    SLOT_G_DY,
    SLOT_G_WEIGHT,
    SLOT_LENGTHS,
    SLOT_MASK,
    SLOTS
};

/* Memory of `before` guard elements, `count` of content, and as many guards again. */
struct slot {
    clnorm_memory *memory; /* NULL: the case has no such buffer */
    clnorm_dtype dtype;
    size_t before, count, total;
    size_t written; /* elements of the content that the calls write; the rest must stay as it was */
    bool
        some; /* of what may be written some may stay: statistics of no samples are a count alone, RMS norm's state is opaque */
    unsigned char *image; /* what was written to the device before the calls, all of it */
    unsigned char *back;  /* what was read back */
};

struct case_run {
    const struct case_problem *problem;
    clnorm_device *device;
    clnorm_plan *plan;
    struct slot slots[SLOTS];
    double *value[CASE_OUTPUTS]; /* of the problem's count, from case_collect */
};

/* slots.c. Guards and outputs start as a NaN that no arithmetic makes: where it is still there, nothing was written. */
clnorm_status slots_make(struct case_run *run);
clnorm_buffer slot_buffer(const struct case_run *run, enum case_slot i);
size_t slot_bytes(const struct slot *slot, size_t elements);
/* Element k of the image or of what was read back. */
double slot_get(const struct slot *slot, const unsigned char *from, size_t k);
void slot_put(const struct slot *slot, unsigned char *to, size_t k, double value);
void slot_put_fill(const struct slot *slot, unsigned char *to, size_t k);
bool slot_is_fill(const struct slot *slot, const unsigned char *from, size_t k);
bool slot_is_unchanged(const struct slot *slot, size_t k);

const char *case_slot_name(enum case_slot slot);
/* The slot in which y, dx or sum lies: that of x or dy in place, that of x or z where sum is written over it. */
enum case_slot case_slot_y(const struct clnorm_case *c);
enum case_slot case_slot_dx(const struct clnorm_case *c);
enum case_slot case_slot_sum(const struct clnorm_case *c);

#endif
