/* The user's own folders, as the XDG base directory standard places them. */
#ifndef CLNORM_HOST_FOLDER_H
#define CLNORM_HOST_FOLDER_H

#include <stddef.h>

/* "$VARIABLE/clnorm" if the environment has an absolute path there, else "$HOME/BELOW_HOME/clnorm". 0: there is neither, or no room. */
int cln_folder_path(const char *variable, const char *below_home, char *path, size_t size);
/* Makes the folder and those above it where they are missing, with mode 0700. 0: it is not there; errno says why. path is changed in
 * between. */
int cln_folder_make(char *path);

#endif
