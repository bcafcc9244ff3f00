#include "view/view.h"

struct cln_view cln_view_make(const clnorm_desc *desc, uint64_t n)
{
    uint64_t positions = 1;
    for (int32_t i = 0; i < desc->spatial_dims; i++)
        positions *= (uint64_t)desc->spatial[i];
    uint64_t c = (uint64_t)desc->c;
    struct cln_view v = {.groups = c};
    if (c == 1) { /* one channel is one run in every layout */
        v.family = CLN_SEGMENTS;
        v.outers = n > 0;
        v.inners = n * positions;
        v.outer_stride = v.group_stride = n * positions;
    } else if (desc->layout == CLNORM_NCS && positions > 1) {
        v.family = CLN_SEGMENTS;
        v.outers = n;
        v.inners = positions;
        v.outer_stride = c * positions;
        v.group_stride = positions;
    } else {
        v.family = CLN_COLUMNS;
        v.outers = n * positions;
        v.inners = 1;
        v.outer_stride = c;
        v.group_stride = 1;
    }
    return v;
}

uint64_t cln_view_elements(const struct cln_view *view)
{
    return view->groups * cln_view_count(view);
}

uint64_t cln_view_count(const struct cln_view *view)
{
    return view->outers * view->inners;
}
