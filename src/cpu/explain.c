#include "cpu/explain.h"

#include "cpu/grid.h"
#include "cpu/run_double.h"
#include "cpu/run_lengths.h"
#include "cpu/run_rows.h"
#include "cpu/run_samples.h"
#include "cpu/stage.h"
#include "cpu/threads.h"

#include <stdio.h>

static void batch_explain(struct cln_explained *e, const struct cln_cpu_plan *plan, const struct cln_op *op)
{
    const struct cln_view *view = &op->view;
    struct cln_grid g = cln_grid_make(view, cln_bound(op, CLN_DY) ? 2 : 1);
    struct cln_stage stage = cln_stage_make(&plan->kernels, op, cln_cpu_streams(plan, op));
    e->fused = g.tiled;
    if (g.tiled)
        snprintf(e->how, sizeof e->how,
                 "whole channels fit a core's cache; %llu bands of %u channels go through all steps one by one%s",
                 (unsigned long long)g.bands, g.band,
                 cln_cpu_chains(&g, view, &stage) ? ", each written while the next is read" : "");
    else
        snprintf(
            e->how, sizeof e->how,
            "whole channels do not fit a core's cache; %llu bands of %u channels in %llu parts are read, then %llu "
            "chunks written",
            (unsigned long long)g.bands, g.band, (unsigned long long)cln_grid_parts(&g), (unsigned long long)g.chunks);
}

/* A forward or backward call with all tensors that it may have, but for y in backward; from y that is its x. */
static struct cln_op usual_call(const clnorm_plan *plan, const struct cln_view *view, int backward)
{
    static char there;
    struct cln_op op = {.view = *view,
                        .elements = cln_view_elements(&plan->view),
                        .x_dtype = plan->desc.dtype,
                        .y_dtype = plan->desc.y_dtype,
                        .activation = plan->desc.activation,
                        .residual = plan->desc.residual,
                        .from_y = backward && plan->desc.backward_from_y};
    int masked = plan->desc.activation_mask != 0;
    int after = op.residual == CLNORM_RESIDUAL_AFTER;
    const struct {
        enum cln_role role;
        int bound;
    } roles[] = {
        {CLN_X, 1},
        {CLN_Y, !backward},
        {CLN_DY, backward},
        {CLN_DX, backward},
        {CLN_Z, backward ? after && ((op.activation && !masked) || op.from_y) : op.residual != CLNORM_NO_RESIDUAL},
        {CLN_MASK, masked},
        {CLN_SUM, !backward && op.residual == CLNORM_RESIDUAL_BEFORE},
        {CLN_DZ, backward && after}};
    for (size_t i = 0; i < sizeof roles / sizeof *roles; i++)
        op.role[roles[i].role].handle = roles[i].bound ? &there : NULL;
    return op;
}

/* How often a call reads its inputs. */
struct times {
    uint32_t memory, cache;
};

static const char *often(struct times t)
{
    if (t.cache)
        return t.memory ? "once from memory and once from the cache" : "twice from the cache";
    return t.memory > 1 ? "twice" : "once";
}

/* The bytes of the tensors `roles` together, an element. */
static uint32_t bytes_of(const struct cln_op *op, const enum cln_role *roles, size_t count)
{
    size_t bytes = 0;
    for (size_t i = 0; i < count; i++)
        bytes += cln_bound(op, roles[i]) ? cln_role_bytes(op, roles[i]) : 0;
    return (uint32_t)bytes;
}

/* What is read and written, in two lines. z is read when x is in backward, and once in forward: after the norm when y is written, before
 * it to be added to x, whose place the sum takes. */
static size_t say_tensors(char *text, size_t bytes, const clnorm_plan *plan, const struct cln_op *op, struct times t)
{
    static const enum cln_role in[] = {CLN_X, CLN_DY}, fused[] = {CLN_Z}, out[] = {CLN_Y, CLN_DX, CLN_SUM, CLN_DZ};
    int backward = cln_bound(op, CLN_DY), has_z = cln_bound(op, CLN_Z), sums = cln_bound(op, CLN_SUM);
    uint32_t read = bytes_of(op, in, 2), z = bytes_of(op, fused, 1);
    int masked = cln_bound(op, CLN_MASK);
    read = sums ? read + z + (t.memory - 1) * read : t.memory * read + (backward ? t.memory : 1) * z;
    const char *inputs = sums         ? "x and z read once, sum"
                         : op->from_y ? has_z ? "y, dy and z" : "y and dy"
                         : backward   ? has_z ? "x, dy and z" : "x and dy"
                                      : "x";
    if (masked && !backward)
        read += (uint32_t)cln_role_bytes(op, CLN_Y);
    struct times of_sum = {t.memory - 1, t.memory > 1 ? 1 : t.cache};
    int n = snprintf(text, bytes, "  tensors: %s read %s%s%s, %s written once%s%s\n" CLN_EXPLAIN_BYTES "\n", inputs,
                     often(sums ? of_sum : t), has_z && !backward && !sums ? ", z once" : "",
                     !masked    ? ""
                     : backward ? ", and the mask with them"
                                : ", y once for the mask, of a bit an element",
                     sums                    ? "sum and y"
                     : cln_bound(op, CLN_DZ) ? "dx and dz"
                     : backward              ? "dx"
                                             : "y",
                     cln_cpu_streams(plan->impl, op) ? ", stored past the cache" : "",
                     plan->desc.lengths ? "; of padding nothing is read, and zeros are written" : "", read,
                     bytes_of(op, out, 4));
    return n > 0 ? (size_t)n : 0;
}

