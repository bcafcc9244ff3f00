/* clnorm: normalization layers for training, on any OpenCL 1.2 device and on the CPU.
 *
 * This header is the whole contract; it has no OpenCL type (those are in <clnorm/opencl.h>) and is valid C11 and C++17.
 *
 * Life cycle: open a device, create a plan for a problem, run the plan many times, destroy plan, then device.
 *
 *     clnorm_device *device;  clnorm_device_open("auto", &device);
 *     clnorm_desc desc = CLNORM_DESC_INIT;  desc.layout = CLNORM_NC;  desc.n = 64;  desc.c = 256;
 *     clnorm_plan *plan;      clnorm_plan_create(device, &desc, &plan);
 *     clnorm_forward_args f = CLNORM_FORWARD_ARGS_INIT;  f.x = clnorm_host(x, bytes);  …
 *     clnorm_forward(plan, &f);
 *
 * Errors. Every call returns a clnorm_status; clnorm_last_error() has one sentence about the last failure on this
 * thread. An argument error (a status below CLNORM_E_DEVICE_FAILED) leaves every output untouched. After one of the
 * others the outputs are undefined, but running statistics are committed last. The library never aborts, exits or prints.
 *
 * Memory. A buffer argument is a value {kind, handle, offset, bytes}; passing one allocates nothing. On an OpenCL device
 * buffers are cl_mem (clnorm_cl, <clnorm/opencl.h>) or library memory; host pointers are refused there, for they would
 * need a hidden copy. On "cpu" buffers are host pointers or library memory. Tensors are dense; a buffer begins at a multiple
 * of its element's size.
 *
 * Aliasing. Buffers that a call writes may not overlap any other buffer of the call, with four exceptions, all for the very
 * same bytes of the same type: y over x in clnorm_infer, and in clnorm_forward and clnorm_apply when no state is saved, or, in
 * clnorm_forward, when the plan's backward is from y (desc.backward_from_y); dx
 * over dy, unless it is added to dx; sum over x or z; each of the two outputs of
 * clnorm_fold over its input. Anything else, a partial overlap too, is CLNORM_E_OVERLAP.
 *
 * Threads. Devices may be shared between threads. A plan is used by one thread at a time.
 *
 * Time. On an OpenCL device every run call is asynchronous: it enqueues and returns; it allocates, compiles, flushes
 * and waits for nothing. On "cpu" it returns when the result is there.
 *
 * Formulas (docs/math.md derives them). A statistics group is what the norm says (clnorm_norm); m is its number of values;
 * u = 2^-24.
 *     mean = Σx / m            kept as a pair  m + c  of two floats, so that a large mean costs no accuracy
 *     var  = Σ(x − mean)² / m  biased
 *     rstd = 1 / sqrt(var + eps)
 *     y    = (x − mean)·rstd·weight + bias
 * RMS norm takes no mean off: rstd = 1 / sqrt(Σx²/m + eps), y = x·rstd·weight + bias.
 * Bounds that the tests hold on every device, per statistics group: |y − y64| ≤ 16u·max|y64| (weight 1, bias 0) for any f32
 * input with |x| < 1e17. A constant group has var exactly 0 and (eps > 0; not RMS norm) y exactly bias.
 */
#ifndef CLNORM_CLNORM_H
#define CLNORM_CLNORM_H

#include <stddef.h>
#include <stdint.h>

#define CLNORM_VERSION_MAJOR 0
#define CLNORM_VERSION_MINOR 1
#define CLNORM_VERSION_PATCH 0

#if defined(CLNORM_STATIC)
#define CLNORM_API
#elif defined(_WIN32)
#if defined(CLNORM_BUILDING)
#define CLNORM_API __declspec(dllexport)
#else
#define CLNORM_API __declspec(dllimport)
#endif
#else
#define CLNORM_API __attribute__((visibility("default")))
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* ---- status ---------------------------------------------------------------------------------------------------- */

/* X(NAME, number, text). Numbers are stable. Below 60: the caller's argument, nothing was touched. From 60 on: the
 * machine. */
#define CLNORM_STATUS_LIST(X)                                                                                          \
    X(OK, 0, "success")                                                                                                \
    X(E_NULL, 10, "a required pointer is NULL")                                                                        \
    X(E_STRUCT_SIZE, 11, "a struct's size field is not one this library knows")                                        \
    X(E_ENUM, 12, "a value is not one of its enumeration")                                                             \
    X(E_SHAPE, 20, "a dimension is out of range")                                                                      \
    X(E_STRIDES, 21, "strides are not those of a dense tensor")                                                        \
    X(E_EPS, 22, "eps is negative or not finite")                                                                      \
    X(E_MOMENTUM, 23, "momentum is outside [0, 1]")                                                                    \
    X(E_N, 24, "n of a call is outside [0, n of the plan]")                                                            \
    X(E_MISSING, 30, "a required buffer is missing")                                                                   \
    X(E_BUFFER_KIND, 31, "a buffer's kind does not fit the device")                                                    \
    X(E_BUFFER_DEVICE, 32, "a buffer belongs to another device or context")                                            \
    X(E_BUFFER_SIZE, 33, "a buffer is too small")                                                                      \
    X(E_BUFFER_ALIGNMENT, 34, "a buffer is not aligned to its element")                                                \
    X(E_LENGTH, 35, "a parameter has the wrong length")                                                                \
    X(E_OVERLAP, 36, "buffers overlap")                                                                                \
    X(E_STATISTICS_MISSING, 37, "running statistics are missing")                                                      \
    X(E_STATISTICS_SOURCE, 38, "backward needs exactly one source of statistics")                                      \
    X(E_STREAM, 39, "a stream does not fit the device")                                                                \
    X(E_DEVICE_UNKNOWN, 40, "no device has this name")                                                                 \
    X(E_UNSUPPORTED, 41, "this build or device cannot do that")                                                        \
    X(E_BUSY, 42, "the object is still in use")                                                                        \
    X(E_DEVICE_FAILED, 60, "an OpenCL call failed")                                                                    \
    X(E_BUILD, 61, "a kernel did not build")                                                                           \
    X(E_NO_MEMORY, 62, "out of memory")                                                                                \
    X(E_FILE, 63, "a file cannot be written")

typedef enum clnorm_status {
#define CLNORM_STATUS_ENUM(name, number, text) CLNORM_##name = number,
    CLNORM_STATUS_LIST(CLNORM_STATUS_ENUM)
#undef CLNORM_STATUS_ENUM
} clnorm_status;

/* "CLNORM_E_SHAPE" and the like; "CLNORM_E_?" for a number that is no status. Never NULL. */
CLNORM_API const char *clnorm_status_name(clnorm_status status);
/* The short text of CLNORM_STATUS_LIST. Never NULL. */
CLNORM_API const char *clnorm_status_text(clnorm_status status);
/* One sentence about the last failure on this thread: the argument, what it was and what it must be, or the OpenCL call
 * and its code, or the build log. "" if there was none. Valid until the next clnorm call on this thread. */
