#include "fusion_options.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* In the order of the enumerations. */
static const char *const dtypes[] = {"f32", "f16", "bf16", NULL};
static const char *const activations[] = {"none", "relu", "leaky", "gelu", "silu", NULL};
static const char *const residuals[] = {"none", "after", "before", NULL};

/* What was not typed keeps its value. */
static bool parse_name(const struct cli_command *self, const char *option, const char *text, const char *const *names,
                       int *index)
{
    char all[64] = "";
    for (int i = 0; text && names[i]; i++) {
        if (!strcmp(text, names[i])) {
            *index = i;
            return true;
        }
        const size_t at = strlen(all);
        snprintf(all + at, sizeof all - at, "%s%s", i == 0 ? "" : names[i + 1] ? ", " : " or ", names[i]);
    }
    if (text)
        cli_error(self, "%s is '%s'; it must be %s", option, text, all);
    return !text;
}

bool fusion_typed_parse(const struct fusion_typed *typed, const struct cli_command *self, struct fusion *fusion)
{
    const clnorm_desc defaults = CLNORM_DESC_INIT;
    int dtype = CLNORM_F32, activation = CLNORM_NO_ACTIVATION, residual = CLNORM_NO_RESIDUAL;
    if (!parse_name(self, "--dtype", typed->dtype, dtypes, &dtype))
        return false;
    int y_dtype = dtype;
    if (!parse_name(self, "--y-dtype", typed->y_dtype, dtypes, &y_dtype) ||
        !parse_name(self, "--act", typed->act, activations, &activation) ||
        !parse_name(self, "--residual", typed->residual, residuals, &residual))
        return false;
    *fusion = (struct fusion){(clnorm_dtype)dtype, (clnorm_dtype)y_dtype, (clnorm_activation)activation, defaults.slope,
                              (clnorm_residual)residual};
    if (!typed->slope)
        return true;
    char *end;
    fusion->slope = strtof(typed->slope, &end);
    if (end == typed->slope || *end || isspace((unsigned char)*typed->slope) || !isfinite(fusion->slope)) {
        cli_error(self, "--slope is '%s'; it must be a finite number", typed->slope);
        return false;
    }
    if (fusion->activation != CLNORM_LEAKY_RELU) {
        cli_error(self, "--slope is given; it goes with --act leaky alone");
        return false;
    }
    return true;
}

void fusion_typed_free(struct fusion_typed *typed)
{
    free(typed->dtype);
    free(typed->y_dtype);
    free(typed->act);
    free(typed->slope);
    free(typed->residual);
    memset(typed, 0, sizeof *typed);
}

void fusion_set_desc(const struct fusion *fusion, clnorm_desc *desc)
{
    desc->dtype = fusion->dtype;
    desc->y_dtype = fusion->y_dtype;
    desc->activation = fusion->activation;
    desc->slope = fusion->slope;
    desc->residual = fusion->residual;
}

const char *fusion_dtype_name(clnorm_dtype dtype)
{
    return dtypes[dtype];
}

size_t fusion_dtype_bytes(clnorm_dtype dtype)
{
    return dtype == CLNORM_F32 ? sizeof(float) : sizeof(uint16_t);
}
