/* SPDX-License-Identifier: Apache-2.0 */
/* The file of drover-copy --ranges. */
#include "tests/fuzz/scratch.h"
#include "worker/drover-copy/ranges.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GArray) ranges = drover_ranges_read(scratch_file(data, size), &error);
    g_assert((ranges == NULL) == (error != NULL));
    for (guint i = 0; ranges != NULL && i < ranges->len; i++) {
        DroverRange range = g_array_index(ranges, DroverRange, i);
        g_assert(range.length > 0 && range.offset <= G_MAXINT64 && range.length <= G_MAXINT64);
    }
    return 0;
}
