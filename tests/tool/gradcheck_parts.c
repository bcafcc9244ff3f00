/* The parts of `clnorm gradcheck` under test.
 *     gradcheck_parts stream SEED COUNT   prints that many values of the legacy stream, exactly (%a)
 *     gradcheck_parts compare             checks that wrong gradients are found; prints what failed, exit code 1
 *     gradcheck_parts fusions             the same of every norm with activations, residuals and types
 *     gradcheck_parts reference NORM LAYOUT N C S GROUPS LENGTH   prints mean, var, y, dx, dweight and dbias of the fp64 reference, a line
 *                                         each, of the data of seed 42 (numbers as in reference.h; %a) */
#include "bounds.h"
#include "legacy_random.h"
#include "numeric.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int print_stream(uint32_t seed, size_t count)
{
    struct legacy_random r;
    legacy_random_seed(&r, seed);
    for (size_t i = 0; i < count; i++) {
        double value;
        legacy_random_normal(&r, &value, 1);
        printf("%a\n", value);
    }
    return 0;
}

static int failures;

static void expect(bool condition, const char *what)
{
    if (!condition) {
        printf("failed: %s\n", what);
        failures++;
    }
}

/* One wrong element of one gradient, in every place: twice the limit, both ways, and NaN. */
static void expect_found(const double *right, const double *numeric, size_t count, double limit, const char *what)
{
    double wrong[CHECK_ELEMENTS];
    for (size_t i = 0; i < count; i++) {
        const double values[] = {numeric[i] + 2 * limit, numeric[i] - 2 * limit, NAN, INFINITY};
        for (size_t k = 0; k < sizeof values / sizeof *values; k++) {
            memcpy(wrong, right, count * sizeof *wrong);
            wrong[i] = values[k];
            struct worst w = compare(wrong, numeric, NULL, limit, count);
            expect(!w.pass && !(w.difference <= w.tolerance), what);
        }
    }
}

static int check_compare(void)
{
    const double limit = 1e-8, nan_limit = NAN, zero = 0;
    struct reference_problem problem = {.layout = REFERENCE_NC, .n = CHECK_N, .c = CHECK_C, .s = 1, .eps = 1e-5};
    const struct check_kind own = {.frozen = false}, frozen = {.frozen = true};
    struct check_data d;
    struct gradients right, numeric, error;
    size_t elements = reference_elements(&problem), c = problem.c;
    check_data_draw(&d, &problem, 42, &own);
    numeric_gradients(&d, &numeric, &error);
    reference_backward(&problem, d.x, d.dy, d.mean, d.var, d.weight, false, right.dx, right.dweight, right.dbias);
    expect(compare(right.dx, numeric.dx, NULL, limit, elements).pass, "dx of the formulas passes");
    expect(compare(right.dx, numeric.dx, error.dx, 0, elements).pass, "dx is within what the differences are known to");
    expect(compare(right.dweight, numeric.dweight, error.dweight, 0, c).pass, "dweight is, too");
    expect(compare(right.dbias, numeric.dbias, error.dbias, 0, c).pass, "dbias is, too");
    expect_found(right.dx, numeric.dx, elements, limit, "a wrong dx is found");
    expect_found(right.dweight, numeric.dweight, c, limit, "a wrong dweight is found");
    expect_found(right.dbias, numeric.dbias, c, limit, "a wrong dbias is found");
    expect(!compare(&zero, &zero, &nan_limit, 0, 1).pass, "a tolerance of NaN fails");
    for (size_t i = 0; i < elements; i++) /* or the checks above would let much through */
        expect(error.dx[i] < limit, "the differences are known to better than 1e-8");

    /* With constants for mean and variance the terms through them disappear: another gradient, that must not pass. */
    reference_backward(&problem, d.x, d.dy, d.mean, d.var, d.weight, true, right.dx, right.dweight, right.dbias);
    expect(!compare(right.dx, numeric.dx, NULL, limit, elements).pass, "frozen dx for batch dx is found");
    check_data_draw(&d, &problem, 42, &frozen);
    numeric_gradients(&d, &numeric, &error);
    reference_backward(&problem, d.x, d.dy, d.mean, d.var, d.weight, true, right.dx, right.dweight, right.dbias);
    expect(compare(right.dx, numeric.dx, error.dx, 0, elements).pass, "dx of frozen statistics passes");
    expect(compare(right.dweight, numeric.dweight, error.dweight, 0, c).pass, "dweight of frozen statistics passes");
    return failures ? 1 : 0;
}

