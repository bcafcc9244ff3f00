/* What the files of host/ share: a device, its programs, a plan's kernels, and errors of OpenCL calls as sentences. */
#ifndef CLNORM_HOST_OPENCL_H
#define CLNORM_HOST_OPENCL_H

#include "backend/backend.h"
#include "base/status.h"
#include "geometry.h"
#include "launch.h"
#include "tuning.h"

#include <clnorm/opencl.h>
#include <pthread.h>

/* kernels.cl, embedded by CMake. */
extern const char clnorm_kernels_source[];

/* Each program is one section of kernels.cl. X(NAME, macro). */
#define CLN_PROGRAM_LIST(PROGRAM)                                                                                      \
    PROGRAM(SEGMENTS, "CLNORM_SEGMENTS")                                                                               \
    PROGRAM(ROWS, "CLNORM_ROWS")                                                                                       \
    PROGRAM(COLUMNS, "CLNORM_COLUMNS")                                                                                 \
    PROGRAM(GROUPS, "CLNORM_GROUPS")                                                                                   \
    PROGRAM(DOUBLE, "CLNORM_DOUBLE")

enum cln_program {
#define CLN_PROGRAM_ENUM(name, macro) CLN_PROGRAM_##name,
    CLN_PROGRAM_LIST(CLN_PROGRAM_ENUM)
#undef CLN_PROGRAM_ENUM
        CLN_PROGRAM_COUNT
};

/* Every kernel: X(NAME, name), with the name of its program in front: those of the plan's family (segments_…, rows_… or columns_…), one
 * that it has for a backward from y alone, one that takes rows as columns, those of the groups' program, one each that it has for lengths
 * and for a mask alone, and those of the double backward's, which plans without it have not. */
#define CLN_FAMILY_KERNEL_LIST(KERNEL)                                                                                 \
    KERNEL(FORWARD_STATISTICS, "forward_statistics")                                                                   \
    KERNEL(FORWARD_APPLY, "forward_apply")                                                                             \
    KERNEL(FORWARD_FUSED, "forward_fused")                                                                             \
    KERNEL(BACKWARD_REDUCE, "backward_reduce")                                                                         \
    KERNEL(BACKWARD_APPLY, "backward_apply")                                                                           \
    KERNEL(BACKWARD_FUSED, "backward_fused")
#define CLN_FROM_Y_KERNEL_LIST(KERNEL)  KERNEL(BACKWARD_FOUND, "backward_found")
#define CLN_COLUMNS_KERNEL_LIST(KERNEL) KERNEL(ROWS_WEIGHTS, "backward_weights")
#define CLN_GROUPS_KERNEL_LIST(KERNEL)                                                                                 \
    KERNEL(FORWARD_FINISH, "forward_finish")                                                                           \
    KERNEL(FORWARD_COMMIT, "forward_commit")                                                                           \
    KERNEL(INFER_FOLD, "infer_fold")                                                                                   \
    KERNEL(BACKWARD_FINISH, "backward_finish")                                                                         \
    KERNEL(BACKWARD_WEIGHTS, "backward_weights")
#define CLN_LENGTHS_KERNEL_LIST(KERNEL) KERNEL(LENGTHS_FOUND, "lengths_found")
#define CLN_MASK_KERNEL_LIST(KERNEL)    KERNEL(FORWARD_MASK, "forward_mask")
#define CLN_DOUBLE_KERNEL_LIST(KERNEL)                                                                                 \
    KERNEL(DOUBLE_REDUCE, "reduce")                                                                                    \
    KERNEL(DOUBLE_FINISH, "finish")                                                                                    \
    KERNEL(DOUBLE_WEIGHTS, "weights")                                                                                  \
    KERNEL(DOUBLE_APPLY, "apply")

enum cln_kernel {
#define CLN_KERNEL_ENUM(name, text) CLN_KERNEL_##name,
    CLN_FAMILY_KERNEL_LIST(CLN_KERNEL_ENUM) CLN_FROM_Y_KERNEL_LIST(CLN_KERNEL_ENUM)
        CLN_COLUMNS_KERNEL_LIST(CLN_KERNEL_ENUM) CLN_GROUPS_KERNEL_LIST(CLN_KERNEL_ENUM)
            CLN_LENGTHS_KERNEL_LIST(CLN_KERNEL_ENUM) CLN_MASK_KERNEL_LIST(CLN_KERNEL_ENUM)
                CLN_DOUBLE_KERNEL_LIST(CLN_KERNEL_ENUM)
#undef CLN_KERNEL_ENUM
                    CLN_KERNEL_COUNT
};

/* Buffer arguments of a kernel, at most. */
enum { CLN_MOST_BUFFERS = 16 };

