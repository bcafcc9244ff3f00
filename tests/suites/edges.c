/* The edges that the contract answers: empty batches, one value per channel, very long and very many channels, partial
 * batches, zero variance with and without eps, NaN and Inf in one channel; and the same bits in every run. */
#include "calls.h"
#include "layer.h"
#include "model.h"

#include <stdio.h>
#include <string.h>

static bool is_slow(clnorm_device *device)
{
    clnorm_device_info info = CLNORM_DEVICE_INFO_INIT;
    ck_assert_int_eq(clnorm_device_get_info(device, &info), CLNORM_OK);
    return strstr(info.name, "llvmpipe") != NULL;
}

/* ---- empty batches ----------------------------------------------------------------------------------------------- */

/* Of a plan for 4 and of a plan for 0: nothing is written but zeros where the contract says so. */
START_TEST(no_samples)
{
    clnorm_device *device = test_device(_i);
    for (int64_t plan_n = 0; plan_n <= 4; plan_n += 4) {
        struct shape shape = {CLNORM_NCS, plan_n, 5, 2, {3, 4, 0}};
        clnorm_plan *plan = plan_of_all_calls(device, &shape);
        for (const struct call *call = calls; call->name; call++) {
            static const int64_t none = 0;
            if (call->n == CALL_NO_FIELD)
                continue;
            struct stage *stage = stage_new(device, plan, &shape, call, CLNORM_BUFFER_MEMORY);
            size_t n_field = call->n;
            for (int implied = 0; implied <= (plan_n == 0); implied++) {
                char what[128];
                union call_args args = stage->args;
                if (!implied)
                    memcpy((char *)&args + n_field, &none, sizeof none);
                for (int i = 0; call->slots[i].name; i++) { /* tensors of no bytes are still there */
                    if (call->slots[i].size == SLOT_TENSOR)
                        *slot_buffer(&args, &call->slots[i]) = stage_part(stage, stage->at[i], 0);
                }
                snprintf(what, sizeof what, "%s of 0 samples, plan for %d", call->name, (int)plan_n);
                stage_remember(stage);
                if (!expect_status(call->run(plan, &args), CLNORM_OK, what))
                    continue;
                /* What has to be zeros (of statistics: the two planes of the count) must have been the only change. */
                for (int i = 0; call->slots[i].name; i++) {
                    const char *name = call->slots[i].name;
                    size_t bytes = 0;
                    if (strcmp(name, "dweight") == 0 || strcmp(name, "dbias") == 0 || strcmp(name, "sums") == 0 ||
                        strcmp(name, "g_weight") == 0)
                        bytes = stage->length[i];
                    bool statistics = strcmp(call->name, "statistics") == 0 && strcmp(name, "statistics") == 0;
                    if (statistics)
                        bytes = 2 * 5 * sizeof(float);
                    bool scratch_space = call->slots[i].size == SLOT_WORKSPACE; /* which a call may use as it likes */
                    if (!call->slots[i].written || (bytes == 0 && !scratch_space))
                        continue;
                    float *now = scratch(stage->bytes);
                    ck_assert_int_eq(clnorm_memory_read(stage->memory, 0, now, stage->bytes), CLNORM_OK);
                    for (size_t k = 0; k < bytes / sizeof(float); k++)
                        expect(now[stage->at[i] / sizeof(float) + k] == 0, "%s: %s is %g", what, name,
                               (double)now[stage->at[i] / sizeof(float) + k]);
                    /* Any mean and variance will do for a count of 0. */
                    memcpy(stage->before + stage->at[i], (char *)now + stage->at[i],
                           statistics || scratch_space ? stage->length[i] : bytes);
                }
                stage_unchanged(stage, what);
            }
        }
    }
}
END_TEST

