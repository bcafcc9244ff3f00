#include "parity.h"
#include "commands.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct options {
    char *devices, *suite, *json, *html, *inject;
    struct parity_selection selection;
    int list;
};

static void options_free(struct options *o)
{
    free(o->devices);
    free(o->suite);
    free(o->json);
    free(o->html);
    free(o->inject);
    parity_selection_free(&o->selection);
}

static int parse_suite(const struct cli_command *self, const char *text, enum case_suite *suite)
{
    *suite = CASE_FULL;
    if (!text || !strcmp(text, "full"))
        return CLI_OK;
    *suite = CASE_SHORT;
    if (!strcmp(text, "short"))
        return CLI_OK;
    return cli_error(self, "--suite is '%s' and must be short or full", text);
}

/* OUTPUT or OUTPUT:nan */
static int parse_injection(const struct cli_command *self, const char *text, struct case_injection *injection)
{
    char name[64];
    const char *colon = strchr(text, ':');
    size_t length = colon ? (size_t)(colon - text) : strlen(text);
    snprintf(name, sizeof name, "%.*s", (int)(length < sizeof name ? length : sizeof name - 1), text);
    injection->nan = colon != NULL;
    if (case_output_parse(name, &injection->output) && (!colon || !strcmp(colon, ":nan")))
        return CLI_OK;
    char known[512] = "";
    for (int o = 0; o < CASE_OUTPUTS; o++) {
        size_t used = strlen(known);
        snprintf(known + used, sizeof known - used, "%s%s", o ? ", " : "", case_output_name((enum case_output)o));
    }
    return cli_error(self, "--inject is '%s' and must be one of %s, alone or with :nan", text, known);
}

static int check_injection(const struct parity *p, const struct cli_command *self)
{
    for (size_t i = 0; i < p->case_count; i++) {
        if (case_has(p->cases[i], p->injection->output))
            return CLI_OK;
    }
    return cli_error(self, "--inject: none of the %zu cases has the output %s", p->case_count,
                     case_output_name(p->injection->output));
}

/* Files are begun before the work, so that a wrong path is told at once. */
static int begin_file(const struct cli_command *self, const char *option, const char *path, struct cli_file *file)
{
    if (!path || cli_file_begin(file, path))
        return CLI_OK;
    return cli_error(self, "%s: %s cannot be written: %s", option, path, strerror(errno));
}

static int write_files(const struct cli_command *self, const struct parity *p, struct cli_file *json,
                       struct cli_file *html)
{
    if (!json->stream && !html->stream)
        return CLI_OK;
    json_t *root = parity_json(p);
    bool ok = root != NULL;
    if (ok && html->stream)
        ok = parity_html(root, html->stream) && cli_file_commit(html);
    if (ok && json->stream) {
        ok = json_dumpf(root, json->stream, JSON_INDENT(1)) == 0;
        fputc('\n', json->stream);
        ok = ok && cli_file_commit(json);
    }
    json_decref(root);
    if (ok)
        return CLI_OK;
    cli_error(self, "the results cannot be written: %s", root ? strerror(errno) : "out of memory");
    return CLI_FAILED;
}

static int compare(const struct cli_command *self, struct parity *p, const struct options *o)
{
    struct cli_file json = {NULL, NULL, NULL}, html = {NULL, NULL, NULL};
    int code = begin_file(self, "--json", o->json, &json);
    if (code == CLI_OK)
        code = begin_file(self, "--html", o->html, &html);
    if (code == CLI_OK)
        code = parity_open(p, self, o->devices ? o->devices : "all");
    if (code == CLI_OK && !parity_compare(p)) {
        cli_error(self, "out of memory");
        code = CLI_FAILED;
    }
    if (code == CLI_OK) {
        parity_print(p);
        code = write_files(self, p, &json, &html);
        if (parity_passed(p) != p->case_count * p->device_count)
            code = CLI_FAILED;
    }
    cli_file_abandon(&json);
    cli_file_abandon(&html);
    return code;
}

int cmd_parity(const struct cli_command *self, int argc, const char **argv)
{
    struct options o;
    memset(&o, 0, sizeof o);
    struct parity p;
    memset(&p, 0, sizeof p);
    struct case_injection injection;
    struct poptOption table[] = {
        {"devices", 0, POPT_ARG_STRING, &o.devices, 0, "all (the default), or names separated by commas", "LIST"},
        {"suite", 0, POPT_ARG_STRING, &o.suite, 0, "short or full (the default)", "SUITE"},
        PARITY_SELECTION_OPTIONS(&o.selection),
        {"list", 0, POPT_ARG_NONE, &o.list, 0, "print the names of the cases and run none", NULL},
        {"json", 0, POPT_ARG_STRING, &o.json, 0, "write all results as JSON", "FILE"},
        {"html", 0, POPT_ARG_STRING, &o.html, 0, "write a page that shows all results", "FILE"},
        {"inject", 0, POPT_ARG_STRING, &o.inject, 0,
         "spoil one value of this output in each case, by twice its tolerance or with a NaN", "OUTPUT[:nan]"},
        POPT_TABLEEND};
    int code;
    if (!cli_parse(self, table, argc, argv, &code)) {
        options_free(&o);
        return code;
    }
    code = parse_suite(self, o.suite, &p.suite);
    if (code == CLI_OK && o.inject) {
        code = parse_injection(self, o.inject, &injection);
        p.injection = &injection;
    }
    if (code == CLI_OK)
        code = parity_select(&p, self, &o.selection);
    if (code == CLI_OK && p.injection)
        code = check_injection(&p, self);
    if (code == CLI_OK && o.list) {
        for (size_t i = 0; i < p.case_count; i++)
            printf("%s\n", p.cases[i]->name);
    } else if (code == CLI_OK) {
        code = compare(self, &p, &o);
    }
    parity_close(&p);
    options_free(&o);
    return code;
}
