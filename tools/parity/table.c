#include "parity.h"

static void print_device(const struct parity *p, const struct parity_device *d)
{
    printf("%s: %s (%s, %s)\n", d->info.id, d->info.name, d->info.platform, d->info.version);
    printf("  %-17s %6s %9s %11s  %9s  %s\n", "output", "cases", "worst", "ULP", "off cpu", "case of the worst");
    for (int o = 0; o < CASE_OUTPUTS; o++) {
        const enum case_output output = (enum case_output)o;
        const size_t worst = parity_worst(p, d, output, false), off_cpu = parity_worst(p, d, output, true);
        if (worst == NO_CASE)
            continue;
        size_t count = 0;
        double ulp = 0;
        for (size_t i = 0; i < p->case_count; i++) {
            const struct case_error *e = &d->results[i].outputs[o];
            count += e->present;
            if (e->present && e->ulp > ulp)
                ulp = e->ulp;
        }
        printf("  %-17s %6zu %9.3f %11.4g  %9.3f  %s\n", case_output_name(output), count,
               d->results[worst].outputs[o].worst, ulp, d->results[off_cpu].outputs[o].cpu_worst,
               p->cases[worst]->name);
    }
    for (size_t i = 0; i < p->case_count; i++) {
        if (!d->results[i].pass)
            printf("  FAILED %s: %s\n", p->cases[i]->name, d->results[i].message);
    }
    printf("  %zu cases: %zu passed, %zu failed, %.1f ms in the library's calls\n\n", p->case_count, d->passed,
           p->case_count - d->passed, d->ms);
}

void parity_print(const struct parity *p)
{
    printf("Errors over all cases: worst is the largest error as a part of its tolerance against fp64 (1 is the "
           "limit), off cpu\n"
           "the largest difference from the CPU path as a part of both tolerances, ULP the largest distance from fp64 "
           "in units\n"
           "in the last place of the value (large where a value is near 0).\n\n");
    for (size_t k = 0; k < p->device_count; k++)
        print_device(p, &p->devices[k]);
    const size_t passed = parity_passed(p);
    printf("%zu passed, %zu failed\n", passed, p->case_count * p->device_count - passed);
}
