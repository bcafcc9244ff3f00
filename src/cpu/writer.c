#include "cpu/writer.h"

enum {
    LINE = 16,      /* elements of a cache line */
    LEAST_RUN = 128 /* elements */
};

int cln_writer_suits(const struct cln_stage *stage, uint64_t inners)
{
    return stage->plain && stage->streaming && inners >= LEAST_RUN;
}

/* The next n elements of the stretch. */
static void write_elements(struct cln_writer *w, uint64_t n)
{
    uint64_t done = w->stretch - w->beside.count;
    const struct cln_view *v = &w->stage->op->view;
    struct cln_stretch at = {
        .count = n, .group = done / v->inners, .inner = done % v->inners, .groups = w->groups, .inners = v->inners};
    uint64_t offset = w->first + w->outer * v->outer_stride + done;
    if (n == 0)
        return;
    if (w->gradient)
        cln_stage_gradient(w->stage, w->kernels, offset, at, &w->scalars);
    else
        cln_stage_apply(w->stage, w->kernels, offset, at, &w->scalars);
    w->beside.count -= n;
}

static void begin_stretch(struct cln_writer *w)
{
    const struct cln_op *op = w->stage->op;
    struct cln_beside *b = &w->beside;
    uint64_t offset = w->first + w->outer * op->view.outer_stride;
    float *out = cln_stage_at(op, w->gradient ? CLN_DX : CLN_Y, offset);
    uint64_t past_line = (uintptr_t)out / sizeof *out % LINE, head = past_line ? LINE - past_line : 0;
    b->count = w->stretch;
    write_elements(w, head);
    b->x = (const float *)cln_stage_at(op, CLN_X, offset) + head;
    b->dy = w->gradient ? (const float *)cln_stage_at(op, CLN_DY, offset) + head : NULL;
    b->out = out + head;
    b->group = 0;
    b->left = op->view.inners - head;
}

static void next_stretch(struct cln_beside *beside)
{
    struct cln_writer *w = (struct cln_writer *)beside;
    uint64_t outers = w->stage->op->view.outers;
    if (w->outer == outers)
        return;
    write_elements(w, beside->count);
    if (++w->outer < outers)
        begin_stretch(w);
}

void cln_writer_begin(struct cln_writer *w)
{
    uint64_t inners = w->stage->op->view.inners;
    w->outer = 0;
    w->beside = (struct cln_beside){.next = next_stretch, .inners = inners, .scalars = &w->scalars};
    begin_stretch(w);
}

struct cln_beside *cln_writer_beside(struct cln_writer *w)
{
    return w->stage ? &w->beside : NULL;
}

void cln_writer_finish(struct cln_writer *w)
{
    while (w->stage && w->outer < w->stage->op->view.outers)
        next_stretch(&w->beside);
}
