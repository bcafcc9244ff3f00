/* clnorm demo covariate-shift: options, the experiment, what is printed. */
#include "backend.h"
#include "commands.h"
#include "output.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#define DEMO_NAME "covariate-shift"

struct demo_options {
    char *data, *device, *out;
    int seeds; /* INT_MIN: not given */
};

static void free_options(struct demo_options *options)
{
    free(options->data);
    free(options->device);
    free(options->out);
}

/* Looks at the values; false after one line on stderr. */
static bool check_options(const struct cli_command *self, const struct demo_options *options)
{
    enum { MAX_SEEDS = 100 };
    if (!options->out)
        cli_error(self, "--out is missing: it must name the folder to write into (try clnorm %s --help)", self->name);
    else if (options->data && strcmp(options->data, "digits") != 0 && strcmp(options->data, "random") != 0)
        cli_error(self, "--data is %s and must be digits or random", options->data);
    else if (options->seeds != INT_MIN && (options->seeds < 1 || options->seeds > MAX_SEEDS))
        cli_error(self, "--seeds is %d and must be from 1 to %d", options->seeds, MAX_SEEDS);
    else
        return true;
    return false;
}

static void print_results(const struct output *o)
{
    const struct experiment *e = o->experiment;
    double samples = (double)o->data->held_out.count;
    printf("device: %s (%s, %s), linear layers by %s\n", o->device->name, o->device->id, o->device->platform,
           o->linear);
    if (o->device->fallback[0])
        printf("no OpenCL device was taken: %s\n", o->device->fallback);
    printf("data: %s; %zu samples for training, %zu held out\n\n", o->subject, o->data->training.count,
           o->data->held_out.count);
    printf("after %d steps    with batch norm      without\n", (int)TRAINING_STEPS);
    for (size_t seed = 0; seed < e->seeds; seed++) {
        const struct training *t = e->trainings[seed];
        printf("seed %-3zu loss     %15.4f  %11.4f\n", seed, t[1].losses[TRAINING_STEPS - 1],
               t[0].losses[TRAINING_STEPS - 1]);
        if (samples > 0)
            printf("         accuracy %15.4f  %11.4f\n", (double)t[1].correct / samples,
                   (double)t[0].correct / samples);
    }
    if (samples > 0)
        printf("mean     accuracy %15.4f  %11.4f\n", experiment_accuracy(e, o->data, true),
               experiment_accuracy(e, o->data, false));
    printf("\ntime: %.1f s", o->seconds);
    if (o->device->kind != CLNORM_CLASS_HOST)
        printf(", of which %.1f s for the first step, in which kernels are compiled", e->warm_up_seconds);
    printf("\nreport: %s/report.html\n", o->directory);
}

/* Trains on the opened device and writes all that is written. */
static int run_on(const struct cli_command *self, clnorm_device *device, const struct data *data, size_t seeds,
                  const char *directory)
{
    clnorm_device_info info = CLNORM_DEVICE_INFO_INIT;
    struct backend backend;
    struct experiment experiment;
    struct progress progress;
    clnorm_status status = clnorm_device_get_info(device, &info);
    if (status != CLNORM_OK)
        return cli_status(self, status, "clnorm_device_get_info");
    double start = progress_clock();
    if (!backend_create(&backend, device)) {
        cli_error(self, "%s", backend.error);
        return CLI_FAILED;
    }
    bool ok = experiment_run(&experiment, &backend, data, seeds, &progress);
    if (!ok)
        cli_error(self, "%s", backend.error);
    const struct output output = {.command = self,
                                  .directory = directory,
                                  .subject = data->held_out.count > 0 ? "handwritten digits" : "random data",
                                  .data = data,
                                  .experiment = &experiment,
                                  .device = &info,
                                  .linear = backend.operations->linear,
                                  .seconds = progress_clock() - start};
    ok = ok && output_tables(&output) && output_pictures(&output) && output_report(&output);
    if (ok)
        print_results(&output);
    experiment_free(&experiment);
    backend_destroy(&backend);
    return ok ? CLI_OK : CLI_FAILED;
}

static int run(const struct cli_command *self, const struct demo_options *options)
{
    const bool digits = !options->data || !strcmp(options->data, "digits");
    const size_t seeds = options->seeds != INT_MIN ? (size_t)options->seeds : digits ? 5 : 1;
    clnorm_device *device;
    struct data data;
    if (!check_options(self, options))
        return CLI_USAGE;
    clnorm_status status = clnorm_device_open(options->device ? options->device : "auto", &device);
    if (status != CLNORM_OK)
        return cli_status(self, status, "--device");
    int code = CLI_FAILED;
    if (!cli_make_directory(options->out)) {
        code = cli_error(self, "--out is %s, which cannot be made or is no folder: %s", options->out, strerror(errno));
    } else if (pictures_possible(self)) {
        if (digits ? data_digits(&data) : data_random(&data)) {
            code = run_on(self, device, &data, seeds, options->out);
            data_free(&data);
        } else {
            cli_error(self, "out of memory for the data");
        }
    }
    clnorm_device_destroy(device);
    return code;
}

int cmd_demo(const struct cli_command *self, int argc, const char **argv)
{
    struct cli_command demo = *self;
    struct demo_options options = {.seeds = INT_MIN};
    struct poptOption table[] = {
        {"data", '\0', POPT_ARG_STRING, &options.data, 0, "digits (the default: 1797 real ones) or random", "SET"},
        {"device", '\0', POPT_ARG_STRING, &options.device, 0, "a name as clnorm devices lists them; default auto", "D"},
        {"seeds", '\0', POPT_ARG_INT, &options.seeds, 0, "train with K first weights; default 5 (random: 1)", "K"},
        {"out", '\0', POPT_ARG_STRING, &options.out, 0, "the folder for report.html, pictures and tables", "DIR"},
        POPT_TABLEEND};
    demo.name = "demo " DEMO_NAME;
    demo.summary = "Trains a deep network with and without batch norm and shows what happens inside.";
    if (argc < 2)
        return cli_error(self, "which demo is missing: " DEMO_NAME " (try clnorm demo --help)");
    const bool named = !strcmp(argv[1], DEMO_NAME);
    if (!named && strcmp(argv[1], "--help") != 0 && strcmp(argv[1], "-h") != 0)
        return cli_error(self, "%s: no such demo (there is " DEMO_NAME ")", argv[1]);
    int code = CLI_OK;
    if (cli_parse(&demo, table, argc - named, argv + named, &code))
        code = run(&demo, &options);
    free_options(&options);
    return code;
}
