/* What is made of the sums of many rows, a plane each. Plain C that rows.c and simd/rows.c both compile, each as wide as its
 * instruction set is; the bits are the same. */
#ifndef CLNORM_SRC_CPU_ROWS_PLANES_H
#define CLNORM_SRC_CPU_ROWS_PLANES_H

#include "cpu/kernels.h"

#include <math.h>

/* As cln_statistic_keep. Without branches, for vectors. */
static inline void rows_finish(const struct cln_row_sums *sums, int centred, float eps, float *restrict m,
                               float *restrict c, float *restrict rstd, float *restrict var)
{
    const double *first = sums->first, *second = sums->second;
    double length = sums->length, epsilon = (double)eps;
    for (uint64_t j = 0; j < sums->count; j++) {
        double spoil = centred ? (first[j] - first[j]) + (second[j] - second[j]) : 0.0; /* NaN if one is not finite */
        double mean = first[j] + spoil;
        m[j] = (float)mean;
        c[j] = (float)(mean - (double)m[j]);
        var[j] = (float)(second[j] / length + spoil);
    }
    for (uint64_t j = 0; j < sums->count; j++)
        rstd[j] = (float)(1.0 / sqrt((double)var[j] + epsilon));
}

/* As cln_statistic_slope. */
static inline void rows_slopes(const struct cln_row_sums *sums, int centred, const float *restrict rstd_of,
                               float *restrict q, float *restrict r)
{
    const double *first = sums->first, *second = sums->second;
    double length = sums->length, factor = centred ? -1.0 : 0.0;
    for (uint64_t j = 0; j < sums->count; j++) {
        double rstd = (double)rstd_of[j];
        q[j] = (float)(-rstd * rstd * (rstd * second[j] / length));
        r[j] = (float)(factor * rstd * (first[j] / length));
    }
}

#endif
