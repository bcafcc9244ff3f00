/* A device's gradients of the data of a check. */
#ifndef CLNORM_TOOLS_GRADCHECK_DEVICE_RUN_H
#define CLNORM_TOOLS_GRADCHECK_DEVICE_RUN_H

#include "numeric.h"

#include <clnorm/clnorm.h>

/* Forward and backward of a plan of the check's problem. by_y: backward goes by the y that forward wrote; else it works the activation
 * out again. */
clnorm_status device_gradients(clnorm_device *device, clnorm_plan *plan, const struct check_data *d, bool by_y,
                               struct gradients *got);

#endif
