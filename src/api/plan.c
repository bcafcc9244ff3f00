#include "plan/plan.h"

#include "api/checks.h"
#include "base/status.h"

#include <inttypes.h>
#include <math.h>

static clnorm_status check_shape(const clnorm_desc *d)
{
    const char *who = "clnorm_plan_create";
    if (d->n < 0)
        return cln_fail(CLNORM_E_SHAPE, "%s: desc.n is %" PRId64 " but must be at least 0", who, d->n);
    if (d->c < 1)
        return cln_fail(CLNORM_E_SHAPE, "%s: desc.c is %" PRId64 " but must be at least 1", who, d->c);
    int most = d->layout == CLNORM_NC ? 0 : CLNORM_MAX_SPATIAL, least = d->layout == CLNORM_NC ? 0 : 1;
    if (d->spatial_dims < least || d->spatial_dims > most)
        return cln_fail(CLNORM_E_SHAPE, "%s: desc.spatial_dims is %" PRId32 " but must be from %d to %d in this layout",
                        who, d->spatial_dims, least, most);
    /* Elements and bytes must be countable in 63 bits. */
    uint64_t elements = (uint64_t)d->c, limit = INT64_MAX / sizeof(float);
    int fits = elements <= limit;
    for (int i = 0; i < d->spatial_dims; i++) {
        if (d->spatial[i] < 1)
            return cln_fail(CLNORM_E_SHAPE, "%s: desc.spatial[%d] is %" PRId64 " but must be at least 1", who, i,
                            d->spatial[i]);
        fits = fits && (uint64_t)d->spatial[i] <= limit / elements;
        elements = fits ? elements * (uint64_t)d->spatial[i] : elements;
    }
    if (!fits || (d->n > 0 && (uint64_t)d->n > limit / elements))
        return cln_fail(CLNORM_E_SHAPE,
                        "%s: desc.n, c and spatial give more than %" PRIu64 " elements, which is the most", who, limit);
    return CLNORM_OK;
}

static clnorm_status check_strides(const clnorm_desc *d)
{
    int dims = 2 + d->spatial_dims, any = 0;
    for (int i = 0; i < 2 + CLNORM_MAX_SPATIAL; i++)
        any |= d->strides[i] != 0;
    int64_t dense = 1;
    for (int i = dims - 1; any && i >= 0; i--) {
        int64_t size = (int64_t)cln_view_dimension(d, (uint64_t)d->n, i);
        if (size > 1 && d->strides[i] != dense)
            return cln_fail(CLNORM_E_STRIDES,
                            "clnorm_plan_create: desc.strides[%d] is %" PRId64 " but must be %" PRId64
                            ": tensors are dense, strided ones are not supported",
                            i, d->strides[i], dense);
        dense *= size > 1 ? size : 1;
    }
    return CLNORM_OK;
}

/* What only some norms have. */
static clnorm_status check_norm(const clnorm_desc *d)
{
    const char *who = "clnorm_plan_create";
    int rows = d->norm == CLNORM_LAYER || d->norm == CLNORM_RMS, most = rows ? 1 + d->spatial_dims : 0;
    if (d->normalized_dims < rows || d->normalized_dims > most)
        return cln_fail(CLNORM_E_SHAPE, "%s: desc.normalized_dims is %" PRId32 " but must be from %d to %d%s", who,
                        d->normalized_dims, rows, most, rows ? "" : " for this norm");
    if (d->norm == CLNORM_GROUP ? d->groups < 1 || d->c % d->groups != 0 : d->groups != 0)
        return cln_fail(CLNORM_E_SHAPE, "%s: desc.groups is %" PRId64 " but must be %s", who, d->groups,
                        d->norm == CLNORM_GROUP ? "at least 1 and a divisor of c" : "0 for this norm");
    if (d->norm == CLNORM_BATCH ? d->virtual_batch < 0 : d->virtual_batch != 0)
        return cln_fail(CLNORM_E_SHAPE, "%s: desc.virtual_batch is %" PRId64 " but must be %s", who, d->virtual_batch,
                        d->norm == CLNORM_BATCH ? "at least 0" : "0 for this norm");
    if (d->residual == CLNORM_RESIDUAL_BEFORE && !rows)
        return cln_fail(CLNORM_E_UNSUPPORTED,
                        "%s: desc.residual is CLNORM_RESIDUAL_BEFORE but must be another for a norm that is neither "
                        "CLNORM_LAYER nor CLNORM_RMS",
                        who);
    if (d->activation == CLNORM_LEAKY_RELU && !isfinite(d->slope))
        return cln_fail(CLNORM_E_ENUM, "%s: desc.slope is %g but must be finite", who, (double)d->slope);
    return CLNORM_OK;
}

