#include "reference.h"

#include <math.h>

/* Each function walks one group or one weight at a time. Sums and products are long double (64-bit significands where the
 * machine has them) and are rounded to double once, when they are stored. */

size_t reference_elements(const struct reference_problem *p)
{
    return p->n * p->c * p->s;
}

size_t reference_index(const struct reference_problem *p, size_t n, size_t c, size_t s)
{
    if (p->layout == REFERENCE_NSC)
        return (n * p->s + s) * p->c + c;
    return (n * p->c + c) * p->s + s;
}

/* ---- groups and weights ---------------------------------------------------------------------------------------- */

static bool over_rows(const struct reference_problem *p)
{
    return p->norm == REFERENCE_LAYER || p->norm == REFERENCE_RMS;
}

static size_t channel_of(const struct reference_problem *p, size_t element)
{
    return p->layout == REFERENCE_NSC ? element % p->c : element / p->s % p->c;
}

static size_t sample_of(const struct reference_problem *p, size_t element)
{
    return element / (p->c * p->s);
}

static size_t position_of(const struct reference_problem *p, size_t element)
{
    return p->layout == REFERENCE_NSC ? element / p->c % p->s : element % p->s;
}

static size_t length_of(const struct reference_problem *p, size_t n)
{
    return p->lengths ? p->lengths[n] : p->s;
}

bool reference_is_valid(const struct reference_problem *p, size_t element)
{
    return position_of(p, element) < length_of(p, sample_of(p, element));
}

/* Valid positions of samples `first` to below `end`. */
static size_t positions_of(const struct reference_problem *p, size_t first, size_t end)
{
    size_t positions = 0;
    if (!p->lengths)
        return (end - first) * p->s;
    for (size_t n = first; n < end; n++)
        positions += p->lengths[n];
    return positions;
}

/* Where the k-th valid position of the samples from `first` on lies, in channel c. */
static size_t valid_element(const struct reference_problem *p, size_t first, size_t c, size_t k)
{
    if (!p->lengths)
        return reference_index(p, first + k / p->s, c, k % p->s);
    size_t n = first;
    for (; k >= p->lengths[n]; n++)
        k -= p->lengths[n];
    return reference_index(p, n, c, k);
}

/* Channels of a group of group norm. */
static size_t together(const struct reference_problem *p)
{
    return p->c / p->groups;
}

/* Samples of a batch that is not the last. */
static size_t batch_of(const struct reference_problem *p)
{
    return p->batch && p->batch < p->n ? p->batch : p->n;
}

size_t reference_groups(const struct reference_problem *p)
{
    switch (p->norm) {
    case REFERENCE_BATCH:
        return p->n ? (p->n + batch_of(p) - 1) / batch_of(p) * p->c : p->c;
    case REFERENCE_GROUP:
        return p->n * p->groups;
    case REFERENCE_INSTANCE:
        return p->n * p->c;
    default:
        return reference_elements(p) / p->length;
    }
}

size_t reference_group_size(const struct reference_problem *p, size_t g)
{
    const size_t before = g / p->c * batch_of(p); /* samples, of batch norm */
    switch (p->norm) {
    case REFERENCE_BATCH:
        return positions_of(p, before, p->n - before < batch_of(p) ? p->n : before + batch_of(p));
    case REFERENCE_GROUP:
        return together(p) * length_of(p, g / p->groups);
    case REFERENCE_INSTANCE:
        return length_of(p, g / p->c);
    default:
        return p->length;
    }
}

size_t reference_group_element(const struct reference_problem *p, size_t g, size_t k)
{
    switch (p->norm) {
    case REFERENCE_BATCH:
        return valid_element(p, g / p->c * batch_of(p), g % p->c, k);
    case REFERENCE_GROUP: {
        const size_t n = g / p->groups, length = length_of(p, n);
        return reference_index(p, n, g % p->groups * together(p) + k / length, k % length);
    }
    case REFERENCE_INSTANCE:
        return reference_index(p, g / p->c, g % p->c, k);
    default:
        return g * p->length + k;
    }
}

