#include "cpu/stage.h"

#include "base/integers.h"

#include <string.h>

enum {
    READ = 1 << 13,    /* elements of each tensor that are in scratch when they are added up, */
    WRITE = 1 << 11,   /* and when they are written: all scratch is in the nearest cache */
    COLUMNS = 256,     /* of a block of columns: rows of it are whole lines, and enough of them */
    LINE_ELEMENTS = 32 /* of a cache line, of 16 bits */
};

struct cln_stage cln_stage_make(const struct cln_cpu_kernels *kernels, const struct cln_op *op, int streaming)
{
    struct cln_stage s = {.kernels = kernels,
                          .op = op,
                          .fusion = {op->activation, op->slope, op->x_dtype, op->y_dtype},
                          .streaming = streaming};
    int backward = cln_bound(op, CLN_DY), added = backward ? cln_bound(op, CLN_DZ) || (op->accumulate & CLNORM_ADD_DX)
                                                           : op->residual == CLNORM_RESIDUAL_AFTER;
    s.unfused = !op->activation && !added;
    s.from_y = backward && op->from_y;
    s.plain = op->x_dtype == CLNORM_F32 && op->y_dtype == CLNORM_F32 && s.unfused && !s.from_y;
    s.again = op->activation && backward && !cln_bound(op, CLN_Y) && !cln_bound(op, CLN_MASK);
    return s;
}

void *cln_stage_at(const struct cln_op *op, enum cln_role role, uint64_t i)
{
    char *begin = op->role[role].handle;
    return begin ? begin + i * cln_role_bytes(op, role) : NULL;
}

struct cln_finish cln_stage_finish(const struct cln_stage *s, uint64_t at)
{
    const struct cln_op *op = s->op;
    return (struct cln_finish){op->residual == CLNORM_RESIDUAL_AFTER ? cln_stage_at(op, CLN_Z, at) : NULL,
                               op->activation, op->slope};
}

struct cln_scalars cln_stage_scalars(const struct cln_scalars *k, uint64_t j)
{
#define FROM(plane) k->plane ? k->plane + j : NULL
    return (struct cln_scalars){FROM(m), FROM(c), FROM(a), FROM(q), FROM(b), FROM(bias), FROM(undo)};
#undef FROM
}

/* ---- runs ---- */

void cln_stage_widen(const struct cln_stage *s, uint64_t at, uint64_t n, float *to)
{
    s->kernels->elements.widen(cln_stage_at(s->op, CLN_X, at), s->op->x_dtype, to, n, 0);
}

void cln_stage_sum(const struct cln_stage *s, uint64_t at, uint64_t n)
{
    const struct cln_op *op = s->op;
    s->kernels->elements.add(cln_stage_at(op, CLN_X, at), cln_stage_at(op, CLN_Z, at), cln_stage_at(op, CLN_SUM, at),
                             op->x_dtype, n);
}

const float *cln_stage_x(const struct cln_stage *s, const struct cln_runs *r, float *scratch)
{
    const struct cln_op *op = s->op;
    int dense = r->count == 1 || r->stride == r->length;
    if (op->x_dtype == CLNORM_F32 && dense)
        return cln_stage_at(op, CLN_X, r->at);
    size_t ahead = r->ahead * cln_dtype_bytes(op->x_dtype);
    for (uint64_t i = 0; i < r->count; i++)
        s->kernels->elements.widen(cln_stage_at(op, CLN_X, r->at + i * r->stride), op->x_dtype, scratch + i * r->length,
                                   r->length, ahead);
    return scratch;
}

void cln_stage_before(const struct cln_stage *s, const struct cln_runs *r, float *scratch)
{
    for (uint64_t i = 0; i < r->count; i++) {
        uint64_t at = r->at + i * r->stride;
        s->kernels->elements.undo(cln_stage_at(s->op, CLN_X, at), cln_stage_at(s->op, CLN_Z, at), NULL, NULL, 1.0f,
                                  scratch + i * r->length, &s->fusion, r->length);
    }
}

