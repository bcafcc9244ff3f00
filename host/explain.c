#include "opencl.h"

#include <stdarg.h>
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

/* ---- the text ---- */

/* One call of a plan: of so many input tensors, in launches that are counted. */
struct call {
    clnorm_plan *plan;
    struct cln_cutter cutter;
    size_t used; /* of plan->explain */
    uint32_t tensors;
    int launches;
};

static void say(struct call *c, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void say(struct call *c, const char *format, ...)
{
    size_t left = sizeof c->plan->explain - c->used;
    va_list list;
    va_start(list, format);
    int n = vsnprintf(c->plan->explain + c->used, left, format, list);
    va_end(list);
    c->used += n > 0 && (size_t)n < left ? (size_t)n : 0;
}

static void say_launch(struct call *c, enum cln_kernel kernel, const struct cln_geometry *g)
{
    char name[64];
    cln_kernel_name(kernel, c->plan->view.family, name, sizeof name);
    say(c, "%s  launch %d: %s, %llu work-groups of %u", c->launches ? "\n" : "", c->launches + 1, name,
        (unsigned long long)g->work_groups, g->work_group_size);
    if (g->fold > 1)
        say(c, ", %u rows taken as one", g->fold);
    c->launches++;
}

/* times: how often the inputs come from memory; again: what is read once more of them by then, as a part of all. */
static void say_traffic(struct call *c, int times, double again)
{
    const char *in = c->tensors == 1 ? "x" : "x and dy", *out = c->tensors == 1 ? "y" : "dx";
    uint32_t bytes = c->tensors * (uint32_t)sizeof(float);
    say(c, "\n  tensors: %s read %s, %s written once%s\n" CLN_EXPLAIN_BYTES "; %.4g read again from the cache\n", in,
        times == 2   ? "twice"
        : again >= 1 ? "once from memory and once from the cache"
                     : "once",
        out, cln_cl_streams(c->plan->device, &c->plan->view, c->tensors + 1) ? ", stored past the cache" : "",
        bytes * (uint32_t)times, (uint32_t)sizeof(float), bytes * again);
}

static void say_commit(struct call *c)
{
    struct cln_geometry g = cln_geometry_groups(&c->plan->view, c->cutter.tuning, 1);
    say_launch(c, CLN_KERNEL_FORWARD_COMMIT, &g);
    say(c, ", if there are running statistics");
}

static void say_fused(struct call *c, const struct cln_geometry *g)
{
    const struct cln_view *v = &c->plan->view;
    int forward = c->tensors == 1, segments = v->family == CLN_SEGMENTS;
    uint64_t groups = segments ? g->span : (uint64_t)g->span * g->lanes * c->cutter.tuning->columns_width;
    uint64_t bytes = cln_view_count(v) * sizeof(float) * c->tensors * (groups < v->groups ? groups : v->groups);
    say(c, "fused, for %llu tiles of %llu KiB (at most %u) stay in the cache and keep %u compute units busy\n",
        (unsigned long long)g->tiles, (unsigned long long)(bytes + 1023) / 1024, c->cutter.tuning->fused_kib,
        c->cutter.compute_units);
    say_launch(c, forward ? CLN_KERNEL_FORWARD_FUSED : CLN_KERNEL_BACKWARD_FUSED, g);
    if (forward)
        say_commit(c);
    say_traffic(c, 1, 1 + (forward ? cln_geometry_pivots(v, c->cutter.tuning, g) : 0));
}

static void say_split(struct call *c, const char *why_not_fused)
{
    const struct cln_view *v = &c->plan->view;
    int forward = c->tensors == 1;
    struct cln_geometry reduce = cln_geometry_reduce(v, &c->cutter), apply = cln_geometry_apply(v, &c->cutter);
    uint32_t parts = cln_geometry_parts(v, &reduce);
    struct cln_geometry finish = cln_geometry_groups(v, c->cutter.tuning, parts);
    say(c, "split, for %s\n", why_not_fused);
    say_launch(c, forward ? CLN_KERNEL_FORWARD_STATISTICS : CLN_KERNEL_BACKWARD_REDUCE, &reduce);
    say_launch(c, forward ? CLN_KERNEL_FORWARD_FINISH : CLN_KERNEL_BACKWARD_FINISH, &finish);
    say(c, ", which merge %u parts a group", parts);
    say_launch(c, forward ? CLN_KERNEL_FORWARD_APPLY : CLN_KERNEL_BACKWARD_APPLY, &apply);
    if (forward)
        say_commit(c);
    say_traffic(c, 2, forward ? cln_geometry_pivots(v, c->cutter.tuning, &reduce) : 0);
}

void cln_cl_explain(clnorm_plan *plan)
{
    struct call c = {.plan = plan, .cutter = cln_cl_cutter(plan->device)};
    struct cln_geometry g;
    const struct cln_tuning *t = c.cutter.tuning;
    int segments = plan->view.family == CLN_SEGMENTS;
    say(&c, "%s, %s, vectors of %u, spans of up to %u; launch shape from: %s\n", plan->device->info.id,
        segments ? "segments" : "columns", segments ? t->segments_width : t->columns_width,
        segments ? t->segments_span : t->columns_span, plan->device->info.tuning_source);
    for (c.tensors = 1; c.tensors <= 2; c.tensors++) {
        const char *why_not = cln_geometry_fused(&plan->view, &c.cutter, c.tensors, &g);
        c.launches = 0;
        say(&c, "%s: ", c.tensors == 1 ? "forward" : "backward");
        if (why_not)
            say_split(&c, why_not);
        else
            say_fused(&c, &g);
    }
    c.tensors = 1;
    c.launches = 0;
    g = cln_geometry_apply(&plan->view, &c.cutter);
    say(&c, "infer: apply alone, for the statistics are there\n");
    say_launch(&c, CLN_KERNEL_FORWARD_APPLY, &g);
    say_traffic(&c, 1, 0);
}
