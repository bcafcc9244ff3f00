/* Samples with lengths: one call gives what the compact data give, whatever padding holds; lengths that do not fit are told by the word; and
 * what is refused. */
#include "support.h"

#include <stdio.h>
#include <string.h>

enum { N = 5, C = 12, T = 41, ELEMENTS = N * C * T };

static const int32_t some[N] = {T, 0, 7, 1, 30};

struct problem {
    clnorm_device *device;
    clnorm_norm norm;
    struct shape shape;
    const float *x, *dy, *weight, *bias; /* on the host */
};

static const clnorm_norm norms[] = {CLNORM_BATCH, CLNORM_GROUP, CLNORM_INSTANCE};
enum { NORMS = sizeof norms / sizeof *norms, KINDS = 2 * NORMS };

static struct problem problem_of(int device, int kind)
{
    const clnorm_layout layout = kind % 2 ? CLNORM_NSC : CLNORM_NCS;
    return (struct problem){test_device(device),
                            norms[kind / 2],
                            {layout, N, C, 1, {T, 0, 0}},
                            random_floats(1, ELEMENTS, 2, 30),
                            random_floats(2, ELEMENTS, 1, 0),
                            random_floats(3, C, 1, 0),
                            random_floats(4, C, 1, 0)};
}

static clnorm_desc desc_of(const struct problem *p)
{
    clnorm_desc desc = shape_desc(&p->shape);
    desc.norm = p->norm;
    desc.groups = p->norm == CLNORM_GROUP ? 4 : 0;
    return desc;
}

/* int32 in an array of floats' size. */
static struct array lengths_new(clnorm_device *device, const int32_t *lengths)
{
    float bits[N];
    memcpy(bits, lengths, sizeof bits);
    return array_new(device, N, bits);
}

struct results {
    float *y, *dx, *dweight, *dbias, *running_mean, *running_var;
};

/* Forward and backward; lengths NULL: the plan has none. */
static struct results run(const struct problem *p, const clnorm_desc *desc, const float *x, const float *dy,
                          const struct array *lengths)
{
    const size_t elements = (size_t)desc->n * C * (size_t)desc->spatial[0];
    clnorm_plan *plan = test_plan_of(p->device, desc);
    const struct array in = array_new(p->device, elements, x), gradient = array_new(p->device, elements, dy),
                       weight = array_new(p->device, C, p->weight), bias = array_new(p->device, C, p->bias),
                       y = array_new(p->device, elements, NULL), dx = array_new(p->device, elements, NULL),
                       dweight = array_new(p->device, C, NULL), dbias = array_new(p->device, C, NULL),
                       mean = array_new(p->device, C, random_floats(5, C, 1, 0)),
                       var = array_new(p->device, C, random_floats(6, C, 0.1f, 1)),
                       state = array_bytes(p->device, clnorm_plan_state_bytes(plan));
    clnorm_forward_args f = CLNORM_FORWARD_ARGS_INIT;
    f.x = in.buffer;
    f.y = y.buffer;
    f.weight = weight.buffer;
    f.bias = bias.buffer;
    f.state = state.buffer;
    if (p->norm != CLNORM_GROUP) {
        f.running_mean = mean.buffer;
        f.running_var = var.buffer;
    }
    clnorm_backward_args b = CLNORM_BACKWARD_ARGS_INIT;
    b.x = in.buffer;
    b.dy = gradient.buffer;
    b.weight = weight.buffer;
    b.state = state.buffer;
    b.dx = dx.buffer;
    b.dweight = dweight.buffer;
    b.dbias = dbias.buffer;
    if (lengths)
        f.lengths = b.lengths = lengths->buffer;
    expect_status(clnorm_forward(plan, &f), CLNORM_OK, "forward");
    expect_status(clnorm_backward(plan, &b), CLNORM_OK, "backward");
    return (struct results){array_get(&y),     array_get(&dx),   array_get(&dweight),
                            array_get(&dbias), array_get(&mean), array_get(&var)};
}

static float *with_padding(const struct problem *p, const float *values, const int32_t *lengths, float padding)
{
    float *padded = scratch_floats(ELEMENTS);
    for (size_t n = 0; n < N; n++) {
        for (size_t c = 0; c < C; c++) {
            for (size_t t = 0; t < T; t++) {
                const size_t i = shape_index(&p->shape, n, c, t);
                padded[i] = (int32_t)t < lengths[n] ? values[i] : padding;
            }
        }
    }
    return padded;
}

