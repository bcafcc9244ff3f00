/* Floats side by side by the compilers' vector extension: one source, compiled once per instruction set with its flags
 * (CMakeLists.txt). Sixteen are a register of AVX-512 or two of AVX, with the same arithmetic and bits. NEON takes four, for compilers
 * keep a vector of four registers, and all accumulators with it, in memory. */
#ifndef CLNORM_SRC_CPU_SIMD_VECTOR_H
#define CLNORM_SRC_CPU_SIMD_VECTOR_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#if defined(__aarch64__)
enum { LANES = 4 };
typedef float vec __attribute__((vector_size(16)));
typedef float vec_unaligned __attribute__((vector_size(16), aligned(4), may_alias));
#else
enum { LANES = 16 };
typedef float vec __attribute__((vector_size(64)));
typedef float vec_unaligned __attribute__((vector_size(64), aligned(4), may_alias));
#endif

#define INLINE static inline __attribute__((always_inline))

/* Vectors added into one accumulator: k equal terms can be off by k·u/2 (docs/math.md). */
enum { CHAIN = 8 };

INLINE vec splat(float f)
{
    return f - (vec){0};
}

INLINE vec load(const float *p)
{
    return *(const vec_unaligned *)p;
}

INLINE void store(float *p, vec v)
{
    *(vec_unaligned *)p = v;
}

/* The first n < LANES elements; the others are taken from fill. */
INLINE vec load_part(const float *p, size_t n, vec fill)
{
#if defined(__AVX512F__)
    /* NOLINTNEXTLINE(clang-analyzer-core.UndefinedBinaryOperatorResult): n < LANES */
    return (vec)_mm512_mask_loadu_ps((__m512)fill, (__mmask16)((1u << n) - 1u), p);
#else
    for (size_t i = 0; i < n; i++)
        fill[i] = p[i];
    return fill;
#endif
}

INLINE void store_part(float *p, size_t n, vec v)
{
#if defined(__AVX512F__)
    _mm512_mask_storeu_ps(p, (__mmask16)((1u << n) - 1u), (__m512)v);
#else
    for (size_t i = 0; i < n; i++)
        p[i] = v[i];
#endif
}

/* p is a multiple of a vector's bytes. Past the cache where the instruction set can. */
INLINE void store_stream(float *p, vec v)
{
#if defined(__AVX512F__)
    _mm512_stream_ps(p, (__m512)v);
#elif defined(__AVX__)
    __m256 half[2];
    memcpy(half, &v, sizeof half);
    _mm256_stream_ps(p, half[0]);
    _mm256_stream_ps(p + 8, half[1]);
#else
    store(p, v);
#endif
}

typedef int32_t lane_number __attribute__((vector_size(LANES * 4)));

/* The lanes in double, as two halves. */
typedef float half __attribute__((vector_size(LANES / 2 * 4)));
typedef double wide_half __attribute__((vector_size(LANES / 2 * 8)));
struct wide {
    wide_half low, high;
};

#if defined(__aarch64__)
#define LOW_HALF(v)  __builtin_shufflevector((v), (v), 0, 1)
#define HIGH_HALF(v) __builtin_shufflevector((v), (v), 2, 3)
#define FOLD(t)
#else
#define LOW_HALF(v)  __builtin_shufflevector((v), (v), 0, 1, 2, 3, 4, 5, 6, 7)
#define HIGH_HALF(v) __builtin_shufflevector((v), (v), 8, 9, 10, 11, 12, 13, 14, 15)
/* Until the first two lanes have it all. */
#define FOLD(t)                                                                                                        \
    do {                                                                                                               \
        t += __builtin_shufflevector((t), (t), 4, 5, 6, 7, 0, 1, 2, 3);                                                \
        t += __builtin_shufflevector((t), (t), 2, 3, 0, 1, 6, 7, 4, 5);                                                \
    } while (0)
#endif

INLINE void wide_add(struct wide *t, vec v)
{
    t->low += __builtin_convertvector(LOW_HALF(v), wide_half);
    t->high += __builtin_convertvector(HIGH_HALF(v), wide_half);
}

/* In a fixed order. */
INLINE double wide_sum(const struct wide *w)
{
    wide_half t = w->low + w->high;
    FOLD(t);
    return t[0] + t[1];
}

INLINE float sum_of_lanes(vec v)
{
    half t = LOW_HALF(v) + HIGH_HALF(v);
    FOLD(t);
    return t[0] + t[1];
}

/* The first n lanes of a, the others of b. */
INLINE vec first_lanes(vec a, vec b, size_t n)
{
#if defined(__AVX512F__)
    return (vec)_mm512_mask_blend_ps((__mmask16)((1u << n) - 1u), (__m512)b, (__m512)a);
#else
    static const int32_t numbers[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    lane_number lane, mask;
    memcpy(&lane, numbers, sizeof lane);
    mask = lane < (lane_number){0} + (int32_t)n;
    return (vec)(((lane_number)a & mask) | ((lane_number)b & ~mask));
#endif
}

/* Asks for the cache line of p, which need not be there: into the nearest cache, or one where it can wait. */
INLINE void fetch_soon(const float *p)
{
    __builtin_prefetch(p, 0, 3);
}

INLINE void fetch(const float *p)
{
    __builtin_prefetch(p, 0, 2);
}

INLINE size_t least(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* Elements before `out` reaches a cache line, at most n. */
INLINE size_t elements_before_line(const float *out, size_t n)
{
    size_t off = ((uintptr_t)out / sizeof(float)) % LANES;
    return least(off ? LANES - off : 0, n);
}

#endif
