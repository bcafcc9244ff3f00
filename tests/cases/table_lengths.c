/* The cases of samples with lengths, of batch, group and instance norm in both layouts that have positions: every kind of lengths, shapes
 * that are cut in every way, and the options and fusions that go through every sample. Their forms are those of table_fused.c, so that a
 * device compiles few more. */
#include "table.h"

#include <stddef.h>

#define COUNT(array) (sizeof(array) / sizeof *(array))

static const clnorm_norm norms[] = {CLNORM_BATCH, CLNORM_GROUP, CLNORM_INSTANCE};

/* Few and many channels, one of them, one position, one sample, runs shorter than a vector, runs and rows that are cut, and more samples
 * than a work-group has rows. */
static const struct shape shapes[] = {{5, 12, 1, {37}},   {7, 1, 1, {53}},  {9, 18, 1, {1}},
                                      {1, 12, 1, {1003}}, {3, 6, 1, {5}},   {2, 4, 1, {9001}},
                                      {4, 260, 1, {31}},  {67, 6, 1, {11}}, {3, 1032, 1, {17}}};
static const struct shape option_shape = {5, 12, 1, {37}}, data_shape = {4, 6, 1, {1301}},
                          large_shape = {9, 64, 1, {2111}};

static size_t turns; /* cases so far */

/* The short suite has one in 7, a number that divides no period of what takes turns. */
static void add(struct clnorm_case c)
{
    table_add(c, turns++, 7);
}

static struct clnorm_case case_of(clnorm_norm norm, clnorm_layout layout, const struct shape *shape,
                                  enum case_mode mode, enum case_lengths lengths)
{
    struct clnorm_case c = table_norm_case(norm, layout, shape, mode, turns);
    c.lengths = lengths;
    return c;
}

static bool has(clnorm_norm norm, enum case_mode mode)
{
    return mode < CASE_STEPS_FORWARD && case_norm_has(norm, mode);
}

static void add_shapes(clnorm_norm norm, clnorm_layout layout)
{
    for (size_t i = 0; i < COUNT(shapes); i++) {
        for (int mode = CASE_TRAIN; mode <= CASE_GIVEN; mode++) {
            if (!has(norm, (enum case_mode)mode))
                continue;
            struct clnorm_case c = case_of(norm, layout, &shapes[i], (enum case_mode)mode, CASE_LENGTHS_RAGGED);
            c.seed = 1 + turns % 3;
            c.affine = (enum case_affine)(turns % CASE_AFFINES);
            c.in_place = turns % 3 == 1;
            c.offset = turns % 4 == 2 ? 3 : 0;
            add(c);
        }
    }
    add(case_of(norm, layout, &large_shape, CASE_TRAIN, CASE_LENGTHS_RAGGED));
    add(case_of(norm, layout, &large_shape, CASE_BACKWARD, CASE_LENGTHS_RAGGED));
}

static void add_kinds(clnorm_norm norm, clnorm_layout layout)
{
    static const enum case_lengths kinds[] = {CASE_LENGTHS_WHOLE, CASE_LENGTHS_EMPTY, CASE_LENGTHS_OUTSIDE};
    for (size_t i = 0; i < COUNT(kinds); i++) {
        for (int mode = CASE_TRAIN; mode <= CASE_GIVEN; mode++) {
            if (has(norm, (enum case_mode)mode))
                add(case_of(norm, layout, &option_shape, (enum case_mode)mode, kinds[i]));
        }
    }
    for (int mode = CASE_TRAIN; mode <= CASE_GIVEN; mode++) {
        if (!has(norm, (enum case_mode)mode))
            continue;
        struct clnorm_case c = case_of(norm, layout, &option_shape, (enum case_mode)mode, CASE_LENGTHS_RAGGED);
        c.n -= 2; /* of a plan for more */
        add(c);
        c.n = 0;
        add(c);
    }
}

static void add_data(clnorm_norm norm, clnorm_layout layout)
{
    static const enum case_data kinds[] = {CASE_DATA_MEAN1E6_STD1E_2,
                                           CASE_DATA_STEPS_AT_40000,
                                           CASE_DATA_OUTLIER1E8_FIRST,
                                           CASE_DATA_CONSTANT_1234_567,
                                           CASE_DATA_EXACT_INTEGERS,
                                           CASE_DATA_DY_MEAN1E4,
                                           CASE_DATA_HUGE};
    for (size_t i = 0; i < COUNT(kinds); i++) {
        const bool of_dy = kinds[i] == CASE_DATA_DY_MEAN1E4;
        struct clnorm_case c =
            case_of(norm, layout, &data_shape, of_dy || turns % 2 ? CASE_BACKWARD : CASE_TRAIN, CASE_LENGTHS_RAGGED);
        c.data = kinds[i];
        c.affine = c.mode == CASE_TRAIN ? CASE_AFFINE_NONE : CASE_AFFINE_BOTH;
        add(c);
    }
}

