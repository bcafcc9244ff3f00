/* A checked call in the form that backends run: roles bound to resolved memory, and the list of steps. */
#ifndef CLNORM_SRC_BACKEND_OP_H
#define CLNORM_SRC_BACKEND_OP_H

#include "base/mask.h"
#include "view/view.h"

#include <float.h>
#include <math.h>

/* What a buffer is in a call. ROLE(NAME, text): text is the argument's name in the public structs. */
#define CLN_ROLE_LIST(ROLE)                                                                                            \
    ROLE(X, "x")                                                                                                       \
    ROLE(Y, "y")                                                                                                       \
    ROLE(DY, "dy")                                                                                                     \
    ROLE(DX, "dx")                                                                                                     \
    ROLE(WEIGHT, "weight")                                                                                             \
    ROLE(BIAS, "bias")                                                                                                 \
    ROLE(STATE, "state")                                                                                               \
    ROLE(MEAN, "mean")                                                                                                 \
    ROLE(VAR, "var")                                                                                                   \
    ROLE(RSTD, "rstd")                                                                                                 \
    ROLE(RUNNING_MEAN, "running_mean")                                                                                 \
    ROLE(RUNNING_VAR, "running_var")                                                                                   \
    ROLE(STATISTICS, "statistics")                                                                                     \
    ROLE(GATHERED, "gathered")                                                                                         \
    ROLE(SUMS, "sums")                                                                                                 \
    ROLE(DWEIGHT, "dweight")                                                                                           \
    ROLE(DBIAS, "dbias")                                                                                               \
    ROLE(LAYER_WEIGHT, "layer_weight")                                                                                 \
    ROLE(LAYER_BIAS, "layer_bias")                                                                                     \
    ROLE(LAYER_WEIGHT_OUT, "layer_weight_out")                                                                         \
    ROLE(LAYER_BIAS_OUT, "layer_bias_out")                                                                             \
    ROLE(Z, "z")                                                                                                       \
    ROLE(SUM, "sum")                                                                                                   \
    ROLE(DZ, "dz")                                                                                                     \
    ROLE(V_DX, "v_dx")                                                                                                 \
    ROLE(V_DWEIGHT, "v_dweight")                                                                                       \
    ROLE(V_DBIAS, "v_dbias")                                                                                           \
    ROLE(G_X, "g_x")                                                                                                   \
    ROLE(G_DY, "g_dy")                                                                                                 \
    ROLE(G_WEIGHT, "g_weight")                                                                                         \
    ROLE(LENGTHS, "lengths")                                                                                           \
    ROLE(MASK, "mask")                                                                                                 \
    ROLE(WORKSPACE, "workspace")                                                                                       \
    ROLE(PARTIALS, "partials")

enum cln_role {
#define CLN_ROLE_ENUM(name, text) CLN_##name,
    CLN_ROLE_LIST(CLN_ROLE_ENUM)
#undef CLN_ROLE_ENUM
        CLN_ROLE_COUNT
};

/* Resolved memory. Two spans overlap if their roots are equal and their byte ranges [begin, begin + bytes) meet. */
struct cln_span {
    void *handle;  /* host: the address of the first byte; OpenCL: the cl_mem; NULL: the role is not bound */
    size_t offset; /* OpenCL: bytes from the start of the cl_mem; host: 0 */
    size_t bytes;
    const void *root; /* what begin counts from: NULL for host memory, the parent cl_mem for OpenCL */
    uint64_t begin;
};

/* Where the statistics that a normalization uses come from. */
enum cln_source {
    CLN_FROM_STATE,  /* STATE: m, c, rstd */
    CLN_FROM_GIVEN,  /* MEAN (not bound for RMS norm: 0), RSTD */
    CLN_FROM_RUNNING /* RUNNING_MEAN, RUNNING_VAR, one a channel; constants for backward */
};

