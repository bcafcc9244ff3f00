/* Program binaries on disk. Nothing here ever fails a call: a cache that cannot be read or written is no cache. */
#ifndef CLNORM_HOST_CACHE_H
#define CLNORM_HOST_CACHE_H

#include <clnorm/clnorm.h>

struct cln_blob {
    unsigned char *bytes;
    size_t size;
};
void cln_blob_free(struct cln_blob *blob);

struct cln_cache_key {
    unsigned char bytes[16];
};

/* XXH3-128, chained over: the format of the cache, kernels.cl, the build options, the device's name, its version, its driver's
 * version and its platform's name. */
struct cln_cache_key cln_cache_key_make(const char *options, const clnorm_device_info *info);

/* 1 and a whole, checked binary (free it), or 0. */
int cln_cache_read(const struct cln_cache_key *key, struct cln_blob *blob);
/* Writes beside the target and renames, so that other processes see a whole file or none. */
void cln_cache_write(const struct cln_cache_key *key, const struct cln_blob *blob);

#endif
