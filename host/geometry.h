/* How a problem is cut into work-groups: shapes become kernel arguments here, never build options. */
#ifndef CLNORM_HOST_GEOMETRY_H
#define CLNORM_HOST_GEOMETRY_H

#include "backend/op.h"
#include "tuning.h"

struct cln_geometry {
    uint32_t parts_outer, parts_inner; /* a group is cut into parts_outer × parts_inner parts */
    uint32_t lanes;                    /* work-items of a work-group along a run or a row */
    uint64_t work_groups;
    uint32_t work_group_size;
};

/* For the kernels that walk the tensor. most_parts bounds parts_outer · parts_inner except where 32-bit inner offsets need more. */
struct cln_geometry cln_geometry_tensor(const struct cln_view *view, const struct cln_tuning *tuning,
                                        uint32_t compute_units, uint32_t most_parts);
/* The most partials a group that a batch of this view's size or a smaller one is cut into. */
uint64_t cln_geometry_partials(const struct cln_view *view, const struct cln_tuning *tuning, uint32_t compute_units);
/* For the kernels with one value a group, merging `parts` partials. */
struct cln_geometry cln_geometry_groups(const struct cln_view *view, const struct cln_tuning *tuning, uint32_t parts);

/* Most partials a group. */
enum { CLN_MOST_PARTIALS = 256 };

#endif
