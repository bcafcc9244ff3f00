#include "search.h"

#include "demo/progress.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { ROUNDS = 6, FINAL_ROUNDS = 12, TRIED_MAX = 1024, PASSES_MAX = 8 };
/* No gain below this is believed; nor below twice what a row gains over itself. */
#define LEAST_MARGIN 0.02
/* Of the time, for the first comparison; the last one may take a half more. */
#define FIRST_PART 0.15

struct search {
    struct tune_contest *contest;
    struct tune_outcome *outcome;
    struct tune_contender best; /* no device: it is the start */
    struct progress progress;
    double seconds, reserve; /* the reserve is for the last comparison */
    bool quick;
    size_t final_rounds; /* as many as there was time for in the first comparison */
    struct tune_row tried[TRIED_MAX];
    size_t tried_count;
};

static struct tune_contender *best_of(struct search *s)
{
    return s->best.device ? &s->best : &s->contest->start;
}

static bool out_of_time(const struct search *s)
{
    return progress_clock() - s->progress.start > s->seconds - s->reserve;
}

static void show(struct search *s, const char *what, const char *value)
{
    double part = (progress_clock() - s->progress.start) / s->seconds;
    s->progress.done = part < 1 ? (size_t)(part * (double)s->progress.total) : s->progress.total;
    progress_show(&s->progress, "%zu rows tried; %s %s", s->outcome->tried, what, value);
}

static bool same(const struct tune_row *a, const struct tune_row *b)
{
    return memcmp(a, b, sizeof *a) == 0;
}

static bool was_tried(const struct search *s, const struct tune_row *row)
{
    for (size_t i = 0; i < s->tried_count; i++) {
        if (same(&s->tried[i], row))
            return true;
    }
    return false;
}

/* Faster than the best by more than the margin, twice. */
static bool wins(struct search *s, struct tune_contender *candidate, unsigned families, double *ratio, bool *ok)
{
    struct tune_result result;
    size_t rounds = s->final_rounds < ROUNDS ? s->final_rounds : ROUNDS;
    *ratio = 0;
    for (int time = 0; time < 2; time++) {
        struct tune_limits limits = {rounds, INFINITY, time == 0};
        *ok = tune_compare(s->contest, best_of(s), candidate, families, limits, &result);
        if (!*ok || !(result.ratio < 1 - s->outcome->margin))
            return false;
        *ratio = fmax(*ratio, result.ratio);
    }
    return true;
}

/* false: the contest's error. A candidate that fails is no such error: it is passed over. */
static bool try_row(struct search *s, const struct tune_axis *axis, const struct tune_row *row)
{
    char from[32], to[32];
    struct tune_contender candidate;
    double ratio;
    bool ok = true;
    tune_axis_print(axis, &best_of(s)->row, from);
    tune_axis_print(axis, row, to);
    s->tried[s->tried_count++] = *row;
    show(s, axis->name, to);
    enum tune_entry entry = tune_contender_open(s->contest, row, axis->families, &candidate);
    if (entry == TUNE_REFUSED)
        return true;
    s->outcome->tried++;
    if (entry == TUNE_WRONG) {
        s->outcome->wrong++;
        progress_end(&s->progress);
        printf("%-12s %7s -> %-7s passed over: %.200s\n", axis->name, from, to, s->contest->error);
        return true;
    }
    if (!wins(s, &candidate, axis->families, &ratio, &ok)) {
        tune_contender_close(&candidate);
        return ok;
    }
    tune_contender_close(&s->best);
    s->best = candidate;
    progress_end(&s->progress);
    printf("%-12s %7s -> %-7s %.3f of the time\n", axis->name, from, to, ratio);
    fflush(stdout);
    return true;
}

/* *gained: the best row is another one now. */
static bool try_axis(struct search *s, const struct tune_axis *axis, bool *gained)
{
    const struct tune_row base = best_of(s)->row;
    struct tune_row row;
    for (size_t rank = 0; tune_candidate(axis, &base, rank, &row); rank++) {
        if (was_tried(s, &row) || same(&row, &best_of(s)->row))
            continue;
        if (out_of_time(s) || s->tried_count == TRIED_MAX) {
            s->outcome->complete = false;
            return true;
        }
        if (!try_row(s, axis, &row))
            return false;
    }
    *gained = *gained || !same(&base, &best_of(s)->row);
    return true;
}

static bool descend(struct search *s)
{
    const struct tune_axis *axes;
    size_t all = tune_axes(s->contest->info.kind, &axes), count = s->quick ? TUNE_LAUNCH_AXES : all;
    bool gained = true;
    s->outcome->complete = true;
    for (int pass = 0; gained && pass < PASSES_MAX && s->outcome->complete; pass++) {
        gained = false;
        for (size_t i = 0; i < count && s->outcome->complete; i++) {
            if (!try_axis(s, &axes[i], &gained))
                return false;
        }
    }
    return true;
}

/* The start against itself: what looks like a gain and is none. It takes as long as the last comparison will. */
static bool measure_noise(struct search *s)
{
    struct tune_contender twin;
    struct tune_result result;
    const struct tune_limits limits = {FINAL_ROUNDS, FIRST_PART * s->seconds, false};
    double begin = progress_clock();
    show(s, "the row in force", "against itself");
    if (tune_contender_open(s->contest, &s->contest->start.row, 0, &twin) != TUNE_ENTERED)
        return false;
    bool ok = tune_compare(s->contest, &s->contest->start, &twin, TUNE_SEGMENTS | TUNE_COLUMNS, limits, &result);
    tune_contender_close(&twin);
    if (ok) {
        s->outcome->margin = fmax(LEAST_MARGIN, 2 * fabs(log(result.ratio)));
        s->final_rounds = result.rounds;
        s->reserve = 1.5 * (progress_clock() - begin);
    }
    return ok;
}

/* What was found is measured afresh, for the best of many looks better than it is, and checked on the cases themselves. */
static bool judge(struct search *s)
{
    struct tune_outcome *o = s->outcome;
    const struct tune_limits limits = {s->final_rounds, INFINITY, false};
    if (!s->best.device)
        return true;
    show(s, "the last comparison,", "with a check of every case");
    if (!tune_compare(s->contest, &s->contest->start, &s->best, TUNE_SEGMENTS | TUNE_COLUMNS, limits, &o->final) ||
        !tune_contender_check(s->contest, &s->best))
        return false;
    o->found = s->best;
    o->better = o->final.ratio < 1 - o->margin;
    memset(&s->best, 0, sizeof s->best);
    return true;
}

bool tune_search(struct tune_contest *contest, double begin, const struct tune_options *options,
                 struct tune_outcome *outcome)
{
    struct search s = {.contest = contest, .outcome = outcome, .seconds = options->seconds, .quick = options->quick};
    memset(outcome, 0, sizeof *outcome);
    progress_begin(&s.progress, 1000);
    s.progress.start = begin;
    bool ok = measure_noise(&s) && descend(&s) && judge(&s);
    progress_end(&s.progress);
    tune_contender_close(&s.best);
    return ok;
}

void tune_outcome_close(struct tune_outcome *outcome)
{
    tune_contender_close(&outcome->found);
}
