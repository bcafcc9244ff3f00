/* What bench tells: a table with the ratio to the limit, a summary, and JSON. */
#ifndef CLNORM_BENCH_REPORT_H
#define CLNORM_BENCH_REPORT_H

#include "measure.h"

#include <stdio.h>

/* What was measured and how, before the table. */
void bench_report_head(const struct bench_machine *machine, const char *label);
void bench_report_row(const struct bench_result *result);
/* Median and worst ratio of each norm, mode and layout. */
void bench_report_summary(const struct bench_result *results, size_t count);
/* Of cases that follow their unfused ones: the largest factor between their ratios, of each mode. */
void bench_report_fusion(const struct bench_result *results, size_t count);

/* A list of objects: device, norm, mode, layout, shape (n, c, spatial), dtype, best_ms, median_ms, bytes, limit_ms, ratio and, beyond
 * those, device_name, name, buffers ("cold" or "warm"), gb_per_s, limit (the stream's name), enqueue_us, calls, rounds,
 * checked and units (bench_check.h), groups and normalized_dims (0 where the norm has none), act and residual. false: out of memory, or errno of the stream. */
bool bench_report_json(const struct bench_machine *machine, const struct bench_result *results, size_t count,
                       FILE *stream);

#endif
