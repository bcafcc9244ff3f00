/* The cases of data types, activations, residuals and accumulation. Norms, layouts and types take turns: each option meets each norm,
 * and each type each option, but not all of all. On OpenCL a pair of types with an activation and a residual is a program that takes
 * seconds to compile, so that all cases share the few of `types` and `forms`. */
#include "table.h"

#include <stddef.h>

#define COUNT(array) (sizeof(array) / sizeof *(array))

static const clnorm_norm norms[] = {CLNORM_BATCH, CLNORM_LAYER, CLNORM_RMS, CLNORM_GROUP, CLNORM_INSTANCE};

static const struct types {
    clnorm_dtype x, y;
} types[] = {{CLNORM_F16, CLNORM_F16},
             {CLNORM_BF16, CLNORM_BF16},
             {CLNORM_F16, CLNORM_F32},
             {CLNORM_F32, CLNORM_BF16},
             {CLNORM_BF16, CLNORM_F16}};

/* What is fused, and of which types. Each activation, each residual and each of the types is there, with types that differ too; the f32
 * ones are those of the suite that compares them with the norm alone (tests/suites/fused.c). */
static const struct form {
    clnorm_activation activation;
    clnorm_residual residual;
    struct types types;
} forms[] = {{CLNORM_RELU, CLNORM_NO_RESIDUAL, {CLNORM_F32, CLNORM_F32}},
             {CLNORM_LEAKY_RELU, CLNORM_NO_RESIDUAL, {CLNORM_BF16, CLNORM_BF16}},
             {CLNORM_GELU_TANH, CLNORM_NO_RESIDUAL, {CLNORM_F16, CLNORM_F16}},
             {CLNORM_NO_ACTIVATION, CLNORM_RESIDUAL_AFTER, {CLNORM_F32, CLNORM_F32}},
             {CLNORM_RELU, CLNORM_RESIDUAL_AFTER, {CLNORM_BF16, CLNORM_F16}},
             {CLNORM_LEAKY_RELU, CLNORM_RESIDUAL_AFTER, {CLNORM_F32, CLNORM_F32}},
             {CLNORM_SILU, CLNORM_RESIDUAL_AFTER, {CLNORM_F16, CLNORM_F32}},
             {CLNORM_RELU, CLNORM_RESIDUAL_BEFORE, {CLNORM_F32, CLNORM_F32}},
             {CLNORM_SILU, CLNORM_RESIDUAL_BEFORE, {CLNORM_BF16, CLNORM_BF16}},
             {CLNORM_NO_ACTIVATION, CLNORM_RESIDUAL_BEFORE, {CLNORM_F16, CLNORM_F16}}};
enum { FORMS = sizeof forms / sizeof *forms, FORMS_OF_ALL = 7 }; /* those before the norm are of rows alone */

/* By layout: for options, and of some thousand values a group for the data. Odd sizes, so that 16-bit rows begin anywhere. */
static const struct shape option_shapes[] = {{7, 15, 0, {0}}, {5, 12, 2, {7, 7}}, {5, 12, 2, {7, 7}}};
static const struct shape data_shapes[] = {{4, 1531, 0, {0}}, {3, 6, 2, {31, 33}}, {3, 6, 2, {31, 33}}};
static const struct shape batch_data_shapes[] = {{1021, 5, 0, {0}}, {4, 3, 2, {32, 31}}, {4, 3, 2, {32, 31}}};
static const struct shape large_shapes[] = {{2039, 513, 0, {0}}, {4, 32, 2, {91, 90}}, {4, 32, 2, {91, 90}}};

static size_t turns; /* cases so far: what takes turns, takes them by this */

/* The short suite has one in 13, a number that divides no period of what takes turns. */
static void add(struct clnorm_case c)
{
    table_add(c, turns++, 13);
}

static bool is_row_norm(clnorm_norm norm)
{
    return norm == CLNORM_LAYER || norm == CLNORM_RMS;
}

static bool has_running(clnorm_norm norm)
{
    return norm == CLNORM_BATCH || norm == CLNORM_INSTANCE;
}

/* Instance norm of NC, and group norm of as many groups, have one value a group and nothing to normalize. */
static clnorm_layout layout_of(clnorm_norm norm, size_t turn)
{
    return norm == CLNORM_INSTANCE || norm == CLNORM_GROUP ? (clnorm_layout)(1 + turn % 2) : (clnorm_layout)(turn % 3);
}

