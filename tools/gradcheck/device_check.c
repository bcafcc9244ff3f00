#include "device_check.h"

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

static struct reference_problem problem_of(const struct layout_case *l, const clnorm_desc *desc)
{
    struct reference_problem p = {.layout = REFERENCE_NC, .n = CHECK_N, .c = CHECK_C, .s = 1, .eps = (double)desc->eps};
    p.layout = l->layout == CLNORM_NC ? REFERENCE_NC : l->layout == CLNORM_NCS ? REFERENCE_NCS : REFERENCE_NSC;
    for (int i = 0; i < l->spatial_dims; i++)
        p.s *= (size_t)l->spatial[i];
    return p;
}

/* What the library promises of f32 (clnorm_backward in <clnorm/clnorm.h>), beside what the differences are known to. In
 * the promise for dx the largest term of the channel counts. */
static void add_f32_bounds(const struct check_data *d, struct gradients *tolerance)
{
    const struct reference_problem *p = &d->problem;
    for (size_t c = 0; c < p->c; c++) {
        double rstd = 1 / sqrt(d->var[c] + p->eps), m = (double)(p->n * p->s);
        double sum_dy = 0, sum_dy_xhat = 0, abs_dy = 0, abs_dy_xhat = 0, largest = 0;
        for (int pass = 0; pass < 2; pass++) {
            for (size_t k = 0; k < p->n * p->s; k++) {
                size_t i = reference_index(p, k / p->s, c, k % p->s);
                double dy = d->dy[i], xhat = (d->x[i] - d->mean[c]) * rstd;
                if (pass == 0) {
                    sum_dy += dy;
                    sum_dy_xhat += dy * xhat;
                    abs_dy += fabs(dy);
                    abs_dy_xhat += fabs(dy * xhat);
                } else {
                    largest = fmax(largest, fabs(dy) + fabs(sum_dy / m) + fabs(xhat * sum_dy_xhat / m));
                }
            }
        }
        for (size_t k = 0; k < p->n * p->s; k++)
            tolerance->dx[reference_index(p, k / p->s, c, k % p->s)] += 32 * U * fabs(d->weight[c]) * rstd * largest;
        tolerance->dweight[c] += 16 * U * abs_dy_xhat;
        tolerance->dbias[c] += 16 * U * abs_dy;
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
    size_t elements = reference_elements(&d->problem), c = d->problem.c;
    const double *inputs[INPUTS] = {d->x, d->dy, d->weight, d->bias, d->mean, d->var};
    clnorm_status status = CLNORM_OK;
    for (int i = 0; i < INPUTS && status == CLNORM_OK; i++)
        status = write_input(&b, device, i, inputs[i], i == X || i == DY ? elements : c);
    for (int i = Y; i < STATE && status == CLNORM_OK; i++)
        status = create(&b, device, i, (i == Y || i == DX ? elements : c) * sizeof(float));
    if (status == CLNORM_OK)
        status = create(&b, device, STATE, clnorm_plan_state_bytes(plan));
    if (status == CLNORM_OK)
        status = run(plan, d, &b);
    if (status == CLNORM_OK)
        status = read_output(&b, DX, got->dx, elements);
    if (status == CLNORM_OK)
        status = read_output(&b, DWEIGHT, got->dweight, c);
    if (status == CLNORM_OK)
        status = read_output(&b, DBIAS, got->dbias, c);
    for (int i = 0; i < BUFFERS; i++)
        clnorm_memory_destroy(b.memory[i]);
    return status;
}

/* ---- the table ------------------------------------------------------------------------------------------------- */

static bool print_row(const char *name, bool frozen, const struct worst *w)
{
    bool pass = w[0].pass && w[1].pass && w[2].pass;
    printf("  %-20s %-6s", name, frozen ? "frozen" : "batch");
    for (int i = 0; i < 3; i++)
        printf("  %8.2e of %8.2e", w[i].difference, w[i].tolerance);
    printf("  %s\n", pass ? "pass" : "FAIL");
    return pass;
}

static clnorm_status check_layout(clnorm_device *device, const struct layout_case *l, bool frozen, bool *pass)
{
    clnorm_desc desc = CLNORM_DESC_INIT;
    clnorm_plan *plan = NULL;
    struct check_data d;
    struct gradients got, numeric, tolerance;
    desc.layout = l->layout;
    desc.n = CHECK_N;
    desc.c = CHECK_C;
    desc.spatial_dims = l->spatial_dims;
    memcpy(desc.spatial, l->spatial, sizeof desc.spatial);
    struct reference_problem problem = problem_of(l, &desc);
    check_data_draw(&d, &problem, 42, frozen, true);
    clnorm_status status = clnorm_plan_create(device, &desc, &plan);
    if (status == CLNORM_OK)
        status = device_gradients(device, plan, &d, &got);
    if (status == CLNORM_OK) {
        numeric_gradients(&d, &numeric, &tolerance);
        add_f32_bounds(&d, &tolerance);
        struct worst w[] = {compare(got.dx, numeric.dx, tolerance.dx, 0, reference_elements(&problem)),
                            compare(got.dweight, numeric.dweight, tolerance.dweight, 0, problem.c),
                            compare(got.dbias, numeric.dbias, tolerance.dbias, 0, problem.c)};
        *pass = print_row(l->name, frozen, w) && *pass;
    }
    clnorm_plan_destroy(plan);
    return status;
}

int device_check(const struct cli_command *self, clnorm_device *device)
{
    clnorm_device_info info = CLNORM_DEVICE_INFO_INIT;
    bool pass = true;
    clnorm_status status = clnorm_device_get_info(device, &info);
    printf("\n%s (%s, %s): f32 gradients against central differences, the worst with what is allowed\n", info.id,
           info.name, info.platform);
    printf("  %-20s %-6s  %-20s  %-20s  %-20s\n", "layout", "stats", "dx", "dweight", "dbias");
    for (size_t i = 0; i < 2 * sizeof layout_cases / sizeof *layout_cases && status == CLNORM_OK; i++)
        status = check_layout(device, &layout_cases[i / 2], i % 2, &pass);
    if (status != CLNORM_OK)
        return cli_status(self, status, info.id);
    return pass ? CLI_OK : CLI_FAILED;
}
