#include "device_check.h"

#include "norm.h"
#include "numeric.h"

#include <math.h>
#include <string.h>

/* 2^-24: half the distance from 1 to the next f32. */
#define U 0x1p-24

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
    return desc;
}

static struct reference_problem problem_of(const clnorm_desc *desc)
{
    struct reference_problem p = {.layout = (enum reference_layout)desc->layout,
                                  .n = CHECK_N,
                                  .c = CHECK_C,
                                  .s = 1,
                                  .eps = (double)desc->eps,
                                  .norm = (enum reference_norm)desc->norm,
                                  .groups = (size_t)desc->groups,
                                  .length = 1};
    const int dims = 1 + desc->spatial_dims, channel = desc->layout == CLNORM_NSC ? dims - 1 : 0; /* but n */
    for (int i = 0; i < desc->spatial_dims; i++)
        p.s *= (size_t)desc->spatial[i];
    for (int i = dims - desc->normalized_dims; i < dims; i++)
        p.length *= (size_t)(i == channel ? desc->c : desc->spatial[i - (channel == 0)]);
    return p;
}

/* What the library promises of f32 (clnorm_backward in <clnorm/clnorm.h>), beside what the differences are known to. In
 * the promise for dx the largest term of the statistics group counts. */
static void add_f32_bounds(const struct check_data *d, struct gradients *tolerance)
{
    const struct reference_problem *p = &d->problem;
    const size_t m = reference_group_size(p);
    const bool of_others = p->norm == REFERENCE_LAYER || p->norm == REFERENCE_GROUP;
    for (size_t g = 0; g < reference_groups(p); g++) {
        double rstd = 1 / sqrt(d->var[g] + p->eps), mean = 0, mean_xhat = 0, largest = 0;
        for (int pass = 0; pass < 3; pass++) {
            for (size_t k = 0; k < m; k++) {
                size_t i = reference_group_element(p, g, k), w = reference_weight_of(p, i);
                double xhat = (d->x[i] - d->mean[g]) * rstd, delta = d->weight[w] * d->dy[i];
                if (pass == 0) {
                    mean += d->frozen || p->norm == REFERENCE_RMS ? 0 : delta / (double)m;
                    mean_xhat += d->frozen ? 0 : delta * xhat / (double)m;
                    tolerance->dweight[w] += 16 * U * fabs(d->dy[i]) * (fabs(xhat) + of_others);
                    tolerance->dbias[w] += 16 * U * fabs(d->dy[i]);
                } else if (pass == 1) {
                    largest = fmax(largest, fabs(delta) + fabs(mean) + fabs(xhat * mean_xhat));
                } else {
                    tolerance->dx[i] += 32 * U * rstd * largest;
                }
            }
        }
    }
}

/* ---- the device's gradients ------------------------------------------------------------------------------------ */

enum { X, DY, WEIGHT, BIAS, MEAN, VAR, INPUTS, Y = INPUTS, DX, DWEIGHT, DBIAS, STATE, BUFFERS };

struct buffers {
    clnorm_memory *memory[BUFFERS];
};

static clnorm_status create(struct buffers *b, clnorm_device *device, int which, size_t bytes)
{
    return clnorm_memory_create(device, bytes, &b->memory[which]);
}

static clnorm_status write_input(struct buffers *b, clnorm_device *device, int which, const double *values,
                                 size_t count)
{
    float f[CHECK_ELEMENTS];
    for (size_t i = 0; i < count; i++)
        f[i] = (float)values[i]; /* exact: the data were drawn so */
    clnorm_status status = create(b, device, which, count * sizeof(float));
    return status == CLNORM_OK ? clnorm_memory_write(b->memory[which], 0, f, count * sizeof(float)) : status;
}

static clnorm_status read_output(struct buffers *b, int which, double *values, size_t count)
{
    float f[CHECK_ELEMENTS];
    clnorm_status status = clnorm_memory_read(b->memory[which], 0, f, count * sizeof(float));
    for (size_t i = 0; status == CLNORM_OK && i < count; i++)
        values[i] = (double)f[i];
    return status;
}

static clnorm_status run(clnorm_plan *plan, const struct check_data *d, struct buffers *b)
{
    clnorm_backward_args g = CLNORM_BACKWARD_ARGS_INIT;
    if (!d->frozen) {
        clnorm_forward_args f = CLNORM_FORWARD_ARGS_INIT;
        f.x = clnorm_memory_buffer(b->memory[X]);
        f.y = clnorm_memory_buffer(b->memory[Y]);
        f.weight = clnorm_memory_buffer(b->memory[WEIGHT]);
        f.bias = clnorm_memory_buffer(b->memory[BIAS]);
        f.state = clnorm_memory_buffer(b->memory[STATE]);
        clnorm_status status = clnorm_forward(plan, &f);
        if (status != CLNORM_OK)
            return status;
        g.state = f.state;
    } else {
        g.running_mean = clnorm_memory_buffer(b->memory[MEAN]);
        g.running_var = clnorm_memory_buffer(b->memory[VAR]);
    }
    g.x = clnorm_memory_buffer(b->memory[X]);
    g.dy = clnorm_memory_buffer(b->memory[DY]);
    g.weight = clnorm_memory_buffer(b->memory[WEIGHT]);
    g.dx = clnorm_memory_buffer(b->memory[DX]);
    g.dweight = clnorm_memory_buffer(b->memory[DWEIGHT]);
    g.dbias = clnorm_memory_buffer(b->memory[DBIAS]);
    return clnorm_backward(plan, &g);
}

