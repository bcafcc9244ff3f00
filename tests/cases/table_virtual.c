/* The cases of virtual batches, of batch norm: sizes that divide the batch and that leave a rest, of one sample and of all; each with the
 * options and fusions that go through every batch. Their forms are those of table_fused.c, so that no device compiles for them. */
#include "table.h"

#include <stddef.h>

#define COUNT(array) (sizeof(array) / sizeof *(array))

/* By layout. Odd sizes, so that batches begin anywhere. */
static const struct shape shapes[] = {{47, 13, 0, {0}}, {7, 13, 2, {5, 7}}, {7, 13, 2, {5, 7}}};
static const struct shape data_shapes[] = {{1027, 5, 0, {0}}, {9, 3, 2, {19, 20}}, {9, 3, 2, {19, 20}}};
static const struct shape one_channel[] = {{29, 1, 0, {0}}, {7, 1, 2, {5, 7}}, {7, 1, 2, {5, 7}}};
static const struct shape one_position[] = {{31, 19, 0, {0}}, {31, 19, 1, {1}}, {31, 19, 1, {1}}};
static const struct shape large_shapes[] = {{4099, 251, 0, {0}}, {35, 32, 2, {31, 30}}, {35, 32, 2, {31, 30}}};

/* Batches of one sample, a divisor or none, a rest of one sample, all but one, all, and more than there are. */
static const int64_t flat_sizes[] = {1, 8, 23, 46, 47, 100}, spatial_sizes[] = {1, 2, 3, 6, 7, 100};
enum { SIZES = COUNT(flat_sizes) };

static size_t turns; /* cases so far */

/* The short suite has one in 7, a number that divides no period of what takes turns. */
static void add(struct clnorm_case c)
{
    table_add(c, turns++, 7);
}

/* Of batches that leave a rest. */
static struct clnorm_case virtual_case(clnorm_layout layout, const struct shape *by_layout, enum case_mode mode)
{
    struct clnorm_case c = table_case(layout, &by_layout[layout], mode);
    c.virtual_batch = (c.n + 2) / 3 + (c.n % 3 == 0);
    return c;
}

static void add_sizes(clnorm_layout layout)
{
    static const enum case_mode modes[] = {CASE_TRAIN, CASE_BACKWARD, CASE_GIVEN};
    for (size_t i = 0; i < SIZES; i++) {
        for (size_t k = 0; k < COUNT(modes); k++) {
            struct clnorm_case c = virtual_case(layout, shapes, modes[k]);
            c.virtual_batch = layout == CLNORM_NC ? flat_sizes[i] : spatial_sizes[i];
            c.affine = (enum case_affine)(turns % CASE_AFFINES);
            c.in_place = turns % 5 == 1;
            c.offset = turns % 4 == 2;
            add(c);
        }
    }
    for (int mode = CASE_TRAIN; mode <= CASE_GIVEN; mode++) {
        add(virtual_case(layout, one_channel, (enum case_mode)mode));
        add(virtual_case(layout, one_position, (enum case_mode)mode));
        struct clnorm_case c = virtual_case(layout, shapes, (enum case_mode)mode);
        c.n -= 2; /* of a plan for more */
        add(c);
        c.n = 0;
        add(c);
    }
    add(virtual_case(layout, large_shapes, CASE_TRAIN));
    add(virtual_case(layout, large_shapes, CASE_BACKWARD));
}

static void add_data(clnorm_layout layout)
{
    static const enum case_data kinds[] = {
        CASE_DATA_MEAN1E6_STD1E_2, CASE_DATA_STEPS_AT_40000, CASE_DATA_OUTLIER1E8_FIRST, CASE_DATA_CONSTANT_1234_567,
        CASE_DATA_EXACT_INTEGERS,  CASE_DATA_DY_MEAN1E4,     CASE_DATA_NAN_FIRST,        CASE_DATA_NAN_LAST,
        CASE_DATA_INF_MIDDLE,      CASE_DATA_NAN_DY};
    for (size_t i = 0; i < COUNT(kinds); i++) {
        const bool of_dy = kinds[i] == CASE_DATA_DY_MEAN1E4 || kinds[i] == CASE_DATA_NAN_DY;
        struct clnorm_case c = virtual_case(layout, data_shapes, of_dy || turns % 2 ? CASE_BACKWARD : CASE_TRAIN);
        c.data = kinds[i];
        c.affine = c.mode == CASE_TRAIN ? CASE_AFFINE_NONE : CASE_AFFINE_BOTH;
        add(c);
    }
}

