/* The instruction sets that this build has code for. Each source here is compiled once per set, with CLN_ISA set to its name;
 * X(name, text, test): test says whether this machine has it. Later rows are faster. */
#ifndef CLNORM_SRC_CPU_SIMD_SIMD_H
#define CLNORM_SRC_CPU_SIMD_SIMD_H

#include "cpu/kernels.h"

#if defined(CLN_HAVE_SIMD_X86)
#define CLN_ISA_LIST(ISA)                                                                                              \
    ISA(avx2, "AVX2",                                                                                                  \
        cpuinfo_initialize() && cpuinfo_has_x86_avx2() && cpuinfo_has_x86_fma3() && cpuinfo_has_x86_f16c())            \
    ISA(avx512, "AVX-512",                                                                                             \
        cpuinfo_initialize() && cpuinfo_has_x86_avx512f() && cpuinfo_has_x86_avx512bw() && cpuinfo_has_x86_avx512vl())
#elif defined(CLN_HAVE_SIMD_NEON)
/* Every AArch64 has it; cpuinfo, which may fail where /proc or /sys is not as it expects, is not asked. */
#define CLN_ISA_LIST(ISA) ISA(neon, "NEON", 1)
#else
#define CLN_ISA_LIST(ISA)
#endif

#define CLN_SIMD_JOIN_(family, isa) cln_cpu_fill_##family##_##isa
#define CLN_SIMD_JOIN(family, isa)  CLN_SIMD_JOIN_(family, isa)
#define CLN_SIMD(family)            CLN_SIMD_JOIN(family, CLN_ISA)

#define CLN_ISA_DECLARE(name, text, test)                                                                              \
    void CLN_SIMD_JOIN(segments, name)(struct cln_family_kernels * kernels);                                           \
    void CLN_SIMD_JOIN(columns, name)(struct cln_family_kernels * kernels);                                            \
    void CLN_SIMD_JOIN(rows, name)(struct cln_rows_kernels * kernels);                                                 \
    void CLN_SIMD_JOIN(rows_writes, name)(struct cln_rows_kernels * kernels);                                          \
    void CLN_SIMD_JOIN(segments_writes, name)(struct cln_family_kernels * kernels);                                    \
    void CLN_SIMD_JOIN(segments_typed, name)(struct cln_typed_family_kernels * kernels);                               \
    void CLN_SIMD_JOIN(segments_typed_writes, name)(struct cln_typed_family_kernels * kernels);                        \
    void CLN_SIMD_JOIN(columns_typed, name)(struct cln_typed_family_kernels * kernels);                                \
    void CLN_SIMD_JOIN(rows_typed, name)(struct cln_typed_kernels * kernels);                                          \
    void CLN_SIMD_JOIN(elements, name)(struct cln_element_kernels * kernels);
CLN_ISA_LIST(CLN_ISA_DECLARE)
#undef CLN_ISA_DECLARE

/* Overrides the plain kernels with the best that this machine runs. CLNORM_ISA=plain in the environment keeps the plain ones, any
 * other name of the list (avx2, …) is the most that is taken. */
void cln_cpu_fill_simd(struct cln_cpu_kernels *kernels);

/* Makes streamed stores visible to other threads before this one says that it is done. */
void cln_cpu_stream_end(void);

#endif
