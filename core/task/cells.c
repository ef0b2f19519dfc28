/* SPDX-License-Identifier: Apache-2.0 */
#include "core/task/cells.h"

#include "core/bits.h"

DroverCells *drover_cells_new(uint64_t capacity_bytes)
{
    DroverCells *cells = g_new0(DroverCells, 1);
    cells->n = (size_t)((capacity_bytes + DROVER_CELL_BYTES - 1) / DROVER_CELL_BYTES);
    cells->cell = g_new0(DroverCell, cells->n);
    return cells;
}

void drover_cells_free(DroverCells *cells)
{
    if (cells == NULL)
        return;
    for (size_t i = 0; i < cells->n; i++)
        g_free(cells->cell[i].ranges);
    g_free(cells->cell);
    g_free(cells);
}

size_t drover_cells_begin(const DroverRange *range)
{
    return (size_t)(range->offset / DROVER_CELL_BYTES);
}

size_t drover_cells_end(const DroverRange *range)
{
    return (size_t)((range->offset + range->length + DROVER_CELL_BYTES - 1) / DROVER_CELL_BYTES);
}

static void take_ranges(DroverCell *cell, const DroverCellDone *done)
{
    g_free(cell->ranges);
    cell->n_ranges = done->n_ranges;
    cell->ranges = done->n_ranges > 0 ? g_memdup2(done->ranges, done->n_ranges * sizeof *done->ranges) : NULL;
}

DroverFold drover_cells_fold(DroverCells *cells, const DroverCellDone *done, bool by_repair)
{
    DroverCell *cell = &cells->cell[done->cell];
    if (cell->root.len > 0 && done->root.len > 0 && !drover_digest_equal(&cell->root, &done->root))
        return DROVER_FOLD_CHANGED;
    /* A repair may be the first to write: a comparison found the cell to differ. */
    bool mended = by_repair && cell->repairing;
    if (cell->root.len == 0 || mended || (!cell->checkpointed && !cell->verified && !cell->repairing)) {
        cell->root = done->root;
        take_ranges(cell, done);
        cell->data_bytes = done->data_bytes;
        cell->zero_found_bytes = done->zero_found_bytes;
        cell->skipped_bytes = done->skipped_bytes;
    }
    if (cell->verified || (cell->repairing && !by_repair))
        return DROVER_FOLD_KNOWN;
    bool fresh = !cell->checkpointed || cell->repairing;
    cell->checkpointed = true;
    cell->repairing = false;
    return fresh ? DROVER_FOLD_NEW : DROVER_FOLD_KNOWN;
}

static void remember_key(DroverTask *task, const DroverCheckpoint *checkpoint)
{
    DroverCheckpointKey key = {g_strdup(checkpoint->key), checkpoint->partition};
    g_array_append_val(task->checkpoint_keys, key);
}

DroverCheckpointFate drover_cells_checkpoint(DroverDisk *disk, const DroverCheckpoint *checkpoint,
                                             GArray *fresh, uint64_t *cell)
{
    DroverTask *task = drover_disk_task(disk, checkpoint->task_id);
    if (task == NULL || drover_task_is_ended(task) || disk->cells == NULL)
        return DROVER_CHECKPOINT_OBSOLETE;
    remember_key(task, checkpoint);
    size_t begin = drover_cells_begin(&task->range), end = drover_cells_end(&task->range);
    for (size_t i = 0; i < checkpoint->n_cells; i++) {
        const DroverCellDone *done = &checkpoint->cells[i];
        if (done->cell < begin || done->cell >= end || done->cell >= disk->cells->n)
            continue;
        if (checkpoint->generation != disk->generation && !disk->cells->cell[done->cell].verified)
            continue;
        switch (drover_cells_fold(disk->cells, done, task->kind == DROVER_TASK_REPAIR)) {
        case DROVER_FOLD_NEW:
            g_array_append_val(fresh, done->cell);
            break;
        case DROVER_FOLD_KNOWN:
            break;
        case DROVER_FOLD_CHANGED:
            *cell = done->cell;
            return DROVER_CHECKPOINT_CHANGED;
        }
    }
    return DROVER_CHECKPOINT_FOLDED;
}

void drover_cells_settle_untouched(DroverCells *cells, const DroverTask *task)
{
    if (task->areas == NULL)
        return;
    size_t next = drover_cells_begin(&task->range), end = MIN(drover_cells_end(&task->range), cells->n);
    for (guint i = 0; i <= task->areas->len; i++) {
        const DroverRange *area = i < task->areas->len ? &g_array_index(task->areas, DroverRange, i) : NULL;
        size_t touched = area != NULL ? drover_cells_begin(area) : end;
        for (; next < touched; next++)
            cells->cell[next].checkpointed = cells->cell[next].verified = true;
        next = MAX(next, area != NULL ? drover_cells_end(area) : end);
    }
}

size_t drover_cells_count_done(const DroverCells *cells, const DroverRange *range)
{
    size_t count = 0;
    for (size_t i = drover_cells_begin(range); i < drover_cells_end(range); i++)
        count += cells->cell[i].checkpointed || cells->cell[i].verified || cells->cell[i].repairing;
    return count;
}

size_t drover_cells_count_verified(const DroverCells *cells, const DroverRange *range)
{
    size_t count = 0;
    for (size_t i = drover_cells_begin(range); i < drover_cells_end(range); i++)
        count += cells->cell[i].verified;
    return count;
}

static GByteArray *zeroed(size_t len)
{
    GByteArray *bytes = g_byte_array_sized_new((guint)len);
    g_byte_array_set_size(bytes, (guint)len);
    if (len > 0)
        memset(bytes->data, 0, len);
    return bytes;
}

GByteArray *drover_cells_done_bits(const DroverCells *cells, const DroverRange *range, DroverCounts *counts)
{
    size_t begin = drover_cells_begin(range), end = drover_cells_end(range);
    GByteArray *bits = zeroed(drover_bits_len(end - begin));
    *counts = (DroverCounts){0};
    for (size_t i = begin; i < end; i++) {
        const DroverCell *cell = &cells->cell[i];
        if (!cell->checkpointed && !cell->verified && !cell->repairing)
            continue;
        drover_bits_set(bits->data, i - begin);
        counts->data += cell->data_bytes;
        counts->zero_found += cell->zero_found_bytes;
        counts->skipped += cell->skipped_bytes;
    }
    return bits;
}

GByteArray *drover_cells_verified_bits(const DroverCells *cells, const DroverRange *range)
{
    size_t begin = drover_cells_begin(range), end = drover_cells_end(range);
    GByteArray *bits = zeroed(drover_bits_len(end - begin));
    for (size_t i = begin; i < end; i++)
        if (cells->cell[i].verified)
            drover_bits_set(bits->data, i - begin);
    return bits;
}

GByteArray *drover_cells_roots(const DroverCells *cells, const DroverRange *range)
{
    GByteArray *roots = g_byte_array_new();
    for (size_t i = drover_cells_begin(range); i < drover_cells_end(range); i++)
        g_byte_array_append(roots, cells->cell[i].root.bytes, cells->cell[i].root.len);
    return roots;
}

void drover_cells_void_unverified(DroverCells *cells)
{
    for (size_t i = 0; i < cells->n; i++) {
        DroverCell *cell = &cells->cell[i];
        if (cell->verified)
            continue;
        cell->checkpointed = false;
        cell->repairing = false;
        cell->data_bytes = cell->zero_found_bytes = cell->skipped_bytes = 0;
        /* the root stays: a second reading must give the same, or the source changed */
    }
}
