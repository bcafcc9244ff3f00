/* A case's inputs, reference and tolerances: made once, used for every device. */
#include "internal.h"

#include <math.h>
#include <stdlib.h>

bool case_mode_has_dy(enum case_mode mode)
{
    return mode != CASE_TRAIN && mode != CASE_INFER && mode != CASE_STEPS_FORWARD;
}

bool case_mode_is_double(enum case_mode mode)
{
    return mode >= CASE_DOUBLE && mode <= CASE_DOUBLE_GIVEN;
}

bool case_norm_has(clnorm_norm norm, enum case_mode mode)
{
    switch (mode) {
    case CASE_INFER:
    case CASE_FROZEN:
        return norm == CLNORM_BATCH || norm == CLNORM_INSTANCE;
    case CASE_STEPS_FORWARD:
    case CASE_STEPS_BACKWARD:
    case CASE_DOUBLE_FROZEN:
        return norm == CLNORM_BATCH;
    case CASE_DOUBLE:
    case CASE_DOUBLE_GIVEN:
        return norm == CLNORM_BATCH || norm == CLNORM_LAYER;
    default:
        return true;
    }
}

/* Outputs that every case of the norm is without. */
static unsigned lacking(clnorm_norm norm)
{
    const unsigned running = CASE_BIT(CASE_RUNNING_MEAN) | CASE_BIT(CASE_RUNNING_VAR);
    switch (norm) {
    case CLNORM_BATCH:
    case CLNORM_INSTANCE:
        return 0;
    case CLNORM_RMS:
        return running | CASE_BIT(CASE_MEAN) | CASE_BIT(CASE_VAR);
    default:
        return running;
    }
}

bool case_has(const struct clnorm_case *c, enum case_output output)
{
    static const unsigned train = CASE_BIT(CASE_Y) | CASE_BIT(CASE_MEAN) | CASE_BIT(CASE_VAR) | CASE_BIT(CASE_RSTD) |
                                  CASE_BIT(CASE_RUNNING_MEAN) | CASE_BIT(CASE_RUNNING_VAR);
    static const unsigned statistics =
        CASE_BIT(CASE_STATISTICS_COUNT) | CASE_BIT(CASE_STATISTICS_MEAN) | CASE_BIT(CASE_STATISTICS_VAR);
    static const unsigned backward = CASE_BIT(CASE_DX) | CASE_BIT(CASE_DWEIGHT) | CASE_BIT(CASE_DBIAS);
    const bool dy = case_mode_has_dy(c->mode);
    const unsigned residual = c->residual == CLNORM_RESIDUAL_BEFORE && !dy ? CASE_BIT(CASE_SUM)
                              : c->residual == CLNORM_RESIDUAL_AFTER && dy ? CASE_BIT(CASE_DZ)
                                                                           : 0;
    static const unsigned sums = CASE_BIT(CASE_SUMS_COUNT) | CASE_BIT(CASE_SUMS_DY) | CASE_BIT(CASE_SUMS_DY_XHAT);
    static const unsigned second = CASE_BIT(CASE_G_X) | CASE_BIT(CASE_G_DY) | CASE_BIT(CASE_G_WEIGHT);
    static const unsigned of_mode[CASE_MODES] = {
        train,           CASE_BIT(CASE_Y), backward, backward, backward, train | statistics,
        backward | sums, second,           second,   second};
    unsigned has = (of_mode[c->mode] | residual) & ~c->omit & ~lacking(c->norm);
    if (c->mode == CASE_STEPS_BACKWARD && c->parts > 1) /* each part has its own; their sum is in the sums */
        has &= ~(CASE_BIT(CASE_DWEIGHT) | CASE_BIT(CASE_DBIAS));
    return (has & CASE_BIT(output)) != 0;
}

size_t case_batches(const struct clnorm_case *c)
{
    const struct reference_problem shape = case_shape(c, c->n);
    return c->norm == CLNORM_BATCH ? reference_groups(&shape) / shape.c : 1;
}

size_t problem_group_size(const struct case_problem *p, size_t g)
{
    return p->c.n ? reference_group_size(&p->shape, g) : 0;
}

