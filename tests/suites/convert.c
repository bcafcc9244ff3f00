/* Reading and writing 16 bits: every value widened, and narrowed from it, from every halfway point and that point's neighbours in f32;
 * all 2^32 of f32 if CLNORM_TEST_CONVERT=all. Through a call that leaves values as they are: inference with mean 0, variance 1 and
 * eps 0 is y = x. */
#include "support.h"
#include "types.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { VALUES = 0x10000, CHANNELS = 16, CHUNK = 1 << 22 };

static const clnorm_dtype narrow[] = {CLNORM_F16, CLNORM_BF16};
static const char *const names[] = {"f32", "f16", "bf16"};

static size_t bytes_of(clnorm_dtype dtype)
{
    return dtype == CLNORM_F32 ? sizeof(float) : sizeof(uint16_t);
}

/* y = x from one type to another, in calls of at most `most` values. */
struct identity {
    clnorm_dtype from, to;
    clnorm_plan *plan;
    clnorm_memory *x, *y;
    struct array mean, var;
};

static struct identity identity_new(clnorm_device *device, clnorm_dtype from, clnorm_dtype to, size_t most)
{
    static const float zeros[CHANNELS], ones[CHANNELS] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1};
    struct identity it = {.from = from, .to = to};
    clnorm_desc desc = CLNORM_DESC_INIT;
    desc.dtype = from;
    desc.y_dtype = to;
    desc.n = (int64_t)(most / CHANNELS);
    desc.c = CHANNELS;
    desc.eps = 0;
    it.plan = test_plan_of(device, &desc);
    it.x = test_memory(device, most * bytes_of(from));
    it.y = test_memory(device, most * bytes_of(to));
    it.mean = array_new(device, CHANNELS, zeros);
    it.var = array_new(device, CHANNELS, ones);
    return it;
}

static void identity_run(const struct identity *it, const void *x, void *y, size_t count)
{
    clnorm_infer_args args = CLNORM_INFER_ARGS_INIT;
    args.n = (int64_t)(count / CHANNELS);
    args.x = clnorm_memory_buffer(it->x);
    args.y = clnorm_memory_buffer(it->y);
    args.running_mean = it->mean.buffer;
    args.running_var = it->var.buffer;
    ck_assert_int_eq(clnorm_memory_write(it->x, 0, x, count * bytes_of(it->from)), CLNORM_OK);
    ck_assert_msg(clnorm_infer(it->plan, &args) == CLNORM_OK, "%s", clnorm_last_error());
    ck_assert_int_eq(clnorm_memory_read(it->y, 0, y, count * bytes_of(it->to)), CLNORM_OK);
}

/* x − 0 and a product by 1 may lose a denormal f32, which a device may flush, and the sign of a zero. */
static bool is_denormal(double value)
{
    return fabs(value) < 0x1p-126;
}

static bool is_right(clnorm_dtype to, uint16_t got, double value)
{
    const double widened = reference_widen((enum reference_dtype)to, got);
    const double want = reference_round((enum reference_dtype)to, value);
    if (isnan(want) || isnan(widened))
        return isnan(want) && isnan(widened);
    return widened == want || (is_denormal(value) && widened == 0) || (is_denormal(want) && widened == 0);
}

START_TEST(widening)
{
    const clnorm_dtype from = narrow[_i % 2];
    clnorm_device *device = test_device(_i / 2);
    const struct identity it = identity_new(device, from, CLNORM_F32, VALUES);
    uint16_t *x = scratch(VALUES * sizeof *x);
    float *y = scratch_floats(VALUES);
    for (size_t i = 0; i < VALUES; i++)
        x[i] = (uint16_t)i;
    identity_run(&it, x, y, VALUES);
    for (size_t i = 0; i < VALUES; i++) {
        const double want = reference_widen((enum reference_dtype)from, x[i]);
        const bool same = isnan(want) ? isnan(y[i]) : y[i] == want || (is_denormal(want) && y[i] == 0);
        expect(same, "%s 0x%04x is %a and became %a", names[from], x[i], want, (double)y[i]);
    }
}
END_TEST

/* A type's own values come back, bit for bit but for NaN's payload and what is flushed. */
START_TEST(there_and_back)
{
    const clnorm_dtype dtype = narrow[_i % 2];
    clnorm_device *device = test_device(_i / 2);
    const struct identity it = identity_new(device, dtype, dtype, VALUES);
    uint16_t *x = scratch(VALUES * sizeof *x), *y = scratch(VALUES * sizeof *y);
    for (size_t i = 0; i < VALUES; i++)
        x[i] = (uint16_t)i;
    identity_run(&it, x, y, VALUES);
    for (size_t i = 0; i < VALUES; i++)
        expect(is_right(dtype, y[i], reference_widen((enum reference_dtype)dtype, x[i])), "%s 0x%04x became 0x%04x",
               names[dtype], x[i], y[i]);
}
END_TEST

