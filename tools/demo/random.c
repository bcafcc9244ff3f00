#include "random.h"

#include <math.h>

uint64_t random_bits(struct random *r)
{
    uint64_t z = r->state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

double random_uniform(struct random *r)
{
    return (double)(random_bits(r) >> 40) * 0x1p-24;
}

double random_normal(struct random *r)
{
    const double two_pi = 6.283185307179586;
    double radius = sqrt(-2 * log(1 - random_uniform(r)));
    return radius * cos(two_pi * random_uniform(r));
}

uint64_t random_below(struct random *r, uint64_t n)
{
    uint64_t limit = UINT64_MAX - UINT64_MAX % n;
    uint64_t bits;
    do
        bits = random_bits(r);
    while (bits >= limit);
    return bits % n;
}
