/* The names of modes, data and outputs, and the rule by which a case's name is made of its fields. */
#include "cases.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const char *const norm_names[] = {"batch", "layer", "group", "instance", "rms"};
static const char *const layout_names[] = {"nc", "ncs", "nsc"};
static const char *const mode_names[CASE_MODES] = {
    "train",         "infer",          "backward", "backward-frozen", "backward-given",
    "steps-forward", "steps-backward", "double",   "double-frozen",   "double-given"};
static const char *const affine_names[CASE_AFFINES] = {NULL, "nobias", "noweight", "noaffine"};
static const char *const data_names[CASE_DATA_KINDS] = {"normal",           "mean1e2",          "mean1e4",
                                                        "mean1e6",          "mean1e4-std1e-2",  "mean1e6-std1e-2",
                                                        "steps-at-40000",   "outlier1e4-first", "outlier1e4-middle",
                                                        "outlier1e4-last",  "outlier1e8-first", "outlier1e8-middle",
                                                        "outlier1e8-last",  "alternating1e4",   "skewed",
                                                        "sparse",           "tiny1e-20",        "huge1e17",
                                                        "constant1234.567", "constant0.1",      "constant1e6",
                                                        "exact-integers",   "dy-mean1e4",       "nan-first",
                                                        "nan-last",         "inf-middle",       "nan-dy"};
static const char *const output_names[CASE_OUTPUTS] = {"y",
                                                       "mean",
                                                       "var",
                                                       "rstd",
                                                       "running_mean",
                                                       "running_var",
                                                       "dx",
                                                       "dweight",
                                                       "dbias",
                                                       "statistics_count",
                                                       "statistics_mean",
                                                       "statistics_var",
                                                       "sums_count",
                                                       "sums_dy",
                                                       "sums_dy_xhat",
                                                       "sum",
                                                       "dz",
                                                       "g_x",
                                                       "g_dy",
                                                       "g_weight"};
static const char *const dtype_names[] = {"f32", "f16", "bf16"};
static const char *const activation_names[] = {"none", "relu", "leaky", "gelu", "silu"};
static const char *const lengths_names[CASE_LENGTHS_KINDS] = {"none", "ragged", "whole", "empty", "outside"};
static const char *const residual_names[] = {"none", "after", "before"};
static const char *const gradient_names[] = {"dx", "dweight", "dbias", "dz"}; /* bits of accumulate */

const char *case_norm_name(clnorm_norm norm)
{
    return norm_names[norm];
}

const char *case_dtype_name(clnorm_dtype dtype)
{
    return dtype_names[dtype];
}

const char *case_activation_name(clnorm_activation activation)
{
    return activation_names[activation];
}

const char *case_residual_name(clnorm_residual residual)
{
    return residual_names[residual];
}

const char *case_lengths_name(enum case_lengths lengths)
{
    return lengths_names[lengths];
}

const char *case_mode_name(enum case_mode mode)
{
    return mode_names[mode];
}

const char *case_data_name(enum case_data data)
{
    return data_names[data];
}

const char *case_output_name(enum case_output output)
{
    return output_names[output];
}

bool case_output_parse(const char *name, enum case_output *output)
{
    for (int o = 0; o < CASE_OUTPUTS; o++) {
        if (!strcmp(name, output_names[o])) {
            *output = (enum case_output)o;
            return true;
        }
    }
    return false;
}

size_t case_elements(const struct clnorm_case *c)
{
    size_t elements = (size_t)c->n * (size_t)c->c;
    for (int32_t d = 0; d < c->spatial_dims; d++)
        elements *= (size_t)c->spatial[d];
    return elements;
}

