#include "geometry.h"

#include "base/integers.h"

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
/* Work-items that are alone fetch a whole tile of short runs ahead, if its tensors are no more than NEAR_BYTES together (kernels.cl), and
 * write it while they read the next one: tiles are smaller then, for there are to be several a work-item. */
enum { CHAINED_STRETCH_BYTES = 4096, NEAR_BYTES = 262144 };
/* Rows whose gradients are taken together: chains of so many (kernels.cl) share a visit to the weights' gradients, while the inputs of
 * a tile are no more than a core's own cache. Teams take so many rows at least before they keep gradients of their own. */
enum { ROWS_BYTES = 524288, LEAST_ROWS = 16 };
/* A work-item has so many words of a mask at least: 8 KiB of y. */
enum { MASK_WORDS = 64 };

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
    return most(1, least(least(divide_up(wanted_of(c), most(1, v->groups)), worth), MOST_PARTIALS));
}

static struct cln_geometry segments(const struct cln_view *v, const struct cln_tuning *t)
{
    uint64_t vectors = divide_up(v->inners, t->segments_width);
    uint32_t lanes = power_of_two_at_least(vectors, t->segments_group);
    return (struct cln_geometry){.parts_outer = 1,
                                 .parts_inner = (uint32_t)most(1, divide_up(v->inners, MOST_INNER)),
                                 .lanes = lanes,
                                 .team = v->outers == 1 ? lanes : t->segments_group,
                                 .span = 1,
                                 .fold = 1,
                                 .tiles = v->groups,
                                 .set_tiles = v->groups,
                                 .work_group_size = t->segments_group};
}

/* What a work-group takes at a time: a tile a team. */
static uint64_t turns_of(const struct cln_geometry *g)
{
    return divide_up(g->tiles, g->work_group_size / g->team);
}

static struct cln_geometry segments_reduce(const struct cln_view *v, const struct cln_cutter *c)
{
    struct cln_geometry g = segments(v, c->tuning);
    uint64_t vectors = divide_up(v->inners, c->tuning->segments_width), parts = segments_parts(v, c);
    uint32_t rows = g.team / g.lanes; /* runs that a team takes at a time */
    g.parts_outer = (uint32_t)most(1, least(parts, divide_up(v->outers, rows)));
    g.parts_inner = (uint32_t)most(1, least(most(parts / g.parts_outer, g.parts_inner), vectors));
    g.work_groups = turns_of(&g) * g.parts_outer * g.parts_inner;
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
    if (g.parts_inner == 1 && v->positions == 0)
        widen(&g, v, APPLY_BYTES, c->tuning->segments_span);
    uint64_t vectors = divide_up(v->inners, c->tuning->segments_width);
    uint32_t rows = g.team / g.lanes;
    uint64_t worth = v->outers * g.span * vectors / ((uint64_t)LEAST_VECTORS * g.work_group_size);
    uint64_t parts = most(1, least(divide_up(wanted_of(c), most(1, turns_of(&g))), worth));
    g.parts_outer = (uint32_t)most(1, least(parts, divide_up(v->outers, rows)));
    if (g.span == 1)
        g.parts_inner = (uint32_t)most(1, least(most(parts / g.parts_outer, g.parts_inner), vectors));
    g.work_groups = turns_of(&g) * g.parts_outer * g.parts_inner;
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
    if (t->columns_span == 1 || t->columns_group > 1 || v->groups >= long_row || v->groups > v->set || v->groups == 0 ||
        v->along || v->positions > 0)
        return 1;
    uint64_t whole = t->columns_width / common_divisor(v->groups, t->columns_width);
    if (v->groups * whole > most_columns)
        return 1;
    uint64_t fold = whole * most(1, long_row / (v->groups * whole));
    return v->outers >= fold * LEAST_VECTORS ? (uint32_t)fold : 1;
}

/* Tiles of each set's columns, which are so many vectors. */
static void cut_sets(const struct cln_view *v, struct cln_geometry *g, uint64_t vectors)
{
    g->set_tiles = divide_up(vectors, (uint64_t)g->lanes * g->span);
    g->tiles = v->set ? g->set_tiles * (v->groups / v->set) : 0;
}

static struct cln_geometry columns(const struct cln_view *v, const struct cln_tuning *t, uint32_t fold)
{
    struct cln_geometry g = {.parts_outer = 1,
                             .parts_inner = 1,
                             .fold = fold,
                             .team = t->columns_group,
                             .work_group_size = t->columns_group};
    uint64_t vectors = divide_up(v->set * fold, t->columns_width);
    g.lanes = power_of_two_at_least(vectors, t->columns_lanes);
    g.span = (uint32_t)most(1, least(t->columns_span, divide_up(vectors, g.lanes)));
    cut_sets(v, &g, vectors);
    return g;
}

