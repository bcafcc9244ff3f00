#include "cpu/simd/simd.h"

#include <cpuinfo.h>
#include <stdlib.h>
#include <string.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

void cln_cpu_fill_simd(struct cln_cpu_kernels *kernels)
{
    const char *most = getenv("CLNORM_ISA");
    if (most && !strcmp(most, "plain"))
        return;
#define FILL(isa, text, test)                                                                                          \
    if (test) {                                                                                                        \
        CLN_SIMD_JOIN(segments, isa)(&kernels->segments);                                                              \
        CLN_SIMD_JOIN(columns, isa)(&kernels->columns);                                                                \
        CLN_SIMD_JOIN(rows, isa)(&kernels->rows);                                                                      \
        CLN_SIMD_JOIN(segments_writes, isa)(&kernels->segments);                                                       \
        CLN_SIMD_JOIN(segments_typed, isa)(&kernels->typed.segments);                                                  \
        CLN_SIMD_JOIN(segments_typed_writes, isa)(&kernels->typed.segments);                                           \
        CLN_SIMD_JOIN(columns_typed, isa)(&kernels->typed.columns);                                                    \
        CLN_SIMD_JOIN(rows_typed, isa)(&kernels->typed);                                                               \
        CLN_SIMD_JOIN(elements, isa)(&kernels->elements);                                                              \
        kernels->name = text;                                                                                          \
    }                                                                                                                  \
    if (most && !strcmp(most, #isa))                                                                                   \
        return;
    CLN_ISA_LIST(FILL)
#undef FILL
}

void cln_cpu_stream_end(void)
{
#if defined(__x86_64__)
    _mm_sfence();
#endif
}
