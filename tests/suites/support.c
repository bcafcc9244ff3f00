#include "support.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define GUARD 64 /* elements before and after an array */

/* A quiet NaN with a payload that no arithmetic makes. */
static const uint32_t pattern = 0x7fd5a3c1u;

/* ---- what is cleaned up after a test ----------------------------------------------------------------------------- */

enum kept_kind { KEPT_SCRATCH, KEPT_MEMORY, KEPT_PLAN, KEPT_DEVICE, KEPT_KINDS };

struct kept {
    enum kept_kind kind;
    void *object;
};
static struct kept *kept;
static size_t kept_count, kept_room;
static char *failures;
static size_t failure_count;

static void *keep(enum kept_kind kind, void *object)
{
    if (kept_count == kept_room) {
        kept_room = kept_room ? 2 * kept_room : 64;
        kept = realloc(kept, kept_room * sizeof *kept);
        ck_assert_ptr_nonnull(kept);
    }
    kept[kept_count].kind = kind;
    kept[kept_count++].object = object;
    return object;
}

/* Plans and memory before their devices; raises what `expect` has collected. Devices are waited for first: a test that ends
 * with commands in flight would leave its process while a driver's thread still works, which rusticl does not survive. What happens to
 * objects in flight has tests of its own. */
static void clean_up(void)
{
    for (size_t i = 0; i < kept_count; i++) {
        if (kept[i].kind == KEPT_DEVICE)
            (void)clnorm_device_finish(kept[i].object);
    }
    for (int kind = 0; kind < KEPT_KINDS; kind++) {
        for (size_t i = kept_count; i-- > 0;) {
            if (kept[i].kind != (enum kept_kind)kind)
                continue;
            if (kind == KEPT_SCRATCH)
                free(kept[i].object);
            else if (kind == KEPT_MEMORY)
                clnorm_memory_destroy(kept[i].object);
            else if (kind == KEPT_PLAN)
                clnorm_plan_destroy(kept[i].object);
            else
                clnorm_device_destroy(kept[i].object);
        }
    }
    free(kept);
    kept = NULL;
    kept_count = kept_room = 0;
    if (failure_count)
        ck_abort_msg("%zu failures:%s", failure_count, failures);
    free(failures);
    failures = NULL;
}

/* ---- devices --------------------------------------------------------------------------------------------------- */

static const char *device_list_text(void)
{
    const char *text = getenv("CLNORM_TEST_DEVICES");
    if (text && *text)
        return text;
#ifdef CLNORM_WITH_OPENCL
    return "cpu,Portable Computing Language,rusticl,Intel(R) OpenCL";
#else
    return "cpu";
#endif
}

int device_count(void)
{
    int count = 1;
    for (const char *at = device_list_text(); (at = strchr(at, ',')); at++)
        count++;
    return count;
}

const char *device_name(int i)
{
    static char name[256];
    const char *at = device_list_text();
    for (; i > 0; i--)
        at = strchr(at, ',') + 1;
    snprintf(name, sizeof name, "%.*s", (int)strcspn(at, ","), at);
    return name;
}

clnorm_device *open_device(const char *name)
{
    clnorm_device *device = NULL;
    clnorm_status status = clnorm_device_open(name, &device);
    ck_assert_msg(status == CLNORM_OK, "device '%s' does not open: %s: %s", name, clnorm_status_name(status),
                  clnorm_last_error());
    ck_assert_ptr_nonnull(device);
    return keep(KEPT_DEVICE, device);
}

clnorm_device *test_device(int i)
{
    return open_device(device_name(i));
}

int opencl_device_count(void)
{
    int count = 0;
    for (int i = 0; i < device_count(); i++)
        count += strcmp(device_name(i), "cpu") != 0;
    return count;
}

const char *opencl_device_name(int i)
{
    int at = 0;
    while (strcmp(device_name(at), "cpu") == 0 || i-- > 0)
        at++;
    return device_name(at);
}

clnorm_device *test_opencl_device(int i)
{
    return open_device(opencl_device_name(i));
}

bool on_host(const clnorm_device *device)
{
    clnorm_device_info info = CLNORM_DEVICE_INFO_INIT;
    ck_assert_int_eq(clnorm_device_get_info(device, &info), CLNORM_OK);
    return info.kind == CLNORM_CLASS_HOST;
}

/* ---- plans ----------------------------------------------------------------------------------------------------- */

clnorm_desc shape_desc(const struct shape *shape)
{
    clnorm_desc desc = CLNORM_DESC_INIT;
    desc.layout = shape->layout;
    desc.n = shape->n;
    desc.c = shape->c;
    desc.spatial_dims = shape->dims;
    for (int i = 0; i < 3; i++)
        desc.spatial[i] = i < shape->dims ? shape->spatial[i] : 0;
    return desc;
}

size_t shape_positions(const struct shape *shape)
{
    size_t positions = 1;
    for (int i = 0; i < shape->dims; i++)
        positions *= (size_t)shape->spatial[i];
    return positions;
}

size_t shape_elements(const struct shape *shape, int64_t n)
{
    return (size_t)n * (size_t)shape->c * shape_positions(shape);
}