size_t reference_group_of(const struct reference_problem *p, size_t element)
{
    switch (p->norm) {
    case REFERENCE_BATCH:
        return sample_of(p, element) / batch_of(p) * p->c + channel_of(p, element);
    case REFERENCE_GROUP:
        return sample_of(p, element) * p->groups + channel_of(p, element) / together(p);
    case REFERENCE_INSTANCE:
        return sample_of(p, element) * p->c + channel_of(p, element);
    default:
        return element / p->length;
    }
}

size_t reference_weights(const struct reference_problem *p)
{
    return over_rows(p) ? p->length : p->c;
}

size_t reference_weight_size(const struct reference_problem *p)
{
    return over_rows(p) ? reference_elements(p) / p->length : positions_of(p, 0, p->n);
}

size_t reference_weight_element(const struct reference_problem *p, size_t w, size_t k)
{
    return over_rows(p) ? k * p->length + w : valid_element(p, 0, w, k);
}

size_t reference_weight_of(const struct reference_problem *p, size_t element)
{
    return over_rows(p) ? element % p->length : channel_of(p, element);
}

/* ---- forward --------------------------------------------------------------------------------------------------- */

static long double rstd_of(const struct reference_problem *p, const double *var, size_t g)
{
    return 1 / sqrtl((long double)var[g] + (long double)p->eps);
}

void reference_statistics(const struct reference_problem *p, const double *x, double *mean, double *var)
{
    for (size_t g = 0; g < reference_groups(p); g++) {
        const size_t size = reference_group_size(p, g);
        const long double m = (long double)size;
        long double sum = 0;
        if (p->lengths && size == 0) {
            mean[g] = 0;
            if (var)
                var[g] = 0;
            continue;
        }
        for (size_t k = 0; k < size && p->norm != REFERENCE_RMS; k++)
            sum += x[reference_group_element(p, g, k)];
        /* The first mean is off by its rounding; the mean of the deviations from it is what it is off by. */
        long double first = sum / m, deviations = 0, squares = 0;
        for (size_t k = 0; k < size; k++) {
            long double d = x[reference_group_element(p, g, k)] - first;
            deviations += d;
            squares += d * d;
        }
        if (p->norm == REFERENCE_RMS)
            deviations = 0;
        mean[g] = (double)(first + deviations / m);
        if (var)
            var[g] = (double)((squares - deviations * deviations / m) / m);
    }
}

void reference_apply(const struct reference_problem *p, const double *x, const double *mean, const double *var,
                     const double *weight, const double *bias, double *y)
{
    for (size_t g = 0; g < reference_groups(p); g++) {
        long double rstd = rstd_of(p, var, g);
        for (size_t k = 0; k < reference_group_size(p, g); k++) {
            size_t i = reference_group_element(p, g, k), w = reference_weight_of(p, i);
            y[i] = (double)(((long double)x[i] - mean[g]) * rstd * (weight ? weight[w] : 1) + (bias ? bias[w] : 0));
        }
    }
}

/* ---- backward -------------------------------------------------------------------------------------------------- */

static long double xhat_of(const struct reference_problem *p, const double *x, const double *mean, const double *var,
                           size_t i)
{
    size_t g = reference_group_of(p, i);
    return ((long double)x[i] - mean[g]) * rstd_of(p, var, g);
}

/* The gradient of x̂. */
static long double delta_of(const struct reference_problem *p, const double *dy, const double *weight, size_t i)
{
    return (long double)dy[i] * (weight ? weight[reference_weight_of(p, i)] : 1);
}

static void backward_weights(const struct reference_problem *p, const double *x, const double *dy, const double *mean,
                             const double *var, double *dweight, double *dbias)
{
    for (size_t w = 0; w < reference_weights(p) && (dweight || dbias); w++) {
        long double sum_dy = 0, sum_dy_xhat = 0;
        for (size_t k = 0; k < reference_weight_size(p); k++) {
            size_t i = reference_weight_element(p, w, k);
            sum_dy += dy[i];
            sum_dy_xhat += dy[i] * xhat_of(p, x, mean, var, i);
        }
        if (dbias)
            dbias[w] = (double)sum_dy;
        if (dweight)
            dweight[w] = (double)sum_dy_xhat;
    }
}

