/* The streams that bound a norm on the host, as one thread runs them: a copy, and a sum of two arrays into a third. Each
 * with ordinary stores and with non-temporal ones, which pass the cache and so save the read of the line to be written. */
#ifndef CLNORM_BENCH_STREAMS_H
#define CLNORM_BENCH_STREAMS_H

#include <stddef.h>

/* target[i] = source[i], or target[i] = source[i] + other[i]. A copy ignores other. Arrays are aligned to 4 bytes. */
typedef void (*stream_function)(float *target, const float *source, const float *other, size_t count);

struct stream {
    const char *name; /* "memcpy", "avx512f-nt" */
    stream_function copy, add;
};

/* The streams that this processor can run, the plain one first. */
size_t streams_supported(const struct stream **streams);

#endif
