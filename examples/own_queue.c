/* Your own OpenCL context, queue, buffers and events: a forward that starts when your event completes, and hands you an
 * event to wait for. The library copies nothing, waits for nothing and flushes nothing.
 *
 *     own_queue [DEVICE]      DEVICE: part of a platform's name; default: the first OpenCL device */
#include <clnorm/opencl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK(call)                                                                                                    \
    do {                                                                                                               \
        if ((call) != CLNORM_OK) {                                                                                     \
            fprintf(stderr, "own_queue: %s\n", clnorm_last_error());                                                   \
            exit(1);                                                                                                   \
        }                                                                                                              \
    } while (0)

static void check_cl(cl_int code, const char *what)
{
    if (code != CL_SUCCESS) {
        fprintf(stderr, "own_queue: %s failed with code %d\n", what, (int)code);
        exit(1);
    }
}

static cl_device_id find_device(const char *wanted, cl_platform_id *platform)
{
    cl_platform_id platforms[16];
    cl_uint count = 0;
    check_cl(clGetPlatformIDs(16, platforms, &count), "clGetPlatformIDs");
    for (cl_uint i = 0; i < count && i < 16; i++) {
        char name[256] = "";
        cl_device_id id;
        check_cl(clGetPlatformInfo(platforms[i], CL_PLATFORM_NAME, sizeof name, name, NULL), "clGetPlatformInfo");
        if (strcmp(wanted, "opencl") != 0 && !strstr(name, wanted))
            continue;
        if (clGetDeviceIDs(platforms[i], CL_DEVICE_TYPE_ALL, 1, &id, NULL) == CL_SUCCESS) {
            *platform = platforms[i];
            return id;
        }
    }
    fprintf(stderr, "own_queue: no platform \"%s\" with a device\n", wanted);
    exit(1);
}

int main(int argc, char **argv)
{
    enum { N = 8, C = 4 };
    float x[N][C], y[N][C];
    cl_int code;

    /* Yours: context, queue, buffers. */
    cl_platform_id platform;
    cl_device_id id = find_device(argc > 1 ? argv[1] : "opencl", &platform);
    const cl_context_properties properties[] = {CL_CONTEXT_PLATFORM, (cl_context_properties)platform, 0};
    cl_context context = clCreateContext(properties, 1, &id, NULL, NULL, &code);
    check_cl(code, "clCreateContext");
    cl_command_queue queue = clCreateCommandQueue(context, id, 0, &code);
    check_cl(code, "clCreateCommandQueue");
    cl_mem in = clCreateBuffer(context, CL_MEM_READ_ONLY, sizeof x, NULL, &code);
    check_cl(code, "clCreateBuffer");
    cl_mem out = clCreateBuffer(context, CL_MEM_READ_WRITE, sizeof y, NULL, &code);
    check_cl(code, "clCreateBuffer");

    /* The library on that context. */
    clnorm_device *device;
    clnorm_plan *plan;
    clnorm_desc desc = CLNORM_DESC_INIT;
    desc.n = N;
    desc.c = C;
    CHECK(clnorm_device_open_cl(context, id, &device));
    CHECK(clnorm_plan_create(device, &desc, &plan));

    for (int i = 0; i < N; i++) {
        for (int j = 0; j < C; j++)
            x[i][j] = (float)(1000 * j + (i % 2 ? 3 : 1)); /* mean 1000·j + 2, variance 1 */
    }
    cl_event written, gate, done;
    check_cl(clEnqueueWriteBuffer(queue, in, CL_FALSE, 0, sizeof x, x, 0, NULL, &written), "clEnqueueWriteBuffer");
    gate = clCreateUserEvent(context, &code);
    check_cl(code, "clCreateUserEvent");

    /* The call returns although the gate is shut. */
    const cl_event wait[] = {written, gate};
    const clnorm_cl_stream stream = {queue, 2, wait, &done};
    clnorm_forward_args args = CLNORM_FORWARD_ARGS_INIT;
    args.x = clnorm_cl(in, 0, sizeof x);
    args.y = clnorm_cl(out, 0, sizeof y);
    args.stream = &stream;
    CHECK(clnorm_forward(plan, &args));
    check_cl(clFlush(queue), "clFlush");
    cl_int before;
    check_cl(clGetEventInfo(done, CL_EVENT_COMMAND_EXECUTION_STATUS, sizeof before, &before, NULL), "clGetEventInfo");

    check_cl(clSetUserEventStatus(gate, CL_COMPLETE), "clSetUserEventStatus");
    check_cl(clEnqueueReadBuffer(queue, out, CL_TRUE, 0, sizeof y, y, 1, &done, NULL), "clEnqueueReadBuffer");

    int ok = before != CL_COMPLETE;
    for (int i = 0; i < N; i++) {
        for (int j = 0; j < C; j++) { /* exactly ±1/√(1 + eps) but for rounding */
            float want = i % 2 ? 0.999995f : -0.999995f, d = y[i][j] - want;
            ok = ok && d < 1e-6f && d > -1e-6f;
        }
    }
    printf("done before the gate opened: %s; y[0] = %g %g %g %g\n", before == CL_COMPLETE ? "yes" : "no", y[0][0],
           y[0][1], y[0][2], y[0][3]);

    clReleaseEvent(written);
    clReleaseEvent(gate);
    clReleaseEvent(done);
    clnorm_plan_destroy(plan);
    clnorm_device_destroy(device);
    clReleaseMemObject(in);
    clReleaseMemObject(out);
    clReleaseCommandQueue(queue);
    clReleaseContext(context);
    return ok ? 0 : 1;
}
