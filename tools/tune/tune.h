/* What tune.c and the part that needs OpenCL share. */
#ifndef CLNORM_TUNE_TUNE_H
#define CLNORM_TUNE_TUNE_H

#include "cli.h"

enum tune_action { TUNE_MEASURE, TUNE_EXPORT, TUNE_FORGET };

struct tune_options {
    enum tune_action action;
    int seconds;
    bool quick, dry_run;
};

/* On a device that has a row. -> exit code. */
int tune_act(const struct cli_command *self, clnorm_device *device, const clnorm_device_info *info,
             const struct tune_options *options);

#endif
