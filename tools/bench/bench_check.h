/* Checks a case before it is timed: one call of a mode on set 0, compared with the fp64 reference of tests/ and its tolerances. */
#ifndef CLNORM_BENCH_CHECK_H
#define CLNORM_BENCH_CHECK_H

#include "case.h"

/* A unit is what can be compared by itself with its gradients of weights: a channel of batch and instance norm, the channels of
 * group norm that share statistics; of layer and RMS norm a row, but then all of them. */
size_t bench_check_units(const struct bench_case *c);
/* Runs BENCH_TRAIN first for BENCH_BACKWARD. Every value of *checked units is compared: all of them, or where the tensor is
 * large as many as CHECK_VALUES allow, the first and the last among them. false: error has one sentence.
 * The inputs of c must still be there. */
bool bench_check(struct bench_case *c, enum bench_mode mode, size_t *checked, char error[512]);

#endif
