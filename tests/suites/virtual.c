/* Virtual batches: one call gives, bit for bit, what separate calls on the batches give that add up dweight and dbias and hand on the
 * running statistics. It must, for a batch runs by the same steps, cut by its own shape, whatever the call around it. */
#include "support.h"

#include <stdio.h>

/* Of every layout; one channel; one position; runs that are long enough for bands that are written beside the next one's sums; columns
 * that are split. */
static const struct shape shapes[] = {{CLNORM_NC, 29, 13, 0, {0, 0, 0}},  {CLNORM_NCS, 7, 6, 2, {5, 9, 0}},
                                      {CLNORM_NSC, 7, 6, 2, {5, 9, 0}},   {CLNORM_NSC, 10, 1, 1, {33, 0, 0}},
                                      {CLNORM_NCS, 10, 9, 1, {1, 0, 0}},  {CLNORM_NCS, 9, 40, 1, {150, 0, 0}},
                                      {CLNORM_NC, 1500, 24, 0, {0, 0, 0}}};
enum { SHAPES = sizeof shapes / sizeof *shapes };

/* Those of the cases' forms that are f32 (tests/cases/table_fused.c), so that a device compiles each once. */
static const struct form {
    clnorm_activation activation;
    clnorm_residual residual;
} forms[] = {{CLNORM_NO_ACTIVATION, CLNORM_NO_RESIDUAL},
             {CLNORM_RELU, CLNORM_NO_RESIDUAL},
             {CLNORM_NO_ACTIVATION, CLNORM_RESIDUAL_AFTER}};
enum { FORMS = sizeof forms / sizeof *forms };

static const clnorm_running runnings[] = {
    {0.25f, CLNORM_EXPONENTIAL, CLNORM_UNBIASED, CLNORM_GUARD_NONE, 0},
    {0.1f, CLNORM_CUMULATIVE, CLNORM_BIASED, CLNORM_GUARD_NONE, 4},
};

struct problem {
    clnorm_device *device;
    const struct shape *shape;
    clnorm_desc desc; /* with virtual batches */
    clnorm_running running;
    size_t batches, channels, sample;
    struct array x, dy, z, weight, bias;
};

/* What one of the two ways writes. */
struct side {
    struct array y, dx, dz, mean, var, rstd, running_mean, running_var, dweight, dbias;
};

static struct side side_new(const struct problem *p)
{
    const size_t elements = p->sample * (size_t)p->shape->n, c = p->channels, groups = p->batches * c;
    struct side s = {.y = array_new(p->device, elements, NULL),
                     .dx = array_new(p->device, elements, NULL),
                     .dz = array_new(p->device, elements, NULL),
                     .mean = array_new(p->device, groups, NULL),
                     .var = array_new(p->device, groups, NULL),
                     .rstd = array_new(p->device, groups, NULL),
                     .running_mean = array_new(p->device, c, random_floats(8, c, 1, 0)),
                     .running_var = array_new(p->device, c, random_floats(9, c, 0.1f, 1)),
                     .dweight = array_new(p->device, c, NULL),
                     .dbias = array_new(p->device, c, NULL)};
    return s;
}

static struct problem problem_of(clnorm_device *device, const struct shape *shape, int64_t batch,
                                 const struct form *form, const clnorm_running *running)
{
    const size_t elements = shape_elements(shape, shape->n), c = (size_t)shape->c;
    struct problem p = {.device = device,
                        .shape = shape,
                        .desc = shape_desc(shape),
                        .running = *running,
                        .batches = (size_t)((shape->n + batch - 1) / batch),
                        .channels = c,
                        .sample = shape_elements(shape, 1),
                        .x = array_new(device, elements, random_floats(1, elements, 2, 3)),
                        .dy = array_new(device, elements, random_floats(2, elements, 1, 0)),
                        .z = array_new(device, elements, random_floats(3, elements, 1, 0)),
                        .weight = array_new(device, c, random_floats(4, c, 1, 0)),
                        .bias = array_new(device, c, random_floats(5, c, 1, 0))};
    p.desc.virtual_batch = batch;
    p.desc.activation = form->activation;
    p.desc.residual = form->residual;
    return p;
}

