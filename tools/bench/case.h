/* One shape on one device: its plan, and enough sets of buffers that no call finds its data in the cache (cold), or one set
 * (warm). */
#ifndef CLNORM_BENCH_CASE_H
#define CLNORM_BENCH_CASE_H

#include "bench_limits.h"
#include "shapes.h"

enum bench_mode { BENCH_TRAIN, BENCH_INFER, BENCH_BACKWARD, BENCH_MODES };

/* "train", "infer", "backward" */
const char *bench_mode_name(enum bench_mode mode);
/* Tensor bytes that the contract says a call moves: train reads x twice and writes y, infer reads x and writes y, backward reads x and
 * dy twice and writes dx. A residual is read once more, and y where a mask of it is made. With lengths only what is valid is read. */
uint64_t bench_mode_bytes(enum bench_mode mode, const struct bench_shape *shape);
/* What moves at least as much: a copy, or with a second tensor to be read a sum. */
enum bench_stream bench_mode_stream(enum bench_mode mode, const struct bench_shape *shape);
/* Inference is a call of its own for norms with running statistics alone. With a residual there is no backward here: its two results
 * have no stream to be compared with. */
bool bench_mode_is_of(enum bench_mode mode, const struct bench_shape *shape);

/* All that a case may hold at a time, on device and host together. */
#define BENCH_MEMORY_MAX ((uint64_t)4 << 30)

/* The sets lie one after the other in the four memories: set i begins i * stride elements, i * parameter_stride in the parameters,
 * after the first. y is dx too,
 * and dy in forward the residual. */
struct bench_case {
    const struct bench_shape *shape;
    clnorm_device *device;
    clnorm_desc desc;
    clnorm_plan *plan;
    size_t elements, weights;
    size_t set_count, stride, parameter_stride;
    clnorm_memory *x, *y, *dy, *parameters;
    clnorm_memory *mask; /* of the sets, mask_stride bytes apart; NULL: there is none */
    size_t mask_stride;
    clnorm_memory *lengths; /* of the samples, the same for all sets; NULL: they have none */
    float *inputs;          /* on the host: what every set begins with, all of the next six; NULL once freed */
    float *first_x, *first_dy, *weight, *bias, *running_mean, *running_var;
    clnorm_status status; /* of the last call that failed, and its sentence */
    char error[512];
};

/* How many sets of x and y exceed four times cache_bytes; 1 if that is 0. */
size_t bench_set_count(const struct bench_shape *shape, size_t cache_bytes);
/* Bytes that the case will hold at most, and those of its largest memory. host_streams: with sets on the host for the limits. */
uint64_t bench_case_bytes(const struct bench_shape *shape, size_t sets, bool host_streams);
uint64_t bench_case_largest(const struct bench_shape *shape, size_t sets);

/* Values of bench_case.inputs: x, dy, weight, bias, running_mean, running_var, one after the other. */
size_t bench_input_count(const struct bench_shape *shape);
/* Makes the plan and `sets` sets of buffers, with their data written. inputs: from malloc, taken over; NULL: made up.
 * false: c->error tells why. To be destroyed either way. */
bool bench_case_create(struct bench_case *c, clnorm_device *device, const struct bench_shape *shape, size_t sets,
                       float *inputs);
/* After a backward on set 0: gives every set the parameters of that one, its state too. All sets have the same x, and timing
 * backward needs no forward on each of them then. */
bool bench_case_spread_state(struct bench_case *c);
/* Frees the inputs on the host. After the case was checked they are needed no more. */
void bench_case_free_inputs(struct bench_case *c);
void bench_case_destroy(struct bench_case *c);

/* One call on a set; asynchronous on OpenCL. Backward takes the state in that set: of the last BENCH_TRAIN, or spread. */
bool bench_case_call(struct bench_case *c, enum bench_mode mode, size_t set);
bool bench_case_finish(struct bench_case *c);

/* The parameters of a set, f32 of the norm's weights each, but the state. */
enum bench_parameter {
    BENCH_WEIGHT,
    BENCH_BIAS,
    BENCH_RUNNING_MEAN,
    BENCH_RUNNING_VAR,
    BENCH_DWEIGHT,
    BENCH_DBIAS,
    BENCH_STATE
};
/* Offset in the parameters of a set, in bytes. */
size_t bench_parameter_offset(const struct bench_case *c, enum bench_parameter parameter);

#endif
