#include "run_options.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* The options as they were typed. */
struct typed {
    struct norm_typed norm;
    struct fusion_typed fusion;
    char *mode, *layout, *eps, *momentum, *variance, *average, *count;
    int frozen;
};

static const char *const modes[] = {"train", "infer", "backward", NULL};
static const char *const layouts[] = {"nc", "ncs", "nsc", NULL};
static const char *const variances[] = {"biased", "unbiased", NULL};
static const char *const averages[] = {"exponential", "cumulative", NULL};

/* The index of value among names, in the order of the enumeration; an option that was not typed keeps 0. */
static bool parse_name(const struct cli_command *self, const char *option, const char *value, const char *const *names,
                       int *index)
{
    char all[64] = "";
    for (int i = 0; names[i]; i++) {
        if (!value || !strcmp(value, names[i])) {
            *index = i;
            return true;
        }
        size_t at = strlen(all);
        snprintf(all + at, sizeof all - at, "%s%s", i == 0 ? "" : names[i + 1] ? ", " : " or ", names[i]);
    }
    cli_error(self, "--%s is '%s'; it must be %s", option, value, all);
    return false;
}

static bool parse_float(const struct cli_command *self, const char *option, const char *value, float *number)
{
    if (!value)
        return true;
    char *end;
    errno = 0;
    float v = strtof(value, &end);
    bool lost = errno == ERANGE && (v == 0.0f || isinf(v)); /* a denormal sets ERANGE too, and is fine */
    if (end == value || *end || isspace((unsigned char)*value) || lost) {
        cli_error(self, "--%s is '%s'; it must be a number that f32 can hold", option, value);
        return false;
    }
    *number = v;
    return true;
}

static bool parse_count(const struct cli_command *self, const char *option, const char *value, uint64_t *number)
{
    if (!value)
        return true;
    char *end;
    errno = 0;
    unsigned long long v = strtoull(value, &end, 10);
    if (!isdigit((unsigned char)*value) || *end || errno == ERANGE) {
        cli_error(self, "--%s is '%s'; it must be a whole number below 2^64", option, value);
        return false;
    }
    *number = v;
    return true;
}

static bool parse_typed(struct run_options *o, const struct cli_command *self, const struct typed *t)
{
    int mode, layout, variance, average;
    if (!t->mode || !t->layout) {
        cli_error(self, "--%s is missing (try clnorm run --help)", t->mode ? "layout" : "mode");
        return false;
    }
    if (!norm_typed_parse(&t->norm, self, &o->norm) || !fusion_typed_parse(&t->fusion, self, &o->fusion) ||
        !parse_name(self, "mode", t->mode, modes, &mode) || !parse_name(self, "layout", t->layout, layouts, &layout) ||
        !parse_name(self, "variance", t->variance, variances, &variance) ||
        !parse_name(self, "average", t->average, averages, &average) || !parse_float(self, "eps", t->eps, &o->eps) ||
        !parse_float(self, "momentum", t->momentum, &o->running.momentum) ||
        !parse_count(self, "count", t->count, &o->running.count))
        return false;
    o->mode = (enum run_mode)mode;
    o->layout = (clnorm_layout)layout;
    o->running.variance = (clnorm_variance)variance;
    o->running.average = (clnorm_average)average;
    o->frozen = t->frozen;
    return true;
}

/* Whether the activation's gradient is known from its result. */
static bool y_tells(const struct fusion *f)
{
    return f->activation == CLNORM_RELU || (f->activation == CLNORM_LEAKY_RELU && f->slope > 0.0f);
}

/* Which options go with which. --bias in backward without an activation and --momentum outside train change nothing, and are let through, so
 * that one list of options serves every mode; --momentum is checked here because only a training call would. */