CLNORM_API const char *clnorm_last_error(void);
/* "0.1.0": of the library that runs, where CLNORM_VERSION_* are those of the header. */
CLNORM_API const char *clnorm_version(void);

/* ---- devices --------------------------------------------------------------------------------------------------- */

typedef struct clnorm_device clnorm_device;

typedef enum clnorm_device_class {
    CLNORM_CLASS_HOST = 0,       /* "cpu": this machine's processors, without OpenCL */
    CLNORM_CLASS_CPU = 1,        /* an OpenCL device of type CPU */
    CLNORM_CLASS_GPU = 2,        /* an OpenCL device of type GPU */
    CLNORM_CLASS_ACCELERATOR = 3 /* any other OpenCL device */
} clnorm_device_class;

/* What a device is and how it will be used. Strings live as long as the device (or until the next clnorm_device_list). */
typedef struct clnorm_device_info {
    size_t size;              /* sizeof(clnorm_device_info), set by CLNORM_DEVICE_INFO_INIT */
    char id[32];              /* "cpu" or "opencl:P.D": a name that clnorm_device_open takes */
    char name[128];           /* CL_DEVICE_NAME */
    char platform[128];       /* CL_PLATFORM_NAME; "host" for cpu */
    char version[128];        /* CL_DEVICE_VERSION; the library's version for cpu */
    char driver[128];         /* CL_DRIVER_VERSION; "" for cpu */
    char tuning[160];         /* the row of the tuning table in force, as text: "segments w8 wg1 … columns w16 …" */
    char fallback[512];       /* why "auto" did not take an OpenCL device; "" if it did, or was not asked */
    clnorm_device_class kind; /* class of the device */
    uint64_t memory;          /* bytes of global memory */
    uint64_t max_allocation;  /* bytes of the largest buffer */
    uint64_t local_memory;    /* bytes of local memory a work-group */
    uint32_t compute_units;   /* CL_DEVICE_MAX_COMPUTE_UNITS; processors for cpu */
    uint32_t work_group_size; /* largest work-group */
    int fp64, fp16, subgroups; /* 1 if the device has them. None is needed */
    /* Where `tuning` is from: "table", "environment" (CLNORM_TUNING), "tuned, PATH" (clnorm_device_save_tuning), or
     * "table; PATH is ignored: WHY" if the saved row is damaged, another device's or more than the device holds. "" for cpu */
    char tuning_source[512];
} clnorm_device_info;
#define CLNORM_DEVICE_INFO_INIT                                                                                        \
    {                                                                                                                  \
        sizeof(clnorm_device_info), "", "", "", "", "", "", "", CLNORM_CLASS_HOST, 0, 0, 0, 0, 0, 0, 0, 0, ""          \
    }

/* Opens a device. name:
 *   "auto"         the first OpenCL GPU or accelerator that builds and runs a kernel, else cpu (see info.fallback)
 *   "cpu"          this machine's processors, without OpenCL
 *   "opencl"       the first OpenCL device of any type
 *   "opencl:P.D"   device D of platform P, as clnorm_device_list counts them
 *   anything else  part of an OpenCL device's or platform's name, letter case ignored; the first match
 * No OpenCL platform at all is not an error for "auto" and "cpu".
 * -> E_NULL, E_DEVICE_UNKNOWN (the sentence lists the devices), E_ENUM (CLNORM_TUNING in the environment is no row), E_DEVICE_FAILED,
 * E_BUILD, E_NO_MEMORY. *device is set on success only. */
CLNORM_API clnorm_status clnorm_device_open(const char *name, clnorm_device **device);
/* Waits for nothing. NULL is fine. Plans and memory of the device keep it alive: it is freed with the last of them. */
CLNORM_API void clnorm_device_destroy(clnorm_device *device);
/* -> E_NULL, E_STRUCT_SIZE. */
CLNORM_API clnorm_status clnorm_device_get_info(const clnorm_device *device, clnorm_device_info *info);
/* The info of device i of this machine: 0 is cpu, then every OpenCL device in the order of platforms. *count: how many
 * there are. info may be NULL (to count). Opens and builds nothing. -> E_NULL, E_STRUCT_SIZE, E_DEVICE_UNKNOWN (i ≥ count). */
CLNORM_API clnorm_status clnorm_device_list(uint32_t i, clnorm_device_info *info, uint32_t *count);
/* Builds every program that plans of f32 without activation and residual on this device can need, from the disk cache where it is there
 * (docs/cache.md), so that no later clnorm_plan_create of these compiles. Those of other types and fusions are too many: each is built
 * with the first plan that has it, and so are those of desc.double_backward and desc.lengths. Does nothing on cpu. -> E_NULL, E_BUILD, E_DEVICE_FAILED, E_NO_MEMORY. */
CLNORM_API clnorm_status clnorm_device_build_all(clnorm_device *device);

typedef struct clnorm_build_counts {
    uint64_t from_source; /* programs of this device compiled from source */
    uint64_t from_cache;  /* programs taken from the disk cache */
} clnorm_build_counts;
/* How many programs this device has built so far. -> E_NULL. */
CLNORM_API clnorm_status clnorm_device_get_build_counts(const clnorm_device *device, clnorm_build_counts *counts);
/* Saves a row, in the form of info.tuning, as this user's for the device: every device of that platform and name that is opened later,
 * in any process, has it, unless CLNORM_TUNING says otherwise (docs/tuning.md). Devices that are open keep theirs. row NULL: forgets
 * what was saved. A file is written whole or not at all. `clnorm tune` finds rows.
 * -> E_NULL, E_UNSUPPORTED (cpu has no rows), E_ENUM (no row, or more than the device holds), E_FILE. */
CLNORM_API clnorm_status clnorm_device_save_tuning(const clnorm_device *device, const char *row);

/* ---- buffers --------------------------------------------------------------------------------------------------- */

typedef struct clnorm_memory clnorm_memory;

typedef enum clnorm_buffer_kind {
    CLNORM_BUFFER_NONE = 0,   /* left out */
    CLNORM_BUFFER_HOST = 1,   /* handle: host address */
    CLNORM_BUFFER_MEMORY = 2, /* handle: clnorm_memory */
    CLNORM_BUFFER_CL = 3      /* handle: cl_mem, a sub-buffer too */
} clnorm_buffer_kind;

/* A buffer argument. offset and bytes count bytes; [offset, offset + bytes) is what the call may touch. */
typedef struct clnorm_buffer {
    clnorm_buffer_kind kind;
    void *handle;
    size_t offset;
    size_t bytes;
} clnorm_buffer;

