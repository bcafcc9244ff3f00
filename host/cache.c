#include "cache.h"

#include "folder.h"
#include "opencl.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

/* A file: this header, then the binary. */
struct header {
    char magic[8];
    unsigned char key[16];
    uint64_t size;         /* of the binary */
    unsigned char sum[16]; /* XXH3-128 of the binary */
};
static const char magic[8] = "clnorm1";

enum { STALE_SECONDS = 3600 };
#define TEMPORARY ".tmp."

void cln_blob_free(struct cln_blob *blob)
{
    free(blob->bytes);
    *blob = (struct cln_blob){0};
}

static void put_hash(XXH128_hash_t hash, unsigned char out[16])
{
    XXH128_canonical_t canonical;
    XXH128_canonicalFromHash(&canonical, hash);
    memcpy(out, canonical.digest, 16);
}

struct cln_cache_key cln_cache_key_make(const char *options, const clnorm_device_info *info)
{
    const char *parts[] = {magic,         clnorm_kernels_source, options,       info->name,
                           info->version, info->driver,          info->platform};
    struct cln_cache_key key = {{0}};
    /* Chained, each part's hash seeded with that of the parts before: no state to allocate. */
    XXH128_hash_t hash = {0, 0};
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        XXH128_hash_t part = XXH3_128bits_withSeed(parts[i], strlen(parts[i]), hash.low64 ^ i);
        XXH64_hash_t both[4] = {hash.low64, hash.high64, part.low64, part.high64};
        hash = XXH3_128bits(both, sizeof both);
    }
    put_hash(hash, key.bytes);
    return key;
}

/* The cache's directory, made if need be. 0: there is none. */
static int directory(char *path, size_t size)
{
    const char *named = getenv("CLNORM_CACHE");
    if (named && !strcmp(named, "off"))
        return 0;
    if (named && *named) {
        int length = snprintf(path, size, "%s", named);
        return length > 0 && (size_t)length < size && cln_folder_make(path);
    }
    return cln_folder_path("XDG_CACHE_HOME", ".cache", path, size) && cln_folder_make(path);
}

static int file_name(const struct cln_cache_key *key, char *path, size_t size, char *folder, size_t folder_size)
{
    char hex[33];
    if (!directory(folder, folder_size))
        return 0;
    for (int i = 0; i < 16; i++)
        snprintf(hex + 2 * i, 3, "%02x", key->bytes[i]);
    int length = snprintf(path, size, "%s/%s.bin", folder, hex);
    return length > 0 && (size_t)length < size;
}

static int read_checked(FILE *file, const struct cln_cache_key *key, struct cln_blob *blob)
{
    struct header head;
    struct stat s;
    if (fread(&head, sizeof head, 1, file) != 1 || memcmp(head.magic, magic, sizeof magic) != 0 ||
        memcmp(head.key, key->bytes, sizeof head.key) != 0 || fstat(fileno(file), &s) != 0 || head.size == 0 ||
        s.st_size < 0 || head.size != (uint64_t)s.st_size - sizeof head)
        return 0;
    blob->size = (size_t)head.size;
    blob->bytes = malloc(blob->size);
    if (!blob->bytes || fread(blob->bytes, blob->size, 1, file) != 1)
        return 0;
    unsigned char sum[16];
    put_hash(XXH3_128bits(blob->bytes, blob->size), sum);
    return memcmp(sum, head.sum, sizeof sum) == 0;
}

int cln_cache_read(const struct cln_cache_key *key, struct cln_blob *blob)
{
    char path[4096 + 64], folder[4096];
    if (!file_name(key, path, sizeof path, folder, sizeof folder))
        return 0;
    FILE *file = fopen(path, "rb");
    if (!file)
        return 0;
    int ok = read_checked(file, key, blob);
    fclose(file);
    if (!ok)
        cln_blob_free(blob);
    return ok;
}

/* What a killed process left behind. */
static void remove_stale(const char *folder)
{
    DIR *dir = opendir(folder);
    if (!dir)
        return;
    const struct dirent *entry;
    time_t now = time(NULL);
    while ((entry = readdir(dir))) {
        char path[4096 + 512];
        struct stat s;
        if (strstr(entry->d_name, TEMPORARY) && snprintf(path, sizeof path, "%s/%s", folder, entry->d_name) > 0 &&
            stat(path, &s) == 0 && now - s.st_mtime > STALE_SECONDS)
            unlink(path);
    }
    closedir(dir);
}

void cln_cache_write(const struct cln_cache_key *key, const struct cln_blob *blob)
{
    char path[4096 + 64], temporary[4096 + 128], folder[4096];
    if (!file_name(key, path, sizeof path, folder, sizeof folder))
        return;
    remove_stale(folder);
    snprintf(temporary, sizeof temporary, "%s" TEMPORARY "XXXXXX", path);
    int fd = mkstemp(temporary);
    if (fd < 0)
        return;
    FILE *file = fdopen(fd, "wb");
    if (!file) {
        close(fd);
        unlink(temporary);
        return;
    }
    struct header head = {.size = blob->size};
    memcpy(head.magic, magic, sizeof magic);
    memcpy(head.key, key->bytes, sizeof head.key);
    put_hash(XXH3_128bits(blob->bytes, blob->size), head.sum);
    int ok = fwrite(&head, sizeof head, 1, file) == 1 && fwrite(blob->bytes, blob->size, 1, file) == 1;
    ok = fclose(file) == 0 && ok;
    if (!ok || rename(temporary, path) != 0)
        unlink(temporary);
}
