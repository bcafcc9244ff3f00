/* The header of a .npy file is a Python dictionary as text: {'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }.
 * NumPy reads it as any Python literal; the keys may stand in any order, strings in either quote, and files that were
 * written by Python 2 may have an L behind a size. */
#include "npy.h"

#include <stdint.h>
#include <string.h>

struct cursor {
    const char *at, *end;
};

static void skip_space(struct cursor *c)
{
    while (c->at < c->end && (*c->at == ' ' || *c->at == '\t' || *c->at == '\n' || *c->at == '\r'))
        c->at++;
}

static bool accept(struct cursor *c, char wanted)
{
    skip_space(c);
    if (c->at == c->end || *c->at != wanted)
        return false;
    c->at++;
    return true;
}

static bool accept_word(struct cursor *c, const char *word)
{
    size_t length = strlen(word);
    skip_space(c);
    if ((size_t)(c->end - c->at) < length || memcmp(c->at, word, length) != 0)
        return false;
    c->at += length;
    return true;
}

/* A string without escapes: no key and no data type that is taken needs one. */
static bool accept_string(struct cursor *c, const char **text, size_t *length)
{
    skip_space(c);
    if (c->at == c->end || (*c->at != '\'' && *c->at != '"'))
        return false;
    const char *first = c->at + 1;
    for (const char *p = first; p < c->end && *p != '\\' && *p != '\n'; p++) {
        if (*p == *c->at) {
            *text = first;
            *length = (size_t)(p - first);
            c->at = p + 1;
            return true;
        }
    }
    return false;
}

static bool is_text(const char *text, size_t length, const char *wanted)
{
    return length == strlen(wanted) && memcmp(text, wanted, length) == 0;
}

/* Copies what a file says into a message: printable characters only, and not too many. */
static void quote(char *target, size_t target_size, const char *text, size_t length)
{
    size_t n = length < target_size - 1 ? length : target_size - 1;
    for (size_t i = 0; i < n; i++)
        target[i] = text[i] >= 0x20 && text[i] < 0x7f ? text[i] : '?';
    target[n] = '\0';
}

static const char *const descrs[] = {"<f4", "<f2", "<u2", "<i4"};
static const char *const meanings[] = {"little-endian f32", "little-endian f16", "bf16 as its 16 bits, little-endian",
                                       "little-endian int32"};

const char *npy_descr(enum npy_type type)
{
    return descrs[type];
}

static bool parse_descr(struct cursor *c, enum npy_type type, char *reason, size_t reason_size)
{
    const char *text;
    size_t length;
    skip_space(c);
    if (c->at < c->end && *c->at == '[') {
        snprintf(reason, reason_size, "the data type is a structure; it must be '%s' (%s)", descrs[type],
                 meanings[type]);
        return false;
    }
    if (!accept_string(c, &text, &length)) {
        snprintf(reason, reason_size, "the header's 'descr' is no string; it must be '%s'", descrs[type]);
        return false;
    }
    if (!is_text(text, length, descrs[type])) {
        char shown[32];
        quote(shown, sizeof shown, text, length);
        snprintf(reason, reason_size, "the data type is '%s'; it must be '%s' (%s)", shown, descrs[type],
                 meanings[type]);
        return false;
    }
    return true;
}

static bool parse_order(struct cursor *c, char *reason, size_t reason_size)
{
    if (accept_word(c, "False"))
        return true;
    if (accept_word(c, "True"))
        snprintf(reason, reason_size, "the data are in Fortran order; they must be in C order");
    else
        snprintf(reason, reason_size, "the header's 'fortran_order' is neither True nor False; it must be False");
    return false;
}

static bool parse_size(struct cursor *c, size_t *value)
{
    skip_space(c);
    const char *first = c->at;
    size_t v = 0;
    for (; c->at < c->end && *c->at >= '0' && *c->at <= '9'; c->at++) {
        size_t digit = (size_t)(*c->at - '0');
        if (v > (SIZE_MAX - digit) / 10)
            return false;
        v = v * 10 + digit;
    }
    if (c->at == first || (*first == '0' && c->at > first + 1)) /* Python has no numbers with leading zeros */
        return false;
    if (c->at < c->end && *c->at == 'L')
        c->at++;
    *value = v;
    return true;
}

static bool parse_shape(struct cursor *c, struct npy_header *header, char *reason, size_t reason_size)
{
    bool ok = accept(c, '('), comma = true;
    header->dims = 0;
    while (ok && !accept(c, ')')) {
        if (header->dims == NPY_MAX_DIMS) {
            snprintf(reason, reason_size, "the array has more than %d dimensions; it must have at most %d",
                     NPY_MAX_DIMS, NPY_MAX_DIMS);
            return false;
        }
        ok = comma && parse_size(c, &header->shape[header->dims]);
        header->dims += ok;
        comma = ok && accept(c, ',');
    }
    /* In Python (3) is a number, (3,) a tuple. */
    if (!ok || (header->dims == 1 && !comma)) {
        snprintf(reason, reason_size, "the header's 'shape' is no tuple of sizes below 2^%zu; it must be one",
                 8 * sizeof(size_t));
        return false;
    }
    return true;
}

bool npy_header_parse(const char *text, size_t length, enum npy_type type, struct npy_header *header, char *reason,
                      size_t reason_size)
{
    enum { DESCR = 1, ORDER = 2, SHAPE = 4, ALL = 7 };
    struct cursor c = {text, text + length};
    int seen = 0;
    bool comma = true, ok = accept(&c, '{');
    while (ok && !accept(&c, '}')) {
        const char *key;
        size_t key_length;
        ok = comma && accept_string(&c, &key, &key_length) && accept(&c, ':');
        if (!ok)
            break;
        int which = is_text(key, key_length, "descr")           ? DESCR
                    : is_text(key, key_length, "fortran_order") ? ORDER
                    : is_text(key, key_length, "shape")         ? SHAPE
                                                                : 0;
        if (!which || (seen & which)) {
            char shown[32];
            quote(shown, sizeof shown, key, key_length);
            snprintf(reason, reason_size, "the header has the key '%s' %s; it must have descr, fortran_order and shape",
                     shown, which ? "twice" : "too");
            return false;
        }
        seen |= which;
        if ((which == DESCR && !parse_descr(&c, type, reason, reason_size)) ||
            (which == ORDER && !parse_order(&c, reason, reason_size)) ||
            (which == SHAPE && !parse_shape(&c, header, reason, reason_size)))
            return false;
        comma = accept(&c, ',');
    }
    skip_space(&c);
    if (!ok || c.at != c.end) {
        snprintf(reason, reason_size, "the header is damaged at its byte %zu; it must be one Python dictionary",
                 (size_t)(c.at - text));
        return false;
    }
    if (seen != ALL) {
        snprintf(reason, reason_size, "the header has no key '%s'; it must have descr, fortran_order and shape",
                 !(seen & DESCR)   ? "descr"
                 : !(seen & ORDER) ? "fortran_order"
                                   : "shape");
        return false;
    }
    return true;
}
