/* The launch shape of each kind of device: a row of numbers, chosen by class, then by vendor. */
#ifndef CLNORM_HOST_TUNING_H
#define CLNORM_HOST_TUNING_H

#include <clnorm/clnorm.h>

struct cln_tuning {
    uint32_t segments_width, segments_group; /* vector width (elements), work-group size */
    uint32_t segments_span;                  /* most neighbouring groups that a work-item takes */
    uint32_t columns_width, columns_group;
    uint32_t columns_lanes; /* most work-items of a work-group along a row */
    uint32_t columns_span;  /* most vectors of a row that a work-item takes */
    uint32_t groups_group;  /* work-group size of the kernels with one value a group */
    uint32_t fused_kib;     /* inputs that a work-group of a fused kernel finds in the cache when it reads them again */
    uint32_t waves;         /* work-groups wanted per compute unit */
};

/* The row for a device, cut down to what it can hold; CLNORM_TUNING in the environment (a row in the form that
 * cln_tuning_format writes) has precedence. -> CLNORM_E_ENUM if that text is no row. */
clnorm_status cln_tuning_choose(const clnorm_device_info *info, const char *vendor, struct cln_tuning *tuning);
/* "segments w16 g1 s64 columns w16 g1 l1 s64 groups g16 fused 4096 waves 4" */
void cln_tuning_format(const struct cln_tuning *tuning, char *text, size_t size);

#endif
