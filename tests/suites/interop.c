/* The caller's own OpenCL objects: contexts, queues of both orders, cl_mem with offsets, wait lists, events. Calls return at
 * once, behind an event that has not happened too. */
#include "calls.h"
#include "layer.h"
#include "model.h"

#include <clnorm/opencl.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static void cl_ok(cl_int error, const char *what)
{
    ck_assert_msg(error == CL_SUCCESS, "%s: OpenCL error %d", what, error);
}

static void set_stream(union call_args *args, const struct call *call, const clnorm_cl_stream *stream)
{
    memcpy((char *)args + call->stream, &stream, sizeof stream);
}

static bool is_out_of_order(cl_device_id id)
{
    cl_command_queue_properties properties = 0;
    cl_ok(clGetDeviceInfo(id, CL_DEVICE_QUEUE_PROPERTIES, sizeof properties, &properties, NULL), "queue properties");
    return (properties & CL_QUEUE_OUT_OF_ORDER_EXEC_MODE_ENABLE) != 0;
}

static cl_command_queue new_queue(clnorm_device *device, bool out_of_order)
{
    cl_int error;
    cl_command_queue queue = clCreateCommandQueue(clnorm_device_cl_context(device), clnorm_device_cl_id(device),
                                                  out_of_order ? CL_QUEUE_OUT_OF_ORDER_EXEC_MODE_ENABLE : 0, &error);
    cl_ok(error, "clCreateCommandQueue");
    return queue;
}

static cl_int status_of(cl_event event)
{
    cl_int status = 77;
    cl_ok(clGetEventInfo(event, CL_EVENT_COMMAND_EXECUTION_STATUS, sizeof status, &status, NULL), "clGetEventInfo");
    return status;
}

static void wait_and_release(cl_event event)
{
    cl_ok(clWaitForEvents(1, &event), "clWaitForEvents");
    expect(status_of(event) == CL_COMPLETE, "the event's status is %d", status_of(event));
    cl_ok(clReleaseEvent(event), "clReleaseEvent");
}

static const struct shape shape = {CLNORM_NCS, 4, 6, 2, {5, 7, 0}};

/* Each call on own queues of both orders, its buffers in one cl_mem at odd offsets: the bits of the device's own queue. */
START_TEST(own_queues)
{
    clnorm_device *device = test_opencl_device(_i);
    clnorm_plan *plan = plan_of_all_calls(device, &shape);
    for (int out_of_order = 0; out_of_order < 1 + is_out_of_order(clnorm_device_cl_id(device)); out_of_order++) {
        cl_command_queue queue = new_queue(device, out_of_order);
        for (const struct call *call = calls; call->name; call++) {
            struct stage *own = stage_new(device, plan, &shape, call, CLNORM_BUFFER_MEMORY);
            struct stage *theirs = stage_new(device, plan, &shape, call, CLNORM_BUFFER_CL);
            char what[128];
            snprintf(what, sizeof what, "%s on a queue of the caller's, out of order %d", call->name, out_of_order);
            expect_status(call->run(plan, &own->args), CLNORM_OK, what);
            ck_assert_int_eq(clnorm_device_finish(device), CLNORM_OK);
            cl_event event = NULL;
            clnorm_cl_stream stream = {queue, 0, NULL, &event};
            set_stream(&theirs->args, call, &stream);
            if (!expect_status(call->run(plan, &theirs->args), CLNORM_OK, what))
                continue;
            ck_assert_msg(event != NULL, "%s: no event", what);
            cl_ok(clFlush(queue), "clFlush");
            wait_and_release(event);
            stage_remember(own);
            stage_remember(theirs);
            for (int i = 0; call->slots[i].name; i++) {
                if (call->slots[i].size == SLOT_WORKSPACE)
                    continue;
                expect(memcmp(own->before + own->at[i], theirs->before + theirs->at[i], own->length[i]) == 0,
                       "%s: %s differs", what, call->slots[i].name);
            }
        }
        cl_ok(clReleaseCommandQueue(queue), "clReleaseCommandQueue");
    }
}
END_TEST

