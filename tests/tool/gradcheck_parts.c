/* The parts of `clnorm gradcheck` under test.
 *     gradcheck_parts stream SEED COUNT   prints that many values of the legacy stream, exactly (%a)
 *     gradcheck_parts compare             checks that wrong gradients are found; prints what failed, exit code 1
 *     gradcheck_parts reference NORM LAYOUT N C S GROUPS LENGTH   prints mean, var, y, dx, dweight and dbias of the fp64 reference, a line
 *                                         each, of the data of seed 42 (numbers as in reference.h; %a) */
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
    struct check_data d;
    struct gradients right, numeric, error;
    size_t elements = reference_elements(&problem), c = problem.c;
    check_data_draw(&d, &problem, 42, false, false);
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
    check_data_draw(&d, &problem, 42, true, false);
    numeric_gradients(&d, &numeric, &error);
    reference_backward(&problem, d.x, d.dy, d.mean, d.var, d.weight, true, right.dx, right.dweight, right.dbias);
    expect(compare(right.dx, numeric.dx, error.dx, 0, elements).pass, "dx of frozen statistics passes");
    expect(compare(right.dweight, numeric.dweight, error.dweight, 0, c).pass, "dweight of frozen statistics passes");
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
    double y[CHECK_ELEMENTS];
    check_data_draw(&d, &p, 42, false, false);
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
    if (argc == 9 && !strcmp(argv[1], "reference")) {
        unsigned long long number[7];
        for (int i = 0; i < 7; i++)
            number[i] = strtoull(argv[2 + i], NULL, 10);
        return print_reference(number);
    }
    fprintf(stderr, "usage: gradcheck_parts stream SEED COUNT | compare | reference NORM LAYOUT N C S GROUPS LENGTH\n");
    return 2;
}