void cln_stage_dy(const struct cln_stage *s, const struct cln_runs *r, const float *t, float *scratch)
{
    const struct cln_op *op = s->op;
    const struct cln_element_kernels *e = &s->kernels->elements;
    size_t ahead = r->ahead * cln_dtype_bytes(op->y_dtype);
    for (uint64_t i = 0; i < r->count; i++) {
        uint64_t at = r->at + i * r->stride;
        float *to = scratch + i * r->length;
        const void *dy = cln_stage_at(op, CLN_DY, at);
        if (s->fusion.activation && cln_bound(op, CLN_MASK))
            e->differentiate_by_mask(op->role[CLN_MASK].handle, op->first + at, dy, to, &s->fusion, r->length);
        else if (s->fusion.activation)
            e->differentiate(t ? t + i * r->length : NULL, cln_stage_at(op, CLN_Z, at), cln_stage_at(op, CLN_Y, at), dy,
                             to, &s->fusion, r->length);
        else
            e->widen(dy, op->y_dtype, to, r->length, ahead);
    }
}

void cln_stage_put(const struct cln_stage *s, const struct cln_runs *r, enum cln_role role, const float *v)
{
    const struct cln_op *op = s->op;
    int add = (op->accumulate & (role == CLN_DX ? CLNORM_ADD_DX : CLNORM_ADD_DZ)) != 0;
    for (uint64_t i = 0; i < r->count; i++)
        s->kernels->elements.put(v + i * r->length, cln_stage_at(op, role, r->at + i * r->stride), op->x_dtype,
                                 r->length, add, s->streaming);
}

void cln_stage_y(const struct cln_stage *s, const struct cln_runs *r, const float *t)
{
    const struct cln_op *op = s->op;
    int after = op->residual == CLNORM_RESIDUAL_AFTER;
    for (uint64_t i = 0; i < r->count; i++) {
        uint64_t at = r->at + i * r->stride;
        s->kernels->elements.activate(t + i * r->length, after ? cln_stage_at(op, CLN_Z, at) : NULL,
                                      cln_stage_at(op, CLN_Y, at), &s->fusion, r->length, s->streaming);
    }
}

/* ---- bands: what is added up ---- */

/* How a band is cut into blocks: so many of its groups, of its outers, and of the elements of a run. */
struct cut {
    uint64_t groups, outers, inners;
};

static struct cut cut_of(const struct cln_band *b, int columns, uint64_t elements)
{
    struct cut c = {.inners = least(b->inners, elements)};
    if (columns) { /* few rows, but whole ones up to COLUMNS */
        c.groups = least(b->count, COLUMNS);
        c.outers = most(1, least(b->outers, elements / c.groups));
    } else {
        c.outers = most(1, least(b->outers, elements / c.inners));
        c.groups = b->group_stride == b->inners ? most(1, least(b->count, elements / (c.outers * c.inners))) : 1;
        c.groups = c.inners < b->inners ? 1 : c.groups;
    }
    return c;
}

/* A block: groups from j on, outers from o on, elements of each run from i on. In scratch a group's run follows the group's before it, and
 * an outer the outer before it. */
struct block {
    struct cln_runs runs;
    struct cln_band dense;
    uint64_t elements;
};

static struct block block_of(const struct cln_band *b, const struct cut *c, int columns, uint64_t at, uint64_t j,
                             uint64_t o, uint64_t i)
{
    uint64_t groups = least(c->groups, b->count - j), outers = least(c->outers, b->outers - o),
             inners = least(c->inners, b->inners - i), run = groups * inners;
    size_t ahead = b->ahead;
    if (columns) /* the same rows further on, or the next ones */
        ahead = j + groups < b->count ? groups : (o + outers < b->outers ? outers * b->outer_stride - j : 0);
    return (struct block){
        .runs = {at + j * b->group_stride + o * b->outer_stride + i, outers, run, b->outer_stride, ahead},
        .dense = {outers, inners, run, columns ? 1 : inners, (uint32_t)groups, 0, NULL},
        .elements = outers * run};
}

/* Calls BODY for the blocks of a band; the groups of the outer loop are whole before the next ones begin, but for columns, whose rows are
 * read in their order. */
