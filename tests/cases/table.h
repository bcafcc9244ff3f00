/* What the parts of the table of cases share. */
#ifndef CLNORM_TESTS_CASES_TABLE_H
#define CLNORM_TESTS_CASES_TABLE_H

#include "cases.h"

struct shape {
    int64_t n, c;
    int32_t spatial_dims; /* 0: for NC; else for NCS and NSC */
    int64_t spatial[CLNORM_MAX_SPATIAL];
};

/* A case of batch norm with all else as CLNORM_CASE_INIT. */
struct clnorm_case table_case(clnorm_layout layout, const struct shape *shape, enum case_mode mode);
/* The short suite takes the cases whose key is a multiple of one_in, but no large ones. */
void table_add(struct clnorm_case c, size_t key, size_t one_in);

/* table_norms.c: the cases of the other norms, and one of any norm. turn chooses the groups or the normalized dimensions. */
void table_add_norms(void);
struct clnorm_case table_norm_case(clnorm_norm norm, clnorm_layout layout, const struct shape *shape,
                                   enum case_mode mode, size_t turn);

/* table_fused.c: the cases of data types, activations, residuals and accumulation, of every norm. */
void table_add_fused(void);

/* table_virtual.c: those of virtual batches. */
void table_add_virtual(void);
/* table_double.c: those of the double backward. */
void table_add_double(void);
/* table_lengths.c: those of samples with lengths. */
void table_add_lengths(void);
/* table_from_y.c: those of a backward from y. */
void table_add_from_y(void);

#endif
