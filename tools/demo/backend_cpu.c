/* The backend of the host: CBLAS for the matrices, plain loops for the rest. */
#include "backend.h"

#include <cblas.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static void cpu_destroy(struct backend *b)
{
    (void)b;
}

static struct array cpu_allocate(struct backend *b, size_t count)
{
    struct array a = {NULL, 0};
    if (backend_failed(b))
        return a;
    size_t bytes = (count * sizeof(float) + 63) / 64 * 64;
    a.memory = aligned_alloc(64, bytes);
    a.count = count;
    if (!a.memory)
        backend_fail(b, "out of memory for %zu bytes", bytes);
    return a;
}

static void cpu_release(struct backend *b, struct array *a)
{
    (void)b;
    free(a->memory);
    a->memory = NULL;
}

static void cpu_write(struct backend *b, struct array a, const void *source)
{
    if (!backend_failed(b))
        memcpy(a.memory, source, a.count * sizeof(float));
}

static void cpu_read(struct backend *b, struct array a, void *target)
{
    if (!backend_failed(b))
        memcpy(target, a.memory, a.count * sizeof(float));
}

static void cpu_finish(struct backend *b)
{
    (void)b;
}

static clnorm_buffer cpu_buffer(struct array a, size_t count)
{
    return clnorm_host(a.memory, count * sizeof(float));
}

static void cpu_multiply(struct backend *b, bool transpose_a, bool transpose_b, size_t m, size_t n, size_t k,
                         struct array a, struct array b_matrix, struct array c)
{
    if (backend_failed(b))
        return;
    cblas_sgemm(CblasRowMajor, transpose_a ? CblasTrans : CblasNoTrans, transpose_b ? CblasTrans : CblasNoTrans, (int)m,
                (int)n, (int)k, 1, a.memory, (int)(transpose_a ? m : k), b_matrix.memory, (int)(transpose_b ? k : n), 0,
                c.memory, (int)n);
}

static void cpu_add_bias(struct backend *b, size_t rows, size_t columns, struct array x, struct array bias)
{
    if (backend_failed(b))
        return;
    float *to = x.memory;
    const float *add = bias.memory;
    for (size_t row = 0; row < rows; row++, to += columns) {
        for (size_t column = 0; column < columns; column++)
            to[column] += add[column];
    }
}

static void cpu_column_sums(struct backend *b, size_t rows, size_t columns, struct array x, struct array sums)
{
    if (backend_failed(b))
        return;
    const float *from = x.memory;
    float *to = sums.memory;
    memset(to, 0, columns * sizeof(float));
    for (size_t row = 0; row < rows; row++, from += columns) {
        for (size_t column = 0; column < columns; column++)
            to[column] += from[column];
    }
}

/* A NaN stays one, as in layers.cl: the comparison is false for it. */
static void cpu_relu(struct backend *b, size_t count, struct array x, struct array y)
{
    if (backend_failed(b))
        return;
    const float *from = x.memory;
    float *to = y.memory;
    for (size_t i = 0; i < count; i++)
        to[i] = from[i] < 0 ? 0 : from[i];
}

static void cpu_relu_backward(struct backend *b, size_t count, struct array y, struct array dy)
{
    if (backend_failed(b))
        return;
    const float *out = y.memory;
    float *gradient = dy.memory;
    for (size_t i = 0; i < count; i++)
        gradient[i] = out[i] <= 0 ? 0 : gradient[i];
}

static void cpu_softmax_cross_entropy(struct backend *b, size_t rows, size_t classes, struct array logits,
                                      struct array labels, struct array dlogits, struct array losses)
{
    if (backend_failed(b))
        return;
    for (size_t row = 0; row < rows; row++) {
        const float *z = (const float *)logits.memory + row * classes;
        float *dz = (float *)dlogits.memory + row * classes;
        int32_t label = ((const int32_t *)labels.memory)[row];
        float highest = z[0];
        for (size_t i = 1; i < classes; i++)
            highest = z[i] > highest ? z[i] : highest;
        float sum = expf(z[0] - highest);
        for (size_t i = 1; i < classes; i++)
            sum += expf(z[i] - highest);
        for (size_t i = 0; i < classes; i++)
            dz[i] = (expf(z[i] - highest) / sum - ((int32_t)i == label ? 1.0f : 0.0f)) / (float)rows;
        ((float *)losses.memory)[row] = logf(sum) - (z[label] - highest);
    }
}

static void cpu_moments(struct backend *b, size_t count, struct array x, struct array out, size_t index)
{
    if (backend_failed(b))
        return;
    const float *from = x.memory;
    double sum = 0, squares = 0;
    for (size_t i = 0; i < count; i++)
        sum += from[i];
    double mean = sum / (double)count;
    for (size_t i = 0; i < count; i++)
        squares += (from[i] - mean) * (from[i] - mean);
    ((float *)out.memory)[2 * index] = (float)mean;
    ((float *)out.memory)[2 * index + 1] = (float)(squares / (double)count);
}

static int histogram_bin(float value)
{
    const float low = HISTOGRAM_LOW, high = HISTOGRAM_HIGH;
    if (isnan(value))
        return HISTOGRAM_NAN;
    if (value < low)
        return HISTOGRAM_BELOW;
    if (value > high)
        return HISTOGRAM_ABOVE;
    int bin = (int)((value - low) * (HISTOGRAM_BINS / (high - low)));
    return bin < HISTOGRAM_BINS ? bin : HISTOGRAM_BINS - 1;
}

static void cpu_histogram(struct backend *b, size_t count, struct array x, struct array counts)
{
    if (backend_failed(b))
        return;
    const float *from = x.memory;
    int32_t *to = counts.memory;
    memset(to, 0, HISTOGRAM_COUNTS * sizeof(int32_t));
    for (size_t i = 0; i < count; i++) {
        to[histogram_bin(from[i])]++;
        to[HISTOGRAM_ZERO] += from[i] == 0;
    }
}

static void cpu_sgd(struct backend *b, size_t count, float rate, struct array weight, struct array gradient)
{
    if (backend_failed(b))
        return;
    float *w = weight.memory;
    const float *dw = gradient.memory;
    for (size_t i = 0; i < count; i++)
        w[i] -= rate * dw[i];
}

static const struct backend_operations cpu_operations = {
    .linear = "CBLAS",
    .destroy = cpu_destroy,
    .allocate = cpu_allocate,
    .release = cpu_release,
    .write = cpu_write,
    .read = cpu_read,
    .finish = cpu_finish,
    .buffer = cpu_buffer,
    .multiply = cpu_multiply,
    .add_bias = cpu_add_bias,
    .column_sums = cpu_column_sums,
    .relu = cpu_relu,
    .relu_backward = cpu_relu_backward,
    .softmax_cross_entropy = cpu_softmax_cross_entropy,
    .moments = cpu_moments,
    .histogram = cpu_histogram,
    .sgd = cpu_sgd,
};

bool backend_cpu_create(struct backend *b)
{
    b->operations = &cpu_operations;
    return true;
}
