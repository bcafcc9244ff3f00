/* clnorm bench: every mode of every shape against the limit of this machine's memory. */
#include "bench_check.h"
#include "commands.h"
#include "fusion_options.h"
#include "norm_options.h"
#include "report.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

extern const char bench_quick_shapes[]; /* bench/shapes/quick.txt */

#define ROUNDS_LIMIT 10000

struct options {
    char *device, *shapes, *mode, *json;
    struct norm_typed norm;
    struct fusion_typed fusion; /* dtype, act and residual of it */
    int repeat, warm, unfused, from_y, mask, lengths;
};

struct run {
    const struct cli_command *self;
    struct options options;
    bool modes[BENCH_MODES];
    struct bench_shapes shapes;
    struct bench_machine machine;
    struct bench_result *results;
    size_t count;
};

static void free_run(struct run *run)
{
    bench_shapes_free(&run->shapes);
    free(run->results);
    bench_machine_close(&run->machine);
    free(run->options.device);
    free(run->options.shapes);
    free(run->options.mode);
    free(run->options.json);
    norm_typed_free(&run->options.norm);
    fusion_typed_free(&run->options.fusion);
}

static int read_options(struct run *run, int argc, const char **argv)
{
    struct options *o = &run->options;
    struct poptOption table[] = {
        {"device", 0, POPT_ARG_STRING, &o->device, 0, "the device (auto if not given; see clnorm devices)", "D"},
        {"shapes", 0, POPT_ARG_STRING, &o->shapes, 0,
         "cases, a line each: NAME LAYOUT NxC[xSPATIAL...] [norm=NORM ...] (a few built in)", "FILE"},
        NORM_OPTIONS(&o->norm, "batch, layer, group, instance or rms, of all cases (if not given, what the cases say)"),
        {"dtype", 0, POPT_ARG_STRING, &o->fusion.dtype, 0, "type of x and y: f32 (the default), f16 or bf16", "TYPE"},
        {"act", 0, POPT_ARG_STRING, &o->fusion.act, 0,
         "activation: none (the default), relu, leaky, gelu or silu; backward works it out again", "NAME"},
        {"residual", 0, POPT_ARG_STRING, &o->fusion.residual, 0,
         "none (the default) or after: adds a tensor after the norm, forward alone", "PLACE"},
        {"unfused", 0, POPT_ARG_NONE, &o->unfused, 0, "the same without --act and --residual too, and how they compare",
         NULL},
        {"from-y", 0, POPT_ARG_NONE, &o->from_y, 0, "backward has y in place of x; with --mode backward alone", NULL},
        {"mask", 0, POPT_ARG_NONE, &o->mask, 0,
         "forward writes a mask, and backward goes by it; with --act relu and leaky", NULL},
        {"lengths", 0, POPT_ARG_NONE, &o->lengths, 0,
         "samples have lengths, from all positions down to half of them; of shapes NxCxT", NULL},
        {"mode", 0, POPT_ARG_STRING, &o->mode, 0, "only train, infer or backward (all three if not given)", "M"},
        {"json", 0, POPT_ARG_STRING, &o->json, 0, "write the figures as JSON too", "FILE"},
        {"repeat", 0, POPT_ARG_INT, &o->repeat, 0, "rounds of limit and case (8 to 40 in about 1.5 s if not given)",
         "N"},
        {"warm", 0, POPT_ARG_NONE, &o->warm, 0, "the same buffers at every call, instead of cold ones", NULL},
        POPT_TABLEEND};
    int exit_code = CLI_OK;
    o->repeat = INT_MIN; /* not given */
    if (!cli_parse(run->self, table, argc, argv, &exit_code))
        return exit_code == CLI_OK ? -1 : exit_code;
    if (o->repeat != INT_MIN && (o->repeat < 1 || o->repeat > ROUNDS_LIMIT))
        return cli_error(run->self, "--repeat is %d and must be from 1 to %d", o->repeat, ROUNDS_LIMIT);
    bool known = !o->mode;
    for (int mode = 0; mode < BENCH_MODES; mode++) {
        run->modes[mode] = !o->mode || !strcmp(o->mode, bench_mode_name(mode));
        known = known || run->modes[mode];
    }
    if (!known)
        return cli_error(run->self, "--mode is \"%s\" and must be train, infer or backward", o->mode);
    run->machine.warm = o->warm != 0;
    run->machine.rounds = o->repeat == INT_MIN ? 0 : (size_t)o->repeat;
    return CLI_OK;
}

