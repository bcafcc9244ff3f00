/* Every norm and layout as one of two memory patterns, so that two kernel families cover all of them (docs/design.md).
 *
 * A *group* here is what kernels work on: elements that share their statistics and, unless weights run `along` it, their weight.
 *
 * segments: group g is `outers` runs of `inners` elements, `outer_stride` apart
 *     batch, channels-first        a channel:             outers = n, inners = positions, weight g
 *     instance, group, channels-first   a channel of a sample: outers = 1, inners = positions, weight g % channels
 *     layer, RMS; group of (n, c)  a row:                 outers = 1, inners = its length, weights along it
 * columns:  group g is a column of a row-major matrix of `outers` rows and `set` columns
 *     batch, (n, c) and channels-last: outers = n·positions
 *     instance, group, channels-last:  a matrix a sample, outers = positions, weight g % channels
 *
 * Where group g begins: sets of `set` groups are `set_stride` apart, the groups of a set `group_stride`. Where `merged` is more than 1
 * (group norm), so many neighbours make one *statistics group*; else a group is one. In segments such neighbours follow each other
 * in memory, so that cln_view_merge has them as one run each.
 *
 * Where samples have lengths of their own (`positions` is not 0) a run of segments is never of several samples, and there are no rows
 * with weights along them: group g's run o is of sample o + g / weights, its row o of sample o / positions + g / set. */
#ifndef CLNORM_SRC_VIEW_VIEW_H
#define CLNORM_SRC_VIEW_VIEW_H

#include <clnorm/clnorm.h>

enum cln_family { CLN_SEGMENTS, CLN_COLUMNS };

struct cln_view {
    enum cln_family family;
    uint64_t groups;
    uint64_t outers;
    uint64_t inners;       /* segments: elements of a run, 1 or more; columns: 1 */
    uint64_t outer_stride; /* elements */
    uint64_t group_stride; /* elements */
    uint64_t set;          /* groups of a set; `groups` if there is one set */
    uint64_t set_stride;   /* elements */
    uint64_t merged;       /* neighbouring groups that share their statistics */
    uint64_t
        weights; /* weights there are: group g has weight g % weights; along: element i of a row has (g % cycle)·inners + i */
    uint64_t cycle;     /* along: rows after which the weights repeat */
    int along;          /* weights run along the groups, which are single runs that follow each other: rows */
    int centred;        /* 0: RMS norm, no mean is taken off */
    uint64_t positions; /* of a sample, where each has a length of its own; else 0 */
};

/* The view of a checked descriptor for n samples; of batch norm, as one batch. */
struct cln_view cln_view_make(const clnorm_desc *desc, uint64_t n);
/* Virtual batches of n samples: 1 where the descriptor has none. */
uint64_t cln_view_batches(const clnorm_desc *desc, uint64_t n);
/* Statistics groups of n samples: those of each virtual batch. */
uint64_t cln_view_groups(const clnorm_desc *desc, uint64_t n);
/* Instance norm with running statistics, which are constants: batch norm with them. */
struct cln_view cln_view_as_batch(const clnorm_desc *desc, uint64_t n);
/* Batch norm's samples one by one, as instance norm has them; of group and instance norm, their own. */
struct cln_view cln_view_per_sample(const clnorm_desc *desc, uint64_t n);
/* What statistics are taken of: in segments statistics groups are runs, whatever the weights, unless samples have lengths. */
struct cln_view cln_view_of_statistics(const struct cln_view *view);
/* Segments: the statistics groups as single runs. */
struct cln_view cln_view_merge(const struct cln_view *view);

/* Elements of a tensor, values of a group, statistics groups and values of one. */
uint64_t cln_view_elements(const struct cln_view *view);
uint64_t cln_view_count(const struct cln_view *view);
uint64_t cln_view_statistics(const struct cln_view *view);
uint64_t cln_view_statistics_count(const struct cln_view *view);

/* Weights of a descriptor's norm: c, or the elements of the normalized dimensions. */
uint64_t cln_view_weights(const clnorm_desc *desc);
/* Dimension i of a tensor in the order of the layout, of 2 + spatial_dims. */
uint64_t cln_view_dimension(const clnorm_desc *desc, uint64_t n, int i);

#endif
