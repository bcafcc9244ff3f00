/* Two threads on one device, a plan each; errors are each thread's own. ThreadSanitizer watches in its build. */
#include "layer.h"

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { THREADS = 2, ROUNDS = 30 };

struct work {
    clnorm_device *device;
    int index;
    bool make_plans; /* in the thread, together with the other's */
    struct layer *layer;
    const char *failed; /* a name that does not go away */
    char error[256];
};

static const struct shape shapes[THREADS] = {{CLNORM_NC, 65, 33, 0, {0, 0, 0}}, {CLNORM_NCS, 5, 6, 2, {9, 7, 0}}};

static clnorm_status one_round(struct work *work)
{
    struct layer *l = work->layer;
    clnorm_status status = clnorm_forward(l->plan, &l->forward);
    if (status == CLNORM_OK)
        status = clnorm_backward(l->plan, &l->backward);
    if (status == CLNORM_OK)
        status = clnorm_infer(l->plan, &l->infer);
    return status;
}

static void *run(void *argument)
{
    struct work *work = argument;
    for (int round = 0; round < ROUNDS && !work->failed; round++) {
        if (work->make_plans) {
            clnorm_desc desc = shape_desc(&shapes[(work->index + round) % THREADS]);
            clnorm_plan *plan = NULL;
            if (clnorm_plan_create(work->device, &desc, &plan) != CLNORM_OK)
                work->failed = "plan_create";
            clnorm_plan_destroy(plan);
        }
        if (one_round(work) != CLNORM_OK)
            work->failed = "a call";
        /* Each thread makes an error of its own and must read its own. */
        clnorm_desc wrong = CLNORM_DESC_INIT;
        clnorm_plan *none = NULL;
        wrong.n = wrong.c = 4;
        if (work->index)
            wrong.eps = -3;
        else
            wrong.c = -7;
        clnorm_status status = clnorm_plan_create(work->device, &wrong, &none);
        if (status != (work->index ? CLNORM_E_EPS : CLNORM_E_SHAPE) ||
            !strstr(clnorm_last_error(), work->index ? "-3" : "-7"))
            work->failed = "an error of its own";
        if (work->failed)
            snprintf(work->error, sizeof work->error, "%s", clnorm_last_error());
    }
    return NULL;
}

static void two_threads(int i, bool make_plans)
{
    clnorm_device *device = test_device(i);
    struct work work[THREADS] = {{0}};
    float *alone[THREADS][3];
    pthread_t threads[THREADS];
    for (int k = 0; k < THREADS; k++) {
        size_t count = shape_elements(&shapes[k], shapes[k].n);
        work[k].device = device;
        work[k].index = k;
        work[k].make_plans = make_plans;
        work[k].layer =
            layer_new(device, &shapes[k], shapes[k].n, -1, random_floats(1 + (uint64_t)k, count, 1, 0), NULL, NULL);
        work[k].layer->forward.running_mean = work[k].layer->forward.running_var = clnorm_none();
        expect_status(one_round(&work[k]), CLNORM_OK, "alone");
        alone[k][0] = array_get(&work[k].layer->y);
        alone[k][1] = array_get(&work[k].layer->dx);
        alone[k][2] = array_get(&work[k].layer->dweight);
    }
    for (int k = 0; k < THREADS; k++)
        ck_assert_int_eq(pthread_create(&threads[k], NULL, run, &work[k]), 0);
    for (int k = 0; k < THREADS; k++)
        ck_assert_int_eq(pthread_join(threads[k], NULL), 0);
    for (int k = 0; k < THREADS; k++) {
        const struct layer *l = work[k].layer;
        expect(!work[k].failed, "thread %d: %s failed: %s", k, work[k].failed, work[k].error);
        expect_same(array_get(&l->y), alone[k][0], l->count, "y of a thread");
        expect_same(array_get(&l->dx), alone[k][1], l->count, "dx of a thread");
        expect_same(array_get(&l->dweight), alone[k][2], l->channels, "dweight of a thread");
    }
}

START_TEST(a_plan_each)
{
    two_threads(_i, false);
}
END_TEST

START_TEST(building_at_once)
{
    two_threads(_i, true);
}
END_TEST

