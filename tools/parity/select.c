#include "parity.h"

#include <stdlib.h>
#include <string.h>

/* What was typed, in the terms of cases. */
struct wanted {
    const struct parity_selection *typed;
    bool any_norm;
    struct norm_choice norm;
    struct fusion fusion;
};

static bool parse(const struct cli_command *self, const struct parity_selection *typed, struct wanted *wanted)
{
    struct norm_typed norm = typed->norm;
    *wanted = (struct wanted){.typed = typed, .any_norm = !norm.norm || !strcmp(norm.norm, "all")};
    clnorm_norm known;
    if (!wanted->any_norm && !norm_parse(norm.norm, &known)) {
        cli_error(self, "--norm is '%s' and must be " NORM_NAMES ", or all", norm.norm);
        return false;
    }
    if (wanted->any_norm)
        norm.norm = NULL;
    return norm_typed_parse(&norm, self, &wanted->norm) && fusion_typed_parse(&typed->fusion, self, &wanted->fusion);
}

static bool has_all(const struct wanted *w, const struct clnorm_case *c)
{
    const struct norm_typed *norm = &w->typed->norm;
    const struct fusion_typed *fusion = &w->typed->fusion;
    return (w->any_norm || c->norm == w->norm.norm) && (!norm->groups || c->groups == w->norm.groups) &&
           (!norm->dims || c->normalized_dims == w->norm.dims) && (!fusion->dtype || c->dtype == w->fusion.dtype) &&
           (!fusion->y_dtype || c->y_dtype == w->fusion.y_dtype) &&
           (!fusion->act || c->activation == w->fusion.activation) && (!fusion->slope || c->slope == w->fusion.slope) &&
           (!fusion->residual || c->residual == w->fusion.residual) && (!w->typed->from_y || c->from_y) &&
           (!w->typed->lengths || c->lengths != CASE_NO_LENGTHS);
}

int parity_select(struct parity *p, const struct cli_command *self, const struct parity_selection *selection)
{
    const char *part = selection->part;
    struct wanted wanted;
    if (!parse(self, selection, &wanted))
        return CLI_USAGE;
    const size_t count = cases_count(p->suite);
    p->cases = malloc(count * sizeof(const struct clnorm_case *));
    if (!p->cases) {
        cli_error(self, "out of memory");
        return CLI_FAILED;
    }
    for (size_t i = 0; i < count; i++) {
        const struct clnorm_case *c = cases_get(p->suite, i);
        if (!has_all(&wanted, c))
            continue;
        if (part && strcmp(c->name, part) == 0) { /* a whole name is that case alone, though it may be part of others */
            p->cases[0] = c;
            p->case_count = 1;
            return CLI_OK;
        }
        if (!part || strstr(c->name, part))
            p->cases[p->case_count++] = c;
    }
    if (p->case_count > 0)
        return CLI_OK;
    if (!part)
        return cli_error(self, "no case of the suite has all that the options select (see --list)");
    return cli_error(
        self,
        "--case is '%s' and must be the name or a part of the name of a case that the other options select "
        "(see --list)",
        part);
}

void parity_selection_free(struct parity_selection *selection)
{
    norm_typed_free(&selection->norm);
    fusion_typed_free(&selection->fusion);
    free(selection->part);
}
