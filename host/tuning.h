/* The launch shape of each device: a row of numbers, from the environment, the user's own entry or the table. */
#ifndef CLNORM_HOST_TUNING_H
#define CLNORM_HOST_TUNING_H

#include <clnorm/clnorm.h>

/* Every field of a row, in the order of its text: X(name, text before the number, what it may be (enum of tuning_row.c)).
 *   width   elements of a vector                     group   work-items of a work-group
 *   span    segments: most neighbouring groups, columns: most vectors of a row, that a work-item takes
 *   lanes   most work-items of a work-group along a row
 *   groups_group  work-group size of the kernels with one value a group
 *   fused_kib     inputs that a work-group of a fused kernel finds in the cache when it reads them again
 *   waves         work-groups wanted per compute unit */
#define CLN_TUNING_LIST(FIELD)                                                                                         \
    FIELD(segments_width, "segments w", WIDTH)                                                                         \
    FIELD(segments_group, " g", GROUP)                                                                                 \
    FIELD(segments_span, " s", SPAN)                                                                                   \
    FIELD(columns_width, " columns w", WIDTH)                                                                          \
    FIELD(columns_group, " g", GROUP)                                                                                  \
    FIELD(columns_lanes, " l", LANES)                                                                                  \
    FIELD(columns_span, " s", SPAN)                                                                                    \
    FIELD(groups_group, " groups g", GROUP)                                                                            \
    FIELD(fused_kib, " fused ", KIB)                                                                                   \
    FIELD(waves, " waves ", WAVES)

struct cln_tuning {
#define CLN_TUNING_MEMBER(name, text, kind) uint32_t name;
    CLN_TUNING_LIST(CLN_TUNING_MEMBER)
#undef CLN_TUNING_MEMBER
};

/* The row for a device, with info->tuning and info->tuning_source: CLNORM_TUNING in the environment, else the user's entry, else the
 * table, cut down to what the device can hold. An entry that does not fit is passed over, and tuning_source says why.
 * -> CLNORM_E_ENUM if CLNORM_TUNING is neither "default" (the table) nor a row that the device can hold. */
clnorm_status cln_tuning_choose(clnorm_device_info *info, const char *vendor, struct cln_tuning *tuning);

/* tuning_row.c: rows as text. "segments w16 g1 s64 columns w16 g1 l1 s64 groups g16 fused 4096 waves 4" */
enum { CLN_TUNING_WHY = 128 };
void cln_tuning_format(const struct cln_tuning *tuning, char *text, size_t size);
/* 0: the text is no row, or the device cannot hold it; why says which number must be what. */
int cln_tuning_parse(const char *text, const clnorm_device_info *info, struct cln_tuning *tuning,
                     char why[CLN_TUNING_WHY]);
/* Halves work-groups until the device can hold them. */
void cln_tuning_fit(const clnorm_device_info *info, struct cln_tuning *tuning);

/* tuning_entry.c: the row that a user keeps for a device (docs/tuning.md). */
enum cln_entry { CLN_ENTRY_NONE, CLN_ENTRY_READ, CLN_ENTRY_BAD };
/* NONE: there is no file. READ: a row. BAD: why says what is wrong. path is set unless it is "". */
enum cln_entry cln_entry_read(const clnorm_device_info *info, struct cln_tuning *tuning, char *path, size_t size,
                              char why[CLN_TUNING_WHY]);
/* Backend's save_tuning: writes or, for NULL, removes the entry. -> E_UNSUPPORTED, E_ENUM, E_FILE. */
clnorm_status cln_entry_save(const clnorm_device *device, const char *row);

#endif