static clnorm_status check_double_backward(const clnorm_desc *d)
{
    const char *who = "clnorm_plan_create";
    if (d->double_backward > 1)
        return cln_fail(CLNORM_E_ENUM, "%s: desc.double_backward is %" PRIu32 " but must be 0 or 1", who,
                        d->double_backward);
    if (d->double_backward && d->norm != CLNORM_BATCH && d->norm != CLNORM_LAYER)
        return cln_fail(CLNORM_E_UNSUPPORTED,
                        "%s: desc.double_backward is 1 but must be 0 for a norm that is neither CLNORM_BATCH nor "
                        "CLNORM_LAYER",
                        who);
    if (d->double_backward &&
        (d->dtype != CLNORM_F32 || d->y_dtype != CLNORM_F32 || d->activation || d->residual || d->virtual_batch))
        return cln_fail(
            CLNORM_E_UNSUPPORTED,
            "%s: desc.double_backward is 1 but must be 0 for other types than CLNORM_F32, with an activation, "
            "a residual or virtual batches",
            who);
    return CLNORM_OK;
}

static clnorm_status check_backward_from_y(const clnorm_desc *d)
{
    const char *who = "clnorm_plan_create";
    int invertible = d->activation == CLNORM_NO_ACTIVATION || (d->activation == CLNORM_LEAKY_RELU && d->slope > 0.0f);
    if (d->backward_from_y > 1)
        return cln_fail(CLNORM_E_ENUM, "%s: desc.backward_from_y is %" PRIu32 " but must be 0 or 1", who,
                        d->backward_from_y);
    if (d->backward_from_y && !invertible)
        return cln_fail(
            CLNORM_E_UNSUPPORTED,
            "%s: desc.backward_from_y is 1 but must be 0 with another activation than CLNORM_LEAKY_RELU with "
            "slope > 0, which alone tells from y what was before it",
            who);
    if (d->backward_from_y && d->double_backward)
        return cln_fail(CLNORM_E_UNSUPPORTED,
                        "%s: desc.backward_from_y is 1 but must be 0 with desc.double_backward, which takes x", who);
    return CLNORM_OK;
}

static clnorm_status check_activation_mask(const clnorm_desc *d)
{
    static const char who[] = "clnorm_plan_create";
    if (d->activation_mask > 1)
        return cln_fail(CLNORM_E_ENUM, "%s: desc.activation_mask is %" PRIu32 " but must be 0 or 1", who,
                        d->activation_mask);
    if (d->activation_mask && !cln_tells_by_sign(d))
        return cln_fail(CLNORM_E_UNSUPPORTED,
                        "%s: desc.activation_mask is 1 but must be 0 with another activation than CLNORM_RELU, or "
                        "CLNORM_LEAKY_RELU with slope > 0: activation is %d, slope %g",
                        who, (int)d->activation, (double)d->slope);
    if (d->activation_mask && d->backward_from_y)
        return cln_fail(CLNORM_E_UNSUPPORTED,
                        "%s: desc.activation_mask is 1 but must be 0 with desc.backward_from_y, which has y", who);
    return CLNORM_OK;
}

static clnorm_status check_lengths(const clnorm_desc *d)
{
    const char *who = "clnorm_plan_create";
    int rows = d->norm == CLNORM_LAYER || d->norm == CLNORM_RMS;
    if (d->lengths > 1)
        return cln_fail(CLNORM_E_ENUM, "%s: desc.lengths is %" PRIu32 " but must be 0 or 1", who, d->lengths);
    if (d->lengths && (rows || d->virtual_batch || d->double_backward || d->backward_from_y))
        return cln_fail(CLNORM_E_UNSUPPORTED, "%s: desc.lengths is 1 but must be 0 %s", who,
                        rows ? "for CLNORM_LAYER and CLNORM_RMS"
                             : "with virtual batches, double_backward or backward_from_y");
    if (d->lengths && d->spatial_dims != 1)
        return cln_fail(CLNORM_E_UNSUPPORTED,
                        "%s: desc.lengths is 1 but must be 0 with %" PRId32 " spatial dimensions: it needs 1", who,
                        d->spatial_dims);
    if (d->lengths && d->spatial[0] > INT32_MAX)
        return cln_fail(CLNORM_E_SHAPE, "%s: desc.spatial[0] is %" PRId64 " but must be at most %d with desc.lengths",
                        who, d->spatial[0], INT32_MAX);
    return CLNORM_OK;
}

static int is_dtype(clnorm_dtype dtype)
{
    return dtype == CLNORM_F32 || dtype == CLNORM_F16 || dtype == CLNORM_BF16;
}