/* The buffer arguments: host memory, (part of) library memory, left out. Inputs are never written. */
static inline clnorm_buffer clnorm_host(const void *pointer, size_t bytes)
{
    clnorm_buffer b;
    b.kind = CLNORM_BUFFER_HOST;
    b.handle = (void *)(uintptr_t)pointer;
    b.offset = 0;
    b.bytes = bytes;
    return b;
}
static inline clnorm_buffer clnorm_memory_part(clnorm_memory *memory, size_t offset, size_t bytes)
{
    clnorm_buffer b;
    b.kind = CLNORM_BUFFER_MEMORY;
    b.handle = memory;
    b.offset = offset;
    b.bytes = bytes;
    return b;
}
static inline clnorm_buffer clnorm_none(void)
{
    clnorm_buffer b;
    b.kind = CLNORM_BUFFER_NONE;
    b.handle = NULL;
    b.offset = 0;
    b.bytes = 0;
    return b;
}

/* Memory of the library's own on a device: host memory aligned to 64 bytes on cpu, a cl_mem elsewhere. bytes may be 0.
 * Contents are undefined. -> E_NULL, E_NO_MEMORY, E_DEVICE_FAILED. */
CLNORM_API clnorm_status clnorm_memory_create(clnorm_device *device, size_t bytes, clnorm_memory **memory);
/* NULL is fine. Calls already enqueued may still use it. */
CLNORM_API void clnorm_memory_destroy(clnorm_memory *memory);
CLNORM_API size_t clnorm_memory_bytes(const clnorm_memory *memory); /* 0 for NULL */
/* All of it as a buffer argument. */
CLNORM_API clnorm_buffer clnorm_memory_buffer(clnorm_memory *memory);
/* Copies between host and library memory on the device's own queue and waits for the copy; both are also
 * available as asynchronous calls on your queue in <clnorm/opencl.h>. -> E_NULL, E_BUFFER_SIZE, E_DEVICE_FAILED. */
CLNORM_API clnorm_status clnorm_memory_write(clnorm_memory *memory, size_t offset, const void *source, size_t bytes);
CLNORM_API clnorm_status clnorm_memory_read(clnorm_memory *memory, size_t offset, void *target, size_t bytes);
/* Maps the bytes for the host to read and write, and unmaps them. One map at a time; E_BUSY for a second.
 * -> E_NULL, E_BUFFER_SIZE, E_BUSY, E_DEVICE_FAILED. */
CLNORM_API clnorm_status clnorm_memory_map(clnorm_memory *memory, size_t offset, size_t bytes, void **pointer);
CLNORM_API clnorm_status clnorm_memory_unmap(clnorm_memory *memory);
/* Waits until all that was enqueued on the device's own queue is done. -> E_NULL, E_DEVICE_FAILED. */
CLNORM_API clnorm_status clnorm_device_finish(clnorm_device *device);

/* ---- plans ----------------------------------------------------------------------------------------------------- */

/* Over what statistics are taken, and the length of weight and bias. */
typedef enum clnorm_norm {
    /* a channel, over samples and positions (of a virtual batch: clnorm_desc); c */
    CLNORM_BATCH = 0,
    /* the last desc.normalized_dims dimensions of the layout, for each index of the others; a weight an element of those dimensions */
    CLNORM_LAYER = 1,
    /* c / desc.groups neighbouring channels of a sample, over its positions; c */
    CLNORM_GROUP = 2,
    /* a channel of a sample, over its positions; c. Has running statistics, one a channel: they take the mean of the samples' means and
     * of their variances */
    CLNORM_INSTANCE = 3,
    /* as layer norm, without taking a mean off */
    CLNORM_RMS = 4
} clnorm_norm;

typedef enum clnorm_layout {
    CLNORM_NC = 0,  /* [n, c] */
    CLNORM_NCS = 1, /* [n, c, spatial…], channels-first */
    CLNORM_NSC = 2  /* [n, spatial…, c], channels-last */
} clnorm_layout;

/* Of tensors. What is computed is f32: reading widens exactly; writing rounds once, to nearest even, and keeps NaN and Inf. */
typedef enum clnorm_dtype {
    CLNORM_F32 = 0,
    CLNORM_F16 = 1, /* IEEE 754 binary16; no device needs to have arithmetic in it */
    CLNORM_BF16 = 2 /* the upper half of an f32 */
} clnorm_dtype;

/* What is done to the normalized value, as one call with the norm. With t the value before it:
 *     RELU       max(t, 0); a NaN stays                     gradient 1 where t > 0, else 0
 *                (so 0 where t is NaN, whatever dy is; dx is NaN there for its statistics are)
 *     LEAKY_RELU t where t > 0, else desc.slope·t           1, else slope
 *     GELU_TANH  t/2·(1 + tanh(√(2/π)·(t + 0.044715·t³)))
 *     SILU       t/(1 + exp(−t)) */
typedef enum clnorm_activation {
    CLNORM_NO_ACTIVATION = 0,
    CLNORM_RELU = 1,
    CLNORM_LEAKY_RELU = 2,
    CLNORM_GELU_TANH = 3,
    CLNORM_SILU = 4
} clnorm_activation;

/* A second input z, of x's shape and type. */
typedef enum clnorm_residual {
    CLNORM_NO_RESIDUAL = 0,
    CLNORM_RESIDUAL_AFTER = 1, /* y = act(norm(x) + z) */
    /* s = x + z rounded to x's type, a second output `sum`; y = act(norm(s)), whose statistics are those of s. Layer and RMS norm.
     * Backward takes s as its x, and its dx is the gradient of s, so that of x and of z */
    CLNORM_RESIDUAL_BEFORE = 2
} clnorm_residual;

#define CLNORM_MAX_SPATIAL 3

