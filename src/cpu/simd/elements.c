/* Tensors of any type element by element, a vector at a time. */
#include "cpu/kernels.h"
#include "cpu/simd/simd.h"
#include "cpu/simd/typed.h"

/* Copies of the code for the types that are usual together; others are told apart vector by vector. */
#define BY_TYPE(type, CALL)                                                                                            \
    do {                                                                                                               \
        if ((type) == CLNORM_F16)                                                                                      \
            CALL(CLNORM_F16);                                                                                          \
        else if ((type) == CLNORM_BF16)                                                                                \
            CALL(CLNORM_BF16);                                                                                         \
        else                                                                                                           \
            CALL(CLNORM_F32);                                                                                          \
    } while (0)

INLINE size_t head_of(const void *out, clnorm_dtype type, size_t n, int streaming)
{
    return streaming ? before_line_as(out, type, n) : 0;
}

/* Calls VECTOR(element, lanes, streaming) for n elements. */
#define FOR_VECTORS(head, n, streams, VECTOR)                                                                          \
    do {                                                                                                               \
        size_t i_ = 0;                                                                                                 \
        for (size_t lanes_; i_ < (head); i_ += lanes_) {                                                               \
            lanes_ = least(LANES, (head)-i_);                                                                          \
            VECTOR(i_, lanes_, 0);                                                                                     \
        }                                                                                                              \
        for (; i_ + LANES <= (n); i_ += LANES)                                                                         \
            VECTOR(i_, (size_t)LANES, (streams));                                                                      \
        if (i_ < (n))                                                                                                  \
            VECTOR(i_, (n)-i_, 0);                                                                                     \
    } while (0)

/* ---- activations ---- */

/* exp(a) for a ≤ 0, within 2 ulp: 2^n·exp(r), |r| ≤ ln 2 / 2; n·0.693359375 is exact. NaN stays; below −104 it is 0 anyway. The power of two
 * comes in two factors, for denormals. */
INLINE vec exp_of(vec a)
{
    const float magic = 12582912.0f; /* 1.5·2^23: what is added to it is rounded to an integer, in its lowest bits */
    a = choose(a < splat(-104.0f), splat(-104.0f), a);
    vec shifted = a * splat(1.44269504f) + splat(magic), n = shifted - splat(magic);
    vec r = (a - n * splat(0.693359375f)) - n * splat(-2.12194440e-4f);
    vec p = splat(1.9875691500e-4f);
    p = p * r + splat(1.3981999507e-3f);
    p = p * r + splat(8.3334519073e-3f);
    p = p * r + splat(4.1665795894e-2f);
    p = p * r + splat(1.6666665459e-1f);
    p = p * r + splat(5.0000001201e-1f);
    p = (p * (r * r) + r) + splat(1.0f);
    lane_number e = (lane_number)shifted - 0x4b400000, half_of_e = e >> 1;
    return p * (vec)((half_of_e + 127) << 23) * (vec)((e - half_of_e + 127) << 23);
}

/* As in src/cpu/elements.c. */
INLINE vec sigmoid(vec u, vec *rest)
{
    vec e = exp_of((vec)((lane_bits)u | 0x80000000u)), p = splat(1.0f) / (splat(1.0f) + e), ep = e * p;
    lane_number negative = u < splat(0.0f);
    *rest = choose(negative, p, ep);
    return choose(negative, ep, p);
}

INLINE vec gelu_argument(vec t)
{
    return splat(1.5957691216f) * (t + splat(0.044715f) * t * t * t);
}

INLINE vec act(clnorm_activation activation, float slope, vec t)
{
    vec rest;
    switch (activation) {
    case CLNORM_RELU:
        return relu(t);
    case CLNORM_LEAKY_RELU:
        return leaky_relu(t, slope);
    case CLNORM_GELU_TANH:
        return t * sigmoid(gelu_argument(t), &rest);
    case CLNORM_SILU:
        return t * sigmoid(t, &rest);
    case CLNORM_NO_ACTIVATION:
        break;
    }
    return t;
}

/* g·act′(t) */
INLINE vec act_gradient(clnorm_activation activation, float slope, vec t, vec g)
{
    vec rest, s, zero = splat(0.0f), one = splat(1.0f);
    switch (activation) {
    case CLNORM_RELU:
        return choose(t > zero, g, zero);
    case CLNORM_LEAKY_RELU:
        return choose(t > zero, g, splat(slope) * g);
    case CLNORM_GELU_TANH:
        s = sigmoid(gelu_argument(t), &rest);
        return g * (s + t * s * rest * (splat(1.5957691216f) * (one + splat(3.0f * 0.044715f) * t * t)));
    case CLNORM_SILU:
        s = sigmoid(t, &rest);
        return g * (s + t * s * rest);
    case CLNORM_NO_ACTIVATION:
        break;
    }
    return g;
}

