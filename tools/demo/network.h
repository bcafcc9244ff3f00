/* The demo's network: inputs–256–256–256–256–10, a linear layer each; after the hidden ones batch norm (or not), then ReLU.
 * Parameters begin as PyTorch's do: linear weights and biases from U(−1/√in, 1/√in), batch norm with 1 and 0. */
#ifndef CLNORM_DEMO_NETWORK_H
#define CLNORM_DEMO_NETWORK_H

#include "backend.h"

#include <stdint.h>

enum { NETWORK_HIDDEN = 4, NETWORK_WIDTH = 256, NETWORK_CLASSES = 10 };

enum network_mode {
    NETWORK_TRAIN,   /* batch statistics, which enter the running ones */
    NETWORK_OBSERVE, /* batch statistics; the running ones stay as they are */
    NETWORK_INFER    /* running statistics */
};

struct network_layer {
    size_t inputs, outputs;
    struct array weight, bias; /* [inputs][outputs], [outputs] */
    struct array dweight, dbias;
    struct array linear; /* x·weight + bias */
    /* Hidden layers have these too; the first two lines with batch norm only. */
    struct array norm_weight, norm_bias, dnorm_weight, dnorm_bias;
    struct array running_mean, running_var, state, normalized;
    struct array activation;
};

struct network {
    struct backend *backend;
    clnorm_plan *plan; /* NULL without batch norm; one for all layers, for they run one after the other */
    bool batch_norm;
    size_t rows; /* the largest batch */
    struct network_layer layers[NETWORK_HIDDEN + 1];
    struct array gradient[2]; /* [rows][NETWORK_WIDTH]: that of a layer's output, and of its input */
    struct array losses;      /* [rows] */
};

/* All in device memory. Failures are the backend's (backend_failed); network_destroy is fine after one. */
void network_create(struct network *net, struct backend *backend, size_t inputs, size_t rows, bool batch_norm,
                    uint64_t seed);
void network_destroy(struct network *net);

void network_forward(struct network *net, enum network_mode mode, struct array images, size_t rows);
/* After a forward to train on the same rows: every gradient, and the rows' losses. */
void network_backward(struct network *net, struct array images, struct array labels, size_t rows);
/* parameter −= rate·gradient, for each. */
void network_descend(struct network *net, float rate);

/* What ReLU takes in a hidden layer, and what it gives. */
struct array network_before_activation(const struct network *net, size_t layer);
struct array network_after_activation(const struct network *net, size_t layer);
struct array network_logits(const struct network *net);

#endif