/* ---- types and fusions ------------------------------------------------------------------------------------------- */

/* f16, ReLU and a residual of plans that the CPU cuts in many tasks, two threads with a plan each. */
static const struct fused_problem {
    clnorm_norm norm;
    clnorm_layout layout;
} fused[] = {{CLNORM_BATCH, CLNORM_NCS}, {CLNORM_BATCH, CLNORM_NSC}, {CLNORM_LAYER, CLNORM_NSC}};
enum { FUSED = sizeof fused / sizeof *fused, FUSED_N = 6, FUSED_C = 40, FUSED_S = 700, FUSED_ROUNDS = 4 };

struct fused_work {
    clnorm_plan *plan;
    clnorm_forward_args forward;
    clnorm_backward_args backward;
    struct array y, dx, dz, dweight;
    clnorm_status status;
};

static clnorm_status fused_round(const struct fused_work *work)
{
    clnorm_status status = clnorm_forward(work->plan, &work->forward);
    return status == CLNORM_OK ? clnorm_backward(work->plan, &work->backward) : status;
}

static void *run_fused(void *argument)
{
    struct fused_work *work = argument;
    for (int round = 0; round < FUSED_ROUNDS && work->status == CLNORM_OK; round++)
        work->status = fused_round(work);
    return NULL;
}

/* An array of f16 numbers of either sign, from 1/4 to 2. */
static struct array halves(clnorm_device *device, uint64_t seed, size_t count)
{
    const float *random = random_floats(seed, count, 1, 0);
    const size_t words = (count + 1) / 2;
    float *packed = scratch_floats(words);
    uint16_t *bits = (void *)packed;
    for (size_t i = 0; i < count; i++)
        bits[i] = (uint16_t)((random[i] < 0 ? 0x8000u : 0u) | 0x3400u |
                             ((unsigned)(fabsf(random[i]) * 1048576.0f) & 0x0fffu));
    return array_new(device, words, packed);
}

static struct fused_work fused_work_new(clnorm_device *device, const struct fused_problem *p, uint64_t seed)
{
    static const clnorm_forward_args forward = CLNORM_FORWARD_ARGS_INIT;
    static const clnorm_backward_args backward = CLNORM_BACKWARD_ARGS_INIT;
    const size_t count = (size_t)FUSED_N * FUSED_C * FUSED_S;
    clnorm_desc desc = CLNORM_DESC_INIT;
    struct fused_work work = {.forward = forward, .backward = backward, .status = CLNORM_OK};
    desc.norm = p->norm;
    desc.layout = p->layout;
    desc.n = FUSED_N;
    desc.c = FUSED_C;
    desc.spatial_dims = 1;
    desc.spatial[0] = FUSED_S;
    desc.normalized_dims = p->norm == CLNORM_LAYER;
    desc.dtype = desc.y_dtype = CLNORM_F16;
    desc.activation = CLNORM_RELU;
    desc.residual = CLNORM_RESIDUAL_AFTER;
    work.plan = test_plan_of(device, &desc);
    work.y = array_new(device, count / 2, NULL);
    work.dx = array_new(device, count / 2, NULL);
    work.dz = array_new(device, count / 2, NULL);
    work.dweight = array_new(device, FUSED_C, NULL);
    work.forward.x = work.backward.x = halves(device, seed, count).buffer;
    work.forward.z = work.backward.z = halves(device, seed + 1, count).buffer;
    work.backward.dy = halves(device, seed + 2, count).buffer;
    work.forward.y = work.y.buffer;
    work.forward.state = work.backward.state = array_bytes(device, clnorm_plan_state_bytes(work.plan)).buffer;
    work.backward.dx = work.dx.buffer;
    work.backward.dz = work.dz.buffer;
    work.backward.dweight = work.dweight.buffer;
    return work;
}

/* ---- the CPU's own threads --------------------------------------------------------------------------------------- */

#if !defined(__SANITIZE_THREAD__) /* which sees neither pthreadpool's synchronization nor threads made after a fork */

static const struct shape wide[] = {{CLNORM_NC, 3000, 70, 0, {0, 0, 0}},
                                    {CLNORM_NCS, 5, 40, 2, {45, 23, 0}},
                                    {CLNORM_NCS, 2, 1, 1, {200003, 0, 0}},
                                    {CLNORM_NSC, 5, 40, 2, {45, 23, 0}}};
