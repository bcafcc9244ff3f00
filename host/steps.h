/* From a call's steps to the commands of a queue. */
#ifndef CLNORM_HOST_STEPS_H
#define CLNORM_HOST_STEPS_H

#include "opencl.h"
#include "problem.h"

/* A kernel; or, without one, a fill with zeros, or a copy. */
struct cln_command {
    cl_kernel kernel;
    size_t work_groups, work_group_size;
    struct cln_span to, from; /* from: not bound for a fill */
};

enum { CLN_MAX_COMMANDS = CLN_MAX_STEPS + 2 };

struct cln_batch {
    struct cln_cl_plan *plan;
    const struct cln_cl_device *device;
    const clnorm_device *plan_device;
    const struct cln_op *op;
    int is_batch_norm;
    int forward_more;                /* 0 or 1: the family's kernels take z and sum, */
    int backward_more, weights_more; /* and y, bias, z and dz; and so does the one that takes rows as columns */
    int has_lengths;                 /* these, and the one that finishes a backward, take the lengths of samples */
    cl_mem workspace;                /* the plan's own, or NULL */
    struct cln_command commands[CLN_MAX_COMMANDS];
    int count;
    cl_int code; /* first failure of clSetKernelArg */
};

/* The plan's word of what its calls found, which is no role of a call. */
#define CLN_FOUND CLN_ROLE_COUNT

/* launch.c: sets a kernel's arguments, the problem and then the buffers of the roles, and notes the launch; notes a fill; a copy. */
void cln_push_kernel(struct cln_batch *b, enum cln_kernel which, const struct cln_problem *problem,
                     const struct cln_geometry *g, const enum cln_role *roles, cl_uint role_count);
void cln_push_zero(struct cln_batch *b, enum cln_role role, uint64_t floats);
void cln_push_copy(struct cln_batch *b, enum cln_role from, enum cln_role to, uint64_t floats);

/* double.c: the steps of the double backward; the floats of partials that any call of the view's size or a smaller one needs for them. */
void cln_push_double(struct cln_batch *b, enum cln_step step);
uint64_t cln_double_partials(const struct cln_view *view, const struct cln_cutter *cutter);

/* steps.c: the commands of all steps. */
void cln_push_steps(struct cln_batch *b);

#endif
