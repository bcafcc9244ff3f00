#include "double_check.h"

#include "legacy_random.h"

#include <cases.h>
#include <float.h>
#include <math.h>

#define STEP 1e-4 /* extrapolated, so that it may be larger than CHECK_STEP and rounding matters less */

struct problem {
    struct check_data d;
    double v_dx[CHECK_ELEMENTS], v_dweight[CHECK_ELEMENTS], v_dbias[CHECK_ELEMENTS];
};

struct second {
    double g_x[CHECK_ELEMENTS], g_dy[CHECK_ELEMENTS], g_weight[CHECK_ELEMENTS];
};

bool double_has(clnorm_norm norm)
{
    return norm == CLNORM_BATCH || norm == CLNORM_LAYER;
}

/* v_dx, v_dweight and v_dbias follow in a stream of their own. */
static void draw(struct problem *p, const struct reference_problem *shape, const struct check_kind *kind)
{
    struct legacy_random r;
    double *const drawn[] = {p->v_dx, p->v_dweight, p->v_dbias};
    check_data_draw(&p->d, shape, 42, kind);
    legacy_random_seed(&r, 43);
    for (int k = 0; k < 3; k++) {
        const size_t count = k == 0 ? reference_elements(shape) : reference_weights(shape);
        legacy_random_normal(&r, drawn[k], count);
        for (size_t i = 0; kind->rounded && i < count; i++)
            drawn[k][i] = reference_round(REFERENCE_F32, drawn[k][i]);
    }
}

static struct reference_double inputs_of(const struct problem *p)
{
    const struct check_data *d = &p->d;
    return (struct reference_double){d->x, d->dy, d->weight, d->mean, d->var, p->v_dx, p->v_dweight, p->v_dbias};
}

/* Σ v·gradient of all that backward gives, with the statistics of the x there is now; size: of the absolute values. */
static long double loss(const struct problem *p, long double *size)
{
    const struct check_data *d = &p->d;
    const struct reference_problem *shape = &d->problem;
    double mean[CHECK_ELEMENTS], var[CHECK_ELEMENTS];
    struct gradients g = {{0}, {0}, {0}, {0}};
    long double sum = 0;
    reference_statistics(shape, d->x, mean, var);
    reference_backward(shape, d->x, d->dy, d->kind.frozen ? d->mean : mean, d->kind.frozen ? d->var : var, d->weight,
                       d->kind.frozen, g.dx, g.dweight, g.dbias);
    *size = 0;
    for (size_t i = 0; i < reference_elements(shape); i++) {
        sum += (long double)p->v_dx[i] * g.dx[i];
        *size += fabsl((long double)p->v_dx[i] * g.dx[i]);
    }
    for (size_t w = 0; w < reference_weights(shape); w++) {
        sum += (long double)p->v_dweight[w] * g.dweight[w] + (long double)p->v_dbias[w] * g.dbias[w];
        *size += fabsl((long double)p->v_dweight[w] * g.dweight[w]) + fabsl((long double)p->v_dbias[w] * g.dbias[w]);
    }
    return sum;
}

static double difference(const struct problem *p, double *at, double step, long double *size)
{
    const double old = *at, high = old + step, low = old - step;
    *at = high;
    const long double above = loss(p, size);
    *at = low;
    const long double below = loss(p, size);
    *at = old;
    return (double)((above - below) / ((long double)high - low));
}

/* ∂L/∂values. Two steps give the slope but for O(h⁴); four times the step is off by 16 times as much, so that the difference of both is
 * 15 times what is left, taken whole. Rounding: mean, var and each gradient are doubles, off by 2^-53 of the terms in them; 16 of those. */
static void slopes(struct problem *p, double *values, size_t count, double *slope, double *error)
{
    for (size_t i = 0; i < count; i++) {
        long double size;
        const double d1 = difference(p, &values[i], STEP, &size), d2 = difference(p, &values[i], 2 * STEP, &size),
                     d4 = difference(p, &values[i], 4 * STEP, &size), near = (4 * d1 - d2) / 3, far = (4 * d2 - d4) / 3;
        slope[i] = near;
        error[i] = fabs(near - far) + 16 * (DBL_EPSILON / 2) * (double)size / STEP;
    }
}