#define FOR_BLOCKS(b, c, at, columns, BODY)                                                                            \
    do {                                                                                                               \
        for (uint64_t o_ = 0; (columns) && o_ < (b).outers; o_ += (c).outers) {                                        \
            for (uint64_t j_ = 0; j_ < (b).count; j_ += (c).groups)                                                    \
                BODY(block_of(&(b), &(c), 1, (at), j_, o_, 0), j_);                                                    \
        }                                                                                                              \
        for (uint64_t j_ = 0; !(columns) && j_ < (b).count; j_ += (c).groups) {                                        \
            for (uint64_t o_ = 0; o_ < (b).outers; o_ += (c).outers) {                                                 \
                for (uint64_t i_ = 0; i_ < (b).inners; i_ += (c).inners)                                               \
                    BODY(block_of(&(b), &(c), 0, (at), j_, o_, i_), j_);                                               \
            }                                                                                                          \
        }                                                                                                              \
    } while (0)

static void moments_add(double before, double count, const double *part_mean, const double *part_m2, uint64_t groups,
                        double *mean, double *m2)
{
    double share = count / (before + count), weight = before * share;
    for (uint64_t g = 0; g < groups; g++) {
        double delta = part_mean[g] - mean[g];
        m2[g] += part_m2[g] + (weight > 0.0 ? delta * delta * weight : 0.0);
        mean[g] += delta * share;
    }
}

/* NULL: there are none. */
static const struct cln_typed_family_kernels *typed_of(const struct cln_stage *s,
                                                       const struct cln_family_kernels *family)
{
    const struct cln_typed_family_kernels *typed =
        family == &s->kernels->columns ? &s->kernels->typed.columns : &s->kernels->typed.segments;
    return typed->apply ? typed : NULL;
}

void cln_stage_statistics(const struct cln_stage *s, const struct cln_family_kernels *family, uint64_t at,
                          struct cln_band b, double *mean, double *m2)
{
    if (s->op->x_dtype == CLNORM_F32) {
        family->statistics(cln_stage_at(s->op, CLN_X, at), b, mean, m2);
        return;
    }
    int columns = family == &s->kernels->columns;
    const struct cln_typed_family_kernels *typed = typed_of(s, family);
    if (typed) {
        typed->statistics(cln_stage_at(s->op, CLN_X, at), s->op->x_dtype, b, mean, m2);
        return;
    }
    struct cut c = cut_of(&b, columns, 2 * READ);
    float scratch[2 * READ];
    double part_mean[CLN_BAND], part_m2[CLN_BAND], before[CLN_BAND] = {0};
    memset(mean, 0, b.count * sizeof *mean);
    memset(m2, 0, b.count * sizeof *m2);
#define BODY(made, j)                                                                                                  \
    do {                                                                                                               \
        struct block k = (made);                                                                                       \
        double count = (double)(k.dense.outers * k.dense.inners);                                                      \
        family->statistics(cln_stage_x(s, &k.runs, scratch), k.dense, part_mean, part_m2);                             \
        moments_add(before[(j)], count, part_mean, part_m2, k.dense.count, mean + (j), m2 + (j));                      \
        before[(j)] += count;                                                                                          \
    } while (0)
    FOR_BLOCKS(b, c, at, columns, BODY);
#undef BODY
}

static struct cln_stretch dense_stretch(const struct block *k, int columns)
{
    return (struct cln_stretch){
        .count = k->elements, .groups = k->dense.count, .inners = columns ? 1 : k->dense.inners};
}

/* x of the runs, or what takes its place, x − mean from y; the stretch is of their groups. */
static const float *x_of(const struct cln_stage *s, const struct cln_family_kernels *family,
                         const struct cln_runs *runs, struct cln_stretch at, const struct cln_scalars *k,
                         float *scratch)
{
    if (!s->from_y)
        return cln_stage_x(s, runs, scratch);
    struct cln_scalars undo = {.m = k->bias, .c = k->m, .a = k->undo, .b = k->m}; /* m is 0 */
    cln_stage_before(s, runs, scratch);
    family->apply(scratch, scratch, at, &undo);
    return scratch;
}