/* A context, buffers, sub-buffers and a queue that the library did not make. */
START_TEST(own_context)
{
    clnorm_device *first = test_opencl_device(_i);
    cl_device_id id = clnorm_device_cl_id(first);
    cl_int error;
    cl_context context = clCreateContext(NULL, 1, &id, NULL, NULL, &error);
    cl_ok(error, "clCreateContext");
    cl_command_queue queue = clCreateCommandQueue(context, id, 0, &error);
    cl_ok(error, "clCreateCommandQueue");
    clnorm_device *device = NULL;
    ck_assert_msg(clnorm_device_open_cl(context, id, &device) == CLNORM_OK, "%s", clnorm_last_error());
    expect(clnorm_device_cl_context(device) == context, "another context");
    expect(clnorm_device_cl_id(device) == id, "another device");
    expect(clnorm_device_cl_queue(device) != NULL, "no queue of its own");

    size_t count = shape_elements(&shape, shape.n), bytes = count * sizeof(float), c = (size_t)shape.c, skip = 12;
    float *x = random_floats(1, count, 1, 5), *w = random_floats(2, c, 1, 0), *y = scratch_floats(count);
    size_t parent_bytes = 16384;
    cl_mem parent = clCreateBuffer(context, CL_MEM_READ_WRITE, 3 * parent_bytes, NULL, &error);
    cl_ok(error, "clCreateBuffer");
    cl_buffer_region region = {parent_bytes, parent_bytes};
    cl_mem sub = clCreateSubBuffer(parent, CL_MEM_READ_WRITE, CL_BUFFER_CREATE_TYPE_REGION, &region, &error);
    cl_ok(error, "clCreateSubBuffer");
    cl_mem weight = clCreateBuffer(context, CL_MEM_READ_ONLY | CL_MEM_COPY_HOST_PTR, c * sizeof(float), w, &error);
    cl_ok(error, "clCreateBuffer");
    cl_ok(clEnqueueWriteBuffer(queue, parent, CL_FALSE, parent_bytes + skip, bytes, x, 0, NULL, NULL), "write");
    clnorm_plan *plan = NULL;
    clnorm_desc desc = shape_desc(&shape);
    ck_assert_msg(clnorm_plan_create(device, &desc, &plan) == CLNORM_OK, "%s", clnorm_last_error());
    clnorm_cl_stream stream = {queue, 0, NULL, NULL};
    clnorm_forward_args f = CLNORM_FORWARD_ARGS_INIT;
    f.x = clnorm_cl(sub, skip, bytes);
    f.y = clnorm_cl(parent, 2 * parent_bytes + 4, bytes);
    f.weight = clnorm_cl(weight, 0, c * sizeof(float));
    f.stream = &stream;
    expect_status(clnorm_forward(plan, &f), CLNORM_OK, "forward on foreign objects");
    cl_ok(clEnqueueReadBuffer(queue, parent, CL_TRUE, 2 * parent_bytes + 4, bytes, y, 0, NULL, NULL), "read");
    model_check_y(model_forward(&shape, shape.n, 1e-5, x, w, NULL), y, "foreign objects");

    /* What is handed in is retained: all of the caller's references may go. */
    cl_ok(clReleaseMemObject(sub), "release");
    cl_ok(clReleaseMemObject(parent), "release");
    cl_ok(clReleaseMemObject(weight), "release");
    cl_ok(clReleaseCommandQueue(queue), "release");
    cl_ok(clReleaseContext(context), "release");
    clnorm_memory *memory = NULL;
    expect_status(clnorm_memory_create(device, 64, &memory), CLNORM_OK, "memory after the context was released");
    clnorm_memory_destroy(memory);
    clnorm_device_destroy(device);
    clnorm_plan_destroy(plan);
}
END_TEST

START_TEST(open_cl_errors)
{
    clnorm_device *first = test_opencl_device(_i), *device = NULL;
    cl_context context = clnorm_device_cl_context(first);
    cl_device_id id = clnorm_device_cl_id(first);
    expect_error(clnorm_device_open_cl(NULL, id, &device), CLNORM_E_NULL, "context", NULL, "context NULL");
    expect_error(clnorm_device_open_cl(context, NULL, &device), CLNORM_E_NULL, NULL, NULL, "id NULL");
    expect_error(clnorm_device_open_cl(context, id, NULL), CLNORM_E_NULL, "device", NULL, "device NULL");
    cl_platform_id platforms[8];
    cl_uint count = 0;
    cl_ok(clGetPlatformIDs(8, platforms, &count), "clGetPlatformIDs");
    for (cl_uint p = 0; p < count && p < 8; p++) {
        cl_device_id other;
        if (clGetDeviceIDs(platforms[p], CL_DEVICE_TYPE_ALL, 1, &other, NULL) != CL_SUCCESS || other == id)
            continue;
        expect_error(clnorm_device_open_cl(context, other, &device), CLNORM_E_DEVICE_UNKNOWN, NULL, NULL,
                     "a device of another platform");
    }
    expect(device == NULL, "*device was set");
}
END_TEST

