/* What every suite shares: the devices under test, arrays on a device with guard bytes around them, plans that are
 * cleaned up after a test, and failures that are collected, so that one run of a table tells all that is wrong in it.
 *
 * Check forks a process for each test. OpenCL is opened in that process only (test_device), never by its parent. */
#ifndef CLNORM_TESTS_SUITES_SUPPORT_H
#define CLNORM_TESTS_SUITES_SUPPORT_H

#include <check.h>
#include <clnorm/clnorm.h>
#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Half a unit in the last place of 1 in f32: the u of the contract's bounds. */
#define U 0x1p-24

/* ---- devices --------------------------------------------------------------------------------------------------- */

/* The devices named by CLNORM_TEST_DEVICES (separated by commas). Opens nothing. */
int device_count(void);
const char *device_name(int i);
/* Opens device i of that list; the test fails if it does not open. Destroyed after the test. */
clnorm_device *test_device(int i);
/* The same without "cpu". */
int opencl_device_count(void);
const char *opencl_device_name(int i);
clnorm_device *test_opencl_device(int i);
/* Opens by any name. Destroyed after the test. */
clnorm_device *open_device(const char *name);
/* True for "cpu". */
bool on_host(const clnorm_device *device);

/* ---- plans ----------------------------------------------------------------------------------------------------- */

struct shape {
    clnorm_layout layout;
    int64_t n, c;
    int32_t dims;
    int64_t spatial[3];
};
clnorm_desc shape_desc(const struct shape *shape);
size_t shape_positions(const struct shape *shape);
/* Elements of a tensor of n samples. */
size_t shape_elements(const struct shape *shape, int64_t n);
/* Where element (n, c, position) lies. */
size_t shape_index(const struct shape *shape, size_t n, size_t c, size_t position);
/* "ncs 4x3x5" */
const char *shape_text(const struct shape *shape);
/* Destroyed after the test. eps < 0: the default. */
clnorm_plan *test_plan_of(clnorm_device *device, const clnorm_desc *desc);
/* Of batch norm. */
clnorm_plan *test_plan(clnorm_device *device, const struct shape *shape, float eps);

/* ---- arrays ---------------------------------------------------------------------------------------------------- */

/* f32[count] on the device with guard elements on both sides: host memory on cpu, library memory elsewhere. Freed after the
 * test. */
struct array {
    size_t count;
    clnorm_buffer buffer; /* the elements without the guards */
    void *block;
};
/* Library memory; destroyed after the test. */
clnorm_memory *test_memory(clnorm_device *device, size_t bytes);
/* values NULL: a pattern that no calculation gives (see untouched). */
struct array array_new(clnorm_device *device, size_t count, const float *values);
/* An array of any number of bytes (a multiple of 4); its contents are the pattern. */
struct array array_bytes(clnorm_device *device, size_t bytes);
void array_put(const struct array *array, const float *values);
/* Reads into memory that is freed after the test, and checks the guards. Waits for the device's own queue. */
float *array_get(const struct array *array);
/* True if every element still is the pattern. */
bool untouched(const float *values, size_t count);

/* Memory that is freed after the test. */
void *scratch(size_t bytes);
float *scratch_floats(size_t count);
double *scratch_doubles(size_t count);
double *widened(const float *values, size_t count);

/* ---- data ------------------------------------------------------------------------------------------------------ */

/* The same sequence on every machine. uniform in [low, high). */
struct random {
    uint64_t state;
};
float random_uniform(struct random *random, float low, float high);
/* Mean 0, standard deviation 1. */
float random_normal(struct random *random);
/* count normal values times scale plus shift, freed after the test. */
float *random_floats(uint64_t seed, size_t count, float scale, float shift);

/* ---- failures -------------------------------------------------------------------------------------------------- */

/* Records a failure when ok is false; all are reported when the test ends. Returns ok. */
bool expect(bool ok, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* The call must have given `want`; a failure tells clnorm_last_error(). */
bool expect_status(clnorm_status got, clnorm_status want, const char *what);
/* The call must have failed with `want`, and clnorm_last_error() must be one sentence in which `name` and `number` occur
 * (each may be NULL). */
bool expect_error(clnorm_status got, clnorm_status want, const char *name, const char *number, const char *what);
/* Bit for bit. */
bool expect_same(const float *got, const float *want, size_t count, const char *what);
/* |got − want| ≤ bound; NaN fails. */
bool expect_near(double got, double want, double bound, const char *what);
/* True if the bits are those of the same NaN, infinity or number. */
bool same_bits(float a, float b);

/* ---- programs -------------------------------------------------------------------------------------------------- */

/* A test case of `suite`; every test in it may take `seconds`, and is cleaned up after. */
TCase *add_case(Suite *suite, const char *name, double seconds);
/* Adds a test that runs once for each device (its index is _i). */
#define add_device_test(tcase, test)        tcase_add_loop_test(tcase, test, 0, device_count())
#define add_opencl_device_test(tcase, test) tcase_add_loop_test(tcase, test, 0, opencl_device_count())
/* Runs the suites and returns the program's exit code. A suite without a test is a failure. */
int run_suites(Suite *const *suites, size_t count);

#endif
