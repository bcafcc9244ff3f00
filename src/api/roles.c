#include "api/roles.h"

#include "base/status.h"

#include <inttypes.h>

const char *cln_role_name(enum cln_role role)
{
    static const char *const names[] = {
#define NAME(name, text) text,
        CLN_ROLE_LIST(NAME)
#undef NAME
    };
    return names[role];
}

static clnorm_status check_length(const char *who, const char *name, uint64_t have, uint64_t count, const char *what)
{
    if (have == count * sizeof(float))
        return CLNORM_OK;
    return cln_fail(CLNORM_E_LENGTH,
                    "%s: %s has %" PRIu64 " bytes but must have exactly %" PRIu64 " (%s = %" PRIu64 " floats)", who,
                    name, have, (uint64_t)(count * sizeof(float)), what, count);
}

static clnorm_status check_size(const clnorm_plan *plan, const char *who, const struct cln_argument *a,
                                const struct cln_op *op)
{
    const char *name = cln_role_name(a->role);
    uint64_t have = a->buffer->bytes;
    uint64_t statistics = cln_plan_planes_bytes(plan, CLN_STATISTICS_PLANES), want = 0;
    switch (a->extent) {
    case CLN_CHANNEL:
        return check_length(who, name, have, (uint64_t)plan->desc.c, "c");
    case CLN_PER_WEIGHT:
        return check_length(who, name, have, op->view.weights, plan->view.along ? "the norm's weights" : "c");
    case CLN_PER_GROUP:
        if (plan->desc.norm == CLNORM_BATCH && plan->desc.virtual_batch == 0)
            return check_length(who, name, have, op->groups, "c");
        want = op->groups * sizeof(float);
        break;
    case CLN_TENSOR:
        want = cln_view_elements(&op->view) * cln_role_bytes(op, a->role);
        break;
    case CLN_PER_SAMPLE:
        want = op->samples * sizeof(int32_t);
        break;
    case CLN_MASK_SIZE:
        want = cln_mask_words(op->elements) * sizeof(uint32_t);
        break;
    case CLN_STATE_SIZE:
        want = cln_plan_state_bytes(plan);
        break;
    case CLN_STATISTICS_SIZE:
        want = statistics;
        break;
    case CLN_GATHERED_SIZE:
        want = op->parts * statistics;
        break;
    case CLN_SUMS_SIZE:
        want = cln_plan_planes_bytes(plan, CLN_SUMS_PLANES);
        break;
    case CLN_WORKSPACE_SIZE:
        want = cln_plan_workspace_bytes(plan);
        break;
    }
    if (have < want)
        return cln_fail(CLNORM_E_BUFFER_SIZE, "%s: %s has %" PRIu64 " bytes but must have at least %" PRIu64, who, name,
                        have, want);
    return CLNORM_OK;
}

static clnorm_status check_one(const clnorm_plan *plan, const char *who, const struct cln_argument *a,
                               struct cln_op *op)
{
    const char *name = cln_role_name(a->role);
    struct cln_span *span = &op->role[a->role];
    if (a->buffer->kind == CLNORM_BUFFER_NONE) {
        int of_samples = a->extent == CLN_TENSOR || a->extent == CLN_PER_SAMPLE || a->extent == CLN_MASK_SIZE;
        if (!a->required || (of_samples && cln_view_elements(&op->view) == 0))
            return CLNORM_OK;
        if (a->role == CLN_RUNNING_MEAN || a->role == CLN_RUNNING_VAR)
            return cln_fail(CLNORM_E_STATISTICS_MISSING, "%s: %s is missing but is required", who, name);
        return cln_fail(CLNORM_E_MISSING, "%s: %s is missing but is required", who, name);
    }
    clnorm_status status = check_size(plan, who, a, op);
    if (status == CLNORM_OK)
        status = plan->device->backend->resolve(plan->device, who, name, a->buffer, span);
    if (status == CLNORM_OK && span->begin % cln_role_bytes(op, a->role))
        status =
            cln_fail(CLNORM_E_BUFFER_ALIGNMENT, "%s: %s starts at byte %" PRIu64 " but must start at a multiple of %zu",
                     who, name, span->begin, cln_role_bytes(op, a->role));
    return status;
}

static int overlap(const struct cln_span *a, const struct cln_span *b)
{
    return a->root == b->root && a->bytes && b->bytes && a->begin < b->begin + b->bytes &&
           b->begin < a->begin + a->bytes;
}

/* The bytes that the call touches, which for tensors may be fewer than the buffer has. */
static struct cln_span touched(const struct cln_argument *a, const struct cln_op *op)
{
    struct cln_span span = op->role[a->role];
    if (a->extent == CLN_TENSOR)
        span.bytes = (size_t)cln_view_elements(&op->view) * cln_role_bytes(op, a->role);
    else if (a->extent == CLN_PER_GROUP)
        span.bytes = (size_t)op->groups * sizeof(float);
    else if (a->extent == CLN_PER_SAMPLE)
        span.bytes = (size_t)op->samples * sizeof(int32_t);
    else if (a->extent == CLN_MASK_SIZE)
        span.bytes = (size_t)cln_mask_words(op->elements) * sizeof(uint32_t);
    return span;
}

/* Of the same type, too: what is read is gone with what is written. */
static int may_alias(const struct cln_argument *a, const struct cln_argument *b, const struct cln_op *op,
                     const struct cln_alias *aliases, size_t count)
{
    int of_y = (a->role == CLN_Y || a->role == CLN_DY) != (b->role == CLN_Y || b->role == CLN_DY);
    for (size_t i = 0; i < count; i++) {
        if ((a->role == aliases[i].out && b->role == aliases[i].in) ||
            (b->role == aliases[i].out && a->role == aliases[i].in))
            return !of_y || op->x_dtype == op->y_dtype;
    }
    return 0;
}

clnorm_status cln_bind(const clnorm_plan *plan, const char *who, const struct cln_argument *arguments, size_t count,
                       const struct cln_alias *aliases, size_t alias_count, struct cln_op *op)
{
    for (size_t i = 0; i < count; i++) {
        clnorm_status status = check_one(plan, who, &arguments[i], op);
        if (status != CLNORM_OK)
            return status;
    }
    for (size_t i = 0; i < count; i++) {
        for (size_t j = 0; j < i; j++) {
            const struct cln_argument *a = &arguments[i], *b = &arguments[j];
            if (!cln_bound(op, a->role) || !cln_bound(op, b->role) || (a->access == CLN_IN && b->access == CLN_IN))
                continue;
            struct cln_span p = touched(a, op), q = touched(b, op);
            if (!overlap(&p, &q))
                continue;
            int allowed = may_alias(a, b, op, aliases, alias_count);
            if (allowed && p.begin == q.begin)
                continue;
            return cln_fail(CLNORM_E_OVERLAP,
                            "%s: %s (bytes %" PRIu64 " to %" PRIu64 ") overlaps %s (bytes %" PRIu64 " to %" PRIu64
                            ") but must %s",
                            who, cln_role_name(b->role), q.begin, q.begin + q.bytes, cln_role_name(a->role), p.begin,
                            p.begin + p.bytes, allowed ? "be the same bytes or apart" : "be apart from it");
        }
    }
    return CLNORM_OK;
}