/* Every bit is the same whatever padding holds, and what is there is 0. */
START_TEST(padding_has_no_part)
{
    const struct problem p = problem_of(_i / KINDS, _i % KINDS);
    const struct array lengths = lengths_new(p.device, some);
    static const float paddings[] = {0.0f, 1e30f, NAN, INFINITY};
    clnorm_desc desc = desc_of(&p);
    struct results first = {NULL, NULL, NULL, NULL, NULL, NULL};
    desc.lengths = 1;
    for (size_t k = 0; k < sizeof paddings / sizeof *paddings; k++) {
        const struct results r = run(&p, &desc, with_padding(&p, p.x, some, paddings[k]),
                                     with_padding(&p, p.dy, some, paddings[k]), &lengths);
        if (k == 0)
            first = r;
        expect_same(r.y, first.y, ELEMENTS, "y");
        expect_same(r.dx, first.dx, ELEMENTS, "dx");
        expect_same(r.dweight, first.dweight, C, "dweight");
        expect_same(r.dbias, first.dbias, C, "dbias");
        expect_same(r.running_mean, first.running_mean, C, "running_mean");
        expect_same(r.running_var, first.running_var, C, "running_var");
    }
    expect_same(with_padding(&p, first.y, some, 0.0f), first.y, ELEMENTS, "y of padding");
    expect_same(with_padding(&p, first.dx, some, 0.0f), first.dx, ELEMENTS, "dx of padding");
}
END_TEST

/* The samples without their padding: those of batch norm one after the other as positions of one sample, the others' each in a call of
 * its own. */
static void run_compact(const struct problem *p, struct results *all)
{
    const bool together = p->norm == CLNORM_BATCH;
    size_t total = 0;
    for (size_t n = 0; n < N; n++)
        total += (size_t)some[n];
    for (size_t first = 0; first < N; first += together ? N : 1) {
        struct problem one = *p;
        const size_t positions = together ? total : (size_t)some[first];
        if (positions == 0)
            continue;
        one.shape.n = 1;
        one.shape.spatial[0] = (int64_t)positions;
        float *x = scratch_floats(C * positions), *dy = scratch_floats(C * positions);
        size_t *place = scratch(C * positions * sizeof *place), at = 0;
        for (size_t n = first; n < (together ? N : first + 1); n++) {
            for (size_t t = 0; t < (size_t)some[n]; t++, at++) {
                for (size_t c = 0; c < C; c++) {
                    const size_t i = shape_index(&one.shape, 0, c, at), whole = shape_index(&p->shape, n, c, t);
                    x[i] = p->x[whole];
                    dy[i] = p->dy[whole];
                    place[i] = whole;
                }
            }
        }
        const clnorm_desc desc = desc_of(&one);
        const struct results r = run(&one, &desc, x, dy, NULL);
        for (size_t i = 0; i < C * positions; i++) {
            all->y[place[i]] = r.y[i];
            all->dx[place[i]] = r.dx[i];
        }
        for (size_t c = 0; c < C; c++) {
            all->dweight[c] += r.dweight[c];
            all->dbias[c] += r.dbias[c];
        }
    }
}

static float *zeros(size_t count)
{
    float *values = scratch_floats(count);
    memset(values, 0, count * sizeof *values);
    return values;
}

START_TEST(equals_compact_data)
{
    const struct problem p = problem_of(_i / KINDS, _i % KINDS);
    const struct array lengths = lengths_new(p.device, some);
    clnorm_desc desc = desc_of(&p);
    struct results want = {zeros(ELEMENTS), zeros(ELEMENTS), zeros(C), zeros(C), NULL, NULL};
    run_compact(&p, &want);
    desc.lengths = 1;
    const struct results got = run(&p, &desc, p.x, p.dy, &lengths);
    /* Values of y and dx are some units at most, rstd is 0.5 but of samples of one or a few values, whose dx is larger. */
    for (size_t i = 0; i < ELEMENTS; i++) {
        expect_near((double)got.y[i], (double)want.y[i], 64 * U * (1 + fabs((double)want.y[i])), "y");
        expect_near((double)got.dx[i], (double)want.dx[i], 1024 * U * (1 + fabs((double)want.dx[i])), "dx");
    }
    for (size_t c = 0; c < C; c++) {
        expect_near((double)got.dweight[c], (double)want.dweight[c], 4096 * U, "dweight");
        expect_near((double)got.dbias[c], (double)want.dbias[c], 4096 * U, "dbias");
    }
}
END_TEST

static uint32_t found_by(clnorm_plan *plan)
{
    uint32_t found = 0;
    expect_status(clnorm_plan_query_found(plan, &found), CLNORM_OK, "query_found");
    return found;
}