struct reference_problem case_shape(const struct clnorm_case *c, int64_t n)
{
    const bool by_running = c->mode == CASE_INFER || c->mode == CASE_FROZEN; /* which all samples share */
    struct reference_problem shape = {.layout = (enum reference_layout)c->layout,
                                      .n = (size_t)n,
                                      .c = (size_t)c->c,
                                      .s = 1,
                                      .eps = c->eps,
                                      .norm = (enum reference_norm)c->norm,
                                      .groups = (size_t)c->groups,
                                      .batch = by_running ? 0 : (size_t)c->virtual_batch,
                                      .length = 1};
    const int32_t dims = 1 + c->spatial_dims; /* but n */
    for (int32_t d = 0; d < c->spatial_dims; d++)
        shape.s *= (size_t)c->spatial[d];
    for (int32_t d = dims - c->normalized_dims; d < dims; d++) {
        const int32_t channel = c->layout == CLNORM_NSC ? dims - 1 : 0;
        shape.length *= (size_t)(d == channel ? c->c : c->spatial[d - (channel == 0)]);
    }
    return shape;
}

size_t case_weights(const struct clnorm_case *c)
{
    const struct reference_problem shape = case_shape(c, c->n);
    return reference_weights(&shape);
}

clnorm_dtype case_output_dtype(const struct clnorm_case *c, enum case_output output)
{
    if (output == CASE_Y)
        return c->y_dtype;
    return output == CASE_DX || output == CASE_DZ || output == CASE_SUM ? c->dtype : CLNORM_F32;
}

clnorm_dtype problem_input_dtype(const struct clnorm_case *c, enum case_input input)
{
    if (input == INPUT_DY || input == INPUT_Y)
        return c->y_dtype;
    return input == INPUT_X || input == INPUT_Z || input == INPUT_DX || input == INPUT_DZ ? c->dtype : CLNORM_F32;
}

bool case_works_out_again(const struct clnorm_case *c)
{
    return c->activation != CLNORM_NO_ACTIVATION && !c->by && !c->from_y;
}

size_t problem_input_count(const struct reference_problem *shape, enum case_input input)
{
    switch (input) {
    case INPUT_X:
    case INPUT_DY:
    case INPUT_Z:
    case INPUT_Y:
    case INPUT_DX:
    case INPUT_DZ:
    case INPUT_V_DX:
        return reference_elements(shape);
    case INPUT_WEIGHT:
    case INPUT_BIAS:
    case INPUT_DWEIGHT:
    case INPUT_DBIAS:
    case INPUT_V_DWEIGHT:
    case INPUT_V_DBIAS:
        return reference_weights(shape);
    case INPUT_MEAN:
    case INPUT_RSTD:
        return reference_groups(shape);
    default:
        return shape->c;
    }
}

static float *floats(size_t count)
{
    return calloc(count ? count : 1, sizeof(float));
}

/* Which inputs the case has: allocated, or taken from those given. */
static bool set_inputs(struct case_problem *p, float **given)
{
    const struct clnorm_case *c = &p->c;
    const bool normalizes_by_running = c->mode == CASE_INFER || c->mode == CASE_FROZEN || c->mode == CASE_DOUBLE_FROZEN;
    const bool given_statistics = c->mode == CASE_GIVEN || c->mode == CASE_DOUBLE_GIVEN;
    const bool second = case_mode_is_double(c->mode);
    const bool has[INPUTS] = {
        [INPUT_X] = true,
        [INPUT_DY] = case_mode_has_dy(c->mode),
        [INPUT_WEIGHT] = c->affine == CASE_AFFINE_BOTH || c->affine == CASE_AFFINE_NO_BIAS,
        [INPUT_BIAS] = (c->affine == CASE_AFFINE_BOTH || c->affine == CASE_AFFINE_NO_WEIGHT),
        [INPUT_RUNNING_MEAN] = normalizes_by_running || case_has(c, CASE_RUNNING_MEAN),
        [INPUT_RUNNING_VAR] = normalizes_by_running || case_has(c, CASE_RUNNING_VAR),
        [INPUT_MEAN] = given_statistics && c->norm != CLNORM_RMS,
        [INPUT_RSTD] = given_statistics,
        [INPUT_Z] = c->residual == CLNORM_RESIDUAL_AFTER ||
                    (c->residual == CLNORM_RESIDUAL_BEFORE && c->mode != CASE_GIVEN), /* whose x is the sum */
        [INPUT_DX] = (c->accumulate & CLNORM_ADD_DX) != 0,
        [INPUT_DWEIGHT] = (c->accumulate & CLNORM_ADD_DWEIGHT) != 0,
        [INPUT_DBIAS] = (c->accumulate & CLNORM_ADD_DBIAS) != 0,
        [INPUT_DZ] = (c->accumulate & CLNORM_ADD_DZ) != 0,
        [INPUT_V_DX] = second && !(c->omit & CASE_BIT(CASE_DX)),
        [INPUT_V_DWEIGHT] = second && !(c->omit & CASE_BIT(CASE_DWEIGHT)),
        [INPUT_V_DBIAS] = second && !(c->omit & CASE_BIT(CASE_DBIAS)),
    };
    for (int i = 0; i < INPUTS; i++) {
        if (!has[i])
            continue;
        p->input[i] = given ? given[i] : floats(problem_input_count(&p->shape, (enum case_input)i));
        if (!p->input[i])
            return false;
        if (given)
            given[i] = NULL;
    }
    return true;
}