static int read_shapes(struct run *run)
{
    char error[512];
    bool ok = run->options.shapes ? bench_shapes_read(&run->shapes, run->options.shapes, error)
                                  : bench_shapes_parse(&run->shapes, "built-in shapes", bench_quick_shapes, error);
    struct norm_choice norm;
    if (ok && norm_typed_any(&run->options.norm)) {
        if (!norm_typed_parse(&run->options.norm, run->self, &norm))
            return CLI_USAGE;
        ok = bench_shapes_set_norm(&run->shapes, &norm, &norm_option_words, error);
    }
    if (!ok)
        return cli_error(run->self, "%s", error);
    struct fusion fusion;
    if (!fusion_typed_parse(&run->options.fusion, run->self, &fusion))
        return CLI_USAGE;
    for (size_t i = 0; i < run->shapes.count; i++) {
        run->shapes.list[i].dtype = fusion.dtype;
        run->shapes.list[i].activation = fusion.activation;
        run->shapes.list[i].residual = fusion.residual;
        run->shapes.list[i].from_y = run->options.from_y;
        run->shapes.list[i].mask = run->options.mask;
        run->shapes.list[i].lengths = run->options.lengths;
    }
    if (run->options.from_y && !(run->options.mode && run->modes[BENCH_BACKWARD]))
        return cli_error(run->self, "--from-y is given; it goes with --mode backward alone");
    if (run->options.from_y && fusion.activation != CLNORM_NO_ACTIVATION && fusion.activation != CLNORM_LEAKY_RELU)
        return cli_error(run->self, "--from-y is given; it goes with no activation and with --act leaky");
    if (run->options.mask && fusion.activation != CLNORM_RELU && fusion.activation != CLNORM_LEAKY_RELU)
        return cli_error(run->self, "--mask is given; it goes with --act relu and leaky alone");
    if (run->options.mask && run->options.from_y)
        return cli_error(run->self, "--mask is given; it does not go with --from-y");
    if (run->options.lengths && run->options.from_y)
        return cli_error(run->self, "--lengths is given; it does not go with --from-y");
    for (size_t i = 0; run->options.lengths && i < run->shapes.count; i++) {
        const struct bench_shape *shape = &run->shapes.list[i];
        if (shape->dims != 3 || norm_is_of_rows(shape->norm.norm) || shape->norm.batch)
            return cli_error(
                run->self,
                "--lengths is given; it goes with batch, group and instance norm of NxCxT, without virtual "
                "batches, and %s is another",
                shape->name);
    }
    if (fusion.residual == CLNORM_RESIDUAL_BEFORE)
        return cli_error(run->self, "--residual is 'before'; it must be none or after");
    if (fusion.residual != CLNORM_NO_RESIDUAL && run->options.mode && run->modes[BENCH_BACKWARD])
        return cli_error(run->self, "--mode is \"backward\"; with --residual it must be train or infer");
    if (run->options.unfused && !fusion.activation && !fusion.residual)
        return cli_error(run->self, "--unfused is given; it goes with --act or --residual");
    if (run->options.unfused && !bench_shapes_add_unfused(&run->shapes, error)) {
        cli_error(run->self, "%s", error);
        return CLI_FAILED;
    }
    for (size_t i = 0; i < run->shapes.count; i++) {
        for (int mode = 0; mode < BENCH_MODES; mode++) {
            if (run->modes[mode] && bench_mode_is_of(mode, &run->shapes.list[i]))
                return CLI_OK;
        }
    }
    return cli_error(run->self, "--mode is \"%s\"; layer, group and RMS norm do in training what they do in inference",
                     run->options.mode);
}

static int open_machine(struct run *run)
{
    char error[512];
    clnorm_status status = bench_machine_open(&run->machine, run->options.device ? run->options.device : "auto", error);
    if (status == CLNORM_OK)
        return CLI_OK;
    cli_error(run->self, "--device: %s (%s)", error, clnorm_status_name(status));
    return status < CLNORM_E_DEVICE_FAILED ? CLI_USAGE : CLI_FAILED;
}

static int check_memory(const struct run *run)
{
    for (size_t i = 0; i < run->shapes.count; i++) {
        const struct bench_shape *shape = &run->shapes.list[i];
        char text[128];
        bench_shape_print(shape, text);
        if (!bench_machine_sets(&run->machine, shape))
            return cli_error(
                run->self, "case %s %s %s needs more memory than bench takes on this device, %" PRIu64 " MiB",
                shape->name, bench_layout_name(shape->layout), text, bench_machine_memory(&run->machine) >> 20);
    }
    return CLI_OK;
}

