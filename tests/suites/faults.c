/* The machine fails: each OpenCL function that the library calls, and the heap, at each of its calls in turn (by the preloaded
 * shim.c). The call that meets it says so and leaves no object behind; nothing crashes; "auto" falls back to cpu. */
#define _GNU_SOURCE /* RTLD_DEFAULT */
#include "shim.h"
#include "support.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef CLNORM_WITH_OPENCL
#include <clnorm/opencl.h>
#endif

static struct shim_counts *counts;
static struct shim_fault *fault;

static void find_shim(void)
{
    counts = dlsym(RTLD_DEFAULT, SHIM_SYMBOL);
    fault = dlsym(RTLD_DEFAULT, SHIM_FAULT_SYMBOL);
    ck_assert_msg(counts != NULL && fault != NULL, "the shim is not there: LD_PRELOAD it");
}

/* ---- one life of a device, up to the first failure --------------------------------------------------------------- */

enum { N = 12, C = 9, COUNT = N * C, BYTES = COUNT * 4 };

struct life {
    const char *step; /* that failed; NULL: none */
    clnorm_status status;
    char error[512];
    bool fired_before_end; /* the fault was met before the objects were destroyed */
};

#define STEP(call)                                                                                                     \
    do {                                                                                                               \
        life.step = #call;                                                                                             \
        life.status = call;                                                                                            \
        if (life.status != CLNORM_OK)                                                                                  \
            goto end;                                                                                                  \
    } while (0)

static struct life live(const char *name)
{
    struct life life = {NULL, CLNORM_OK, "", false};
    clnorm_device *device = NULL;
    clnorm_plan *plan = NULL;
    clnorm_memory *memory = NULL;
    clnorm_desc desc = CLNORM_DESC_INIT;
    static float values[COUNT];
    void *mapped = NULL;
    uint32_t found;
    size_t part = (BYTES + 255) / 256 * 256;
    desc.n = N;
    desc.c = C;
    for (int i = 0; i < COUNT; i++)
        values[i] = (float)(i * i % 17);
    STEP(clnorm_device_open(name, &device));
    STEP(clnorm_plan_create(device, &desc, &plan));
    STEP(clnorm_memory_create(device, 8 * part, &memory));
    STEP(clnorm_memory_write(memory, 0, values, BYTES));
    STEP(clnorm_memory_write(memory, part, values, BYTES));
    STEP(clnorm_memory_map(memory, 0, BYTES, &mapped));
    STEP(clnorm_memory_unmap(memory));
    clnorm_forward_args f = CLNORM_FORWARD_ARGS_INIT;
    f.x = clnorm_memory_part(memory, 0, BYTES);
    f.y = clnorm_memory_part(memory, 2 * part, BYTES);
    f.state = clnorm_memory_part(memory, 3 * part, clnorm_plan_state_bytes(plan));
    f.running_mean = clnorm_memory_part(memory, 6 * part, 4 * C);
    f.running_var = clnorm_memory_part(memory, 7 * part, 4 * C);
    clnorm_backward_args b = CLNORM_BACKWARD_ARGS_INIT;
    b.x = f.x;
    b.dy = clnorm_memory_part(memory, part, BYTES);
    b.state = f.state;
    b.dx = clnorm_memory_part(memory, 4 * part, BYTES);
    b.dweight = clnorm_memory_part(memory, 5 * part, 4 * C);
    STEP(clnorm_forward(plan, &f));
    STEP(clnorm_backward(plan, &b));
    b.n = 0;
    STEP(clnorm_backward(plan, &b));
    STEP(clnorm_plan_query_found(plan, &found));
    STEP(clnorm_memory_read(memory, 0, values, BYTES));
    STEP(clnorm_device_finish(device));
    life.step = NULL;
end:
    if (life.status != CLNORM_OK)
        snprintf(life.error, sizeof life.error, "%s", clnorm_last_error());
    life.fired_before_end = fault->fired;
    clnorm_plan_destroy(plan);
    clnorm_memory_destroy(memory);
    clnorm_device_destroy(device);
    return life;
}

/* ---- the sweeps -------------------------------------------------------------------------------------------------- */

