#include "npy.h"

#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

_Static_assert(sizeof(float) == 4, "a float is 4 bytes, as <f4 is");
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the .npy files of this program are little-endian, and so must be the machine"
#endif

static const char magic[6] = {'\x93', 'N', 'U', 'M', 'P', 'Y'};

size_t npy_type_bytes(enum npy_type type)
{
    return type == NPY_F32 || type == NPY_I32 ? sizeof(float) : sizeof(uint16_t);
}

struct reader {
    const char *path;
    FILE *stream;
    uint64_t size, at; /* of the file; of what has been read of it */
    char *message;
    size_t message_size;
};

static bool refuse(struct reader *r, const char *format, ...) __attribute__((format(printf, 2, 3)));
static bool refuse(struct reader *r, const char *format, ...)
{
    int n = snprintf(r->message, r->message_size, "%.400s: ", r->path); /* a very long path may not hide the reason */
    if (n >= 0 && (size_t)n < r->message_size) {
        va_list list;
        va_start(list, format);
        vsnprintf(r->message + n, r->message_size - (size_t)n, format, list);
        va_end(list);
    }
    return false;
}

static bool read_bytes(struct reader *r, void *target, size_t bytes)
{
    if (bytes && fread(target, 1, bytes, r->stream) != bytes)
        return refuse(r, "it cannot be read: %s", ferror(r->stream) ? strerror(errno) : "it became shorter meanwhile");
    r->at += bytes;
    return true;
}

static bool open_file(struct reader *r)
{
    struct stat s;
    if (stat(r->path, &s) != 0)
        return refuse(r, "it cannot be read: %s", strerror(errno));
    if (!S_ISREG(s.st_mode)) /* asked before it is opened: opening a pipe can wait for ever */
        return refuse(r, "it is %s; it must be a .npy file", S_ISDIR(s.st_mode) ? "a directory" : "no regular file");
    r->stream = fopen(r->path, "rb");
    if (!r->stream || fstat(fileno(r->stream), &s) != 0)
        return refuse(r, "it cannot be read: %s", strerror(errno));
    r->size = (uint64_t)s.st_size;
    return true;
}

/* The bytes before the header's text. *length: of that text. */
static bool read_preamble(struct reader *r, size_t *length)
{
    unsigned char start[8], field[4] = {0, 0, 0, 0};
    if (r->size < sizeof start)
        return refuse(r, "it has %llu bytes; a .npy file must have more", (unsigned long long)r->size);
    if (!read_bytes(r, start, sizeof start))
        return false;
    if (memcmp(start, magic, sizeof magic) != 0)
        return refuse(r, "it is no .npy file; it must begin with \\x93NUMPY");
    if (start[6] < 1 || start[6] > 3 || start[7] != 0)
        return refuse(r, "it has .npy format version %d.%d; it must be 1.0, 2.0 or 3.0", start[6], start[7]);
    size_t field_bytes = start[6] == 1 ? 2 : 4;
    if (r->size - r->at < field_bytes)
        return refuse(r, "it is cut off inside its header; it must hold all of it");
    if (!read_bytes(r, field, field_bytes))
        return false;
    *length = (size_t)field[0] | (size_t)field[1] << 8 | (size_t)field[2] << 16 | (size_t)field[3] << 24;
    if (*length > r->size - r->at)
        return refuse(r, "it is cut off inside its header; %zu bytes of header must follow byte %llu, %llu do", *length,
                      (unsigned long long)r->at, (unsigned long long)(r->size - r->at));
    return true;
}

static bool read_header(struct reader *r, struct npy *array)
{
    size_t length = 0;
    char reason[256];
    struct npy_header header;
    if (!read_preamble(r, &length))
        return false;
    char *text = malloc(length ? length : 1);
    if (!text)
        return refuse(r, "it has a header of %zu bytes; there is not that much memory", length);
    bool ok = read_bytes(r, text, length);
    if (ok && !npy_header_parse(text, length, array->type, &header, reason, sizeof reason))
        ok = refuse(r, "%s", reason);
    free(text);
    if (!ok)
        return false;
    array->dims = header.dims;
    memcpy(array->shape, header.shape, sizeof array->shape[0] * (size_t)header.dims);
    return true;
}

