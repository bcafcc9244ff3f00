/* Directories and files of a test, for what the library keeps on disk. */
#ifndef CLNORM_SUITES_FILES_H
#define CLNORM_SUITES_FILES_H

#include <stddef.h>

struct file {
    char path[512];
    unsigned char *bytes;
    size_t size;
};
enum { MAX_FILES = 64 };
/* What read_files has found last. */
extern struct file files[MAX_FILES];
extern size_t file_count;

/* Reads every file below the directory into `files`; returns how many there are. */
size_t read_files(const char *directory);
void put_file(const char *path, const unsigned char *bytes, size_t size);
/* A fresh directory below the working directory. */
const char *new_directory(void);
void remove_tree(const char *directory);

#endif
