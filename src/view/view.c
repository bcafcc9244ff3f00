#include "view/view.h"

#include "base/integers.h"

uint64_t cln_view_dimension(const clnorm_desc *desc, uint64_t n, int i)
{
    int channel = desc->layout == CLNORM_NSC ? 1 + desc->spatial_dims : 1;
    if (i == 0)
        return n;
    return (uint64_t)(i == channel ? desc->c : desc->spatial[i - 1 - (channel == 1)]);
}

static int is_row_norm(const clnorm_desc *desc)
{
    return desc->norm == CLNORM_LAYER || desc->norm == CLNORM_RMS;
}

static uint64_t positions_of(const clnorm_desc *desc)
{
    uint64_t positions = 1;
    for (int32_t i = 0; i < desc->spatial_dims; i++)
        positions *= (uint64_t)desc->spatial[i];
    return positions;
}

uint64_t cln_view_weights(const clnorm_desc *desc)
{
    uint64_t length = 1;
    int dims = 2 + desc->spatial_dims;
    if (!is_row_norm(desc))
        return (uint64_t)desc->c;
    for (int i = dims - desc->normalized_dims; i < dims; i++)
        length *= cln_view_dimension(desc, 0, i);
    return length;
}

/* `rows` runs of `length` elements that follow each other, with weights along them that repeat after `cycle` rows. */
static struct cln_view rows_of(uint64_t rows, uint64_t length, uint64_t cycle)
{
    return (struct cln_view){.family = CLN_SEGMENTS,
                             .groups = rows,
                             .outers = 1,
                             .inners = length,
                             .outer_stride = length,
                             .group_stride = length,
                             .weights = cycle * length,
                             .cycle = cycle,
                             .along = 1};
}

static struct cln_view batch_view(const clnorm_desc *desc, uint64_t n)
{
    uint64_t positions = positions_of(desc), c = (uint64_t)desc->c;
    struct cln_view v = {.groups = c, .weights = c};
    if (c == 1 && desc->lengths) {
        v.family = CLN_SEGMENTS;
        v.outers = n;
        v.inners = v.outer_stride = v.group_stride = positions;
    } else if (c == 1) { /* one channel is one run in every layout */
        v.family = CLN_SEGMENTS;
        v.outers = n > 0;
        v.inners = n > 0 ? n * positions : 1; /* never 0: what it divides is cut by it */
        v.outer_stride = v.group_stride = v.inners;
    } else if (desc->layout == CLNORM_NCS && positions > 1) {
        v.family = CLN_SEGMENTS;
        v.outers = n;
        v.inners = positions;
        v.outer_stride = c * positions;
        v.group_stride = positions;
    } else {
        v.family = CLN_COLUMNS;
        v.outers = n * positions;
        v.inners = 1;
        v.outer_stride = c;
        v.group_stride = 1;
    }
    return v;
}

/* Instance and group norm: a channel of a sample, `merged` of them together. */
static struct cln_view sample_view(const clnorm_desc *desc, uint64_t n, uint64_t merged)
{
    uint64_t positions = positions_of(desc), c = (uint64_t)desc->c;
    struct cln_view v = {.groups = n * c, .weights = c, .merged = merged};
    if (positions == 1 && !desc->lengths) /* the channels of a statistics group are a row */
        return rows_of(n * (c / merged), merged, c / merged);
    if (desc->layout == CLNORM_NSC && c > 1) {
        v.family = CLN_COLUMNS;
        v.outers = positions;
        v.inners = 1;
        v.outer_stride = c;
        v.group_stride = 1;
        v.set = c;
        v.set_stride = c * positions;
    } else {
        v.family = CLN_SEGMENTS;
        v.outers = 1;
        v.inners = v.outer_stride = v.group_stride = positions;
    }
    return v;
}

struct cln_view cln_view_make(const clnorm_desc *desc, uint64_t n)
{
    struct cln_view v;
    uint64_t length = cln_view_weights(desc), rows = n;
    switch (desc->norm) {
    case CLNORM_LAYER:
    case CLNORM_RMS:
        for (int i = 1; i < 2 + desc->spatial_dims - desc->normalized_dims; i++)
            rows *= cln_view_dimension(desc, n, i);
        v = rows_of(rows, length, 1);
        break;
    case CLNORM_GROUP:
        v = sample_view(desc, n, (uint64_t)(desc->c / desc->groups));
        break;
    case CLNORM_INSTANCE:
        v = sample_view(desc, n, 1);
        break;
    default:
        v = batch_view(desc, n);
        break;
    }
    v.centred = desc->norm != CLNORM_RMS;
    v.positions = desc->lengths ? positions_of(desc) : 0;
    v.merged = v.merged ? v.merged : 1;
    v.cycle = v.cycle ? v.cycle : 1;
    if (v.set == 0) {
        v.set = v.groups;
        v.set_stride = 0;
    }
    return v;
}

uint64_t cln_view_batches(const clnorm_desc *desc, uint64_t n)
{
    return desc->virtual_batch > 0 ? divide_up(n, (uint64_t)desc->virtual_batch) : 1;
}

uint64_t cln_view_groups(const clnorm_desc *desc, uint64_t n)
{
    struct cln_view view = cln_view_make(desc, n);
    return cln_view_batches(desc, n) * cln_view_statistics(&view);
}

struct cln_view cln_view_as_batch(const clnorm_desc *desc, uint64_t n)
{
    clnorm_desc batch = *desc;
    batch.norm = CLNORM_BATCH;
    return cln_view_make(&batch, n);
}

struct cln_view cln_view_per_sample(const clnorm_desc *desc, uint64_t n)
{
    clnorm_desc of_samples = *desc;
    if (desc->norm == CLNORM_BATCH)
        of_samples.norm = CLNORM_INSTANCE;
    return cln_view_make(&of_samples, n);
}

struct cln_view cln_view_of_statistics(const struct cln_view *view)
{
    int runs = view->family == CLN_SEGMENTS && view->merged > 1 && view->positions == 0;
    return runs ? cln_view_merge(view) : *view;
}

struct cln_view cln_view_merge(const struct cln_view *view)
{
    struct cln_view v = *view;
    v.groups /= v.merged;
    v.set = v.groups;
    v.inners *= v.merged;
    v.outer_stride = v.group_stride = v.inners;
    v.merged = 1;
    return v;
}

uint64_t cln_view_elements(const struct cln_view *view)
{
    return view->groups * cln_view_count(view);
}

uint64_t cln_view_count(const struct cln_view *view)
{
    return view->outers * view->inners;
}

uint64_t cln_view_statistics(const struct cln_view *view)
{
    return view->groups / view->merged;
}

uint64_t cln_view_statistics_count(const struct cln_view *view)
{
    return cln_view_count(view) * view->merged;
}
