/* A device's f32 gradients against central differences of the fp64 reference, for every norm and layout. */
#ifndef CLNORM_TOOLS_GRADCHECK_DEVICE_CHECK_H
#define CLNORM_TOOLS_GRADCHECK_DEVICE_CHECK_H

#include "cli.h"

/* Prints a table, of all norms or of one only. -> CLI_OK if all is within the tolerances, else another exit code. */
int device_check(const struct cli_command *self, clnorm_device *device, bool all, clnorm_norm only);

#endif
