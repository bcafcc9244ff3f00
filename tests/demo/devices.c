#include "devices.h"

#include <stdio.h>
#include <stdlib.h>

enum { MAX_DEVICES = 32 };
static clnorm_device *opened[MAX_DEVICES];

int run_on_devices(const char *suite_name, void (*add)(TCase *tcase, int devices))
{
    uint32_t count = 0;
    clnorm_device_info info = CLNORM_DEVICE_INFO_INIT;
    if (clnorm_device_list(0, NULL, &count) != CLNORM_OK || count < 1 || count > MAX_DEVICES) {
        fprintf(stderr, "the list of devices cannot be used: %u devices, %s\n", count, clnorm_last_error());
        return EXIT_FAILURE;
    }
    for (uint32_t i = 0; i < count; i++) {
        clnorm_device_list(i, &info, &count);
        printf("device %u: %s, %s\n", i, info.name, info.platform);
    }
    fflush(stdout);
    Suite *suite = suite_create(suite_name);
    TCase *tcase = tcase_create("devices");
    add(tcase, (int)count);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_set_fork_status(runner, CK_NOFORK);
    srunner_run_all(runner, CK_NORMAL);
    int run = srunner_ntests_run(runner), failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    for (int i = 0; i < MAX_DEVICES; i++)
        clnorm_device_destroy(opened[i]);
    return run > 0 && failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

void device_backend(int i, struct backend *b)
{
    clnorm_device_info info = CLNORM_DEVICE_INFO_INIT;
    uint32_t count;
    if (!opened[i]) {
        ck_assert_int_eq(clnorm_device_list((uint32_t)i, &info, &count), CLNORM_OK);
        ck_assert_msg(clnorm_device_open(info.id, &opened[i]) == CLNORM_OK, "%s: %s", info.id, clnorm_last_error());
    }
    ck_assert_msg(backend_create(b, opened[i]), "%s", b->error);
}

void require_success(const struct backend *b)
{
    ck_assert_msg(!backend_failed(b), "%s", b->error);
}

struct array upload(struct backend *b, const void *values, size_t count)
{
    struct array a = b->operations->allocate(b, count);
    b->operations->write(b, a, values);
    require_success(b);
    return a;
}

void *download(struct backend *b, struct array a)
{
    void *values = malloc(a.count * sizeof(float));
    ck_assert_ptr_nonnull(values);
    b->operations->read(b, a, values);
    require_success(b);
    return values;
}
