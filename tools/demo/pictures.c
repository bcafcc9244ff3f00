/* The pictures. Their gnuplot scripts are left in the folder too, so that anyone can draw them again. */
#include "output.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

extern const char demo_histograms_gp[]; /* histograms.gp */
extern const char demo_loss_gp[];       /* loss.gp */

/* Under these names a script draws, before the pictures get their own. */
#define SUFFIX ".new"

static const char *const pictures[] = {"histograms-before.svg",
                                       "histograms-before.png",
                                       "histograms-after.svg",
                                       "histograms-after.png",
                                       "loss.svg",
                                       "loss.png"};
enum { PICTURES = sizeof pictures / sizeof pictures[0] };

/* Runs gnuplot in a folder (NULL: this one). -> its exit code, 127 if there is none, -1 with errno if it could not be
 * started; text: the beginning of what it said. */
static int run_gnuplot(const char *directory, const char *const arguments[], char *text, size_t size)
{
    int ends[2];
    text[0] = '\0';
    if (pipe(ends) != 0)
        return -1;
    pid_t child = fork();
    if (child == 0) {
        int null = open("/dev/null", O_RDONLY);
        if (null >= 0 && dup2(null, STDIN_FILENO) >= 0 && dup2(ends[1], STDOUT_FILENO) >= 0 &&
            dup2(ends[1], STDERR_FILENO) >= 0 && close(ends[0]) == 0 && (!directory || chdir(directory) == 0))
            execvp("gnuplot", (char *const *)(uintptr_t)arguments); /* which does not write them */
        _exit(127);
    }
    int saved = errno;
    close(ends[1]);
    size_t length = 0;
    char rest[512];
    for (ssize_t n = 1; child > 0 && (n > 0 || errno == EINTR);) {
        n = read(ends[0], rest, sizeof rest);
        for (ssize_t i = 0; i < n && length + 1 < size; i++)
            text[length++] = rest[i];
        if (n == 0)
            break;
    }
    text[length] = '\0';
    close(ends[0]);
    errno = saved;
    int status;
    if (child < 0 || waitpid(child, &status, 0) < 0)
        return -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128;
}

bool pictures_possible(const struct cli_command *command)
{
    const char *const arguments[] = {"gnuplot", "--version", NULL};
    char text[256];
    if (run_gnuplot(NULL, arguments, text, sizeof text) == 0)
        return true;
    cli_error(command, "gnuplot cannot be run: it draws the pictures, so it must be installed (Debian: gnuplot-nox)");
    return false;
}

static void write_head(FILE *stream, const struct output *o)
{
    fprintf(stream,
            "# Draw the pictures again, in this folder: gnuplot histograms.gp loss.gp\nsubject = '%s'\nseeds = %zu\n",
            o->subject, o->experiment->seeds);
}

static void write_histograms_script(FILE *stream, const struct output *o)
{
    write_head(stream, o);
    fputs(demo_histograms_gp, stream);
}

static void write_loss_script(FILE *stream, const struct output *o)
{
    write_head(stream, o);
    fputs(demo_loss_gp, stream);
}

/* Gives the drawn pictures their names, or removes them. */
static bool rename_pictures(const struct output *o, bool keep)
{
    bool ok = true;
    for (size_t i = 0; i < PICTURES; i++) {
        char *from = output_path(o, pictures[i], SUFFIX), *to = output_path(o, pictures[i], "");
        if (!from || !to) {
            ok = false;
        } else if (!keep || !ok) {
            unlink(from);
        } else if (rename(from, to) != 0) {
            ok = false;
            cli_error(o->command, "%s cannot be written in %s: %s", pictures[i], o->directory, strerror(errno));
        }
        free(from);
        free(to);
    }
    return ok;
}

bool output_pictures(const struct output *o)
{
    if (!output_file(o, "histograms.gp", write_histograms_script) || !output_file(o, "loss.gp", write_loss_script))
        return false;
    char setting[32];
    snprintf(setting, sizeof setting, "suffix = '%s'", SUFFIX);
    const char *const arguments[] = {"gnuplot", "-e", setting, "histograms.gp", "loss.gp", NULL};
    char text[1024];
    int code = run_gnuplot(o->directory, arguments, text, sizeof text);
    if (code != 0)
        cli_error(o->command, "gnuplot failed with exit code %d: %s", code, text);
    return rename_pictures(o, code == 0) && code == 0;
}