#define BY_ACTIVATION(activation, CALL)                                                                                \
    do {                                                                                                               \
        switch (activation) {                                                                                          \
        case CLNORM_NO_ACTIVATION:                                                                                     \
            CALL(CLNORM_NO_ACTIVATION);                                                                                \
            break;                                                                                                     \
        case CLNORM_RELU:                                                                                              \
            CALL(CLNORM_RELU);                                                                                         \
            break;                                                                                                     \
        case CLNORM_LEAKY_RELU:                                                                                        \
            CALL(CLNORM_LEAKY_RELU);                                                                                   \
            break;                                                                                                     \
        case CLNORM_GELU_TANH:                                                                                         \
            CALL(CLNORM_GELU_TANH);                                                                                    \
            break;                                                                                                     \
        case CLNORM_SILU:                                                                                              \
            CALL(CLNORM_SILU);                                                                                         \
            break;                                                                                                     \
        }                                                                                                              \
    } while (0)

/* ---- kernels ---- */

INLINE void widen_as(const void *from, clnorm_dtype type, float *to, size_t n, size_t ahead)
{
    const char *next = (const char *)from + ahead;
    size_t bytes = type == CLNORM_F32 ? 4 : 2;
    const size_t none = 0;
#define VECTOR(i, lanes, streams)                                                                                      \
    do {                                                                                                               \
        store_as(load_as(from, type, (i), (lanes)), to, CLNORM_F32, (i), (lanes), (streams));                          \
        if (ahead)                                                                                                     \
            __builtin_prefetch(next + (i)*bytes, 0, 2);                                                                \
    } while (0)
    FOR_VECTORS(none, n, 0, VECTOR);
#undef VECTOR
}

static void widen(const void *from, clnorm_dtype type, float *to, size_t n, size_t ahead)
{
#define CALL(type) widen_as(from, (type), to, n, ahead)
    BY_TYPE(type, CALL);
#undef CALL
}

INLINE void put_as(const float *v, void *to, clnorm_dtype type, size_t n, int adds, int streaming)
{
    size_t head = head_of(to, type, n, streaming);
#define VECTOR(i, lanes, streams)                                                                                      \
    do {                                                                                                               \
        vec v_ = load_as(v, CLNORM_F32, (i), (lanes));                                                                 \
        store_as(adds ? load_as(to, type, (i), (lanes)) + v_ : v_, to, type, (i), (lanes), (streams));                 \
    } while (0)
    FOR_VECTORS(head, n, streaming, VECTOR);
#undef VECTOR
}

static void put(const float *v, void *to, clnorm_dtype type, size_t n, int adds, int streaming)
{
#define CALL(type) put_as(v, to, (type), n, adds, streaming)
    BY_TYPE(type, CALL);
#undef CALL
}

INLINE void add_as(const void *x, const void *z, void *sum, clnorm_dtype type, size_t n)
{
    const size_t none = 0;
#define VECTOR(i, lanes, streams)                                                                                      \
    store_as(load_as(x, type, (i), (lanes)) + load_as(z, type, (i), (lanes)), sum, type, (i), (lanes), (streams))
    FOR_VECTORS(none, n, 0, VECTOR);
#undef VECTOR
}

static void add(const void *x, const void *z, void *sum, clnorm_dtype type, size_t n)
{
#define CALL(type) add_as(x, z, sum, (type), n)
    BY_TYPE(type, CALL);
#undef CALL
}

INLINE void activate_as(const float *t, const void *z, void *y, const struct cln_fusion *f,
                        clnorm_activation activation, clnorm_dtype x_type, clnorm_dtype y_type, size_t n, int streaming)
{
    size_t head = head_of(y, y_type, n, streaming);
#define VECTOR(i, lanes, streams)                                                                                      \
    do {                                                                                                               \
        vec v_ = load_as(t, CLNORM_F32, (i), (lanes));                                                                 \
        if (z)                                                                                                         \
            v_ += load_as(z, x_type, (i), (lanes));                                                                    \
        store_as(act(activation, f->slope, v_), y, y_type, (i), (lanes), (streams));                                   \
    } while (0)
    FOR_VECTORS(head, n, streaming, VECTOR);
#undef VECTOR
}

