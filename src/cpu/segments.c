/* The segments family in plain C: sixteen lanes that a compiler turns into vectors. */
#include "cpu/kernels.h"

/* A lane adds at most CHAIN floats before it is carried on in double: equal terms round the same way each time, so that a chain of
 * k floats can be off by k·u/2. */
enum { LANES = 16, CHAIN = 8, STRETCH = LANES * CHAIN, BLOCK = 4 * STRETCH };

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

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

static void group_statistics(const float *x, const struct cln_band *b, struct cln_moments *out)
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
    *out = total;
}

static void group_dots(const float *x, const float *dy, const struct cln_band *band, float m, float c,
                       struct cln_dots *out)
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
    *out = (struct cln_dots){0};
    for (int l = 0; l < LANES; l++) {
        out->dy += aa[l];
        out->dyd += bb[l];
    }
}

static void statistics(const float *x, struct cln_band b, struct cln_moments *out)
{
    for (uint32_t j = 0; j < b.count; j++)
        group_statistics(x + j * b.group_stride, &b, &out[j]);
}

static void dots(const float *x, const float *dy, struct cln_band b, const struct cln_center *at, struct cln_dots *out)
{
    for (uint32_t j = 0; j < b.count; j++)
        group_dots(x + j * b.group_stride, dy + j * b.group_stride, &b, at[j].m, at[j].c, &out[j]);
}

static void apply(const float *x, float *y, struct cln_band b, const struct cln_affine *k, int stream)
{
    (void)stream;
    for (uint64_t o = 0; o < b.outers; o++) {
        for (uint32_t j = 0; j < b.count; j++) {
            uint64_t run = o * b.outer_stride + j * b.group_stride;
            for (uint64_t i = run; i < run + b.inners; i++)
                y[i] = ((x[i] - k[j].m) - k[j].c) * k[j].a + k[j].b;
        }
    }
}

static void gradient(const float *x, const float *dy, float *dx, struct cln_band b, const struct cln_gradient *k,
                     int stream)
{
    (void)stream;
    for (uint64_t o = 0; o < b.outers; o++) {
        for (uint32_t j = 0; j < b.count; j++) {
            uint64_t run = o * b.outer_stride + j * b.group_stride;
            for (uint64_t i = run; i < run + b.inners; i++)
                dx[i] = k[j].p * dy[i] + (x ? k[j].q * ((x[i] - k[j].m) - k[j].c) + k[j].r : 0.0f);
        }
    }
}

void cln_cpu_fill_segments(struct cln_family_kernels *kernels)
{
    *kernels = (struct cln_family_kernels){statistics, dots, apply, gradient};
}