static void block_dots(const struct cln_stage *s, const struct cln_family_kernels *family, const struct block *k,
                       const struct cln_scalars *of, double *sum_dy, double *sum_dyd)
{
    float x_scratch[READ], dy[READ];
    const float *x = dy; /* without x only Σdy is asked for */
    struct cln_stretch stretch = dense_stretch(k, family == &s->kernels->columns);
    if (cln_bound(s->op, CLN_X))
        x = x_of(s, family, &k->runs, stretch, of, x_scratch);
    if (s->again) {
        struct cln_scalars forward = {.m = of->m, .c = of->c, .a = of->a, .b = of->bias};
        family->apply(x, dy, stretch, &forward);
    }
    cln_stage_dy(s, &k->runs, s->again ? dy : NULL, dy);
    family->dots(x, dy, k->dense, of->m, of->c, sum_dy, sum_dyd);
}

void cln_stage_dots(const struct cln_stage *s, const struct cln_family_kernels *family, uint64_t at, struct cln_band b,
                    const struct cln_scalars *k, double *sum_dy, double *sum_dyd)
{
    const struct cln_op *op = s->op;
    if (op->x_dtype == CLNORM_F32 && op->y_dtype == CLNORM_F32 && !op->activation && !s->from_y) {
        const float *dy = cln_stage_at(op, CLN_DY, at), *x = cln_bound(op, CLN_X) ? cln_stage_at(op, CLN_X, at) : dy;
        family->dots(x, dy, b, k->m, k->c, sum_dy, sum_dyd);
        return;
    }
    const struct cln_typed_family_kernels *typed = typed_of(s, family);
    if (typed && !op->activation && !s->from_y) {
        enum cln_role x = cln_bound(op, CLN_X) ? CLN_X : CLN_DY;
        typed->dots(cln_stage_at(op, x, at), x == CLN_X ? op->x_dtype : op->y_dtype, cln_stage_at(op, CLN_DY, at),
                    op->y_dtype, b, k->m, k->c, sum_dy, sum_dyd);
        return;
    }
    int columns = family == &s->kernels->columns;
    struct cut c = cut_of(&b, columns, READ);
    double part_dy[CLN_BAND], part_dyd[CLN_BAND];
    memset(sum_dy, 0, b.count * sizeof *sum_dy);
    memset(sum_dyd, 0, b.count * sizeof *sum_dyd);
#define BODY(made, j)                                                                                                  \
    do {                                                                                                               \
        struct block block = (made);                                                                                   \
        struct cln_scalars of = cln_stage_scalars(k, (j));                                                             \
        block_dots(s, family, &block, &of, part_dy, part_dyd);                                                         \
        for (uint64_t g = 0; g < block.dense.count; g++) {                                                             \
            sum_dy[(j) + g] += part_dy[g];                                                                             \
            sum_dyd[(j) + g] += part_dyd[g];                                                                           \
        }                                                                                                              \
    } while (0)
    FOR_BLOCKS(b, c, at, columns, BODY);
#undef BODY
}

/* ---- stretches: what is written ---- */

/* n elements of a stretch from its element `first` on. */
static struct cln_stretch part_of(const struct cln_stretch *all, uint64_t first, uint64_t n)
{
    uint64_t from = all->inner + first;
    return (struct cln_stretch){.count = n,
                                .group = (all->group + from / all->inners) % all->groups,
                                .inner = from % all->inners,
                                .groups = all->groups,
                                .inners = all->inners};
}

/* Blocks of a stretch end where lines of what is written do. */
static uint64_t first_block(const struct cln_op *op, enum cln_role role, uint64_t at)
{
    uint64_t bytes = cln_role_bytes(op, role), place = (uintptr_t)cln_stage_at(op, role, at) / bytes;
    return WRITE - place % LINE_ELEMENTS;
}

