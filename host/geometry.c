#include "geometry.h"

/* Most partials a group. */
#define MOST_PARTIALS 256u
/* A work-item should have at least this many vectors before its group is cut further. */
enum { LEAST_VECTORS = 16 };
/* A run is cut so that offsets inside a part fit 32 bits with room for a step. */
#define MOST_INNER (1u << 30)
/* A tile of columns should not be narrower than this many bytes of each row. */
enum { LEAST_ROW_BYTES = 2048 };
/* Of kernels.cl: vectors a chain, chains a block, elements of a pivot. */
enum { CHAIN = 8, BLOCK = 32, PIVOT_ELEMENTS = 16 };
/* Groups with short runs are taken together until a sample's part of them is of this size. */
enum { STRETCH_BYTES = 8192, APPLY_BYTES = 1048576 };

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

static uint64_t wanted_of(const struct cln_cutter *c)
{
    return (uint64_t)most(1, c->compute_units) * c->tuning->waves;
}

/* ---- segments ---- */

/* Parts that a group is worth; never fewer for a larger batch. */
static uint64_t segments_parts(const struct cln_view *v, const struct cln_cutter *c)
{
    uint64_t vectors = divide_up(v->inners, c->tuning->segments_width);
    uint64_t worth = v->outers * vectors / ((uint64_t)LEAST_VECTORS * c->tuning->segments_group);
    return most(1, least(least(divide_up(wanted_of(c), v->groups), worth), MOST_PARTIALS));
}

static struct cln_geometry segments(const struct cln_view *v, const struct cln_tuning *t)
{
    uint64_t vectors = divide_up(v->inners, t->segments_width);
    return (struct cln_geometry){.parts_outer = 1,
                                 .parts_inner = (uint32_t)most(1, divide_up(v->inners, MOST_INNER)),
                                 .lanes = power_of_two_at_least(vectors, t->segments_group),
                                 .span = 1,
                                 .fold = 1,
                                 .tiles = v->groups,
                                 .blocks = 1,
                                 .work_group_size = t->segments_group};
}

static struct cln_geometry segments_reduce(const struct cln_view *v, const struct cln_cutter *c)
{
    struct cln_geometry g = segments(v, c->tuning);
    uint64_t vectors = divide_up(v->inners, c->tuning->segments_width), parts = segments_parts(v, c);
    uint32_t rows = g.work_group_size / g.lanes; /* runs that a work-group takes at a time */
    g.parts_outer = (uint32_t)most(1, least(parts, divide_up(v->outers, rows)));
    g.parts_inner = (uint32_t)most(1, least(most(parts / g.parts_outer, g.parts_inner), vectors));
    g.work_groups = v->groups * g.parts_outer * g.parts_inner;
    return g;
}

/* Several groups, so that a work-item has a stretch of `bytes` in each sample. */
static void widen(struct cln_geometry *g, const struct cln_view *v, uint64_t bytes, uint32_t most_span)
{
    g->span = (uint32_t)most(1, least(most_span, divide_up(bytes, v->inners * sizeof(float))));
    g->tiles = divide_up(v->groups, g->span);
}

static struct cln_geometry segments_apply(const struct cln_view *v, const struct cln_cutter *c)
{
    struct cln_geometry g = segments(v, c->tuning);
    if (g.parts_inner == 1)
        widen(&g, v, APPLY_BYTES, c->tuning->segments_span);
    uint64_t vectors = divide_up(v->inners, c->tuning->segments_width);
    uint32_t rows = g.work_group_size / g.lanes;
    uint64_t worth = v->outers * g.span * vectors / ((uint64_t)LEAST_VECTORS * g.work_group_size);
    uint64_t parts = most(1, least(divide_up(wanted_of(c), g.tiles), worth));
    g.parts_outer = (uint32_t)most(1, least(parts, divide_up(v->outers, rows)));
    if (g.span == 1)
        g.parts_inner = (uint32_t)most(1, least(most(parts / g.parts_outer, g.parts_inner), vectors));
    g.work_groups = g.tiles * g.parts_outer * g.parts_inner;
    return g;
}

