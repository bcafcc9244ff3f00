/* report.html: the template filled in, with the pictures inside, so that the page stands alone. */
#include "network.h"
#include "output.h"
#include "template.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

extern const char demo_report_html[]; /* report.html */

enum { MAX_VALUES = 64 };

/* The values of the template, made one after the other; each text is on the heap. */
struct values {
    struct template_value list[MAX_VALUES];
    size_t count;
    bool failed; /* out of memory */
};

static void add_text(struct values *v, const char *name, char *text)
{
    v->failed = v->failed || !text || v->count == MAX_VALUES;
    if (v->failed) {
        free(text);
        return;
    }
    v->list[v->count].name = name;
    v->list[v->count++].text = text;
}

static void add(struct values *v, const char *name, const char *format, ...) __attribute__((format(printf, 3, 4)));
static void add(struct values *v, const char *name, const char *format, ...)
{
    char text[1024];
    va_list list;
    va_start(list, format);
    vsnprintf(text, sizeof text, format, list);
    va_end(list);
    add_text(v, name, strdup(text));
}

static void values_free(struct values *v)
{
    for (size_t i = 0; i < v->count; i++)
        free((char *)(uintptr_t)v->list[i].text);
}

/* The <svg> element of a picture, without what only a file of its own may have: the XML head, and the ids that gnuplot gives in
 * every picture, to its canvas and to symbols of points (the demo's pictures have none). */
static void copy_svg(FILE *from, FILE *to)
{
    bool inside = false, symbols = false;
    char line[4096];
    while (fgets(line, sizeof line, from)) {
        inside = inside || !strncmp(line, "<svg", 4);
        symbols = symbols || !strncmp(line, "<defs>", 6);
        if (!strcmp(line, "<g id=\"gnuplot_canvas\">\n"))
            fputs("<g>\n", to);
        else if (inside && !symbols)
            fputs(line, to);
        symbols = symbols && strncmp(line, "</defs>", 7) != 0;
    }
}

static void add_svg(struct values *v, const struct output *o, const char *name, const char *file)
{
    char *path = output_path(o, file, ""), *text = NULL;
    size_t size = 0;
    FILE *from = path ? fopen(path, "rb") : NULL, *to = from ? open_memstream(&text, &size) : NULL;
    if (to) {
        copy_svg(from, to);
        fclose(to);
    }
    if (from)
        fclose(from);
    free(path);
    add_text(v, name, text);
}

static double mean_seconds(const struct experiment *e, bool batch_norm)
{
    double sum = 0;
    for (size_t seed = 0; seed < e->seeds; seed++)
        sum += e->trainings[seed][batch_norm].seconds;
    return sum / (double)e->seeds;
}

static void add_losses(struct values *v, const struct experiment *e)
{
    for (int norm = 0; norm < 2; norm++) {
        double first = experiment_loss(e, norm, 0), last = experiment_loss(e, norm, TRAINING_STEPS - 1);
        add(v, norm ? "loss_with_first" : "loss_without_first", "%.3f", first);
        add(v, norm ? "loss_with_last" : "loss_without_last", "%.3f", last);
        add(v, norm ? "seconds_with" : "seconds_without", "%.1f s", mean_seconds(e, norm));
    }
}

static void add_accuracies(struct values *v, const struct output *o)
{
    const struct experiment *e = o->experiment;
    double samples = (double)o->data->held_out.count;
    if (samples == 0) {
        add(v, "held_out", "%s", "");
        add(v, "accuracy_with", "%s", "");
        add(v, "accuracy_without", "%s", "");
        add(v, "accuracy_rows", "%s", "");
        return;
    }
    add(v, "held_out", "%zu", o->data->held_out.count);
    double with = experiment_accuracy(e, o->data, true), without = experiment_accuracy(e, o->data, false);
    add(v, "accuracy_with", "%.3f", with);
    add(v, "accuracy_without", "%.3f", without);
    char *text = NULL;
    size_t size = 0;
    FILE *to = open_memstream(&text, &size);
    if (to) {
        for (size_t seed = 0; seed < e->seeds; seed++) {
            const struct training *t = e->trainings[seed];
            fprintf(to, "<tr><td>%zu</td><td>%.4f</td><td>%.4f</td><td>%.1f</td><td>%.1f</td></tr>\n", seed,
                    (double)t[1].correct / samples, (double)t[0].correct / samples, t[1].seconds, t[0].seconds);
        }
        fprintf(to, "<tr class=\"sum\"><td>mean</td><td>%.4f</td><td>%.4f</td><td>%.1f</td><td>%.1f</td></tr>\n", with,
                without, mean_seconds(e, true), mean_seconds(e, false));
        fclose(to);
    }
    add_text(v, "accuracy_rows", text);
}

/* No "-0.000" in a table of three decimals. */
static double tidy(double value)
{
    return value > -0.0005 && value < 0.0005 ? 0 : value;
}

