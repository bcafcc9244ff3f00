/* Rows of the tuning table as the library prints them, and what a search tries of each number. The library checks rows; this
 * knows their fields only by the text before them, and refuses rows with other ones. */
#ifndef CLNORM_TUNE_ROW_H
#define CLNORM_TUNE_ROW_H

#include <clnorm/clnorm.h>
#include <stdbool.h>
#include <stddef.h>

/* Every field, in the order of a row: X(NAME, text before the number). */
#define TUNE_FIELD_LIST(FIELD)                                                                                         \
    FIELD(SEGMENTS_WIDTH, "segments w")                                                                                \
    FIELD(SEGMENTS_GROUP, " g")                                                                                        \
    FIELD(SEGMENTS_SPAN, " s")                                                                                         \
    FIELD(COLUMNS_WIDTH, " columns w")                                                                                 \
    FIELD(COLUMNS_GROUP, " g")                                                                                         \
    FIELD(COLUMNS_LANES, " l")                                                                                         \
    FIELD(COLUMNS_SPAN, " s")                                                                                          \
    FIELD(GROUPS_GROUP, " groups g")                                                                                   \
    FIELD(FUSED, " fused ")                                                                                            \
    FIELD(WAVES, " waves ")

enum tune_field {
#define TUNE_FIELD_ENUM(name, text) TUNE_##name,
    TUNE_FIELD_LIST(TUNE_FIELD_ENUM)
#undef TUNE_FIELD_ENUM
        TUNE_FIELDS
};

struct tune_row {
    uint32_t numbers[TUNE_FIELDS];
};

/* false: the text is not of exactly these fields. */
bool tune_row_read(const char *text, struct tune_row *row);
void tune_row_print(const struct tune_row *row, char text[160]);
/* "{4, 64, 1, …}": as in host/tuning.c */
void tune_row_print_table(const struct tune_row *row, char text[160]);

enum tune_family { TUNE_SEGMENTS = 1, TUNE_COLUMNS = 2 };

/* What is changed at a time: one field, or two that go together. */
struct tune_axis {
    const char *name;
    enum tune_field fields[2];
    size_t field_count;
    unsigned families; /* which cases it makes a difference to */
    size_t count;
    const uint32_t (*values)[2];
};

/* The axes for a class of device. The first TUNE_LAUNCH_AXES are of numbers that no program is built for. */
enum { TUNE_LAUNCH_AXES = 2 };
size_t tune_axes(clnorm_device_class kind, const struct tune_axis **axes);
/* The candidate that is the rank-th nearest to the row (0: the nearest other one). false: there are no more. */
bool tune_candidate(const struct tune_axis *axis, const struct tune_row *row, size_t rank, struct tune_row *candidate);
/* "8192", or "64 16" of two fields */
void tune_axis_print(const struct tune_axis *axis, const struct tune_row *row, char text[32]);

#endif
