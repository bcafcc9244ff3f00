/* clnorm: all device code, OpenCL C 1.2, to be read top-down.
 *
 * Two memory patterns cover every norm and layout (src/view):
 *
 *   segments  group g is `outers` runs of `inners` elements, outer_stride apart
 *             x: |g0 run 0|g1 run 0|…|g0 run 1|g1 run 1|…            batch norm, channels-first
 *             x: |g0|g1|g2|…                                         instance and group norm: channels of samples
 *   rows      segments of one run each with weights along them       layer and RMS norm
 *             x: |g0: w0 w1 w2 …|g1: w0 w1 w2 …|…                    the weights repeat after `cycle` rows
 *   columns   group g is a column of a row-major matrix of `outers` rows and `set` columns
 *             x: |g0 g1 g2 …|g0 g1 g2 …|…                            batch norm, (n, c) and channels-last: one set
 *             x: |g0 g1 …|g0 g1 …|…|gc gc+1 …|gc gc+1 …|…            instance and group norm, channels-last: a set a sample
 *             Few columns are folded: `fold` rows count as one of groups·fold columns, so that vectors are full; the `rest` rows at the
 *             end are taken by the last part as they are.
 *
 * `merged` neighbouring groups share their statistics (group norm; else 1). Small arrays have one value a *statistics group*, g / merged,
 * or one a weight, g % weights.
 *
 * A program is one family at one vector width W and one work-group size WG; a work-item takes up to SPAN groups (columns: vectors of
 * groups) that are neighbours in memory:
 *   -DCLNORM_SEGMENTS | -DCLNORM_ROWS | -DCLNORM_COLUMNS | -DCLNORM_GROUPS | -DCLNORM_DOUBLE
 *   -DW=1|2|4|8|16   -DWG=1|2|4|…   -DSPAN=1|2|4|…
 * Rows are the segments' code with weights along the runs. CLNORM_GROUPS holds the small kernels that work on one value a group (W = 1),
 * CLNORM_DOUBLE those of the double backward, for all families (W = 1).
 * Shapes are arguments, never compiled in. Kernel names are family_direction_step.
 *
 * Tensors may be of 16 bits, and an activation and a residual z may be a part of the norm (docs/fusion.md); each combination is a program
 * of the same kernels, whose arguments for it come last:
 *   -DXT=0|1|2 of x, dx, z, dz, sum   -DYT=0|1|2 of y, dy   f32, f16, bf16; what is computed is f32
 *   -DACT=0|1|2|3|4   none, ReLU, leaky ReLU, GELU (tanh), SiLU
 *   -DRES=0|1|2       none; z added after the norm; z added before it (rows), the sum being written and then read in place of x
 *   -DFROM_Y=0|1      backward has y in place of x, and works x - mean out of it
 *   -DMASK=0|1        the activation's gradient is told by a mask of a bit an element, in place of y
 *   -DLENGTHS=0|1     samples have lengths of their own (segments, columns, groups): a tile is taken sample by sample, as far as it is valid
 * Bytes below are those of f32 tensors; y, z, sum and dz come on top of them where they are there.
 *
 * Accuracy (docs/math.md derives the bounds). All math is f32. A mean is a pair m + c. Sums are taken about a pivot near the
 * mean, in chains of at most CHAIN floats, and carried on as pairs of floats by error-free additions; hence no fast
 * math and no contraction. Everything is merged in a fixed order: same data, same bits. */

#pragma OPENCL FP_CONTRACT OFF

#ifdef CLNORM_ROWS
#define CLNORM_SEGMENTS
#endif

#ifndef XT
#define XT 0
#define YT 0
#define ACT 0
#define RES 0
#endif
#ifndef FROM_Y
#define FROM_Y 0
#endif
#ifndef MASK
#define MASK 0
#endif
#ifndef LENGTHS
#define LENGTHS 0
#endif
#define PLAIN (XT == 0 && YT == 0 && ACT == 0 && RES == 0 && !FROM_Y)

/* Loop lengths. A chain of k equal terms can be off by k·u/2, so chains are short; a block shares a pivot.
 * host/geometry.c has CHAIN, BLOCK and PIVOT_ELEMENTS too, to tell what is read twice, and NEAR in bytes. */
#define CHAIN  8u          /* vectors added into one accumulator */
#define CHAINS 8u          /* chains added up before they count as a stretch */
#define BLOCK  32u         /* chains that share a pivot: 4 stretches */
#define AHEAD  2048u       /* elements to prefetch ahead, in whole runs or rows */
#define NEAR   65536u      /* elements of tensors that are fetched ahead as a whole: three times as many fit a core's own cache */
#define PIVOT_ELEMENTS 16u /* elements, a power of two, whose mean is the first pivot */

/* What the host passes to every kernel by value; host/launch.h mirrors it. Offsets and strides in elements. */
typedef struct {
    ulong x, dy, out;                       /* of the tensors in their buffers */
    ulong mean, resid, scale;               /* of m, c and rstd (or var) of the source of statistics */
    ulong weight, bias;
    ulong partials, statistics, gathered, state, mean_out, var_out, rstd_out;
    ulong running_mean, running_var;
    ulong sums, dweight, dbias;
    ulong y, z, sum, dz;                    /* y: of backward */
    ulong mask;                             /* its bit of the first element; words are of MASK_BITS */
    ulong lengths, positions;               /* LENGTHS: positions of a sample */
    ulong groups, outers, inners, outer_stride, group_stride;
    ulong set, set_stride;                  /* columns: groups of a set, and the distance of sets */
    ulong merged, weights, cycle;
    ulong stats;                            /* statistics groups: how far the planes of small arrays are apart */
    ulong count;                            /* values a statistics group */
    ulong plane;                            /* of partials: groups·fold */
    ulong tiles;                            /* of span groups, or in columns of lanes·span·W groups */
    ulong set_tiles;                        /* columns: tiles of a set */
    uint flags;                             /* HAS_… */
    uint parts_outer, parts_inner;          /* a group is split into parts_outer × parts_inner parts */
    uint lanes;                             /* work-items of a work-group along a run or a row, a power of two */
    uint team;                              /* segments: work-items of a work-group that share a tile, a power of two */
    uint parts;                             /* partials to merge */
    uint span;                              /* groups (columns: vectors of groups) that a work-item takes, at most SPAN */
    uint fold, rest;                        /* columns: so many rows are taken as one; rows that are left over */
    uint found;                             /* bit to set in *found */
    float eps, factor;                      /* factor: weight of the batch in running statistics; or slope of leaky ReLU */
} problem;

#define HAS_WEIGHT         1u
#define HAS_BIAS           2u
#define HAS_RESID          4u   /* the source has c */
#define SCALE_IS_VAR       8u   /* the source has var, not rstd */
#define FROZEN             16u  /* backward: statistics are constants */
#define WRITE_STATE        32u
#define WRITE_MEAN         64u
#define WRITE_VAR          128u
#define WRITE_RSTD         256u
#define WRITE_STATISTICS   512u
#define WRITE_DWEIGHT      1024u
#define WRITE_DBIAS        2048u
#define PARTS_ARE_GATHERED 4096u /* parts to merge are public statistics */
#define UNBIASED           8192u
#define GUARD_FINITE       16384u
#define WRITE_SUMS         32768u
#define STREAM             65536u /* stores go past the cache, where the compiler can */
#define UNCENTRED          131072u /* no mean is taken off: m = c = 0, the variance is the mean of squares */
#define SOURCE_IS_CHANNEL  262144u /* the source has one value a channel, g % weights */
#define WEIGHTED_SUMS      524288u /* sums are of weight·dy, not of dy */
#define WRITE_PARTIALS     1048576u /* fused, or weights of rows: what the weights' gradients are made of */
#define PARTS_ARE_SCALED   2097152u /* partials have rstd in them */
#define HAS_LAYER_BIAS     4194304u
#define WRITE_DX           8388608u
#define WRITE_DZ           16777216u
#define ADD_DX             33554432u /* outputs of backward that are added to what is there */
#define ADD_DZ             67108864u
#define ADD_DWEIGHT        134217728u
#define ADD_DBIAS          268435456u
#define BY_Y               536870912u /* the activation's gradient is told by the sign of y */
#define HAS_X              1073741824u

/* ---- vectors --------------------------------------------------------------------------------------------------- */

/* A work-item that is alone hides latency by itself: its loops have constant bounds. Where there are many, registers are dear. */
#define UNROLL (WG == 1)
/* What is called once with pointers to a work-item's own arrays, which are to stay in registers. Oclgrind knows neither what clang makes
 * of that nor prefetches: it gets -DCLNORM_SIMULATED. */
#ifdef CLNORM_SIMULATED
#define INLINE static
#else
#define INLINE static inline __attribute__((always_inline))
#endif

/* Segments: whether work-items may write one tile while they read the next. */
#if defined(CLNORM_SEGMENTS) && !defined(CLNORM_ROWS)
#define CHAINED (PLAIN && WG == 1 && W > 1)
#else
#define CHAINED 0
#endif

/* What is called in the middle of a loop: inlined there it was slower on one of two runtimes for CPUs, on the other the same. */
#ifdef CLNORM_SIMULATED
#define APART static
#else
#define APART static __attribute__((noinline))
#endif

#define JOIN_(a, b) a##b
#define JOIN(a, b)  JOIN_(a, b)

#if W == 1
typedef float vec;
typedef int ivec;
typedef uint uvec;
#define AS_INT(v)      as_int(v)
#define AS_UINT(v)     as_uint(v)
#define AS_VEC(v)      as_float(v)
#define SUM(v)         (v)
#define LOADV(p)       (*(p))
#define STOREV(v, p)   (*(p) = (v))
#else
typedef JOIN(float, W) vec;
typedef JOIN(int, W) ivec;
typedef JOIN(uint, W) uvec;
#define AS_INT(v)      JOIN(as_int, W)(v)
#define AS_UINT(v)     JOIN(as_uint, W)(v)
#define AS_VEC(v)      JOIN(as_float, W)(v)
#define LOADV(p)       JOIN(vload, W)(0, p)
#define STOREV(v, p)   JOIN(vstore, W)(v, 0, p)
static float sum2(float2 v) { return v.x + v.y; }
static float sum4(float4 v) { return sum2(v.lo + v.hi); }
static float sum8(float8 v) { return sum4(v.lo + v.hi); }
static float sum16(float16 v) { return sum8(v.lo + v.hi); }
#define SUM(v)         JOIN(sum, W)(v)
#endif

#if W == 2
#define INDEXES ((ivec)(0, 1))
#elif W == 4
#define INDEXES ((ivec)(0, 1, 2, 3))
#elif W == 8
#define INDEXES ((ivec)(0, 1, 2, 3, 4, 5, 6, 7))
#elif W == 16
#define INDEXES ((ivec)(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15))
#endif

/* A store past the cache; p is aligned to a vector. MISALIGNED: elements from p to the next such address. */
#define STREAMV(v, p) STOREV(v, p)
#if defined(__has_builtin) && W > 1
#if __has_builtin(__builtin_nontemporal_store)
#undef STREAMV
#define STREAMV(v, p) __builtin_nontemporal_store((vec)(v), (global vec *)(p)) /* the alignment is that of the value's type */
#endif
#endif
#if defined(__clang__) && W >= 8
/* One instruction, where vstore may be several. */
typedef vec unaligned __attribute__((aligned(4)));
#undef LOADV
#undef STOREV
#define LOADV(p)      (*(global const unaligned *)(p))
#define STOREV(v, p)  (*(global unaligned *)(p) = (v))
#endif
/* Asks for the cache line of p, which may be beyond the tensor; GPUs hide latency by other means. */
#define PREFETCH(p)
#define PREFETCH_FAR(p)
#if defined(__has_builtin) && WG == 1 && !defined(CLNORM_SIMULATED)
#if __has_builtin(__builtin_prefetch)
#undef PREFETCH
#undef PREFETCH_FAR
#define PREFETCH(p)     __builtin_prefetch(p)
#define PREFETCH_FAR(p) __builtin_prefetch(p, 0, 2) /* not into the nearest cache */
#endif
#endif
#define MISALIGNED(p) ((uint)(-((ulong)(p) / sizeof(float)) % W))

/* Tensors by type: LOADV_T and STOREV_T of vectors, GET_T and SET_T of elements. Those of 16 bits are kept as integers. */
typedef float real_0;
typedef ushort real_1;
typedef ushort real_2;
#define LOADV_0(p)      LOADV(p)
#define STOREV_0(v, p)  STOREV(v, p)
#define GET_0(p)        (*(p))
#define SET_0(v, p)     (*(p) = (v))
#define GET_1(p)        vload_half(0, (global const half *)(p))
#define SET_1(v, p)     vstore_half_rte(v, 0, (global half *)(p))
#define GET_2(p)        as_float((uint)*(p) << 16)
#define SET_2(v, p)     (*(p) = bf16_of(v))
#if W == 1
#define LOADV_1(p)      GET_1(p)
#define STOREV_1(v, p)  SET_1(v, p)
#define LOADV_2(p)      GET_2(p)
#define STOREV_2(v, p)  SET_2(v, p)
#else
#define LOADV_1(p)      JOIN(vload_half, W)(0, (global const half *)(p))
#define STOREV_1(v, p)  JOIN(JOIN(vstore_half, W), _rte)(v, 0, (global half *)(p))
#define LOADV_2(p)      AS_VEC(JOIN(convert_uint, W)(JOIN(vload, W)(0, p)) << 16)
#define STOREV_2(v, p)  JOIN(vstore, W)(bf16s_of(v), 0, p)
#endif