/* Fails each call of the function in turn until there is none left. `tolerated`: the library may do without. */
static void sweep(int i, const char *function, long code, bool tolerated)
{
    enum { MOST = 400 };
    long after = 0;
    for (; after < MOST; after++) {
        char what[160], number[32];
        memset(counts, 0, sizeof *counts);
        memset(fault, 0, sizeof *fault);
        fault->after = after;
        fault->code = code;
        fault->function = function;
        struct life life = live(device_name(i));
        fault->function = NULL;
        snprintf(what, sizeof what, "%s fails at its call %ld", function, after);
        snprintf(number, sizeof number, "%ld", code);
        expect(counts->objects == 0, "%s: %ld OpenCL objects were left", what, counts->objects);
        if (!life.fired_before_end) {
            expect(life.status == CLNORM_OK, "without a fault: %s: %s", life.step, life.error);
            break;
        }
        if (life.status == CLNORM_OK) {
            expect(tolerated, "%s: nothing was said", what);
            continue;
        }
        bool machine =
            life.status == CLNORM_E_DEVICE_FAILED || life.status == CLNORM_E_NO_MEMORY || life.status == CLNORM_E_BUILD;
        expect(machine, "%s: %s gives %s", what, life.step, clnorm_status_name(life.status));
        expect(life.error[0] != '\0', "%s: %s: no sentence", what, life.step);
        if (code && life.status == CLNORM_E_DEVICE_FAILED)
            expect(strstr(life.error, function) && strstr(life.error, number),
                   "%s: %s: the sentence does not tell the OpenCL call and its code: %s", what, life.step, life.error);
        if (!code)
            expect(life.status == CLNORM_E_NO_MEMORY, "%s: %s gives %s", what, life.step,
                   clnorm_status_name(life.status));
    }
    expect(after > 0, "%s is never called", function);
    expect(after < MOST, "%s has no end", function);
}

START_TEST(no_fault)
{
    find_shim();
    for (int k = 0; k < 3; k++) {
        memset(counts, 0, sizeof *counts);
        struct life life = live(device_name(_i));
        expect(life.status == CLNORM_OK, "%s: %s", life.step, life.error);
        expect(counts->objects == 0, "%ld OpenCL objects were left", counts->objects);
    }
}
END_TEST

START_TEST(heap)
{
    find_shim();
    sweep(_i, "malloc", 0, true);
}
END_TEST

#ifdef CLNORM_WITH_OPENCL

/* All but what builds from source, for which the cache is in the way. */
static const struct {
    const char *function;
    cl_int code;
    bool tolerated;
} functions[] = {
    {"clCreateContext", CL_OUT_OF_HOST_MEMORY, false},
    {"clCreateCommandQueue", CL_OUT_OF_RESOURCES, false},
    {"clCreateBuffer", CL_MEM_OBJECT_ALLOCATION_FAILURE, false},
    {"clCreateKernel", CL_OUT_OF_RESOURCES, false},
    {"clCreateProgramWithBinary", CL_INVALID_BINARY, true}, /* then from source */
    {"clSetKernelArg", CL_OUT_OF_RESOURCES, false},
    {"clEnqueueNDRangeKernel", CL_OUT_OF_RESOURCES, false},
    {"clEnqueueReadBuffer", CL_OUT_OF_RESOURCES, false},
    {"clEnqueueWriteBuffer", CL_OUT_OF_RESOURCES, false},
    {"clEnqueueMapBuffer", CL_MAP_FAILURE, false},
    {"clEnqueueUnmapMemObject", CL_OUT_OF_RESOURCES, false},
    {"clEnqueueFillBuffer", CL_OUT_OF_RESOURCES, false},
    {"clFinish", CL_OUT_OF_RESOURCES, false},
};
enum { FUNCTIONS = sizeof functions / sizeof *functions };

START_TEST(opencl_functions)
{
    find_shim();
    struct life life = live(device_name(0)); /* fills the cache */
    ck_assert_int_eq(life.status, CLNORM_OK);
    sweep(0, functions[_i].function, functions[_i].code, functions[_i].tolerated);
}
END_TEST

/* Virtual batches: wherever the call fails before it copies the running statistics back, they are what they were. */
START_TEST(virtual_batches_commit_last)
{
    static const struct {
        const char *function;
        bool copies; /* the last two of its calls are those that copy them back */
    } rows[] = {{"clEnqueueNDRangeKernel", false}, {"clSetKernelArg", false}, {"clEnqueueCopyBuffer", true}};
    find_shim();
    clnorm_device *device = test_opencl_device(_i);
    clnorm_desc desc = CLNORM_DESC_INIT;
    desc.n = N;
    desc.c = C;
    desc.virtual_batch = 5;
    clnorm_plan *plan = test_plan_of(device, &desc);
    const float *mean = random_floats(1, C, 1, 0), *var = random_floats(2, C, 0.1f, 1);
    const struct array x = array_new(device, COUNT, random_floats(3, COUNT, 1, 0)), y = array_new(device, COUNT, NULL),
                       running_mean = array_new(device, C, mean), running_var = array_new(device, C, var);
    clnorm_forward_args f = CLNORM_FORWARD_ARGS_INIT;
    f.x = x.buffer;
    f.y = y.buffer;
    f.running_mean = running_mean.buffer;
    f.running_var = running_var.buffer;
    for (size_t r = 0; r < sizeof rows / sizeof *rows; r++) {
        long failures = 0;
        for (bool fired = true; fired; failures += fired) {
            memset(fault, 0, sizeof *fault);
            fault->after = failures;
            fault->code = CL_OUT_OF_RESOURCES;
            fault->function = rows[r].function;
            const clnorm_status status = clnorm_forward(plan, &f);
            fault->function = NULL;
            fired = fault->fired;
            if (!fired) {
                expect_status(status, CLNORM_OK, "without a fault");
                break;
            }
            expect_error(status, CLNORM_E_NO_MEMORY, rows[r].function, NULL, "a batch that fails");
            if (rows[r].copies && failures == 3)
                continue;
            expect_same(array_get(&running_mean), mean, C, "running_mean after a failure");
            expect_same(array_get(&running_var), var, C, "running_var after a failure");
        }
        expect(failures >= (rows[r].copies ? 4 : 6), "%s is called %ld times", rows[r].function, failures);
        expect(!same_bits(array_get(&running_mean)[0], mean[0]), "nothing is ever committed");
        array_put(&running_mean, mean);
        array_put(&running_var, var);
    }
}
END_TEST

