/* Which norm, as options and files of shapes tell it. */
#ifndef CLNORM_TOOLS_NORM_H
#define CLNORM_TOOLS_NORM_H

#include <clnorm/clnorm.h>
#include <stdbool.h>
#include <stddef.h>

/* Zeros: batch norm. */
struct norm_choice {
    clnorm_norm norm;
    int64_t groups; /* of group norm; 0: not given */
    int64_t dims;   /* normalized dimensions of layer and RMS norm; 0: not given */
    int64_t batch;  /* samples of a virtual batch of batch norm; 0: not given */
};

#define NORM_NAMES "batch, layer, group, instance or rms"
const char *norm_name(clnorm_norm norm);
bool norm_parse(const char *text, clnorm_norm *norm);
/* "layer", "layer2" of two dimensions, "group32", "batch16" of virtual batches, …; of the norms that are complete. */
#define NORM_LABEL_SIZE 32
void norm_label(const struct norm_choice *choice, char label[NORM_LABEL_SIZE]);

bool norm_is_of_rows(clnorm_norm norm); /* layer and RMS norm */
bool norm_has_running(clnorm_norm norm);

/* What the numbers of a choice are called where they were written. */
struct norm_words {
    const char *groups, *dims, *batch;
};

/* For a tensor of c channels and so many spatial dimensions: is there what the norm needs, and nothing else? Normalized dimensions
 * that are not given are 1. false: text has a sentence with those words. */
bool norm_complete(struct norm_choice *choice, int64_t c, int spatial_dims, const struct norm_words *words, char *text,
                   size_t text_size);
void norm_set_desc(const struct norm_choice *choice, clnorm_desc *desc);

#endif
