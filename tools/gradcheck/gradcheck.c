/* clnorm gradcheck: the tutorial's exercise B3 in fp64, then the same question put to a device. */
#include "commands.h"
#include "device_check.h"
#include "norm.h"
#include "numeric.h"

#include <stdlib.h>
#include <string.h>

#define FP64_LIMIT 1e-8 /* what the formulas may differ by */

static bool print_difference(const char *label, struct worst w)
{
    printf("%s: %.2e%s\n", label, w.difference, w.pass ? "" : " FAIL");
    return w.pass;
}

/* N = 5, D = 4: the boxed formulas against central differences, then against the stepwise form. */
static bool check_formulas(clnorm_norm norm)
{
    struct reference_problem problem = {.layout = REFERENCE_NC,
                                        .n = CHECK_N,
                                        .c = CHECK_C,
                                        .s = 1,
                                        .eps = 1e-5,
                                        .norm = (enum reference_norm)norm,
                                        .groups = 2,
                                        .length = CHECK_C};
    struct check_data d;
    struct gradients numeric, error, boxed, stepwise;
    const char *shape = "N = 5, D = 4";
    if (norm == CLNORM_GROUP ||
        norm == CLNORM_INSTANCE) { /* of (N, D) they have groups of two values or one: x̂ = ±1 or 0 */
        problem.layout = REFERENCE_NCS;
        problem.s = 3;
        shape = "N = 5, C = 4, 3 positions";
    }
    size_t elements = reference_elements(&problem), weights = reference_weights(&problem);
    check_data_draw(&d, &problem, 42, false, false);
    numeric_gradients(&d, &numeric, &error);
    reference_backward(&problem, d.x, d.dy, d.mean, d.var, d.weight, false, boxed.dx, boxed.dweight, boxed.dbias);
    reference_backward_stepwise(&problem, d.x, d.dy, d.mean, d.var, d.weight, stepwise.dx, stepwise.dweight,
                                stepwise.dbias);
    printf("%s norm: fp64 formulas against central differences (%s, seed 42, step %g)\n", norm_name(norm), shape,
           CHECK_STEP);
    bool pass = print_difference("dx max diff", compare(boxed.dx, numeric.dx, NULL, FP64_LIMIT, elements));
    pass &= print_difference("dgamma max diff", compare(boxed.dweight, numeric.dweight, NULL, FP64_LIMIT, weights));
    pass &= print_difference("dbeta max diff", compare(boxed.dbias, numeric.dbias, NULL, FP64_LIMIT, weights));
    printf("%s norm: fp64 formulas against the stepwise form (dvar, then dmean, then dx)\n", norm_name(norm));
    pass &= print_difference("stepwise dx diff", compare(boxed.dx, stepwise.dx, NULL, FP64_LIMIT, elements));
    pass &=
        print_difference("stepwise dgamma diff", compare(boxed.dweight, stepwise.dweight, NULL, FP64_LIMIT, weights));
    pass &= print_difference("stepwise dbeta diff", compare(boxed.dbias, stepwise.dbias, NULL, FP64_LIMIT, weights));
    return pass;
}

/* What is asked for. */
struct question {
    bool all;
    clnorm_norm only;
};

static int check_all_devices(const struct cli_command *self, const struct question *q)
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
        int code =
            opened == CLNORM_OK ? device_check(self, device, q->all, q->only) : cli_status(self, opened, info.id);
        if (code != CLI_OK) /* the others are still of interest */
            worst = CLI_FAILED;
        clnorm_device_destroy(device);
    }
    return status == CLNORM_OK ? worst : cli_status(self, status, "the devices cannot be listed");
}

/* device: NULL for all. */
static int check(const struct cli_command *self, const struct question *q, clnorm_device *device)
{
    bool formulas = true;
    for (int norm = CLNORM_BATCH; norm <= CLNORM_RMS; norm++) {
        if (q->all || norm == (int)q->only)
            formulas &= check_formulas((clnorm_norm)norm);
    }
    int code = device ? device_check(self, device, q->all, q->only) : check_all_devices(self, q);
    if (code == CLI_OK && !formulas)
        code = CLI_FAILED;
    printf("\ngradcheck: %s\n", code == CLI_OK ? "all pass" : "FAILED");
    return code;
}

int cmd_gradcheck(const struct cli_command *self, int argc, const char **argv)
{
    char *name = NULL, *norm = NULL;
    struct question q = {true, CLNORM_BATCH};
    clnorm_device *device = NULL;
    int code;
    struct poptOption table[] = {
        {"device", 0, POPT_ARG_STRING, &name, 0, "all, auto (the default), cpu, opencl, opencl:P.D or part of a name",
         "DEVICE"},
        {"norm", 0, POPT_ARG_STRING, &norm, 0, "batch, layer, group, instance, rms or all (the default)", "NORM"},
        POPT_TABLEEND};
    bool go_on = cli_parse(self, table, argc, argv, &code);
    q.all = !norm || !strcmp(norm, "all");
    if (go_on && !q.all && !norm_parse(norm, &q.only)) {
        code = cli_error(self, "--norm is '%s'; it must be " NORM_NAMES ", or all", norm);
    } else if (go_on) {
        bool all = name && !strcmp(name, "all");
        clnorm_status status = all ? CLNORM_OK : clnorm_device_open(name ? name : "auto", &device);
        code = status == CLNORM_OK ? check(self, &q, device) : cli_status(self, status, "--device");
        clnorm_device_destroy(device);
    }
    free(name);
    free(norm);
    return code;
}
