#include "output.h"

#include "cli.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* A directory as a path and a mark at the end of each part of it that had to be made. */
struct directory {
    char *path;
    bool *made;
};

/* Calls mkdir for each part in turn. true: all are there now. */
static bool directory_make(struct directory *d, const char *path)
{
    size_t length = strlen(path);
    struct stat s;
    bool ok = true;
    d->path = strdup(path);
    d->made = calloc(length + 1, sizeof *d->made);
    if (!d->path || !d->made)
        return false;
    for (size_t i = 1; ok && i <= length; i++) {
        if (path[i] != '/' && path[i] != '\0')
            continue;
        d->path[i] = '\0';
        d->made[i] = mkdir(d->path, 0777) == 0;
        ok = d->made[i] || errno == EEXIST;
        d->path[i] = path[i];
    }
    if (ok && (length == 0 || stat(path, &s) != 0 || !S_ISDIR(s.st_mode))) {
        errno = length ? ENOTDIR : ENOENT;
        ok = false;
    }
    return ok;
}

static void directory_remove_made(struct directory *d)
{
    if (!d->path || !d->made)
        return;
    for (size_t i = strlen(d->path); i > 0; i--) {
        if (d->made[i]) {
            d->path[i] = '\0';
            rmdir(d->path);
        }
    }
}

static char *file_path(const char *directory, const char *name)
{
    size_t size = strlen(directory) + strlen(name) + sizeof "/.npy";
    char *path = malloc(size);
    if (path)
        snprintf(path, size, "%s/%s.npy", directory, name);
    return path;
}

/* Writes one array beside its target. */
static bool stage(struct cli_file *file, const char *path, const struct output_array *a)
{
    struct stat s;
    if (stat(path, &s) == 0 && S_ISDIR(s.st_mode)) { /* found out now, for renaming is too late */
        errno = EISDIR;
        return false;
    }
    if (!cli_file_begin(file, path))
        return false;
    return npy_write(file->stream, a->array->type, a->array->dims, a->array->shape, a->array->data) &&
           fflush(file->stream) == 0;
}

bool output_write(const char *directory, const struct output_array *arrays, size_t count, char *message,
                  size_t message_size)
{
    struct directory d = {NULL, NULL};
    struct cli_file *files = calloc(count, sizeof *files);
    char **paths = calloc(count, sizeof *paths);
    size_t committed = 0;
    bool ok = files && paths;
    if (!ok)
        snprintf(message, message_size, "%.400s: %s", directory, strerror(errno));
    if (ok && !directory_make(&d, directory)) {
        snprintf(message, message_size, "%.400s: the directory cannot be made: %s", directory, strerror(errno));
        ok = false;
    }
    for (size_t i = 0; ok && i < count; i++) {
        paths[i] = file_path(directory, arrays[i].name);
        ok = paths[i] && stage(&files[i], paths[i], &arrays[i]);
        if (!ok)
            snprintf(message, message_size, "%.400s: it cannot be written: %s", paths[i] ? paths[i] : directory,
                     strerror(errno));
    }
    for (; ok && committed < count; committed++) {
        ok = cli_file_commit(&files[committed]);
        if (!ok) {
            snprintf(message, message_size, "%.400s: it cannot be written: %s", paths[committed], strerror(errno));
            break;
        }
    }
    if (!ok) {
        for (size_t i = 0; i < committed; i++)
            unlink(paths[i]);
        for (size_t i = committed; files && i < count; i++)
            cli_file_abandon(&files[i]);
        directory_remove_made(&d);
    }
    for (size_t i = 0; paths && i < count; i++)
        free(paths[i]);
    free(paths);
    free(files);
    free(d.path);
    free(d.made);
    return ok;
}
