/* The backend of an OpenCL device: CLBlast for the matrices, layers.cl for the rest, all on the in-order queue of the
 * clnorm device. Nothing is read back but by opencl_read. */
#include "backend.h"
#include "clblast_tuning.h"

#include <clnorm/opencl.h>

#include <clblast_c.h>
#include <stdio.h>
#include <stdlib.h>

extern const char demo_layers_source[]; /* layers.cl */

/* Work-group size of the reductions, and how many columns a group of column_sums has. */
#define GROUP   128
#define COLUMNS 16

/* Every kernel of layers.cl, by its name there. */
#define KERNEL_LIST(X)                                                                                                 \
    X(add_bias)                                                                                                        \
    X(relu)                                                                                                            \
    X(relu_backward)                                                                                                   \
    X(sgd)                                                                                                             \
    X(softmax_cross_entropy)                                                                                           \
    X(column_sums)                                                                                                     \
    X(moments)                                                                                                         \
    X(histogram)

struct opencl {
    cl_command_queue queue;
    cl_context context;
    cl_program program;
#define KERNEL_FIELD(name) cl_kernel name;
    KERNEL_LIST(KERNEL_FIELD)
#undef KERNEL_FIELD
};

static void check(struct backend *b, cl_int error, const char *call)
{
    if (error != CL_SUCCESS)
        backend_fail(b, "%s failed with OpenCL error %d", call, (int)error);
}

struct argument {
    size_t bytes;
    const void *value;
};
#define ARGUMENT(variable)                                                                                             \
    {                                                                                                                  \
        sizeof(variable), &(variable)                                                                                  \
    }

/* Enqueues a kernel over columns × rows work-items; group 0: the runtime chooses. */
static void launch(struct backend *b, cl_kernel kernel, const char *name, size_t columns, size_t rows, size_t group,
                   const struct argument *arguments, cl_uint count)
{
    struct opencl *own = b->own;
    if (backend_failed(b))
        return;
    for (cl_uint i = 0; i < count; i++)
        check(b, clSetKernelArg(kernel, i, arguments[i].bytes, arguments[i].value), "clSetKernelArg");
    const size_t global[2] = {columns, rows}, local[2] = {group, 1};
    if (!backend_failed(b))
        check(b, clEnqueueNDRangeKernel(own->queue, kernel, 2, NULL, global, group ? local : NULL, 0, NULL, NULL),
              name);
}
#define LAUNCH(kernel, columns, rows, group, ...)                                                                      \
    do {                                                                                                               \
        const struct argument arguments[] = {__VA_ARGS__};                                                             \
        launch(b, ((struct opencl *)b->own)->kernel, #kernel, columns, rows, group, arguments,                         \
               sizeof arguments / sizeof arguments[0]);                                                                \
    } while (0)

static void opencl_destroy(struct backend *b)
{
    struct opencl *own = b->own;
#define KERNEL_RELEASE(name)                                                                                           \
    if (own->name)                                                                                                     \
        clReleaseKernel(own->name);
    KERNEL_LIST(KERNEL_RELEASE)
#undef KERNEL_RELEASE
    if (own->program)
        clReleaseProgram(own->program);
    free(own);
}

static struct array opencl_allocate(struct backend *b, size_t count)
{
    struct opencl *own = b->own;
    struct array a = {NULL, 0};
    if (backend_failed(b))
        return a;
    cl_int error;
    a.memory = clCreateBuffer(own->context, CL_MEM_READ_WRITE, count * sizeof(float), NULL, &error);
    a.count = count;
    check(b, error, "clCreateBuffer");
    return a;
}

static void opencl_release(struct backend *b, struct array *a)
{
    (void)b;
    if (a->memory)
        clReleaseMemObject(a->memory);
    a->memory = NULL;
}

static void opencl_write(struct backend *b, struct array a, const void *source)
{
    struct opencl *own = b->own;
    if (!backend_failed(b))
        check(b, clEnqueueWriteBuffer(own->queue, a.memory, CL_TRUE, 0, a.count * sizeof(float), source, 0, NULL, NULL),
              "clEnqueueWriteBuffer");
}

static void opencl_read(struct backend *b, struct array a, void *target)
{
    struct opencl *own = b->own;
    if (!backend_failed(b))
        check(b, clEnqueueReadBuffer(own->queue, a.memory, CL_TRUE, 0, a.count * sizeof(float), target, 0, NULL, NULL),
              "clEnqueueReadBuffer");
}

static void opencl_finish(struct backend *b)
{
    struct opencl *own = b->own;
    if (!backend_failed(b))
        check(b, clFinish(own->queue), "clFinish");
}

static clnorm_buffer opencl_buffer(struct array a, size_t count)
{
    return clnorm_cl(a.memory, 0, count * sizeof(float));
}

static void opencl_multiply(struct backend *b, bool transpose_a, bool transpose_b, size_t m, size_t n, size_t k,
                            struct array a, struct array b_matrix, struct array c)
{
    struct opencl *own = b->own;
    if (backend_failed(b))
        return;
    CLBlastStatusCode status = CLBlastSgemm(
        CLBlastLayoutRowMajor, transpose_a ? CLBlastTransposeYes : CLBlastTransposeNo,
        transpose_b ? CLBlastTransposeYes : CLBlastTransposeNo, m, n, k, 1, a.memory, 0, transpose_a ? m : k,
        b_matrix.memory, 0, transpose_b ? k : n, 0, c.memory, 0, n, &own->queue, NULL);
    if (status != CLBlastSuccess)
        backend_fail(b, "CLBlastSgemm failed with status %d", (int)status);
}

