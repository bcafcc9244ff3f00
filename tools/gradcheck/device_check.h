/* A device's gradients against central differences of the fp64 reference, for every norm and layout. */
#ifndef CLNORM_TOOLS_GRADCHECK_DEVICE_CHECK_H
#define CLNORM_TOOLS_GRADCHECK_DEVICE_CHECK_H

#include "cli.h"
#include "fusion_options.h"
#include "norm.h"

/* What is asked for. */
struct check_question {
    bool all; /* norms; norm has the one otherwise, and 0 for groups and dimensions that were not given */
    struct norm_choice norm;
    bool fused; /* an activation or a residual was given: every layout with it, and nothing else */
    struct fusion fusion;
    bool from_y;  /* likewise, of plans whose backward is from y */
    bool lengths; /* of samples with lengths: batch, group and instance norm alone */
};

/* Prints a table. -> CLI_OK if all is within the tolerances, else another exit code. */
int device_check(const struct cli_command *self, clnorm_device *device, const struct check_question *q);

#endif
