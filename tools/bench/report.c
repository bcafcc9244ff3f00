#include "report.h"
#include "cases.h"
#include "fusion_options.h"

#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MIB (1 << 20)

void bench_report_head(const struct bench_machine *machine, const char *label)
{
    printf("device  %s: %s\n", machine->info.id, machine->info.name);
    printf("shapes  %s\n", label);
    if (machine->warm)
        printf("warm    every call works on the same buffers\n");
    else
        printf("cold    calls rotate through buffers of four times the last-level cache of %zu MiB\n",
               machine->cache_bytes / MIB);
    printf(
        "limit   the fastest way to move the data: forward a copy, backward and forward with a residual a stream of\n"
        "        2 reads and 1 write; of ");
    if (machine->host)
        printf("%zu threads with %s%s", bench_host_threads(machine->host), bench_host_streams(machine->host),
               machine->opencl ? ", " : "");
    if (machine->opencl)
        printf("clEnqueueCopyBuffer, OpenCL kernels");
    printf(
        "\nratio   best time / limit; bytes count what the contract reads and writes: train 3, infer 2, backward 5 "
        "tensors,\n        a residual 1\n"
        "checked channels (group norm: groups; layer and RMS norm: rows) whose every value was compared with the fp64\n"
        "        reference before timing\n\n");
    printf("%-22s %-9s %-3s %-18s %-8s %6s  %11s %11s %11s %11s %7s %11s  %s\n", "case", "norm", "", "shape", "mode",
           "ratio", "best", "limit", "median", "enqueue us", "GB/s", "checked", "limit by");
}

static double gb_per_s(const struct bench_result *r)
{
    return (double)r->bytes / r->best_ms / 1e6;
}

/* In microseconds where milliseconds would show few digits. */
static void print_time(char text[24], double ms)
{
    snprintf(text, 24, ms < 0.1 ? "%.2f us" : "%.3f ms", ms < 0.1 ? ms * 1e3 : ms);
}

/* ", f16, relu, residual"; nothing of what is f32 and the norm alone. */
static void print_fusion(char text[64], const struct bench_shape *shape)
{
    snprintf(text, 64, "%s%s%s%s%s%s%s%s", shape->dtype == CLNORM_F32 ? "" : ", ",
             shape->dtype == CLNORM_F32 ? "" : fusion_dtype_name(shape->dtype), shape->activation ? ", " : "",
             shape->activation ? case_activation_name(shape->activation) : "", shape->residual ? ", residual" : "",
             shape->from_y ? ", from y" : "", shape->mask ? ", mask" : "", shape->lengths ? ", lengths" : "");
}

void bench_report_row(const struct bench_result *r)
{
    char shape[128], checked[48], fusion[64], norm[NORM_LABEL_SIZE], best[24], limit[24], median[24];
    bool bold = isatty(STDOUT_FILENO);
    bench_shape_print(r->shape, shape);
    snprintf(checked, sizeof checked, "%zu/%zu", r->checked, r->units);
    norm_label(&r->shape->norm, norm);
    print_fusion(fusion, r->shape);
    print_time(best, r->best_ms);
    print_time(limit, r->limit_ms);
    print_time(median, r->median_ms);
    printf("%-22s %-9s %-3s %-18s %-8s %s%6.2f%s  %11s %11s %11s %11.2f %7.2f %11s  %s%s\n", r->shape->name, norm,
           bench_layout_name(r->shape->layout), shape, bench_mode_name(r->mode), bold ? "\033[1m" : "", r->ratio,
           bold ? "\033[0m" : "", best, limit, median, r->enqueue_us, gb_per_s(r), checked, r->limit_name, fusion);
    fflush(stdout);
}

static int by_ratio(const void *a, const void *b)
{
    double x = ((const struct bench_result *)a)->ratio, y = ((const struct bench_result *)b)->ratio;
    return (x > y) - (x < y);
}

/* Of the results of one norm, mode and layout. group: room for all results. */
static void summarize(const struct bench_result *results, size_t count, clnorm_norm norm, enum bench_mode mode,
                      clnorm_layout layout, struct bench_result *group)
{
    size_t n = 0;
    for (size_t i = 0; i < count; i++) {
        const struct bench_shape *shape = results[i].shape;
        if (results[i].mode == mode && shape->layout == layout && shape->norm.norm == norm)
            group[n++] = results[i];
    }
    if (!n)
        return;
    qsort(group, n, sizeof *group, by_ratio);
    const struct bench_result *worst = &group[n - 1];
    char shape[128];
    bench_shape_print(worst->shape, shape);
    printf("median ratio of %-8s %-8s %-3s %6.2f over %zu case%s; worst %.2f (%s %s)\n", norm_name(norm),
           bench_mode_name(mode), bench_layout_name(layout), (group[(n - 1) / 2].ratio + group[n / 2].ratio) / 2, n,
           n == 1 ? "" : "s", worst->ratio, worst->shape->name, shape);
}

