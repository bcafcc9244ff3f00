/* One contender of bench/compare.py as a process of its own: it stays while the contenders take turns, and answers a
 * line on standard output to every line on standard input. peers.py has the same for contenders in Python.
 *
 *     (at the start)                   ready LABEL
 *     case SETS LAYOUT SHAPE NORM FOLDER
 *                                      ok SETS           inputs from FOLDER/inputs; SETS 0: as many as keep calls cold;
 *                                                        NORM: words of a file of shapes, as norm=group,groups=32
 *                                      none SENTENCE     the contender has no such normalization
 *     check MODE                       ok                one call on set 0; its outputs into FOLDER/outputs
 *     time MODE                        ok SECONDS…       the samples of a turn: seconds of a call
 *     limit MODE                       ok SECONDS NAME   one turn of the machine's limit
 *     anything that fails              error SENTENCE
 *
 * FOLDER/inputs: f32 x, dy, and of as many values as the norm has weights weight, bias, running_mean, running_var. FOLDER/outputs: train and infer y; backward dx,
 * dweight, dbias. Tensors in the memory order of LAYOUT. */
#ifndef CLNORM_BENCH_WORKER_H
#define CLNORM_BENCH_WORKER_H

#ifdef __cplusplus
extern "C" {
#endif

#include "case.h"

/* Functions return false on a failure, after which error() has its sentence. */
struct worker_contender {
    void *context;
    /* Makes sets of buffers with these inputs, which it takes over (from malloc). *sets is 0 or how many; set to how
     * many, or to 0 for a case that it cannot do at all, error() has why. shape lives until end. A case that was begun
     * before was ended. */
    bool (*begin)(void *context, const struct bench_shape *shape, float *inputs, size_t *sets);
    void (*end)(void *context); /* also after a begin that failed */
    /* Gives set 0 the running statistics it began with; before a check. NULL: nothing changes them */
    bool (*reset)(void *context);
    /* backward after train on set 0 */
    bool (*call)(void *context, enum bench_mode mode, size_t set);
    bool (*finish)(void *context); /* NULL: a call has finished when it returns */
    /* What the last call on set 0 wrote. */
    bool (*read)(void *context, enum bench_mode mode, float *outputs);
    /* After set 0 was checked in this mode, and before it is timed. NULL: nothing to do */
    bool (*prepare)(void *context, enum bench_mode mode);
    bool (*limit)(void *context, enum bench_mode mode, double *seconds, const char **name); /* NULL: has none */
    const char *(*error)(void *context);
};

/* Serves standard input to its end. Returns the process's exit code. */
int worker_serve(const char *label, const struct worker_contender *contender);

#ifdef __cplusplus
}
#endif

#endif
