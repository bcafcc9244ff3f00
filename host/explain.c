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

/* ---- text ---- */

struct text {
    char *at;
    size_t left;
};

__attribute__((format(printf, 2, 3))) static void say(struct text *t, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    int n = vsnprintf(t->at, t->left, format, arguments);
    va_end(arguments);
    size_t used = n > 0 ? (size_t)n : 0;
    used = used < t->left ? used : t->left;
    t->at += used;
    t->left -= used;
}

/* A call as explain tells of it: `tensors` inputs, how often they are read from memory, and the kernels' names. */
struct call {
    const clnorm_plan *plan;
    struct cln_cutter cutter;
    uint32_t tensors;
    const char *family, *what, *in, *out;
};

static int is_forward(const struct call *c)
{
    return c->tensors == 1;
}

static void say_commit(struct text *t, const struct call *c)
{
    if (is_forward(c) && (c->plan->desc.norm == CLNORM_BATCH || c->plan->desc.norm == CLNORM_INSTANCE))
        say(t, ", then groups_forward_commit for running statistics");
}

static void say_out(struct text *t, const struct call *c, const char *read, uint32_t bytes, const char *of)
{
    say(t, "; %s %s, %s written once%s: %u bytes an element%s\n", c->in, read, c->out,
        cln_cl_streams(c->plan->device, &c->plan->view, c->tensors + 1) ? ", stored past the cache" : "", bytes, of);
}

/* Rows: the pass of its own for the weights' gradients. */
static void say_weights_pass(struct text *t, const struct call *c)
{
    struct cln_view weights = cln_geometry_weights_view(&c->plan->view);
    struct cln_geometry g = cln_geometry_reduce(&weights, &c->cutter);
    say(t, ", columns_backward_weights (%llu work-groups of %u)", (unsigned long long)g.work_groups, g.work_group_size);
    if (g.parts_outer > 1)
        say(t, ", groups_backward_weights (%u parts a weight)", g.parts_outer);
}

static void say_fused(struct text *t, const struct call *c, struct cln_geometry *g)
{
    const struct cln_view *view = &c->plan->view;
    int has_weights = !is_forward(c) && c->plan->desc.norm != CLNORM_BATCH;
    int gathers = has_weights && (!view->along || cln_geometry_gather(view, &c->cutter, g));
    say(t, "%s: fused: %s_%s_fused (%llu work-groups of %u)", c->what, c->family, c->what,
        (unsigned long long)g->work_groups, g->work_group_size);
    say_commit(t, c);
    if (gathers)
        say(t, ", then groups_backward_weights (%llu parts a weight)",
            (unsigned long long)(view->along ? cln_geometry_gathered(g) : view->groups / view->weights));
    if (has_weights && !gathers) {
        say_weights_pass(t, c); /* too few rows to gather them on the way */
        say_out(t, c, "read twice from memory and once from the cache", 20, " from memory");
    } else {
        say_out(t, c, "read once from memory and once from the cache", 4 * (c->tensors + 1), " from memory");
    }
}

static void say_split(struct text *t, const struct call *c, const char *why_not)
{
    const struct cln_view *view = &c->plan->view;
    struct cln_view reduced = is_forward(c) && view->family == CLN_SEGMENTS ? cln_view_merge(view) : *view;
    struct cln_geometry reduce = cln_geometry_reduce(&reduced, &c->cutter),
                        apply = cln_geometry_apply(view, &c->cutter);
    int has_weights = !is_forward(c) && c->plan->desc.norm != CLNORM_BATCH;
    say(t, "%s: split, for %s: %s_%s (%llu work-groups of %u), groups_%s_finish (%u parts a group)", c->what, why_not,
        c->family, is_forward(c) ? "forward_statistics" : "backward_reduce", (unsigned long long)reduce.work_groups,
        reduce.work_group_size, c->what, cln_geometry_parts(&reduced, &reduce));
    if (has_weights && view->along)
        say_weights_pass(t, c);
    else if (has_weights)
        say(t, ", groups_backward_weights");
    say(t, ", %s_%s_apply (%llu)", c->family, c->what, (unsigned long long)apply.work_groups);
    say_commit(t, c);
    if (has_weights && view->along)
        say_out(t, c, "read three times", 28, "");
    else
        say_out(t, c, "read twice", 4 * (2 * c->tensors + 1), "");
}

static void say_call(struct text *t, const clnorm_plan *plan, uint32_t tensors)
{
    struct call c = {.plan = plan,
                     .cutter = cln_cl_cutter(plan->device),
                     .tensors = tensors,
                     .family = cln_program_names[cln_program_of(&plan->view)],
                     .what = tensors == 1 ? "forward" : "backward",
                     .in = tensors == 1 ? "x" : "x and dy",
                     .out = tensors == 1 ? "y" : "dx"};
    struct cln_geometry fused;
    const char *why_not = cln_geometry_fused(&plan->view, &c.cutter, tensors, &fused);
    if (why_not)
        say_split(t, &c, why_not);
    else
        say_fused(t, &c, &fused);
}

void cln_cl_explain(clnorm_plan *plan)
{
    struct text t = {plan->explain, sizeof plan->explain};
    const struct cln_view *view = &plan->view;
    struct cln_cutter cutter = cln_cl_cutter(plan->device);
    struct cln_geometry apply = cln_geometry_apply(view, &cutter);
    int columns = view->family == CLN_COLUMNS;
    const char *family = cln_program_names[cln_program_of(view)];
    say(&t, "%s, %s, vectors of %u, spans of up to %u; launch shape from: %s\n", plan->device->info.id, family,
        columns ? cutter.tuning->columns_width : cutter.tuning->segments_width,
        columns ? cutter.tuning->columns_span : cutter.tuning->segments_span, plan->device->info.tuning_source);
    say_call(&t, plan, 1);
    say_call(&t, plan, 2);
    if (plan->desc.norm == CLNORM_BATCH || plan->desc.norm == CLNORM_INSTANCE)
        say(&t, "infer: %s_forward_apply (%llu work-groups); x read once, y written once%s: 8 bytes an element\n",
            family, (unsigned long long)apply.work_groups,
            cln_cl_streams(plan->device, view, 2) ? ", stored past the cache" : "");
}
