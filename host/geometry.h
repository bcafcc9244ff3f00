/* How a problem is cut into work-groups: shapes become kernel arguments here, never build options. */
#ifndef CLNORM_HOST_GEOMETRY_H
#define CLNORM_HOST_GEOMETRY_H

#include "backend/op.h"
#include "launch.h"
#include "tuning.h"

struct cln_geometry {
    uint32_t parts_outer, parts_inner; /* a group is cut into parts_outer × parts_inner parts */
    uint32_t lanes;                    /* work-items of a work-group along a run or a row */
    uint32_t team;                     /* work-items of a work-group that share a tile */
    uint32_t span;                     /* groups (columns: vectors of groups) that a work-item takes */
    uint64_t tiles;                    /* of so many groups */
    uint64_t set_tiles;                /* columns: tiles of a set */
    uint32_t fold;                     /* columns: rows that are taken as one */
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
/* Rows: whether a fused backward of that geometry gathers the weights' gradients as well; its work-groups are made as few as that
 * takes. Each team of work-items leaves a part of each weight. */
int cln_geometry_gather(const struct cln_view *view, const struct cln_cutter *cutter, struct cln_geometry *g);
uint64_t cln_geometry_gathered(const struct cln_geometry *g);
/* Rows as columns of weights. */
struct cln_view cln_geometry_weights_view(const struct cln_view *rows);
/* For the kernels with one result each of `results`, merging `parts` partials. */
struct cln_geometry cln_geometry_results(uint64_t results, const struct cln_tuning *tuning, uint64_t parts);
/* The partials that a reduction leaves of each group. */
uint32_t cln_geometry_parts(const struct cln_view *view, const struct cln_geometry *reduction);

/* What statistics read twice for the pivots of their blocks, as a part of x; of a reduction or a fused forward. Parts of unequal size
 * are taken for equal. */
double cln_geometry_pivots(const struct cln_view *view, const struct cln_tuning *tuning, const struct cln_geometry *g);

/* Floats of partials that any call of this view's size or a smaller one needs, and for rows whose calls need no planes in the
 * workspace unless they are so few that a call is split: how many that is (else 0). `batch`: batch norm. */
uint64_t cln_geometry_partials(const struct cln_view *view, const struct cln_cutter *cutter, int batch);
uint64_t cln_geometry_few_rows(const struct cln_view *view, const struct cln_cutter *cutter);

/* Of the words of a mask. */
struct cln_geometry cln_geometry_mask(uint64_t words, const struct cln_cutter *cutter);
/* Of the weights of a backward from y, by work-groups of the family's size. */
struct cln_geometry cln_geometry_found(const struct cln_view *view, const struct cln_cutter *cutter);

#endif
