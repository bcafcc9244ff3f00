/* clnorm run: one norm on .npy files, so that anyone can compare us with their framework. */
#include "commands.h"
#include "npy.h"
#include "output.h"
#include "run_options.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Every array of a run: the inputs, then what is computed. */
enum {
    OUT_Y = RUN_INPUTS,
    OUT_MEAN,
    OUT_VAR,
    OUT_RSTD,
    OUT_DX,
    OUT_DWEIGHT,
    OUT_DBIAS,
    OUT_SUM,
    OUT_DZ,
    STATE, /* what forward saves for backward; never a file */
    ARRAYS
};

static const char *const names[ARRAYS] = {"x",       "dy",      "weight", "bias", "running-mean", "running-var", "z",
                                          "y",       "lengths", "y",      "mean", "var",          "rstd",        "dx",
                                          "dweight", "dbias",   "sum",    "dz",   "state"};

struct array {
    struct npy host;       /* its data: what was read, or where a result goes */
    clnorm_memory *device; /* NULL: not used */
};

struct run {
    const struct cli_command *self;
    struct run_options options;
    struct array arrays[ARRAYS];
    clnorm_desc desc;
    clnorm_device *device;
    clnorm_plan *plan;
};

/* ---- reading --------------------------------------------------------------------------------------------------- */

/* Of a tensor x's or y's; all else is f32. */
static enum npy_type type_of(const struct run *r, int which)
{
    if (which == IN_LENGTHS)
        return NPY_I32;
    const bool of_y = which == IN_DY || which == IN_Y || which == OUT_Y;
    const bool of_x = which == IN_X || which == IN_Z || which == OUT_DX || which == OUT_SUM || which == OUT_DZ;
    return of_y ? (enum npy_type)r->options.fusion.y_dtype : of_x ? (enum npy_type)r->options.fusion.dtype : NPY_F32;
}

/* The problem from x's shape. */
static int set_problem(struct run *r)
{
    const struct npy *x = &r->arrays[IN_X].host;
    const clnorm_desc defaults = CLNORM_DESC_INIT;
    bool flat = r->options.layout == CLNORM_NC;
    int least = flat ? 2 : 3, most = flat ? 2 : 2 + CLNORM_MAX_SPATIAL;
    if (x->dims < least || x->dims > most)
        return cli_error(r->self, "%s: it has %d dimensions; in layout %s it must have %s", r->options.paths[IN_X],
                         x->dims,
                         flat                              ? "nc"
                         : r->options.layout == CLNORM_NCS ? "ncs"
                                                           : "nsc",
                         flat ? "2: (N, D)" : "3 to 5: N, C and 1 to 3 of space");
    if (r->options.paths[IN_LENGTHS] && x->dims != 3)
        return cli_error(r->self, "%s: it has %d dimensions; with --lengths it must have 3: N, C and one of space",
                         r->options.paths[IN_X], x->dims);
    bool last = r->options.layout == CLNORM_NSC;
    r->desc = defaults;
    r->desc.layout = r->options.layout;
    r->desc.eps = r->options.eps;
    fusion_set_desc(&r->options.fusion, &r->desc);
    r->desc.lengths = r->options.paths[IN_LENGTHS] != NULL;
    r->desc.n = (int64_t)x->shape[0];
    r->desc.c = (int64_t)x->shape[last ? x->dims - 1 : 1];
    r->desc.spatial_dims = x->dims - 2;
    for (int i = 0; i < r->desc.spatial_dims; i++)
        r->desc.spatial[i] = (int64_t)x->shape[last ? i + 1 : i + 2];
    char text[256];
    if (!norm_complete(&r->options.norm, r->desc.c, r->desc.spatial_dims, &norm_option_words, text, sizeof text))
        return cli_error(r->self, "%s", text);
    norm_set_desc(&r->options.norm, &r->desc);
    return CLI_OK;
}

/* A vector of one value a channel, and what weight and bias look like, and statistics: the shapes in which other frameworks have
 * them. */
struct shape {
    int dims;
    size_t size[NPY_MAX_DIMS];
};

static struct shape channel_shape(const struct run *r)
{
    return (struct shape){1, {(size_t)r->desc.c}};
}

static struct shape weight_shape(const struct run *r)
{
    const struct npy *x = &r->arrays[IN_X].host;
    struct shape s = {r->desc.normalized_dims, {0}};
    if (!norm_is_of_rows(r->desc.norm))
        return channel_shape(r);
    for (int i = 0; i < s.dims; i++)
        s.size[i] = x->shape[x->dims - s.dims + i];
    return s;
}

