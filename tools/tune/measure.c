#include "search.h"

#include <clnorm/opencl.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* The device as whoever opens it later will see it, without CLNORM_TUNING. */
static clnorm_status look_up(const clnorm_device_info *device, clnorm_device_info *later)
{
    uint32_t count = 0;
    unsetenv("CLNORM_TUNING");
    clnorm_status status = clnorm_device_list(0, NULL, &count);
    for (uint32_t i = 0; status == CLNORM_OK && i < count; i++) {
        *later = (clnorm_device_info)CLNORM_DEVICE_INFO_INIT;
        status = clnorm_device_list(i, later, &count);
        if (status == CLNORM_OK && !strcmp(later->id, device->id))
            return CLNORM_OK;
    }
    return status == CLNORM_OK ? CLNORM_E_DEVICE_UNKNOWN : status;
}

/* Saves what is in force anyhow, so that a folder that cannot be written is told before anything is measured. A file that is
 * ignored stays as it is. */
static clnorm_status try_to_save(clnorm_device *device, const clnorm_device_info *info)
{
    clnorm_device_info later;
    clnorm_status status = look_up(info, &later);
    bool tuned = status == CLNORM_OK && !strncmp(later.tuning_source, "tuned, ", 7);
    if (status == CLNORM_OK && (tuned || !strcmp(later.tuning_source, "table"))) {
        status = clnorm_device_save_tuning(device, later.tuning);
        if (status == CLNORM_OK && !tuned)
            status = clnorm_device_save_tuning(device, NULL);
    }
    return status;
}

/* Prints the row in force from now on, and where it is from. */
static int tell_change(const struct cli_command *self, const clnorm_device_info *info, const char *what)
{
    clnorm_device_info later;
    clnorm_status status = look_up(info, &later);
    if (status != CLNORM_OK)
        return cli_status(self, status, "the device cannot be looked up again");
    printf("%-12s %s\nin force     %s\nfrom         %s\n", what, info->id, later.tuning, later.tuning_source);
    return CLI_OK;
}

static void print_table(const struct tune_contest *contest, const struct tune_result *r)
{
    printf("\n%-8s %-3s %-14s %-9s %12s %10s %7s\n", "case", "", "shape", "mode", "in force", "found", "ratio");
    for (size_t i = 0; i < contest->shapes.count; i++) {
        const struct bench_shape *shape = &contest->shapes.list[i];
        char text[128];
        bench_shape_print(shape, text);
        for (int mode = 0; mode < BENCH_MODES; mode++)
            printf("%-8s %-3s %-14s %-9s %9.4f ms %7.4f ms %7.3f\n", shape->name, bench_layout_name(shape->layout),
                   text, bench_mode_name(mode), 1e3 * r->best[0][i][mode], 1e3 * r->best[1][i][mode],
                   r->ratios[i][mode]);
    }
}

static double worst_ratio(const struct tune_contest *contest, const struct tune_result *r)
{
    double worst = 0;
    for (size_t i = 0; i < contest->shapes.count; i++) {
        for (int mode = 0; mode < BENCH_MODES; mode++)
            worst = fmax(worst, r->ratios[i][mode]);
    }
    return worst;
}

static int conclude(const struct cli_command *self, struct tune_contest *contest, const struct tune_outcome *outcome,
                    const struct tune_options *options)
{
    char row[160];
    bool other = outcome->found.device != NULL;
    if (other)
        print_table(contest, &outcome->final);
    printf("\ntried        %zu rows", outcome->tried);
    if (outcome->wrong)
        printf(", %zu of them passed over", outcome->wrong);
    printf("%s\nmargin       %.1f %%\n", outcome->complete ? "" : "; the time was up before all were tried (--seconds)",
           100 * outcome->margin);
    if (other) {
        tune_row_print(&outcome->found.row, row);
        printf("row found    %s\nit takes     %.3f of the time (geometric mean; worst case %.3f)\n", row,
               outcome->final.ratio, worst_ratio(contest, &outcome->final));
    }
    if (!outcome->better) {
        printf("not saved    nothing is better by more than the margin\n");
        return CLI_OK;
    }
    if (options->dry_run) {
        printf("not saved    for --dry-run\n");
        return CLI_OK;
    }
    clnorm_status status = clnorm_device_save_tuning(contest->start.device, row);
    return status == CLNORM_OK ? tell_change(self, &contest->info, "saved for")
                               : cli_status(self, status, "the row cannot be saved");
}

static int measure(const struct cli_command *self, clnorm_device *device, const clnorm_device_info *info,
                   const struct tune_options *options)
{
    static struct tune_contest contest; /* large */
    struct tune_outcome outcome = {0};
    double begin = bench_now();
    clnorm_status status = options->dry_run ? CLNORM_OK : try_to_save(device, info);
    unsetenv("CLNORM_TUNING"); /* "default" at most; the device is open with it */
    if (status != CLNORM_OK)
        return cli_status(self, status, "a row could not be saved");
    printf("device       %s: %s, %s\nin force     %s\nfrom         %s\n\n", info->id, info->name, info->platform,
           info->tuning, info->tuning_source);
    fflush(stdout);
    bool ok =
        tune_contest_open(&contest, device, info, options->quick) && tune_search(&contest, begin, options, &outcome);
    int exit_code =
        ok ? conclude(self, &contest, &outcome, options) : (cli_error(self, "%s", contest.error), CLI_FAILED);
    tune_outcome_close(&outcome);
    tune_contest_close(&contest);
    return exit_code;
}

static void print_string(const char *text)
{
    putchar('"');
    for (; *text; text++) {
        if (*text == '"' || *text == '\\')
            putchar('\\');
        putchar(*text);
    }
    printf("\", ");
}

static int export(const struct cli_command *self, clnorm_device *device, const clnorm_device_info *info)
{
    static const char *const classes[] = {"HOST", "CPU", "GPU", "ACCELERATOR"};
    char vendor[256] = "", numbers[160];
    struct tune_row row;
    if (!tune_row_read(info->tuning, &row))
        return cli_error(self, "the library's row is \"%s\", which this program does not know", info->tuning),
               CLI_FAILED;
    if (clGetDeviceInfo(clnorm_device_cl_id(device), CL_DEVICE_VENDOR, sizeof vendor - 1, vendor, NULL) != CL_SUCCESS)
        return cli_error(self, "the device does not tell its vendor"), CLI_FAILED;
    tune_row_print_table(&row, numbers);
    printf("    {CLNORM_CLASS_%s, ", classes[info->kind]);
    print_string(vendor);
    print_string(info->platform);
    print_string(info->name);
    printf("%s},\n", numbers);
    return CLI_OK;
}

int tune_act(const struct cli_command *self, clnorm_device *device, const clnorm_device_info *info,
             const struct tune_options *options)
{
    if (options->action == TUNE_EXPORT)
        return export(self, device, info);
    if (options->action == TUNE_MEASURE)
        return measure(self, device, info, options);
    clnorm_status status = clnorm_device_save_tuning(device, NULL);
    return status == CLNORM_OK ? tell_change(self, info, "forgotten for")
                               : cli_status(self, status, "the saved row cannot be removed");
}
