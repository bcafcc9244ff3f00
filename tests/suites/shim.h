/* What shim.c counts, and what it makes fail. A test finds both in the preloaded shim by their names. */
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
    SHIM_launch, /* of kernels */
    SHIM_fill,
    SHIM_mark,
    SHIM_query,
    SHIM_argument, /* of kernels */
    SHIM_GROUPS
};

struct shim_counts {
    unsigned long of[SHIM_GROUPS];
    const char *last[SHIM_GROUPS]; /* the function that was counted last */
    long objects;                  /* OpenCL objects created or retained, less those released; without events */
};

#define SHIM_SYMBOL "clnorm_shim_counts"

/* The call of `function` after `after` others of it fails with `code` (of OpenCL; the heap's give NULL), and sets `fired`. */
struct shim_fault {
    const char *function; /* "malloc" stands for all that allocate; NULL: none */
    long after, code;
    int fired;
    int always; /* all calls after that fail too */
    int as_gpu; /* every OpenCL device says that it is a GPU */
};

#define SHIM_FAULT_SYMBOL "clnorm_shim_fault"

#endif