/* ---- columns ---- */

static uint64_t common_divisor(uint64_t a, uint64_t b)
{
    return b ? common_divisor(b, a % b) : a;
}

/* Rows that a wide work-item takes as one: enough to fill its vectors, and a row long enough to be worth a loop. */
static uint32_t fold_of(const struct cln_view *v, const struct cln_tuning *t)
{
    uint64_t most_columns = (uint64_t)t->columns_span * t->columns_width, long_row = most_columns / 4;
    if (t->columns_span == 1 || t->columns_group > 1 || v->groups >= long_row)
        return 1;
    uint64_t whole = t->columns_width / common_divisor(v->groups, t->columns_width);
    if (v->groups * whole > most_columns)
        return 1;
    uint64_t fold = whole * most(1, long_row / (v->groups * whole));
    return v->outers >= fold * LEAST_VECTORS ? (uint32_t)fold : 1;
}

static struct cln_geometry columns(const struct cln_view *v, const struct cln_tuning *t, uint32_t fold)
{
    struct cln_geometry g = {
        .parts_outer = 1, .parts_inner = 1, .blocks = 1, .fold = fold, .work_group_size = t->columns_group};
    uint64_t vectors = divide_up(v->groups * fold, t->columns_width);
    g.lanes = power_of_two_at_least(vectors, t->columns_lanes);
    g.span = (uint32_t)least(t->columns_span, divide_up(vectors, g.lanes));
    g.tiles = divide_up(vectors, (uint64_t)g.lanes * g.span);
    return g;
}

static struct cln_geometry columns_parts(const struct cln_view *v, const struct cln_cutter *c, uint64_t most_parts)
{
    struct cln_geometry g = columns(v, c->tuning, fold_of(v, c->tuning));
    uint32_t rows = g.work_group_size / g.lanes;
    uint64_t worth = v->outers / g.fold * g.span / ((uint64_t)LEAST_VECTORS * rows);
    g.parts_outer = (uint32_t)most(1, least(least(divide_up(wanted_of(c), g.tiles), worth), most_parts));
    g.work_groups = g.tiles * g.parts_outer;
    return g;
}

/* ---- both ---- */

struct cln_geometry cln_geometry_reduce(const struct cln_view *view, const struct cln_cutter *cutter)
{
    return view->family == CLN_SEGMENTS ? segments_reduce(view, cutter) : columns_parts(view, cutter, MOST_PARTIALS);
}

struct cln_geometry cln_geometry_apply(const struct cln_view *view, const struct cln_cutter *cutter)
{
    return view->family == CLN_SEGMENTS ? segments_apply(view, cutter) : columns_parts(view, cutter, UINT32_MAX);
}

/* Whether `tiles` tiles of equal size keep three quarters of the compute units busy. */
static int balanced(uint64_t tiles, uint64_t units)
{
    return divide_up(tiles, units) * units * 3 <= tiles * 4;
}