void reference_backward(const struct reference_problem *p, const double *x, const double *dy, const double *mean,
                        const double *var, const double *weight, bool frozen, double *dx, double *dweight,
                        double *dbias)
{
    backward_weights(p, x, dy, mean, var, dweight, dbias);
    for (size_t g = 0; g < reference_groups(p) && dx; g++) {
        const size_t size = reference_group_size(p, g);
        const long double m = (long double)size;
        long double rstd = rstd_of(p, var, g), sum = 0, sum_xhat = 0;
        for (size_t k = 0; k < size && !frozen; k++) {
            size_t i = reference_group_element(p, g, k);
            long double delta = delta_of(p, dy, weight, i);
            sum += p->norm == REFERENCE_RMS ? 0 : delta;
            sum_xhat += delta * ((x[i] - (long double)mean[g]) * rstd);
        }
        for (size_t k = 0; k < size; k++) {
            size_t i = reference_group_element(p, g, k);
            long double xhat = ((long double)x[i] - mean[g]) * rstd, delta = delta_of(p, dy, weight, i);
            dx[i] = (double)(rstd * (frozen ? delta : delta - sum / m - xhat * (sum_xhat / m)));
        }
    }
}

void reference_backward_stepwise(const struct reference_problem *p, const double *x, const double *dy,
                                 const double *mean, const double *var, const double *weight, double *dx,
                                 double *dweight, double *dbias)
{
    backward_weights(p, x, dy, mean, var, dweight, dbias);
    for (size_t g = 0; g < reference_groups(p) && dx; g++) {
        const size_t size = reference_group_size(p, g);
        const long double m = (long double)size;
        long double rstd = rstd_of(p, var, g), dvar = 0, dmean_direct = 0, dmean_by_var = 0;
        for (size_t k = 0; k < size; k++) {
            size_t i = reference_group_element(p, g, k);
            long double d = (long double)x[i] - mean[g], delta = delta_of(p, dy, weight, i);
            dvar += delta * d * (-0.5L) * rstd * rstd * rstd;
            dmean_direct += -delta * rstd;
            dmean_by_var += -2 * d;
        }
        long double dmean = p->norm == REFERENCE_RMS ? 0 : dmean_direct + dvar * dmean_by_var / m;
        for (size_t k = 0; k < size; k++) {
            size_t i = reference_group_element(p, g, k);
            long double d = (long double)x[i] - mean[g];
            dx[i] = (double)(delta_of(p, dy, weight, i) * rstd + dvar * 2 * d / m + dmean / m);
        }
    }
}

/* ---- running statistics ---------------------------------------------------------------------------------------- */

void reference_channel_statistics(const struct reference_problem *p, const double *mean, const double *var,
                                  double *channel_mean, double *channel_var)
{
    const size_t samples = p->norm == REFERENCE_INSTANCE ? p->n : 1;
    for (size_t c = 0; c < p->c; c++) {
        long double sum_mean = 0, sum_var = 0;
        size_t with_values = 0;
        for (size_t n = 0; n < samples; n++) {
            if (p->lengths && p->norm == REFERENCE_INSTANCE && p->lengths[n] == 0)
                continue;
            sum_mean += mean[n * p->c + c];
            sum_var += var[n * p->c + c];
            with_values++;
        }
        channel_mean[c] = with_values ? (double)(sum_mean / with_values) : 0;
        channel_var[c] = with_values ? (double)(sum_var / with_values) : 0;
    }
}

void reference_running(size_t c, size_t m, const double *mean, const double *var, double momentum, bool unbiased,
                       double *running_mean, double *running_var)
{
    double factor = unbiased && m > 1 ? (double)m / (double)(m - 1) : 1;
    for (size_t i = 0; i < c; i++) {
        running_mean[i] = (1 - momentum) * running_mean[i] + momentum * mean[i];
        running_var[i] = (1 - momentum) * running_var[i] + momentum * (factor * var[i]);
    }
}
