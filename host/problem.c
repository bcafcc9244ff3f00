#include "problem.h"

cl_ulong cln_element_offset(const struct cln_op *op, enum cln_role role)
{
    return op->role[role].offset / cln_role_bytes(op, role);
}

cl_uint cln_flag_if(const struct cln_op *op, enum cln_role role, enum cln_flag flag)
{
    return cln_bound(op, role) ? (cl_uint)flag : 0;
}

cl_uint cln_forward_outputs(const struct cln_op *op)
{
    return cln_flag_if(op, CLN_STATE, CLN_WRITE_STATE) | cln_flag_if(op, CLN_MEAN, CLN_WRITE_MEAN) |
           cln_flag_if(op, CLN_VAR, CLN_WRITE_VAR) | cln_flag_if(op, CLN_RSTD, CLN_WRITE_RSTD);
}

struct cln_source_arrays cln_source_of(const struct cln_op *op)
{
    cl_ulong plane = cln_view_statistics(&op->view);
    cl_uint flags = op->view.centred ? 0 : CLN_UNCENTRED;
    if (op->source == CLN_FROM_STATE) {
        cl_ulong at = cln_element_offset(op, CLN_STATE);
        return (struct cln_source_arrays){
            CLN_STATE, CLN_STATE, CLN_STATE, at, at + plane, at + 2 * plane, flags | CLN_HAS_RESID};
    }
    if (op->source == CLN_FROM_RUNNING)
        flags |= CLN_SCALE_IS_VAR | (op->view.weights == plane ? 0 : CLN_SOURCE_IS_CHANNEL);
    enum cln_role mean = op->source == CLN_FROM_GIVEN ? CLN_MEAN : CLN_RUNNING_MEAN;
    enum cln_role scale = op->source == CLN_FROM_GIVEN ? CLN_RSTD : CLN_RUNNING_VAR;
    return (struct cln_source_arrays){mean, mean, scale, cln_element_offset(op, mean), 0, cln_element_offset(op, scale),
                                      flags};
}

/* What a backward has of tensors, and what it adds to. */
static cl_uint backward_flags(const struct cln_op *op)
{
    static const struct {
        cl_uint asked;
        enum cln_role role;
        enum cln_flag flag;
    } adds[] = {{CLNORM_ADD_DX, CLN_DX, CLN_ADD_DX},
                {CLNORM_ADD_DZ, CLN_DZ, CLN_ADD_DZ},
                {CLNORM_ADD_DWEIGHT, CLN_DWEIGHT, CLN_ADD_DWEIGHT},
                {CLNORM_ADD_DBIAS, CLN_DBIAS, CLN_ADD_DBIAS}};
    cl_uint flags = cln_flag_if(op, CLN_X, CLN_HAS_X) | cln_flag_if(op, CLN_DX, CLN_WRITE_DX) |
                    cln_flag_if(op, CLN_DZ, CLN_WRITE_DZ);
    for (size_t i = 0; i < sizeof adds / sizeof adds[0]; i++)
        flags |= op->accumulate & adds[i].asked ? cln_flag_if(op, adds[i].role, adds[i].flag) : 0;
    return op->activation ? flags | cln_flag_if(op, CLN_Y, CLN_BY_Y) : flags;
}

struct cln_problem cln_problem_of(const struct cln_op *op, const struct cln_view *v, const struct cln_geometry *g)
{
    struct cln_source_arrays from = cln_source_of(op);
    int backward = cln_bound(op, CLN_DY);
    struct cln_problem p = {
        .x = cln_element_offset(op, cln_bound(op, CLN_X) ? CLN_X : CLN_DY), /* without x only Σdy is asked for */
        .dy = cln_element_offset(op, CLN_DY),
        .out = cln_element_offset(op, backward ? CLN_DX : CLN_Y),
        .mean = from.mean_at,
        .resid = from.resid_at,
        .scale = from.scale_at,
        .weight = cln_element_offset(op, CLN_WEIGHT),
        .bias = cln_element_offset(op, CLN_BIAS),
        .partials = cln_element_offset(op, CLN_PARTIALS),
        .statistics = cln_element_offset(op, CLN_STATISTICS),
        .state = cln_element_offset(op, CLN_STATE),
        .mean_out = cln_element_offset(op, CLN_MEAN),
        .var_out = cln_element_offset(op, CLN_VAR),
        .rstd_out = cln_element_offset(op, CLN_RSTD),
        .running_mean = cln_element_offset(op, CLN_RUNNING_MEAN),
        .running_var = cln_element_offset(op, CLN_RUNNING_VAR),
        .sums = cln_element_offset(op, CLN_SUMS),
        .dweight = cln_element_offset(op, CLN_DWEIGHT),
        .dbias = cln_element_offset(op, CLN_DBIAS),
        .y = cln_element_offset(op, CLN_Y),
        .z = cln_element_offset(op, CLN_Z),
        .sum = cln_element_offset(op, CLN_SUM),
        .dz = cln_element_offset(op, CLN_DZ),
        .mask = cln_element_offset(op, CLN_MASK) * CLN_MASK_BITS + op->first,
        .lengths = cln_element_offset(op, CLN_LENGTHS),
        .positions = v->positions,
        .groups = v->groups,
        .outers = v->outers / g->fold,
        .inners = v->inners,
        .outer_stride = v->outer_stride * g->fold,
        .group_stride = v->group_stride,
        .set = v->set,
        .set_stride = v->set_stride,
        .merged = v->merged,
        .weights = v->weights,
        .cycle = v->cycle,
        .stats = cln_view_statistics(v),
        .count = cln_view_statistics_count(v),
        .plane = v->groups * g->fold,
        .tiles = g->tiles,
        .set_tiles = g->set_tiles,
        .flags = from.flags | (backward ? backward_flags(op) : 0),
        .parts_outer = g->parts_outer,
        .parts_inner = g->parts_inner,
        .lanes = g->lanes,
        .team = g->team,
        .span = g->span,
        .fold = g->fold,
        .rest = (cl_uint)(v->outers % g->fold),
        .found = CLNORM_FOUND_NONFINITE,
        .eps = op->eps,
        .factor = op->slope,
    };
    return p;
}