/* To nearest even; NaN stays NaN. */
static ushort bf16_of(float v)
{
    uint bits = as_uint(v), rounded = (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16;
    return (ushort)(isnan(v) ? bits >> 16 | 0x40u : rounded);
}

#if W > 1
static JOIN(ushort, W) bf16s_of(vec v)
{
    uvec bits = AS_UINT(v), rounded = (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16;
    return JOIN(convert_ushort, W)(select(rounded, bits >> 16 | 0x40u, isnan(v)));
}
#endif

/* load: the first `valid` elements of a vector; the others are taken from fill. store: likewise. load_tail: a vector with the last `tail`
 * elements of a run; the others are fill. HOW: of 16 bits they are so long that a compiler for GPUs would make them calls. PART: parts of
 * a vector of 16 bits are so long that a compiler for CPUs takes many seconds where they are inlined everywhere. */
#if W == 1
#define ACCESS(T, HOW, PART)                                                                                            \
    HOW vec load_##T(global const real_##T *p, uint valid, vec fill) { return GET_##T(p); }                             \
    HOW void store_##T(global real_##T *p, uint valid, vec v) { SET_##T(v, p); }                                        \
    HOW vec load_tail_##T(global const real_##T *run, uint length, uint tail, vec fill) { return fill; }
#else
#define ACCESS(T, HOW, PART)                                                                                            \
    PART vec load_part_##T(global const real_##T *p, uint valid, vec fill)                                              \
    {                                                                                                                   \
        union { vec v; float e[W]; } u;                                                                                 \
        u.v = fill;                                                                                                     \
        for (uint i = 0; i < W; i++) { /* constant bounds, so that u stays in registers */                              \
            if (i < valid)                                                                                              \
                u.e[i] = GET_##T(p + i);                                                                                \
        }                                                                                                               \
        return u.v;                                                                                                     \
    }                                                                                                                   \
    PART void store_part_##T(global real_##T *p, uint valid, vec v)                                                     \
    {                                                                                                                   \
        union { vec v; float e[W]; } u;                                                                                 \
        u.v = v;                                                                                                        \
        for (uint i = 0; i < W; i++) {                                                                                  \
            if (i < valid)                                                                                              \
                SET_##T(u.e[i], p + i);                                                                                 \
        }                                                                                                               \
    }                                                                                                                   \
    HOW vec load_##T(global const real_##T *p, uint valid, vec fill)                                                    \
    {                                                                                                                   \
        return valid == W ? LOADV_##T(p) : load_part_##T(p, valid, fill);                                               \
    }                                                                                                                   \
    HOW void store_##T(global real_##T *p, uint valid, vec v)                                                           \
    {                                                                                                                   \
        if (valid == W)                                                                                                 \
            STOREV_##T(v, p);                                                                                           \
        else                                                                                                            \
            store_part_##T(p, valid, v);                                                                                \
    }                                                                                                                   \
    INLINE vec load_tail_##T(global const real_##T *run, uint length, uint tail, vec fill)                              \
    {                                                                                                                   \
        if (length >= W)                                                                                                \
            return select(fill, LOADV_##T(run + length - W), (ivec)(INDEXES >= (ivec)(W - (int)tail)));                 \
        return load_part_##T(run + length - tail, tail, fill);                                                          \
    }
#endif
#if WG == 1
#define PART_16 static __attribute__((noinline))
#else
#define PART_16 INLINE
#endif
ACCESS(0, static, static)
#if XT == 1 || YT == 1
ACCESS(1, INLINE, PART_16)
#endif
#if XT == 2 || YT == 2
ACCESS(2, INLINE, PART_16)
#endif
#define load      load_0
#define store     store_0
#define load_tail load_tail_0

/* Those of x's type, and of y's. */
typedef JOIN(real_, XT) xreal;
typedef JOIN(real_, YT) yreal;
#if FROM_Y
typedef yreal breal; /* of what backward has for x */
#else
typedef xreal breal;
#endif
#define LOADX(p)     JOIN(LOADV_, XT)(p)
#define LOADY(p)     JOIN(LOADV_, YT)(p)
#define GETX(p)      JOIN(GET_, XT)(p)
#define load_x       JOIN(load_, XT)
#define load_y       JOIN(load_, YT)
#define store_x      JOIN(store_, XT)
#define store_y      JOIN(store_, YT)
#define load_tail_x  JOIN(load_tail_, XT)
#define load_tail_y  JOIN(load_tail_, YT)
#if XT == 0
#define STREAMX(v, p) STREAMV(v, p)
#else
#define STREAMX(v, p) store_x(p, W, v)
#endif

/* ---- activations ------------------------------------------------------------------------------------------------ */

#if ACT == 3 || ACT == 4
/* exp(a) for a <= 0, within 2 ulp: 2^n·exp(r), |r| <= ln 2 / 2; n·0.693359375 is exact. NaN stays; below -104 it is 0 anyway. The power of
 * two comes in two factors, for denormals. */
static vec exp_of(vec a)
{
    const vec magic = (vec)(12582912.0f); /* 1.5·2^23: what is added to it is rounded to an integer, in its lowest bits */
    a = select(a, (vec)(-104.0f), a < (vec)(-104.0f));
    vec shifted = a * 1.44269504f + magic, n = shifted - magic;
    vec r = (a - n * 0.693359375f) - n * -2.12194440e-4f;
    vec p = (vec)(1.9875691500e-4f);
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = (p * (r * r) + r) + 1.0f;
    ivec e = AS_INT(shifted) - 0x4b400000, half_of_e = e >> 1;
    return p * AS_VEC((half_of_e + 127) << 23) * AS_VEC((e - half_of_e + 127) << 23);
}

/* 1/(1 + exp(-u)), and what is missing from it to 1, neither by a subtraction. A device's division may be off by 2.5 ulp: corrected once. */
static vec sigmoid(vec u, vec *rest)
{
    vec e = exp_of(-fabs(u)), s = 1.0f + e, p = 1.0f / s;
    p = p + p * (1.0f - s * p);
    vec ep = e * p;
    ivec negative = u < (vec)(0.0f);
    *rest = select(ep, p, negative);
    return select(p, ep, negative);
}
#endif

#if ACT == 3
static vec gelu_argument(vec t) { return 1.5957691216f * (t + 0.044715f * t * t * t); }
#endif

#if ACT == 1
#define ACTIVATED(p, t) select(t, (vec)(0.0f), (t) <= (vec)(0.0f))
#elif ACT == 2
#define ACTIVATED(p, t) select((t) * (p)->factor, t, (t) > (vec)(0.0f))
#elif ACT == 3 || ACT == 4
static vec activated(vec t)
{
    vec rest;
#if ACT == 3
    return t * sigmoid(gelu_argument(t), &rest);
#else
    return t * sigmoid(t, &rest);
#endif
}
#define ACTIVATED(p, t) activated(t)
#else
#define ACTIVATED(p, t) (t)
#endif

#if ACT == 1
#define ACT_GRADIENT(p, t, g) select((vec)(0.0f), g, (t) > (vec)(0.0f))
#elif ACT == 2
#define ACT_GRADIENT(p, t, g) select((g) * (p)->factor, g, (t) > (vec)(0.0f))
#elif ACT == 0 && FROM_Y
#define ACT_GRADIENT(p, t, g) (g)
#elif ACT == 3 || ACT == 4
/* g·act'(t). */
static vec act_gradient(vec t, vec g)
{
    vec rest;
#if ACT == 3
    vec s = sigmoid(gelu_argument(t), &rest);
    return g * (s + t * s * rest * (1.5957691216f * (1.0f + 3.0f * 0.044715f * t * t)));
#else
    vec s = sigmoid(t, &rest);
    return g * (s + t * s * rest);
#endif
}
#define ACT_GRADIENT(p, t, g) act_gradient(t, g)
#endif

#if FROM_Y
/* Whether y is there: for x - mean, which frozen statistics and Σdy do without, or for the activation's gradient. */
#if ACT
#define READS_Y(p) 1
#else
#define READS_Y(p) ((p)->flags & HAS_X)
#endif
/* x - mean of an element with y's value v, z's value z, and bias, and undo = 1/(weight·rstd): 0 where y says nothing of x. */
#if ACT == 2
#define BEFORE(p, v) select((v) / (p)->factor, v, (v) > (vec)(0.0f))
#else
#define BEFORE(p, v) (v)
#endif
#if RES == 1
#define UNDONE(p, v, z, bias, undo) ((BEFORE(p, v) - (z) - (bias)) * (undo))
#else
#define UNDONE(p, v, z, bias, undo) ((BEFORE(p, v) - (bias)) * (undo))
#endif
/* 1/weight; a weight that is, or that a device may take for, 0 gives 0. T is its type. */
#define LEAST_WEIGHT 0x1p-126f
#define RECIPROCAL(w, T) select((T)(1.0f) / (w), (T)(0.0f), (w) > (T)(-LEAST_WEIGHT) && (w) < (T)(LEAST_WEIGHT))
#endif

#define MASK_BITS 32u
#if MASK
/* Of n bits from the at-th on 1 where they are set, else 0, in the lanes from `lane` on; the activation's gradient takes them for y's. */
INLINE vec masked(global const uint *mask, ulong at, uint n, uint lane)
{
    uint shift = (uint)(at % MASK_BITS), bits = mask[at / MASK_BITS] >> shift;
    if (shift + n > MASK_BITS)
        bits |= mask[at / MASK_BITS + 1] << (MASK_BITS - shift);
#if W == 1
    return (float)(bits & 1u);
#else
    return select((vec)(0.0f), (vec)(1.0f), ((ivec)((int)(bits << lane)) & ((ivec)(1) << INDEXES)) != (ivec)(0));
#endif
}
#endif

/* What kernels have beside the norm's own arguments: parameters, and how they are passed on. With a mask it takes y's place. */
#if MASK
typedef uint signs;
#else
typedef yreal signs;
#endif
#if RES
#define FORWARD_MORE        , global const xreal *z, global xreal *sum
#define FORWARD_MORE_PASSED , z, sum
#define OFFSET_FORWARD_MORE (z += p.z, sum += p.sum)
#else
#define FORWARD_MORE
#define FORWARD_MORE_PASSED
#define OFFSET_FORWARD_MORE
#endif
#if ACT || RES || FROM_Y
#define BACKWARD_MORE        , global const signs *y, global const float *bias, global const xreal *z, global xreal *dz
#define BACKWARD_MORE_PASSED , y, bias, z, dz
#if MASK
#define OFFSET_BACKWARD_MORE (z += p.z, dz += p.dz)
#else
#define OFFSET_BACKWARD_MORE (y += p.y, z += p.z, dz += p.dz)
#endif
#else
#define BACKWARD_MORE
#define BACKWARD_MORE_PASSED
#define OFFSET_BACKWARD_MORE
#endif

#if LENGTHS
#define LENGTHS_MORE        , global const int *lengths
#define LENGTHS_MORE_PASSED , lengths
/* Those that are valid of a sample. */
static ulong valid_positions(const problem *p, global const int *lengths, ulong sample)
{
    int length = lengths[p->lengths + sample];
    return length < 0 ? 0 : min((ulong)length, p->positions);
}
#else
#define LENGTHS_MORE
#define LENGTHS_MORE_PASSED
#endif

/* What a work-item keeps per group: in columns each component of a vector is a group of its own, elsewhere all are of one group. */
#if defined(CLNORM_COLUMNS)
typedef vec acc;
#else
typedef float acc;
#endif
#if defined(CLNORM_COLUMNS) && W > 1
#define ANY(condition) any(condition)
#else
#define ANY(condition) (condition)
#endif

/* Two rules for rusticl (Mesa 22.3): a function never writes to a struct that it takes by value (it would write to the caller's), and a
 * kernel copies its struct argument before any branch (in a branch it would be read as if it were uniform). */

/* ---- error-free arithmetic ------------------------------------------------------------------------------------- */

/* A sum hi + lo of two floats. */
typedef struct {
    acc hi, lo;
} pair;

/* hi + lo is exactly a + b (Knuth). */
static pair two_sum(acc a, acc b)
{
    pair r;
    r.hi = a + b;
    acc t = r.hi - a;
    r.lo = (a - (r.hi - t)) + (b - t);
    return r;
}

/* hi + lo is exactly a·b for |a|, |b| < 2^100 (Dekker; a device's fma may be slow or missing). */
static pair two_product(acc a, acc b)
{
    pair r;
    r.hi = a * b;
    acc ta = a * 4097.0f, tb = b * 4097.0f;
    acc ah = ta - (ta - a), bh = tb - (tb - b);
    acc al = a - ah, bl = b - bh;
    r.lo = ((ah * bh - r.hi) + ah * bl + al * bh) + al * bl;
    return r;
}

static pair pair_add(pair a, acc b)
{
    pair r = two_sum(a.hi, b);
    r.lo += a.lo;
    return r;
}

/* The sum as one float; beyond the finite ones lo means nothing. */
static acc pair_value(pair p)
{
    return isfinite(p.hi) ? p.hi + p.lo : p.hi;
}

/* a·b, as exact as the pair. */
static pair pair_scale(pair a, acc b)
{
    pair r = two_product(a.hi, b);
    r.lo += a.lo * b;
    return r;
}

static pair pair_add_pair(pair a, pair b)
{
    pair r = two_sum(a.hi, b.hi);
    r.lo += a.lo + b.lo;
    return r;
}

/* A count as two floats, exact up to 2^48. */
static float2 count_split(ulong n)
{
    float hi = (float)n;
    return (float2)(hi, (float)((long)n - (long)(ulong)hi));
}

static ulong count_join(float hi, float lo)
{
    return (ulong)((long)(ulong)hi + (long)lo);
}

/* p + n·d, with the product exact. */
INLINE pair pair_add_multiple(pair p, ulong n, acc d)
{
    float2 count = count_split(n);
    pair sum = pair_add_pair(p, two_product((acc)(count.x), d));
    return pair_add(sum, count.y * d);
}

/* p / n to nearly twice the precision of a float, whatever the device's division is off by; exact quotients come out exact. */
INLINE pair pair_divide(pair p, ulong n)
{
    float nf = (float)n;
    pair q;
    q.hi = p.hi / nf;
    q.lo = (acc)(0.0f);
    for (int i = 0; i < 2; i++) {
        pair rest = pair_add_multiple(p, n, -q.hi);
        rest = pair_add_multiple(rest, n, -q.lo);
        q = two_sum(q.hi, q.lo + (rest.hi + rest.lo) / nf);
    }
    return q;
}

/* 1/sqrt(var + eps), corrected once: a device's sqrt and division may be off by 3 and 2.5 ulp. */
static acc rstd_of(acc var, float eps)
{
    acc t = var + eps;
    acc r = 1.0f / sqrt(t);
    acc better = r + r * (0.5f * (1.0f - (t * r) * r));
    return t > 0.0f && r > 0.0f && isfinite(r) ? better : r;
}

/* ---- statistics of a part --------------------------------------------------------------------------------------- */

/* n values about a reference m: Σ(x − m) = s; var = Σ(x − mean)²/n as a pair. Means of squares, not sums: they cannot overflow before
 * the variance does. n = 0 is the neutral element. */
typedef struct {
    ulong n;
    acc m;
    pair s;
    pair var;
} moments;

static moments moments_none(void)
{
    moments t;
    t.n = 0;
    t.m = t.s.hi = t.s.lo = t.var.hi = t.var.lo = (acc)(0.0f);
    return t;
}

/* Chan's formula; the reference of a is kept, and n_b·(m_b − m_a) is exact, so that sums of representable values stay exact. */
INLINE moments moments_merge(moments a, moments b)
{
    if (b.n == 0)
        return a;
    if (a.n == 0)
        return b;
    moments t;
    t.n = a.n + b.n;
    t.m = a.m;
    acc mean_a = (a.s.hi + a.s.lo) / (float)a.n, mean_b = (b.s.hi + b.s.lo) / (float)b.n;
    acc delta = (b.m - a.m) + (mean_b - mean_a);
    float w = (float)b.n / (float)t.n;
    pair shift = two_sum(b.m, -a.m);
    t.s = pair_add_pair(a.s, b.s);
    t.s = pair_add_multiple(t.s, b.n, shift.hi);
    t.s = pair_add_multiple(t.s, b.n, shift.lo);
    acc grow = ((b.var.hi - a.var.hi) + (b.var.lo - a.var.lo)) * w + (delta * w) * (delta * ((float)a.n / (float)t.n));
    t.var = pair_add(a.var, grow);
#ifndef CLNORM_COLUMNS
    if (a.var.hi == INFINITY || b.var.hi == INFINITY) { /* where no mean is taken off, that is the answer, unless there is a NaN */
        t.var.hi = a.var.hi + b.var.hi;
        t.var.lo = 0.0f;
    }
#endif
    return t;
}

/* What `n` values with Σ(x − pivot) = s and Σ(x − pivot)² = q are. A negative variance is rounding; a NaN stays. */
static moments moments_about(acc pivot, uint n, acc s, acc q)
{
    moments t;
    acc e = s / (float)n;
    acc var = q / (float)n - e * e;
    t.n = n;
    t.m = pivot;
    t.s.hi = s;
    t.s.lo = (acc)(0.0f);
    t.var.hi = var < 0.0f ? (acc)(0.0f) : var;
    t.var.lo = (acc)(0.0f);
    return t;
}

/* Σdy and Σ dy·(x − mean) likewise. */
typedef struct {
    pair dy, dyd;
} dots;

static dots dots_none(void)
{
    dots t;
    t.dy.hi = t.dy.lo = t.dyd.hi = t.dyd.lo = (acc)(0.0f);
    return t;
}

static dots dots_scale(dots a, acc dy, acc dyd)
{
    dots t;
    t.dy = pair_scale(a.dy, dy);
    t.dyd = pair_scale(a.dyd, dyd);
    return t;
}

static dots dots_merge(dots a, dots b)
{
    dots t;
    t.dy = pair_add_pair(a.dy, b.dy);
    t.dyd = pair_add_pair(a.dyd, b.dyd);
    return t;
}

/* Work-items of a work-group that share a tile, and a work-item's place among them: a run may be too short for all. */
#if defined(CLNORM_SEGMENTS) && WG > 1
#define TEAM(p) ((p)->team)
#else
#define TEAM(p) ((uint)WG)
#endif
#define PLACE(p) ((uint)get_local_id(0) % TEAM(p))

/* Merges what the work-items of a team have; work-items `merged` apart and multiples of it share a group. The result is at the places
 * below `merged`. All are powers of two. */
#define MERGE_WORK_GROUP(type)                                                                                          \
    INLINE type type##_merge_work_group(const problem *p, type mine, uint merged, local type *scratch)                  \
    {                                                                                                                   \
        type t = mine;                                                                                                  \
        uint lid = (uint)get_local_id(0), place = PLACE(p);                                                             \
        for (uint half_size = TEAM(p) / 2; half_size >= merged && half_size > 0; half_size /= 2) {                      \
            if (place >= half_size && place < 2 * half_size)                                                            \
                scratch[lid] = t;                                                                                       \
            barrier(CLK_LOCAL_MEM_FENCE);                                                                               \
            if (place < half_size)                                                                                      \
                t = type##_merge(t, scratch[lid + half_size]);                                                          \
            barrier(CLK_LOCAL_MEM_FENCE);                                                                               \
        }                                                                                                               \
        return t;                                                                                                       \
    }
MERGE_WORK_GROUP(moments)
MERGE_WORK_GROUP(dots)

/* What the work-item of the merge at a place below `merged` found, for all work-items of its group. */
static acc share(const problem *p, acc value, uint merged, local acc *scratch)
{
#if WG > 1
    uint lid = (uint)get_local_id(0), place = PLACE(p);
    if (place < merged)
        scratch[lid] = value;
    barrier(CLK_LOCAL_MEM_FENCE);
    value = scratch[lid - place + place % merged];
    barrier(CLK_LOCAL_MEM_FENCE | CLK_GLOBAL_MEM_FENCE); /* what comes next may store over elements that others have read */
#endif
    return value;
}

/* Planes of the partials, f32[parts][planes][groups]. */
#define MOMENTS_PLANES 7
#define DOTS_PLANES    4

/* ---- from sums to results of a group (a vector of groups in columns) ------------------------------------------------ */

/* Writes a value of the groups that are there. */
#if defined(CLNORM_COLUMNS)
#define PUT(p, valid, value)  store(p, valid, value)
#define THERE(p, valid)       load(p, valid, (vec)(0.0f))
#else
#define PUT(p, valid, value)  (*(p) = (value))
#define THERE(p, valid)       (*(p))
#endif
/* A gradient of weights, added to what is there if flagged so. */
#define PUT_GRADIENT(p, adds, at, valid, value) PUT(at, valid, (p)->flags & (adds) ? THERE(at, valid) + (value) : (value))

#if defined(CLNORM_COLUMNS)
/* Components i < valid: values[(at + i) % period / same]. */
static vec get_each(global const float *values, ulong at, ulong period, ulong same, uint valid)
{
#if W == 1
    return values[at % period / same];
#else
    union { vec v; float e[W]; } u;
    u.v = (vec)(0.0f);
    at %= period;
    ulong index = at / same, left = same - at % same;
    for (uint i = 0; i < W; i++) {
        if (i < valid)
            u.e[i] = values[index];
        at++;
        left--;
        if (at == period) {
            at = index = 0;
            left = same;
        } else if (left == 0) {
            index++;
            left = same;
        }
    }
    return u.v;
#endif
}

/* The values of the statistics groups, or of the weights, of the groups from g on; in folded columns the same groups come again. */
static vec get_statistic(const problem *p, global const float *values, ulong g, uint valid)
{
    return p->fold == 1 && p->merged == 1 ? load(values + g, valid, (vec)(0.0f))
                                          : get_each(values, g, p->groups, p->merged, valid);
}

static vec get_weight(const problem *p, global const float *values, ulong g, uint valid)
{
    return p->fold == 1 ? load(values + (g < p->weights ? g : g % p->weights), valid, (vec)(0.0f))
                        : get_each(values, g, p->weights, 1, valid);
}
#else
/* The value of the statistics group, or of the weight, of group g. */
static float get_statistic(const problem *p, global const float *values, ulong g, uint valid)
{
    return values[p->merged == 1 ? g : g / p->merged];
}

static float get_weight(const problem *p, global const float *values, ulong g, uint valid)
{
    return values[g < p->weights ? g : g % p->weights];
}
#endif

/* The statistics that a call normalizes by: mean m + c, rstd. With an activation also what makes the value before it of x in backward,
 * ((x - m) - c)·a + b; in rows a = rstd and b = 0, for weights come with the elements. FROM_Y: what makes x - mean of y, a = 1/(weight·rstd)
 * and b = bias; in rows a = 1/rstd and b = 0. */
typedef struct {
    acc m, c, rstd;
#if ACT || FROM_Y
    acc a, b;
#endif
} source;

/* The statistics of all values of statistics group g → statistics, state, mean, var, rstd as flagged. */
static source forward_finish(const problem *p, ulong g, uint valid, moments t, global float *statistics, global float *state,
                             global float *mean, global float *var, global float *rstd)
{
    source s;
    acc v = (acc)(0.0f);
    s.m = s.c = v;
    if (t.n > 0) {
        pair e = pair_divide(t.s, t.n);
        pair mean_pair = two_sum(t.m, e.hi);
        mean_pair = two_sum(mean_pair.hi, mean_pair.lo + e.lo);
        s.m = mean_pair.hi;
        s.c = mean_pair.lo;
        v = t.var.hi + t.var.lo;
        v = v < 0.0f ? (acc)(0.0f) : v;
    }
    s.rstd = rstd_of(v, p->eps);
    if (p->flags & WRITE_STATISTICS) {
        global float *out = statistics + p->statistics + g;
        float2 n = count_split(t.n);
        PUT(out, valid, (acc)(n.x));
        PUT(out + p->stats, valid, (acc)(n.y));
        PUT(out + 2 * p->stats, valid, s.m);
        PUT(out + 3 * p->stats, valid, s.c);
        PUT(out + 4 * p->stats, valid, v);
    }
    if (p->flags & WRITE_STATE) {
        global float *out = state + p->state + g;
        PUT(out, valid, s.m);
        PUT(out + p->stats, valid, s.c);
        PUT(out + 2 * p->stats, valid, s.rstd);
    }
    if (p->flags & WRITE_MEAN)
        PUT(mean + p->mean_out + g, valid, s.m + s.c);
    if (p->flags & WRITE_VAR)
        PUT(var + p->var_out + g, valid, v);
    if (p->flags & WRITE_RSTD)
        PUT(rstd + p->rstd_out + g, valid, s.rstd);
    return s;
}

/* Σdy and Σ dy·x̂ of a statistics group, as floats; WEIGHTED_SUMS: of weight·dy. */
typedef struct {
    acc dy, dyx;
} sums;

/* The sums of all `count` values of statistics group g → sums, dweight, dbias as flagged. */
static sums backward_finish(const problem *p, ulong g, uint valid, dots t, ulong count, acc rstd, global float *sums_out,
                            global float *dweight, global float *dbias)
{
    sums r;
    r.dy = pair_value(t.dy);
    r.dyx = pair_value(t.dyd) * rstd;
    if (p->flags & WRITE_SUMS) {
        global float *out = sums_out + p->sums + g;
        float2 n = count_split(count);
        PUT(out, valid, (acc)(n.x));
        PUT(out + p->stats, valid, (acc)(n.y));
        PUT(out + 2 * p->stats, valid, r.dy);
        PUT(out + 3 * p->stats, valid, r.dyx);
    }
    if (p->flags & WRITE_DWEIGHT)
        PUT_GRADIENT(p, ADD_DWEIGHT, dweight + p->dweight + g, valid, r.dyx);
    if (p->flags & WRITE_DBIAS)
        PUT_GRADIENT(p, ADD_DBIAS, dbias + p->dbias + g, valid, r.dy);
    return r;
}

static ulong divide_up(ulong a, ulong b)
{
    return (a + b - 1) / b;
}

/* Part k of n things cut into parts pieces starts here; part parts starts at n. */
static ulong cut(ulong n, uint k, uint parts)
{
    return n / parts * k + min((ulong)k, n % parts);
}

#if defined(CLNORM_SEGMENTS) || defined(CLNORM_COLUMNS)
/* y = ((x − m) − c)·a + b. */
typedef struct {
    acc m, c, a, b;
} forward_factors;

/* dx = f·dy + (q·((x − m) − c) + r) with f = weight·rstd. Of sums of dy, batch norm's, q = −f·rstd·mean(dy·x̂), r = −f·mean(dy);
 * WEIGHTED_SUMS, of h = weight·dy: q = −rstd·rstd·mean(h·x̂), r = −rstd·mean(h), and 0 if no mean was taken off. */
typedef struct {
    acc m, c, f, q, r;
#if ACT || FROM_Y
    acc b; /* the norm's bias */
#endif
#if FROM_Y
    acc a; /* as in source */
#endif
} backward_factors;

/* ---- which elements a work-item visits ------------------------------------------------------------------------------ */

/* The work-items of a team: `along` a run or a row, `across` runs or rows. */
typedef struct {
    uint along, across, rows;
} place;

INLINE place place_of(const problem *p)
{
    place l;
    l.along = PLACE(p) % p->lanes;
    l.across = PLACE(p) / p->lanes;
    l.rows = TEAM(p) / p->lanes;
    return l;
}

/* The tile of this work-item's team, of those that a work-group takes at a time. It may be beyond the last one, and is empty then. */
static ulong team_tile(const problem *p, ulong id)
{
    return id * (WG / TEAM(p)) + (uint)get_local_id(0) / TEAM(p);
}

/* Work-groups of the kernels that take parts of tiles: in segments the part comes fastest, in columns the tile, in each set: memory's
 * order. */
static ulong tile_id(const problem *p, ulong id, uint *part)
{
#ifdef CLNORM_SEGMENTS
    uint parts = p->parts_outer * p->parts_inner;
    *part = (uint)(id % parts);
    return team_tile(p, id / parts);
#else
    ulong set = id / (p->set_tiles * p->parts_outer), rest = id % (p->set_tiles * p->parts_outer);
    *part = (uint)(rest / p->set_tiles);
    return set * p->set_tiles + rest % p->set_tiles;
#endif
}

/* Over the vectors of a span; where SPAN is 1 a compiler sees that there is one. */
#define FOR_SPAN(k, from, end) for (uint k = (from); k < SPAN && k < (end); k++)

/* Whether q − s²/n would cancel. As means, which do not overflow before the variance does; a NaN says no. */
static int pivot_is_far(uint n, acc s, acc q)
{
    acc e = s / (float)n;
    return ANY(e * e > 0.5f * (q / (float)n));
}

#ifdef CLNORM_SEGMENTS
#ifdef CLNORM_ROWS
#define KERNEL(name) rows_##name
#else
#define KERNEL(name) segments_##name
#endif
#define MERGED(p)    1u /* work-items of a team that have results after a merge */

/* What a work-item visits of a part of each of `span` neighbouring groups. */
typedef struct {
    ulong at, stride, runs; /* first element of its first run (or part of one), distance of its runs, their number */
    uint length;            /* of a run */
    uint start, step;       /* its first vector in a run, and the distance to its next one */
    uint vectors, tail;     /* its whole vectors in a run; the elements after the last whole one, if they are its own */
    ulong group, next;      /* the first group, and the distance of the groups */
    ulong from;             /* where in its run a part begins */
    ulong ahead;            /* how far ahead the next run is, or with short runs one of the next */
    uint span;
#if LENGTHS
    ulong first; /* which of the group's runs its first one is */
#endif
} tile;

/* Shares runs of `length` elements among the work-items along them. */
INLINE void set_length(const problem *p, tile *t, place l, uint length)
{
    uint whole = length / W;
    t->length = length;
    t->start = l.along * W;
    t->step = p->lanes * W;
    t->vectors = whole > l.along ? (whole - l.along + p->lanes - 1) / p->lanes : 0;
    t->tail = l.along == whole % p->lanes ? length % W : 0;
}

INLINE tile tile_of(const problem *p, ulong id, uint part)
{
    tile t;
    place l = place_of(p);
    uint part_inner = part % p->parts_inner, part_outer = part / p->parts_inner;
    ulong first = cut(p->outers, part_outer, p->parts_outer), last = cut(p->outers, part_outer + 1, p->parts_outer);
    ulong vectors = divide_up(p->inners, W);
    ulong from = cut(vectors, part_inner, p->parts_inner) * W;
    ulong to = min(cut(vectors, part_inner + 1, p->parts_inner) * W, p->inners);
    t.group = id * p->span;
    t.next = p->group_stride;
    t.span = t.group < p->groups ? (uint)min((ulong)p->span, p->groups - t.group) : 0;
    t.at = t.group * p->group_stride + (first + l.across) * p->outer_stride + from;
    t.from = from;
    t.stride = l.rows * p->outer_stride;
    set_length(p, &t, l, (uint)(to - from));
    t.ahead = p->outers == 1 ? AHEAD : t.stride * divide_up(AHEAD, t.length);
    t.runs = first + l.across < last ? divide_up(last - first - l.across, l.rows) : 0;
#if LENGTHS
    t.first = first + l.across;
#endif
    return t;
}

#if LENGTHS
/* A tile has one group, and a run a sample. */
static ulong samples_of(const problem *p, const tile *t)
{
    return t->span > 0 ? t->runs : 0;
}

/* What a tile has of its i-th sample: what is valid, or what is not. */
INLINE tile sample_tile(const problem *p, const tile *t, ulong i, int padding, global const int *lengths)
{
    tile s = *t;
    place l = place_of(p);
    ulong valid = valid_positions(p, lengths, t->first + i * l.rows + t->group / p->weights);
    uint here = valid > t->from ? (uint)min(valid - t->from, (ulong)t->length) : 0;
    s.at += i * t->stride + (padding ? here : 0);
    s.runs = 1;
    set_length(p, &s, l, padding ? t->length - here : here);
    return s;
}
#endif

/* The statistics groups of a tile of whole groups, as single runs. */
INLINE tile merge_tile(const problem *p, const tile *t)
{
    tile m = *t;
    if (p->merged > 1) {
        uint merged = (uint)p->merged;
        m.group /= merged;
        m.span /= merged;
        m.next *= merged;
        set_length(p, &m, place_of(p), t->length * merged);
    }
    return m;
}

/* SPAN of a tile's groups from its `first` one on. */
INLINE tile piece_of(const tile *t, uint first)
{
    tile c = *t;
    c.span = first < t->span ? min(t->span - first, (uint)SPAN) : 0;
    c.group += first;
    c.at += first * t->next;
    return c;
}

/* Over such pieces of `end` groups. */
#define FOR_PIECES(first, end) for (uint first = 0; first < (end); first += SPAN)

/* Which of a tile's statistics groups its k-th group belongs to. */
#define OWNER(p, k) (SPAN == 1 ? 0 : (k) / (uint)(p)->merged)

static ulong group_of(const tile *t, uint k)
{
    return t->group + k;
}

static ulong plane_of(const problem *p, const tile *t)
{
    return p->plane;
}

static int has_rest(const problem *p, ulong id, uint part)
{
    return 0;
}

static tile rest_of(const problem *p)
{
    return tile_of(p, 0, 0);
}

static uint valid_of(const problem *p, const tile *t, uint k)
{
    return k < t->span;
}

/* How far a work-item has come: the next vector of the run at `at`. */
typedef struct {
    ulong at, runs;
    uint vector;
} cursor;

INLINE cursor cursor_of(const tile *t, uint k)
{
    cursor c;
    c.at = t->at + k * t->next;
    c.runs = t->vectors > 0 || t->tail > 0 ? t->runs : 0;
    c.vector = 0;
    return c;
}

/* The whole vectors of the next chain, at most CHAIN; `ends` tells whether it ends a run, with the run's tail. */
INLINE uint chain_of(const tile *t, const cursor *c, int *ends)
{
    uint left = t->vectors - c->vector;
    *ends = left <= CHAIN;
    return min(left, CHAIN);
}

INLINE void chain_done(const tile *t, cursor *c, uint vectors, int ends)
{
    c->vector += vectors;
    if (ends) {
        c->vector = 0;
        c->at += t->stride;
        c->runs--;
    }
}

#ifndef CLNORM_ROWS
#define NORMALIZED(x, type, f) ((((x) - (type)((f).m)) - (type)((f).c)) * (type)((f).a) + (type)((f).b))
#define GRADIENT(g, x, type, b) \
    ((g) * (type)((b).f) + ((((x) - (type)((b).m)) - (type)((b).c)) * (type)((b).q) + (type)((b).r)))
#endif

#if CHAINED
/* ---- runs as one stretch of memory ------------------------------------------------------------------------------------ */

/* A work-item that is alone writes the runs of neighbouring groups as one stretch, so that its vectors are aligned (for stores past the
 * cache) whatever the runs' length; a vector may have the end of one group and the beginning of the next. It goes step by step, for a
 * tile may be written while the sums of the next one are taken: then memory reads and writes at the same time, as in a copy. */
typedef struct {
    global const float *x, *dy; /* the stretch */
    global float *out;
    ulong runs, stride; /* stretches that are left, and their distance */
    uint i, k, end;     /* the next element, its group, and where that ends */
    uint length, span;  /* of a run; groups */
    int stream;
    const forward_factors *f;
    const backward_factors *b;
} writer;

INLINE writer writer_of(const problem *p, const tile *t, global const float *x, global const float *dy, global float *out)
{
    writer w;
    w.x = x + t->at;
    w.dy = dy + t->at;
    w.out = out + t->at;
    w.runs = t->span > 0 ? t->runs : 0;
    w.stride = t->stride;
    w.i = w.k = 0;
    w.end = w.length = t->length;
    w.span = t->span;
    w.stream = (p->flags & STREAM) != 0;
    w.f = 0;
    w.b = 0;
    return w;
}

/* BOTH: a factor of two groups, for the vector that begins `first` elements before the second one. */
#define BOTH(one, two, first) select((vec)(one), (vec)(two), (ivec)(INDEXES >= (ivec)((int)(first))))

/* The next CHAIN vectors, or what is left of a group. ONE(i) is for elements, ALL(i, k) for the vectors at i that are wholly in group k,
 * SPLIT(i, k, first) for those that are not. */
#define STEP_BY(STORE, ALL, SPLIT)                                                                                      \
    if (i + CHAIN * W <= end) {                                                                                         \
        for (uint v = 0; v < CHAIN; v++)                                                                                \
            ALL(STORE, i + v * W, k);                                                                                   \
        w->i = i + CHAIN * W;                                                                                           \
        return;                                                                                                         \
    }                                                                                                                   \
    for (; i + W <= end; i += W)                                                                                        \
        ALL(STORE, i, k);                                                                                               \
    if (i < end && k + 1 < w->span) {                                                                                   \
        SPLIT(STORE, i, k, end - i);                                                                                    \
        i += W;                                                                                                         \
    }
#define STEP(ONE, ALL, SPLIT)                                                                                           \
    if (w->runs == 0)                                                                                                   \
        return;                                                                                                         \
    global const float *x = w->x, *dy = w->dy;                                                                          \
    global float *out = w->out;                                                                                         \
    uint i = w->i, k = w->k, end = w->end;                                                                              \
    if (w->stream) {                                                                                                    \
        for (uint head = i == 0 ? min(MISALIGNED(out), end) : 0; i < head; i++)                                         \
            ONE(i, k);                                                                                                  \
        STEP_BY(STREAMV, ALL, SPLIT)                                                                                    \
    } else {                                                                                                            \
        STEP_BY(STOREV, ALL, SPLIT)                                                                                     \
    }                                                                                                                   \
    for (; i < end; i++)                                                                                                \
        ONE(i, k);                                                                                                      \
    w->i = i;                                                                                                           \
    w->k = k + 1;                                                                                                       \
    w->end = end + w->length;                                                                                           \
    if (w->k == w->span) {                                                                                              \
        w->x = x + w->stride;                                                                                           \
        w->dy = dy + w->stride;                                                                                         \
        w->out = out + w->stride;                                                                                       \
        w->i = w->k = 0;                                                                                                \
        w->end = w->length;                                                                                             \
        w->runs--;                                                                                                      \
    }

APART void forward_step(writer *w)
{
    const forward_factors *f = w->f;
#define ONE(i, k)          out[i] = NORMALIZED(x[i], float, f[k])
#define ALL(STORE, i, k)   STORE(NORMALIZED(LOADV(x + (i)), vec, f[k]), out + (i))
#define SPLIT(STORE, i, k, first)                                                                                       \
    STORE(((LOADV(x + (i)) - BOTH(f[k].m, f[(k) + 1].m, first)) - BOTH(f[k].c, f[(k) + 1].c, first)) *                  \
                  BOTH(f[k].a, f[(k) + 1].a, first) +                                                                   \
              BOTH(f[k].b, f[(k) + 1].b, first),                                                                        \
          out + (i))
    STEP(ONE, ALL, SPLIT)
#undef ONE
#undef ALL
#undef SPLIT
}

APART void backward_step(writer *w)
{
    const backward_factors *b = w->b;
#define ONE(i, k)          out[i] = GRADIENT(dy[i], x[i], float, b[k])
#define ALL(STORE, i, k)   STORE(GRADIENT(LOADV(dy + (i)), LOADV(x + (i)), vec, b[k]), out + (i))
#define SPLIT(STORE, i, k, first)                                                                                       \
    STORE(LOADV(dy + (i)) * BOTH(b[k].f, b[(k) + 1].f, first) +                                                         \
              (((LOADV(x + (i)) - BOTH(b[k].m, b[(k) + 1].m, first)) - BOTH(b[k].c, b[(k) + 1].c, first)) *             \
                   BOTH(b[k].q, b[(k) + 1].q, first) +                                                                  \
               BOTH(b[k].r, b[(k) + 1].r, first)),                                                                      \
          out + (i))
    STEP(ONE, ALL, SPLIT)
#undef ONE
#undef ALL
#undef SPLIT
}

static void forward_rest(writer *w)
{
    while (w->runs > 0)
        forward_step(w);
}

static void backward_rest(writer *w)
{
    while (w->runs > 0)
        backward_step(w);
}

/* Whether the fused kernels write a tile while they read the next one: past the cache, where a tile lies in many places. Backward was
 * slower so, on two runtimes, where runs were short (14x14). */
#define LONG_RUN 512u
static int chains(const problem *p, uint least_run)
{
    return (p->flags & STREAM) && !(p->flags & ADD_DX) && p->outers > 1 && p->inners >= least_run;
}

/* What the fused kernels fetch while they add up a tile: the next one, if a work-item has one and three of them fit a core's own cache.
 * Then the first one is fetched before. */
INLINE void look_ahead(const problem *p, tile *t, uint tensors, int is_first, int is_last, global const float *x,
                       global const float *dy)
{
    if (p->outers == 1 || p->outers * p->inners * p->span * tensors > NEAR)
        return;
    t->ahead = is_last ? 0 : p->span * p->group_stride;
    for (ulong run = 0; is_first && run < t->runs; run++) {
        ulong at = t->at + run * t->stride;
        for (uint i = 0; i < t->span * t->length; i += 16) {
            PREFETCH_FAR(x + at + i);
            if (tensors > 1)
                PREFETCH_FAR(dy + at + i);
        }
    }
}
#define LOOK_AHEAD(t, tensors, x, dy) look_ahead(&p, t, tensors, turn == cut(turns, block, blocks), turn + 1 == last, x, dy)
#define BESIDE &written
#else
typedef uint writer;
#define forward_step(w)
#define backward_step(w)
#define LOOK_AHEAD(t, tensors, x, dy)
#define BESIDE 0
#endif

/* ---- forward: statistics -------------------------------------------------------------------------------------------- */

INLINE void add_about(vec x, vec pivot, vec *s, vec *q)
{
    vec d = x - pivot;
    *s += d;
    *q += d * d;
}

/* Of a sum that other work-items write, the elements before the tail are not to be read: nothing orders that. */
#if RES == 2 && WG > 1
#define LOAD_OWN_TAIL(run, length, tail, fill) load_x((run) + (length) - (tail), tail, fill)
#else
#define LOAD_OWN_TAIL(run, length, tail, fill) load_tail_x(run, length, tail, fill)
#endif

/* Σ(x − pivot) and Σ(x − pivot)² over the next BLOCK chains; returns the number of values. `beside` writes as it goes, if there is one. */
INLINE uint sums_about(const tile *t, cursor *c, global const xreal *x, float pivot, float *s_out, float *q_out, writer *beside)
{
    vec s2 = (vec)(0.0f), q2 = (vec)(0.0f), about = (vec)(pivot);
    uint n = 0;
    for (uint k2 = 0; k2 < BLOCK && c->runs > 0; k2 += CHAINS) {
        vec s1 = (vec)(0.0f), q1 = (vec)(0.0f);
        for (uint k1 = 0; k1 < CHAINS && c->runs > 0; k1++) {
            vec s = (vec)(0.0f), q = (vec)(0.0f);
            global const xreal *run = x + c->at, *from = run + t->start + c->vector * t->step;
            int ends;
            uint vectors = chain_of(t, c, &ends);
            if (UNROLL && vectors == CHAIN) {
                for (uint k = 0; k < CHAIN; k++) {
                    PREFETCH(from + k * t->step + t->ahead);
                    add_about(LOADX(from + k * t->step), about, &s, &q);
                }
            } else {
                for (uint k = 0; k < vectors; k++) {
                    PREFETCH(from + k * t->step + t->ahead);
                    add_about(LOADX(from + k * t->step), about, &s, &q);
                }
            }
            n += vectors * W;
            if (ends && t->tail > 0) {
                add_about(LOAD_OWN_TAIL(run, t->length, t->tail, about), about, &s, &q);
                n += t->tail;
            }
            chain_done(t, c, vectors, ends);
            if (beside)
                forward_step(beside);
            s1 += s;
            q1 += q;
        }
        s2 += s1;
        q2 += q1;
    }
    *s_out = SUM(s2);
    *q_out = SUM(q2);
    return n;
}

/* Near the mean of the next values, and exactly the value itself if they are all equal. */
INLINE float pivot_of(const tile *t, const cursor *c, global const xreal *x)
{
    global const xreal *from = x + c->at + t->start + c->vector * t->step;
    uint vectors = t->vectors - c->vector;
    if (vectors == 0)
        return GETX(x + c->at + t->length - t->tail);
    float x0 = GETX(from);
    uint used = 1; /* a power of two: divisions by it are exact */
    while (used * W < PIVOT_ELEMENTS && used * 2 <= vectors)
        used *= 2;
    vec s = (vec)(0.0f);
    for (uint k = 0; k < used; k++)
        s += LOADX(from + k * t->step) - (vec)(x0);
    return x0 + SUM(s) / (float)(used * W);
}

#if RES == 2
/* sum = x + z, rounded, of a work-item's next BLOCK chains, which it then reads from the cache. sum may be x or z. */
INLINE void add_block(const tile *t, cursor c, global const xreal *x, global const xreal *z, global xreal *sum)
{
    for (uint k = 0; k < BLOCK && c.runs > 0; k++) {
        ulong from = c.at + t->start + c.vector * t->step, rest = c.at + t->length - t->tail;
        int ends;
        uint vectors = chain_of(t, &c, &ends);
        for (uint j = 0; j < vectors; j++, from += t->step)
            store_x(sum + from, W, LOADX(x + from) + LOADX(z + from));
        if (ends && t->tail > 0)
            store_x(sum + rest, t->tail, load_x(x + rest, t->tail, (vec)(0.0f)) + load_x(z + rest, t->tail, (vec)(0.0f)));
        chain_done(t, &c, vectors, ends);
    }
}
#endif

/* The moments of a tile's groups, `span` of them where it is full. A block whose pivot turns out far from its mean (an outlier) is read
 * again, from the cache. With a residual before the norm they are those of the sum. */
INLINE void moments_of(const problem *p, const tile *t, uint span, global const xreal *x, moments *total,
                       writer *beside FORWARD_MORE)
{
    int uncentred = (p->flags & UNCENTRED) != 0;
    FOR_SPAN(k, 0, span) {
        moments all = moments_none();
        cursor c = cursor_of(t, k);
        while (k < t->span && c.runs > 0) {
            cursor start = c;
#if RES == 2
            add_block(t, c, x, z, sum);
            global const xreal *values = sum;
#else
            global const xreal *values = x;
#endif
            float pivot = uncentred ? 0.0f : pivot_of(t, &c, values), s, q;
            uint n = sums_about(t, &c, values, pivot, &s, &q, beside);
            for (int again = 0; again < 2 && !uncentred && pivot_is_far(n, s, q); again++) {
                pivot += s / (float)n;
                c = start;
                n = sums_about(t, &c, values, pivot, &s, &q, 0);
            }
            if (uncentred)
                s = 0.0f;
            all = moments_merge(all, moments_about(pivot, n, s, q));
        }
        total[k] = all;
    }
}
#else
#define KERNEL(name) columns_##name
#define MERGED(p)    ((p)->lanes)

/* What a work-item visits of a tile of columns: SPAN vectors, `step` apart, in each of its rows. */
typedef struct {
    ulong at, stride, runs; /* first element in its first row, distance of its rows, their number */
    uint step, span, full;  /* span: vectors in a row that are not wholly beyond the last column; full: wholly before it */
    ulong ahead;            /* how far ahead the row to prefetch is */
    ulong base;             /* the set's first group */
    ulong column, columns;  /* first column, and how many the matrix has */
    ulong first;            /* its first row in the matrix */
} tile;

static tile tile_at(const problem *p, ulong column, ulong columns, ulong row, ulong rows, ulong stride, place l)
{
    tile t;
    t.base = 0;
    t.first = row + l.across;
    t.column = column;
    t.columns = columns;
    t.step = p->lanes * W;
    t.span = column < columns ? (uint)min((ulong)p->span, divide_up(columns - column, t.step)) : 0;
    t.full = column + W <= columns ? (uint)min((ulong)p->span, (columns - column - W) / t.step + 1) : 0;
    t.at = (row + l.across) * stride + column;
    t.stride = l.rows * stride;
    t.ahead = t.stride * CHAIN * max(1ul, AHEAD / (CHAIN * t.stride));
    t.runs = t.span > 0 && l.across < rows ? divide_up(rows - l.across, l.rows) : 0;
    return t;
}

INLINE tile tile_of(const problem *p, ulong id, uint part)
{
    place l = place_of(p);
    ulong first = cut(p->outers, part, p->parts_outer), last = cut(p->outers, part + 1, p->parts_outer);
    ulong set = id / p->set_tiles, column = (id % p->set_tiles * p->span * p->lanes + l.along) * W;
    tile t = tile_at(p, column, p->set * p->fold, first, last - first, p->outer_stride, l);
    t.base = set * p->set;
    t.at += set * p->set_stride;
    return t;
}

#if LENGTHS
static ulong samples_of(const problem *p, const tile *t)
{
    ulong last = t->first + (t->runs - 1) * place_of(p).rows;
    return t->runs > 0 ? last / p->positions - t->first / p->positions + 1 : 0;
}

/* A work-item's rows before `row` of the matrix. */
static ulong rows_before(const tile *t, ulong row, uint step)
{
    return row > t->first ? min(t->runs, divide_up(row - t->first, step)) : 0;
}

/* What a tile has of its i-th sample: what is valid, or what is not. */
INLINE tile sample_tile(const problem *p, const tile *t, ulong i, int padding, global const int *lengths)
{
    tile s = *t;
    uint step = place_of(p).rows;
    ulong sample = t->first / p->positions + i, begin = sample * p->positions;
    ulong valid = begin + valid_positions(p, lengths, sample + t->base / p->set);
    ulong from = rows_before(t, padding ? valid : begin, step);
    s.runs = rows_before(t, padding ? begin + p->positions : valid, step) - from;
    s.at += from * t->stride;
    s.first += from * step;
    return s;
}
#endif

INLINE tile merge_tile(const problem *p, const tile *t)
{
    return *t;
}

INLINE tile piece_of(const tile *t, uint first)
{
    return *t;
}

#define FOR_PIECES(first, end) for (uint first = 0; first < 1; first++)
#define OWNER(p, k)            (k)

/* The rows that folding left over. Work-groups are of one work-item then, and spans are wide. */
static int has_rest(const problem *p, ulong id, uint part)
{
    return SPAN > 1 && p->rest > 0 && id == 0 && part == p->parts_outer - 1;
}

INLINE tile rest_of(const problem *p)
{
    tile t = tile_at(p, 0, p->groups, 0, p->rest, p->groups, place_of(p));
    t.at = p->outers * p->outer_stride;
    return t;
}

/* The (first) group of the k-th vector, in folded columns the column; and the plane of its partials. */
static ulong group_of(const tile *t, uint k)
{
    return t->base + t->column + k * t->step;
}

static ulong plane_of(const problem *p, const tile *t)
{
    return p->fold > 1 ? t->columns : p->plane;
}

static uint valid_of(const problem *p, const tile *t, uint k)
{
    ulong column = t->column + k * t->step;
    return column < t->columns ? (uint)min(t->columns - column, (ulong)W) : 0;
}

typedef uint writer;
#define forward_step(w)
#define LOOK_AHEAD(t, tensors, x, dy)
#define BESIDE 0

/* ---- forward: statistics -------------------------------------------------------------------------------------------- */

/* The lines that a work-item which is alone fetches while it adds up a chain of rows, CHAIN lines a vector of columns: those of later
 * rows in the order of their addresses, which is what memory delivers fastest. Not into the nearest cache: the rows of a chain would push
 * each other out of it. */
typedef struct {
    ulong next;       /* element */
    uint column, row; /* of its row, and of all */
    ulong gap;        /* from the end of a tile's row to its next one */
} fetches;

INLINE fetches fetches_of(const tile *t)
{
    fetches f;
    uint row = t->span * t->step;
    f.next = t->ahead;
    f.column = 0;
    f.row = t->stride > row ? (row + CHAIN * W - 1) / (CHAIN * W) * (CHAIN * W) : UINT_MAX;
    f.gap = t->stride > f.row ? t->stride - f.row : 0;
    return f;
}

#define FETCH_CHAIN(f, x)                                                                                               \
    for (uint line = 0; line < CHAIN; line++)                                                                           \
        PREFETCH_FAR((x) + (f)->next + line * W)

INLINE void fetched_chain(fetches *f)
{
    f->next += CHAIN * W;
    f->column += CHAIN * W;
    if (f->column >= f->row) {
        f->column = 0;
        f->next += f->gap;
    }
}

INLINE void add_rows(global const xreal *x, ulong stride, uint rows, uint valid, acc pivot, acc *s_out, acc *q_out)
{
    acc s = (acc)(0.0f), q = (acc)(0.0f);
    for (uint r = 0; r < rows; r++) {
        acc d = load_x(x + r * stride, valid, pivot) - pivot;
        s += d;
        q += d * d;
    }
    *s_out += s;
    *q_out += q;
}

/* Adds the first sums to the second ones, and clears them. */
INLINE void carry(uint from, uint end, acc *s, acc *q, acc *s_to, acc *q_to)
{
    FOR_SPAN(k, from, end) {
        s_to[k] += s[k];
        q_to[k] += q[k];
        s[k] = q[k] = (acc)(0.0f);
    }
}

/* Σ(x − pivot) and Σ(x − pivot)² of vectors from to below end over rows rows at x. The sums of a chain of rows stay in registers. */
INLINE void sums_about(const problem *p, const tile *t, uint from, uint end, global const xreal *x, uint rows,
                       const acc *pivot, acc *s2, acc *q2)
{
    acc s1[SPAN], q1[SPAN];
    uint full = min(end, t->full);
    FOR_SPAN(k, from, end)
        s1[k] = q1[k] = s2[k] = q2[k] = (acc)(0.0f);
    for (uint row = 0; row < rows;) {
        uint n = min(rows - row, CHAIN);
        global const xreal *at = x + row * t->stride;
        if (UNROLL && n == CHAIN) {
            fetches f = fetches_of(t);
            FOR_SPAN(k, from, full) {
                FETCH_CHAIN(&f, at);
                fetched_chain(&f);
                add_rows(at + k * t->step, t->stride, CHAIN, W, pivot[k], &s1[k], &q1[k]);
            }
        } else {
            FOR_SPAN(k, from, full)
                add_rows(at + k * t->step, t->stride, n, W, pivot[k], &s1[k], &q1[k]);
        }
        FOR_SPAN(k, max(from, full), end)
            add_rows(at + k * t->step, t->stride, n, valid_of(p, t, k), pivot[k], &s1[k], &q1[k]);
        row += n;
        if (row % (CHAIN * CHAINS) == 0 || row == rows)
            carry(from, end, s1, q1, s2, q2);
    }
}

/* Near the mean of the first rows of each column, and exactly the value itself if they are all equal. Row by row, in memory's order. */
INLINE void pivots_of(const problem *p, const tile *t, global const xreal *x, uint rows, acc *pivot)
{
    acc x0[SPAN], s[SPAN];
    uint used = 1; /* a power of two: divisions by it are exact */
    while (used < PIVOT_ELEMENTS && used * 2 <= rows)
        used *= 2;
    FOR_SPAN(k, 0, t->span) {
        x0[k] = load_x(x + k * t->step, valid_of(p, t, k), (vec)(0.0f));
        s[k] = (acc)(0.0f);
    }
    for (uint row = 1; row < used; row++) {
        global const xreal *at = x + row * t->stride;
        FOR_SPAN(k, 0, t->span)
            s[k] += load_x(at + k * t->step, valid_of(p, t, k), x0[k]) - x0[k];
    }
    FOR_SPAN(k, 0, t->span)
        pivot[k] = x0[k] + s[k] / (float)used;
}

/* The moments of a tile. A block whose pivot turns out far from its mean (an outlier) is read again, from the cache. */
INLINE void moments_of(const problem *p, const tile *t, uint span, global const xreal *x, moments *total,
                       writer *beside FORWARD_MORE)
{
    FOR_SPAN(k, 0, span)
        total[k] = moments_none();
    for (ulong row = 0; row < t->runs; row += BLOCK * CHAIN) {
        acc pivot[SPAN], s[SPAN], q[SPAN];
        uint rows = (uint)min(t->runs - row, (ulong)(BLOCK * CHAIN));
        global const xreal *at = x + t->at + row * t->stride;
        pivots_of(p, t, at, rows, pivot);
        sums_about(p, t, 0, t->span, at, rows, pivot, s, q);
        FOR_SPAN(k, 0, t->span) {
            for (int again = 0; again < 2 && pivot_is_far(rows, s[k], q[k]); again++) {
                pivot[k] += s[k] / (float)rows;
                sums_about(p, t, k, k + 1, at, rows, pivot, s, q);
            }
            total[k] = moments_merge(total[k], moments_about(pivot[k], rows, s[k], q[k]));
        }
    }
}
#endif

#if LENGTHS
#define FOR_SAMPLES(p, t, i) for (ulong i = 0, end_of_##i = samples_of(p, t); i < end_of_##i; i++)

/* The moments of what is valid. */
INLINE void valid_moments_of(const problem *p, const tile *t, uint span, global const xreal *x, moments *total,
                             global const int *lengths FORWARD_MORE)
{
    FOR_SPAN(k, 0, span)
        total[k] = moments_none();
    FOR_SAMPLES(p, t, i) {
        tile own = sample_tile(p, t, i, 0, lengths);
        moments more[SPAN];
        moments_of(p, &own, span, x, more, 0 FORWARD_MORE_PASSED);
        FOR_SPAN(k, 0, own.span)
            total[k] = moments_merge(total[k], more[k]);
    }
}
#define MOMENTS_OF(p, t, span, x, total) valid_moments_of(p, t, span, x, total, lengths FORWARD_MORE_PASSED)
#else
#define MOMENTS_OF(p, t, span, x, total) moments_of(p, t, span, x, total, 0 FORWARD_MORE_PASSED)
#endif

/* forward_statistics: the moments of each part of each group → partials f32[parts][7][groups]: n (2), m, s (2), var (2).
 * One work-group a part (segments) or a part and tile of columns. Reads x once: 4 bytes an element. */
kernel __attribute__((reqd_work_group_size(WG, 1, 1))) void KERNEL(forward_statistics)(problem arguments, global const xreal *x,
                                                                                       global float *partials FORWARD_MORE
                                                                                           LENGTHS_MORE)
{
    const problem p = arguments;
    OFFSET_FORWARD_MORE;
    local moments scratch[WG];
    uint part;
    ulong id = tile_id(&p, get_group_id(0), &part), planes = p.partials + (ulong)part * MOMENTS_PLANES * p.plane;
    tile t = tile_of(&p, id, part);
    moments total[SPAN];
    for (int passes = 1 + has_rest(&p, id, part); passes > 0; passes--) {
        MOMENTS_OF(&p, &t, p.span, x + p.x, total);
        FOR_SPAN(k, 0, p.span) {
            moments all = moments_merge_work_group(&p, total[k], MERGED(&p), scratch);
            uint valid = valid_of(&p, &t, k);
            if (PLACE(&p) < MERGED(&p) && valid > 0) {
                ulong plane = plane_of(&p, &t);
                global float *out = partials + planes + group_of(&t, k);
                float2 n = count_split(all.n);
                PUT(out, valid, (acc)(n.x));
                PUT(out + plane, valid, (acc)(n.y));
                PUT(out + 2 * plane, valid, all.m);
                PUT(out + 3 * plane, valid, all.s.hi);
                PUT(out + 4 * plane, valid, all.s.lo);
                PUT(out + 5 * plane, valid, all.var.hi);
                PUT(out + 6 * plane, valid, all.var.lo);
            }
        }
        if (passes > 1) {
            t = rest_of(&p);
            planes += MOMENTS_PLANES * p.plane;
        }
    }
}

/* ---- normalize ------------------------------------------------------------------------------------------------------ */

static source source_of(const problem *p, ulong g, uint valid, global const float *mean, global const float *resid,
                        global const float *scale)
{
    source s;
    acc r;
    s.m = s.c = (acc)(0.0f);
    if (p->flags & SOURCE_IS_CHANNEL) {
        s.m = get_weight(p, mean + p->mean, g, valid);
        r = get_weight(p, scale + p->scale, g, valid);
    } else {
        if (!(p->flags & UNCENTRED))
            s.m = get_statistic(p, mean + p->mean, g, valid);
        if (p->flags & HAS_RESID)
            s.c = get_statistic(p, resid + p->resid, g, valid);
        r = get_statistic(p, scale + p->scale, g, valid);
    }
    s.rstd = p->flags & SCALE_IS_VAR ? rstd_of(r, p->eps) : r;
    return s;
}

#if ACT || FROM_Y
#define BIAS_MORE        , global const float *bias
#define BIAS_MORE_PASSED , bias
#else
#define BIAS_MORE
#define BIAS_MORE_PASSED
#endif

/* Weight and bias of group g; those of rows come with the elements. */
#ifdef CLNORM_ROWS
#define WEIGHT_OF(p, weight, g, valid) 1.0f
#define BIAS_OF(p, bias, g, valid)     0.0f
#else
#define WEIGHT_OF(p, weight, g, valid) ((p)->flags & HAS_WEIGHT ? get_weight(p, (weight) + (p)->weight, g, valid) : (acc)(1.0f))
#define BIAS_OF(p, bias, g, valid)     ((p)->flags & HAS_BIAS ? get_weight(p, (bias) + (p)->bias, g, valid) : (acc)(0.0f))
#endif

#if FROM_Y
static acc undo_of(const problem *p, ulong g, uint valid, acc rstd, global const float *weight)
{
    acc w = (acc)(WEIGHT_OF(p, weight, g, valid));
    return RECIPROCAL(w, acc) / rstd;
}
#endif

static forward_factors fold_forward(const problem *p, ulong g, uint valid, source s, global const float *weight,
                                    global const float *bias)
{
    forward_factors f;
    f.m = s.m;
    f.c = s.c;
    f.a = s.rstd * WEIGHT_OF(p, weight, g, valid);
    f.b = BIAS_OF(p, bias, g, valid);
    return f;
}

static backward_factors fold_backward(const problem *p, ulong g, uint valid, source s, sums t, acc count,
                                      global const float *weight BIAS_MORE)
{
    backward_factors b;
#if ACT || FROM_Y
    b.b = BIAS_OF(p, bias, g, valid);
#endif
#if FROM_Y
    b.a = undo_of(p, g, valid, s.rstd, weight);
#endif
    b.m = s.m;
    b.c = s.c;
    b.f = s.rstd * WEIGHT_OF(p, weight, g, valid);
    acc f = p->flags & WEIGHTED_SUMS ? s.rstd : b.f;
    b.r = p->flags & UNCENTRED ? (acc)(0.0f) : -f * (t.dy / count);
    b.q = -f * s.rstd * (t.dyx / count);
    return b;
}

/* With frozen statistics dx = f·dy: a forward of dy. The negative zero keeps the sign of a zero. */
static forward_factors fold_frozen(const problem *p, ulong g, uint valid, source s, global const float *weight)
{
    forward_factors f;
    f.m = f.c = (acc)(0.0f);
    f.a = s.rstd * WEIGHT_OF(p, weight, g, valid);
    f.b = (acc)(-0.0f);
    return f;
}

#if ACT || FROM_Y
/* Completes the source of a backward that works out the value before the activation again, or x - mean. */
static source with_factors(const problem *p, ulong g, uint valid, source s, global const float *weight, global const float *bias)
{
    source t = s;
#if FROM_Y
    t.a = undo_of(p, g, valid, s.rstd, weight);
#else
    t.a = s.rstd * WEIGHT_OF(p, weight, g, valid);
#endif
    t.b = BIAS_OF(p, bias, g, valid);
    return t;
}
#define WITH_FACTORS(p, g, valid, s) with_factors(p, g, valid, s, weight, bias)
#else
#define WITH_FACTORS(p, g, valid, s) (s)
#endif

/* What the activation leaves of g = dy, at element i of the tensors with x's value v = (x - m) - c: g·act'(v·a + b [+ z]), or by the sign
 * of y or the mask. LOAD_X and LOAD_Y read elements like v's. */
#if MASK
#define DY_OF(p, g, v, a, b, LOAD_X, LOAD_Y) ACT_GRADIENT(p, LOAD_Y(y), g)
#elif ACT && RES == 1
#define DY_OF(p, g, v, a, b, LOAD_X, LOAD_Y) \
    ACT_GRADIENT(p, (p)->flags & BY_Y ? LOAD_Y(y) : (v) * (a) + (b) + LOAD_X(z), g)
#elif ACT
#define DY_OF(p, g, v, a, b, LOAD_X, LOAD_Y) ACT_GRADIENT(p, (p)->flags & BY_Y ? LOAD_Y(y) : (v) * (a) + (b), g)
#else
#define DY_OF(p, g, v, a, b, LOAD_X, LOAD_Y) (g)
#endif
#if MASK
#define LOAD_SIGNS(y, i, valid) masked(y, p->mask + (i), valid, 0)
#else
#define LOAD_SIGNS(y, i, valid) load_y(y + (i), valid, (vec)(0.0f))
#endif
/* x need not be there: with frozen statistics, or where only Σdy is asked for. */
#define X_IF_THERE(p, x, fill) (PLAIN || (p)->flags & HAS_X ? (x) : (fill))

/* Where a work-item keeps the factors of its tile's groups for backward: itself; or a team of rows' has them in local memory, where its
 * first work-item puts them, so that many rows take no registers. A work-group has WG of them at most. */
#if defined(CLNORM_ROWS) && WG > 1
#define FACTORS_SPACE   local
#define KEEP(b)         local backward_factors b##_all[WG], *b = b##_all + (uint)get_local_id(0) / TEAM(&p) * p.span
#define IS_KEEPER(p)    (PLACE(p) == 0)
#define WAIT_FOR_KEEPER barrier(CLK_LOCAL_MEM_FENCE | CLK_GLOBAL_MEM_FENCE) /* dx may be dy */
#else
#define FACTORS_SPACE   private
#define KEEP(b)         backward_factors b[SPAN]
#define IS_KEEPER(p)    1
#define WAIT_FOR_KEEPER
#endif

#ifdef CLNORM_ROWS
/* `valid` elements from the i-th of a row on, W or the last ones. A work-item that is alone takes these with the elements before them, in
 * the last components, where the row is long enough for that; others may not touch their neighbours' elements. */
#define TAKES_BACK(valid, length) (WG == 1 && (valid) < W && (length) >= W)

#if W > 1
#define PUT_BACK(T)                                                                                                     \
    if (TAKES_BACK(valid, length)) {                                                                                    \
        global real_##T *at = row + length - W;                                                                         \
        STOREV_##T(select(LOADV_##T(at), v, (ivec)(INDEXES >= (ivec)(W - (int)valid))), at);                            \
        return;                                                                                                         \
    }
#else
#define PUT_BACK(T)
#endif
#define PARTS(T)                                                                                                        \
    INLINE vec get_part_##T(global const real_##T *row, uint i, uint valid, uint length, vec fill)                      \
    {                                                                                                                   \
        return TAKES_BACK(valid, length) ? load_tail_##T(row, length, valid, fill) : load_##T(row + i, valid, fill);    \
    }                                                                                                                   \
    INLINE void put_part_##T(global real_##T *row, uint i, uint valid, uint length, vec v)                              \
    {                                                                                                                   \
        PUT_BACK(T)                                                                                                     \
        store_##T(row + i, valid, v);                                                                                   \
    }
PARTS(0)
#if XT == 1 || YT == 1
PARTS(1)
#endif
#if XT == 2 || YT == 2
PARTS(2)
#endif
#define get_part   get_part_0
#define put_part   put_part_0
#define get_part_x JOIN(get_part_, XT)
#define get_part_y JOIN(get_part_, YT)
#define put_part_x JOIN(put_part_, XT)
#define put_part_y JOIN(put_part_, YT)

INLINE vec normalized_part(const problem *p, forward_factors f, global const xreal *x, global const float *weight,
                           global const float *bias, uint i, uint valid, uint length FORWARD_MORE)
{
    vec a = (vec)(f.a), b = (vec)(f.b);
    if (p->flags & HAS_WEIGHT)
        a *= get_part(weight, i, valid, length, (vec)(0.0f));
    if (p->flags & HAS_BIAS)
        b = get_part(bias, i, valid, length, (vec)(0.0f));
    vec t = ((get_part_x(x, i, valid, length, (vec)(0.0f)) - (vec)(f.m)) - (vec)(f.c)) * a + b;
#if RES == 1
    t += get_part_x(z, i, valid, length, (vec)(0.0f));
#endif
    return ACTIVATED(p, t);
}

/* Rows that are not whole aligned vectors go past the cache only if they are long: their ends are stored one by one. */
#define LONG_ROW 512u

/* y may be x. */
INLINE void forward_row(const problem *p, const tile *t, forward_factors f, global const xreal *x, global yreal *y,
                        global const float *weight, global const float *bias FORWARD_MORE)
{
    uint i = t->start, length = t->length;
#if WG == 1 && W > 1 && PLAIN
    if ((p->flags & STREAM) && (length >= LONG_ROW || (length % W == 0 && MISALIGNED(y) == 0))) {
        for (; i < MISALIGNED(y); i++) {
            float a = p->flags & HAS_WEIGHT ? f.a * weight[i] : f.a;
            y[i] = ((x[i] - f.m) - f.c) * a + (p->flags & HAS_BIAS ? bias[i] : f.b);
        }
        for (; i + W <= length; i += W)
            STREAMV(normalized_part(p, f, x, weight, bias, i, W, length), y + i);
    }
#endif
    for (; i + W <= length; i += t->step)
        store_y(y + i, W, normalized_part(p, f, x, weight, bias, i, W, length FORWARD_MORE_PASSED));
    if (i < length)
        put_part_y(y, i, length - i, length,
                   normalized_part(p, f, x, weight, bias, i, length - i, length FORWARD_MORE_PASSED));
}

/* Where the weights of row g begin, from where a part of it begins. */
static ulong weights_at(const problem *p, const tile *t, ulong g)
{
    return (p->cycle == 1 ? 0 : g % p->cycle * p->inners) + t->from;
}

INLINE void forward_tile(const problem *p, const tile *t, const forward_factors *f, global const xreal *x, global yreal *y,
                         global const float *weight, global const float *bias FORWARD_MORE)
{
    FOR_SPAN(k, 0, t->runs > 0 ? t->span : 0) {
        ulong at = t->at + k * t->next, w = weights_at(p, t, group_of(t, k));
#if RES
        forward_row(p, t, f[k], x + at, y + at, weight + p->weight + w, bias + p->bias + w, z + at, sum);
#else
        forward_row(p, t, f[k], x + at, y + at, weight + p->weight + w, bias + p->bias + w);
#endif
    }
}

/* Adds v to pairs whose low parts are `plane` behind their high ones. */
INLINE void gather(global float *to, ulong plane, uint i, uint valid, uint length, vec v)
{
    vec old = get_part(to, i, valid, length, (vec)(0.0f)), hi = old + v, t = hi - old;
    put_part(to, i, valid, length, hi);
    to += plane;
    vec lo = get_part(to, i, valid, length, (vec)(0.0f)) + ((old - (hi - t)) + (v - t));
    put_part(to, i, valid, length, lo);
}

/* Vectors of a row that a work-item takes before it goes on to the next row of a chain. */
#define PIECE (WG == 1 ? 16u : 1u)

/* dx of rows from to below end, which have the same weights: of `vectors` vectors, a step apart, from the i-th element on, of `valid`
 * elements; and what they add to the gradients of these weights → gathered, two pairs in planes. dx may be dy. */
INLINE void backward_piece(const problem *p, const tile *t, FACTORS_SPACE const backward_factors *b, uint from, uint end,
                           global const breal *x, global const yreal *dy, global xreal *dx, global const float *weight,
                           global float *gathered, uint i, uint vectors, uint valid, int stream BACKWARD_MORE)
{
    vec dw[PIECE], db[PIECE];
    for (uint j = 0; j < vectors; j++)
        dw[j] = db[j] = (vec)(0.0f);
    for (uint k = from; k < end; k++) {
        ulong at = t->at + k * t->next;
        vec f = (vec)(b[k].f), q = (vec)(b[k].q), r = (vec)(b[k].r);
#if !FROM_Y
        vec m = (vec)(b[k].m), c = (vec)(b[k].c);
#endif
        for (uint j = 0; j < vectors; j++) {
            uint e = i + j * t->step;
            vec g = get_part_y(dy + at, e, valid, t->length, (vec)(0.0f)), w = f;
#if FROM_Y
            vec d = (vec)(0.0f), undo = (vec)(b[k].a);
            if (p->flags & HAS_WEIGHT) {
                vec w_e = get_part(weight, e, valid, t->length, (vec)(0.0f));
                undo = RECIPROCAL(w_e, vec) * undo;
                w *= w_e;
            }
            if (READS_Y(p)) {
                vec v = get_part_y(y + at, e, valid, t->length, (vec)(0.0f));
                vec b_e = p->flags & HAS_BIAS ? get_part(bias, e, valid, t->length, (vec)(0.0f)) : (vec)(b[k].b);
                g = ACT_GRADIENT(p, v, g);
                if (p->flags & HAS_X)
                    d = UNDONE(p, v, get_part_x(z + at, e, valid, t->length, (vec)(0.0f)), b_e, undo);
            }
#else
            vec d = (X_IF_THERE(p, get_part_x(x + at, e, valid, t->length, (vec)(0.0f)), m) - m) - c;
            if (p->flags & HAS_WEIGHT)
                w *= get_part(weight, e, valid, t->length, (vec)(0.0f));
#if ACT
            vec b_e = p->flags & HAS_BIAS ? get_part(bias, e, valid, t->length, (vec)(0.0f)) : (vec)(b[k].b);
#define LOAD_X(from) get_part_x(from + at, e, valid, t->length, (vec)(0.0f))
#if MASK
#define LOAD_Y(from) masked(from, p->mask + at + e, valid, TAKES_BACK(valid, t->length) ? W - valid : 0)
#else
#define LOAD_Y(from) get_part_y(from + at, e, valid, t->length, (vec)(0.0f))
#endif
            g = DY_OF(p, g, d, w, b_e, LOAD_X, LOAD_Y);
#undef LOAD_X
#undef LOAD_Y
#endif
#endif
            vec out = p->flags & FROZEN ? g * w : g * w + (d * q + r);
            if (p->flags & ADD_DX)
                out += get_part_x(dx + at, e, valid, t->length, (vec)(0.0f));
            if (stream)
                STREAMX(out, dx + at + e);
            else if (PLAIN || p->flags & WRITE_DX)
                put_part_x(dx + at, e, valid, t->length, out);
#if RES == 1
            if (p->flags & WRITE_DZ) {
                vec there = (vec)(0.0f);
                if (p->flags & ADD_DZ)
                    there = get_part_x(dz + at, e, valid, t->length, there);
                put_part_x(dz + at, e, valid, t->length, p->flags & ADD_DZ ? there + g : g);
            }
#endif
            db[j] += g;
            dw[j] += g * d * f;
        }
    }
    if (p->flags & WRITE_PARTIALS) {
        for (uint j = 0; j < vectors; j++) {
            uint e = i + j * t->step;
            gather(gathered, p->weights, e, valid, t->length, db[j]);
            gather(gathered + 2 * p->weights, p->weights, e, valid, t->length, dw[j]);
        }
    }
}

/* The rows of a tile, in chains of rows with the same weights. */
INLINE void backward_tile(const problem *p, const tile *t, FACTORS_SPACE const backward_factors *b, global const breal *x,
                          global const yreal *dy, global xreal *dx, global const float *weight, global float *gathered BACKWARD_MORE)
{
    uint chain = p->cycle == 1 ? CHAIN : 1u;
#if PLAIN && WG == 1
    int stream = (p->flags & STREAM) && MISALIGNED(dx + t->at) == 0 && (t->length % W == 0 || t->span == 1);
#else
    int stream = 0;
#endif
    for (uint from = 0; t->runs > 0 && from < t->span; from += chain) {
        ulong at = weights_at(p, t, group_of(t, from));
        uint end = min(from + chain, t->span), i = t->start, left = t->vectors;
        global const float *w = weight + p->weight + at;
        global float *to = gathered + at;
#if ACT || FROM_Y
        global const float *bias_all = bias;
        bias = bias_all + p->bias + at;
#endif
        for (; left >= PIECE; left -= PIECE, i += PIECE * t->step) {
            if (stream)
                backward_piece(p, t, b, from, end, x, dy, dx, w, to, i, PIECE, W, 1 BACKWARD_MORE_PASSED);
            else
                backward_piece(p, t, b, from, end, x, dy, dx, w, to, i, PIECE, W, 0 BACKWARD_MORE_PASSED);
        }
        if (left > 0)
            backward_piece(p, t, b, from, end, x, dy, dx, w, to, i, left, W, stream BACKWARD_MORE_PASSED);
        if (t->tail > 0)
            backward_piece(p, t, b, from, end, x, dy, dx, w, to, t->length - t->tail, 1, t->tail, 0 BACKWARD_MORE_PASSED);
#if ACT || FROM_Y
        bias = bias_all;
#endif
    }
}
#else
/* y, and dx and dz, of the vector at element i, of `valid` elements, with the factors of its elements: what is not plain goes this way. */
#if !PLAIN
INLINE void forward_vector(const problem *p, ulong i, uint valid, vec m, vec c, vec a, vec b, global const xreal *x,
                           global yreal *y FORWARD_MORE)
{
    vec t = ((load_x(x + i, valid, m) - m) - c) * a + b;
#if RES == 1
    t += load_x(z + i, valid, (vec)(0.0f));
#endif
    store_y(y + i, valid, ACTIVATED(p, t));
}
#endif

INLINE void backward_vector(const problem *p, ulong i, uint valid, const backward_factors *b, global const breal *x,
                            global const yreal *dy, global xreal *dx BACKWARD_MORE)
{
#if FROM_Y
    vec g = load_y(dy + i, valid, (vec)(0.0f)), d = (vec)(0.0f);
    if (READS_Y(p)) {
        vec v = load_y(y + i, valid, (vec)(0.0f));
        g = ACT_GRADIENT(p, v, g);
        if (p->flags & HAS_X)
            d = UNDONE(p, v, load_x(z + i, valid, (vec)(0.0f)), (vec)(b->b), (vec)(b->a));
    }
#else
    vec m = (vec)(b->m), g = load_y(dy + i, valid, (vec)(0.0f));
    vec d = ((p->flags & HAS_X ? load_x(x + i, valid, m) : m) - m) - (vec)(b->c);
#if ACT
#define LOAD_X(from) load_x(from + i, valid, (vec)(0.0f))
#define LOAD_Y(from) LOAD_SIGNS(from, i, valid)
    g = DY_OF(p, g, d, (vec)(b->f), (vec)(b->b), LOAD_X, LOAD_Y);
#undef LOAD_X
#undef LOAD_Y
#endif
#endif
    vec out = g * (vec)(b->f);
    if (!(p->flags & FROZEN))
        out += d * (vec)(b->q) + (vec)(b->r);
    if (p->flags & ADD_DX)
        out += load_x(dx + i, valid, (vec)(0.0f));
    if (p->flags & WRITE_DX)
        store_x(dx + i, valid, out);
#if RES == 1
    if (p->flags & ADD_DZ)
        g += load_x(dz + i, valid, (vec)(0.0f));
    if (p->flags & WRITE_DZ)
        store_x(dz + i, valid, g);
#endif
}
#endif

#if defined(CLNORM_SEGMENTS) && !defined(CLNORM_ROWS)
#if PLAIN
/* The work-items along a run share it; y may be x. */
static void forward_run(const problem *p, const tile *t, forward_factors f, global const float *x, global float *y)
{
    uint whole = t->length / W * W;
    for (uint i = t->start; i < whole; i += t->step)
        STOREV(NORMALIZED(LOADV(x + i), vec, f), y + i);
    for (uint i = whole + t->start / W; i < t->length; i += p->lanes)
        y[i] = NORMALIZED(x[i], float, f);
}

/* Likewise; dx may be dy. */
static void backward_run(const problem *p, const tile *t, backward_factors b, global const float *x, global const float *dy,
                         global float *dx)
{
    uint whole = t->length / W * W;
    for (uint i = t->start; i < whole; i += t->step)
        STOREV(GRADIENT(LOADV(dy + i), LOADV(x + i), vec, b), dx + i);
    for (uint i = whole + t->start / W; i < t->length; i += p->lanes)
        dx[i] = GRADIENT(dy[i], x[i], float, b);
}

#endif

/* Calls VECTOR(element, valid) for this work-item's vectors of a run that begins at element `at`. */
#define FOR_RUN(t, at, VECTOR)                                                                                          \
    for (uint j = 0; j < (t)->vectors; j++)                                                                             \
        VECTOR((at) + (t)->start + j * (t)->step, W);                                                                   \
    if ((t)->tail > 0)                                                                                                  \
        VECTOR((at) + (t)->length - (t)->tail, (t)->tail);

/* The runs of a tile, neighbours in memory one after another. */
INLINE void forward_tile(const problem *p, const tile *t, const forward_factors *f, global const xreal *x, global yreal *y,
                         global const float *weight, global const float *bias FORWARD_MORE)
{
#if CHAINED
    if (t->length >= W) {
        writer w = writer_of(p, t, x, x, y);
        w.f = f;
        forward_rest(&w);
        return;
    }
#endif
    for (ulong run = 0; run < t->runs; run++) {
        ulong at = t->at + run * t->stride;
#if !PLAIN
#define VECTOR(i, valid)                                                                                                \
    forward_vector(p, i, valid, (vec)(f[k].m), (vec)(f[k].c), (vec)(f[k].a), (vec)(f[k].b), x, y FORWARD_MORE_PASSED)
        FOR_SPAN(k, 0, t->span) {
            FOR_RUN(t, at + k * t->next, VECTOR)
        }
#undef VECTOR
#else
        FOR_SPAN(k, 0, t->span)
            forward_run(p, t, f[k], x + at + k * t->next, y + at + k * t->next);
#endif
    }
}

INLINE void backward_tile(const problem *p, const tile *t, const backward_factors *b, global const breal *x,
                          global const yreal *dy, global xreal *dx, global const float *weight, global float *gathered BACKWARD_MORE)
{
#if CHAINED
    if (t->length >= W && !(p->flags & ADD_DX)) {
        writer w = writer_of(p, t, x, dy, dx);
        w.b = b;
        backward_rest(&w);
        return;
    }
#endif
    for (ulong run = 0; run < t->runs; run++) {
        ulong at = t->at + run * t->stride;
        if (!PLAIN || p->flags & ADD_DX) {
#define VECTOR(i, valid) backward_vector(p, i, valid, &b[k], x, dy, dx BACKWARD_MORE_PASSED)
            FOR_SPAN(k, 0, t->span) {
                FOR_RUN(t, at + k * t->next, VECTOR)
            }
#undef VECTOR
            continue;
        }
#if PLAIN
        FOR_SPAN(k, 0, t->span)
            backward_run(p, t, b[k], x + at + k * t->next, dy + at + k * t->next, dx + at + k * t->next);
#endif
    }
}
#elif defined(CLNORM_COLUMNS)
#if PLAIN
/* Rows that are written together by a work-item that is alone, so that factors stay in registers for so long: where those of a row fill
 * half of the nearest cache and more. Of narrower tiles they were not faster together. */
#define TOGETHER 4u
#define WRITES_TOGETHER(t, row) (UNROLL && (t)->full > SPAN / 2 && (t)->full == (t)->span && (t)->runs - (row) >= TOGETHER)

/* Stores past the cache need vectors that are aligned in every row. */
static int may_stream(const problem *p, const tile *t, global const float *y)
{
    return p->flags & STREAM && MISALIGNED(y + t->at) == 0 && t->stride % W == 0;
}

#define NORMALIZED(x, f)  ((((x) - (f).m) - (f).c) * (f).a + (f).b)
#define GRADIENT(g, x, b) ((g) * (b).f + ((((x) - (b).m) - (b).c) * (b).q + (b).r))
#endif

/* The rows of a tile; y may be x. */
INLINE void forward_tile(const problem *p, const tile *t, const forward_factors *f, global const xreal *x, global yreal *y,
                         global const float *weight, global const float *bias FORWARD_MORE)
{
#if !PLAIN
    for (ulong row = 0; row < t->runs; row++) {
        ulong at = t->at + row * t->stride;
        FOR_SPAN(k, 0, t->full)
            forward_vector(p, at + k * t->step, W, f[k].m, f[k].c, f[k].a, f[k].b, x, y FORWARD_MORE_PASSED);
        FOR_SPAN(k, t->full, t->span)
            forward_vector(p, at + k * t->step, valid_of(p, t, k), f[k].m, f[k].c, f[k].a, f[k].b, x, y FORWARD_MORE_PASSED);
    }
#else
    int stream = may_stream(p, t, y);
    for (ulong row = 0, rows; row < t->runs; row += rows) {
        global const float *from = x + t->at + row * t->stride;
        global float *to = y + t->at + row * t->stride;
        rows = 1;
        if (stream && WRITES_TOGETHER(t, row)) {
            rows = TOGETHER;
            FOR_SPAN(k, 0, t->full) {
                forward_factors own = f[k];
                for (uint r = 0; r < TOGETHER; r++) {
                    ulong i = r * t->stride + k * t->step;
                    PREFETCH(from + i + t->ahead);
                    STREAMV(NORMALIZED(LOADV(from + i), own), to + i);
                }
            }
            continue;
        }
        if (stream) {
            FOR_SPAN(k, 0, t->full)
                STREAMV(NORMALIZED(LOADV(from + k * t->step), f[k]), to + k * t->step);
        } else {
            FOR_SPAN(k, 0, t->full)
                STOREV(NORMALIZED(LOADV(from + k * t->step), f[k]), to + k * t->step);
        }
        FOR_SPAN(k, t->full, t->span) {
            uint valid = valid_of(p, t, k);
            store(to + k * t->step, valid, NORMALIZED(load(from + k * t->step, valid, (vec)(0.0f)), f[k]));
        }
    }
#endif
}

/* Likewise; dx may be dy. */
INLINE void backward_tile(const problem *p, const tile *t, const backward_factors *b, global const breal *x,
                          global const yreal *dy, global xreal *dx, global const float *weight, global float *gathered BACKWARD_MORE)
{
    if (!PLAIN || p->flags & ADD_DX) {
        for (ulong row = 0; row < t->runs; row++) {
            ulong at = t->at + row * t->stride;
            FOR_SPAN(k, 0, t->full)
                backward_vector(p, at + k * t->step, W, &b[k], x, dy, dx BACKWARD_MORE_PASSED);
            FOR_SPAN(k, t->full, t->span)
                backward_vector(p, at + k * t->step, valid_of(p, t, k), &b[k], x, dy, dx BACKWARD_MORE_PASSED);
        }
        return;
    }
#if PLAIN
    int stream = may_stream(p, t, dx);
    for (ulong row = 0, rows; row < t->runs; row += rows) {
        ulong at = t->at + row * t->stride;
        global const float *v = x + at, *g = dy + at;
        global float *to = dx + at;
        rows = 1;
        if (stream && WRITES_TOGETHER(t, row)) {
            rows = TOGETHER;
            FOR_SPAN(k, 0, t->full) {
                backward_factors own = b[k];
                for (uint r = 0; r < TOGETHER; r++) {
                    ulong i = r * t->stride + k * t->step;
                    PREFETCH(g + i + t->ahead);
                    PREFETCH(v + i + t->ahead);
                    STREAMV(GRADIENT(LOADV(g + i), LOADV(v + i), own), to + i);
                }
            }
            continue;
        }
        if (stream) {
            FOR_SPAN(k, 0, t->full)
                STREAMV(GRADIENT(LOADV(g + k * t->step), LOADV(v + k * t->step), b[k]), to + k * t->step);
        } else {
            FOR_SPAN(k, 0, t->full)
                STOREV(GRADIENT(LOADV(g + k * t->step), LOADV(v + k * t->step), b[k]), to + k * t->step);
        }
        FOR_SPAN(k, t->full, t->span) {
            uint valid = valid_of(p, t, k);
            store(to + k * t->step, valid,
                  GRADIENT(load(g + k * t->step, valid, (vec)(0.0f)), load(v + k * t->step, valid, (vec)(0.0f)), b[k]));
        }
    }
#endif
}
#endif

#if LENGTHS
/* Calls VECTOR(element, valid) for the vectors of a tile. */
#ifdef CLNORM_SEGMENTS
#define FOR_TILE(t, VECTOR)                                                                                             \
    for (ulong run = 0; run < (t)->runs; run++) {                                                                       \
        FOR_RUN(t, (t)->at + run * (t)->stride, VECTOR)                                                                 \
    }
#else
#define FOR_TILE(t, VECTOR)                                                                                             \
    for (ulong row = 0; row < (t)->runs; row++) {                                                                       \
        FOR_SPAN(k, 0, (t)->span)                                                                                       \
            VECTOR((t)->at + row * (t)->stride + k * (t)->step, valid_of(p, t, k));                                     \
    }
#endif

/* A tile of padding; zeros are the same bits in every type. (PoCL 3.1 makes aligned stores of vstore_half of a constant.) */
#define ZERO_TILE(name, real)                                                                                           \
    INLINE void zero_##name(const problem *p, const tile *t, global real *to)                                           \
    {                                                                                                                   \
        FOR_TILE(t, ZERO_VECTOR)                                                                                        \
    }
#define ZERO_VECTOR(i, valid)                                                                                           \
    for (uint e = 0; e < (valid); e++)                                                                                  \
        to[(i) + e] = 0;
ZERO_TILE(y, yreal)
ZERO_TILE(x, xreal)
#endif

/* forward_apply: y = ((x − m) − c)·a + b with a = rstd·weight. Reads x, writes y: 8 bytes an element. */
kernel __attribute__((reqd_work_group_size(WG, 1, 1))) void KERNEL(forward_apply)(
    problem arguments, global const xreal *x, global yreal *y, global const float *mean, global const float *resid,
    global const float *scale, global const float *weight, global const float *bias FORWARD_MORE LENGTHS_MORE)
{
    const problem p = arguments;
    OFFSET_FORWARD_MORE;
    x += p.x;
    y += p.out;
    uint part;
    ulong id = tile_id(&p, get_num_groups(0) - 1 - get_group_id(0), &part);
    tile t = tile_of(&p, id, part);
    forward_factors f[SPAN];
    for (int passes = 1 + has_rest(&p, id, part); passes > 0; passes--) {
        FOR_SPAN(k, 0, t.span) {
            uint valid = valid_of(&p, &t, k);
            source s = source_of(&p, group_of(&t, k), valid, mean, resid, scale);
            f[k] = fold_forward(&p, group_of(&t, k), valid, s, weight, bias);
        }
#if LENGTHS
        FOR_SAMPLES(&p, &t, i) {
            tile own = sample_tile(&p, &t, i, 0, lengths), padding = sample_tile(&p, &t, i, 1, lengths);
            forward_tile(&p, &own, f, x, y, weight, bias FORWARD_MORE_PASSED);
            zero_y(&p, &padding, y);
        }
#else
        forward_tile(&p, &t, f, x, y, weight, bias FORWARD_MORE_PASSED);
#endif
        if (passes > 1)
            t = rest_of(&p);
    }
}

/* What forward normalizes. */
#if RES == 2
#define NORMED sum
#else
#define NORMED x
#endif

#if !LENGTHS
/* forward_fused: statistics, finish and apply of whole groups, one work-group after another. Reads x from memory once if a work-group's
 * groups stay in the cache, and writes y: 8 bytes an element, and 4 that the cache serves. */
kernel __attribute__((reqd_work_group_size(WG, 1, 1))) void KERNEL(forward_fused)(
    problem arguments, global const xreal *x, global yreal *y, global float *statistics, global float *state,
    global float *mean, global float *var, global float *rstd, global const float *weight, global const float *bias FORWARD_MORE)
{
    const problem p = arguments;
    OFFSET_FORWARD_MORE;
    local moments scratch[WG];
    x += p.x;
    y += p.out;
    uint blocks = (uint)get_num_groups(0), block = (uint)get_group_id(0);
    ulong turns = divide_up(p.tiles, WG / TEAM(&p)), last = cut(turns, block + 1, blocks);
    uint owners = p.span / (uint)p.merged;
    forward_factors f[SPAN];
#if CHAINED
    writer written; /* the tile before, as far as it is */
    written.runs = 0;
#endif
    for (ulong turn = cut(turns, block, blocks); turn < last; turn++) {
        tile t = tile_of(&p, team_tile(&p, turn), 0);
        LOOK_AHEAD(&t, 1, x, x);
        tile whole = merge_tile(&p, &t);
        moments total[SPAN];
        source s[SPAN];
        moments_of(&p, &whole, owners, x, total, BESIDE FORWARD_MORE_PASSED);
        FOR_SPAN(k, 0, owners) {
            moments all = moments_merge_work_group(&p, total[k], MERGED(&p), scratch);
            uint valid = valid_of(&p, &whole, k);
            s[k].m = s[k].c = s[k].rstd = (acc)(0.0f);
            if (PLACE(&p) < MERGED(&p) && valid > 0)
                s[k] = forward_finish(&p, group_of(&whole, k), valid, all, statistics, state, mean, var, rstd);
            s[k].m = share(&p, s[k].m, MERGED(&p), (local acc *)scratch);
            s[k].c = share(&p, s[k].c, MERGED(&p), (local acc *)scratch);
            s[k].rstd = share(&p, s[k].rstd, MERGED(&p), (local acc *)scratch);
        }
#if CHAINED
        forward_rest(&written);
#endif
        FOR_PIECES(first, t.span) {
            tile piece = piece_of(&t, first);
            FOR_SPAN(k, 0, piece.span)
                f[k] = fold_forward(&p, group_of(&piece, k), valid_of(&p, &piece, k), s[OWNER(&p, first + k)], weight, bias);
#if CHAINED
            if (chains(&p, W)) {
                written = writer_of(&p, &piece, x, x, y);
                written.f = f;
                continue;
            }
#endif
            forward_tile(&p, &piece, f, NORMED, y, weight, bias FORWARD_MORE_PASSED);
        }
    }
#if CHAINED
    forward_rest(&written);
#endif
}
#endif

/* ---- backward ------------------------------------------------------------------------------------------------------- */

/* Σdy and Σ dy·((x − m) − c) of a tile. */
#ifdef CLNORM_SEGMENTS
INLINE void add_dots(vec g, vec x, vec m, vec c, vec *a, vec *b)
{
    *a += g;
    *b += g * ((x - m) - c);
}

/* dy is weighted where weights run along the groups. */
#ifdef CLNORM_ROWS
#define WEIGHED(p, g, weight)                (p->flags & HAS_WEIGHT ? (g) * LOADV(weight) : (g))
#define WEIGHED_TAIL(p, g, weight, n, tail)  (p->flags & HAS_WEIGHT ? (g) * load_tail(weight, n, tail, (vec)(0.0f)) : (g))
#else
#define WEIGHED(p, g, weight)                (g)
#define WEIGHED_TAIL(p, g, weight, n, tail)  (g)
#endif

/* Of the vector at an element of the run; and of its tail. */
#if FROM_Y
#ifdef CLNORM_ROWS
#define UNDO(read)   (p->flags & HAS_WEIGHT ? RECIPROCAL(read(weight), vec) * a0 : a0)
#define OFFSET(read) (p->flags & HAS_BIAS ? read(bias) : b0)
#else
#define UNDO(read)   a0
#define OFFSET(read) b0
#endif
#define RUN_W(from)  LOADV(from + j)
#define TAIL_Y(from) load_tail_y(from + at.at, t->length, t->tail, (vec)(0.0f))
#define TAIL_W(from) load_tail(from, t->length, t->tail, (vec)(0.0f))
#define ADD_DOTS(index)                                                                                                 \
    do {                                                                                                                \
        uint j = (index);                                                                                               \
        ulong e = at.at + j;                                                                                            \
        vec g = LOADY(dy + e), d = (vec)(0.0f);                                                                         \
        if (READS_Y(p)) {                                                                                  \
            vec v = LOADY(y + e);                                                                                       \
            g = ACT_GRADIENT(p, v, g);                                                                                  \
            if (p->flags & HAS_X)                                                                                       \
                d = UNDONE(p, v, LOADX(z + e), OFFSET(RUN_W), UNDO(RUN_W));                                             \
        }                                                                                                               \
        add_dots(WEIGHED(p, g, weight + j), d, (vec)(0.0f), (vec)(0.0f), &a, &b);                                       \
    } while (0)
#define ADD_TAIL_DOTS                                                                                                   \
    do {                                                                                                                \
        vec g = TAIL_Y(dy), d = (vec)(0.0f);                                                                            \
        if (READS_Y(p)) {                                                                                  \
            vec v = TAIL_Y(y);                                                                                          \
            g = ACT_GRADIENT(p, v, g);                                                                                  \
            if (p->flags & HAS_X)                                                                                       \
                d = UNDONE(p, v, load_tail_x(z + at.at, t->length, t->tail, (vec)(0.0f)), OFFSET(TAIL_W), UNDO(TAIL_W)); \
        }                                                                                                               \
        add_dots(WEIGHED_TAIL(p, g, weight, t->length, t->tail), d, (vec)(0.0f), (vec)(0.0f), &a, &b);                  \
    } while (0)
#elif ACT
#ifdef CLNORM_ROWS
#define FACTOR(read) (p->flags & HAS_WEIGHT ? a0 * read(weight) : a0)
#define OFFSET(read) (p->flags & HAS_BIAS ? read(bias) : b0)
#else
#define FACTOR(read) a0
#define OFFSET(read) b0
#endif
#define RUN_X(from)  LOADX(from + e)
#define RUN_Y(from)  LOAD_SIGNS(from, e, W)
#define RUN_W(from)  LOADV(from + j)
#define TAIL_X(from) load_tail_x(from + at.at, t->length, t->tail, (vec)(0.0f))
#define TAIL_Y(from) load_tail_y(from + at.at, t->length, t->tail, (vec)(0.0f))
#if MASK
#define TAIL_SIGNS(from) \
    masked(from, p->mask + at.at + t->length - t->tail, t->tail, t->length >= W ? W - t->tail : 0)
#else
#define TAIL_SIGNS(y) TAIL_Y(y)
#endif
#define TAIL_W(from) load_tail(from, t->length, t->tail, (vec)(0.0f))
#define ADD_DOTS(index)                                                                                                 \
    do {                                                                                                                \
        uint j = (index);                                                                                               \
        ulong e = at.at + j;                                                                                            \
        vec v = X_IF_THERE(p, LOADX(x + e), m);                                                                         \
        vec g = DY_OF(p, LOADY(dy + e), (v - m) - c, FACTOR(RUN_W), OFFSET(RUN_W), RUN_X, RUN_Y);                       \
        add_dots(WEIGHED(p, g, weight + j), v, m, c, &a, &b);                                                           \
    } while (0)
#define ADD_TAIL_DOTS                                                                                                   \
    do {                                                                                                                \
        vec v = X_IF_THERE(p, load_tail_x(x + at.at, t->length, t->tail, m), m);                                        \
        vec g = DY_OF(p, TAIL_Y(dy), (v - m) - c, FACTOR(TAIL_W), OFFSET(TAIL_W), TAIL_X, TAIL_SIGNS);                      \
        add_dots(WEIGHED_TAIL(p, g, weight, t->length, t->tail), v, m, c, &a, &b);                     \
    } while (0)
#else
#define ADD_DOTS(j)                                                                                                     \
    add_dots(WEIGHED(p, LOADY(dy + at.at + (j)), weight + (j)), X_IF_THERE(p, LOADX(x + at.at + (j)), m), m, c, &a, &b)
#define ADD_TAIL_DOTS                                                                                                   \
    add_dots(WEIGHED_TAIL(p, load_tail_y(dy + at.at, t->length, t->tail, (vec)(0.0f)), weight, t->length, t->tail),     \
             X_IF_THERE(p, load_tail_x(x + at.at, t->length, t->tail, m), m), m, c, &a, &b)
#endif

/* weight, bias: of the first element of the part. */
INLINE dots dots_of_group(const problem *p, const tile *t, cursor at, global const breal *x, global const yreal *dy,
                          global const float *weight, source s, writer *beside BACKWARD_MORE)
{
    dots sum = dots_none();
#if !FROM_Y
    vec m = (vec)(s.m), c = (vec)(s.c);
#endif
#if ACT || FROM_Y
    vec a0 = (vec)(s.a), b0 = (vec)(s.b);
#endif
    while (at.runs > 0) {
        vec a1 = (vec)(0.0f), b1 = (vec)(0.0f);
        for (uint k1 = 0; k1 < CHAINS && at.runs > 0; k1++) {
            vec a = (vec)(0.0f), b = (vec)(0.0f);
            uint i = t->start + at.vector * t->step;
            int ends;
            uint vectors = chain_of(t, &at, &ends);
            if (UNROLL && vectors == CHAIN) {
                for (uint k = 0; k < CHAIN; k++) {
                    PREFETCH(dy + at.at + i + k * t->step + t->ahead);
                    PREFETCH(x + at.at + i + k * t->step + t->ahead);
                    ADD_DOTS(i + k * t->step);
                }
            } else {
                for (uint k = 0; k < vectors; k++) {
                    PREFETCH(dy + at.at + i + k * t->step + t->ahead);
                    PREFETCH(x + at.at + i + k * t->step + t->ahead);
                    ADD_DOTS(i + k * t->step);
                }
            }
            if (ends && t->tail > 0)
                ADD_TAIL_DOTS;
            chain_done(t, &at, vectors, ends);
            if (beside)
                backward_step(beside);
            a1 += a;
            b1 += b;
        }
        sum.dy = pair_add(sum.dy, SUM(a1));
        sum.dyd = pair_add(sum.dyd, SUM(b1));
    }
    return sum;
}

#ifdef CLNORM_ROWS
#define WEIGHTS_OF(p, t, k, weight) ((weight) + (p)->weight + weights_at(p, t, group_of(t, k)))
#define BIASES_OF(p, t, k, bias)    ((bias) + (p)->bias + weights_at(p, t, group_of(t, k)))
#else
#define WEIGHTS_OF(p, t, k, weight) (weight)
#define BIASES_OF(p, t, k, bias)    (bias)
#endif
#if ACT || RES || FROM_Y
#define GROUP_MORE_PASSED(p, t, k) , y, BIASES_OF(p, t, k, bias), z, dz
#else
#define GROUP_MORE_PASSED(p, t, k)
#endif

INLINE void dots_of(const problem *p, const tile *t, global const breal *x, global const yreal *dy,
                    global const float *weight, const source *s, dots *total, writer *beside BACKWARD_MORE)
{
    FOR_SPAN(k, 0, p->span)
        total[k] = k < t->span ? dots_of_group(p, t, cursor_of(t, k), x, dy, WEIGHTS_OF(p, t, k, weight),
                                               s[k], beside GROUP_MORE_PASSED(p, t, k))
                               : dots_none();
}
#else
INLINE void add_row_dots(const problem *p, ulong at, global const breal *x, global const yreal *dy, ulong stride, uint rows,
                         uint valid, source s, acc *a_out, acc *b_out BACKWARD_MORE)
{
    acc a = (acc)(0.0f), b = (acc)(0.0f);
    for (uint r = 0; r < rows; r++) {
        ulong i = at + r * stride;
#if FROM_Y
        acc g = load_y(dy + i, valid, (vec)(0.0f)), d = (acc)(0.0f);
        if (READS_Y(p)) {
            acc v = load_y(y + i, valid, (vec)(0.0f));
            g = ACT_GRADIENT(p, v, g);
            if (p->flags & HAS_X)
                d = UNDONE(p, v, load_x(z + i, valid, (vec)(0.0f)), s.b, s.a);
        }
#else
        acc g = load_y(dy + i, valid, (vec)(0.0f)), d = (X_IF_THERE(p, load_x(x + i, valid, s.m), s.m) - s.m) - s.c;
#if ACT
#define LOAD_X(from) load_x(from + i, valid, (vec)(0.0f))
#define LOAD_Y(from) LOAD_SIGNS(from, i, valid)
        g = DY_OF(p, g, d, s.a, s.b, LOAD_X, LOAD_Y);
#undef LOAD_X
#undef LOAD_Y
#endif
#endif
        a += g;
        b += g * d;
    }
    *a_out += a;
    *b_out += b;
}

INLINE void dots_of(const problem *p, const tile *t, global const breal *x, global const yreal *dy,
                    global const float *weight, const source *s, dots *total, writer *beside BACKWARD_MORE)
{
    acc a1[SPAN], b1[SPAN];
    FOR_SPAN(k, 0, p->span) {
        total[k] = dots_none();
        a1[k] = b1[k] = (acc)(0.0f);
    }
    for (ulong row = 0; row < t->runs;) {
        uint n = (uint)min(t->runs - row, (ulong)CHAIN);
        ulong at = t->at + row * t->stride;
        if (UNROLL && n == CHAIN) {
            fetches f = fetches_of(t);
            FOR_SPAN(k, 0, t->full) {
                FETCH_CHAIN(&f, x + at);
                FETCH_CHAIN(&f, dy + at);
                fetched_chain(&f);
                add_row_dots(p, at + k * t->step, x, dy, t->stride, CHAIN, W, s[k], &a1[k], &b1[k] BACKWARD_MORE_PASSED);
            }
        } else {
            FOR_SPAN(k, 0, t->full)
                add_row_dots(p, at + k * t->step, x, dy, t->stride, n, W, s[k], &a1[k], &b1[k] BACKWARD_MORE_PASSED);
        }
        FOR_SPAN(k, t->full, t->span)
            add_row_dots(p, at + k * t->step, x, dy, t->stride, n, valid_of(p, t, k), s[k], &a1[k], &b1[k] BACKWARD_MORE_PASSED);
        row += n;
        if (row % (CHAIN * CHAINS) == 0 || row == t->runs) {
            FOR_SPAN(k, 0, t->span) {
                total[k].dy = pair_add(total[k].dy, a1[k]);
                total[k].dyd = pair_add(total[k].dyd, b1[k]);
                a1[k] = b1[k] = (acc)(0.0f);
            }
        }
    }
}
#endif

/* A part's sums, two pairs → partials. */
static void put_dots(global float *out, ulong plane, uint valid, dots sum)
{
    PUT(out, valid, sum.dy.hi);
    PUT(out + plane, valid, sum.dy.lo);
    PUT(out + 2 * plane, valid, sum.dyd.hi);
    PUT(out + 3 * plane, valid, sum.dyd.lo);
}

#if LENGTHS
/* The sums of what is valid. */
INLINE void valid_dots_of(const problem *p, const tile *t, global const breal *x, global const yreal *dy,
                          global const float *weight, const source *s, dots *total, global const int *lengths BACKWARD_MORE)
{
    FOR_SPAN(k, 0, p->span)
        total[k] = dots_none();
    FOR_SAMPLES(p, t, i) {
        tile own = sample_tile(p, t, i, 0, lengths);
        dots more[SPAN];
        dots_of(p, &own, x, dy, weight, s, more, 0 BACKWARD_MORE_PASSED);
        FOR_SPAN(k, 0, own.span)
            total[k] = dots_merge(total[k], more[k]);
    }
}
#define DOTS_OF(p, t, x, dy, weight, s, total) valid_dots_of(p, t, x, dy, weight, s, total, lengths BACKWARD_MORE_PASSED)
#else
#define DOTS_OF(p, t, x, dy, weight, s, total) dots_of(p, t, x, dy, weight, s, total, 0 BACKWARD_MORE_PASSED)
#endif

/* backward_reduce: Σdy and Σ dy·((x − m) − c) of each part → partials f32[parts][4][groups], two pairs; rows: of weight·dy.
 * Reads x and dy once: 8 bytes an element. */
kernel __attribute__((reqd_work_group_size(WG, 1, 1))) void KERNEL(backward_reduce)(
    problem arguments, global const breal *x, global const yreal *dy, global const float *mean, global const float *resid,
    global const float *scale, global const float *weight, global float *partials BACKWARD_MORE LENGTHS_MORE)
{
    const problem p = arguments;
    OFFSET_BACKWARD_MORE;
    local dots scratch[WG];
    uint part;
    ulong id = tile_id(&p, get_group_id(0), &part), planes = p.partials + (ulong)part * DOTS_PLANES * p.plane;
    tile t = tile_of(&p, id, part);
    source s[SPAN];
    dots total[SPAN];
    for (int passes = 1 + has_rest(&p, id, part); passes > 0; passes--) {
        FOR_SPAN(k, 0, p.span) {
            uint valid = valid_of(&p, &t, k);
            if (valid > 0)
                s[k] = WITH_FACTORS(&p, group_of(&t, k), valid, source_of(&p, group_of(&t, k), valid, mean, resid, scale));
        }
        DOTS_OF(&p, &t, x + p.x, dy + p.dy, weight, s, total);
        FOR_SPAN(k, 0, p.span) {
            dots sum = dots_merge_work_group(&p, total[k], MERGED(&p), scratch);
            uint valid = valid_of(&p, &t, k);
            if (PLACE(&p) < MERGED(&p) && valid > 0)
                put_dots(partials + planes + group_of(&t, k), plane_of(&p, &t), valid, sum);
        }
        if (passes > 1) {
            t = rest_of(&p);
            planes += DOTS_PLANES * p.plane;
        }
    }
}

/* Σdy, Σ dy·x̂ and the count of the statistics group of group g, as backward_finish left them. */
static sums sums_of(const problem *p, ulong g, uint valid, global const float *in, acc *count)
{
    sums t;
    in += p->sums;
    *count = get_statistic(p, in, g, valid) + get_statistic(p, in + p->stats, g, valid);
    t.dy = get_statistic(p, in + 2 * p->stats, g, valid);
    t.dyx = get_statistic(p, in + 3 * p->stats, g, valid);
    return t;
}

#if LENGTHS
INLINE void zero_gradients(const problem *p, const tile *t, global xreal *dx BACKWARD_MORE)
{
    if ((PLAIN || p->flags & WRITE_DX) && !(p->flags & ADD_DX))
        zero_x(p, t, dx);
#if RES == 1
    if ((p->flags & WRITE_DZ) && !(p->flags & ADD_DZ))
        zero_x(p, t, dz);
#endif
}
#endif

/* backward_apply: dx from dy, x and the sums. Reads x and dy, writes dx: 12 bytes an element; FROZEN: x is not read, 8 bytes. */
kernel __attribute__((reqd_work_group_size(WG, 1, 1))) void KERNEL(backward_apply)(
    problem arguments, global const breal *x, global const yreal *dy, global xreal *dx, global const float *mean,
    global const float *resid, global const float *scale, global const float *weight, global const float *sums_in BACKWARD_MORE
        LENGTHS_MORE)
{
    const problem p = arguments;
    OFFSET_BACKWARD_MORE;
    KEEP(b);
    x += p.x;
    dy += p.dy;
    dx += p.out;
    uint part;
    ulong id = tile_id(&p, get_num_groups(0) - 1 - get_group_id(0), &part);
    tile t = tile_of(&p, id, part);
    for (int passes = 1 + has_rest(&p, id, part); passes > 0; passes--) {
#if PLAIN
        if ((p.flags & FROZEN) && !(p.flags & ADD_DX)) {
            forward_factors f[SPAN];
            FOR_SPAN(k, 0, t.span) {
                uint valid = valid_of(&p, &t, k);
                source s = source_of(&p, group_of(&t, k), valid, mean, resid, scale);
                f[k] = fold_frozen(&p, group_of(&t, k), valid, s, weight);
            }
#if LENGTHS
            FOR_SAMPLES(&p, &t, i) {
                tile own = sample_tile(&p, &t, i, 0, lengths);
                forward_tile(&p, &own, f, dy, dx, weight, weight);
            }
#else
            forward_tile(&p, &t, f, dy, dx, weight, weight);
#endif
        } else
#endif
        {
            FOR_SPAN(k, 0, t.span) {
                uint valid = valid_of(&p, &t, k);
                acc count = (acc)(1.0f);
                source s = source_of(&p, group_of(&t, k), valid, mean, resid, scale);
                sums d;
                d.dy = d.dyx = (acc)(0.0f);
                if (!(p.flags & FROZEN))
                    d = sums_of(&p, group_of(&t, k), valid, sums_in, &count);
                if (IS_KEEPER(&p))
                    b[k] = fold_backward(&p, group_of(&t, k), valid, s, d, count, weight BIAS_MORE_PASSED);
            }
            WAIT_FOR_KEEPER;
#if LENGTHS
            FOR_SAMPLES(&p, &t, i) {
                tile own = sample_tile(&p, &t, i, 0, lengths);
                backward_tile(&p, &own, b, x, dy, dx, weight, (global float *)dx BACKWARD_MORE_PASSED);
            }
#else
            backward_tile(&p, &t, b, x, dy, dx, weight, (global float *)dx BACKWARD_MORE_PASSED);
#endif
        }
#if LENGTHS
        FOR_SAMPLES(&p, &t, i) {
            tile padding = sample_tile(&p, &t, i, 1, lengths);
            zero_gradients(&p, &padding, dx BACKWARD_MORE_PASSED);
        }
#endif
        if (passes > 1)
            t = rest_of(&p);
    }
}

#if !LENGTHS
/* backward_fused: reduce, finish and apply of whole statistics groups, one work-group after another. Reads x and dy from memory once if a
 * work-group's groups stay in the cache, and writes dx: 12 bytes an element, and 8 that the cache serves. WRITE_PARTIALS: also what
 * groups_backward_weights needs: segments: each group's sums → partials f32[1][4][groups]; rows: what each work-group's teams of
 * work-items found of each weight → partials f32[teams][4][weights]. */
kernel __attribute__((reqd_work_group_size(WG, 1, 1))) void KERNEL(backward_fused)(
    problem arguments, global const breal *x, global const yreal *dy, global xreal *dx, global const float *mean,
    global const float *resid, global const float *scale, global const float *weight, global float *sums_out,
    global float *dweight, global float *dbias, global float *partials BACKWARD_MORE)
{
    const problem p = arguments;
    OFFSET_BACKWARD_MORE;
    local dots scratch[WG];
    KEEP(b);
    x += p.x;
    dy += p.dy;
    dx += p.out;
    partials += p.partials;
    float2 count = count_split(p.count);
    uint blocks = (uint)get_num_groups(0), block = (uint)get_group_id(0);
    ulong turns = divide_up(p.tiles, WG / TEAM(&p)), last = cut(turns, block + 1, blocks);
#ifdef CLNORM_ROWS
    partials += team_tile(&p, block) * DOTS_PLANES * p.weights;
    if (p.flags & WRITE_PARTIALS) {
        for (ulong i = PLACE(&p); i < DOTS_PLANES * p.weights; i += TEAM(&p))
            partials[i] = 0.0f;
        barrier(CLK_GLOBAL_MEM_FENCE);
    }
    for (ulong turn = cut(turns, block, blocks); turn < last; turn++) {
        tile t = tile_of(&p, team_tile(&p, turn), 0);
        for (uint k = 0; k < p.span; k++) {
            ulong g = group_of(&t, k);
            source s;
            dots sum = dots_none();
            if (k < t.span) {
                s = WITH_FACTORS(&p, g, 1, source_of(&p, g, 1, mean, resid, scale));
                sum = dots_of_group(&p, &t, cursor_of(&t, k), x, dy, WEIGHTS_OF(&p, &t, k, weight),
                                    s, 0 GROUP_MORE_PASSED(&p, &t, k));
            }
            sum = dots_merge_work_group(&p, sum, MERGED(&p), scratch);
            if (IS_KEEPER(&p) && k < t.span) {
                sums d = backward_finish(&p, g, 1, sum, p.count, s.rstd, sums_out, dweight, dbias);
                b[k] = fold_backward(&p, g, 1, s, d, count.x + count.y, weight BIAS_MORE_PASSED);
            }
        }
        WAIT_FOR_KEEPER;
        backward_tile(&p, &t, b, x, dy, dx, weight, partials BACKWARD_MORE_PASSED);
        WAIT_FOR_KEEPER;
    }
#else
    uint owners = p.span / (uint)p.merged;
#if CHAINED
    writer written; /* the tile before, as far as it is */
    written.runs = 0;
#endif
    for (ulong turn = cut(turns, block, blocks); turn < last; turn++) {
        tile t = tile_of(&p, team_tile(&p, turn), 0);
        LOOK_AHEAD(&t, 2, x, dy);
        tile whole = merge_tile(&p, &t);
        source own[SPAN], s[SPAN];
        dots all[SPAN], total[SPAN];
        sums d[SPAN];
        FOR_SPAN(k, 0, owners) {
            uint valid = valid_of(&p, &whole, k);
            all[k] = dots_none();
            if (valid > 0)
                own[k] = source_of(&p, group_of(&whole, k) * p.merged, valid, mean, resid, scale);
        }
        FOR_PIECES(first, p.span) {
            tile piece = piece_of(&t, first);
            FOR_SPAN(k, 0, piece.span)
                s[k] = WITH_FACTORS(&p, group_of(&piece, k), valid_of(&p, &piece, k), own[OWNER(&p, first + k)]);
            dots_of(&p, &piece, x, dy, weight, s, total, BESIDE BACKWARD_MORE_PASSED);
            FOR_SPAN(k, 0, p.span) {
                dots sum = dots_merge_work_group(&p, total[k], MERGED(&p), scratch);
                uint valid = valid_of(&p, &piece, k);
                if (PLACE(&p) >= MERGED(&p) || valid == 0)
                    continue;
                if (p.flags & WRITE_PARTIALS)
                    put_dots(partials + group_of(&piece, k), p.plane, valid, sum);
                if ((p.flags & WEIGHTED_SUMS) && (p.flags & HAS_WEIGHT)) {
                    acc w = get_weight(&p, weight + p.weight, group_of(&piece, k), valid);
                    sum = dots_scale(sum, w, w);
                }
                all[OWNER(&p, first + k)] = p.merged == 1 ? sum : dots_merge(all[OWNER(&p, first + k)], sum);
            }
        }
        FOR_SPAN(k, 0, owners) {
            uint valid = valid_of(&p, &whole, k);
            d[k].dy = d[k].dyx = (acc)(0.0f);
            if (PLACE(&p) < MERGED(&p) && valid > 0)
                d[k] = backward_finish(&p, group_of(&whole, k), valid, all[k], p.count, own[k].rstd, sums_out, dweight, dbias);
            d[k].dy = share(&p, d[k].dy, MERGED(&p), (local acc *)scratch);
            d[k].dyx = share(&p, d[k].dyx, MERGED(&p), (local acc *)scratch);
        }
#if CHAINED
        backward_rest(&written);
#endif
        FOR_PIECES(first, t.span) {
            tile piece = piece_of(&t, first);
            FOR_SPAN(k, 0, piece.span) {
                uint owner = OWNER(&p, first + k);
                b[k] = fold_backward(&p, group_of(&piece, k), valid_of(&p, &piece, k), own[owner], d[owner],
                                     (acc)(count.x + count.y), weight BIAS_MORE_PASSED);
            }
#if CHAINED
            if (chains(&p, LONG_RUN)) {
                written = writer_of(&p, &piece, x, dy, dx);
                written.b = b;
                continue;
            }
#endif
            backward_tile(&p, &piece, b, x, dy, dx, weight, partials BACKWARD_MORE_PASSED);
        }
    }
#if CHAINED
    backward_rest(&written);
#endif
#endif
}
#endif

#if FROM_Y
/* backward_found: tells whether a weight counts as 0. Reads 4 bytes a weight. */
kernel __attribute__((reqd_work_group_size(WG, 1, 1))) void KERNEL(backward_found)(problem arguments, global const float *weight,
                                                                                   global uint *found)
{
    const problem p = arguments;
    uint zero = 0;
    for (ulong i = get_global_id(0); i < p.weights; i += get_global_size(0)) {
        float w = weight[p.weight + i];
        zero |= w > -LEAST_WEIGHT && w < LEAST_WEIGHT;
    }
    if (zero)
        atomic_or(found, p.found);
}
#endif

#ifdef CLNORM_COLUMNS
/* ---- rows: gradients of weights -------------------------------------------------------------------------------------- */

/* The statistics of the rows that elements from `column` on lie in, in row `row` of the matrix of rows·cycle: one row's if there is but
 * one in it. */
INLINE source source_of_rows(const problem *p, ulong row, ulong column, uint valid, global const float *mean,
                             global const float *resid, global const float *scale)
{
    source s;
    acc r;
    s.m = s.c = (acc)(0.0f);
    mean += p->mean;
    resid += p->resid;
    scale += p->scale;
    if (p->flags & SOURCE_IS_CHANNEL) {
        s.m = get_each(mean, column, p->weights, 1, valid);
        r = get_each(scale, column, p->weights, 1, valid);
    } else if (p->cycle > 1) {
        ulong at = row * p->cycle;
        if (!(p->flags & UNCENTRED))
            s.m = get_each(mean + at, column, p->weights, p->inners, valid);
        if (p->flags & HAS_RESID)
            s.c = get_each(resid + at, column, p->weights, p->inners, valid);
        r = get_each(scale + at, column, p->weights, p->inners, valid);
    } else {
        if (!(p->flags & UNCENTRED))
            s.m = (acc)(mean[row]);
        if (p->flags & HAS_RESID)
            s.c = (acc)(resid[row]);
        r = (acc)(scale[row]);
    }
    s.rstd = p->flags & SCALE_IS_VAR ? rstd_of(r, p->eps) : r;
    return s;
}

/* Σdy and Σ dy·x̂ of a tile. */
INLINE void weights_of(const problem *p, const tile *t, global const breal *x, global const yreal *dy,
                       global const float *mean, global const float *resid, global const float *scale,
                       global const float *weight, dots *total BACKWARD_MORE)
{
    acc a1[SPAN], b1[SPAN], a[SPAN], b[SPAN];
    uint rows = place_of(p).rows;
    FOR_SPAN(k, 0, p->span) {
        total[k] = dots_none();
        a1[k] = b1[k] = a[k] = b[k] = (acc)(0.0f);
    }
    for (ulong row = 0; row < t->runs;) {
        ulong at = t->at + row * t->stride, of = t->first + row * rows;
        source s = source_of_rows(p, of, t->column, valid_of(p, t, 0), mean, resid, scale);
        FOR_SPAN(k, 0, t->span) {
            uint valid = valid_of(p, t, k);
            ulong i = at + k * t->step;
            if (k > 0 && p->cycle > 1)
                s = source_of_rows(p, of, t->column + k * t->step, valid, mean, resid, scale);
#if FROM_Y
            acc g = load_y(dy + i, valid, (vec)(0.0f)), d = (acc)(0.0f);
            if (READS_Y(p)) {
                acc v = load_y(y + i, valid, (vec)(0.0f));
                ulong column = t->column + k * t->step;
                g = ACT_GRADIENT(p, v, g);
                if (p->flags & HAS_X)
                    d = UNDONE(p, v, load_x(z + i, valid, (vec)(0.0f)), BIAS_OF(p, bias, column, valid),
                               undo_of(p, column, valid, s.rstd, weight));
            }
#else
            acc g = load_y(dy + i, valid, (vec)(0.0f)), d = (X_IF_THERE(p, load_x(x + i, valid, s.m), s.m) - s.m) - s.c;
#if ACT
            acc of_x = s.rstd * WEIGHT_OF(p, weight, t->column + k * t->step, valid);
            acc offset = BIAS_OF(p, bias, t->column + k * t->step, valid);
#define LOAD_X(from) load_x(from + i, valid, (vec)(0.0f))
#define LOAD_Y(from) LOAD_SIGNS(from, i, valid)
            g = DY_OF(p, g, d, of_x, offset, LOAD_X, LOAD_Y);
#undef LOAD_X
#undef LOAD_Y
#endif
#endif
            a[k] += g;
            b[k] += g * d * s.rstd;
        }
        row++;
        if (row % CHAIN == 0 || row == t->runs)
            carry(0, t->span, a, b, a1, b1);
        if (row % (CHAIN * CHAINS) == 0 || row == t->runs) {
            FOR_SPAN(k, 0, t->span) {
                total[k].dy = pair_add(total[k].dy, a1[k]);
                total[k].dyd = pair_add(total[k].dyd, b1[k]);
                a1[k] = b1[k] = (acc)(0.0f);
            }
        }
    }
}

/* columns_backward_weights: Σdy and Σ dy·x̂ of each weight along rows, as columns of a matrix of `cycle` rows in one; x̂ is of each row's
 * statistics → partials f32[parts][4][weights], two pairs; of one part → dbias, dweight. Reads x and dy once: 8 bytes an element. */
kernel __attribute__((reqd_work_group_size(WG, 1, 1))) void columns_backward_weights(
    problem arguments, global const breal *x, global const yreal *dy, global const float *mean, global const float *resid,
    global const float *scale, global const float *weight, global float *partials, global float *dweight,
    global float *dbias BACKWARD_MORE)
{
    const problem p = arguments;
    OFFSET_BACKWARD_MORE;
    local dots scratch[WG];
    uint part;
    ulong id = tile_id(&p, get_group_id(0), &part);
    tile t = tile_of(&p, id, part);
    dots total[SPAN];
    weights_of(&p, &t, x + p.x, dy + p.dy, mean, resid, scale, weight, total BACKWARD_MORE_PASSED);
    FOR_SPAN(k, 0, p.span) {
        dots sum = dots_merge_work_group(&p, total[k], MERGED(&p), scratch);
        uint valid = valid_of(&p, &t, k);
        ulong i = group_of(&t, k);
        if (PLACE(&p) >= MERGED(&p) || valid == 0)
            continue;
        if (p.flags & WRITE_PARTIALS)
            put_dots(partials + p.partials + (ulong)part * DOTS_PLANES * p.weights + i, p.weights, valid, sum);
        if (p.flags & WRITE_DWEIGHT)
            PUT_GRADIENT(&p, ADD_DWEIGHT, dweight + p.dweight + i, valid, pair_value(sum.dyd));
        if (p.flags & WRITE_DBIAS)
            PUT_GRADIENT(&p, ADD_DBIAS, dbias + p.dbias + i, valid, pair_value(sum.dy));
    }
}
#endif
#endif /* CLNORM_SEGMENTS || CLNORM_COLUMNS */

#ifdef CLNORM_GROUPS
/* ---- one value a group --------------------------------------------------------------------------------------------- */
/* Work-groups of WG: `lanes` groups along, WG / lanes work-items across the parts of each. These move a few bytes a group. */

/* The partials of a part: each has fold columns of a group, and the rest, if there is one, comes last. */
static ulong partial_at(const problem *p, ulong part, ulong planes, ulong g, ulong *plane)
{
    if (p->rest > 0 && part == p->parts - 1) {
        *plane = p->groups;
        return p->partials + part / p->fold * planes * p->plane + g;
    }
    *plane = p->plane;
    return p->partials + part / p->fold * planes * p->plane + part % p->fold * p->groups + g;
}

static moments get_partial(const problem *p, global const float *partials, ulong part, ulong g)
{
    moments t = moments_none();
    if (p->flags & PARTS_ARE_GATHERED) {
        global const float *in = partials + p->gathered + part * 5 * p->stats + g;
        t.n = count_join(in[0], in[p->stats]);
        t.m = in[2 * p->stats];
        t.s = pair_add_multiple(t.s, t.n, in[3 * p->stats]);
        t.var.hi = in[4 * p->stats];
    } else {
        ulong plane;
        global const float *in = partials + partial_at(p, part, MOMENTS_PLANES, g, &plane);
        t.n = count_join(in[0], in[plane]);
        t.m = in[2 * plane];
        t.s.hi = in[3 * plane];
        t.s.lo = in[4 * plane];
        t.var.hi = in[5 * plane];
        t.var.lo = in[6 * plane];
    }
    return t;
}

static dots get_dots(const problem *p, global const float *partials, ulong part, ulong g)
{
    ulong plane;
    global const float *in = partials + partial_at(p, part, DOTS_PLANES, g, &plane);
    dots t;
    t.dy.hi = in[0];
    t.dy.lo = in[plane];
    t.dyd.hi = in[2 * plane];
    t.dyd.lo = in[3 * plane];
    return t;
}

/* What the work-items across share of `count` things: neighbours, so that the tree after it keeps their order. */
static void share_of(ulong count, uint across, uint rows, ulong *first, ulong *last)
{
    *first = count * across / rows;
    *last = count * (across + 1) / rows;
}

/* groups_forward_finish: merges the parts of each statistics group in their order, with the groups that it has in each → statistics,
 * state, mean, var, rstd as flagged. */
kernel __attribute__((reqd_work_group_size(WG, 1, 1))) void groups_forward_finish(
    problem arguments, global const float *partials, global float *statistics, global float *state, global float *mean,
    global float *var, global float *rstd)
{
    const problem p = arguments;
    local moments scratch[WG];
    uint along = (uint)get_local_id(0) % p.lanes, across = (uint)get_local_id(0) / p.lanes, rows = WG / p.lanes;
    ulong g = get_group_id(0) * (ulong)p.lanes + along;
    moments t = moments_none();
    if (g < p.stats) {
        ulong k, last;
        share_of(p.parts * p.merged, across, rows, &k, &last);
        for (; k < last; k++)
            t = moments_merge(t, get_partial(&p, partials, k / p.merged, g * p.merged + k % p.merged));
    }
    t = moments_merge_work_group(&p, t, p.lanes, scratch);
    if (across == 0 && g < p.stats)
        (void)forward_finish(&p, g, 1, t, statistics, state, mean, var, rstd);
}

/* (1 − f)·old + f·(batch + rest) = old + f·((batch − old) + rest), rounded about once. The ends are exact, so that f = 1 forgets even
 * a NaN and f = 0 takes none. */
static float blend(float old, float batch, float rest, float f)
{
    if (f == 1.0f)
        return batch + rest;
    if (f == 0.0f)
        return old;
    pair step = two_sum(batch, -old);
    if (!(fabs(step.hi) < 1e30f)) /* beyond two_product; not finite, perhaps */
        return old + f * step.hi;
    pair scaled = two_product(f, step.hi);
    pair sum = two_sum(old, scaled.hi);
    return sum.hi + (sum.lo + (scaled.lo + f * (step.lo + rest)));
}

/* Statistics of a channel as running ones take them: of its one statistics group, or of several samples' the mean of means and of
 * variances, of those that have values; n = 0: of none. */
typedef struct {
    float n, m, c, var;
} channel;

/* The variance of n values, unbiased if flagged. */
static float running_var_of(const problem *p, float n, float var)
{
    return (p->flags & UNBIASED) && n > 1.0f ? var + var / (n - 1.0f) : var;
}

static channel channel_of(const problem *p, global const float *statistics, ulong g)
{
    global const float *in = statistics + p->statistics + g;
    ulong samples = p->stats / p->weights;
    channel t;
    t.n = in[0] + in[p->stats];
    t.m = in[2 * p->stats];
    t.c = in[3 * p->stats];
    t.var = running_var_of(p, t.n, in[4 * p->stats]);
    if (samples == 1)
        return t;
    pair mean, var;
    ulong with_values = 0;
    mean.hi = mean.lo = var.hi = var.lo = 0.0f;
    for (ulong k = 0; k < samples; k++, in += p->weights) {
        float n = in[0] + in[p->stats];
        mean = pair_add(pair_add(mean, in[2 * p->stats]), in[3 * p->stats]);
        var = pair_add(var, running_var_of(p, n, in[4 * p->stats]));
        with_values += n > 0.0f;
    }
    t.n = (float)with_values;
    if (isfinite(mean.hi) && isfinite(var.hi)) {
        mean = pair_divide(mean, with_values);
        t.m = mean.hi;
        t.c = mean.lo;
        var = pair_divide(var, with_values);
        t.var = var.hi + var.lo;
    } else { /* what is not finite stays so; the low parts mean nothing */
        t.m = mean.hi;
        t.c = 0.0f;
        t.var = var.hi;
    }
    return t;
}

/* groups_forward_commit: statistics enter the running ones, one a channel. */
kernel __attribute__((reqd_work_group_size(WG, 1, 1))) void groups_forward_commit(problem arguments, global const float *statistics,
                                                                                  global float *running_mean,
                                                                                  global float *running_var,
                                                                                  global uint *found)
{
    const problem p = arguments;
    ulong g = get_global_id(0);
    if (g >= p.weights)
        return;
    channel t = channel_of(&p, statistics, g);
    if (t.n == 0.0f)
        return;
    if (!isfinite(t.m + t.c) || !isfinite(t.var)) {
        atomic_or(found, p.found);
        if (p.flags & GUARD_FINITE)
            return;
    }
    running_mean[p.running_mean + g] = blend(running_mean[p.running_mean + g], t.m, t.c, p.factor);
    running_var[p.running_var + g] = blend(running_var[p.running_var + g], t.var, 0.0f, p.factor);
}

/* rstd of statistics group g, or of channel g. */
static float rstd_at(const problem *p, global const float *scale, ulong g)
{
    float r = scale[p->scale + g];
    return p->flags & SCALE_IS_VAR ? rstd_of(r, p->eps) : r;
}

/* groups_infer_fold: the bias of the layer before, with the factor that backward_apply gives its weights; one value a channel, at x and out
 * of the problem. Moves 24 bytes a channel. */
kernel __attribute__((reqd_work_group_size(WG, 1, 1))) void groups_infer_fold(problem arguments, global const float *layer_bias,
                                                                              global float *layer_bias_out,
                                                                              global const float *mean,
                                                                              global const float *scale,
                                                                              global const float *weight,
                                                                              global const float *bias)
{
    const problem p = arguments;
    ulong g = get_global_id(0);
    if (g >= p.weights)
        return;
    float d = (p.flags & HAS_LAYER_BIAS ? layer_bias[p.x + g] : 0.0f) - mean[p.mean + g];
    float a = rstd_at(&p, scale, g) * (p.flags & HAS_WEIGHT ? weight[p.weight + g] : 1.0f);
    layer_bias_out[p.out + g] = d * a + (p.flags & HAS_BIAS ? bias[p.bias + g] : 0.0f);
}

#if LENGTHS
/* Valid values of a statistics group, which is of one sample or of all. */
static ulong valid_count_of(const problem *p, global const int *lengths, ulong g)
{
    ulong samples = p->count / (p->positions * p->merged), first = g * p->merged / p->weights, count = 0;
    for (ulong s = first; s < first + samples; s++)
        count += valid_positions(p, lengths, s) * p->merged;
    return count;
}

/* groups_lengths_found: tells whether a length does not fit. Reads 4 bytes a sample. */
kernel __attribute__((reqd_work_group_size(WG, 1, 1))) void groups_lengths_found(problem arguments, global const int *lengths,
                                                                                 global uint *found)
{
    const problem p = arguments;
    ulong sample = get_global_id(0), samples = p.groups / p.weights * (p.outers * p.inners / p.positions);
    if (sample >= samples)
        return;
    int length = lengths[p.lengths + sample];
    if (length < 0 || (ulong)length > p.positions)
        atomic_or(found, p.found);
}
#endif

#if MASK
/* What is above 0, not a NaN, lies as an integer from 1 to that of Inf. */
#if YT == 0
typedef uint ybits;
typedef uint8 ybits8;
#define INF_BITS 0x7f800000u
#else
typedef ushort ybits;
typedef ushort8 ybits8;
#define INF_BITS (ushort)(YT == 1 ? 0x7c00 : 0x7f80)
#endif

/* Bits of 8 elements. */
static uint signs_of(ybits8 y)
{
    uint8 set = convert_uint8((y - (ybits)1) < (ybits8)(INF_BITS)) & (uint8)(1, 2, 4, 8, 16, 32, 64, 128);
    uint4 four = set.lo | set.hi;
    uint2 two = four.lo | four.hi;
    return two.x | two.y;
}

/* groups_forward_mask: the bits of y's p.count elements, a word a work-item; a work-group takes neighbouring words. Reads y, writes a bit
 * an element: 4 1/8 bytes. */
kernel __attribute__((reqd_work_group_size(WG, 1, 1))) void groups_forward_mask(problem arguments, global const ybits *y,
                                                                                global uint *mask)
{
    const problem p = arguments;
    ulong words = p.count / MASK_BITS, group = get_group_id(0), groups = get_num_groups(0);
    y += p.y;
    mask += p.mask / MASK_BITS;
    for (ulong w = cut(words, group, groups) + get_local_id(0); w < cut(words, group + 1, groups); w += WG) {
        global const ybits *from = y + w * MASK_BITS;
        mask[w] = signs_of(vload8(0, from)) | signs_of(vload8(1, from)) << 8 | signs_of(vload8(2, from)) << 16 |
                  signs_of(vload8(3, from)) << 24;
    }
    uint rest = (uint)(p.count % MASK_BITS), bits = 0;
    if (rest > 0 && get_global_id(0) == 0) {
        for (uint i = 0; i < rest; i++)
            bits |= (uint)((ybits)(y[words * MASK_BITS + i] - (ybits)1) < INF_BITS) << i;
        mask[words] = bits;
    }
}
#endif

/* groups_backward_finish: adds the parts of each statistics group in their order, with the groups that it has in each, weighted if flagged
 * → sums f32[4][statistics groups], dweight, dbias as flagged. */
kernel __attribute__((reqd_work_group_size(WG, 1, 1))) void groups_backward_finish(
    problem arguments, global const float *partials, global const float *scale, global const float *weight,
    global float *sums_out, global float *dweight, global float *dbias LENGTHS_MORE)
{
    const problem p = arguments;
    local dots scratch[WG];
    uint along = (uint)get_local_id(0) % p.lanes, across = (uint)get_local_id(0) / p.lanes, rows = WG / p.lanes;
    ulong g = get_group_id(0) * (ulong)p.lanes + along, count = p.count;
    dots t = dots_none();
#if LENGTHS
    if (across == 0 && g < p.stats)
        count = valid_count_of(&p, lengths, g);
#endif
    if (g < p.stats) {
        ulong k, last;
        share_of(p.parts * p.merged, across, rows, &k, &last);
        for (; k < last; k++) {
            ulong group = g * p.merged + k % p.merged;
            dots part = get_dots(&p, partials, k / p.merged, group);
            if (p.flags & HAS_WEIGHT) {
                float w = get_weight(&p, weight + p.weight, group, 1);
                part = dots_scale(part, w, w);
            }
            t = dots_merge(t, part);
        }
    }
    t = dots_merge_work_group(&p, t, p.lanes, scratch);
    if (across == 0 && g < p.stats)
        (void)backward_finish(&p, g, 1, t, count, rstd_at(&p, scale, p.flags & SOURCE_IS_CHANNEL ? g % p.weights : g),
                              sums_out, dweight, dbias);
}

/* groups_backward_weights: adds what the parts, and in each of them all groups of a weight, have found of it, in their order, as Σdy and
 * Σ dy·x̂ → dbias, dweight as flagged. */
kernel __attribute__((reqd_work_group_size(WG, 1, 1))) void groups_backward_weights(
    problem arguments, global const float *partials, global const float *scale, global float *dweight, global float *dbias)
{
    const problem p = arguments;
    local dots scratch[WG];
    uint along = (uint)get_local_id(0) % p.lanes, across = (uint)get_local_id(0) / p.lanes, rows = WG / p.lanes;
    ulong w = get_group_id(0) * (ulong)p.lanes + along, samples = p.groups / p.weights;
    dots t = dots_none();
    if (w < p.weights) {
        ulong k, last;
        share_of(p.parts * samples, across, rows, &k, &last);
        for (; k < last; k++) {
            ulong group = k % samples * p.weights + w;
            dots part = get_dots(&p, partials, k / samples, group);
            if (!(p.flags & PARTS_ARE_SCALED))
                part = dots_scale(part, 1.0f, rstd_at(&p, scale, p.flags & SOURCE_IS_CHANNEL ? w : group / p.merged));
            t = dots_merge(t, part);
        }
    }
    t = dots_merge_work_group(&p, t, p.lanes, scratch);
    if (across > 0 || w >= p.weights)
        return;
    if (p.flags & WRITE_DWEIGHT)
        PUT_GRADIENT(&p, ADD_DWEIGHT, dweight + p.dweight + w, 1, pair_value(t.dyd));
    if (p.flags & WRITE_DBIAS)
        PUT_GRADIENT(&p, ADD_DBIAS, dbias + p.dbias + w, 1, pair_value(t.dy));
}
#endif /* CLNORM_GROUPS */

#ifdef CLNORM_DOUBLE
/* ---- double backward ------------------------------------------------------------------------------------------------ */
/* The gradient of the backward, by the formulas of <clnorm/clnorm.h>: two passes over memory, whatever the family, in work-groups of WG and
 * without vectors. The problem's fields are here: z, out, dz: offsets of v_dx, g_x, g_dy; dweight, dbias, sums: of v_dweight, v_dbias,
 * g_weight; sum: of the partials of g_weight. WEIGHTED_SUMS: rows, whose weights run along the groups; each has one weight else.
 * With w, p, q = weight, v_dweight, v_dbias, v = v_dx and g = w·dy:
 *     t = rstd·v + e·x̂ + f      g_dy = w·t + p·x̂ + q      g_x = rstd·((p + w·e)·dy + b·v + k·x̂ + h)
 * where e, f, b, k, h are those of a group. */
#define HAS_V          ADD_DX
#define HAS_V_DWEIGHT  ADD_DWEIGHT
#define HAS_V_DBIAS    ADD_DBIAS
#define WRITE_G_X      WRITE_DX
#define WRITE_G_DY     WRITE_DZ
#define WRITE_G_WEIGHT WRITE_DWEIGHT

#define SECOND_SUMS   7u
#define SECOND_PLANES 14u /* of the partials, f32[parts][planes][groups], two a sum; the first part's become e, f, b, k, h */

#define pair_merge pair_add_pair
MERGE_WORK_GROUP(pair)

static source source_at(const problem *p, ulong g, global const float *mean, global const float *resid,
                        global const float *scale)
{
    source s;
    float r = scale[p->scale + g];
    s.m = mean[p->mean + g];
    s.c = p->flags & HAS_RESID ? resid[p->resid + g] : 0.0f;
    s.rstd = p->flags & SCALE_IS_VAR ? rstd_of(r, p->eps) : r;
    return s;
}

/* A work-group's tile of `lanes` neighbouring groups (or weights), and its part of them; its work-items are `lanes` along the groups and
 * the rest across a group's values. */
typedef struct {
    ulong group, part;
    uint across, rows;
} second_place;

static second_place second_place_of(const problem *p)
{
    second_place l;
    ulong id = get_group_id(0);
    l.part = id / p->tiles;
    l.group = id % p->tiles * p->lanes + (uint)get_local_id(0) % p->lanes;
    l.across = (uint)get_local_id(0) / p->lanes;
    l.rows = WG / p->lanes;
    return l;
}

/* double_reduce: Σg, Σ g·x̂, Σv, Σ v·x̂, Σ g·v, Σ p·dy, Σ p·dy·x̂ of each part → partials; where a group has one weight, g = dy and p = 0.
 * Reads x, dy and v_dx once: 12 bytes an element. */
kernel __attribute__((reqd_work_group_size(WG, 1, 1))) void double_reduce(
    problem arguments, global const float *x, global const float *dy, global const float *v_dx, global const float *mean,
    global const float *resid, global const float *scale, global const float *weight, global const float *v_dweight,
    global float *partials)
{
    const problem p = arguments;
    local pair scratch[WG];
    second_place l = second_place_of(&p);
    int has_w = (p.flags & WEIGHTED_SUMS) && (p.flags & HAS_WEIGHT), has_v = (p.flags & HAS_V) != 0;
    int has_p = (p.flags & WEIGHTED_SUMS) && (p.flags & HAS_V_DWEIGHT);
    pair total[SECOND_SUMS];
    float a[SECOND_SUMS];
    for (uint s = 0; s < SECOND_SUMS; s++)
        total[s].hi = total[s].lo = a[s] = 0.0f;
    if (l.group < p.groups) {
        source from = source_at(&p, l.group, mean, resid, scale);
        ulong value = cut(p.count, (uint)l.part, p.parts_outer) + l.across;
        ulong last = cut(p.count, (uint)l.part + 1, p.parts_outer);
        ulong o = value / p.inners, i = value % p.inners, step_o = l.rows / p.inners, step_i = l.rows % p.inners;
        uint chain = 0;
        for (; value < last; value += l.rows) {
            ulong at = l.group * p.group_stride + o * p.outer_stride + i;
            float d = dy[p.dy + at], v = has_v ? v_dx[p.z + at] : 0.0f;
            float xhat = ((x[p.x + at] - from.m) - from.c) * from.rstd;
            float g = has_w ? weight[p.weight + i] * d : d, pd = has_p ? v_dweight[p.dweight + i] * d : 0.0f;
            a[0] += g;
            a[1] += g * xhat;
            a[2] += v;
            a[3] += v * xhat;
            a[4] += g * v;
            a[5] += pd;
            a[6] += pd * xhat;
            chain++;
            if (chain == CHAIN || value + l.rows >= last) {
                for (uint s = 0; s < SECOND_SUMS; s++) {
                    total[s] = pair_add(total[s], a[s]);
                    a[s] = 0.0f;
                }
                chain = 0;
            }
            o += step_o;
            i += step_i;
            if (i >= p.inners) {
                i -= p.inners;
                o++;
            }
        }
    }
    for (uint s = 0; s < SECOND_SUMS; s++) { /* not unrolled: by index the sums would be in memory, so they move up */
        pair sum = pair_merge_work_group(&p, total[0], p.lanes, scratch);
        for (uint next = 1; next < SECOND_SUMS; next++)
            total[next - 1] = total[next];
        if (l.across == 0 && l.group < p.groups) {
            global float *out = partials + p.partials + (l.part * SECOND_PLANES + 2 * s) * p.groups + l.group;
            out[0] = sum.hi;
            out[p.groups] = sum.lo;
        }
    }
}

/* double_finish: adds the parts of each group in their order → e, f, b, k, h, and g_weight where a group has one weight. Moves 56 bytes a
 * part of a group. */
kernel __attribute__((reqd_work_group_size(WG, 1, 1))) void double_finish(
    problem arguments, global const float *scale, global const float *weight, global const float *v_dweight,
    global float *partials, global float *g_weight)
{
    const problem p = arguments;
    ulong g = get_global_id(0);
    if (g >= p.groups)
        return;
    global float *planes = partials + p.partials + g;
    float sums[SECOND_SUMS], f[5], n = (float)p.count;
    for (uint s = 0; s < SECOND_SUMS; s++) {
        pair sum;
        sum.hi = sum.lo = 0.0f;
        for (ulong part = 0; part < p.parts_outer; part++) {
            global const float *in = planes + (part * SECOND_PLANES + 2 * s) * p.groups;
            pair more;
            more.hi = in[0];
            more.lo = in[p.groups];
            sum = pair_add_pair(sum, more);
        }
        sums[s] = pair_value(sum);
    }
    float r = scale[p.scale + g];
    float rstd = p.flags & SCALE_IS_VAR ? rstd_of(r, p.eps) : r;
    int along = (p.flags & WEIGHTED_SUMS) != 0;
    float w = !along && (p.flags & HAS_WEIGHT) ? weight[p.weight + g] : 1.0f;
    float q = !along && (p.flags & HAS_V_DWEIGHT) ? v_dweight[p.dweight + g] : 0.0f;
    float mean_dy = sums[0] / n, mean_dyx = sums[1] / n, mean_v = sums[2] / n, mean_vx = sums[3] / n;
    float mean_g = w * mean_dy, mean_gx = w * mean_dyx, mean_gv = w * (sums[4] / n);
    float mean_p = along ? sums[5] / n : q * mean_dy, mean_px = along ? sums[6] / n : q * mean_dyx;
    f[0] = -rstd * mean_vx;
    f[1] = -rstd * mean_v;
    f[2] = -rstd * mean_gx;
    f[3] = -mean_px - rstd * (mean_gv - mean_g * mean_v - 3.0f * mean_gx * mean_vx);
    f[4] = rstd * (mean_vx * mean_g + mean_gx * mean_v) - mean_p;
    for (uint i = 0; i < 5; i++) {
        if (p.flags & FROZEN)
            f[i] = 0.0f;
        planes[i * p.groups] = f[i];
    }
    if ((p.flags & WRITE_G_WEIGHT) && !along)
        g_weight[p.sums + g] = rstd * sums[4] + (p.flags & FROZEN ? 0.0f : f[0] * sums[1] + f[1] * sums[0]);
}

/* double_weights: Σ dy·t of each weight along rows → partials f32[parts][4][weights] as groups_backward_weights takes them, whose second
 * pair it is. Reads x, dy and v_dx once: 12 bytes an element. */
kernel __attribute__((reqd_work_group_size(WG, 1, 1))) void double_weights(
    problem arguments, global const float *x, global const float *dy, global const float *v_dx, global const float *mean,
    global const float *resid, global const float *scale, global float *partials)
{
    const problem p = arguments;
    local pair scratch[WG];
    second_place l = second_place_of(&p);
    ulong rows = p.stats;
    pair total;
    float a = 0.0f;
    total.hi = total.lo = 0.0f;
    if (l.group < p.weights) {
        ulong row = cut(rows, (uint)l.part, p.parts_outer) + l.across, last = cut(rows, (uint)l.part + 1, p.parts_outer);
        uint chain = 0;
        for (; row < last; row += l.rows) {
            ulong at = row * p.weights + l.group;
            source from = source_at(&p, row, mean, resid, scale);
            float v = p.flags & HAS_V ? v_dx[p.z + at] : 0.0f, xhat = ((x[p.x + at] - from.m) - from.c) * from.rstd;
            float e = partials[p.partials + row], f = partials[p.partials + rows + row];
            a += dy[p.dy + at] * (from.rstd * v + (e * xhat + f));
            chain++;
            if (chain == CHAIN || row + l.rows >= last) {
                total = pair_add(total, a);
                a = 0.0f;
                chain = 0;
            }
        }
    }
    total = pair_merge_work_group(&p, total, p.lanes, scratch);
    if (l.across == 0 && l.group < p.weights) {
        global float *out = partials + p.sum + l.part * DOTS_PLANES * p.weights + l.group;
        out[0] = out[p.weights] = 0.0f;
        out[2 * p.weights] = total.hi;
        out[3 * p.weights] = total.lo;
    }
}

/* double_apply: g_x and g_dy as flagged. Reads x, dy and v_dx, writes both: 20 bytes an element. */
kernel __attribute__((reqd_work_group_size(WG, 1, 1))) void double_apply(
    problem arguments, global const float *x, global const float *dy, global const float *v_dx, global float *g_x,
    global float *g_dy, global const float *mean, global const float *resid, global const float *scale,
    global const float *weight, global const float *v_dweight, global const float *v_dbias, global const float *partials)
{
    const problem p = arguments;
    uint blocks = (uint)get_num_groups(0), block = (uint)get_group_id(0);
    ulong elements = p.groups * p.count, at = cut(elements, block, blocks) + get_local_id(0);
    ulong last = cut(elements, block + 1, blocks);
    ulong i = at % p.inners, g = at / p.inners % p.groups, step_i = WG % p.inners, step_g = WG / p.inners % p.groups;
    for (; at < last; at += WG) {
        source from = source_at(&p, g, mean, resid, scale);
        ulong of = p.flags & WEIGHTED_SUMS ? i : g;
        global const float *planes = partials + p.partials + g;
        float w = p.flags & HAS_WEIGHT ? weight[p.weight + of] : 1.0f;
        float q = p.flags & HAS_V_DBIAS ? v_dbias[p.dbias + of] : 0.0f;
        float pw = p.flags & HAS_V_DWEIGHT ? v_dweight[p.dweight + of] : 0.0f;
        float d = dy[p.dy + at], v = p.flags & HAS_V ? v_dx[p.z + at] : 0.0f;
        float xhat = ((x[p.x + at] - from.m) - from.c) * from.rstd, e = planes[0];
        float own = p.flags & FROZEN ? 0.0f : xhat; /* 0·Inf is NaN */
        float direct = p.flags & HAS_V_DWEIGHT ? pw * xhat : 0.0f;
        if (p.flags & WRITE_G_DY)
            g_dy[p.dz + at] = w * (from.rstd * v + (e * own + planes[p.groups])) + (direct + q);
        if (p.flags & WRITE_G_X)
            g_x[p.out + at] = from.rstd * (((pw + w * e) * d + planes[2 * p.groups] * v) +
                                           (planes[3 * p.groups] * own + planes[4 * p.groups]));
        i += step_i;
        g += step_g;
        if (i >= p.inners) {
            i -= p.inners;
            g++;
        }
        if (g >= p.groups)
            g -= p.groups;
    }
}
#endif /* CLNORM_DOUBLE */
