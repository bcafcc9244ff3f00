/* The stream of NumPy's legacy generator: np.random.seed(s), then np.random.randn(): MT19937, and Marsaglia's polar
 * method with the second value of each pair kept for the next call. */
#ifndef CLNORM_TOOLS_GRADCHECK_LEGACY_RANDOM_H
#define CLNORM_TOOLS_GRADCHECK_LEGACY_RANDOM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LEGACY_RANDOM_WORDS 624

struct legacy_random {
    uint32_t state[LEGACY_RANDOM_WORDS];
    size_t next; /* word of the state to be used next */
    bool has_kept;
    double kept;
};

void legacy_random_seed(struct legacy_random *r, uint32_t seed);
/* np.random.randn(count) */
void legacy_random_normal(struct legacy_random *r, double *values, size_t count);

#endif
