/* The buffers of a case: each between guards, in its type. */
#include "run.h"

#include <stdlib.h>
#include <string.h>

enum { GUARD = 16, STATE_PLANES = 3, STATISTICS_PLANES = 5, SUMS_PLANES = 4 };

static const char *const slot_names[SLOTS] = {
    "x",        "dy",        "weight", "bias",    "running_mean", "running_var", "mean (given)", "rstd (given)",
    "z",        "y (given)", "dx",     "dweight", "dbias",        "dz",          "v_dx",         "v_dweight",
    "v_dbias",  "y",         "state",  "mean",    "var",          "rstd",        "sum",          "statistics",
    "gathered", "sums",      "g_x",    "g_dy",    "g_weight",     "lengths",     "mask"};

const char *case_slot_name(enum case_slot slot)
{
    return slot_names[slot];
}

enum case_slot case_slot_y(const struct clnorm_case *c)
{
    return c->in_place ? SLOT_X : SLOT_Y;
}

enum case_slot case_slot_dx(const struct clnorm_case *c)
{
    return c->in_place ? SLOT_DY : SLOT_DX;
}

enum case_slot case_slot_sum(const struct clnorm_case *c)
{
    static const enum case_slot slots[] = {SLOT_SUM, SLOT_X, SLOT_Z};
    return slots[c->sum];
}

static clnorm_dtype slot_dtype(const struct clnorm_case *c, enum case_slot i)
{
    if ((size_t)i < INPUTS)
        return problem_input_dtype(c, (enum case_input)i);
    return i == SLOT_Y ? c->y_dtype : i == SLOT_SUM ? c->dtype : CLNORM_F32;
}

/* ---- elements -------------------------------------------------------------------------------------------------- */

size_t slot_bytes(const struct slot *slot, size_t elements)
{
    return elements * (slot->dtype == CLNORM_F32 ? sizeof(float) : sizeof(uint16_t));
}

double slot_get(const struct slot *slot, const unsigned char *from, size_t k)
{
    if (slot->dtype == CLNORM_F32) {
        float value;
        memcpy(&value, from + slot_bytes(slot, k), sizeof value);
        return value;
    }
    uint16_t bits;
    memcpy(&bits, from + slot_bytes(slot, k), sizeof bits);
    return reference_widen((enum reference_dtype)slot->dtype, bits);
}

void slot_put(const struct slot *slot, unsigned char *to, size_t k, double value)
{
    const float whole = (float)value;
    if (slot->dtype == CLNORM_F32) {
        memcpy(to + slot_bytes(slot, k), &whole, sizeof whole);
    } else {
        const uint16_t bits = reference_narrow((enum reference_dtype)slot->dtype, value);
        memcpy(to + slot_bytes(slot, k), &bits, sizeof bits);
    }
}

/* The fill of one type is not what another's becomes when it is read and written. */
static const uint32_t fill32 = 0x7fe5a5a5u;
static const uint16_t fill16[] = {0, 0x7fa5, 0x7fd3};

static const void *fill_of(const struct slot *slot)
{
    return slot->dtype == CLNORM_F32 ? (const void *)&fill32 : &fill16[slot->dtype];
}

void slot_put_fill(const struct slot *slot, unsigned char *to, size_t k)
{
    memcpy(to + slot_bytes(slot, k), fill_of(slot), slot_bytes(slot, 1));
}

bool slot_is_fill(const struct slot *slot, const unsigned char *from, size_t k)
{
    return memcmp(from + slot_bytes(slot, k), fill_of(slot), slot_bytes(slot, 1)) == 0;
}

bool slot_is_unchanged(const struct slot *slot, size_t k)
{
    return memcmp(slot->back + slot_bytes(slot, k), slot->image + slot_bytes(slot, k), slot_bytes(slot, 1)) == 0;
}

/* ---- buffers --------------------------------------------------------------------------------------------------- */

/* Nor may what is beyond the length of a sample be read. */
static void put_padding(const struct case_problem *p, enum case_slot i, const struct slot *slot)
{
    const bool read = i == SLOT_X || i == SLOT_DY || i == SLOT_Z;
    for (size_t k = 0; p->valid && read && k < p->elements; k++) {
        if (!reference_is_valid(&p->shape, k))
            slot_put_fill(slot, slot->image, slot->before + k);
    }
}

static clnorm_status slot_make(struct case_run *run, enum case_slot i, size_t count, size_t written)
{
    const struct case_problem *p = run->problem;
    struct slot *slot = &run->slots[i];
    slot->dtype = slot_dtype(&p->c, i);
    slot->before = GUARD + p->c.offset;
    slot->count = count;
    slot->written = written;
    slot->total = slot->before + count + GUARD;
    slot->image = malloc(slot_bytes(slot, slot->total));
    slot->back = malloc(slot_bytes(slot, slot->total));
    if (!slot->image || !slot->back)
        return CLNORM_E_NO_MEMORY;
    for (size_t k = 0; k < slot->total; k++)
        slot_put_fill(slot, slot->image, k);
    /* A tensor's samples beyond those of the call stay NaN: nothing may read them. */
    const float *input = (size_t)i < INPUTS ? p->input[i] : NULL;
    for (size_t k = 0; input && k < problem_input_count(&p->shape, (enum case_input)i); k++)
        slot_put(slot, slot->image, slot->before + k, input[k]);
    put_padding(p, i, slot);
    for (size_t k = 0; i == SLOT_LENGTHS && k < p->shape.n; k++)
        memcpy(slot->image + slot_bytes(slot, slot->before + k), &p->lengths[k], sizeof p->lengths[k]);
    slot->some = i == SLOT_STATISTICS || i == SLOT_GATHERED || (i == SLOT_STATE && p->c.norm == CLNORM_RMS);
    return clnorm_memory_create(run->device, slot_bytes(slot, slot->total), &slot->memory);
}

