/* The launches of the double backward (kernels.cl, CLNORM_DOUBLE). */
#include "base/integers.h"
#include "steps.h"

#define COUNT(roles) ((cl_uint)(sizeof(roles) / sizeof *(roles)))

/* PARTIALS: those of groups, then those of weights along rows. Values that a work-item has at least, and most parts, as in geometry.c;
 * kernels.cl has CHAIN and SECOND_PLANES, too. */
enum { LEAST_VALUES = 16, MOST_PARTS = 256, CHAIN = 8, SECOND_PLANES = 14 };

static uint64_t wanted_of(const struct cln_cutter *c)
{
    return (uint64_t)most(1, c->compute_units) * c->tuning->waves;
}

/* Tiles of `lanes` of `results` neighbours with `values` values each. */
static struct cln_geometry cut(const struct cln_cutter *c, uint32_t lanes, uint64_t results, uint64_t values)
{
    struct cln_geometry g = {.parts_inner = 1,
                             .lanes = lanes,
                             .team = c->tuning->groups_group,
                             .span = 1,
                             .fold = 1,
                             .work_group_size = c->tuning->groups_group};
    g.tiles = g.set_tiles = divide_up(results, lanes);
    uint64_t worth = values / ((uint64_t)LEAST_VALUES * (g.work_group_size / lanes));
    g.parts_outer = (uint32_t)most(1, least(least(divide_up(wanted_of(c), most(1, g.tiles)), worth), MOST_PARTS));
    g.work_groups = g.tiles * g.parts_outer;
    return g;
}

/* As many as there are, up to a work-group, where neighbours in memory are of neighbouring groups; else so many that the others of a
 * work-group have a chain each. */
static struct cln_geometry reduce_geometry(const struct cln_view *v, const struct cln_cutter *c)
{
    uint32_t lanes = 1, group = c->tuning->groups_group;
    uint64_t count = cln_view_count(v);
    while (lanes < group && lanes < v->groups && (v->inners == 1 || (uint64_t)(group / lanes) * CHAIN > count))
        lanes *= 2;
    return cut(c, lanes, v->groups, count);
}

static struct cln_geometry weights_geometry(const struct cln_view *v, const struct cln_cutter *c)
{
    uint32_t lanes = 1;
    while (lanes < c->tuning->groups_group && lanes < v->inners)
        lanes *= 2;
    return cut(c, lanes, v->inners, v->groups);
}

static struct cln_geometry apply_geometry(const struct cln_view *v, const struct cln_cutter *c)
{
    struct cln_geometry g = cut(c, 1, 1, 1);
    uint64_t worth = divide_up(cln_view_elements(v), (uint64_t)LEAST_VALUES * g.work_group_size);
    g.work_groups = most(1, least(worth, wanted_of(c)));
    return g;
}

/* Of a smaller batch there may be more parts, but then of fewer tiles: no more of both than this. */
static uint64_t groups_partials(const struct cln_view *v, const struct cln_cutter *c)
{
    return SECOND_PLANES * least(wanted_of(c) * c->tuning->groups_group + v->groups, v->groups * MOST_PARTS);
}

uint64_t cln_double_partials(const struct cln_view *v, const struct cln_cutter *c)
{
    uint64_t weights = v->along ? CLN_DOTS_PLANES * weights_geometry(v, c).parts_outer * v->weights : 0;
    return groups_partials(v, c) + weights;
}

static struct cln_problem problem_of(const struct cln_batch *b, const struct cln_view *v, const struct cln_geometry *g)
{
    const struct cln_op *op = b->op;
    struct cln_problem p = cln_problem_of(op, v, g);
    p.z = cln_element_offset(op, CLN_V_DX);
    p.out = cln_element_offset(op, CLN_G_X);
    p.dz = cln_element_offset(op, CLN_G_DY);
    p.dweight = cln_element_offset(op, CLN_V_DWEIGHT);
    p.dbias = cln_element_offset(op, CLN_V_DBIAS);
    p.sums = cln_element_offset(op, CLN_G_WEIGHT);
    p.flags |= cln_flag_if(op, CLN_WEIGHT, CLN_HAS_WEIGHT) | (op->view.along ? CLN_WEIGHTED_SUMS : 0u) |
               (op->source == CLN_FROM_RUNNING ? CLN_FROZEN : 0u) | cln_flag_if(op, CLN_V_DX, CLN_ADD_DX) |
               cln_flag_if(op, CLN_V_DWEIGHT, CLN_ADD_DWEIGHT) | cln_flag_if(op, CLN_V_DBIAS, CLN_ADD_DBIAS) |
               cln_flag_if(op, CLN_G_X, CLN_WRITE_DX) | cln_flag_if(op, CLN_G_DY, CLN_WRITE_DZ) |
               cln_flag_if(op, CLN_G_WEIGHT, CLN_WRITE_DWEIGHT);
    return p;
}

