/* Every call is at most a reading of the tensor (statistics, sums), steps on what it has of each group, and a writing. Where a band
 * of groups fits a core's cache all three are done band by band, and memory is read once. Otherwise each goes over the whole tensor in
 * the order of addresses. */
#include "cpu/run.h"

#include "base/integers.h"
#include "cpu/grid.h"
#include "cpu/simd/simd.h"
#include "cpu/stage.h"
#include "cpu/steps.h"
#include "cpu/threads.h"
#include "cpu/writer.h"

enum {
    CHAINS = 2, /* of bands, a thread: a second one for the thread that is done first */
    NEAR = 512  /* elements of all tensors that are fetched ahead in bands too large for the next one to be */
};

struct call {
    struct cln_cpu_plan *plan;
    const struct cln_op *op;
    struct cln_grid grid;
    const struct cln_family_kernels *kernels;
    int reads, writes; /* whether the call has such a step */
    enum cln_step reading, writing;
    struct cln_stage stage;
    uint64_t chains; /* of tiled bands */
};

static struct cln_share share_of(const struct call *call, uint64_t band)
{
    return (struct cln_share){call->plan, call->op, &call->grid, cln_grid_first(&call->grid, band),
                              cln_grid_count(&call->grid, band)};
}

uint64_t cln_cpu_tensor_bytes(const struct cln_op *op)
{
    const enum cln_role of_x[] = {CLN_X, CLN_DX, CLN_Z, CLN_SUM, CLN_DZ}, of_y[] = {CLN_Y, CLN_DY};
    uint64_t bytes = 0;
    for (size_t i = 0; i < sizeof of_x / sizeof *of_x; i++)
        bytes += cln_bound(op, of_x[i]) && !(op->from_y && of_x[i] == CLN_X) ? cln_dtype_bytes(op->x_dtype) : 0;
    for (size_t i = 0; i < sizeof of_y / sizeof *of_y; i++)
        bytes += cln_bound(op, of_y[i]) ? cln_dtype_bytes(op->y_dtype) : 0;
    return bytes * op->elements;
}

int cln_cpu_streams(const struct cln_cpu_plan *plan, const struct cln_op *op)
{
    return cln_cpu_tensor_bytes(op) > plan->cache_bytes / 4;
}

int cln_cpu_chains(const struct cln_grid *grid, const struct cln_view *view, const struct cln_stage *stage)
{
    return grid->tiled && grid->family == CLN_SEGMENTS && cln_writer_suits(stage, view->inners);
}

/* ---- one band or part of it ---- */

static void read_part(const struct call *call, const struct cln_share *s, uint64_t band, uint64_t part, size_t ahead,
                      struct cln_beside *beside)
{
    const struct cln_op *op = call->op;
    uint64_t offset;
    struct cln_band b = cln_grid_part(&call->grid, &op->view, band, part, &offset);
    b.ahead = ahead;
    b.beside = beside;
    double *first = cln_cpu_partials(op, part, 0) + s->first, *second = cln_cpu_partials(op, part, 1) + s->first;
    if (call->reading == CLN_STEP_STATISTICS) {
        cln_stage_statistics(&call->stage, call->kernels, offset, b, first, second);
    } else {
        struct cln_center at = cln_cpu_center(s);
        struct cln_scalars k = {.m = at.m, .c = at.c};
        float a[CLN_BAND], bias[CLN_BAND];
        if (call->stage.from_y) {
            cln_cpu_fold_undo(s, a, bias);
            k.undo = a;
            k.bias = bias;
        } else if (call->stage.again) {
            cln_cpu_fold_forward(s, a, bias);
            k.a = a;
            k.bias = bias;
        }
        cln_stage_dots(&call->stage, call->kernels, offset, b, &k, first, second);
    }
}

static void small_steps(const struct call *call, const struct cln_share *s)
{
    for (int k = 0; k < call->op->step_count; k++)
        cln_cpu_step(s, call->op->steps[k]);
    if (call->writes)
        cln_cpu_fold(s, call->writing);
}

static void write_stretch(const struct call *call, uint64_t offset, struct cln_stretch at, const struct cln_scalars *k)
{
    if (call->writing == CLN_STEP_APPLY)
        cln_stage_apply(&call->stage, call->kernels, offset, at, k);
    else
        cln_stage_gradient(&call->stage, call->kernels, offset, at, k);
}

/* ---- tasks ---- */

static void read_task(void *context, size_t i)
{
    const struct call *call = context;
    uint64_t band = i % call->grid.bands;
    struct cln_share s = share_of(call, band);
    read_part(call, &s, band, i / call->grid.bands, 0, NULL);
}

static void small_task(void *context, size_t i)
{
    const struct call *call = context;
    struct cln_share s = share_of(call, i);
    small_steps(call, &s);
}

