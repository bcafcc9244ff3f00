#include "device_check.h"

#include "bounds.h"
#include "device_run.h"
#include "double_check.h"

#include <cases.h>
#include <string.h>

struct layout_case {
    clnorm_layout layout;
    int spatial_dims;
    int64_t spatial[CLNORM_MAX_SPATIAL];
    const char *name;
};

static const struct layout_case layout_cases[] = {
    {CLNORM_NC, 0, {0}, "nc (5, 4)"},
    {CLNORM_NCS, 1, {3}, "ncs (5, 4, 3)"},
    {CLNORM_NCS, 2, {3, 2}, "ncs (5, 4, 3, 2)"},
    {CLNORM_NCS, 3, {2, 3, 2}, "ncs (5, 4, 2, 3, 2)"},
    {CLNORM_NSC, 1, {3}, "nsc (5, 3, 4)"},
    {CLNORM_NSC, 2, {3, 2}, "nsc (5, 3, 2, 4)"},
    {CLNORM_NSC, 3, {2, 3, 2}, "nsc (5, 2, 3, 2, 4)"},
};

/* What is checked in a layout: of group norm two groups, of layer and RMS norm every number of normalized dimensions. */
struct check_case {
    const struct layout_case *layout;
    struct norm_choice norm;
    bool frozen;
    struct fusion fusion;
    bool from_y, lengths;
};

/* What is checked of every norm beside the norm alone, each in one of the layouts: what backward is made of, in f32. */
static const struct {
    clnorm_activation activation;
    bool residual, before; /* before: where the norm has it */
} fused_cases[] = {
    {CLNORM_RELU, true, false}, {CLNORM_LEAKY_RELU, false, false},   {CLNORM_GELU_TANH, true, false},
    {CLNORM_SILU, false, true}, {CLNORM_NO_ACTIVATION, true, false}, {CLNORM_GELU_TANH, false, true},
    {CLNORM_RELU, false, true},
};

static clnorm_desc desc_of(const struct check_case *k)
{
    clnorm_desc desc = CLNORM_DESC_INIT;
    desc.layout = k->layout->layout;
    desc.n = CHECK_N;
    desc.c = CHECK_C;
    desc.spatial_dims = k->layout->spatial_dims;
    memcpy(desc.spatial, k->layout->spatial, sizeof desc.spatial);
    norm_set_desc(&k->norm, &desc);
    fusion_set_desc(&k->fusion, &desc);
    desc.backward_from_y = k->from_y;
    desc.lengths = k->lengths;
    return desc;
}

static struct reference_problem problem_of(const clnorm_desc *desc, bool frozen)
{
    struct reference_problem p = {.layout = (enum reference_layout)desc->layout,
                                  .n = CHECK_N,
                                  .c = CHECK_C,
                                  .s = 1,
                                  .eps = (double)desc->eps,
                                  .norm = (enum reference_norm)desc->norm,
                                  .groups = (size_t)desc->groups,
                                  .length = 1,
                                  .batch = frozen ? 0 : (size_t)desc->virtual_batch,
                                  .lengths = desc->lengths ? check_lengths : NULL};
    const int dims = 1 + desc->spatial_dims, channel = desc->layout == CLNORM_NSC ? dims - 1 : 0; /* but n */
    for (int i = 0; i < desc->spatial_dims; i++)
        p.s *= (size_t)desc->spatial[i];
    for (int i = dims - desc->normalized_dims; i < dims; i++)
        p.length *= (size_t)(i == channel ? desc->c : desc->spatial[i - (channel == 0)]);
    return p;
}

static struct check_kind kind_of(const struct check_case *k)
{
    const struct fusion *f = &k->fusion;
    return (struct check_kind){.frozen = k->frozen,
                               .rounded = true,
                               .dtype = (enum reference_dtype)f->dtype,
                               .y_dtype = (enum reference_dtype)f->y_dtype,
                               .activation = (enum reference_activation)f->activation,
                               .slope = (double)f->slope,
                               .residual = (enum check_residual)f->residual,
                               .from_y = k->from_y};
}

/* ---- the table ------------------------------------------------------------------------------------------------- */

enum { DX, DWEIGHT, DBIAS, DZ, OUTPUTS };

static void judge(const struct check_data *d, const struct gradients *got, const struct gradients *want,
                  const struct gradients *tolerance, struct worst w[OUTPUTS])
{
    const size_t elements = reference_elements(&d->problem), weights = reference_weights(&d->problem);
    w[DX] = compare(got->dx, want->dx, tolerance->dx, 0, elements);
    w[DWEIGHT] = compare(got->dweight, want->dweight, tolerance->dweight, 0, weights);
    w[DBIAS] = compare(got->dbias, want->dbias, tolerance->dbias, 0, weights);
    w[DZ] = compare(got->dz, want->dz, tolerance->dz, 0, d->kind.residual == CHECK_AFTER ? elements : 0);
}

