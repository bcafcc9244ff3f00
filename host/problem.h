/* The by-value argument of every kernel, made from a call and a geometry. */
#ifndef CLNORM_HOST_PROBLEM_H
#define CLNORM_HOST_PROBLEM_H

#include "geometry.h"
#include "launch.h"

/* Elements of the role's type from the start of its cl_mem. */
cl_ulong cln_element_offset(const struct cln_op *op, enum cln_role role);
/* The flag if the role is bound. */
cl_uint cln_flag_if(const struct cln_op *op, enum cln_role role, enum cln_flag flag);
/* What a forward writes of its statistics. */
cl_uint cln_forward_outputs(const struct cln_op *op);

/* The three arrays of a call's source of statistics. */
struct cln_source_arrays {
    enum cln_role mean, resid, scale;
    cl_ulong mean_at, resid_at, scale_at;
    cl_uint flags;
};
struct cln_source_arrays cln_source_of(const struct cln_op *op);

/* Everything but the flags of the kernel. The view is the call's, or what a kernel takes it for. */
struct cln_problem cln_problem_of(const struct cln_op *op, const struct cln_view *view, const struct cln_geometry *g);

#endif
