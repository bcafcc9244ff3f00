#include "shapes.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* More elements than any machine's memory holds as float; keeps every product of sizes far from overflow. */
#define ELEMENTS_MAX   ((int64_t)1 << 40)
#define FILE_BYTES_MAX (1 << 20)

static const char spaces[] = " \t\r\v\f";

/* Where the parser is, and what it has against that place. */
struct place {
    const char *label;
    size_t line;
    char text[400];
};
#define REFUSE(place, ...) (snprintf((place)->text, sizeof(place)->text, __VA_ARGS__), false)

const char *bench_layout_name(clnorm_layout layout)
{
    return layout == CLNORM_NC ? "nc" : layout == CLNORM_NCS ? "ncs" : "nsc";
}

int64_t bench_shape_elements(const struct bench_shape *shape)
{
    int64_t elements = 1;
    for (int d = 0; d < shape->dims; d++)
        elements *= shape->size[d];
    return elements;
}

uint64_t bench_shape_bytes(const struct bench_shape *shape)
{
    return (uint64_t)bench_shape_elements(shape) * (shape->dtype == CLNORM_F32 ? sizeof(float) : sizeof(uint16_t));
}

int32_t bench_shape_length(const struct bench_shape *shape, int64_t n)
{
    const int64_t all = shape->size[2];
    return (int32_t)(all - n * all / (2 * shape->size[0]));
}

uint64_t bench_shape_valid_bytes(const struct bench_shape *shape)
{
    uint64_t valid = 0;
    if (!shape->lengths)
        return bench_shape_bytes(shape);
    for (int64_t n = 0; n < shape->size[0]; n++)
        valid += (uint64_t)bench_shape_length(shape, n);
    return bench_shape_bytes(shape) / (uint64_t)(shape->size[0] * shape->size[2]) * valid;
}

size_t bench_shape_words(const struct bench_shape *shape)
{
    return (size_t)((bench_shape_bytes(shape) + sizeof(float) - 1) / sizeof(float));
}

int64_t bench_shape_weights(const struct bench_shape *shape)
{
    /* The last dimensions, in the order of the layout: channels-last has C at the end. */
    const bool last = shape->layout == CLNORM_NSC;
    int64_t weights = 1;
    if (!norm_is_of_rows(shape->norm.norm))
        return shape->size[1];
    for (int64_t k = 0; k < shape->norm.dims; k++) {
        const int64_t d = last && k == 0 ? 1 : shape->dims - 1 - k + last;
        weights *= shape->size[d];
    }
    return weights;
}

int64_t bench_shape_groups(const struct bench_shape *shape)
{
    switch (shape->norm.norm) {
    case CLNORM_BATCH:
        return shape->norm.batch ? (shape->size[0] + shape->norm.batch - 1) / shape->norm.batch * shape->size[1]
                                 : shape->size[1];
    case CLNORM_GROUP:
        return shape->size[0] * shape->norm.groups;
    case CLNORM_INSTANCE:
        return shape->size[0] * shape->size[1];
    default:
        return bench_shape_elements(shape) / bench_shape_weights(shape);
    }
}

clnorm_desc bench_shape_desc(const struct bench_shape *shape)
{
    clnorm_desc desc = CLNORM_DESC_INIT;
    desc.layout = shape->layout;
    desc.n = shape->size[0];
    desc.c = shape->size[1];
    desc.spatial_dims = shape->dims - 2;
    for (int d = 2; d < shape->dims; d++)
        desc.spatial[d - 2] = shape->size[d];
    norm_set_desc(&shape->norm, &desc);
    desc.dtype = desc.y_dtype = shape->dtype;
    desc.activation = shape->activation;
    desc.residual = shape->residual;
    desc.backward_from_y = shape->from_y;
    desc.lengths = shape->lengths;
    desc.activation_mask = shape->mask;
    return desc;
}

void bench_shape_print(const struct bench_shape *shape, char text[128])
{
    size_t used = 0;
    for (int d = 0; d < shape->dims; d++)
        used += (size_t)snprintf(text + used, 128 - used, "%s%" PRId64, d ? "x" : "", shape->size[d]);
}

