#include "parity.h"

#include <stdlib.h>
#include <string.h>

/* Are both "opencl:P.…" with the same P? */
static bool on_one_platform(const clnorm_device_info *a, const clnorm_device_info *b)
{
    const size_t length = strcspn(a->id, ".");
    return a->id[length] == '.' && !strncmp(a->id, b->id, length + 1);
}

/* The very device again, or the same one shown by a second platform (an ICD file that is there twice). Two devices of one
 * platform are two, however alike. */
static bool is_duplicate(const struct parity *p, const clnorm_device_info *info)
{
    for (size_t i = 0; i < p->device_count; i++) {
        const clnorm_device_info *other = &p->devices[i].info;
        if (!strcmp(other->id, info->id))
            return true;
        if (!on_one_platform(other, info) && !strcmp(other->platform, info->platform) &&
            !strcmp(other->name, info->name) && !strcmp(other->version, info->version) &&
            !strcmp(other->driver, info->driver))
            return true;
    }
    return false;
}

static int open_one(struct parity *p, const struct cli_command *self, const char *name)
{
    clnorm_device *device = NULL;
    clnorm_device_info info = CLNORM_DEVICE_INFO_INIT;
    clnorm_status status = clnorm_device_open(name, &device);
    if (status == CLNORM_OK)
        status = clnorm_device_get_info(device, &info);
    if (status != CLNORM_OK) {
        int code = cli_status(self, status, name);
        clnorm_device_destroy(device);
        return code;
    }
    struct parity_device *grown = NULL;
    if (!is_duplicate(p, &info)) {
        grown = realloc(p->devices, (p->device_count + 1) * sizeof *grown);
        if (!grown) {
            clnorm_device_destroy(device);
            cli_error(self, "out of memory");
            return CLI_FAILED;
        }
    }
    if (!grown) {
        clnorm_device_destroy(device);
        return CLI_OK;
    }
    p->devices = grown;
    struct parity_device *d = &grown[p->device_count++];
    memset(d, 0, sizeof *d);
    d->device = device;
    d->info = info;
    return CLI_OK;
}

static int open_all(struct parity *p, const struct cli_command *self)
{
    uint32_t count = 1;
    for (uint32_t i = 0; i < count; i++) {
        clnorm_device_info info = CLNORM_DEVICE_INFO_INIT;
        clnorm_status status = clnorm_device_list(i, &info, &count);
        int code = status == CLNORM_OK ? open_one(p, self, info.id) : cli_status(self, status, "--devices all");
        if (code != CLI_OK)
            return code;
    }
    return CLI_OK;
}

int parity_open(struct parity *p, const struct cli_command *self, const char *list)
{
    clnorm_status status = clnorm_device_open("cpu", &p->cpu);
    if (status != CLNORM_OK)
        return cli_status(self, status, "cpu");
    if (!strcmp(list, "all"))
        return open_all(p, self);
    char *copy = strdup(list);
    int code = copy ? CLI_OK : CLI_FAILED;
    for (char *name = copy, *end; name && code == CLI_OK; name = end) {
        end = strchr(name, ',');
        if (end)
            *end++ = '\0';
        code = *name ? open_one(p, self, name)
                     : cli_error(self, "--devices is '%s': between commas there must be the name of a device", list);
    }
    free(copy);
    return code;
}

void parity_close(struct parity *p)
{
    for (size_t i = 0; i < p->device_count; i++) {
        free(p->devices[i].results);
        clnorm_device_destroy(p->devices[i].device);
    }
    clnorm_device_destroy(p->cpu);
    free(p->devices);
    free(p->cases);
}
