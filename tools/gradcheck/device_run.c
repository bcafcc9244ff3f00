#include "device_run.h"

enum { X, Z, DY, WEIGHT, BIAS, MEAN, VAR, INPUTS, Y = INPUTS, SUM, DX, DWEIGHT, DBIAS, DZ, STATE, LENGTHS, BUFFERS };

struct buffers {
    clnorm_memory *memory[BUFFERS];
};

static clnorm_buffer buffer(const struct buffers *b, int which)
{
    return b->memory[which] ? clnorm_memory_buffer(b->memory[which]) : clnorm_none();
}

static clnorm_status write_lengths(clnorm_device *device, const struct check_data *d, struct buffers *b)
{
    int32_t lengths[CHECK_N];
    if (!d->problem.lengths)
        return CLNORM_OK;
    for (size_t n = 0; n < CHECK_N; n++)
        lengths[n] = (int32_t)d->problem.lengths[n];
    clnorm_status status = clnorm_memory_create(device, sizeof lengths, &b->memory[LENGTHS]);
    return status == CLNORM_OK ? clnorm_memory_write(b->memory[LENGTHS], 0, lengths, sizeof lengths) : status;
}

static enum reference_dtype dtype_of(const struct check_kind *kind, int which)
{
    switch (which) {
    case X:
    case Z:
    case SUM:
    case DX:
    case DZ:
        return kind->dtype;
    case Y:
    case DY:
        return kind->y_dtype;
    default:
        return REFERENCE_F32;
    }
}

static size_t element_bytes(enum reference_dtype dtype)
{
    return dtype == REFERENCE_F32 ? sizeof(float) : sizeof(uint16_t);
}

/* Exact: the data were drawn so. */
static clnorm_status write_input(clnorm_memory *memory, enum reference_dtype dtype, const double *values, size_t count)
{
    float wide[CHECK_ELEMENTS];
    uint16_t narrow[CHECK_ELEMENTS];
    for (size_t i = 0; i < count; i++) {
        if (dtype == REFERENCE_F32)
            wide[i] = (float)values[i];
        else
            narrow[i] = reference_narrow(dtype, values[i]);
    }
    return clnorm_memory_write(memory, 0, dtype == REFERENCE_F32 ? (const void *)wide : narrow,
                               count * element_bytes(dtype));
}

static clnorm_status read_output(clnorm_memory *memory, enum reference_dtype dtype, double *values, size_t count)
{
    float wide[CHECK_ELEMENTS];
    uint16_t narrow[CHECK_ELEMENTS];
    clnorm_status status =
        clnorm_memory_read(memory, 0, dtype == REFERENCE_F32 ? (void *)wide : narrow, count * element_bytes(dtype));
    for (size_t i = 0; status == CLNORM_OK && i < count; i++)
        values[i] = dtype == REFERENCE_F32 ? (double)wide[i] : reference_widen(dtype, narrow[i]);
    return status;
}

/* Frozen statistics: y alone is of use. */
static clnorm_status infer(clnorm_plan *plan, const struct check_data *d, const struct buffers *b)
{
    clnorm_infer_args f = CLNORM_INFER_ARGS_INIT;
    f.x = buffer(b, X);
    f.y = buffer(b, Y);
    f.weight = buffer(b, WEIGHT);
    f.bias = buffer(b, BIAS);
    f.running_mean = buffer(b, MEAN);
    f.running_var = buffer(b, VAR);
    if (d->kind.residual != CHECK_NO_RESIDUAL)
        f.z = buffer(b, Z);
    f.lengths = buffer(b, LENGTHS);
    return clnorm_infer(plan, &f);
}

static clnorm_status forward(clnorm_plan *plan, const struct check_data *d, const struct buffers *b)
{
    clnorm_forward_args f = CLNORM_FORWARD_ARGS_INIT;
    f.x = buffer(b, X);
    f.y = buffer(b, Y);
    f.weight = buffer(b, WEIGHT);
    f.bias = buffer(b, BIAS);
    f.state = buffer(b, STATE);
    if (d->kind.residual != CHECK_NO_RESIDUAL)
        f.z = buffer(b, Z);
    if (d->kind.residual == CHECK_BEFORE)
        f.sum = buffer(b, SUM);
    f.lengths = buffer(b, LENGTHS);
    return clnorm_forward(plan, &f);
}

