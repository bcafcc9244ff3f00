/* What every subcommand of `clnorm` shares: options by popt, errors as one line on stderr, files that are whole or absent. */
#ifndef CLNORM_TOOLS_CLI_H
#define CLNORM_TOOLS_CLI_H

#include <clnorm/clnorm.h>
#include <popt.h>
#include <stdbool.h>
#include <stdio.h>

/* Exit codes of the program. */
enum { CLI_OK = 0, CLI_FAILED = 1, CLI_USAGE = 2 };

struct cli_command {
    const char *name;    /* "run", or "demo covariate-shift" */
    const char *summary; /* one line for the list of subcommands */
    const char *example; /* a command line that works, shown by --help */
    int (*run)(const struct cli_command *self, int argc, const char **argv); /* argv[0] is the name; -> exit code */
};

/* Every subcommand, ended by a NULL name (tools/main.c). */
extern const struct cli_command cli_commands[];

/* Parses argv by the options (which end in POPT_TABLEEND; --help is added). Options may not repeat nothing but values
 * the table says; operands are refused. Returns true to go on; false to return *exit_code at once (after --help or a
 * usage error, which has been told in one line). */
bool cli_parse(const struct cli_command *self, struct poptOption *options, int argc, const char **argv, int *exit_code);

/* Prints "clnorm NAME: text\n" on stderr (one line; line breaks in text become spaces) and returns CLI_USAGE. */
int cli_error(const struct cli_command *self, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* The same for a failed library call, with clnorm_last_error(): CLI_USAGE for an argument error, else CLI_FAILED. */
int cli_status(const struct cli_command *self, clnorm_status status, const char *what);

/* A file written beside its target under a temporary name. cli_file_commit renames it; NULL or false: errno says why, and
 * nothing is left behind. */
struct cli_file {
    FILE *stream;
    char *path, *temporary;
};
bool cli_file_begin(struct cli_file *file, const char *path);
bool cli_file_commit(struct cli_file *file);
void cli_file_abandon(struct cli_file *file);

/* Makes the directory and its parents. false: errno says why. */
bool cli_make_directory(const char *path);

#endif
