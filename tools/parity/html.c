/* The page: a template (page.html) with the results in the place of its mark. */
#include "parity.h"

#include <stdlib.h>
#include <string.h>

extern const char parity_page[];

bool parity_html(const json_t *root, FILE *stream)
{
    static const char mark[] = "@RESULTS@";
    const char *place = strstr(parity_page, mark);
    char *text = json_dumps(root, JSON_COMPACT | JSON_REAL_PRECISION(9));
    if (!place || !text) {
        free(text);
        return false;
    }
    fwrite(parity_page, 1, (size_t)(place - parity_page), stream);
    for (const char *c = text; *c; c++) { /* "</script>" in a device's name must not end the script */
        if (*c == '<')
            fputs("\\u003c", stream);
        else
            fputc(*c, stream);
    }
    fputs(place + strlen(mark), stream);
    free(text);
    return true;
}
