/* 16-bit types of the reference: exact widening, and rounding to the nearest value, ties to the even one. By the definition of the
 * formats and by comparison with neighbours, not by the bit tricks of the library. */
#ifndef CLNORM_TESTS_TYPES_H
#define CLNORM_TESTS_TYPES_H

#include <stdint.h>

enum reference_dtype { REFERENCE_F32, REFERENCE_F16, REFERENCE_BF16 }; /* as clnorm_dtype */

/* The value of 16 bits as sign, exponent and fraction of the type (not REFERENCE_F32). */
double reference_widen(enum reference_dtype dtype, uint16_t bits);
/* The bits of the value nearest to v; from halfway between the largest value and the next power of two on, Inf. NaN is a quiet one. */
uint16_t reference_narrow(enum reference_dtype dtype, double v);
/* v rounded to the type. */
double reference_round(enum reference_dtype dtype, double v);
/* All numbers that round to a value of the type: from *low to *high. Of REFERENCE_F32 the value alone. */
void reference_preimage(enum reference_dtype dtype, double v, double *low, double *high);
/* The distance of v's neighbours: one unit in the last place. */
double reference_ulp(enum reference_dtype dtype, double v);

#endif
