/* What a backend is: a table of functions. Only this level knows that there are two; choosing is a loop. */
#ifndef CLNORM_SRC_BACKEND_BACKEND_H
#define CLNORM_SRC_BACKEND_BACKEND_H

#include "backend/op.h"

#include <stdatomic.h>

struct cln_backend;

struct clnorm_device {
    const struct cln_backend *backend;
    atomic_int references; /* the opener's, and one a plan and a memory */
    clnorm_device_info info;
    void *impl; /* the backend's */
};

struct clnorm_memory {
    clnorm_device *device;
    size_t bytes;
    int mapped;
    void *impl; /* host: the address; OpenCL: the host's struct */
};

struct clnorm_plan {
    clnorm_device *device;
    clnorm_desc desc;
    struct cln_view view;  /* of desc.n */
    struct cln_view batch; /* of what shares its statistics: a virtual batch, or all */
    size_t partials_bytes; /* set by the backend's plan_create: bytes of PARTIALS in the workspace, */
    int needs_no_planes;   /* and whether no call needs STATE, STATISTICS or SUMS there: rows that stay in the cache */
    struct cln_span workspace; /* the plan's own */
    clnorm_memory *workspace_memory;
    char explain[4096];
    void *impl; /* the backend's */
};

/* In explain, with a uint32_t each, for every call. Tests count what is moved and read this. */
#define CLN_EXPLAIN_BYTES "  bytes an element: %u read from memory, %u written"

/* CLNORM_LLC_BYTES: bytes of the last-level cache that may be counted on; 0: it does not say. */
uint64_t cln_cache_bytes_told(void);
/* What of a last-level cache of `bytes` such cores may count on. No processor has more than 16 MiB of it a core: where there seems to
 * be more, these are a few of a host's cores, and a virtual machine was told of all of the host's cache. */
uint64_t cln_cache_share(uint64_t bytes, uint32_t cores);

/* A line of explain about a plan's virtual batches, if it has several; returns its length. */
size_t cln_plan_explain_batches(const clnorm_plan *plan, char *text, size_t bytes);

struct cln_backend {
    /* Devices. count and describe open nothing. open fills device->info and device->impl. */
    uint32_t (*count)(void);
    clnorm_status (*describe)(uint32_t i, clnorm_device_info *info);
    clnorm_status (*open)(uint32_t i, clnorm_device *device);
    void (*close)(clnorm_device *device);
    clnorm_status (*build_all)(clnorm_device *device);
    void (*build_counts)(const clnorm_device *device, clnorm_build_counts *counts);
    clnorm_status (*finish)(clnorm_device *device);
    /* row NULL: forgets what was saved. */
    clnorm_status (*save_tuning)(const clnorm_device *device, const char *row);

    /* Memory; ranges are checked by the caller. */
    clnorm_status (*memory_create)(clnorm_memory *memory);
    void (*memory_destroy)(clnorm_memory *memory);
    clnorm_status (*memory_write)(clnorm_memory *memory, size_t offset, const void *source, size_t bytes);
    clnorm_status (*memory_read)(clnorm_memory *memory, size_t offset, void *target, size_t bytes);
    clnorm_status (*memory_map)(clnorm_memory *memory, size_t offset, size_t bytes, void **pointer);
    clnorm_status (*memory_unmap)(clnorm_memory *memory);

    /* Arguments. `who` and `name` are for the sentence. The buffer is not NONE. */
    clnorm_status (*resolve)(const clnorm_device *device, const char *who, const char *name,
                             const clnorm_buffer *buffer, struct cln_span *span);
    clnorm_status (*check_stream)(const clnorm_device *device, const char *who, const void *stream);

    /* Plans. plan_create chooses variants, sets partials_bytes and writes explain. */
    clnorm_status (*plan_create)(clnorm_plan *plan);
    void (*plan_destroy)(clnorm_plan *plan);
    clnorm_status (*run)(clnorm_plan *plan, const struct cln_op *op);
    clnorm_status (*query_found)(clnorm_plan *plan, uint32_t *found);
};

/* In the order in which devices are counted; ended by NULL. */
extern const struct cln_backend *const cln_backends[];
extern const struct cln_backend cln_cpu_backend;
#ifdef CLNORM_WITH_OPENCL
extern const struct cln_backend cln_opencl_backend;
#endif

/* A device with one reference and nothing opened yet; NULL: out of memory. */
clnorm_device *cln_device_new(const struct cln_backend *backend);
void cln_device_retain(clnorm_device *device);
void cln_device_release(clnorm_device *device);

#endif
