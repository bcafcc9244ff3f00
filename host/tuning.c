#include "tuning.h"

#include "base/status.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* First match wins; NULL matches all. A CPU runs a work-item as a loop over long vectors, so one work-item a group; a GPU
 * wants neighbouring work-items on neighbouring addresses. rusticl's llvmpipe is a CPU that runs work-items as lanes. */
static const struct {
    clnorm_device_class kind;
    const char *vendor, *platform;
    struct cln_tuning tuning;
} rows[] = {
    {CLNORM_CLASS_CPU, NULL, "rusticl", {4, 64, 1, 4, 64, 16, 1, 64, 1024, 2}},
    {CLNORM_CLASS_CPU, NULL, NULL, {16, 1, 64, 16, 1, 1, 64, 16, 8192, 4}},
    {CLNORM_CLASS_GPU, "NVIDIA", NULL, {4, 256, 1, 2, 256, 32, 1, 64, 128, 8}},
    {CLNORM_CLASS_GPU, "Advanced Micro Devices", NULL, {4, 256, 1, 2, 256, 32, 1, 64, 128, 8}},
    {CLNORM_CLASS_GPU, "Intel", NULL, {4, 128, 1, 2, 128, 16, 1, 64, 64, 8}},
    {CLNORM_CLASS_GPU, "ARM", NULL, {4, 64, 1, 2, 64, 16, 1, 64, 64, 4}},
    {CLNORM_CLASS_GPU, NULL, NULL, {4, 64, 1, 2, 64, 16, 1, 64, 64, 8}},
    {CLNORM_CLASS_ACCELERATOR, NULL, NULL, {4, 64, 1, 2, 64, 16, 1, 64, 64, 4}},
};

#define ROW_FORMAT "segments w%u g%u s%u columns w%u g%u l%u s%u groups g%u fused %u waves %u"

void cln_tuning_format(const struct cln_tuning *t, char *text, size_t size)
{
    snprintf(text, size, ROW_FORMAT, t->segments_width, t->segments_group, t->segments_span, t->columns_width,
             t->columns_group, t->columns_lanes, t->columns_span, t->groups_group, t->fused_kib, t->waves);
}

static int power_of_two(uint32_t n, uint32_t most)
{
    return n >= 1 && n <= most && (n & (n - 1)) == 0;
}

static int valid(const struct cln_tuning *t, uint32_t most_group)
{
    return power_of_two(t->segments_width, 16) && power_of_two(t->columns_width, 16) &&
           power_of_two(t->segments_group, most_group) && power_of_two(t->columns_group, most_group) &&
           power_of_two(t->columns_lanes, t->columns_group) && power_of_two(t->groups_group, most_group) &&
           power_of_two(t->segments_span, 64) && power_of_two(t->columns_span, 64) && t->fused_kib <= 1u << 20 &&
           t->waves >= 1 && t->waves <= 1024;
}

static clnorm_status parse(const char *text, uint32_t most_group, struct cln_tuning *t)
{
    int end = 0;
    int fields = sscanf(text, ROW_FORMAT "%n", &t->segments_width, &t->segments_group, &t->segments_span,
                        &t->columns_width, &t->columns_group, &t->columns_lanes, &t->columns_span, &t->groups_group,
                        &t->fused_kib, &t->waves, &end);
    if (fields != 10 || text[end] || !valid(t, most_group))
        return cln_fail(CLNORM_E_ENUM,
                        "CLNORM_TUNING is \"%s\" but must be like \"segments w4 g64 s1 columns w4 g64 l16 s1 groups "
                        "g64 fused 64 waves 8\", "
                        "widths up to 16, work-groups up to %u, spans up to 64, all but fused and waves powers of two",
                        text, most_group);
    return CLNORM_OK;
}

clnorm_status cln_tuning_choose(const clnorm_device_info *info, const char *vendor, struct cln_tuning *tuning)
{
    uint32_t most_group = info->work_group_size ? info->work_group_size : 1;
    const char *text = getenv("CLNORM_TUNING");
    if (text && *text)
        return parse(text, most_group, tuning);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (rows[i].kind == info->kind && (!rows[i].vendor || strstr(vendor, rows[i].vendor)) &&
            (!rows[i].platform || strstr(info->platform, rows[i].platform))) {
            *tuning = rows[i].tuning;
            break;
        }
    }
    /* A lane of the widest reduction keeps 96 bytes at width 4 (docs/design.md). */
    uint32_t *groups[] = {&tuning->segments_group, &tuning->columns_group, &tuning->groups_group};
    for (size_t i = 0; i < 3; i++) {
        while (*groups[i] > 1 && (*groups[i] > most_group || *groups[i] * 96ull > info->local_memory))
            *groups[i] /= 2;
    }
    if (tuning->columns_lanes > tuning->columns_group)
        tuning->columns_lanes = tuning->columns_group;
    return CLNORM_OK;
}
