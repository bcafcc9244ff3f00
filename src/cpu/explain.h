/* What explain tells of a plan on the CPU. */
#ifndef CLNORM_SRC_CPU_EXPLAIN_H
#define CLNORM_SRC_CPU_EXPLAIN_H

#include "backend/backend.h"

/* A forward or backward call with all its outputs. */
struct cln_explained {
    int fused;     /* inputs are read once from memory and once from the cache; else twice */
    char how[240]; /* after "fused, for " or "split, for ": why, and the tasks */
};

void cln_cpu_explain(clnorm_plan *plan);

#endif