/* Behind a user event that nobody has set every call returns at once; nothing has run then; set, it completes. */
START_TEST(behind_an_unset_event)
{
    clnorm_device *device = test_opencl_device(_i);
    clnorm_plan *plan = plan_of_all_calls(device, &shape);
    for (int out_of_order = 0; out_of_order < 1 + is_out_of_order(clnorm_device_cl_id(device)); out_of_order++) {
        for (const struct call *call = calls; call->name; call++) {
            cl_int error;
            cl_command_queue queue = new_queue(device, out_of_order);
            cl_event gate = clCreateUserEvent(clnorm_device_cl_context(device), &error), done = NULL;
            cl_ok(error, "clCreateUserEvent");
            struct stage *stage = stage_new(device, plan, &shape, call, CLNORM_BUFFER_CL);
            clnorm_cl_stream stream = {queue, 1, &gate, &done};
            char what[128];
            set_stream(&stage->args, call, &stream);
            snprintf(what, sizeof what, "%s behind an unset event, out of order %d", call->name, out_of_order);
            stage_remember(stage);
            double start = seconds();
            expect_status(call->run(plan, &stage->args), CLNORM_OK, what);
            double took = seconds() - start;
            expect(took < 0.5, "%s took %.3f s to return", what, took);
            cl_ok(clFlush(queue), "clFlush");
            struct timespec pause = {0, 20000000};
            nanosleep(&pause, NULL);
            ck_assert_msg(done != NULL, "%s: no event", what);
            expect(status_of(done) > CL_COMPLETE, "%s: completed (%d) before the event was set", what, status_of(done));
            stage_unchanged(stage, what); /* read on the device's own queue */
            cl_ok(clSetUserEventStatus(gate, CL_COMPLETE), "clSetUserEventStatus");
            wait_and_release(done);
            unsigned char *before = scratch(stage->bytes);
            memcpy(before, stage->before, stage->bytes);
            stage_remember(stage);
            expect(memcmp(before, stage->before, stage->bytes) != 0, "%s: nothing was written", what);
            cl_ok(clReleaseEvent(gate), "clReleaseEvent");
            cl_ok(clReleaseCommandQueue(queue), "clReleaseCommandQueue");
        }
    }
}
END_TEST

/* With no samples nothing runs, and the event still completes after its wait list and no sooner. */
START_TEST(no_samples_behind_an_unset_event)
{
    clnorm_device *device = test_opencl_device(_i);
    clnorm_plan *plan = plan_of_all_calls(device, &shape);
    for (int out_of_order = 0; out_of_order < 1 + is_out_of_order(clnorm_device_cl_id(device)); out_of_order++) {
        for (const struct call *call = calls; call->name; call++) {
            static const int64_t none = 0;
            cl_int error;
            if (call->n == CALL_NO_FIELD)
                continue;
            cl_command_queue queue = new_queue(device, out_of_order);
            cl_event gates[2], done = NULL;
            for (int k = 0; k < 2; k++) {
                gates[k] = clCreateUserEvent(clnorm_device_cl_context(device), &error);
                cl_ok(error, "clCreateUserEvent");
            }
            struct stage *stage = stage_new(device, plan, &shape, call, CLNORM_BUFFER_MEMORY);
            clnorm_cl_stream stream = {queue, 2, gates, &done};
            char what[128];
            set_stream(&stage->args, call, &stream);
            memcpy((char *)&stage->args + call->n, &none, sizeof none);
            snprintf(what, sizeof what, "%s of no samples behind unset events, out of order %d", call->name,
                     out_of_order);
            expect_status(call->run(plan, &stage->args), CLNORM_OK, what);
            ck_assert_msg(done != NULL, "%s: no event", what);
            cl_ok(clFlush(queue), "clFlush");
            for (int k = 0; k < 2; k++) {
                struct timespec pause = {0, 5000000};
                nanosleep(&pause, NULL);
                expect(status_of(done) > CL_COMPLETE, "%s: completed (%d) before its wait list", what, status_of(done));
                cl_ok(clSetUserEventStatus(gates[k], CL_COMPLETE), "clSetUserEventStatus");
            }
            wait_and_release(done);
            cl_ok(clReleaseEvent(gates[0]), "clReleaseEvent");
            cl_ok(clReleaseEvent(gates[1]), "clReleaseEvent");
            cl_ok(clReleaseCommandQueue(queue), "clReleaseCommandQueue");
        }
    }
}
END_TEST

