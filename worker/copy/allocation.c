/* SPDX-License-Identifier: Apache-2.0 */
#include "worker/copy/allocation.h"

DroverAllocation *drover_allocation_new(uint64_t offset, uint64_t end)
{
    DroverAllocation *allocation = g_new(DroverAllocation, 1);
    *allocation = (DroverAllocation){offset, end, offset, g_array_new(FALSE, FALSE, sizeof(DroverSegment))};
    return allocation;
}

void drover_allocation_free(DroverAllocation *allocation)
{
    if (allocation == NULL)
        return;
    g_array_unref(allocation->runs);
    g_free(allocation);
}

/* Joins with the last one where they touch and are of one kind. */
static void push(GArray *segments, uint64_t offset, uint64_t length, bool hole, guint first)
{
    if (length == 0)
        return;
    if (segments->len > first) {
        DroverSegment *last = &g_array_index(segments, DroverSegment, segments->len - 1);
        if (last->hole == hole && last->offset + last->length == offset) {
            last->length += length;
            return;
        }
    }
    DroverSegment segment = {offset, length, hole};
    g_array_append_val(segments, segment);
}

void drover_allocation_append(DroverAllocation *allocation, uint64_t length, bool hole)
{
    length = MIN(length, allocation->end - allocation->known_to);
    push(allocation->runs, allocation->known_to, length, hole, 0);
    allocation->known_to += length;
}

bool drover_allocation_is_complete(const DroverAllocation *allocation)
{
    return allocation->known_to == allocation->end;
}

static uint64_t round_down(uint64_t offset)
{
    return offset / DROVER_LEAF_BYTES * DROVER_LEAF_BYTES;
}

static guint find_run(const GArray *runs, uint64_t offset)
{
    guint low = 0, high = runs->len;
    while (low < high) {
        guint middle = low + (high - low) / 2;
        const DroverSegment *run = &g_array_index(runs, DroverSegment, middle);
        if (run->offset + run->length <= offset)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

void drover_allocation_cut(const DroverAllocation *allocation, const DroverRange *range, GArray *segments)
{
    uint64_t at = range->offset, end = range->offset + range->length;
    g_assert(at >= allocation->offset && end <= allocation->known_to);
    guint first = segments->len;
    for (guint i = find_run(allocation->runs, at); at < end; i++) {
        const DroverSegment *run = &g_array_index(allocation->runs, DroverSegment, i);
        uint64_t run_end = MIN(run->offset + run->length, end);
        if (run_end <= at)
            continue; /* swallowed by the last data piece */
        if (run->hole) {
            /* A hole gives up its last, broken piece to the data that follows. */
            uint64_t hole_end = run_end < end ? MAX(round_down(run_end), at) : run_end;
            push(segments, at, hole_end - at, true, first);
            at = hole_end;
        } else {
            uint64_t data_end = MIN(round_down(run_end + DROVER_LEAF_BYTES - 1), end);
            push(segments, at, data_end - at, false, first);
            at = data_end;
        }
    }
}
