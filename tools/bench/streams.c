#include "streams.h"

#include <stdint.h>
#include <string.h>

static void copy_plain(float *target, const float *source, const float *other, size_t count)
{
    (void)other;
    memcpy(target, source, count * sizeof *target);
}

static void add_plain(float *restrict target, const float *restrict source, const float *restrict other, size_t count)
{
    for (size_t i = 0; i < count; i++)
        target[i] = source[i] + other[i];
}

#if defined(__x86_64__)
#include <immintrin.h>

/* How many elements come before target's first cache line; they and the last few are done by plain code. */
static size_t elements_to_line(const float *target, size_t count)
{
    size_t head = (size_t)(-(uintptr_t)target % 64) / sizeof *target;
    return head < count ? head : count;
}

/* Streams of one instruction set, 64 bytes a step. WIDTH: floats a vector. */
#define X86_STREAMS(SET, TARGET, VECTOR, WIDTH, LOAD, ADD, STORE)                                                      \
    __attribute__((target(TARGET))) static void copy_##SET(float *target, const float *source, const float *other,     \
                                                           size_t count)                                               \
    {                                                                                                                  \
        size_t i = elements_to_line(target, count);                                                                    \
        copy_plain(target, source, other, i);                                                                          \
        for (; count - i >= 16; i += 16) {                                                                             \
            for (size_t k = 0; k < 16; k += (WIDTH))                                                                   \
                STORE(target + i + k, LOAD(source + i + k));                                                           \
        }                                                                                                              \
        _mm_sfence();                                                                                                  \
        copy_plain(target + i, source + i, other, count - i);                                                          \
    }                                                                                                                  \
    __attribute__((target(TARGET))) static void add_##SET(float *target, const float *source, const float *other,      \
                                                          size_t count)                                                \
    {                                                                                                                  \
        size_t i = elements_to_line(target, count);                                                                    \
        add_plain(target, source, other, i);                                                                           \
        for (; count - i >= 16; i += 16) {                                                                             \
            for (size_t k = 0; k < 16; k += (WIDTH))                                                                   \
                STORE(target + i + k, ADD(LOAD(source + i + k), LOAD(other + i + k)));                                 \
        }                                                                                                              \
        _mm_sfence();                                                                                                  \
        add_plain(target + i, source + i, other + i, count - i);                                                       \
    }

X86_STREAMS(sse_nt, "sse2", __m128, 4, _mm_loadu_ps, _mm_add_ps, _mm_stream_ps)
X86_STREAMS(avx_nt, "avx", __m256, 8, _mm256_loadu_ps, _mm256_add_ps, _mm256_stream_ps)
X86_STREAMS(avx512f_nt, "avx512f", __m512, 16, _mm512_loadu_ps, _mm512_add_ps, _mm512_stream_ps)
X86_STREAMS(avx, "avx", __m256, 8, _mm256_loadu_ps, _mm256_add_ps, _mm256_storeu_ps)
X86_STREAMS(avx512f, "avx512f", __m512, 16, _mm512_loadu_ps, _mm512_add_ps, _mm512_storeu_ps)
#endif

size_t streams_supported(const struct stream **streams)
{
    static struct stream list[5] = {{"memcpy", copy_plain, add_plain}};
    size_t count = 1;
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f")) {
        list[count++] = (struct stream){"avx512f", copy_avx512f, add_avx512f};
        list[count++] = (struct stream){"avx512f-nt", copy_avx512f_nt, add_avx512f_nt};
    }
    if (__builtin_cpu_supports("avx")) {
        list[count++] = (struct stream){"avx", copy_avx, add_avx};
        list[count++] = (struct stream){"avx-nt", copy_avx_nt, add_avx_nt};
    } else {
        list[count++] = (struct stream){"sse-nt", copy_sse_nt, add_sse_nt};
    }
#endif
    *streams = list;
    return count;
}