static size_t layouts_of(clnorm_norm norm)
{
    return norm == CLNORM_INSTANCE || norm == CLNORM_GROUP ? 2 : 3;
}

static struct clnorm_case plain_case(clnorm_norm norm, const struct shape *shapes_by_layout, enum case_mode mode,
                                     size_t turn)
{
    const clnorm_layout layout = layout_of(norm, turn);
    return table_norm_case(norm, layout, &shapes_by_layout[layout], mode, turn / 2);
}

static void set_types(struct clnorm_case *c, struct types t)
{
    c->dtype = t.x;
    c->y_dtype = t.y;
}

/* f32 every other time, then the types in turn. */
static void take_types(struct clnorm_case *c)
{
    if (turns % 2)
        set_types(c, types[turns / 2 % COUNT(types)]);
}

static bool is_same(struct types t)
{
    return t.x == t.y;
}

/* ---- types ----------------------------------------------------------------------------------------------------- */

static void add_types_of(clnorm_norm norm, struct types t)
{
    for (int mode = 0; mode < CASE_DOUBLE; mode++) {
        if (!case_norm_has(norm, (enum case_mode)mode))
            continue;
        const bool main_mode = mode == CASE_TRAIN || mode == CASE_BACKWARD;
        for (int k = 0; k < 2; k++) { /* many values a group in one layout, few in another */
            struct clnorm_case c = plain_case(norm, k ? option_shapes : data_shapes, (enum case_mode)mode, turns);
            set_types(&c, t);
            c.affine = (enum case_affine)(turns / 3 % CASE_AFFINES);
            c.parts = mode >= CASE_STEPS_FORWARD ? 2 : 1;
            if (main_mode || k)
                add(c);
        }
        if (!main_mode)
            continue;
        enum { IN_PLACE, ODD, PARTIAL, ALL, OPTIONS };
        for (int option = 0; option < OPTIONS; option++) {
            struct clnorm_case c = plain_case(norm, option_shapes, (enum case_mode)mode, turns);
            set_types(&c, t);
            if (option == IN_PLACE && !is_same(t))
                continue;
            c.in_place = option == IN_PLACE || (option == ALL && is_same(t));
            c.offset = option == ODD ? 1 : option == ALL ? 3 : 0; /* elements: no multiple of 4 bytes */
            c.n -= option == PARTIAL || option == ALL;
            add(c);
        }
    }
}

/* Every kind of data, in one of the types and one mode. */
static void add_data_of(clnorm_norm norm)
{
    for (int data = CASE_DATA_MEAN1E2; data < CASE_DATA_KINDS; data++) {
        const bool only_dy = data == CASE_DATA_DY_MEAN1E4 || data == CASE_DATA_NAN_DY;
        const enum case_mode mode = only_dy || turns % 2 ? CASE_BACKWARD : CASE_TRAIN;
        struct clnorm_case c =
            plain_case(norm, norm == CLNORM_BATCH ? batch_data_shapes : data_shapes, mode, turns / 2);
        set_types(&c, types[(turns / 2 + (size_t)norm) % 2]);
        c.data = (enum case_data)data;
        c.affine = mode == CASE_TRAIN ? CASE_AFFINE_NONE : CASE_AFFINE_BOTH;
        add(c);
    }
    /* dx beyond what f16 has: Inf. */
    struct clnorm_case c = plain_case(norm, option_shapes, CASE_BACKWARD, CLNORM_NCS);
    set_types(&c, types[0]);
    c.data = CASE_DATA_TINY;
    c.eps = 0;
    add(c);
}

/* ---- activations and residuals --------------------------------------------------------------------------------- */

static void set_form(struct clnorm_case *c, const struct form *form)
{
    set_types(c, form->types);
    c->activation = form->activation;
    c->residual = form->residual;
    if (form->activation == CLNORM_LEAKY_RELU && turns % 3 == 1)
        c->slope = 0.25f;
}

/* NULL: the norm alone, types in turn. */
static struct clnorm_case fused_case(clnorm_norm norm, const struct form *form, enum case_mode mode, size_t turn)
{
    struct clnorm_case c = plain_case(norm, turns % 3 == 0 ? data_shapes : option_shapes, mode, turn);
    if (form)
        set_form(&c, form);
    else
        take_types(&c);
    return c;
}