const char *cln_geometry_fused(const struct cln_view *view, const struct cln_cutter *cutter, uint32_t tensors,
                               struct cln_geometry *g)
{
    const struct cln_tuning *t = cutter->tuning;
    uint64_t units = most(1, cutter->compute_units), bytes = cln_view_count(view) * sizeof(float) * tensors;
    uint64_t limit = (uint64_t)t->fused_kib * 1024;
    if (view->family == CLN_SEGMENTS) {
        *g = segments(view, t);
        if (g->parts_inner > 1 || bytes > limit)
            return "a group is larger than what a work-group keeps in the cache";
        if (!balanced(g->tiles, units))
            return "there are too few groups for the compute units";
        widen(g, view, STRETCH_BYTES, (uint32_t)least(t->segments_span, most(1, limit / most(1, bytes))));
        while (g->span > 1 && !balanced(g->tiles, units)) {
            g->span /= 2;
            g->tiles = divide_up(view->groups, g->span);
        }
    } else {
        *g = columns(view, t, 1);
        uint32_t vector = g->lanes * t->columns_width;
        while (g->span > 1 && (bytes * vector * g->span > limit || !balanced(g->tiles, units)) &&
               (uint64_t)vector * (g->span / 2) * sizeof(float) >= LEAST_ROW_BYTES) {
            g->span /= 2;
            g->tiles = divide_up(view->groups, (uint64_t)vector * g->span);
        }
        if (bytes * least(view->groups, (uint64_t)vector * g->span) > limit)
            return "a tile of columns is larger than what a work-group keeps in the cache";
        if (!balanced(g->tiles, units))
            return "there are too few columns for the compute units";
    }
    g->blocks = (uint32_t)least(g->tiles, units * t->waves);
    g->work_groups = g->blocks;
    return NULL;
}

uint64_t cln_geometry_partials(const struct cln_view *view, const struct cln_cutter *cutter)
{
    if (view->family == CLN_COLUMNS) {
        /* A smaller batch may have too few rows to be folded. */
        struct cln_geometry g = columns_parts(view, cutter, MOST_PARTIALS);
        uint64_t unfolded = least(wanted_of(cutter), most(1, view->outers / LEAST_VECTORS));
        return g.fold == 1 ? g.parts_outer : most((uint64_t)g.parts_outer * g.fold + 1, least(unfolded, MOST_PARTIALS));
    }
    return segments_parts(view, cutter) * most(1, divide_up(view->inners, MOST_INNER));
}

struct cln_geometry cln_geometry_groups(const struct cln_view *view, const struct cln_tuning *tuning, uint32_t parts)
{
    struct cln_geometry g = {.parts_outer = 1,
                             .parts_inner = 1,
                             .span = 1,
                             .fold = 1,
                             .tiles = view->groups,
                             .blocks = 1,
                             .work_group_size = tuning->groups_group};
    /* Work-items across the parts once there are enough of them to share; else all along the groups. */
    uint32_t across = power_of_two_at_least(parts / 8, tuning->groups_group);
    g.lanes = tuning->groups_group / across;
    g.work_groups = divide_up(view->groups, g.lanes);
    return g;
}

uint32_t cln_geometry_parts(const struct cln_view *view, const struct cln_geometry *reduction)
{
    uint32_t rest = view->outers % reduction->fold != 0;
    return reduction->parts_outer * reduction->parts_inner * reduction->fold + rest;
}

/* The largest power of two up to n and limit; 0 for none. */
static uint64_t power_of_two_up_to(uint64_t n, uint64_t limit)
{
    uint64_t p = n > 0;
    while (p > 0 && p * 2 <= n && p * 2 <= limit)
        p *= 2;
    return p;
}

double cln_geometry_pivots(const struct cln_view *view, const struct cln_tuning *tuning, const struct cln_geometry *g)
{
    uint64_t across = (uint64_t)g->parts_outer * (g->work_group_size / g->lanes);
    uint64_t runs = divide_up(view->outers / g->fold, across); /* of a work-item */
    if (view->family == CLN_COLUMNS) {
        uint64_t whole = runs / (BLOCK * CHAIN), rest = runs % (BLOCK * CHAIN);
        uint64_t rows = whole * PIVOT_ELEMENTS + power_of_two_up_to(rest, PIVOT_ELEMENTS);
        return (double)rows / (double)most(1, runs);
    }
    uint64_t width = tuning->segments_width, along = (uint64_t)g->parts_inner * g->lanes;
    uint64_t vectors = divide_up(view->inners, width * along);
    uint64_t blocks = divide_up(runs * divide_up(vectors, CHAIN), BLOCK);
    uint64_t used = width * power_of_two_up_to(vectors, most(1, PIVOT_ELEMENTS / width));
    return (double)(blocks * (1 + used) * along) / (double)most(1, runs * view->inners);
}
