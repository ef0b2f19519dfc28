/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads cells back from the device that a volume is attached as, past the page cache where that is possible: what counts
 * is what the storage returns, not what memory still holds. Holes of a regular file are zeroes by definition and are not
 * read; a block device is read whole.
 */
#ifndef DROVER_VOLUME_AGENT_VERIFY_READ_BACK_H
#define DROVER_VOLUME_AGENT_VERIFY_READ_BACK_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "lib/digest/digest.h"

typedef struct DroverReadBack DroverReadBack;

/* Opens PATH for reading. Not thread-safe: one per thread. */
DroverReadBack *drover_read_back_open(const char *path, GError **error);
void drover_read_back_close(DroverReadBack *back);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(DroverReadBack, drover_read_back_close)

/* O_DIRECT is in effect. */
bool drover_read_back_is_direct(const DroverReadBack *back);

/*
 * The root of cell CELL of a disk of CAPACITY bytes over RANGES (N_RANGES 0: the whole cell). *READ_BYTES is increased
 * by what was read. Blocks. Fails with RETRYABLE on an I/O error, PERMANENT when the device is smaller than CAPACITY.
 */
bool drover_read_back_cell(DroverReadBack *back, DroverDigestAlgorithm algorithm, uint64_t cell, uint64_t capacity,
                           const DroverRange *ranges, size_t n_ranges, DroverDigest *root, uint64_t *read_bytes,
                           GError **error);

#endif
