/* The table of cases is what it is said to be, and the judge sees every kind of failure. On the CPU path. */
#include "run.h"

#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- the table ------------------------------------------------------------------------------------------------- */

static int by_name(const void *a, const void *b)
{
    return strcmp((*(const struct clnorm_case *const *)a)->name, (*(const struct clnorm_case *const *)b)->name);
}

START_TEST(names_are_unique_and_whole)
{
    const size_t count = cases_count(CASE_FULL);
    const struct clnorm_case **sorted = malloc(count * sizeof(const struct clnorm_case *));
    ck_assert_ptr_nonnull(sorted);
    for (size_t i = 0; i < count; i++) {
        sorted[i] = cases_get(CASE_FULL, i);
        ck_assert_uint_lt(strlen(sorted[i]->name), sizeof sorted[i]->name - 1);
    }
    qsort(sorted, count, sizeof(const struct clnorm_case *), by_name);
    for (size_t i = 1; i < count; i++)
        ck_assert_str_ne(sorted[i - 1]->name, sorted[i]->name);
    free(sorted);
}
END_TEST

START_TEST(suites_are_of_their_size)
{
    ck_assert_uint_ge(cases_count(CASE_FULL), 1500);
    ck_assert_uint_ge(cases_count(CASE_SHORT), 200);
    ck_assert_uint_le(cases_count(CASE_SHORT), 520);
    for (size_t i = 0; i < cases_count(CASE_SHORT); i++)
        ck_assert(cases_get(CASE_SHORT, i)->in_short);
}
END_TEST