static struct cln_geometry columns_parts(const struct cln_view *v, const struct cln_cutter *c, uint64_t most_parts)
{
    struct cln_geometry g = columns(v, c->tuning, fold_of(v, c->tuning));
    uint32_t rows = g.work_group_size / g.lanes;
    uint64_t worth = v->outers / g.fold * g.span / ((uint64_t)LEAST_VECTORS * rows);
    g.parts_outer = (uint32_t)most(1, least(least(divide_up(wanted_of(c), most(1, g.tiles)), worth), most_parts));
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

/* How many statistics groups, or rows, a tile of the fused kernels has. */
static void widen_fused(struct cln_geometry *g, const struct cln_view *v, const struct cln_tuning *t, uint32_t tensors,
                        uint64_t merged)
{
    uint64_t bytes = most(1, cln_view_count(v) * sizeof(float) * tensors), limit = (uint64_t)t->fused_kib * 1024;
    uint64_t most_span = most(1, least(t->segments_span / merged, limit / bytes));
    int chained = t->segments_group == 1 && v->outers > 1;
    if (chained)
        most_span = most(1, least(most_span, NEAR_BYTES / bytes));
    widen(g, v, chained ? CHAINED_STRETCH_BYTES : STRETCH_BYTES, (uint32_t)most_span);
    if (v->along && tensors == 2) {
        /* Where many work-items keep rows in local memory, there is room for one row each. */
        uint64_t room = t->segments_group == 1 ? t->segments_span : g->team;
        uint64_t rows = least(most(g->span, CHAIN), most(1, least(ROWS_BYTES, limit) / bytes));
        g->span = (uint32_t)least(rows > CHAIN ? rows / CHAIN * CHAIN : rows, room);
        g->tiles = divide_up(v->groups, g->span);
    }
}

static const char *fused_segments(const struct cln_view *view, const struct cln_cutter *cutter, uint32_t tensors,
                                  struct cln_geometry *g)
{
    const struct cln_view whole = cln_view_merge(view);
    const struct cln_tuning *t = cutter->tuning;
    uint64_t units = most(1, cutter->compute_units), bytes = cln_view_count(&whole) * sizeof(float) * tensors;
    const struct cln_view *v = view->merged > 1 ? &whole : view;
    *g = segments(v, t);
    if (g->parts_inner > 1 || bytes > (uint64_t)t->fused_kib * 1024)
        return "a group is larger than what a work-group keeps in the cache";
    if (!balanced(turns_of(g), units))
        return "there are too few groups for the compute units";
    widen_fused(g, v, t, tensors, view->merged);
    while (g->span > 1 && !balanced(turns_of(g), units)) {
        g->span /= 2;
        g->tiles = divide_up(v->groups, g->span);
    }
    g->span *= (uint32_t)view->merged;
    return NULL;
}

static const char *fused_columns(const struct cln_view *view, const struct cln_cutter *cutter, uint32_t tensors,
                                 struct cln_geometry *g)
{
    const struct cln_tuning *t = cutter->tuning;
    uint64_t units = most(1, cutter->compute_units), bytes = cln_view_count(view) * sizeof(float) * tensors;
    uint64_t limit = (uint64_t)t->fused_kib * 1024, vectors = divide_up(view->set, t->columns_width);
    *g = columns(view, t, 1);
    uint32_t vector = g->lanes * t->columns_width;
    if (view->merged > 1)
        return "a statistics group is several columns";
    while (g->span > 1 && (bytes * vector * g->span > limit || !balanced(g->tiles, units)) &&
           (uint64_t)vector * (g->span / 2) * sizeof(float) >= LEAST_ROW_BYTES) {
        g->span /= 2;
        cut_sets(view, g, vectors);
    }
    if (bytes * least(view->set, (uint64_t)vector * g->span) > limit)
        return "a tile of columns is larger than what a work-group keeps in the cache";
    if (!balanced(g->tiles, units))
        return "there are too few columns for the compute units";
    return NULL;
}

const char *cln_geometry_fused(const struct cln_view *view, const struct cln_cutter *cutter, uint32_t tensors,
                               struct cln_geometry *g)
{
    if (view->positions > 0)
        return "samples have lengths of their own";
    const char *why_not = view->family == CLN_SEGMENTS ? fused_segments(view, cutter, tensors, g)
                                                       : fused_columns(view, cutter, tensors, g);
    g->work_groups = least(turns_of(g), wanted_of(cutter));
    return why_not;
}

int cln_geometry_gather(const struct cln_view *view, const struct cln_cutter *cutter, struct cln_geometry *g)
{
    uint64_t worth = view->groups / ((uint64_t)LEAST_ROWS * (g->work_group_size / g->team) * view->cycle);
    if (worth < most(1, cutter->compute_units))
        return 0;
    g->work_groups = least(g->work_groups, worth);
    return 1;
}

uint64_t cln_geometry_gathered(const struct cln_geometry *g)
{
    return g->work_groups * (g->work_group_size / g->team);
}

struct cln_view cln_geometry_weights_view(const struct cln_view *rows)
{
    struct cln_view v = *rows;
    v.family = CLN_COLUMNS;
    v.groups = v.set = rows->weights;
    v.outers = rows->groups / rows->cycle;
    v.outer_stride = rows->weights;
    v.group_stride = 1;
    v.set_stride = 0;
    return v;
}

struct cln_geometry cln_geometry_results(uint64_t results, const struct cln_tuning *tuning, uint64_t parts)
{
    struct cln_geometry g = {.parts_outer = 1,
                             .parts_inner = 1,
                             .team = tuning->groups_group,
                             .span = 1,
                             .fold = 1,
                             .tiles = results,
                             .set_tiles = results,
                             .work_group_size = tuning->groups_group};
    /* Work-items across the parts once there are enough of them to share; else all along the results. */
    uint32_t across = power_of_two_at_least(parts / 8, tuning->groups_group);
    g.lanes = tuning->groups_group / across;
    g.work_groups = divide_up(results, g.lanes);
    return g;
}

struct cln_geometry cln_geometry_found(const struct cln_view *view, const struct cln_cutter *cutter)
{
    const struct cln_tuning *t = cutter->tuning;
    struct cln_geometry g = cln_geometry_results(view->weights, t, 1);
    g.work_group_size = view->family == CLN_SEGMENTS ? t->segments_group : t->columns_group;
    g.work_groups = least(divide_up(view->weights, g.work_group_size), most(1, cutter->compute_units));
    return g;
}

struct cln_geometry cln_geometry_mask(uint64_t words, const struct cln_cutter *cutter)
{
    struct cln_geometry g = cln_geometry_results(words, cutter->tuning, 1);
    uint64_t worth = divide_up(words, (uint64_t)MASK_WORDS * g.work_group_size);
    g.work_groups = least(worth, wanted_of(cutter));
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
    uint64_t across = (uint64_t)g->parts_outer * (g->team / g->lanes);
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

/* ---- partials ---- */

static uint64_t columns_partials(const struct cln_view *v, const struct cln_cutter *c)
{
    /* A smaller batch may have too few rows to be folded. */
    struct cln_geometry g = columns_parts(v, c, MOST_PARTIALS);
    uint64_t unfolded = least(wanted_of(c), most(1, v->outers / LEAST_VECTORS));
    return g.fold == 1 ? g.parts_outer : most((uint64_t)g.parts_outer * g.fold + 1, least(unfolded, MOST_PARTIALS));
}

/* Parts that `groups` or fewer single runs are cut into, all together: the fewer there are, the more parts has each. */
static uint64_t runs_partials(const struct cln_view *v, const struct cln_cutter *c, uint64_t groups)
{
    return (wanted_of(c) + groups) * most(1, divide_up(v->inners * v->merged, MOST_INNER));
}

uint64_t cln_geometry_few_rows(const struct cln_view *v, const struct cln_cutter *c)
{
    struct cln_geometry g = segments(v, c->tuning);
    uint64_t bytes = cln_view_count(v) * sizeof(float) * 2;
    if (!v->along || g.parts_inner > 1 || bytes > (uint64_t)c->tuning->fused_kib * 1024)
        return 0;
    /* As many as make no balanced turns. */
    return least(v->groups, most(1, c->compute_units) * 3 * (g.work_group_size / g.team));
}

static uint64_t rows_partials(const struct cln_view *v, const struct cln_cutter *c)
{
    struct cln_view weights = cln_geometry_weights_view(v);
    struct cln_geometry split = columns_parts(&weights, c, MOST_PARTIALS), row = segments(v, c->tuning);
    uint64_t few = cln_geometry_few_rows(v, c), teams = row.work_group_size / row.team;
    uint64_t gathered = least(wanted_of(c), v->groups / (LEAST_ROWS * teams * v->cycle)) * teams;
    return most(CLN_MOMENTS_PLANES * runs_partials(v, c, few ? few : v->groups),
                CLN_DOTS_PLANES * v->weights * most(gathered, split.parts_outer > 1 ? split.parts_outer : 0));
}

uint64_t cln_geometry_partials(const struct cln_view *view, const struct cln_cutter *cutter, int batch)
{
    struct cln_view one = *view;
    if (view->along)
        return rows_partials(view, cutter);
    if (view->family == CLN_SEGMENTS)
        return batch ? segments_parts(view, cutter) * most(1, divide_up(view->inners, MOST_INNER)) * view->groups *
                           CLN_MOMENTS_PLANES
                     : runs_partials(view, cutter, view->groups) * CLN_MOMENTS_PLANES;
    if (batch)
        return columns_partials(view, cutter) * view->groups * CLN_MOMENTS_PLANES;
    /* Of one sample, of columns that may be folded; or of several: the fewer there are, the more parts has each. */
    one.groups = one.set = view->weights;
    struct cln_geometry g = columns(&one, cutter->tuning, 1);
    return CLN_MOMENTS_PLANES * most(columns_partials(&one, cutter) * one.groups,
                                     wanted_of(cutter) * divide_up(one.groups, g.set_tiles) + view->groups);
}
