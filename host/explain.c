#include "opencl.h"

#include <stdarg.h>
#include <stdio.h>

struct cln_cutter cln_cl_cutter(const clnorm_device *device)
{
    const struct cln_cl_device *impl = device->impl;
    return (struct cln_cutter){&impl->tuning, device->info.compute_units};
}

int cln_cl_streams(const clnorm_device *device, uint64_t elements, uint32_t tensors)
{
    const struct cln_cl_device *impl = device->impl;
    uint64_t bytes = elements * sizeof(float) * tensors;
    return device->info.kind == CLNORM_CLASS_CPU && impl->cache_bytes > 0 && bytes > impl->cache_bytes / 4;
}

/* ---- the text ---- */

/* One call of a plan: of so many input tensors, in launches that are counted. */
struct call {
    clnorm_plan *plan;
    const struct cln_view *view; /* of what is launched at once */
    struct cln_cutter cutter;
    size_t used; /* of plan->explain */
    uint32_t tensors;
    int launches;
    int has_weights; /* a backward with gradients of weights that are not its sums */
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

static int is_forward(const struct call *c)
{
    return c->tensors == 1;
}

static int is_from_y(const struct call *c)
{
    return !is_forward(c) && c->plan->desc.backward_from_y;
}

/* Stores of other plans do not go past the cache. */
static int plain_streams(const struct call *c)
{
    const clnorm_desc *d = &c->plan->desc;
    int plain = d->dtype == CLNORM_F32 && d->y_dtype == CLNORM_F32 && !d->activation && !d->residual && !is_from_y(c);
    return plain && cln_cl_streams(c->plan->device, cln_view_elements(&c->plan->view), c->tensors + 1);
}

static void say_launch(struct call *c, enum cln_kernel kernel, const struct cln_geometry *g)
{
    char name[64];
    cln_kernel_name(kernel, c->view, name, sizeof name);
    say(c, "%s  launch %d: %s, %llu work-groups of %u", c->launches ? "\n" : "", c->launches + 1, name,
        (unsigned long long)g->work_groups, g->work_group_size);
    if (g->fold > 1)
        say(c, ", %u rows taken as one", g->fold);
    c->launches++;
}

/* A kernel with one result each of `results`, of so many parts. */
static void say_merge(struct call *c, enum cln_kernel kernel, uint64_t results, uint64_t parts, const char *of)
{
    struct cln_geometry g = cln_geometry_results(results, c->cutter.tuning, parts);
    say_launch(c, kernel, &g);
    say(c, ", which merge %llu parts a %s", (unsigned long long)parts, of);
}

/* times: how often the inputs come from memory; again: what is read once more of them by then, as a part of all. With a residual before
 * the norm x and z come once, and the sum in x's place after that; one after the norm comes where y is written, and in backward wherever
 * x does if there is an activation to work out again. */
static void say_traffic(struct call *c, int times, double again)
{
    static const char *const often[] = {"", "once", "twice", "three times"};
    const clnorm_desc *desc = &c->plan->desc;
    uint32_t x = (uint32_t)cln_dtype_bytes(desc->dtype), y = (uint32_t)cln_dtype_bytes(desc->y_dtype);
    int forward = is_forward(c), after = desc->residual == CLNORM_RESIDUAL_AFTER, from_y = is_from_y(c);
    int sums = forward && desc->residual == CLNORM_RESIDUAL_BEFORE;
    int masked = desc->activation_mask != 0;
    uint32_t z = after && (forward || (desc->activation && !masked) || from_y) ? x : 0;
    uint32_t once = forward ? x : (from_y ? y : x) + y + z;
    uint32_t read = once * (uint32_t)times + (forward ? z : 0) + (sums ? x : 0) + (forward && masked ? y : 0);
    uint32_t written = (forward ? y : x) + (sums || (!forward && after) ? x : 0);
    const char *in = sums      ? "x and z, then sum,"
                     : forward ? "x"
                     : from_y  ? z ? "y, dy and z" : "y and dy"
                     : z       ? "x, dy and z"
                               : "x and dy";
    say(c,
        "\n  tensors: %s read %s%s%s%s, %s written once%s%s\n" CLN_EXPLAIN_BYTES "; %.4g read again from the cache\n",
        in, often[times], again >= 1 ? " from memory and once from the cache" : "", forward && after ? ", z once" : "",
        !masked   ? ""
        : forward ? ", y once for the mask, of a bit an element"
                  : ", and the mask with them",
        sums      ? "sum and y"
        : forward ? "y"
        : after   ? "dx and dz"
                  : "dx",
        plain_streams(c) ? ", stored past the cache" : "",
        desc->lengths ? "; of padding nothing is read, and zeros are written" : "", read, written, once * again);
}

static int has_running(const clnorm_plan *plan)
{
    return plan->desc.norm == CLNORM_BATCH || plan->desc.norm == CLNORM_INSTANCE;
}

static void say_commit(struct call *c)
{
    if (!has_running(c->plan))
        return;
    struct cln_geometry g = cln_geometry_results(c->view->weights, c->cutter.tuning, 1);
    say_launch(c, CLN_KERNEL_FORWARD_COMMIT, &g);
    say(c, ", if there are running statistics");
}

/* Rows: the pass of its own for the weights' gradients. */
static void say_weights_of_rows(struct call *c)
{
    struct cln_view weights = cln_geometry_weights_view(c->view);
    struct cln_geometry g = cln_geometry_reduce(&weights, &c->cutter);
    say_launch(c, CLN_KERNEL_ROWS_WEIGHTS, &g);
    if (g.parts_outer > 1)
        say_merge(c, CLN_KERNEL_BACKWARD_WEIGHTS, weights.weights, g.parts_outer, "weight");
}

/* Of a tile, and of all that a work-item takes at a time. */
static uint64_t tile_bytes(const struct call *c, const struct cln_geometry *g)
{
    const struct cln_view *v = c->view;
    int columns = v->family == CLN_COLUMNS;
    uint64_t groups = columns ? (uint64_t)g->span * g->lanes * c->cutter.tuning->columns_width : g->span;
    return cln_view_count(v) * sizeof(float) * c->tensors * (groups < v->set ? groups : v->set);
}

/* Before all else of a backward from y. */
static void say_found(struct call *c)
{
    struct cln_geometry g = cln_geometry_found(c->view, &c->cutter);
    say_launch(c, CLN_KERNEL_BACKWARD_FOUND, &g);
    say(c, ", which tell whether a weight is 0, if there are weights");
}

/* Likewise, of samples with lengths. */
static void say_lengths(struct call *c)
{
    if (!c->plan->desc.lengths)
        return;
    struct cln_geometry g = cln_geometry_results((uint64_t)c->plan->desc.n, c->cutter.tuning, 1);
    say_launch(c, CLN_KERNEL_LENGTHS_FOUND, &g);
    say(c, ", which tell whether a length does not fit");
}

/* After all else of a forward or inference. */
static void say_mask(struct call *c)
{
    if (!c->plan->desc.activation_mask)
        return;
    struct cln_geometry g = cln_geometry_mask(cln_mask_words(cln_view_elements(&c->plan->view)), &c->cutter);
    say_launch(c, CLN_KERNEL_FORWARD_MASK, &g);
    say(c, ", if a mask is wanted");
}

static void say_fused(struct call *c, struct cln_geometry *g)
{
    const struct cln_view *v = c->view;
    int gathers = c->has_weights && (!v->along || cln_geometry_gather(v, &c->cutter, g)), times = 1;
    double pivots = is_forward(c) && v->centred ? cln_geometry_pivots(v, c->cutter.tuning, g) : 0;
    say(c, "fused, for %llu tiles of %llu KiB (at most %u) stay in the cache and keep %u compute units busy\n",
        (unsigned long long)g->tiles, (unsigned long long)(tile_bytes(c, g) + 1023) / 1024, c->cutter.tuning->fused_kib,
        c->cutter.compute_units);
    if (is_from_y(c))
        say_found(c);
    if (c->has_weights && !gathers) { /* too few rows to gather them on the way */
        say_weights_of_rows(c);
        times = 2;
    }
    say_launch(c, is_forward(c) ? CLN_KERNEL_FORWARD_FUSED : CLN_KERNEL_BACKWARD_FUSED, g);
    if (gathers)
        say_merge(c, CLN_KERNEL_BACKWARD_WEIGHTS, v->weights,
                  v->along ? cln_geometry_gathered(g) : v->groups / v->weights, "weight");
    if (is_forward(c)) {
        say_commit(c);
        say_mask(c);
    }
    say_traffic(c, times, 1 + pivots);
}

static void say_split(struct call *c, const char *why_not_fused)
{
    const struct cln_view *v = c->view;
    int forward = is_forward(c);
    struct cln_view reduced = forward ? cln_view_of_statistics(v) : *v;
    struct cln_geometry reduce = cln_geometry_reduce(&reduced, &c->cutter), apply = cln_geometry_apply(v, &c->cutter);
    uint32_t parts = cln_geometry_parts(&reduced, &reduce);
    say(c, "split, for %s\n", why_not_fused);
    if (is_from_y(c))
        say_found(c);
    say_lengths(c);
    say_launch(c, forward ? CLN_KERNEL_FORWARD_STATISTICS : CLN_KERNEL_BACKWARD_REDUCE, &reduce);
    say_merge(c, forward ? CLN_KERNEL_FORWARD_FINISH : CLN_KERNEL_BACKWARD_FINISH, cln_view_statistics(&reduced),
              parts * reduced.merged, "group");
    if (c->has_weights && v->along)
        say_weights_of_rows(c);
    else if (c->has_weights)
        say_merge(c, CLN_KERNEL_BACKWARD_WEIGHTS, v->weights, parts * (v->groups / v->weights), "weight");
    say_launch(c, forward ? CLN_KERNEL_FORWARD_APPLY : CLN_KERNEL_BACKWARD_APPLY, &apply);
    if (forward) {
        say_commit(c);
        say_mask(c);
    }
    say_traffic(c, c->has_weights && v->along ? 3 : 2,
                forward && v->centred ? cln_geometry_pivots(&reduced, c->cutter.tuning, &reduce) : 0);
}

static void say_call(struct call *c)
{
    struct cln_geometry g;
    const char *why_not = cln_geometry_fused(c->view, &c->cutter, c->tensors, &g);
    c->launches = 0;
    c->has_weights = !is_forward(c) && c->plan->desc.norm != CLNORM_BATCH;
    say(c, "%s: ", is_forward(c) ? "forward" : "backward");
    if (why_not)
        say_split(c, why_not);
    else
        say_fused(c, &g);
}

static void say_infer(struct call *c)
{
    struct cln_geometry g = cln_geometry_apply(&c->plan->view, &c->cutter);
    c->tensors = 1;
    c->launches = 0;
    c->view = &c->plan->view;
    say(c, "infer: apply alone, for the statistics are there\n");
    say_lengths(c);
    say_launch(c, CLN_KERNEL_FORWARD_APPLY, &g);
    say_mask(c);
    say_traffic(c, 1, 0);
}

static void say_double(struct call *c)
{
    const int along = c->plan->view.along;
    say(c,
        "double backward: double_reduce, double_finish, %sdouble_apply\n"
        "  tensors: x, dy and v_dx read %s, g_x and g_dy written once\n" CLN_EXPLAIN_BYTES
        "; 0 read again from the cache\n",
        along ? "with g_weight double_weights and groups_backward_weights, " : "",
        along ? "twice, with g_weight three times" : "twice", along ? 36u : 24u, 8u);
}

void cln_cl_explain(clnorm_plan *plan)
{
    struct call c = {.plan = plan, .view = &plan->batch, .cutter = cln_cl_cutter(plan->device)};
    const struct cln_tuning *t = c.cutter.tuning;
    int columns = plan->view.family == CLN_COLUMNS;
    say(&c, "%s, %s, vectors of %u, spans of up to %u; launch shape from: %s\n", plan->device->info.id,
        cln_program_names[cln_program_of(&plan->view)], columns ? t->columns_width : t->segments_width,
        columns ? t->columns_span : t->segments_span, plan->device->info.tuning_source);
    c.used += cln_plan_explain_batches(plan, plan->explain + c.used, sizeof plan->explain - c.used);
    for (c.tensors = 1; c.tensors <= 2; c.tensors++)
        say_call(&c);
    if (has_running(plan))
        say_infer(&c);
    if (plan->desc.double_backward)
        say_double(&c);
}