/* Two layers, each on the other's output, forward and back, on one queue of either order, without a wait between. */
START_TEST(two_plans_on_one_queue)
{
    clnorm_device *device = test_opencl_device(_i);
    static const struct shape as_rows = {CLNORM_NC, 24, 35, 0, {0, 0, 0}}; /* the same elements, other channels */
    size_t count = shape_elements(&shape, shape.n);
    float *x = random_floats(1, count, 2, 9), *w1 = random_floats(2, 6, 1, 0), *w2 = random_floats(3, 35, 1, 0);
    for (int out_of_order = 0; out_of_order < 1 + is_out_of_order(clnorm_device_cl_id(device)); out_of_order++) {
        struct layer *one = layer_new(device, &shape, shape.n, -1, x, w1, NULL);
        struct layer *two = layer_new(device, &as_rows, as_rows.n, -1, x, w2, NULL);
        ck_assert_int_eq(clnorm_device_finish(device), CLNORM_OK);
        cl_command_queue queue = new_queue(device, out_of_order);
        cl_event events[4] = {NULL};
        clnorm_cl_stream streams[4];
        for (cl_uint k = 0; k < 4; k++) {
            clnorm_cl_stream stream = {queue, out_of_order && k ? 1 : 0, out_of_order && k ? &events[k - 1] : NULL,
                                       &events[k]};
            streams[k] = stream;
        }
        one->forward.stream = &streams[0];
        two->forward.stream = &streams[1];
        two->forward.x = two->backward.x = one->y.buffer;
        two->backward.stream = &streams[2];
        one->backward.stream = &streams[3];
        one->backward.dy = two->dx.buffer;
        layer_forward(one);
        layer_forward(two);
        layer_backward(two);
        layer_backward(one);
        cl_ok(clFinish(queue), "clFinish");
        for (int k = 0; k < 4; k++) {
            ck_assert_ptr_nonnull(events[k]);
            wait_and_release(events[k]);
        }
        /* Each layer is held to the reference on what it was given. */
        float *y1 = array_get(&one->y), *dx2 = array_get(&two->dx);
        struct model *m1 = model_forward(&shape, shape.n, 1e-5, x, w1, NULL);
        struct model *m2 = model_forward(&as_rows, as_rows.n, 1e-5, y1, w2, NULL);
        model_check_y(m1, y1, "the first layer");
        model_check_y(m2, array_get(&two->y), "the second layer");
        model_check_gradients(m2, model_backward(m2, layer_dy(two), false), dx2, array_get(&two->dweight),
                              array_get(&two->dbias), "the second layer");
        model_check_gradients(m1, model_backward(m1, dx2, false), array_get(&one->dx), array_get(&one->dweight),
                              array_get(&one->dbias), "the first layer");
        cl_ok(clReleaseCommandQueue(queue), "clReleaseCommandQueue");
    }
}
END_TEST

