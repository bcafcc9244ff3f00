#include "opencl.h"

#include <stdio.h>

struct cln_cutter cln_cl_cutter(const clnorm_device *device)
{
    const struct cln_cl_device *impl = device->impl;
    return (struct cln_cutter){&impl->tuning, device->info.compute_units};
}

int cln_cl_streams(const clnorm_device *device, const struct cln_view *view, uint32_t tensors)
{
    const struct cln_cl_device *impl = device->impl;
    uint64_t bytes = cln_view_elements(view) * sizeof(float) * tensors;
    return device->info.kind == CLNORM_CLASS_CPU && impl->cache_bytes > 0 && bytes > impl->cache_bytes / 4 * 3;
}

size_t cln_cl_partials_bytes(const clnorm_plan *plan)
{
    struct cln_cutter cutter = cln_cl_cutter(plan->device);
    return (size_t)cln_geometry_partials(&plan->view, &cutter) * CLN_MOMENTS_PLANES * plan->view.groups * sizeof(float);
}

/* A call that reads `tensors` tensors: what it launches, and what that moves. */
static size_t explain_call(char *text, size_t bytes, const clnorm_plan *plan, uint32_t tensors)
{
    const struct cln_view *view = &plan->view;
    struct cln_cutter cutter = cln_cl_cutter(plan->device);
    struct cln_geometry fused, reduce = cln_geometry_reduce(view, &cutter), apply = cln_geometry_apply(view, &cutter);
    const char *why_not = cln_geometry_fused(view, &cutter, tensors, &fused);
    const char *what = tensors == 1 ? "forward" : "backward", *in = tensors == 1 ? "x" : "x and dy";
    const char *out = tensors == 1 ? "y" : "dx", *family = view->family == CLN_SEGMENTS ? "segments" : "columns";
    const char *past = cln_cl_streams(plan->device, view, tensors + 1) ? ", stored past the cache" : "";
    const char *commit = tensors == 1 ? ", then groups_forward_commit for running statistics" : "";
    int n;
    if (!why_not)
        n = snprintf(text, bytes,
                     "%s: fused: %s_%s_fused (%llu work-groups of %u)%s; %s read once from memory and once from the "
                     "cache, %s written once%s: %u bytes an element from memory\n",
                     what, family, what, (unsigned long long)fused.work_groups, fused.work_group_size, commit, in, out,
                     past, 4 * (tensors + 1));
    else
        n = snprintf(text, bytes,
                     "%s: split, for %s: %s_%s (%llu work-groups of %u), groups_%s_finish (%u parts a group), "
                     "%s_%s_apply (%llu)%s; %s read twice, %s written once%s: %u bytes an element\n",
                     what, why_not, family, tensors == 1 ? "forward_statistics" : "backward_reduce",
                     (unsigned long long)reduce.work_groups, reduce.work_group_size, what,
                     cln_geometry_parts(view, &reduce), family, what, (unsigned long long)apply.work_groups, commit, in,
                     out, past, 4 * (2 * tensors + 1));
    return n > 0 ? (size_t)n : 0;
}

void cln_cl_explain(clnorm_plan *plan)
{
    struct cln_cutter cutter = cln_cl_cutter(plan->device);
    struct cln_geometry apply = cln_geometry_apply(&plan->view, &cutter);
    int segments = plan->view.family == CLN_SEGMENTS;
    const char *family = segments ? "segments" : "columns";
    size_t bytes = sizeof plan->explain;
    int head = snprintf(
        plan->explain, bytes, "%s, %s, vectors of %u, spans of up to %u; launch shape from: %s\n",
        plan->device->info.id, family, segments ? cutter.tuning->segments_width : cutter.tuning->columns_width,
        segments ? cutter.tuning->segments_span : cutter.tuning->columns_span, plan->device->info.tuning_source);
    size_t n = head > 0 ? (size_t)head : 0;
    for (uint32_t tensors = 1; tensors <= 2 && n < bytes; tensors++)
        n += explain_call(plan->explain + n, bytes - n, plan, tensors);
    if (n < bytes)
        snprintf(plan->explain + n, bytes - n,
                 "infer: %s_forward_apply (%llu work-groups); x read once, y written once%s: 8 bytes an element\n",
                 family, (unsigned long long)apply.work_groups,
                 cln_cl_streams(plan->device, &plan->view, 2) ? ", stored past the cache" : "");
}