/* ---- activations and residuals --------------------------------------------------------------------------------- */

enum fault { NO_DERIVATIVE, NO_BIAS, NO_Z, PLAIN_DZ, OLD_X, FAULTS };

static const char *const faults[] = {"dy in place of dy·act'", "act' of a value without the bias",
                                     "act' of a value without z", "dy as dz", "x in place of the sum"};

/* Is it a fault of this kind at all? */
static bool has_fault(const struct check_kind *k, enum fault fault)
{
    const bool act = k->activation != REFERENCE_LINEAR, after = k->residual == CHECK_AFTER;
    switch (fault) {
    case NO_Z:
    case PLAIN_DZ:
        return act && after;
    case OLD_X:
        return k->residual == CHECK_BEFORE;
    default:
        return act;
    }
}

static void faulty_gradients(const struct check_data *d, enum fault fault, struct gradients *g)
{
    struct check_data wrong = *d;
    if (fault == NO_DERIVATIVE)
        wrong.kind.activation = REFERENCE_LINEAR;
    if (fault == NO_BIAS)
        memset(wrong.bias, 0, sizeof wrong.bias);
    if (fault == NO_Z)
        memset(wrong.z, 0, sizeof wrong.z);
    if (fault == OLD_X)
        memcpy(wrong.x, d->addend, sizeof wrong.x);
    formula_gradients(&wrong, g);
    if (fault == PLAIN_DZ) {
        formula_gradients(d, g);
        memcpy(g->dz, d->dy, sizeof g->dz);
    }
}

static bool passes(const struct check_data *d, const struct gradients *got, const struct gradients *numeric,
                   const struct gradients *tolerance)
{
    const size_t elements = reference_elements(&d->problem), weights = reference_weights(&d->problem);
    return compare(got->dx, numeric->dx, tolerance->dx, 0, elements).pass &&
           compare(got->dweight, numeric->dweight, tolerance->dweight, 0, weights).pass &&
           compare(got->dbias, numeric->dbias, tolerance->dbias, 0, weights).pass &&
           compare(got->dz, numeric->dz, tolerance->dz, 0, d->kind.residual == CHECK_AFTER ? elements : 0).pass;
}

static void expect_each_found(const struct check_data *d, const struct gradients *right,
                              const struct gradients *numeric, const struct gradients *tolerance, const char *what)
{
    const size_t elements = reference_elements(&d->problem), weights = reference_weights(&d->problem);
    const size_t counts[] = {elements, weights, weights, d->kind.residual == CHECK_AFTER ? elements : 0};
    for (size_t output = 0; output < sizeof counts / sizeof *counts; output++) {
        for (size_t i = 0; i < counts[output]; i++) {
            struct gradients wrong = *right;
            double *const got[] = {wrong.dx, wrong.dweight, wrong.dbias, wrong.dz};
            const double *const want[] = {numeric->dx, numeric->dweight, numeric->dbias, numeric->dz};
            const double *const allowed[] = {tolerance->dx, tolerance->dweight, tolerance->dbias, tolerance->dz};
            const double values[] = {want[output][i] + 2 * allowed[output][i], want[output][i] - 2 * allowed[output][i],
                                     NAN};
            for (size_t k = 0; k < sizeof values / sizeof *values; k++) {
                got[output][i] = values[k];
                expect(!passes(d, &wrong, numeric, tolerance), what);
            }
        }
    }
}

/* With what a device may be off by: the formulas pass, one spoiled value fails, and so do gradients with a mistake in how they are put
 * together. */
