/* SPDX-License-Identifier: Apache-2.0 */
#include "core/job/receipt.h"

#include "core/task/cells.h"

static void add_le64(GChecksum *sum, uint64_t value)
{
    uint64_t le = GUINT64_TO_LE(value);
    g_checksum_update(sum, (const guchar *)&le, sizeof le);
}

char *drover_round_digest(const DroverCells *cells)
{
    g_autoptr(GChecksum) sum = g_checksum_new(G_CHECKSUM_SHA256);
    for (size_t i = 0; i < cells->n; i++) {
        add_le64(sum, i);
        g_checksum_update(sum, cells->cell[i].root.bytes, cells->cell[i].root.len);
    }
    return g_strdup(g_checksum_get_string(sum));
}

char *drover_range_hash(const DroverRange *ranges, size_t n_ranges)
{
    g_autoptr(GChecksum) sum = g_checksum_new(G_CHECKSUM_SHA256);
    for (size_t i = 0; i < n_ranges; i++) {
        add_le64(sum, ranges[i].offset);
        add_le64(sum, ranges[i].length);
    }
    return g_strdup(g_checksum_get_string(sum));
}

char *drover_receipt(const char *previous, const char *round_digest, const char *range_hash,
                     const char *change_id)
{
    g_autofree char *text =
        g_strdup_printf("drover-receipt-1\n%s\n%s\n%s\n%s\n", previous, round_digest, range_hash, change_id);
    return g_compute_checksum_for_string(G_CHECKSUM_SHA256, text, -1);
}
