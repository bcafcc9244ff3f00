/* Which buffers a call takes, as tables: presence, direction and size of each role. One checker reads them all. */
#ifndef CLNORM_SRC_API_ROLES_H
#define CLNORM_SRC_API_ROLES_H

#include "plan/plan.h"

enum cln_access { CLN_IN, CLN_OUT, CLN_INOUT };

enum cln_extent {
    CLN_TENSOR,     /* at least n·c·positions elements, of y's type for Y and DY, else of x's */
    CLN_CHANNEL,    /* exactly c floats */
    CLN_PER_WEIGHT, /* exactly a float a weight */
    CLN_PER_GROUP,  /* at least a float a statistics group; batch norm without virtual batches: exactly */
    CLN_PER_SAMPLE, /* at least an int32 a sample */
    CLN_MASK_SIZE,  /* at least a bit an element, in whole words */
    CLN_STATE_SIZE, /* at least clnorm_plan_state_bytes() */
    CLN_STATISTICS_SIZE,
    CLN_GATHERED_SIZE, /* at least parts times that of statistics */
    CLN_SUMS_SIZE,
    CLN_WORKSPACE_SIZE
};

struct cln_argument {
    enum cln_role role;
    enum cln_access access;
    enum cln_extent extent;
    int required;
    const clnorm_buffer *buffer;
};

/* Roles that may be the very same bytes. */
struct cln_alias {
    enum cln_role out, in;
};

/* Resolves the arguments into op->role and checks presence, kind, device, alignment, size and overlap. op->view, op->samples, op->elements,
 * op->groups and op->parts are set. `who` is the call's name. */
clnorm_status cln_bind(const clnorm_plan *plan, const char *who, const struct cln_argument *arguments, size_t count,
                       const struct cln_alias *aliases, size_t alias_count, struct cln_op *op);

const char *cln_role_name(enum cln_role role);

#endif
