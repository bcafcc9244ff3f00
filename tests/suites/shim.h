/* What shim.c counts. The test finds the counters in the preloaded shim by this name. */
#ifndef CLNORM_TESTS_SUITES_SHIM_H
#define CLNORM_TESTS_SUITES_SHIM_H

enum shim_group {
    SHIM_allocate,
    SHIM_free,
    SHIM_create,
    SHIM_build,
    SHIM_wait,
    SHIM_flush,
    SHIM_copy,
    SHIM_launch,
    SHIM_GROUPS
};

struct shim_counts {
    unsigned long of[SHIM_GROUPS];
    const char *last[SHIM_GROUPS]; /* the function that was counted last */
};

#define SHIM_SYMBOL "clnorm_shim_counts"

#endif
