/* The shapes that bench times, from a file of one case a line:
 *
 *     # a comment, also after a case
 *     NAME LAYOUT NxC[xSPATIAL...] [norm=NORM] [groups=G] [dims=K] [batch=B]
 *
 * LAYOUT is nc (no spatial dimension), ncs or nsc (1 to 3 of them). The shape is always written N, C, spatial; the layout says in
 * which order it lies in memory. NORM is batch if it is not there; dims are the normalized dimensions of layer and RMS norm, 1 if
 * not there; batch is the size of batch norm's virtual batches. */
#ifndef CLNORM_BENCH_SHAPES_H
#define CLNORM_BENCH_SHAPES_H

#include "norm.h"

struct bench_shape {
    char name[48];
    clnorm_layout layout;
    int dims;                             /* 2 to 5 */
    int64_t size[2 + CLNORM_MAX_SPATIAL]; /* n, c, spatial */
    struct norm_choice norm;
    clnorm_dtype dtype; /* of x and y; f32 unless it is set, as the activation is none */
    clnorm_activation activation;
    clnorm_residual residual; /* none, or after the norm */
    bool from_y;              /* backward takes y in place of x, and dx lies where x was */
    bool mask;                /* forward writes a mask, and backward goes by it */
    bool lengths;             /* samples have lengths, from all positions down to half of them */
};

struct bench_shapes {
    size_t count;
    struct bench_shape *list;
};

/* Reads the cases of a file or of a text called label. false: error has one sentence ("FILE:LINE: ...") and nothing is to be
 * freed. */
bool bench_shapes_read(struct bench_shapes *shapes, const char *path, char error[512]);
bool bench_shapes_parse(struct bench_shapes *shapes, const char *label, const char *text, char error[512]);
/* All of them by this norm. false: error tells of which it is not one. */
bool bench_shapes_set_norm(struct bench_shapes *shapes, const struct norm_choice *norm, const struct norm_words *words,
                           char error[512]);
/* Before each of them the same without activation and residual. false: error has one sentence. */
bool bench_shapes_add_unfused(struct bench_shapes *shapes, char error[512]);
void bench_shapes_free(struct bench_shapes *shapes);

const char *bench_layout_name(clnorm_layout layout);
int64_t bench_shape_elements(const struct bench_shape *shape);
/* Of a tensor: its bytes, and the floats that they take. */
uint64_t bench_shape_bytes(const struct bench_shape *shape);
size_t bench_shape_words(const struct bench_shape *shape);
/* The length of sample n: from all positions down to more than half of them; and the bytes of what is valid of a tensor. */
int32_t bench_shape_length(const struct bench_shape *shape, int64_t n);
uint64_t bench_shape_valid_bytes(const struct bench_shape *shape);
int64_t bench_shape_weights(const struct bench_shape *shape); /* values of weight and bias */
int64_t bench_shape_groups(const struct bench_shape *shape);  /* that share statistics */
clnorm_desc bench_shape_desc(const struct bench_shape *shape);
/* "32x64x112x112" */
void bench_shape_print(const struct bench_shape *shape, char text[128]);

#endif
