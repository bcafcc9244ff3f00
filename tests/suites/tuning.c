/* Where a device's launch shape comes from: the environment, a row that was saved, the table; rows and files that are none. */
#include "files.h"
#include "support.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- a device, and what it says ---------------------------------------------------------------------------------- */

/* A device as the list has it: nothing is opened, and the environment is read as for an opening. */
static clnorm_device_info listed(int i)
{
    clnorm_device_info info = CLNORM_DEVICE_INFO_INIT;
    const char *name = opencl_device_name(i);
    uint32_t count = 0;
    ck_assert_int_eq(clnorm_device_list(0, NULL, &count), CLNORM_OK);
    for (uint32_t k = 1; k < count; k++) {
        ck_assert_int_eq(clnorm_device_list(k, &info, &count), CLNORM_OK);
        if (strstr(info.platform, name) || strstr(info.name, name))
            return info;
    }
    ck_abort_msg("no device '%s'", name);
}

/* The same from an open device, which must agree. */
static clnorm_device_info opened(int i)
{
    clnorm_device_info info = CLNORM_DEVICE_INFO_INIT, other = listed(i);
    ck_assert_int_eq(clnorm_device_get_info(open_device(opencl_device_name(i)), &info), CLNORM_OK);
    ck_assert_str_eq(info.tuning, other.tuning);
    ck_assert_str_eq(info.tuning_source, other.tuning_source);
    return info;
}

static bool begins(const char *text, const char *with)
{
    return strncmp(text, with, strlen(with)) == 0;
}

/* Without CLNORM_TUNING, and with a new directory for what is saved. */
static const char *new_home(void)
{
    const char *directory = new_directory();
    unsetenv("CLNORM_TUNING");
    setenv("XDG_DATA_HOME", directory, 1);
    return directory;
}

/* The row with its k-th number (from 1) replaced. */
static const char *with_number(const char *row, int k, const char *number)
{
    char *text = scratch(256);
    const char *p = row + strcspn(row, "0123456789");
    for (int i = 1; i < k; i++) {
        p += strspn(p, "0123456789");
        p += strcspn(p, "0123456789");
    }
    snprintf(text, 256, "%.*s%s%s", (int)(p - row), row, number, p + strspn(p, "0123456789"));
    return text;
}

enum { NUMBERS = 10, FUSED = 9, WAVES = 10 }; /* of a row */

static const char *other_row(const char *row)
{
    return with_number(with_number(row, FUSED, "77"), WAVES, "13");
}

static void expect_row(const clnorm_device_info *info, const char *row, const char *source, const char *what)
{
    expect(!strcmp(info->tuning, row), "%s: the row is '%s', not '%s'", what, info->tuning, row);
    expect(!strcmp(info->tuning_source, source), "%s: the row is from '%s', not '%s'", what, info->tuning_source,
           source);
}

static const char *source_of(const char *format, const char *path)
{
    char *text = scratch(1024);
    snprintf(text, 1024, "%s%s", format, path);
    return text;
}

/* ---- precedence -------------------------------------------------------------------------------------------------- */

