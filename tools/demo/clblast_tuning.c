#include "clblast_tuning.h"

#include <clblast_c.h>
#include <string.h>

/* The parameters of CLBlast's kernel Xgemm, in the order of its tuner. */
#define PARAMETERS 16
static const char *const parameters[PARAMETERS] = {"GEMMK", "KREG", "KWG", "KWI", "MDIMA", "MDIMC", "MWG", "NDIMB",
                                                   "NDIMC", "NWG",  "SA",  "SB",  "STRM",  "STRN",  "VWM", "VWN"};

/* What was fastest, of some twenty settings, for the demo's matrices (1400×256×256). On other CPU runtimes, Intel's among them,
 * the kernel's own defaults were as good. */
static const struct {
    const char *platform;
    size_t values[PARAMETERS];
} rows[] = {
    {"Portable Computing Language", {0, 1, 16, 2, 4, 4, 64, 4, 4, 64, 0, 0, 0, 0, 8, 8}},
    {"rusticl", {0, 1, 16, 2, 8, 8, 64, 8, 8, 64, 0, 0, 0, 0, 8, 8}},
};

/* A refusal is no failure: CLBlast then multiplies as it would have. */
static void override(cl_device_id id, const char *kernel, size_t count, const char *const names[],
                     const size_t values[])
{
    const char *copy[PARAMETERS]; /* CLBlast takes pointers to non-const pointers */
    for (size_t i = 0; i < count; i++)
        copy[i] = names[i];
    (void)CLBlastOverrideParameters(id, kernel, CLBlastPrecisionSingle, count, copy, values);
}

void clblast_tune(clnorm_device *device)
{
    static const char *const smallest_indirect[] = {"XGEMM_MIN_INDIRECT_SIZE"};
    static const size_t always[] = {0};
    clnorm_device_info info = CLNORM_DEVICE_INFO_INIT;
    if (clnorm_device_get_info(device, &info) != CLNORM_OK || info.kind != CLNORM_CLASS_CPU)
        return;
    /* The kernel that packs its inputs first, even for small matrices. */
    cl_device_id id = clnorm_device_cl_id(device);
    override(id, "GemmRoutine", 1, smallest_indirect, always);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (!strcmp(rows[i].platform, info.platform))
            override(id, "Xgemm", PARAMETERS, parameters, rows[i].values);
    }
}
