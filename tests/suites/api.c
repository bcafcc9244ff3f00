/* Statuses, devices, memory, plans and their life cycle. */
#include "support.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef CLNORM_WITH_OPENCL
#include <clnorm/opencl.h>
#endif

/* What an out argument holds before a call that must not set it. */
static char sentinel;
#define UNSET ((void *)&sentinel)

/* ---- statuses ---------------------------------------------------------------------------------------------------- */

START_TEST(status_names)
{
    static const struct {
        int number;
        const char *name, *text;
    } rows[] = {
#define ROW(name, number, text) {number, "CLNORM_" #name, text},
        CLNORM_STATUS_LIST(ROW)
#undef ROW
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        ck_assert_str_eq(clnorm_status_name((clnorm_status)rows[i].number), rows[i].name);
        ck_assert_str_eq(clnorm_status_text((clnorm_status)rows[i].number), rows[i].text);
        for (size_t j = 0; j < i; j++)
            ck_assert_int_ne(rows[i].number, rows[j].number);
    }
    static const int strange[] = {-1, 1, 9, 13, 59, 64, 1000, INT32_MAX, INT32_MIN};
    for (size_t i = 0; i < sizeof strange / sizeof *strange; i++) {
        ck_assert_str_eq(clnorm_status_name((clnorm_status)strange[i]), "CLNORM_E_?");
        ck_assert_ptr_nonnull(clnorm_status_text((clnorm_status)strange[i]));
    }
}
END_TEST

START_TEST(version)
{
    char want[32];
    snprintf(want, sizeof want, "%d.%d.%d", CLNORM_VERSION_MAJOR, CLNORM_VERSION_MINOR, CLNORM_VERSION_PATCH);
    ck_assert_str_eq(clnorm_version(), want);
}
END_TEST

START_TEST(no_error_yet)
{
    ck_assert_str_eq(clnorm_last_error(), "");
}
END_TEST

START_TEST(nulls_that_are_fine)
{
    clnorm_device_destroy(NULL);
    clnorm_memory_destroy(NULL);
    clnorm_plan_destroy(NULL);
    ck_assert_uint_eq(clnorm_memory_bytes(NULL), 0);
    ck_assert_uint_eq(clnorm_plan_state_bytes(NULL), 0);
    ck_assert_uint_eq(clnorm_plan_statistics_bytes(NULL), 0);
    ck_assert_uint_eq(clnorm_plan_sums_bytes(NULL), 0);
    ck_assert_uint_eq(clnorm_plan_workspace_bytes(NULL), 0);
    ck_assert_str_eq(clnorm_plan_explain(NULL), "");
#ifdef CLNORM_WITH_OPENCL
    ck_assert_ptr_null(clnorm_device_cl_context(NULL));
    ck_assert_ptr_null(clnorm_device_cl_id(NULL));
    ck_assert_ptr_null(clnorm_device_cl_queue(NULL));
    ck_assert_ptr_null(clnorm_memory_cl(NULL));
#endif
}
END_TEST

/* ---- devices ----------------------------------------------------------------------------------------------------- */

START_TEST(unknown_devices)
{
    static const char *const names[] = {"no such device",
                                        "opencl:99.0",
                                        "opencl:0.99",
                                        "opencl:",
                                        "opencl:0",
                                        "opencl:.",
                                        "opencl:-1.0",
                                        "opencl:0.",
                                        "opencl:0.0x",
                                        "opencl:0.0.0",
                                        "opencl: 0.0",
                                        "opencl:4294967296.0",
                                        "opencl:18446744073709551616.0",
                                        "cpu ",
                                        " auto"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        clnorm_device *device = UNSET;
        clnorm_status status = clnorm_device_open(names[i], &device);
        if (expect_error(status, CLNORM_E_DEVICE_UNKNOWN, "cpu", NULL, names[i]))
            expect(strstr(clnorm_last_error(), names[i]) != NULL, "'%s': the sentence does not tell the name: %s",
                   names[i], clnorm_last_error());
        expect(device == UNSET, "'%s': *device was set", names[i]);
    }
    clnorm_device *device = UNSET;
    char name[20000];
    memset(name, 'a', sizeof name - 1);
    name[sizeof name - 1] = '\0';
    expect_error(clnorm_device_open(name, &device), CLNORM_E_DEVICE_UNKNOWN, NULL, NULL, "a name of 20000 letters");
    expect_error(clnorm_device_open(NULL, &device), CLNORM_E_NULL, "name", NULL, "name NULL");
    expect(device == UNSET, "*device was set");
    expect_error(clnorm_device_open("cpu", NULL), CLNORM_E_NULL, "device", NULL, "device NULL");
}
END_TEST

