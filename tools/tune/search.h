/* Coordinate descent over the numbers of a row: each axis in turn, candidates nearest first, against the best row so far. */
#ifndef CLNORM_TUNE_SEARCH_H
#define CLNORM_TUNE_SEARCH_H

#include "contest.h"
#include "tune.h"

struct tune_outcome {
    struct tune_contender found;
    bool better;   /* found is faster than the start by more than the margin; else there is nothing to close in it */
    double margin; /* gains below this part are noise */
    struct tune_result final; /* of start and found, measured afresh; if found has another row than start */
    size_t tried, wrong;
    bool complete; /* false: time ran out before an axis that could still matter */
};

/* Tells gains on stdout and progress on stderr, until about options->seconds after begin. quick: only what builds no programs.
 * false: contest->error. */
bool tune_search(struct tune_contest *contest, double begin, const struct tune_options *options,
                 struct tune_outcome *outcome);
void tune_outcome_close(struct tune_outcome *outcome);

#endif
