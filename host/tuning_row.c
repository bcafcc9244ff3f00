/* Rows as text: everything about a field comes from the one list in tuning.h. */
#include "tuning.h"

#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

enum kind { WIDTH, GROUP, SPAN, LANES, KIB, WAVES };

static const struct field {
    const char *text;
    size_t offset;
    enum kind kind;
} fields[] = {
#define FIELD(name, text, kind) {text, offsetof(struct cln_tuning, name), kind},
    CLN_TUNING_LIST(FIELD)
#undef FIELD
};
enum { FIELDS = sizeof fields / sizeof fields[0] };

static uint32_t *number(struct cln_tuning *t, const struct field *field)
{
    return (uint32_t *)(void *)((char *)t + field->offset); /* by void: the offset is that of a uint32_t */
}

/* In the widest reduction a lane keeps six vectors (count, reference, two pairs); of four elements at least. */
static uint32_t most_group(const clnorm_device_info *info, uint32_t width)
{
    uint64_t lane = UINT64_C(6) * sizeof(float) * (width > 4 ? width : 4);
    uint32_t most = 1;
    while (most <= info->work_group_size / 2 && 2 * most * lane <= info->local_memory)
        most *= 2;
    return most;
}

/* The most that a field may be, once those before it are known. */
static uint32_t limit_of(const struct field *field, const clnorm_device_info *info, const struct cln_tuning *t)
{
    uint32_t width = field->offset == offsetof(struct cln_tuning, segments_group)  ? t->segments_width
                     : field->offset == offsetof(struct cln_tuning, columns_group) ? t->columns_width
                                                                                   : 1;
    switch (field->kind) {
    case WIDTH:
        return 16;
    case GROUP:
        return most_group(info, width);
    case SPAN:
        return 64;
    case LANES:
        return t->columns_group;
    case KIB:
        return 1u << 20;
    case WAVES:
        break;
    }
    return 1024;
}

static int allowed(const struct field *field, uint32_t n, uint32_t most)
{
    if (field->kind == KIB || field->kind == WAVES)
        return n <= most && (n >= 1 || field->kind == KIB);
    return n >= 1 && n <= most && (n & (n - 1)) == 0;
}

void cln_tuning_format(const struct cln_tuning *t, char *text, size_t size)
{
    struct cln_tuning row = *t;
    size_t used = 0;
    text[0] = '\0';
    for (size_t i = 0; i < FIELDS && used < size; i++) {
        int length = snprintf(text + used, size - used, "%s%" PRIu32, fields[i].text, *number(&row, &fields[i]));
        used += length > 0 ? (size_t)length : 0;
    }
}

/* Up to nine decimal digits; NULL: there are none, or more. */
static const char *read_number(const char *text, uint32_t *n)
{
    size_t digits = strspn(text, "0123456789");
    if (digits == 0 || digits > 9)
        return NULL;
    *n = 0;
    for (size_t i = 0; i < digits; i++)
        *n = *n * 10 + (uint32_t)(text[i] - '0');
    return text + digits;
}

int cln_tuning_parse(const char *text, const clnorm_device_info *info, struct cln_tuning *t, char why[CLN_TUNING_WHY])
{
    const char *p = text;
    for (size_t i = 0; i < FIELDS; i++) {
        const struct field *field = &fields[i];
        const char *name = field->text[0] == ' ' ? field->text + 1 : field->text;
        uint32_t *n = number(t, field);
        size_t length = strlen(field->text);
        p = strncmp(p, field->text, length) == 0 ? read_number(p + length, n) : NULL;
        if (!p) {
            snprintf(why, CLN_TUNING_WHY, "number %zu is not after \"%s\"", i + 1, name);
            return 0;
        }
        uint32_t most = limit_of(field, info, t);
        if (!allowed(field, *n, most)) {
            snprintf(why, CLN_TUNING_WHY, "number %zu, %s%" PRIu32 ", must be %s%" PRIu32 " on this device", i + 1,
                     name, *n,
                     field->kind == KIB     ? "from 0 to "
                     : field->kind == WAVES ? "from 1 to "
                                            : "a power of two up to ",
                     most);
            return 0;
        }
    }
    if (*p)
        snprintf(why, CLN_TUNING_WHY, "there is more after number %d", (int)FIELDS);
    return !*p;
}

void cln_tuning_fit(const clnorm_device_info *info, struct cln_tuning *t)
{
    for (size_t i = 0; i < FIELDS; i++) {
        uint32_t *n = number(t, &fields[i]), most = limit_of(&fields[i], info, t);
        if (*n > most && (fields[i].kind == GROUP || fields[i].kind == LANES))
            *n = most;
    }
}
