/* A mask of an activation has bit i % 32 of word i / 32 set where element i of y is above 0; bits behind the last element are 0. */
#ifndef CLNORM_SRC_BASE_MASK_H
#define CLNORM_SRC_BASE_MASK_H

#include <stdint.h>

enum { CLN_MASK_BITS = 32 };

static inline uint64_t cln_mask_words(uint64_t elements)
{
    return elements / CLN_MASK_BITS + (elements % CLN_MASK_BITS != 0);
}

#endif
