/* The cases of the double backward, of batch and layer norm. */
#include "table.h"

#include <stddef.h>

#define COUNT(array) (sizeof(array) / sizeof *(array))

static const clnorm_norm norms[] = {CLNORM_BATCH, CLNORM_LAYER};

/* One value a group, one group, runs and rows short and long, few and many, sizes that divide nothing. */
static const struct shape shapes[] = {{1, 1, 0, {0}},     {1, 5, 0, {0}},        {5, 4, 0, {0}},    {1021, 7, 0, {0}},
                                      {3, 4099, 0, {0}},  {300, 33, 0, {0}},     {4096, 1, 0, {0}}, {1, 5, 2, {1, 1}},
                                      {2, 13, 2, {7, 7}}, {5, 3, 3, {2, 3, 5}},  {3, 7, 1, {1021}}, {1, 1, 1, {9001}},
                                      {8, 33, 2, {5, 5}}, {2, 509, 2, {31, 33}}, {2, 65537, 0, {0}}};
static const struct shape data_shapes[] = {{513, 6, 0, {0}}, {3, 6, 2, {31, 33}}, {3, 6, 2, {31, 33}}};
static const struct shape option_shapes[] = {{47, 12, 0, {0}}, {6, 13, 2, {7, 7}}, {6, 13, 2, {7, 7}}};

static const enum case_mode modes[] = {CASE_DOUBLE, CASE_DOUBLE_FROZEN, CASE_DOUBLE_GIVEN};

static void add(clnorm_norm norm, struct clnorm_case c, size_t key, size_t one_in)
{
    if (case_norm_has(norm, c.mode))
        table_add(c, key, one_in);
}

static void add_shapes(clnorm_norm norm)
{
    size_t turn = 0;
    for (size_t i = 0; i < COUNT(shapes); i++) {
        const bool spatial = shapes[i].spatial_dims != 0;
        for (int layout = spatial ? CLNORM_NCS : CLNORM_NC; layout <= (spatial ? CLNORM_NSC : CLNORM_NC); layout++) {
            for (size_t k = 0; k < COUNT(modes); k++, turn++) {
                struct clnorm_case c = table_norm_case(norm, (clnorm_layout)layout, &shapes[i], modes[k], turn);
                c.affine = (enum case_affine)(turn % CASE_AFFINES);
                add(norm, c, turn, 19);
            }
        }
    }
}

static void add_data(clnorm_norm norm)
{
    size_t turn = (size_t)norm;
    for (int layout = CLNORM_NC; layout <= CLNORM_NSC; layout++) {
        for (int data = CASE_DATA_MEAN1E2; data < CASE_DATA_KINDS; data++, turn++) {
            for (size_t k = 0; k < COUNT(modes); k++) {
                struct clnorm_case c =
                    table_norm_case(norm, (clnorm_layout)layout, &data_shapes[layout], modes[k], turn);
                c.data = (enum case_data)data;
                if (k == 0 || data == CASE_DATA_INF_MIDDLE || turn % 4 == k)
                    add(norm, c, turn + k, 19);
            }
        }
    }
}

/* What is left out: of the outputs, and of the cotangents, which are those of backward's outputs. */
static const unsigned omissions[] = {
    CASE_BIT(CASE_DX),
    CASE_BIT(CASE_DWEIGHT),
    CASE_BIT(CASE_DBIAS),
    CASE_BIT(CASE_DX) | CASE_BIT(CASE_DWEIGHT),
    CASE_BIT(CASE_DWEIGHT) | CASE_BIT(CASE_DBIAS),
    CASE_BIT(CASE_G_X),
    CASE_BIT(CASE_G_DY),
    CASE_BIT(CASE_G_WEIGHT),
    CASE_BIT(CASE_G_X) | CASE_BIT(CASE_G_DY),
    CASE_BIT(CASE_DX) | CASE_BIT(CASE_G_DY) | CASE_BIT(CASE_G_WEIGHT),
};

static void add_options(clnorm_norm norm)
{
    for (int layout = CLNORM_NC; layout <= CLNORM_NSC; layout++) {
        for (size_t k = 0; k < COUNT(modes); k++) {
            const struct clnorm_case plain =
                table_norm_case(norm, (clnorm_layout)layout, &option_shapes[layout], modes[k], (size_t)layout);
            size_t key = (size_t)layout + k;
            struct clnorm_case c = plain;
            c.n = c.plan_n = 0;
            add(norm, c, key++, 13);
            c = plain;
            c.n = 0; /* of a plan for more */
            add(norm, c, key++, 13);
            c = plain;
            c.n--;
            c.offset = 3;
            add(norm, c, key++, 13);
            c = plain;
            c.eps = 0;
            add(norm, c, key++, 13);
            for (int affine = 1; affine < CASE_AFFINES; affine++) {
                c = plain;
                c.affine = (enum case_affine)affine;
                c.data = CASE_DATA_MEAN1E6;
                add(norm, c, key++, 13);
            }
            for (size_t i = 0; i < COUNT(omissions); i++) {
                c = plain;
                c.omit = omissions[i];
                add(norm, c, key++, 13);
            }
        }
    }
}

void table_add_double(void)
{
    for (size_t i = 0; i < COUNT(norms); i++) {
        add_shapes(norms[i]);
        add_data(norms[i]);
        add_options(norms[i]);
    }
}
