#include "activation.h"

#include <math.h>

static const double root_of_2_by_pi = 0.79788456080286535588, cubic = 0.044715;

double reference_activate(enum reference_activation activation, double slope, double t)
{
    switch (activation) {
    case REFERENCE_RELU:
        return isnan(t) || t > 0 ? t : 0;
    case REFERENCE_LEAKY_RELU:
        return t > 0 ? t : slope * t;
    case REFERENCE_GELU_TANH:
        return t / 2 * (1 + tanh(root_of_2_by_pi * (t + cubic * t * t * t)));
    case REFERENCE_SILU:
        return t / (1 + exp(-t));
    default:
        return t;
    }
}

double reference_activation_slope(enum reference_activation activation, double slope, double t)
{
    switch (activation) {
    case REFERENCE_RELU:
        return t > 0 ? 1 : 0;
    case REFERENCE_LEAKY_RELU:
        return t > 0 ? 1 : slope;
    case REFERENCE_GELU_TANH: {
        const double inner = root_of_2_by_pi * (t + cubic * t * t * t),
                     inner_slope = root_of_2_by_pi * (1 + 3 * cubic * t * t);
        const double cosine = cosh(inner);
        return (1 + tanh(inner)) / 2 + t / 2 * inner_slope / (cosine * cosine);
    }
    case REFERENCE_SILU: {
        const double part = 1 / (1 + exp(-t));
        return part * (1 + t / (1 + exp(t)));
    }
    default:
        return 1;
    }
}