size_t shape_index(const struct shape *shape, size_t n, size_t c, size_t position)
{
    size_t channels = (size_t)shape->c, positions = shape_positions(shape);
    if (shape->layout == CLNORM_NCS)
        return (n * channels + c) * positions + position;
    return (n * positions + position) * channels + c;
}

const char *shape_text(const struct shape *shape)
{
    static const char *const layouts[] = {"nc", "ncs", "nsc"};
    static char text[128];
    int at = snprintf(text, sizeof text, "%s n=%lld c=%lld s=", layouts[shape->layout], (long long)shape->n,
                      (long long)shape->c);
    for (int i = 0; i < shape->dims; i++)
        at += snprintf(text + at, sizeof text - (size_t)at, "%s%lld", i ? "x" : "", (long long)shape->spatial[i]);
    return text;
}

clnorm_plan *test_plan_of(clnorm_device *device, const clnorm_desc *desc)
{
    clnorm_plan *plan = NULL;
    const struct shape shape = {
        desc->layout, desc->n, desc->c, desc->spatial_dims, {desc->spatial[0], desc->spatial[1], desc->spatial[2]}};
    clnorm_status status = clnorm_plan_create(device, desc, &plan);
    ck_assert_msg(status == CLNORM_OK, "no plan of norm %d for %s: %s: %s", (int)desc->norm, shape_text(&shape),
                  clnorm_status_name(status), clnorm_last_error());
    return keep(KEPT_PLAN, plan);
}

clnorm_plan *test_plan(clnorm_device *device, const struct shape *shape, float eps)
{
    clnorm_desc desc = shape_desc(shape);
    if (eps >= 0)
        desc.eps = eps;
    return test_plan_of(device, &desc);
}

/* ---- arrays ---------------------------------------------------------------------------------------------------- */

void *scratch(size_t bytes)
{
    void *block = calloc(1, bytes ? bytes : 1);
    ck_assert_ptr_nonnull(block);
    return keep(KEPT_SCRATCH, block);
}

float *scratch_floats(size_t count)
{
    return scratch(count * sizeof(float));
}

double *scratch_doubles(size_t count)
{
    return scratch(count * sizeof(double));
}

double *widened(const float *values, size_t count)
{
    double *wide = scratch_doubles(count);
    for (size_t i = 0; i < count; i++)
        wide[i] = values[i];
    return wide;
}

static void fill_pattern(float *values, size_t count)
{
    for (size_t i = 0; i < count; i++)
        memcpy(values + i, &pattern, sizeof pattern);
}

bool untouched(const float *values, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (memcmp(values + i, &pattern, sizeof pattern) != 0)
            return false;
    }
    return true;
}

clnorm_memory *test_memory(clnorm_device *device, size_t bytes)
{
    clnorm_memory *memory = NULL;
    clnorm_status status = clnorm_memory_create(device, bytes, &memory);
    ck_assert_msg(status == CLNORM_OK, "no memory of %zu bytes: %s", bytes, clnorm_last_error());
    return keep(KEPT_MEMORY, memory);
}

struct array array_new(clnorm_device *device, size_t count, const float *values)
{
    size_t all = count + 2 * (size_t)GUARD;
    float *filled = malloc(all * sizeof *filled);
    ck_assert_ptr_nonnull(filled);
    fill_pattern(filled, all);
    if (values && count)
        memcpy(filled + GUARD, values, count * sizeof *values);
    struct array array = {count, clnorm_none(), NULL};
    if (on_host(device)) {
        array.block = keep(KEPT_SCRATCH, filled);
        array.buffer = clnorm_host(filled + GUARD, count * sizeof(float));
        return array;
    }
    clnorm_memory *memory = test_memory(device, all * sizeof(float));
    ck_assert_int_eq(clnorm_memory_write(memory, 0, filled, all * sizeof(float)), CLNORM_OK);
    free(filled);
    array.block = memory;
    array.buffer = clnorm_memory_part(memory, GUARD * sizeof(float), count * sizeof(float));
    return array;
}

struct array array_bytes(clnorm_device *device, size_t bytes)
{
    ck_assert_uint_eq(bytes % sizeof(float), 0);
    return array_new(device, bytes / sizeof(float), NULL);
}

void array_put(const struct array *array, const float *values)
{
    size_t bytes = array->count * sizeof(float);
    if (array->buffer.kind == CLNORM_BUFFER_HOST)
        memcpy(array->buffer.handle, values, bytes);
    else
        ck_assert_int_eq(clnorm_memory_write(array->block, GUARD * sizeof(float), values, bytes), CLNORM_OK);
}

float *array_get(const struct array *array)
{
    size_t all = array->count + 2 * (size_t)GUARD;
    float *values = scratch_floats(all);
    if (array->buffer.kind == CLNORM_BUFFER_HOST)
        memcpy(values, array->block, all * sizeof(float));
    else
        ck_assert_msg(clnorm_memory_read(array->block, 0, values, all * sizeof(float)) == CLNORM_OK, "%s",
                      clnorm_last_error());
    expect(untouched(values, GUARD) && untouched(values + GUARD + array->count, GUARD),
           "a write outside of an array of %zu elements", array->count);
    return values + GUARD;
}

