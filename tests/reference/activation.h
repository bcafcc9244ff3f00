/* Activations of the reference, by the formulas of clnorm.h. */
#ifndef CLNORM_TESTS_ACTIVATION_H
#define CLNORM_TESTS_ACTIVATION_H

#include <stddef.h>

enum reference_activation { /* as clnorm_activation */
                            REFERENCE_LINEAR,
                            REFERENCE_RELU,
                            REFERENCE_LEAKY_RELU,
                            REFERENCE_GELU_TANH,
                            REFERENCE_SILU
};

/* act(t) and act'(t). slope: of REFERENCE_LEAKY_RELU. */
double reference_activate(enum reference_activation activation, double slope, double t);
double reference_activation_slope(enum reference_activation activation, double slope, double t);

#endif