START_TEST(device_info)
{
    clnorm_device *device = test_device(_i);
    clnorm_device_info info = CLNORM_DEVICE_INFO_INIT;
    expect_status(clnorm_device_get_info(device, &info), CLNORM_OK, "info");
    expect(info.size == sizeof info, "size was changed");
    expect(info.name[0] && info.platform[0] && info.version[0], "an empty name, platform or version");
    expect(info.fallback[0] == '\0', "a fallback that 'auto' was not asked for: %s", info.fallback);
    expect(info.compute_units >= 1 && info.work_group_size >= 1 && info.memory > 0 && info.max_allocation > 0,
           "a figure of 0");
    bool host = info.kind == CLNORM_CLASS_HOST;
    expect(host == (strcmp(info.id, "cpu") == 0), "id %s", info.id);
    expect(!host || strcmp(info.platform, "host") == 0, "platform %s", info.platform);
    /* The id opens the same device. */
    clnorm_device *same = open_device(info.id);
    clnorm_device_info again = CLNORM_DEVICE_INFO_INIT;
    expect_status(clnorm_device_get_info(same, &again), CLNORM_OK, "info");
    expect(strcmp(info.name, again.name) == 0 && strcmp(info.platform, again.platform) == 0, "id %s opens %s", info.id,
           again.name);

    static const size_t sizes[] = {0, 8, sizeof info - 1, sizeof info + 8};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        clnorm_device_info wrong, before;
        char number[32];
        memset(&wrong, 0x5a, sizeof wrong);
        wrong.size = sizes[i];
        before = wrong;
        snprintf(number, sizeof number, "%zu", sizes[i]);
        expect_error(clnorm_device_get_info(device, &wrong), CLNORM_E_STRUCT_SIZE, "size", number, "get_info");
        expect(memcmp(&before, &wrong, sizeof wrong) == 0, "info was written");
        uint32_t count = 77;
        expect_error(clnorm_device_list(0, &wrong, &count), CLNORM_E_STRUCT_SIZE, "size", number, "list");
        expect(memcmp(&before, &wrong, sizeof wrong) == 0 && count == 77, "info or count was written");
    }
    expect_error(clnorm_device_get_info(NULL, &info), CLNORM_E_NULL, "device", NULL, "device NULL");
    expect_error(clnorm_device_get_info(device, NULL), CLNORM_E_NULL, "info", NULL, "info NULL");
    clnorm_build_counts counts = {5, 5};
    expect_error(clnorm_device_get_build_counts(NULL, &counts), CLNORM_E_NULL, "device", NULL, "device NULL");
    expect_error(clnorm_device_get_build_counts(device, NULL), CLNORM_E_NULL, "counts", NULL, "counts NULL");
    expect(counts.from_source == 5 && counts.from_cache == 5, "counts were written");
    expect_error(clnorm_device_build_all(NULL), CLNORM_E_NULL, "device", NULL, "device NULL");
    expect_error(clnorm_device_finish(NULL), CLNORM_E_NULL, "device", NULL, "device NULL");
    expect_status(clnorm_device_finish(device), CLNORM_OK, "finish");
    expect_status(clnorm_device_get_build_counts(device, &counts), CLNORM_OK, "counts");
    expect(!host || counts.from_source + counts.from_cache == 0, "cpu builds programs");
#ifdef CLNORM_WITH_OPENCL
    expect((clnorm_device_cl_context(device) == NULL) == host, "context");
    expect((clnorm_device_cl_id(device) == NULL) == host, "id");
    expect((clnorm_device_cl_queue(device) == NULL) == host, "queue");
#endif
}
END_TEST

START_TEST(device_list)
{
    uint32_t count = 0, again = 0;
    expect_status(clnorm_device_list(0, NULL, &count), CLNORM_OK, "to count");
    ck_assert_uint_ge(count, 1);
    for (uint32_t i = 0; i < count; i++) {
        clnorm_device_info info = CLNORM_DEVICE_INFO_INIT;
        expect_status(clnorm_device_list(i, &info, &again), CLNORM_OK, "list");
        expect(again == count, "%u devices, then %u", count, again);
        expect((i == 0) == (strcmp(info.id, "cpu") == 0), "device %u is %s", i, info.id);
        expect(i == 0 || strncmp(info.id, "opencl:", 7) == 0, "device %u is %s", i, info.id);
        expect(info.name[0] != '\0', "device %u has no name", i);
    }
    clnorm_device_info info = CLNORM_DEVICE_INFO_INIT;
    char number[32];
    snprintf(number, sizeof number, "%u", count);
    expect_error(clnorm_device_list(count, &info, &again), CLNORM_E_DEVICE_UNKNOWN, NULL, number, "one too many");
    expect_error(clnorm_device_list(UINT32_MAX, &info, &again), CLNORM_E_DEVICE_UNKNOWN, NULL, "4294967295",
                 "2^32 - 1");
    expect_error(clnorm_device_list(0, &info, NULL), CLNORM_E_NULL, "count", NULL, "count NULL");
    expect(info.id[0] == '\0', "info was written");
}
END_TEST

