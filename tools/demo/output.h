/* What the demo leaves in its folder: tables (CSV), pictures (SVG and PNG by gnuplot) and one page (report.html). Each file
 * is written under another name first, so it is whole or absent; the page comes last. */
#ifndef CLNORM_DEMO_OUTPUT_H
#define CLNORM_DEMO_OUTPUT_H

#include "cli.h"
#include "data.h"
#include "training.h"

struct output {
    const struct cli_command *command; /* who complains */
    const char *directory;
    const char *subject; /* the data, in a few words */
    const struct data *data;
    const struct experiment *experiment;
    const clnorm_device_info *device;
    const char *linear; /* what multiplied the matrices */
    double seconds;     /* of the whole experiment */
};

/* False if gnuplot cannot be run; one line says so on stderr. */
bool pictures_possible(const struct cli_command *command);

/* Each is false after one line on stderr. */
bool output_tables(const struct output *o);
bool output_pictures(const struct output *o);
bool output_report(const struct output *o);

/* DIR/name with the text that write prints. */
bool output_file(const struct output *o, const char *name, void (*write)(FILE *stream, const struct output *o));
/* The path of a file in the folder; to be freed. NULL: out of memory. */
char *output_path(const struct output *o, const char *name, const char *suffix);

#endif
