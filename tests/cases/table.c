/* The table of cases, made from small lists by a rule: every shape in every mode, every kind of data in every layout, and
 * every option in every mode that has it. Here: batch norm. */
#include "table.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CASES_MAX = 5200, SHORT_ELEMENTS = 20000 };

static struct clnorm_case cases[CASES_MAX];
static size_t short_index[CASES_MAX];
static size_t full_count, short_count;

static const struct shape shapes[] = {
    /* one value a channel; one channel; many channels; sizes that divide nothing */
    {1, 1, 0, {0}},        {1, 5, 0, {0}},     {2, 1, 0, {0}},          {3, 13, 0, {0}},    {5, 4, 0, {0}},
    {64, 16, 0, {0}},      {7, 1021, 0, {0}},  {1021, 7, 0, {0}},       {33, 257, 0, {0}},  {257, 96, 0, {0}},
    {1, 20011, 0, {0}},    {2, 4099, 0, {0}},  {4096, 1, 0, {0}},       {65537, 1, 0, {0}}, {1, 1, 1, {1}},
    {1, 5, 2, {1, 1}},     {2, 1, 1, {3}},     {2, 13, 2, {7, 7}},      {4, 16, 2, {8, 8}}, {5, 3, 3, {2, 3, 5}},
    {2, 64, 3, {4, 4, 4}}, {3, 7, 1, {1021}},  {1, 1021, 1, {3}},       {8, 33, 2, {5, 5}}, {31, 19, 1, {11}},
    {17, 2, 2, {61, 23}},  {1, 1, 1, {65537}}, {19, 100, 3, {1, 3, 1}},
};
/* About a million elements each: the reduction axis long, short, and in between. */
static const struct shape large_shapes[] = {
    {1000003, 1, 0, {0}}, {1021, 1009, 0, {0}}, {4, 16, 2, {128, 128}}, {2, 1, 1, {500009}}, {2, 509, 2, {31, 33}}};

/* What the blocks of options run on, by layout. About 4096 values a channel for the data, few for the rest. */
static const struct shape data_shapes[] = {{4096, 3, 0, {0}}, {4, 3, 2, {32, 32}}, {16, 5, 2, {16, 17}}};
static const struct shape option_shapes[] = {{47, 13, 0, {0}}, {6, 13, 2, {7, 7}}, {6, 13, 2, {7, 7}}};

struct clnorm_case table_case(clnorm_layout layout, const struct shape *shape, enum case_mode mode)
{
    struct clnorm_case c = CLNORM_CASE_INIT;
    c.layout = layout;
    c.n = c.plan_n = shape->n;
    c.c = shape->c;
    c.spatial_dims = shape->spatial_dims;
    memcpy(c.spatial, shape->spatial, sizeof c.spatial);
    c.mode = mode;
    return c;
}

void table_add(struct clnorm_case c, size_t key, size_t one_in)
{
    if (full_count == CASES_MAX) {
        fprintf(stderr, "cases: the table is longer than CASES_MAX\n");
        abort();
    }
    case_set_name(&c);
    c.in_short = key % one_in == 0 && case_elements(&c) <= SHORT_ELEMENTS;
    if (c.in_short)
        short_index[short_count++] = full_count;
    cases[full_count++] = c;
}

static bool has_statistics_in(enum case_mode mode)
{
    return mode == CASE_TRAIN || mode == CASE_STEPS_FORWARD;
}

static bool has_dy(enum case_mode mode)
{
    return mode != CASE_TRAIN && mode != CASE_INFER && mode != CASE_STEPS_FORWARD;
}

/* Every shape, layout and mode; the affine parameters and the place of y and dx take turns. */
static void add_shapes(void)
{
    size_t turn = 0;
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        clnorm_layout first = shapes[i].spatial_dims ? CLNORM_NCS : CLNORM_NC;
        clnorm_layout last = shapes[i].spatial_dims ? CLNORM_NSC : CLNORM_NC;
        for (int layout = first; layout <= (int)last; layout++) {
            for (int mode = 0; mode < CASE_DOUBLE; mode++) {
                struct clnorm_case c = table_case((clnorm_layout)layout, &shapes[i], (enum case_mode)mode);
                c.affine = (enum case_affine)(turn % CASE_AFFINES);
                c.in_place = turn % 5 == 1;
                table_add(c, turn++, 8);
            }
        }
    }
    for (size_t i = 0; i < sizeof large_shapes / sizeof *large_shapes; i++) {
        bool spatial = large_shapes[i].spatial_dims != 0;
        for (int layout = spatial ? CLNORM_NCS : CLNORM_NC; layout <= (spatial ? CLNORM_NSC : CLNORM_NC); layout++) {
            table_add(table_case((clnorm_layout)layout, &large_shapes[i], CASE_TRAIN), 1, 2);
            table_add(table_case((clnorm_layout)layout, &large_shapes[i], CASE_BACKWARD), 1, 2);
        }
    }
}