/* An OpenCL GPU or accelerator if one works, else cpu and the reason. */
START_TEST(automatic_device)
{
    clnorm_device *device = open_device("auto");
    clnorm_device_info info = CLNORM_DEVICE_INFO_INIT;
    expect_status(clnorm_device_get_info(device, &info), CLNORM_OK, "info");
    expect(info.kind != CLNORM_CLASS_CPU, "auto took %s", info.name);
    expect((info.fallback[0] != '\0') == (info.kind == CLNORM_CLASS_HOST), "auto took %s; fallback '%s'", info.id,
           info.fallback);
}
END_TEST

START_TEST(build_all)
{
    clnorm_device *device = test_device(_i);
    static const struct shape shapes[] = {{CLNORM_NC, 5, 3, 0, {0, 0, 0}},
                                          {CLNORM_NCS, 2, 64, 2, {14, 14, 0}},
                                          {CLNORM_NSC, 2, 3, 3, {2, 5, 7}},
                                          {CLNORM_NC, 100, 1000, 0, {0, 0, 0}},
                                          {CLNORM_NCS, 1, 1, 1, {100000, 0, 0}}};
    expect_status(clnorm_device_build_all(device), CLNORM_OK, "build_all");
    clnorm_build_counts before, after;
    ck_assert_int_eq(clnorm_device_get_build_counts(device, &before), CLNORM_OK);
    expect(on_host(device) || before.from_source + before.from_cache > 0, "nothing was built");
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        test_plan(device, &shapes[i], -1);
    expect_status(clnorm_device_build_all(device), CLNORM_OK, "build_all again");
    ck_assert_int_eq(clnorm_device_get_build_counts(device, &after), CLNORM_OK);
    expect(memcmp(&before, &after, sizeof before) == 0, "%llu programs after %llu",
           (unsigned long long)(after.from_source + after.from_cache),
           (unsigned long long)(before.from_source + before.from_cache));
}
END_TEST

/* ---- memory ------------------------------------------------------------------------------------------------------ */

START_TEST(memory_copies)
{
    clnorm_device *device = test_device(_i);
    enum { BYTES = 1000 };
    unsigned char bytes[BYTES], back[BYTES + 2];
    for (int i = 0; i < BYTES; i++)
        bytes[i] = (unsigned char)(i * 7);
    clnorm_memory *memory = test_memory(device, BYTES);
    expect(clnorm_memory_bytes(memory) == BYTES, "bytes");
    clnorm_buffer all = clnorm_memory_buffer(memory);
    expect(all.kind == CLNORM_BUFFER_MEMORY && all.handle == memory && all.offset == 0 && all.bytes == BYTES, "buffer");
    expect_status(clnorm_memory_write(memory, 0, bytes, BYTES), CLNORM_OK, "write");
    memset(back, 0xee, sizeof back);
    expect_status(clnorm_memory_read(memory, 3, back + 1, BYTES - 3), CLNORM_OK, "read at an odd offset");
    expect(back[0] == 0xee && back[BYTES - 2] == 0xee && memcmp(back + 1, bytes + 3, BYTES - 3) == 0, "read");
    expect_status(clnorm_memory_write(memory, 7, "abc", 3), CLNORM_OK, "write at an odd offset");
    memcpy(bytes + 7, "abc", 3);
    expect_status(clnorm_memory_write(memory, BYTES, bytes, 0), CLNORM_OK, "write nothing at the end");
    expect_status(clnorm_memory_read(memory, BYTES, back, 0), CLNORM_OK, "read nothing at the end");

    const struct {
        size_t offset, bytes;
    } wrong[] = {{0, BYTES + 1}, {1, BYTES},        {BYTES, 1},        {BYTES + 1, 0},
                 {SIZE_MAX, 1},  {SIZE_MAX - 1, 4}, {4, SIZE_MAX - 3}, {SIZE_MAX, SIZE_MAX}};
    memset(back, 0xee, sizeof back);
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        void *pointer = UNSET;
        char number[32], what[64];
        snprintf(number, sizeof number, "%zu", wrong[i].bytes);
        snprintf(what, sizeof what, "%zu bytes at %zu", wrong[i].bytes, wrong[i].offset);
        expect_error(clnorm_memory_write(memory, wrong[i].offset, bytes, wrong[i].bytes), CLNORM_E_BUFFER_SIZE, NULL,
                     number, what);
        expect_error(clnorm_memory_read(memory, wrong[i].offset, back, wrong[i].bytes), CLNORM_E_BUFFER_SIZE, NULL,
                     number, what);
        expect_error(clnorm_memory_map(memory, wrong[i].offset, wrong[i].bytes, &pointer), CLNORM_E_BUFFER_SIZE, NULL,
                     number, what);
        expect(pointer == UNSET, "%s: *pointer was set", what);
    }
    for (size_t i = 0; i < sizeof back; i++)
        expect(back[i] == 0xee, "a refused read wrote");

    void *pointer = UNSET;
    clnorm_memory *out = UNSET;
    expect_error(clnorm_memory_create(NULL, 4, &out), CLNORM_E_NULL, "device", NULL, "create");
    expect_error(clnorm_memory_create(device, 4, NULL), CLNORM_E_NULL, "memory", NULL, "create");
    expect_error(clnorm_memory_write(NULL, 0, bytes, 4), CLNORM_E_NULL, "memory", NULL, "write");
    expect_error(clnorm_memory_write(memory, 0, NULL, 4), CLNORM_E_NULL, "source", NULL, "write");
    expect_error(clnorm_memory_read(NULL, 0, bytes, 4), CLNORM_E_NULL, "memory", NULL, "read");
    expect_error(clnorm_memory_read(memory, 0, NULL, 4), CLNORM_E_NULL, "target", NULL, "read");
    expect_error(clnorm_memory_map(NULL, 0, 4, &pointer), CLNORM_E_NULL, "memory", NULL, "map");
    expect_error(clnorm_memory_map(memory, 0, 4, NULL), CLNORM_E_NULL, "pointer", NULL, "map");
    expect_error(clnorm_memory_unmap(NULL), CLNORM_E_NULL, "memory", NULL, "unmap");
    expect(out == UNSET && pointer == UNSET, "an out argument was set");

    expect_status(clnorm_memory_map(memory, 4, BYTES - 4, &pointer), CLNORM_OK, "map");
    expect(memcmp(pointer, bytes + 4, BYTES - 4) == 0, "the map shows something else");
    memset(pointer, 0x11, 8);
    void *second = UNSET;
    expect_error(clnorm_memory_map(memory, 0, 4, &second), CLNORM_E_BUSY, NULL, NULL, "a second map");
    expect(second == UNSET, "*pointer was set");
    expect_status(clnorm_memory_unmap(memory), CLNORM_OK, "unmap");
    memset(bytes + 4, 0x11, 8);
    expect_status(clnorm_memory_read(memory, 0, back, BYTES), CLNORM_OK, "read");
    expect(memcmp(back, bytes, BYTES) == 0, "what was written through the map is not there");
    expect_status(clnorm_memory_map(memory, 0, BYTES, &pointer), CLNORM_OK, "map after unmap");
    expect_status(clnorm_memory_unmap(memory), CLNORM_OK, "unmap");
}
END_TEST