/* The batches enter one after the other. */
static void add_running(clnorm_layout layout)
{
    for (int unbiased = 0; unbiased < 2; unbiased++) {
        struct clnorm_case plain = virtual_case(layout, shapes, CASE_TRAIN), c = plain;
        plain.running.variance = c.running.variance = unbiased ? CLNORM_UNBIASED : CLNORM_BIASED;
        c.running.momentum = unbiased ? 0.5f : 1;
        add(c);
        c = plain;
        c.running.average = CLNORM_CUMULATIVE;
        c.running.count = unbiased ? 9 : 0;
        c.data = CASE_DATA_MEAN1E6;
        add(c);
    }
    struct clnorm_case c = virtual_case(layout, data_shapes, CASE_TRAIN);
    c.running.guard = CLNORM_GUARD_FINITE;
    c.data = CASE_DATA_INF_MIDDLE; /* one batch of the channel does not enter */
    add(c);
    c = virtual_case(layout, shapes, CASE_TRAIN);
    c.running.variance = CLNORM_UNBIASED; /* of one value, in NC */
    c.virtual_batch = 1;
    add(c);
}

static void add_omissions(clnorm_layout layout)
{
    static const unsigned forward[] = {CASE_BIT(CASE_RUNNING_MEAN) | CASE_BIT(CASE_RUNNING_VAR),
                                       CASE_BIT(CASE_MEAN) | CASE_BIT(CASE_VAR) | CASE_BIT(CASE_RSTD)};
    static const unsigned backward[] = {CASE_BIT(CASE_DX), CASE_BIT(CASE_DWEIGHT),
                                        CASE_BIT(CASE_DWEIGHT) | CASE_BIT(CASE_DBIAS),
                                        CASE_BIT(CASE_DX) | CASE_BIT(CASE_DWEIGHT)};
    for (size_t i = 0; i < COUNT(forward); i++) {
        struct clnorm_case c = virtual_case(layout, shapes, CASE_TRAIN);
        c.omit = forward[i];
        add(c);
    }
    for (size_t i = 0; i < COUNT(backward); i++) {
        struct clnorm_case c = virtual_case(layout, shapes, CASE_BACKWARD);
        c.omit = backward[i];
        add(c);
    }
}

/* Types, activations, residuals and gradients that are added, each through every batch. */
static void add_fusions(clnorm_layout layout)
{
    static const struct {
        clnorm_dtype x, y;
        clnorm_activation activation;
        clnorm_residual residual;
        enum case_by by;
        uint32_t accumulate;
    } rows[] = {{CLNORM_F16, CLNORM_F16, CLNORM_NO_ACTIVATION, CLNORM_NO_RESIDUAL, CASE_BY_INPUTS, 0},
                {CLNORM_F32, CLNORM_BF16, CLNORM_NO_ACTIVATION, CLNORM_NO_RESIDUAL, CASE_BY_INPUTS,
                 CLNORM_ADD_DX | CLNORM_ADD_DWEIGHT},
                {CLNORM_F32, CLNORM_F32, CLNORM_RELU, CLNORM_NO_RESIDUAL, CASE_BY_Y, CLNORM_ADD_DBIAS},
                {CLNORM_F32, CLNORM_F32, CLNORM_RELU, CLNORM_NO_RESIDUAL, CASE_BY_MASK, CLNORM_ADD_DX},
                {CLNORM_BF16, CLNORM_F16, CLNORM_RELU, CLNORM_RESIDUAL_AFTER, CASE_BY_MASK, 0},
                {CLNORM_BF16, CLNORM_F16, CLNORM_RELU, CLNORM_RESIDUAL_AFTER, CASE_BY_INPUTS, CLNORM_ADD_DZ},
                {CLNORM_F32, CLNORM_F32, CLNORM_NO_ACTIVATION, CLNORM_RESIDUAL_AFTER, CASE_BY_INPUTS,
                 CLNORM_ADD_DX | CLNORM_ADD_DWEIGHT | CLNORM_ADD_DBIAS | CLNORM_ADD_DZ},
                {CLNORM_F16, CLNORM_F32, CLNORM_SILU, CLNORM_RESIDUAL_AFTER, CASE_BY_INPUTS, 0}};
    for (size_t i = 0; i < COUNT(rows); i++) {
        static const enum case_mode modes[] = {CASE_TRAIN, CASE_BACKWARD};
        for (size_t k = 0; k < COUNT(modes); k++) {
            struct clnorm_case c = virtual_case(layout, shapes, modes[k]);
            c.dtype = rows[i].x;
            c.y_dtype = rows[i].y;
            c.activation = rows[i].activation;
            c.residual = rows[i].residual;
            c.by = modes[k] == CASE_BACKWARD || rows[i].by == CASE_BY_MASK ? rows[i].by : CASE_BY_INPUTS;
            c.accumulate = modes[k] == CASE_BACKWARD ? rows[i].accumulate : 0;
            c.offset = i % 2;
            add(c);
        }
    }
}

void table_add_virtual(void)
{
    for (int layout = CLNORM_NC; layout <= CLNORM_NSC; layout++) {
        add_sizes((clnorm_layout)layout);
        add_data((clnorm_layout)layout);
        add_running((clnorm_layout)layout);
        add_omissions((clnorm_layout)layout);
        add_fusions((clnorm_layout)layout);
    }
}