/* An empty part does not count in a merge, wherever it stands and whatever its other planes hold. */
START_TEST(empty_parts)
{
    clnorm_device *device = test_device(_i);
    enum { C = 7, PLANES = 5 * C };
    static const struct shape shape = {CLNORM_NC, 11, C, 0, {0, 0, 0}};
    clnorm_plan *plan = test_plan(device, &shape, -1);
    struct array x = array_new(device, 11 * C, random_floats(1, 11 * C, 1, 1e6f));
    struct array full = array_new(device, PLANES, NULL), merged = array_new(device, PLANES, NULL);
    clnorm_statistics_args s = CLNORM_STATISTICS_ARGS_INIT;
    s.x = x.buffer;
    s.statistics = full.buffer;
    expect_status(clnorm_statistics(plan, &s), CLNORM_OK, "statistics");
    float *statistics = array_get(&full), *parts = scratch_floats(3 * PLANES);
    for (size_t place = 0; place < 3; place++) {
        for (size_t i = 0; i < 3 * PLANES; i++)
            parts[i] = i % PLANES < 2 * C ? 0 : NAN;
        memcpy(parts + place * PLANES, statistics, PLANES * sizeof(float));
        struct array gathered = array_new(device, 3 * PLANES, parts);
        clnorm_merge_args m = CLNORM_MERGE_ARGS_INIT;
        m.parts = 3;
        m.gathered = gathered.buffer;
        m.statistics = merged.buffer;
        expect_status(clnorm_merge(plan, &m), CLNORM_OK, "merge");
        expect_same(array_get(&merged), statistics, PLANES, "a merge with two empty parts");
    }
    /* Nothing but empty parts: a count of 0, which a commit leaves the running statistics for. */
    float *empty = scratch_floats(3 * PLANES);
    for (size_t i = 0; i < 3 * PLANES; i++)
        empty[i] = i % PLANES < 2 * C ? 0 : NAN;
    struct array gathered = array_new(device, 3 * PLANES, empty);
    clnorm_merge_args m = CLNORM_MERGE_ARGS_INIT;
    m.parts = 3;
    m.gathered = gathered.buffer;
    m.statistics = merged.buffer;
    expect_status(clnorm_merge(plan, &m), CLNORM_OK, "merge");
    float *counts = array_get(&merged);
    for (size_t c = 0; c < 2 * C; c++)
        expect(counts[c] == 0, "count %g", (double)counts[c]);
    float *mean = random_floats(2, C, 1, 0), *var = random_floats(3, C, 0.1f, 1);
    struct array running_mean = array_new(device, C, mean), running_var = array_new(device, C, var);
    clnorm_commit_args k = CLNORM_COMMIT_ARGS_INIT;
    k.statistics = merged.buffer;
    k.running_mean = running_mean.buffer;
    k.running_var = running_var.buffer;
    expect_status(clnorm_commit(plan, &k), CLNORM_OK, "commit");
    expect_same(array_get(&running_mean), mean, C, "running_mean");
    expect_same(array_get(&running_var), var, C, "running_var");
    uint32_t found = 77;
    expect_status(clnorm_plan_query_found(plan, &found), CLNORM_OK, "query_found");
    expect(found == 0, "found %u in empty parts", found);
}
END_TEST