START_TEST(a_saved_row_is_taken)
{
    const char *directory = new_home();
    clnorm_device_info table = opened(_i);
    expect_row(&table, table.tuning, "table", "nothing saved");
    const char *row = other_row(table.tuning), *third = with_number(row, WAVES, "14");
    clnorm_device *device = open_device(opencl_device_name(_i));
    ck_assert_int_eq(clnorm_device_save_tuning(device, row), CLNORM_OK);
    expect(read_files(directory) == 1, "%zu files", file_count);
    expect(begins(files[0].path + strlen(directory), "/clnorm/tuning/"), "written to %s", files[0].path);
    clnorm_device_info info = CLNORM_DEVICE_INFO_INIT;
    ck_assert_int_eq(clnorm_device_get_info(device, &info), CLNORM_OK);
    expect_row(&info, table.tuning, "table", "a device that was open");
    info = opened(_i);
    expect_row(&info, row, source_of("tuned, ", files[0].path), "saved");

    setenv("CLNORM_TUNING", third, 1);
    info = opened(_i);
    expect_row(&info, third, "environment", "CLNORM_TUNING");
    setenv("CLNORM_TUNING", "default", 1);
    info = opened(_i);
    expect_row(&info, table.tuning, "table", "CLNORM_TUNING=default");
    setenv("CLNORM_TUNING", "", 1);
    info = opened(_i);
    expect_row(&info, row, source_of("tuned, ", files[0].path), "an empty CLNORM_TUNING");

    ck_assert_int_eq(clnorm_device_save_tuning(device, third), CLNORM_OK);
    expect(read_files(directory) == 1, "%zu files after the second", file_count);
    info = opened(_i);
    expect_row(&info, third, source_of("tuned, ", files[0].path), "saved again");
    for (int k = 0; k < 2; k++) { /* the second time there is nothing to forget */
        ck_assert_int_eq(clnorm_device_save_tuning(device, NULL), CLNORM_OK);
        expect(read_files(directory) == 0, "%s is left", files[0].path);
        info = opened(_i);
        expect_row(&info, table.tuning, "table", "forgotten");
    }
    remove_tree(directory);
}
END_TEST

/* A saved row does what it says: it is in explain, and results stay right. */
START_TEST(a_saved_row_is_in_force)
{
    static const struct shape shape = {CLNORM_NSC, 7, 5, 1, {3, 0, 0}};
    enum { COUNT = 7 * 5 * 3 };
    const char *directory = new_home();
    clnorm_device *device = open_device(opencl_device_name(_i));
    clnorm_device_info info = opened(_i);
    const char *row = with_number(with_number(info.tuning, 4, "2"), 7, "4");
    ck_assert_int_eq(clnorm_device_save_tuning(device, row), CLNORM_OK);
    device = open_device(opencl_device_name(_i));
    clnorm_plan *plan = test_plan(device, &shape, 0);
    const char *explained = clnorm_plan_explain(plan);
    expect(strstr(explained, "vectors of 2, spans of up to 4; launch shape from: tuned, ") != NULL, "the plan has '%s'",
           explained);
    clnorm_memory *memory = test_memory(device, COUNT * sizeof(float));
    float *x = random_floats(1, COUNT, 1, 3), y[COUNT];
    clnorm_forward_args f = CLNORM_FORWARD_ARGS_INIT;
    f.x = f.y = clnorm_memory_buffer(memory);
    ck_assert_int_eq(clnorm_memory_write(memory, 0, x, sizeof y), CLNORM_OK);
    ck_assert_int_eq(clnorm_forward(plan, &f), CLNORM_OK);
    ck_assert_int_eq(clnorm_memory_read(memory, 0, y, sizeof y), CLNORM_OK);
    for (int c = 0; c < 5; c++) { /* normalized: mean 0, mean of squares 1; y has a rounding of 16u of at most 5 */
        double sum = 0, squares = 0;
        for (int k = c; k < COUNT; k += 5) {
            sum += (double)y[k];
            squares += (double)y[k] * (double)y[k];
        }
        expect_near(sum / 21, 0, 5e-6, "mean of y");
        expect_near(squares / 21, 1, 5e-5, "mean of squares of y");
    }
    remove_tree(directory);
}
END_TEST