/* A problem. Zero is every field's default but size. */
typedef struct clnorm_desc {
    size_t size; /* sizeof(clnorm_desc), set by CLNORM_DESC_INIT */
    clnorm_norm norm;
    clnorm_layout layout;
    clnorm_dtype dtype;                  /* of x, dx, z, dz and sum; parameters and statistics are f32 */
    int64_t n;                           /* largest batch, ≥ 0; a call may have fewer samples */
    int64_t c;                           /* channels, ≥ 1 */
    int32_t spatial_dims;                /* 0 for CLNORM_NC; 1 to 3 for the others */
    int64_t spatial[CLNORM_MAX_SPATIAL]; /* each ≥ 1 */
    float eps; /* ≥ 0; CLNORM_DESC_INIT: 1e-5. With 0 a channel of zero variance gives the formula's NaN */
    int64_t strides
        [2 +
         CLNORM_MAX_SPATIAL]; /* all 0, or the strides in elements in the order of the layout, which must be the dense
                                                ones (a dimension of 1 may have any stride) */
    int64_t groups;           /* CLNORM_GROUP: 1 or more, and a divisor of c; else 0 */
    int32_t normalized_dims;  /* CLNORM_LAYER, CLNORM_RMS: from 1 to all dimensions but n; else 0 */
    clnorm_dtype y_dtype;     /* of y and dy; it may be another than x's */
    clnorm_activation activation;
    clnorm_residual residual;
    float slope; /* CLNORM_LEAKY_RELU: finite; CLNORM_DESC_INIT: 0.01 */
    /* CLNORM_BATCH: samples of a virtual (ghost) batch, ≥ 1; 0: all samples of a call are one. Other norms: 0. In clnorm_forward and
     * clnorm_backward each has statistics of its own, as if it were a call: samples 0 to virtual_batch − 1 of the call's n, then the next
     * ones; the last may have fewer. A statistics group is a channel of a batch; running statistics take the batches in order. Inference,
     * backward from running statistics, and what is of a weight or channel know of no batches. It costs the launches of so many calls */
    int64_t virtual_batch;
    uint32_t double_backward; /* 1: the plan has clnorm_double_backward, too; 0: its kernels are not built */
    /* 1: clnorm_backward takes y in place of x, so that forward may write y over x, with state, and backward dx over dy. For plans
     * without activation or with CLNORM_LEAKY_RELU of slope > 0. What it costs in accuracy is said at clnorm_backward */
    uint32_t backward_from_y;
    /* 1: clnorm_forward, clnorm_infer and clnorm_backward take the length of each sample (args.lengths), for padded sequences: one spatial
     * dimension, t, of at most 2^31 − 1. Positions from a sample's length on are padding: they have no part in statistics and gradients, what
     * is there is never read, and y, dx and dz are 0 there (dx and dz stay if they are added to); all else is as if samples had no padding.
     * Statistics of no values: mean 0, variance 0; they leave running statistics alone, and the mean over an instance norm's samples is of
     * those that have values. Batch, group and instance norm; without virtual batches, double_backward and backward_from_y. Reads of x and
     * dy are of what is valid, twice each: no group is kept in the cache */
    uint32_t lengths;
    /* 1: clnorm_forward writes a mask (args.mask) of a bit an element, and clnorm_backward takes it in place of y: where a residual or a
     * 16-bit type makes t dear to work out again, and y is not kept. CLNORM_RELU, and CLNORM_LEAKY_RELU with slope > 0; without
     * backward_from_y */
    uint32_t activation_mask;
} clnorm_desc;
#define CLNORM_DESC_INIT                                                                                               \
    {                                                                                                                  \
        sizeof(clnorm_desc), CLNORM_BATCH, CLNORM_NC, CLNORM_F32, 0, 0, 0, {0, 0, 0}, 1e-5f, {0, 0, 0, 0, 0}, 0, 0,    \
            CLNORM_F32, CLNORM_NO_ACTIVATION, CLNORM_NO_RESIDUAL, 0.01f, 0, 0, 0, 0, 0                                 \
    }

typedef struct clnorm_plan clnorm_plan;

/* Chooses and builds the kernels (from the cache where they are there) and allocates the plan's workspace (a few bytes a channel).
 * -> E_NULL, E_STRUCT_SIZE, E_ENUM (slope, double_backward, backward_from_y, lengths and activation_mask too), E_SHAPE, E_STRIDES, E_EPS, E_UNSUPPORTED
 * (CLNORM_RESIDUAL_BEFORE of another norm than layer and RMS; double_backward of another norm than batch and layer, of other types than
 * f32, with an activation, a residual or virtual batches; backward_from_y with another activation than a leaky ReLU of slope > 0, or with
 * double_backward; lengths of another norm than batch, group and instance norm, with another number of spatial dimensions than 1, with
 * virtual batches, double_backward or backward_from_y; activation_mask with another activation than those, or with backward_from_y),
 * E_BUILD, E_DEVICE_FAILED, E_NO_MEMORY. */
CLNORM_API clnorm_status clnorm_plan_create(clnorm_device *device, const clnorm_desc *desc, clnorm_plan **plan);
/* NULL is fine. Calls already enqueued still complete. */
CLNORM_API void clnorm_plan_destroy(clnorm_plan *plan);

/* Statistics groups of n samples (CLNORM_PLAN_N: the plan's n): batch norm c, with virtual batches ceil(n / virtual_batch)·c, group norm
 * n·groups, instance norm n·c, layer and RMS norm the product of the dimensions that are not normalized. 0 for NULL and for n out of
 * range. */
CLNORM_API int64_t clnorm_plan_groups(const clnorm_plan *plan, int64_t n);
/* Bytes of: the state that forward saves for backward (three floats a group: m, c, rstd; opaque); statistics (see clnorm_statistics);
 * sums (see clnorm_backward_reduce); the mask of desc.activation_mask (a bit an element, in words of 32; opaque; 0 without); the workspace
 * of one call. All 0 for NULL. */
CLNORM_API size_t clnorm_plan_state_bytes(const clnorm_plan *plan);
CLNORM_API size_t clnorm_plan_mask_bytes(const clnorm_plan *plan);
CLNORM_API size_t clnorm_plan_statistics_bytes(const clnorm_plan *plan);
CLNORM_API size_t clnorm_plan_sums_bytes(const clnorm_plan *plan);
CLNORM_API size_t clnorm_plan_workspace_bytes(const clnorm_plan *plan);
/* Which variant runs, and why, launch by launch, and the bytes that it moves (docs/tool.md); for people. Valid as long as the plan.
 * "" for NULL. */
CLNORM_API const char *clnorm_plan_explain(const clnorm_plan *plan);

/* What a call found that only the device can know, or'ed since the plan was made or last asked. */
#define CLNORM_FOUND_NONFINITE   1u /* a commit met a non-finite mean or variance */
#define CLNORM_FOUND_ZERO_WEIGHT 2u /* a backward from y met a weight of magnitude below 2^-126: clnorm_backward */
#define CLNORM_FOUND_LENGTH      4u /* a length was below 0 or above t, and counted as 0 or t */
/* Reads and clears that word. This waits for the plan's calls on the device's own queue, and on OpenCL for those on the
 * queue of the last call; nothing else in this header that runs a plan waits. -> E_NULL, E_DEVICE_FAILED. */
CLNORM_API clnorm_status clnorm_plan_query_found(clnorm_plan *plan, uint32_t *found);

/* ---- running statistics ---------------------------------------------------------------------------------------- */

typedef enum clnorm_average {
    CLNORM_EXPONENTIAL = 0, /* new = (1 − momentum)·old + momentum·batch */
    CLNORM_CUMULATIVE = 1   /* new = old + (batch − old)/(count + 1): the mean of all batches; momentum is ignored */
} clnorm_average;

