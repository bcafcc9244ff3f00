#include "cpu/mask.h"

#include "base/integers.h"
#include "cpu/stage.h"
#include "cpu/threads.h"

enum {
    WORDS = 1 << 10, /* of a task, which alone writes them */
    ELEMENTS = WORDS * CLN_MASK_BITS
};

struct call {
    const struct cln_element_kernels *kernels;
    const struct cln_op *op;
};

static void task(void *context, size_t i)
{
    const struct call *c = context;
    uint64_t at = (uint64_t)i * ELEMENTS;
    uint32_t *words = c->op->role[CLN_MASK].handle;
    c->kernels->mask(cln_stage_at(c->op, CLN_Y, at), c->op->y_dtype, words + (uint64_t)i * WORDS,
                     (size_t)least(ELEMENTS, c->op->elements - at));
}

void cln_mask_run(const struct cln_element_kernels *kernels, const struct cln_op *op)
{
    struct call call = {kernels, op};
    cln_parallel((size_t)divide_up(op->elements, ELEMENTS), CLN_LAST, task, &call);
}
