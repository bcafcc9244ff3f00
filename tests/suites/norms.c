/* What layer, group, instance and RMS norm have and have not, and the values of theirs that are written down. Their accuracy is
 * numeric's and parity's. */
#include "layer.h"

#include <stdio.h>
#include <string.h>

/* One of each norm, on [4, 6, 5] in its layout. */
static const struct norm {
    const char *name;
    clnorm_norm norm;
    clnorm_layout layout;
    int64_t groups;
    int32_t dims;
    size_t statistics, weights; /* of 4 samples */
} norms[] = {
    {"layer", CLNORM_LAYER, CLNORM_NSC, 0, 1, 20, 6},
    {"layer of 2", CLNORM_LAYER, CLNORM_NCS, 0, 2, 4, 30},
    {"layer of 1", CLNORM_LAYER, CLNORM_NCS, 0, 1, 24, 5},
    {"rms", CLNORM_RMS, CLNORM_NSC, 0, 1, 20, 6},
    {"rms of 2", CLNORM_RMS, CLNORM_NSC, 0, 2, 4, 30},
    {"group", CLNORM_GROUP, CLNORM_NCS, 2, 0, 8, 6},
    {"group, last", CLNORM_GROUP, CLNORM_NSC, 3, 0, 12, 6},
    {"group of all", CLNORM_GROUP, CLNORM_NCS, 1, 0, 4, 6},
    {"instance", CLNORM_INSTANCE, CLNORM_NCS, 0, 0, 24, 6},
    {"instance, last", CLNORM_INSTANCE, CLNORM_NSC, 0, 0, 24, 6},
    {"groups of one", CLNORM_GROUP, CLNORM_NSC, 6, 0, 24, 6},
};
enum { NORMS = sizeof norms / sizeof *norms, N = 4, ELEMENTS = N * 6 * 5 };

static clnorm_desc desc_of(const struct norm *norm)
{
    clnorm_desc desc = CLNORM_DESC_INIT;
    desc.norm = norm->norm;
    desc.layout = norm->layout;
    desc.n = N;
    desc.c = 6;
    desc.spatial_dims = 1;
    desc.spatial[0] = 5;
    desc.groups = norm->groups;
    desc.normalized_dims = norm->dims;
    return desc;
}

static struct layer *layer_with(clnorm_device *device, const struct norm *norm, const float *x)
{
    const clnorm_desc desc = desc_of(norm);
    return layer_of(device, &desc, N, x, random_floats(2, norm->weights, 1, 0), random_floats(3, norm->weights, 1, 0));
}

/* After a refused call: no output was written. */
static void expect_untouched(const struct layer *l, const char *what)
{
    const struct array *outputs[] = {&l->y, &l->dx, &l->mean, &l->var, &l->rstd, &l->dweight, &l->dbias};
    for (size_t i = 0; i < sizeof outputs / sizeof *outputs; i++) {
        if (outputs[i]->count)
            expect(untouched(array_get(outputs[i]), outputs[i]->count), "%s: output %zu was written", what, i);
    }
}

static void refuse_forward(struct layer *l, const clnorm_forward_args *args, clnorm_status want, const char *name,
                           const char *what)
{
    expect_error(clnorm_forward(l->plan, args), want, name, NULL, what);
    expect_untouched(l, what);
}

static void refuse_backward(struct layer *l, const clnorm_backward_args *args, clnorm_status want, const char *name,
                            const char *what)
{
    expect_error(clnorm_backward(l->plan, args), want, name, NULL, what);
    expect_untouched(l, what);
}

static bool has_running(const struct norm *norm)
{
    return norm->norm == CLNORM_INSTANCE;
}

