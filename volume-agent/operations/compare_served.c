/* SPDX-License-Identifier: Apache-2.0 */
/* What nbdkit serves, against the book of exports. */
#include <string.h>

#include "lib/base/error.h"
#include "volume-agent/operations/compare_pass.h"

static const DroverExportStat *served_as(const GArray *served, const char *volume_id)
{
    for (guint i = 0; i < served->len; i++) {
        const DroverExportStat *stat = &g_array_index(served, DroverExportStat, i);
        if (strcmp(stat->volume_id, volume_id) == 0)
            return stat;
    }
    return NULL;
}

static bool end_export(DroverComparePass *pass, const char *volume_id, const void *generation, GError **error)
{
    return drover_export_book_end(pass->context->exports, volume_id, *(const uint64_t *)generation, error);
}

/* On the device of today: letters change. False with ERROR: it cannot be, or the server will not have this generation again. */
static bool open_again(const DroverComparePass *pass, const char *volume_id, GError **error)
{
    g_auto(DroverDevice) device = {0};
    GError *why = NULL;
    if (drover_device_find(&pass->context->roots, volume_id, &device, &why))
        return drover_export_book_reopen(pass->context->exports, volume_id, device.path, error);
    if (!why)
        return drover_fail(error, DROVER_ERROR_RETRYABLE, "Volume %s has no device on the appliance", volume_id);
    g_propagate_error(error, why);
    return false;
}

static bool is_mended(DroverComparePass *pass, const char *id, const void *data, GError **error)
{
    (void)pass, (void)id, (void)data, (void)error;
    return true;
}

/* Also an export that is closed in the book, and one of a newer generation than the book has: nobody was granted it. */
static bool compare_unknown(DroverComparePass *pass, const GArray *served, GError **error)
{
    bool ok = true;
    for (guint i = 0; ok && i < served->len; i++) {
        const DroverExportStat *stat = &g_array_index(served, DroverExportStat, i);
        g_autoptr(DroverExportRecord) record = drover_export_book_find(pass->context->exports, stat->volume_id);
        if (record && record->writable && stat->generation <= record->generation)
            continue;
        const DroverDifference difference = {
            .kind = "export-served-unknown",
            .volume_id = stat->volume_id,
            .message = "The NBD server serves an export that the journal does not have open",
            .repair = end_export,
            .data = &stat->generation,
        };
        ok = drover_compare_found(pass, &difference, error);
    }
    return ok;
}

static bool compare_missing(DroverComparePass *pass, const GArray *served, GError **error)
{
    g_autoptr(GPtrArray) records = drover_export_book_list(pass->context->exports);
    bool ok = true;
    for (guint i = 0; ok && i < records->len; i++) {
        const DroverExportRecord *record = g_ptr_array_index(records, i);
        const DroverExportStat *stat = served_as(served, record->volume_id);
        if (!record->writable || !*record->device_path || (stat && stat->generation == record->generation))
            continue;
        DroverDifference difference = {
            .kind = "export-not-served",
            .volume_id = record->volume_id,
            .message = "The journal has an export open that the NBD server does not serve",
            .repair = is_mended,
        };
        g_autoptr(GError) why = NULL;
        bool mend = !pass->looking && pass->repair && g_hash_table_contains(pass->suspects, record->volume_id);
        if (mend && !open_again(pass, record->volume_id, &why)) {
            difference.message = why->message; /* a new generation, which its job asks for, will be served */
            difference.repair = NULL;
        }
        ok = drover_compare_found(pass, &difference, error);
    }
    return ok;
}

bool drover_compare_served(DroverComparePass *pass, GError **error)
{
    g_autoptr(GError) why = NULL;
    GArray *served = drover_export_book_served(pass->context->exports, &why);
    if (!served) {
        const DroverDifference difference = {.kind = "nbd-server-silent", .message = why->message};
        return drover_compare_found(pass, &difference, error);
    }
    bool ok = compare_unknown(pass, served, error) && compare_missing(pass, served, error);
    g_array_unref(served);
    return ok;
}