typedef enum clnorm_variance {
    CLNORM_BIASED = 0,  /* running_var takes Σ(x − mean)²/m, as the tutorial does */
    CLNORM_UNBIASED = 1 /* … /(m − 1), as PyTorch does; where m = 1 the biased value (0) is kept */
} clnorm_variance;

typedef enum clnorm_guard {
    CLNORM_GUARD_NONE = 0,  /* NaN and Inf go into the running statistics as the formula says */
    CLNORM_GUARD_FINITE = 1 /* a channel whose batch mean or variance is not finite keeps its running statistics */
} clnorm_guard;

/* How batch statistics enter the running ones. momentum and count are the caller's to keep (checkpoints). */
typedef struct clnorm_running {
    float momentum; /* in [0, 1]; the initialisers set 0.1 */
    clnorm_average average;
    clnorm_variance variance;
    clnorm_guard guard;
    uint64_t count; /* CLNORM_CUMULATIVE: batches averaged so far, 0 for the first; virtual batches count one by one */
} clnorm_running;
#define CLNORM_RUNNING_INIT                                                                                            \
    {                                                                                                                  \
        0.1f, CLNORM_EXPONENTIAL, CLNORM_BIASED, CLNORM_GUARD_NONE, 0                                                  \
    }

/* ---- run ------------------------------------------------------------------------------------------------------- */
/* In all of these:
 *   n          samples of this call, 0 ≤ n ≤ the plan's; the initialisers set CLNORM_PLAN_N: the plan's n
 *   x, y, dy, dx, z, dz, sum   tensors of n samples in the plan's layout, x, dx, z, dz and sum of desc.dtype, y and dy of desc.y_dtype; the
 *              buffer may be larger, not smaller
 *   weight, bias, dweight, dbias   f32, exactly as many as the norm has weights (clnorm_norm); weight and bias may be left out (1 and 0),
 *              each alone too
 *   running_mean, running_var      f32[c], exactly; batch and instance norm alone have them
 *   mean, var, rstd                f32, one a statistics group of the call's n, in the order of memory (group norm: [n, groups]; virtual
 *              batches: [batches, c]); exactly c for batch norm without virtual batches, else the buffer may be larger. RMS norm has
 *              rstd alone
 *   lengths    int32[n] at least: of each sample; required with desc.lengths, refused without
 *   mask       clnorm_plan_mask_bytes() bytes, or what a smaller n needs of them, at a multiple of 4; refused without desc.activation_mask
 *   workspace  left out: the plan's own, then the plan's calls must be ordered by the caller (one in-order queue, or events);
 *              or clnorm_plan_workspace_bytes() bytes of the caller's, one for each call in flight
 *   stream     NULL: the device's own in-order queue; or a clnorm_cl_stream (<clnorm/opencl.h>). Must be NULL on cpu
 * n = 0: the call succeeds, writes no tensor, no statistics and no state, and launches no kernel (but clnorm_fold one, for the
 * bias); dweight and dbias are set to 0, or stay if they are added to; an event still completes after its wait list. */
#define CLNORM_PLAN_N ((int64_t)-1)

typedef struct clnorm_forward_args {
    size_t size;
    int64_t n;
    clnorm_buffer x, y;
    clnorm_buffer weight, bias;
    clnorm_buffer state;                     /* out, may be left out: for clnorm_backward */
    clnorm_buffer mean, var, rstd;           /* out, each may be left out; var biased */
    clnorm_buffer running_mean, running_var; /* in and out, both or neither */
    clnorm_running running;
    clnorm_buffer z;       /* in, required with a residual, refused without */
    clnorm_buffer sum;     /* out, required with CLNORM_RESIDUAL_BEFORE; may be x or z, the very same bytes */
    clnorm_buffer lengths; /* in, required with desc.lengths */
    clnorm_buffer mask;    /* out, desc.activation_mask alone, may be left out: for clnorm_backward */
    clnorm_buffer workspace;
    const void *stream;
} clnorm_forward_args;
#define CLNORM_BUFFER_INIT                                                                                             \
    {                                                                                                                  \
        CLNORM_BUFFER_NONE, NULL, 0, 0                                                                                 \
    }
#define CLNORM_FORWARD_ARGS_INIT                                                                                       \
    {                                                                                                                  \
        sizeof(clnorm_forward_args), CLNORM_PLAN_N, CLNORM_BUFFER_INIT, CLNORM_BUFFER_INIT, CLNORM_BUFFER_INIT,        \
            CLNORM_BUFFER_INIT, CLNORM_BUFFER_INIT, CLNORM_BUFFER_INIT, CLNORM_BUFFER_INIT, CLNORM_BUFFER_INIT,        \
            CLNORM_BUFFER_INIT, CLNORM_BUFFER_INIT, CLNORM_RUNNING_INIT, CLNORM_BUFFER_INIT, CLNORM_BUFFER_INIT,       \
            CLNORM_BUFFER_INIT, CLNORM_BUFFER_INIT, CLNORM_BUFFER_INIT, NULL                                           \
    }

/* Forward for training: y from the batch's own statistics; then the running statistics are updated.
 * With one value per group (m = 1) the variance is 0 and y is bias (not RMS norm). A NaN or Inf in a statistics group makes that group
 * NaN (an Inf in RMS norm: rstd 0, and NaN itself) and leaves every other bit as it would be. y may be x only if state is left out or with
 * desc.backward_from_y. Reads x twice, writes y once. A residual adds one reading of z, sum one writing, and a mask another reading of y.
 * -> E_NULL, E_STRUCT_SIZE, E_N, E_MISSING (x, y), E_BUFFER_…, E_LENGTH, E_OVERLAP, E_STATISTICS_MISSING (one of the
 * running pair alone), E_UNSUPPORTED (a buffer that the plan has not: running statistics; RMS norm's mean and var; z and sum without their
 * residual; lengths; mask), E_MOMENTUM, E_ENUM, E_STREAM, E_DEVICE_FAILED. */
CLNORM_API clnorm_status clnorm_forward(clnorm_plan *plan, const clnorm_forward_args *args);

typedef struct clnorm_infer_args {
    size_t size;
    int64_t n;
    clnorm_buffer x, y;
    clnorm_buffer weight, bias;
    clnorm_buffer running_mean, running_var; /* in, required */
    clnorm_buffer z;                         /* in, required with a residual, refused without */
    clnorm_buffer lengths;                   /* in, required with desc.lengths */
    clnorm_buffer mask;                      /* out, as clnorm_forward's: for a backward with frozen statistics */
    clnorm_buffer workspace;
    const void *stream;
} clnorm_infer_args;
#define CLNORM_INFER_ARGS_INIT                                                                                         \
    {                                                                                                                  \
        sizeof(clnorm_infer_args), CLNORM_PLAN_N, CLNORM_BUFFER_INIT, CLNORM_BUFFER_INIT, CLNORM_BUFFER_INIT,          \
            CLNORM_BUFFER_INIT, CLNORM_BUFFER_INIT, CLNORM_BUFFER_INIT, CLNORM_BUFFER_INIT, CLNORM_BUFFER_INIT,        \
            CLNORM_BUFFER_INIT, CLNORM_BUFFER_INIT, NULL                                                               \
    }

