/* The results as JSON. Numbers that JSON does not have are the strings "Infinity", "-Infinity" and "NaN". */
#include "parity.h"

#include <math.h>

static json_t *number(double value)
{
    if (isnan(value))
        return json_string("NaN");
    if (isinf(value))
        return json_string(value > 0 ? "Infinity" : "-Infinity");
    return json_real(value);
}

static json_t *index_number(size_t value)
{
    return json_integer((json_int_t)value);
}

/* The strip in hundredths of the tolerance, at most 9999. */
static json_t *strip(const float *cells)
{
    json_t *list = json_array();
    for (int i = 0; i < CASE_STRIP; i++)
        json_array_append_new(list, json_integer(cells[i] < 99.99f ? (json_int_t)ceilf(cells[i] * 100) : 9999));
    return list;
}

static json_t *error_object(const struct clnorm_case *c, enum case_output output, const struct case_error *e)
{
    json_t *o = json_object();
    json_object_set_new(o, "pass", json_boolean(e->pass));
    json_object_set_new(o, "worst", number(e->worst));
    json_object_set_new(o, "ulp", number(e->ulp));
    json_object_set_new(o, "off_cpu", number(e->cpu_worst));
    json_object_set_new(o, "index", index_number(e->index));
    json_object_set_new(o, "part", index_number(e->part));
    json_object_set_new(o, "parts", index_number(e->parts));
    json_object_set_new(o, "part_of", json_string(case_part_name(c, output)));
    json_object_set_new(o, "finite", index_number(e->finite));
    json_object_set_new(o, "got", number(e->got));
    json_object_set_new(o, "want", number(e->want));
    json_object_set_new(o, "tolerance", number(e->tolerance));
    json_object_set_new(o, "strip", strip(e->strip));
    return o;
}

static json_t *result_object(const struct clnorm_case *c, const struct case_result *r)
{
    json_t *o = json_object(), *outputs = json_object();
    json_object_set_new(o, "case", json_string(c->name));
    json_object_set_new(o, "norm", json_string(case_norm_name(c->norm)));
    json_object_set_new(o, "pass", json_boolean(r->pass));
    json_object_set_new(o, "ms", number(r->ms));
    json_object_set_new(o, "message", json_string(r->message));
    for (int i = 0; i < CASE_OUTPUTS; i++) {
        if (r->outputs[i].present)
            json_object_set_new(outputs, case_output_name((enum case_output)i),
                                error_object(c, (enum case_output)i, &r->outputs[i]));
    }
    json_object_set_new(o, "outputs", outputs);
    return o;
}

static json_t *summary_object(const struct parity *p, const struct parity_device *d)
{
    json_t *summary = json_object();
    for (int i = 0; i < CASE_OUTPUTS; i++) {
        const enum case_output output = (enum case_output)i;
        const size_t worst = parity_worst(p, d, output, false), off_cpu = parity_worst(p, d, output, true);
        if (worst == NO_CASE)
            continue;
        json_t *o = json_object();
        json_object_set_new(o, "worst", number(d->results[worst].outputs[i].worst));
        json_object_set_new(o, "worst_case", json_string(p->cases[worst]->name));
        json_object_set_new(o, "off_cpu", number(d->results[off_cpu].outputs[i].cpu_worst));
        json_object_set_new(o, "off_cpu_case", json_string(p->cases[off_cpu]->name));
        json_object_set_new(summary, case_output_name(output), o);
    }
    return summary;
}

static json_t *device_object(const struct parity *p, const struct parity_device *d)
{
    json_t *o = json_object(), *results = json_array();
    json_object_set_new(o, "device", json_string(d->info.id));
    json_object_set_new(o, "name", json_string(d->info.name));
    json_object_set_new(o, "platform", json_string(d->info.platform));
    json_object_set_new(o, "version", json_string(d->info.version));
    json_object_set_new(o, "driver", json_string(d->info.driver));
    json_object_set_new(o, "cases", index_number(p->case_count));
    json_object_set_new(o, "passed", index_number(d->passed));
    json_object_set_new(o, "failed", index_number(p->case_count - d->passed));
    json_object_set_new(o, "ms", number(d->ms));
    json_object_set_new(o, "summary", summary_object(p, d));
    for (size_t i = 0; i < p->case_count; i++)
        json_array_append_new(results, result_object(p->cases[i], &d->results[i]));
    json_object_set_new(o, "results", results);
    return o;
}

json_t *parity_json(const struct parity *p)
{
    json_t *root = json_object(), *devices = json_array();
    const size_t passed = parity_passed(p);
    json_object_set_new(root, "clnorm", json_string(clnorm_version()));
    json_object_set_new(root, "suite", json_string(p->suite == CASE_SHORT ? "short" : "full"));
    json_object_set_new(
        root, "inject",
        p->injection ? json_sprintf("%s%s", case_output_name(p->injection->output), p->injection->nan ? ":nan" : "")
                     : json_null());
    json_object_set_new(root, "passed", index_number(passed));
    json_object_set_new(root, "failed", index_number(p->case_count * p->device_count - passed));
    for (size_t k = 0; k < p->device_count; k++)
        json_array_append_new(devices, device_object(p, &p->devices[k]));
    json_object_set_new(root, "devices", devices);
    if (json_array_size(json_object_get(root, "devices")) != p->device_count) { /* jansson ran out of memory */
        json_decref(root);
        return NULL;
    }
    return root;
}
