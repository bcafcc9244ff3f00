/* The data sets of the demo: images as rows of floats, and their labels. */
#ifndef CLNORM_DEMO_DATA_H
#define CLNORM_DEMO_DATA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define DEMO_CLASSES 10

struct data_part {
    size_t count;
    float *images;   /* [count][inputs] */
    int32_t *labels; /* [count], in [0, DEMO_CLASSES) */
};

struct data {
    size_t inputs;
    struct data_part training, held_out; /* held_out may be empty */
};

/* 1797 real digits of 8×8 pixels in [0, 1] (data/README.md): 1400 for training, 397 held out, by one fixed shuffle. */
bool data_digits(struct data *data);
/* 1000 samples of 784 values from N(0, 1) with random labels: nothing can be learnt from it but the samples themselves. */
bool data_random(struct data *data);
/* false above: out of memory, and nothing is to be freed. */
void data_free(struct data *data);

#endif