/* Counts that f32 does not hold add up exactly, up to 2^48; mean and variance are those of the union. */
START_TEST(large_counts)
{
    clnorm_device *device = test_device(_i);
    enum { C = 3, PLANES = 5 * C, PARTS = 4 };
    static const struct shape shape = {CLNORM_NC, 1, C, 0, {0, 0, 0}};
    static const int64_t counts[PARTS][C] = {{((int64_t)1 << 24) + 1, ((int64_t)1 << 40) + 12345, 1},
                                             {((int64_t)1 << 31) + 3, 7, ((int64_t)1 << 47) - 1},
                                             {33554433, ((int64_t)1 << 33) - 1, 0},
                                             {1, 1, ((int64_t)1 << 46) + 1048575}};
    clnorm_plan *plan = test_plan(device, &shape, -1);
    float parts[PARTS * PLANES];
    double want_count[C] = {0}, want_mean[C] = {0}, want_var[C] = {0};
    for (int p = 0; p < PARTS; p++) {
        for (int c = 0; c < C; c++) {
            float *plane = parts + p * PLANES + c, high = (float)counts[p][c];
            plane[0] = high;
            plane[C] = (float)(counts[p][c] - (int64_t)high);
            ck_assert((double)plane[0] + plane[C] == (double)counts[p][c]);
            plane[2 * C] = 100 + (float)p;
            plane[3 * C] = 1e-6f * (float)c;
            plane[4 * C] = 0.5f + (float)p;
            want_count[c] += (double)counts[p][c];
            want_mean[c] += (double)counts[p][c] * ((double)plane[2 * C] + plane[3 * C]);
        }
    }
    for (int c = 0; c < C; c++) {
        want_mean[c] /= want_count[c];
        for (int p = 0; p < PARTS; p++) {
            const float *plane = parts + p * PLANES + c;
            double d = (double)plane[2 * C] + plane[3 * C] - want_mean[c];
            want_var[c] += (double)counts[p][c] * (plane[4 * C] + d * d) / want_count[c];
        }
    }
    struct array gathered = array_new(device, PARTS * PLANES, parts), merged = array_new(device, PLANES, NULL);
    clnorm_merge_args m = CLNORM_MERGE_ARGS_INIT;
    m.parts = PARTS;
    m.gathered = gathered.buffer;
    m.statistics = merged.buffer;
    expect_status(clnorm_merge(plan, &m), CLNORM_OK, "merge");
    float *got = array_get(&merged);
    for (int c = 0; c < C; c++) {
        expect((double)got[c] + got[C + c] == want_count[c], "count %.0f + %.0f, not %.0f", (double)got[c],
               (double)got[C + c], want_count[c]);
        expect_near((double)got[2 * C + c] + got[3 * C + c], want_mean[c], 16 * U * sqrt(want_var[c]),
                    "mean of a union");
        expect_near(got[4 * C + c], want_var[c], 32 * U * want_var[c], "variance of a union");
    }
}
END_TEST

/* A hundred parts, each the statistics of a few rows, are the statistics of all rows. */
START_TEST(many_parts)
{
    clnorm_device *device = test_device(_i);
    enum { C = 6, PLANES = 5 * C, PARTS = 100, ROWS = 3 };
    static const struct shape few = {CLNORM_NC, ROWS, C, 0, {0, 0, 0}},
                              all = {CLNORM_NC, ROWS * PARTS, C, 0, {0, 0, 0}};
    clnorm_plan *plan = test_plan(device, &few, -1);
    float *x = random_floats(3, ROWS * PARTS * C, 1, 1e4f);
    struct array rows = array_new(device, ROWS * PARTS * C, x), gathered = array_new(device, PARTS * PLANES, NULL);
    struct array merged = array_new(device, PLANES, NULL);
    for (size_t p = 0; p < PARTS; p++) {
        clnorm_statistics_args s = CLNORM_STATISTICS_ARGS_INIT;
        clnorm_buffer *buffers[2] = {&s.x, &s.statistics};
        const clnorm_buffer whole[2] = {rows.buffer, gathered.buffer};
        const size_t sizes[2] = {ROWS * C * sizeof(float), PLANES * sizeof(float)};
        for (int k = 0; k < 2; k++) {
            *buffers[k] = whole[k];
            if (whole[k].kind == CLNORM_BUFFER_HOST)
                buffers[k]->handle = (char *)whole[k].handle + p * sizes[k];
            else
                buffers[k]->offset += p * sizes[k];
            buffers[k]->bytes = sizes[k];
        }
        expect_status(clnorm_statistics(plan, &s), CLNORM_OK, "statistics");
    }
    clnorm_merge_args m = CLNORM_MERGE_ARGS_INIT;
    m.parts = PARTS;
    m.gathered = gathered.buffer;
    m.statistics = merged.buffer;
    expect_status(clnorm_merge(plan, &m), CLNORM_OK, "merge");
    struct model *model = model_forward(&all, all.n, 1e-5, x, NULL, NULL);
    float *got = array_get(&merged);
    for (int c = 0; c < C; c++) {
        expect((double)got[c] + got[C + c] == ROWS * PARTS, "count %g", (double)got[c]);
        expect_near((double)got[2 * C + c] + got[3 * C + c], model->mean[c], 16 * U * sqrt(model->var[c]),
                    "mean of 100 parts");
        expect_near(got[4 * C + c], model->var[c], 32 * U * model->var[c], "variance of 100 parts");
    }
}
END_TEST