static void numeric_second(struct problem *p, struct second *numeric, struct second *error)
{
    const size_t elements = reference_elements(&p->d.problem), weights = reference_weights(&p->d.problem);
    *numeric = *error = (struct second){{0}, {0}, {0}};
    slopes(p, p->d.x, elements, numeric->g_x, error->g_x);
    slopes(p, p->d.dy, elements, numeric->g_dy, error->g_dy);
    slopes(p, p->d.weight, weights, numeric->g_weight, error->g_weight);
}

/* allowed NULL: limit for all. */
static void judge(const struct reference_problem *shape, const struct second *got, const struct second *want,
                  const struct second *allowed, double limit, struct worst w[DOUBLE_OUTPUTS])
{
    const size_t elements = reference_elements(shape), weights = reference_weights(shape);
    w[DOUBLE_X] = compare(got->g_x, want->g_x, allowed ? allowed->g_x : NULL, limit, elements);
    w[DOUBLE_DY] = compare(got->g_dy, want->g_dy, allowed ? allowed->g_dy : NULL, limit, elements);
    w[DOUBLE_WEIGHT] = compare(got->g_weight, want->g_weight, allowed ? allowed->g_weight : NULL, limit, weights);
}

void double_check_formulas(const struct reference_problem *problem, double limit, struct worst w[DOUBLE_OUTPUTS])
{
    const struct check_kind alone = {.slope = 0};
    struct problem p;
    struct second numeric, error, formulas;
    draw(&p, problem, &alone);
    numeric_second(&p, &numeric, &error);
    const struct reference_double in = inputs_of(&p);
    reference_double_backward(problem, &in, false, formulas.g_x, formulas.g_dy, formulas.g_weight);
    judge(problem, &formulas, &numeric, NULL, limit, w);
}

/* ---- a device ---------------------------------------------------------------------------------------------------- */

enum { X, DY, WEIGHT, MEAN, VAR, V_DX, V_DWEIGHT, V_DBIAS, INPUTS, Y = INPUTS, G_X, G_DY, G_WEIGHT, STATE, BUFFERS };

static clnorm_status write_input(clnorm_memory *memory, const double *values, size_t count)
{
    float narrow[CHECK_ELEMENTS];
    for (size_t i = 0; i < count; i++)
        narrow[i] = (float)values[i]; /* exact: the data were drawn so */
    return clnorm_memory_write(memory, 0, narrow, count * sizeof *narrow);
}

static clnorm_status read_output(clnorm_memory *memory, double *values, size_t count)
{
    float narrow[CHECK_ELEMENTS];
    clnorm_status status = clnorm_memory_read(memory, 0, narrow, count * sizeof *narrow);
    for (size_t i = 0; status == CLNORM_OK && i < count; i++)
        values[i] = (double)narrow[i];
    return status;
}

static clnorm_status prepare(clnorm_device *device, clnorm_plan *plan, const struct problem *p,
                             clnorm_memory *memory[BUFFERS])
{
    const struct check_data *d = &p->d;
    const size_t e = reference_elements(&d->problem), w = reference_weights(&d->problem), c = d->problem.c;
    const size_t counts[STATE] = {e, e, w, c, c, e, w, w, e, e, e, w};
    const double *inputs[INPUTS] = {d->x, d->dy, d->weight, d->mean, d->var, p->v_dx, p->v_dweight, p->v_dbias};
    clnorm_status status = clnorm_memory_create(device, clnorm_plan_state_bytes(plan), &memory[STATE]);
    for (int i = 0; i < STATE && status == CLNORM_OK; i++) {
        status = clnorm_memory_create(device, counts[i] * sizeof(float), &memory[i]);
        if (i < INPUTS && status == CLNORM_OK && (d->kind.frozen || (i != MEAN && i != VAR)))
            status = write_input(memory[i], inputs[i], counts[i]);
    }
    return status;
}

static clnorm_status forward(clnorm_plan *plan, clnorm_memory *const memory[BUFFERS])
{
    clnorm_forward_args f = CLNORM_FORWARD_ARGS_INIT;
    f.x = clnorm_memory_buffer(memory[X]);
    f.y = clnorm_memory_buffer(memory[Y]);
    f.state = clnorm_memory_buffer(memory[STATE]);
    return clnorm_forward(plan, &f);
}

