/* clnorm parity: every case on every device, against the fp64 reference and against the CPU path. */
#ifndef CLNORM_TOOLS_PARITY_H
#define CLNORM_TOOLS_PARITY_H

#include "cases.h"
#include "cli.h"
#include "fusion_options.h"
#include "norm_options.h"

#include <jansson.h>

struct parity_device {
    clnorm_device *device;
    clnorm_device_info info;
    struct case_result *results; /* one a case */
    size_t passed;
    double ms; /* of all calls */
};

struct parity {
    enum case_suite suite;
    const struct clnorm_case **cases; /* those selected */
    size_t case_count;
    struct parity_device *devices;
    size_t device_count;
    clnorm_device *cpu;                     /* what the others are compared with */
    const struct case_injection *injection; /* NULL: none */
};

/* Which cases, as it was typed; NULL: any. */
struct parity_selection {
    struct norm_typed norm;
    struct fusion_typed fusion;
    char *part;
    int from_y;  /* only backward from y */
    int lengths; /* only samples with lengths */
};

/* Eleven rows of a table of options. */
#define PARITY_SELECTION_OPTIONS(selection)                                                                             \
    {                                                                                                                   \
        "norm",                                                                                                         \
        0,                                                                                                              \
        POPT_ARG_STRING,                                                                                                \
        &(selection)->norm.norm,                                                                                        \
        0,                                                                                                              \
        "batch, layer, group, instance, rms or all (the default)",                                                      \
        "NORM"},                                                                                                        \
        {"groups", 0, POPT_ARG_STRING, &(selection)->norm.groups, 0, "only group norms of so many groups", "G"},        \
        {"from-y", 0, POPT_ARG_NONE, &(selection)->from_y, 0, "only cases of a backward from y", NULL},                 \
        {"lengths", 0, POPT_ARG_NONE, &(selection)->lengths, 0, "only cases of samples with lengths", NULL},            \
        {"normalized-dims",                                                                                             \
         0,                                                                                                             \
         POPT_ARG_STRING,                                                                                               \
         &(selection)->norm.dims,                                                                                       \
         0,                                                                                                             \
         "only layer and RMS norms over so many dimensions",                                                            \
         "K"},                                                                                                          \
        {"dtype", 0, POPT_ARG_STRING, &(selection)->fusion.dtype, 0, "only cases whose x is f32, f16 or bf16", "TYPE"}, \
        {"y-dtype", 0, POPT_ARG_STRING, &(selection)->fusion.y_dtype, 0, "only cases whose y is f32, f16 or bf16",      \
         "TYPE"},                                                                                                       \
        {"act",                                                                                                         \
         0,                                                                                                             \
         POPT_ARG_STRING,                                                                                               \
         &(selection)->fusion.act,                                                                                      \
         0,                                                                                                             \
         "only cases with this activation: none, relu, leaky, gelu or silu",                                            \
         "NAME"},                                                                                                       \
        {"slope", 0, POPT_ARG_STRING, &(selection)->fusion.slope, 0, "only cases of leaky with this slope below 0",     \
         "S"},                                                                                                          \
        {"residual",                                                                                                    \
         0,                                                                                                             \
         POPT_ARG_STRING,                                                                                               \
         &(selection)->fusion.residual,                                                                                 \
         0,                                                                                                             \
         "only cases that add z so: none, after or before",                                                             \
         "PLACE"},                                                                                                      \
    {                                                                                                                   \
        "case", 0, POPT_ARG_STRING, &(selection)->part, 0,                                                              \
            "only cases whose name has this part, or the one of this name", "PART"                                      \
    }

/* select.c: the cases of p->suite that are selected. -> exit code; errors are told, none at all is one. */
int parity_select(struct parity *p, const struct cli_command *self, const struct parity_selection *selection);
void parity_selection_free(struct parity_selection *selection);

/* devices.c: opens those of the list (separated by commas; "all": every one), each once. -> exit code; errors are told. */
int parity_open(struct parity *p, const struct cli_command *self, const char *list);
void parity_close(struct parity *p);

/* compare.c: runs all cases on all devices. false: out of memory. */
bool parity_compare(struct parity *p);
/* The case with the largest error of an output, by tolerance or (against_cpu) by the distance to the CPU path; NO_CASE: none has it. */
#define NO_CASE SIZE_MAX
size_t parity_worst(const struct parity *p, const struct parity_device *d, enum case_output output, bool against_cpu);
size_t parity_passed(const struct parity *p);

/* table.c, json.c, html.c. NULL or false: out of memory, or a file that cannot be written. */
void parity_print(const struct parity *p);
json_t *parity_json(const struct parity *p);
bool parity_html(const json_t *root, FILE *stream);

#endif