START_TEST(folders)
{
    const char *directory = new_directory();
    static const struct {
        const char *what, *xdg, *home, *expected;
    } rows[] = {
        {"XDG_DATA_HOME", "/x", "/h", "/x/clnorm/tuning/"}, /* below the directory */
        {"HOME", NULL, "/h", "/h/.local/share/clnorm/tuning/"},
        {"an empty XDG_DATA_HOME", "", "/i", "/i/.local/share/clnorm/tuning/"},
        {"a relative XDG_DATA_HOME, which the XDG standard has ignored", "rel", "/j", "/j/.local/share/clnorm/tuning/"},
    };
    ck_assert_int_eq(chdir(directory), 0);
    clnorm_device *device = open_device(opencl_device_name(_i));
    clnorm_device_info info = listed(_i);
    const char *row = other_row(info.tuning);
    unsetenv("CLNORM_TUNING");
    for (size_t r = 0; r < sizeof rows / sizeof *rows; r++) {
        unsetenv("XDG_DATA_HOME");
        if (rows[r].xdg)
            setenv("XDG_DATA_HOME", rows[r].xdg[0] == '/' ? source_of(directory, rows[r].xdg) : rows[r].xdg, 1);
        setenv("HOME", source_of(directory, rows[r].home), 1);
        expect(clnorm_device_save_tuning(device, row) == CLNORM_OK, "%s: %s", rows[r].what, clnorm_last_error());
        expect(read_files(directory) == 1 && begins(files[0].path + strlen(directory), rows[r].expected),
               "%s: written to %s", rows[r].what, file_count ? files[0].path : "nowhere");
        info = listed(_i);
        expect_row(&info, row, source_of("tuned, ", files[0].path), rows[r].what);
        ck_assert_int_eq(clnorm_device_save_tuning(device, NULL), CLNORM_OK);
    }
    unsetenv("XDG_DATA_HOME");
    unsetenv("HOME");
    expect_error(clnorm_device_save_tuning(device, row), CLNORM_E_FILE, "HOME", NULL, "no folder");
    info = listed(_i);
    expect(!strcmp(info.tuning_source, "table"), "no folder: from %s", info.tuning_source);
    static const char *const places[] = {"/proc", "/dev/null"}; /* where not even root writes */
    for (size_t k = 0; k < 2; k++) {
        setenv("XDG_DATA_HOME", places[k], 1);
        expect_error(clnorm_device_save_tuning(device, row), CLNORM_E_FILE, places[k], NULL, places[k]);
        info = listed(_i);
        expect(!strcmp(info.tuning_source, "table"), "%s: from %s", places[k], info.tuning_source);
    }
    ck_assert_int_eq(chdir(".."), 0);
    remove_tree(directory);
}
END_TEST

/* ---- rows that are none ------------------------------------------------------------------------------------------ */

static void refused(int i, clnorm_device *device, const char *row, const char *number)
{
    char what[400];
    snprintf(what, sizeof what, "save '%s'", row);
    expect_error(clnorm_device_save_tuning(device, row), CLNORM_E_ENUM, "row is", number, what);
    if (row[0]) { /* an empty CLNORM_TUNING is none */
        clnorm_device *none = NULL;
        setenv("CLNORM_TUNING", row, 1);
        expect_error(clnorm_device_open(opencl_device_name(i), &none), CLNORM_E_ENUM, "CLNORM_TUNING", number, what);
        unsetenv("CLNORM_TUNING");
    }
}

START_TEST(wrong_rows)
{
    const char *directory = new_home();
    clnorm_device *device = open_device(opencl_device_name(_i));
    clnorm_device_info info = listed(_i);
    for (int k = 1; k <= NUMBERS; k++) {
        char name[16];
        snprintf(name, sizeof name, "number %d", k);
        static const char *const never[] = {"-1", "x",   "",    "4294967296", "99999999999999999999",
                                            " 4", "4.0", "0x4", "2097152"};
        for (size_t n = 0; n < sizeof never / sizeof *never; n++) {
            const char *row = with_number(info.tuning, k, never[n]);
            refused(_i, device, row, !strcmp(never[n], "4.0") || !strcmp(never[n], "0x4") ? NULL : name);
        }
        if (k != FUSED)
            refused(_i, device, with_number(info.tuning, k, "0"), name);
        if (k != FUSED && k != WAVES)
            refused(_i, device, with_number(info.tuning, k, "3"), name);
    }
    char most[32];
    snprintf(most, sizeof most, "%u", 2 * info.work_group_size);
    refused(_i, device, with_number(info.tuning, 2, most), "number 2");
    refused(_i, device, with_number(info.tuning, 5, most), "number 5");
    refused(_i, device, with_number(info.tuning, 8, most), "number 8");
    refused(_i, device, with_number(with_number(info.tuning, 5, "1"), 6, "2"),
            "number 6"); /* more lanes than work-items */
    refused(_i, device, "", "number 1");
    refused(_i, device, "segments", "number 1");
    refused(_i, device, source_of(info.tuning, " "), "more");
    refused(_i, device, source_of(info.tuning, " more 5"), "more");
    refused(_i, device, source_of(" ", info.tuning), "number 1");
    expect(read_files(directory) == 0, "wrote %s", files[0].path);
    /* What is allowed at the edges. */
    static const struct {
        int number;
        const char *value;
    } right[] = {{1, "16"}, {3, "64"},    {4, "1"},           {7, "64"},
                 {8, "1"},  {FUSED, "0"}, {FUSED, "1048576"}, {WAVES, "1024"}};
    for (size_t k = 0; k < sizeof right / sizeof *right; k++) {
        const char *row = with_number(with_number(with_number(info.tuning, 2, "1"), 5, "1"), 6, "1");
        row = with_number(row, right[k].number, right[k].value);
        expect(clnorm_device_save_tuning(device, row) == CLNORM_OK, "'%s': %s", row, clnorm_last_error());
        clnorm_device_info now = listed(_i);
        expect(!strcmp(now.tuning, row), "the row is '%s', not '%s'", now.tuning, row);
    }
    remove_tree(directory);
}
END_TEST

