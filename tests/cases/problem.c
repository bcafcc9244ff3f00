/* A case's inputs, reference and tolerances: made once, used for every device. */
#include "internal.h"

#include <math.h>
#include <stdlib.h>

bool case_mode_has_dy(enum case_mode mode)
{
    return mode != CASE_TRAIN && mode != CASE_INFER && mode != CASE_STEPS_FORWARD;
}

bool case_has(const struct clnorm_case *c, enum case_output output)
{
    static const unsigned train = CASE_BIT(CASE_Y) | CASE_BIT(CASE_MEAN) | CASE_BIT(CASE_VAR) | CASE_BIT(CASE_RSTD) |
                                  CASE_BIT(CASE_RUNNING_MEAN) | CASE_BIT(CASE_RUNNING_VAR);
    static const unsigned statistics =
        CASE_BIT(CASE_STATISTICS_COUNT) | CASE_BIT(CASE_STATISTICS_MEAN) | CASE_BIT(CASE_STATISTICS_VAR);
    static const unsigned backward = CASE_BIT(CASE_DX) | CASE_BIT(CASE_DWEIGHT) | CASE_BIT(CASE_DBIAS);
    static const unsigned sums = CASE_BIT(CASE_SUMS_COUNT) | CASE_BIT(CASE_SUMS_DY) | CASE_BIT(CASE_SUMS_DY_XHAT);
    static const unsigned of_mode[CASE_MODES] = {train,    CASE_BIT(CASE_Y),   backward,       backward,
                                                 backward, train | statistics, backward | sums};
    unsigned has = of_mode[c->mode] & ~c->omit;
    if (c->mode == CASE_STEPS_BACKWARD && c->parts > 1) /* each part has its own; their sum is in the sums */
        has &= ~(CASE_BIT(CASE_DWEIGHT) | CASE_BIT(CASE_DBIAS));
    return (has & CASE_BIT(output)) != 0;
}

size_t case_plan_elements(const struct clnorm_case *c)
{
    struct clnorm_case whole = *c;
    whole.n = c->plan_n;
    return case_elements(&whole);
}

static float *floats(size_t count)
{
    return malloc((count ? count : 1) * sizeof(float));
}

/* Which inputs the case has: allocated, or taken from those given. */
static bool set_inputs(struct case_problem *p, float **given)
{
    const struct clnorm_case *c = &p->c;
    const size_t channels = p->shape.c;
    const bool normalizes_by_running = c->mode == CASE_INFER || c->mode == CASE_FROZEN;
    const bool has[INPUTS] = {
        [INPUT_X] = true,
        [INPUT_DY] = case_mode_has_dy(c->mode),
        [INPUT_WEIGHT] = c->affine == CASE_AFFINE_BOTH || c->affine == CASE_AFFINE_NO_BIAS,
        [INPUT_BIAS] = (c->affine == CASE_AFFINE_BOTH || c->affine == CASE_AFFINE_NO_WEIGHT),
        [INPUT_RUNNING_MEAN] = normalizes_by_running || case_has(c, CASE_RUNNING_MEAN),
        [INPUT_RUNNING_VAR] = normalizes_by_running || case_has(c, CASE_RUNNING_VAR),
        [INPUT_MEAN] = c->mode == CASE_GIVEN,
        [INPUT_RSTD] = c->mode == CASE_GIVEN,
    };
    for (int i = 0; i < INPUTS; i++) {
        if (!has[i])
            continue;
        p->input[i] = given ? given[i] : floats(i <= INPUT_DY ? p->elements : channels);
        if (!p->input[i])
            return false;
        if (given)
            given[i] = NULL;
    }
    return true;
}

static bool fill_inputs(struct case_problem *p)
{
    const size_t channels = p->shape.c;
    double *x = malloc((p->elements + 2 * channels) * sizeof(double));
    if (!x)
        return false;
    double *mean = x + p->elements, *var = mean + channels;
    data_fill(&p->c, &p->shape, p->input[INPUT_X], p->input[INPUT_DY]);
    for (size_t i = 0; i < p->elements; i++)
        x[i] = p->input[INPUT_X][i];
    reference_statistics(&p->shape, x, mean, var);
    data_fill_parameters(&p->c, p->m, mean, var, p->input[INPUT_WEIGHT], p->input[INPUT_BIAS],
                         p->input[INPUT_RUNNING_MEAN], p->input[INPUT_RUNNING_VAR]);
    for (size_t i = 0; p->input[INPUT_MEAN] && i < channels; i++) {
        bool there = p->m > 0;
        p->input[INPUT_MEAN][i] = there ? (float)mean[i] : 0;
        p->input[INPUT_RSTD][i] = there ? (float)(1 / sqrt(var[i] + p->shape.eps)) : 1;
    }
    p->poisoned = data_poison(&p->c, &p->shape, p->input[INPUT_X], p->input[INPUT_DY]);
    free(x);
    return true;
}

static struct case_problem *prepare(const struct clnorm_case *c, float **given)
{
    struct case_problem *p = calloc(1, sizeof *p);
    if (!p)
        return NULL;
    p->c = *c;
    p->elements = case_elements(c);
    p->shape.layout = (enum reference_layout)c->layout;
    p->shape.n = (size_t)c->n;
    p->shape.c = (size_t)c->c;
    p->shape.s = 1;
    for (int32_t d = 0; d < c->spatial_dims; d++)
        p->shape.s *= (size_t)c->spatial[d];
    p->shape.eps = c->eps;
    p->m = p->shape.n * p->shape.s;
    p->poisoned = NO_CHANNEL;
    bool ok = set_inputs(p, given) && (given || fill_inputs(p)) && problem_expect(p);
    if (ok && p->poisoned != NO_CHANNEL) {
        struct clnorm_case clean = *c;
        clean.data = CASE_DATA_NORMAL;
        ok = (p->clean = prepare(&clean, NULL)) != NULL;
    }
    if (!ok) {
        case_problem_free(p);
        return NULL;
    }
    return p;
}

struct case_problem *case_prepare(const struct clnorm_case *c)
{
    return prepare(c, NULL);
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
    };
    struct case_problem *p = prepare(c, given);
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
    }
    case_problem_free(p->clean);
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

size_t case_channel(const struct case_problem *p, enum case_output output, size_t i)
{
    if (output != CASE_Y && output != CASE_DX)
        return i;
    return p->c.layout == CLNORM_NSC ? i % p->shape.c : i / p->shape.s % p->shape.c;
}
