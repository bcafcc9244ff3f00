#include "model.h"

#include "reference.h"

#include <stdio.h>

static struct reference_problem problem_of(const struct model *model)
{
    struct reference_problem p = {.layout = (enum reference_layout)model->shape.layout,
                                  .n = (size_t)model->shape.n,
                                  .c = model->channels,
                                  .s = shape_positions(&model->shape),
                                  .eps = model->eps};
    return p;
}

static size_t channel_of(const struct model *model, size_t i)
{
    if (model->shape.layout == CLNORM_NCS)
        return i / shape_positions(&model->shape) % model->channels;
    return i % model->channels;
}

static struct model *model_new(const struct shape *shape, int64_t n, double eps, const float *x, const float *weight,
                               const float *bias)
{
    struct model *model = scratch(sizeof *model);
    model->shape = *shape;
    model->shape.n = n;
    model->eps = (float)eps; /* what the library is told */
    model->channels = (size_t)shape->c;
    model->elements = shape_elements(shape, n);
    model->m = (size_t)n * shape_positions(shape);
    model->x = widened(x, model->elements);
    model->weight = weight ? widened(weight, model->channels) : NULL;
    model->bias = bias ? widened(bias, model->channels) : NULL;
    model->mean = scratch_doubles(model->channels);
    model->var = scratch_doubles(model->channels);
    model->rstd = scratch_doubles(model->channels);
    model->y = scratch_doubles(model->elements);
    model->xhat_max = scratch_doubles(model->channels);
    model->y_max = scratch_doubles(model->channels);
    return model;
}

static void model_apply(struct model *model)
{
    struct reference_problem p = problem_of(model);
    reference_apply(&p, model->x, model->mean, model->var, model->weight, model->bias, model->y);
    for (size_t c = 0; c < model->channels; c++)
        model->rstd[c] = 1 / sqrt(model->var[c] + model->eps);
    for (size_t i = 0; i < model->elements; i++) {
        size_t c = channel_of(model, i);
        double scaled = fabs(model->y[i] - (model->bias ? model->bias[c] : 0));
        if (scaled > model->xhat_max[c])
            model->xhat_max[c] = scaled;
        if (fabs(model->y[i]) > model->y_max[c])
            model->y_max[c] = fabs(model->y[i]);
    }
}

struct model *model_forward(const struct shape *shape, int64_t n, double eps, const float *x, const float *weight,
                            const float *bias)
{
    struct model *model = model_new(shape, n, eps, x, weight, bias);
    struct reference_problem p = problem_of(model);
    reference_statistics(&p, model->x, model->mean, model->var);
    model_apply(model);
    return model;
}

struct model *model_infer(const struct shape *shape, int64_t n, double eps, const float *x, const float *weight,
                          const float *bias, const float *mean, const float *var)
{
    struct model *model = model_new(shape, n, eps, x, weight, bias);
    for (size_t c = 0; c < model->channels; c++) {
        model->mean[c] = mean[c];
        model->var[c] = var[c];
    }
    model_apply(model);
    return model;
}

void model_check_y(const struct model *model, const float *y, const char *what)
{
    for (size_t i = 0; i < model->elements; i++) {
        size_t c = channel_of(model, i);
        char text[160];
        snprintf(text, sizeof text, "%s: y[%zu]", what, i);
        if (!expect_near(y[i], model->y[i], 18 * U * model->xhat_max[c] + 2 * U * model->y_max[c], text))
            return;
    }
}

void model_check_statistics(const struct model *model, const float *mean, const float *var, const float *rstd,
                            const char *what)
{
    for (size_t c = 0; c < model->channels; c++) {
        char text[160];
        snprintf(text, sizeof text, "%s: mean[%zu]", what, c);
        if (mean)
            expect_near(mean[c], model->mean[c], 2 * U * fabs(model->mean[c]) + 16 * U * sqrt(model->var[c]), text);
        snprintf(text, sizeof text, "%s: var[%zu]", what, c);
        if (var)
            expect_near(var[c], model->var[c], 32 * U * model->var[c], text);
        snprintf(text, sizeof text, "%s: rstd[%zu]", what, c);
        if (rstd)
            expect_near(rstd[c], model->rstd[c], 16 * U * model->rstd[c], text);
    }
}

struct gradients *model_backward(const struct model *model, const float *dy, bool frozen)
{
    struct gradients *g = scratch(sizeof *g);
    struct reference_problem p = problem_of(model);
    double *wide = widened(dy, model->elements);
    size_t channels = model->channels;
    g->dx = scratch_doubles(model->elements);
    g->dweight = scratch_doubles(channels);
    g->dbias = scratch_doubles(channels);
    g->dx_bound = scratch_doubles(channels);
    g->dweight_bound = scratch_doubles(channels);
    g->dbias_bound = scratch_doubles(channels);
    reference_backward(&p, model->x, wide, model->mean, model->var, model->weight, frozen, g->dx, g->dweight, g->dbias);
    for (size_t i = 0; i < model->elements; i++) {
        size_t c = channel_of(model, i);
        double xhat = (model->x[i] - model->mean[c]) * model->rstd[c];
        double magnitude = fabs(wide[i]), m = (double)model->m;
        if (!frozen)
            magnitude += fabs(g->dbias[c] / m) + fabs(xhat * g->dweight[c] / m);
        if (magnitude > g->dx_bound[c])
            g->dx_bound[c] = magnitude;
        g->dweight_bound[c] += 16 * U * fabs(wide[i] * xhat);
        g->dbias_bound[c] += 16 * U * fabs(wide[i]);
    }
    for (size_t c = 0; c < channels; c++)
        g->dx_bound[c] *= 32 * U * model->rstd[c] * (model->weight ? fabs(model->weight[c]) : 1);
    return g;
}

void model_check_gradients(const struct model *model, const struct gradients *want, const float *dx,
                           const float *dweight, const float *dbias, const char *what)
{
    char text[160];
    for (size_t i = 0; dx && i < model->elements; i++) {
        snprintf(text, sizeof text, "%s: dx[%zu]", what, i);
        if (!expect_near(dx[i], want->dx[i], want->dx_bound[channel_of(model, i)], text))
            break;
    }
    for (size_t c = 0; c < model->channels; c++) {
        snprintf(text, sizeof text, "%s: dweight[%zu]", what, c);
        if (dweight)
            expect_near(dweight[c], want->dweight[c], want->dweight_bound[c], text);
        snprintf(text, sizeof text, "%s: dbias[%zu]", what, c);
        if (dbias)
            expect_near(dbias[c], want->dbias[c], want->dbias_bound[c], text);
    }
}
