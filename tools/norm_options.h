/* The options --norm, --groups, --normalized-dims and --virtual-batch, which several subcommands have. */
#ifndef CLNORM_TOOLS_NORM_OPTIONS_H
#define CLNORM_TOOLS_NORM_OPTIONS_H

#include "cli.h"
#include "norm.h"

/* As they were typed; NULL: not given. */
struct norm_typed {
    char *norm, *groups, *dims, *batch;
};

extern const struct norm_words norm_option_words;

/* Four rows of a table of options. */
#define NORM_OPTIONS(typed, norm_text)                                                                                 \
    {"norm", 0, POPT_ARG_STRING, &(typed)->norm, 0, norm_text, "NORM"},                                                \
        {"groups", 0, POPT_ARG_STRING, &(typed)->groups, 0, "group norm: how many groups the channels make", "G"},     \
        {"normalized-dims",                                                                                            \
         0,                                                                                                            \
         POPT_ARG_STRING,                                                                                              \
         &(typed)->dims,                                                                                               \
         0,                                                                                                            \
         "layer and RMS norm: over how many of the last dimensions (1)",                                               \
         "K"},                                                                                                         \
    {                                                                                                                  \
        "virtual-batch", 0, POPT_ARG_STRING, &(typed)->batch, 0,                                                       \
            "batch norm: statistics over B samples each (all together)", "B"                                           \
    }

bool norm_typed_any(const struct norm_typed *typed);
/* What was typed, not yet completed. false: told. */
bool norm_typed_parse(const struct norm_typed *typed, const struct cli_command *self, struct norm_choice *choice);
void norm_typed_free(struct norm_typed *typed);

#endif
