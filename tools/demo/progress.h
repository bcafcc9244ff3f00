/* A progress bar on stderr, if that is a terminal; else nothing. */
#ifndef CLNORM_DEMO_PROGRESS_H
#define CLNORM_DEMO_PROGRESS_H

#include <stdbool.h>
#include <stddef.h>

struct progress {
    bool terminal;
    size_t done, total;
    double start; /* seconds */
};

/* Seconds of a clock that only goes forward. */
double progress_clock(void);
void progress_begin(struct progress *p, size_t total);
/* Draws the bar with a text behind it. */
void progress_show(const struct progress *p, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Takes the bar away. */
void progress_end(const struct progress *p);

#endif
