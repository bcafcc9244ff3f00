/* Every run call of the contract as one row of a table: which buffers it takes, how large, which it writes, which it
 * needs. Tables of wrong arguments, of overlaps and of counted calls loop over these rows, so none is forgotten. */
#ifndef CLNORM_TESTS_SUITES_CALLS_H
#define CLNORM_TESTS_SUITES_CALLS_H

#include "support.h"

enum slot_size {
    SLOT_TENSOR,
    SLOT_CHANNEL, /* f32[c], exactly */
    SLOT_STATE,
    SLOT_STATISTICS,
    SLOT_SUMS,
    SLOT_GATHERED, /* CALL_PARTS times statistics */
    SLOT_WORKSPACE
};
enum { CALL_PARTS = 3, CALL_SLOTS = 16 };

struct slot {
    const char *name;
    size_t field; /* offset of the clnorm_buffer in the struct of arguments */
    enum slot_size size;
    bool written;
    clnorm_status missing; /* what leaving it out alone gives; CLNORM_OK where it may be left out */
};

union call_args {
    size_t size;
    clnorm_forward_args forward;
    clnorm_infer_args infer;
    clnorm_fold_args fold;
    clnorm_backward_args backward;
    clnorm_statistics_args statistics;
    clnorm_merge_args merge;
    clnorm_commit_args commit;
    clnorm_apply_args apply;
    clnorm_backward_reduce_args backward_reduce;
    clnorm_backward_apply_args backward_apply;
    clnorm_double_backward_args double_backward;
};

#define CALL_NO_FIELD SIZE_MAX

struct call {
    const char *name;
    clnorm_status (*run)(clnorm_plan *plan, const union call_args *args); /* args may be NULL */
    void (*initialise)(union call_args *args);
    size_t n, running, stream;     /* offsets; CALL_NO_FIELD where the call has none */
    const char *in_place[4];       /* up to two pairs of slots that may be the very same bytes */
    struct slot slots[CALL_SLOTS]; /* ended by a NULL name */
};

/* Ended by a NULL name. clnorm_backward has a row for each source of statistics. */
extern const struct call calls[];
int call_count(void);
/* A plan of the shape that has every call. */
clnorm_plan *plan_of_all_calls(clnorm_device *device, const struct shape *shape);
/* The row of that name. */
const struct call *call_named(const char *name);

clnorm_buffer *slot_buffer(union call_args *args, const struct slot *slot);
size_t slot_bytes(const struct slot *slot, const clnorm_plan *plan, const struct shape *shape);

/* ---- a call with all its buffers in one block -------------------------------------------------------------------- */

struct stage {
    const struct call *call;
    clnorm_device *device;
    clnorm_plan *plan;
    struct shape shape;
    clnorm_buffer_kind kind;                   /* of the buffers it makes */
    clnorm_memory *memory;                     /* the block, or NULL for CLNORM_BUFFER_HOST: */
    unsigned char *host;                       /* the block */
    unsigned char *before;                     /* what it held at stage_remember */
    size_t bytes;                              /* of the block */
    size_t at[CALL_SLOTS], length[CALL_SLOTS]; /* each slot's place in the block */
    union call_args args;                      /* all slots filled in; the call succeeds */
};

/* Lays out the call's buffers (all that it knows, workspace too) with gaps between them that hold any one of them. They hold
 * finite positive values. */
struct stage *stage_new(clnorm_device *device, clnorm_plan *plan, const struct shape *shape, const struct call *call,
                        clnorm_buffer_kind kind);
/* Bytes of the block as a buffer argument of the stage's kind. */
clnorm_buffer stage_part(const struct stage *stage, size_t offset, size_t bytes);
void stage_remember(struct stage *stage);
/* Records a failure where the block differs from what was remembered, and puts that back. */
bool stage_unchanged(struct stage *stage, const char *what);
/* The kinds of buffers that fit the device: two of them. */
void stage_kinds(const clnorm_device *device, clnorm_buffer_kind kinds[2]);

#endif