/* Inference, batch and instance norm: y = (x − running_mean) / sqrt(running_var + eps)·weight + bias. y may be x. Reads x once, writes
 * y once. The other norms do the same in training and inference: clnorm_forward.
 * -> as clnorm_forward; E_STATISTICS_MISSING without running statistics; E_UNSUPPORTED for the other norms. */
CLNORM_API clnorm_status clnorm_infer(clnorm_plan *plan, const clnorm_infer_args *args);

typedef struct clnorm_fold_args {
    size_t size;
    clnorm_buffer layer_weight;              /* in: of the layer before the norm, the plan's tensor */
    clnorm_buffer layer_bias;                /* in: f32[c], may be left out: 0 */
    clnorm_buffer weight, bias;              /* of the norm */
    clnorm_buffer running_mean, running_var; /* in, required */
    clnorm_buffer layer_weight_out;          /* out */
    clnorm_buffer layer_bias_out;            /* out: f32[c] */
    clnorm_buffer workspace;
    const void *stream;
} clnorm_fold_args;
#define CLNORM_FOLD_ARGS_INIT                                                                                          \
    {                                                                                                                  \
        sizeof(clnorm_fold_args), CLNORM_BUFFER_INIT, CLNORM_BUFFER_INIT, CLNORM_BUFFER_INIT, CLNORM_BUFFER_INIT,      \
            CLNORM_BUFFER_INIT, CLNORM_BUFFER_INIT, CLNORM_BUFFER_INIT, CLNORM_BUFFER_INIT, CLNORM_BUFFER_INIT, NULL   \
    }

/* Folds the inference of a batch norm into the linear layer or convolution before it, which alone then gives what clnorm_infer gave
 * after it:
 *     a                = weight / sqrt(running_var + eps)     one a channel
 *     layer_weight_out = layer_weight·a
 *     layer_bias_out   = (layer_bias − running_mean)·a + bias
 * The plan is a batch norm plan, of f32 without activation, residual, virtual batches and lengths, whose tensor is the layer's weights (always of
 * the plan's n), c the layer's outputs and eps the norm's:
 *     [out, in], [c_out, c_in, kh, kw]   CLNORM_NCS, n = 1, c = out, spatial = {in} or {c_in, kh, kw} (or any with that product)
 *     [in, out]                          CLNORM_NC, n = in, c = out
 * layer_weight_out may be layer_weight, layer_bias_out may be layer_bias. Reads and writes the layer's weights once. With n = 0 the bias
 * alone is written. Bounds held: |layer_weight_out − …| ≤ 5u·|…|, |layer_bias_out − …| ≤ 7u·|(layer_bias − running_mean)·a| + u·|bias|.
 * -> as clnorm_infer, but for E_N; E_UNSUPPORTED for another plan. */
CLNORM_API clnorm_status clnorm_fold(clnorm_plan *plan, const clnorm_fold_args *args);

/* Backward takes the statistics from exactly one source:
 *   state                        of clnorm_forward or clnorm_apply on the same x, of the same n
 *   mean and rstd                of another framework: as accurate as they are (an f32 mean is off by up to u·|mean|, so x̂ by up to
 *                                u·|mean|·rstd). RMS norm: rstd alone
 *   running_mean and running_var frozen statistics: they are constants, so dx = dy·weight·rstd */
/* Gradients that are added to what is there, instead of written over it: or'ed. In 16 bits the sum is rounded once. */
#define CLNORM_ADD_DX      1u
#define CLNORM_ADD_DWEIGHT 2u
#define CLNORM_ADD_DBIAS   4u
#define CLNORM_ADD_DZ      8u

typedef struct clnorm_backward_args {
    size_t size;
    int64_t n;
    clnorm_buffer x, dy; /* x: refused with desc.backward_from_y, whose plans take y */
    clnorm_buffer weight;
    clnorm_buffer state;
    clnorm_buffer mean, rstd;
    clnorm_buffer running_mean, running_var;
    clnorm_buffer dx, dweight, dbias; /* out, each may be left out, not all (dz too) */
    /* What the gradient of the activation is worked out from; refused without an activation. Either y of forward (CLNORM_RELU, and
     * CLNORM_LEAKY_RELU with slope > 0: its sign tells), or, if y is left out, from x again, then bias (if forward had one) and
     * CLNORM_RESIDUAL_AFTER's z are needed. With desc.activation_mask: neither, but the mask, which says what y's sign would.
     * With desc.backward_from_y: y of forward, and its bias (if it had one) and z (CLNORM_RESIDUAL_AFTER), from which x̂ is worked out. */
    clnorm_buffer y, bias, z;
    clnorm_buffer dz;      /* out, CLNORM_RESIDUAL_AFTER alone, may be left out: act'·dy */
    uint32_t accumulate;   /* CLNORM_ADD_…; with CLNORM_ADD_DX dx may not be dy */
    clnorm_buffer lengths; /* in, required with desc.lengths: those of forward */
    clnorm_buffer
        mask; /* in, required with desc.activation_mask: that of forward; then y is refused, and bias and z have no use */
    clnorm_buffer workspace;
    const void *stream;
} clnorm_backward_args;
#define CLNORM_BACKWARD_ARGS_INIT                                                                                      \
    {                                                                                                                  \
        sizeof(clnorm_backward_args), CLNORM_PLAN_N, CLNORM_BUFFER_INIT, CLNORM_BUFFER_INIT, CLNORM_BUFFER_INIT,       \
            CLNORM_BUFFER_INIT, CLNORM_BUFFER_INIT, CLNORM_BUFFER_INIT, CLNORM_BUFFER_INIT, CLNORM_BUFFER_INIT,        \
            CLNORM_BUFFER_INIT, CLNORM_BUFFER_INIT, CLNORM_BUFFER_INIT, CLNORM_BUFFER_INIT, CLNORM_BUFFER_INIT,        \
            CLNORM_BUFFER_INIT, CLNORM_BUFFER_INIT, 0, CLNORM_BUFFER_INIT, CLNORM_BUFFER_INIT, CLNORM_BUFFER_INIT,     \
            NULL                                                                                                       \
    }

