/* SPDX-License-Identifier: Apache-2.0 */
#include "core/task/planner.h"

uint64_t drover_plan_task_bytes(uint64_t allocated_bytes, uint32_t slots)
{
    uint64_t bytes = allocated_bytes / (4 * (uint64_t)MAX(slots, 1));
    return CLAMP(bytes, DROVER_RANGE_MIN, DROVER_RANGE_MAX);
}

/* part / whole of VALUE without overflow; part <= whole. */
static uint64_t share(uint64_t value, uint64_t part, uint64_t whole)
{
    return whole == 0 ? 0 : (uint64_t)((unsigned __int128)value * part / whole);
}

/* Prefix sums of the buckets: sums[i] = allocated bytes before bucket i. */
static uint64_t *prefix_sums(const DroverShape *shape)
{
    uint64_t *sums = g_new0(uint64_t, shape->n_buckets + 1);
    for (size_t i = 0; i < shape->n_buckets; i++)
        sums[i + 1] = sums[i] + shape->buckets[i];
    return sums;
}

/* Allocated bytes before OFFSET. Linear inside a bucket, so differences always add up to the whole. */
static uint64_t allocated_before(const DroverShape *shape, const uint64_t *sums, uint64_t offset)
{
    if (offset >= shape->capacity_bytes)
        return shape->n_buckets > 0 && shape->bucket_bytes > 0 ? sums[shape->n_buckets]
                                                               : shape->allocated_bytes;
    if (shape->n_buckets == 0 || shape->bucket_bytes == 0)
        return share(shape->allocated_bytes, offset, shape->capacity_bytes);
    size_t bucket = (size_t)(offset / shape->bucket_bytes);
    if (bucket >= shape->n_buckets)
        return sums[shape->n_buckets];
    uint64_t begin = bucket * shape->bucket_bytes;
    uint64_t length = MIN(shape->bucket_bytes, shape->capacity_bytes - begin);
    return sums[bucket] + share(shape->buckets[bucket], offset - begin, length);
}

static void append(GArray *plan, const DroverShape *shape, const uint64_t *sums, uint64_t begin, uint64_t end)
{
    DroverPlannedRange planned = {
        .range = {begin, end - begin},
        .planned_bytes = allocated_before(shape, sums, end) - allocated_before(shape, sums, begin),
    };
    g_array_append_val(plan, planned);
}

GArray *drover_plan_by_data(const DroverShape *shape, uint64_t task_bytes)
{
    GArray *plan = g_array_new(false, false, sizeof(DroverPlannedRange));
    g_autofree uint64_t *sums = prefix_sums(shape);
    uint64_t capacity = shape->capacity_bytes, begin = 0;
    uint64_t all = allocated_before(shape, sums, capacity);
    while (begin < capacity) {
        uint64_t before = allocated_before(shape, sums, begin), end = begin;
        do
            end += DROVER_CELL_BYTES;
        while (end < capacity && end - begin < DROVER_RANGE_SPAN_MAX &&
               allocated_before(shape, sums, end) - before < task_bytes);
        end = MIN(end, capacity);
        /* A small rest would be a task of its own that only costs a start. */
        if (all - allocated_before(shape, sums, end) < task_bytes / 4 &&
            capacity - begin <= DROVER_RANGE_SPAN_MAX)
            end = capacity;
        append(plan, shape, sums, begin, end);
        begin = end;
    }
    return plan;
}

GArray *drover_plan_by_length(const DroverShape *shape, uint64_t range_bytes)
{
    GArray *plan = g_array_new(false, false, sizeof(DroverPlannedRange));
    g_autofree uint64_t *sums = prefix_sums(shape);
    uint64_t step = CLAMP(range_bytes, DROVER_CELL_BYTES, DROVER_RANGE_SPAN_MAX);
    step = (step + DROVER_CELL_BYTES - 1) / DROVER_CELL_BYTES * DROVER_CELL_BYTES;
    for (uint64_t begin = 0; begin < shape->capacity_bytes; begin += step)
        append(plan, shape, sums, begin, MIN(begin + step, shape->capacity_bytes));
    return plan;
}

static uint64_t cell_end(uint64_t offset, uint64_t capacity)
{
    return MIN((offset / DROVER_CELL_BYTES + 1) * DROVER_CELL_BYTES, capacity);
}

GArray *drover_plan_by_areas(const GArray *areas, uint64_t capacity_bytes, uint64_t task_bytes, guint areas_max)
{
    GArray *plan = g_array_new(false, false, sizeof(DroverPlannedRange));
    DroverPlannedRange open = {.range.length = 0};
    guint pieces = 0;
    for (guint i = 0; i < areas->len; i++) {
        const DroverRange *area = &g_array_index(areas, DroverRange, i);
        for (uint64_t at = area->offset, end = at + area->length; at < end;) {
            uint64_t stop = cell_end(at, capacity_bytes), length = MIN(end, stop) - at;
            uint64_t open_end = open.range.offset + open.range.length;
            bool full = open.planned_bytes >= task_bytes || pieces >= areas_max ||
                        stop - open.range.offset > DROVER_RANGE_SPAN_MAX;
            if (open.range.length == 0 || (at >= open_end && full)) {
                if (open.range.length > 0)
                    g_array_append_val(plan, open);
                open = (DroverPlannedRange){.range.offset = at / DROVER_CELL_BYTES * DROVER_CELL_BYTES};
                pieces = 0;
            }
            open.range.length = stop - open.range.offset;
            open.planned_bytes += length;
            pieces++;
            at += length;
        }
    }
    if (open.range.length > 0)
        g_array_append_val(plan, open);
    return plan;
}

GArray *drover_areas_in(const GArray *areas, const DroverRange *range)
{
    GArray *inside = g_array_new(false, false, sizeof(DroverRange));
    for (guint i = 0; i < areas->len; i++) {
        const DroverRange *area = &g_array_index(areas, DroverRange, i);
        uint64_t begin = MAX(area->offset, range->offset);
        uint64_t end = MIN(area->offset + area->length, range->offset + range->length);
        if (begin >= end)
            continue;
        DroverRange part = {begin, end - begin};
        g_array_append_val(inside, part);
    }
    return inside;
}
