#include "data.h"
#include "random.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum { DIGITS = 1797, DIGITS_TRAINING = 1400, DIGITS_PIXELS = 64, RANDOM_SAMPLES = 1000, RANDOM_INPUTS = 784 };

/* Seeds of their own, far from those of the networks, which count from 0. */
#define SHUFFLE_SEED UINT64_C(0x73687566666c6500)
#define RANDOM_SEED  UINT64_C(0x72616e646f6d0000)

extern const char demo_digits_csv[]; /* data/digits.csv */

static bool part_create(struct data_part *part, size_t count, size_t inputs)
{
    part->count = count;
    part->images = malloc(count * inputs * sizeof(float));
    part->labels = malloc(count * sizeof(int32_t));
    return part->images && part->labels;
}

static float pixel(char digit)
{
    int value = digit <= '9' ? digit - '0' : digit - 'a' + 10;
    assert(value >= 0 && value <= 16);
    return (float)value / 16;
}

bool data_digits(struct data *data)
{
    enum { LINE = 2 + DIGITS_PIXELS + 1 };
    memset(data, 0, sizeof *data);
    data->inputs = DIGITS_PIXELS;
    if (!part_create(&data->training, DIGITS_TRAINING, DIGITS_PIXELS) ||
        !part_create(&data->held_out, DIGITS - DIGITS_TRAINING, DIGITS_PIXELS)) {
        data_free(data);
        return false;
    }
    assert(strlen(demo_digits_csv) == (size_t)DIGITS * LINE);
    size_t order[DIGITS];
    for (size_t i = 0; i < DIGITS; i++)
        order[i] = i;
    struct random r = {SHUFFLE_SEED};
    for (size_t i = DIGITS - 1; i > 0; i--) {
        size_t j = (size_t)random_below(&r, i + 1), other = order[j];
        order[j] = order[i];
        order[i] = other;
    }
    for (size_t i = 0; i < DIGITS; i++) {
        const char *line = demo_digits_csv + order[i] * LINE;
        struct data_part *part = i < DIGITS_TRAINING ? &data->training : &data->held_out;
        size_t row = i < DIGITS_TRAINING ? i : i - DIGITS_TRAINING;
        part->labels[row] = line[0] - '0';
        for (size_t p = 0; p < DIGITS_PIXELS; p++)
            part->images[row * DIGITS_PIXELS + p] = pixel(line[2 + p]);
    }
    return true;
}

bool data_random(struct data *data)
{
    memset(data, 0, sizeof *data);
    data->inputs = RANDOM_INPUTS;
    if (!part_create(&data->training, RANDOM_SAMPLES, RANDOM_INPUTS)) {
        data_free(data);
        return false;
    }
    struct random r = {RANDOM_SEED};
    for (size_t i = 0; i < (size_t)RANDOM_SAMPLES * RANDOM_INPUTS; i++)
        data->training.images[i] = (float)random_normal(&r);
    for (size_t i = 0; i < RANDOM_SAMPLES; i++)
        data->training.labels[i] = (int32_t)random_below(&r, DEMO_CLASSES);
    return true;
}

void data_free(struct data *data)
{
    free(data->training.images);
    free(data->training.labels);
    free(data->held_out.images);
    free(data->held_out.labels);
    memset(data, 0, sizeof *data);
}
