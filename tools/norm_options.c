#include "norm_options.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

const struct norm_words norm_option_words = {"--groups", "--normalized-dims", "--virtual-batch"};

bool norm_typed_any(const struct norm_typed *typed)
{
    return typed->norm || typed->groups || typed->dims || typed->batch;
}

static bool parse_count(const struct cli_command *self, const char *option, const char *text, int64_t *count)
{
    char *end;
    if (!text)
        return true;
    errno = 0;
    long long value = strtoll(text, &end, 10);
    if (!isdigit((unsigned char)*text) || *end || errno || value < 1) {
        cli_error(self, "%s is '%s'; it must be a whole number from 1", option, text);
        return false;
    }
    *count = value;
    return true;
}

bool norm_typed_parse(const struct norm_typed *typed, const struct cli_command *self, struct norm_choice *choice)
{
    memset(choice, 0, sizeof *choice);
    if (typed->norm && !norm_parse(typed->norm, &choice->norm)) {
        cli_error(self, "--norm is '%s'; it must be " NORM_NAMES, typed->norm);
        return false;
    }
    return parse_count(self, norm_option_words.groups, typed->groups, &choice->groups) &&
           parse_count(self, norm_option_words.dims, typed->dims, &choice->dims) &&
           parse_count(self, norm_option_words.batch, typed->batch, &choice->batch);
}

void norm_typed_free(struct norm_typed *typed)
{
    free(typed->norm);
    free(typed->groups);
    free(typed->dims);
    free(typed->batch);
    memset(typed, 0, sizeof *typed);
}
