/* A band of segments that is written while another one is read (struct cln_beside), stretch by stretch: whole cache lines by the
 * kernel that reads, what is left by that of whole stretches. */
#ifndef CLNORM_SRC_CPU_WRITER_H
#define CLNORM_SRC_CPU_WRITER_H

#include "cpu/kernels.h"
#include "cpu/stage.h"

struct cln_writer {
    struct cln_beside beside;      /* set by cln_writer_begin, with `outer` */
    const struct cln_stage *stage; /* NULL: there is no band yet */
    const struct cln_family_kernels *kernels;
    int gradient;
    struct cln_scalars scalars; /* of the groups */
    uint64_t first, stretch;    /* elements: where the first stretch begins, and of each */
    uint64_t outer, groups;     /* the stretch, a run of each of so many groups */
};

/* Whether the kernels can write so: f32, nothing fused, past the cache, and runs so long that their ends do not matter. */
int cln_writer_suits(const struct cln_stage *stage, uint64_t inners);
/* The writer stays where it is until it is finished. */
void cln_writer_begin(struct cln_writer *w);
/* NULL if there is no band yet. */
struct cln_beside *cln_writer_beside(struct cln_writer *w);
/* Writes what is left. */
void cln_writer_finish(struct cln_writer *w);

#endif
