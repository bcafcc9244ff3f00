/* Two plans on one queue, each after the other's output: three calls are enqueued one after the other and nothing waits
 * until the result is read. One plan normalizes the channels of an image, the other sees the same bytes as a matrix.
 *
 *     two_plans [DEVICE] */
#include <clnorm/clnorm.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK(call)                                                                                                    \
    do {                                                                                                               \
        if ((call) != CLNORM_OK) {                                                                                     \
            fprintf(stderr, "two_plans: %s\n", clnorm_last_error());                                                   \
            exit(1);                                                                                                   \
        }                                                                                                              \
    } while (0)

enum { N = 16, C = 3, H = 8, W = 8, SIZE = N * C * H * W };

static void enqueue(clnorm_plan *plan, clnorm_memory *x, clnorm_memory *y)
{
    clnorm_forward_args args = CLNORM_FORWARD_ARGS_INIT;
    args.x = clnorm_memory_buffer(x);
    args.y = clnorm_memory_buffer(y);
    CHECK(clnorm_forward(plan, &args));
}

/* x → image → y → matrix → z → image → y; with_waits: finish after each call, to compare. */
static void chain(clnorm_device *device, clnorm_plan *image, clnorm_plan *matrix, clnorm_memory *x, clnorm_memory *y,
                  clnorm_memory *z, int with_waits, float *result)
{
    enqueue(image, x, y);
    if (with_waits)
        CHECK(clnorm_device_finish(device));
    enqueue(matrix, y, z);
    if (with_waits)
        CHECK(clnorm_device_finish(device));
    enqueue(image, z, y);
    CHECK(clnorm_memory_read(y, 0, result, SIZE * sizeof(float)));
}

int main(int argc, char **argv)
{
    static float values[SIZE], result[SIZE], waited[SIZE];
    clnorm_device *device;
    CHECK(clnorm_device_open(argc > 1 ? argv[1] : "auto", &device));

    clnorm_desc as_image = CLNORM_DESC_INIT;
    as_image.layout = CLNORM_NCS;
    as_image.n = N;
    as_image.c = C;
    as_image.spatial_dims = 2;
    as_image.spatial[0] = H;
    as_image.spatial[1] = W;
    clnorm_desc as_matrix = CLNORM_DESC_INIT;
    as_matrix.layout = CLNORM_NC;
    as_matrix.n = N;
    as_matrix.c = C * H * W;
    clnorm_plan *image, *matrix;
    CHECK(clnorm_plan_create(device, &as_image, &image));
    CHECK(clnorm_plan_create(device, &as_matrix, &matrix));

    clnorm_memory *x, *y, *z;
    CHECK(clnorm_memory_create(device, sizeof values, &x));
    CHECK(clnorm_memory_create(device, sizeof values, &y));
    CHECK(clnorm_memory_create(device, sizeof values, &z));
    for (int i = 0; i < SIZE; i++)
        values[i] = (float)((i * 7919L) % 1009) / 100.0f;
    CHECK(clnorm_memory_write(x, 0, values, sizeof values));

    chain(device, image, matrix, x, y, z, 0, result);
    chain(device, image, matrix, x, y, z, 1, waited);

    int same = memcmp(result, waited, sizeof result) == 0;
    double sum = 0, squares = 0;
    for (int i = 0; i < SIZE; i++) {
        sum += result[i];
        squares += (double)result[i] * result[i];
    }
    double mean = sum / SIZE, mean_square = squares / SIZE;
    int normalized = mean > -1e-5 && mean < 1e-5 && mean_square > 0.999 && mean_square < 1.001;
    printf("mean %.1e, mean square %.6f; the same bits as with a wait after each call: %s\n", mean, mean_square,
           same ? "yes" : "no");

    clnorm_memory_destroy(x);
    clnorm_memory_destroy(y);
    clnorm_memory_destroy(z);
    clnorm_plan_destroy(image);
    clnorm_plan_destroy(matrix);
    clnorm_device_destroy(device);
    return same && normalized ? 0 : 1;
}
