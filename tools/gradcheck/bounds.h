/* What the library's contract allows a device's gradients to be off by. */
#ifndef CLNORM_TOOLS_GRADCHECK_BOUNDS_H
#define CLNORM_TOOLS_GRADCHECK_BOUNDS_H

#include "numeric.h"

/* Adds to the tolerances, which hold what the differences are known to, what is promised of f32 (clnorm_backward in
 * <clnorm/clnorm.h>) and what the activation adds (docs/math.md, Activations). */
void add_device_bounds(const struct check_data *d, struct gradients *tolerance);
/* Then, of tensors of 16 bits, half a unit in the last place of what was written. */
void add_rounding(const struct check_data *d, const struct gradients *want, struct gradients *tolerance);

#endif
