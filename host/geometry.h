/* How a problem is cut into work-groups: shapes become kernel arguments here, never build options. */
#ifndef CLNORM_HOST_GEOMETRY_H
#define CLNORM_HOST_GEOMETRY_H

#include "backend/op.h"
#include "tuning.h"

struct cln_geometry {
    uint32_t parts_outer, parts_inner; /* a group is cut into parts_outer × parts_inner parts */
    uint32_t lanes;                    /* work-items of a work-group along a run or a row */
    uint32_t span;                     /* groups (columns: vectors of groups) that a work-item takes */
    uint64_t tiles;                    /* of so many groups */
    uint32_t fold;                     /* columns: rows that are taken as one */
    uint32_t blocks;                   /* fused: work-groups that share the tiles */
    uint64_t work_groups;
    uint32_t work_group_size;
};

/* What a cut depends on beside the view. */
struct cln_cutter {
    const struct cln_tuning *tuning;
    uint32_t compute_units;
};

/* For the kernels that reduce parts of groups to partials. */
struct cln_geometry cln_geometry_reduce(const struct cln_view *view, const struct cln_cutter *cutter);
/* For the kernels that normalize with statistics that are there. */
struct cln_geometry cln_geometry_apply(const struct cln_view *view, const struct cln_cutter *cutter);
/* Why a call of `tensors` inputs cannot run as one kernel that takes whole groups; NULL, with the geometry, if it can. */
const char *cln_geometry_fused(const struct cln_view *view, const struct cln_cutter *cutter, uint32_t tensors,
                               struct cln_geometry *g);
/* For the kernels with one value a group, merging `parts` partials. */
struct cln_geometry cln_geometry_groups(const struct cln_view *view, const struct cln_tuning *tuning, uint32_t parts);
/* The partials that a reduction leaves of each group. */
uint32_t cln_geometry_parts(const struct cln_view *view, const struct cln_geometry *reduction);

/* What statistics read twice for the pivots of their blocks, as a part of x; of a reduction or a fused forward. Parts of unequal size
 * are taken for equal. */
double cln_geometry_pivots(const struct cln_view *view, const struct cln_tuning *tuning, const struct cln_geometry *g);

/* The most partials a group that a batch of this view's size or a smaller one is cut into. */
uint64_t cln_geometry_partials(const struct cln_view *view, const struct cln_cutter *cutter);

#endif