/* The weights' sums along rows, then what their parts give, by the first backward's kernel. */
static void push_weights(struct cln_batch *b, const struct cln_cutter *cutter, const struct cln_source_arrays *from)
{
    const struct cln_view *v = &b->op->view;
    struct cln_view weights = cln_geometry_weights_view(v);
    struct cln_geometry g = weights_geometry(v, cutter);
    struct cln_problem p = problem_of(b, v, &g);
    const enum cln_role roles[] = {CLN_X, CLN_DY, CLN_V_DX, from->mean, from->resid, from->scale, CLN_PARTIALS},
                        merged[] = {CLN_PARTIALS, from->scale, CLN_G_WEIGHT, CLN_DBIAS};
    p.sum = p.partials + SECOND_PLANES * v->groups * reduce_geometry(v, cutter).parts_outer;
    cln_push_kernel(b, CLN_KERNEL_DOUBLE_WEIGHTS, &p, &g, roles, COUNT(roles));

    struct cln_geometry finish = cln_geometry_results(v->weights, cutter->tuning, g.parts_outer);
    struct cln_problem q = cln_problem_of(b->op, &weights, &finish);
    q.partials = p.sum;
    q.parts = g.parts_outer;
    q.dweight = p.sums;
    q.flags |= CLN_WRITE_DWEIGHT | CLN_PARTS_ARE_SCALED;
    cln_push_kernel(b, CLN_KERNEL_BACKWARD_WEIGHTS, &q, &finish, merged, COUNT(merged));
}

void cln_push_double(struct cln_batch *b, enum cln_step step)
{
    const struct cln_view *v = &b->op->view;
    struct cln_cutter cutter = cln_cl_cutter(b->plan_device);
    struct cln_source_arrays from = cln_source_of(b->op);
    struct cln_geometry reduce = reduce_geometry(v, &cutter), g = reduce;
    struct cln_problem p;
    const enum cln_role read[] = {CLN_X,      CLN_DY,     CLN_V_DX,      from.mean,   from.resid,
                                  from.scale, CLN_WEIGHT, CLN_V_DWEIGHT, CLN_PARTIALS},
                        finish[] = {from.scale, CLN_WEIGHT, CLN_V_DWEIGHT, CLN_PARTIALS, CLN_G_WEIGHT},
                        apply[] = {CLN_X,      CLN_DY,     CLN_V_DX,   CLN_G_X,       CLN_G_DY,    from.mean,
                                   from.resid, from.scale, CLN_WEIGHT, CLN_V_DWEIGHT, CLN_V_DBIAS, CLN_PARTIALS};
    switch (step) {
    case CLN_STEP_DOUBLE_REDUCE:
        p = problem_of(b, v, &g);
        cln_push_kernel(b, CLN_KERNEL_DOUBLE_REDUCE, &p, &g, read, COUNT(read));
        break;
    case CLN_STEP_DOUBLE_FINISH:
        g.work_groups = divide_up(v->groups, g.work_group_size);
        p = problem_of(b, v, &g);
        cln_push_kernel(b, CLN_KERNEL_DOUBLE_FINISH, &p, &g, finish, COUNT(finish));
        break;
    case CLN_STEP_DOUBLE_WEIGHTS:
        push_weights(b, &cutter, &from);
        break;
    default:
        g = apply_geometry(v, &cutter);
        p = problem_of(b, v, &g);
        cln_push_kernel(b, CLN_KERNEL_DOUBLE_APPLY, &p, &g, apply, COUNT(apply));
        break;
    }
}
