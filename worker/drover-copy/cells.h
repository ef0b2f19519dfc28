/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The file of --resume: which cells are done, with their digests. Text, one line a record, each synced before
 * the next cell counts; a torn last line is dropped. The header names source, target and
 * the areas, and other ones are refused.
 *
 *   drover-copy 1 <digest> <source bytes> <source identity, escaped> <target identity, escaped>[ areas:sha256:<hex>]
 *   cell <index> <digest in hex or -> <data bytes> <zero bytes> <skipped bytes>
 */
#ifndef DROVER_WORKER_DROVER_COPY_CELLS_H
#define DROVER_WORKER_DROVER_COPY_CELLS_H

#include "lib/rangeset/rangeset.h"
#include "worker/copy/copy.h"

typedef struct {
    GArray *cells; /* of DroverCopyCell, in the order of completion; ranges are copies */
    GByteArray *done; /* bit i (LSB first): cell i is in it */
    int fd;           /* -1: kept in memory only */
    char *path;
} DroverCells;

/*
 * PATH NULL: memory only. Opens, or begins when there is none yet. AREAS, or NULL for the whole disk: what is copied, as
 * the engine rounds it; cells read from the file get their ranges from it. Errors: another copy, not such a file, not
 * writable.
 */
DroverCells *drover_cells_open(const char *path, DroverDigestAlgorithm digest, uint64_t source_bytes,
                               const char *source, const char *target, DroverRangeset *areas, GError **error);
/* Adds CELLS and makes them durable. Thread-safe against nothing: one caller. */
bool drover_cells_add(DroverCells *cells, const DroverCopyCell *added, size_t n, GError **error);
/* Ascending by index. */
void drover_cells_sort(DroverCells *cells);
void drover_cells_free(DroverCells *cells);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(DroverCells, drover_cells_free)

#endif
