/* NumPy's .npy files, format versions 1.0 to 3.0, with little-endian f32 or f16 in C order, or bf16 as the 16-bit numbers of its bits (NumPy
 * has no such type): what the norms take and give; and with int32, which lengths are.
 * Anything else is refused with one sentence that names the file, what it is and what it must be. */
#ifndef CLNORM_TOOLS_NPY_H
#define CLNORM_TOOLS_NPY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#define NPY_MAX_DIMS 32 /* as many as NumPy itself allows in these versions */

enum npy_type { NPY_F32, NPY_F16, NPY_BF16, NPY_I32 }; /* as clnorm_dtype, and of lengths */
size_t npy_type_bytes(enum npy_type type);

struct npy {
    enum npy_type type;
    int dims; /* 0: a single number */
    size_t shape[NPY_MAX_DIMS];
    size_t elements; /* the product of shape */
    void *data;      /* never NULL, with no elements either */
};

/* Reads a whole file, which must be of that type. false: message holds the sentence, and *array nothing to free. */
bool npy_read(const char *path, enum npy_type type, struct npy *array, char *message, size_t message_size);
void npy_free(struct npy *array);

/* Writes header and data. false: errno says why. */
bool npy_write(FILE *stream, enum npy_type type, int dims, const size_t *shape, const void *data);

/* The shape as Python writes it: "()", "(3,)", "(3, 4)". -> text */
const char *npy_shape_text(int dims, const size_t *shape, char *text, size_t text_size);

/* What a header says. */
struct npy_header {
    int dims;
    size_t shape[NPY_MAX_DIMS];
};

/* Parses the text of a header, a Python dictionary, of an array that must have the type. false: reason holds what is wrong with it, to be put behind "FILE: ". */
bool npy_header_parse(const char *text, size_t length, enum npy_type type, struct npy_header *header, char *reason,
                      size_t reason_size);
/* "<f4" */
const char *npy_descr(enum npy_type type);

#endif
