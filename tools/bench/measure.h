/* Times one mode of a case against its limits, in turns. */
#ifndef CLNORM_BENCH_MEASURE_H
#define CLNORM_BENCH_MEASURE_H

#include "case.h"

/* OpenCL does not tell all levels of a GPU's cache; this is as large as they come. */
#define BENCH_GPU_CACHE_BYTES ((size_t)256 << 20)

/* Where and how a run of bench measures. */
struct bench_machine {
    clnorm_device *device;
    clnorm_device_info info;
    struct bench_host *host;     /* NULL: the host's streams say nothing about this device */
    struct bench_opencl *opencl; /* NULL: the device is "cpu" */
    size_t cache_bytes;
    bool warm;
    size_t rounds; /* 0: as many as fit into a time */
};

/* Opens the device and what measures its limits. warm and rounds are the caller's to set. Not OK: error has one sentence. To be
 * closed either way. */
clnorm_status bench_machine_open(struct bench_machine *machine, const char *device, char error[512]);
void bench_machine_close(struct bench_machine *machine);
/* Bytes that a case may take: of the device's memory a half. */
uint64_t bench_machine_memory(const struct bench_machine *machine);
/* As many sets of buffers as cold figures need; fewer where memory holds no more. 0: it holds not one. */
size_t bench_machine_sets(const struct bench_machine *machine, const struct bench_shape *shape);

struct bench_result {
    const struct bench_shape *shape;
    enum bench_mode mode;
    double best_ms, median_ms, limit_ms, ratio;
    double enqueue_us;   /* least host time a call until it returned */
    char limit_name[64]; /* the fastest stream */
    uint64_t bytes;
    size_t rounds, calls;  /* of the case: samples are 2 a round, each of so many calls */
    size_t checked, units; /* see bench_check.h */
};

/* The buffers of the limits of a case, and what was measured on them; made once a case. */
struct bench_limits;
struct bench_limits *bench_limits_create(const struct bench_machine *machine, struct bench_case *c, char error[512]);
void bench_limits_destroy(struct bench_limits *limits);

/* One turn of the limit of a mode, for those who take turns themselves: every way that is still in the running is sampled; *seconds is
 * the least time of this turn, *name the way that was ever the fastest. rotation is kept from turn to turn. false: as
 * bench_measure. */
bool bench_limits_turn(const struct bench_machine *machine, struct bench_case *c, struct bench_limits *limits,
                       enum bench_mode mode, struct bench_rotation *rotation, double *seconds, const char **name,
                       char error[512]);

/* Fills all of result but checked. false: error has one sentence. */
bool bench_measure(const struct bench_machine *machine, struct bench_case *c, struct bench_limits *limits,
                   enum bench_mode mode, struct bench_result *result, char error[512]);

#endif