static size_t any_turn(void)
{
    return turns / 3 + turns;
}

static const struct form *form_of(clnorm_activation activation, clnorm_residual residual)
{
    for (size_t i = 0; i < FORMS; i++) {
        if (forms[i].activation == activation && forms[i].residual == residual)
            return &forms[i];
    }
    return NULL;
}

static bool may_be_in_place(const struct clnorm_case *c)
{
    return c->dtype == c->y_dtype;
}

static bool goes_by_sign(clnorm_activation activation)
{
    return activation == CLNORM_RELU || activation == CLNORM_LEAKY_RELU;
}

/* A mask is a form of its own: of ReLU, and of a leaky one. */
static bool has_mask(const struct form *form)
{
    return form->activation == CLNORM_RELU ||
           (form->activation == CLNORM_LEAKY_RELU && form->residual == CLNORM_NO_RESIDUAL);
}

/* In every layout, of fewer samples than the plan's, and with rows and runs that begin anywhere in a word. */
static void add_masks_of(clnorm_norm norm, const struct form *form)
{
    static const enum case_mode modes[] = {CASE_BACKWARD, CASE_FROZEN, CASE_TRAIN};
    for (size_t i = 0; i < COUNT(modes); i++) {
        for (size_t k = 0; case_norm_has(norm, modes[i]) && k < layouts_of(norm); k++) {
            struct clnorm_case c = fused_case(norm, form, modes[i], 6 * turns + k);
            c.by = CASE_BY_MASK;
            c.in_place = turns % 3 == 1 && may_be_in_place(&c);
            c.offset = turns % 4 == 2;
            c.n -= turns % 5 == 3;
            if (modes[i] == CASE_BACKWARD && turns % 2 && !c.in_place)
                c.accumulate = CLNORM_ADD_DX | (form->residual ? CLNORM_ADD_DZ : 0u);
            table_add(c, turns++, 29);
        }
    }
}

/* Train and backward in each layout, the others in one. */
static void add_fusions_of(clnorm_norm norm, const struct form *form)
{
    static const enum case_mode modes[] = {CASE_TRAIN, CASE_BACKWARD, CASE_INFER, CASE_FROZEN};
    for (size_t i = 0; i < COUNT(modes); i++) {
        for (size_t k = 0; case_norm_has(norm, modes[i]) && k < (i < 2 ? layouts_of(norm) : 1); k++) {
            struct clnorm_case c = fused_case(norm, form, modes[i], i < 2 ? 6 * turns + k : any_turn());
            c.affine = (enum case_affine)(turns / 2 % CASE_AFFINES);
            c.in_place = turns % 5 == 1 && may_be_in_place(&c);
            c.offset = turns % 4 == 2;
            add(c);
        }
    }
    for (int frozen = 0; goes_by_sign(form->activation) && frozen <= has_running(norm); frozen++) {
        for (size_t k = 0; k < layouts_of(norm); k++) {
            struct clnorm_case c = fused_case(norm, form, frozen ? CASE_FROZEN : CASE_BACKWARD, 6 * turns + k);
            c.by = CASE_BY_Y;
            c.in_place = turns % 5 == 1 && may_be_in_place(&c);
            add(c);
        }
    }
    if (has_mask(form))
        add_masks_of(norm, form);
}

static void add_before_of(clnorm_norm norm, const struct form *form)
{
    static const enum case_mode modes[] = {CASE_TRAIN, CASE_BACKWARD};
    for (int place = 0; place < CASE_SUM_PLACES; place++) {
        for (size_t i = 0; i < COUNT(modes); i++) {
            struct clnorm_case c = fused_case(norm, form, modes[i], any_turn());
            c.sum = (enum case_sum_place)place;
            c.in_place = turns % 4 == 1 && place != CASE_SUM_OVER_X && may_be_in_place(&c);
            if (goes_by_sign(form->activation) && place == CASE_SUM_OVER_Z)
                c.by = CASE_BY_MASK;
            else if (goes_by_sign(form->activation) && modes[i] == CASE_BACKWARD && place == CASE_SUM_OVER_X)
                c.by = CASE_BY_Y;
            c.n -= turns % 7 == 3;
            table_add(c, turns++, 7); /* no others have a sum, and 13 would pass by so few */
        }
    }
}

