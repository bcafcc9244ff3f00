/* Every operation of the demo's backends on every device, against the formula in double. Bounds follow from the number of
 * roundings: a sum of k terms in any order is off by at most (k − 1)·u·Σ|term| to first order, and OpenCL's exp, log and
 * division by 3, 3 and 2.5 units in the last place (6u, 6u and 5u). Where an operation must be exact, it is compared so. */
#include "devices.h"
#include "random.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static float *normal_values(size_t count, uint64_t seed)
{
    struct random r = {seed};
    float *values = malloc(count * sizeof *values);
    ck_assert_ptr_nonnull(values);
    for (size_t i = 0; i < count; i++)
        values[i] = (float)random_normal(&r);
    return values;
}

/* NaN fails. */
static void require_near(double got, double want, double bound, const char *what, size_t i)
{
    ck_assert_msg(fabs(got - want) <= bound, "%s[%zu] is %.9g, not %.9g: off by %.3g, bound %.3g", what, i, got, want,
                  fabs(got - want), bound);
}

static const size_t multiplied[][3] = {{1, 1, 1}, {5, 3, 7}, {37, 10, 64}, {64, 256, 300}, {129, 257, 33}};

static void check_product(struct backend *b, bool ta, bool tb, const size_t size[3])
{
    const size_t m = size[0], n = size[1], k = size[2];
    float *left = normal_values(m * k, 1), *right = normal_values(k * n, 2), *old = malloc(m * n * sizeof *old);
    ck_assert_ptr_nonnull(old);
    for (size_t i = 0; i < m * n; i++)
        old[i] = NAN; /* what c held must not matter */
    struct array a = upload(b, left, m * k), r = upload(b, right, k * n), c = upload(b, old, m * n);
    b->operations->multiply(b, ta, tb, m, n, k, a, r, c);
    float *got = download(b, c);
    for (size_t i = 0; i < m; i++) {
        for (size_t j = 0; j < n; j++) {
            double sum = 0, magnitude = 0;
            for (size_t t = 0; t < k; t++) {
                double term = (double)left[ta ? t * m + i : i * k + t] * right[tb ? j * k + t : t * n + j];
                sum += term;
                magnitude += fabs(term);
            }
            require_near(got[i * n + j], sum, (double)(k + 1) * U * magnitude, "product", i * n + j);
        }
    }
    b->operations->release(b, &a);
    b->operations->release(b, &r);
    b->operations->release(b, &c);
    free(left);
    free(right);
    free(old);
    free(got);
}

START_TEST(products)
{
    struct backend b;
    device_backend(_i, &b);
    for (size_t s = 0; s < sizeof multiplied / sizeof multiplied[0]; s++) {
        for (int transposed = 0; transposed < 4; transposed++)
            check_product(&b, transposed & 1, transposed & 2, multiplied[s]);
    }
    backend_destroy(&b);
}
END_TEST

static const size_t matrices[][2] = {{1, 1}, {3, 10}, {100, 256}, {1397, 33}};

START_TEST(bias_and_column_sums)
{
    struct backend b;
    device_backend(_i, &b);
    for (size_t s = 0; s < sizeof matrices / sizeof matrices[0]; s++) {
        const size_t rows = matrices[s][0], columns = matrices[s][1];
        float *values = normal_values(rows * columns, 3), *add = normal_values(columns, 4);
        struct array x = upload(&b, values, rows * columns), bias = upload(&b, add, columns);
        b.operations->add_bias(&b, rows, columns, x, bias);
        float *added = download(&b, x);
        b.operations->column_sums(&b, rows, columns, x, bias);
        float *sums = download(&b, bias);
        for (size_t column = 0; column < columns; column++) {
            double sum = 0, magnitude = 0;
            for (size_t row = 0; row < rows; row++) {
                size_t i = row * columns + column;
                float want = values[i] + add[column]; /* one rounding, so the same everywhere */
                ck_assert_msg(added[i] == want, "x[%zu] + bias is %a, not %a", i, added[i], want);
                sum += added[i];
                magnitude += fabs((double)added[i]);
            }
            require_near(sums[column], sum, (double)rows * U * magnitude, "column sum", column);
        }
        b.operations->release(&b, &x);
        b.operations->release(&b, &bias);
        free(values);
        free(add);
        free(added);
        free(sums);
    }
    backend_destroy(&b);
}
END_TEST