/* Tensors become values of their type. */
static void round_inputs(struct case_problem *p)
{
    for (int i = 0; i < INPUTS; i++) {
        const clnorm_dtype dtype = problem_input_dtype(&p->c, (enum case_input)i);
        const size_t count = problem_input_count(&p->shape, (enum case_input)i);
        for (size_t k = 0; p->input[i] && dtype != CLNORM_F32 && k < count; k++)
            p->input[i][k] = (float)reference_round((enum reference_dtype)dtype, p->input[i][k]);
    }
}

static bool fill_inputs(struct case_problem *p)
{
    const size_t channels = p->shape.c;
    const bool running = p->input[INPUT_RUNNING_MEAN] != NULL;
    double *x = malloc((p->elements + 2 * p->groups + 2 * channels) * sizeof(double));
    if (!x)
        return false;
    double *mean = x + p->elements, *var = mean + p->groups;
    double *channel_mean = var + p->groups, *channel_var = channel_mean + channels;
    data_fill(&p->c, &p->shape, p->input[INPUT_X], p->input[INPUT_DY], p->input[INPUT_Z]);
    for (int i = INPUT_DX; i < INPUTS; i++) {
        if (p->input[i])
            data_fill_old(&p->c, (enum case_input)i, problem_input_count(&p->shape, (enum case_input)i), p->input[i]);
    }
    round_inputs(p);
    for (size_t i = 0; i < p->elements; i++)
        x[i] = p->input[INPUT_X][i];
    reference_statistics(&p->shape, x, mean, var);
    if (running)
        reference_channel_statistics(&p->shape, mean, var, channel_mean, channel_var);
    data_fill_parameters(&p->c, problem_group_size(p, 0), channel_mean, channel_var, p->input[INPUT_WEIGHT],
                         p->input[INPUT_BIAS], p->input[INPUT_RUNNING_MEAN], p->input[INPUT_RUNNING_VAR]);
    for (size_t i = 0; p->input[INPUT_RSTD] && i < p->groups; i++) {
        bool there = p->c.n > 0;
        if (p->input[INPUT_MEAN])
            p->input[INPUT_MEAN][i] = there ? (float)mean[i] : 0;
        p->input[INPUT_RSTD][i] = there ? (float)(1 / sqrt(var[i] + p->shape.eps)) : 1;
    }
    p->poisoned = data_poison(&p->c, &p->shape, p->input[INPUT_X], p->input[INPUT_DY]);
    free(x);
    return true;
}

/* lengths NULL: those that the case names. */
static bool set_lengths(struct case_problem *p, int32_t *lengths)
{
    const size_t n = p->shape.n;
    p->lengths = lengths;
    if (p->c.lengths == CASE_NO_LENGTHS)
        return true;
    if (!p->lengths && (p->lengths = malloc((n ? n : 1) * sizeof *p->lengths)))
        data_fill_lengths(&p->c, &p->shape, p->lengths);
    p->shape.lengths = p->valid = malloc((n ? n : 1) * sizeof *p->valid);
    for (size_t i = 0; p->lengths && p->valid && i < n; i++) {
        const int64_t length = p->lengths[i], most = (int64_t)p->shape.s;
        p->valid[i] = (size_t)(length < 0 ? 0 : length > most ? most : length);
    }
    return p->lengths && p->valid;
}

