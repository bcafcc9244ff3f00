/* The cases of a backward from y. Their forms are few, for on OpenCL each is a program that takes seconds to compile. */
#include "table.h"

#include <stddef.h>

#define COUNT(array) (sizeof(array) / sizeof *(array))

static const clnorm_norm norms[] = {CLNORM_BATCH, CLNORM_LAYER, CLNORM_RMS, CLNORM_GROUP, CLNORM_INSTANCE};

static const struct form {
    clnorm_activation activation;
    float slope;
    clnorm_residual residual;
    clnorm_dtype x, y;
} forms[] = {{CLNORM_NO_ACTIVATION, 0.01f, CLNORM_NO_RESIDUAL, CLNORM_F32, CLNORM_F32},
             {CLNORM_LEAKY_RELU, 0.01f, CLNORM_NO_RESIDUAL, CLNORM_F32, CLNORM_F32},
             {CLNORM_NO_ACTIVATION, 0.01f, CLNORM_NO_RESIDUAL, CLNORM_BF16, CLNORM_BF16},
             {CLNORM_LEAKY_RELU, 0.25f, CLNORM_RESIDUAL_AFTER, CLNORM_F16, CLNORM_F32},
             {CLNORM_LEAKY_RELU, 0.01f, CLNORM_RESIDUAL_BEFORE, CLNORM_F32, CLNORM_F32}};
enum { FORMS = sizeof forms / sizeof *forms, FORMS_OF_ALL = FORMS - 1 }; /* the one before the norm is of rows alone */

/* |bias/weight|; 0: without bias. */
static const float ratios[] = {0, 1, 1e2f, 1e4f};

/* One value a group, few, many, sizes that divide nothing; the last two are split. */
static const struct shape shapes[] = {{1, 5, 0, {0}},       {47, 13, 0, {0}},     {1021, 7, 0, {0}},
                                      {3, 4099, 0, {0}},    {40, 515, 0, {0}},    {6, 12, 2, {7, 7}},
                                      {3, 6, 2, {31, 33}},  {9, 4, 3, {2, 3, 5}}, {31, 18, 1, {11}},
                                      {2, 4, 2, {181, 93}}, {2, 65537, 0, {0}}};
static const struct shape option_shapes[] = {{47, 12, 0, {0}}, {6, 12, 2, {7, 7}}, {6, 12, 2, {7, 7}}};
static const struct shape large_shapes[] = {{2039, 513, 0, {0}}, {4, 32, 2, {91, 90}}, {4, 32, 2, {91, 90}}};

static size_t turns;

static void add(clnorm_norm norm, struct clnorm_case c)
{
    if (case_norm_has(norm, c.mode))
        table_add(c, turns++, 23);
}

static struct clnorm_case case_of(clnorm_norm norm, clnorm_layout layout, const struct shape *shape,
                                  enum case_mode mode, const struct form *form)
{
    struct clnorm_case c = table_norm_case(norm, layout, shape, mode, turns);
    c.from_y = true;
    c.activation = form->activation;
    c.slope = form->slope;
    c.residual = form->residual;
    c.dtype = form->x;
    c.y_dtype = form->y;
    return c;
}

static size_t forms_of(clnorm_norm norm)
{
    return norm == CLNORM_LAYER || norm == CLNORM_RMS ? FORMS : FORMS_OF_ALL;
}

static void set_ratio(struct clnorm_case *c, float ratio)
{
    c->affine = ratio > 0 ? CASE_AFFINE_BOTH : CASE_AFFINE_NO_BIAS;
    c->bias_ratio = ratio;
}