START_TEST(relu_both_ways)
{
    struct backend b;
    device_backend(_i, &b);
    const size_t count = 1001;
    float *values = normal_values(count, 5), *gradients = normal_values(count, 6);
    values[0] = NAN;
    values[1] = 0;
    values[2] = -0.0f;
    values[3] = INFINITY;
    values[4] = -INFINITY;
    struct array x = upload(&b, values, count), y = upload(&b, gradients, count), dy = upload(&b, gradients, count);
    b.operations->relu(&b, count, x, y);
    b.operations->relu_backward(&b, count, y, dy);
    float *activation = download(&b, y), *gradient = download(&b, dy);
    ck_assert_msg(isnan(activation[0]), "relu(NaN) is %a, not NaN", activation[0]);
    ck_assert_msg(gradient[0] == gradients[0], "the gradient at NaN is %a, not %a", gradient[0], gradients[0]);
    for (size_t i = 1; i < count; i++) {
        float want = values[i] > 0 ? values[i] : 0, dwant = values[i] > 0 ? gradients[i] : 0;
        ck_assert_msg(activation[i] == want, "relu(%a) is %a", values[i], activation[i]);
        ck_assert_msg(gradient[i] == dwant, "the gradient at %a is %a, not %a", values[i], gradient[i], dwant);
    }
    b.operations->release(&b, &x);
    b.operations->release(&b, &y);
    b.operations->release(&b, &dy);
    free(values);
    free(gradients);
    free(activation);
    free(gradient);
    backend_destroy(&b);
}
END_TEST

START_TEST(softmax_cross_entropy)
{
    struct backend b;
    device_backend(_i, &b);
    enum { ROWS = 321, CLASSES = 10 };
    float *values = normal_values(ROWS * CLASSES, 7);
    int32_t labels[ROWS];
    for (int row = 0; row < ROWS; row++) {
        labels[row] = row % CLASSES;
        for (int i = 0; i < CLASSES; i++) /* rows from nearly equal logits to far apart and large */
            values[row * CLASSES + i] = values[row * CLASSES + i] * (float)(row % 7) + (float)(row % 5) * 100;
    }
    struct array z = upload(&b, values, ROWS * CLASSES), to = upload(&b, values, ROWS * CLASSES),
                 label = upload(&b, labels, ROWS), losses = upload(&b, labels, ROWS);
    b.operations->softmax_cross_entropy(&b, ROWS, CLASSES, z, label, to, losses);
    float *loss = download(&b, losses), *gradient = download(&b, to);
    for (int row = 0; row < ROWS; row++) {
        const float *at = values + (size_t)row * CLASSES;
        double highest = at[0], sum = 0, lowest = at[0];
        for (int i = 1; i < CLASSES; i++) {
            highest = fmax(highest, at[i]);
            lowest = fmin(lowest, at[i]);
        }
        for (int i = 0; i < CLASSES; i++)
            sum += exp(at[i] - highest);
        /* Relative error of exp(z − max): the subtraction's rounding, up to u·spread in the exponent, and exp's own. */
        double power = (highest - lowest) * U + 6 * U, sums = power + (CLASSES - 1) * U;
        double distance = highest - at[labels[row]], want = log(sum) + distance;
        require_near(loss[row], want, sums + 6 * U * log(sum) + U * (distance + want), "loss", (size_t)row);
        for (int i = 0; i < CLASSES; i++) {
            double p = exp(at[i] - highest) / sum, target = p - (i == labels[row]);
            double bound = (p * (power + sums + 5 * U) + 6 * U * fabs(target)) / ROWS;
            require_near(gradient[row * CLASSES + i], target / ROWS, bound + FLT_MIN, "gradient", (size_t)i);
        }
    }
    b.operations->release(&b, &z);
    b.operations->release(&b, &to);
    b.operations->release(&b, &label);
    b.operations->release(&b, &losses);
    free(values);
    free(loss);
    free(gradient);
    backend_destroy(&b);
}
END_TEST

START_TEST(moments)
{
    struct backend b;
    device_backend(_i, &b);
    const size_t count = 25600 + 77;
    float *values = normal_values(count, 8), before[6] = {1, 2, 3, 4, 5, 6};
    struct array x = upload(&b, values, count), out = upload(&b, before, 6);
    double sum = 0, magnitude = 0, squares = 0;
    for (size_t i = 0; i < count; i++) {
        values[i] = values[i] * 0.5f + 3;
        sum += values[i];
        magnitude += fabs((double)values[i]);
    }
    double n = (double)count, mean = sum / n;
    for (size_t i = 0; i < count; i++)
        squares += (values[i] - mean) * (values[i] - mean);
    b.operations->write(&b, x, values);
    b.operations->moments(&b, count, x, out, 1);
    float *got = download(&b, out);
    ck_assert_msg(got[0] == 1 && got[1] == 2 && got[4] == 5 && got[5] == 6, "moments wrote beside its place");
    /* The mean's error enters the variance squared; each deviation is rounded once, its square too. */
    double variance = squares / n, off = (n * U * magnitude + 5 * U * magnitude) / n;
    require_near(got[2], mean, off, "mean", 0);
    require_near(got[3], variance, off * off + 2 * off * sqrt(variance) + (n + 8) * U * variance, "variance", 0);
    b.operations->release(&b, &x);
    b.operations->release(&b, &out);
    free(values);
    free(got);
    backend_destroy(&b);
}
END_TEST

