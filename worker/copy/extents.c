/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Asks the source which parts hold data, ahead of the copy: regions of up to 1 GiB, some at a time, so that
 * slow answers cost one round trip at the beginning and not one for each region.
 */
#include "worker/copy/engine.h"

#include <errno.h>

#define REGION_BYTES (UINT64_C(1) << 30) /* a multiple of the cell, so that a cell lies in one region */
#define REGIONS_AHEAD 8
/* A question that goes unanswered so often is given up: its region is read. What is slow once is slow again, so a
 * stall, which costs a whole deadline, counts more. */
#define MAX_LOSSES 10
#define A_STALL 5
/* A region full of tiny extents takes memory; then look less far ahead. */
#define RUNS_AHEAD 200000

typedef struct {
    DroverAllocation *map;
    unsigned losses;
} Region;

static void region_free(gpointer data)
{
    Region *region = data;
    drover_allocation_free(region->map);
    g_free(region);
}

static void ask(DroverCopy *copy, Region *region, int64_t now_us)
{
    DroverOp *op = drover_op_new(DROVER_OP_EXTENTS, region->map->known_to,
                                 region->map->end - region->map->known_to, NULL, region);
    copy->result->extents_requests++;
    drover_side_submit(copy->source, op, 0, now_us);
}

/* The next stretch with cells to copy: from the first of them up to the end of the last one in the same GiB.
 */
static bool next_region(DroverCopy *copy, uint64_t *from, uint64_t *to)
{
    uint64_t at = copy->ask_from, offset, end, limit = 0;
    size_t area = 0;
    if (copy->areas != NULL)
        area = drover_rangeset_find(copy->areas, at);
    *to = 0;
    while (engine_next_cell(copy, &at, &area, &offset, &end)) {
        if (limit == 0) {
            *from = offset;
            limit = (offset / REGION_BYTES + 1) * REGION_BYTES;
        }
        if (offset >= limit)
            break;
        *to = end;
    }
    copy->ask_from = *to != 0 ? *to : copy->end;
    return *to != 0;
}

void engine_extents_ask(DroverCopy *copy, int64_t now_us)
{
    guint runs = 0;
    for (GList *link = copy->regions.head; link != NULL; link = link->next)
        runs += ((Region *)link->data)->map->runs->len;
    uint64_t from = 0, to = 0;
    while (copy->use_extents && copy->regions.length < REGIONS_AHEAD && runs < RUNS_AHEAD &&
           copy->ask_from < copy->end && next_region(copy, &from, &to)) {
        Region *region = g_new0(Region, 1);
        region->map = drover_allocation_new(from, to);
        g_queue_push_tail(&copy->regions, region);
        ask(copy, region, now_us);
    }
}

void engine_extents_answer(DroverCopy *copy, DroverOp *op, int64_t now_us)
{
    Region *region = op->owner;
    DroverAllocation *map = region->map;
    bool unanswered = op->lost || op->error == ENOMEM;
    if (unanswered)
        region->losses += op->stalled ? A_STALL : 1;
    if (unanswered && region->losses < MAX_LOSSES) {
        /* Ask again; if the next connection has no extents, libnbd refuses the question and it counts as data
         * below. */
        ask(copy, region, now_us);
    } else if (op->lost || op->error != 0) {
        if (!copy->extents_failed)
            engine_log(copy, DROVER_LOG_INFO, "copy.extents-error",
                       "%s does not tell the extents at %" G_GUINT64_FORMAT " (%s): taken as data",
                       drover_side_label(copy->source), op->offset,
                       op->lost ? "no answer" : g_strerror(op->error));
        copy->extents_failed = true;
        drover_allocation_append(map, map->end - map->known_to, false);
    } else {
        uint64_t from = map->known_to, small_bytes = 0;
        guint small = 0;
        for (guint i = 0; i < op->runs->len && !drover_allocation_is_complete(map); i++) {
            const DroverRun *run = &g_array_index(op->runs, DroverRun, i);
            uint64_t length = MIN(run->length, map->end - map->known_to);
            if (run->hole && length >= DROVER_CELL_BYTES)
                engine_log(copy, DROVER_LOG_DEBUG, "copy.hole",
                           "%" G_GUINT64_FORMAT " bytes at %" G_GUINT64_FORMAT " are a hole", length, map->known_to);
            else if (run->hole)
                small++, small_bytes += length;
            drover_allocation_append(map, run->length, run->hole);
        }
        if (small > 0)
            engine_log(copy, DROVER_LOG_DEBUG, "copy.holes",
                       "%" G_GUINT64_FORMAT " bytes in [%" G_GUINT64_FORMAT ", %" G_GUINT64_FORMAT ") are %u small holes",
                       small_bytes, from, map->known_to, small);
        if (!drover_allocation_is_complete(map))
            ask(copy, region, now_us);
    }
    drover_op_free(op);
}

bool engine_extents_known(DroverCopy *copy, uint64_t offset, uint64_t end)
{
    if (!copy->use_extents)
        return true;
    for (Region *region; (region = g_queue_peek_head(&copy->regions)) != NULL && region->map->end <= offset &&
                         drover_allocation_is_complete(region->map);)
        region_free(g_queue_pop_head(&copy->regions));
    Region *region = g_queue_peek_head(&copy->regions);
    return region != NULL && region->map->offset <= offset && region->map->known_to >= end;
}

void engine_extents_cut(DroverCopy *copy, const DroverRange *range, GArray *segments)
{
    if (copy->use_extents) {
        drover_allocation_cut(((Region *)g_queue_peek_head(&copy->regions))->map, range, segments);
        return;
    }
    DroverSegment data = {range->offset, range->length, false};
    g_array_append_val(segments, data);
}

void engine_extents_clear(DroverCopy *copy)
{
    g_queue_clear_full(&copy->regions, region_free);
}
