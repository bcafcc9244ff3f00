/* What `clnorm run` is asked to do. */
#ifndef CLNORM_TOOLS_RUN_OPTIONS_H
#define CLNORM_TOOLS_RUN_OPTIONS_H

#include "fusion_options.h"
#include "norm_options.h"

enum run_mode { RUN_TRAIN, RUN_INFER, RUN_BACKWARD };

/* The arrays that are read. */
enum run_input { IN_X, IN_DY, IN_WEIGHT, IN_BIAS, IN_RUNNING_MEAN, IN_RUNNING_VAR, IN_Z, IN_Y, IN_LENGTHS, RUN_INPUTS };

struct run_options {
    enum run_mode mode;
    struct norm_choice norm; /* to be completed by x's shape */
    clnorm_layout layout;
    struct fusion fusion;
    float eps;
    clnorm_running running;
    bool frozen;
    char *paths[RUN_INPUTS]; /* NULL: not given */
    char *device, *out;
};

/* Parses and checks all that can be checked before a file is read. Returns true to go on; false to return *exit_code at
 * once. Either way run_options_free is to be called. */
bool run_options_parse(struct run_options *o, const struct cli_command *self, int argc, const char **argv,
                       int *exit_code);
void run_options_free(struct run_options *o);

#endif