/* Calls in flight together on an out-of-order queue, each with a workspace of its own. */
START_TEST(own_workspaces)
{
    enum { FLIGHTS = 8 };
    clnorm_device *device = test_opencl_device(_i);
    bool out_of_order = is_out_of_order(clnorm_device_cl_id(device));
    clnorm_plan *plan = test_plan(device, &shape, -1);
    struct stage *stages[FLIGHTS];
    cl_event events[FLIGHTS];
    cl_command_queue queue = new_queue(device, out_of_order);
    for (int k = 0; k < FLIGHTS; k++) {
        stages[k] = stage_new(device, plan, &shape, call_named("forward"), CLNORM_BUFFER_MEMORY);
        float *x = random_floats((uint64_t)k, stages[k]->length[0] / sizeof(float), 1, 0);
        ck_assert_int_eq(clnorm_memory_write(stages[k]->memory, stages[k]->at[0], x, stages[k]->length[0]), CLNORM_OK);
    }
    for (int k = 0; k < FLIGHTS; k++) {
        clnorm_cl_stream stream = {queue, 0, NULL, &events[k]};
        stages[k]->args.forward.stream = &stream;
        expect_status(clnorm_forward(plan, &stages[k]->args.forward), CLNORM_OK, "forward");
    }
    cl_ok(clFinish(queue), "clFinish");
    for (int k = 0; k < FLIGHTS; k++) {
        size_t count = stages[k]->length[0] / sizeof(float), channels = (size_t)shape.c;
        float *values = scratch(stages[k]->bytes);
        ck_assert_int_eq(clnorm_memory_read(stages[k]->memory, 0, values, stages[k]->bytes), CLNORM_OK);
        struct model *model = model_forward(&shape, shape.n, 1e-5, random_floats((uint64_t)k, count, 1, 0),
                                            values + stages[k]->at[2] / 4, values + stages[k]->at[3] / 4);
        ck_assert_uint_eq(stages[k]->length[2], channels * sizeof(float));
        model_check_y(model, values + stages[k]->at[1] / 4, "a forward among others");
        wait_and_release(events[k]);
    }
    cl_ok(clReleaseCommandQueue(queue), "clReleaseCommandQueue");
}
END_TEST

/* A failing call sets no event; an event that is not asked for is not leaked into the caller's hands. */
START_TEST(no_event)
{
    clnorm_device *device = test_opencl_device(_i);
    clnorm_plan *plan = test_plan(device, &shape, -1);
    struct stage *stage = stage_new(device, plan, &shape, call_named("forward"), CLNORM_BUFFER_MEMORY);
    cl_event event = (cl_event)(void *)stage;
    clnorm_cl_stream stream = {clnorm_device_cl_queue(device), 0, NULL, &event};
    stage->args.forward.stream = &stream;
    stage->args.forward.y.bytes -= 4;
    expect_error(clnorm_forward(plan, &stage->args.forward), CLNORM_E_BUFFER_SIZE, "y", NULL, "y too small");
    expect(event == (cl_event)(void *)stage, "the event was set on an error");
    stage->args.forward.y.bytes += 4;
    stream.event = NULL;
    expect_status(clnorm_forward(plan, &stage->args.forward), CLNORM_OK, "no event asked for");
}
END_TEST

