/* The segments family in plain C: sixteen lanes that a compiler turns into vectors. */
#include "cpu/kernels.h"

#include "base/integers.h"

/* A lane adds at most CHAIN floats before it is carried on in double: equal terms round the same way each time, so that a chain of
 * k floats can be off by k·u/2. */
enum { LANES = 16, CHAIN = 8, STRETCH = LANES * CHAIN, BLOCK = 4 * STRETCH };

/* Near the mean of the first values, exactly the value itself if they are all equal, and no further from any value than
 * they are apart. */
static float pivot_of(const float *x, uint64_t n)
{
    uint64_t first = 1;
    while (first < LANES && 2 * first <= n)
        first *= 2;
    float s = 0.0f;
    for (uint64_t i = 1; i < first; i++)
        s += x[i] - x[0];
    return x[0] + s / (float)first;
}

static void sums_about(const float *x, uint64_t n, float pivot, double *s_out, double *q_out)
{
    double ss[LANES] = {0}, qq[LANES] = {0};
    for (uint64_t start = 0; start < n; start += STRETCH) {
        float s[LANES] = {0}, q[LANES] = {0};
        uint64_t end = least(n, start + STRETCH), i = start;
        for (; i + LANES <= end; i += LANES) {
            for (int l = 0; l < LANES; l++) {
                float d = x[i + l] - pivot;
                s[l] += d;
                q[l] += d * d;
            }
        }
        for (int l = 0; i < end; i++, l++) {
            float d = x[i] - pivot;
            s[l] += d;
            q[l] += d * d;
        }
        for (int l = 0; l < LANES; l++) {
            ss[l] += s[l];
            qq[l] += q[l];
        }
    }
    *s_out = *q_out = 0.0;
    for (int l = 0; l < LANES; l++) {
        *s_out += ss[l];
        *q_out += qq[l];
    }
}

static struct cln_moments group_moments(const float *x, const struct cln_band *b)
{
    struct cln_moments total = {0};
    for (uint64_t o = 0; o < b->outers; o++) {
        const float *run = x + o * b->outer_stride;
        for (uint64_t i = 0; i < b->inners; i += BLOCK) {
            uint64_t n = least(BLOCK, b->inners - i);
            float pivot = pivot_of(run + i, n);
            double s, q;
            sums_about(run + i, n, pivot, &s, &q);
            if (cln_pivot_is_far((double)n, s, q)) { /* in cache: the second pass costs no memory */
                pivot = (float)(pivot + s / (double)n);
                sums_about(run + i, n, pivot, &s, &q);
            }
            struct cln_moments part = cln_moments_about(pivot, (double)n, s, q);
            cln_moments_add(&total, &part);
        }
    }
    return total;
}

static void group_dots(const float *x, const float *dy, const struct cln_band *band, float m, float c, double *sum_dy,
                       double *sum_dyd)
{
    double aa[LANES] = {0}, bb[LANES] = {0};
    for (uint64_t o = 0; o < band->outers; o++) {
        for (uint64_t start = 0; start < band->inners; start += STRETCH) {
            const float *px = x + o * band->outer_stride + start, *pdy = dy + o * band->outer_stride + start;
            uint64_t n = least(STRETCH, band->inners - start), i = 0;
            float a[LANES] = {0}, b[LANES] = {0};
            for (; i + LANES <= n; i += LANES) {
                for (int l = 0; l < LANES; l++) {
                    a[l] += pdy[i + l];
                    b[l] += pdy[i + l] * ((px[i + l] - m) - c);
                }
            }
            for (int l = 0; i < n; i++, l++) {
                a[l] += pdy[i];
                b[l] += pdy[i] * ((px[i] - m) - c);
            }
            for (int l = 0; l < LANES; l++) {
                aa[l] += a[l];
                bb[l] += b[l];
            }
        }
    }
    *sum_dy = *sum_dyd = 0.0;
    for (int l = 0; l < LANES; l++) {
        *sum_dy += aa[l];
        *sum_dyd += bb[l];
    }
}

static void statistics(const float *x, struct cln_band b, double *mean, double *m2)
{
    for (uint32_t j = 0; j < b.count; j++) {
        struct cln_moments total = group_moments(x + j * b.group_stride, &b);
        mean[j] = total.mean;
        m2[j] = total.m2;
    }
}

static void dots(const float *x, const float *dy, struct cln_band b, const float *m, const float *c, double *sum_dy,
                 double *sum_dyd)
{
    for (uint32_t j = 0; j < b.count; j++)
        group_dots(x + j * b.group_stride, dy + j * b.group_stride, &b, m[j], c[j], &sum_dy[j], &sum_dyd[j]);
}

static void apply(const float *x, float *y, struct cln_stretch at, const struct cln_scalars *k)
{
    uint64_t g = at.group, run = at.inners - at.inner; /* what is left of the run */
    for (uint64_t i = 0, n; i < at.count; i += n) {
        float m = k->m[g], c = k->c[g], a = k->a[g], b = k->b[g];
        n = least(run, at.count - i);
        for (uint64_t e = i; e < i + n; e++)
            y[e] = ((x[e] - m) - c) * a + b;
        g = g + 1 < at.groups ? g + 1 : 0;
        run = at.inners;
    }
}

static void gradient(const float *x, const float *dy, float *dx, struct cln_stretch at, const struct cln_scalars *k)
{
    uint64_t g = at.group, run = at.inners - at.inner;
    for (uint64_t i = 0, n; i < at.count; i += n) {
        float m = k->m[g], c = k->c[g], a = k->a[g], q = k->q[g], b = k->b[g];
        n = least(run, at.count - i);
        for (uint64_t e = i; e < i + n; e++)
            dx[e] = a * dy[e] + (q * ((x[e] - m) - c) + b);
        g = g + 1 < at.groups ? g + 1 : 0;
        run = at.inners;
    }
}

void cln_cpu_fill_segments(struct cln_family_kernels *kernels)
{
    *kernels = (struct cln_family_kernels){statistics, dots, apply, gradient};
}
