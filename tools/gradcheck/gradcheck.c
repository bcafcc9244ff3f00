/* clnorm gradcheck: the tutorial's exercise B3 in fp64, then the same question put to a device. */
#include "commands.h"
#include "device_check.h"
#include "double_check.h"
#include "norm_options.h"
#include "numeric.h"

#include <cases.h>
#include <stdlib.h>
#include <string.h>

#define SLOPE      0.01 /* of leaky ReLU */
#define FP64_LIMIT 1e-8 /* what the formulas may differ by */

static bool print_difference(const char *label, struct worst w)
{
    printf("%s: %.2e%s\n", label, w.difference, w.pass ? "" : " FAIL");
    return w.pass;
}

/* The same problem with every activation, and a residual after it; a sum before the norm is that norm of another x. One line each. */
static bool check_fused_formulas(const char *name, const struct reference_problem *problem)
{
    const size_t elements = reference_elements(problem), weights = reference_weights(problem);
    bool pass = true;
    printf("%s norm with an activation and a residual: the same (dx, dgamma, dbeta, dz)\n", name);
    for (int i = 0; i <= 2 * REFERENCE_SILU; i++) {
        const struct check_kind kind = {.activation = (enum reference_activation)((i + 1) / 2),
                                        .slope = SLOPE,
                                        .residual = i % 2 ? CHECK_NO_RESIDUAL : CHECK_AFTER};
        struct check_data d;
        struct gradients numeric, error, formulas;
        check_data_draw(&d, problem, 42, &kind);
        numeric_gradients(&d, &numeric, &error);
        formula_gradients(&d, &formulas);
        const struct worst w[] = {compare(formulas.dx, numeric.dx, error.dx, 0, elements),
                                  compare(formulas.dweight, numeric.dweight, error.dweight, 0, weights),
                                  compare(formulas.dbias, numeric.dbias, error.dbias, 0, weights),
                                  compare(formulas.dz, numeric.dz, error.dz, 0, i % 2 ? 0 : elements)};
        const bool within = w[0].pass && w[1].pass && w[2].pass && w[3].pass;
        printf("%s%s max diff: %.2e %.2e %.2e", case_activation_name((clnorm_activation)kind.activation),
               i % 2 ? "" : ", z after", w[0].difference, w[1].difference, w[2].difference);
        if (i % 2 == 0)
            printf(" %.2e", w[3].difference);
        printf("%s\n", within ? "" : " FAIL");
        pass = pass && within;
    }
    return pass;
}

static bool check_double_formulas(const char *name, const struct reference_problem *problem)
{
    struct worst w[DOUBLE_OUTPUTS];
    double_check_formulas(problem, FP64_LIMIT, w);
    printf("%s norm, double backward: fp64 formulas against central differences of the backward\n", name);
    bool pass = print_difference("g_x max diff", w[DOUBLE_X]);
    pass &= print_difference("g_dy max diff", w[DOUBLE_DY]);
    return print_difference("g_weight max diff", w[DOUBLE_WEIGHT]) && pass;
}