static struct shape statistics_shape(const struct run *r)
{
    const struct npy *x = &r->arrays[IN_X].host;
    struct shape s = {x->dims - r->desc.normalized_dims, {0}};
    const int64_t batch = r->desc.virtual_batch;
    if (r->desc.norm == CLNORM_BATCH && batch && r->options.mode != RUN_INFER)
        return (struct shape){2, {(size_t)((r->desc.n + batch - 1) / batch), (size_t)r->desc.c}};
    if (r->desc.norm == CLNORM_BATCH || r->options.mode == RUN_INFER)
        return channel_shape(r);
    if (!norm_is_of_rows(r->desc.norm))
        return (struct shape){2,
                              {(size_t)r->desc.n, (size_t)(r->desc.norm == CLNORM_GROUP ? r->desc.groups : r->desc.c)}};
    for (int i = 0; i < s.dims; i++)
        s.size[i] = x->shape[i];
    return s;
}

static int check_shape(struct run *r, enum run_input input, int dims, const size_t *shape)
{
    const struct npy *a = &r->arrays[input].host;
    char is[256], must[256];
    if (a->dims == dims && !memcmp(a->shape, shape, sizeof *shape * (size_t)dims))
        return CLI_OK;
    return cli_error(r->self, "%s: the shape of %s is %s; it must be %s", r->options.paths[input], names[input],
                     npy_shape_text(a->dims, a->shape, is, sizeof is), npy_shape_text(dims, shape, must, sizeof must));
}

static int read_inputs(struct run *r)
{
    char message[1024];
    for (int i = 0; i < RUN_INPUTS; i++) {
        if (!r->options.paths[i])
            continue;
        struct npy *a = &r->arrays[i].host;
        if (!npy_read(r->options.paths[i], type_of(r, i), a, message, sizeof message))
            return cli_error(r->self, "%s", message);
        const struct npy *x = &r->arrays[IN_X].host; /* comes first */
        int code = CLI_OK;
        if (i == IN_X) {
            code = set_problem(r);
        } else if (i == IN_DY || i == IN_Z || i == IN_Y) {
            code = check_shape(r, (enum run_input)i, x->dims, x->shape);
        } else if (i == IN_LENGTHS) {
            code = check_shape(r, IN_LENGTHS, 1, x->shape);
        } else {
            const struct shape s = i == IN_WEIGHT || i == IN_BIAS ? weight_shape(r) : channel_shape(r);
            code = check_shape(r, (enum run_input)i, s.dims, s.size);
        }
        if (code != CLI_OK)
            return code;
    }
    return CLI_OK;
}

/* ---- computing ------------------------------------------------------------------------------------------------- */

static void fill_nan(struct npy *a)
{
    static const float f32 = NAN;
    static const uint16_t others[] = {0, 0x7e00, 0x7fc0};
    const void *value = a->type == NPY_F32 ? (const void *)&f32 : &others[a->type];
    const size_t bytes = npy_type_bytes(a->type);
    for (size_t i = 0; i < a->elements; i++)
        memcpy((char *)a->data + i * bytes, value, bytes);
}

/* Host memory for a result, filled with NaN: what the library leaves alone (statistics of no values at all) reads as
 * the formula's 0/0. */
static int make_result(struct run *r, int which, int dims, const size_t *shape)
{
    struct npy *a = &r->arrays[which].host;
    a->type = type_of(r, which);
    a->dims = dims;
    a->elements = 1;
    for (int i = 0; i < dims; i++) {
        a->shape[i] = shape[i];
        a->elements *= shape[i];
    }
    const size_t bytes = a->elements * npy_type_bytes(a->type);
    a->data = malloc(bytes ? bytes : 1);
    if (!a->data) {
        cli_error(r->self, "%s: %zu bytes of memory are needed; there are not that many", names[which], bytes);
        return CLI_FAILED;
    }
    fill_nan(a);
    return CLI_OK;
}

static int make_results(struct run *r)
{
    const struct npy *x = &r->arrays[IN_X].host;
    bool backward = r->options.mode == RUN_BACKWARD;
    const struct shape s = backward ? weight_shape(r) : statistics_shape(r);
    int first = backward                     ? OUT_DWEIGHT
                : r->desc.norm == CLNORM_RMS ? OUT_RSTD /* it has no mean, and no variance about one */
                                             : OUT_MEAN;
    int last = backward ? OUT_DBIAS : OUT_RSTD;
    int code = make_result(r, backward ? OUT_DX : OUT_Y, x->dims, x->shape);
    for (int i = first; i <= last && code == CLI_OK; i++)
        code = make_result(r, i, s.dims, s.size);
    if (code == CLI_OK && !backward && r->desc.residual == CLNORM_RESIDUAL_BEFORE)
        code = make_result(r, OUT_SUM, x->dims, x->shape);
    if (code == CLI_OK && backward && r->desc.residual == CLNORM_RESIDUAL_AFTER)
        code = make_result(r, OUT_DZ, x->dims, x->shape);
    return code;
}

