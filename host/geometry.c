#include "geometry.h"

/* A work-item should have at least this many vectors before its group is cut further. */
enum { LEAST_VECTORS = 16 };
/* A run is cut so that offsets inside a part fit 32 bits with room for a step. */
#define MOST_INNER (1u << 30)

static uint64_t divide_up(uint64_t a, uint64_t b)
{
    return (a + b - 1) / b;
}

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static uint64_t most(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

static uint32_t power_of_two_at_least(uint64_t n, uint32_t limit)
{
    uint32_t p = 1;
    while (p < n && p < limit)
        p *= 2;
    return p;
}

/* Parts that a group is worth; never fewer for a larger batch. */
static uint64_t segments_parts(const struct cln_view *v, const struct cln_tuning *t, uint64_t wanted,
                               uint32_t most_parts)
{
    uint64_t vectors = divide_up(v->inners, t->segments_width);
    uint64_t worth = v->outers * vectors / ((uint64_t)LEAST_VECTORS * t->segments_group);
    return most(1, least(least(divide_up(wanted, v->groups), worth), most_parts));
}

static struct cln_geometry segments(const struct cln_view *v, const struct cln_tuning *t, uint64_t wanted,
                                    uint32_t most_parts)
{
    struct cln_geometry g = {.work_group_size = t->segments_group};
    uint64_t vectors = divide_up(v->inners, t->segments_width);
    g.lanes = power_of_two_at_least(vectors, t->segments_group);
    uint64_t parts = segments_parts(v, t, wanted, most_parts);
    uint32_t rows = t->segments_group / g.lanes; /* runs that a work-group takes at a time */
    g.parts_outer = (uint32_t)most(1, least(parts, divide_up(v->outers, rows)));
    uint64_t inner = most(1, parts / g.parts_outer);
    inner = most(inner, divide_up(v->inners, MOST_INNER));
    g.parts_inner = (uint32_t)most(1, least(inner, vectors));
    g.work_groups = v->groups * g.parts_outer * g.parts_inner;
    return g;
}

static struct cln_geometry columns(const struct cln_view *v, const struct cln_tuning *t, uint64_t wanted,
                                   uint32_t most_parts)
{
    struct cln_geometry g = {.work_group_size = t->columns_group, .parts_inner = 1};
    g.lanes = power_of_two_at_least(divide_up(v->groups, t->columns_width), t->columns_lanes);
    uint64_t tiles = divide_up(v->groups, (uint64_t)g.lanes * t->columns_width);
    uint32_t rows = t->columns_group / g.lanes;
    uint64_t worth = v->outers / ((uint64_t)LEAST_VECTORS * rows);
    g.parts_outer = (uint32_t)most(1, least(least(divide_up(wanted, tiles), worth), most_parts));
    g.work_groups = tiles * g.parts_outer;
    return g;
}

struct cln_geometry cln_geometry_tensor(const struct cln_view *view, const struct cln_tuning *tuning,
                                        uint32_t compute_units, uint32_t most_parts)
{
    uint64_t wanted = (uint64_t)most(1, compute_units) * tuning->waves;
    return view->family == CLN_SEGMENTS ? segments(view, tuning, wanted, most_parts)
                                        : columns(view, tuning, wanted, most_parts);
}

uint64_t cln_geometry_partials(const struct cln_view *view, const struct cln_tuning *tuning, uint32_t compute_units)
{
    uint64_t wanted = (uint64_t)most(1, compute_units) * tuning->waves;
    if (view->family == CLN_COLUMNS)
        return columns(view, tuning, wanted, CLN_MOST_PARTIALS).parts_outer;
    return segments_parts(view, tuning, wanted, CLN_MOST_PARTIALS) * most(1, divide_up(view->inners, MOST_INNER));
}

struct cln_geometry cln_geometry_groups(const struct cln_view *view, const struct cln_tuning *tuning, uint32_t parts)
{
    struct cln_geometry g = {.parts_outer = 1, .parts_inner = 1, .work_group_size = tuning->groups_group};
    /* Work-items across the parts once there are enough of them to share; else all along the groups. */
    uint32_t across = power_of_two_at_least(parts / 8, tuning->groups_group);
    g.lanes = tuning->groups_group / across;
    g.work_groups = divide_up(view->groups, g.lanes);
    return g;
}