void cln_stage_apply(const struct cln_stage *s, const struct cln_family_kernels *family, uint64_t at,
                     struct cln_stretch all, const struct cln_scalars *k)
{
    const struct cln_op *op = s->op;
    if (s->plain) {
        all.streaming = s->streaming;
        family->apply(cln_stage_at(op, CLN_X, at), cln_stage_at(op, CLN_Y, at), all, k);
        return;
    }
    const struct cln_typed_family_kernels *typed = cln_can_finish(op->activation) ? typed_of(s, family) : NULL;
    if (typed) {
        struct cln_finish finish = cln_stage_finish(s, at);
        all.streaming = s->streaming;
        typed->apply(cln_stage_at(op, CLN_X, at), op->x_dtype, cln_stage_at(op, CLN_Y, at), op->y_dtype, all, k,
                     s->unfused ? NULL : &finish);
        return;
    }
    float x[WRITE], t[WRITE];
    for (uint64_t i = 0, n = first_block(op, CLN_Y, at); i < all.count; i += n, n = WRITE) {
        n = least(n, all.count - i);
        struct cln_runs runs = {at + i, 1, n, n, 0};
        family->apply(cln_stage_x(s, &runs, x), t, part_of(&all, i, n), k);
        cln_stage_y(s, &runs, t);
    }
}

static void plain_gradient(const struct cln_stage *s, const struct cln_family_kernels *family, uint64_t at,
                           struct cln_stretch all, const struct cln_scalars *k)
{
    const struct cln_op *op = s->op;
    const float *x = cln_stage_at(op, CLN_X, at), *dy = cln_stage_at(op, CLN_DY, at);
    float *dx = cln_stage_at(op, CLN_DX, at);
    all.streaming = s->streaming;
    if (op->source == CLN_FROM_RUNNING) {
        struct cln_scalars scale = {.m = k->q, .c = k->q, .a = k->a, .b = k->b};
        family->apply(dy, dx, all, &scale);
    } else {
        family->gradient(x, dy, dx, all, k);
    }
}

static void typed_gradient(const struct cln_stage *s, const struct cln_typed_family_kernels *typed, uint64_t at,
                           struct cln_stretch all, const struct cln_scalars *k)
{
    const struct cln_op *op = s->op;
    const void *x = cln_stage_at(op, CLN_X, at), *dy = cln_stage_at(op, CLN_DY, at);
    void *dx = cln_stage_at(op, CLN_DX, at);
    all.streaming = s->streaming;
    if (op->source == CLN_FROM_RUNNING) {
        struct cln_scalars scale = {.m = k->q, .c = k->q, .a = k->a, .b = k->b};
        typed->apply(dy, op->y_dtype, dx, op->x_dtype, all, &scale, NULL);
    } else {
        typed->gradient(x, op->x_dtype, dy, op->y_dtype, dx, all, k);
    }
}

void cln_stage_gradient(const struct cln_stage *s, const struct cln_family_kernels *family, uint64_t at,
                        struct cln_stretch all, const struct cln_scalars *k)
{
    const struct cln_op *op = s->op;
    if (s->plain) {
        plain_gradient(s, family, at, all, k);
        return;
    }
    const struct cln_typed_family_kernels *typed = s->unfused && !s->from_y ? typed_of(s, family) : NULL;
    if (typed) {
        typed_gradient(s, typed, at, all, k);
        return;
    }
    float x_scratch[WRITE], dy[WRITE], dx[WRITE];
    struct cln_scalars forward = {.m = k->m, .c = k->c, .a = k->a, .b = k->bias},
                       scale = {.m = k->q, .c = k->q, .a = k->a, .b = k->b};
    enum cln_role out = cln_bound(op, CLN_DX) ? CLN_DX : CLN_DZ;
    int frozen = op->source == CLN_FROM_RUNNING, needs_x = s->again || (cln_bound(op, CLN_DX) && !frozen);
    for (uint64_t i = 0, n = first_block(op, out, at); i < all.count; i += n, n = WRITE) {
        n = least(n, all.count - i);
        struct cln_runs runs = {at + i, 1, n, n, 0};
        struct cln_stretch part = part_of(&all, i, n);
        const float *x = needs_x ? x_of(s, family, &runs, part, k, x_scratch) : NULL;
        if (s->again)
            family->apply(x, dy, part, &forward);
        cln_stage_dy(s, &runs, s->again ? dy : NULL, dy);
        if (cln_bound(op, CLN_DZ))
            cln_stage_put(s, &runs, CLN_DZ, dy);
        if (!cln_bound(op, CLN_DX))
            continue;
        if (frozen)
            family->apply(dy, dx, part, &scale);
        else
            family->gradient(x, dy, dx, part, k);
        cln_stage_put(s, &runs, CLN_DX, dx);
    }
}
