/* The last error of a thread, and how every level reports one. Lowest level: includes nothing of the library's own. */
#ifndef CLNORM_SRC_BASE_STATUS_H
#define CLNORM_SRC_BASE_STATUS_H

#include <clnorm/clnorm.h>

/* Stores the sentence and returns status, so that `return cln_fail(…)` reads as one act. */
clnorm_status cln_fail(clnorm_status status, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