START_TEST(asynchronous_copies)
{
    clnorm_device *device = test_opencl_device(_i);
    enum { BYTES = 4000 };
    unsigned char *source = scratch(BYTES), *target = scratch(BYTES);
    for (int i = 0; i < BYTES; i++)
        source[i] = (unsigned char)(i * 13);
    clnorm_memory *memory = test_memory(device, BYTES);
    cl_command_queue queue = new_queue(device, false);
    cl_int error;
    cl_event gate = clCreateUserEvent(clnorm_device_cl_context(device), &error), written = NULL, read = NULL;
    cl_ok(error, "clCreateUserEvent");
    clnorm_cl_stream first = {queue, 1, &gate, &written}, second = {queue, 0, NULL, &read};
    double start = seconds();
    expect_status(clnorm_memory_write_async(memory, 8, source, BYTES - 8, &first), CLNORM_OK, "write");
    expect_status(clnorm_memory_read_async(memory, 8, target, BYTES - 8, &second), CLNORM_OK, "read");
    expect(seconds() - start < 0.5, "the copies waited");
    cl_ok(clFlush(queue), "clFlush");
    ck_assert(written != NULL && read != NULL);
    expect(status_of(written) > CL_COMPLETE && status_of(read) > CL_COMPLETE, "completed before the event was set");
    cl_ok(clSetUserEventStatus(gate, CL_COMPLETE), "clSetUserEventStatus");
    wait_and_release(written);
    wait_and_release(read);
    expect(memcmp(source, target, BYTES - 8) == 0, "other bytes came back");

    first.wait_count = 0;
    first.wait = NULL;
    cl_event unset = written = (cl_event)(void *)target;
    expect_error(clnorm_memory_write_async(NULL, 0, source, 4, &first), CLNORM_E_NULL, "memory", NULL, "write");
    expect_error(clnorm_memory_write_async(memory, 0, NULL, 4, &first), CLNORM_E_NULL, "source", NULL, "write");
    expect_error(clnorm_memory_read_async(memory, 0, NULL, 4, &first), CLNORM_E_NULL, "target", NULL, "read");
    expect_error(clnorm_memory_read_async(NULL, 0, target, 4, &first), CLNORM_E_NULL, "memory", NULL, "read");
    expect_error(clnorm_memory_write_async(memory, 8, source, BYTES, &first), CLNORM_E_BUFFER_SIZE, NULL, "4000",
                 "write");
    expect_error(clnorm_memory_read_async(memory, SIZE_MAX, target, 8, &first), CLNORM_E_BUFFER_SIZE, NULL, "8",
                 "read");
    clnorm_device *twin = test_opencl_device(_i);
    first.queue = clnorm_device_cl_queue(twin);
    expect_error(clnorm_memory_write_async(memory, 0, source, 4, &first), CLNORM_E_STREAM, "stream", NULL, "write");
    expect_error(clnorm_memory_read_async(memory, 0, target, 4, &first), CLNORM_E_STREAM, "stream", NULL, "read");
    expect(written == unset, "the event was set on an error");
    clnorm_memory *host = test_memory(open_device("cpu"), 64);
    first.queue = queue;
    expect_error(clnorm_memory_write_async(host, 0, source, 4, &first), CLNORM_E_UNSUPPORTED, NULL, NULL,
                 "write on cpu");
    expect_error(clnorm_memory_read_async(host, 0, target, 4, &first), CLNORM_E_UNSUPPORTED, NULL, NULL, "read on cpu");
    expect(clnorm_memory_cl(host) == NULL, "a cl_mem on cpu");
    cl_ok(clReleaseEvent(gate), "clReleaseEvent");
    cl_ok(clReleaseCommandQueue(queue), "clReleaseCommandQueue");
}
END_TEST

/* Plan, memory and device are destroyed while a call waits behind an event: at once, and the call still completes. */
START_TEST(destroyed_in_flight)
{
    enum { ROWS = 40, COLUMNS = 12 };
    static const struct shape rows = {CLNORM_NC, ROWS, COLUMNS, 0, {0, 0, 0}};
    const size_t bytes = ROWS * COLUMNS * sizeof(float);
    clnorm_device *device = NULL;
    clnorm_plan *plan = NULL;
    clnorm_memory *memory = NULL;
    clnorm_desc desc = shape_desc(&rows);
    float *x = random_floats(1, ROWS * COLUMNS, 1, 0), *y = scratch(bytes);
    cl_int error;
    ck_assert_int_eq(clnorm_device_open(opencl_device_name(_i), &device), CLNORM_OK);
    ck_assert_int_eq(clnorm_plan_create(device, &desc, &plan), CLNORM_OK);
    ck_assert_int_eq(clnorm_memory_create(device, bytes, &memory), CLNORM_OK);
    ck_assert_int_eq(clnorm_memory_write(memory, 0, x, bytes), CLNORM_OK);
    cl_command_queue queue = new_queue(device, false);
    cl_mem out = clCreateBuffer(clnorm_device_cl_context(device), CL_MEM_READ_WRITE, bytes, NULL, &error);
    cl_ok(error, "clCreateBuffer");
    cl_event gate = clCreateUserEvent(clnorm_device_cl_context(device), &error), done = NULL;
    cl_ok(error, "clCreateUserEvent");
    clnorm_cl_stream stream = {queue, 1, &gate, &done};
    clnorm_forward_args f = CLNORM_FORWARD_ARGS_INIT;
    f.x = clnorm_memory_buffer(memory);
    f.y = clnorm_cl(out, 0, bytes);
    f.stream = &stream;
    expect_status(clnorm_forward(plan, &f), CLNORM_OK, "forward");
    cl_ok(clFlush(queue), "clFlush");
    double start = seconds();
    clnorm_plan_destroy(plan);
    clnorm_memory_destroy(memory);
    clnorm_device_destroy(device);
    expect(seconds() - start < 0.5, "destroying took %.3f s", seconds() - start);
    cl_ok(clSetUserEventStatus(gate, CL_COMPLETE), "clSetUserEventStatus");
    ck_assert_ptr_nonnull(done);
    wait_and_release(done);
    cl_ok(clEnqueueReadBuffer(queue, out, CL_TRUE, 0, bytes, y, 0, NULL, NULL), "read");
    model_check_y(model_forward(&rows, ROWS, 1e-5, x, NULL, NULL), y, "a call in flight");
    cl_ok(clReleaseEvent(gate), "clReleaseEvent");
    cl_ok(clReleaseMemObject(out), "clReleaseMemObject");
    cl_ok(clReleaseCommandQueue(queue), "clReleaseCommandQueue");
}
END_TEST

