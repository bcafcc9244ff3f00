/* Where the demo's network runs: all that a training step needs but batch norm itself, which is clnorm's on every device.
 * Two rows: the host (CBLAS) and an OpenCL device (CLBlast and layers.cl). Matrices are dense and row-major.
 *
 * Errors stick: the first failure is kept in error, and every operation after it does nothing. So a training step is
 * written without a check a line, and who reads a result back asks backend_failed first. */
#ifndef CLNORM_DEMO_BACKEND_H
#define CLNORM_DEMO_BACKEND_H

#include <clnorm/clnorm.h>
#include <stdbool.h>

/* The histogram of an array: bins of equal width from HISTOGRAM_LOW to HISTOGRAM_HIGH, the low edge of each included, and the
 * highest edge of all too; then what lies outside, and how many values are exactly 0 (they are in their bin as well). */
#define HISTOGRAM_BINS 50
#define HISTOGRAM_LOW  (-5)
#define HISTOGRAM_HIGH 5
enum { HISTOGRAM_BELOW = HISTOGRAM_BINS, HISTOGRAM_ABOVE, HISTOGRAM_NAN, HISTOGRAM_ZERO, HISTOGRAM_COUNTS };

/* An array of 4-byte elements: float, or int32_t for labels and counts. */
struct array {
    void *memory; /* host address, or cl_mem */
    size_t count;
};

struct backend;

struct backend_operations {
    const char *linear; /* what multiplies the matrices */
    bool compiles;      /* the first step takes longer, for kernels are compiled in it */
    void (*destroy)(struct backend *b);
    struct array (*allocate)(struct backend *b, size_t count);            /* contents undefined */
    void (*release)(struct backend *b, struct array *a);                  /* an empty array is fine */
    void (*write)(struct backend *b, struct array a, const void *source); /* all of a */
    void (*read)(struct backend *b, struct array a, void *target);        /* all of a; waits */
    void (*finish)(struct backend *b);                                    /* waits until all is done */
    clnorm_buffer (*buffer)(struct array a, size_t count); /* its first count elements as an argument of clnorm */

    /* c = A·B with c[m][n]; A is a[m][k], or a[k][m] transposed; B is b[k][n], or b[n][k] transposed. */
    void (*multiply)(struct backend *b, bool transpose_a, bool transpose_b, size_t m, size_t n, size_t k,
                     struct array a, struct array b_matrix, struct array c);
    void (*add_bias)(struct backend *b, size_t rows, size_t columns, struct array x, struct array bias); /* in place */
    void (*column_sums)(struct backend *b, size_t rows, size_t columns, struct array x, struct array sums);
    void (*relu)(struct backend *b, size_t count, struct array x, struct array y);
    /* dy becomes dx; y is what relu gave. */
    void (*relu_backward)(struct backend *b, size_t count, struct array y, struct array dy);
    /* losses[row] = −log softmax(logits[row])[labels[row]]; dlogits: the gradient of their mean. */
    void (*softmax_cross_entropy)(struct backend *b, size_t rows, size_t classes, struct array logits,
                                  struct array labels, struct array dlogits, struct array losses);
    /* out[2·index] = mean of x, out[2·index + 1] = its (biased) variance. */
    void (*moments)(struct backend *b, size_t count, struct array x, struct array out, size_t index);
    void (*histogram)(struct backend *b, size_t count, struct array x, struct array counts);
    void (*sgd)(struct backend *b, size_t count, float rate, struct array weight, struct array gradient);
};

struct backend {
    const struct backend_operations *operations;
    clnorm_device *device; /* not owned */
    void *own;             /* the row's own data */
    char error[1024];      /* "" as long as nothing failed */
};

/* The backend of a clnorm device, which must outlive it. false: b->error says why, and there is nothing to destroy. */
bool backend_create(struct backend *b, clnorm_device *device);
void backend_destroy(struct backend *b);
bool backend_failed(const struct backend *b);
/* Keeps the sentence if it is the first failure. */
void backend_fail(struct backend *b, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* The same for a clnorm call that may have failed, with clnorm_last_error(). */
void backend_check(struct backend *b, clnorm_status status, const char *call);

/* The rows: create sets b->operations and b->own, or fails. */
bool backend_cpu_create(struct backend *b);
bool backend_opencl_create(struct backend *b);

#endif