/* ---- few and many ------------------------------------------------------------------------------------------------ */

/* Variance 0, mean x, y exactly bias, gradients: dx exactly 0·…, dweight 0. */
START_TEST(one_value_per_channel)
{
    clnorm_device *device = test_device(_i);
    static const struct shape shapes[] = {{CLNORM_NC, 1, 1000, 0, {0, 0, 0}},
                                          {CLNORM_NCS, 1, 33, 2, {1, 1, 0}},
                                          {CLNORM_NSC, 1, 33, 3, {1, 1, 1}},
                                          {CLNORM_NC, 1, 1, 0, {0, 0, 0}}};
    for (size_t s = 0; s < 4; s++) {
        size_t c = (size_t)shapes[s].c;
        float *x = random_floats(1, c, 1000, 12345), *b = random_floats(3, c, 1, 0);
        struct layer *l = layer_new(device, &shapes[s], 1, -1, x, random_floats(2, c, 1, 0), b);
        layer_forward(l);
        layer_backward(l);
        expect_same(array_get(&l->y), b, c, "y of one value per channel");
        expect_same(array_get(&l->mean), x, c, "mean of one value");
        float *var = array_get(&l->var), *dx = array_get(&l->dx), *dweight = array_get(&l->dweight);
        for (size_t i = 0; i < c; i++) {
            expect(var[i] == 0, "variance %g of one value", (double)var[i]);
            expect(dweight[i] == 0, "dweight %g of one value", (double)dweight[i]);
            expect(dx[i] == 0, "dx %g of one value", (double)dx[i]);
        }
        expect_same(array_get(&l->dbias), layer_dy(l), c, "dbias of one value");
    }
}
END_TEST

static void against_model(clnorm_device *device, const struct shape *shape, int64_t n)
{
    size_t c = (size_t)shape->c, count = shape_elements(shape, n);
    char what[160];
    snprintf(what, sizeof what, "%s, %lld samples", shape_text(shape), (long long)n);
    float *x = random_floats(1, count, 1, 100), *w = random_floats(2, c, 1, 0), *b = random_floats(3, c, 1, 0);
    struct layer *l = layer_new(device, shape, n, -1, x, w, b);
    struct model *model = model_forward(shape, n, 1e-5, x, w, b);
    layer_forward(l);
    layer_backward(l);
    model_check_y(model, array_get(&l->y), what);
    model_check_statistics(model, array_get(&l->mean), array_get(&l->var), array_get(&l->rstd), what);
    model_check_gradients(model, model_backward(model, layer_dy(l), false), array_get(&l->dx), array_get(&l->dweight),
                          array_get(&l->dbias), what);
}

START_TEST(one_channel_of_millions)
{
    clnorm_device *device = test_device(_i);
    int64_t m = is_slow(device) ? 200003 : 3000017;
    against_model(device, &(struct shape){CLNORM_NC, m, 1, 0, {0, 0, 0}}, m);
    against_model(device, &(struct shape){CLNORM_NCS, 1, 1, 1, {m, 0, 0}}, 1);
}
END_TEST

START_TEST(many_channels)
{
    clnorm_device *device = test_device(_i);
    int64_t c = is_slow(device) ? 70001 : 300007;
    against_model(device, &(struct shape){CLNORM_NC, 2, c, 0, {0, 0, 0}}, 2);
    against_model(device, &(struct shape){CLNORM_NCS, 2, c, 1, {1, 0, 0}}, 2);
    against_model(device, &(struct shape){CLNORM_NC, 1, c, 0, {0, 0, 0}}, 1);
}
END_TEST

