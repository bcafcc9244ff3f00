#include "template.h"

#include <string.h>

static void write_escaped(FILE *stream, const char *text)
{
    for (; *text; text++) {
        switch (*text) {
        case '&':
            fputs("&amp;", stream);
            break;
        case '<':
            fputs("&lt;", stream);
            break;
        case '>':
            fputs("&gt;", stream);
            break;
        case '"':
            fputs("&quot;", stream);
            break;
        default:
            fputc(*text, stream);
        }
    }
}

bool template_write(FILE *stream, const char *template, const struct template_value *values, size_t count)
{
    bool shown = true;
    for (;;) {
        const char *tag = strstr(template, "{{");
        size_t before = tag ? (size_t)(tag - template) : strlen(template);
        if (shown)
            fwrite(template, 1, before, stream);
        if (!tag)
            return shown;
        const char *name = tag + 2, *end = strstr(name, "}}");
        if (!end)
            return false;
        char kind = strchr("&#^/", *name) ? *name++ : ' ';
        const char *text = NULL;
        for (size_t i = 0; i < count; i++) {
            if (strlen(values[i].name) == (size_t)(end - name) && !strncmp(values[i].name, name, (size_t)(end - name)))
                text = values[i].text;
        }
        if (!text)
            return false;
        if (kind == '#' || kind == '^')
            shown = (kind == '#') == (text[0] != '\0');
        else if (kind == '/')
            shown = true;
        else if (shown && kind == '&')
            fputs(text, stream);
        else if (shown)
            write_escaped(stream, text);
        template = end + 2;
    }
}
