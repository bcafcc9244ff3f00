#include "cpu/explain.h"

#include "cpu/grid.h"
#include "cpu/run_rows.h"
#include "cpu/run_samples.h"
#include "cpu/threads.h"

#include <stdio.h>

static void batch_explain(struct cln_explained *e, const struct cln_view *view, int backward)
{
    struct cln_grid g = cln_grid_make(view, backward ? 2 : 1);
    e->fused = g.tiled;
    if (g.tiled)
        snprintf(e->how, sizeof e->how,
                 "whole channels fit a core's cache; %llu bands of %u channels go through all steps one by one",
                 (unsigned long long)g.bands, g.band);
    else
        snprintf(
            e->how, sizeof e->how,
            "whole channels do not fit a core's cache; %llu bands of %u channels in %llu parts are read, then %llu "
            "chunks written",
            (unsigned long long)g.bands, g.band, (unsigned long long)cln_grid_parts(&g), (unsigned long long)g.chunks);
}

/* A call, in three lines. */
static size_t say(char *text, size_t bytes, const clnorm_plan *plan, const char *what, const char *variant,
                  const char *how, const char *told, uint32_t times, int backward)
{
    uint32_t tensors = backward ? 2 : 1;
    enum cln_step writing = backward ? CLN_STEP_BACKWARD_APPLY : CLN_STEP_APPLY;
    int n =
        snprintf(text, bytes, "%s: %s%s\n  tensors: %s read %s, %s written once%s\n" CLN_EXPLAIN_BYTES "\n", what,
                 variant, how, backward ? "x and dy" : "x", told, backward ? "dx" : "y",
                 cln_cpu_streams(plan->impl, cln_view_elements(&plan->view), writing) ? ", stored past the cache" : "",
                 (uint32_t)sizeof(float) * tensors * times, (uint32_t)sizeof(float));
    return n > 0 ? (size_t)n : 0;
}

static size_t explain_call(char *text, size_t bytes, const clnorm_plan *plan, int backward)
{
    struct cln_explained e;
    if (plan->desc.norm == CLNORM_BATCH)
        batch_explain(&e, &plan->view, backward);
    else if (plan->view.along)
        cln_rows_explain(&e, &plan->view, backward);
    else
        cln_samples_explain(&e, &plan->view, backward);
    return say(text, bytes, plan, backward ? "backward" : "forward", e.fused ? "fused, for " : "split, for ", e.how,
               e.fused ? "once from memory and once from the cache" : "twice", e.fused ? 1 : 2, backward);
}

static const char *family_name(const clnorm_plan *plan)
{
    if (plan->view.along)
        return "rows";
    enum cln_family family = plan->desc.norm == CLNORM_BATCH ? cln_grid_make(&plan->view, 1).family : plan->view.family;
    return family == CLN_SEGMENTS ? "segments" : "columns";
}

void cln_cpu_explain(clnorm_plan *plan)
{
    const struct cln_cpu_plan *impl = plan->impl;
    size_t bytes = sizeof plan->explain;
    size_t n = (size_t)snprintf(plan->explain, bytes, "cpu, %s, %s, %zu threads\n", family_name(plan),
                                impl->kernels.name, cln_threads_count());
    for (int backward = 0; backward < 2 && n < bytes; backward++)
        n += explain_call(plan->explain + n, bytes - n, plan, backward);
    if (n < bytes && (plan->desc.norm == CLNORM_BATCH || plan->desc.norm == CLNORM_INSTANCE)) {
        struct cln_view view = cln_view_as_batch(&plan->desc, (uint64_t)plan->desc.n);
        char how[64];
        snprintf(how, sizeof how, "%llu chunks are written", (unsigned long long)cln_grid_make(&view, 1).chunks);
        say(plan->explain + n, bytes - n, plan, "infer", "apply alone, for the statistics are there; ", how, "once", 1,
            0);
    }
}