/* Sizes that divide nothing, and their neighbours that divide everything. */
START_TEST(odd_sizes)
{
    clnorm_device *device = test_device(_i);
    static const int64_t sizes[] = {1, 2, 3, 7, 15, 16, 17, 31, 33, 63, 64, 65, 127, 129, 255, 257};
    enum { SIZES = sizeof sizes / sizeof *sizes };
    int step = is_slow(device) ? 3 : 1;
    for (int i = 0; i < SIZES; i += step) {
        int64_t a = sizes[i], b = sizes[(i * 7 + 3) % SIZES];
        against_model(device, &(struct shape){CLNORM_NC, a, b, 0, {0, 0, 0}}, a);
        against_model(device, &(struct shape){CLNORM_NCS, 3, b, 1, {a, 0, 0}}, 3);
        against_model(device, &(struct shape){CLNORM_NSC, 3, b, 2, {a, 1, 0}}, 3);
    }
}
END_TEST

/* Every smaller batch of one plan, without another build. */
START_TEST(partial_batches)
{
    clnorm_device *device = test_device(_i);
    static const struct shape shapes[] = {
        {CLNORM_NC, 19, 6, 0, {0, 0, 0}}, {CLNORM_NCS, 19, 6, 2, {3, 5, 0}}, {CLNORM_NSC, 19, 6, 2, {3, 5, 0}}};
    for (int s = 0; s < 3; s++) {
        test_plan(device, &shapes[s], -1);
        clnorm_build_counts before, after;
        ck_assert_int_eq(clnorm_device_get_build_counts(device, &before), CLNORM_OK);
        for (int64_t n = 1; n <= 19; n += 3)
            against_model(device, &shapes[s], n);
        ck_assert_int_eq(clnorm_device_get_build_counts(device, &after), CLNORM_OK);
        expect(memcmp(&before, &after, sizeof before) == 0, "a smaller batch built a program");
    }
}
END_TEST

/* A partial batch touches what its samples hold and no more, in buffers that are larger. */
START_TEST(larger_buffers)
{
    clnorm_device *device = test_device(_i);
    static const struct shape shape = {CLNORM_NCS, 9, 4, 1, {13, 0, 0}};
    size_t part = shape_elements(&shape, 2), all = shape_elements(&shape, 9);
    float *x = random_floats(1, all, 1, 0);
    struct layer *l = layer_new(device, &shape, 9, -1, x, NULL, NULL);
    l->forward.n = l->backward.n = l->infer.n = 2;
    layer_forward(l);
    layer_backward(l);
    float *y = array_get(&l->y), *dx = array_get(&l->dx);
    expect(untouched(y + part, all - part), "y of other samples was written");
    expect(untouched(dx + part, all - part), "dx of other samples was written");
    struct model *model = model_forward(&shape, 2, 1e-5, x, NULL, NULL);
    model_check_y(model, y, "a part of larger buffers");
    layer_infer(l);
    expect(untouched(array_get(&l->y) + part, all - part), "infer wrote y of other samples");
}
END_TEST

/* ---- special values ---------------------------------------------------------------------------------------------- */

