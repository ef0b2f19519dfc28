/* SPDX-License-Identifier: Apache-2.0 */
/* Which cells are copied, in which order, and what a cell is made of. */
#include "worker/copy/engine.h"

static uint64_t round_up(uint64_t value, uint64_t block)
{
    return (value + block - 1) / block * block;
}

static bool check_sides(DroverCopy *copy, GError **error)
{
    const DroverExportInfo *source = drover_side_info(copy->source), *target = drover_side_info(copy->target);
    uint64_t expected = copy->params.source_size;
    if (expected != 0 && source->size != expected && source->size != round_up(expected, 512))
        return drover_fail(error, DROVER_ERROR_PERMANENT,
                           "DRV-SOURCE-CHANGED: %s has %" G_GUINT64_FORMAT " bytes, %" G_GUINT64_FORMAT
                           " were expected",
                           drover_side_label(copy->source), source->size, expected);
    if (target->read_only)
        return drover_fail(error, DROVER_ERROR_PERMANENT, "DRV-TARGET-READ-ONLY: %s is read-only",
                           drover_side_label(copy->target));
    if (target->size < source->size)
        return drover_fail(
            error, DROVER_ERROR_PERMANENT,
            "DRV-TARGET-TOO-SMALL: %s has %" G_GUINT64_FORMAT " bytes, the source %s has %" G_GUINT64_FORMAT,
            drover_side_label(copy->target), target->size, drover_side_label(copy->source), source->size);
    if (copy->begin > source->size ||
        (copy->params.length != 0 && copy->params.length > source->size - copy->begin))
        return drover_fail(error, DROVER_ERROR_PERMANENT,
                           "DRV-SOURCE-SHORT: %s has %" G_GUINT64_FORMAT
                           " bytes, the range [%" G_GUINT64_FORMAT ", +%" G_GUINT64_FORMAT ") lies outside",
                           drover_side_label(copy->source), source->size, copy->begin, copy->params.length);
    uint64_t align = MAX(source->min_block, target->min_block);
    if (align > DROVER_LEAF_BYTES)
        return drover_fail(error, DROVER_ERROR_PERMANENT,
                           "A minimum block size of %" G_GUINT64_FORMAT " bytes is not supported", align);
    return true;
}

/* The last write would not fill the target's block, which it would refuse after hours: better now. */
static bool check_tail(const DroverCopy *copy, GError **error)
{
    const DroverExportInfo *target = drover_side_info(copy->target);
    uint64_t tail = copy->end % MAX(target->min_block, 1);
    size_t n = 0;
    const DroverRange *ranges = copy->areas != NULL ? drover_rangeset_ranges(copy->areas, &n) : NULL;
    bool touched = copy->areas == NULL || (n > 0 && ranges[n - 1].offset + ranges[n - 1].length > copy->end - tail);
    if (tail == 0 || copy->end == target->size || !touched)
        return true;
    return drover_fail(error, DROVER_ERROR_PERMANENT,
                       "DRV-TARGET-BLOCK: %s takes blocks of %" G_GUINT64_FORMAT " bytes, the source's %" G_GUINT64_FORMAT
                       " bytes do not end on one; use a target with smaller blocks",
                       drover_side_label(copy->target), target->min_block, copy->end);
}

bool engine_plan(DroverCopy *copy, GError **error)
{
    const DroverExportInfo *source = drover_side_info(copy->source), *target = drover_side_info(copy->target);
    copy->begin = copy->params.offset;
    if (!check_sides(copy, error))
        return false;
    copy->end = copy->params.length != 0 ? copy->begin + copy->params.length : source->size;
    if (copy->end % DROVER_CELL_BYTES != 0 && copy->end < source->size)
        return drover_fail(error, DROVER_ERROR_PERMANENT,
                           "The range ends at %" G_GUINT64_FORMAT
                           ", neither at a cell's end nor at the disk's (%" G_GUINT64_FORMAT ")",
                           copy->end, source->size);
    copy->block_align = MAX(MAX(source->min_block, target->min_block), 1);
    if (copy->areas != NULL) {
        drover_rangeset_clip(copy->areas, copy->begin, copy->end - copy->begin);
        drover_rangeset_align(copy->areas, copy->block_align, copy->end);
    }
    if (!check_tail(copy, error))
        return false;
    copy->use_extents = !copy->params.no_extents && source->has_extents;
    if (!copy->params.no_extents && !source->has_extents)
        engine_log(copy, DROVER_LOG_INFO, "copy.no-extents",
                   "%s does not tell holes (no base:allocation): all of it is read",
                   drover_side_label(copy->source));
    if (!target->can_flush)
        engine_log(copy, DROVER_LOG_WARNING, "copy.no-flush",
                   "%s offers no flush: its word for a write is all there is",
                   drover_side_label(copy->target));

    copy->next_cell = copy->ask_from = copy->begin;
    uint64_t at = copy->begin, offset, end;
    size_t area = 0;
    while (engine_next_cell(copy, &at, &area, &offset, &end)) {
        if (copy->areas == NULL) {
            copy->total_bytes += end - offset;
            continue;
        }
        Cell *cell = engine_cell_new(copy, offset, end);
        copy->total_bytes += cell->total_bytes;
        engine_cell_free(cell);
    }
    return true;
}