/* One line on a terminal, rewritten; text NULL clears it. */
static void show_progress(const struct run *run, size_t i, const char *text)
{
    if (!isatty(STDERR_FILENO))
        return;
    if (text)
        fprintf(stderr, "\r\033[K[%zu/%zu] %s: %s", i + 1, run->shapes.count, run->shapes.list[i].name, text);
    else
        fprintf(stderr, "\r\033[K");
    fflush(stderr);
}

/* A failure in a case: the case is named, and it is the machine's fault, not the user's. */
static int case_failed(const struct run *run, size_t i, const char *error)
{
    const struct bench_shape *shape = &run->shapes.list[i];
    char text[128];
    bench_shape_print(shape, text);
    show_progress(run, i, NULL);
    cli_error(run->self, "%s %s %s: %s", shape->name, bench_layout_name(shape->layout), text, error);
    return CLI_FAILED;
}

static int measure_case(struct run *run, size_t i, struct bench_case *c)
{
    char error[512];
    size_t checked[BENCH_MODES] = {0};
    bool modes[BENCH_MODES];
    for (int mode = 0; mode < BENCH_MODES; mode++)
        modes[mode] = run->modes[mode] && bench_mode_is_of(mode, &run->shapes.list[i]);
    show_progress(run, i, "making data");
    if (!bench_case_create(c, run->machine.device, &run->shapes.list[i],
                           bench_machine_sets(&run->machine, &run->shapes.list[i]), NULL))
        return case_failed(run, i, c->error);
    show_progress(run, i, "checking against the fp64 reference");
    for (int mode = 0; mode < BENCH_MODES; mode++) {
        if (modes[mode] && !bench_check(c, mode, &checked[mode], error))
            return case_failed(run, i, error);
    }
    if (modes[BENCH_BACKWARD] && !bench_case_spread_state(c))
        return case_failed(run, i, c->error);
    bench_case_free_inputs(c);
    struct bench_limits *limits = bench_limits_create(&run->machine, c, error);
    int exit_code = limits ? CLI_OK : case_failed(run, i, error);
    for (int mode = 0; mode < BENCH_MODES && exit_code == CLI_OK; mode++) {
        if (!modes[mode])
            continue;
        struct bench_result *result = &run->results[run->count];
        show_progress(run, i, bench_mode_name(mode));
        if (!bench_measure(&run->machine, c, limits, mode, result, error)) {
            exit_code = case_failed(run, i, error);
            break;
        }
        result->checked = checked[mode];
        result->units = bench_check_units(c);
        run->count++;
        show_progress(run, i, NULL);
        bench_report_row(result);
    }
    bench_limits_destroy(limits);
    return exit_code;
}

static int measure_all(struct run *run)
{
    run->results = calloc(run->shapes.count * BENCH_MODES, sizeof *run->results);
    if (!run->results)
        return cli_error(run->self, "out of memory"), CLI_FAILED;
    bench_report_head(&run->machine, run->options.shapes ? run->options.shapes : "built in");
    for (size_t i = 0; i < run->shapes.count; i++) {
        struct bench_case c;
        int exit_code = measure_case(run, i, &c);
        bench_case_destroy(&c);
        if (exit_code != CLI_OK)
            return exit_code;
    }
    bench_report_summary(run->results, run->count);
    if (run->options.unfused)
        bench_report_fusion(run->results, run->count);
    return CLI_OK;
}

/* The file is begun before anything is timed: a path that cannot be written should not cost minutes. */
static int measure_and_write(struct run *run)
{
    struct cli_file file;
    if (!run->options.json)
        return measure_all(run);
    if (!cli_file_begin(&file, run->options.json))
        return cli_error(run->self, "--json %s: %s", run->options.json, strerror(errno));
    int exit_code = measure_all(run);
    if (exit_code != CLI_OK) {
        cli_file_abandon(&file);
        return exit_code;
    }
    if (!bench_report_json(&run->machine, run->results, run->count, file.stream)) {
        exit_code = cli_error(run->self, "--json %s: %s", run->options.json, strerror(errno));
        cli_file_abandon(&file);
        return exit_code;
    }
    return cli_file_commit(&file) ? CLI_OK : cli_error(run->self, "--json %s: %s", run->options.json, strerror(errno));
}

int cmd_bench(const struct cli_command *self, int argc, const char **argv)
{
    struct run run = {.self = self};
    int exit_code = read_options(&run, argc, argv);
    if (exit_code == CLI_OK)
        exit_code = read_shapes(&run);
    if (exit_code == CLI_OK)
        exit_code = open_machine(&run);
    if (exit_code == CLI_OK)
        exit_code = check_memory(&run);
    if (exit_code == CLI_OK)
        exit_code = measure_and_write(&run);
    free_run(&run);
    return exit_code < 0 ? CLI_OK : exit_code; /* after --help */
}
