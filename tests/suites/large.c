/* More than 2^31 elements, and offsets above 2^32 elements. Memory for it is made of two small files mapped again and again:
 * most of the range shows the first, its end the second, so that an index that wraps around meets other values. */
#define _GNU_SOURCE /* memfd_create */
#include "model.h"

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#ifdef CLNORM_WITH_OPENCL
#include <clnorm/opencl.h>
#endif

struct range {
    char *base;
    size_t bytes, tile, tail; /* [0, bytes − tail): the first file, of `tile` bytes; then the second, of `tail` bytes */
};

static void map_at(char *at, int file, size_t bytes)
{
    void *mapped = mmap(at, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, file, 0);
    ck_assert(mapped == at);
}

static struct range range_new(size_t repeats, size_t tile, size_t tail)
{
    struct range r = {NULL, repeats * tile + tail, tile, tail};
    int first = memfd_create("tile", 0), second = memfd_create("tail", 0);
    ck_assert(first >= 0 && second >= 0);
    ck_assert_int_eq(ftruncate(first, (off_t)tile), 0);
    ck_assert_int_eq(ftruncate(second, (off_t)tail), 0);
    void *base = mmap(NULL, r.bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    ck_assert(base != MAP_FAILED);
    r.base = base;
    for (size_t k = 0; k < repeats; k++)
        map_at(r.base + k * tile, first, tile);
    map_at(r.base + repeats * tile, second, tail);
    close(first);
    close(second);
    return r;
}

static void range_free(struct range *r)
{
    ck_assert_int_eq(munmap(r->base, r->bytes), 0);
}

static float *tile_of(const struct range *r)
{
    return (float *)(void *)r->base;
}

static float *tail_of(const struct range *r)
{
    return (float *)(void *)(r->base + r->bytes - r->tail);
}

/* ---- the CPU, more than 2^31 elements ---------------------------------------------------------------------------- */

enum { TILE_ROWS = 1 << 14, C = 64, TAIL_ROWS = 1 << 12 };

/* Mean and variance of `repeats` tiles and a tail, from the definition. */
static void statistics_of_repeats(const float *tile, const float *tail, double repeats, size_t stride, size_t channel,
                                  double *mean, double *var)
{
    double m = repeats * TILE_ROWS + TAIL_ROWS, sum = 0, squares = 0;
    for (size_t i = 0; i < TILE_ROWS; i++)
        sum += repeats * tile[i * stride + channel];
    for (size_t i = 0; i < TAIL_ROWS; i++)
        sum += tail[i * stride + channel];
    *mean = sum / m;
    for (size_t i = 0; i < TILE_ROWS; i++)
        squares += repeats * (tile[i * stride + channel] - *mean) * (tile[i * stride + channel] - *mean);
    for (size_t i = 0; i < TAIL_ROWS; i++)
        squares += (tail[i * stride + channel] - *mean) * (tail[i * stride + channel] - *mean);
    *var = squares / m;
}

/* Forward, backward and inference over 2^31 + some elements, channels-last; then channels-first as one sample of one channel, or
 * two samples of which the second begins beyond 2^31. x in one range, y and dx in another; dy is x. */
static void beyond_2_31(clnorm_layout layout)
{
    const size_t repeats = ((size_t)1 << 31) / ((size_t)TILE_ROWS * C);
    const size_t tile = (size_t)TILE_ROWS * C * sizeof(float), tail = (size_t)TAIL_ROWS * C * sizeof(float);
    clnorm_device *device = open_device("cpu");
    struct range x = range_new(repeats, tile, tail), out = range_new(repeats, tile, tail);
    const size_t elements = x.bytes / sizeof(float), channels = layout == CLNORM_NC ? C : 1;
    ck_assert_uint_gt(elements, (size_t)1 << 31);
    struct random random = {7};
    for (size_t i = 0; i < (size_t)TILE_ROWS * C; i++)
        tile_of(&x)[i] = random_normal(&random) + 10;
    for (size_t i = 0; i < (size_t)TAIL_ROWS * C; i++)
        tail_of(&x)[i] = 1000 * random_normal(&random) - 100;
    struct shape shape = {layout, (int64_t)(elements / C), C, 0, {0, 0, 0}};
    if (layout == CLNORM_NCS) {
        shape.n = 1;
        shape.c = 1;
        shape.dims = 1;
        shape.spatial[0] = (int64_t)elements;
    }
    clnorm_plan *plan = test_plan(device, &shape, -1);
    struct array state = array_bytes(device, clnorm_plan_state_bytes(plan));
    struct array mean = array_new(device, channels, NULL), var = array_new(device, channels, NULL);
    struct array dweight = array_new(device, channels, NULL), dbias = array_new(device, channels, NULL);

    clnorm_forward_args f = CLNORM_FORWARD_ARGS_INIT;
    f.x = clnorm_host(x.base, x.bytes);
    f.y = clnorm_host(out.base, out.bytes);
    f.state = state.buffer;
    f.mean = mean.buffer;
    f.var = var.buffer;
    expect_status(clnorm_forward(plan, &f), CLNORM_OK, "forward");
    float *got_mean = array_get(&mean), *got_var = array_get(&var);
    for (size_t c = 0; c < channels; c++) {
        double want_mean, want_var;
        if (layout == CLNORM_NC) {
            statistics_of_repeats(tile_of(&x), tail_of(&x), (double)repeats, C, c, &want_mean, &want_var);
        } else { /* all values are one channel's: the mean of the columns' */
            double mean_sum = 0, square_sum = 0;
            for (size_t k = 0; k < C; k++) {
                statistics_of_repeats(tile_of(&x), tail_of(&x), (double)repeats, C, k, &want_mean, &want_var);
                mean_sum += want_mean / C;
                square_sum += (want_var + want_mean * want_mean) / C;
            }
            want_mean = mean_sum;
            want_var = square_sum - mean_sum * mean_sum;
        }
        expect_near(got_mean[c], want_mean, 2 * U * fabs(want_mean) + 16 * U * sqrt(want_var), "mean");
        expect_near(got_var[c], want_var, 32 * U * want_var + 1e-11 * want_mean * want_mean, "var");
        /* y by the bound of the contract: the largest |y| is the tail's. */
        double rstd = 1 / sqrt(want_var + 1e-5f), largest = 0;
        for (size_t i = c; i < (size_t)TAIL_ROWS * C; i += channels) {
            double y = fabs((tail_of(&x)[i] - want_mean) * rstd);
            largest = y > largest ? y : largest;
        }
        bool ok = true;
        for (size_t i = c; ok && i < (size_t)TILE_ROWS * C; i += channels)
            ok = expect_near(tile_of(&out)[i], (tile_of(&x)[i] - want_mean) * rstd, 16 * U * largest, "y of the tile");
        for (size_t i = c; ok && i < (size_t)TAIL_ROWS * C; i += channels)
            ok = expect_near(tail_of(&out)[i], (tail_of(&x)[i] - want_mean) * rstd, 16 * U * largest, "y of the tail");
    }

    clnorm_backward_args b = CLNORM_BACKWARD_ARGS_INIT;
    b.x = f.x;
    b.dy = f.x;
    b.state = state.buffer;
    b.dx = f.y;
    b.dweight = dweight.buffer;
    b.dbias = dbias.buffer;
    expect_status(clnorm_backward(plan, &b), CLNORM_OK, "backward");
    float *got_dweight = array_get(&dweight), *got_dbias = array_get(&dbias);
    double m = (double)elements / (double)channels;
    for (size_t c = 0; c < channels; c++) {
        /* With dy = x: the sum of dy is m·mean, and of dy·x̂ m·var·rstd; dx is then what eps leaves of x̂'s coefficient. */
        double rstd = 1 / sqrt(got_var[c] + 1e-5), dy_bound = 0;
        for (size_t i = c; i < (size_t)TILE_ROWS * C; i += channels)
            dy_bound += (double)repeats * fabs(tile_of(&x)[i]);
        for (size_t i = c; i < (size_t)TAIL_ROWS * C; i += channels)
            dy_bound += fabs(tail_of(&x)[i]);
        expect_near(got_dbias[c], m * got_mean[c], 16 * U * dy_bound + m * 4 * U * fabs(got_mean[c]), "dbias");
        double dweight_bound = 0;
        for (size_t i = c; i < (size_t)TILE_ROWS * C; i += channels)
            dweight_bound += (double)repeats * fabs(tile_of(&x)[i] * (tile_of(&x)[i] - got_mean[c]) * rstd);
        for (size_t i = c; i < (size_t)TAIL_ROWS * C; i += channels)
            dweight_bound += fabs(tail_of(&x)[i] * (tail_of(&x)[i] - got_mean[c]) * rstd);
        expect_near(got_dweight[c], m * got_var[c] * rstd, 16 * U * dweight_bound + m * 64 * U * got_var[c] * rstd,
                    "dweight");
        bool ok = true;
        for (size_t i = c; ok && i < (size_t)TAIL_ROWS * C; i += channels) {
            double xhat = (tail_of(&x)[i] - got_mean[c]) * rstd;
            double magnitude = fabs(tail_of(&x)[i]) + fabs(got_mean[c]) + fabs(xhat * got_var[c] * rstd);
            ok = expect_near(tail_of(&out)[i], 0, 64 * U * rstd * magnitude + 1e-4 * fabs(xhat) * rstd * rstd,
                             "dx of the tail");
        }
    }

    float *rm = scratch_floats(channels), *rv = scratch_floats(channels);
    for (size_t c = 0; c < channels; c++) {
        rm[c] = 1;
        rv[c] = 4;
    }
    clnorm_infer_args in = CLNORM_INFER_ARGS_INIT;
    in.x = f.x;
    in.y = f.y;
    in.running_mean = clnorm_host(rm, channels * sizeof(float));
    in.running_var = clnorm_host(rv, channels * sizeof(float));
    memset(out.base, 0, tile);
    memset(tail_of(&out), 0, tail);
    expect_status(clnorm_infer(plan, &in), CLNORM_OK, "infer");
    double rstd = 1 / sqrt(4 + 1e-5f);
    for (size_t i = 0; i < (size_t)TAIL_ROWS * C; i++) {
        double want = (tail_of(&x)[i] - 1) * rstd;
        if (!expect_near(tail_of(&out)[i], want, 8 * U * fabs(want), "inferred y of the tail"))
            break;
    }
    for (size_t i = 0; i < (size_t)TILE_ROWS * C; i++) {
        double want = (tile_of(&x)[i] - 1) * rstd;
        if (!expect_near(tile_of(&out)[i], want, 8 * U * fabs(want), "inferred y of the tile"))
            break;
    }
    range_free(&x);
    range_free(&out);
}

START_TEST(columns_beyond_2_31)
{
    beyond_2_31(CLNORM_NC);
}
END_TEST

START_TEST(a_segment_beyond_2_31)
{
    beyond_2_31(CLNORM_NCS);
}
END_TEST

/* ---- OpenCL, offsets above 2^32 elements ------------------------------------------------------------------------- */

#ifdef CLNORM_WITH_OPENCL

/* Small tensors that begin above 2^32 elements of one buffer, by the argument's offset. */
START_TEST(offsets_above_2_32)
{
    clnorm_device *device = test_opencl_device(_i);
    const size_t tile = (size_t)1 << 26, repeats = ((size_t)1 << 34) / tile, tail = (size_t)1 << 24;
    static const struct shape shapes[] = {
        {CLNORM_NC, 100, 37, 0, {0, 0, 0}}, {CLNORM_NCS, 5, 7, 2, {11, 13, 0}}, {CLNORM_NSC, 5, 7, 2, {11, 13, 0}}};
    struct range r = range_new(repeats, tile, tail);
    cl_int error;
    cl_mem memory = clCreateBuffer(clnorm_device_cl_context(device), CL_MEM_READ_WRITE | CL_MEM_USE_HOST_PTR, r.bytes,
                                   r.base, &error);
    ck_assert_msg(error == CL_SUCCESS, "clCreateBuffer of %zu bytes: OpenCL error %d", r.bytes, error);
    cl_command_queue queue = clnorm_device_cl_queue(device);
    for (size_t s = 0; s < 3; s++) {
        size_t count = shape_elements(&shapes[s], shapes[s].n), bytes = count * sizeof(float), c = (size_t)shapes[s].c;
        float *x = random_floats(1, count, 1, 3), *w = random_floats(2, c, 1, 0), *dy = random_floats(3, count, 1, 0);
        size_t at[8], end = repeats * tile + 4; /* in this order: x, dy, weight, y, dx, dweight, dbias, state */
        clnorm_plan *plan = test_plan(device, &shapes[s], -1);
        const size_t sizes[8] = {bytes, bytes, 4 * c, bytes, bytes, 4 * c, 4 * c, clnorm_plan_state_bytes(plan)};
        clnorm_buffer buffers[8];
        for (int k = 0; k < 8; k++) {
            at[k] = end;
            end += (sizes[k] + 67) / 4 * 4;
            buffers[k] = clnorm_cl(memory, at[k], sizes[k]);
        }
        const float *sources[3] = {x, dy, w};
        for (int k = 0; k < 3; k++) {
            error = clEnqueueWriteBuffer(queue, memory, CL_TRUE, at[k], sizes[k], sources[k], 0, NULL, NULL);
            ck_assert_int_eq(error, CL_SUCCESS);
        }
        clnorm_forward_args f = CLNORM_FORWARD_ARGS_INIT;
        f.x = buffers[0];
        f.weight = buffers[2];
        f.y = buffers[3];
        f.state = buffers[7];
        expect_status(clnorm_forward(plan, &f), CLNORM_OK, "forward");
        clnorm_backward_args b = CLNORM_BACKWARD_ARGS_INIT;
        b.x = buffers[0];
        b.dy = buffers[1];
        b.weight = buffers[2];
        b.state = buffers[7];
        b.dx = buffers[4];
        b.dweight = buffers[5];
        b.dbias = buffers[6];
        expect_status(clnorm_backward(plan, &b), CLNORM_OK, "backward");
        float *outputs[4];
        for (int k = 0; k < 4; k++) {
            outputs[k] = scratch(sizes[3 + k]);
            error = clEnqueueReadBuffer(queue, memory, CL_TRUE, at[3 + k], sizes[3 + k], outputs[k], 0, NULL, NULL);
            ck_assert_int_eq(error, CL_SUCCESS);
        }
        struct model *model = model_forward(&shapes[s], shapes[s].n, 1e-5, x, w, NULL);
        model_check_y(model, outputs[0], shape_text(&shapes[s]));
        model_check_gradients(model, model_backward(model, dy, false), outputs[1], outputs[2], outputs[3],
                              shape_text(&shapes[s]));
    }
    for (size_t i = 0; i < tile / sizeof(float); i++) {
        if (!expect(tile_of(&r)[i] == 0, "a write below the tensors, %zu bytes above a multiple of %zu", 4 * i, tile))
            break;
    }
    clReleaseMemObject(memory);
    clnorm_device_finish(device);
    range_free(&r);
}
END_TEST

/* One tensor of more than 2^32 elements: base offsets within it pass 2^32. */
START_TEST(a_tensor_above_2_32)
{
    enum { COLUMNS = 1 << 20 }; /* few rows of many channels: a row's base is what grows */
    clnorm_device *device = test_opencl_device(_i);
    const size_t row = (size_t)COLUMNS * sizeof(float), tile = 16 * row, repeats = ((size_t)1 << 34) / tile;
    struct range r = range_new(repeats, tile, row);
    struct shape shape = {CLNORM_NC, (int64_t)(r.bytes / row), COLUMNS, 0, {0, 0, 0}};
    struct random random = {5};
    for (size_t i = 0; i < tile / sizeof(float); i++)
        tile_of(&r)[i] = random_uniform(&random, -1, 1);
    for (size_t i = 0; i < COLUMNS; i++)
        tail_of(&r)[i] = random_uniform(&random, 5000, 6000);
    float *means = scratch_floats(COLUMNS), *tail = scratch_floats(COLUMNS);
    memcpy(tail, tail_of(&r), row);
    for (size_t c = 0; c < COLUMNS; c++) {
        double sum = tail[c];
        for (size_t k = 0; k < 16; k++)
            sum += (double)repeats * tile_of(&r)[k * COLUMNS + c];
        means[c] = (float)(sum / (double)shape.n);
    }
    cl_int error;
    cl_mem memory = clCreateBuffer(clnorm_device_cl_context(device), CL_MEM_READ_WRITE | CL_MEM_USE_HOST_PTR, r.bytes,
                                   r.base, &error);
    ck_assert_msg(error == CL_SUCCESS, "clCreateBuffer of %zu bytes: OpenCL error %d", r.bytes, error);
    clnorm_plan *plan = test_plan(device, &shape, -1);
    struct array statistics = array_bytes(device, clnorm_plan_statistics_bytes(plan));
    clnorm_statistics_args s = CLNORM_STATISTICS_ARGS_INIT;
    s.x = clnorm_cl(memory, 0, r.bytes);
    s.statistics = statistics.buffer;
    expect_status(clnorm_statistics(plan, &s), CLNORM_OK, "statistics");
    float *planes = array_get(&statistics);
    for (size_t c = 0; c < COLUMNS; c++) {
        expect((double)planes[c] + planes[COLUMNS + c] == (double)shape.n, "count %g", (double)planes[c]);
        /* The tail's value is 5000 to 6000 and shifts the mean of n values by more than 1; the standard deviation is near 90. */
        if (!expect_near((double)planes[2 * COLUMNS + c] + planes[3 * COLUMNS + c], means[c],
                         2 * U * fabs((double)means[c]) + 16 * U * 100, "mean"))
            break;
    }
    clReleaseMemObject(memory);
    clnorm_device_finish(device);
    range_free(&r);
}
END_TEST

#endif

int main(void)
{
    Suite *suite = suite_create("large");
    TCase *tcase;
#ifdef CLNORM_WITH_OPENCL
    if (opencl_device_count() > 0) {
        tcase = add_case(suite, "offsets", 600);
        add_opencl_device_test(tcase, offsets_above_2_32);
        add_opencl_device_test(tcase, a_tensor_above_2_32);
        return run_suites(&suite, 1);
    }
#endif
    tcase = add_case(suite, "elements", 600);
    tcase_add_test(tcase, columns_beyond_2_31);
    tcase_add_test(tcase, a_segment_beyond_2_31);
    return run_suites(&suite, 1);
}
