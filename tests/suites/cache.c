/* The disk cache of program binaries: what CLNORM_CACHE and the XDG variables say, damaged files, processes at once, places
 * that cannot be written. Each use of the cache is a process of its own, for programs are built once per process and device. */
#define _GNU_SOURCE /* MAP_ANONYMOUS */
#include "files.h"
#include "support.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- one use of the library, in a process of its own ------------------------------------------------------------- */

struct outcome {
    bool finished;
    clnorm_status status;
    clnorm_build_counts counts;
    uint64_t hash; /* of the results */
    char error[256];
};

/* Opens the device, makes a plan, runs a forward and hashes what it gives. */
static void use_library(const char *name, struct outcome *out)
{
    enum { N = 50, C = 20 };
    clnorm_device *device = NULL;
    clnorm_plan *plan = NULL;
    clnorm_memory *memory = NULL;
    clnorm_desc desc = CLNORM_DESC_INIT;
    static float x[N * C];
    struct random random = {1};
    size_t bytes = sizeof x;
    memset(out, 0, sizeof *out);
    desc.n = N;
    desc.c = C;
    for (int i = 0; i < N * C; i++)
        x[i] = random_normal(&random);
    clnorm_status status = clnorm_device_open(name, &device);
    if (status == CLNORM_OK)
        status = clnorm_plan_create(device, &desc, &plan);
    if (status == CLNORM_OK)
        status = clnorm_memory_create(device, 2 * bytes, &memory);
    if (status == CLNORM_OK)
        status = clnorm_memory_write(memory, 0, x, bytes);
    if (status == CLNORM_OK) {
        clnorm_forward_args f = CLNORM_FORWARD_ARGS_INIT;
        f.x = clnorm_memory_part(memory, 0, bytes);
        f.y = clnorm_memory_part(memory, bytes, bytes);
        status = clnorm_forward(plan, &f);
    }
    if (status == CLNORM_OK)
        status = clnorm_memory_read(memory, bytes, x, bytes);
    if (status == CLNORM_OK)
        status = clnorm_device_get_build_counts(device, &out->counts);
    if (status != CLNORM_OK)
        snprintf(out->error, sizeof out->error, "%s", clnorm_last_error());
    out->status = status;
    out->hash = 14695981039346656037u; /* FNV-1a */
    for (size_t i = 0; i < bytes; i++)
        out->hash = (out->hash ^ ((unsigned char *)x)[i]) * 1099511628211u;
    clnorm_memory_destroy(memory);
    clnorm_plan_destroy(plan);
    clnorm_device_destroy(device);
    out->finished = true;
}