START_TEST(memory_of_no_bytes)
{
    clnorm_device *device = test_device(_i);
    clnorm_memory *memory = test_memory(device, 0);
    char byte = 'x';
    expect(clnorm_memory_bytes(memory) == 0 && clnorm_memory_buffer(memory).bytes == 0, "bytes");
    expect_status(clnorm_memory_write(memory, 0, &byte, 0), CLNORM_OK, "write");
    expect_status(clnorm_memory_read(memory, 0, &byte, 0), CLNORM_OK, "read");
    expect_error(clnorm_memory_read(memory, 0, &byte, 1), CLNORM_E_BUFFER_SIZE, NULL, "1", "read a byte");
    expect(byte == 'x', "a byte was read");
}
END_TEST

START_TEST(memory_too_large)
{
    clnorm_device *device = test_device(_i);
    static const size_t sizes[] = {SIZE_MAX, SIZE_MAX - 63, (size_t)1 << 62, (size_t)1 << 47};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        clnorm_memory *memory = UNSET;
        clnorm_status status = clnorm_memory_create(device, sizes[i], &memory);
        expect(status == CLNORM_E_NO_MEMORY, "%zu bytes: %s", sizes[i], clnorm_status_name(status));
        expect(memory == UNSET, "*memory was set");
        expect(clnorm_last_error()[0] != '\0', "no sentence");
    }
}
END_TEST

START_TEST(host_memory_is_aligned)
{
    clnorm_device *device = open_device("cpu");
    for (size_t bytes = 1; bytes < 300; bytes += 37) {
        void *pointer = NULL;
        clnorm_memory *memory = test_memory(device, bytes);
        ck_assert_int_eq(clnorm_memory_map(memory, 0, bytes, &pointer), CLNORM_OK);
        ck_assert_uint_eq((uintptr_t)pointer % 64, 0);
        ck_assert_int_eq(clnorm_memory_unmap(memory), CLNORM_OK);
    }
}
END_TEST

/* ---- plans ------------------------------------------------------------------------------------------------------- */

