#include "row.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const texts[TUNE_FIELDS] = {
#define TEXT(name, text) text,
    TUNE_FIELD_LIST(TEXT)
#undef TEXT
};

bool tune_row_read(const char *text, struct tune_row *row)
{
    for (int i = 0; i < TUNE_FIELDS; i++) {
        size_t length = strlen(texts[i]);
        if (strncmp(text, texts[i], length) != 0)
            return false;
        text += length;
        length = strspn(text, "0123456789");
        if (length == 0 || length > 9)
            return false;
        row->numbers[i] = (uint32_t)strtoul(text, NULL, 10);
        text += length;
    }
    return !*text;
}

void tune_row_print(const struct tune_row *row, char text[160])
{
    size_t used = 0;
    for (int i = 0; i < TUNE_FIELDS && used < 160; i++)
        used += (size_t)snprintf(text + used, 160 - used, "%s%" PRIu32, texts[i], row->numbers[i]);
}

void tune_row_print_table(const struct tune_row *row, char text[160])
{
    size_t used = 0;
    for (int i = 0; i < TUNE_FIELDS && used < 160; i++)
        used += (size_t)snprintf(text + used, 160 - used, "%s%" PRIu32 "%s", i ? ", " : "{", row->numbers[i],
                                 i == TUNE_FIELDS - 1 ? "}" : "");
}

#define COUNT(values) (sizeof(values) / sizeof(values)[0])
#define BOTH          (TUNE_SEGMENTS | TUNE_COLUMNS)

static const uint32_t kibs[][2] = {{0}, {32}, {64}, {128}, {256}, {512}, {1024}, {2048}, {4096}, {8192}, {16384}};
static const uint32_t waves[][2] = {{1}, {2}, {4}, {8}, {16}, {32}};
static const uint32_t widths[][2] = {{1}, {2}, {4}, {8}, {16}};
static const uint32_t spans[][2] = {{1}, {4}, {8}, {16}, {32}, {64}};
static const uint32_t finishers[][2] = {{16}, {64}, {256}};
/* A CPU wants few work-items in a group, a GPU many. */
static const uint32_t cpu_groups[][2] = {{1}, {4}, {16}, {64}};
static const uint32_t gpu_groups[][2] = {{32}, {64}, {128}, {256}, {512}};
static const uint32_t cpu_tiles[][2] = {{1, 1}, {4, 4}, {16, 16}, {64, 16}, {64, 64}};
static const uint32_t gpu_tiles[][2] = {{64, 16},  {64, 32},  {64, 64},  {128, 16}, {128, 32},
                                        {256, 16}, {256, 32}, {256, 64}, {512, 32}};

#define AXIS(name, field, families, values)                                                                            \
    {                                                                                                                  \
        name, {TUNE_##field, TUNE_##field}, 1, families, COUNT(values), values                                         \
    }
#define AXES(groups, tiles)                                                                                            \
    {                                                                                                                  \
        AXIS("fused", FUSED, BOTH, kibs), AXIS("waves", WAVES, BOTH, waves),                                           \
            AXIS("segments s", SEGMENTS_SPAN, TUNE_SEGMENTS, spans),                                                   \
            AXIS("columns s", COLUMNS_SPAN, TUNE_COLUMNS, spans),                                                      \
            AXIS("segments w", SEGMENTS_WIDTH, TUNE_SEGMENTS, widths),                                                 \
            AXIS("columns w", COLUMNS_WIDTH, TUNE_COLUMNS, widths),                                                    \
            AXIS("segments g", SEGMENTS_GROUP, TUNE_SEGMENTS, groups),                                                 \
            {"columns g l", {TUNE_COLUMNS_GROUP, TUNE_COLUMNS_LANES}, 2, TUNE_COLUMNS, COUNT(tiles), tiles},           \
            AXIS("groups g", GROUPS_GROUP, BOTH, finishers),                                                           \
    }

static const struct tune_axis cpu_axes[] = AXES(cpu_groups, cpu_tiles);
static const struct tune_axis gpu_axes[] = AXES(gpu_groups, gpu_tiles);

size_t tune_axes(clnorm_device_class kind, const struct tune_axis **axes)
{
    *axes = kind == CLNORM_CLASS_CPU ? cpu_axes : gpu_axes;
    return COUNT(cpu_axes);
}

/* In doublings. */
static double distance(const struct tune_axis *axis, const struct tune_row *row, const uint32_t values[2])
{
    double sum = 0;
    for (size_t k = 0; k < axis->field_count; k++)
        sum += fabs(log2(fmax(values[k], 0.5)) - log2(fmax(row->numbers[axis->fields[k]], 0.5)));
    return sum;
}

bool tune_candidate(const struct tune_axis *axis, const struct tune_row *row, size_t rank, struct tune_row *candidate)
{
    for (size_t i = 0; i < axis->count; i++) {
        double mine = distance(axis, row, axis->values[i]);
        size_t nearer = 0;
        for (size_t j = 0; j < axis->count; j++) {
            double other = distance(axis, row, axis->values[j]);
            nearer += other > 0 && (other < mine || (other == mine && j < i));
        }
        if (mine > 0 && nearer == rank) {
            *candidate = *row;
            for (size_t k = 0; k < axis->field_count; k++)
                candidate->numbers[axis->fields[k]] = axis->values[i][k];
            return true;
        }
    }
    return false;
}

void tune_axis_print(const struct tune_axis *axis, const struct tune_row *row, char text[32])
{
    int used = snprintf(text, 32, "%" PRIu32, row->numbers[axis->fields[0]]);
    if (axis->field_count == 2)
        snprintf(text + used, 32 - (size_t)used, " %" PRIu32, row->numbers[axis->fields[1]]);
}