static void write_task(void *context, size_t i)
{
    const struct call *call = context;
    struct cln_share all = {call->plan, call->op, &call->grid, 0, 0};
    struct cln_scalars k = cln_cpu_scalars(&all);
    uint64_t offset;
    struct cln_stretch at = cln_grid_chunk(&call->grid, &call->op->view, i, &offset);
    write_stretch(call, offset, at, &k);
    if (call->stage.streaming)
        cln_cpu_stream_end();
}

/* Elements from a band to the next one, if that is to be fetched; else 0. */
static size_t next_ahead(const struct call *call, const struct cln_share *s, uint64_t band)
{
    return call->grid.fetches && band + 1 < call->grid.bands ? s->count * call->op->view.inners : 0;
}

/* A band through everything; while it is read from the cache the next one is fetched. */
static void tile_task(void *context, size_t i)
{
    const struct call *call = context;
    const struct cln_view *v = &call->op->view;
    struct cln_share s = share_of(call, i);
    read_part(call, &s, i, 0, next_ahead(call, &s, i), NULL);
    small_steps(call, &s);
    if (!call->writes)
        return;
    struct cln_scalars k = cln_cpu_scalars(&s);
    struct cln_stretch at = {.count = s.count * v->inners, .groups = s.count, .inners = v->inners};
    for (uint64_t o = 0; o < v->outers; o++)
        write_stretch(call, o * v->outer_stride + s.first * v->group_stride, at, &k);
    if (call->stage.streaming)
        cln_cpu_stream_end();
}

/* Neighbouring bands through everything. While the sums of one are taken, from the cache, the one before it is written and the one after
 * it is fetched, so that memory is read and written at the same time. */
static void chain_task(void *context, size_t i)
{
    const struct call *call = context;
    const struct cln_view *v = &call->op->view;
    struct cln_writer w = {.stage = NULL};
    const size_t near = call->reading == CLN_STEP_REDUCE ? NEAR / 2 : NEAR;
    uint64_t end = cln_grid_cut(call->grid.bands, i + 1, call->chains);
    for (uint64_t band = cln_grid_cut(call->grid.bands, i, call->chains); band < end; band++) {
        struct cln_share s = share_of(call, band);
        size_t ahead = call->grid.fetches ? next_ahead(call, &s, band) : near;
        read_part(call, &s, band, 0, ahead, cln_writer_beside(&w));
        cln_writer_finish(&w);
        small_steps(call, &s);
        w = (struct cln_writer){.stage = &call->stage,
                                .kernels = call->kernels,
                                .gradient = call->writing == CLN_STEP_BACKWARD_APPLY,
                                .scalars = cln_cpu_scalars(&s),
                                .first = s.first * v->group_stride,
                                .stretch = s.count * v->inners,
                                .groups = s.count};
        cln_writer_begin(&w);
    }
    cln_writer_finish(&w);
    cln_cpu_stream_end();
}

void cln_cpu_run(struct cln_cpu_plan *plan, const struct cln_op *op)
{
    enum {
        SMALL = 1 << 18, /* elements of all tensors up to which waking threads costs more than they do, */
        FEW = 1 << 12    /* and groups below which it does */
    };
    struct call call = {.plan = plan, .op = op};
    uint64_t elements = cln_view_elements(&op->view);
    for (int k = 0; k < op->step_count; k++) {
        enum cln_step step = op->steps[k];
        if (step == CLN_STEP_STATISTICS || step == CLN_STEP_REDUCE) {
            call.reads = 1;
            call.reading = step;
        } else if (step == CLN_STEP_APPLY || step == CLN_STEP_BACKWARD_APPLY) {
            call.writes = 1;
            call.writing = step;
        }
    }
    call.grid = cln_grid_make(&op->view, call.reading == CLN_STEP_REDUCE ? 2 : 1);
    call.kernels = call.grid.family == CLN_SEGMENTS ? &plan->kernels.segments : &plan->kernels.columns;
    call.stage = cln_stage_make(&plan->kernels, op, cln_cpu_streams(plan, op));
    int small =
        (call.reading == CLN_STEP_REDUCE || call.writing == CLN_STEP_BACKWARD_APPLY ? 3 : 2) * elements <= SMALL;
    size_t bands = (size_t)call.grid.bands;
    if (call.reads && call.writes && op->source != CLN_FROM_RUNNING &&
        cln_cpu_chains(&call.grid, &op->view, &call.stage)) {
        call.chains = least(bands, CHAINS * cln_threads_count());
        cln_parallel((size_t)call.chains, CLN_LAST, chain_task, &call);
        return;
    }
    if (call.reads && call.grid.tiled) {
        cln_parallel(bands, small ? CLN_ALONE : CLN_LAST, tile_task, &call);
        return;
    }
    enum cln_parallel_hint hint = small ? CLN_ALONE : CLN_ON;
    if (call.reads)
        cln_parallel(bands * (size_t)cln_grid_parts(&call.grid), hint, read_task, &call);
    cln_parallel(bands, op->view.groups < FEW ? CLN_ALONE : hint, small_task, &call);
    if (call.writes)
        cln_parallel((size_t)call.grid.chunks, hint == CLN_ON ? CLN_LAST : hint, write_task, &call);
}
