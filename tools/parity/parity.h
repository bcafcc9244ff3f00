/* clnorm parity: every case on every device, against the fp64 reference and against the CPU path. */
#ifndef CLNORM_TOOLS_PARITY_H
#define CLNORM_TOOLS_PARITY_H

#include "cases.h"
#include "cli.h"

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
