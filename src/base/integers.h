/* Whole numbers of shapes and cuts. */
#ifndef CLNORM_SRC_BASE_INTEGERS_H
#define CLNORM_SRC_BASE_INTEGERS_H

#include <stdint.h>

/* b > 0 */
static inline uint64_t divide_up(uint64_t a, uint64_t b)
{
    return (a + b - 1) / b; /* NOLINT(clang-analyzer-core.DivideZero): that is the caller's part */
}

static inline uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static inline uint64_t most(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

#endif
