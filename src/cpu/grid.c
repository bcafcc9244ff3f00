#include "cpu/grid.h"

enum {
    ENOUGH_BANDS = 8, /* from here on whole bands keep all threads busy */
    MOST_TASKS = 32,  /* parts of all bands, where there are fewer */
    LEAST_ROWS = 64,  /* of a part, columns */
    LEAST_RUN = 4096, /* elements of a part of a run, and of a band's runs together */
};

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

/* Groups of a band: enough neighbouring short runs to make long ones, but enough bands, too. */
static uint32_t band_of(const struct cln_view *v)
{
    if (v->family == CLN_COLUMNS)
        return CLN_BAND;
    uint64_t wanted = divide_up(LEAST_RUN, most(1, v->inners));
    return (uint32_t)most(1, least(least(wanted, CLN_BAND), v->groups / ENOUGH_BANDS));
}

static uint64_t parts_for(uint64_t bands)
{
    return bands >= ENOUGH_BANDS ? 1 : MOST_TASKS / bands;
}

struct cln_grid cln_grid_make(const struct cln_view *v)
{
    struct cln_grid g = {.groups = v->groups, .band = band_of(v), .parts_outer = 1, .parts_inner = 1};
    g.bands = divide_up(v->groups, g.band);
    uint64_t parts = parts_for(g.bands);
    if (v->family == CLN_COLUMNS) {
        g.parts_outer = most(1, least(parts, v->outers / LEAST_ROWS));
    } else {
        g.parts_outer = most(1, least(parts, v->outers));
        g.parts_inner = most(1, least(parts / g.parts_outer, v->inners / LEAST_RUN));
    }
    return g;
}

uint64_t cln_grid_parts(const struct cln_grid *grid)
{
    return grid->parts_outer * grid->parts_inner;
}

uint64_t cln_grid_most_parts(const struct cln_view *view)
{
    return parts_for(divide_up(view->groups, band_of(view)));
}

uint64_t cln_grid_first(const struct cln_grid *grid, uint64_t band)
{
    return band * grid->band;
}

uint32_t cln_grid_count(const struct cln_grid *grid, uint64_t band)
{
    return (uint32_t)least(grid->band, grid->groups - cln_grid_first(grid, band));
}

/* Part k of n things cut into parts pieces starts here. */
static uint64_t cut(uint64_t n, uint64_t k, uint64_t parts)
{
    return n / parts * k + least(k, n % parts);
}

struct cln_band cln_grid_part(const struct cln_grid *grid, const struct cln_view *v, uint64_t band, uint64_t part,
                              uint64_t *offset)
{
    uint64_t po = part / grid->parts_inner, pi = part % grid->parts_inner;
    uint64_t o0 = cut(v->outers, po, grid->parts_outer), o1 = cut(v->outers, po + 1, grid->parts_outer);
    uint64_t i0 = cut(v->inners, pi, grid->parts_inner), i1 = cut(v->inners, pi + 1, grid->parts_inner);
    *offset = cln_grid_first(grid, band) * v->group_stride + o0 * v->outer_stride + i0;
    return (struct cln_band){o1 - o0, i1 - i0, v->outer_stride, v->group_stride, cln_grid_count(grid, band)};
}