enum { WIDE = sizeof wide / sizeof *wide };

/* The problem of a norm on such a shape, if it is one. */
static bool norm_on(clnorm_norm norm, const struct shape *shape, clnorm_desc *desc)
{
    *desc = shape_desc(shape);
    desc->norm = norm;
    if (norm == CLNORM_GROUP)
        desc->groups = shape->c % 10 == 0 ? 10 : 1;
    if (norm == CLNORM_LAYER || norm == CLNORM_RMS)
        desc->normalized_dims = norm == CLNORM_LAYER ? 1 : 1 + shape->dims;
    return norm != CLNORM_INSTANCE || shape->dims > 0;
}

static uint64_t hash_array(uint64_t hash, const struct array *array)
{
    const unsigned char *bytes = (const unsigned char *)array_get(array);
    for (size_t i = 0; i < array->count * sizeof(float); i++)
        hash = (hash ^ bytes[i]) * 1099511628211u;
    return hash;
}

static uint64_t hash_of_fused(clnorm_device *device, uint64_t hash)
{
    for (int i = 0; i < FUSED; i++) {
        const struct fused_work work = fused_work_new(device, &fused[i], 5);
        expect_status(fused_round(&work), CLNORM_OK, "fused");
        const struct array *outputs[] = {&work.y, &work.dx, &work.dz, &work.dweight};
        for (size_t k = 0; k < sizeof outputs / sizeof *outputs; k++)
            hash = hash_array(hash, outputs[k]);
    }
    return hash;
}

/* The outputs of forward and backward of every norm on all those shapes, and of the fused ones, hashed. */
static uint64_t hash_of_results(clnorm_device *device)
{
    uint64_t hash = 14695981039346656037u; /* FNV-1a */
    for (int s = 0; s < 5 * WIDE; s++) {
        const struct shape *shape = &wide[s / 5];
        clnorm_desc desc;
        if (!norm_on((clnorm_norm)(s % 5), shape, &desc))
            continue;
        float *x = random_floats(5, shape_elements(shape, shape->n), 1, 7);
        struct layer *l = layer_of(device, &desc, shape->n, x, NULL, NULL);
        layer_forward(l);
        layer_backward(l);
        const struct array *outputs[] = {&l->y,    &l->dx,           &l->dweight,    &l->dbias,
                                         &l->rstd, &l->running_mean, &l->running_var};
        for (size_t k = 0; k < sizeof outputs / sizeof *outputs; k++) {
            if (outputs[k]->count) /* else the norm has it not */
                hash = hash_array(hash, outputs[k]);
        }
    }
    return hash_of_fused(device, hash);
}

/* Runs in a process of its own, with a device of its own or with the parent's. */
static uint64_t hash_in_child(clnorm_device *device, const char *threads)
{
    int ends[2];
    uint64_t hash = 0;
    ck_assert_int_eq(pipe(ends), 0);
    pid_t child = fork();
    ck_assert_int_ge(child, 0);
    if (child == 0) {
        if (threads)
            setenv("CLNORM_THREADS", threads, 1);
        hash = hash_of_results(device ? device : open_device("cpu"));
        _exit(write(ends[1], &hash, sizeof hash) == (ssize_t)sizeof hash ? 0 : 1);
    }
    close(ends[1]);
    ssize_t got = read(ends[0], &hash, sizeof hash);
    close(ends[0]);
    int status = -1;
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    expect(got == (ssize_t)sizeof hash && status == 0, "the child ended with status %d", status);
    return hash;
}

START_TEST(any_number_of_threads)
{
    static const char *const numbers[] = {"1", "2", "3", "7", "16", "0", "nonsense"};
    uint64_t first = hash_in_child(NULL, numbers[0]);
    for (size_t k = 1; k < sizeof numbers / sizeof *numbers; k++)
        expect(hash_in_child(NULL, numbers[k]) == first, "other bits with CLNORM_THREADS=%s", numbers[k]);
}
END_TEST

