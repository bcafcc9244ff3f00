#include "cpu/statistic.h"

#include <math.h>

static float *floats(const struct cln_op *op, enum cln_role role)
{
    return op->role[role].handle;
}

struct cln_statistic cln_statistic_keep(const struct cln_op *op, uint64_t g, const struct cln_moments *t)
{
    uint64_t groups = cln_view_statistics(&op->view);
    /* A NaN or Inf makes the whole group NaN; not so an Inf without a mean, whose rstd is 0. */
    int finite = !op->view.centred || (isfinite(t->mean) && isfinite(t->m2));
    double mean = finite ? t->mean : NAN;
    struct cln_statistic s = {.m = (float)mean, .var = finite ? (float)(t->count > 0.0 ? t->m2 / t->count : 0.0) : NAN};
    s.c = isfinite(s.m) ? (float)(mean - s.m) : 0.0f;
    s.rstd = cln_rstd(s.var, op->eps);
    if (cln_bound(op, CLN_STATE)) {
        float *state = floats(op, CLN_STATE);
        state[g] = s.m;
        state[groups + g] = s.c;
        state[2 * groups + g] = s.rstd;
    }
    if (cln_bound(op, CLN_MEAN))
        floats(op, CLN_MEAN)[g] = s.m + s.c;
    if (cln_bound(op, CLN_VAR))
        floats(op, CLN_VAR)[g] = s.var;
    if (cln_bound(op, CLN_RSTD))
        floats(op, CLN_RSTD)[g] = s.rstd;
    return s;
}

struct cln_statistic cln_statistic_of(const struct cln_op *op, uint64_t g)
{
    uint64_t groups = cln_view_statistics(&op->view);
    if (op->source == CLN_FROM_STATE) {
        const float *state = floats(op, CLN_STATE);
        if (op->from_y)
            return (struct cln_statistic){0.0f, 0.0f, state[2 * groups + g], 0.0f};
        return (struct cln_statistic){state[g], state[groups + g], state[2 * groups + g], 0.0f};
    }
    return (struct cln_statistic){cln_bound(op, CLN_MEAN) && !op->from_y ? floats(op, CLN_MEAN)[g] : 0.0f, 0.0f,
                                  floats(op, CLN_RSTD)[g], 0.0f};
}

struct cln_slope cln_statistic_slope(const struct cln_op *op, const struct cln_statistic *s, double count, double sum_g,
                                     double sum_gd)
{
    double rstd = s->rstd;
    return (struct cln_slope){(float)(-rstd * rstd * (rstd * sum_gd / count)),
                              op->view.centred ? (float)(-rstd * (sum_g / count)) : 0.0f};
}

/* (1 − f)·old + f·batch in double; the ends are exact, so that f = 1 forgets even a NaN and f = 0 takes none. */
static float blend(float old, double batch, float f)
{
    if (f == 1.0f)
        return (float)batch;
    if (f == 0.0f)
        return old;
    return (float)(old + f * (batch - old));
}

float cln_statistic_share(const struct cln_op *op)
{
    const clnorm_running *r = &op->running;
    return r->average == CLNORM_CUMULATIVE ? (float)(1.0 / ((double)r->count + 1.0)) : r->momentum;
}

void cln_statistic_commit(struct cln_cpu_plan *plan, const struct cln_op *op, uint64_t c, double mean, double var)
{
    const clnorm_running *r = &op->running;
    float f = cln_statistic_share(op);
    if (!isfinite(mean) || !isfinite(var)) {
        atomic_fetch_or(&plan->found, CLNORM_FOUND_NONFINITE);
        if (r->guard == CLNORM_GUARD_FINITE)
            return;
    }
    floats(op, CLN_RUNNING_MEAN)[c] = blend(floats(op, CLN_RUNNING_MEAN)[c], mean, f);
    floats(op, CLN_RUNNING_VAR)[c] = blend(floats(op, CLN_RUNNING_VAR)[c], var, f);
}

double cln_statistic_running_var(const struct cln_op *op, double count, double var)
{
    return op->running.variance == CLNORM_UNBIASED && count > 1.0 ? var * (count / (count - 1.0)) : var;
}