/* One pass over memory. */
enum cln_step {
    CLN_STEP_STATISTICS,    /* X → PARTIALS; RESIDUAL_BEFORE: X, Z → SUM, PARTIALS, and APPLY has SUM as its X */
    CLN_STEP_FINISH,        /* PARTIALS → STATISTICS, STATE, MEAN, VAR, RSTD */
    CLN_STEP_MERGE,         /* GATHERED → STATISTICS */
    CLN_STEP_FINALIZE,      /* STATISTICS → STATE, MEAN, VAR, RSTD */
    CLN_STEP_APPLY,         /* X, source, WEIGHT, BIAS → Y */
    CLN_STEP_MASK,          /* Y → MASK, of all samples of the call: a part of its own */
    CLN_STEP_COMMIT,        /* STATISTICS → RUNNING_MEAN, RUNNING_VAR */
    CLN_STEP_COPY_RUNNING,  /* RUNNING_MEAN, RUNNING_VAR → MEAN, VAR */
    CLN_STEP_REDUCE,        /* X, DY, source → PARTIALS */
    CLN_STEP_REDUCE_FINISH, /* PARTIALS, source, WEIGHT → SUMS; batch norm: DWEIGHT, DBIAS */
    CLN_STEP_WEIGHTS,       /* rows: X, DY, source → PARTIALS of each weight */
    CLN_STEP_WEIGHTS_FINISH, /* PARTIALS of WEIGHTS, or of REDUCE where weights do not run along the groups → DWEIGHT, DBIAS */
    CLN_STEP_BACKWARD_APPLY,  /* X, DY, source, WEIGHT, SUMS → DX, DZ */
    CLN_STEP_FOLD,            /* LAYER_BIAS, source, WEIGHT, BIAS → LAYER_BIAS_OUT; one value a channel */
    CLN_STEP_ZERO_STATISTICS, /* → STATISTICS = 0 */
    CLN_STEP_ZERO_SUMS,       /* → SUMS, DWEIGHT, DBIAS, G_WEIGHT = 0 */
    CLN_STEP_DOUBLE_REDUCE,   /* X, DY, V_DX, source → PARTIALS; rows: WEIGHT, V_DWEIGHT too */
    CLN_STEP_DOUBLE_FINISH, /* PARTIALS, source, WEIGHT, V_DWEIGHT → PARTIALS: what APPLY needs of each group; batch norm: G_WEIGHT */
    CLN_STEP_DOUBLE_WEIGHTS, /* rows: X, DY, V_DX, source, PARTIALS → G_WEIGHT */
    CLN_STEP_DOUBLE_APPLY    /* X, DY, V_DX, source, WEIGHT, V_DWEIGHT, V_DBIAS, PARTIALS → G_X, G_DY */
};

#define CLN_MAX_STEPS 5

/* What a backend runs at once: a call, or one after the other the parts of a call with virtual batches. */
struct cln_op {
    enum cln_step steps[CLN_MAX_STEPS];
    int step_count; /* 0: nothing to do, but a stream's event still completes */
    struct cln_span role[CLN_ROLE_COUNT];
    struct cln_view view;               /* of this call's n, or of the part's samples */
    uint64_t samples, elements, groups; /* of the whole call: its n, those of a tensor, and its statistics groups */
    uint64_t first;                     /* the element of the whole call's tensors that this part's begin at */
    /* Another part of the same call: the first part alone takes the stream's wait list, the last alone its event. */
    int follows, precedes;
    clnorm_dtype x_dtype, y_dtype; /* of X, DX, Z, DZ, SUM; of Y, DY */
    /* Backward: X is bound to Y, and what is made of it is x − mean = (act⁻¹(y) − Z − BIAS)/(WEIGHT·rstd); 0 where cln_is_zero says so. */
    int from_y;
    clnorm_activation
        activation; /* backward: its gradient by MASK if that is bound, by the sign of Y if that is, else worked out again from X, BIAS, Z */
    clnorm_residual residual;
    float slope;
    uint32_t accumulate; /* CLNORM_ADD_… */
    float eps;
    enum cln_source source;
    uint32_t parts;         /* CLN_STEP_MERGE */
    clnorm_running running; /* CLN_STEP_COMMIT */
    const void *stream;
};

static inline size_t cln_dtype_bytes(clnorm_dtype dtype)
{
    return dtype == CLNORM_F32 ? 4 : 2;
}

/* Of an element of the role. */
static inline size_t cln_role_bytes(const struct cln_op *op, enum cln_role role)
{
    switch (role) {
    case CLN_X:
        return cln_dtype_bytes(op->from_y ? op->y_dtype : op->x_dtype);
    case CLN_DX:
    case CLN_Z:
    case CLN_SUM:
    case CLN_DZ:
        return cln_dtype_bytes(op->x_dtype);
    case CLN_Y:
    case CLN_DY:
        return cln_dtype_bytes(op->y_dtype);
    default:
        return sizeof(float);
    }
}

/* Whether a weight counts as 0 in a backward from y: as all devices see it, whether they have denormal numbers or not. */
static inline int cln_is_zero(float weight)
{
    return fabsf(weight) < FLT_MIN;
}

static inline int cln_bound(const struct cln_op *op, enum cln_role role)
{
    return op->role[role].handle != NULL;
}

/* Planes of the small arrays, f32[planes][statistics groups of the call]. SUMS are those that dx needs: of batch norm over dy, of the
 * other norms over weight·dy. */
enum { CLN_STATE_PLANES = 3, CLN_STATISTICS_PLANES = 5, CLN_SUMS_PLANES = 4 };

#endif
