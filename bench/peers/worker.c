#include "worker.h"

#include "timing.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SAMPLES_A_TURN 2
#define FOLDER_MAX     1024

struct worker {
    const struct worker_contender *contender;
    struct bench_shapes shapes;
    char folder[FOLDER_MAX];
    struct bench_rotation rotation;
    size_t calls[BENCH_MODES]; /* timed in one sample; 0: not chosen yet */
    bool begun;
    enum bench_mode mode; /* of call_contender */
};

/* One line, whatever is in it. */
static void answer(const char *word, const char *sentence)
{
    printf("%s ", word);
    for (const char *s = sentence; *s; s++)
        putchar(*s == '\n' || *s == '\r' ? ' ' : *s);
    putchar('\n');
}

static bool fail(const char *sentence)
{
    answer("error", sentence);
    return false;
}

static bool fail_file(const char *path)
{
    char text[FOLDER_MAX + 256];
    snprintf(text, sizeof text, "%s: %s", path, errno ? strerror(errno) : "it is too short");
    return fail(text);
}

static bool fail_contender(const struct worker *w)
{
    return fail(w->contender->error(w->contender->context));
}

static float *read_inputs(const struct worker *w)
{
    char path[FOLDER_MAX + 16];
    size_t count = bench_input_count(w->shapes.list);
    float *inputs = malloc(count * sizeof *inputs);
    snprintf(path, sizeof path, "%s/inputs", w->folder);
    errno = 0;
    FILE *file = inputs ? fopen(path, "rb") : NULL;
    bool ok = file && fread(inputs, sizeof *inputs, count, file) == count;
    if (!ok) {
        fail_file(path);
        free(inputs);
        inputs = NULL;
    }
    if (file)
        fclose(file);
    return inputs;
}

static bool write_outputs(const struct worker *w, const float *outputs, size_t count)
{
    char path[FOLDER_MAX + 16];
    snprintf(path, sizeof path, "%s/outputs", w->folder);
    errno = 0;
    FILE *file = fopen(path, "wb");
    bool ok = file && fwrite(outputs, sizeof *outputs, count, file) == count;
    if (file)
        ok = fclose(file) == 0 && ok;
    return ok || fail_file(path);
}

static void end_case(struct worker *w)
{
    if (w->begun)
        w->contender->end(w->contender->context);
    bench_shapes_free(&w->shapes);
    memset(&w->shapes, 0, sizeof w->shapes);
    w->begun = false;
}

static bool begin_case(struct worker *w, const char *arguments)
{
    size_t sets;
    char layout[8], shape[128], norm[64], text[256], error[512];
    int folder = 0;
    end_case(w);
    if (sscanf(arguments, "%zu %7s %127s %63s %n", &sets, layout, shape, norm, &folder) != 4 || !folder ||
        strlen(arguments + folder) >= FOLDER_MAX)
        return fail("case takes SETS LAYOUT SHAPE NORM FOLDER");
    snprintf(w->folder, sizeof w->folder, "%s", arguments + folder);
    for (char *comma = strchr(norm, ','); comma; comma = strchr(comma, ','))
        *comma = ' ';
    snprintf(text, sizeof text, "case %s %s %s", layout, shape, norm);
    if (!bench_shapes_parse(&w->shapes, "case", text, error))
        return fail(error);
    float *inputs = read_inputs(w);
    if (!inputs)
        return false;
    w->begun = true;
    if (!w->contender->begin(w->contender->context, w->shapes.list, inputs, &sets))
        return fail_contender(w);
    if (!sets) {
        answer("none", w->contender->error(w->contender->context));
        end_case(w);
        return true;
    }
    w->rotation = (struct bench_rotation){sets, 0};
    memset(w->calls, 0, sizeof w->calls);
    printf("ok %zu\n", sets);
    return true;
}

static bool call_contender(void *context, size_t set)
{
    struct worker *w = context;
    return w->contender->call(w->contender->context, w->mode, set);
}

static bool finish_contender(void *context)
{
    struct worker *w = context;
    return !w->contender->finish || w->contender->finish(w->contender->context);
}

static bool check(struct worker *w)
{
    size_t elements = (size_t)bench_shape_elements(w->shapes.list),
           weights = (size_t)bench_shape_weights(w->shapes.list);
    size_t count = w->mode == BENCH_BACKWARD ? elements + 2 * weights : elements;
    const struct worker_contender *c = w->contender;
    if ((c->reset && !c->reset(c->context)) || (w->mode == BENCH_BACKWARD && !c->call(c->context, BENCH_TRAIN, 0)) ||
        !c->call(c->context, w->mode, 0) || !finish_contender(w))
        return fail_contender(w);
    float *outputs = malloc(count * sizeof *outputs);
    if (!outputs)
        return fail("out of memory");
    bool ok = c->read(c->context, w->mode, outputs) || fail_contender(w);
    ok = ok && write_outputs(w, outputs, count);
    free(outputs);
    if (ok && c->prepare && !c->prepare(c->context, w->mode))
        return fail_contender(w);
    if (ok)
        printf("ok\n");
    return ok;
}

static bool time_calls(struct worker *w)
{
    struct bench_target target = {"contender", w, call_contender, finish_contender, NULL};
    struct bench_samples samples = {0};
    size_t *calls = &w->calls[w->mode];
    bench_samples_clear(&samples);
    bool ok = (*calls || bench_choose_calls(&target, &w->rotation, calls)) &&
              bench_sample(&target, &w->rotation, *calls, SAMPLES_A_TURN, &samples);
    if (ok) {
        printf("ok");
        for (size_t i = 0; i < samples.count; i++)
            printf(" %.9g", samples.seconds[i]);
        printf("\n");
    }
    bench_samples_free(&samples);
    return ok || fail_contender(w);
}

static bool time_limit(struct worker *w)
{
    double seconds;
    const char *name;
    if (!w->contender->limit)
        return fail("this contender has no limit");
    if (!w->contender->limit(w->contender->context, w->mode, &seconds, &name))
        return fail_contender(w);
    printf("ok %.9g %s\n", seconds, name);
    return true;
}

static void serve_line(struct worker *w, const char *line)
{
    static const struct {
        const char *name;
        bool (*function)(struct worker *w);
    } commands[] = {{"check", check}, {"time", time_calls}, {"limit", time_limit}};
    char command[8], mode[12];
    if (!strncmp(line, "case ", 5)) {
        begin_case(w, line + 5);
        return;
    }
    if (sscanf(line, "%7s %11s", command, mode) == 2 && w->begun) {
        for (size_t i = 0; i < sizeof commands / sizeof *commands; i++) {
            for (int m = 0; !strcmp(command, commands[i].name) && m < BENCH_MODES; m++) {
                if (strcmp(mode, bench_mode_name((enum bench_mode)m)) != 0)
                    continue;
                w->mode = (enum bench_mode)m;
                commands[i].function(w);
                return;
            }
        }
    }
    fail("the line is not a command of worker.h, or comes before a case");
}

int worker_serve(const char *label, const struct worker_contender *contender)
{
    struct worker w = {.contender = contender};
    char line[FOLDER_MAX + 256];
    printf("ready %s\n", label);
    fflush(stdout);
    while (fgets(line, sizeof line, stdin)) {
        line[strcspn(line, "\n")] = '\0';
        serve_line(&w, line);
        bench_wait_idle(); /* threads that still spin would slow down whoever is next */
        fflush(stdout);
    }
    end_case(&w);
    return 0;
}