/* What a call found is there for the asking though the caller has let go of the queue and has never flushed it. */
START_TEST(found_on_an_own_queue)
{
    clnorm_device *device = test_opencl_device(_i);
    for (int out_of_order = 0; out_of_order < 1 + is_out_of_order(clnorm_device_cl_id(device)); out_of_order++) {
        size_t count = shape_elements(&shape, shape.n);
        float *x = random_floats(1, count, 1, 0);
        x[count / 2] = NAN;
        struct layer *l = layer_new(device, &shape, shape.n, -1, x, NULL, NULL);
        cl_command_queue queue = new_queue(device, out_of_order);
        clnorm_cl_stream stream = {queue, 0, NULL, NULL};
        uint32_t found = 77;
        l->forward.stream = &stream;
        layer_forward(l);
        cl_ok(clReleaseCommandQueue(queue), "clReleaseCommandQueue");
        expect_status(clnorm_plan_query_found(l->plan, &found), CLNORM_OK, "query_found");
        expect(found == CLNORM_FOUND_NONFINITE, "found %u", found);
    }
}
END_TEST

/* Virtual batches on queues of both orders, behind an event that has not happened: nothing is done before it, the event out comes
 * after all of them, and the bits are those of the device's own queue. */
START_TEST(virtual_batches)
{
    clnorm_device *device = test_opencl_device(_i);
    const size_t count = shape_elements(&shape, shape.n), c = (size_t)shape.c;
    clnorm_desc desc = shape_desc(&shape);
    desc.virtual_batch = 1;
    clnorm_plan *plan = test_plan_of(device, &desc);
    const struct array x = array_new(device, count, random_floats(1, count, 1, 2));
    const float *want_y = NULL, *want_mean = NULL, *want_dx = NULL, *want_dweight = NULL;
    for (int way = 0; way < 2 + is_out_of_order(clnorm_device_cl_id(device)); way++) {
        const struct array y = array_new(device, count, NULL), dx = array_new(device, count, NULL),
                           dweight = array_new(device, c, NULL), mean = array_new(device, c, random_floats(2, c, 1, 0)),
                           var = array_new(device, c, random_floats(3, c, 0.1f, 1)),
                           state = array_bytes(device, clnorm_plan_state_bytes(plan));
        cl_command_queue queue = way ? new_queue(device, way == 2) : NULL;
        cl_int error;
        cl_event gate = clCreateUserEvent(clnorm_device_cl_context(device), &error), done[2] = {NULL, NULL};
        cl_ok(error, "clCreateUserEvent");
        const clnorm_cl_stream first = {queue, 1, &gate, &done[0]}, second = {queue, 1, &done[0], &done[1]};
        clnorm_forward_args f = CLNORM_FORWARD_ARGS_INIT;
        f.x = x.buffer;
        f.y = y.buffer;
        f.state = state.buffer;
        f.running_mean = mean.buffer;
        f.running_var = var.buffer;
        clnorm_backward_args b = CLNORM_BACKWARD_ARGS_INIT;
        b.x = b.dy = x.buffer;
        b.state = state.buffer;
        b.dx = dx.buffer;
        b.dweight = dweight.buffer;
        f.stream = way ? &first : NULL;
        expect_status(clnorm_forward(plan, &f), CLNORM_OK, "forward");
        b.stream = way ? &second : NULL;
        expect_status(clnorm_backward(plan, &b), CLNORM_OK, "backward");
        if (way) {
            ck_assert(done[0] != NULL && done[1] != NULL);
            cl_ok(clFlush(queue), "clFlush");
            expect(status_of(done[0]) > CL_COMPLETE, "completed before its wait list");
            expect(untouched(array_get(&y), count), "y was written before the event");
            cl_ok(clSetUserEventStatus(gate, CL_COMPLETE), "clSetUserEventStatus");
            wait_and_release(done[1]);
            wait_and_release(done[0]);
            cl_ok(clReleaseCommandQueue(queue), "clReleaseCommandQueue");
        } else {
            want_y = array_get(&y);
            want_mean = array_get(&mean);
            want_dx = array_get(&dx);
            want_dweight = array_get(&dweight);
        }
        cl_ok(clReleaseEvent(gate), "clReleaseEvent");
        expect_same(array_get(&y), want_y, count, "y");
        expect_same(array_get(&mean), want_mean, c, "running_mean");
        expect_same(array_get(&dx), want_dx, count, "dx");
        expect_same(array_get(&dweight), want_dweight, c, "dweight");
    }
}
END_TEST

