#include "types.h"

#include <float.h>
#include <math.h>

struct format {
    int fraction, bias; /* bits of the fraction; what is taken off the exponent's field */
};

static struct format format_of(enum reference_dtype dtype)
{
    return dtype == REFERENCE_F16 ? (struct format){10, 15} : (struct format){7, 127};
}

double reference_widen(enum reference_dtype dtype, uint16_t bits)
{
    const struct format f = format_of(dtype);
    const int fraction = bits & ((1 << f.fraction) - 1), field = (bits & 0x7fff) >> f.fraction;
    const double sign = bits & 0x8000 ? -1 : 1;
    if (field == 0x7fff >> f.fraction)
        return fraction ? NAN : sign * INFINITY;
    if (field == 0)
        return sign * ldexp(fraction, 1 - f.bias - f.fraction);
    return sign * ldexp(fraction + (1 << f.fraction), field - f.bias - f.fraction);
}

static uint16_t infinity_of(enum reference_dtype dtype)
{
    const struct format f = format_of(dtype);
    return (uint16_t)(0x7fff >> f.fraction << f.fraction);
}

/* Halfway from the value of bits to the next; the next of the largest is the power of two that the format has not. */
static double middle_above(enum reference_dtype dtype, uint16_t bits)
{
    const double here = reference_widen(dtype, bits);
    if (bits + 1 == infinity_of(dtype))
        return here + (here - reference_widen(dtype, (uint16_t)(bits - 1))) / 2;
    return (here + reference_widen(dtype, (uint16_t)(bits + 1))) / 2;
}

uint16_t reference_narrow(enum reference_dtype dtype, double v)
{
    const uint16_t sign = signbit(v) ? 0x8000 : 0;
    if (isnan(v))
        return (uint16_t)(infinity_of(dtype) | 1 << (format_of(dtype).fraction - 1));
    const struct format f = format_of(dtype);
    const int smallest = 1 - f.bias, own = ilogb(v); /* of 0 below all others, of Inf above */
    const int exponent = own < smallest ? smallest : own;
    if (exponent > f.bias)
        return (uint16_t)(sign | infinity_of(dtype));
    const double units = nearbyint(ldexp(fabs(v), f.fraction - exponent)); /* exact, then to nearest even */
    return (uint16_t)(sign | (((exponent - smallest) << f.fraction) + (int)units));
}

double reference_round(enum reference_dtype dtype, double v)
{
    return dtype == REFERENCE_F32 ? (double)(float)v : reference_widen(dtype, reference_narrow(dtype, v));
}

void reference_preimage(enum reference_dtype dtype, double v, double *low, double *high)
{
    *low = *high = v;
    if (dtype == REFERENCE_F32 || isnan(v))
        return;
    const uint16_t bits = reference_narrow(dtype, fabs(v));
    double from = bits ? middle_above(dtype, (uint16_t)(bits - 1)) : -middle_above(dtype, 0);
    double to = isinf(v) ? INFINITY : middle_above(dtype, bits);
    *low = signbit(v) ? -to : from;
    *high = signbit(v) ? -from : to;
}

double reference_ulp(enum reference_dtype dtype, double v)
{
    const double magnitude = fabs(v);
    const int digits = dtype == REFERENCE_F32 ? FLT_MANT_DIG : format_of(dtype).fraction + 1;
    const double smallest = dtype == REFERENCE_F16 ? 0x1p-14 : FLT_MIN;
    if (!(magnitude >= smallest))
        return ldexp(smallest, 1 - digits);
    return ldexp(1, ilogb(magnitude) - (digits - 1));
}