static void add_running(clnorm_norm norm, clnorm_layout layout)
{
    static const enum case_lengths kinds[] = {CASE_LENGTHS_RAGGED, CASE_LENGTHS_EMPTY, CASE_LENGTHS_OUTSIDE};
    for (size_t i = 0; i < COUNT(kinds) && has(norm, CASE_INFER); i++) {
        struct clnorm_case c = case_of(norm, layout, &option_shape, CASE_TRAIN, kinds[i]);
        c.running.variance = CLNORM_UNBIASED;
        add(c);
        c.running.average = CLNORM_CUMULATIVE;
        c.running.count = 9;
        c.seed = 5;
        add(c);
    }
}

static void add_omissions(clnorm_norm norm, clnorm_layout layout)
{
    static const unsigned omissions[] = {CASE_BIT(CASE_DX), CASE_BIT(CASE_DWEIGHT),
                                         CASE_BIT(CASE_DWEIGHT) | CASE_BIT(CASE_DBIAS)};
    static const enum case_mode modes[] = {CASE_BACKWARD, CASE_FROZEN};
    for (size_t i = 0; i < COUNT(omissions); i++) {
        for (size_t k = 0; k < COUNT(modes); k++) {
            struct clnorm_case c = case_of(norm, layout, &option_shape, modes[k], CASE_LENGTHS_RAGGED);
            c.omit = omissions[i];
            if (has(norm, modes[k]))
                add(c);
        }
    }
}

/* Types, activations, residuals and gradients that are added. */
static void add_fusions(clnorm_norm norm, clnorm_layout layout)
{
    static const struct {
        clnorm_dtype x, y;
        clnorm_activation activation;
        clnorm_residual residual;
        enum case_by by;
        uint32_t accumulate;
    } rows[] = {
        {CLNORM_F16, CLNORM_F16, CLNORM_NO_ACTIVATION, CLNORM_NO_RESIDUAL, CASE_BY_INPUTS, 0},
        {CLNORM_F32, CLNORM_F32, CLNORM_NO_ACTIVATION, CLNORM_NO_RESIDUAL, CASE_BY_INPUTS,
         CLNORM_ADD_DX | CLNORM_ADD_DWEIGHT},
        {CLNORM_F32, CLNORM_F32, CLNORM_RELU, CLNORM_NO_RESIDUAL, CASE_BY_Y, CLNORM_ADD_DBIAS},
        {CLNORM_F32, CLNORM_F32, CLNORM_RELU, CLNORM_NO_RESIDUAL, CASE_BY_MASK, CLNORM_ADD_DX},
        {CLNORM_BF16, CLNORM_F16, CLNORM_RELU, CLNORM_RESIDUAL_AFTER, CASE_BY_MASK, 0},
        {CLNORM_BF16, CLNORM_F16, CLNORM_RELU, CLNORM_RESIDUAL_AFTER, CASE_BY_INPUTS, CLNORM_ADD_DX | CLNORM_ADD_DZ},
        {CLNORM_F32, CLNORM_F32, CLNORM_NO_ACTIVATION, CLNORM_RESIDUAL_AFTER, CASE_BY_INPUTS, 0}};
    for (size_t i = 0; i < COUNT(rows); i++) {
        static const enum case_mode modes[] = {CASE_TRAIN, CASE_BACKWARD, CASE_INFER};
        for (size_t k = 0; k < COUNT(modes); k++) {
            struct clnorm_case c = case_of(norm, layout, &option_shape, modes[k], CASE_LENGTHS_RAGGED);
            c.dtype = rows[i].x;
            c.y_dtype = rows[i].y;
            c.activation = rows[i].activation;
            c.residual = rows[i].residual;
            c.by = modes[k] == CASE_BACKWARD || rows[i].by == CASE_BY_MASK ? rows[i].by : CASE_BY_INPUTS;
            c.accumulate = modes[k] == CASE_BACKWARD ? rows[i].accumulate : 0;
            c.offset = i % 2;
            if (has(norm, modes[k]))
                add(c);
        }
    }
}

void table_add_lengths(void)
{
    for (size_t i = 0; i < COUNT(norms); i++) {
        for (int layout = CLNORM_NCS; layout <= CLNORM_NSC; layout++) {
            add_shapes(norms[i], (clnorm_layout)layout);
            add_kinds(norms[i], (clnorm_layout)layout);
            add_data(norms[i], (clnorm_layout)layout);
            add_running(norms[i], (clnorm_layout)layout);
            add_omissions(norms[i], (clnorm_layout)layout);
            add_fusions(norms[i], (clnorm_layout)layout);
        }
    }
}