/* f16 to bf16, and bf16 to f16, which has fewer values. */
START_TEST(across)
{
    const clnorm_dtype from = narrow[_i % 2], to = narrow[1 - _i % 2];
    clnorm_device *device = test_device(_i / 2);
    const struct identity it = identity_new(device, from, to, VALUES);
    uint16_t *x = scratch(VALUES * sizeof *x), *y = scratch(VALUES * sizeof *y);
    for (size_t i = 0; i < VALUES; i++)
        x[i] = (uint16_t)i;
    identity_run(&it, x, y, VALUES);
    for (size_t i = 0; i < VALUES; i++)
        expect(is_right(to, y[i], reference_widen((enum reference_dtype)from, x[i])), "%s 0x%04x became %s 0x%04x",
               names[from], x[i], names[to], y[i]);
}
END_TEST

/* Each value, the halfway point above it, and the f32 before and after that. */
START_TEST(narrowing)
{
    enum { EACH = 4, COUNT = EACH * VALUES };
    const clnorm_dtype to = narrow[_i % 2];
    const enum reference_dtype type = (enum reference_dtype)to;
    clnorm_device *device = test_device(_i / 2);
    const struct identity it = identity_new(device, CLNORM_F32, to, COUNT);
    float *x = scratch_floats(COUNT);
    uint16_t *y = scratch(COUNT * sizeof *y);
    for (size_t i = 0; i < VALUES; i++) {
        const double value = reference_widen(type, (uint16_t)i);
        double low = value, high = value;
        reference_preimage(type, value, &low, &high);
        const float middle = (float)(signbit(value) ? low : high), at = isfinite(middle) ? middle : (float)value;
        x[EACH * i] = (float)value;
        x[EACH * i + 1] = at;
        x[EACH * i + 2] = nextafterf(at, -INFINITY);
        x[EACH * i + 3] = nextafterf(at, INFINITY);
    }
    identity_run(&it, x, y, COUNT);
    for (size_t i = 0; i < COUNT; i++)
        expect(is_right(to, y[i], x[i]), "%a became %s 0x%04x, not 0x%04x", (double)x[i], names[to], y[i],
               reference_narrow(type, x[i]));
}
END_TEST

/* All of f32. The reference is slow, so only the first value of each run of equal results and the last are judged by it, and between
 * them the result must not change: rounding keeps the order. */
START_TEST(narrowing_all)
{
    const clnorm_dtype to = narrow[_i % 2];
    clnorm_device *device = test_device(_i / 2);
    const struct identity it = identity_new(device, CLNORM_F32, to, CHUNK);
    float *x = scratch_floats(CHUNK);
    uint16_t *y = scratch(CHUNK * sizeof *y);
    for (uint64_t first = 0; first < (uint64_t)1 << 32; first += CHUNK) {
        for (size_t i = 0; i < CHUNK; i++) {
            const uint32_t bits = (uint32_t)(first + i);
            memcpy(&x[i], &bits, sizeof bits);
        }
        identity_run(&it, x, y, CHUNK);
        for (size_t i = 0; i < CHUNK; i++) {
            const bool inside = i > 0 && i + 1 < CHUNK && y[i - 1] == y[i] && y[i + 1] == y[i];
            if (!inside)
                ck_assert_msg(is_right(to, y[i], x[i]), "%a became %s 0x%04x", (double)x[i], names[to], y[i]);
        }
    }
}
END_TEST

int main(void)
{
    const char *what = getenv("CLNORM_TEST_CONVERT");
    Suite *suite = suite_create("convert");
    if (what && strcmp(what, "all") == 0) {
        tcase_add_loop_test(add_case(suite, "all", 3000), narrowing_all, 0, 2 * device_count());
    } else {
        TCase *tcase = add_case(suite, "convert", 300);
        tcase_add_loop_test(tcase, widening, 0, 2 * device_count());
        tcase_add_loop_test(tcase, there_and_back, 0, 2 * device_count());
        tcase_add_loop_test(tcase, across, 0, 2 * device_count());
        tcase_add_loop_test(tcase, narrowing, 0, 2 * device_count());
    }
    return run_suites(&suite, 1);
}