/* Both suites have every value of every field. */
START_TEST(suites_leave_nothing_out)
{
    const enum case_suite suite = (enum case_suite)_i;
    size_t layouts[3] = {0}, modes[CASE_MODES] = {0}, affines[CASE_AFFINES] = {0}, data[CASE_DATA_KINDS] = {0};
    size_t outputs[CASE_OUTPUTS] = {0}, omitted[CASE_OUTPUTS] = {0}, dims[4] = {0}, variances[2] = {0};
    size_t averages[2] = {0}, guards[2] = {0}, in_place[2] = {0}, empty = 0, partial = 0, offset = 0, parts = 0,
           eps = 0;
    size_t one_value = 0, one_channel = 0, types[6] = {0}, activations[5] = {0}, residuals[3] = {0}, by[CASE_BYS] = {0},
           from_y[2] = {0}, ratios[2] = {0};
    size_t sums[CASE_SUM_PLACES] = {0}, added[4] = {0}, ragged = 0;
    for (size_t i = 0; i < cases_count(suite); i++) {
        const struct clnorm_case *c = cases_get(suite, i);
        types[c->dtype]++;
        types[3 + c->y_dtype]++;
        activations[c->activation]++;
        residuals[c->residual]++;
        by[c->by]++;
        from_y[c->from_y]++;
        ratios[c->bias_ratio > 0]++;
        sums[c->sum]++;
        ragged += c->virtual_batch && c->n % c->virtual_batch != 0;
        for (int k = 0; k < 4; k++)
            added[k] += c->accumulate >> k & 1;
        layouts[c->layout]++;
        modes[c->mode]++;
        affines[c->affine]++;
        data[c->data]++;
        dims[c->spatial_dims]++;
        variances[c->running.variance]++;
        averages[c->running.average]++;
        guards[c->running.guard]++;
        in_place[c->in_place]++;
        empty += c->n == 0;
        partial += c->n && c->n < c->plan_n;
        offset += c->offset > 0;
        parts += c->parts > 1;
        eps += c->eps != 1e-5f;
        one_value += case_elements(c) == (size_t)c->c;
        one_channel += c->c == 1;
        for (int o = 0; o < CASE_OUTPUTS; o++) {
            outputs[o] += case_has(c, (enum case_output)o);
            omitted[o] += (c->omit & CASE_BIT(o)) != 0;
        }
    }
#define ALL(counts)                                                                                                    \
    for (size_t i = 0; i < sizeof(counts) / sizeof *(counts); i++)                                                     \
    ck_assert_msg((counts)[i] > 0, #counts "[%zu] has no case", i)
    ALL(layouts);
    ALL(modes);
    ALL(affines);
    ALL(data);
    ALL(outputs);
    ALL(types);
    ALL(activations);
    ALL(residuals);
    ALL(by);
    ALL(from_y);
    ALL(ratios);
    ALL(dims);
    ALL(variances);
    ALL(averages);
    ALL(guards);
    ALL(in_place);
#undef ALL
    const size_t others[] = {empty, partial, offset, parts, eps, one_value, one_channel, ragged};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        ck_assert_msg(others[i] > 0, "others[%zu] has no case", i);
    for (int o = CASE_MEAN; o <= CASE_DBIAS && suite == CASE_FULL; o++)
        ck_assert_msg(omitted[o] > 0, "%s is left out nowhere", case_output_name((enum case_output)o));
    for (int place = 0; place < CASE_SUM_PLACES && suite == CASE_FULL; place++)
        ck_assert_msg(sums[place] > 0, "sum %d", place);
    for (int k = 0; k < 4 && suite == CASE_FULL; k++)
        ck_assert_msg(added[k] > 0, "accumulate %d", k);
}
END_TEST

static bool is_row_norm(clnorm_norm norm)
{
    return norm == CLNORM_LAYER || norm == CLNORM_RMS;
}

/* Both suites have every norm in every layout and mode that it has; the full one every kind of data, number of normalized
 * dimensions, and one group, one channel a group and what lies between. */
START_TEST(suites_leave_no_norm_out)
{
    const enum case_suite suite = (enum case_suite)(_i / 5);
    const clnorm_norm norm = (clnorm_norm)(_i % 5);
    size_t layouts[3] = {0}, modes[CASE_MODES] = {0}, data[CASE_DATA_KINDS] = {0}, dims[5] = {0}, groups[3] = {0};
    for (size_t i = 0; i < cases_count(suite); i++) {
        const struct clnorm_case *c = cases_get(suite, i);
        if (c->norm != norm)
            continue;
        ck_assert_msg(case_norm_has(norm, c->mode), "%s", c->name);
        layouts[c->layout]++;
        modes[c->mode]++;
        data[c->data]++;
        dims[c->normalized_dims]++;
        groups[c->groups == 1 ? 0 : c->groups == c->c ? 1 : 2]++;
    }
    for (int layout = 0; layout < 3; layout++)
        ck_assert_msg(layouts[layout] > 0, "layout %d", layout);
    for (int mode = 0; mode < CASE_MODES; mode++)
        ck_assert_int_eq(modes[mode] > 0, case_norm_has(norm, (enum case_mode)mode));
    for (int kind = 0; kind < CASE_DATA_KINDS && suite == CASE_FULL; kind++)
        ck_assert_msg(data[kind] > 0, "%s", case_data_name((enum case_data)kind));
    for (int k = 1; k <= 4 && suite == CASE_FULL && is_row_norm(norm); k++)
        ck_assert_msg(dims[k] > 0, "%d dimensions", k);
    for (int k = 0; k < 3 && suite == CASE_FULL && norm == CLNORM_GROUP; k++)
        ck_assert_msg(groups[k] > 0, "groups[%d]", k);
}
END_TEST

/* ---- the judge ------------------------------------------------------------------------------------------------- */

static clnorm_device *device;

static void open_cpu(void)
{
    ck_assert_int_eq(clnorm_device_open("cpu", &device), CLNORM_OK);
}

static void close_cpu(void)
{
    clnorm_device_destroy(device);
}

/* The first case of batch norm (of sum: of layer norm) with this output, small and with finite values. */
static struct case_problem *problem_with(enum case_output output)
{
    for (size_t i = 0; i < cases_count(CASE_FULL); i++) {
        const struct clnorm_case *c = cases_get(CASE_FULL, i);
        const bool fused = output == CASE_SUM || output == CASE_DZ; /* which those of 13 channels have not */
        if (c->norm == (output == CASE_SUM ? CLNORM_LAYER : CLNORM_BATCH) && c->c == (fused ? 12 : 13) && c->n > 1 &&
            c->data == CASE_DATA_NORMAL && case_has(c, output)) {
            struct case_problem *p = case_prepare(c);
            ck_assert_ptr_nonnull(p);
            return p;
        }
    }
    ck_abort_msg("no case has %s", case_output_name(output));
    return NULL;
}

START_TEST(injections_are_seen)
{
    const struct case_injection injection = {(enum case_output)(_i / 2), _i % 2};
    struct case_problem *p = problem_with(injection.output);
    struct case_result result;
    ck_assert_msg(case_execute(p, device, NULL, NULL, NULL, &result), "%s", result.message);
    ck_assert(!case_execute(p, device, &injection, NULL, NULL, &result));
    for (int o = 0; o < CASE_OUTPUTS; o++) {
        if (result.outputs[o].present)
            ck_assert_int_eq(result.outputs[o].pass, o != (int)injection.output);
    }
    ck_assert_ptr_nonnull(strstr(result.message, case_output_name(injection.output)));
    case_problem_free(p);
}
END_TEST

/* A value just beyond its tolerance fails, one just within passes. */
START_TEST(tolerance_is_the_limit)
{
    struct case_problem *p = problem_with(CASE_Y);
    struct case_run *run = NULL;
    struct case_result result;
    ck_assert(case_execute(p, device, NULL, NULL, &run, &result));
    const size_t i = p->count[CASE_Y] - 1;
    const double tolerance = p->tolerance[CASE_Y][case_part(p, CASE_Y, i)];
    ck_assert_double_gt(tolerance, 0);
    for (int sign = -1; sign <= 1; sign += 2) {
        run->value[CASE_Y][i] = p->reference[CASE_Y][i] + sign * 0.999 * tolerance;
        case_judge(run, NULL, NULL, &result);
        ck_assert_msg(result.pass, "%s", result.message);
        run->value[CASE_Y][i] = p->reference[CASE_Y][i] + sign * 1.001 * tolerance;
        case_judge(run, NULL, NULL, &result);
        ck_assert(!result.pass);
        ck_assert_uint_eq(result.outputs[CASE_Y].index, i);
    }
    run->value[CASE_Y][i] = -INFINITY;
    case_judge(run, NULL, NULL, &result);
    ck_assert(!result.pass);
    case_run_free(run);
    case_problem_free(p);
}
END_TEST

/* In 16 bits an output may be any rounding of what the tolerance allows before it, and nothing beside. */
START_TEST(roundings_are_the_limit)
{
    struct clnorm_case c = CLNORM_CASE_INIT;
    c.n = c.plan_n = 50;
    c.c = 3;
    c.dtype = c.y_dtype = _i ? CLNORM_BF16 : CLNORM_F16;
    case_set_name(&c);
    const enum reference_dtype dtype = (enum reference_dtype)c.dtype;
    struct case_problem *p = case_prepare(&c);
    ck_assert_ptr_nonnull(p);
    struct case_run *run = NULL;
    struct case_result result;
    ck_assert_msg(case_execute(p, device, NULL, NULL, &run, &result), "%s", result.message);
    for (size_t i = 0; i < p->count[CASE_Y]; i++) {
        const double want = p->reference[CASE_Y][i], allowed = case_allowed(p, CASE_Y, i), kept = run->value[CASE_Y][i];
        const double low = reference_round(dtype, want - allowed), high = reference_round(dtype, want + allowed);
        const double step = reference_ulp(dtype, want);
        const double tried[] = {low,      high, reference_round(dtype, low - step), reference_round(dtype, high + step),
                                INFINITY, NAN};
        for (size_t k = 0; k < sizeof tried / sizeof *tried; k++) {
            run->value[CASE_Y][i] = tried[k];
            case_judge(run, NULL, NULL, &result);
            ck_assert_msg(result.pass == (k < 2), "%a for %a (%zu)", tried[k], want, k);
        }
        run->value[CASE_Y][i] = kept;
    }
    case_run_free(run);
    case_problem_free(p);
}
END_TEST

START_TEST(distance_to_the_cpu_path_is_seen)
{
    const enum case_output output = (enum case_output)_i;
    struct case_problem *p = problem_with(output);
    struct case_run *cpu = NULL;
    struct case_result result;
    ck_assert(case_execute(p, device, NULL, NULL, &cpu, &result));
    ck_assert(case_execute(p, device, NULL, cpu, NULL, &result));
    const double tolerance = p->tolerance[output][case_part(p, output, 0)];
    cpu->value[output][0] += tolerance > 0 ? 2.1 * tolerance : 1;
    ck_assert(!case_execute(p, device, NULL, cpu, NULL, &result));
    ck_assert_ptr_nonnull(strstr(result.message, "off the CPU path"));
    cpu->value[output][0] = NAN;
    ck_assert(!case_execute(p, device, NULL, cpu, NULL, &result));
    case_run_free(cpu);
    case_problem_free(p);
}
END_TEST

/* Every float that is not an output must stay as it was, every float of an output must be written. */
START_TEST(memory_is_watched)
{
    static const enum case_output outputs[] = {CASE_Y, CASE_DX, CASE_STATISTICS_MEAN, CASE_SUMS_DY};
    struct case_problem *p = problem_with(outputs[_i]);
    struct case_run *run = NULL;
    struct case_result result;
    ck_assert(case_execute(p, device, NULL, NULL, &run, &result));
    size_t watched = 0;
    for (int s = 0; s < SLOTS; s++) {
        struct slot *slot = &run->slots[s];
        for (size_t k = 0; slot->memory && k < slot->total; k++) {
            const bool written = k >= slot->before && k < slot->before + slot->written;
            if (written && slot->some)
                continue;
            const double kept = slot_get(slot, slot->back, k);
            const bool was_fill = slot_is_fill(slot, slot->back, k);
            if (written)
                slot_put_fill(slot, slot->back, k);
            else
                slot_put(slot, slot->back, k, isnan(kept) ? 0 : 1 + 2 * kept);
            case_judge(run, NULL, NULL, &result);
            ck_assert_msg(!result.pass, "%s[%zu]", case_slot_name((enum case_slot)s), k);
            slot_put(slot, slot->back, k, kept);
            if (was_fill)
                slot_put_fill(slot, slot->back, k);
            watched++;
        }
    }
    case_judge(run, NULL, NULL, &result);
    ck_assert_msg(result.pass, "%s", result.message);
    ck_assert_uint_gt(watched, p->elements);
    case_run_free(run);
    case_problem_free(p);
}
END_TEST

/* Where a channel is NaN, a number there fails, and so does one bit of another channel that is not that of a clean run. */
START_TEST(poisoned_channels)
{
    struct clnorm_case c = CLNORM_CASE_INIT;
    c.n = c.plan_n = 50;
    c.c = 3;
    c.data = CASE_DATA_NAN_LAST;
    case_set_name(&c);
    struct case_problem *p = case_prepare(&c);
    ck_assert_ptr_nonnull(p);
    ck_assert_uint_eq(p->poisoned, 2);
    ck_assert(isnan(p->reference[CASE_Y][2]) && isfinite(p->reference[CASE_Y][0]));
    struct case_run *run = NULL;
    struct case_result result;
    ck_assert_msg(case_execute(p, device, NULL, NULL, &run, &result), "%s", result.message);
    run->value[CASE_Y][2] = 0;
    case_judge(run, NULL, NULL, &result);
    ck_assert(!result.pass);
    case_run_free(run);
    p->clean->input[INPUT_X][0] += 1; /* the twin is no longer the same */
    ck_assert(!case_execute(p, device, NULL, NULL, NULL, &result));
    ck_assert_ptr_nonnull(strstr(result.message, "without the NaN or Inf in channel 2"));
    case_problem_free(p);
}
END_TEST

static float *copy_of(const float *values, size_t count)
{
    float *copy = values ? malloc(count * sizeof *copy) : NULL;
    if (copy)
        memcpy(copy, values, count * sizeof *copy);
    return copy;
}

/* From the inputs that the table makes: what the table makes of them. */
START_TEST(given_inputs)
{
    struct clnorm_case c = CLNORM_CASE_INIT;
    c.n = c.plan_n = 50;
    c.c = 3;
    c.mode = (enum case_mode)_i;
    struct case_problem *want = case_prepare(&c);
    ck_assert_ptr_nonnull(want);
    const size_t elements = case_elements(&c);
    struct case_inputs inputs = {.x = copy_of(want->input[INPUT_X], elements),
                                 .dy = copy_of(want->input[INPUT_DY], elements),
                                 .weight = copy_of(want->input[INPUT_WEIGHT], 3),
                                 .bias = copy_of(want->input[INPUT_BIAS], 3),
                                 .running_mean = copy_of(want->input[INPUT_RUNNING_MEAN], 3),
                                 .running_var = copy_of(want->input[INPUT_RUNNING_VAR], 3),
                                 .mean = copy_of(want->input[INPUT_MEAN], 3),
                                 .rstd = copy_of(want->input[INPUT_RSTD], 3),
                                 .v_dx = copy_of(want->input[INPUT_V_DX], elements),
                                 .v_dweight = copy_of(want->input[INPUT_V_DWEIGHT], 3),
                                 .v_dbias = copy_of(want->input[INPUT_V_DBIAS], 3)};
    struct case_problem *got = case_prepare_given(&c, &inputs);
    ck_assert_ptr_nonnull(got);
    for (int o = 0; o < CASE_OUTPUTS; o++) {
        ck_assert_uint_eq(got->count[o], want->count[o]);
        for (size_t i = 0; i < want->count[o]; i++) {
            ck_assert_double_eq(got->reference[o][i], want->reference[o][i]);
            ck_assert_double_eq(got->tolerance[o][case_part(got, (enum case_output)o, i)],
                                want->tolerance[o][case_part(want, (enum case_output)o, i)]);
        }
    }
    case_problem_free(got);
    inputs = (struct case_inputs){.bias = copy_of(want->input[INPUT_BIAS], 3)};
    ck_assert_ptr_null(case_prepare_given(&c, &inputs)); /* x is missing */
    case_problem_free(want);
}
END_TEST

/* Outputs that must be exact have no tolerance. */
START_TEST(exact_outputs)
{
    struct clnorm_case c = CLNORM_CASE_INIT;
    c.n = c.plan_n = 50;
    c.c = 3;
    c.affine = CASE_AFFINE_NO_WEIGHT;
    c.data = CASE_DATA_CONSTANT_0_1;
    struct case_problem *p = case_prepare(&c);
    ck_assert_ptr_nonnull(p);
    ck_assert_double_eq(p->reference[CASE_VAR][1], 0);
    ck_assert_double_eq(p->tolerance[CASE_VAR][1], 0);
    ck_assert_double_eq(p->reference[CASE_MEAN][0], (double)0.1f);
    ck_assert_double_eq(p->tolerance[CASE_MEAN][0], 0);
    ck_assert_double_eq(p->reference[CASE_Y][4], (double)p->input[INPUT_BIAS][1]);
    ck_assert_double_eq(p->tolerance[CASE_Y][1], 0);
    case_problem_free(p);
    c.data = CASE_DATA_EXACT_INTEGERS;
    p = case_prepare(&c);
    ck_assert_ptr_nonnull(p);
    ck_assert_double_eq(p->tolerance[CASE_MEAN][1], 0);
    ck_assert_double_gt(p->tolerance[CASE_VAR][1], 0);
    case_problem_free(p);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("cases");
    TCase *table = tcase_create("table"), *judge = tcase_create("judge");
    tcase_add_test(table, names_are_unique_and_whole);
    tcase_add_test(table, suites_are_of_their_size);
    tcase_add_loop_test(table, suites_leave_nothing_out, CASE_SHORT, CASE_FULL + 1);
    tcase_add_loop_test(table, suites_leave_no_norm_out, 0, 10);
    tcase_add_checked_fixture(judge, open_cpu, close_cpu);
    tcase_set_timeout(judge, 60);
    tcase_add_loop_test(judge, injections_are_seen, 0, 2 * CASE_OUTPUTS);
    tcase_add_test(judge, tolerance_is_the_limit);
    tcase_add_loop_test(judge, roundings_are_the_limit, 0, 2);
    tcase_add_loop_test(judge, distance_to_the_cpu_path_is_seen, 0, CASE_OUTPUTS);
    tcase_add_loop_test(judge, memory_is_watched, 0, 4);
    tcase_add_test(judge, poisoned_channels);
    tcase_add_loop_test(judge, given_inputs, 0, CASE_MODES);
    tcase_add_test(judge, exact_outputs);
    suite_add_tcase(suite, table);
    suite_add_tcase(suite, judge);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
