/* The cases of layer, group, instance and RMS norm. By the rule of table.c, but layouts take turns where a norm has one memory
 * pattern in all of them (rows). */
#include "table.h"

#include <stddef.h>

static const clnorm_norm norms[] = {CLNORM_LAYER, CLNORM_RMS, CLNORM_GROUP, CLNORM_INSTANCE};

#define COUNT(array) (sizeof(array) / sizeof *(array))

/* One value a group, one group, many short rows, few long ones, sizes that divide nothing. */
static const struct shape shapes[] = {{1, 1, 0, {0}},     {1, 5, 0, {0}},     {5, 4, 0, {0}},       {64, 16, 0, {0}},
                                      {3, 1021, 0, {0}},  {1021, 7, 0, {0}},  {33, 257, 0, {0}},    {1, 20011, 0, {0}},
                                      {1, 5, 2, {1, 1}},  {2, 12, 2, {7, 7}}, {5, 3, 3, {2, 3, 5}}, {7, 30, 1, {2}},
                                      {1, 1, 1, {20011}}, {31, 18, 1, {11}},  {2, 6, 2, {61, 23}}};
/* About a million elements each. Rows: one, many, and in between. */
static const struct shape large_rows[] = {{1, 1000003, 0, {0}}, {1000003, 1, 0, {0}}, {349529, 3, 0, {0}},
                                          {4, 262144, 0, {0}},  {4096, 257, 0, {0}},  {2, 100, 2, {79, 67}}};
static const struct shape large_groups[] = {{1, 1, 1, {1000003}}, {4, 1, 1, {262144}}, {2, 64, 2, {91, 91}},
                                            {4096, 256, 0, {0}},  {1021, 3, 1, {347}}, {8, 1024, 1, {131}},
                                            {3001, 174, 1, {2}}};

/* What the blocks of options run on, by layout. Some thousand values a group for the data, few for the rest. */
static const struct shape data_shapes[] = {{4, 1536, 0, {0}}, {3, 6, 2, {31, 33}}, {3, 6, 2, {31, 33}}};
static const struct shape option_shapes[] = {{7, 12, 0, {0}}, {5, 12, 2, {7, 7}}, {5, 12, 2, {7, 7}}};

static bool is_row_norm(clnorm_norm norm)
{
    return norm == CLNORM_LAYER || norm == CLNORM_RMS;
}

/* The k-th of a list that has 1, 2, 3 and c groups, and one of neighbours in pairs, as far as they divide c. */
static int64_t groups_of(int64_t c, size_t k)
{
    const int64_t wanted[] = {2, 1, c, 3, c / 2};
    for (;; k++) {
        const int64_t groups = wanted[k % COUNT(wanted)];
        if (groups > 0 && c % groups == 0)
            return groups;
    }
}

struct clnorm_case table_norm_case(clnorm_norm norm, clnorm_layout layout, const struct shape *shape,
                                   enum case_mode mode, size_t turn)
{
    struct clnorm_case c = table_case(layout, shape, mode);
    c.norm = norm;
    if (norm == CLNORM_GROUP)
        c.groups = groups_of(c.c, turn);
    if (is_row_norm(norm))
        c.normalized_dims = 1 + (int32_t)(turn % (size_t)(1 + c.spatial_dims));
    return c;
}

static clnorm_layout first_layout(const struct shape *shape)
{
    return shape->spatial_dims ? CLNORM_NCS : CLNORM_NC;
}

static clnorm_layout last_layout(const struct shape *shape)
{
    return shape->spatial_dims ? CLNORM_NSC : CLNORM_NC;
}

/* Every shape in every layout and mode; affine parameters and the place of y and dx take turns. */
static void add_shapes(clnorm_norm norm)
{
    size_t turn = (size_t)norm;
    for (size_t i = 0; i < COUNT(shapes); i++) {
        for (int layout = (int)first_layout(&shapes[i]); layout <= (int)last_layout(&shapes[i]); layout++) {
            for (int mode = 0; mode < CASE_DOUBLE; mode++) {
                if (!case_norm_has(norm, (enum case_mode)mode))
                    continue;
                /* In place and affine have other periods than groups and dimensions, so that they meet. */
                struct clnorm_case c =
                    table_norm_case(norm, (clnorm_layout)layout, &shapes[i], (enum case_mode)mode, i + turn);
                c.affine = (enum case_affine)(turn % CASE_AFFINES);
                c.in_place = turn % 7 == 1;
                table_add(c, turn++, 12);
            }
        }
    }
}

static void add_large(clnorm_norm norm)
{
    static const enum case_mode modes[] = {CASE_TRAIN, CASE_BACKWARD};
    const struct shape *large = is_row_norm(norm) ? large_rows : large_groups;
    const size_t count = is_row_norm(norm) ? COUNT(large_rows) : COUNT(large_groups);
    for (size_t i = 0; i < count; i++) {
        for (int layout = (int)first_layout(&large[i]); layout <= (int)last_layout(&large[i]); layout++) {
            for (size_t k = 0; k < COUNT(modes); k++)
                table_add(table_norm_case(norm, (clnorm_layout)layout, &large[i], modes[k], i + (size_t)layout), 1, 2);
        }
    }
}

