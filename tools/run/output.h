/* The files that one run writes into a directory: all of them whole, or none. */
#ifndef CLNORM_TOOLS_RUN_OUTPUT_H
#define CLNORM_TOOLS_RUN_OUTPUT_H

#include "npy.h"

struct output_array {
    const char *name; /* "y": written as y.npy */
    const struct npy *array;
};

/* Makes the directory and its parents, writes every array beside its target, then renames them all. false: message
 * holds one sentence, no file of this run is there, and the directories that were not there before are gone again. */
bool output_write(const char *directory, const struct output_array *arrays, size_t count, char *message,
                  size_t message_size);

#endif
