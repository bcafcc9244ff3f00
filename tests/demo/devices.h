/* The devices that the tests of the demo run on: cpu and every OpenCL device that the loader shows. */
#ifndef CLNORM_TESTS_DEMO_DEVICES_H
#define CLNORM_TESTS_DEMO_DEVICES_H

#include "backend.h"

#include <check.h>

/* Half a unit in the last place of 1. */
#define U 0x1p-24

/* Runs the tests that add puts into a case once for each device, in this process: OpenCL does not survive a fork. -> exit
 * code of the program. */
int run_on_devices(const char *suite, void (*add)(TCase *tcase, int devices));
/* Device i, opened by the first test that wants it, and its backend, made anew. */
void device_backend(int i, struct backend *b);
/* Fails the test if an operation failed. */
void require_success(const struct backend *b);

/* count values on the device; read back they are the caller's to free. */
struct array upload(struct backend *b, const void *values, size_t count);
void *download(struct backend *b, struct array a);

#endif
