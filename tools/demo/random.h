/* The demo's random numbers: splitmix64, the same on every machine. */
#ifndef CLNORM_DEMO_RANDOM_H
#define CLNORM_DEMO_RANDOM_H

#include <stdint.h>

struct random {
    uint64_t state;
};

uint64_t random_bits(struct random *r);
/* In [0, 1), a multiple of 2^-24, so exact as a float. */
double random_uniform(struct random *r);
/* N(0, 1), by Box and Muller. */
double random_normal(struct random *r);
/* In [0, n), n > 0; without bias. */
uint64_t random_below(struct random *r, uint64_t n);

#endif