/* The layout of data in the k-th of two cases. Group norm of (n, c) has rows, instance norm of it has nothing. */
static clnorm_layout data_layout(clnorm_norm norm, size_t turn, int k)
{
    if (is_row_norm(norm))
        return (clnorm_layout)(turn % 3);
    if (k == 0)
        return CLNORM_NCS;
    return norm == CLNORM_GROUP && turn % 4 == 0 ? CLNORM_NC : CLNORM_NSC;
}

/* Every kind of data in training and backward, for rows in one layout and else in two; the other modes take turns. */
static void add_data(clnorm_norm norm)
{
    static const enum case_mode others[] = {CASE_GIVEN, CASE_INFER, CASE_GIVEN, CASE_FROZEN};
    size_t turn = (size_t)norm;
    for (int data = CASE_DATA_MEAN1E2; data < CASE_DATA_KINDS; data++, turn++) {
        const bool only_dy = data == CASE_DATA_DY_MEAN1E4 || data == CASE_DATA_NAN_DY;
        for (int k = 0; k < 2 - is_row_norm(norm); k++) {
            const clnorm_layout layout = data_layout(norm, turn, k);
            struct clnorm_case c = table_norm_case(norm, layout, &data_shapes[layout], CASE_TRAIN, turn + (size_t)k);
            c.data = (enum case_data)data;
            c.affine = CASE_AFFINE_NONE;
            if (!only_dy)
                table_add(c, turn + (size_t)k, 6);
            c.affine = CASE_AFFINE_BOTH;
            c.mode = CASE_BACKWARD;
            table_add(c, turn + (size_t)k + 3, 6);
        }
        const clnorm_layout layout = turn % 3 ? CLNORM_NCS : CLNORM_NSC;
        struct clnorm_case c = table_norm_case(norm, layout, &data_shapes[layout], others[turn % COUNT(others)], turn);
        c.data = (enum case_data)data;
        if (case_norm_has(norm, c.mode) && !(only_dy && c.mode == CASE_INFER))
            table_add(c, turn / 4, 6);
    }
}

/* Instance norm: how the samples' statistics enter the running ones. */
static void add_running(void)
{
    static const struct {
        clnorm_average average;
        float momentum;
        uint64_t count;
    } averages[] = {{CLNORM_EXPONENTIAL, 0.1f, 0},
                    {CLNORM_EXPONENTIAL, 0.0f, 0},
                    {CLNORM_EXPONENTIAL, 1.0f, 0},
                    {CLNORM_CUMULATIVE, 0.1f, 0},
                    {CLNORM_CUMULATIVE, 0.1f, 9}};
    static const struct shape one_value = {3, 7, 0, {0}}, many_samples = {1021, 3, 1, {5}};
    size_t turn = 0;
    for (int variance = CLNORM_BIASED; variance <= CLNORM_UNBIASED; variance++) {
        struct clnorm_case c = table_norm_case(CLNORM_INSTANCE, CLNORM_NC, &one_value, CASE_TRAIN, 0);
        c.running.momentum = 0.5f; /* not the case of add_shapes */
        c.running.variance = (clnorm_variance)variance;
        table_add(c, turn++, 8);
        for (int layout = CLNORM_NCS; layout <= CLNORM_NSC; layout++) {
            for (size_t i = 0; i < COUNT(averages); i++) {
                c = table_norm_case(CLNORM_INSTANCE, (clnorm_layout)layout, &option_shapes[layout], CASE_TRAIN, 0);
                c.running.variance = (clnorm_variance)variance;
                c.running.average = averages[i].average;
                c.running.momentum = averages[i].momentum;
                c.running.count = averages[i].count;
                table_add(c, turn++, 8);
                c.data = CASE_DATA_MEAN1E6; /* old and batch mean nearly the same, and large */
                table_add(c, turn++, 8);
            }
            c = table_norm_case(CLNORM_INSTANCE, (clnorm_layout)layout, &many_samples, CASE_TRAIN, 0);
            c.running.variance = (clnorm_variance)variance;
            c.data = CASE_DATA_MEAN1E4;
            table_add(c, turn++, 8);
        }
    }
    for (int layout = CLNORM_NCS; layout <= CLNORM_NSC; layout++) {
        struct clnorm_case c =
            table_norm_case(CLNORM_INSTANCE, (clnorm_layout)layout, &data_shapes[layout], CASE_TRAIN, 0);
        c.running.guard = CLNORM_GUARD_FINITE;
        c.data = CASE_DATA_INF_MIDDLE;
        table_add(c, (size_t)layout, 2);
    }
}