static bool is_done(const DroverCopy *copy, uint64_t offset)
{
    uint64_t bit = (offset - copy->begin) / DROVER_CELL_BYTES;
    return bit / 8 < copy->done_cells->len && (copy->done_cells->data[bit / 8] >> (bit % 8) & 1) != 0;
}

bool engine_next_cell(DroverCopy *copy, uint64_t *at, size_t *area, uint64_t *offset, uint64_t *end)
{
    while (*at < copy->end) {
        if (copy->areas != NULL) {
            size_t n;
            const DroverRange *ranges = drover_rangeset_ranges(copy->areas, &n);
            while (*area < n && ranges[*area].offset + ranges[*area].length <= *at)
                (*area)++;
            if (*area == n)
                break;
            *at = MAX(*at, ranges[*area].offset / DROVER_CELL_BYTES * DROVER_CELL_BYTES);
        }
        *offset = *at;
        *end = MIN(*at + DROVER_CELL_BYTES, copy->end);
        *at = *end;
        if (!is_done(copy, *offset))
            return true;
    }
    *at = copy->end;
    return false;
}

/* The canonical ranges of a cell when areas are copied. */
static void take_areas(DroverCopy *copy, Cell *cell)
{
    size_t n;
    const DroverRange *ranges = drover_rangeset_ranges(copy->areas, &n);
    size_t first = drover_rangeset_find(copy->areas, cell->offset), last = first;
    while (last < n && ranges[last].offset < cell->end)
        last++;
    cell->own_ranges = g_new(DroverRange, MAX(last - first, 1));
    for (size_t i = first; i < last; i++) {
        uint64_t from = MAX(ranges[i].offset, cell->offset);
        uint64_t to = MIN(ranges[i].offset + ranges[i].length, cell->end);
        cell->own_ranges[i - first] = (DroverRange){from, to - from};
        cell->total_bytes += to - from;
    }
    cell->out.n_ranges = last - first;
    cell->out.ranges = cell->own_ranges;
}

Cell *engine_cell_new(DroverCopy *copy, uint64_t offset, uint64_t end)
{
    Cell *cell = g_new0(Cell, 1);
    cell->out.cell = offset / DROVER_CELL_BYTES;
    cell->offset = offset;
    cell->end = end;
    if (copy->areas != NULL)
        take_areas(copy, cell);
    else
        cell->total_bytes = end - offset;
    return cell;
}

void engine_cell_reset(DroverCopy *copy, Cell *cell)
{
    cell->state = CELL_ACTIVE;
    cell->segment = 0;
    cell->segment_done = 0;
    cell->remaining = cell->total_bytes;
    cell->out.data_bytes = cell->out.zero_found_bytes = cell->out.skipped_bytes = 0;
    copy->unflushed_bytes -= cell->reserved;
    cell->reserved = 0;
    cell->sent = 0;
    drover_cell_digest_free(cell->digest);
    cell->digest = NULL;
    if (copy->params.digest != DROVER_DIGEST_NONE)
        cell->digest = drover_cell_digest_new(copy->params.digest, cell->offset, cell->end - cell->offset,
                                              cell->own_ranges, cell->out.n_ranges);
}

void engine_cell_free(Cell *cell)
{
    if (cell == NULL)
        return;
    drover_cell_digest_free(cell->digest);
    if (cell->segments != NULL)
        g_array_unref(cell->segments);
    g_free(cell->own_ranges);
    g_free(cell);
}
