#include "training.h"
#include "network.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* The arrays of a data part on the device. */
struct device_part {
    size_t count;
    struct array images, labels;
};

struct trainer {
    struct backend *backend;
    const struct data *data;
    struct device_part training, held_out;
    struct array loss_moments; /* [step][2]: mean and variance of the samples' losses */
    struct array activation_moments;
    struct array counts;
    struct progress *progress;
};

static void part_upload(struct backend *b, struct device_part *to, const struct data_part *from, size_t inputs)
{
    to->count = from->count;
    if (from->count == 0)
        return;
    to->images = b->operations->allocate(b, from->count * inputs);
    b->operations->write(b, to->images, from->images);
    to->labels = b->operations->allocate(b, from->count);
    b->operations->write(b, to->labels, from->labels);
}

static void trainer_destroy(struct trainer *t)
{
    struct array *arrays[] = {&t->training.images, &t->training.labels,    &t->held_out.images, &t->held_out.labels,
                              &t->loss_moments,    &t->activation_moments, &t->counts};
    for (size_t i = 0; i < sizeof arrays / sizeof arrays[0]; i++)
        t->backend->operations->release(t->backend, arrays[i]);
}

static void trainer_create(struct trainer *t, struct backend *b, const struct data *data, struct progress *progress)
{
    memset(t, 0, sizeof *t);
    t->backend = b;
    t->data = data;
    t->progress = progress;
    part_upload(b, &t->training, &data->training, data->inputs);
    part_upload(b, &t->held_out, &data->held_out, data->inputs);
    t->loss_moments = b->operations->allocate(b, 2 * TRAINING_STEPS);
    t->activation_moments = b->operations->allocate(b, 2);
    t->counts = b->operations->allocate(b, HISTOGRAM_COUNTS);
}

static void observe(struct trainer *t, struct array values, struct observation *to)
{
    struct backend *b = t->backend;
    const size_t count = (size_t)TRAINING_OBSERVED * NETWORK_WIDTH;
    float moments[2] = {0, 0};
    b->operations->histogram(b, count, values, t->counts);
    b->operations->moments(b, count, values, t->activation_moments, 0);
    b->operations->read(b, t->counts, to->counts);
    b->operations->read(b, t->activation_moments, moments);
    to->mean = moments[0];
    to->standard_deviation = sqrtf(moments[1]);
}

/* A forward of the first samples with their own statistics, which leaves the running ones alone. */
static void observe_first_layer(struct trainer *t, struct network *net, struct observation to[TRAINING_STAGES])
{
    network_forward(net, NETWORK_OBSERVE, t->training.images, TRAINING_OBSERVED);
    observe(t, network_before_activation(net, 0), &to[BEFORE_ACTIVATION]);
    observe(t, network_after_activation(net, 0), &to[AFTER_ACTIVATION]);
}

static void train_step(struct trainer *t, struct network *net, size_t step)
{
    struct backend *b = t->backend;
    network_forward(net, NETWORK_TRAIN, t->training.images, t->training.count);
    network_backward(net, t->training.images, t->training.labels, t->training.count);
    b->operations->moments(b, t->training.count, net->losses, t->loss_moments, step);
    network_descend(net, TRAINING_RATE);
}

static size_t count_correct(struct trainer *t, struct network *net)
{
    struct backend *b = t->backend;
    struct array logits = network_logits(net);
    float *values = malloc(logits.count * sizeof *values);
    size_t correct = 0;
    if (!values) {
        backend_fail(b, "out of memory for %zu values", logits.count);
        return 0;
    }
    network_forward(net, NETWORK_INFER, t->held_out.images, t->held_out.count);
    b->operations->read(b, logits, values);
    for (size_t row = 0; !backend_failed(b) && row < t->held_out.count; row++) {
        const float *z = values + row * NETWORK_CLASSES;
        int32_t best = 0;
        for (int32_t i = 1; i < NETWORK_CLASSES; i++)
            best = z[i] > z[best] ? i : best;
        correct += best == t->data->held_out.labels[row];
    }
    free(values);
    return correct;
}

