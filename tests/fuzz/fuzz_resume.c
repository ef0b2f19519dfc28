/* SPDX-License-Identifier: Apache-2.0 */
/* The file of drover-copy --resume: it is ours and whole, ours and cut short, or left as it is. */
#include <string.h>

#include "tests/fuzz/scratch.h"
#include "worker/drover-copy/cells.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void try_file(const uint8_t *data, size_t size, DroverRangeset *areas)
{
    const uint64_t disk = 8 * DROVER_CELL_BYTES - 512;
    const char *path = scratch_file(data, size);
    g_autoptr(GError) error = NULL;
    g_autoptr(DroverCells) cells = drover_cells_open(path, DROVER_DIGEST_XXH3, disk, "source", "target", areas, &error);
    g_assert((cells == NULL) == (error != NULL));
    g_autofree char *left = NULL;
    gsize len = 0;
    g_assert(g_file_get_contents(path, &left, &len, NULL));
    if (cells == NULL) {
        g_assert(len == size && memcmp(left, data, size) == 0);
        return;
    }
    g_assert_cmpuint(cells->cells->len, <=, 8);
    for (guint i = 0; i < cells->cells->len; i++) {
        const DroverCopyCell *cell = &g_array_index(cells->cells, DroverCopyCell, i);
        g_assert_cmpuint(cell->cell, <, 8);
        g_assert((cell->n_ranges > 0) == (areas != NULL));
        for (size_t r = 0; r < cell->n_ranges; r++)
            g_assert(cell->ranges[r].length > 0 && cell->ranges[r].offset / DROVER_CELL_BYTES == cell->cell &&
                     (cell->ranges[r].offset + cell->ranges[r].length - 1) / DROVER_CELL_BYTES == cell->cell);
    }
    /* What was read is what the next run reads, with what is added to it. */
    guint before = cells->cells->len;
    const uint64_t limit = areas != NULL ? 6 : 8; /* only these have a part in the areas */
    DroverCopyCell added = {.digest = {.len = 16}};
    while (added.cell < limit && cells->done->len > 0 && cells->done->data[0] >> added.cell & 1)
        added.cell++;
    if (added.cell < limit)
        g_assert(drover_cells_add(cells, &added, 1, NULL));
    g_clear_pointer(&cells, drover_cells_free); /* and its lock */
    g_autoptr(DroverCells) again = drover_cells_open(path, DROVER_DIGEST_XXH3, disk, "source", "target", areas, &error);
    g_assert_no_error(error);
    g_assert_cmpuint(again->cells->len, ==, before + (added.cell < limit));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    try_file(data, size, NULL);
    g_autoptr(DroverRangeset) areas = drover_rangeset_new();
    drover_rangeset_add(areas, 512, 1024);
    drover_rangeset_add(areas, DROVER_CELL_BYTES - 512, 5 * DROVER_CELL_BYTES);
    try_file(data, size, areas);
    return 0;
}