static void check_fusion(const struct reference_problem *problem, const struct check_kind *kind)
{
    struct check_data d;
    struct gradients right, wrong, numeric, tolerance;
    char what[128];
    check_data_draw(&d, problem, 42, kind);
    numeric_gradients(&d, &numeric, &tolerance);
    formula_gradients(&d, &right);
    snprintf(what, sizeof what, "norm %d, activation %d, residual %d, type %d", (int)problem->norm,
             (int)kind->activation, (int)kind->residual, (int)kind->dtype);
    expect(passes(&d, &right, &numeric, &tolerance), what);
    add_device_bounds(&d, &tolerance);
    add_rounding(&d, &numeric, &tolerance);
    expect_each_found(&d, &right, &numeric, &tolerance, what);
    for (int fault = 0; fault < FAULTS; fault++) {
        if (!has_fault(kind, (enum fault)fault))
            continue;
        faulty_gradients(&d, (enum fault)fault, &wrong);
        snprintf(what, sizeof what, "%s is found: norm %d, activation %d, residual %d, type %d", faults[fault],
                 (int)problem->norm, (int)kind->activation, (int)kind->residual, (int)kind->dtype);
        expect(!passes(&d, &wrong, &numeric, &tolerance), what);
    }
}

static int check_fusions(void)
{
    for (int norm = REFERENCE_BATCH; norm <= REFERENCE_RMS; norm++) {
        const struct reference_problem problem = {.layout = norm % 2 ? REFERENCE_NSC : REFERENCE_NCS,
                                                  .n = CHECK_N,
                                                  .c = CHECK_C,
                                                  .s = 6,
                                                  .eps = 1e-5,
                                                  .norm = (enum reference_norm)norm,
                                                  .groups = 2,
                                                  .length = norm == REFERENCE_RMS ? 6 : CHECK_C};
        const bool rows = norm == REFERENCE_LAYER || norm == REFERENCE_RMS;
        for (int activation = REFERENCE_LINEAR; activation <= REFERENCE_SILU; activation++) {
            for (int residual = CHECK_NO_RESIDUAL; residual <= (rows ? CHECK_BEFORE : CHECK_AFTER); residual++) {
                for (int dtype = REFERENCE_F32; dtype <= REFERENCE_BF16; dtype++) {
                    const struct check_kind kind = {.rounded = true,
                                                    .dtype = (enum reference_dtype)dtype,
                                                    .y_dtype = (enum reference_dtype)dtype,
                                                    .activation = (enum reference_activation)activation,
                                                    .slope = 0.01,
                                                    .residual = (enum check_residual)residual};
                    check_fusion(&problem, &kind);
                }
            }
        }
    }
    return failures ? 1 : 0;
}

static void print_values(const double *values, size_t count)
{
    for (size_t i = 0; i < count; i++)
        printf("%a%c", values[i], i + 1 < count ? ' ' : '\n');
}

static int print_reference(const unsigned long long *number)
{
    const struct reference_problem p = {.norm = (enum reference_norm)number[0],
                                        .layout = (enum reference_layout)number[1],
                                        .n = number[2],
                                        .c = number[3],
                                        .s = number[4],
                                        .eps = 1e-3,
                                        .groups = number[5],
                                        .length = number[6]};
    struct check_data d;
    struct gradients g;
    const struct check_kind own = {.frozen = false};
    double y[CHECK_ELEMENTS];
    check_data_draw(&d, &p, 42, &own);
    reference_apply(&p, d.x, d.mean, d.var, d.weight, d.bias, y);
    reference_backward(&p, d.x, d.dy, d.mean, d.var, d.weight, false, g.dx, g.dweight, g.dbias);
    print_values(d.mean, reference_groups(&p));
    print_values(d.var, reference_groups(&p));
    print_values(y, reference_elements(&p));
    print_values(g.dx, reference_elements(&p));
    print_values(g.dweight, reference_weights(&p));
    print_values(g.dbias, reference_weights(&p));
    return 0;
}

int main(int argc, char **argv)
{
    if (argc == 4 && !strcmp(argv[1], "stream"))
        return print_stream((uint32_t)strtoul(argv[2], NULL, 10), strtoul(argv[3], NULL, 10));
    if (argc == 2 && !strcmp(argv[1], "compare"))
        return check_compare();
    if (argc == 2 && !strcmp(argv[1], "fusions"))
        return check_fusions();
    if (argc == 9 && !strcmp(argv[1], "reference")) {
        unsigned long long number[7];
        for (int i = 0; i < 7; i++)
            number[i] = strtoull(argv[2 + i], NULL, 10);
        return print_reference(number);
    }
    fprintf(
        stderr,
        "usage: gradcheck_parts stream SEED COUNT | compare | fusions | reference NORM LAYOUT N C S GROUPS LENGTH\n");
    return 2;
}