/* A call, in three lines. */
static size_t say(char *text, size_t bytes, const clnorm_plan *plan, const struct cln_op *op, const char *variant,
                  const char *how, struct times t)
{
    size_t n = (size_t)snprintf(text, bytes, "%s%s\n", variant, how);
    return n < bytes ? n + say_tensors(text + n, bytes - n, plan, op, t) : n;
}

static size_t explain_call(char *text, size_t bytes, const clnorm_plan *plan, int backward)
{
    struct cln_explained e;
    struct cln_op op = usual_call(plan, &plan->batch, backward);
    if (plan->desc.lengths)
        cln_lengths_explain(&e, &plan->desc);
    else if (plan->desc.norm == CLNORM_BATCH)
        batch_explain(&e, plan->impl, &op);
    else if (plan->view.along)
        cln_rows_explain(&e, &plan->view, backward);
    else
        cln_samples_explain(&e, &plan->view, backward);
    char variant[32];
    snprintf(variant, sizeof variant, "%s: %s, for ", backward ? "backward" : "forward", e.fused ? "fused" : "split");
    return say(text, bytes, plan, &op, variant, e.how, e.fused ? (struct times){1, 1} : (struct times){2, 0});
}

/* Inference alone, of norms that have running statistics. */
static size_t explain_infer(char *text, size_t bytes, const clnorm_plan *plan)
{
    struct cln_view view = cln_view_as_batch(&plan->desc, (uint64_t)plan->desc.n);
    struct cln_op op = usual_call(plan, &view, 0);
    char how[64];
    if (plan->desc.lengths)
        snprintf(how, sizeof how, "strips and pieces are those of forward");
    else
        snprintf(how, sizeof how, "%llu chunks are written", (unsigned long long)cln_grid_make(&view, 1).chunks);
    return say(text, bytes, plan, &op, "infer: apply alone, for the statistics are there; ", how, (struct times){1, 0});
}

/* Of a plan that has it. */
static size_t explain_double(char *text, size_t bytes, const clnorm_plan *plan)
{
    const uint32_t readings = cln_double_readings(&plan->view), tensors = 3 * (uint32_t)sizeof(float);
    return (size_t)snprintf(text, bytes,
                            "double backward: sums in double, then values\n"
                            "  tensors: x, dy and v_dx read %s, g_x and g_dy written once\n" CLN_EXPLAIN_BYTES
                            "; %u read again from the cache\n",
                            readings == 1 ? "once from memory and once from the cache" : "twice", tensors * readings,
                            2 * (uint32_t)sizeof(float), tensors * (2 - readings));
}

/* Types and what is fused, if that is not f32 alone. */
static size_t explain_types(char *text, size_t bytes, const clnorm_plan *plan)
{
    static const char *const types[] = {"f32", "f16", "bf16"},
                             *const activations[] = {"", ", then ReLU", ", then leaky ReLU", ", then GELU",
                                                     ", then SiLU"},
                             *const residuals[] = {"", ", z added after the norm", ", z added before the norm"};
    const clnorm_desc *d = &plan->desc;
    if (d->dtype == CLNORM_F32 && d->y_dtype == CLNORM_F32 && !d->activation && !d->residual)
        return 0;
    return (size_t)snprintf(text, bytes, "x %s, y %s%s%s: computed in f32\n", types[d->dtype], types[d->y_dtype],
                            residuals[d->residual], activations[d->activation]);
}

static const char *family_name(const clnorm_plan *plan)
{
    if (plan->view.along)
        return "rows";
    enum cln_family family = plan->desc.norm == CLNORM_BATCH && !plan->desc.lengths
                                 ? cln_grid_make(&plan->batch, 1).family
                                 : plan->view.family;
    return family == CLN_SEGMENTS ? "segments" : "columns";
}

void cln_cpu_explain(clnorm_plan *plan)
{
    const struct cln_cpu_plan *impl = plan->impl;
    size_t bytes = sizeof plan->explain;
    size_t n = (size_t)snprintf(plan->explain, bytes, "cpu, %s, %s, %zu threads\n", family_name(plan),
                                impl->kernels.name, cln_threads_count());
    if (n < bytes)
        n += cln_plan_explain_batches(plan, plan->explain + n, bytes - n);
    for (int backward = 0; backward < 2 && n < bytes; backward++)
        n += explain_call(plan->explain + n, bytes - n, plan, backward);
    if (n < bytes && (plan->desc.norm == CLNORM_BATCH || plan->desc.norm == CLNORM_INSTANCE))
        n += explain_infer(plan->explain + n, bytes - n, plan);
    if (n < bytes && plan->desc.double_backward)
        n += explain_double(plan->explain + n, bytes - n, plan);
    if (n < bytes)
        explain_types(plan->explain + n, bytes - n, plan);
}