START_TEST(plan_errors)
{
    clnorm_device *device = test_device(_i);
    static const struct {
        const char *what;
        clnorm_desc desc;
        clnorm_status want;
        const char *name, *number;
    } rows[] = {
#define DESC(layout, n, c, dims, s0, s1, s2, eps, ...)                                                                 \
    {sizeof(clnorm_desc),                                                                                              \
     CLNORM_BATCH,                                                                                                     \
     layout,                                                                                                           \
     CLNORM_F32,                                                                                                       \
     n,                                                                                                                \
     c,                                                                                                                \
     dims,                                                                                                             \
     {s0, s1, s2},                                                                                                     \
     eps,                                                                                                              \
     {__VA_ARGS__},                                                                                                    \
     0,                                                                                                                \
     0,                                                                                                                \
     CLNORM_F32,                                                                                                       \
     CLNORM_NO_ACTIVATION,                                                                                             \
     CLNORM_NO_RESIDUAL,                                                                                               \
     0.01f,                                                                                                            \
     0,                                                                                                                \
     0,                                                                                                                \
     0,                                                                                                                \
     0,                                                                                                                \
     0}
#define VIRTUAL(norm, layout, c, dims, groups, normalized, batch)                                                      \
    {                                                                                                                  \
        sizeof(clnorm_desc), norm, layout, CLNORM_F32, 3, c, dims, {2, 0, 0}, 1e-5f, {0}, groups, normalized,          \
            CLNORM_F32, CLNORM_NO_ACTIVATION, CLNORM_NO_RESIDUAL, 0.01f, batch, 0, 0, 0, 0                             \
    }
#define NORM(norm, layout, c, dims, groups, normalized) VIRTUAL(norm, layout, c, dims, groups, normalized, 0)
        {"n = -1", DESC(CLNORM_NC, -1, 4, 0, 0, 0, 0, 0, 0), CLNORM_E_SHAPE, "n", "-1"},
        {"n = INT64_MIN", DESC(CLNORM_NC, INT64_MIN, 4, 0, 0, 0, 0, 0, 0), CLNORM_E_SHAPE, "n", "-9223372036854775808"},
        {"c = 0", DESC(CLNORM_NC, 3, 0, 0, 0, 0, 0, 0, 0), CLNORM_E_SHAPE, "c", "0"},
        {"c = -7", DESC(CLNORM_NCS, 3, -7, 1, 2, 0, 0, 0, 0), CLNORM_E_SHAPE, "c", "-7"},
        {"nc with a dimension", DESC(CLNORM_NC, 3, 4, 1, 5, 0, 0, 0, 0), CLNORM_E_SHAPE, "spatial_dims", "1"},
        {"ncs without", DESC(CLNORM_NCS, 3, 4, 0, 0, 0, 0, 0, 0), CLNORM_E_SHAPE, "spatial_dims", "0"},
        {"nsc without", DESC(CLNORM_NSC, 3, 4, 0, 0, 0, 0, 0, 0), CLNORM_E_SHAPE, "spatial_dims", "0"},
        {"4 dimensions", DESC(CLNORM_NCS, 3, 4, 4, 2, 2, 2, 0, 0), CLNORM_E_SHAPE, "spatial_dims", "4"},
        {"-1 dimensions", DESC(CLNORM_NSC, 3, 4, -1, 2, 2, 2, 0, 0), CLNORM_E_SHAPE, "spatial_dims", "-1"},
        {"2^31 - 1 dimensions", DESC(CLNORM_NSC, 3, 4, INT32_MAX, 2, 2, 2, 0, 0), CLNORM_E_SHAPE, "spatial_dims",
         "2147483647"},
        {"spatial[0] = 0", DESC(CLNORM_NCS, 3, 4, 1, 0, 0, 0, 0, 0), CLNORM_E_SHAPE, "spatial[0]", "0"},
        {"spatial[1] = -5", DESC(CLNORM_NSC, 3, 4, 2, 2, -5, 0, 0, 0), CLNORM_E_SHAPE, "spatial[1]", "-5"},
        {"spatial[2] = 0", DESC(CLNORM_NCS, 3, 4, 3, 2, 2, 0, 0, 0), CLNORM_E_SHAPE, "spatial[2]", "0"},
        {"2^64 elements", DESC(CLNORM_NC, (int64_t)1 << 32, (int64_t)1 << 32, 0, 0, 0, 0, 0, 0), CLNORM_E_SHAPE, NULL,
         NULL},
        {"2^63 elements", DESC(CLNORM_NC, (int64_t)1 << 61, 4, 0, 0, 0, 0, 0, 0), CLNORM_E_SHAPE, NULL, NULL},
        {"2^64 bytes", DESC(CLNORM_NC, (int64_t)1 << 60, 4, 0, 0, 0, 0, 0, 0), CLNORM_E_SHAPE, NULL, NULL},
        {"2^66 elements", DESC(CLNORM_NCS, 4, (int64_t)1 << 32, 1, (int64_t)1 << 32, 0, 0, 0, 0), CLNORM_E_SHAPE, NULL,
         NULL},
        {"c = 2^63 - 1", DESC(CLNORM_NC, 2, INT64_MAX, 0, 0, 0, 0, 0, 0), CLNORM_E_SHAPE, NULL, NULL},
        {"eps = -1", DESC(CLNORM_NC, 3, 4, 0, 0, 0, 0, -1, 0), CLNORM_E_EPS, "eps", "-1"},
        {"eps = -1e-30", DESC(CLNORM_NC, 3, 4, 0, 0, 0, 0, -1e-30f, 0), CLNORM_E_EPS, "eps", NULL},
        {"eps = NaN", DESC(CLNORM_NC, 3, 4, 0, 0, 0, 0, NAN, 0), CLNORM_E_EPS, "eps", "nan"},
        {"eps = inf", DESC(CLNORM_NC, 3, 4, 0, 0, 0, 0, INFINITY, 0), CLNORM_E_EPS, "eps", "inf"},
        {"padded rows", DESC(CLNORM_NC, 3, 4, 0, 0, 0, 0, 0, 8, 1), CLNORM_E_STRIDES, "strides[0]", "8"},
        {"transposed", DESC(CLNORM_NC, 3, 4, 0, 0, 0, 0, 0, 1, 3), CLNORM_E_STRIDES, NULL, NULL},
        {"every other", DESC(CLNORM_NC, 3, 4, 0, 0, 0, 0, 0, 8, 2), CLNORM_E_STRIDES, NULL, NULL},
        {"reversed", DESC(CLNORM_NC, 3, 4, 0, 0, 0, 0, 0, 4, -1), CLNORM_E_STRIDES, "strides[1]", "-1"},
        {"broadcast", DESC(CLNORM_NC, 3, 4, 0, 0, 0, 0, 0, 0, 1), CLNORM_E_STRIDES, "strides[0]", "0"},
        {"channels-last in ncs", DESC(CLNORM_NCS, 3, 4, 2, 5, 6, 0, 0, 120, 1, 24, 4), CLNORM_E_STRIDES, NULL, NULL},
        {"a padded plane", DESC(CLNORM_NCS, 3, 4, 2, 5, 6, 0, 0, 120, 32, 6, 1), CLNORM_E_STRIDES, "strides[1]", "32"},
        {"only the last is wrong", DESC(CLNORM_NSC, 2, 3, 3, 4, 5, 6, 0, 360, 90, 18, 3, 2), CLNORM_E_STRIDES,
         "strides[4]", "2"},
        {"batch norm of 2 groups", NORM(CLNORM_BATCH, CLNORM_NC, 4, 0, 2, 0), CLNORM_E_SHAPE, "groups", "2"},
        {"instance norm of groups", NORM(CLNORM_INSTANCE, CLNORM_NCS, 4, 1, 4, 0), CLNORM_E_SHAPE, "groups", "4"},
        {"group norm of none", NORM(CLNORM_GROUP, CLNORM_NCS, 4, 1, 0, 0), CLNORM_E_SHAPE, "groups", "0"},
        {"group norm of -2", NORM(CLNORM_GROUP, CLNORM_NCS, 4, 1, -2, 0), CLNORM_E_SHAPE, "groups", "-2"},
        {"3 groups of 4 channels", NORM(CLNORM_GROUP, CLNORM_NSC, 4, 1, 3, 0), CLNORM_E_SHAPE, "groups", "3"},
        {"8 groups of 4 channels", NORM(CLNORM_GROUP, CLNORM_NC, 4, 0, 8, 0), CLNORM_E_SHAPE, "groups", "8"},
        {"batches of -1", VIRTUAL(CLNORM_BATCH, CLNORM_NC, 4, 0, 0, 0, -1), CLNORM_E_SHAPE, "virtual_batch", "-1"},
        {"layer norm of batches", VIRTUAL(CLNORM_LAYER, CLNORM_NC, 4, 0, 0, 1, 2), CLNORM_E_SHAPE, "virtual_batch",
         "2"},
        {"instance norm of batches", VIRTUAL(CLNORM_INSTANCE, CLNORM_NCS, 4, 1, 0, 0, 3), CLNORM_E_SHAPE,
         "virtual_batch", "3"},
        {"layer norm of nothing", NORM(CLNORM_LAYER, CLNORM_NC, 4, 0, 0, 0), CLNORM_E_SHAPE, "normalized_dims", "0"},
        {"layer norm over n too", NORM(CLNORM_LAYER, CLNORM_NC, 4, 0, 0, 2), CLNORM_E_SHAPE, "normalized_dims", "2"},
        {"RMS norm over n too", NORM(CLNORM_RMS, CLNORM_NCS, 4, 1, 0, 3), CLNORM_E_SHAPE, "normalized_dims", "3"},
        {"layer norm of groups", NORM(CLNORM_LAYER, CLNORM_NC, 4, 0, 2, 1), CLNORM_E_SHAPE, "groups", "2"},
        {"group norm of rows", NORM(CLNORM_GROUP, CLNORM_NC, 4, 0, 2, 1), CLNORM_E_SHAPE, "normalized_dims", "1"},
#undef DESC
#undef NORM
    };
    clnorm_plan *plan = UNSET;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char what[128];
        snprintf(what, sizeof what, "a plan of %s", rows[i].what);
        const char *bracket = rows[i].name ? strchr(rows[i].name, '[') : NULL;
        clnorm_status status = clnorm_plan_create(device, &rows[i].desc, &plan);
        expect_error(status, rows[i].want, bracket ? NULL : rows[i].name, rows[i].number, what);
        if (bracket && status == rows[i].want)
            expect(strstr(clnorm_last_error(), rows[i].name) != NULL, "%s: the sentence does not name %s: %s", what,
                   rows[i].name, clnorm_last_error());
        expect(plan == UNSET, "%s: *plan was set", what);
    }
    static const struct {
        size_t field;
        const char *name;
    } enumerations[] = {{offsetof(clnorm_desc, norm), "norm"},
                        {offsetof(clnorm_desc, layout), "layout"},
                        {offsetof(clnorm_desc, dtype), "dtype"},
                        {offsetof(clnorm_desc, y_dtype), "y_dtype"},
                        {offsetof(clnorm_desc, activation), "activation"},
                        {offsetof(clnorm_desc, residual), "residual"}};
    for (size_t i = 0; i < sizeof enumerations / sizeof *enumerations; i++) {
        static const int strange[] = {5, 77, -1, INT32_MAX};
        for (size_t j = 0; j < 4; j++) {
            clnorm_desc desc = CLNORM_DESC_INIT;
            desc.n = desc.c = 4;
            memcpy((char *)&desc + enumerations[i].field, &strange[j], sizeof strange[j]);
            expect_error(clnorm_plan_create(device, &desc, &plan), CLNORM_E_ENUM, enumerations[i].name,
                         strange[j] > 0 ? (const char *[]){"5", "77", "", "2147483647"}[j] : NULL, "a strange value");
        }
    }
    clnorm_desc desc = CLNORM_DESC_INIT;
    desc.n = desc.c = 4;
    static const size_t sizes[] = {0, 8, sizeof desc - 8, sizeof desc - 1, sizeof desc + 1, sizeof desc + 8, SIZE_MAX};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        char number[32];
        snprintf(number, sizeof number, "%zu", sizes[i]);
        desc.size = sizes[i];
        expect_error(clnorm_plan_create(device, &desc, &plan), CLNORM_E_STRUCT_SIZE, "size", number, "size");
    }
    desc.size = sizeof desc;
    static const clnorm_norm no_rows[] = {CLNORM_BATCH, CLNORM_GROUP, CLNORM_INSTANCE};
    for (size_t i = 0; i < sizeof no_rows / sizeof *no_rows; i++) {
        clnorm_desc before = desc;
        before.norm = no_rows[i];
        before.groups = no_rows[i] == CLNORM_GROUP;
        before.residual = CLNORM_RESIDUAL_BEFORE;
        expect_error(clnorm_plan_create(device, &before, &plan), CLNORM_E_UNSUPPORTED, "residual", NULL,
                     "a residual before a norm that is not of rows");
    }
    static const float slopes[] = {NAN, INFINITY, -INFINITY};
    for (size_t i = 0; i < 3; i++) {
        clnorm_desc leaky = desc;
        leaky.activation = CLNORM_LEAKY_RELU;
        leaky.slope = slopes[i];
        expect_error(clnorm_plan_create(device, &leaky, &plan), CLNORM_E_ENUM, "slope", NULL,
                     "a slope that is no number");
    }
    expect_error(clnorm_plan_create(NULL, &desc, &plan), CLNORM_E_NULL, "device", NULL, "device NULL");
    expect_error(clnorm_plan_create(device, NULL, &plan), CLNORM_E_NULL, "desc", NULL, "desc NULL");
    expect_error(clnorm_plan_create(device, &desc, NULL), CLNORM_E_NULL, "plan", NULL, "plan NULL");
    expect(plan == UNSET, "*plan was set");
    uint32_t found = 77;
    expect_error(clnorm_plan_query_found(NULL, &found), CLNORM_E_NULL, "plan", NULL, "query_found");
    expect(found == 77, "found was set");
}
END_TEST

