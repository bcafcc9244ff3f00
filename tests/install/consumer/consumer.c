/* A C user of an installed clnorm: batch norm of {1, 3} on the CPU. Prints the library's version. */
#ifdef CONSUMER_OPENCL
#include <clnorm/opencl.h>
#else
#include <clnorm/clnorm.h>
#endif
#include <stdio.h>

int main(void)
{
    const float x[2] = {1.0f, 3.0f};
    float y[2] = {0.0f, 0.0f};
    clnorm_device *device = NULL;
    clnorm_plan *plan = NULL;
    clnorm_desc desc = CLNORM_DESC_INIT;
    desc.n = 2;
    desc.c = 1;
    desc.eps = 0.0f;
    clnorm_forward_args forward = CLNORM_FORWARD_ARGS_INIT;
    forward.x = clnorm_host(x, sizeof x);
    forward.y = clnorm_host(y, sizeof y);
    if (clnorm_device_open("cpu", &device) || clnorm_plan_create(device, &desc, &plan) ||
        clnorm_forward(plan, &forward)) {
        fprintf(stderr, "%s\n", clnorm_last_error());
        return 1;
    }
#ifdef CONSUMER_OPENCL
    if (clnorm_device_cl_context(device)) {
        fprintf(stderr, "cpu has an OpenCL context\n");
        return 1;
    }
#endif
    clnorm_plan_destroy(plan);
    clnorm_device_destroy(device);
    if (!(y[0] == -1.0f && y[1] == 1.0f)) {
        fprintf(stderr, "y is {%g, %g} and must be {-1, 1}\n", (double)y[0], (double)y[1]);
        return 1;
    }
    printf("%s\n", clnorm_version());
    return 0;
}