/* Every kind of data in training, inference and backward, with weight and bias and without; the other modes take turns. */
static void add_data(void)
{
    static const enum case_mode others[] = {CASE_FROZEN, CASE_GIVEN, CASE_STEPS_FORWARD, CASE_STEPS_BACKWARD};
    size_t turn = 0;
    for (int layout = CLNORM_NC; layout <= CLNORM_NSC; layout++) {
        for (int data = CASE_DATA_MEAN1E2; data < CASE_DATA_KINDS; data++, turn++) {
            const enum case_mode modes[] = {CASE_TRAIN, CASE_INFER, CASE_BACKWARD, others[turn % 4]};
            for (size_t i = 0; i < sizeof modes / sizeof *modes; i++) {
                struct clnorm_case c = table_case((clnorm_layout)layout, &data_shapes[layout], modes[i]);
                c.data = (enum case_data)data;
                if (!has_dy(c.mode) && (data == CASE_DATA_DY_MEAN1E4 || data == CASE_DATA_NAN_DY))
                    continue;
                /* The plain bound (weight 1, bias 0) in training; both parameters elsewhere. */
                c.affine = c.mode == CASE_TRAIN ? CASE_AFFINE_NONE : CASE_AFFINE_BOTH;
                c.parts = c.mode == CASE_STEPS_FORWARD || c.mode == CASE_STEPS_BACKWARD ? 1 + turn % 3 : 1;
                table_add(c, turn + i, 4); /* each kind once a layout, in another mode each time */
            }
        }
    }
}

/* How batch statistics enter the running ones. */
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
    static const struct shape one_value = {1, 7, 0, {0}};
    for (int layout = CLNORM_NC; layout <= CLNORM_NSC; layout++) {
        for (int variance = CLNORM_BIASED; variance <= CLNORM_UNBIASED; variance++) {
            for (size_t i = 0; i < sizeof averages / sizeof *averages; i++) {
                for (int steps = 0; steps < 2; steps++) {
                    struct clnorm_case c = table_case((clnorm_layout)layout, &option_shapes[layout],
                                                      steps ? CASE_STEPS_FORWARD : CASE_TRAIN);
                    c.running.variance = (clnorm_variance)variance;
                    c.running.average = averages[i].average;
                    c.running.momentum = averages[i].momentum;
                    c.running.count = averages[i].count;
                    table_add(c, full_count, 8);
                    c.data = CASE_DATA_MEAN1E6; /* old and batch mean nearly the same, and large */
                    table_add(c, full_count, 8);
                }
            }
        }
        for (int steps = 0; steps < 2; steps++) {
            struct clnorm_case c =
                table_case((clnorm_layout)layout, &data_shapes[layout], steps ? CASE_STEPS_FORWARD : CASE_TRAIN);
            c.running.guard = CLNORM_GUARD_FINITE;
            c.data = CASE_DATA_INF_MIDDLE;
            table_add(c, (size_t)steps, 2);
        }
    }
    for (int steps = 0; steps < 2; steps++) { /* the unbiased variance of one value is the biased one */
        struct clnorm_case c = table_case(CLNORM_NC, &one_value, steps ? CASE_STEPS_FORWARD : CASE_TRAIN);
        c.running.variance = CLNORM_UNBIASED;
        table_add(c, full_count, 8);
    }
}