/* N = 5, D = 4: the boxed formulas against central differences, then against the stepwise form. */
static bool check_formulas(clnorm_norm norm, bool lengths)
{
    struct reference_problem problem = {.layout = REFERENCE_NC,
                                        .n = CHECK_N,
                                        .c = CHECK_C,
                                        .s = 1,
                                        .eps = 1e-5,
                                        .norm = (enum reference_norm)norm,
                                        .groups = 2,
                                        .length = CHECK_C};
    const struct check_kind alone = {.slope = SLOPE};
    struct check_data d;
    struct gradients numeric, error, boxed, stepwise;
    const char *shape = "N = 5, D = 4";
    if (lengths || norm == CLNORM_GROUP ||
        norm == CLNORM_INSTANCE) { /* of (N, D) they have groups of two values or one: x̂ = ±1 or 0 */
        problem.layout = REFERENCE_NCS;
        problem.s = 3;
        shape = lengths ? "N = 5, C = 4, 3 positions, lengths 3, 0, 2, 1 and 3" : "N = 5, C = 4, 3 positions";
        problem.lengths = lengths ? check_lengths : NULL;
    }
    size_t elements = reference_elements(&problem), weights = reference_weights(&problem);
    check_data_draw(&d, &problem, 42, &alone);
    numeric_gradients(&d, &numeric, &error);
    memset(&boxed, 0, sizeof boxed); /* of padding */
    memset(&stepwise, 0, sizeof stepwise);
    reference_backward(&problem, d.x, d.dy, d.mean, d.var, d.weight, false, boxed.dx, boxed.dweight, boxed.dbias);
    reference_backward_stepwise(&problem, d.x, d.dy, d.mean, d.var, d.weight, stepwise.dx, stepwise.dweight,
                                stepwise.dbias);
    /* A sample of one position is a group of two values, whose gradient the differences know less well. */
    const struct gradients *known = lengths ? &error : NULL;
    printf("%s norm: fp64 formulas against central differences (%s, seed 42, step %g)\n", norm_name(norm), shape,
           CHECK_STEP);
    bool pass =
        print_difference("dx max diff", compare(boxed.dx, numeric.dx, known ? known->dx : NULL, FP64_LIMIT, elements));
    pass &= print_difference(
        "dgamma max diff", compare(boxed.dweight, numeric.dweight, known ? known->dweight : NULL, FP64_LIMIT, weights));
    pass &= print_difference("dbeta max diff",
                             compare(boxed.dbias, numeric.dbias, known ? known->dbias : NULL, FP64_LIMIT, weights));
    printf("%s norm: fp64 formulas against the stepwise form (dvar, then dmean, then dx)\n", norm_name(norm));
    pass &= print_difference("stepwise dx diff", compare(boxed.dx, stepwise.dx, NULL, FP64_LIMIT, elements));
    pass &=
        print_difference("stepwise dgamma diff", compare(boxed.dweight, stepwise.dweight, NULL, FP64_LIMIT, weights));
    pass &= print_difference("stepwise dbeta diff", compare(boxed.dbias, stepwise.dbias, NULL, FP64_LIMIT, weights));
    pass &= check_fused_formulas(norm_name(norm), &problem);
    return (lengths || !double_has(norm) || check_double_formulas(norm_name(norm), &problem)) && pass;
}

static int check_all_devices(const struct cli_command *self, const struct check_question *q)
{
    uint32_t count = 0;
    int worst = CLI_OK;
    clnorm_status status = clnorm_device_list(0, NULL, &count);
    for (uint32_t i = 0; i < count && status == CLNORM_OK; i++) {
        clnorm_device_info info = CLNORM_DEVICE_INFO_INIT;
        clnorm_device *device = NULL;
        status = clnorm_device_list(i, &info, &count);
        if (status != CLNORM_OK)
            break;
        clnorm_status opened = clnorm_device_open(info.id, &device);
        int code = opened == CLNORM_OK ? device_check(self, device, q) : cli_status(self, opened, info.id);
        if (code != CLI_OK) /* the others are still of interest */
            worst = CLI_FAILED;
        clnorm_device_destroy(device);
    }
    return status == CLNORM_OK ? worst : cli_status(self, status, "the devices cannot be listed");
}

/* device: NULL for all. */
static int check(const struct cli_command *self, const struct check_question *q, clnorm_device *device)
{
    bool formulas = true;
    for (int norm = CLNORM_BATCH; norm <= CLNORM_RMS; norm++) {
        if ((q->all && !(q->lengths && norm_is_of_rows((clnorm_norm)norm))) || (!q->all && norm == (int)q->norm.norm))
            formulas &= check_formulas((clnorm_norm)norm, q->lengths);
    }
    int code = device ? device_check(self, device, q) : check_all_devices(self, q);
    if (code == CLI_OK && !formulas)
        code = CLI_FAILED;
    printf("\ngradcheck: %s\n", code == CLI_OK ? "all pass" : "FAILED");
    return code;
}

