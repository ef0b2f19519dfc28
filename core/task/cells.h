/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The cells of one disk in one round: which are written and flushed (checkpointed), with what digest, and
 * which were read back equal (verified). Checkpoints of all attempts and tasks are folded into it, in any
 * order and any number of times. Pure.
 */
#ifndef DROVER_CORE_TASK_CELLS_H
#define DROVER_CORE_TASK_CELLS_H

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/job/model.h"

typedef struct {
    DroverDigest root;   /* len 0: not known */
    DroverRange *ranges; /* what the root is of, owned; n_ranges 0: the whole cell */
    size_t n_ranges;
    uint32_t data_bytes;
    uint32_t zero_found_bytes;
    uint32_t skipped_bytes;
    bool checkpointed;
    bool verified;
    bool repairing; /* the target differed: void until a repair task has checkpointed it */
} DroverCell;

typedef struct DroverCells {
    size_t n;
    DroverCell *cell;
} DroverCells;

DroverCells *drover_cells_new(uint64_t capacity_bytes);
void drover_cells_free(DroverCells *cells);

/* First cell of RANGE, and the one after its last. */
size_t drover_cells_begin(const DroverRange *range);
size_t drover_cells_end(const DroverRange *range);

/* One cell of a checkpoint. */
typedef struct {
    uint64_t cell;
    DroverDigest root;
    const DroverRange *ranges; /* n_ranges 0: the whole cell */
    size_t n_ranges;
    uint32_t data_bytes;
    uint32_t zero_found_bytes;
    uint32_t skipped_bytes;
} DroverCellDone;

typedef enum {
    DROVER_FOLD_NEW,     /* the cell is checkpointed now and was not before */
    DROVER_FOLD_KNOWN,   /* nothing new */
    DROVER_FOLD_CHANGED, /* the cell has another digest already: the source is not frozen */
} DroverFold;

/* BY_REPAIR: written by a repair task. */
DroverFold drover_cells_fold(DroverCells *cells, const DroverCellDone *done, bool by_repair);

/* A checkpoint record. */
typedef struct {
    const char *task_id;
    uint64_t generation;
    const char *key;
    int32_t partition;
    const DroverCellDone *cells;
    size_t n_cells;
} DroverCheckpoint;

typedef enum {
    DROVER_CHECKPOINT_FOLDED,
    DROVER_CHECKPOINT_OBSOLETE, /* belongs to an ended task: its record can be tombstoned */
    DROVER_CHECKPOINT_CHANGED,  /* CELL has two digests */
} DroverCheckpointFate;

/*
 * Folds CHECKPOINT into DISK. Cells outside of the task's range are skipped; cells of another generation than
 * the current one count only where they were read back already (for their digest). Newly checkpointed cells
 * are appended to FRESH (uint64_t). The key is remembered with the task for tombstones.
 */
DroverCheckpointFate drover_cells_checkpoint(DroverDisk *disk, const DroverCheckpoint *checkpoint,
                                             GArray *fresh, uint64_t *cell);

/* Cells of TASK in which none of its areas lies have nothing to copy and nothing to read back: settled. */
void drover_cells_settle_untouched(DroverCells *cells, const DroverTask *task);

/* How many cells of RANGE are checkpointed (or being repaired) / verified. */
size_t drover_cells_count_done(const DroverCells *cells, const DroverRange *range);
size_t drover_cells_count_verified(const DroverCells *cells, const DroverRange *range);

/* Bitmaps over RANGE, newly allocated, and the counts of the cells in them. A cell under repair counts as
 * done. */
GByteArray *drover_cells_done_bits(const DroverCells *cells, const DroverRange *range, DroverCounts *counts);
GByteArray *drover_cells_verified_bits(const DroverCells *cells, const DroverRange *range);
/* All roots of RANGE in order. */
GByteArray *drover_cells_roots(const DroverCells *cells, const DroverRange *range);

/* Everything that is not verified is void: the generation was poisoned or replaced. */
void drover_cells_void_unverified(DroverCells *cells);

#endif
