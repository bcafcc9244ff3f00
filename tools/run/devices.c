/* clnorm devices: every device of this machine, with what matters to a norm. */
#include "commands.h"

#include <inttypes.h>
#include <jansson.h>
#include <string.h>

static const char *class_name(clnorm_device_class kind)
{
    switch (kind) {
    case CLNORM_CLASS_HOST:
        return "host";
    case CLNORM_CLASS_CPU:
        return "cpu";
    case CLNORM_CLASS_GPU:
        return "gpu";
    case CLNORM_CLASS_ACCELERATOR:
        return "accelerator";
    }
    return "unknown";
}

/* Drivers name themselves as they like; JSON is UTF-8, so a name that is not loses the bytes that are not ASCII. */
static json_t *json_text(const char *text)
{
    json_t *string = json_string(text);
    if (!string) {
        char ascii[256];
        size_t n = 0;
        for (; n < sizeof ascii - 1 && text[n]; n++)
            ascii[n] = (unsigned char)text[n] < 0x80 ? text[n] : '?';
        ascii[n] = '\0';
        string = json_string(ascii);
    }
    return string;
}

static json_t *device_json(const clnorm_device_info *d)
{
    return json_pack("{s:s, s:o, s:o, s:o, s:o, s:s, s:I, s:I, s:I, s:I, s:I, s:b, s:b, s:b, s:o, s:o}", "id", d->id,
                     "name", json_text(d->name), "platform", json_text(d->platform), "version", json_text(d->version),
                     "driver", json_text(d->driver), "class", class_name(d->kind), "memory", (json_int_t)d->memory,
                     "max_allocation", (json_int_t)d->max_allocation, "local_memory", (json_int_t)d->local_memory,
                     "compute_units", (json_int_t)d->compute_units, "work_group_size", (json_int_t)d->work_group_size,
                     "fp64", d->fp64, "fp16", d->fp16, "subgroups", d->subgroups, "tuning", json_text(d->tuning),
                     "tuning_source", json_text(d->tuning_source));
}

/* Bytes in the largest binary unit that leaves at least 1: "62.7 GiB". */
static void print_bytes(const char *label, uint64_t bytes)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    double value = (double)bytes;
    int unit = 0;
    for (; value >= 1024.0 && unit < 6; unit++)
        value /= 1024.0;
    printf("  %-16s %.*f %s\n", label, unit ? 1 : 0, value, units[unit]);
}

static void print_device(const clnorm_device_info *d)
{
    printf("%s: %s\n", d->id, d->name);
    printf("  %-16s %s\n", "platform", d->platform);
    printf("  %-16s %s%s%s\n", "version", d->version, d->driver[0] ? ", driver " : "", d->driver);
    printf("  %-16s %s\n", "class", class_name(d->kind));
    print_bytes("memory", d->memory);
    print_bytes("max allocation", d->max_allocation);
    print_bytes("local memory", d->local_memory);
    printf("  %-16s %" PRIu32 "\n", "compute units", d->compute_units);
    printf("  %-16s %" PRIu32 "\n", "work-group size", d->work_group_size);
    printf("  %-16s fp64 %s, fp16 %s, subgroups %s\n", "has", d->fp64 ? "yes" : "no", d->fp16 ? "yes" : "no",
           d->subgroups ? "yes" : "no");
    printf("  %-16s %s\n", "tuning", d->tuning);
    if (d->tuning_source[0])
        printf("  %-16s %s\n", "tuning from", d->tuning_source);
}

static int list_devices(const struct cli_command *self, json_t *array)
{
    uint32_t count = 0;
    clnorm_status status = clnorm_device_list(0, NULL, &count);
    for (uint32_t i = 0; i < count && status == CLNORM_OK; i++) {
        clnorm_device_info info = CLNORM_DEVICE_INFO_INIT;
        status = clnorm_device_list(i, &info, &count);
        if (status != CLNORM_OK)
            break;
        if (!array) {
            print_device(&info);
        } else if (json_array_append_new(array, device_json(&info)) != 0) {
            cli_error(self, "the JSON of device %s cannot be made; there is not enough memory", info.id);
            return CLI_FAILED;
        }
    }
    return status == CLNORM_OK ? CLI_OK : cli_status(self, status, "the devices cannot be listed");
}

int cmd_devices(const struct cli_command *self, int argc, const char **argv)
{
    int as_json = 0, exit_code;
    struct poptOption table[] = {{"json", 0, POPT_ARG_NONE, &as_json, 0, "print a JSON list instead of text", NULL},
                                 POPT_TABLEEND};
    if (!cli_parse(self, table, argc, argv, &exit_code))
        return exit_code;
    json_t *array = as_json ? json_array() : NULL;
    exit_code = list_devices(self, array);
    if (as_json && exit_code == CLI_OK) {
        json_dumpf(array, stdout, JSON_INDENT(2));
        printf("\n");
    }
    json_decref(array);
    if (exit_code == CLI_OK && (fflush(stdout) != 0 || ferror(stdout))) {
        cli_error(self, "standard output cannot be written");
        return CLI_FAILED;
    }
    return exit_code;
}