START_TEST(plans_that_are_fine)
{
    clnorm_device *device = test_device(_i);
    static const struct {
        struct shape shape;
        int64_t strides[5];
        float eps;
    } rows[] = {
        {{CLNORM_NC, 3, 4, 0, {0, 0, 0}}, {4, 1}, 0},
        {{CLNORM_NC, 3, 4, 0, {0, 0, 0}}, {4, 1}, -0.0f},
        {{CLNORM_NC, 3, 4, 0, {0, 0, 0}}, {4, 1}, 3e38f},
        {{CLNORM_NC, 1, 4, 0, {0, 0, 0}}, {99, 1}, 1},
        {{CLNORM_NC, 1, 1, 0, {0, 0, 0}}, {-3, 77}, 1},
        {{CLNORM_NC, 0, 4, 0, {0, 0, 0}}, {4, 1}, 1},
        {{CLNORM_NCS, 3, 4, 2, {5, 6, 0}}, {120, 30, 6, 1}, 1},
        {{CLNORM_NCS, 3, 1, 2, {5, 1, 0}}, {5, 1234, 1, 0}, 1},
        {{CLNORM_NSC, 2, 3, 3, {4, 5, 6}}, {360, 90, 18, 3, 1}, 1},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        clnorm_desc desc = shape_desc(&rows[i].shape);
        clnorm_plan *plan = NULL;
        memcpy(desc.strides, rows[i].strides, sizeof desc.strides);
        desc.eps = rows[i].eps;
        expect_status(clnorm_plan_create(device, &desc, &plan), CLNORM_OK, shape_text(&rows[i].shape));
        size_t c = (size_t)rows[i].shape.c;
        expect(clnorm_plan_state_bytes(plan) == 12 * c, "state of %zu bytes", clnorm_plan_state_bytes(plan));
        expect(clnorm_plan_statistics_bytes(plan) == 20 * c, "statistics of %zu bytes",
               clnorm_plan_statistics_bytes(plan));
        expect(clnorm_plan_sums_bytes(plan) == 16 * c, "sums of %zu bytes", clnorm_plan_sums_bytes(plan));
        expect(strlen(clnorm_plan_explain(plan)) > 0, "nothing explained");
        clnorm_plan_destroy(plan);
        desc.double_backward = 1;
        for (int twice = 0; twice < 2; twice++, desc.double_backward = 0) {
            expect_status(clnorm_plan_create(device, &desc, &plan), CLNORM_OK, shape_text(&rows[i].shape));
            expect(!strstr(clnorm_plan_explain(plan), "\ndouble backward: ") == !desc.double_backward,
                   "double_backward %u is explained as %s", desc.double_backward, clnorm_plan_explain(plan));
            clnorm_plan_destroy(plan);
        }
    }
}
END_TEST

