#include "steps.h"

static uint64_t few_rows(const clnorm_plan *plan)
{
    struct cln_cutter cutter = cln_cl_cutter(plan->device);
    /* Instance norm of one position is of rows, too, and its running statistics need planes. */
    return plan->desc.norm == CLNORM_INSTANCE ? 0 : cln_geometry_few_rows(&plan->view, &cutter);
}

/* Bytes of the partials proper, which the planes of few rows come after. */
static size_t partials_bytes(const clnorm_plan *plan)
{
    struct cln_cutter cutter = cln_cl_cutter(plan->device);
    uint64_t floats = cln_geometry_partials(&plan->view, &cutter, plan->desc.norm == CLNORM_BATCH);
    uint64_t second = plan->desc.double_backward ? cln_double_partials(&plan->view, &cutter) : 0;
    floats = second > floats ? second : floats;
    return (size_t)(floats + 15) / 16 * 16 * sizeof(float);
}

void cln_cl_size_partials(clnorm_plan *plan)
{
    uint64_t few = few_rows(plan), planes = CLN_STATE_PLANES + CLN_STATISTICS_PLANES + CLN_SUMS_PLANES;
    plan->needs_no_planes = few > 0;
    plan->partials_bytes = partials_bytes(plan) + (size_t)(few * planes * sizeof(float));
}

void cln_bind_few_rows(const clnorm_plan *plan, struct cln_op *op)
{
    static const struct {
        enum cln_role role;
        unsigned planes;
    } parts[] = {{CLN_STATE, CLN_STATE_PLANES}, {CLN_STATISTICS, CLN_STATISTICS_PLANES}, {CLN_SUMS, CLN_SUMS_PLANES}};
    uint64_t rows = cln_view_statistics(&op->view);
    if (!plan->needs_no_planes || rows > few_rows(plan))
        return;
    size_t at = partials_bytes(plan);
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        size_t bytes = (size_t)rows * parts[i].planes * sizeof(float);
        if (!cln_bound(op, parts[i].role)) {
            struct cln_span *span = &op->role[parts[i].role];
            *span = op->role[CLN_PARTIALS];
            span->offset += at;
            span->begin += at;
            span->bytes = bytes;
        }
        at += bytes;
    }
}