static int usage(const struct cli_command *self, const struct norm_typed *typed,
                 const struct fusion_typed *typed_fusion, struct check_question *q)
{
    char error[256];
    struct norm_typed of_one = *typed;
    q->all = !typed->norm || !strcmp(typed->norm, "all");
    if (q->all)
        of_one.norm = NULL;
    else if (!norm_parse(typed->norm, &q->norm.norm))
        return cli_error(self, "--norm is '%s'; it must be " NORM_NAMES ", or all", typed->norm);
    if (!norm_typed_parse(&of_one, self, &q->norm) || !fusion_typed_parse(typed_fusion, self, &q->fusion))
        return CLI_USAGE;
    struct norm_choice complete = q->norm;
    if (complete.norm == CLNORM_GROUP && !complete.groups)
        complete.groups = 1;
    if (q->all && typed->groups)
        return cli_error(self, "%s is given; it goes with --norm group alone", norm_option_words.groups);
    if (q->all && typed->dims)
        return cli_error(self, "%s is given; it goes with --norm layer and rms alone", norm_option_words.dims);
    if (q->all && typed->batch)
        return cli_error(self, "%s is given; it goes with --norm batch alone", norm_option_words.batch);
    if (!norm_complete(&complete, CHECK_C, CLNORM_MAX_SPATIAL, &norm_option_words, error, sizeof error))
        return cli_error(self, "%s", error);
    if (!q->all && q->fusion.residual == CLNORM_RESIDUAL_BEFORE && !norm_is_of_rows(q->norm.norm))
        return cli_error(self, "--residual is before; it goes with layer and RMS norm, and this is %s norm",
                         norm_name(q->norm.norm));
    if (q->from_y && q->fusion.activation != CLNORM_NO_ACTIVATION && q->fusion.activation != CLNORM_LEAKY_RELU)
        return cli_error(self, "--from-y is given; it goes with no activation and with --act leaky");
    if (q->lengths && !q->all && norm_is_of_rows(q->norm.norm))
        return cli_error(self, "--lengths is given; it goes with batch, group and instance norm, and this is %s norm",
                         norm_name(q->norm.norm));
    if (q->lengths && (q->from_y || typed->batch))
        return cli_error(self, "--lengths is given; it does not go with --from-y and --virtual-batch");
    q->fused = q->from_y || q->fusion.activation != CLNORM_NO_ACTIVATION || q->fusion.residual != CLNORM_NO_RESIDUAL;
    return CLI_OK;
}

int cmd_gradcheck(const struct cli_command *self, int argc, const char **argv)
{
    char *name = NULL;
    struct norm_typed typed = {NULL, NULL, NULL, NULL};
    struct fusion_typed typed_fusion = {NULL, NULL, NULL, NULL, NULL};
    struct check_question q = {.all = true};
    clnorm_device *device = NULL;
    int code, from_y = 0, lengths = 0;
    struct poptOption table[] = {{"device", 0, POPT_ARG_STRING, &name, 0,
                                  "all, auto (the default), cpu, opencl, opencl:P.D or part of a name", "DEVICE"},
                                 NORM_OPTIONS(&typed, "batch, layer, group, instance, rms or all (the default)"),
                                 FUSION_OPTIONS(&typed_fusion),
                                 {"from-y", 0, POPT_ARG_NONE, &from_y, 0, "of plans whose backward is from y", NULL},
                                 {"lengths", 0, POPT_ARG_NONE, &lengths, 0, "of samples with lengths", NULL},
                                 POPT_TABLEEND};
    if (cli_parse(self, table, argc, argv, &code)) {
        q.from_y = from_y;
        q.lengths = lengths;
        code = usage(self, &typed, &typed_fusion, &q);
        const bool all = name && !strcmp(name, "all");
        if (code == CLI_OK) {
            clnorm_status status = all ? CLNORM_OK : clnorm_device_open(name ? name : "auto", &device);
            code = status == CLNORM_OK ? check(self, &q, device) : cli_status(self, status, "--device");
            clnorm_device_destroy(device);
        }
    }
    norm_typed_free(&typed);
    fusion_typed_free(&typed_fusion);
    free(name);
    return code;
}