static bool print_row(const struct check_case *k, bool by_y, const struct worst w[OUTPUTS])
{
    const struct fusion *f = &k->fusion;
    const bool after = f->residual == CLNORM_RESIDUAL_AFTER, act = f->activation != CLNORM_NO_ACTIVATION;
    const bool pass = w[DX].pass && w[DWEIGHT].pass && w[DBIAS].pass && w[DZ].pass;
    char label[NORM_LABEL_SIZE];
    norm_label(&k->norm, label);
    printf("  %-9s %-20s %-6s %-5s %-6s %-4s", label, k->layout->name, k->frozen ? "frozen" : "own",
           act ? case_activation_name(f->activation) : "-",
           after                                   ? "after"
           : f->residual == CLNORM_RESIDUAL_BEFORE ? "before"
                                                   : "-",
           k->from_y ? "from"
           : by_y    ? "y"
           : act     ? "x"
                     : "-");
    for (int i = 0; i < OUTPUTS - !after; i++)
        printf("  %8.2e of %8.2e", w[i].difference, w[i].tolerance);
    printf("  %s\n", pass ? "pass" : "FAIL");
    return pass;
}

/* Where the sign of y tells the gradient, backward by it as well. */
static int ways_of(const struct check_case *k)
{
    const struct fusion *fusion = &k->fusion;
    const bool by_y = !k->from_y && (fusion->activation == CLNORM_RELU ||
                                     (fusion->activation == CLNORM_LEAKY_RELU && fusion->slope > 0));
    return by_y ? 2 : 1;
}

static clnorm_status check_case(clnorm_device *device, const struct check_case *k, bool *pass)
{
    const clnorm_desc desc = desc_of(k);
    const struct reference_problem problem = problem_of(&desc, k->frozen);
    const struct check_kind kind = kind_of(k);
    clnorm_plan *plan = NULL;
    struct check_data d;
    struct gradients got, numeric, tolerance;
    clnorm_status status = clnorm_plan_create(device, &desc, &plan);
    if (status != CLNORM_OK)
        return status;
    check_data_draw(&d, &problem, 42, &kind);
    numeric_gradients(&d, &numeric, &tolerance);
    add_device_bounds(&d, &tolerance);
    add_rounding(&d, &numeric, &tolerance);
    for (int by_y = 0; by_y < ways_of(k) && status == CLNORM_OK; by_y++) {
        struct worst w[OUTPUTS];
        status = device_gradients(device, plan, &d, by_y, &got);
        if (status != CLNORM_OK)
            break;
        judge(&d, &got, &numeric, &tolerance, w);
        *pass = print_row(k, by_y, w) && *pass;
    }
    clnorm_plan_destroy(plan);
    return status;
}

static int dims_of(const struct layout_case *layout)
{
    return 1 + layout->spatial_dims;
}

/* Every layout, and in each what the norm can be of. */
static clnorm_status check_layouts(clnorm_device *device, const struct check_question *q, struct norm_choice norm,
                                   const struct fusion *fusion, bool *pass)
{
    const bool rows = norm_is_of_rows(norm.norm);
    clnorm_status status = CLNORM_OK;
    for (size_t i = 0; i < sizeof layout_cases / sizeof *layout_cases; i++) {
        const struct layout_case *layout = &layout_cases[i];
        const int variants = rows ? dims_of(layout) : 1 + norm_has_running(norm.norm);
        if (q->lengths && layout->spatial_dims != 1)
            continue;
        for (int variant = 0; variant < variants && status == CLNORM_OK; variant++) {
            struct check_case k = {layout, norm, !rows && variant, *fusion, q->from_y, q->lengths};
            if (rows)
                k.norm.dims = 1 + variant;
            if (!rows || !q->norm.dims || q->norm.dims == k.norm.dims)
                status = check_case(device, &k, pass);
        }
    }
    return status;
}

/* One layout for each of the fused cases; of fewer dimensions than are asked for, another. */
static clnorm_status check_fused(clnorm_device *device, const struct check_question *q, struct norm_choice norm,
                                 bool *pass)
{
    const size_t layouts = sizeof layout_cases / sizeof *layout_cases;
    const bool rows = norm_is_of_rows(norm.norm);
    clnorm_status status = CLNORM_OK;
    for (size_t i = 0; i < sizeof fused_cases / sizeof *fused_cases && status == CLNORM_OK; i++) {
        const bool before = fused_cases[i].before && rows;
        size_t l = i % layouts;
        while ((rows && dims_of(&layout_cases[l]) < q->norm.dims) || (q->lengths && layout_cases[l].spatial_dims != 1))
            l = (l + 1) % layouts;
        struct check_case k = {&layout_cases[l], norm, false, q->fusion, false, q->lengths};
        k.fusion.activation = fused_cases[i].activation;
        k.fusion.residual = fused_cases[i].residual ? CLNORM_RESIDUAL_AFTER
                            : before                ? CLNORM_RESIDUAL_BEFORE
                                                    : CLNORM_NO_RESIDUAL;
        if (rows)
            k.norm.dims = q->norm.dims ? q->norm.dims : 1 + (int64_t)i % dims_of(k.layout);
        const int kinds_of_statistics = norm_has_running(norm.norm) ? 2 : 1;
        for (int frozen = 0; frozen < kinds_of_statistics && status == CLNORM_OK; frozen++) {
            k.frozen = frozen;
            status = check_case(device, &k, pass);
        }
    }
    return status;
}