static bool parse_layout(struct place *place, const char *word, clnorm_layout *layout)
{
    for (clnorm_layout l = CLNORM_NC; l <= CLNORM_NSC; l++) {
        if (!strcmp(word, bench_layout_name(l))) {
            *layout = l;
            return true;
        }
    }
    return REFUSE(place, "the layout is \"%.40s\" and must be nc, ncs or nsc", word);
}

static bool parse_sizes(struct place *place, const char *word, struct bench_shape *shape)
{
    int64_t elements = 1;
    shape->dims = 0;
    for (const char *p = word;; p++) {
        char *end = NULL;
        errno = 0;
        long long size = *p >= '0' && *p <= '9' ? strtoll(p, &end, 10) : 0;
        if (!end || (*end && *end != 'x'))
            return REFUSE(place, "the shape is \"%.60s\" and must be whole numbers joined by x, as in 32x64x56x56",
                          word);
        if (errno || size < 1 || size > ELEMENTS_MAX / elements)
            return REFUSE(place,
                          "the shape is \"%.60s\"; each size must be at least 1 and all together at most 2^40 elements",
                          word);
        if (shape->dims == 2 + CLNORM_MAX_SPATIAL)
            return REFUSE(place, "the shape is \"%.60s\" and has more than %d spatial dimensions", word,
                          CLNORM_MAX_SPATIAL);
        shape->size[shape->dims++] = size;
        elements *= size;
        if (!*end)
            break;
        p = end;
    }
    if (shape->layout == CLNORM_NC && shape->dims != 2)
        return REFUSE(place, "the shape is \"%.60s\" and must be NxC for layout nc", word);
    if (shape->layout != CLNORM_NC && shape->dims < 3)
        return REFUSE(place, "the shape is \"%.60s\" and must have at least one spatial dimension for layout %s", word,
                      bench_layout_name(shape->layout));
    return true;
}

/* A whole number from 1, of at most nine digits. */
static bool parse_count(struct place *place, const char *key, const char *value, int64_t *count)
{
    const size_t digits = strspn(value, "0123456789");
    *count = digits && digits < 10 && !value[digits] ? strtoll(value, NULL, 10) : 0;
    if (*count < 1)
        return REFUSE(place, "%s is \"%.40s\" and must be a whole number from 1", key, value);
    return true;
}

/* One of the words behind the shape. */
static bool parse_norm_word(struct place *place, const char *word, struct norm_choice *norm)
{
    if (!strncmp(word, "norm=", 5))
        return norm_parse(word + 5, &norm->norm) ||
               REFUSE(place, "the norm is \"%.40s\" and must be " NORM_NAMES, word + 5);
    if (!strncmp(word, "groups=", 7))
        return parse_count(place, "groups=", word + 7, &norm->groups);
    if (!strncmp(word, "dims=", 5))
        return parse_count(place, "dims=", word + 5, &norm->dims);
    if (!strncmp(word, "batch=", 6))
        return parse_count(place, "batch=", word + 6, &norm->batch);
    return REFUSE(
        place, "a case is NAME LAYOUT SHAPE [norm=NORM] [groups=G] [dims=K] [batch=B], and \"%.40s\" is one too many",
        word);
}

/* line is cut up by this. */
static bool parse_case(struct place *place, char *line, struct bench_shape *shape)
{
    static const struct norm_words words = {"groups=", "dims=", "batch="};
    char *rest = NULL;
    const char *name = strtok_r(line, spaces, &rest);
    const char *layout = strtok_r(NULL, spaces, &rest);
    const char *sizes = strtok_r(NULL, spaces, &rest);
    if (!sizes)
        return REFUSE(place, "a case is three words or more, NAME LAYOUT SHAPE, and this line has %d", layout ? 2 : 1);
    memset(shape, 0, sizeof *shape);
    if (strlen(name) >= sizeof shape->name)
        return REFUSE(place, "the name \"%.20s...\" is longer than %zu characters", name, sizeof shape->name - 1);
    memcpy(shape->name, name, strlen(name));
    if (!parse_layout(place, layout, &shape->layout) || !parse_sizes(place, sizes, shape))
        return false;
    for (const char *word; (word = strtok_r(NULL, spaces, &rest)) != NULL;) {
        if (!parse_norm_word(place, word, &shape->norm))
            return false;
    }
    return norm_complete(&shape->norm, shape->size[1], shape->dims - 2, &words, place->text, sizeof place->text);
}

