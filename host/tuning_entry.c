/* The user's own entries: one small text file a device, by platform and name (docs/tuning.md). */
#include "folder.h"
#include "opencl.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

enum { MOST_PATH = 4096, MOST_HEAD = 512, MOST_ENTRY = 1024 };
#define MAGIC "clnorm-tuning 1\n"

/* What an entry begins with: its format and whose it is. */
static void make_head(const clnorm_device_info *info, char head[MOST_HEAD])
{
    char platform[sizeof info->platform], name[sizeof info->name];
    char *texts[] = {platform, name};
    snprintf(platform, sizeof platform, "%s", info->platform);
    snprintf(name, sizeof name, "%s", info->name);
    for (size_t i = 0; i < 2; i++) {
        for (char *p = texts[i]; *p; p++)
            *p = iscntrl((unsigned char)*p) ? ' ' : *p;
    }
    snprintf(head, MOST_HEAD, MAGIC "platform %s\ndevice %s\n", platform, name);
}

/* "portable-computing-language-cpu-….txt": for people a part of both names, and a hash that tells those of equal parts apart. */
static int entry_path(const clnorm_device_info *info, char *folder, char *path, size_t size)
{
    char head[MOST_HEAD], both[sizeof info->platform + sizeof info->name], slug[49];
    size_t n = 0;
    if (!cln_folder_path("XDG_DATA_HOME", ".local/share", folder, MOST_PATH - 16) ||
        strlen(strcat(folder, "/tuning")) + sizeof slug + 24 > size)
        return 0;
    make_head(info, head);
    snprintf(both, sizeof both, "%s %s", info->platform, info->name);
    for (const char *p = both; *p && n < sizeof slug - 1; p++) {
        if (isalnum((unsigned char)*p) && (unsigned char)*p < 0x80)
            slug[n++] = (char)tolower((unsigned char)*p);
        else if (n > 0 && slug[n - 1] != '-')
            slug[n++] = '-';
    }
    slug[n] = '\0';
    int length =
        snprintf(path, size, "%s/%s-%016llx.txt", folder, slug, (unsigned long long)XXH3_64bits(head, strlen(head)));
    return length > 0 && (size_t)length < size;
}

/* The row of an entry's text, which is changed. */
static int read_text(char *text, const clnorm_device_info *info, struct cln_tuning *tuning, char why[CLN_TUNING_WHY])
{
    char head[MOST_HEAD];
    make_head(info, head);
    if (strncmp(text, MAGIC, strlen(MAGIC)) != 0) {
        snprintf(why, CLN_TUNING_WHY, "it does not begin as an entry does");
        return 0;
    }
    if (strncmp(text, head, strlen(head)) != 0) {
        snprintf(why, CLN_TUNING_WHY, "it is another device's");
        return 0;
    }
    char *driver = text + strlen(head), *row = strchr(driver, '\n'), *end = row ? strchr(row + 1, '\n') : NULL;
    if (strncmp(driver, "driver ", 7) != 0 || !end || strncmp(row, "\nrow ", 5) != 0 || end[1]) {
        snprintf(why, CLN_TUNING_WHY, "it is cut off or damaged");
        return 0;
    }
    *end = '\0';
    return cln_tuning_parse(row + 5, info, tuning, why);
}

enum cln_entry cln_entry_read(const clnorm_device_info *info, struct cln_tuning *tuning, char *path, size_t size,
                              char why[CLN_TUNING_WHY])
{
    char folder[MOST_PATH], text[MOST_ENTRY];
    path[0] = '\0';
    if (!entry_path(info, folder, path, size)) {
        path[0] = '\0';
        return CLN_ENTRY_NONE;
    }
    FILE *file = fopen(path, "rb");
    if (!file && (errno == ENOENT || errno == ENOTDIR))
        return CLN_ENTRY_NONE;
    errno = file ? 0 : errno;
    size_t length = file ? fread(text, 1, sizeof text - 1, file) : 0;
    int failed = !file || ferror(file);
    if (failed)
        snprintf(why, CLN_TUNING_WHY, "it cannot be read: %s", strerror(errno));
    if (file)
        fclose(file);
    if (failed)
        return CLN_ENTRY_BAD;
    text[length] = '\0';
    return read_text(text, info, tuning, why) ? CLN_ENTRY_READ : CLN_ENTRY_BAD;
}

/* Beside the target and renamed: other processes see a whole entry or none. 0: errno says why. */
static int write_entry(const clnorm_device_info *info, const char *row, const char *path)
{
    char head[MOST_HEAD], temporary[MOST_PATH + 16];
    make_head(info, head);
    snprintf(temporary, sizeof temporary, "%s.XXXXXX", path);
    int fd = mkstemp(temporary);
    FILE *file = fd < 0 ? NULL : fdopen(fd, "wb");
    if (!file) {
        int saved = errno;
        if (fd >= 0) {
            close(fd);
            unlink(temporary);
        }
        errno = saved;
        return 0;
    }
    int ok = fprintf(file, "%sdriver ", head) > 0;
    for (const char *p = info->driver; *p; p++)
        ok = fputc(iscntrl((unsigned char)*p) ? ' ' : *p, file) != EOF && ok;
    ok = fprintf(file, "\nrow %s\n", row) > 0 && ok;
    ok = fclose(file) == 0 && ok && rename(temporary, path) == 0;
    if (!ok) {
        int saved = errno;
        unlink(temporary);
        errno = saved;
    }
    return ok;
}

clnorm_status cln_entry_save(const clnorm_device *device, const char *row)
{
    const char *who = "clnorm_device_save_tuning";
    char folder[MOST_PATH], path[MOST_PATH], why[CLN_TUNING_WHY];
    struct cln_tuning tuning = {0};
    if (row && !cln_tuning_parse(row, &device->info, &tuning, why))
        return cln_fail(CLNORM_E_ENUM, "%s: row is \"%.200s\" but must be in the form of info.tuning: %s", who, row,
                        why);
    if (!entry_path(&device->info, folder, path, sizeof path))
        return cln_fail(
            CLNORM_E_FILE,
            "%s: the environment names no folder for entries: XDG_DATA_HOME or HOME must be an absolute path", who);
    if (!row)
        return unlink(path) == 0 || errno == ENOENT || errno == ENOTDIR
                   ? CLNORM_OK
                   : cln_fail(CLNORM_E_FILE, "%s: %s cannot be removed: %s", who, path, strerror(errno));
    if (!cln_folder_make(folder) || !write_entry(&device->info, row, path))
        return cln_fail(CLNORM_E_FILE, "%s: %s cannot be written: %s", who, path, strerror(errno));
    return CLNORM_OK;
}