/* Outputs left out: each alone, and where that spares an input. Of those that the norm has not, a case would be another's twin. */
static void add_omissions(clnorm_norm norm)
{
    static const unsigned forward[] = {CASE_BIT(CASE_MEAN) | CASE_BIT(CASE_VAR) | CASE_BIT(CASE_RSTD),
                                       CASE_BIT(CASE_MEAN), CASE_BIT(CASE_RSTD),
                                       CASE_BIT(CASE_RUNNING_MEAN) | CASE_BIT(CASE_RUNNING_VAR)};
    static const unsigned backward[] = {CASE_BIT(CASE_DX),
                                        CASE_BIT(CASE_DWEIGHT),
                                        CASE_BIT(CASE_DBIAS),
                                        CASE_BIT(CASE_DWEIGHT) | CASE_BIT(CASE_DBIAS),
                                        CASE_BIT(CASE_DX) | CASE_BIT(CASE_DBIAS),
                                        CASE_BIT(CASE_DX) | CASE_BIT(CASE_DWEIGHT)};
    for (size_t i = 0; i < COUNT(forward); i++) {
        const clnorm_layout layout = i % 2 ? CLNORM_NCS : CLNORM_NSC;
        struct clnorm_case c = table_norm_case(norm, layout, &option_shapes[layout], CASE_TRAIN, i);
        const bool rms = norm == CLNORM_RMS;
        c.omit = rms ? CASE_BIT(CASE_RSTD) : forward[i];
        if (i < 3 - 2 * (size_t)rms || norm == CLNORM_INSTANCE)
            table_add(c, i + (size_t)norm, 4);
    }
    for (size_t i = 0; i < COUNT(backward); i++) {
        for (int mode = CASE_BACKWARD; mode <= CASE_FROZEN; mode++) {
            const clnorm_layout layout = (i + (size_t)mode) % 2 ? CLNORM_NCS : CLNORM_NSC;
            struct clnorm_case c = table_norm_case(norm, layout, &option_shapes[layout], (enum case_mode)mode, i);
            c.omit = backward[i];
            if (case_norm_has(norm, c.mode))
                table_add(c, i + (size_t)norm, 6);
        }
    }
}

/* One option at a time, in every mode; layouts, groups and dimensions take turns. */
static void add_options(clnorm_norm norm, enum case_mode mode)
{
    enum { EMPTY, EMPTY_OF_MORE, PARTIAL, IN_PLACE, OFFSET, OFFSET_IN_PLACE, AFFINE, EPS = AFFINE + 3, ALL = EPS + 3 };
    static const float eps[] = {0.0f, 1e-3f, 1.0f};
    for (int option = 0; option <= ALL; option++) {
        const size_t turn = (size_t)option + (size_t)mode + (size_t)norm;
        /* eps = 0: in groups of more than one value, whose variance is not 0. */
        const clnorm_layout layout = option == EPS ? CLNORM_NCS : (clnorm_layout)(turn % 3);
        struct clnorm_case c = table_norm_case(norm, layout, &option_shapes[layout], mode, turn / 3);
        switch (option) {
        case EMPTY:
            c.n = c.plan_n = 0;
            break;
        case EMPTY_OF_MORE:
            c.n = 0;
            break;
        case PARTIAL:
            c.n--;
            break;
        case IN_PLACE:
            c.in_place = true;
            break;
        case OFFSET:
            c.offset = 1;
            break;
        case OFFSET_IN_PLACE:
            c.offset = 3;
            c.in_place = true;
            break;
        case ALL:
            c.affine = (enum case_affine)(1 + turn % 3);
            c.n /= 2;
            c.offset = 5;
            c.in_place = turn % 2 == 0;
            c.data = CASE_DATA_MEAN1E6;
            break;
        default:
            if (option < EPS)
                c.affine = (enum case_affine)(1 + option - AFFINE);
            else
                c.eps = eps[option - EPS];
            break;
        }
        table_add(c, turn, 5);
    }
}

/* eps = 0 with zero variance: the formula's NaN. Of RMS norm no data but zeros have it. */
static void add_zero_variance(clnorm_norm norm)
{
    for (int mode = CASE_TRAIN; mode <= CASE_BACKWARD; mode += CASE_BACKWARD - CASE_TRAIN) {
        struct clnorm_case c = table_norm_case(norm, CLNORM_NCS, &option_shapes[CLNORM_NCS], (enum case_mode)mode, 0);
        c.eps = 0;
        c.data = CASE_DATA_CONSTANT_0_1;
        table_add(c, (size_t)mode + (size_t)norm, 8);
    }
}

void table_add_norms(void)
{
    for (size_t i = 0; i < COUNT(norms); i++) {
        add_shapes(norms[i]);
        add_large(norms[i]);
        add_data(norms[i]);
        add_omissions(norms[i]);
        for (int mode = 0; mode < CASE_DOUBLE; mode++) {
            if (case_norm_has(norms[i], (enum case_mode)mode))
                add_options(norms[i], (enum case_mode)mode);
        }
        if (norms[i] != CLNORM_RMS)
            add_zero_variance(norms[i]);
    }
    add_running();
}