/* x̂ = (x − mean)·rstd
 * dbias = Σdy      dweight = Σ dy·x̂      over all elements of a weight
 * dx = rstd·(g − Σg/m − x̂·Σ(g·x̂)/m)     g = weight·dy, over the statistics group; RMS norm: without Σg/m
 * with dy·act'(t) in place of dy if there is an activation; dz is that product.
 * x may be left out only with frozen statistics, no dweight, and no activation that is worked out from it. dx may be dy. Reads x and dy
 * twice, writes dx once.
 * Bounds held: |dx − dx64| ≤ 32u·rstd·max(|g| + |mean g| + |x̂·mean(g·x̂)|) of a statistics group, |dweight − …| ≤ 16u·Σ|dy·x̂|
 * (layer and group norm, whose mean is of values of other weights too: 16u·Σ|dy|·(|x̂| + 1)), |dbias − …| ≤ 16u·Σ|dy|. K virtual
 * batches are added up in their order: (15 + K)u in place of 16u for dweight and dbias.
 * From y (desc.backward_from_y): x̂ = (t − z − bias)/weight with t = y, or y/slope where a leaky ReLU's y is not above 0. Reads y (and z)
 * where it would read x. y may be left out where x may. weight and bias must be those of forward: left out only if forward had none. The
 * error of x̂ grows with |bias/weight|: y is rounded to v·|y|, v = 2^-24, 2^-11 (f16) or 2^-8 (bf16), which is v·|x̂ + bias/weight| of x̂
 * (with z: v·|x̂ + (bias + z)/weight|), and working x̂ out adds e = 20u·(|x̂| + (|bias| + |z|)/|weight|); u where e is more than |x̂| says
 * that nothing is known of x̂. Bounds held, of the y that is given: rstd·(e·|mean(g·x̂)| + |x̂|·mean(|g|·e)) more than the above for dx, and
 * Σ|dy|·e more for dweight.
 * Where |weight| < 2^-126, 0 too, y says nothing of x: x̂ counts as 0, so that it has no part in dweight and in the means of dx; and
 * CLNORM_FOUND_ZERO_WEIGHT is set. Where weight·rstd is below 2^-128 what a gradient has of x̂ may be NaN or Inf.
 * -> as clnorm_forward; E_STATISTICS_SOURCE, E_STATISTICS_MISSING (half a pair), E_ENUM (accumulate has an unknown bit),
 * E_UNSUPPORTED (y, bias, z, dz, lengths or mask where the plan has no use for it; x with desc.backward_from_y). */
CLNORM_API clnorm_status clnorm_backward(clnorm_plan *plan, const clnorm_backward_args *args);

typedef struct clnorm_double_backward_args {
    size_t size;
    int64_t n;
    clnorm_buffer x, dy;                     /* in, required: those of clnorm_backward, */
    clnorm_buffer weight;                    /* and its weight, */
    clnorm_buffer state;                     /* and its source of statistics, exactly one */
    clnorm_buffer mean, rstd;                /* (layer norm has no running ones) */
    clnorm_buffer running_mean, running_var; /* */
    clnorm_buffer v_dx;                      /* in: tensor, may be left out: 0 */
    clnorm_buffer v_dweight, v_dbias; /* in: one a weight, each may be left out: 0; of the three one must be given */
    clnorm_buffer g_x, g_dy;          /* out: tensors, each may be left out, */
    clnorm_buffer g_weight;           /* out: one a weight, too, but not all three */
    clnorm_buffer workspace;
    const void *stream;
} clnorm_double_backward_args;
#define CLNORM_DOUBLE_BACKWARD_ARGS_INIT                                                                               \
    {                                                                                                                  \
        sizeof(clnorm_double_backward_args), CLNORM_PLAN_N, CLNORM_BUFFER_INIT, CLNORM_BUFFER_INIT,                    \
            CLNORM_BUFFER_INIT, CLNORM_BUFFER_INIT, CLNORM_BUFFER_INIT, CLNORM_BUFFER_INIT, CLNORM_BUFFER_INIT,        \
            CLNORM_BUFFER_INIT, CLNORM_BUFFER_INIT, CLNORM_BUFFER_INIT, CLNORM_BUFFER_INIT, CLNORM_BUFFER_INIT,        \
            CLNORM_BUFFER_INIT, CLNORM_BUFFER_INIT, CLNORM_BUFFER_INIT, NULL                                           \
    }

/* The gradient of the backward, of plans with desc.double_backward. Of L = Σ v_dx·dx + Σ v_dweight·dweight + Σ v_dbias·dbias, where dx,
 * dweight and dbias are what clnorm_backward makes of x, dy and weight (x also through its statistics):
 *     g_x = ∂L/∂x      g_dy = ∂L/∂dy      g_weight = ∂L/∂weight
 * With w, p, q = weight, v_dweight, v_dbias of an element, v = v_dx, g = w·dy, and ⟨·⟩ the mean over the statistics group (docs/math.md):
 *     t        = rstd·(v − ⟨v⟩ − x̂·⟨v·x̂⟩)
 *     g_dy     = w·t + p·x̂ + q
 *     g_weight = Σ dy·t      over all elements of a weight
 *     g_x      = rstd·(p·dy − ⟨p·dy⟩ − x̂·⟨p·dy·x̂⟩)
 *                − rstd²·(⟨v·x̂⟩·(g − ⟨g⟩) + ⟨g·x̂⟩·(v − ⟨v⟩) + x̂·(⟨g·v⟩ − ⟨g⟩·⟨v⟩ − 3·⟨g·x̂⟩·⟨v·x̂⟩))
 * Frozen statistics are constants: t = rstd·v, g_x = rstd·p·dy. No output may overlap anything. n = 0: g_weight is set to 0. Reads x, dy
 * and v_dx twice (layer norm three times for g_weight on OpenCL), writes g_x and g_dy once.
 * A NaN or Inf in x, dy or v_dx leaves every bit of the other statistics groups (frozen: of the other elements) and of the weights that
 * have no part in its own as it would be. Where the formulas give no finite value, neither does the call: NaN with the batch's own
 * statistics of such an x; by given mean and rstd NaN or Inf, and which of the two is not promised.
 * Bounds held, with every term in its absolute value, means of absolute values, and |x̂| + 1 for x̂: 128u of g_x, 64u of g_dy, both at
 * their largest in the statistics group, 96u of g_weight.
 * -> as clnorm_backward; E_MISSING (no v_…, no g_…); E_UNSUPPORTED for a plan without desc.double_backward. */
CLNORM_API clnorm_status clnorm_double_backward(clnorm_plan *plan, const clnorm_double_backward_args *args);