/* Multiples of 1/64 make the bin of a value exact in float, so every count must be the formula's. */
START_TEST(histogram)
{
    struct backend b;
    device_backend(_i, &b);
    enum { STEPS = 64, FIRST = -6 * STEPS, LAST = 6 * STEPS, COUNT = LAST - FIRST + 1 + 4 };
    float values[COUNT] = {NAN, INFINITY, -INFINITY, -0.0f};
    int32_t want[HISTOGRAM_COUNTS] = {0}, before[HISTOGRAM_COUNTS];
    want[HISTOGRAM_NAN] = want[HISTOGRAM_ABOVE] = want[HISTOGRAM_BELOW] = want[HISTOGRAM_ZERO] = 1;
    want[HISTOGRAM_BINS / 2] = 1;
    for (int i = FIRST, at = 4; i <= LAST; i++, at++) {
        double value = (double)i / STEPS;
        double place = (value - HISTOGRAM_LOW) * HISTOGRAM_BINS / (HISTOGRAM_HIGH - HISTOGRAM_LOW);
        values[at] = (float)value;
        if (value < HISTOGRAM_LOW)
            want[HISTOGRAM_BELOW]++;
        else if (value > HISTOGRAM_HIGH)
            want[HISTOGRAM_ABOVE]++;
        else
            want[value == HISTOGRAM_HIGH ? HISTOGRAM_BINS - 1 : (int)floor(place)]++;
        want[HISTOGRAM_ZERO] += value == 0;
    }
    memset(before, 0x55, sizeof before);
    struct array x = upload(&b, values, COUNT), counts = upload(&b, before, HISTOGRAM_COUNTS);
    b.operations->histogram(&b, COUNT, x, counts);
    int32_t *got = download(&b, counts);
    for (int i = 0; i < HISTOGRAM_COUNTS; i++)
        ck_assert_msg(got[i] == want[i], "count %d is %d, not %d", i, (int)got[i], (int)want[i]);
    b.operations->release(&b, &x);
    b.operations->release(&b, &counts);
    free(got);
    backend_destroy(&b);
}
END_TEST

START_TEST(descent)
{
    struct backend b;
    device_backend(_i, &b);
    const size_t count = 777;
    const float rate = 0.01f;
    float *weights = normal_values(count, 9), *gradients = normal_values(count, 10);
    struct array w = upload(&b, weights, count), dw = upload(&b, gradients, count);
    b.operations->sgd(&b, count, rate, w, dw);
    float *got = download(&b, w);
    for (size_t i = 0; i < count; i++) {
        double step = (double)rate * gradients[i], want = weights[i] - step;
        require_near(got[i], want, U * (fabs(step) + fabs(want)) * (1 + U), "weight", i);
    }
    b.operations->release(&b, &w);
    b.operations->release(&b, &dw);
    free(weights);
    free(gradients);
    free(got);
    backend_destroy(&b);
}
END_TEST

/* After a failure nothing is done and the first sentence stays. */
START_TEST(errors_stick)
{
    struct backend b;
    device_backend(_i, &b);
    float values[3] = {1, 2, 3}, got[3] = {0, 0, 0};
    struct array x = upload(&b, values, 3), y = upload(&b, values, 3);
    backend_fail(&b, "the %s failure", "first");
    backend_fail(&b, "the second failure");
    b.operations->sgd(&b, 3, 1, x, y);
    b.operations->read(&b, x, got);
    ck_assert_str_eq(b.error, "the first failure");
    ck_assert_msg(got[0] == 0 && b.operations->allocate(&b, 3).memory == NULL, "an operation ran after a failure");
    b.error[0] = '\0';
    b.operations->read(&b, x, got);
    ck_assert_msg(got[0] == 1 && got[1] == 2 && got[2] == 3, "an operation ran after a failure");
    b.operations->release(&b, &x);
    b.operations->release(&b, &y);
    backend_destroy(&b);
}
END_TEST

static void add_tests(TCase *tcase, int devices)
{
    tcase_add_loop_test(tcase, products, 0, devices);
    tcase_add_loop_test(tcase, bias_and_column_sums, 0, devices);
    tcase_add_loop_test(tcase, relu_both_ways, 0, devices);
    tcase_add_loop_test(tcase, softmax_cross_entropy, 0, devices);
    tcase_add_loop_test(tcase, moments, 0, devices);
    tcase_add_loop_test(tcase, histogram, 0, devices);
    tcase_add_loop_test(tcase, descent, 0, devices);
    tcase_add_loop_test(tcase, errors_stick, 0, devices);
}

int main(void)
{
    return run_on_devices("operations of the demo", add_tests);
}
