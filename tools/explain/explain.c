/* clnorm explain: what a device would run for a shape, why, and what it moves. */
#include "bench/shapes.h"
#include "commands.h"
#include "fusion_options.h"
#include "norm_options.h"

#include <stdlib.h>

static int explain(const struct cli_command *self, const char *name, const struct bench_shape *shape,
                   const struct fusion *fusion, bool from_y, bool twice, bool lengths, bool mask)
{
    clnorm_device *device = NULL;
    clnorm_plan *plan = NULL;
    clnorm_desc desc = bench_shape_desc(shape);
    fusion_set_desc(fusion, &desc);
    desc.backward_from_y = from_y;
    desc.double_backward = twice;
    desc.lengths = lengths;
    desc.activation_mask = mask;
    clnorm_status status = clnorm_device_open(name, &device);
    if (status != CLNORM_OK)
        return cli_status(self, status, "the device cannot be opened");
    status = clnorm_plan_create(device, &desc, &plan);
    if (status == CLNORM_OK)
        printf("%sworkspace: %zu bytes; state for backward: %zu bytes\n", clnorm_plan_explain(plan),
               clnorm_plan_workspace_bytes(plan), clnorm_plan_state_bytes(plan));
    int exit_code = status == CLNORM_OK ? CLI_OK : cli_status(self, status, "the plan cannot be made");
    clnorm_plan_destroy(plan);
    clnorm_device_destroy(device);
    return exit_code;
}

int cmd_explain(const struct cli_command *self, int argc, const char **argv)
{
    char *device = NULL, *layout = NULL, *sizes = NULL, text[256], error[512];
    struct norm_typed typed = {NULL, NULL, NULL, NULL};
    struct fusion_typed typed_fusion = {NULL, NULL, NULL, NULL, NULL};
    struct norm_choice norm;
    struct fusion fusion;
    int exit_code, from_y = 0, twice = 0, lengths = 0, mask = 0;
    struct poptOption table[] = {
        {"device", 0, POPT_ARG_STRING, &device, 0, "cpu (the default), auto, opencl, opencl:P.D or part of a name",
         "NAME"},
        {"layout", 0, POPT_ARG_STRING, &layout, 0, "nc, ncs or nsc", "LAYOUT"},
        {"shape", 0, POPT_ARG_STRING, &sizes, 0, "N, C and spatial sizes, in this order in every layout", "NxCx..."},
        NORM_OPTIONS(&typed, "batch (the default), layer, group, instance or rms"),
        FUSION_OPTIONS(&typed_fusion),
        {"from-y", 0, POPT_ARG_NONE, &from_y, 0, "of a plan whose backward is from y", NULL},
        {"double-backward", 0, POPT_ARG_NONE, &twice, 0, "of a plan with a double backward: batch and layer norm",
         NULL},
        {"lengths", 0, POPT_ARG_NONE, &lengths, 0, "of samples with lengths: batch, group and instance norm", NULL},
        {"mask", 0, POPT_ARG_NONE, &mask, 0, "of a plan with a mask of its activation: relu and leaky", NULL},
        POPT_TABLEEND};
    bool go_on = cli_parse(self, table, argc, argv, &exit_code);
    struct bench_shapes shapes = {0, NULL};
    if (!go_on) {
        /* told already */
    } else if (!layout || !sizes) {
        exit_code = cli_error(self, "--%s is missing (try clnorm explain --help)", layout ? "shape" : "layout");
    } else if ((size_t)snprintf(text, sizeof text, "shape %s %s", layout, sizes) >= sizeof text) {
        exit_code = cli_error(self, "--layout and --shape have more than %zu characters", sizeof text - 8);
    } else if (!norm_typed_parse(&typed, self, &norm) || !fusion_typed_parse(&typed_fusion, self, &fusion)) {
        exit_code = CLI_USAGE;
    } else if (!bench_shapes_parse(&shapes, "--layout and --shape", text, error) ||
               !bench_shapes_set_norm(&shapes, &norm, &norm_option_words, error)) {
        exit_code = cli_error(self, "%s", error);
    } else {
        exit_code = explain(self, device ? device : "cpu", &shapes.list[0], &fusion, from_y, twice, lengths, mask);
    }
    bench_shapes_free(&shapes);
    norm_typed_free(&typed);
    fusion_typed_free(&typed_fusion);
    free(device);
    free(layout);
    free(sizes);
    if (exit_code == CLI_OK && (fflush(stdout) != 0 || ferror(stdout))) {
        cli_error(self, "standard output cannot be written");
        return CLI_FAILED;
    }
    return exit_code;
}
