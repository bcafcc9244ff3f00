/* The double backward: its fp64 formulas against central differences of the fp64 backward, and a device against those differences. */
#ifndef CLNORM_TOOLS_GRADCHECK_DOUBLE_CHECK_H
#define CLNORM_TOOLS_GRADCHECK_DOUBLE_CHECK_H

#include "numeric.h"

#include <clnorm/clnorm.h>

enum { DOUBLE_X, DOUBLE_DY, DOUBLE_WEIGHT, DOUBLE_OUTPUTS }; /* g_x, g_dy, g_weight */

bool double_has(clnorm_norm norm);
/* The largest differences; limit: what they may be. */
void double_check_formulas(const struct reference_problem *problem, double limit, struct worst w[DOUBLE_OUTPUTS]);
/* The double backward of desc on a device, with values that are exact in f32. */
clnorm_status double_check_device(clnorm_device *device, const clnorm_desc *desc,
                                  const struct reference_problem *problem, bool frozen, struct worst w[DOUBLE_OUTPUTS]);

#endif