static clnorm_status backward(clnorm_plan *plan, const struct check_data *d, bool by_y, const struct buffers *b)
{
    const bool after = d->kind.residual == CHECK_AFTER;
    clnorm_backward_args g = CLNORM_BACKWARD_ARGS_INIT;
    if (d->kind.frozen) {
        g.running_mean = buffer(b, MEAN);
        g.running_var = buffer(b, VAR);
    } else {
        g.state = buffer(b, STATE);
    }
    if (!d->kind.from_y)
        g.x = buffer(b, d->kind.residual == CHECK_BEFORE ? SUM : X);
    g.dy = buffer(b, DY);
    g.weight = buffer(b, WEIGHT);
    g.dx = buffer(b, DX);
    g.dweight = buffer(b, DWEIGHT);
    g.dbias = buffer(b, DBIAS);
    if (after)
        g.dz = buffer(b, DZ);
    if (by_y || d->kind.from_y)
        g.y = buffer(b, Y);
    if (d->kind.from_y || (!by_y && d->kind.activation != REFERENCE_LINEAR)) {
        g.bias = buffer(b, BIAS);
        if (after)
            g.z = buffer(b, Z);
    }
    g.lengths = buffer(b, LENGTHS);
    return clnorm_backward(plan, &g);
}

static clnorm_status prepare(clnorm_device *device, clnorm_plan *plan, const struct check_data *d, struct buffers *b)
{
    const size_t e = reference_elements(&d->problem), w = reference_weights(&d->problem), c = d->problem.c;
    const size_t counts[STATE] = {e, e, e, w, w, c, c, e, e, e, w, w, e};
    const double *inputs[INPUTS] = {
        d->kind.residual == CHECK_BEFORE ? d->addend : d->x, d->z, d->dy, d->weight, d->bias, d->mean, d->var};
    clnorm_status status = clnorm_memory_create(device, clnorm_plan_state_bytes(plan), &b->memory[STATE]);
    if (status == CLNORM_OK)
        status = write_lengths(device, d, b);
    for (int i = 0; i < STATE && status == CLNORM_OK; i++) {
        const enum reference_dtype dtype = dtype_of(&d->kind, i);
        status = clnorm_memory_create(device, counts[i] * element_bytes(dtype), &b->memory[i]);
        if (i < INPUTS && status == CLNORM_OK)
            status = write_input(b->memory[i], dtype, inputs[i], counts[i]);
    }
    return status;
}

static clnorm_status collect(const struct check_data *d, const struct buffers *b, struct gradients *got)
{
    const size_t elements = reference_elements(&d->problem), weights = reference_weights(&d->problem);
    clnorm_status status = read_output(b->memory[DX], d->kind.dtype, got->dx, elements);
    if (status == CLNORM_OK)
        status = read_output(b->memory[DWEIGHT], REFERENCE_F32, got->dweight, weights);
    if (status == CLNORM_OK)
        status = read_output(b->memory[DBIAS], REFERENCE_F32, got->dbias, weights);
    if (status == CLNORM_OK && d->kind.residual == CHECK_AFTER)
        status = read_output(b->memory[DZ], d->kind.dtype, got->dz, elements);
    return status;
}

clnorm_status device_gradients(clnorm_device *device, clnorm_plan *plan, const struct check_data *d, bool by_y,
                               struct gradients *got)
{
    struct buffers b = {{NULL}};
    clnorm_status status = prepare(device, plan, d, &b);
    if (status == CLNORM_OK && (!d->kind.frozen || by_y || d->kind.from_y))
        status = d->kind.frozen ? infer(plan, d, &b) : forward(plan, d, &b);
    if (status == CLNORM_OK)
        status = backward(plan, d, by_y, &b);
    if (status == CLNORM_OK)
        status = collect(d, &b, got);
    for (int i = 0; i < BUFFERS; i++)
        clnorm_memory_destroy(b.memory[i]);
    return status;
}