static clnorm_status double_backward(clnorm_plan *plan, bool frozen, clnorm_memory *const memory[BUFFERS])
{
    clnorm_double_backward_args g = CLNORM_DOUBLE_BACKWARD_ARGS_INIT;
    if (frozen) {
        g.running_mean = clnorm_memory_buffer(memory[MEAN]);
        g.running_var = clnorm_memory_buffer(memory[VAR]);
    } else {
        g.state = clnorm_memory_buffer(memory[STATE]);
    }
    g.x = clnorm_memory_buffer(memory[X]);
    g.dy = clnorm_memory_buffer(memory[DY]);
    g.weight = clnorm_memory_buffer(memory[WEIGHT]);
    g.v_dx = clnorm_memory_buffer(memory[V_DX]);
    g.v_dweight = clnorm_memory_buffer(memory[V_DWEIGHT]);
    g.v_dbias = clnorm_memory_buffer(memory[V_DBIAS]);
    g.g_x = clnorm_memory_buffer(memory[G_X]);
    g.g_dy = clnorm_memory_buffer(memory[G_DY]);
    g.g_weight = clnorm_memory_buffer(memory[G_WEIGHT]);
    return clnorm_double_backward(plan, &g);
}

static clnorm_status run(clnorm_device *device, clnorm_plan *plan, const struct problem *p, struct second *got)
{
    const size_t elements = reference_elements(&p->d.problem), weights = reference_weights(&p->d.problem);
    clnorm_memory *memory[BUFFERS] = {NULL};
    clnorm_status status = prepare(device, plan, p, memory);
    if (status == CLNORM_OK && !p->d.kind.frozen)
        status = forward(plan, memory);
    if (status == CLNORM_OK)
        status = double_backward(plan, p->d.kind.frozen, memory);
    if (status == CLNORM_OK)
        status = read_output(memory[G_X], got->g_x, elements);
    if (status == CLNORM_OK)
        status = read_output(memory[G_DY], got->g_dy, elements);
    if (status == CLNORM_OK)
        status = read_output(memory[G_WEIGHT], got->g_weight, weights);
    for (int i = 0; i < BUFFERS; i++)
        clnorm_memory_destroy(memory[i]);
    return status;
}

/* Adds what is promised of f32 to what the differences are known to. */
static void add_promise(const struct problem *p, struct second *tolerance)
{
    const struct reference_problem *shape = &p->d.problem;
    const struct reference_double in = inputs_of(p);
    struct second promise = {{0}, {0}, {0}}; /* g_x and g_dy: of each group */
    case_double_bounds(shape, &in, p->d.kind.frozen, promise.g_x, promise.g_dy, promise.g_weight);
    for (size_t i = 0; i < reference_elements(shape); i++) {
        tolerance->g_x[i] += promise.g_x[reference_group_of(shape, i)];
        tolerance->g_dy[i] += promise.g_dy[reference_group_of(shape, i)];
    }
    for (size_t w = 0; w < reference_weights(shape); w++)
        tolerance->g_weight[w] += promise.g_weight[w];
}

clnorm_status double_check_device(clnorm_device *device, const clnorm_desc *desc,
                                  const struct reference_problem *problem, bool frozen, struct worst w[DOUBLE_OUTPUTS])
{
    const struct check_kind kind = {.frozen = frozen, .rounded = true};
    clnorm_desc with = *desc;
    clnorm_plan *plan = NULL;
    struct problem p;
    struct second got, numeric, tolerance;
    with.double_backward = 1;
    clnorm_status status = clnorm_plan_create(device, &with, &plan);
    if (status != CLNORM_OK)
        return status;
    draw(&p, problem, &kind);
    numeric_second(&p, &numeric, &tolerance);
    add_promise(&p, &tolerance);
    status = run(device, plan, &p, &got);
    if (status == CLNORM_OK)
        judge(problem, &got, &numeric, &tolerance, 0, w);
    clnorm_plan_destroy(plan);
    return status;
}
