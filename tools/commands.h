/* The subcommands; argv[0] is the subcommand's name. -> exit code (CLI_…). */
#ifndef CLNORM_TOOLS_COMMANDS_H
#define CLNORM_TOOLS_COMMANDS_H

#include "cli.h"

int cmd_bench(const struct cli_command *self, int argc, const char **argv);
int cmd_demo(const struct cli_command *self, int argc, const char **argv);
int cmd_devices(const struct cli_command *self, int argc, const char **argv);
int cmd_explain(const struct cli_command *self, int argc, const char **argv);
int cmd_gradcheck(const struct cli_command *self, int argc, const char **argv);
int cmd_parity(const struct cli_command *self, int argc, const char **argv);
int cmd_run(const struct cli_command *self, int argc, const char **argv);
int cmd_tune(const struct cli_command *self, int argc, const char **argv);

#endif