/* Outputs left out: each alone, and where that spares an input. */
static void add_omissions(clnorm_layout layout)
{
    static const unsigned forward[] = {CASE_BIT(CASE_MEAN) | CASE_BIT(CASE_VAR) | CASE_BIT(CASE_RSTD),
                                       CASE_BIT(CASE_VAR), CASE_BIT(CASE_RSTD),
                                       CASE_BIT(CASE_RUNNING_MEAN) | CASE_BIT(CASE_RUNNING_VAR)};
    static const unsigned backward[] = {CASE_BIT(CASE_DX),
                                        CASE_BIT(CASE_DWEIGHT),
                                        CASE_BIT(CASE_DBIAS),
                                        CASE_BIT(CASE_DWEIGHT) | CASE_BIT(CASE_DBIAS),
                                        CASE_BIT(CASE_DX) | CASE_BIT(CASE_DBIAS),
                                        CASE_BIT(CASE_DX) | CASE_BIT(CASE_DWEIGHT)};
    for (size_t i = 0; i < sizeof forward / sizeof *forward; i++) {
        struct clnorm_case c = table_case(layout, &option_shapes[layout], CASE_TRAIN);
        c.omit = forward[i];
        table_add(c, full_count, 8);
    }
    for (size_t i = 0; i < sizeof backward / sizeof *backward; i++) {
        static const enum case_mode modes[] = {CASE_BACKWARD, CASE_FROZEN};
        for (size_t k = 0; k < 2; k++) {
            struct clnorm_case c = table_case(layout, &option_shapes[layout], modes[k]);
            c.omit = backward[i];
            table_add(c, full_count, 8);
        }
    }
}

/* Every option in every mode that has it, one at a time; then all at once on hostile data. */
static void add_options(void)
{
    static const float eps[] = {0.0f, 1e-3f, 1.0f};
    for (int layout = CLNORM_NC; layout <= CLNORM_NSC; layout++) {
        for (int mode = 0; mode < CASE_DOUBLE; mode++) {
            const struct clnorm_case plain =
                table_case((clnorm_layout)layout, &option_shapes[layout], (enum case_mode)mode);
            /* The short suite has each option once a layout, in another mode each time. */
            size_t key = (size_t)mode + (size_t)layout;
            struct clnorm_case c = plain;
            c.n = c.plan_n = 0;
            table_add(c, key++, CASE_DOUBLE);
            c.c = 1; /* in one run */
            table_add(c, key++, CASE_DOUBLE);
            c = plain;
            c.n = 0; /* of a plan for more */
            table_add(c, key++, CASE_DOUBLE);
            c = plain;
            c.n = plain.n - 1;
            table_add(c, key++, CASE_DOUBLE);
            c = plain;
            c.in_place = true;
            table_add(c, key++, CASE_DOUBLE);
            c = plain;
            c.offset = 1;
            table_add(c, key++, CASE_DOUBLE);
            c.offset = 3;
            c.in_place = true;
            table_add(c, key++, CASE_DOUBLE);
            for (int affine = 1; affine < CASE_AFFINES; affine++) {
                c = plain;
                c.affine = (enum case_affine)affine;
                table_add(c, key++, CASE_DOUBLE);
            }
            for (size_t i = 0; i < sizeof eps / sizeof *eps; i++) {
                c = plain;
                c.eps = eps[i];
                table_add(c, key++, CASE_DOUBLE);
            }
            for (uint32_t parts = 2; mode >= CASE_STEPS_FORWARD && parts <= 3; parts++) {
                c = plain;
                c.parts = parts;
                table_add(c, (size_t)layout + parts, 2);
            }
            c = plain;
            c.affine = (enum case_affine)(1 + (layout + mode) % 3);
            c.n = plain.n / 2;
            c.offset = 5;
            c.in_place = mode % 2 == 0;
            c.data = CASE_DATA_MEAN1E6;
            if (has_statistics_in(c.mode))
                c.running.variance = CLNORM_UNBIASED;
            table_add(c, key++, CASE_DOUBLE);
        }
        for (int mode = CASE_TRAIN; mode <= CASE_BACKWARD; mode += CASE_BACKWARD - CASE_TRAIN) {
            struct clnorm_case c = table_case((clnorm_layout)layout, &option_shapes[layout], (enum case_mode)mode);
            c.eps = 0; /* with zero variance: the formula's NaN */
            c.data = CASE_DATA_CONSTANT_0_1;
            table_add(c, full_count, 8);
        }
        add_omissions((clnorm_layout)layout);
    }
}

static void build_once(void)
{
    if (full_count)
        return;
    add_shapes();
    add_data();
    add_running();
    add_options();
    table_add_norms();
    table_add_fused();
    table_add_virtual();
    table_add_double();
    table_add_from_y();
    table_add_lengths();
}

size_t cases_count(enum case_suite suite)
{
    build_once();
    return suite == CASE_SHORT ? short_count : full_count;
}

const struct clnorm_case *cases_get(enum case_suite suite, size_t i)
{
    build_once();
    return &cases[suite == CASE_SHORT ? short_index[i] : i];
}
