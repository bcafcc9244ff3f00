/* What a family's apply and gradient read and write. */
#ifndef CLNORM_SRC_CPU_SIMD_TENSORS_H
#define CLNORM_SRC_CPU_SIMD_TENSORS_H

#include "cpu/simd/typed.h"

/* dy is for a gradient alone; finish, for an apply, or NULL, as a constant. */
struct tensors {
    struct source x, dy;
    void *out;
    clnorm_dtype out_type;
    const struct cln_finish *finish;
};

#endif