static int failed(struct run *r, clnorm_status status, const char *what)
{
    return status == CLNORM_OK ? CLI_OK : cli_status(r->self, status, what);
}

/* Memory on the device for every array of this run, with the host's contents. */
static int upload(struct run *r)
{
    for (int i = 0; i < ARRAYS; i++) {
        struct array *a = &r->arrays[i];
        const size_t values = a->host.elements * npy_type_bytes(a->host.type);
        size_t bytes = i == STATE ? clnorm_plan_state_bytes(r->plan) : values;
        if (i == OUT_DX) /* y takes its place for a while, and may be of the larger type */
            bytes = a->host.elements * sizeof(float);
        bool needed = i == STATE ? r->options.mode == RUN_BACKWARD && !r->options.frozen : a->host.data != NULL;
        if (!needed)
            continue;
        clnorm_status status = clnorm_memory_create(r->device, bytes, &a->device);
        if (status == CLNORM_OK && a->host.data)
            status = clnorm_memory_write(a->device, 0, a->host.data, values);
        if (status != CLNORM_OK)
            return cli_status(r->self, status, names[i]);
    }
    return CLI_OK;
}

static clnorm_buffer buffer(const struct run *r, int which)
{
    clnorm_memory *memory = r->arrays[which].device;
    return memory ? clnorm_memory_buffer(memory) : clnorm_none();
}

static int run_train(struct run *r)
{
    clnorm_forward_args f = CLNORM_FORWARD_ARGS_INIT;
    f.x = buffer(r, IN_X);
    f.y = buffer(r, OUT_Y);
    f.weight = buffer(r, IN_WEIGHT);
    f.bias = buffer(r, IN_BIAS);
    f.mean = buffer(r, OUT_MEAN);
    f.var = buffer(r, OUT_VAR);
    f.rstd = buffer(r, OUT_RSTD);
    f.running_mean = buffer(r, IN_RUNNING_MEAN);
    f.running_var = buffer(r, IN_RUNNING_VAR);
    f.running = r->options.running;
    f.z = buffer(r, IN_Z);
    f.sum = buffer(r, OUT_SUM);
    f.lengths = buffer(r, IN_LENGTHS);
    return failed(r, clnorm_forward(r->plan, &f), "train");
}

static int run_infer(struct run *r)
{
    clnorm_infer_args f = CLNORM_INFER_ARGS_INIT;
    f.x = buffer(r, IN_X);
    f.y = buffer(r, OUT_Y);
    f.weight = buffer(r, IN_WEIGHT);
    f.bias = buffer(r, IN_BIAS);
    f.running_mean = buffer(r, IN_RUNNING_MEAN);
    f.running_var = buffer(r, IN_RUNNING_VAR);
    f.z = buffer(r, IN_Z);
    f.lengths = buffer(r, IN_LENGTHS);
    return failed(r, clnorm_infer(r->plan, &f), "infer");
}

static int run_backward(struct run *r)
{
    clnorm_backward_args b = CLNORM_BACKWARD_ARGS_INIT;
    if (!r->options.frozen) {
        clnorm_forward_args f = CLNORM_FORWARD_ARGS_INIT;
        f.x = buffer(r, IN_X);
        f.y = buffer(r, OUT_DX);                       /* y is not asked for; dx then takes its place */
        if (r->desc.residual == CLNORM_RESIDUAL_AFTER) /* the statistics do not depend on it: x will do */
            f.z = buffer(r, r->options.paths[IN_Z] ? IN_Z : IN_X);
        f.state = buffer(r, STATE);
        f.lengths = buffer(r, IN_LENGTHS);
        clnorm_status status = clnorm_forward(r->plan, &f);
        if (status != CLNORM_OK)
            return cli_status(r->self, status, "statistics");
    }
    b.x = buffer(r, IN_X);
    b.dy = buffer(r, IN_DY);
    b.weight = buffer(r, IN_WEIGHT);
    b.state = buffer(r, STATE);
    b.running_mean = buffer(r, IN_RUNNING_MEAN);
    b.running_var = buffer(r, IN_RUNNING_VAR);
    b.dx = buffer(r, OUT_DX);
    b.dweight = buffer(r, OUT_DWEIGHT);
    b.dbias = buffer(r, OUT_DBIAS);
    b.dz = buffer(r, OUT_DZ);
    b.y = buffer(r, IN_Y);
    b.lengths = buffer(r, IN_LENGTHS);
    if (r->desc.activation != CLNORM_NO_ACTIVATION && !r->options.paths[IN_Y]) { /* worked out again */
        b.bias = buffer(r, IN_BIAS);
        b.z = buffer(r, IN_Z);
    }
    return failed(r, clnorm_backward(r->plan, &b), "backward");
}

