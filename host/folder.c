#include "folder.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

int cln_folder_path(const char *variable, const char *below_home, char *path, size_t size)
{
    const char *xdg = getenv(variable), *home = getenv("HOME");
    int length = -1;
    if (xdg && xdg[0] == '/')
        length = snprintf(path, size, "%s/clnorm", xdg);
    else if (home && *home)
        length = snprintf(path, size, "%s/%s/clnorm", home, below_home);
    return length > 0 && (size_t)length < size;
}

int cln_folder_make(char *path)
{
    for (char *p = path + 1; *p; p++) {
        if (*p == '/') {
            *p = '\0';
            (void)mkdir(path, 0700);
            *p = '/';
        }
    }
    return mkdir(path, 0700) == 0 || errno == EEXIST;
}
