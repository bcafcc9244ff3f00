/* A small part of the Mustache template language: {{name}} a value escaped for HTML, {{&name}} the value as it is,
 * {{#name}}…{{/name}} kept if the value is not empty, {{^name}}…{{/name}} if it is. Sections do not nest. */
#ifndef CLNORM_DEMO_TEMPLATE_H
#define CLNORM_DEMO_TEMPLATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

struct template_value {
    const char *name, *text;
};

/* false: a tag has no end, or its name is not among the values. */
bool template_write(FILE *stream, const char *template, const struct template_value *values, size_t count);

#endif
