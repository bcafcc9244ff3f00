/* Rows against each other: the same calls on the same cold buffers in turns, so that what disturbs the machine for a while
 * disturbs both. All devices of a contest share one OpenCL context, and with it the buffers. */
#ifndef CLNORM_TUNE_CONTEST_H
#define CLNORM_TUNE_CONTEST_H

#include "bench/case.h"
#include "row.h"

enum { TUNE_CASES_MAX = 10 };

/* A device that was opened with a row, and its plans of the contest's cases. */
struct tune_contender {
    struct tune_row row;
    clnorm_device *device;
    struct bench_case cases[TUNE_CASES_MAX]; /* without a plan until one is needed */
};

struct tune_contest {
    clnorm_device_info info;
    struct bench_shapes shapes, checks;
    struct tune_contender start; /* the caller's device; owns the buffers */
    struct bench_rotation rotations[TUNE_CASES_MAX];
    size_t calls[TUNE_CASES_MAX][BENCH_MODES];
    char error[512]; /* one sentence */
};

/* Takes the device, which is open with the row in force and is not given away, checks it and makes the buffers; quick: fewer cases.
 * CLNORM_TUNING must not be set, and is not afterwards. false: error. To be closed either way. */
bool tune_contest_open(struct tune_contest *contest, clnorm_device *device, const clnorm_device_info *info, bool quick);
void tune_contest_close(struct tune_contest *contest);
unsigned tune_case_family(const struct bench_shape *shape);

enum tune_entry { TUNE_ENTERED, TUNE_REFUSED, TUNE_WRONG };
/* Opens a device with the row and checks small problems of the families against the fp64 reference. REFUSED: the device cannot
 * hold such a row; WRONG: it does not build, does not run or gives wrong results. error says why; nothing is to be closed then. */
enum tune_entry tune_contender_open(struct tune_contest *contest, const struct tune_row *row, unsigned families,
                                    struct tune_contender *contender);
void tune_contender_close(struct tune_contender *contender);
/* Checks the contest's own cases. false: error. */
bool tune_contender_check(struct tune_contest *contest, struct tune_contender *contender);

struct tune_result {
    double ratio;                                /* of other's time to one's: geometric mean of all cases and modes */
    double ratios[TUNE_CASES_MAX][BENCH_MODES];  /* medians over the rounds; NAN where it was not timed */
    double best[2][TUNE_CASES_MAX][BENCH_MODES]; /* least seconds a call, of one and of other */
    size_t rounds;
};
/* When a comparison ends. */
struct tune_limits {
    size_t rounds;
    double seconds; /* no round begins later, but the first; INFINITY: any time is right */
    bool may_stop;  /* no more rounds once other is far behind */
};
/* Rounds of one and other in turns on the cases of the families. false: error. */
bool tune_compare(struct tune_contest *contest, struct tune_contender *one, struct tune_contender *other,
                  unsigned families, struct tune_limits limits, struct tune_result *result);

#endif
