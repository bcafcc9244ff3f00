#include <clnorm/clnorm.h>
#include <stdio.h>

int main(int argc, char **argv)
{
    float x[] = {1, 10, 2, 20, 6, 60}; /* 3 samples of 2 channels */
    clnorm_device *device = NULL;
    clnorm_plan *plan = NULL;
    clnorm_memory *memory = NULL;
    clnorm_desc desc = CLNORM_DESC_INIT;
    clnorm_forward_args args = CLNORM_FORWARD_ARGS_INIT;
    desc.n = 3, desc.c = 2;
    if (clnorm_device_open(argc > 1 ? argv[1] : "auto", &device) || clnorm_plan_create(device, &desc, &plan) ||
        clnorm_memory_create(device, sizeof x, &memory) || clnorm_memory_write(memory, 0, x, sizeof x))
        return fprintf(stderr, "%s\n", clnorm_last_error()), 1;
    args.x = args.y = clnorm_memory_buffer(memory); /* in place */
    if (clnorm_forward(plan, &args) || clnorm_memory_read(memory, 0, x, sizeof x))
        return fprintf(stderr, "%s\n", clnorm_last_error()), 1;
    printf("%7.4f %7.4f\n%7.4f %7.4f\n%7.4f %7.4f\n", x[0], x[1], x[2], x[3], x[4], x[5]);
    clnorm_memory_destroy(memory);
    clnorm_plan_destroy(plan);
    clnorm_device_destroy(device);
    return 0;
}