START_TEST(wrong_calls)
{
    const char *directory = new_home();
    expect_error(clnorm_device_save_tuning(NULL, "x"), CLNORM_E_NULL, "device", NULL, "no device");
    clnorm_device *cpu = open_device("cpu");
    clnorm_device_info info = listed(_i);
    expect_error(clnorm_device_save_tuning(cpu, info.tuning), CLNORM_E_UNSUPPORTED, "device", NULL, "cpu");
    expect_error(clnorm_device_save_tuning(cpu, NULL), CLNORM_E_UNSUPPORTED, "device", NULL, "cpu");
    expect(read_files(directory) == 0, "wrote %s", files[0].path);
    remove_tree(directory);
}
END_TEST

/* ---- files that are damaged, or another device's ----------------------------------------------------------------- */

/* Saves another row than the table's; the entry is files[0] then. */
static const char *saved(int i, const char *directory, clnorm_device_info *table)
{
    *table = listed(i);
    ck_assert_str_eq(table->tuning_source, "table");
    const char *row = other_row(table->tuning);
    ck_assert_int_eq(clnorm_device_save_tuning(open_device(opencl_device_name(i)), row), CLNORM_OK);
    ck_assert_uint_eq(read_files(directory), 1);
    return row;
}

/* The table's row, and the source says which file is passed over and why. */
static void expect_ignored(int i, const clnorm_device_info *table, const char *why, const char *what)
{
    clnorm_device_info info = listed(i);
    const char *begin = source_of("table; ", files[0].path), *rest = info.tuning_source + strlen(begin);
    expect(!strcmp(info.tuning, table->tuning), "%s: the row is '%s'", what, info.tuning);
    expect(begins(info.tuning_source, begin) && begins(rest, " is ignored: ") && strstr(rest, why) &&
               !strchr(rest, '\n'),
           "%s: the row is from '%s'", what, info.tuning_source);
}

START_TEST(cut_off)
{
    clnorm_device_info table;
    const char *directory = new_home();
    saved(_i, directory, &table);
    char what[64];
    for (size_t size = 0; size < files[0].size; size++) {
        put_file(files[0].path, files[0].bytes, size);
        snprintf(what, sizeof what, "%zu of %zu bytes", size, files[0].size);
        expect_ignored(_i, &table, "", what);
    }
    unsigned char *longer = scratch(files[0].size + 4096);
    memset(longer, '\n', files[0].size + 4096);
    memcpy(longer, files[0].bytes, files[0].size);
    put_file(files[0].path, longer, files[0].size + 1);
    expect_ignored(_i, &table, "damaged", "one more line");
    put_file(files[0].path, longer, files[0].size + 4096);
    expect_ignored(_i, &table, "damaged", "many more lines");
    remove_tree(directory);
}
END_TEST

