/* clnorm tune: finds a launch shape for a device by measuring, and saves it for later runs. */
#include "tune.h"

#include "commands.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

enum { SECONDS = 120, QUICK_SECONDS = 20, SECONDS_MAX = 86400 };

/* A row in the environment would hide whatever is found. */
static bool environment_is_free(const struct cli_command *self)
{
    const char *text = getenv("CLNORM_TUNING");
    if (!text || !*text || !strcmp(text, "default"))
        return true;
    cli_error(self,
              "CLNORM_TUNING is \"%s\", which would be taken instead of what is found; it must be unset or \"default\"",
              text);
    return false;
}

static int act_on(const struct cli_command *self, const char *name, clnorm_device *device,
                  const clnorm_device_info *info, const struct tune_options *options)
{
#ifdef CLNORM_BENCH_OPENCL
    if (info->kind != CLNORM_CLASS_HOST)
        return tune_act(self, device, info, options);
#else
    (void)device, (void)options;
#endif
    return cli_error(self, "--device is %s, the CPU path, which has no row; it must be an OpenCL device%s%s", name,
                     info->fallback[0] ? ": " : "", info->fallback);
}

static int act(const struct cli_command *self, const char *name, const struct tune_options *options)
{
    clnorm_device *device = NULL;
    clnorm_device_info info = CLNORM_DEVICE_INFO_INIT;
    if (options->action == TUNE_MEASURE && !environment_is_free(self))
        return CLI_USAGE;
    clnorm_status status = clnorm_device_open(name, &device);
    if (status == CLNORM_OK)
        status = clnorm_device_get_info(device, &info);
    int exit_code = status == CLNORM_OK ? act_on(self, name, device, &info, options)
                                        : cli_status(self, status, "the device cannot be opened");
    clnorm_device_destroy(device);
    return exit_code;
}

int cmd_tune(const struct cli_command *self, int argc, const char **argv)
{
    char *device = NULL;
    int seconds = INT_MIN, quick = 0, dry_run = 0, export_row = 0, forget = 0, exit_code;
    struct poptOption table[] = {
        {"device", 0, POPT_ARG_STRING, &device, 0, "an OpenCL device (auto if not given; see clnorm devices)", "D"},
        {"seconds", 0, POPT_ARG_INT, &seconds, 0, "about how long it may take (120 if not given; 20 with --quick)",
         "N"},
        {"quick", 0, POPT_ARG_NONE, &quick, 0, "few cases, and only the numbers that no program is built for", NULL},
        {"dry-run", 0, POPT_ARG_NONE, &dry_run, 0, "measure and tell, but save nothing", NULL},
        {"export", 0, POPT_ARG_NONE, &export_row, 0, "measure nothing: print the row in force as host/tuning.c has it",
         NULL},
        {"forget", 0, POPT_ARG_NONE, &forget, 0, "measure nothing: remove the saved row", NULL},
        POPT_TABLEEND};
    if (cli_parse(self, table, argc, argv, &exit_code)) {
        struct tune_options options = {export_row ? TUNE_EXPORT
                                       : forget   ? TUNE_FORGET
                                                  : TUNE_MEASURE,
                                       quick ? QUICK_SECONDS : SECONDS, quick != 0, dry_run != 0};
        bool measure = seconds != INT_MIN || quick || dry_run;
        if (seconds != INT_MIN)
            options.seconds = seconds;
        if (export_row + forget + measure > 1)
            exit_code = cli_error(
                self, "--export, --forget and what measures (--seconds, --quick, --dry-run) exclude each other");
        else if (options.seconds < 1 || options.seconds > SECONDS_MAX)
            exit_code = cli_error(self, "--seconds is %d and must be from 1 to %d", options.seconds, SECONDS_MAX);
        else
            exit_code = act(self, device ? device : "auto", &options);
    }
    free(device);
    if (exit_code == CLI_OK && (fflush(stdout) != 0 || ferror(stdout))) {
        cli_error(self, "standard output cannot be written");
        return CLI_FAILED;
    }
    return exit_code;
}