/* Each call tells it. What is below 0 or above all positions counts as that. */
START_TEST(lengths_that_do_not_fit)
{
    const struct problem p = problem_of(_i, 0);
    static const int32_t wrong[][N] = {{T, 0, -1, 1, 30}, {T, 0, T + 1, 1, 30}, {INT32_MIN, INT32_MAX, 7, 1, 30}},
                         right[][N] = {{T, 0, 0, 1, 30}, {T, 0, T, 1, 30}, {0, T, 7, 1, 30}};
    clnorm_desc desc = desc_of(&p);
    desc.lengths = 1;
    for (size_t k = 0; k < sizeof wrong / sizeof *wrong; k++) {
        const struct array bad = lengths_new(p.device, wrong[k]), good = lengths_new(p.device, right[k]);
        const struct results got = run(&p, &desc, p.x, p.dy, &bad), want = run(&p, &desc, p.x, p.dy, &good);
        expect_same(got.y, want.y, ELEMENTS, "y");
        expect_same(got.dx, want.dx, ELEMENTS, "dx");
        expect_same(got.dweight, want.dweight, C, "dweight");

        clnorm_plan *plan = test_plan_of(p.device, &desc);
        const struct array x = array_new(p.device, ELEMENTS, p.x), y = array_new(p.device, ELEMENTS, NULL),
                           mean = array_new(p.device, C, random_floats(5, C, 1, 0)),
                           var = array_new(p.device, C, random_floats(6, C, 0.1f, 1));
        clnorm_infer_args i = CLNORM_INFER_ARGS_INIT;
        i.x = x.buffer;
        i.y = y.buffer;
        i.running_mean = mean.buffer;
        i.running_var = var.buffer;
        clnorm_forward_args f = CLNORM_FORWARD_ARGS_INIT;
        f.x = x.buffer;
        f.y = y.buffer;
        clnorm_backward_args b = CLNORM_BACKWARD_ARGS_INIT;
        b.dy = x.buffer;
        b.dx = y.buffer;
        b.running_mean = mean.buffer;
        b.running_var = var.buffer;
        for (int call = 0; call < 3; call++) {
            for (int is_bad = 0; is_bad < 2; is_bad++) {
                f.lengths = i.lengths = b.lengths = is_bad ? bad.buffer : good.buffer;
                expect_status(call == 0   ? clnorm_forward(plan, &f)
                              : call == 1 ? clnorm_infer(plan, &i)
                                          : clnorm_backward(plan, &b),
                              CLNORM_OK, "a call");
                const uint32_t found = found_by(plan);
                expect(found == (is_bad ? CLNORM_FOUND_LENGTH : 0), "call %d found %u", call, (unsigned)found);
            }
        }
    }
}
END_TEST

/* ---- refused ----------------------------------------------------------------------------------------------------- */

START_TEST(refused_plans)
{
    clnorm_device *device = test_device(_i);
    const clnorm_desc defaults = CLNORM_DESC_INIT;
    static const struct {
        const char *what;
        clnorm_norm norm;
        clnorm_layout layout;
        int32_t dims;
        uint32_t lengths;
        int64_t batch;
        uint32_t twice, from_y;
        int64_t positions;
        clnorm_status want;
    } rows[] = {
        {"lengths of 2", CLNORM_BATCH, CLNORM_NCS, 1, 2, 0, 0, 0, 7, CLNORM_E_ENUM},
        {"layer norm", CLNORM_LAYER, CLNORM_NSC, 1, 1, 0, 0, 0, 7, CLNORM_E_UNSUPPORTED},
        {"RMS norm", CLNORM_RMS, CLNORM_NSC, 1, 1, 0, 0, 0, 7, CLNORM_E_UNSUPPORTED},
        {"no dimension", CLNORM_BATCH, CLNORM_NC, 0, 1, 0, 0, 0, 7, CLNORM_E_UNSUPPORTED},
        {"two dimensions", CLNORM_INSTANCE, CLNORM_NCS, 2, 1, 0, 0, 0, 7, CLNORM_E_UNSUPPORTED},
        {"virtual batches", CLNORM_BATCH, CLNORM_NCS, 1, 1, 2, 0, 0, 7, CLNORM_E_UNSUPPORTED},
        {"double backward", CLNORM_BATCH, CLNORM_NCS, 1, 1, 0, 1, 0, 7, CLNORM_E_UNSUPPORTED},
        {"backward from y", CLNORM_GROUP, CLNORM_NCS, 1, 1, 0, 0, 1, 7, CLNORM_E_UNSUPPORTED},
        {"more positions than int32 has", CLNORM_BATCH, CLNORM_NSC, 1, 1, 0, 0, 0, (int64_t)1 << 31, CLNORM_E_SHAPE},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        clnorm_plan *plan = NULL;
        clnorm_desc desc = defaults;
        desc.norm = rows[i].norm;
        desc.layout = rows[i].layout;
        desc.n = 3;
        desc.c = 4;
        desc.spatial_dims = rows[i].dims;
        for (int32_t d = 0; d < rows[i].dims; d++)
            desc.spatial[d] = rows[i].positions;
        desc.groups = rows[i].norm == CLNORM_GROUP ? 2 : 0;
        desc.normalized_dims = rows[i].norm == CLNORM_LAYER || rows[i].norm == CLNORM_RMS;
        desc.virtual_batch = rows[i].batch;
        desc.double_backward = rows[i].twice;
        desc.backward_from_y = rows[i].from_y;
        desc.lengths = rows[i].lengths;
        expect_error(clnorm_plan_create(device, &desc, &plan), rows[i].want,
                     rows[i].want == CLNORM_E_SHAPE ? NULL : "lengths", NULL, rows[i].what);
        expect(plan == NULL, "%s: *plan was set", rows[i].what);
    }
}
END_TEST