/* A flipped bit leaves a row that the device can hold, or the table's; in what says whose it is, always the table's. */
START_TEST(flipped_bits)
{
    clnorm_device_info table;
    const char *directory = new_home();
    saved(_i, directory, &table);
    const unsigned char *driver = (const unsigned char *)strstr((const char *)files[0].bytes, "\ndriver ");
    ck_assert_ptr_nonnull(driver);
    for (size_t at = 0; at < files[0].size; at++) {
        char what[64];
        unsigned char *bytes = scratch(files[0].size);
        memcpy(bytes, files[0].bytes, files[0].size);
        bytes[at] ^= (unsigned char)(1u << at % 8);
        put_file(files[0].path, bytes, files[0].size);
        snprintf(what, sizeof what, "byte %zu is %u", at, bytes[at]);
        clnorm_device_info info = listed(_i);
        if (files[0].bytes + at <= driver || begins(info.tuning_source, "table"))
            expect_ignored(_i, &table, "", what);
        else
            expect_row(&info, info.tuning, source_of("tuned, ", files[0].path), what);
    }
    remove_tree(directory);
}
END_TEST

/* Replaces a part of the entry's text by another. */
static void replace(const char *part, const char *by)
{
    char *text = scratch(2 * files[0].size + 512), *whole = scratch(files[0].size + 1);
    memcpy(whole, files[0].bytes, files[0].size);
    whole[files[0].size] = '\0';
    const char *at = strstr(whole, part);
    ck_assert_msg(at != NULL, "no '%s' in the entry '%s'", part, whole);
    int size = sprintf(text, "%.*s%s%s", (int)(at - whole), whole, by, at + strlen(part));
    put_file(files[0].path, (const unsigned char *)text, (size_t)size);
}

START_TEST(foreign_entries)
{
    clnorm_device_info table;
    const char *directory = new_home(), *row = saved(_i, directory, &table);
    replace("clnorm-tuning 1", "clnorm-tuning 2");
    expect_ignored(_i, &table, "does not begin as an entry", "another format");
    replace("\ndevice ", "\ndevice another ");
    expect_ignored(_i, &table, "another device's", "another device");
    replace("\nplatform ", "\nplatform another ");
    expect_ignored(_i, &table, "another device's", "another platform");
    replace("\nrow ", "\ncolumn ");
    expect_ignored(_i, &table, "damaged", "no row");
    replace(row, with_number(row, 1, "3"));
    expect_ignored(_i, &table, "number 1, segments w3, must be a power of two up to 16", "no width");
    char most[32];
    snprintf(most, sizeof most, "%u", 2 * table.work_group_size);
    replace(row, with_number(row, 8, most));
    expect_ignored(_i, &table, "on this device", "more than the device can hold");
    replace("\ndriver ", "\ndriver another ");
    clnorm_device_info info = listed(_i);
    expect_row(&info, row, source_of("tuned, ", files[0].path), "another driver");
    ck_assert_int_eq(unlink(files[0].path), 0);
    ck_assert_int_eq(mkdir(files[0].path, 0700), 0);
    expect_ignored(_i, &table, "cannot be read", "a directory");
    clnorm_device *device = open_device(opencl_device_name(_i));
    expect_error(clnorm_device_save_tuning(device, row), CLNORM_E_FILE, files[0].path, NULL, "over a directory");
    expect_error(clnorm_device_save_tuning(device, NULL), CLNORM_E_FILE, files[0].path, NULL, "forget a directory");
    expect(read_files(directory) == 0, "%s is left", files[0].path);
    remove_tree(directory);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("tuning");
    TCase *rows = add_case(suite, "rows", 120);
    add_opencl_device_test(rows, a_saved_row_is_taken);
    add_opencl_device_test(rows, a_saved_row_is_in_force);
    add_opencl_device_test(rows, folders);
    add_opencl_device_test(rows, wrong_rows);
    add_opencl_device_test(rows, wrong_calls);
    TCase *entries = add_case(suite, "entries", 120);
    add_opencl_device_test(entries, cut_off);
    add_opencl_device_test(entries, flipped_bits);
    add_opencl_device_test(entries, foreign_entries);
    return run_suites(&suite, 1);
}