static bool check_together(const struct run_options *o, const struct cli_command *self, const struct typed *t)
{
    bool mean = o->paths[IN_RUNNING_MEAN], var = o->paths[IN_RUNNING_VAR];
    const char *wrong = NULL;
    if (!o->paths[IN_X])
        wrong = "--x is missing; it must name the input's .npy file";
    else if (!o->out)
        wrong = "--out is missing; it must name the directory to write into";
    else if (o->mode == RUN_BACKWARD && !o->paths[IN_DY])
        wrong = "--dy is missing; --mode backward needs the gradient of y";
    else if (o->mode != RUN_BACKWARD && o->paths[IN_DY])
        wrong = "--dy is given; it goes with --mode backward alone";
    else if (o->mode != RUN_BACKWARD && o->frozen)
        wrong = "--frozen is given; it goes with --mode backward alone";
    else if (o->mode != RUN_BACKWARD && o->paths[IN_Y])
        wrong = "--y is given; it goes with --mode backward alone";
    else if (o->paths[IN_Y] && !y_tells(&o->fusion))
        wrong = "--y is given; it goes with --act relu, and with leaky of a positive slope";
    else if (o->fusion.residual == CLNORM_RESIDUAL_BEFORE && !norm_is_of_rows(o->norm.norm))
        wrong = "--residual is before; it goes with layer and RMS norm alone";
    else if (o->fusion.residual == CLNORM_RESIDUAL_BEFORE && o->mode == RUN_BACKWARD)
        wrong = "--residual is before; backward takes sum.npy of --mode train as --x, without --residual";
    else if (o->fusion.residual != CLNORM_NO_RESIDUAL && !o->paths[IN_Z] && !o->paths[IN_Y])
        wrong = "--z is missing; --residual needs what is added";
    else if (o->fusion.residual == CLNORM_NO_RESIDUAL && o->paths[IN_Z])
        wrong = "--z is given; it goes with --residual alone";
    else if ((mean || var) && !norm_has_running(o->norm.norm))
        wrong = "running statistics are given; batch and instance norm alone have them";
    else if (o->mode == RUN_INFER && !norm_has_running(o->norm.norm))
        wrong = "--mode is infer; this norm does the same in training and inference: --mode train";
    else if (o->frozen && !norm_has_running(o->norm.norm))
        wrong = "--frozen is given; batch and instance norm alone have running statistics";
    else if (o->paths[IN_LENGTHS] && norm_is_of_rows(o->norm.norm))
        wrong = "--lengths is given; it goes with batch, group and instance norm alone";
    else if (o->paths[IN_LENGTHS] && o->norm.batch)
        wrong = "--lengths is given; it does not go with --virtual-batch";
    else if (mean != var)
        wrong = mean ? "--running-var is missing; it must be given with --running-mean"
                     : "--running-mean is missing; it must be given with --running-var";
    else if (o->mode == RUN_INFER && !mean)
        wrong = "--running-mean and --running-var are missing; --mode infer needs both";
    else if (o->frozen && !mean)
        wrong = "--running-mean and --running-var are missing; --frozen needs both";
    else if (o->mode == RUN_BACKWARD && mean && !o->frozen)
        wrong = "--running-mean and --running-var are given; in --mode backward they go with --frozen alone";
    else if (o->running.average == CLNORM_CUMULATIVE && !t->count)
        wrong = "--count is missing; --average cumulative needs the number of batches averaged so far";
    else if (o->running.average != CLNORM_CUMULATIVE && t->count)
        wrong = "--count is given; it goes with --average cumulative alone";
    if (wrong) {
        cli_error(self, "%s", wrong);
        return false;
    }
    if (!(o->running.momentum >= 0.0f && o->running.momentum <= 1.0f)) {
        cli_error(self, "--momentum is %s; it must be in [0, 1]", t->momentum);
        return false;
    }
    return true;
}