static clnorm_status check_desc(const clnorm_desc *d)
{
    const char *who = "clnorm_plan_create";
    if (d->size != sizeof *d)
        return cln_fail(CLNORM_E_STRUCT_SIZE, "%s: desc.size is %zu but must be %zu (use the initialiser)", who,
                        d->size, sizeof *d);
    if ((int)d->norm < CLNORM_BATCH || (int)d->norm > CLNORM_RMS)
        return cln_fail(CLNORM_E_ENUM, "%s: desc.norm is %d but must be one of clnorm_norm", who, (int)d->norm);
    if (d->layout != CLNORM_NC && d->layout != CLNORM_NCS && d->layout != CLNORM_NSC)
        return cln_fail(CLNORM_E_ENUM, "%s: desc.layout is %d but must be CLNORM_NC, CLNORM_NCS or CLNORM_NSC", who,
                        (int)d->layout);
    if (!is_dtype(d->dtype) || !is_dtype(d->y_dtype))
        return cln_fail(CLNORM_E_ENUM, "%s: desc.%s is %d but must be CLNORM_F32, CLNORM_F16 or CLNORM_BF16", who,
                        is_dtype(d->dtype) ? "y_dtype" : "dtype", (int)(is_dtype(d->dtype) ? d->y_dtype : d->dtype));
    if ((int)d->activation < CLNORM_NO_ACTIVATION || (int)d->activation > CLNORM_SILU)
        return cln_fail(CLNORM_E_ENUM, "%s: desc.activation is %d but must be one of clnorm_activation", who,
                        (int)d->activation);
    if ((int)d->residual < CLNORM_NO_RESIDUAL || (int)d->residual > CLNORM_RESIDUAL_BEFORE)
        return cln_fail(CLNORM_E_ENUM, "%s: desc.residual is %d but must be one of clnorm_residual", who,
                        (int)d->residual);
    if (!(d->eps >= 0.0f) || isinf(d->eps))
        return cln_fail(CLNORM_E_EPS, "%s: desc.eps is %g but must be finite and at least 0", who, (double)d->eps);
    clnorm_status status = check_shape(d);
    if (status == CLNORM_OK)
        status = check_norm(d);
    if (status == CLNORM_OK)
        status = check_double_backward(d);
    if (status == CLNORM_OK)
        status = check_backward_from_y(d);
    if (status == CLNORM_OK)
        status = check_lengths(d);
    if (status == CLNORM_OK)
        status = check_activation_mask(d);
    return status == CLNORM_OK ? check_strides(d) : status;
}

clnorm_status clnorm_plan_create(clnorm_device *device, const clnorm_desc *desc, clnorm_plan **plan)
{
    if (!device)
        return cln_fail(CLNORM_E_NULL, "clnorm_plan_create: device is NULL but must be a device");
    if (!desc)
        return cln_fail(CLNORM_E_NULL, "clnorm_plan_create: desc is NULL but must be a descriptor");
    if (!plan)
        return cln_fail(CLNORM_E_NULL, "clnorm_plan_create: plan is NULL but must point to a handle");
    clnorm_status status = check_desc(desc);
    return status == CLNORM_OK ? cln_plan_new(device, desc, plan) : status;
}

void clnorm_plan_destroy(clnorm_plan *plan)
{
    cln_plan_free(plan);
}

int64_t clnorm_plan_groups(const clnorm_plan *plan, int64_t n)
{
    if (plan && n == CLNORM_PLAN_N)
        n = plan->desc.n;
    if (!plan || n < 0 || n > plan->desc.n)
        return 0;
    return (int64_t)cln_view_groups(&plan->desc, (uint64_t)n);
}

size_t clnorm_plan_state_bytes(const clnorm_plan *plan)
{
    return plan ? cln_plan_state_bytes(plan) : 0;
}

size_t clnorm_plan_mask_bytes(const clnorm_plan *plan)
{
    return plan && plan->desc.activation_mask
               ? (size_t)cln_mask_words(cln_view_elements(&plan->view)) * sizeof(uint32_t)
               : 0;
}

size_t clnorm_plan_statistics_bytes(const clnorm_plan *plan)
{
    return plan ? cln_plan_planes_bytes(plan, CLN_STATISTICS_PLANES) : 0;
}

size_t clnorm_plan_sums_bytes(const clnorm_plan *plan)
{
    return plan ? cln_plan_planes_bytes(plan, CLN_SUMS_PLANES) : 0;
}

size_t clnorm_plan_workspace_bytes(const clnorm_plan *plan)
{
    return plan ? cln_plan_workspace_bytes(plan) : 0;
}

const char *clnorm_plan_explain(const clnorm_plan *plan)
{
    return plan ? plan->explain : "";
}

clnorm_status clnorm_plan_query_found(clnorm_plan *plan, uint32_t *found)
{
    if (!plan)
        return cln_fail(CLNORM_E_NULL, "clnorm_plan_query_found: plan is NULL but must be a plan");
    if (!found)
        return cln_fail(CLNORM_E_NULL, "clnorm_plan_query_found: found is NULL but must point to a word");
    return plan->device->backend->query_found(plan, found);
}