/* A process that has used the device forks; the child uses it too, and so does the parent after. */
START_TEST(forked_children)
{
    clnorm_device *device = open_device("cpu");
    uint64_t before = hash_of_results(device);
    expect(hash_in_child(device, NULL) == before, "other bits in a forked child");
    expect(hash_of_results(device) == before, "other bits after a fork");
}
END_TEST

#endif

START_TEST(fused_plan_each)
{
    const struct fused_problem *p = &fused[_i % FUSED];
    clnorm_device *device = test_device(_i / FUSED);
    struct fused_work work[THREADS];
    float *alone[THREADS][4];
    pthread_t threads[THREADS];
    for (int k = 0; k < THREADS; k++) {
        work[k] = fused_work_new(device, p, 100 + 10 * (uint64_t)k);
        expect_status(fused_round(&work[k]), CLNORM_OK, "alone");
        const struct array *outputs[] = {&work[k].y, &work[k].dx, &work[k].dz, &work[k].dweight};
        for (int o = 0; o < 4; o++) {
            alone[k][o] = array_get(outputs[o]);
            expect(!untouched(alone[k][o], outputs[o]->count), "output %d was not written", o);
        }
    }
    for (int k = 0; k < THREADS; k++)
        ck_assert_int_eq(pthread_create(&threads[k], NULL, run_fused, &work[k]), 0);
    for (int k = 0; k < THREADS; k++)
        ck_assert_int_eq(pthread_join(threads[k], NULL), 0);
    for (int k = 0; k < THREADS; k++) {
        const struct array *outputs[] = {&work[k].y, &work[k].dx, &work[k].dz, &work[k].dweight};
        ck_assert_int_eq(work[k].status, CLNORM_OK);
        for (int o = 0; o < 4; o++)
            expect(memcmp(array_get(outputs[o]), alone[k][o], outputs[o]->count * sizeof(float)) == 0,
                   "thread %d: other bits in output %d", k, o);
    }
}
END_TEST

/* The first plans of a fresh device are made by two threads at once: each program is built once. */
static void *make_plan(void *argument)
{
    struct work *work = argument;
    clnorm_desc desc = shape_desc(&shapes[0]);
    clnorm_plan *plan = NULL;
    if (clnorm_plan_create(work->device, &desc, &plan) != CLNORM_OK) {
        work->failed = "plan_create";
        snprintf(work->error, sizeof work->error, "%s", clnorm_last_error());
    }
    clnorm_plan_destroy(plan);
    return NULL;
}

START_TEST(first_plans_at_once)
{
    clnorm_device *one = test_device(_i), *device = test_device(_i);
    struct work work[THREADS] = {{0}};
    pthread_t threads[THREADS];
    clnorm_build_counts want, got;
    test_plan(one, &shapes[0], -1);
    for (int k = 0; k < THREADS; k++) {
        work[k].device = device;
        ck_assert_int_eq(pthread_create(&threads[k], NULL, make_plan, &work[k]), 0);
    }
    for (int k = 0; k < THREADS; k++) {
        ck_assert_int_eq(pthread_join(threads[k], NULL), 0);
        expect(!work[k].failed, "thread %d: %s", k, work[k].error);
    }
    ck_assert_int_eq(clnorm_device_get_build_counts(one, &want), CLNORM_OK);
    ck_assert_int_eq(clnorm_device_get_build_counts(device, &got), CLNORM_OK);
    expect(got.from_source + got.from_cache == want.from_source + want.from_cache, "%llu programs, not %llu",
           (unsigned long long)(got.from_source + got.from_cache),
           (unsigned long long)(want.from_source + want.from_cache));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("threads");
    TCase *tcase = add_case(suite, "threads", 120);
    add_device_test(tcase, a_plan_each);
    add_device_test(tcase, building_at_once);
    add_device_test(tcase, first_plans_at_once);
    tcase_add_loop_test(tcase, fused_plan_each, 0, FUSED * device_count());
#if !defined(__SANITIZE_THREAD__)
    if (strcmp(device_name(0), "cpu") == 0) {
        tcase_add_test(tcase, any_number_of_threads);
        TCase *fork_case = add_case(suite, "fork", 120);
        tcase_set_tags(fork_case, "fork-with-threads");
        tcase_add_test(fork_case, forked_children);
    }
#endif
    return run_suites(&suite, 1);
}