START_TEST(constant_channels)
{
    clnorm_device *device = test_device(_i);
    static const float constants[] = {1234.567f, 0.1f, 1e6f, -3e37f, 1e-30f, 0, 16777216, 1.1754944e-38f};
    enum { C = sizeof constants / sizeof *constants };
    static const struct shape shapes[] = {
        {CLNORM_NC, 1021, C, 0, {0, 0, 0}}, {CLNORM_NCS, 5, C, 1, {999, 0, 0}}, {CLNORM_NSC, 5, C, 1, {999, 0, 0}}};
    for (int s = 0; s < 3; s++) {
        size_t count = shape_elements(&shapes[s], shapes[s].n);
        float *x = scratch_floats(count), *b = random_floats(1, C, 1, 0);
        for (size_t n = 0; n < (size_t)shapes[s].n; n++) {
            for (size_t c = 0; c < C; c++) {
                for (size_t p = 0; p < shape_positions(&shapes[s]); p++)
                    x[shape_index(&shapes[s], n, c, p)] = constants[c];
            }
        }
        for (int zero_eps = 0; zero_eps < 2; zero_eps++) {
            struct layer *l = layer_new(device, &shapes[s], shapes[s].n, zero_eps ? 0 : 1e-5f, x, NULL, b);
            layer_forward(l);
            float *y = array_get(&l->y), *var = array_get(&l->var), *mean = array_get(&l->mean);
            for (size_t c = 0; c < C; c++) {
                expect(var[c] == 0, "%s: variance of the constant %g is %g", shape_text(&shapes[s]),
                       (double)constants[c], (double)var[c]);
                expect(mean[c] == constants[c], "%s: mean of the constant %a is %a", shape_text(&shapes[s]),
                       (double)constants[c], (double)mean[c]);
                for (size_t p = 0; p < shape_positions(&shapes[s]); p++) {
                    float got = y[shape_index(&shapes[s], 3, c, p)];
                    if (!expect(zero_eps ? isnan(got) : got == b[c], "%s: y of the constant %g, eps %d: %a, bias %a",
                                shape_text(&shapes[s]), (double)constants[c], !zero_eps, (double)got, (double)b[c]))
                        break;
                }
            }
        }
    }
}
END_TEST

/* With eps = 0 a channel that varies is no special case. */
START_TEST(no_eps)
{
    clnorm_device *device = test_device(_i);
    static const struct shape shape = {CLNORM_NC, 100, 7, 0, {0, 0, 0}};
    float *x = random_floats(1, 700, 1, 0);
    struct layer *l = layer_new(device, &shape, 100, 0, x, NULL, NULL);
    layer_forward(l);
    model_check_y(model_forward(&shape, 100, 0, x, NULL, NULL), array_get(&l->y), "eps 0");
}
END_TEST

/* A NaN or Inf in x makes its own channel NaN, one in dy its gradients not finite; every other bit, in all outputs, stays. */
START_TEST(nan_in_one_channel)
{
    clnorm_device *device = test_device(_i);
    static const struct shape shapes[] = {
        {CLNORM_NC, 130, 37, 0, {0, 0, 0}}, {CLNORM_NCS, 7, 9, 2, {11, 13, 0}}, {CLNORM_NSC, 7, 9, 2, {11, 13, 0}}};
    static const float bad[] = {NAN, INFINITY, -INFINITY};
    for (int s = 0; s < 3; s++) {
        size_t count = shape_elements(&shapes[s], shapes[s].n), c = (size_t)shapes[s].c;
        size_t last = shape_positions(&shapes[s]) - 1, n_last = (size_t)shapes[s].n - 1;
        const size_t channels[] = {0, c / 2, c - 1};
        struct layer *clean = layer_new(device, &shapes[s], shapes[s].n, -1, random_floats(1, count, 1, 0), NULL, NULL);
        layer_forward(clean);
        layer_backward(clean);
        for (int k = 0; k < 3; k++) {
            for (int in_dy = 0; in_dy < 2; in_dy++) {
                float *x = random_floats(1, count, 1, 0), *dy = layer_dy(clean);
                size_t at = k == 0 ? shape_index(&shapes[s], 0, channels[k], 0)
                                   : shape_index(&shapes[s], k == 1 ? n_last / 2 : n_last, channels[k],
                                                 k == 1 ? last / 2 : last);
                (in_dy ? dy : x)[at] = bad[k];
                struct layer *l = layer_new(device, &shapes[s], shapes[s].n, -1, x, NULL, NULL);
                array_put(&l->dy, dy);
                layer_forward(l);
                layer_backward(l);
                const struct {
                    const char *name;
                    const struct array *got, *want;
                    bool tensor, gradient, nan;
                } rows[] = {
                    {"y", &l->y, &clean->y, true, false, true},
                    {"dx", &l->dx, &clean->dx, true, true, true},
                    {"mean", &l->mean, &clean->mean, false, false, false},
                    {"var", &l->var, &clean->var, false, false, true},
                    {"rstd", &l->rstd, &clean->rstd, false, false, true},
                    {"running_mean", &l->running_mean, &clean->running_mean, false, false, false},
                    {"running_var", &l->running_var, &clean->running_var, false, false, true},
                    {"dweight", &l->dweight, &clean->dweight, false, true, true},
                    {"dbias", &l->dbias, &clean->dbias, false, true, false},
                };
                for (size_t r = 0; r < sizeof rows / sizeof *rows; r++) {
                    float *got = array_get(rows[r].got), *want = array_get(rows[r].want);
                    for (size_t i = 0; i < rows[r].got->count; i++) {
                        size_t channel = !rows[r].tensor                  ? i
                                         : shapes[s].layout == CLNORM_NCS ? i / (last + 1) % c
                                                                          : i % c;
                        bool hit = channel == channels[k] && (!in_dy || rows[r].gradient);
                        bool spoilt = in_dy ? !isfinite(got[i]) : isnan(got[i]);
                        bool ok = hit ? !rows[r].nan || spoilt : same_bits(got[i], want[i]);
                        if (!expect(ok, "%s, %g in %s[%zu] of channel %zu: %s[%zu] is %a, clean %a",
                                    shape_text(&shapes[s]), (double)bad[k], in_dy ? "dy" : "x", at, channels[k],
                                    rows[r].name, i, (double)got[i], (double)want[i]))
                            break;
                    }
                }
            }
        }
    }
}
END_TEST