static void activate(const float *t, const void *z, void *y, const struct cln_fusion *f, size_t n, int streaming)
{
#define CALL_TYPES(x, y_) activate_as(t, z, y, f, activation_, (x), (y_), n, streaming)
#define CALL(activation)                                                                                               \
    do {                                                                                                               \
        const clnorm_activation activation_ = (activation);                                                            \
        BY_TYPES(f->x_type, f->y_type, CALL_TYPES);                                                                    \
    } while (0)
    BY_ACTIVATION(f->activation, CALL);
#undef CALL
#undef CALL_TYPES
}

INLINE void undo_as(const void *y, const void *z, const float *bias, const float *weight, float scale, float *to,
                    const struct cln_fusion *f, clnorm_activation activation, clnorm_dtype x_type, clnorm_dtype y_type,
                    size_t n)
{
    const size_t none = 0;
    const vec least_weight = splat(0x1p-126f), zero = splat(0.0f);
#define VECTOR(i, lanes, streams)                                                                                      \
    do {                                                                                                               \
        vec v_ = load_as(y, y_type, (i), (lanes));                                                                     \
        if (activation == CLNORM_LEAKY_RELU)                                                                           \
            v_ = choose(v_ > zero, v_, v_ / splat(f->slope));                                                          \
        if (z)                                                                                                         \
            v_ -= load_as(z, x_type, (i), (lanes));                                                                    \
        if (bias)                                                                                                      \
            v_ -= load_as(bias, CLNORM_F32, (i), (lanes));                                                             \
        if (weight) {                                                                                                  \
            vec w_ = load_as(weight, CLNORM_F32, (i), (lanes));                                                        \
            v_ *= choose((w_ > -least_weight) & (w_ < least_weight), zero, splat(1.0f) / w_);                          \
        }                                                                                                              \
        store_as(v_ *splat(scale), to, CLNORM_F32, (i), (lanes), (streams));                                           \
    } while (0)
    FOR_VECTORS(none, n, 0, VECTOR);
#undef VECTOR
}

/* (act⁻¹(y) − z − bias)/weight·scale: of no activation and of leaky ReLU. */
static void undo(const void *y, const void *z, const float *bias, const float *weight, float scale, float *to,
                 const struct cln_fusion *f, size_t n)
{
#define CALL_TYPES(x, y_) undo_as(y, z, bias, weight, scale, to, f, activation_, (x), (y_), n)
    if (f->activation == CLNORM_LEAKY_RELU) {
        const clnorm_activation activation_ = CLNORM_LEAKY_RELU;
        BY_TYPES(f->x_type, f->y_type, CALL_TYPES);
    } else {
        const clnorm_activation activation_ = CLNORM_NO_ACTIVATION;
        BY_TYPES(f->x_type, f->y_type, CALL_TYPES);
    }
#undef CALL_TYPES
}

INLINE void differentiate_as(const float *t, const void *z, const void *y, const void *dy, float *to,
                             const struct cln_fusion *f, clnorm_activation activation, clnorm_dtype x_type,
                             clnorm_dtype y_type, size_t n)
{
    const size_t none = 0;
#define VECTOR(i, lanes, streams)                                                                                      \
    do {                                                                                                               \
        vec v_ = splat(0.0f), g_ = load_as(dy, y_type, (i), (lanes));                                                  \
        if (t)                                                                                                         \
            v_ = load_as(t, CLNORM_F32, (i), (lanes));                                                                 \
        else if (y)                                                                                                    \
            v_ = load_as(y, y_type, (i), (lanes));                                                                     \
        if (t && z)                                                                                                    \
            v_ += load_as(z, x_type, (i), (lanes));                                                                    \
        store_as(act_gradient(activation, f->slope, v_, g_), to, CLNORM_F32, (i), (lanes), (streams));                 \
    } while (0)
    FOR_VECTORS(none, n, 0, VECTOR);
#undef VECTOR
}

static void differentiate(const float *t, const void *z, const void *y, const void *dy, float *to,
                          const struct cln_fusion *f, size_t n)
{
#define CALL_TYPES(x, y_) differentiate_as(t, z, y, dy, to, f, activation_, (x), (y_), n)
#define CALL(activation)                                                                                               \
    do {                                                                                                               \
        const clnorm_activation activation_ = (activation);                                                            \
        BY_TYPES(f->x_type, f->y_type, CALL_TYPES);                                                                    \
    } while (0)
    BY_ACTIVATION(f->activation, CALL);
#undef CALL
#undef CALL_TYPES
}

