#include "cli.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void print_help(const struct cli_command *self, const struct poptOption *options)
{
    printf("usage: clnorm %s [options]\n%s\n\noptions:\n", self->name, self->summary);
    for (const struct poptOption *o = options; o->longName; o++) {
        char left[64];
        snprintf(left, sizeof left, "--%s%s%s", o->longName, o->argDescrip ? " " : "",
                 o->argDescrip ? o->argDescrip : "");
        printf("  %-28s %s\n", left, o->descrip ? o->descrip : "");
    }
    printf("  %-28s %s\n\nexample:\n  %s\n", "--help", "show this text", self->example);
}

bool cli_parse(const struct cli_command *self, struct poptOption *options, int argc, const char **argv, int *exit_code)
{
    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h")) {
            print_help(self, options);
            *exit_code = CLI_OK;
            return false;
        }
    }
    poptContext context = poptGetContext(NULL, argc, argv, options, 0);
    int rc;
    while ((rc = poptGetNextOpt(context)) > 0)
        ;
    bool ok = rc == -1;
    const char *bad = ok ? NULL : poptBadOption(context, POPT_BADOPTION_NOALIAS), *named = bad;
    for (int i = 2; bad && bad[0] != '-' && i < argc; i++) { /* a bad number: popt names the value alone */
        if (!strcmp(argv[i], bad) && argv[i - 1][0] == '-')
            named = argv[i - 1];
    }
    if (!ok && named != bad) {
        *exit_code = cli_error(self, "%s is \"%s\" but must be a number in range: %s (try clnorm %s --help)", named,
                               bad, poptStrerror(rc), self->name);
    } else if (!ok) {
        *exit_code = cli_error(self, "%s: %s (try clnorm %s --help)", bad, poptStrerror(rc), self->name);
    } else if (poptPeekArg(context)) {
        *exit_code =
            cli_error(self, "%s: no such operand is taken (try clnorm %s --help)", poptPeekArg(context), self->name);
        ok = false;
    }
    poptFreeContext(context);
    return ok;
}

int cli_error(const struct cli_command *self, const char *format, ...)
{
    char text[2048];
    va_list list;
    va_start(list, format);
    vsnprintf(text, sizeof text, format, list);
    va_end(list);
    for (char *p = text; *p; p++) {
        if (*p == '\n' || *p == '\r')
            *p = ' ';
    }
    fprintf(stderr, "clnorm %s: %s\n", self->name, text);
    return CLI_USAGE;
}

int cli_status(const struct cli_command *self, clnorm_status status, const char *what)
{
    const char *sentence = clnorm_last_error();
    cli_error(self, "%s: %s (%s)", what, sentence[0] ? sentence : clnorm_status_text(status),
              clnorm_status_name(status));
    return status < CLNORM_E_DEVICE_FAILED ? CLI_USAGE : CLI_FAILED;
}

bool cli_file_begin(struct cli_file *file, const char *path)
{
    size_t length = strlen(path);
    memset(file, 0, sizeof *file);
    file->path = malloc(length + 1);
    file->temporary = malloc(length + 12);
    int fd = -1;
    if (file->path && file->temporary) {
        memcpy(file->path, path, length + 1);
        snprintf(file->temporary, length + 12, "%s.XXXXXX", path);
        fd = mkstemp(file->temporary);
    }
    if (fd < 0) {
        int saved = errno;
        free(file->path);
        free(file->temporary);
        memset(file, 0, sizeof *file);
        errno = saved;
        return false;
    }
    mode_t mask = umask(0);
    umask(mask);
    file->stream = fchmod(fd, 0666 & ~mask) == 0 ? fdopen(fd, "wb") : NULL;
    if (!file->stream) {
        int saved = errno;
        close(fd);
        cli_file_abandon(file);
        errno = saved;
        return false;
    }
    return true;
}

bool cli_file_commit(struct cli_file *file)
{
    bool ok = !ferror(file->stream) && fflush(file->stream) == 0;
    int saved = errno;
    if (fclose(file->stream) != 0 && ok) {
        ok = false;
        saved = errno;
    }
    file->stream = NULL;
    if (ok && rename(file->temporary, file->path) != 0) {
        ok = false;
        saved = errno;
    }
    if (ok)
        file->temporary[0] = '\0';
    cli_file_abandon(file);
    errno = saved;
    return ok;
}

void cli_file_abandon(struct cli_file *file)
{
    if (file->stream)
        fclose(file->stream);
    if (file->temporary && file->temporary[0])
        unlink(file->temporary);
    free(file->path);
    free(file->temporary);
    memset(file, 0, sizeof *file);
}

bool cli_make_directory(const char *path)
{
    char *copy = strdup(path);
    if (!copy)
        return false;
    bool ok = true;
    for (char *p = copy + 1; ok && *p; p++) {
        if (*p == '/') {
            *p = '\0';
            ok = mkdir(copy, 0777) == 0 || errno == EEXIST;
            *p = '/';
        }
    }
    struct stat s;
    ok = ok && (mkdir(copy, 0777) == 0 || errno == EEXIST);
    if (ok && (stat(copy, &s) != 0 || !S_ISDIR(s.st_mode))) {
        errno = ENOTDIR;
        ok = false;
    }
    free(copy);
    return ok;
}
