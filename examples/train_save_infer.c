/* Train, save, load, infer. A batch norm layer learns y = 2·(x − mean)/std + 1 from random batches; its parameters and
 * running statistics go into a file; a second plan, for one sample at a time, works from the file alone.
 *
 *     train_save_infer [DEVICE]      writes train_save_infer.model in the current folder */
#include <clnorm/clnorm.h>
#include <stdio.h>
#include <stdlib.h>

enum { N = 64, C = 8, STEPS = 300, ROW = C * sizeof(float) };
/* Everything lies in one block of memory, as rows of C floats; the first four are what is saved. */
enum { WEIGHT, BIAS, RUNNING_MEAN, RUNNING_VAR, SAVED };
enum { DWEIGHT = SAVED, DBIAS, STATE, X = STATE + 3, Y = X + N, ROWS = Y + N };

/* All that a checkpoint must hold. eps belongs to the plan; momentum and count are the caller's, not the library's. */
struct model {
    float eps;
    clnorm_running running;
    float rows[SAVED][C];
};

static void check(int ok, const char *what)
{
    if (!ok) {
        fprintf(stderr, "train_save_infer: %s\n", what);
        exit(1);
    }
}
#define CHECK(call) check((call) == CLNORM_OK, clnorm_last_error())

static clnorm_memory *memory;
static clnorm_buffer rows(int first, int count)
{
    return clnorm_memory_part(memory, (size_t)first * ROW, (size_t)count * ROW);
}

/* A batch and its targets: channel j of x has mean 100·j and standard deviation 1 + j. */
static void draw(float *x, float *target)
{
    for (int i = 0; i < N * C; i++) {
        float j = (float)(i % C), noise = -6;
        for (int k = 0; k < 12; k++)
            noise += (float)rand() / (float)RAND_MAX;
        x[i] = 100 * j + (1 + j) * noise;
        target[i] = 2 * noise + 1;
    }
}

static clnorm_plan *open_layer(clnorm_device *device, const struct model *m, int64_t n)
{
    clnorm_plan *plan;
    clnorm_desc desc = CLNORM_DESC_INIT;
    desc.n = n;
    desc.c = C;
    desc.eps = m->eps;
    CHECK(clnorm_plan_create(device, &desc, &plan));
    CHECK(clnorm_memory_create(device, ROWS * ROW, &memory));
    CHECK(clnorm_memory_write(memory, 0, m->rows, sizeof m->rows));
    return plan;
}

static void train(clnorm_device *device, struct model *m)
{
    static float x[N * C], y[N * C], t[N * C], gradient[2 * C];
    clnorm_plan *plan = open_layer(device, m, N);
    clnorm_forward_args f = CLNORM_FORWARD_ARGS_INIT;
    f.x = rows(X, N);
    f.y = rows(Y, N);
    f.weight = rows(WEIGHT, 1);
    f.bias = rows(BIAS, 1);
    f.running_mean = rows(RUNNING_MEAN, 1);
    f.running_var = rows(RUNNING_VAR, 1);
    f.state = rows(STATE, 3);
    clnorm_backward_args b = CLNORM_BACKWARD_ARGS_INIT;
    b.x = f.x;
    b.dy = f.y; /* written over y below */
    b.weight = f.weight;
    b.state = f.state;
    b.dweight = rows(DWEIGHT, 1);
    b.dbias = rows(DBIAS, 1);
    for (int step = 0; step < STEPS; step++) {
        draw(x, t);
        CHECK(clnorm_memory_write(memory, X * ROW, x, sizeof x));
        f.running = m->running;
        CHECK(clnorm_forward(plan, &f));
        m->running.count++;
        CHECK(clnorm_memory_read(memory, Y * ROW, y, sizeof y));
        for (int i = 0; i < N * C; i++) /* dy of the mean squared error */
            y[i] = 2 * (y[i] - t[i]) / N;
        CHECK(clnorm_memory_write(memory, Y * ROW, y, sizeof y));
        CHECK(clnorm_backward(plan, &b));
        CHECK(clnorm_memory_read(memory, DWEIGHT * ROW, gradient, sizeof gradient));
        for (int i = 0; i < 2 * C; i++) /* weight and bias lie as their gradients do */
            m->rows[i / C][i % C] -= 0.05f * gradient[i];
        CHECK(clnorm_memory_write(memory, WEIGHT * ROW, m->rows, 2 * ROW));
    }
    CHECK(clnorm_memory_read(memory, 0, m->rows, sizeof m->rows));
    clnorm_memory_destroy(memory);
    clnorm_plan_destroy(plan);
}

/* The mean square of what is left of the targets of new data; their own is 5. */
static float infer(clnorm_device *device, const struct model *m)
{
    static float x[N * C], y[N * C], t[N * C];
    float sum = 0;
    clnorm_plan *plan = open_layer(device, m, 1);
    draw(x, t);
    CHECK(clnorm_memory_write(memory, X * ROW, x, sizeof x));
    for (int i = 0; i < N; i++) {
        clnorm_infer_args args = CLNORM_INFER_ARGS_INIT;
        args.x = args.y = rows(X + i, 1);
        args.weight = rows(WEIGHT, 1);
        args.bias = rows(BIAS, 1);
        args.running_mean = rows(RUNNING_MEAN, 1);
        args.running_var = rows(RUNNING_VAR, 1);
        CHECK(clnorm_infer(plan, &args));
    }
    CHECK(clnorm_memory_read(memory, X * ROW, y, sizeof y));
    for (int i = 0; i < N * C; i++)
        sum += (y[i] - t[i]) * (y[i] - t[i]);
    clnorm_memory_destroy(memory);
    clnorm_plan_destroy(plan);
    return sum / (N * C);
}

int main(int argc, char **argv)
{
    static const char path[] = "train_save_infer.model";
    struct model trained = {.eps = 1e-5f, .running = CLNORM_RUNNING_INIT}, loaded;
    trained.running.average = CLNORM_CUMULATIVE;
    for (int j = 0; j < C; j++)
        trained.rows[WEIGHT][j] = trained.rows[RUNNING_VAR][j] = 1;
    clnorm_device *device;
    CHECK(clnorm_device_open(argc > 1 ? argv[1] : "auto", &device));
    train(device, &trained);
    FILE *file = fopen(path, "wb");
    check(file && fwrite(&trained, sizeof trained, 1, file) == 1 && fclose(file) == 0, "the model cannot be written");
    file = fopen(path, "rb");
    check(file && fread(&loaded, sizeof loaded, 1, file) == 1 && fclose(file) == 0, "the model cannot be read");
    float error = infer(device, &loaded);
    printf(
        "%d batches; channel 1: weight %.3f, bias %.3f, running mean %.3f, variance %.3f; mean square of errors %.5f\n",
        (int)loaded.running.count, loaded.rows[WEIGHT][1], loaded.rows[BIAS][1], loaded.rows[RUNNING_MEAN][1],
        loaded.rows[RUNNING_VAR][1], error);
    clnorm_device_destroy(device);
    return error < 0.01f ? 0 : 1;
}