/* ---- determinism ------------------------------------------------------------------------------------------------- */

/* The same device, plan and data, again and again, and by a second plan and a second opening of the device: the same bits. */
START_TEST(same_bits_every_time)
{
    clnorm_device *devices[2] = {test_device(_i), test_device(_i)};
    static const struct shape shapes[] = {
        {CLNORM_NC, 3001, 45, 0, {0, 0, 0}}, {CLNORM_NCS, 9, 11, 2, {41, 43, 0}}, {CLNORM_NSC, 9, 11, 2, {41, 43, 0}}};
    for (int s = 0; s < 3; s++) {
        float *first[6] = {NULL};
        size_t count = shape_elements(&shapes[s], shapes[s].n), c = (size_t)shapes[s].c;
        float *x = random_floats(1, count, 3, 1), *w = random_floats(2, c, 1, 0);
        for (int run = 0; run < 12; run++) {
            static struct layer *l;
            if (run % 4 == 0) /* three plans, the last of them on another opening of the device */
                l = layer_new(devices[run / 8], &shapes[s], shapes[s].n, -1, x, w, w);
            array_put(&l->running_mean, w);
            array_put(&l->running_var, w);
            layer_forward(l);
            layer_backward(l);
            const struct array *outputs[] = {&l->y, &l->dx, &l->dweight, &l->dbias, &l->running_mean, &l->running_var};
            for (int k = 0; k < 6; k++) {
                float *got = array_get(outputs[k]);
                if (run == 0)
                    first[k] = got;
                else
                    expect_same(got, first[k], outputs[k]->count, "a further run");
            }
        }
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("edges");
    TCase *tcase = add_case(suite, "empty", 60);
    add_device_test(tcase, no_samples);
    add_device_test(tcase, empty_parts);
    tcase = add_case(suite, "parts", 60);
    add_device_test(tcase, large_counts);
    add_device_test(tcase, many_parts);
    tcase = add_case(suite, "sizes", 100);
    add_device_test(tcase, one_value_per_channel);
    add_device_test(tcase, one_channel_of_millions);
    add_device_test(tcase, many_channels);
    add_device_test(tcase, odd_sizes);
    add_device_test(tcase, partial_batches);
    add_device_test(tcase, larger_buffers);
    tcase = add_case(suite, "values", 60);
    add_device_test(tcase, constant_channels);
    add_device_test(tcase, no_eps);
    add_device_test(tcase, nan_in_one_channel);
    tcase = add_case(suite, "determinism", 100);
    add_device_test(tcase, same_bits_every_time);
    return run_suites(&suite, 1);
}