/* ---- the same as steps ----------------------------------------------------------------------------------------- */
/* Batch norm's, of every type: E_UNSUPPORTED for the other norms, whose groups lie in one sample, and with an activation, a residual,
 * virtual batches or lengths; those of backward, which take x, with desc.backward_from_y too.
 * clnorm_forward is clnorm_statistics → clnorm_apply → clnorm_commit; clnorm_backward is clnorm_backward_reduce →
 * clnorm_backward_apply. Between the steps, statistics of other processes or devices can be merged, and sums added.
 *
 * Statistics are f32[5][c], planes: count (high), count (low), mean m, mean residual c, var (biased). count = high + low
 * exactly, up to 2^48; the mean is m + c. Gather those of k processes one after the other and merge them. */

typedef struct clnorm_statistics_args {
    size_t size;
    int64_t n;
    clnorm_buffer x;
    clnorm_buffer statistics; /* out */
    clnorm_buffer workspace;
    const void *stream;
} clnorm_statistics_args;
#define CLNORM_STATISTICS_ARGS_INIT                                                                                    \
    {                                                                                                                  \
        sizeof(clnorm_statistics_args), CLNORM_PLAN_N, CLNORM_BUFFER_INIT, CLNORM_BUFFER_INIT, CLNORM_BUFFER_INIT,     \
            NULL                                                                                                       \
    }
/* The statistics of x. n = 0 writes a count of 0. Reads x once. */
CLNORM_API clnorm_status clnorm_statistics(clnorm_plan *plan, const clnorm_statistics_args *args);

typedef struct clnorm_merge_args {
    size_t size;
    uint32_t parts;           /* ≥ 1 */
    clnorm_buffer gathered;   /* in: f32[parts][5][c] */
    clnorm_buffer statistics; /* out */
    clnorm_buffer workspace;
    const void *stream;
} clnorm_merge_args;
#define CLNORM_MERGE_ARGS_INIT                                                                                         \
    {                                                                                                                  \
        sizeof(clnorm_merge_args), 0, CLNORM_BUFFER_INIT, CLNORM_BUFFER_INIT, CLNORM_BUFFER_INIT, NULL                 \
    }
/* The statistics of the union of the parts (Chan's formula, in the order of the parts); parts of count 0 do not count. */
CLNORM_API clnorm_status clnorm_merge(clnorm_plan *plan, const clnorm_merge_args *args);

typedef struct clnorm_commit_args {
    size_t size;
    clnorm_buffer statistics;                /* in */
    clnorm_buffer running_mean, running_var; /* in and out */
    clnorm_running running;
    clnorm_buffer workspace;
    const void *stream;
} clnorm_commit_args;
#define CLNORM_COMMIT_ARGS_INIT                                                                                        \
    {                                                                                                                  \
        sizeof(clnorm_commit_args), CLNORM_BUFFER_INIT, CLNORM_BUFFER_INIT, CLNORM_BUFFER_INIT, CLNORM_RUNNING_INIT,   \
            CLNORM_BUFFER_INIT, NULL                                                                                   \
    }
/* Enters statistics into the running ones; a count of 0 leaves them. */
CLNORM_API clnorm_status clnorm_commit(clnorm_plan *plan, const clnorm_commit_args *args);

typedef struct clnorm_apply_args {
    size_t size;
    int64_t n;
    clnorm_buffer x, y;
    clnorm_buffer weight, bias;
    clnorm_buffer statistics;      /* in */
    clnorm_buffer state;           /* out, may be left out */
    clnorm_buffer mean, var, rstd; /* out, each may be left out */
    clnorm_buffer workspace;
    const void *stream;
} clnorm_apply_args;
#define CLNORM_APPLY_ARGS_INIT                                                                                         \
    {                                                                                                                  \
        sizeof(clnorm_apply_args), CLNORM_PLAN_N, CLNORM_BUFFER_INIT, CLNORM_BUFFER_INIT, CLNORM_BUFFER_INIT,          \
            CLNORM_BUFFER_INIT, CLNORM_BUFFER_INIT, CLNORM_BUFFER_INIT, CLNORM_BUFFER_INIT, CLNORM_BUFFER_INIT,        \
            CLNORM_BUFFER_INIT, CLNORM_BUFFER_INIT, NULL                                                               \
    }
/* y from x and given statistics. Reads x once, writes y once. */
CLNORM_API clnorm_status clnorm_apply(clnorm_plan *plan, const clnorm_apply_args *args);

typedef struct clnorm_backward_reduce_args {
    size_t size;
    int64_t n;
    clnorm_buffer x, dy;
    clnorm_buffer state;
    clnorm_buffer mean, rstd;     /* instead of state */
    clnorm_buffer sums;           /* out: f32[4][c], planes: count (high), count (low), Σdy, Σ dy·x̂ */
    clnorm_buffer dweight, dbias; /* out, each may be left out: those of this x alone */
    clnorm_buffer workspace;
    const void *stream;
} clnorm_backward_reduce_args;
#define CLNORM_BACKWARD_REDUCE_ARGS_INIT                                                                               \
    {                                                                                                                  \
        sizeof(clnorm_backward_reduce_args), CLNORM_PLAN_N, CLNORM_BUFFER_INIT, CLNORM_BUFFER_INIT,                    \
            CLNORM_BUFFER_INIT, CLNORM_BUFFER_INIT, CLNORM_BUFFER_INIT, CLNORM_BUFFER_INIT, CLNORM_BUFFER_INIT,        \
            CLNORM_BUFFER_INIT, CLNORM_BUFFER_INIT, NULL                                                               \
    }
/* The two sums that backward needs, and their count; all four planes may be added between processes. n = 0 writes zeros. */
CLNORM_API clnorm_status clnorm_backward_reduce(clnorm_plan *plan, const clnorm_backward_reduce_args *args);

typedef struct clnorm_backward_apply_args {
    size_t size;
    int64_t n;
    clnorm_buffer x, dy;
    clnorm_buffer weight;
    clnorm_buffer state;
    clnorm_buffer mean, rstd; /* instead of state */
    clnorm_buffer sums;       /* in */
    clnorm_buffer dx;         /* out */
    clnorm_buffer workspace;
    const void *stream;
} clnorm_backward_apply_args;
#define CLNORM_BACKWARD_APPLY_ARGS_INIT                                                                                \
    {                                                                                                                  \
        sizeof(clnorm_backward_apply_args), CLNORM_PLAN_N, CLNORM_BUFFER_INIT, CLNORM_BUFFER_INIT, CLNORM_BUFFER_INIT, \
            CLNORM_BUFFER_INIT, CLNORM_BUFFER_INIT, CLNORM_BUFFER_INIT, CLNORM_BUFFER_INIT, CLNORM_BUFFER_INIT,        \
            CLNORM_BUFFER_INIT, NULL                                                                                   \
    }
/* dx from the sums. dx may be dy. Reads x and dy once, writes dx once. */
CLNORM_API clnorm_status clnorm_backward_apply(clnorm_plan *plan, const clnorm_backward_apply_args *args);

#ifdef __cplusplus
}
#endif
#endif