static void train(struct trainer *t, size_t seed, bool batch_norm, size_t seeds, struct training *to)
{
    enum { STEPS_BETWEEN_WAITS = 5 }; /* so that the bar moves, and the queue stays short */
    struct backend *b = t->backend;
    struct network net;
    double start = progress_clock();
    network_create(&net, b, t->data->inputs, t->training.count, batch_norm, seed);
    for (size_t step = 0; step < TRAINING_STEPS && !backend_failed(b); step++) {
        if (step % TRAINING_EPOCH_STEPS == 0)
            observe_first_layer(t, &net, to->observations[step / TRAINING_EPOCH_STEPS]);
        train_step(t, &net, step);
        if (step % STEPS_BETWEEN_WAITS == 0)
            b->operations->finish(b);
        t->progress->done++;
        progress_show(t->progress, "seed %zu of %zu, %s batch norm", seed + 1, seeds, batch_norm ? "with" : "without");
    }
    float moments[2 * TRAINING_STEPS] = {0};
    b->operations->read(b, t->loss_moments, moments);
    for (size_t step = 0; step < TRAINING_STEPS; step++)
        to->losses[step] = moments[2 * step];
    if (t->held_out.count > 0)
        to->correct = count_correct(t, &net);
    network_destroy(&net);
    to->seconds = progress_clock() - start;
}

/* One step of a network that is thrown away: CLBlast and clnorm compile their kernels in it. */
static double warm_up(struct trainer *t)
{
    struct network net;
    double start = progress_clock();
    progress_show(t->progress, "first step%s",
                  t->backend->operations->compiles ? ": kernels are compiled, which takes seconds to a minute" : "");
    network_create(&net, t->backend, t->data->inputs, t->training.count, true, 0);
    train_step(t, &net, 0);
    t->backend->operations->finish(t->backend);
    network_destroy(&net);
    return progress_clock() - start;
}

bool experiment_run(struct experiment *e, struct backend *b, const struct data *data, size_t seeds,
                    struct progress *progress)
{
    struct trainer t;
    memset(e, 0, sizeof *e);
    e->seeds = seeds;
    e->trainings = calloc(seeds, sizeof *e->trainings);
    if (!e->trainings)
        backend_fail(b, "out of memory for %zu trainings", seeds);
    trainer_create(&t, b, data, progress);
    progress_begin(progress, seeds * 2 * TRAINING_STEPS);
    if (!backend_failed(b))
        e->warm_up_seconds = warm_up(&t);
    for (size_t seed = 0; seed < seeds && !backend_failed(b); seed++) {
        for (int batch_norm = 0; batch_norm < 2; batch_norm++)
            train(&t, seed, batch_norm, seeds, &e->trainings[seed][batch_norm]);
    }
    progress_end(progress);
    trainer_destroy(&t);
    return !backend_failed(b);
}

void experiment_free(struct experiment *e)
{
    free(e->trainings);
    e->trainings = NULL;
}

size_t observation_values(const struct observation *o)
{
    size_t values = 0;
    for (size_t i = 0; i < HISTOGRAM_ZERO; i++)
        values += (size_t)o->counts[i];
    return values;
}

double experiment_loss(const struct experiment *e, bool batch_norm, size_t step)
{
    double sum = 0;
    for (size_t seed = 0; seed < e->seeds; seed++)
        sum += e->trainings[seed][batch_norm].losses[step];
    return sum / (double)e->seeds;
}

double experiment_accuracy(const struct experiment *e, const struct data *data, bool batch_norm)
{
    size_t correct = 0;
    for (size_t seed = 0; seed < e->seeds; seed++)
        correct += e->trainings[seed][batch_norm].correct;
    return (double)correct / (double)(e->seeds * data->held_out.count);
}
