/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/rangeset/rangeset.h"

#define END_MAX (UINT64_C(1) << 63)

struct DroverRangeset {
    GArray *ranges; /* of DroverRange */
    bool dirty;     /* not in order */
};

static DroverRange *at(const DroverRangeset *set, size_t i)
{
    return &g_array_index(set->ranges, DroverRange, i);
}

static uint64_t end_of(const DroverRange *range)
{
    return range->offset + range->length;
}

DroverRangeset *drover_rangeset_new(void)
{
    DroverRangeset *set = g_new0(DroverRangeset, 1);
    set->ranges = g_array_new(FALSE, FALSE, sizeof(DroverRange));
    return set;
}

void drover_rangeset_free(DroverRangeset *set)
{
    if (set == NULL)
        return;
    g_array_unref(set->ranges);
    g_free(set);
}

static int compare(gconstpointer a, gconstpointer b)
{
    const DroverRange *x = a, *y = b;
    return x->offset < y->offset ? -1 : x->offset > y->offset;
}

static void settle(DroverRangeset *set)
{
    if (!set->dirty)
        return;
    set->dirty = false;
    g_array_sort(set->ranges, compare);
    guint n = 0;
    for (guint i = 0; i < set->ranges->len; i++) {
        DroverRange range = *at(set, i);
        if (n > 0 && range.offset <= end_of(at(set, n - 1))) {
            DroverRange *last = at(set, n - 1);
            last->length = MAX(end_of(last), end_of(&range)) - last->offset;
        } else {
            *at(set, n++) = range;
        }
    }
    g_array_set_size(set->ranges, n);
}

bool drover_rangeset_add(DroverRangeset *set, uint64_t offset, uint64_t length)
{
    if (offset > END_MAX || length > END_MAX - offset)
        return false;
    if (length == 0)
        return true;
    guint n = set->ranges->len;
    if (n > 0 && !set->dirty) {
        DroverRange *last = at(set, n - 1);
        if (offset >= last->offset && offset <= end_of(last)) {
            last->length = MAX(end_of(last), offset + length) - last->offset;
            return true;
        }
        set->dirty = offset < last->offset;
    }
    DroverRange range = {offset, length};
    g_array_append_val(set->ranges, range);
    return true;
}

/* Replaces the list by what KEEP leaves of each range. */
static void cut(DroverRangeset *set, uint64_t offset, uint64_t length, bool keep_inside)
{
    settle(set);
    uint64_t end = length > END_MAX - MIN(offset, END_MAX) ? END_MAX : offset + length;
    GArray *result = g_array_sized_new(FALSE, FALSE, sizeof(DroverRange), set->ranges->len + 1);
    for (guint i = 0; i < set->ranges->len; i++) {
        DroverRange range = *at(set, i);
        uint64_t range_end = end_of(&range);
        uint64_t in_from = MAX(range.offset, offset), in_to = MIN(range_end, end);
        if (keep_inside) {
            if (in_from < in_to)
                g_array_append_val(result, ((DroverRange){in_from, in_to - in_from}));
            continue;
        }
        if (in_from >= in_to) {
            g_array_append_val(result, range);
            continue;
        }
        if (range.offset < in_from)
            g_array_append_val(result, ((DroverRange){range.offset, in_from - range.offset}));
        if (in_to < range_end)
            g_array_append_val(result, ((DroverRange){in_to, range_end - in_to}));
    }
    g_array_unref(set->ranges);
    set->ranges = result;
}

void drover_rangeset_remove(DroverRangeset *set, uint64_t offset, uint64_t length)
{
    if (length > 0)
        cut(set, offset, length, false);
}

void drover_rangeset_clip(DroverRangeset *set, uint64_t offset, uint64_t length)
{
    cut(set, offset, length, true);
}

void drover_rangeset_align(DroverRangeset *set, uint64_t block, uint64_t limit)
{
    g_assert(block > 0);
    drover_rangeset_clip(set, 0, limit);
    for (guint i = 0; i < set->ranges->len; i++) {
        DroverRange *range = at(set, i);
        uint64_t start = range->offset / block * block;
        uint64_t blocks = (end_of(range) - 1) / block + 1;
        uint64_t end = blocks > limit / block ? limit : blocks * block;
        *range = (DroverRange){start, end - start};
    }
    set->dirty = true; /* neighbours may touch now */
}

const DroverRange *drover_rangeset_ranges(DroverRangeset *set, size_t *n)
{
    settle(set);
    *n = set->ranges->len;
    return at(set, 0);
}

uint64_t drover_rangeset_bytes(DroverRangeset *set)
{
    settle(set);
    uint64_t bytes = 0;
    for (guint i = 0; i < set->ranges->len; i++)
        bytes += at(set, i)->length;
    return bytes;
}

size_t drover_rangeset_find(DroverRangeset *set, uint64_t offset)
{
    settle(set);
    size_t low = 0, high = set->ranges->len;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (end_of(at(set, middle)) <= offset)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

bool drover_rangeset_contains(DroverRangeset *set, uint64_t offset, uint64_t length)
{
    if (length == 0)
        return true;
    size_t i = drover_rangeset_find(set, offset);
    return i < set->ranges->len && at(set, i)->offset <= offset && length <= end_of(at(set, i)) - offset;
}