/* ---- data ------------------------------------------------------------------------------------------------------ */

/* splitmix64 */
static uint64_t random_bits(struct random *random)
{
    uint64_t z = random->state += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

float random_uniform(struct random *random, float low, float high)
{
    return low + (high - low) * ((float)(random_bits(random) >> 40) * 0x1p-24f);
}

float random_normal(struct random *random)
{
    double radius = ((double)(random_bits(random) >> 11) + 1) * 0x1p-53;
    double angle = (double)(random_bits(random) >> 11) * 0x1p-53;
    return (float)(sqrt(-2 * log(radius)) * cos(6.283185307179586 * angle));
}

float *random_floats(uint64_t seed, size_t count, float scale, float shift)
{
    struct random random = {seed};
    float *values = scratch_floats(count);
    for (size_t i = 0; i < count; i++)
        values[i] = random_normal(&random) * scale + shift;
    return values;
}

/* ---- failures -------------------------------------------------------------------------------------------------- */

bool expect(bool ok, const char *format, ...)
{
    enum { SHOWN = 40 }; /* a broken table should not print thousands of lines */
    if (ok)
        return true;
    if (failure_count++ >= SHOWN)
        return false;
    char text[1024];
    va_list list;
    va_start(list, format);
    vsnprintf(text, sizeof text, format, list);
    va_end(list);
    size_t had = failures ? strlen(failures) : 0, more = strlen(text) + 4;
    failures = realloc(failures, had + more);
    ck_assert_ptr_nonnull(failures);
    snprintf(failures + had, more, "\n  %s", text);
    return false;
}

bool expect_status(clnorm_status got, clnorm_status want, const char *what)
{
    return expect(got == want, "%s: %s, not %s (%s)", what, clnorm_status_name(got), clnorm_status_name(want),
                  got == CLNORM_OK ? "no error" : clnorm_last_error());
}

/* Whether `word` stands in `text` as a whole: "x" is not in "running_max". Letter case is ignored for numbers as nan. */
static bool contains_word(const char *text, const char *word)
{
    size_t length = strlen(word);
    for (const char *at = text; *at; at++) {
        bool starts = at == text || !(isalnum((unsigned char)at[-1]) || at[-1] == '_');
        if (starts && strncasecmp(at, word, length) == 0 && !(isalnum((unsigned char)at[length]) || at[length] == '_'))
            return true;
    }
    return false;
}

bool expect_error(clnorm_status got, clnorm_status want, const char *name, const char *number, const char *what)
{
    char text[1024];
    snprintf(text, sizeof text, "%s", clnorm_last_error()); /* the next clnorm call may change it */
    if (!expect(got == want, "%s: %s, not %s (%s)", what, clnorm_status_name(got), clnorm_status_name(want), text))
        return false;
    bool ok = expect(*text != '\0', "%s: no sentence", what);
    ok &= expect(!strchr(text, '\n'), "%s: not one line: %s", what, text);
    ok &= expect(!name || contains_word(text, name), "%s: the sentence does not name '%s': %s", what, name, text);
    ok &= expect(!number || contains_word(text, number), "%s: the sentence does not tell %s: %s", what, number, text);
    return ok;
}

bool same_bits(float a, float b)
{
    return memcmp(&a, &b, sizeof a) == 0;
}

bool expect_same(const float *got, const float *want, size_t count, const char *what)
{
    for (size_t i = 0; i < count; i++) {
        if (!same_bits(got[i], want[i]))
            return expect(false, "%s: element %zu of %zu is %a, not %a", what, i, count, (double)got[i],
                          (double)want[i]);
    }
    return true;
}

bool expect_near(double got, double want, double bound, const char *what)
{
    return expect(fabs(got - want) <= bound, "%s: %.9g, not %.9g; off by %.3g, bound %.3g", what, got, want,
                  fabs(got - want), bound);
}

/* Tests ask for more memory than there is: under AddressSanitizer, too, that is to be an answer and not the end. */
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
    return "allocator_may_return_null=1";
}
const char *__tsan_default_options(void);
const char *__tsan_default_options(void)
{
    return "allocator_may_return_null=1";
}

/* ---- programs -------------------------------------------------------------------------------------------------- */

TCase *add_case(Suite *suite, const char *name, double seconds)
{
    TCase *tcase = tcase_create(name);
    tcase_set_timeout(tcase, seconds);
    tcase_add_checked_fixture(tcase, NULL, clean_up);
    suite_add_tcase(suite, tcase);
    return tcase;
}

int run_suites(Suite *const *suites, size_t count)
{
    check_set_max_msg_size(1 << 16); /* room for a table's failures */
    SRunner *runner = srunner_create(suites[0]);
    for (size_t i = 1; i < count; i++)
        srunner_add_suite(runner, suites[i]);
    srunner_run_all(runner, CK_ENV);
    int run = srunner_ntests_run(runner), failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    if (run == 0)
        fprintf(stderr, "no test was run\n");
    return run == 0 || failed > 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
