#include "reference.h"

#include <math.h>

/* Each function walks one channel at a time: for (n, s) over its m = n·s values. Sums and products are long double (64-bit
 * significands where the machine has them) and are rounded to double once, when they are stored. */

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

static long double rstd_of(const struct reference_problem *p, const double *var, size_t c)
{
    return 1 / sqrtl((long double)var[c] + (long double)p->eps);
}

void reference_statistics(const struct reference_problem *p, const double *x, double *mean, double *var)
{
    long double m = (long double)p->n * (long double)p->s;
    for (size_t c = 0; c < p->c; c++) {
        long double sum = 0;
        for (size_t n = 0; n < p->n; n++) {
            for (size_t s = 0; s < p->s; s++)
                sum += x[reference_index(p, n, c, s)];
        }
        /* The first mean is off by its rounding; the mean of the deviations from it is what it is off by. */
        long double first = sum / m, deviations = 0, squares = 0;
        for (size_t n = 0; n < p->n; n++) {
            for (size_t s = 0; s < p->s; s++) {
                long double d = x[reference_index(p, n, c, s)] - first;
                deviations += d;
                squares += d * d;
            }
        }
        mean[c] = (double)(first + deviations / m);
        if (var)
            var[c] = (double)((squares - deviations * deviations / m) / m);
    }
}

void reference_apply(const struct reference_problem *p, const double *x, const double *mean, const double *var,
                     const double *weight, const double *bias, double *y)
{
    for (size_t c = 0; c < p->c; c++) {
        long double rstd = rstd_of(p, var, c);
        long double w = weight ? weight[c] : 1, b = bias ? bias[c] : 0;
        for (size_t n = 0; n < p->n; n++) {
            for (size_t s = 0; s < p->s; s++) {
                size_t i = reference_index(p, n, c, s);
                y[i] = (double)(((long double)x[i] - mean[c]) * rstd * w + b);
            }
        }
    }
}

void reference_backward(const struct reference_problem *p, const double *x, const double *dy, const double *mean,
                        const double *var, const double *weight, bool frozen, double *dx, double *dweight,
                        double *dbias)
{
    long double m = (long double)p->n * (long double)p->s;
    for (size_t c = 0; c < p->c; c++) {
        long double rstd = rstd_of(p, var, c), w = weight ? weight[c] : 1;
        long double sum_dy = 0, sum_dy_xhat = 0;
        for (size_t n = 0; n < p->n; n++) {
            for (size_t s = 0; s < p->s; s++) {
                size_t i = reference_index(p, n, c, s);
                sum_dy += dy[i];
                sum_dy_xhat += dy[i] * (((long double)x[i] - mean[c]) * rstd);
            }
        }
        if (dbias)
            dbias[c] = (double)sum_dy;
        if (dweight)
            dweight[c] = (double)sum_dy_xhat;
        for (size_t n = 0; dx && n < p->n; n++) {
            for (size_t s = 0; s < p->s; s++) {
                size_t i = reference_index(p, n, c, s);
                long double xhat = ((long double)x[i] - mean[c]) * rstd;
                if (frozen)
                    dx[i] = (double)(w * rstd * dy[i]);
                else
                    dx[i] = (double)(w * rstd * (dy[i] - sum_dy / m - xhat * (sum_dy_xhat / m)));
            }
        }
    }
}

void reference_backward_stepwise(const struct reference_problem *p, const double *x, const double *dy,
                                 const double *mean, const double *var, const double *weight, double *dx,
                                 double *dweight, double *dbias)
{
    long double m = (long double)p->n * (long double)p->s;
    for (size_t c = 0; c < p->c; c++) {
        long double rstd = rstd_of(p, var, c), w = weight ? weight[c] : 1;
        long double dvar = 0, dmean_direct = 0, dmean_by_var = 0, sum_dy = 0, sum_dy_xhat = 0;
        for (size_t n = 0; n < p->n; n++) {
            for (size_t s = 0; s < p->s; s++) {
                size_t i = reference_index(p, n, c, s);
                long double d = (long double)x[i] - mean[c], delta = dy[i] * w; /* delta: the gradient of x̂ */
                sum_dy += dy[i];
                sum_dy_xhat += dy[i] * (d * rstd);
                dvar += delta * d * (-0.5L) * rstd * rstd * rstd;
                dmean_direct += -delta * rstd;
                dmean_by_var += -2 * d;
            }
        }
        long double dmean = dmean_direct + dvar * dmean_by_var / m;
        if (dbias)
            dbias[c] = (double)sum_dy;
        if (dweight)
            dweight[c] = (double)sum_dy_xhat;
        for (size_t n = 0; dx && n < p->n; n++) {
            for (size_t s = 0; s < p->s; s++) {
                size_t i = reference_index(p, n, c, s);
                long double d = (long double)x[i] - mean[c];
                dx[i] = (double)(dy[i] * w * rstd + dvar * 2 * d / m + dmean / m);
            }
        }
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