/* Gradients added to what is there: each alone, all, and of no samples. */
static void add_accumulation_of(clnorm_norm norm)
{
    static const uint32_t masks[] = {CLNORM_ADD_DX, CLNORM_ADD_DWEIGHT, CLNORM_ADD_DBIAS, CLNORM_ADD_DZ,
                                     CLNORM_ADD_DX | CLNORM_ADD_DWEIGHT | CLNORM_ADD_DBIAS | CLNORM_ADD_DZ};
    for (size_t i = 0; i <= COUNT(masks); i++) {
        const bool empty = i == COUNT(masks);
        const uint32_t mask = masks[empty ? i - 1 : i];
        const bool after = (mask & CLNORM_ADD_DZ) != 0;
        const struct form *form =
            form_of(i % 2 ? CLNORM_RELU : CLNORM_NO_ACTIVATION, after ? CLNORM_RESIDUAL_AFTER : CLNORM_NO_RESIDUAL);
        struct clnorm_case c = fused_case(norm, form, CASE_BACKWARD, any_turn());
        c.accumulate = mask;
        if (empty)
            c.n = 0;
        add(c);
    }
}

/* Outputs left out: each of a pair, and all but dz. */
static void add_omissions_of(clnorm_norm norm)
{
    static const unsigned omit[] = {CASE_BIT(CASE_DZ), CASE_BIT(CASE_DX),
                                    CASE_BIT(CASE_DX) | CASE_BIT(CASE_DWEIGHT) | CASE_BIT(CASE_DBIAS)};
    for (size_t i = 0; i < COUNT(omit); i++) {
        const struct form *form = form_of(i == 1 ? CLNORM_SILU : CLNORM_RELU, CLNORM_RESIDUAL_AFTER);
        struct clnorm_case c = fused_case(norm, form, CASE_BACKWARD, any_turn());
        c.omit = omit[i];
        add(c);
    }
}

static void add_hostile_of(clnorm_norm norm)
{
    static const enum case_data data[] = {CASE_DATA_MEAN1E6_STD1E_2,   CASE_DATA_CONSTANT_1234_567,
                                          CASE_DATA_OUTLIER1E4_MIDDLE, CASE_DATA_SPARSE,
                                          CASE_DATA_NAN_FIRST,         CASE_DATA_INF_MIDDLE};
    for (size_t i = 0; i < COUNT(data); i++) {
        const struct form *form = &forms[(i + 2 * (size_t)norm) % (is_row_norm(norm) ? FORMS : FORMS_OF_ALL)];
        struct clnorm_case c = fused_case(norm, form, i % 2 ? CASE_TRAIN : CASE_BACKWARD, any_turn());
        c.data = data[i];
        add(c);
    }
    /* y beyond what f16 has: Inf. */
    struct clnorm_case c = fused_case(norm, form_of(CLNORM_RELU, CLNORM_RESIDUAL_AFTER), CASE_TRAIN, any_turn());
    c.data = CASE_DATA_HUGE;
    add(c);
}

static void add_large_of(clnorm_norm norm)
{
    for (int k = 0; k < 4; k++) {
        struct clnorm_case c =
            plain_case(norm, large_shapes, k % 2 ? CASE_BACKWARD : CASE_TRAIN, (size_t)norm + (size_t)k / 2);
        set_types(&c, types[((size_t)norm + (size_t)k) % COUNT(types)]);
        if (k >= 2)
            set_form(&c, is_row_norm(norm) ? form_of(CLNORM_SILU, CLNORM_RESIDUAL_BEFORE)
                                           : form_of(CLNORM_RELU, CLNORM_RESIDUAL_AFTER));
        add(c);
    }
}

void table_add_fused(void)
{
    for (size_t i = 0; i < COUNT(norms); i++) {
        for (size_t k = 0; k < COUNT(types); k++)
            add_types_of(norms[i], types[k]);
        add_data_of(norms[i]);
        for (size_t k = 0; k < FORMS; k++) {
            if (forms[k].residual != CLNORM_RESIDUAL_BEFORE)
                add_fusions_of(norms[i], &forms[k]);
            else if (is_row_norm(norms[i]))
                add_before_of(norms[i], &forms[k]);
        }
        add_accumulation_of(norms[i]);
        add_omissions_of(norms[i]);
        add_hostile_of(norms[i]);
        add_large_of(norms[i]);
    }
}