START_TEST(sizes)
{
    clnorm_device *device = test_device(_i);
    for (int i = 0; i < NORMS; i++) {
        const clnorm_desc desc = desc_of(&norms[i]);
        clnorm_plan *plan = test_plan_of(device, &desc);
        const size_t all = norms[i].statistics;
        expect(clnorm_plan_groups(plan, CLNORM_PLAN_N) == (int64_t)all, "%s: groups of all", norms[i].name);
        for (int64_t n = 0; n <= N; n++)
            expect(clnorm_plan_groups(plan, n) == n * (int64_t)all / N, "%s: groups of %d", norms[i].name, (int)n);
        expect(clnorm_plan_groups(plan, N + 1) == 0 && clnorm_plan_groups(plan, -2) == 0, "%s: n", norms[i].name);
        expect(clnorm_plan_state_bytes(plan) == 12 * all, "%s: state", norms[i].name);
    }
    const struct shape batch = {CLNORM_NCS, 3, 7, 1, {5, 0, 0}};
    expect(clnorm_plan_groups(test_plan(device, &batch, -1), 2) == 7, "batch norm: groups");
    expect(clnorm_plan_groups(NULL, CLNORM_PLAN_N) == 0, "groups of NULL");
}
END_TEST

/* ---- what a norm has not ------------------------------------------------------------------------------------------ */

START_TEST(calls_of_other_norms)
{
    clnorm_device *device = test_device(_i);
    for (int i = 0; i < NORMS; i++) {
        struct layer *l = layer_with(device, &norms[i], random_floats(1, ELEMENTS, 1, 0));
        const struct array statistics = array_bytes(device, 4096);
        clnorm_statistics_args s = CLNORM_STATISTICS_ARGS_INIT;
        clnorm_merge_args m = CLNORM_MERGE_ARGS_INIT;
        clnorm_commit_args c = CLNORM_COMMIT_ARGS_INIT;
        clnorm_apply_args a = CLNORM_APPLY_ARGS_INIT;
        clnorm_backward_reduce_args r = CLNORM_BACKWARD_REDUCE_ARGS_INIT;
        clnorm_backward_apply_args b = CLNORM_BACKWARD_APPLY_ARGS_INIT;
        s.x = a.x = r.x = b.x = l->x.buffer;
        r.dy = b.dy = l->dy.buffer;
        a.y = l->y.buffer;
        b.dx = l->dx.buffer;
        r.state = b.state = l->state.buffer;
        s.statistics = m.statistics = m.gathered = c.statistics = a.statistics = r.sums = b.sums = statistics.buffer;
        m.parts = 1;
        const clnorm_status got[] = {clnorm_statistics(l->plan, &s),      clnorm_merge(l->plan, &m),
                                     clnorm_commit(l->plan, &c),          clnorm_apply(l->plan, &a),
                                     clnorm_backward_reduce(l->plan, &r), clnorm_backward_apply(l->plan, &b)};
        for (size_t k = 0; k < sizeof got / sizeof *got; k++)
            expect(got[k] == CLNORM_E_UNSUPPORTED, "%s: step %zu gives %d", norms[i].name, k, (int)got[k]);
        expect_error(clnorm_backward_apply(l->plan, &b), CLNORM_E_UNSUPPORTED, "clnorm_backward", NULL, norms[i].name);
        if (!has_running(&norms[i])) {
            clnorm_infer_args infer = l->infer;
            expect_error(clnorm_infer(l->plan, &infer), CLNORM_E_UNSUPPORTED, "clnorm_forward", NULL, norms[i].name);
        }
        expect_untouched(l, norms[i].name);
        expect(untouched(array_get(&statistics), statistics.count), "%s: statistics were written", norms[i].name);
    }
}
END_TEST

