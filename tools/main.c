/* clnorm: the command-line program. Each subcommand lives in a file of its own. */
#include "commands.h"

#include <string.h>

const struct cli_command cli_commands[] = {
    {"devices", "list every device and what matters here", "clnorm devices --json", cmd_devices},
    {"run", "run one norm on .npy files", "clnorm run --mode train --layout nc --x x.npy --out result", cmd_run},
    {"parity", "compare every device with the fp64 reference and with the CPU path",
     "clnorm parity --devices all --suite short --html parity.html", cmd_parity},
    {"gradcheck", "check the gradients by central differences", "clnorm gradcheck --device cpu", cmd_gradcheck},
    {"bench", "time every mode against the limit of this machine's memory",
     "clnorm bench --device cpu --shapes bench/shapes/resnet50.txt --json bench.json", cmd_bench},
    {"tune", "find the launch shape that is fastest on a device, for later runs to take",
     "clnorm tune --device opencl --seconds 60", cmd_tune},
    {"explain", "tell what a device would run for a shape, why, and what it moves",
     "clnorm explain --device cpu --layout ncs --shape 32x64x56x56", cmd_explain},
    {"demo", "covariate-shift: train a network with and without batch norm",
     "clnorm demo covariate-shift --data digits --out report", cmd_demo},
    {NULL, NULL, NULL, NULL}};

static void print_usage(FILE *stream)
{
    fprintf(stream, "usage: clnorm SUBCOMMAND [options]\n\nsubcommands:\n");
    for (const struct cli_command *c = cli_commands; c->name; c++)
        fprintf(stream, "  %-10s %s\n", c->name, c->summary);
    fprintf(stream, "\nclnorm SUBCOMMAND --help shows its options and an example; clnorm --version the version.\n");
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        fprintf(stderr, "clnorm: a subcommand is missing (try clnorm --help)\n");
        return CLI_USAGE;
    }
    if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h")) {
        print_usage(stdout);
        return CLI_OK;
    }
    if (!strcmp(argv[1], "--version")) {
        printf("clnorm %s\n", clnorm_version());
        return CLI_OK;
    }
    for (const struct cli_command *c = cli_commands; c->name; c++) {
        if (!strcmp(argv[1], c->name))
            return c->run(c, argc - 1, (const char **)argv + 1);
    }
    fprintf(stderr, "clnorm: %s: no such subcommand (try clnorm --help)\n", argv[1]);
    return CLI_USAGE;
}
