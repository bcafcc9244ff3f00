/* compare-clnorm DEVICE: clnorm on a device, and the limit of that machine, as a contender of bench/compare.py. */
#include "measure.h"
#include "worker.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct clnorm_contender {
    struct bench_machine machine;
    struct bench_case c;
    struct bench_limits *limits;
    struct bench_rotation rotation;
    char error[512];
};

static bool keep_error(struct clnorm_contender *k, bool ok)
{
    if (!ok)
        snprintf(k->error, sizeof k->error, "%s", k->c.error);
    return ok;
}

static bool begin(void *context, const struct bench_shape *shape, float *inputs, size_t *sets)
{
    struct clnorm_contender *k = context;
    if (!*sets)
        *sets = bench_machine_sets(&k->machine, shape);
    if (!*sets) {
        free(inputs);
        snprintf(k->error, sizeof k->error, "the case needs more memory than this device is to give, %llu MiB",
                 (unsigned long long)(bench_machine_memory(&k->machine) >> 20));
        return false;
    }
    k->rotation = (struct bench_rotation){*sets, 0};
    if (!keep_error(k, bench_case_create(&k->c, k->machine.device, shape, *sets, inputs)))
        return false;
    k->limits = bench_limits_create(&k->machine, &k->c, k->error);
    return k->limits != NULL;
}

static void end(void *context)
{
    struct clnorm_contender *k = context;
    bench_limits_destroy(k->limits);
    k->limits = NULL;
    bench_case_destroy(&k->c);
}

static bool reset(void *context)
{
    struct clnorm_contender *k = context;
    size_t bytes = k->c.weights * 4 * sizeof(float);
    if (clnorm_memory_write(k->c.parameters, 0, k->c.weight, bytes) == CLNORM_OK)
        return true;
    snprintf(k->error, sizeof k->error, "%s", clnorm_last_error());
    return false;
}

static bool call(void *context, enum bench_mode mode, size_t set)
{
    struct clnorm_contender *k = context;
    return keep_error(k, bench_case_call(&k->c, mode, set));
}

static bool finish(void *context)
{
    struct clnorm_contender *k = context;
    return keep_error(k, bench_case_finish(&k->c));
}

static bool read_parameter(struct clnorm_contender *k, enum bench_parameter parameter, float *values)
{
    return clnorm_memory_read(k->c.parameters, bench_parameter_offset(&k->c, parameter), values,
                              k->c.weights * sizeof *values) == CLNORM_OK;
}

static bool read_outputs(void *context, enum bench_mode mode, float *outputs)
{
    struct clnorm_contender *k = context;
    float *after = outputs + k->c.elements;
    bool ok = clnorm_memory_read(k->c.y, 0, outputs, k->c.elements * sizeof *outputs) == CLNORM_OK;
    if (mode == BENCH_BACKWARD)
        ok = ok && read_parameter(k, BENCH_DWEIGHT, after) && read_parameter(k, BENCH_DBIAS, after + k->c.weights);
    if (!ok)
        snprintf(k->error, sizeof k->error, "%s", clnorm_last_error());
    return ok;
}

/* The limit of backward writes over y, the limit of the others too: dy and the parameters stay. */
static bool prepare(void *context, enum bench_mode mode)
{
    struct clnorm_contender *k = context;
    return mode != BENCH_BACKWARD || keep_error(k, bench_case_spread_state(&k->c));
}

static bool limit(void *context, enum bench_mode mode, double *seconds, const char **name)
{
    struct clnorm_contender *k = context;
    return bench_limits_turn(&k->machine, &k->c, k->limits, mode, &k->rotation, seconds, name, k->error);
}

static const char *error_text(void *context)
{
    return ((struct clnorm_contender *)context)->error;
}

int main(int argc, char **argv)
{
    static struct clnorm_contender k;
    if (argc != 2) {
        fprintf(stderr, "usage: compare-clnorm DEVICE\n");
        return 2;
    }
    clnorm_status status = bench_machine_open(&k.machine, argv[1], k.error);
    if (status != CLNORM_OK) {
        printf("error %s\n", k.error);
        bench_machine_close(&k.machine);
        return 1;
    }
    const struct worker_contender contender = {
        &k, begin, end, reset, call, k.machine.opencl ? finish : NULL, read_outputs, prepare, limit, error_text};
    char label[512];
    snprintf(label, sizeof label, "clnorm %s on %s (%s)", clnorm_version(), k.machine.info.name, k.machine.info.id);
    int exit_code = worker_serve(label, &contender);
    bench_machine_close(&k.machine);
    return exit_code;
}
