#include "cpu/threads.h"

#include <pthread.h>
#include <pthreadpool.h>
#include <stdlib.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthreadpool_t pool;

/* A forked child has the pool's memory but not its threads: it leaves that pool alone and makes one of its own. */
static void before_fork(void)
{
    pthread_mutex_lock(&lock);
}

static void after_fork_parent(void)
{
    pthread_mutex_unlock(&lock);
}

static void after_fork_child(void)
{
    pool = NULL;
    pthread_mutex_unlock(&lock);
}

static void register_fork(void)
{
    pthread_atfork(before_fork, after_fork_parent, after_fork_child);
}

static pthreadpool_t get(void)
{
    pthread_once(&once, register_fork);
    pthread_mutex_lock(&lock);
    if (!pool) {
        const char *text = getenv("CLNORM_THREADS");
        unsigned long wanted = text ? strtoul(text, NULL, 10) : 0;
        pool =
            pthreadpool_create(wanted <= 1024 ? wanted : 0); /* 0: as many as processors; NULL: out of memory, none */
    }
    pthreadpool_t p = pool;
    pthread_mutex_unlock(&lock);
    return p;
}

void cln_threads_prepare(void)
{
    (void)get();
}

size_t cln_threads_count(void)
{
    pthreadpool_t p = get();
    return p ? pthreadpool_get_threads_count(p) : 1;
}

void cln_parallel(size_t count, enum cln_parallel_hint hint, void (*task)(void *context, size_t i), void *context)
{
    pthreadpool_t p = hint == CLN_ALONE || count < 2 ? NULL : get();
    if (p) {
        pthreadpool_parallelize_1d(p, task, context, count, hint == CLN_LAST ? PTHREADPOOL_FLAG_YIELD_WORKERS : 0);
        return;
    }
    for (size_t i = 0; i < count; i++)
        task(context, i);
}