/* `count` values from value `first` on. */
static clnorm_buffer part(const struct array *array, size_t first, size_t count)
{
    clnorm_buffer b = array->buffer;
    if (b.kind == CLNORM_BUFFER_HOST)
        return clnorm_host((float *)b.handle + first, count * sizeof(float));
    return clnorm_memory_part(b.handle, b.offset + first * sizeof(float), count * sizeof(float));
}

/* Forward and backward of n samples from `first` on, whose statistics groups begin at `group`. batch: how many calls came before. */
static void run(const struct problem *p, const struct side *s, clnorm_plan *plan, size_t first, size_t n, size_t group,
                size_t batch)
{
    const size_t at = first * p->sample, count = n * p->sample;
    const size_t groups = (size_t)clnorm_plan_groups(plan, (int64_t)n);
    const struct array state = array_bytes(p->device, clnorm_plan_state_bytes(plan));
    const bool after = p->desc.residual == CLNORM_RESIDUAL_AFTER, again = p->desc.activation != CLNORM_NO_ACTIVATION;
    clnorm_forward_args f = CLNORM_FORWARD_ARGS_INIT;
    f.n = (int64_t)n;
    f.x = part(&p->x, at, count);
    f.y = part(&s->y, at, count);
    f.weight = p->weight.buffer;
    f.bias = p->bias.buffer;
    f.state = state.buffer;
    f.mean = part(&s->mean, group, groups);
    f.var = part(&s->var, group, groups);
    f.rstd = part(&s->rstd, group, groups);
    f.running_mean = s->running_mean.buffer;
    f.running_var = s->running_var.buffer;
    f.running = p->running;
    f.running.count += batch;
    clnorm_backward_args b = CLNORM_BACKWARD_ARGS_INIT;
    b.n = f.n;
    b.x = f.x;
    b.dy = part(&p->dy, at, count);
    b.weight = f.weight;
    b.state = f.state;
    b.dx = part(&s->dx, at, count);
    b.dweight = s->dweight.buffer;
    b.dbias = s->dbias.buffer;
    if (again)
        b.bias = f.bias;
    if (after) {
        f.z = part(&p->z, at, count);
        b.dz = part(&s->dz, at, count);
    }
    b.accumulate = batch ? CLNORM_ADD_DWEIGHT | CLNORM_ADD_DBIAS : 0;
    expect_status(clnorm_forward(plan, &f), CLNORM_OK, "forward");
    expect_status(clnorm_backward(plan, &b), CLNORM_OK, "backward");
    (void)array_get(&state); /* its guards */
}

static void compare(const struct problem *p, int64_t batch)
{
    const struct side together = side_new(p), apart = side_new(p);
    clnorm_desc desc = p->desc;
    run(p, &together, test_plan_of(p->device, &desc), 0, (size_t)desc.n, 0, 0);
    desc.n = batch < desc.n ? batch : desc.n;
    desc.virtual_batch = 0;
    clnorm_plan *plan = test_plan_of(p->device, &desc);
    for (size_t k = 0; k < p->batches; k++) {
        const size_t first = k * (size_t)batch, left = (size_t)p->shape->n - first;
        run(p, &apart, plan, first, left < (size_t)batch ? left : (size_t)batch, k * p->channels, k);
    }
    const struct {
        const char *name;
        const struct array *got, *want;
    } outputs[] = {{"y", &together.y, &apart.y},
                   {"mean", &together.mean, &apart.mean},
                   {"var", &together.var, &apart.var},
                   {"rstd", &together.rstd, &apart.rstd},
                   {"running_mean", &together.running_mean, &apart.running_mean},
                   {"running_var", &together.running_var, &apart.running_var},
                   {"dx", &together.dx, &apart.dx},
                   {"dweight", &together.dweight, &apart.dweight},
                   {"dbias", &together.dbias, &apart.dbias},
                   {"dz", &together.dz, &apart.dz}};
    for (size_t i = 0; i < sizeof outputs / sizeof *outputs; i++) {
        char what[192];
        snprintf(what, sizeof what, "%s in batches of %lld, activation %d, residual %d: %s", shape_text(p->shape),
                 (long long)batch, (int)p->desc.activation, (int)p->desc.residual, outputs[i].name);
        expect_same(array_get(outputs[i].got), array_get(outputs[i].want), outputs[i].want->count, what);
    }
}

