#include "steps.h"

#include <string.h>

#define ROLES(...)                                                                                                     \
    (const enum cln_role[])                                                                                            \
    {                                                                                                                  \
        __VA_ARGS__                                                                                                    \
    }
#define COUNT(...) (cl_uint)(sizeof((enum cln_role[]){__VA_ARGS__}) / sizeof(enum cln_role))
#define PUSH(b, which, problem, geometry, ...)                                                                         \
    cln_push_kernel(b, CLN_KERNEL_##which, problem, geometry, ROLES(__VA_ARGS__), COUNT(__VA_ARGS__))
/* Kernels that take more where the plan has more than the norm: these roles, and the lengths of samples. */
#define PUSH_MORE(b, which, problem, geometry, more, more_count, ...)                                                  \
    push_more(b, CLN_KERNEL_##which, problem, geometry, ROLES(__VA_ARGS__), COUNT(__VA_ARGS__), more, more_count)
#define PUSH_FORWARD(b, which, problem, geometry, ...)                                                                 \
    PUSH_MORE(b, which, problem, geometry, ROLES(CLN_Z, CLN_SUM), (b)->forward_more ? 2 : 0, __VA_ARGS__)
#define PUSH_BACKWARD(b, which, problem, geometry, has_more, ...)                                                      \
    PUSH_MORE(b, which, problem, geometry,                                                                             \
              ROLES(cln_bound((b)->op, CLN_MASK) ? CLN_MASK : CLN_Y, CLN_BIAS, CLN_Z, CLN_DZ), (has_more) ? 4 : 0,     \
              __VA_ARGS__)

static void push_more(struct cln_batch *b, enum cln_kernel which, const struct cln_problem *problem,
                      const struct cln_geometry *geometry, const enum cln_role *roles, cl_uint count,
                      const enum cln_role *more, cl_uint more_count)
{
    enum cln_role all[CLN_MOST_BUFFERS];
    memcpy(all, roles, count * sizeof *all);
    for (cl_uint i = 0; i < more_count; i++)
        all[count++] = more[i];
    if (b->has_lengths)
        all[count++] = CLN_LENGTHS;
    cln_push_kernel(b, which, problem, geometry, all, count);
}

static struct cln_cutter cutter_of(const struct cln_batch *b)
{
    return cln_cl_cutter(b->plan_device);
}

static struct cln_geometry reduction_geometry(const struct cln_batch *b, const struct cln_view *view)
{
    struct cln_cutter cutter = cutter_of(b);
    return cln_geometry_reduce(view, &cutter);
}

static struct cln_geometry apply_geometry(const struct cln_batch *b)
{
    struct cln_cutter cutter = cutter_of(b);
    return cln_geometry_apply(&b->op->view, &cutter);
}

static cl_uint stream_flag(const struct cln_batch *b, uint32_t tensors)
{
    return cln_cl_streams(b->plan_device, b->op->elements, tensors) ? CLN_STREAM : 0;
}

/* Sums of the other norms are over weight·dy. */
static cl_uint sums_flag(const struct cln_batch *b)
{
    return b->is_batch_norm ? 0 : CLN_WEIGHTED_SUMS;
}

/* Weight and bias, which a backward takes to work out the value before the activation again. */
static cl_uint weight_flags(const struct cln_op *op)
{
    return cln_flag_if(op, CLN_WEIGHT, CLN_HAS_WEIGHT) | cln_flag_if(op, CLN_BIAS, CLN_HAS_BIAS);
}

static cl_uint weights_flags(const struct cln_op *op)
{
    return cln_flag_if(op, CLN_DWEIGHT, CLN_WRITE_DWEIGHT) | cln_flag_if(op, CLN_DBIAS, CLN_WRITE_DBIAS);
}

/* Without x only Σdy is asked for. */
static enum cln_role x_role(const struct cln_op *op)
{
    return cln_bound(op, CLN_X) ? CLN_X : CLN_DY;
}

/* ---- single steps ---- */

static void push_forward_statistics(struct cln_batch *b)
{
    struct cln_view view = cln_view_of_statistics(&b->op->view);
    struct cln_geometry g = reduction_geometry(b, &view);
    struct cln_problem p = cln_problem_of(b->op, &view, &g);
    PUSH_FORWARD(b, FORWARD_STATISTICS, &p, &g, CLN_X, CLN_PARTIALS);
}

/* Merges partials, gathered statistics, or the one set of statistics. */
static void push_forward_finish(struct cln_batch *b, enum cln_step step)
{
    const struct cln_op *op = b->op;
    struct cln_view view = cln_view_of_statistics(&op->view);
    struct cln_geometry reduction = reduction_geometry(b, &view);
    enum cln_role parts_role = CLN_PARTIALS;
    cl_uint parts = cln_geometry_parts(&view, &reduction);
    cl_uint flags = cln_flag_if(op, CLN_STATISTICS, CLN_WRITE_STATISTICS);
    if (step == CLN_STEP_MERGE) {
        parts_role = CLN_GATHERED;
        parts = op->parts;
        flags |= CLN_PARTS_ARE_GATHERED;
    } else if (step == CLN_STEP_FINALIZE) {
        parts_role = CLN_STATISTICS;
        parts = 1;
        flags = CLN_PARTS_ARE_GATHERED;
    }
    if (step != CLN_STEP_MERGE)
        flags |= cln_forward_outputs(op);
    struct cln_geometry g = cln_geometry_results(cln_view_statistics(&view), &b->device->tuning, parts * view.merged);
    g.fold = reduction.fold; /* of the partials */
    struct cln_problem p = cln_problem_of(op, &view, &g);
    p.flags = flags;
    p.parts = parts;
    p.gathered = cln_element_offset(op, parts_role);
    /* FINALIZE only reads the statistics: bound twice, written never. */
    PUSH(b, FORWARD_FINISH, &p, &g, parts_role, CLN_STATISTICS, CLN_STATE, CLN_MEAN, CLN_VAR, CLN_RSTD);
}

static void push_forward_apply(struct cln_batch *b)
{
    const struct cln_op *op = b->op;
    struct cln_geometry g = apply_geometry(b);
    struct cln_problem p = cln_problem_of(op, &op->view, &g);
    struct cln_source_arrays from = cln_source_of(op);
    p.flags |=
        cln_flag_if(op, CLN_WEIGHT, CLN_HAS_WEIGHT) | cln_flag_if(op, CLN_BIAS, CLN_HAS_BIAS) | stream_flag(b, 2);
    enum cln_role x = op->residual == CLNORM_RESIDUAL_BEFORE ? CLN_SUM : CLN_X;
    p.x = cln_element_offset(op, x);
    PUSH_FORWARD(b, FORWARD_APPLY, &p, &g, x, CLN_Y, from.mean, from.resid, from.scale, CLN_WEIGHT, CLN_BIAS);
}

static void push_forward_commit(struct cln_batch *b)
{
    const struct cln_op *op = b->op;
    const clnorm_running *r = &op->running;
    struct cln_geometry g = cln_geometry_results(op->view.weights, &b->device->tuning, 1);
    struct cln_problem p = cln_problem_of(op, &op->view, &g);
    p.flags = (r->variance == CLNORM_UNBIASED ? CLN_UNBIASED : 0u) |
              (r->guard == CLNORM_GUARD_FINITE ? CLN_GUARD_FINITE : 0u);
    p.factor = r->average == CLNORM_CUMULATIVE ? (float)(1.0 / ((double)r->count + 1.0)) : r->momentum;
    PUSH(b, FORWARD_COMMIT, &p, &g, CLN_STATISTICS, CLN_RUNNING_MEAN, CLN_RUNNING_VAR, CLN_FOUND);
}

static void push_infer_fold(struct cln_batch *b)
{
    const struct cln_op *op = b->op;
    struct cln_geometry g = cln_geometry_results(op->view.weights, &b->device->tuning, 1);
    struct cln_problem p = cln_problem_of(op, &op->view, &g);
    struct cln_source_arrays from = cln_source_of(op);
    p.x = cln_element_offset(op, CLN_LAYER_BIAS);
    p.out = cln_element_offset(op, CLN_LAYER_BIAS_OUT);
    p.flags |= cln_flag_if(op, CLN_WEIGHT, CLN_HAS_WEIGHT) | cln_flag_if(op, CLN_BIAS, CLN_HAS_BIAS) |
               cln_flag_if(op, CLN_LAYER_BIAS, CLN_HAS_LAYER_BIAS);
    PUSH(b, INFER_FOLD, &p, &g, CLN_LAYER_BIAS, CLN_LAYER_BIAS_OUT, from.mean, from.scale, CLN_WEIGHT, CLN_BIAS);
}

static void push_backward_reduce(struct cln_batch *b)
{
    const struct cln_op *op = b->op;
    struct cln_geometry g = reduction_geometry(b, &op->view);
    struct cln_problem p = cln_problem_of(op, &op->view, &g);
    struct cln_source_arrays from = cln_source_of(op);
    p.flags |= weight_flags(op); /* which rows take, and activations */
    PUSH_BACKWARD(b, BACKWARD_REDUCE, &p, &g, b->backward_more, x_role(op), CLN_DY, from.mean, from.resid, from.scale,
                  CLN_WEIGHT, CLN_PARTIALS);
}

static void push_backward_finish(struct cln_batch *b)
{
    const struct cln_op *op = b->op;
    struct cln_geometry reduction = reduction_geometry(b, &op->view);
    cl_uint parts = cln_geometry_parts(&op->view, &reduction);
    struct cln_geometry g =
        cln_geometry_results(cln_view_statistics(&op->view), &b->device->tuning, parts * op->view.merged);
    g.fold = reduction.fold; /* of the partials */
    struct cln_problem p = cln_problem_of(op, &op->view, &g);
    p.parts = parts;
    p.flags |= cln_flag_if(op, CLN_SUMS, CLN_WRITE_SUMS);
    if (b->is_batch_norm)
        p.flags |= weights_flags(op);
    else if (!op->view.along)
        p.flags |= cln_flag_if(op, CLN_WEIGHT, CLN_HAS_WEIGHT);
    PUSH_MORE(b, BACKWARD_FINISH, &p, &g, NULL, 0, CLN_PARTIALS, cln_source_of(op).scale, CLN_WEIGHT, CLN_SUMS,
              CLN_DWEIGHT, CLN_DBIAS);
}

static void push_backward_apply(struct cln_batch *b)
{
    const struct cln_op *op = b->op;
    struct cln_geometry g = apply_geometry(b);
    struct cln_problem p = cln_problem_of(op, &op->view, &g);
    struct cln_source_arrays from = cln_source_of(op);
    int frozen = op->source == CLN_FROM_RUNNING || !cln_bound(op, CLN_DX); /* dz needs no sums */
    p.flags |= weight_flags(op) | (frozen ? CLN_FROZEN : 0u) | sums_flag(b) | stream_flag(b, 3);
    PUSH_BACKWARD(b, BACKWARD_APPLY, &p, &g, b->backward_more, x_role(op), CLN_DY, CLN_DX, from.mean, from.resid,
                  from.scale, CLN_WEIGHT, CLN_SUMS);
}

/* Adds up what `parts` parts have of each weight. */
static void push_weights_finish(struct cln_batch *b, const struct cln_view *view, uint32_t fold, uint64_t parts,
                                cl_uint flags)
{
    const struct cln_op *op = b->op;
    struct cln_geometry g =
        cln_geometry_results(view->weights, &b->device->tuning, parts * (view->groups / view->weights));
    g.fold = fold;
    struct cln_problem p = cln_problem_of(op, view, &g);
    p.parts = (cl_uint)parts;
    p.flags |= weights_flags(op) | flags;
    PUSH(b, BACKWARD_WEIGHTS, &p, &g, CLN_PARTIALS, cln_source_of(op).scale, CLN_DWEIGHT, CLN_DBIAS);
}

/* Rows: a pass of its own for the weights' gradients, which is both steps if there is one part. */
static void push_weights_of_rows(struct cln_batch *b)
{
    const struct cln_op *op = b->op;
    struct cln_view view = cln_geometry_weights_view(&op->view);
    struct cln_geometry g = reduction_geometry(b, &view);
    struct cln_problem p = cln_problem_of(op, &view, &g);
    struct cln_source_arrays from = cln_source_of(op);
    p.flags |= weight_flags(op) | (g.parts_outer > 1 ? CLN_WRITE_PARTIALS : weights_flags(op));
    PUSH_BACKWARD(b, ROWS_WEIGHTS, &p, &g, b->weights_more, x_role(op), CLN_DY, from.mean, from.resid, from.scale,
                  CLN_WEIGHT, CLN_PARTIALS, CLN_DWEIGHT, CLN_DBIAS);
    if (g.parts_outer > 1)
        push_weights_finish(b, &view, 1, g.parts_outer, CLN_PARTS_ARE_SCALED);
}

static void push_weights(struct cln_batch *b)
{
    const struct cln_view *view = &b->op->view;
    if (view->along) {
        push_weights_of_rows(b);
        return;
    }
    struct cln_geometry reduction = reduction_geometry(b, view);
    push_weights_finish(b, view, reduction.fold, cln_geometry_parts(view, &reduction), 0);
}

/* ---- fused ---- */

/* Whole groups in one kernel, in place of the first steps of a forward, or of all of a backward. Returns how many. */
static int push_forward_fused(struct cln_batch *b)
{
    const struct cln_op *op = b->op;
    static const enum cln_step steps[] = {CLN_STEP_STATISTICS, CLN_STEP_FINISH, CLN_STEP_APPLY};
    struct cln_cutter cutter = cutter_of(b);
    struct cln_geometry g;
    if (op->step_count < 3 || memcmp(op->steps, steps, sizeof steps) != 0 ||
        cln_geometry_fused(&op->view, &cutter, 1, &g))
        return 0;
    struct cln_problem p = cln_problem_of(op, &op->view, &g);
    p.flags = (op->view.centred ? 0u : CLN_UNCENTRED) | cln_flag_if(op, CLN_STATISTICS, CLN_WRITE_STATISTICS) |
              cln_forward_outputs(op) | cln_flag_if(op, CLN_WEIGHT, CLN_HAS_WEIGHT) |
              cln_flag_if(op, CLN_BIAS, CLN_HAS_BIAS) | stream_flag(b, 2);
    PUSH_FORWARD(b, FORWARD_FUSED, &p, &g, CLN_X, CLN_Y, CLN_STATISTICS, CLN_STATE, CLN_MEAN, CLN_VAR, CLN_RSTD,
                 CLN_WEIGHT, CLN_BIAS);
    return 3;
}

static int push_backward_fused(struct cln_batch *b)
{
    const struct cln_op *op = b->op;
    struct cln_cutter cutter = cutter_of(b);
    struct cln_geometry g;
    if (op->step_count < 3 || op->steps[0] != CLN_STEP_REDUCE || op->steps[1] != CLN_STEP_REDUCE_FINISH ||
        op->steps[op->step_count - 1] != CLN_STEP_BACKWARD_APPLY || op->source == CLN_FROM_RUNNING ||
        cln_geometry_fused(&op->view, &cutter, 2, &g))
        return 0;
    int has_weights = !b->is_batch_norm && weights_flags(op) != 0;
    int gathers = has_weights && (!op->view.along || cln_geometry_gather(&op->view, &cutter, &g));
    if (has_weights && !gathers)
        push_weights_of_rows(b); /* before dx, which may lie over dy */
    struct cln_problem p = cln_problem_of(op, &op->view, &g);
    struct cln_source_arrays from = cln_source_of(op);
    p.flags |= weight_flags(op) | (b->is_batch_norm ? weights_flags(op) : 0u) | (gathers ? CLN_WRITE_PARTIALS : 0u) |
               sums_flag(b) | stream_flag(b, 3);
    PUSH_BACKWARD(b, BACKWARD_FUSED, &p, &g, b->backward_more, CLN_X, CLN_DY, CLN_DX, from.mean, from.resid, from.scale,
                  CLN_WEIGHT, CLN_SUMS, CLN_DWEIGHT, CLN_DBIAS, CLN_PARTIALS);
    if (gathers && op->view.along) {
        struct cln_view weights = cln_geometry_weights_view(&op->view);
        push_weights_finish(b, &weights, 1, cln_geometry_gathered(&g), CLN_PARTS_ARE_SCALED);
    } else if (gathers) {
        push_weights_finish(b, &op->view, 1, 1, 0);
    }
    return op->step_count;
}

/* In a backward from y: whether there is a weight that counts as 0; of a call with virtual batches once. */
static void push_backward_found(struct cln_batch *b)
{
    const struct cln_op *op = b->op;
    if (!op->from_y || !cln_bound(op, CLN_X) || !cln_bound(op, CLN_WEIGHT) || op->follows || op->step_count == 0)
        return;
    struct cln_cutter cutter = cutter_of(b);
    struct cln_geometry g = cln_geometry_found(&op->view, &cutter);
    struct cln_problem p = cln_problem_of(op, &op->view, &g);
    p.found = CLNORM_FOUND_ZERO_WEIGHT;
    PUSH(b, BACKWARD_FOUND, &p, &g, CLN_WEIGHT, CLN_FOUND);
}

/* Whether a sample has a length that does not fit; of a call with a mask once. */
static void push_lengths_found(struct cln_batch *b)
{
    const struct cln_op *op = b->op;
    if (!b->has_lengths || op->step_count == 0 || op->elements == 0 || op->follows)
        return;
    struct cln_geometry g = cln_geometry_results(op->samples, &b->device->tuning, 1);
    struct cln_problem p = cln_problem_of(op, &op->view, &g);
    p.found = CLNORM_FOUND_LENGTH;
    PUSH(b, LENGTHS_FOUND, &p, &g, CLN_LENGTHS, CLN_FOUND);
}

/* A bit an element of y, for a backward with an activation. */
static void push_forward_mask(struct cln_batch *b)
{
    const struct cln_op *op = b->op;
    struct cln_cutter cutter = cutter_of(b);
    struct cln_geometry g = cln_geometry_mask(cln_mask_words(op->elements), &cutter);
    struct cln_problem p = cln_problem_of(op, &op->view, &g);
    p.count = op->elements;
    PUSH(b, FORWARD_MASK, &p, &g, CLN_Y, CLN_MASK);
}

/* ---- all ---- */

static void push_step(struct cln_batch *b, enum cln_step step)
{
    const struct cln_view *view = &b->op->view;
    switch (step) {
    case CLN_STEP_STATISTICS:
        push_forward_statistics(b);
        break;
    case CLN_STEP_FINISH:
    case CLN_STEP_MERGE:
    case CLN_STEP_FINALIZE:
        push_forward_finish(b, step);
        break;
    case CLN_STEP_APPLY:
        push_forward_apply(b);
        break;
    case CLN_STEP_MASK:
        push_forward_mask(b);
        break;
    case CLN_STEP_COMMIT:
        push_forward_commit(b);
        break;
    case CLN_STEP_COPY_RUNNING:
        cln_push_copy(b, CLN_RUNNING_MEAN, CLN_MEAN, view->weights);
        cln_push_copy(b, CLN_RUNNING_VAR, CLN_VAR, view->weights);
        break;
    case CLN_STEP_REDUCE:
        push_backward_reduce(b);
        break;
    case CLN_STEP_REDUCE_FINISH:
        push_backward_finish(b);
        break;
    case CLN_STEP_WEIGHTS: /* with the step that finishes it, which comes next */
        break;
    case CLN_STEP_WEIGHTS_FINISH:
        push_weights(b);
        break;
    case CLN_STEP_BACKWARD_APPLY:
        push_backward_apply(b);
        break;
    case CLN_STEP_FOLD:
        push_infer_fold(b);
        break;
    case CLN_STEP_ZERO_STATISTICS:
        cln_push_zero(b, CLN_STATISTICS, CLN_STATISTICS_PLANES * cln_view_statistics(view));
        break;
    case CLN_STEP_ZERO_SUMS:
        cln_push_zero(b, CLN_SUMS, CLN_SUMS_PLANES * cln_view_statistics(view));
        cln_push_zero(b, CLN_DWEIGHT, view->weights);
        cln_push_zero(b, CLN_DBIAS, view->weights);
        cln_push_zero(b, CLN_G_WEIGHT, view->weights);
        break;
    case CLN_STEP_DOUBLE_REDUCE:
    case CLN_STEP_DOUBLE_FINISH:
    case CLN_STEP_DOUBLE_WEIGHTS:
    case CLN_STEP_DOUBLE_APPLY:
        cln_push_double(b, step);
        break;
    }
}

void cln_push_steps(struct cln_batch *b)
{
    push_backward_found(b);
    push_lengths_found(b);
    int fused = push_forward_fused(b);
    if (fused == 0)
        fused = push_backward_fused(b);
    for (int i = fused; i < b->op->step_count; i++)
        push_step(b, b->op->steps[i]);
}
