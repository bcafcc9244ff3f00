#include "progress.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

double progress_clock(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

void progress_begin(struct progress *p, size_t total)
{
    p->terminal = isatty(STDERR_FILENO) == 1;
    p->done = 0;
    p->total = total;
    p->start = progress_clock();
}

void progress_show(const struct progress *p, const char *format, ...)
{
    enum { WIDTH = 24 };
    if (!p->terminal)
        return;
    char bar[WIDTH + 1];
    size_t filled = WIDTH * p->done / p->total;
    memset(bar, '.', WIDTH);
    memset(bar, '#', filled);
    bar[WIDTH] = '\0';
    fprintf(stderr, "\r[%s] %3zu %% %4.0f s  ", bar, 100 * p->done / p->total, progress_clock() - p->start);
    va_list list;
    va_start(list, format);
    vfprintf(stderr, format, list);
    va_end(list);
    fputs("\033[K", stderr);
    fflush(stderr);
}

void progress_end(const struct progress *p)
{
    if (p->terminal) {
        fputs("\r\033[K", stderr);
        fflush(stderr);
    }
}