static void opencl_add_bias(struct backend *b, size_t rows, size_t columns, struct array x, struct array bias)
{
    LAUNCH(add_bias, columns, rows, 0, ARGUMENT(x.memory), ARGUMENT(bias.memory));
}

static void opencl_column_sums(struct backend *b, size_t rows, size_t columns, struct array x, struct array sums)
{
    cl_uint height = (cl_uint)rows, width = (cl_uint)columns;
    LAUNCH(column_sums, (columns + COLUMNS - 1) / COLUMNS * GROUP, 1, GROUP, ARGUMENT(x.memory), ARGUMENT(sums.memory),
           ARGUMENT(height), ARGUMENT(width));
}

static void opencl_relu(struct backend *b, size_t count, struct array x, struct array y)
{
    LAUNCH(relu, count, 1, 0, ARGUMENT(x.memory), ARGUMENT(y.memory));
}

static void opencl_relu_backward(struct backend *b, size_t count, struct array y, struct array dy)
{
    LAUNCH(relu_backward, count, 1, 0, ARGUMENT(y.memory), ARGUMENT(dy.memory));
}

static void opencl_softmax_cross_entropy(struct backend *b, size_t rows, size_t classes, struct array logits,
                                         struct array labels, struct array dlogits, struct array losses)
{
    cl_uint width = (cl_uint)classes;
    LAUNCH(softmax_cross_entropy, rows, 1, 0, ARGUMENT(logits.memory), ARGUMENT(labels.memory),
           ARGUMENT(dlogits.memory), ARGUMENT(losses.memory), ARGUMENT(width));
}

static void opencl_moments(struct backend *b, size_t count, struct array x, struct array out, size_t index)
{
    cl_uint values = (cl_uint)count, place = (cl_uint)index;
    LAUNCH(moments, GROUP, 1, GROUP, ARGUMENT(x.memory), ARGUMENT(out.memory), ARGUMENT(values), ARGUMENT(place));
}

static void opencl_histogram(struct backend *b, size_t count, struct array x, struct array counts)
{
    struct opencl *own = b->own;
    if (backend_failed(b))
        return;
    const cl_int zero = 0;
    check(b,
          clEnqueueFillBuffer(own->queue, counts.memory, &zero, sizeof zero, 0, HISTOGRAM_COUNTS * sizeof zero, 0, NULL,
                              NULL),
          "clEnqueueFillBuffer");
    LAUNCH(histogram, count, 1, 0, ARGUMENT(x.memory), ARGUMENT(counts.memory));
}

static void opencl_sgd(struct backend *b, size_t count, float rate, struct array weight, struct array gradient)
{
    LAUNCH(sgd, count, 1, 0, ARGUMENT(weight.memory), ARGUMENT(gradient.memory), ARGUMENT(rate));
}

static const struct backend_operations opencl_operations = {
    .linear = "CLBlast",
    .compiles = true,
    .destroy = opencl_destroy,
    .allocate = opencl_allocate,
    .release = opencl_release,
    .write = opencl_write,
    .read = opencl_read,
    .finish = opencl_finish,
    .buffer = opencl_buffer,
    .multiply = opencl_multiply,
    .add_bias = opencl_add_bias,
    .column_sums = opencl_column_sums,
    .relu = opencl_relu,
    .relu_backward = opencl_relu_backward,
    .softmax_cross_entropy = opencl_softmax_cross_entropy,
    .moments = opencl_moments,
    .histogram = opencl_histogram,
    .sgd = opencl_sgd,
};

static void build(struct backend *b)
{
    struct opencl *own = b->own;
    cl_device_id id = clnorm_device_cl_id(b->device);
    const char *source = demo_layers_source;
    cl_int error;
    own->program = clCreateProgramWithSource(own->context, 1, &source, NULL, &error);
    check(b, error, "clCreateProgramWithSource");
    if (backend_failed(b))
        return;
    char options[128];
    snprintf(options, sizeof options, "-cl-std=CL1.2 -DGROUP=%d -DCOLUMNS=%d -DBINS=%d -DLOW=(%d.0f) -DHIGH=(%d.0f)",
             GROUP, COLUMNS, HISTOGRAM_BINS, HISTOGRAM_LOW, HISTOGRAM_HIGH);
    error = clBuildProgram(own->program, 1, &id, options, NULL, NULL);
    if (error != CL_SUCCESS) {
        char log[768] = "";
        clGetProgramBuildInfo(own->program, id, CL_PROGRAM_BUILD_LOG, sizeof log - 1, log, NULL);
        backend_fail(b, "clBuildProgram failed with OpenCL error %d: %s", (int)error, log);
    }
#define KERNEL_CREATE(name)                                                                                            \
    if (!backend_failed(b)) {                                                                                          \
        own->name = clCreateKernel(own->program, #name, &error);                                                       \
        check(b, error, "clCreateKernel of " #name);                                                                   \
    }
    KERNEL_LIST(KERNEL_CREATE)
#undef KERNEL_CREATE
}

bool backend_opencl_create(struct backend *b)
{
    struct opencl *own = calloc(1, sizeof *own);
    if (!own) {
        backend_fail(b, "out of memory for %zu bytes", sizeof *own);
        return false;
    }
    own->queue = clnorm_device_cl_queue(b->device);
    own->context = clnorm_device_cl_context(b->device);
    b->operations = &opencl_operations;
    b->own = own;
    clblast_tune(b->device);
    build(b);
    if (backend_failed(b))
        backend_destroy(b);
    return !backend_failed(b);
}