START_TEST(buffers_of_other_norms)
{
    clnorm_device *device = test_device(_i);
    for (int i = 0; i < NORMS; i++) {
        struct layer *l = layer_with(device, &norms[i], random_floats(1, ELEMENTS, 1, 0));
        const struct array extra = array_new(device, 30, NULL);
        const bool rms = norms[i].norm == CLNORM_RMS;
        for (int k = 0; k < 4; k++) {
            clnorm_forward_args f = l->forward;
            clnorm_backward_args b = l->backward;
            const char *const names[] = {"running_mean", "running_var", "mean", "var"};
            clnorm_buffer *const forward[] = {&f.running_mean, &f.running_var, &f.mean, &f.var};
            clnorm_buffer *const backward[] = {&b.running_mean, &b.running_var, &b.mean, &b.mean};
            if (k < 2 ? has_running(&norms[i]) : !rms)
                continue;
            *forward[k] = extra.buffer;
            refuse_forward(l, &f, CLNORM_E_UNSUPPORTED, names[k], norms[i].name);
            if (k == 3)
                continue;
            *backward[k] = extra.buffer;
            if (k < 2) /* half a pair is told first */
                b.running_mean = b.running_var = extra.buffer;
            refuse_backward(l, &b, CLNORM_E_UNSUPPORTED, k < 2 ? "running_mean" : "mean", norms[i].name);
        }
        expect(untouched(array_get(&extra), extra.count), "%s: a buffer that it has not", norms[i].name);
    }
}
END_TEST

START_TEST(lengths)
{
    clnorm_device *device = test_device(_i);
    for (int i = 0; i < NORMS; i++) {
        struct layer *l = layer_with(device, &norms[i], random_floats(1, ELEMENTS, 1, 0));
        const struct array wide = array_new(device, 100, NULL);
        const size_t weights = norms[i].weights, statistics = norms[i].statistics;
        const size_t wrong[] = {weights - 1, weights + 1, norms[i].statistics == weights ? 99 : statistics};
        for (size_t k = 0; k < sizeof wrong / sizeof *wrong; k++) {
            clnorm_forward_args f = l->forward;
            clnorm_backward_args b = l->backward;
            clnorm_buffer part = wide.buffer;
            part.bytes = wrong[k] * sizeof(float);
            f.bias = b.dweight = part;
            refuse_forward(l, &f, CLNORM_E_LENGTH, "bias", norms[i].name);
            refuse_backward(l, &b, CLNORM_E_LENGTH, "dweight", norms[i].name);
        }
        clnorm_forward_args f = l->forward;
        f.rstd.bytes -= sizeof(float);
        refuse_forward(l, &f, CLNORM_E_BUFFER_SIZE, "rstd", norms[i].name);
        f = l->forward;
        f.state.bytes -= sizeof(float);
        refuse_forward(l, &f, CLNORM_E_BUFFER_SIZE, "state", norms[i].name);
        if (has_running(&norms[i])) {
            f = l->forward;
            f.running_var.bytes -= sizeof(float);
            refuse_forward(l, &f, CLNORM_E_LENGTH, "running_var", norms[i].name);
        }
        f = l->forward; /* larger is fine, and what lies beyond is left alone */
        f.rstd = wide.buffer;
        expect_status(clnorm_forward(l->plan, &f), CLNORM_OK, norms[i].name);
        expect(!untouched(array_get(&wide) + statistics - 1, 1), "%s: the last rstd", norms[i].name);
        expect(untouched(array_get(&wide) + statistics, wide.count - statistics), "%s: beyond", norms[i].name);
    }
}
END_TEST

START_TEST(sources)
{
    clnorm_device *device = test_device(_i);
    for (int i = 0; i < NORMS; i++) {
        struct layer *l = layer_with(device, &norms[i], random_floats(1, ELEMENTS, 1, 0));
        const bool rms = norms[i].norm == CLNORM_RMS;
        clnorm_backward_args b = l->backward;
        b.state = clnorm_none();
        refuse_backward(l, &b, CLNORM_E_STATISTICS_SOURCE, "rstd", norms[i].name);
        expect((strstr(clnorm_last_error(), "mean") != NULL) == !rms, "%s: %s", norms[i].name, clnorm_last_error());
        b = l->backward;
        b.rstd = l->rstd.buffer;
        b.mean = rms ? clnorm_none() : l->mean.buffer;
        refuse_backward(l, &b, CLNORM_E_STATISTICS_SOURCE, NULL, norms[i].name);
        b.state = clnorm_none();
        b.mean = clnorm_none();
        if (!rms)
            refuse_backward(l, &b, CLNORM_E_STATISTICS_MISSING, "mean", norms[i].name);
        b.mean = rms ? clnorm_none() : l->mean.buffer;
        expect_status(clnorm_backward(l->plan, &b), CLNORM_OK, norms[i].name);
    }
}
END_TEST

