#include "base/status.h"

#include <stdarg.h>
#include <stdio.h>

/* Long enough for a build log's first screen. */
static _Thread_local char last_error[4096];

clnorm_status cln_fail(clnorm_status status, const char *format, ...)
{
    /* The arguments may point into last_error itself (a sentence that wraps another one). */
    char text[sizeof last_error];
    va_list list;
    va_start(list, format);
    vsnprintf(text, sizeof text, format, list);
    va_end(list);
    snprintf(last_error, sizeof last_error, "%s", text);
    return status;
}

const char *clnorm_last_error(void)
{
    return last_error;
}

const char *clnorm_status_name(clnorm_status status)
{
    switch (status) {
#define CASE(name, number, text)                                                                                       \
    case CLNORM_##name:                                                                                                \
        return "CLNORM_" #name;
        CLNORM_STATUS_LIST(CASE)
#undef CASE
    }
    return "CLNORM_E_?";
}

const char *clnorm_status_text(clnorm_status status)
{
    switch (status) {
#define CASE(name, number, text)                                                                                       \
    case CLNORM_##name:                                                                                                \
        return text;
        CLNORM_STATUS_LIST(CASE)
#undef CASE
    }
    return "not a status of this library";
}

#define STRINGIZE_(x) #x
#define STRINGIZE(x)  STRINGIZE_(x)

const char *clnorm_version(void)
{
    return STRINGIZE(CLNORM_VERSION_MAJOR) "." STRINGIZE(CLNORM_VERSION_MINOR) "." STRINGIZE(CLNORM_VERSION_PATCH);
}
