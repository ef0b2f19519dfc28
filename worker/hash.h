/* SPDX-License-Identifier: Apache-2.0 */
/* Digests of whole cells of a source, read over its own NBD connection. One thread; blocks. */
#ifndef DROVER_WORKER_HASH_H
#define DROVER_WORKER_HASH_H

#include <gio/gio.h>

#include "worker/source/source.h"

typedef struct DroverHasher DroverHasher;

/* Connects to the endpoint of SOURCE, which is served and outlives the hasher. NULL: DRV-SOURCE-UNREACHABLE. */
DroverHasher *drover_hasher_new(const DroverSource *source, DroverDigestAlgorithm algorithm, GError **error);
void drover_hasher_free(DroverHasher *hasher);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(DroverHasher, drover_hasher_free)

/* Root of cell CELL as of a full round. Holes are not read; *READ_BYTES grows by what was. RETRYABLE
 * (DRV-SOURCE-READ) when it cannot be read. */
bool drover_hasher_cell(DroverHasher *hasher, uint64_t cell, DroverDigest *root, uint64_t *read_bytes, GError **error);

#endif