static struct case_problem *prepare(const struct clnorm_case *c, float **given, int32_t *lengths)
{
    struct case_problem *p = calloc(1, sizeof *p);
    if (!p) {
        free(lengths);
        return NULL;
    }
    p->c = *c;
    p->shape = case_shape(c, c->n);
    if (!set_lengths(p, lengths)) {
        case_problem_free(p);
        return NULL;
    }
    p->elements = reference_elements(&p->shape);
    p->groups = reference_groups(&p->shape);
    p->weights = reference_weights(&p->shape);
    p->poisoned = NO_GROUP;
    if (given && c->from_y) {
        p->input[INPUT_Y] = given[INPUT_Y];
        given[INPUT_Y] = NULL;
    }
    bool ok = set_inputs(p, given) && (given || fill_inputs(p));
    if (ok && given)
        round_inputs(p);
    ok = ok && (!c->from_y || p->input[INPUT_Y] || problem_make_y(p));
    ok = ok && problem_expect(p);
    if (ok && p->poisoned != NO_GROUP) {
        struct clnorm_case clean = *c;
        clean.data = CASE_DATA_NORMAL;
        ok = (p->clean = prepare(&clean, NULL, NULL)) != NULL;
    }
    if (!ok) {
        case_problem_free(p);
        return NULL;
    }
    return p;
}

struct case_problem *case_prepare(const struct clnorm_case *c)
{
    return prepare(c, NULL, NULL);
}

struct case_problem *case_prepare_given(const struct clnorm_case *c, const struct case_inputs *inputs)
{
    float *given[INPUTS] = {
        [INPUT_X] = inputs->x,
        [INPUT_DY] = inputs->dy,
        [INPUT_WEIGHT] = inputs->weight,
        [INPUT_BIAS] = inputs->bias,
        [INPUT_RUNNING_MEAN] = inputs->running_mean,
        [INPUT_RUNNING_VAR] = inputs->running_var,
        [INPUT_MEAN] = inputs->mean,
        [INPUT_RSTD] = inputs->rstd,
        [INPUT_Z] = inputs->z,
        [INPUT_Y] = inputs->y,
        [INPUT_DX] = inputs->dx,
        [INPUT_DWEIGHT] = inputs->dweight,
        [INPUT_DBIAS] = inputs->dbias,
        [INPUT_DZ] = inputs->dz,
        [INPUT_V_DX] = inputs->v_dx,
        [INPUT_V_DWEIGHT] = inputs->v_dweight,
        [INPUT_V_DBIAS] = inputs->v_dbias,
    };
    struct case_problem *p = prepare(c, given, inputs->lengths);
    for (int i = 0; i < INPUTS; i++)
        free(given[i]); /* what the case does not read, or did not take */
    return p;
}

void case_problem_free(struct case_problem *p)
{
    if (!p)
        return;
    for (int i = 0; i < INPUTS; i++)
        free(p->input[i]);
    for (int o = 0; o < CASE_OUTPUTS; o++) {
        free(p->reference[o]);
        free(p->tolerance[o]);
        free(p->alone[o]);
    }
    case_problem_free(p->clean);
    free(p->lengths);
    free(p->valid);
    free(p);
}

const struct clnorm_case *case_problem_case(const struct case_problem *p)
{
    return &p->c;
}

size_t case_output_count(const struct case_problem *p, enum case_output output)
{
    return p->count[output];
}

const double *case_reference(const struct case_problem *p, enum case_output output)
{
    return p->reference[output];
}

const double *case_tolerance(const struct case_problem *p, enum case_output output)
{
    return p->tolerance[output];
}

static bool is_tensor(enum case_output output)
{
    return output == CASE_Y || output == CASE_DX || output == CASE_DZ || output == CASE_SUM || output == CASE_G_X ||
           output == CASE_G_DY;
}

double case_allowed(const struct case_problem *p, enum case_output output, size_t i)
{
    if (p->valid && is_tensor(output) && !reference_is_valid(&p->shape, i))
        return 0;
    return p->tolerance[output][case_part(p, output, i)] + (p->alone[output] ? p->alone[output][i] : 0);
}

static bool is_of_weights(enum case_output output)
{
    return output == CASE_DWEIGHT || output == CASE_DBIAS || output == CASE_G_WEIGHT;
}

static bool is_of_channels(enum case_output output)
{
    return output == CASE_RUNNING_MEAN || output == CASE_RUNNING_VAR;
}

size_t case_parts(const struct case_problem *p, enum case_output output)
{
    return is_of_weights(output) ? p->weights : is_of_channels(output) ? p->shape.c : p->groups;
}

size_t case_part(const struct case_problem *p, enum case_output output, size_t i)
{
    return is_tensor(output) ? reference_group_of(&p->shape, i) : i;
}

const char *case_part_name(const struct clnorm_case *c, enum case_output output)
{
    const bool rows = c->norm == CLNORM_LAYER || c->norm == CLNORM_RMS;
    if ((c->norm == CLNORM_BATCH && !c->virtual_batch) || is_of_channels(output))
        return "channel";
    if (is_of_weights(output))
        return rows ? "weight" : "channel";
    return rows ? "row" : "group";
}