static bool append(struct bench_shapes *shapes, const struct bench_shape *shape)
{
    struct bench_shape *grown = realloc(shapes->list, (shapes->count + 1) * sizeof *grown);
    if (!grown)
        return false;
    grown[shapes->count++] = *shape;
    shapes->list = grown;
    return true;
}

bool bench_shapes_parse(struct bench_shapes *shapes, const char *label, const char *text, char error[512])
{
    struct place place = {label, 0, ""};
    bool ok = true;
    memset(shapes, 0, sizeof *shapes);
    for (const char *p = text; ok && *p;) {
        size_t length = strcspn(p, "\n");
        size_t content = strcspn(p, "#\n");
        place.line++;
        if (strspn(p, spaces) < content) {
            struct bench_shape shape;
            char *line = strndup(p, content);
            ok = line ? parse_case(&place, line, &shape) : REFUSE(&place, "out of memory");
            if (ok && !append(shapes, &shape))
                ok = REFUSE(&place, "out of memory");
            free(line);
        }
        p += length + (p[length] == '\n');
    }
    if (!ok)
        snprintf(error, 512, "%s:%zu: %s", label, place.line, place.text);
    if (ok && !shapes->count) {
        snprintf(error, 512, "%s: it has no case; a case is a line NAME LAYOUT SHAPE", label);
        ok = false;
    }
    if (!ok)
        bench_shapes_free(shapes);
    return ok;
}

bool bench_shapes_read(struct bench_shapes *shapes, const char *path, char error[512])
{
    memset(shapes, 0, sizeof *shapes);
    FILE *file = fopen(path, "rb");
    char *text = malloc(FILE_BYTES_MAX + 1);
    size_t length = 0;
    int saved = file ? 0 : errno;
    if (file && text) {
        length = fread(text, 1, FILE_BYTES_MAX + 1, file);
        saved = ferror(file) ? errno : 0;
    }
    bool ok = false;
    if (!text)
        snprintf(error, 512, "%s: out of memory", path);
    else if (saved)
        snprintf(error, 512, "%s: %s", path, strerror(saved));
    else if (length > FILE_BYTES_MAX)
        snprintf(error, 512, "%s: it is larger than %d bytes, too large for a file of shapes", path, FILE_BYTES_MAX);
    else if (memchr(text, '\0', length))
        snprintf(error, 512, "%s: it has a zero byte and is no text file", path);
    else {
        text[length] = '\0';
        ok = bench_shapes_parse(shapes, path, text, error);
    }
    if (file)
        fclose(file);
    free(text);
    return ok;
}

bool bench_shapes_set_norm(struct bench_shapes *shapes, const struct norm_choice *norm, const struct norm_words *words,
                           char error[512])
{
    char text[256];
    for (size_t i = 0; i < shapes->count; i++) {
        struct bench_shape *shape = &shapes->list[i];
        shape->norm = *norm;
        if (!norm_complete(&shape->norm, shape->size[1], shape->dims - 2, words, text, sizeof text)) {
            snprintf(error, 512, "%s: %s", shape->name, text);
            return false;
        }
    }
    return true;
}

bool bench_shapes_add_unfused(struct bench_shapes *shapes, char error[512])
{
    struct bench_shape *grown = realloc(shapes->list, shapes->count * 2 * sizeof *grown);
    if (!grown) {
        snprintf(error, 512, "out of memory");
        return false;
    }
    for (size_t i = shapes->count; i-- > 0;) { /* from the end, for they lie where the pairs go */
        grown[2 * i + 1] = grown[i];
        grown[2 * i] = grown[2 * i + 1];
        grown[2 * i].activation = CLNORM_NO_ACTIVATION;
        grown[2 * i].residual = CLNORM_NO_RESIDUAL;
    }
    shapes->list = grown;
    shapes->count *= 2;
    return true;
}

void bench_shapes_free(struct bench_shapes *shapes)
{
    free(shapes->list);
    memset(shapes, 0, sizeof *shapes);
}
