#include "norm.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static const char *const names[] = {"batch", "layer", "group", "instance", "rms"}; /* by clnorm_norm */

const char *norm_name(clnorm_norm norm)
{
    return names[norm];
}

bool norm_parse(const char *text, clnorm_norm *norm)
{
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (!strcmp(text, names[i])) {
            *norm = (clnorm_norm)i;
            return true;
        }
    }
    return false;
}

void norm_label(const struct norm_choice *choice, char label[NORM_LABEL_SIZE])
{
    const int64_t number = choice->norm == CLNORM_GROUP ? choice->groups
                           : choice->dims > 1           ? choice->dims
                                                        : choice->batch;
    if (number)
        snprintf(label, NORM_LABEL_SIZE, "%s%" PRId64, names[choice->norm], number);
    else
        snprintf(label, NORM_LABEL_SIZE, "%s", names[choice->norm]);
}

bool norm_is_of_rows(clnorm_norm norm)
{
    return norm == CLNORM_LAYER || norm == CLNORM_RMS;
}

bool norm_has_running(clnorm_norm norm)
{
    return norm == CLNORM_BATCH || norm == CLNORM_INSTANCE;
}

bool norm_complete(struct norm_choice *choice, int64_t c, int spatial_dims, const struct norm_words *words, char *text,
                   size_t text_size)
{
    const int most = 1 + spatial_dims;
    *text = '\0';
    if (choice->groups && choice->norm != CLNORM_GROUP)
        snprintf(text, text_size, "%s is given; it goes with group norm alone, and this is %s norm", words->groups,
                 names[choice->norm]);
    else if (choice->dims && !norm_is_of_rows(choice->norm))
        snprintf(text, text_size, "%s is given; it goes with layer and RMS norm alone, and this is %s norm",
                 words->dims, names[choice->norm]);
    else if (choice->batch && choice->norm != CLNORM_BATCH)
        snprintf(text, text_size, "%s is given; it goes with batch norm alone, and this is %s norm", words->batch,
                 names[choice->norm]);
    else if (choice->norm == CLNORM_GROUP && !choice->groups)
        snprintf(text, text_size, "%s is missing; group norm needs the number of groups", words->groups);
    else if (choice->norm == CLNORM_GROUP && c % choice->groups != 0)
        snprintf(text, text_size, "%s is %" PRId64 " and must be a divisor of the %" PRId64 " channels", words->groups,
                 choice->groups, c);
    else if (choice->dims > most)
        snprintf(text, text_size, "%s is %" PRId64 " and must be from 1 to %d, the dimensions but N", words->dims,
                 choice->dims, most);
    else if (norm_is_of_rows(choice->norm) && !choice->dims)
        choice->dims = 1;
    return *text == '\0';
}

void norm_set_desc(const struct norm_choice *choice, clnorm_desc *desc)
{
    desc->norm = choice->norm;
    desc->groups = choice->groups;
    desc->normalized_dims = (int32_t)choice->dims;
    desc->virtual_batch = choice->batch;
}