bool run_options_parse(struct run_options *o, const struct cli_command *self, int argc, const char **argv,
                       int *exit_code)
{
    struct typed t = {0};
    clnorm_desc defaults = CLNORM_DESC_INIT;
    clnorm_running running = CLNORM_RUNNING_INIT;
    memset(o, 0, sizeof *o);
    o->eps = defaults.eps;
    o->running = running;
    struct poptOption table[] = {
        NORM_OPTIONS(&t.norm, "batch (the default), layer, group, instance or rms"),
        {"mode", 0, POPT_ARG_STRING, &t.mode, 0, "train, infer or backward", "MODE"},
        {"layout", 0, POPT_ARG_STRING, &t.layout, 0, "nc = (N, D), ncs = N x C x spatial, nsc = N x spatial x C",
         "LAYOUT"},
        {"x", 0, POPT_ARG_STRING, &o->paths[IN_X], 0,
         "input (.npy of little-endian f32, as all others; of f16 or of bf16's bits by --dtype)", "FILE"},
        {"dy", 0, POPT_ARG_STRING, &o->paths[IN_DY], 0, "backward: gradient of y, of x's shape", "FILE"},
        {"y", 0, POPT_ARG_STRING, &o->paths[IN_Y], 0,
         "backward of relu or leaky: what forward wrote, instead of working it out again", "FILE"},
        {"weight", 0, POPT_ARG_STRING, &o->paths[IN_WEIGHT], 0,
         "weight: one a channel, or of the normalized dimensions (else 1)", "FILE"},
        {"bias", 0, POPT_ARG_STRING, &o->paths[IN_BIAS], 0, "bias, likewise (else 0)", "FILE"},
        {"z", 0, POPT_ARG_STRING, &o->paths[IN_Z], 0, "what --residual adds, of x's shape and type", "FILE"},
        FUSION_OPTIONS(&t.fusion),
        {"lengths", 0, POPT_ARG_STRING, &o->paths[IN_LENGTHS], 0,
         "length of each sample of x, which has one dimension of space; int32. The rest is padding", "FILE"},
        {"running-mean", 0, POPT_ARG_STRING, &o->paths[IN_RUNNING_MEAN], 0,
         "train: to be updated; infer and frozen: to be used", "FILE"},
        {"running-var", 0, POPT_ARG_STRING, &o->paths[IN_RUNNING_VAR], 0, "the variance that goes with it", "FILE"},
        {"eps", 0, POPT_ARG_STRING, &t.eps, 0, "added to the variance (1e-5)", "E"},
        {"momentum", 0, POPT_ARG_STRING, &t.momentum, 0, "train: new = (1 - M) old + M batch (0.1)", "M"},
        {"variance", 0, POPT_ARG_STRING, &t.variance, 0,
         "train: what running-var takes: biased (the default) or unbiased", "KIND"},
        {"average", 0, POPT_ARG_STRING, &t.average, 0,
         "train: exponential (the default) or cumulative, which needs --count", "KIND"},
        {"count", 0, POPT_ARG_STRING, &t.count, 0, "train: batches that a cumulative average holds so far", "K"},
        {"frozen", 0, POPT_ARG_NONE, &t.frozen, 0, "backward: the running statistics are constants", NULL},
        {"device", 0, POPT_ARG_STRING, &o->device, 0, "auto (the default), cpu, opencl, opencl:P.D or part of a name",
         "DEVICE"},
        {"out", 0, POPT_ARG_STRING, &o->out, 0,
         "directory for y, mean, var, rstd, running_*, sum, or dx, dweight, dbias, dz (.npy)", "DIR"},
        POPT_TABLEEND};
    bool ok = cli_parse(self, table, argc, argv, exit_code);
    if (ok && !(parse_typed(o, self, &t) && check_together(o, self, &t))) {
        *exit_code = CLI_USAGE;
        ok = false;
    }
    norm_typed_free(&t.norm);
    fusion_typed_free(&t.fusion);
    char *strings[] = {t.mode, t.layout, t.eps, t.momentum, t.variance, t.average, t.count};
    for (size_t i = 0; i < sizeof strings / sizeof *strings; i++)
        free(strings[i]);
    return ok;
}

void run_options_free(struct run_options *o)
{
    for (int i = 0; i < RUN_INPUTS; i++)
        free(o->paths[i]);
    free(o->device);
    free(o->out);
    memset(o, 0, sizeof *o);
}
