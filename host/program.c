/* Programs: one a device, section of kernels.cl and form, specialised by build options alone, taken from the disk cache where it is
 * there. */
#include "cache.h"
#include "opencl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const macros[] = {
#define MACRO(name, macro) macro,
    CLN_PROGRAM_LIST(MACRO)
#undef MACRO
};

const char *const cln_program_names[] = {"segments", "rows", "columns", "groups", "double"};

enum cln_program cln_program_of(const struct cln_view *view)
{
    if (view->family == CLN_COLUMNS)
        return CLN_PROGRAM_COLUMNS;
    return view->along ? CLN_PROGRAM_ROWS : CLN_PROGRAM_SEGMENTS;
}

enum cln_program cln_kernel_program(enum cln_kernel kernel, const struct cln_view *view)
{
    if (kernel >= CLN_KERNEL_DOUBLE_REDUCE)
        return CLN_PROGRAM_DOUBLE;
    if (kernel >= CLN_KERNEL_FORWARD_FINISH)
        return CLN_PROGRAM_GROUPS;
    return kernel == CLN_KERNEL_ROWS_WEIGHTS ? CLN_PROGRAM_COLUMNS : cln_program_of(view);
}

void cln_kernel_name(enum cln_kernel kernel, const struct cln_view *view, char *name, size_t size)
{
    static const char *const steps[] = {
#define STEP(name, text) text,
        CLN_FAMILY_KERNEL_LIST(STEP) CLN_FROM_Y_KERNEL_LIST(STEP) CLN_COLUMNS_KERNEL_LIST(STEP)
            CLN_GROUPS_KERNEL_LIST(STEP) CLN_LENGTHS_KERNEL_LIST(STEP) CLN_MASK_KERNEL_LIST(STEP)
                CLN_DOUBLE_KERNEL_LIST(STEP)
#undef STEP
    };
    snprintf(name, size, "%s_%s", cln_program_names[cln_kernel_program(kernel, view)], steps[kernel]);
}

struct cln_form cln_form_of(const clnorm_desc *desc, enum cln_program which)
{
    struct cln_form form = {desc->dtype,
                            desc->y_dtype,
                            desc->activation,
                            desc->residual,
                            desc->backward_from_y != 0,
                            desc->lengths != 0,
                            desc->activation_mask != 0};
    if (which == CLN_PROGRAM_GROUPS || which == CLN_PROGRAM_DOUBLE) /* a mask alone is made of y */
        return (struct cln_form){.y = form.mask ? form.y : CLNORM_F32, .lengths = form.lengths, .mask = form.mask};
    if (which == CLN_PROGRAM_COLUMNS && form.residual == CLNORM_RESIDUAL_BEFORE)
        form.residual = CLNORM_NO_RESIDUAL; /* the sum is backward's x */
    return form;
}

static int is_plain(const struct cln_form *f)
{
    return f->x == CLNORM_F32 && f->y == CLNORM_F32 && !f->activation && !f->residual && !f->from_y;
}

static int equal_forms(const struct cln_form *a, const struct cln_form *b)
{
    return a->x == b->x && a->y == b->y && a->activation == b->activation && a->residual == b->residual &&
           a->from_y == b->from_y && a->lengths == b->lengths && a->mask == b->mask;
}

#define OPTIONS "-cl-std=CL1.2 -D%s"

static void make_options(const struct cln_tuning *t, enum cln_program which, const struct cln_form *form, char *options,
                         size_t size)
{
    if (which == CLN_PROGRAM_SEGMENTS || which == CLN_PROGRAM_ROWS)
        snprintf(options, size, OPTIONS " -DW=%u -DWG=%u -DSPAN=%u", macros[which], t->segments_width,
                 t->segments_group, t->segments_span);
    else if (which == CLN_PROGRAM_COLUMNS)
        snprintf(options, size, OPTIONS " -DW=%u -DWG=%u -DSPAN=%u", macros[which], t->columns_width, t->columns_group,
                 t->columns_span);
    else
        snprintf(options, size, OPTIONS " -DW=1 -DWG=%u", macros[which], t->groups_group);
    size_t used = strlen(options);
    if (!is_plain(form))
        snprintf(options + used, size - used, " -DXT=%d -DYT=%d -DACT=%d -DRES=%d", (int)form->x, (int)form->y,
                 (int)form->activation, (int)form->residual);
    used = strlen(options);
    if (form->from_y)
        snprintf(options + used, size - used, " -DFROM_Y=1");
    used = strlen(options);
    if (form->lengths)
        snprintf(options + used, size - used, " -DLENGTHS=1");
    used = strlen(options);
    if (form->mask)
        snprintf(options + used, size - used, " -DMASK=1");
}

static clnorm_status build_failed(cl_program program, cl_device_id id, const char *options, cl_int code)
{
    char log[3000] = "";
    if (clGetProgramBuildInfo(program, id, CL_PROGRAM_BUILD_LOG, sizeof log - 1, log, NULL) != CL_SUCCESS)
        snprintf(log, sizeof log, "(its log is not to be had, or is longer than %zu bytes)", sizeof log);
    return cln_fail(CLNORM_E_BUILD, "clBuildProgram with %s failed with code %d (%s): %s", options, (int)code,
                    cln_cl_code_name(code), log);
}

