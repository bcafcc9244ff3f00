/* Threads of the CPU path: one pool a process (pthreadpool), made on first use, made anew in a forked child. */
#ifndef CLNORM_SRC_CPU_THREADS_H
#define CLNORM_SRC_CPU_THREADS_H

#include <stddef.h>

/* Makes the pool if it is not there; a plan does it, so that no run call has to. CLNORM_THREADS in the environment is the number of
 * threads, otherwise that of the processors this process may use. */
void cln_threads_prepare(void);
size_t cln_threads_count(void);

/* How work is handed out. */
enum cln_parallel_hint {
    CLN_ALONE, /* too little to wake threads for */
    CLN_ON,    /* more follows at once: the threads spin for it */
    CLN_LAST   /* the call ends: the threads sleep, so that they do not take the processors from the caller's own */
};

/* task(context, i) for i below count, on all threads, and waits. Without a pool on this thread alone. */
void cln_parallel(size_t count, enum cln_parallel_hint hint, void (*task)(void *context, size_t i), void *context);

#endif