/* Forms, ratios and the place of dx take turns. */
static void add_shapes(clnorm_norm norm)
{
    for (size_t i = 0; i < COUNT(shapes); i++) {
        const bool spatial = shapes[i].spatial_dims != 0;
        for (int layout = spatial ? CLNORM_NCS : CLNORM_NC; layout <= (spatial ? CLNORM_NSC : CLNORM_NC); layout++) {
            const struct form *form = &forms[turns % forms_of(norm)];
            struct clnorm_case c = case_of(norm, (clnorm_layout)layout, &shapes[i], CASE_BACKWARD, form);
            if (turns % 3)
                set_ratio(&c, ratios[turns / 3 % COUNT(ratios)]);
            c.in_place = turns % 2 && form->x == form->y;
            add(norm, c);
        }
    }
}

/* Every ratio in every form. */
static void add_ratios(clnorm_norm norm)
{
    for (size_t f = 0; f < forms_of(norm); f++) {
        for (size_t i = 0; i < COUNT(ratios); i++) {
            const clnorm_layout layout = (clnorm_layout)((turns + i) % 3);
            struct clnorm_case c = case_of(norm, layout, &option_shapes[layout], CASE_BACKWARD, &forms[f]);
            set_ratio(&c, ratios[i]);
            add(norm, c);
        }
    }
}

static void add_options(clnorm_norm norm)
{
    static const unsigned omissions[] = {
        CASE_BIT(CASE_DX),
        CASE_BIT(CASE_DWEIGHT),
        CASE_BIT(CASE_DWEIGHT) | CASE_BIT(CASE_DBIAS),
        CASE_BIT(CASE_DX) | CASE_BIT(CASE_DWEIGHT),
    };
    static const enum case_mode modes[] = {CASE_BACKWARD, CASE_GIVEN, CASE_FROZEN};
    static const enum case_data data[] = {CASE_DATA_MEAN1E6, CASE_DATA_CONSTANT_0_1, CASE_DATA_NAN_FIRST,
                                          CASE_DATA_NAN_DY};
    for (int layout = CLNORM_NC; layout <= CLNORM_NSC; layout++) {
        for (size_t k = 0; k < COUNT(modes); k++) {
            const struct clnorm_case plain =
                case_of(norm, (clnorm_layout)layout, &option_shapes[layout], modes[k], &forms[turns % FORMS_OF_ALL]);
            struct clnorm_case c = plain;
            c.n = 0; /* of a plan for more */
            add(norm, c);
            c = plain;
            c.n--;
            c.offset = 3;
            c.affine = (enum case_affine)(1 + turns % (CASE_AFFINES - 1));
            add(norm, c);
            c = plain;
            c.omit = omissions[turns % COUNT(omissions)];
            add(norm, c);
            c = plain;
            c.accumulate = CLNORM_ADD_DX | CLNORM_ADD_DWEIGHT | CLNORM_ADD_DBIAS;
            add(norm, c);
        }
        for (size_t i = 0; i < COUNT(data); i++) {
            struct clnorm_case c =
                case_of(norm, (clnorm_layout)layout, &option_shapes[layout], CASE_BACKWARD, &forms[turns % 2]);
            c.data = data[i];
            add(norm, c);
        }
    }
}

static void add_large(clnorm_norm norm)
{
    for (int layout = CLNORM_NC; layout <= CLNORM_NSC; layout++) {
        struct clnorm_case c =
            case_of(norm, (clnorm_layout)layout, &large_shapes[layout], CASE_BACKWARD, &forms[turns % 2]);
        c.in_place = true;
        add(norm, c);
    }
}

static void add_virtual(void)
{
    for (int layout = CLNORM_NC; layout <= CLNORM_NSC; layout++) {
        struct clnorm_case c =
            case_of(CLNORM_BATCH, (clnorm_layout)layout, &option_shapes[layout], CASE_BACKWARD, &forms[layout + 1]);
        c.virtual_batch = 4;
        add(CLNORM_BATCH, c);
    }
}

void table_add_from_y(void)
{
    for (size_t i = 0; i < COUNT(norms); i++) {
        add_shapes(norms[i]);
        add_ratios(norms[i]);
        add_options(norms[i]);
        add_large(norms[i]);
    }
    add_virtual();
}
