/* The tables: losses.csv, histograms.csv, activations.csv and, with held-out samples, accuracies.csv. */
#include "output.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const char *const stages[TRAINING_STAGES] = {"before", "after"};

char *output_path(const struct output *o, const char *name, const char *suffix)
{
    size_t length = strlen(o->directory) + 1 + strlen(name) + strlen(suffix) + 1;
    char *path = malloc(length);
    if (path)
        snprintf(path, length, "%s/%s%s", o->directory, name, suffix);
    return path;
}

bool output_file(const struct output *o, const char *name, void (*write)(FILE *stream, const struct output *o))
{
    struct cli_file file;
    char *path = output_path(o, name, "");
    bool ok = path && cli_file_begin(&file, path);
    if (ok) {
        write(file.stream, o);
        ok = cli_file_commit(&file);
    }
    if (!ok)
        cli_error(o->command, "%s cannot be written in %s: %s", name, o->directory, strerror(errno));
    free(path);
    return ok;
}

static void write_losses(FILE *stream, const struct output *o)
{
    fprintf(stream, "seed,batch_norm,step,loss\n");
    for (size_t seed = 0; seed < o->experiment->seeds; seed++) {
        for (int norm = 0; norm < 2; norm++) {
            const struct training *t = &o->experiment->trainings[seed][norm];
            for (int step = 0; step < TRAINING_STEPS; step++)
                fprintf(stream, "%zu,%d,%d,%.9g\n", seed, norm, step, t->losses[step]);
        }
    }
    for (int norm = 0; norm < 2; norm++) {
        for (int step = 0; step < TRAINING_STEPS; step++)
            fprintf(stream, "mean,%d,%d,%.9g\n", norm, step, experiment_loss(o->experiment, norm, step));
    }
}

/* Calls print for every observation; epochs count from 1. */
static void each_observation(FILE *stream, const struct output *o,
                             void (*print)(FILE *stream, const char *key, const struct observation *observation))
{
    for (size_t seed = 0; seed < o->experiment->seeds; seed++) {
        for (int norm = 0; norm < 2; norm++) {
            for (int epoch = 0; epoch < TRAINING_EPOCHS; epoch++) {
                for (int stage = 0; stage < TRAINING_STAGES; stage++) {
                    char key[64];
                    snprintf(key, sizeof key, "%zu,%d,%d,%s", seed, norm, epoch + 1, stages[stage]);
                    print(stream, key, &o->experiment->trainings[seed][norm].observations[epoch][stage]);
                }
            }
        }
    }
}

static void print_histogram(FILE *stream, const char *key, const struct observation *observation)
{
    const double width = (double)(HISTOGRAM_HIGH - HISTOGRAM_LOW) / HISTOGRAM_BINS;
    double values = (double)observation_values(observation);
    for (int bin = 0; bin < HISTOGRAM_BINS; bin++) {
        double low = HISTOGRAM_LOW + bin * width, high = HISTOGRAM_LOW + (bin + 1) * width;
        int zeros = low <= 0 && 0 < high ? (int)observation->counts[HISTOGRAM_ZERO] : 0;
        fprintf(stream, "%s,%.6g,%.6g,%d,%.6g,%d\n", key, low, high, (int)observation->counts[bin],
                observation->counts[bin] / values, zeros);
    }
}

static void write_histograms(FILE *stream, const struct output *o)
{
    fprintf(stream, "seed,batch_norm,before_epoch,activation,bin_low,bin_high,count,share,zero\n");
    each_observation(stream, o, print_histogram);
}

static void print_activations(FILE *stream, const char *key, const struct observation *observation)
{
    const int32_t *counts = observation->counts;
    fprintf(stream, "%s,%zu,%d,%d,%d,%d,%.9g,%.9g\n", key, observation_values(observation),
            (int)counts[HISTOGRAM_BELOW], (int)counts[HISTOGRAM_ABOVE], (int)counts[HISTOGRAM_NAN],
            (int)counts[HISTOGRAM_ZERO], observation->mean, observation->standard_deviation);
}

static void write_activations(FILE *stream, const struct output *o)
{
    fprintf(stream, "seed,batch_norm,before_epoch,activation,values,below,above,nan,zero,mean,standard_deviation\n");
    each_observation(stream, o, print_activations);
}

static void write_accuracies(FILE *stream, const struct output *o)
{
    double samples = (double)o->data->held_out.count;
    fprintf(stream, "seed,batch_norm,held_out,correct,accuracy\n");
    for (size_t seed = 0; seed < o->experiment->seeds; seed++) {
        for (int norm = 0; norm < 2; norm++) {
            size_t correct = o->experiment->trainings[seed][norm].correct;
            fprintf(stream, "%zu,%d,%zu,%zu,%.6f\n", seed, norm, o->data->held_out.count, correct,
                    (double)correct / samples);
        }
    }
}

bool output_tables(const struct output *o)
{
    return output_file(o, "losses.csv", write_losses) && output_file(o, "histograms.csv", write_histograms) &&
           output_file(o, "activations.csv", write_activations) &&
           (o->data->held_out.count == 0 || output_file(o, "accuracies.csv", write_accuracies));
}
