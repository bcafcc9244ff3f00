#define _GNU_SOURCE /* nftw */
#include "files.h"

#include "support.h"

#include <errno.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct file files[MAX_FILES];
size_t file_count;

void put_file(const char *path, const unsigned char *bytes, size_t size)
{
    FILE *stream = fopen(path, "wb");
    ck_assert_msg(stream != NULL, "%s: %s", path, strerror(errno));
    ck_assert_uint_eq(fwrite(bytes, 1, size, stream), size);
    ck_assert_int_eq(fclose(stream), 0);
}

static int visit_file(const char *path, const struct stat *info, int type, struct FTW *walk)
{
    (void)walk;
    if (type != FTW_F)
        return 0;
    ck_assert_uint_lt(file_count, MAX_FILES);
    struct file *file = &files[file_count++];
    snprintf(file->path, sizeof file->path, "%s", path);
    file->size = (size_t)info->st_size;
    file->bytes = scratch(file->size);
    FILE *stream = fopen(path, "rb");
    ck_assert_ptr_nonnull(stream);
    ck_assert_uint_eq(fread(file->bytes, 1, file->size, stream), file->size);
    fclose(stream);
    return 0;
}

size_t read_files(const char *directory)
{
    file_count = 0;
    nftw(directory, visit_file, 16, FTW_PHYS);
    return file_count;
}

static int remove_entry(const char *path, const struct stat *info, int type, struct FTW *walk)
{
    (void)info;
    (void)type;
    (void)walk;
    return remove(path);
}

void remove_tree(const char *directory)
{
    nftw(directory, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

const char *new_directory(void)
{
    char *path = scratch(512);
    ck_assert_ptr_nonnull(getcwd(path, 400));
    strcat(path, "/files-test-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(path));
    return path;
}