static struct outcome *shared_outcomes(size_t count)
{
    void *shared =
        mmap(NULL, count * sizeof(struct outcome), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    ck_assert(shared != MAP_FAILED);
    return shared;
}

static pid_t start_process(const char *device, struct outcome *out, void (*prepare)(void))
{
    pid_t child = fork();
    ck_assert_int_ge(child, 0);
    if (child == 0) {
        if (prepare)
            prepare();
        use_library(device, out);
        _exit(0);
    }
    return child;
}

static int finish_process(pid_t child)
{
    int status = -1;
    while (waitpid(child, &status, 0) < 0)
        ck_assert_int_eq(errno, EINTR);
    return status;
}

/* The device is device _i of the list; the environment is this process's. */
static struct outcome use_once(int i, const char *what)
{
    struct outcome *shared = shared_outcomes(1), out;
    int status = finish_process(start_process(opencl_device_name(i), shared, NULL));
    out = *shared;
    munmap(shared, sizeof *shared);
    expect(status == 0 && out.finished, "%s: the process ended with status %d", what, status);
    expect(out.status == CLNORM_OK, "%s: %s: %s", what, clnorm_status_name(out.status), out.error);
    return out;
}

static uint64_t programs(const struct outcome *out)
{
    return out->counts.from_source + out->counts.from_cache;
}

static void expect_builds(const struct outcome *out, bool from_source, const char *what)
{
    uint64_t wanted = from_source ? out->counts.from_source : out->counts.from_cache;
    expect(programs(out) > 0 && wanted == programs(out), "%s: %llu programs from source, %llu from the cache", what,
           (unsigned long long)out->counts.from_source, (unsigned long long)out->counts.from_cache);
}

/* ---- where it is ------------------------------------------------------------------------------------------------- */

START_TEST(a_second_process_builds_nothing)
{
    const char *directory = new_directory();
    setenv("CLNORM_CACHE", directory, 1);
    struct outcome first = use_once(_i, "first");
    expect_builds(&first, true, "the first process");
    size_t count = read_files(directory);
    expect(count == first.counts.from_source, "%zu files of %llu programs", count,
           (unsigned long long)first.counts.from_source);
    struct outcome second = use_once(_i, "second");
    expect_builds(&second, false, "the second process");
    expect(second.hash == first.hash && programs(&second) == programs(&first),
           "the second process gave something else");
    expect(read_files(directory) == count, "the second process left files");
    remove_tree(directory);
}
END_TEST

START_TEST(off)
{
    const char *directory = new_directory();
    ck_assert_int_eq(chdir(directory), 0);
    setenv("CLNORM_CACHE", "off", 1);
    setenv("XDG_CACHE_HOME", directory, 1);
    setenv("HOME", directory, 1);
    struct outcome out = use_once(_i, "off");
    expect_builds(&out, true, "CLNORM_CACHE=off");
    read_files(directory);
    for (size_t k = 0; k < file_count; k++)
        expect(!strstr(files[k].path + strlen(directory), "clnorm"), "wrote %s", files[k].path);
    expect(access("off", F_OK) != 0, "made a directory 'off'");
    ck_assert_int_eq(chdir(".."), 0);
    remove_tree(directory);
}
END_TEST

START_TEST(xdg_directories)
{
    const char *directory = new_directory();
    static const struct {
        const char *what, *xdg, *home, *expected;
    } rows[] = {
        {"XDG_CACHE_HOME", "/x", "/h", "/x/"}, /* below the directory */
        {"HOME", NULL, "/h", "/h/.cache/"},
        {"an empty XDG_CACHE_HOME", "", "/i", "/i/.cache/"},
        {"a relative XDG_CACHE_HOME, which the XDG standard has ignored", "rel", "/j", "/j/.cache/"},
    };
    unsetenv("CLNORM_CACHE");
    ck_assert_int_eq(chdir(directory), 0);
    for (size_t r = 0; r < sizeof rows / sizeof *rows; r++) {
        char text[600];
        if (r == 1)
            setenv("CLNORM_CACHE", "", 1); /* as if it were not set */
        if (rows[r].xdg) {
            snprintf(text, sizeof text, "%s%s", rows[r].xdg[0] == '/' ? directory : "", rows[r].xdg);
            setenv("XDG_CACHE_HOME", text, 1);
        } else {
            unsetenv("XDG_CACHE_HOME");
        }
        snprintf(text, sizeof text, "%s%s", directory, rows[r].home);
        setenv("HOME", text, 1);
        struct outcome first = use_once(_i, rows[r].what), second = use_once(_i, rows[r].what);
        expect_builds(&first, true, rows[r].what);
        expect_builds(&second, false, rows[r].what);
        size_t found = 0;
        read_files(directory);
        for (size_t k = 0; k < file_count; k++) {
            const char *inside = files[k].path + strlen(directory);
            found += strncmp(inside, rows[r].expected, strlen(rows[r].expected)) == 0 && strstr(inside, "clnorm");
        }
        expect(found == first.counts.from_source, "%s: %zu files in %s", rows[r].what, found, rows[r].expected);
    }
    unsetenv("XDG_CACHE_HOME");
    unsetenv("HOME");
    struct outcome out = use_once(_i, "neither XDG_CACHE_HOME nor HOME");
    expect(programs(&out) > 0, "no program");
    ck_assert_int_eq(chdir(".."), 0);
    remove_tree(directory);
}
END_TEST

/* Places where nothing can be written, not even by root: no error, built from source. */
START_TEST(unwritable_places)
{
    static const char *const places[] = {"/proc", "/dev/null/below"};
    for (size_t k = 0; k < sizeof places / sizeof *places; k++) {
        setenv("CLNORM_CACHE", places[k], 1);
        struct outcome out = use_once(_i, places[k]);
        expect_builds(&out, true, places[k]);
    }
    const char *directory = new_directory();
    char deep[600];
    snprintf(deep, sizeof deep, "%s/a/b/c", directory);
    setenv("CLNORM_CACHE", deep, 1);
    struct outcome out = use_once(_i, "a directory to be made");
    expect_builds(&out, true, "a directory to be made");
    out = use_once(_i, "a directory that was made");
    expect_builds(&out, false, "a directory that was made");
    remove_tree(directory);
}
END_TEST

/* Readable, not writable: the binaries are used, and a missing one is no error. */
START_TEST(read_only_directory)
{
    const char *directory = new_directory();
    setenv("CLNORM_CACHE", directory, 1);
    use_once(_i, "first");
    read_files(directory);
    ck_assert_int_eq(chmod(directory, 0555), 0);
    struct outcome out = use_once(_i, "read-only");
    expect_builds(&out, false, "a read-only directory");
    ck_assert_int_eq(chmod(directory, 0755), 0);
    for (size_t k = 0; k < file_count; k++)
        ck_assert_int_eq(unlink(files[k].path), 0);
    ck_assert_int_eq(chmod(directory, 0555), 0);
    out = use_once(_i, "read-only and empty");
    expect_builds(&out, true, "an empty read-only directory");
    ck_assert_int_eq(chmod(directory, 0755), 0);
    remove_tree(directory);
}
END_TEST

/* ---- damage ------------------------------------------------------------------------------------------------------ */

enum damage { CUT, FLIP, GROW };

/* Damages all files, uses the library in this process, and expects a build from source with the same results. */
static void damaged(int i, enum damage damage, size_t at, uint64_t hash)
{
    static const char *const names[] = {"cut to", "flipped a bit at", "grown by"};
    char what[96];
    snprintf(what, sizeof what, "cache files %s %zu bytes", names[damage], at);
    for (size_t k = 0; k < file_count; k++) {
        unsigned char *bytes = malloc(files[k].size + at + 1);
        size_t size = files[k].size;
        ck_assert_ptr_nonnull(bytes);
        memset(bytes, 0, size + at + 1);
        memcpy(bytes, files[k].bytes, size);
        if (damage == CUT)
            size = at < size ? at : size - 1;
        else if (damage == FLIP)
            bytes[at < size ? at : size - 1] ^= (unsigned char)(1u << at % 8);
        else
            size += at;
        put_file(files[k].path, bytes, size);
        free(bytes);
    }
    struct outcome out;
    use_library(opencl_device_name(i), &out);
    expect(out.status == CLNORM_OK, "%s: %s: %s", what, clnorm_status_name(out.status), out.error);
    expect_builds(&out, true, what);
    expect(out.hash == hash, "%s: other results", what);
}

static void damage_everywhere(int i, size_t step, size_t header, size_t spread)
{
    const char *directory = new_directory();
    setenv("CLNORM_CACHE", directory, 1);
    struct outcome first = use_once(i, "first"), out;
    size_t count = read_files(directory), largest = 0;
    ck_assert_uint_gt(count, 0);
    for (size_t k = 0; k < count; k++)
        largest = files[k].size > largest ? files[k].size : largest;
    for (size_t at = 0; at < header; at += step) {
        damaged(i, CUT, at, first.hash);
        damaged(i, FLIP, at, first.hash);
    }
    for (size_t k = 1; k <= spread; k++) {
        damaged(i, CUT, largest * k / spread - 1, first.hash);
        damaged(i, FLIP, largest * k / spread - 1, first.hash);
    }
    damaged(i, GROW, 1, first.hash);
    /* The last rebuild has repaired the files and left no others. */
    use_library(opencl_device_name(i), &out);
    expect_builds(&out, false, "after the repair");
    expect(out.hash == first.hash, "other results after the repair");
    expect(read_files(directory) == count, "files were left beside those of the cache");
    remove_tree(directory);
}

START_TEST(damaged_here_and_there)
{
    damage_everywhere(_i, 24, 64, 1);
}
END_TEST

/* Every byte, where a build from source is quick. The check of a file is the library's own, the same on every device; Intel's
 * compiler takes five seconds a build, so there it is every sixteenth. */
START_TEST(damaged_everywhere)
{
    bool slow = strstr(opencl_device_name(_i), "Intel") != NULL;
    damage_everywhere(_i, slow ? 16 : 1, 64, slow ? 2 : 8);
}
END_TEST

/* Files that are not files of the cache at all: of another program's key, a directory in the file's place. */
START_TEST(strange_files)
{
    const char *directory = new_directory();
    setenv("CLNORM_CACHE", directory, 1);
    struct outcome first = use_once(_i, "first");
    size_t count = read_files(directory);
    if (count > 1) { /* each under the name of the next */
        for (size_t k = 0; k < count; k++)
            put_file(files[k].path, files[(k + 1) % count].bytes, files[(k + 1) % count].size);
        struct outcome out = use_once(_i, "files under each other's names");
        expect_builds(&out, true, "files under each other's names");
        expect(out.hash == first.hash, "other results");
    }
    for (size_t k = 0; k < count; k++) {
        ck_assert_int_eq(unlink(files[k].path), 0);
        ck_assert_int_eq(mkdir(files[k].path, 0755), 0);
    }
    struct outcome out = use_once(_i, "directories in the files' places");
    expect_builds(&out, true, "directories in the files' places");
    expect(out.hash == first.hash, "other results");
    expect(read_files(directory) == 0, "files were left beside the directories");
    remove_tree(directory);
}
END_TEST

/* ---- processes --------------------------------------------------------------------------------------------------- */

START_TEST(processes_at_once)
{
    enum { PROCESSES = 3 };
    const char *directory = new_directory();
    setenv("CLNORM_CACHE", directory, 1);
    struct outcome *out = shared_outcomes(PROCESSES);
    pid_t children[PROCESSES];
    for (int k = 0; k < PROCESSES; k++)
        children[k] = start_process(opencl_device_name(_i), &out[k], NULL);
    for (int k = 0; k < PROCESSES; k++) {
        int status = finish_process(children[k]);
        expect(status == 0 && out[k].finished && out[k].status == CLNORM_OK, "process %d: status %d, %s: %s", k, status,
               clnorm_status_name(out[k].status), out[k].error);
        expect(out[k].hash == out[0].hash, "process %d gave something else", k);
    }
    expect(read_files(directory) == programs(&out[0]), "%zu files of %llu programs", file_count,
           (unsigned long long)programs(&out[0]));
    struct outcome after = use_once(_i, "after");
    expect_builds(&after, false, "a process after them");
    expect(after.hash == out[0].hash, "the process after them gave something else");
    munmap(out, PROCESSES * sizeof *out);
    remove_tree(directory);
}
END_TEST

/* ---- writes that fail, by the preloaded shim.c ------------------------------------------------------------------- */

static void fail_writes(void)
{
    setenv("CLNORM_SHIM_WRITE", "fail", 1);
}

static void die_writing(void)
{
    setenv("CLNORM_SHIM_WRITE", "die", 1);
}

/* A full disk: no error, nothing left behind. */
START_TEST(writes_that_fail)
{
    const char *directory = new_directory();
    setenv("CLNORM_CACHE", directory, 1);
    struct outcome *out = shared_outcomes(1);
    int status = finish_process(start_process(opencl_device_name(_i), out, fail_writes));
    expect(status == 0 && out->finished && out->status == CLNORM_OK, "status %d, %s: %s", status,
           clnorm_status_name(out->status), out->error);
    expect_builds(out, true, "on a full disk");
    expect(read_files(directory) == 0, "%s was left, of %zu bytes", files[0].path, files[0].size);
    struct outcome after = use_once(_i, "after");
    expect_builds(&after, true, "after a full disk");
    munmap(out, sizeof *out);
    remove_tree(directory);
}
END_TEST

/* A process that is killed while it writes leaves a part of a file, which nobody takes for a whole one and which is gone once
 * it is old. */
START_TEST(leftovers_go)
{
    const char *directory = new_directory();
    setenv("CLNORM_CACHE", directory, 1);
    struct outcome *out = shared_outcomes(1);
    int status = finish_process(start_process(opencl_device_name(_i), out, die_writing));
    ck_assert_msg(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL,
                  "the process was not killed: %d; is the shim there?", status);
    size_t left = read_files(directory);
    expect(left > 0, "the process was not killed while it wrote");
    for (size_t k = 0; k < left; k++) {
        struct timespec old[2] = {{1000000000, 0}, {1000000000, 0}};
        ck_assert_int_eq(utimensat(AT_FDCWD, files[k].path, old, 0), 0);
    }
    struct outcome after = use_once(_i, "after");
    expect_builds(&after, true, "after");
    expect(read_files(directory) == after.counts.from_source, "%zu files of %llu programs", file_count,
           (unsigned long long)after.counts.from_source);
    munmap(out, sizeof *out);
    remove_tree(directory);
}
END_TEST

int main(void)
{
    const char *part = getenv("CLNORM_TEST_CACHE");
    Suite *suite = suite_create("cache");
    TCase *tcase = add_case(suite, "damage", 900);
    if (part && strcmp(part, "damage") == 0) {
        add_opencl_device_test(tcase, damaged_everywhere);
        return run_suites(&suite, 1);
    }
    if (part && strcmp(part, "faults") == 0) {
        add_opencl_device_test(tcase, writes_that_fail);
        add_opencl_device_test(tcase, leftovers_go);
        return run_suites(&suite, 1);
    }
    add_opencl_device_test(tcase, damaged_here_and_there);
    add_opencl_device_test(tcase, strange_files);
    tcase = add_case(suite, "places", 300);
    add_opencl_device_test(tcase, a_second_process_builds_nothing);
    add_opencl_device_test(tcase, off);
    add_opencl_device_test(tcase, xdg_directories);
    add_opencl_device_test(tcase, unwritable_places);
    add_opencl_device_test(tcase, read_only_directory);
    tcase = add_case(suite, "processes", 300);
    add_opencl_device_test(tcase, processes_at_once);
    return run_suites(&suite, 1);
}