/* ---- life cycle -------------------------------------------------------------------------------------------------- */

/* All six orders of destroying device, plan and memory, with a call enqueued before. */
START_TEST(orders_of_destruction)
{
    static const int orders[6][3] = {{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}};
    for (int order = 0; order < 6; order++) {
        for (int used = 0; used < 2; used++) {
            clnorm_device *device = NULL;
            clnorm_plan *plan = NULL;
            clnorm_memory *memory = NULL;
            clnorm_desc desc = CLNORM_DESC_INIT;
            desc.n = 8;
            desc.c = 16;
            ck_assert_int_eq(clnorm_device_open(device_name(_i), &device), CLNORM_OK);
            ck_assert_int_eq(clnorm_plan_create(device, &desc, &plan), CLNORM_OK);
            ck_assert_int_eq(clnorm_memory_create(device, 2 * 512, &memory), CLNORM_OK);
            float *x = random_floats(1, 128, 1, 0);
            ck_assert_int_eq(clnorm_memory_write(memory, 0, x, 512), CLNORM_OK);
            clnorm_forward_args f = CLNORM_FORWARD_ARGS_INIT;
            f.x = clnorm_memory_part(memory, 0, 512);
            f.y = clnorm_memory_part(memory, 512, 512);
            if (used)
                expect_status(clnorm_forward(plan, &f), CLNORM_OK, "forward");
            for (int i = 0; i < 3; i++) {
                if (orders[order][i] == 0)
                    clnorm_device_destroy(device);
                else if (orders[order][i] == 1)
                    clnorm_plan_destroy(plan);
                else
                    clnorm_memory_destroy(memory);
                if (i == 0 && orders[order][0] == 0) { /* plan and memory keep the device alive */
                    float y[128];
                    expect_status(clnorm_forward(plan, &f), CLNORM_OK, "forward after the device was destroyed");
                    expect_status(clnorm_memory_read(memory, 512, y, 512), CLNORM_OK, "read after it");
                    expect(isfinite(y[0]), "no result");
                }
            }
        }
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("api");
    TCase *tcase = add_case(suite, "status", 10);
    tcase_add_test(tcase, status_names);
    tcase_add_test(tcase, version);
    tcase_add_test(tcase, no_error_yet);
    tcase_add_test(tcase, nulls_that_are_fine);
    tcase = add_case(suite, "device", 120);
    tcase_add_test(tcase, unknown_devices);
    tcase_add_test(tcase, device_list);
    tcase_add_test(tcase, automatic_device);
    add_device_test(tcase, device_info);
    add_device_test(tcase, build_all);
    tcase = add_case(suite, "memory", 30);
    add_device_test(tcase, memory_copies);
    add_device_test(tcase, memory_of_no_bytes);
    add_device_test(tcase, memory_too_large);
    tcase_add_test(tcase, host_memory_is_aligned);
    tcase = add_case(suite, "plan", 200);
    add_device_test(tcase, plan_errors);
    add_device_test(tcase, plans_that_are_fine);
    tcase = add_case(suite, "life cycle", 200);
    add_device_test(tcase, orders_of_destruction);
    return run_suites(&suite, 1);
}