clnorm_buffer slot_buffer(const struct case_run *run, enum case_slot i)
{
    const struct slot *slot = &run->slots[i];
    if (!slot->memory)
        return clnorm_none();
    return clnorm_memory_part(slot->memory, slot_bytes(slot, slot->before), slot_bytes(slot, slot->count));
}

/* Of a mask. */
static size_t words_of(size_t elements)
{
    return (elements + 31) / 32;
}

clnorm_status slots_make(struct case_run *run)
{
    const struct case_problem *p = run->problem;
    const struct clnorm_case *c = &p->c;
    const bool steps_forward = c->mode == CASE_STEPS_FORWARD, steps_backward = c->mode == CASE_STEPS_BACKWARD;
    const bool infer = c->mode == CASE_INFER, dy = case_mode_has_dy(c->mode);
    const bool by_state = c->mode == CASE_BACKWARD || c->mode == CASE_DOUBLE || steps_backward;
    const struct reference_problem plan = case_shape(c, c->plan_n);
    const size_t channels = p->shape.c, weights = p->weights, whole = reference_elements(&plan), elements = p->elements;
    const size_t groups = reference_groups(&plan);
    const bool makes_mask = c->by == CASE_BY_MASK && (!c->in_place || dy);
    /* Of no samples nothing is written but gradients, counts and sums. */
    const size_t per_group = c->n ? p->groups : 0, per_channel = c->n ? channels : 0;
    struct {
        bool has;
        size_t count, written;
    } want[SLOTS];
    memset(want, 0, sizeof want);
    for (size_t i = 0; i < INPUTS; i++) {
        want[i].has = p->input[i] != NULL;
        want[i].count = problem_input_count(&plan, (enum case_input)i);
    }
    if (c->in_place && dy && case_has(c, CASE_DX))
        want[SLOT_DY].written = elements;
    if (c->in_place && !dy)
        want[SLOT_X].written = elements;
    if (c->residual == CLNORM_RESIDUAL_BEFORE && c->sum != CASE_SUM_APART)
        want[case_slot_sum(c)].written = elements;
    if (!dy && !infer)
        want[SLOT_RUNNING_MEAN].written = want[SLOT_RUNNING_VAR].written = per_channel;

#define WANT(slot, condition, size, written_)                                                                          \
    want[slot].has = (condition), want[slot].count = (size), want[slot].written = (written_)
    WANT(SLOT_Y, (!c->in_place && !dy) || by_state || c->by == CASE_BY_Y || makes_mask, whole, elements);
    WANT(SLOT_STATE, (!c->in_place && !dy && !infer) || by_state, clnorm_plan_state_bytes(run->plan) / sizeof(float),
         STATE_PLANES * per_group);
    WANT(SLOT_MEAN, case_has(c, CASE_MEAN), groups, per_group);
    WANT(SLOT_VAR, case_has(c, CASE_VAR), groups, per_group);
    WANT(SLOT_RSTD, case_has(c, CASE_RSTD), groups, per_group);
    WANT(SLOT_DX, case_has(c, CASE_DX) && !c->in_place, whole, elements);
    WANT(SLOT_DWEIGHT, case_has(c, CASE_DWEIGHT), weights, weights);
    WANT(SLOT_DBIAS, case_has(c, CASE_DBIAS), weights, weights);
    WANT(SLOT_DZ, case_has(c, CASE_DZ), whole, elements);
    WANT(SLOT_SUM, c->residual == CLNORM_RESIDUAL_BEFORE && c->sum == CASE_SUM_APART && p->input[INPUT_Z], whole,
         elements);
    WANT(SLOT_STATISTICS, steps_forward, STATISTICS_PLANES * channels, STATISTICS_PLANES * channels);
    WANT(SLOT_GATHERED, steps_forward && c->parts > 1, c->parts * STATISTICS_PLANES * channels,
         c->parts * STATISTICS_PLANES * channels);
    WANT(SLOT_SUMS, steps_backward, c->parts * SUMS_PLANES * channels, c->parts * SUMS_PLANES * channels);
    WANT(SLOT_G_X, case_has(c, CASE_G_X), whole, elements);
    WANT(SLOT_G_DY, case_has(c, CASE_G_DY), whole, elements);
    WANT(SLOT_G_WEIGHT, case_has(c, CASE_G_WEIGHT), weights, weights);
    WANT(SLOT_LENGTHS, p->lengths != NULL, plan.n, 0);
    WANT(SLOT_MASK, c->by == CASE_BY_MASK, words_of(whole), words_of(elements));
#undef WANT

    clnorm_status status = CLNORM_OK;
    for (int i = 0; i < SLOTS && status == CLNORM_OK; i++) {
        if (want[i].has)
            status = slot_make(run, (enum case_slot)i, want[i].count, want[i].written);
    }
    return status;
}