/* What a program is compiled for beside its section: all 0 is f32 and the norm alone. */
struct cln_form {
    clnorm_dtype x, y;
    clnorm_activation activation;
    clnorm_residual residual;
    int from_y, lengths, mask;
};

/* A program of a device, in a list that only grows. */
struct cln_built {
    enum cln_program which;
    struct cln_form form;
    cl_program program;
    struct cln_built *next;
};

struct cln_cl_device {
    cl_context context;
    cl_device_id id;
    cl_command_queue queue; /* in-order, the device's own */
    cl_ulong cache_bytes;   /* of global memory */
    struct cln_tuning tuning;
    pthread_mutex_t lock; /* guards the rest */
    struct cln_built *built;
    clnorm_build_counts counts;
};

/* What a kernel's arguments were last set to: the problem, and the buffers that are the plan's own (NULL elsewhere). */
struct cln_cl_arguments {
    int has_problem;
    struct cln_problem problem;
    cl_mem own[CLN_MOST_BUFFERS];
};

struct cln_cl_plan {
    cl_kernel kernels[CLN_KERNEL_COUNT];
    struct cln_cl_arguments arguments[CLN_KERNEL_COUNT];
    cl_mem found;                /* one uint, CLNORM_FOUND_… */
    cl_command_queue last_queue; /* retained; where the last call went */
    cl_event last;               /* of a call's part that another follows, on an out-of-order queue; else NULL */
};

/* Fails with a sentence that names the OpenCL call and its code; memory codes give CLNORM_E_NO_MEMORY. */
clnorm_status cln_cl_fail(const char *call, cl_int code);
const char *cln_cl_code_name(cl_int code);

/* What a program is compiled for in plans of that descriptor: no more than it depends on. */
struct cln_form cln_form_of(const clnorm_desc *desc, enum cln_program which);
/* The program of a device, built on first use, once. Safe between threads. */
clnorm_status cln_program_get(clnorm_device *device, enum cln_program which, struct cln_form form, cl_program *program);
void cln_programs_release(struct cln_cl_device *device);
/* The program of a view's family; of a kernel of a plan of that view; and the kernel's full name. */
enum cln_program cln_program_of(const struct cln_view *view);
enum cln_program cln_kernel_program(enum cln_kernel kernel, const struct cln_view *view);
void cln_kernel_name(enum cln_kernel kernel, const struct cln_view *view, char *name, size_t size);
extern const char *const cln_program_names[CLN_PROGRAM_COUNT];

/* device.c */
uint32_t cln_cl_count(void);
clnorm_status cln_cl_describe(uint32_t i, clnorm_device_info *info);
clnorm_status cln_cl_open(uint32_t i, clnorm_device *device);
void cln_cl_close(clnorm_device *device);

/* memory.c; impl of a clnorm_memory */
struct cln_cl_memory {
    cl_mem buffer;
    void *mapped;
};
clnorm_status cln_cl_memory_create(clnorm_memory *memory);
void cln_cl_memory_destroy(clnorm_memory *memory);
cl_int cln_cl_write_and_wait(cl_command_queue queue, cl_mem buffer, size_t offset, const void *source, size_t bytes);
clnorm_status cln_cl_memory_write(clnorm_memory *memory, size_t offset, const void *source, size_t bytes);
clnorm_status cln_cl_memory_read(clnorm_memory *memory, size_t offset, void *target, size_t bytes);
clnorm_status cln_cl_memory_map(clnorm_memory *memory, size_t offset, size_t bytes, void **pointer);
clnorm_status cln_cl_memory_unmap(clnorm_memory *memory);

/* interop.c: arguments that are OpenCL objects */
clnorm_status cln_cl_resolve(const clnorm_device *device, const char *who, const char *name,
                             const clnorm_buffer *buffer, struct cln_span *span);
clnorm_status cln_cl_check_stream(const clnorm_device *device, const char *who, const void *stream);

/* launch.c */
clnorm_status cln_cl_run(clnorm_plan *plan, const struct cln_op *call);

/* workspace.c: sets a plan's partials_bytes and needs_no_planes. Where it needs none, so few rows that their calls are split have their planes
 * behind the partials: binds the roles of those that the caller left out. */
void cln_cl_size_partials(clnorm_plan *plan);
void cln_bind_few_rows(const clnorm_plan *plan, struct cln_op *op);

/* explain.c: what a plan's launches depend on, and the text about them */
struct cln_cutter cln_cl_cutter(const clnorm_device *device);
/* Whether stores go past the cache in a call of so many tensors of so many elements: on a CPU, when they exceed a quarter of its
 * cache. Whoever reads a smaller output next gains more than the call loses. */
int cln_cl_streams(const clnorm_device *device, uint64_t elements, uint32_t tensors);
void cln_cl_explain(clnorm_plan *plan);

#endif
