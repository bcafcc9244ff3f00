#include "cpu/grid.h"

#include "base/integers.h"

enum {
    ENOUGH_BANDS = 8,       /* from here on whole bands keep all threads busy, */
    MANY_BANDS = 16,        /* and these evenly */
    MOST_TASKS = 32,        /* parts of all bands, where there are fewer */
    LEAST_ROWS = 64,        /* of a part, columns */
    LEAST_PART = 8192,      /* elements of a part */
    LEAST_RUN = 1024,       /* elements of a band that follow each other */
    TILE = 3 << 14,         /* elements of a band of segments: a core's own cache has room for three, */
    WIDE_TILE = 3 << 15,    /* and for so many of columns, which are not fetched ahead */
    LINE = 16,              /* elements of a cache line */
    MOST_FETCHED = 3 << 14, /* of all tensors of a band: the next one is fetched whole */
    CHUNKS = 64,            /* of a tensor, */
    LEAST_CHUNK = 1 << 13,  /* with at least so many elements */
    MOST_CHUNK = 1 << 16,   /* and at most so many */
    PARTIALS = 3 << 15      /* sums that all parts together may keep: 768 KiB */
};

/* Neighbouring groups that make a tile of so many elements, if its runs are long enough. */
static uint64_t tile_of(const struct cln_view *v, uint64_t elements)
{
    return elements / most(1, v->outers * v->inners);
}

/* Few rows that are long enough to be cut into tiles. */
static int columns_tile(const struct cln_view *v, unsigned tensors)
{
    return tile_of(v, WIDE_TILE / tensors) >= LEAST_RUN / 4 && v->groups >= LEAST_RUN;
}

/* Groups of so many elements that together end on a cache line: a line of which two bands write a part each is read first. */
static uint64_t whole_lines(uint64_t inners)
{
    uint64_t power = inners & (~inners + 1);
    return power >= LINE ? 1 : LINE / power;
}

static uint64_t band_of(const struct cln_view *v, enum cln_family family, unsigned tensors)
{
    if (family == CLN_COLUMNS) {
        uint64_t wanted = columns_tile(v, tensors) ? most(LEAST_RUN / 4, v->groups / ENOUGH_BANDS) : CLN_BAND;
        uint64_t bands = divide_up(v->groups, least(wanted, CLN_BAND));
        return divide_up(divide_up(v->groups, bands), 16) * 16;
    }
    uint64_t wanted = most(tile_of(v, TILE / tensors), divide_up(LEAST_RUN, v->inners));
    uint64_t band = most(1, least(least(wanted, CLN_BAND), v->groups / MANY_BANDS)), lines = whole_lines(v->inners);
    return band < lines ? band : band - band % lines;
}

static uint64_t parts_for(uint64_t bands, uint64_t groups)
{
    return most(1, least(MOST_TASKS / least(bands, MOST_TASKS), most(2, PARTIALS / 2 / groups)));
}

struct cln_grid cln_grid_make(const struct cln_view *v, unsigned tensors)
{
    struct cln_grid g = {.groups = v->groups, .parts_outer = 1, .parts_inner = 1};
    uint64_t elements = cln_view_elements(v);
    g.family = v->inners == 1 ? CLN_COLUMNS : v->family;
    g.band = (uint32_t)band_of(v, g.family, tensors);
    g.bands = divide_up(v->groups, g.band);
    g.tiled = g.family == CLN_COLUMNS ? columns_tile(v, tensors) : g.bands >= ENOUGH_BANDS;
    g.fetches = g.tiled && g.family == CLN_SEGMENTS && tensors * g.band * v->outers * v->inners <= MOST_FETCHED;
    if (!g.tiled) {
        uint64_t parts = most(1, least(parts_for(g.bands, g.groups), elements / g.bands / LEAST_PART));
        if (g.family == CLN_COLUMNS) {
            g.parts_outer = most(1, least(parts, v->outers / LEAST_ROWS));
        } else {
            g.parts_outer = most(1, least(parts, v->outers));
            g.parts_inner = most(1, least(parts / g.parts_outer, v->inners / LEAST_PART));
        }
    }
    g.chunk = divide_up(most(LEAST_CHUNK, least(elements / CHUNKS, MOST_CHUNK)), 16) * 16;
    if (g.family == CLN_COLUMNS && g.chunk >= g.groups) /* whole rows */
        g.chunk -= g.chunk % g.groups;
    g.chunks = divide_up(elements, g.chunk);
    return g;
}

uint64_t cln_grid_parts(const struct cln_grid *grid)
{
    return grid->parts_outer * grid->parts_inner;
}

uint64_t cln_grid_most_parts(const struct cln_view *view)
{
    return parts_for(1, view->groups);
}

uint64_t cln_grid_first(const struct cln_grid *grid, uint64_t band)
{
    return band * grid->band;
}

uint32_t cln_grid_count(const struct cln_grid *grid, uint64_t band)
{
    return (uint32_t)least(grid->band, grid->groups - cln_grid_first(grid, band));
}

uint64_t cln_grid_cut(uint64_t n, uint64_t k, uint64_t parts)
{
    return n / parts * k + least(k, n % parts);
}

struct cln_band cln_grid_part(const struct cln_grid *grid, const struct cln_view *v, uint64_t band, uint64_t part,
                              uint64_t *offset)
{
    uint64_t po = part / grid->parts_inner, pi = part % grid->parts_inner;
    uint64_t o0 = cln_grid_cut(v->outers, po, grid->parts_outer),
             o1 = cln_grid_cut(v->outers, po + 1, grid->parts_outer);
    uint64_t i0 = cln_grid_cut(v->inners, pi, grid->parts_inner),
             i1 = cln_grid_cut(v->inners, pi + 1, grid->parts_inner);
    *offset = cln_grid_first(grid, band) * v->group_stride + o0 * v->outer_stride + i0;
    return (struct cln_band){.outers = o1 - o0,
                             .inners = i1 - i0,
                             .outer_stride = v->outer_stride,
                             .group_stride = v->group_stride,
                             .count = cln_grid_count(grid, band)};
}

struct cln_stretch cln_grid_chunk(const struct cln_grid *grid, const struct cln_view *v, uint64_t chunk,
                                  uint64_t *offset)
{
    uint64_t inners = most(1, v->inners), run = chunk * grid->chunk / inners;
    *offset = chunk * grid->chunk;
    return (struct cln_stretch){.count = least(grid->chunk, cln_view_elements(v) - *offset),
                                .group = run % v->groups,
                                .inner = *offset % inners,
                                .groups = v->groups,
                                .inners = inners};
}