/* ---- values ------------------------------------------------------------------------------------------------------- */

/* Every group of its own constant, which a float's sums do not hold exactly: var is 0 and y is bias. */
START_TEST(constants)
{
    clnorm_device *device = test_device(_i);
    for (int i = 0; i < NORMS; i++) {
        if (norms[i].norm == CLNORM_RMS)
            continue;
        float *x = scratch_floats(ELEMENTS);
        for (int k = 0; k < ELEMENTS; k++) /* of a sample, which no group leaves */
            x[k] = 1234.567f * (float)(1 + k / (ELEMENTS / N));
        struct layer *l = layer_with(device, &norms[i], x);
        layer_forward(l);
        layer_backward(l);
        const float *y = array_get(&l->y), *var = array_get(&l->var), *mean = array_get(&l->mean);
        const float *bias = array_get(&l->bias), *dweight = array_get(&l->dweight);
        for (size_t k = 0; k < l->groups; k++)
            expect(var[k] == 0 && mean[k] == x[k * ELEMENTS / l->groups], "%s: group %zu: %g, %g", norms[i].name, k,
                   (double)mean[k], (double)var[k]);
        for (size_t k = 0; k < ELEMENTS; k++) {
            const size_t w = norms[i].dims ? k % l->weights : norms[i].layout == CLNORM_NSC ? k % 6 : k / 5 % 6;
            expect(y[k] == bias[w], "%s: y[%zu] is %.9g, not %.9g", norms[i].name, k, (double)y[k], (double)bias[w]);
        }
        for (size_t k = 0; k < l->weights; k++)
            expect(dweight[k] == 0, "%s: dweight[%zu] is %g", norms[i].name, k, (double)dweight[k]);
    }
}
END_TEST

/* The rows are {0, …, 0}, {Inf, 1, …} and {2, …, 2} twice: y is 0, then 1/sqrt(Inf) = 0 but Inf·0, then 2/sqrt(4 + eps). */
START_TEST(rms_of_special_rows)
{
    clnorm_device *device = test_device(_i);
    const clnorm_desc desc = {.size = sizeof desc,
                              .norm = CLNORM_RMS,
                              .layout = CLNORM_NC,
                              .n = 4,
                              .c = 37,
                              .eps = 1e-5f,
                              .normalized_dims = 1};
    float *x = scratch_floats(4 * 37);
    for (int k = 37; k < 4 * 37; k++)
        x[k] = k == 37 ? INFINITY : k < 2 * 37 ? 1 : 2;
    struct layer *l = layer_of(device, &desc, 4, x, NULL, NULL);
    layer_forward(l);
    layer_backward(l);
    const float *y = array_get(&l->y), *rstd = array_get(&l->rstd), *dx = array_get(&l->dx);
    expect_near(rstd[0], 1 / sqrt((double)1e-5f), 16 * U * 317, "rstd of zeros");
    expect(rstd[1] == 0, "rstd of a row with Inf: %g", (double)rstd[1]);
    expect(isnan(y[37]), "y of Inf: %g", (double)y[37]);
    for (int k = 0; k < 4 * 37; k++) {
        if (k != 37)
            expect_near(y[k], k < 2 * 37 ? 0 : 2 / sqrt(4 + (double)1e-5f), k < 2 * 37 ? 0 : 16 * U, "y");
        expect(isfinite(dx[k]) || k / 37 == 1, "dx[%d] is %g", k, (double)dx[k]);
    }
}
END_TEST