static clnorm_buffer cut(clnorm_buffer buffer, size_t skip, size_t bytes)
{
    if (buffer.kind == CLNORM_BUFFER_HOST)
        return clnorm_host((char *)buffer.handle + skip, bytes);
    buffer.offset += skip;
    buffer.bytes = bytes;
    return buffer;
}

START_TEST(refused_calls)
{
    const struct problem p = problem_of(_i, 0);
    clnorm_desc desc = desc_of(&p);
    clnorm_plan *plain = test_plan_of(p.device, &desc);
    desc.lengths = 1;
    clnorm_plan *plan = test_plan_of(p.device, &desc);
    const struct array x = array_new(p.device, ELEMENTS, p.x), y = array_new(p.device, ELEMENTS, NULL),
                       lengths = lengths_new(p.device, some), more = array_new(p.device, 5 * C, NULL);
    clnorm_forward_args f = CLNORM_FORWARD_ARGS_INIT;
    f.x = x.buffer;
    f.y = y.buffer;
    expect_error(clnorm_forward(plan, &f), CLNORM_E_MISSING, "lengths", NULL, "without lengths");
    f.lengths = cut(lengths.buffer, 0, sizeof(int32_t) * (N - 1));
    expect_error(clnorm_forward(plan, &f), CLNORM_E_BUFFER_SIZE, "lengths", "20", "a length too few");
    f.lengths = cut(lengths.buffer, 2, sizeof(int32_t) * N);
    expect_error(clnorm_forward(plan, &f), CLNORM_E_BUFFER_ALIGNMENT, "lengths", "4", "from the third byte");
    f.lengths = cut(y.buffer, 0, sizeof(int32_t) * N);
    expect_error(clnorm_forward(plan, &f), CLNORM_E_OVERLAP, "lengths", NULL, "lengths in y");
    f.lengths = lengths.buffer;
    expect_error(clnorm_forward(plain, &f), CLNORM_E_UNSUPPORTED, "lengths", NULL, "a plan without lengths");
    clnorm_infer_args i = CLNORM_INFER_ARGS_INIT;
    i.x = x.buffer;
    i.y = y.buffer;
    i.running_mean = i.running_var = cut(x.buffer, 0, C * sizeof(float));
    expect_error(clnorm_infer(plan, &i), CLNORM_E_MISSING, "lengths", NULL, "inference without lengths");
    clnorm_backward_args b = CLNORM_BACKWARD_ARGS_INIT;
    b.dy = x.buffer;
    b.dx = y.buffer;
    b.running_mean = b.running_var = i.running_mean;
    expect_error(clnorm_backward(plan, &b), CLNORM_E_MISSING, "lengths", NULL, "backward without lengths");
    clnorm_statistics_args s = CLNORM_STATISTICS_ARGS_INIT;
    s.x = x.buffer;
    s.statistics = more.buffer;
    expect_error(clnorm_statistics(plan, &s), CLNORM_E_UNSUPPORTED, "lengths", NULL, "a step");
    expect(untouched(array_get(&y), ELEMENTS), "y was written");
    f.n = 0;
    f.lengths = clnorm_none();
    expect_status(clnorm_forward(plan, &f), CLNORM_OK, "no samples have no lengths");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("lengths");
    TCase *tcase = add_case(suite, "lengths", 300);
    tcase_add_loop_test(tcase, padding_has_no_part, 0, KINDS * device_count());
    tcase_add_loop_test(tcase, equals_compact_data, 0, KINDS * device_count());
    add_device_test(tcase, lengths_that_do_not_fit);
    add_device_test(tcase, refused_plans);
    add_device_test(tcase, refused_calls);
    return run_suites(&suite, 1);
}
