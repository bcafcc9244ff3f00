/* The experiment: for each seed the same network without and with batch norm, 4 epochs of 50 full-batch steps of plain SGD. */
#ifndef CLNORM_DEMO_TRAINING_H
#define CLNORM_DEMO_TRAINING_H

#include "backend.h"
#include "data.h"
#include "progress.h"

enum {
    TRAINING_EPOCHS = 4,
    TRAINING_EPOCH_STEPS = 50,
    TRAINING_STEPS = TRAINING_EPOCHS * TRAINING_EPOCH_STEPS,
    TRAINING_OBSERVED = 100 /* samples whose first-layer activations are recorded */
};
#define TRAINING_RATE 0.01f

/* Before and after the activation function of the first layer. */
enum { BEFORE_ACTIVATION, AFTER_ACTIVATION, TRAINING_STAGES };

struct observation {
    int32_t counts[HISTOGRAM_COUNTS];
    float mean, standard_deviation;
};

struct training {
    float losses[TRAINING_STEPS];                                      /* of the training samples, before each step */
    struct observation observations[TRAINING_EPOCHS][TRAINING_STAGES]; /* before each epoch */
    size_t correct; /* of the held-out samples, with running statistics */
    double seconds; /* of all this */
};

struct experiment {
    size_t seeds;
    struct training (*trainings)[2]; /* [seed][with batch norm] */
    double warm_up_seconds;          /* of a first step, in which the device's compilers run */
};

/* false: b->error says why (experiment_free is fine then too). */
bool experiment_run(struct experiment *e, struct backend *b, const struct data *data, size_t seeds,
                    struct progress *progress);
void experiment_free(struct experiment *e);

/* Values behind an observation. */
size_t observation_values(const struct observation *o);
/* The mean over the seeds of the loss before a step. */
double experiment_loss(const struct experiment *e, bool batch_norm, size_t step);
/* The mean over the seeds of the share of held-out samples told right. */
double experiment_accuracy(const struct experiment *e, const struct data *data, bool batch_norm);

#endif
