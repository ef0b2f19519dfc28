/* SPDX-License-Identifier: Apache-2.0 */
#include "worker/source/areas.h"

#include <stdint.h>

#include "lib/digest/digest.h"

static int compare_gaps(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static uint64_t gap_before(const GArray *areas, guint i)
{
    const DroverRange *before = &g_array_index(areas, DroverRange, i - 1);
    return g_array_index(areas, DroverRange, i).offset - (before->offset + before->length);
}

unsigned drover_areas_limit(GArray *areas, unsigned max)
{
    if (areas->len <= max)
        return 0;
    unsigned surplus = areas->len - max;
    g_autoptr(GArray) gaps = g_array_sized_new(false, false, sizeof(uint64_t), areas->len);
    for (guint i = 1; i < areas->len; i++) {
        uint64_t gap = gap_before(areas, i);
        g_array_append_val(gaps, gap);
    }
    g_array_sort(gaps, compare_gaps);
    uint64_t limit = g_array_index(gaps, uint64_t, surplus - 1);
    unsigned at_limit = 0; /* gaps of exactly the limit that may still be closed */
    for (unsigned i = surplus; i-- > 0 && g_array_index(gaps, uint64_t, i) == limit;)
        at_limit++;
    guint kept = 0;
    uint64_t end = g_array_index(areas, DroverRange, 0).offset + g_array_index(areas, DroverRange, 0).length;
    for (guint i = 1; i < areas->len; i++) {
        DroverRange area = g_array_index(areas, DroverRange, i);
        uint64_t gap = area.offset - end;
        DroverRange *last = &g_array_index(areas, DroverRange, kept);
        end = area.offset + area.length;
        if (gap < limit || (gap == limit && at_limit > 0)) {
            at_limit -= gap == limit;
            last->length = end - last->offset;
        } else {
            g_array_index(areas, DroverRange, ++kept) = area;
        }
    }
    g_array_set_size(areas, kept + 1);
    return surplus;
}
