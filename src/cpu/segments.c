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

static void segments_statistics(const float *x, struct cln_runs runs, struct cln_moments *out)
{
    struct cln_moments total = {0};
    for (uint64_t o = 0; o < runs.outers; o++) {
        const float *run = x + o * runs.stride;
        for (uint64_t i = 0; i < runs.inners; i += BLOCK) {
            uint64_t n = least(BLOCK, runs.inners - i);
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

static void segments_dots(const float *x, const float *dy, struct cln_runs runs, float m, float c, struct cln_dots *out)
{
    double aa[LANES] = {0}, bb[LANES] = {0};
    for (uint64_t o = 0; o < runs.outers; o++) {
        for (uint64_t start = 0; start < runs.inners; start += STRETCH) {
            const float *px = x + o * runs.stride + start, *pdy = dy + o * runs.stride + start;
            uint64_t n = least(STRETCH, runs.inners - start), i = 0;
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

static void segments_apply(const float *x, float *y, struct cln_runs runs, struct cln_affine k)
{
    for (uint64_t o = 0; o < runs.outers; o++) {
        const float *px = x + o * runs.stride;
        float *py = y + o * runs.stride;
        for (uint64_t i = 0; i < runs.inners; i++)
            py[i] = ((px[i] - k.m) - k.c) * k.a + k.b;
    }
}

static void segments_gradient(const float *x, const float *dy, float *dx, struct cln_runs runs, struct cln_gradient k)
{
    for (uint64_t o = 0; o < runs.outers; o++) {
        const float *pdy = dy + o * runs.stride;
        float *pdx = dx + o * runs.stride;
        if (!x) {
            for (uint64_t i = 0; i < runs.inners; i++)
                pdx[i] = k.p * pdy[i];
            continue;
        }
        const float *px = x + o * runs.stride;
        for (uint64_t i = 0; i < runs.inners; i++)
            pdx[i] = k.p * pdy[i] + (k.q * ((px[i] - k.m) - k.c) + k.r);
    }
}

void cln_cpu_fill_segments(struct cln_cpu_kernels *kernels)
{
    kernels->segments_statistics = segments_statistics;
    kernels->segments_dots = segments_dots;
    kernels->segments_apply = segments_apply;
    kernels->segments_gradient = segments_gradient;
}
