#include "tuning.h"

#include "base/status.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* First match wins; NULL matches all. Rows of single devices (device: part of the name) come before the defaults of their class. A CPU
 * runs a work-item as a loop over long vectors, so one work-item a group; a GPU wants neighbouring work-items on neighbouring
 * addresses. rusticl's llvmpipe is a CPU that runs work-items as lanes. */
static const struct {
    clnorm_device_class kind;
    const char *vendor, *platform, *device;
    struct cln_tuning tuning;
} rows[] = {
    {CLNORM_CLASS_CPU, NULL, "rusticl", NULL, {4, 64, 1, 4, 64, 16, 1, 64, 1024, 2}},
    {CLNORM_CLASS_CPU, NULL, NULL, NULL, {16, 1, 64, 16, 1, 1, 64, 16, 8192, 4}},
    {CLNORM_CLASS_GPU, "NVIDIA", NULL, NULL, {4, 256, 1, 2, 256, 32, 1, 64, 128, 8}},
    {CLNORM_CLASS_GPU, "Advanced Micro Devices", NULL, NULL, {4, 256, 1, 2, 256, 32, 1, 64, 128, 8}},
    {CLNORM_CLASS_GPU, "Intel", NULL, NULL, {4, 128, 1, 2, 128, 16, 1, 64, 64, 8}},
    {CLNORM_CLASS_GPU, "ARM", NULL, NULL, {4, 64, 1, 2, 64, 16, 1, 64, 64, 4}},
    {CLNORM_CLASS_GPU, NULL, NULL, NULL, {4, 64, 1, 2, 64, 16, 1, 64, 64, 8}},
    {CLNORM_CLASS_ACCELERATOR, NULL, NULL, NULL, {4, 64, 1, 2, 64, 16, 1, 64, 64, 4}},
};

/* So much of a path is shown that there is room for why an entry is ignored. */
#define SHOWN_PATH 340

static int matches(const char *part, const char *name)
{
    return !part || strstr(name, part) != NULL;
}

static void choose_row(const clnorm_device_info *info, const char *vendor, struct cln_tuning *tuning)
{
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (rows[i].kind == info->kind && matches(rows[i].vendor, vendor) &&
            matches(rows[i].platform, info->platform) && matches(rows[i].device, info->name)) {
            *tuning = rows[i].tuning;
            break;
        }
    }
    cln_tuning_fit(info, tuning);
}

clnorm_status cln_tuning_choose(clnorm_device_info *info, const char *vendor, struct cln_tuning *tuning)
{
    char path[4096] = "", why[CLN_TUNING_WHY];
    const char *text = getenv("CLNORM_TUNING");
    int by_default = text && !strcmp(text, "default");
    enum cln_entry entry = CLN_ENTRY_NONE;
    if (text && *text && !by_default) {
        if (!cln_tuning_parse(text, info, tuning, why))
            return cln_fail(
                CLNORM_E_ENUM,
                "CLNORM_TUNING is \"%.200s\" but must be \"default\" or like \"segments w4 g64 s1 columns w4 "
                "g64 l16 s1 groups g64 fused 64 waves 8\": %s",
                text, why);
        snprintf(info->tuning_source, sizeof info->tuning_source, "environment");
    } else {
        if (!by_default)
            entry = cln_entry_read(info, tuning, path, sizeof path, why);
        if (entry == CLN_ENTRY_READ) {
            snprintf(info->tuning_source, sizeof info->tuning_source, "tuned, %.*s", SHOWN_PATH, path);
        } else {
            choose_row(info, vendor, tuning);
            if (entry == CLN_ENTRY_BAD)
                snprintf(info->tuning_source, sizeof info->tuning_source, "table; %.*s is ignored: %s", SHOWN_PATH,
                         path, why);
            else
                snprintf(info->tuning_source, sizeof info->tuning_source, "table");
        }
    }
    cln_tuning_format(tuning, info->tuning, sizeof info->tuning);
    return CLNORM_OK;
}
