/* Vectors of floats from and to tensors of any type. */
#ifndef CLNORM_SRC_CPU_SIMD_TYPED_H
#define CLNORM_SRC_CPU_SIMD_TYPED_H

#include "cpu/kernels.h"
#include "cpu/simd/vector.h"

#if defined(__aarch64__)
#include <arm_neon.h>
#endif

typedef uint16_t halves __attribute__((vector_size(LANES * 2)));
typedef uint32_t lane_bits __attribute__((vector_size(LANES * 4)));

/* CALL(x, y) by two types of which one is of 16 bits: copies of the code for those that are usual together; others are told apart vector by
 * vector. */
#define BY_NARROW_TYPES(x, y, CALL)                                                                                    \
    do {                                                                                                               \
        if ((x) == CLNORM_F16 && (y) == CLNORM_F16)                                                                    \
            CALL(CLNORM_F16, CLNORM_F16);                                                                              \
        else if ((x) == CLNORM_BF16 && (y) == CLNORM_BF16)                                                             \
            CALL(CLNORM_BF16, CLNORM_BF16);                                                                            \
        else                                                                                                           \
            CALL((x), (y));                                                                                            \
    } while (0)

/* Of any types. */
#define BY_TYPES(x, y, CALL)                                                                                           \
    do {                                                                                                               \
        if ((x) == CLNORM_F32 && (y) == CLNORM_F32)                                                                    \
            CALL(CLNORM_F32, CLNORM_F32);                                                                              \
        else                                                                                                           \
            BY_NARROW_TYPES((x), (y), CALL);                                                                           \
    } while (0)

/* mask: all bits of a lane or none. */
INLINE vec choose(lane_number mask, vec a, vec b)
{
    return (vec)(((lane_number)a & mask) | ((lane_number)b & ~mask));
}

INLINE vec widen_f16(halves h)
{
#if defined(__AVX512F__)
    return (vec)_mm512_cvtph_ps((__m256i)h);
#elif defined(__x86_64__)
    __m128i part[2];
    __m256 wide[2];
    vec v;
    memcpy(part, &h, sizeof part);
    for (int i = 0; i < 2; i++)
        wide[i] = _mm256_cvtph_ps(part[i]);
    memcpy(&v, wide, sizeof v);
    return v;
#else
    return (vec)vcvt_f32_f16(vreinterpret_f16_u16((uint16x4_t)h));
#endif
}