START_TEST(equal_separate_calls)
{
    clnorm_device *device = test_device(_i / SHAPES);
    const struct shape *shape = &shapes[_i % SHAPES];
    const int64_t sizes[] = {1, 2, (shape->n + 2) / 3, shape->n - 1, shape->n, shape->n + 5};
    for (size_t i = shape->n > 100 ? 2 : 0; i < sizeof sizes / sizeof *sizes; i++) {
        const struct problem p = problem_of(device, shape, sizes[i], &forms[i % FORMS], &runnings[i % 2]);
        compare(&p, sizes[i]);
    }
}
END_TEST

/* Inference, and backward from running statistics, are as if there were no virtual batches. */
START_TEST(other_statistics)
{
    const struct shape *shape = &shapes[1];
    const struct problem p = problem_of(test_device(_i), shape, 3, &forms[0], &runnings[0]);
    clnorm_desc plain_desc = p.desc;
    plain_desc.virtual_batch = 0;
    clnorm_plan *plan = test_plan_of(p.device, &p.desc), *plain = test_plan_of(p.device, &plain_desc);
    const struct side got = side_new(&p), want = side_new(&p);
    for (int k = 0; k < 2; k++) {
        const struct side *s = k ? &want : &got;
        clnorm_infer_args i = CLNORM_INFER_ARGS_INIT;
        i.x = p.x.buffer;
        i.y = s->y.buffer;
        i.weight = p.weight.buffer;
        i.bias = p.bias.buffer;
        i.running_mean = s->running_mean.buffer;
        i.running_var = s->running_var.buffer;
        expect_status(clnorm_infer(k ? plain : plan, &i), CLNORM_OK, "infer");
        clnorm_backward_args b = CLNORM_BACKWARD_ARGS_INIT;
        b.x = p.x.buffer;
        b.dy = p.dy.buffer;
        b.weight = p.weight.buffer;
        b.running_mean = s->running_mean.buffer;
        b.running_var = s->running_var.buffer;
        b.dx = s->dx.buffer;
        b.dweight = s->dweight.buffer;
        b.dbias = s->dbias.buffer;
        expect_status(clnorm_backward(k ? plain : plan, &b), CLNORM_OK, "frozen backward");
    }
    expect_same(array_get(&got.y), array_get(&want.y), want.y.count, "y of inference");
    expect_same(array_get(&got.dx), array_get(&want.dx), want.dx.count, "dx of frozen statistics");
    expect_same(array_get(&got.dweight), array_get(&want.dweight), want.dweight.count, "dweight of frozen statistics");
    expect_same(array_get(&got.dbias), array_get(&want.dbias), want.dbias.count, "dbias of frozen statistics");
}
END_TEST

START_TEST(sizes)
{
    clnorm_desc desc = shape_desc(&shapes[1]);
    desc.virtual_batch = 3;
    clnorm_plan *plan = test_plan_of(test_device(_i), &desc);
    const int64_t groups[] = {0, 6, 6, 6, 12, 12, 12, 18};
    for (int64_t n = 0; n <= 7; n++)
        ck_assert_int_eq(clnorm_plan_groups(plan, n), groups[n]);
    ck_assert_int_eq(clnorm_plan_groups(plan, CLNORM_PLAN_N), 18);
    ck_assert_uint_eq(clnorm_plan_state_bytes(plan), 18 * 3 * sizeof(float));
    /* Batches take turns in the workspace. */
    desc.n = 700;
    clnorm_plan *more = test_plan_of(test_device(_i), &desc);
    desc.virtual_batch = 0;
    ck_assert_uint_eq(clnorm_plan_workspace_bytes(more),
                      clnorm_plan_workspace_bytes(test_plan_of(test_device(_i), &desc)));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("virtual");
    TCase *tcase = add_case(suite, "virtual", 200);
    tcase_add_loop_test(tcase, equal_separate_calls, 0, SHAPES * device_count());
    add_device_test(tcase, other_statistics);
    add_device_test(tcase, sizes);
    return run_suites(&suite, 1);
}
