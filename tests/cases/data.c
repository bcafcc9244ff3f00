/* The inputs of a case, from a small generator of our own: the same bits on every machine, but for the last one of exp, log and cos. */
#include "internal.h"

#include <math.h>

/* splitmix64 (Steele, Lea, Flood 2014). */
struct generator {
    uint64_t state;
};

static uint64_t next(struct generator *g)
{
    uint64_t z = g->state += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static double uniform(struct generator *g) /* in (0, 1) */
{
    return ((double)(next(g) >> 12) + 0.5) * 0x1p-52;
}

static double normal(struct generator *g) /* Box and Muller */
{
    const double two_pi = 6.283185307179586;
    double radius = sqrt(-2 * log(uniform(g)));
    return radius * cos(two_pi * uniform(g));
}

static bool is_place(enum case_data data, size_t j, size_t m)
{
    switch (data) {
    case CASE_DATA_OUTLIER1E4_FIRST:
    case CASE_DATA_OUTLIER1E8_FIRST:
        return j == 0;
    case CASE_DATA_OUTLIER1E4_MIDDLE:
    case CASE_DATA_OUTLIER1E8_MIDDLE:
        return j == m / 2;
    default:
        return j == m - 1;
    }
}

/* Value j of m of a statistics group. */
static double value(enum case_data data, struct generator *g, double sign, size_t j, size_t m)
{
    switch (data) {
    case CASE_DATA_MEAN1E2:
        return sign * 1e2 + normal(g);
    case CASE_DATA_MEAN1E4:
        return sign * 1e4 + normal(g);
    case CASE_DATA_MEAN1E6:
        return sign * 1e6 + normal(g);
    case CASE_DATA_MEAN1E4_STD1E_2:
        return sign * 1e4 + 1e-2 * normal(g);
    case CASE_DATA_MEAN1E6_STD1E_2:
        return sign * 1e6 + 1e-2 * normal(g);
    case CASE_DATA_STEPS_AT_40000:
        return sign * (40000 + (double)(next(g) >> 62));
    case CASE_DATA_OUTLIER1E4_FIRST:
    case CASE_DATA_OUTLIER1E4_MIDDLE:
    case CASE_DATA_OUTLIER1E4_LAST:
        return is_place(data, j, m) ? sign * 1e4 : normal(g);
    case CASE_DATA_OUTLIER1E8_FIRST:
    case CASE_DATA_OUTLIER1E8_MIDDLE:
    case CASE_DATA_OUTLIER1E8_LAST:
        return is_place(data, j, m) ? sign * 1e8 : normal(g);
    case CASE_DATA_ALTERNATING1E4:
        return j % 2 ? -1e4 : 1e4;
    case CASE_DATA_SKEWED:
        return exp(2 * normal(g));
    case CASE_DATA_SPARSE:
        return next(g) >> 58 ? 0 : normal(g);
    case CASE_DATA_TINY:
        return 1e-20 * normal(g);
    case CASE_DATA_HUGE:
        return 1e17 * (2 * uniform(g) - 1);
    case CASE_DATA_CONSTANT_1234_567:
        return sign * 1234.567;
    case CASE_DATA_CONSTANT_0_1:
        return sign * 0.1;
    case CASE_DATA_CONSTANT_1E6:
        return sign * 1e6;
    case CASE_DATA_EXACT_INTEGERS: /* in [−64, 63]: no sum of up to 2^17 of them leaves the floats */
        return (double)(next(g) >> 57) - 64;
    default:
        return normal(g);
    }
}

/* Groups of every other sign, so that neighbours cannot be taken for one another; but a channel of instance norm has one sign in all
 * samples, or its mean over them would say nothing. */
static double sign_of(const struct reference_problem *shape, size_t group)
{
    return (shape->norm == REFERENCE_INSTANCE ? group % shape->c : group) % 2 ? -1 : 1;
}

/* What brings the values into the range of f16, whose largest is 65504 and whose smallest is 2^-24. */
static double scale_of(clnorm_dtype dtype, enum case_data data)
{
    if (dtype != CLNORM_F16)
        return 1;
    switch (data) {
    case CASE_DATA_MEAN1E6:
    case CASE_DATA_MEAN1E6_STD1E_2:
    case CASE_DATA_CONSTANT_1E6:
        return 0x1p-6;
    case CASE_DATA_OUTLIER1E8_FIRST:
    case CASE_DATA_OUTLIER1E8_MIDDLE:
    case CASE_DATA_OUTLIER1E8_LAST:
        return 0x1p-11;
    case CASE_DATA_HUGE:
        return 0x1p-42;
    case CASE_DATA_TINY: /* to 1e-5, whose squares no f16 has */
        return 0x1p50;
    default:
        return 1;
    }
}

static double residual_value(const struct clnorm_case *c, struct generator *g)
{
    switch (c->data) {
    case CASE_DATA_CONSTANT_1234_567:
    case CASE_DATA_CONSTANT_0_1:
    case CASE_DATA_CONSTANT_1E6:
        return c->residual == CLNORM_RESIDUAL_BEFORE ? 0.5 : normal(g);
    case CASE_DATA_EXACT_INTEGERS:
        return (double)(next(g) >> 57) - 64;
    case CASE_DATA_HUGE:
        return (c->residual == CLNORM_RESIDUAL_AFTER && c->dtype != CLNORM_F16 ? 1e5 : 1) * normal(g);
    default:
        return normal(g);
    }
}

void data_fill(const struct clnorm_case *c, const struct reference_problem *shape, float *x, float *dy, float *z)
{
    struct generator for_x = {c->seed * 2}, for_dy = {c->seed * 2 + 1}, for_z = {~c->seed * 2};
    const double dy_mean = c->data == CASE_DATA_DY_MEAN1E4 ? 1e4 : 0, scale = scale_of(c->dtype, c->data);
    for (size_t group = 0; group < reference_groups(shape); group++) {
        const size_t m = reference_group_size(shape, group);
        for (size_t k = 0; k < m; k++) {
            size_t i = reference_group_element(shape, group, k);
            x[i] = (float)(scale * value(c->data, &for_x, sign_of(shape, group), k, m));
            if (dy)
                dy[i] = (float)(dy_mean + normal(&for_dy));
            if (z)
                z[i] = (float)residual_value(c, &for_z);
        }
    }
}

void data_fill_lengths(const struct clnorm_case *c, const struct reference_problem *shape, int32_t *lengths)
{
    struct generator g = {~c->seed * 32};
    for (size_t n = 0; n < shape->n; n++) {
        const int32_t some = (int32_t)(next(&g) % (shape->s + 1)), all = (int32_t)shape->s;
        const bool ragged = c->lengths != CASE_LENGTHS_WHOLE && c->lengths != CASE_LENGTHS_EMPTY;
        lengths[n] = c->lengths == CASE_LENGTHS_WHOLE ? all : ragged ? some : 0;
        if (ragged && shape->n > 2 && n < 2)
            lengths[n] = n ? 0 : all;
        if (c->lengths == CASE_LENGTHS_OUTSIDE && n % 3)
            lengths[n] = n < 3 ? (n == 1 ? INT32_MIN : INT32_MAX) : n % 3 == 1 ? -1 : all + 1;
    }
}

void data_fill_old(const struct clnorm_case *c, enum case_input input, size_t count, float *values)
{
    struct generator g = {~c->seed * 16 + (uint64_t)input};
    const double mean = input == INPUT_V_DX && c->data == CASE_DATA_DY_MEAN1E4 ? 1e4 : 0; /* hostile, as dy is */
    for (size_t i = 0; i < count; i++)
        values[i] = (float)(mean + normal(&g));
}

size_t data_poison(const struct clnorm_case *c, const struct reference_problem *shape, float *x, float *dy)
{
    if (shape->n == 0)
        return NO_GROUP;
    const size_t groups = reference_groups(shape), middle = groups / 2;
    const size_t m = reference_group_size(shape, middle), last = reference_group_size(shape, groups - 1);
    switch (c->data) {
    case CASE_DATA_NAN_FIRST:
        x[reference_group_element(shape, 0, 0)] = NAN;
        return 0;
    case CASE_DATA_NAN_LAST:
        x[reference_group_element(shape, groups - 1, last - 1)] = NAN;
        return groups - 1;
    case CASE_DATA_INF_MIDDLE:
        x[reference_group_element(shape, middle, m / 2)] = INFINITY;
        return middle;
    case CASE_DATA_NAN_DY:
        dy[reference_group_element(shape, middle, m / 2)] = NAN;
        return middle;
    default:
        return NO_GROUP;
    }
}

void data_fill_parameters(const struct clnorm_case *c, size_t m, const double *mean, const double *var, float *weight,
                          float *bias, float *running_mean, float *running_var)
{
    struct generator g = {~c->seed};
    /* What x is normalized by lies near the batch's own, unless that says nothing (one value) or is not there. So do the old
     * running statistics of every other channel, as after many batches; the others are those of a start. */
    const bool normalizes = c->mode == CASE_INFER || c->mode == CASE_FROZEN || c->mode == CASE_DOUBLE_FROZEN;
    for (size_t i = 0; i < case_weights(c); i++) {
        const double w = (0.5 + uniform(&g)) * (next(&g) >> 63 ? -1 : 1), b = normal(&g);
        const double shift = normal(&g), scale = 0.5 + uniform(&g);
        const bool near = m > 1 && (normalizes || i % 2 == 0);
        if (weight)
            weight[i] = i % 5 == 3 ? 0.0f : (float)w;
        if (bias)
            bias[i] = (float)(c->bias_ratio > 0 ? (b < 0 ? -c->bias_ratio : c->bias_ratio) * w : b);
        if (running_mean)
            running_mean[i] = (float)(near ? mean[i] + 0.25 * shift * sqrt(var[i]) : shift);
        if (running_var)
            running_var[i] = (float)(near && (normalizes || var[i] > 1e-30) ? scale * var[i] : scale);
    }
}