START_TEST(a_build_that_fails)
{
    find_shim();
    setenv("CLNORM_CACHE", "off", 1);
    static const char *const steps[] = {"clCreateProgramWithSource", "clBuildProgram"};
    for (int k = 0; k < 2; k++) {
        memset(fault, 0, sizeof *fault);
        memset(counts, 0, sizeof *counts);
        fault->code = k ? CL_BUILD_PROGRAM_FAILURE : CL_OUT_OF_HOST_MEMORY;
        fault->function = steps[k];
        struct life life = live(device_name(_i));
        fault->function = NULL;
        expect(fault->fired, "%s is never called", steps[k]);
        expect(life.status == (k ? CLNORM_E_BUILD : life.status) && life.status >= CLNORM_E_DEVICE_FAILED,
               "%s fails: %s gives %s", steps[k], life.step, clnorm_status_name(life.status));
        expect(strstr(life.error, steps[k]) != NULL, "the sentence does not tell %s: %s", steps[k], life.error);
        expect(counts->objects == 0, "%s fails: %ld OpenCL objects were left", steps[k], counts->objects);
    }
}
END_TEST

/* ---- "auto" ------------------------------------------------------------------------------------------------------ */

/* Devices that say that they are GPUs: taken if they work; else cpu, and the reason can be asked for. */
START_TEST(fallback_of_auto)
{
    find_shim();
    setenv("CLNORM_CACHE", "off", 1);
    static const struct {
        const char *function;
        cl_int code;
    } rows[] = {{NULL, 0},
                {"clCreateContext", CL_OUT_OF_HOST_MEMORY},
                {"clCreateCommandQueue", CL_OUT_OF_RESOURCES},
                {"clBuildProgram", CL_BUILD_PROGRAM_FAILURE},
                {"clCreateKernel", CL_OUT_OF_RESOURCES},
                {"clEnqueueNDRangeKernel", CL_OUT_OF_RESOURCES},
                {"clEnqueueReadBuffer", CL_OUT_OF_RESOURCES}};
    for (size_t r = 0; r < sizeof rows / sizeof *rows; r++) {
        clnorm_device *device = NULL;
        clnorm_device_info info = CLNORM_DEVICE_INFO_INIT;
        memset(fault, 0, sizeof *fault);
        fault->as_gpu = 1;
        fault->always = 1;
        fault->code = rows[r].code;
        fault->function = rows[r].function;
        clnorm_status status = clnorm_device_open("auto", &device);
        fault->function = NULL;
        if (!expect_status(status, CLNORM_OK, "auto"))
            continue;
        ck_assert_int_eq(clnorm_device_get_info(device, &info), CLNORM_OK);
        const char *what = rows[r].function ? rows[r].function : "nothing";
        if (!rows[r].function) {
            expect(info.kind == CLNORM_CLASS_GPU && info.fallback[0] == '\0', "auto took %s; fallback '%s'", info.id,
                   info.fallback);
        } else {
            expect(fault->fired, "opening by auto never calls %s: a device that cannot do it is not found out", what);
            expect(info.kind == CLNORM_CLASS_HOST, "%s fails: auto took %s", what, info.id);
            expect(strstr(info.fallback, what) != NULL, "%s fails: the reason is '%s'", what, info.fallback);
        }
        clnorm_plan *plan = NULL;
        clnorm_desc desc = CLNORM_DESC_INIT;
        desc.n = desc.c = 4;
        expect(clnorm_plan_create(device, &desc, &plan) == CLNORM_OK,
               "%s fails: the device that auto took makes no plan: %s", what, clnorm_last_error());
        clnorm_plan_destroy(plan);
        clnorm_device_destroy(device);
    }
}
END_TEST

#endif

int main(void)
{
    Suite *suite = suite_create("faults");
    TCase *tcase = add_case(suite, "faults", 300);
    add_device_test(tcase, no_fault);
    add_device_test(tcase, heap);
#ifdef CLNORM_WITH_OPENCL
    if (opencl_device_count() > 0) {
        tcase_add_loop_test(tcase, opencl_functions, 0, FUNCTIONS);
        add_device_test(tcase, a_build_that_fails);
        add_opencl_device_test(tcase, virtual_batches_commit_last);
        tcase_add_test(tcase, fallback_of_auto);
    }
#endif
    return run_suites(&suite, 1);
}
