/* How a problem is cut into tasks: bands of neighbouring groups, parts of a band, and chunks of the tensor in the order of its
 * addresses. The cut depends on the shape alone, never on the number of threads: same bits for any number of them. */
#ifndef CLNORM_SRC_CPU_GRID_H
#define CLNORM_SRC_CPU_GRID_H

#include "cpu/kernels.h"
#include "view/view.h"

struct cln_grid {
    enum cln_family family; /* segments of one element are columns */
    uint64_t groups, bands;
    uint32_t band; /* groups of a band; the last may have fewer */
    int tiled;     /* a band stays in the cache between its sums and what is done with them; then it has one part */
    int fetches;   /* … and has room there for the next one */
    uint64_t parts_outer, parts_inner;
    uint64_t chunks, chunk; /* elements of a chunk; the last may have fewer */
};

/* tensors: how many are read together. */
struct cln_grid cln_grid_make(const struct cln_view *view, unsigned tensors);
uint64_t cln_grid_parts(const struct cln_grid *grid);
/* The most parts that any batch of this view's size or a smaller one is cut into. */
uint64_t cln_grid_most_parts(const struct cln_view *view);

/* Where part k starts of n things that are cut into so many parts. */
uint64_t cln_grid_cut(uint64_t n, uint64_t k, uint64_t parts);
/* First group of a band, and its number of groups. */
uint64_t cln_grid_first(const struct cln_grid *grid, uint64_t band);
uint32_t cln_grid_count(const struct cln_grid *grid, uint64_t band);
/* A part of a band as the kernels take it, and where in the tensor it starts. */
struct cln_band cln_grid_part(const struct cln_grid *grid, const struct cln_view *view, uint64_t band, uint64_t part,
                              uint64_t *offset);
/* A chunk of the tensor. */
struct cln_stretch cln_grid_chunk(const struct cln_grid *grid, const struct cln_view *view, uint64_t chunk,
                                  uint64_t *offset);

#endif