/* No samples: nothing but gradients of 0, on a plan for some and on one for none. */
START_TEST(no_samples)
{
    clnorm_device *device = test_device(_i);
    for (int i = 0; i < 2 * NORMS; i++) {
        const struct norm *norm = &norms[i / 2];
        clnorm_desc desc = desc_of(norm);
        if (i % 2)
            desc.n = 0;
        struct layer *l = layer_of(device, &desc, desc.n, random_floats(1, ELEMENTS, 1, 0), NULL, NULL);
        l->forward.n = l->backward.n = 0;
        layer_forward(l);
        const struct array dweight = l->dweight, dbias = l->dbias;
        l->dweight.count = l->dbias.count = 0;
        expect_untouched(l, norm->name);
        layer_backward(l);
        expect_untouched(l, norm->name);
        const float *zeros = scratch_floats(norm->weights);
        expect_same(array_get(&dweight), zeros, norm->weights, norm->name);
        expect_same(array_get(&dbias), zeros, norm->weights, norm->name);
    }
}
END_TEST

/* A smaller batch of the same plan: its samples, and nothing beyond. */
START_TEST(partial_batches)
{
    clnorm_device *device = test_device(_i);
    for (int i = 0; i < NORMS; i++) {
        const float *x = random_floats(1, ELEMENTS, 1, 3);
        struct layer *whole = layer_with(device, &norms[i], x), *part = layer_with(device, &norms[i], x);
        const size_t count = ELEMENTS / N * 3, groups = norms[i].statistics / N * 3;
        part->forward.n = part->backward.n = 3;
        layer_forward(whole);
        layer_forward(part);
        layer_backward(part);
        const float *y = array_get(&part->y), *dx = array_get(&part->dx), *rstd = array_get(&part->rstd);
        const float *all = array_get(&whole->y);
        expect(untouched(y + count, ELEMENTS - count) && untouched(dx + count, ELEMENTS - count), "%s: beyond",
               norms[i].name);
        expect(untouched(rstd + groups, part->groups - groups), "%s: rstd beyond", norms[i].name);
        for (size_t k = 0; k < count; k++) /* each within its bound: |x̂| ≤ √30 of 30 values, |weight| < 4 */
            expect_near(y[k], all[k], 2 * 17 * U * 6 * 4, norms[i].name);
    }
}
END_TEST

START_TEST(same_bits_every_time)
{
    clnorm_device *device = test_device(_i);
    for (int i = 0; i < NORMS; i++) {
        clnorm_desc desc = desc_of(&norms[i]);
        desc.n = 40;
        desc.spatial[0] = 300;
        const size_t count = (size_t)desc.n * 6 * 300;
        const float *x = random_floats(5, count, 1, 7);
        struct layer *first = NULL;
        for (int round = 0; round < 3; round++) {
            struct layer *l = layer_of(device, &desc, desc.n, x, NULL, NULL);
            layer_forward(l);
            layer_backward(l);
            first = first ? first : l;
            expect_same(array_get(&l->y), array_get(&first->y), count, norms[i].name);
            expect_same(array_get(&l->dx), array_get(&first->dx), count, norms[i].name);
            expect_same(array_get(&l->rstd), array_get(&first->rstd), l->groups, norms[i].name);
            expect_same(array_get(&l->dweight), array_get(&first->dweight), l->weights, norms[i].name);
            expect_same(array_get(&l->dbias), array_get(&first->dbias), l->weights, norms[i].name);
        }
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("norms");
    TCase *tcase = add_case(suite, "arguments", 60);
    add_device_test(tcase, sizes);
    add_device_test(tcase, calls_of_other_norms);
    add_device_test(tcase, buffers_of_other_norms);
    add_device_test(tcase, lengths);
    add_device_test(tcase, sources);
    tcase = add_case(suite, "values", 100);
    add_device_test(tcase, constants);
    add_device_test(tcase, rms_of_special_rows);
    add_device_test(tcase, no_samples);
    add_device_test(tcase, partial_batches);
    add_device_test(tcase, same_bits_every_time);
    return run_suites(&suite, 1);
}