/* In inference the statistics are the running ones. */
static void use_running(struct run *r)
{
    const float *running_mean = r->arrays[IN_RUNNING_MEAN].host.data,
                *running_var = r->arrays[IN_RUNNING_VAR].host.data;
    float *mean = r->arrays[OUT_MEAN].host.data, *var = r->arrays[OUT_VAR].host.data;
    float *rstd = r->arrays[OUT_RSTD].host.data;
    for (size_t i = 0; i < r->arrays[OUT_MEAN].host.elements; i++) {
        mean[i] = running_mean[i];
        var[i] = running_var[i];
        rstd[i] = (float)(1.0 / sqrt((double)var[i] + (double)r->desc.eps));
    }
}

static int compute(struct run *r)
{
    const char *name = r->options.device ? r->options.device : "auto";
    int code = failed(r, clnorm_device_open(name, &r->device), "--device");
    if (code == CLI_OK)
        code = failed(r, clnorm_plan_create(r->device, &r->desc, &r->plan), "the problem");
    if (code == CLI_OK)
        code = make_results(r);
    if (code == CLI_OK)
        code = upload(r);
    if (code == CLI_OK)
        code = r->options.mode == RUN_TRAIN   ? run_train(r)
               : r->options.mode == RUN_INFER ? run_infer(r)
                                              : run_backward(r);
    for (int i = IN_RUNNING_MEAN; i < STATE && code == CLI_OK; i++) {
        struct array *a = &r->arrays[i];
        if (a->device)
            code = failed(
                r, clnorm_memory_read(a->device, 0, a->host.data, a->host.elements * npy_type_bytes(a->host.type)),
                names[i]);
    }
    if (code == CLI_OK && r->options.mode == RUN_INFER)
        use_running(r);
    return code;
}

/* ---- writing --------------------------------------------------------------------------------------------------- */

static int write_results(struct run *r)
{
    struct output_array files[ARRAYS];
    char message[1024], list[256] = "";
    clnorm_device_info info = CLNORM_DEVICE_INFO_INIT;
    size_t count = 0;
    for (int i = OUT_Y; i < STATE; i++) {
        const struct npy *a = &r->arrays[i].host;
        if (a->data)
            files[count++] = (struct output_array){names[i], a};
    }
    if (r->options.mode != RUN_BACKWARD && r->options.paths[IN_RUNNING_MEAN]) {
        const struct npy *mean = &r->arrays[IN_RUNNING_MEAN].host, *var = &r->arrays[IN_RUNNING_VAR].host;
        files[count++] = (struct output_array){"running_mean", mean};
        files[count++] = (struct output_array){"running_var", var};
    }
    clnorm_status status = clnorm_device_get_info(r->device, &info);
    if (status != CLNORM_OK)
        return cli_status(r->self, status, "--device");
    if (!output_write(r->options.out, files, count, message, sizeof message))
        return cli_error(r->self, "%s", message);
    for (size_t i = 0; i < count; i++) {
        size_t at = strlen(list);
        snprintf(list + at, sizeof list - at, " %s.npy", files[i].name);
    }
    printf("%s (%s) wrote%s into %s\n", info.id, info.name, list, r->options.out);
    uint32_t found = 0;
    status = clnorm_plan_query_found(r->plan, &found);
    if (status != CLNORM_OK)
        return cli_status(r->self, status, "what was found");
    if (found & CLNORM_FOUND_LENGTH)
        printf("%s: a length is below 0 or above %" PRId64 ", and counted as that\n", r->options.paths[IN_LENGTHS],
               r->desc.spatial[0]);
    if (info.fallback[0])
        printf("auto took cpu: %s\n", info.fallback);
    return CLI_OK;
}

int cmd_run(const struct cli_command *self, int argc, const char **argv)
{
    struct run r;
    int code;
    memset(&r, 0, sizeof r);
    r.self = self;
    if (run_options_parse(&r.options, self, argc, argv, &code)) {
        code = read_inputs(&r);
        if (code == CLI_OK)
            code = compute(&r);
        if (code == CLI_OK)
            code = write_results(&r);
    }
    for (int i = 0; i < ARRAYS; i++) {
        clnorm_memory_destroy(r.arrays[i].device);
        npy_free(&r.arrays[i].host);
    }
    clnorm_plan_destroy(r.plan);
    clnorm_device_destroy(r.device);
    run_options_free(&r.options);
    return code;
}