void bench_report_summary(const struct bench_result *results, size_t count)
{
    struct bench_result *group = malloc((count + 1) * sizeof *group);
    if (!group)
        return;
    printf("\n");
    for (int norm = CLNORM_BATCH; norm <= CLNORM_RMS; norm++) {
        for (int mode = 0; mode < BENCH_MODES; mode++) {
            for (int layout = CLNORM_NC; layout <= CLNORM_NSC; layout++)
                summarize(results, count, (clnorm_norm)norm, (enum bench_mode)mode, (clnorm_layout)layout, group);
        }
    }
    free(group);
}

void bench_report_fusion(const struct bench_result *results, size_t count)
{
    for (int mode = 0; mode < BENCH_MODES; mode++) {
        const struct bench_shape *worst = NULL;
        double most = 0;
        for (size_t i = 0; i < count; i++) { /* the unfused case is the one before its own */
            for (size_t k = i + 1; k < count && results[i].mode == (enum bench_mode)mode; k++) {
                if (results[k].mode != results[i].mode || results[k].shape != results[i].shape + 1 ||
                    !(results[k].shape->activation || results[k].shape->residual))
                    continue;
                const double factor = results[k].ratio / results[i].ratio;
                if (!worst || factor > most) {
                    worst = results[k].shape;
                    most = factor;
                }
            }
        }
        if (worst)
            printf("%-8s ratio of the fused call over that of the norm alone: at most %.2f (%s)\n",
                   bench_mode_name((enum bench_mode)mode), most, worst->name);
    }
}

/* A driver's text as UTF-8. */
static json_t *json_text(const char *text)
{
    json_t *string = json_string(text);
    return string ? string : json_string("(not UTF-8)");
}

static json_t *result_json(const struct bench_machine *machine, const struct bench_result *r)
{
    json_t *shape = json_array();
    for (int d = 0; d < r->shape->dims; d++)
        json_array_append_new(shape, json_integer(r->shape->size[d]));
    return json_pack(
        "{s:s, s:o, s:s, s:s, s:s, s:s, s:o, s:s, s:s, s:s, s:f, s:f, s:I, s:f, s:f, s:f, s:s, s:f, s:I, s:I, "
        "s:I, s:I, s:I, s:I, s:I, s:s, s:b, s:b, s:b}",
        "device", machine->info.id, "device_name", json_text(machine->info.name), "norm",
        norm_name(r->shape->norm.norm), "mode", bench_mode_name(r->mode), "layout", bench_layout_name(r->shape->layout),
        "name", r->shape->name, "shape", shape, "dtype", fusion_dtype_name(r->shape->dtype), "act",
        case_activation_name(r->shape->activation), "buffers", machine->warm ? "warm" : "cold", "best_ms", r->best_ms,
        "median_ms", r->median_ms, "bytes", (json_int_t)r->bytes, "limit_ms", r->limit_ms, "ratio", r->ratio,
        "gb_per_s", gb_per_s(r), "limit", r->limit_name, "enqueue_us", r->enqueue_us, "calls", (json_int_t)r->calls,
        "rounds", (json_int_t)r->rounds, "checked", (json_int_t)r->checked, "units", (json_int_t)r->units, "groups",
        (json_int_t)r->shape->norm.groups, "normalized_dims", (json_int_t)r->shape->norm.dims, "virtual_batch",
        (json_int_t)r->shape->norm.batch, "residual", case_residual_name(r->shape->residual), "from_y",
        r->shape->from_y, "lengths", r->shape->lengths, "mask", r->shape->mask);
}

bool bench_report_json(const struct bench_machine *machine, const struct bench_result *results, size_t count,
                       FILE *stream)
{
    json_t *list = json_array();
    bool ok = list != NULL;
    for (size_t i = 0; ok && i < count; i++)
        ok = json_array_append_new(list, result_json(machine, &results[i])) == 0;
    if (!ok)
        errno = ENOMEM;
    ok = ok && json_dumpf(list, stream, JSON_INDENT(2)) == 0 && fputc('\n', stream) != EOF;
    json_decref(list);
    return ok;
}