static clnorm_status device_gradients(clnorm_device *device, clnorm_plan *plan, const struct check_data *d,
                                      struct gradients *got)
{
    struct buffers b = {{NULL}};
    const size_t elements = reference_elements(&d->problem), weights = reference_weights(&d->problem);
    const size_t counts[BUFFERS] = {elements, elements, weights, weights, d->problem.c, d->problem.c, elements,
                                    elements, weights,  weights, 0};
    const double *inputs[INPUTS] = {d->x, d->dy, d->weight, d->bias, d->mean, d->var};
    clnorm_status status = CLNORM_OK;
    for (int i = 0; i < INPUTS && status == CLNORM_OK; i++)
        status = write_input(&b, device, i, inputs[i], counts[i]);
    for (int i = Y; i < STATE && status == CLNORM_OK; i++)
        status = create(&b, device, i, counts[i] * sizeof(float));
    if (status == CLNORM_OK)
        status = create(&b, device, STATE, clnorm_plan_state_bytes(plan));
    if (status == CLNORM_OK)
        status = run(plan, d, &b);
    if (status == CLNORM_OK)
        status = read_output(&b, DX, got->dx, elements);
    if (status == CLNORM_OK)
        status = read_output(&b, DWEIGHT, got->dweight, weights);
    if (status == CLNORM_OK)
        status = read_output(&b, DBIAS, got->dbias, weights);
    for (int i = 0; i < BUFFERS; i++)
        clnorm_memory_destroy(b.memory[i]);
    return status;
}

/* ---- the table ------------------------------------------------------------------------------------------------- */

static bool print_row(const struct check_case *k, const struct worst *w)
{
    bool pass = w[0].pass && w[1].pass && w[2].pass;
    char label[NORM_LABEL_SIZE];
    norm_label(&k->norm, label);
    printf("  %-9s %-20s %-6s", label, k->layout->name, k->frozen ? "frozen" : "own");
    for (int i = 0; i < 3; i++)
        printf("  %8.2e of %8.2e", w[i].difference, w[i].tolerance);
    printf("  %s\n", pass ? "pass" : "FAIL");
    return pass;
}

static clnorm_status check_case(clnorm_device *device, const struct check_case *k, bool *pass)
{
    const clnorm_desc desc = desc_of(k);
    clnorm_plan *plan = NULL;
    struct check_data d;
    struct gradients got, numeric, tolerance;
    struct reference_problem problem = problem_of(&desc);
    check_data_draw(&d, &problem, 42, k->frozen, true);
    clnorm_status status = clnorm_plan_create(device, &desc, &plan);
    if (status == CLNORM_OK)
        status = device_gradients(device, plan, &d, &got);
    if (status == CLNORM_OK) {
        const size_t weights = reference_weights(&problem);
        numeric_gradients(&d, &numeric, &tolerance);
        add_f32_bounds(&d, &tolerance);
        struct worst w[] = {compare(got.dx, numeric.dx, tolerance.dx, 0, reference_elements(&problem)),
                            compare(got.dweight, numeric.dweight, tolerance.dweight, 0, weights),
                            compare(got.dbias, numeric.dbias, tolerance.dbias, 0, weights)};
        *pass = print_row(k, w) && *pass;
    }
    clnorm_plan_destroy(plan);
    return status;
}

static clnorm_status check_norm(clnorm_device *device, clnorm_norm norm, bool *pass)
{
    clnorm_status status = CLNORM_OK;
    for (size_t i = 0; i < sizeof layout_cases / sizeof *layout_cases; i++) {
        const int variants = norm_is_of_rows(norm) ? 1 + layout_cases[i].spatial_dims : 1 + norm_has_running(norm);
        for (int variant = 0; variant < variants && status == CLNORM_OK; variant++) {
            struct check_case k = {&layout_cases[i], {norm, norm == CLNORM_GROUP ? 2 : 0, 0}, false};
            if (norm_is_of_rows(norm))
                k.norm.dims = 1 + variant;
            else
                k.frozen = variant;
            status = check_case(device, &k, pass);
        }
    }
    return status;
}

int device_check(const struct cli_command *self, clnorm_device *device, bool all, clnorm_norm only)
{
    clnorm_device_info info = CLNORM_DEVICE_INFO_INIT;
    bool pass = true;
    clnorm_status status = clnorm_device_get_info(device, &info);
    printf("\n%s (%s, %s): f32 gradients against central differences, the worst with what is allowed\n", info.id,
           info.name, info.platform);
    printf("  %-9s %-20s %-6s  %-20s  %-20s  %-20s\n", "norm", "layout", "stats", "dx", "dweight", "dbias");
    for (int norm = CLNORM_BATCH; norm <= CLNORM_RMS && status == CLNORM_OK; norm++) {
        if (all || norm == (int)only)
            status = check_norm(device, (clnorm_norm)norm, &pass);
    }
    if (status != CLNORM_OK)
        return cli_status(self, status, info.id);
    return pass ? CLI_OK : CLI_FAILED;
}