/* The product of the sizes, refused where the sizes other than 0 overflow: no such array can exist. */
static bool count_elements(struct reader *r, struct npy *array, const char *shape)
{
    size_t product = 1;
    bool empty = false;
    for (int i = 0; i < array->dims; i++) {
        if (array->shape[i] == 0) {
            empty = true;
        } else if (product > (size_t)PTRDIFF_MAX / sizeof(float) / array->shape[i]) {
            return refuse(r, "the shape %s has more elements than memory can hold; it must be that of the data", shape);
        } else {
            product *= array->shape[i];
        }
    }
    array->elements = empty ? 0 : product;
    return true;
}

static bool read_array(struct reader *r, struct npy *array)
{
    char shape[256];
    if (!read_header(r, array))
        return false;
    npy_shape_text(array->dims, array->shape, shape, sizeof shape);
    if (!count_elements(r, array, shape))
        return false;
    uint64_t wanted = (uint64_t)array->elements * npy_type_bytes(array->type), there = r->size - r->at;
    if (there != wanted)
        return refuse(r, "%s; %llu bytes of data must follow the header for the shape %s, %llu do",
                      there < wanted ? "it is cut off" : "it has bytes after its end", (unsigned long long)wanted,
                      shape, (unsigned long long)there);
    array->data = malloc(wanted ? (size_t)wanted : 1);
    if (!array->data)
        return refuse(r, "it has %llu bytes of data; there is not that much memory", (unsigned long long)wanted);
    return read_bytes(r, array->data, (size_t)wanted);
}

bool npy_read(const char *path, enum npy_type type, struct npy *array, char *message, size_t message_size)
{
    struct reader r = {path, NULL, 0, 0, message, message_size};
    memset(array, 0, sizeof *array);
    array->type = type;
    bool ok = open_file(&r) && read_array(&r, array);
    if (r.stream)
        fclose(r.stream);
    if (!ok)
        npy_free(array);
    return ok;
}

void npy_free(struct npy *array)
{
    free(array->data);
    memset(array, 0, sizeof *array);
}

const char *npy_shape_text(int dims, const size_t *shape, char *text, size_t text_size)
{
    size_t at = 0;
    snprintf(text, text_size, "()");
    for (int i = 0; i < dims; i++) {
        int n = snprintf(text + at, text_size - at, "%s%zu%s", i ? ", " : "(", shape[i],
                         i < dims - 1 ? ""
                         : dims == 1  ? ",)"
                                      : ")");
        if (n < 0 || (size_t)n >= text_size - at)
            break; /* cut, and ended by a zero all the same */
        at += (size_t)n;
    }
    return text;
}

bool npy_write(FILE *stream, enum npy_type type, int dims, const size_t *shape, const void *data)
{
    char text[1024], dictionary[896], tuple[768];
    size_t elements = 1;
    for (int i = 0; i < dims; i++)
        elements *= shape[i];
    snprintf(dictionary, sizeof dictionary, "{'descr': '%s', 'fortran_order': False, 'shape': %s, }", npy_descr(type),
             npy_shape_text(dims, shape, tuple, sizeof tuple));
    /* The data begin at a multiple of 64 bytes; the header ends in a line feed there. */
    size_t total = (sizeof magic + 4 + strlen(dictionary) + 1 + 63) / 64 * 64, length = total - sizeof magic - 4;
    memcpy(text, magic, sizeof magic);
    text[6] = 1;
    text[7] = 0;
    text[8] = (char)(length & 255);
    text[9] = (char)(length >> 8);
    snprintf(text + 10, sizeof text - 10, "%-*s\n", (int)length - 1, dictionary);
    return fwrite(text, 1, total, stream) == total && fwrite(data, npy_type_bytes(type), elements, stream) == elements;
}