/* A wait list of any length. */
START_TEST(many_events)
{
    enum { EVENTS = 100 };
    clnorm_device *device = test_opencl_device(_i);
    clnorm_plan *plan = test_plan(device, &shape, -1);
    struct stage *stage = stage_new(device, plan, &shape, call_named("forward"), CLNORM_BUFFER_MEMORY);
    cl_command_queue queue = new_queue(device, false);
    cl_event gates[EVENTS], done = NULL;
    for (int k = 0; k < EVENTS; k++) {
        cl_int error;
        gates[k] = clCreateUserEvent(clnorm_device_cl_context(device), &error);
        cl_ok(error, "clCreateUserEvent");
    }
    clnorm_cl_stream stream = {queue, EVENTS, gates, &done};
    stage->args.forward.stream = &stream;
    expect_status(clnorm_forward(plan, &stage->args.forward), CLNORM_OK, "forward behind 100 events");
    cl_ok(clFlush(queue), "clFlush");
    ck_assert_ptr_nonnull(done);
    for (int k = EVENTS; k-- > 0;) {
        if (k == 0)
            expect(status_of(done) > CL_COMPLETE, "completed before the last of its wait list");
        cl_ok(clSetUserEventStatus(gates[k], CL_COMPLETE), "clSetUserEventStatus");
    }
    wait_and_release(done);
    for (int k = 0; k < EVENTS; k++)
        cl_ok(clReleaseEvent(gates[k]), "clReleaseEvent");
    cl_ok(clReleaseCommandQueue(queue), "clReleaseCommandQueue");
}
END_TEST

/* The device's own queue keeps order between calls and copies, and with what the caller enqueues there. */
START_TEST(the_devices_own_queue)
{
    clnorm_device *device = test_opencl_device(_i);
    size_t count = shape_elements(&shape, shape.n);
    float *x = random_floats(8, count, 1, 0), *y = scratch_floats(count);
    struct layer *l = layer_new(device, &shape, shape.n, -1, x, NULL, NULL);
    cl_command_queue queue = clnorm_device_cl_queue(device);
    layer_forward(l);
    cl_ok(clEnqueueReadBuffer(queue, clnorm_memory_cl(l->y.block), CL_TRUE, l->y.buffer.offset, l->y.buffer.bytes, y, 0,
                              NULL, NULL),
          "read");
    model_check_y(model_forward(&shape, shape.n, 1e-5, x, NULL, NULL), y, "the device's own queue");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("interop");
    TCase *tcase = add_case(suite, "interop", 300);
    add_opencl_device_test(tcase, own_queues);
    add_opencl_device_test(tcase, own_context);
    add_opencl_device_test(tcase, open_cl_errors);
    add_opencl_device_test(tcase, behind_an_unset_event);
    add_opencl_device_test(tcase, no_samples_behind_an_unset_event);
    add_opencl_device_test(tcase, two_plans_on_one_queue);
    add_opencl_device_test(tcase, own_workspaces);
    add_opencl_device_test(tcase, no_event);
    add_opencl_device_test(tcase, asynchronous_copies);
    add_opencl_device_test(tcase, the_devices_own_queue);
    add_opencl_device_test(tcase, destroyed_in_flight);
    add_opencl_device_test(tcase, found_on_an_own_queue);
    add_opencl_device_test(tcase, many_events);
    add_opencl_device_test(tcase, virtual_batches);
    return run_suites(&suite, 1);
}
