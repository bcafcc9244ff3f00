/* The options --dtype, --y-dtype, --act, --slope and --residual, which several subcommands have. */
#ifndef CLNORM_TOOLS_FUSION_OPTIONS_H
#define CLNORM_TOOLS_FUSION_OPTIONS_H

#include "cli.h"

#include <clnorm/clnorm.h>

/* As they were typed; NULL: not given. */
struct fusion_typed {
    char *dtype, *y_dtype, *act, *slope, *residual;
};

struct fusion {
    clnorm_dtype dtype, y_dtype;
    clnorm_activation activation;
    float slope;
    clnorm_residual residual;
};

/* Five rows of a table of options. */
#define FUSION_OPTIONS(typed)                                                                                          \
    {"dtype", 0, POPT_ARG_STRING, &(typed)->dtype, 0, "type of x: f32 (the default), f16 or bf16", "TYPE"},            \
        {"y-dtype", 0, POPT_ARG_STRING, &(typed)->y_dtype, 0, "type of y (that of x)", "TYPE"},                        \
        {"act", 0, POPT_ARG_STRING, &(typed)->act, 0, "activation: none (the default), relu, leaky, gelu or silu",     \
         "NAME"},                                                                                                      \
        {"slope", 0, POPT_ARG_STRING, &(typed)->slope, 0, "leaky: slope below 0 (0.01)", "S"},                         \
    {                                                                                                                  \
        "residual", 0, POPT_ARG_STRING, &(typed)->residual, 0, "adds z: none (the default), after or before the norm", \
            "PLACE"                                                                                                    \
    }

/* false: told. */
bool fusion_typed_parse(const struct fusion_typed *typed, const struct cli_command *self, struct fusion *fusion);
void fusion_typed_free(struct fusion_typed *typed);
void fusion_set_desc(const struct fusion *fusion, clnorm_desc *desc);
const char *fusion_dtype_name(clnorm_dtype dtype);
size_t fusion_dtype_bytes(clnorm_dtype dtype);

#endif