static clnorm_status build_from_source(struct cln_cl_device *impl, const char *options, cl_program *out)
{
    const char *source = clnorm_kernels_source;
    cl_int code;
    cl_program program = clCreateProgramWithSource(impl->context, 1, &source, NULL, &code);
    if (code != CL_SUCCESS)
        return cln_cl_fail("clCreateProgramWithSource", code);
    code = clBuildProgram(program, 1, &impl->id, options, NULL, NULL);
    if (code != CL_SUCCESS) {
        clnorm_status status = build_failed(program, impl->id, options, code);
        clReleaseProgram(program);
        return status;
    }
    *out = program;
    return CLNORM_OK;
}

/* NULL if the device refuses the binary: then the source is built. */
static cl_program build_from_binary(struct cln_cl_device *impl, const char *options, const struct cln_blob *binary)
{
    cl_int code, binary_status;
    const unsigned char *bytes = binary->bytes;
    cl_program program =
        clCreateProgramWithBinary(impl->context, 1, &impl->id, &binary->size, &bytes, &binary_status, &code);
    if (code != CL_SUCCESS)
        return NULL;
    if (binary_status != CL_SUCCESS || clBuildProgram(program, 1, &impl->id, options, NULL, NULL) != CL_SUCCESS) {
        clReleaseProgram(program);
        return NULL;
    }
    return program;
}

/* The binary of a program that was built for impl's device; a context may have more devices than this one. */
static int get_binary(struct cln_cl_device *impl, cl_program program, struct cln_blob *binary)
{
    enum { MOST = 64 };
    cl_device_id ids[MOST];
    size_t sizes[MOST] = {0}, id_bytes = 0, mine = MOST;
    unsigned char *pointers[MOST] = {NULL};
    if (clGetProgramInfo(program, CL_PROGRAM_DEVICES, sizeof ids, ids, &id_bytes) != CL_SUCCESS ||
        clGetProgramInfo(program, CL_PROGRAM_BINARY_SIZES, sizeof sizes, sizes, NULL) != CL_SUCCESS)
        return 0;
    size_t count = id_bytes / sizeof ids[0];
    for (size_t i = 0; i < count; i++) {
        if (ids[i] == impl->id)
            mine = i;
    }
    if (mine == MOST || sizes[mine] == 0)
        return 0;
    binary->size = sizes[mine];
    binary->bytes = pointers[mine] = malloc(binary->size);
    if (binary->bytes &&
        clGetProgramInfo(program, CL_PROGRAM_BINARIES, count * sizeof pointers[0], pointers, NULL) == CL_SUCCESS)
        return 1;
    cln_blob_free(binary);
    return 0;
}

static clnorm_status build(clnorm_device *device, enum cln_program which, const struct cln_form *form, cl_program *out)
{
    struct cln_cl_device *impl = device->impl;
    char options[160];
    make_options(&impl->tuning, which, form, options, sizeof options);
    struct cln_cache_key key = cln_cache_key_make(options, &device->info);
    struct cln_blob binary = {0};
    if (cln_cache_read(&key, &binary)) {
        *out = build_from_binary(impl, options, &binary);
        cln_blob_free(&binary);
        if (*out) {
            impl->counts.from_cache++;
            return CLNORM_OK;
        }
    }
    clnorm_status status = build_from_source(impl, options, out);
    if (status != CLNORM_OK)
        return status;
    impl->counts.from_source++;
    if (get_binary(impl, *out, &binary)) {
        cln_cache_write(&key, &binary);
        cln_blob_free(&binary);
    }
    return CLNORM_OK;
}

static struct cln_built *find(const struct cln_cl_device *impl, enum cln_program which, const struct cln_form *form)
{
    struct cln_built *b = impl->built;
    while (b && (b->which != which || !equal_forms(&b->form, form)))
        b = b->next;
    return b;
}

static clnorm_status build_new(clnorm_device *device, enum cln_program which, const struct cln_form *form,
                               struct cln_built **out)
{
    struct cln_cl_device *impl = device->impl;
    struct cln_built *b = malloc(sizeof *b);
    if (!b)
        return cln_fail(CLNORM_E_NO_MEMORY, "clnorm_plan_create: out of memory for a program");
    *b = (struct cln_built){.which = which, .form = *form, .next = impl->built};
    clnorm_status status = build(device, which, form, &b->program);
    if (status != CLNORM_OK) {
        free(b);
        return status;
    }
    *out = impl->built = b;
    return CLNORM_OK;
}

clnorm_status cln_program_get(clnorm_device *device, enum cln_program which, struct cln_form form, cl_program *program)
{
    struct cln_cl_device *impl = device->impl;
    clnorm_status status = CLNORM_OK;
    pthread_mutex_lock(&impl->lock);
    struct cln_built *b = find(impl, which, &form);
    if (!b)
        status = build_new(device, which, &form, &b);
    *program = b ? b->program : NULL;
    pthread_mutex_unlock(&impl->lock);
    return status;
}

void cln_programs_release(struct cln_cl_device *device)
{
    while (device->built) {
        struct cln_built *b = device->built;
        device->built = b->next;
        clReleaseProgram(b->program);
        free(b);
    }
}