/* A bit for each lane that is above 0. */
INLINE uint32_t above_zero(vec v)
{
#if defined(__AVX512F__)
    return _mm512_cmp_ps_mask((__m512)v, _mm512_setzero_ps(), _CMP_GT_OQ);
#elif defined(__x86_64__)
    __m256 part[2];
    memcpy(part, &v, sizeof part);
    uint32_t low = (uint32_t)_mm256_movemask_ps(_mm256_cmp_ps(part[0], _mm256_setzero_ps(), _CMP_GT_OQ)),
             high = (uint32_t)_mm256_movemask_ps(_mm256_cmp_ps(part[1], _mm256_setzero_ps(), _CMP_GT_OQ));
    return low | high << 8;
#else
    const uint32x4_t bits = {1, 2, 4, 8};
    return vaddvq_u32(vandq_u32((uint32x4_t)(v > splat(0.0f)), bits));
#endif
}

INLINE void mask_as(const void *y, clnorm_dtype type, uint32_t *mask, size_t n)
{
    size_t i = 0;
    for (; i + CLN_MASK_BITS <= n; i += CLN_MASK_BITS) {
        uint32_t word = 0;
        for (size_t bit = 0; bit < CLN_MASK_BITS; bit += LANES)
            word |= above_zero(load_as(y, type, i + bit, LANES)) << bit;
        mask[i / CLN_MASK_BITS] = word;
    }
    if (i == n)
        return;
    uint32_t word = 0;
    for (size_t bit = 0; i + bit < n; bit += LANES)
        word |= above_zero(load_as(y, type, i + bit, least(LANES, n - i - bit))) << bit;
    mask[i / CLN_MASK_BITS] = word;
}

static void mask(const void *y, clnorm_dtype type, uint32_t *mask, size_t n)
{
#define CALL(type) mask_as(y, (type), mask, n)
    BY_TYPE(type, CALL);
#undef CALL
}

/* All bits of the lanes whose bit is set, of n ≤ LANES bits from the at-th on. */
INLINE lane_number lanes_of(const uint32_t *mask, uint64_t at, size_t n)
{
#if defined(__aarch64__)
    const lane_bits lane = {1, 2, 4, 8};
#else
    const lane_bits lane = {1,      1 << 1, 1 << 2,  1 << 3,  1 << 4,  1 << 5,  1 << 6,  1 << 7,
                            1 << 8, 1 << 9, 1 << 10, 1 << 11, 1 << 12, 1 << 13, 1 << 14, 1 << 15};
#endif
    uint32_t shift = (uint32_t)(at % CLN_MASK_BITS), bits = mask[at / CLN_MASK_BITS] >> shift;
    if (shift + n > CLN_MASK_BITS)
        bits |= mask[at / CLN_MASK_BITS + 1] << (CLN_MASK_BITS - shift);
    return (lane_number)((((lane_bits){0} + bits) & lane) != 0);
}

INLINE void by_mask_as(const uint32_t *mask, uint64_t first, const void *dy, float *to, const struct cln_fusion *f,
                       clnorm_dtype type, size_t n)
{
    const size_t none = 0;
    const vec below = splat(f->activation == CLNORM_LEAKY_RELU ? f->slope : 0.0f), zero = splat(0.0f);
    const int leaky = f->activation == CLNORM_LEAKY_RELU;
#define VECTOR(i, lanes, streams)                                                                                      \
    do {                                                                                                               \
        vec g_ = load_as(dy, type, (i), (lanes));                                                                      \
        store_as(choose(lanes_of(mask, first + (i), (lanes)), g_, leaky ? below *g_ : zero), to, CLNORM_F32, (i),      \
                 (lanes), (streams));                                                                                  \
    } while (0)
    FOR_VECTORS(none, n, 0, VECTOR);
#undef VECTOR
}

static void differentiate_by_mask(const uint32_t *mask, uint64_t first, const void *dy, float *to,
                                  const struct cln_fusion *f, size_t n)
{
#define CALL(type) by_mask_as(mask, first, dy, to, f, (type), n)
    BY_TYPE(f->y_type, CALL);
#undef CALL
}

void CLN_SIMD(elements)(struct cln_element_kernels *kernels)
{
    *kernels =
        (struct cln_element_kernels){widen, put, add, activate, undo, differentiate, mask, differentiate_by_mask};
}