/* ---- the double backward ----------------------------------------------------------------------------------------- */

static clnorm_status check_double_case(clnorm_device *device, const struct check_case *k, bool *pass)
{
    const clnorm_desc desc = desc_of(k);
    const struct reference_problem problem = problem_of(&desc, k->frozen);
    struct worst w[DOUBLE_OUTPUTS];
    char label[NORM_LABEL_SIZE];
    clnorm_status status = double_check_device(device, &desc, &problem, k->frozen, w);
    if (status != CLNORM_OK)
        return status;
    norm_label(&k->norm, label);
    const bool within = w[DOUBLE_X].pass && w[DOUBLE_DY].pass && w[DOUBLE_WEIGHT].pass;
    printf("  %-9s %-20s %-6s", label, k->layout->name, k->frozen ? "frozen" : "own");
    for (int i = 0; i < DOUBLE_OUTPUTS; i++)
        printf("  %8.2e of %8.2e", w[i].difference, w[i].tolerance);
    printf("  %s\n", within ? "pass" : "FAIL");
    *pass = *pass && within;
    return CLNORM_OK;
}

/* In every layout, and with every number of normalized dimensions that is asked for. */
static clnorm_status check_double(clnorm_device *device, const struct check_question *q, clnorm_norm norm, bool *pass)
{
    const bool rows = norm_is_of_rows(norm);
    clnorm_status status = CLNORM_OK;
    for (size_t i = 0; i < sizeof layout_cases / sizeof *layout_cases; i++) {
        const struct layout_case *layout = &layout_cases[i];
        const int variants = rows ? dims_of(layout) : 2;
        for (int variant = 0; variant < variants && status == CLNORM_OK; variant++) {
            const struct check_case k = {
                layout, {norm, 0, rows ? 1 + variant : 0, 0}, !rows && variant, q->fusion, false, false};
            if (!rows || !q->norm.dims || q->norm.dims == k.norm.dims)
                status = check_double_case(device, &k, pass);
        }
    }
    return status;
}

/* It is of f32 alone, with nothing fused and no virtual batches. */
static bool asks_for_double(const struct check_question *q)
{
    return !q->fused && !q->lengths && !q->norm.batch && q->fusion.dtype == CLNORM_F32 &&
           q->fusion.y_dtype == CLNORM_F32 && (q->all || double_has(q->norm.norm));
}

static clnorm_status check_doubles(clnorm_device *device, const struct check_question *q, bool *pass)
{
    clnorm_status status = CLNORM_OK;
    printf("\ndouble backward: the same\n  %-9s %-20s %-6s  %-20s  %-20s  %-20s\n", "norm", "layout", "stats", "g_x",
           "g_dy", "g_weight");
    for (int norm = CLNORM_BATCH; norm <= CLNORM_RMS && status == CLNORM_OK; norm++) {
        if (double_has((clnorm_norm)norm) && (q->all || norm == (int)q->norm.norm))
            status = check_double(device, q, (clnorm_norm)norm, pass);
    }
    return status;
}

static clnorm_status check_norm(clnorm_device *device, const struct check_question *q, clnorm_norm norm, bool *pass)
{
    const struct norm_choice choice = {norm, norm == CLNORM_GROUP ? (q->norm.groups ? q->norm.groups : 2) : 0, 0,
                                       q->norm.batch};
    if ((q->fusion.residual == CLNORM_RESIDUAL_BEFORE && !norm_is_of_rows(norm)) ||
        (q->lengths && norm_is_of_rows(norm)))
        return CLNORM_OK;
    clnorm_status status = check_layouts(device, q, choice, &q->fusion, pass);
    if (status == CLNORM_OK && !q->fused)
        status = check_fused(device, q, choice, pass);
    return status;
}

int device_check(const struct cli_command *self, clnorm_device *device, const struct check_question *q)
{
    clnorm_device_info info = CLNORM_DEVICE_INFO_INIT;
    bool pass = true;
    clnorm_status status = clnorm_device_get_info(device, &info);
    printf("\n%s (%s, %s): %s gradients against central differences, the worst with what is allowed%s\n", info.id,
           info.name, info.platform, fusion_dtype_name(q->fusion.dtype),
           q->lengths ? "; lengths 3, 0, 2, 1 and 3" : "");
    printf("  %-9s %-20s %-6s %-5s %-6s %-4s  %-20s  %-20s  %-20s  %-20s\n", "norm", "layout", "stats", "act", "z",
           "by", "dx", "dweight", "dbias", "dz");
    for (int norm = CLNORM_BATCH; norm <= CLNORM_RMS && status == CLNORM_OK; norm++) {
        if (q->all || norm == (int)q->norm.norm)
            status = check_norm(device, q, (clnorm_norm)norm, &pass);
    }
    if (status == CLNORM_OK && asks_for_double(q))
        status = check_doubles(device, q, &pass);
    if (status != CLNORM_OK)
        return cli_status(self, status, info.id);
    return pass ? CLI_OK : CLI_FAILED;
}
