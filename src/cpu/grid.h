/* How a problem is cut into tasks: bands of neighbouring groups, and parts of a band where there are few bands. The cut depends on the
 * shape alone, never on the number of threads: same bits for any number of them. */
#ifndef CLNORM_SRC_CPU_GRID_H
#define CLNORM_SRC_CPU_GRID_H

#include "cpu/kernels.h"
#include "view/view.h"

struct cln_grid {
    uint64_t groups, bands;
    uint32_t band; /* groups of a band; the last may have fewer */
    uint64_t parts_outer, parts_inner;
};

struct cln_grid cln_grid_make(const struct cln_view *view);
uint64_t cln_grid_parts(const struct cln_grid *grid);
/* The most parts that any batch of this view's size or a smaller one is cut into. */
uint64_t cln_grid_most_parts(const struct cln_view *view);

/* First group of a band, and its number of groups. */
uint64_t cln_grid_first(const struct cln_grid *grid, uint64_t band);
uint32_t cln_grid_count(const struct cln_grid *grid, uint64_t band);
/* A part of a band as the kernels take it, and where in the tensor it starts. */
struct cln_band cln_grid_part(const struct cln_grid *grid, const struct cln_view *view, uint64_t band, uint64_t part,
                              uint64_t *offset);

#endif
