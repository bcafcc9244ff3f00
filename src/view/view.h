/* Every norm and layout as one of two memory patterns, so that two kernel families cover all of them (docs/design.md).
 *
 * segments: group g is `outers` runs of `inners` elements, `outer_stride` apart, the first at g·group_stride
 *     batch norm, channels-first: outers = n, inners = positions, outer_stride = c·positions, group_stride = positions
 * columns:  group g is column g of a row-major matrix of `outers` rows and `groups` columns
 *     batch norm, (n, c) and channels-last: outers = n·positions */
#ifndef CLNORM_SRC_VIEW_VIEW_H
#define CLNORM_SRC_VIEW_VIEW_H

#include <clnorm/clnorm.h>

enum cln_family { CLN_SEGMENTS, CLN_COLUMNS };

struct cln_view {
    enum cln_family family;
    uint64_t groups;
    uint64_t outers;
    uint64_t inners;       /* segments: elements of a run; columns: 1 */
    uint64_t outer_stride; /* elements */
    uint64_t group_stride; /* elements */
};

/* The view of a checked descriptor for n samples. */
struct cln_view cln_view_make(const clnorm_desc *desc, uint64_t n);

/* Elements of a tensor, and values per group. */
uint64_t cln_view_elements(const struct cln_view *view);
uint64_t cln_view_count(const struct cln_view *view);

#endif