static void add(struct clnorm_case *c, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void add(struct clnorm_case *c, const char *format, ...)
{
    size_t used = strlen(c->name);
    va_list list;
    va_start(list, format);
    vsnprintf(c->name + used, sizeof c->name - used, format, list);
    va_end(list);
}

static void add_head(struct clnorm_case *c)
{
    const struct clnorm_case plain = CLNORM_CASE_INIT;
    if (c->dtype != plain.dtype || c->y_dtype != plain.y_dtype)
        add(c, "%s_", dtype_names[c->dtype]);
    if (c->y_dtype != c->dtype)
        add(c, "%s_", dtype_names[c->y_dtype]);
    if (c->residual == CLNORM_RESIDUAL_BEFORE)
        add(c, "before_");
    if (c->norm == CLNORM_GROUP)
        add(c, "group%" PRId64 "_", c->groups);
    else if (c->norm != CLNORM_BATCH)
        add(c, "%s_", norm_names[c->norm]);
    if (c->residual == CLNORM_RESIDUAL_AFTER)
        add(c, "after_");
    if (c->activation != CLNORM_NO_ACTIVATION)
        add(c, "%s", activation_names[c->activation]);
    if (c->activation == CLNORM_LEAKY_RELU && c->slope != plain.slope)
        add(c, "%g", (double)c->slope);
    if (c->activation != CLNORM_NO_ACTIVATION)
        add(c, "_");
}

void case_set_name(struct clnorm_case *c)
{
    static const char *const sum_places[] = {"", "_sum-over-x", "_sum-over-z"};
    const struct clnorm_case plain = CLNORM_CASE_INIT;
    c->name[0] = '\0';
    add_head(c);
    add(c, "%s_%s", layout_names[c->layout], mode_names[c->mode]);
    if (affine_names[c->affine])
        add(c, "_%s", affine_names[c->affine]);
    add(c, "_n%" PRId64 "c%" PRId64, c->n, c->c);
    for (int32_t d = 0; d < c->spatial_dims; d++)
        add(c, "%c%" PRId64, d == 0 ? 's' : 'x', c->spatial[d]);
    if (c->normalized_dims && c->spatial_dims)
        add(c, "_dims%" PRId32, c->normalized_dims);
    if (c->plan_n != c->n)
        add(c, "_last-partial-batch-of-%" PRId64, c->plan_n);
    if (c->virtual_batch)
        add(c, "_virtual%" PRId64, c->virtual_batch);
    if (c->lengths)
        add(c, "_lengths-%s", lengths_names[c->lengths]);
    add(c, "_%s", data_names[c->data]);
    if (c->in_place)
        add(c, "_inplace");
    if (c->offset)
        add(c, "_offset%zu", c->offset);
    if (c->parts > 1)
        add(c, "_parts%" PRIu32, c->parts);
    if (c->running.variance == CLNORM_UNBIASED)
        add(c, "_unbiased");
    if (c->running.average == CLNORM_CUMULATIVE)
        add(c, "_cumulative%" PRIu64, c->running.count);
    else if (c->running.momentum != plain.running.momentum)
        add(c, "_momentum%g", (double)c->running.momentum);
    if (c->running.guard == CLNORM_GUARD_FINITE)
        add(c, "_guard");
    if (c->eps != plain.eps)
        add(c, "_eps%g", (double)c->eps);
    for (int o = 0, first = 1; o < CASE_OUTPUTS; o++) {
        if (c->omit & CASE_BIT(o)) {
            add(c, "%s%s", first ? "_without-" : "-", output_names[o]);
            first = 0;
        }
    }
    add(c, "%s", sum_places[c->sum]);
    if (c->by)
        add(c, c->by == CASE_BY_Y ? "_by-y" : "_by-mask");
    if (c->from_y)
        add(c, "_from-y");
    if (c->bias_ratio > 0)
        add(c, "_bias-by-weight%g", (double)c->bias_ratio);
    for (uint32_t k = 0, first = 1; k < sizeof gradient_names / sizeof *gradient_names; k++) {
        if (c->accumulate >> k & 1) {
            add(c, "%s%s", first ? "_add-" : "-", gradient_names[k]);
            first = 0;
        }
    }
    if (c->seed != plain.seed)
        add(c, "_seed%" PRIu64, c->seed);
}
