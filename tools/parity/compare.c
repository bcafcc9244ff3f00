#include "parity.h"

#include <stdlib.h>
#include <unistd.h>

static void show_progress(const struct parity *p, size_t done)
{
    if (isatty(STDERR_FILENO)) {
        fprintf(stderr, "\r\033[K%zu of %zu cases", done, p->case_count);
        if (done == p->case_count)
            fputs("\r\033[K", stderr);
        fflush(stderr);
    }
}

/* One case on the CPU path, then on every device. */
static bool compare_case(struct parity *p, size_t i)
{
    struct case_problem *problem = case_prepare(p->cases[i]);
    if (!problem)
        return false;
    struct case_run *cpu = NULL;
    struct case_result unused;
    case_execute(problem, p->cpu, NULL, NULL, &cpu, &unused);
    for (size_t k = 0; k < p->device_count; k++) {
        struct parity_device *d = &p->devices[k];
        /* A NaN or Inf too must be the same on both; without a result of the CPU path (out of memory, say) nothing passes. */
        bool pass = case_execute(problem, d->device, p->injection, cpu, NULL, &d->results[i]);
        if (!cpu && pass) {
            d->results[i].pass = pass = false;
            snprintf(d->results[i].message, sizeof d->results[i].message, "the CPU path: %.400s", unused.message);
        }
        d->passed += pass;
        d->ms += d->results[i].ms;
    }
    case_run_free(cpu);
    case_problem_free(problem);
    return true;
}

bool parity_compare(struct parity *p)
{
    for (size_t k = 0; k < p->device_count; k++) {
        p->devices[k].results = calloc(p->case_count, sizeof *p->devices[k].results);
        if (!p->devices[k].results)
            return false;
    }
    bool ok = true;
    for (size_t i = 0; i < p->case_count && ok; i++) {
        show_progress(p, i);
        ok = compare_case(p, i);
    }
    show_progress(p, p->case_count);
    return ok;
}

size_t parity_worst(const struct parity *p, const struct parity_device *d, enum case_output output, bool against_cpu)
{
    size_t worst = NO_CASE;
    double largest = -1;
    for (size_t i = 0; i < p->case_count; i++) {
        const struct case_error *e = &d->results[i].outputs[output];
        const double error = against_cpu ? e->cpu_worst : e->worst;
        if (e->present && error > largest) {
            largest = error;
            worst = i;
        }
    }
    return worst;
}

size_t parity_passed(const struct parity *p)
{
    size_t passed = 0;
    for (size_t k = 0; k < p->device_count; k++)
        passed += p->devices[k].passed;
    return passed;
}
