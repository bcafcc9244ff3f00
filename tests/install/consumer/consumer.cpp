// The same user as consumer.c, in C++17.
#ifdef CONSUMER_OPENCL
#include <clnorm/opencl.h>
#else
#include <clnorm/clnorm.h>
#endif
#include <array>
#include <cstdio>
#include <memory>

template <auto destroy> struct with {
    template <typename T> void operator()(T *object) const
    {
        destroy(object);
    }
};

static int fail(const char *text)
{
    std::fprintf(stderr, "%s\n", text);
    return 1;
}

int main()
{
    const std::array<float, 2> x{1.0f, 3.0f};
    std::array<float, 2> y{};

    clnorm_device *opened = nullptr;
    if (clnorm_device_open("cpu", &opened) != CLNORM_OK)
        return fail(clnorm_last_error());
    const std::unique_ptr<clnorm_device, with<clnorm_device_destroy>> device(opened);

    clnorm_desc desc = CLNORM_DESC_INIT;
    desc.n = 2;
    desc.c = 1;
    desc.eps = 0.0f;
    clnorm_plan *created = nullptr;
    if (clnorm_plan_create(device.get(), &desc, &created) != CLNORM_OK)
        return fail(clnorm_last_error());
    const std::unique_ptr<clnorm_plan, with<clnorm_plan_destroy>> plan(created);

    clnorm_forward_args forward = CLNORM_FORWARD_ARGS_INIT;
    forward.x = clnorm_host(x.data(), sizeof x);
    forward.y = clnorm_host(y.data(), sizeof y);
    if (clnorm_forward(plan.get(), &forward) != CLNORM_OK)
        return fail(clnorm_last_error());
#ifdef CONSUMER_OPENCL
    if (clnorm_device_cl_context(device.get()))
        return fail("cpu has an OpenCL context");
#endif
    if (!(y[0] == -1.0f && y[1] == 1.0f))
        return fail("y is wrong");
    std::puts(clnorm_version());
    return 0;
}
