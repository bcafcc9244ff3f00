/* Tensors of any type element by element, in plain C: conversions by integers, activations by the C library. */
#include "backend/op.h"
#include "cpu/kernels.h"

#include <math.h>
#include <string.h>

static uint32_t bits_of(float f)
{
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    return u;
}

static float float_of(uint32_t u)
{
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

/* ---- conversions ---- */

static float widen_f16(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000u) << 16, rest = h & 0x7fffu;
    if (rest >= 0x7c00u) /* Inf and NaN, which is made quiet */
        return float_of(sign | 0x7f800000u | (rest & 0x3ffu ? 0x400000u : 0u) | (rest & 0x3ffu) << 13);
    if (rest >= 0x400u)
        return float_of(sign | ((rest << 13) + ((127u - 15u) << 23)));
    float denormal = (float)rest * 0x1p-24f;
    return sign ? -denormal : denormal;
}

static uint16_t narrow_f16(float f)
{
    uint32_t u = bits_of(f), sign = u >> 16 & 0x8000u, rest = u & 0x7fffffffu;
    if (rest > 0x7f800000u)
        return (uint16_t)(sign | 0x7e00u);
    if (rest >= 0x477ff000u) /* from halfway between the largest and 2^16 on */
        return (uint16_t)(sign | 0x7c00u);
    if (rest < 0x38800000u) { /* denormal: adding ½ leaves a multiple of 2^-24, rounded to nearest even */
        float shifted = float_of(rest) + 0.5f;
        return (uint16_t)(sign | (bits_of(shifted) - bits_of(0.5f)));
    }
    rest += 0xfffu + (rest >> 13 & 1u);
    return (uint16_t)(sign | ((rest - ((127u - 15u) << 23)) >> 13));
}

static uint16_t narrow_bf16(float f)
{
    uint32_t u = bits_of(f);
    if ((u & 0x7fffffffu) > 0x7f800000u)
        return (uint16_t)(u >> 16 | 0x40u);
    return (uint16_t)((u + 0x7fffu + (u >> 16 & 1u)) >> 16);
}

static float get(const void *from, clnorm_dtype type, size_t i)
{
    if (type == CLNORM_F32)
        return ((const float *)from)[i];
    uint16_t half = ((const uint16_t *)from)[i];
    return type == CLNORM_F16 ? widen_f16(half) : float_of((uint32_t)half << 16);
}

static void set(void *to, clnorm_dtype type, size_t i, float v)
{
    if (type == CLNORM_F32)
        ((float *)to)[i] = v;
    else
        ((uint16_t *)to)[i] = type == CLNORM_F16 ? narrow_f16(v) : narrow_bf16(v);
}

/* ---- activations ---- */

/* GELU by tanh is t/(1 + exp(−u)): 1 + tanh(v) = 2/(1 + exp(−2v)), without what cancels in it. SiLU is it with u = t. */
static float gelu_argument(float t)
{
    return 1.5957691216f * (t + 0.044715f * t * t * t);
}

/* 1/(1 + exp(−u)), and 1 minus that in *rest, each as accurate where it is small as where it is not. */
static float sigmoid(float u, float *rest)
{
    float e = expf(-fabsf(u)), p = 1.0f / (1.0f + e);
    *rest = u < 0.0f ? p : e * p;
    return u < 0.0f ? e * p : p;
}

static float act(const struct cln_fusion *f, float t)
{
    float rest;
    switch (f->activation) {
    case CLNORM_RELU:
        return t <= 0.0f ? 0.0f : t;
    case CLNORM_LEAKY_RELU:
        return t > 0.0f ? t : f->slope * t;
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
static float act_gradient(const struct cln_fusion *f, float t, float g)
{
    float rest, s;
    switch (f->activation) {
    case CLNORM_RELU:
        return t > 0.0f ? g : 0.0f;
    case CLNORM_LEAKY_RELU:
        return t > 0.0f ? g : f->slope * g;
    case CLNORM_GELU_TANH:
        s = sigmoid(gelu_argument(t), &rest);
        return g * (s + t * s * rest * (1.5957691216f * (1.0f + 3.0f * 0.044715f * t * t)));
    case CLNORM_SILU:
        s = sigmoid(t, &rest);
        return g * (s + t * s * rest);
    case CLNORM_NO_ACTIVATION:
        break;
    }
    return g;
}

/* Of an activation that has one. */
static float act_inverse(const struct cln_fusion *f, float y)
{
    return f->activation == CLNORM_LEAKY_RELU && !(y > 0.0f) ? y / f->slope : y;
}

/* ---- kernels ---- */

static void widen(const void *from, clnorm_dtype type, float *to, size_t n, size_t ahead)
{
    (void)ahead;
    for (size_t i = 0; i < n; i++)
        to[i] = get(from, type, i);
}

static void put(const float *v, void *to, clnorm_dtype type, size_t n, int add, int streaming)
{
    (void)streaming;
    for (size_t i = 0; i < n; i++)
        set(to, type, i, add ? get(to, type, i) + v[i] : v[i]);
}

static void add(const void *x, const void *z, void *sum, clnorm_dtype type, size_t n)
{
    for (size_t i = 0; i < n; i++)
        set(sum, type, i, get(x, type, i) + get(z, type, i));
}

static void activate(const float *t, const void *z, void *y, const struct cln_fusion *f, size_t n, int streaming)
{
    (void)streaming;
    for (size_t i = 0; i < n; i++)
        set(y, f->y_type, i, act(f, z ? t[i] + get(z, f->x_type, i) : t[i]));
}

static void undo(const void *y, const void *z, const float *bias, const float *weight, float scale, float *to,
                 const struct cln_fusion *f, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        float v = act_inverse(f, get(y, f->y_type, i));
        v -= z ? get(z, f->x_type, i) : 0.0f;
        v -= bias ? bias[i] : 0.0f;
        if (weight)
            v *= cln_is_zero(weight[i]) ? 0.0f : 1.0f / weight[i];
        to[i] = v * scale;
    }
}

static void differentiate(const float *t, const void *z, const void *y, const void *dy, float *to,
                          const struct cln_fusion *f, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        float v = t ? t[i] : y ? get(y, f->y_type, i) : 0.0f;
        to[i] = act_gradient(f, t && z ? v + get(z, f->x_type, i) : v, get(dy, f->y_type, i));
    }
}

static void mask(const void *y, clnorm_dtype type, uint32_t *mask, size_t n)
{
    for (size_t i = 0; i < n; i += CLN_MASK_BITS) {
        uint32_t word = 0;
        for (size_t bit = 0; bit < CLN_MASK_BITS && i + bit < n; bit++)
            word |= (uint32_t)(get(y, type, i + bit) > 0.0f) << bit;
        mask[i / CLN_MASK_BITS] = word;
    }
}

static void differentiate_by_mask(const uint32_t *mask, uint64_t first, const void *dy, float *to,
                                  const struct cln_fusion *f, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        uint64_t bit = first + i;
        to[i] = act_gradient(f, (float)(mask[bit / CLN_MASK_BITS] >> bit % CLN_MASK_BITS & 1u), get(dy, f->y_type, i));
    }
}

void cln_cpu_fill_elements(struct cln_element_kernels *kernels)
{
    *kernels =
        (struct cln_element_kernels){widen, put, add, activate, undo, differentiate, mask, differentiate_by_mask};
}