/* Mean and deviation of the first layer before each epoch, a row a network; and what lies outside of the histogram. */
static void add_observations(struct values *v, const struct output *o, int stage)
{
    const struct training *trainings = o->experiment->trainings[0];
    char *text = NULL;
    size_t size = 0;
    double outside = 0;
    FILE *to = open_memstream(&text, &size);
    for (int norm = 0; to && norm < 2; norm++) {
        fprintf(to, "<tr><td class=\"%s\">%s batch norm</td>", norm ? "with" : "without", norm ? "with" : "without");
        for (int epoch = 0; epoch < TRAINING_EPOCHS; epoch++) {
            const struct observation *at = &trainings[norm].observations[epoch][stage];
            double values = (double)observation_values(at);
            double share = (at->counts[HISTOGRAM_BELOW] + at->counts[HISTOGRAM_ABOVE]) / values;
            outside = share > outside ? share : outside;
            fprintf(to, "<td>%.3f ± %.3f</td>", tidy(at->mean), at->standard_deviation);
        }
        fprintf(to, "</tr>\n");
    }
    if (to)
        fclose(to);
    for (int norm = 0; norm < 2 && stage == BEFORE_ACTIVATION; norm++) {
        const struct observation *first = &trainings[norm].observations[0][stage];
        const struct observation *last = &trainings[norm].observations[TRAINING_EPOCHS - 1][stage];
        add(v, norm ? "shift_with" : "shift_without", "%.2g and %.2g", fabs((double)last->mean - first->mean),
            fabs((double)last->standard_deviation - first->standard_deviation));
    }
    add_text(v, stage == BEFORE_ACTIVATION ? "moments_before" : "moments_after", text);
    const char *name = stage == BEFORE_ACTIVATION ? "outside_before" : "outside_after";
    if (outside > 0)
        add(v, name, "at most %.2g %% of a panel’s values", 100 * outside);
    else
        add(v, name, "no value at all");
}

static void add_facts(struct values *v, const struct output *o)
{
    const struct experiment *e = o->experiment;
    const bool digits = o->data->held_out.count > 0, host = o->device->kind == CLNORM_CLASS_HOST;
    add(v, "inputs", "%zu", o->data->inputs);
    add(v, "training", "%zu", o->data->training.count);
    add(v, "steps", "%d", (int)TRAINING_STEPS);
    add(v, "observed", "%d", (int)TRAINING_OBSERVED);
    add(v, "values", "%d", TRAINING_OBSERVED * NETWORK_WIDTH);
    add(v, "subject", "%s", o->subject);
    if (e->seeds > 1)
        add(v, "mean_of_seeds", ", mean of %zu seeds", e->seeds);
    else
        add(v, "mean_of_seeds", "%s", "");
    add(v, "trainings", "%zu", 2 * e->seeds);
    add(v, "seconds", "%.0f s", o->seconds);
    if (host)
        add(v, "warm_up", "%s", "");
    else
        add(v, "warm_up", "%.1f s", e->warm_up_seconds);
    add(v, "command", "clnorm demo covariate-shift --data %s --device %s --seeds %zu --out DIR",
        digits ? "digits" : "random", o->device->id, e->seeds);
    add(v, "device", "%s", o->device->name);
    add(v, "device_id", "%s", o->device->id);
    add(v, "platform", "%s, %s", o->device->platform, o->device->version);
    add(v, "driver", "%s", o->device->driver);
    add(v, "fallback", "%s", o->device->fallback);
    add(v, "version", "%s", clnorm_version());
    add(v, "linear", "%s", o->linear);
    add(v, "own", "%s", host ? "plain loops" : "OpenCL kernels; all data stays on the device");
    add(v, "source", "%s",
        digits ? "1797 images of 8×8 pixels, divided by 16; 1400 for training. E. Alpaydin, C. Kaynak: Optical "
                 "Recognition of "
                 "Handwritten Digits, UCI Machine Learning Repository, 1998, doi 10.24432/C50P49, licence "
                 "CC&nbsp;BY&nbsp;4.0"
               : "1000 samples of 784 values from N(0, 1), labels drawn at random");
}

bool output_report(const struct output *o)
{
    struct values v = {.count = 0};
    struct cli_file file;
    add_facts(&v, o);
    add_losses(&v, o->experiment);
    add_accuracies(&v, o);
    add_observations(&v, o, BEFORE_ACTIVATION);
    add_observations(&v, o, AFTER_ACTIVATION);
    add_svg(&v, o, "svg_loss", "loss.svg");
    add_svg(&v, o, "svg_before", "histograms-before.svg");
    add_svg(&v, o, "svg_after", "histograms-after.svg");
    char *path = output_path(o, "report.html", "");
    errno = v.failed ? ENOMEM : 0;
    bool ok = path && !v.failed && cli_file_begin(&file, path);
    if (ok) {
        ok = template_write(file.stream, demo_report_html, v.list, v.count);
        if (ok)
            ok = cli_file_commit(&file);
        else
            cli_file_abandon(&file);
    }
    if (!ok)
        cli_error(o->command, "report.html cannot be written in %s: %s", o->directory, strerror(errno));
    free(path);
    values_free(&v);
    return ok;
}
