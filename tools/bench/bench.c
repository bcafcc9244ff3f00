#include "commands.h"

int cmd_bench(const struct cli_command *self, int argc, const char **argv)
{
    (void)argc, (void)argv;
    return cli_error(self, "being written");
}