INLINE halves narrow_f16(vec v)
{
#if defined(__AVX512F__)
    return (halves)_mm512_cvtps_ph((__m512)v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
#elif defined(__x86_64__)
    __m256 wide[2];
    __m128i part[2];
    halves h;
    memcpy(wide, &v, sizeof wide);
    for (int i = 0; i < 2; i++)
        part[i] = _mm256_cvtps_ph(wide[i], _MM_FROUND_TO_NEAREST_INT);
    memcpy(&h, part, sizeof h);
    return h;
#else
    return (halves)vreinterpret_u16_f16(vcvt_f16_f32((float32x4_t)v));
#endif
}

INLINE vec widen_bf16(halves h)
{
#if defined(__AVX512F__)
    return (vec)_mm512_slli_epi32(_mm512_cvtepu16_epi32((__m256i)h), 16);
#else
    return (vec)(__builtin_convertvector(h, lane_bits) << 16);
#endif
}

/* To nearest even by integers; a NaN, whose bits could carry over into Inf or the sign, is only made quiet. */
INLINE halves narrow_bf16(vec v)
{
    lane_bits bits = (lane_bits)v, upper = bits >> 16, rounded = bits + (0x7fff + (upper & 1));
#if defined(__AVX512F__)
    __mmask16 is_nan = _mm512_cmp_ps_mask((__m512)v, (__m512)v, _CMP_UNORD_Q);
    __m512i kept = _mm512_mask_or_epi32((__m512i)rounded, is_nan, (__m512i)bits, _mm512_set1_epi32(0x400000));
    return (halves)_mm512_cvtepi32_epi16(_mm512_srli_epi32(kept, 16));
#else
    lane_bits nan = (lane_bits)(v != v); /* NOLINT(misc-redundant-expression): of a NaN it is true */
    rounded = ((rounded >> 16) & ~nan) | ((upper | 0x40) & nan);
#if defined(__x86_64__)
    __m256i part[2];
    memcpy(part, &rounded, sizeof part);
    return (halves)_mm256_permute4x64_epi64(_mm256_packus_epi32(part[0], part[1]), _MM_SHUFFLE(3, 1, 2, 0));
#else
    return __builtin_convertvector(rounded, halves);
#endif
#endif
}

/* n ≤ LANES elements from element i on; lanes behind them are 0. */
INLINE vec load_as(const void *p, clnorm_dtype type, size_t i, size_t n)
{
    if (type == CLNORM_F32)
        return n == LANES ? load((const float *)p + i) : load_part((const float *)p + i, n, splat(0.0f));
    halves h = {0};
    if (n == LANES)
        memcpy(&h, (const uint16_t *)p + i, sizeof h);
    else
#if defined(__AVX512F__)
        h = (halves)_mm256_maskz_loadu_epi16((__mmask16)((1u << n) - 1u), (const uint16_t *)p + i);
#else
        memcpy(&h, (const uint16_t *)p + i, n * sizeof(uint16_t));
#endif
    return type == CLNORM_F16 ? widen_f16(h) : widen_bf16(h);
}

/* The same; lanes behind them are taken from fill. */
INLINE vec load_part_as(const void *p, clnorm_dtype type, size_t i, size_t n, vec fill)
{
    return type == CLNORM_F32 ? load_part((const float *)p + i, n, fill) : first_lanes(load_as(p, type, i, n), fill, n);
}

/* A tensor of any type, from element `at` on. */
struct source {
    const void *p;
    clnorm_dtype type;
    uint64_t at;
};

INLINE struct source further(struct source of, uint64_t elements)
{
    return (struct source){of.p, of.type, of.at + elements};
}

/* n ≤ LANES elements from the i-th on; lanes behind them are 0, or taken from fill. */
INLINE vec source_load(struct source of, uint64_t i, size_t n)
{
    return load_as(of.p, of.type, of.at + i, n);
}

INLINE vec source_load_part(struct source of, uint64_t i, size_t n, vec fill)
{
    return n == LANES ? source_load(of, i, n) : load_part_as(of.p, of.type, of.at + i, n, fill);
}

/* Asks for the lines of n elements from the i-th on, not into the nearest cache. */
INLINE void source_fetch(struct source of, uint64_t i, size_t n)
{
    size_t bytes = of.type == CLNORM_F32 ? 4 : 2;
    const char *next = (const char *)of.p + (of.at + i) * bytes;
    for (size_t k = 0; k < n * bytes; k += 64)
        __builtin_prefetch(next + k, 0, 2);
}

/* Elements before a cache line of `out` begins, at most n. */
INLINE size_t before_line_as(const void *out, clnorm_dtype type, size_t n)
{
    size_t bytes = type == CLNORM_F32 ? 4 : 2, off = (uintptr_t)out % 64;
    return least(off ? (64 - off) / bytes : 0, n);
}

/* streaming: then the place is a multiple of a vector's bytes. */
INLINE void store_as(vec v, void *p, clnorm_dtype type, size_t i, size_t n, int streaming)
{
    if (type == CLNORM_F32) {
        if (n < LANES)
            store_part((float *)p + i, n, v);
        else if (streaming)
            store_stream((float *)p + i, v);
        else
            store((float *)p + i, v);
        return;
    }
    halves h = type == CLNORM_F16 ? narrow_f16(v) : narrow_bf16(v);
    uint16_t *to = (uint16_t *)p + i;
    if (n < LANES) {
#if defined(__AVX512F__)
        _mm256_mask_storeu_epi16(to, (__mmask16)((1u << n) - 1u), (__m256i)h);
#else
        memcpy(to, &h, n * sizeof *to);
#endif
        return;
    }
#if defined(__x86_64__)
    if (streaming) {
        _mm256_stream_si256((__m256i *)(void *)to, (__m256i)h);
        return;
    }
#endif
    memcpy(to, &h, sizeof h);
}

/* A NaN stays. */
INLINE vec relu(vec t)
{
    return choose(t <= splat(0.0f), splat(0.0f), t);
}

INLINE vec leaky_relu(vec t, float slope)
{
    return choose(t > splat(0.0f), t, splat(slope) * t);
}

/* n ≤ LANES values t from element i on; z is of that type. f: NULL, as a constant, where t is y. */
INLINE vec finished(vec t, const struct cln_finish *f, clnorm_dtype z_type, size_t i, size_t n)
{
    if (!f)
        return t;
    if (f->z)
        t += load_as(f->z, z_type, i, n);
    return f->activation == CLNORM_RELU ? relu(t) : f->activation == CLNORM_LEAKY_RELU ? leaky_relu(t, f->slope) : t;
}

#endif
