/* SPDX-License-Identifier: Apache-2.0 */
#include "worker/hash.h"

#include <libnbd.h>
#include <string.h>

#include "lib/base/error.h"
#include "lib/base/ids.h"
#include "lib/base/log.h"

#define REQUEST_BYTES (UINT64_C(2) << 20) /* a multiple of the leaves */
#define HOLE_ZERO 2u                      /* base:allocation: reads as zero */

struct DroverHasher {
    struct nbd_handle *handle;
    const DroverSource *source;
    DroverDigestAlgorithm algorithm;
    bool extents;
    uint8_t *buffer;
};

static bool connect_to(struct nbd_handle *handle, const DroverSource *source)
{
    if (source->endpoint.extents && nbd_add_meta_context(handle, LIBNBD_CONTEXT_BASE_ALLOCATION) < 0)
        return false;
    return source->endpoint.socket_path != NULL ? nbd_connect_unix(handle, source->endpoint.socket_path) == 0
                                                : nbd_connect_uri(handle, source->endpoint.uri) == 0;
}

static bool failed(GError **error, const char *code, const char *what)
{
    const char *text = nbd_get_error();
    g_autofree char *cause = drover_redact(text == NULL ? "no reason given" : text);
    return drover_fail(error, DROVER_ERROR_RETRYABLE, "%s: %s: %s", code, what, cause);
}

DroverHasher *drover_hasher_new(const DroverSource *source, DroverDigestAlgorithm algorithm, GError **error)
{
    g_autoptr(DroverHasher) hasher = g_new0(DroverHasher, 1);
    hasher->source = source;
    hasher->algorithm = algorithm;
    hasher->buffer = g_malloc(REQUEST_BYTES);
    hasher->handle = nbd_create();
    if (hasher->handle == NULL || !connect_to(hasher->handle, source)) {
        failed(error, "DRV-SOURCE-UNREACHABLE", "cannot connect to the source");
        return NULL;
    }
    hasher->extents = source->endpoint.extents &&
                      nbd_can_meta_context(hasher->handle, LIBNBD_CONTEXT_BASE_ALLOCATION) == 1;
    return g_steal_pointer(&hasher);
}

void drover_hasher_free(DroverHasher *hasher)
{
    if (hasher == NULL)
        return;
    if (hasher->handle != NULL)
        nbd_close(hasher->handle);
    g_free(hasher->buffer);
    g_free(hasher);
}

typedef struct {
    uint64_t offset; /* asked for */
    uint64_t zeroes; /* from there on */
    bool answered;
} Zeroes;

static int on_extents(void *data, const char *context, uint64_t offset, uint32_t *entries, size_t n, int *error)
{
    Zeroes *zeroes = data;
    (void)error;
    if (strcmp(context, LIBNBD_CONTEXT_BASE_ALLOCATION) != 0 || offset != zeroes->offset)
        return 0;
    zeroes->answered = true;
    for (size_t i = 0; i + 1 < n && (entries[i + 1] & HOLE_ZERO) != 0; i += 2)
        zeroes->zeroes += entries[i];
    return 0;
}

/* Whole leaves (or the disk's short last one) from OFFSET on that read as zero without reading. */
static uint64_t zeroes_at(const DroverHasher *hasher, uint64_t offset, uint64_t end)
{
    Zeroes zeroes = {.offset = offset};
    nbd_extent_callback callback = {.callback = on_extents, .user_data = &zeroes};
    if (!hasher->extents || nbd_block_status(hasher->handle, end - offset, offset, callback, 0) < 0 ||
        !zeroes.answered)
        return 0;
    return zeroes.zeroes >= end - offset ? end - offset : zeroes.zeroes / DROVER_LEAF_BYTES * DROVER_LEAF_BYTES;
}

bool drover_hasher_cell(DroverHasher *hasher, uint64_t cell, DroverDigest *root, uint64_t *read_bytes, GError **error)
{
    uint64_t begin = cell * DROVER_CELL_BYTES, at = begin;
    uint64_t end = MIN(begin + DROVER_CELL_BYTES, hasher->source->capacity_bytes);
    g_autoptr(DroverCellDigest) digest = drover_cell_digest_new(hasher->algorithm, begin, end - begin, NULL, 0);
    while (at < end) {
        uint64_t zeroes = zeroes_at(hasher, at, end), length = MIN(REQUEST_BYTES, end - at);
        if (zeroes > 0) {
            drover_cell_digest_add_zero(digest, at, zeroes);
            at += zeroes;
            continue;
        }
        if (nbd_pread(hasher->handle, hasher->buffer, length, at, 0) < 0)
            return failed(error, "DRV-SOURCE-READ", "reading the source");
        drover_cell_digest_add(digest, at, hasher->buffer, length);
        *read_bytes += length;
        at += length;
    }
    return drover_cell_digest_root(digest, root) ||
           drover_fail(error, DROVER_ERROR_FATAL, "DRV-INTERNAL: a cell was hashed and is not complete");
}
