#include "legacy_random.h"

#include <math.h>

void legacy_random_seed(struct legacy_random *r, uint32_t seed)
{
    for (uint32_t i = 0; i < LEGACY_RANDOM_WORDS; i++) {
        r->state[i] = seed;
        seed = UINT32_C(1812433253) * (seed ^ (seed >> 30)) + i + 1;
    }
    r->next = LEGACY_RANDOM_WORDS;
    r->has_kept = false;
    r->kept = 0;
}

/* The next 624 words of MT19937. */
static void refill(struct legacy_random *r)
{
    const size_t words = LEGACY_RANDOM_WORDS, middle = 397;
    for (size_t i = 0; i < words; i++) {
        uint32_t y = (r->state[i] & UINT32_C(0x80000000)) | (r->state[(i + 1) % words] & UINT32_C(0x7fffffff));
        r->state[i] = r->state[(i + middle) % words] ^ (y >> 1) ^ (y & 1 ? UINT32_C(0x9908b0df) : 0);
    }
    r->next = 0;
}

static uint32_t next_word(struct legacy_random *r)
{
    if (r->next == LEGACY_RANDOM_WORDS)
        refill(r);
    uint32_t y = r->state[r->next++];
    y ^= y >> 11;
    y ^= (y << 7) & UINT32_C(0x9d2c5680);
    y ^= (y << 15) & UINT32_C(0xefc60000);
    return y ^ (y >> 18);
}

/* In [0, 1): 53 bits of two words. */
static double next_uniform(struct legacy_random *r)
{
    double high = (double)(next_word(r) >> 5), low = (double)(next_word(r) >> 6);
    return (high * 67108864.0 + low) / 9007199254740992.0;
}

static double next_normal(struct legacy_random *r)
{
    if (r->has_kept) {
        r->has_kept = false;
        return r->kept;
    }
    double a, b, square;
    do { /* a point in the unit disc, but not its centre */
        a = 2.0 * next_uniform(r) - 1.0;
        b = 2.0 * next_uniform(r) - 1.0;
        square = a * a + b * b;
    } while (square >= 1.0 || square == 0.0);
    double factor = sqrt(-2.0 * log(square) / square);
    r->kept = factor * a;
    r->has_kept = true;
    return factor * b;
}

void legacy_random_normal(struct legacy_random *r, double *values, size_t count)
{
    for (size_t i = 0; i < count; i++)
        values[i] = next_normal(r);
}
