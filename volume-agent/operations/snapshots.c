/* SPDX-License-Identifier: Apache-2.0 */
#include "volume-agent/operations/operations.h"

#include <string.h>

#include "lib/base/error.h"
#include "lib/base/ids.h"
#include "volume-agent/operations/look.h"

bool drover_op_track_snapshot(const DroverOpContext *context, DroverOperation *operation, GError **error)
{
    const Drover__V1__TrackSnapshot *asked = operation->asked->track_snapshot;
    json_t *row = NULL;
    if (!drover_look_snapshot(context, asked->snapshot_id, &row, error))
        return false;
    bool of_volume = row && strcmp(drover_json_text(row, "volumeid"), asked->volume_id) == 0;
    bool exists = row != NULL;
    json_decref(row);
    if (!of_volume)
        return drover_fail(error, DROVER_ERROR_PERMANENT,
                           "DRV-SNAPSHOT-MISSING: CloudStack has no snapshot %s%s%s", asked->snapshot_id,
                           exists ? " of volume " : "", exists ? asked->volume_id : "");
    g_autoptr(DroverSnapshotRecord) known = drover_snapshot_book_find(context->snapshots, asked->snapshot_id);
    int64_t now_ms = drover_now_ms();
    const DroverSnapshotRecord record = {.snapshot_id = asked->snapshot_id,
                                         .volume_id = asked->volume_id,
                                         .vm_id = asked->vm_id,
                                         .name = asked->name,
                                         .status = asked->status,
                                         .created_at_ms = known ? known->created_at_ms : now_ms,
                                         .updated_at_ms = now_ms};
    drover_set_text(&operation->result.volume_id, asked->volume_id);
    return drover_snapshot_book_put(context->snapshots, &record, error);
}

bool drover_op_update_snapshot(const DroverOpContext *context, DroverOperation *operation, GError **error)
{
    const Drover__V1__UpdateSnapshot *asked = operation->asked->update_snapshot;
    g_autoptr(DroverSnapshotRecord) record =
        drover_snapshot_book_find(context->snapshots, asked->snapshot_id);
    if (!record)
        return drover_fail(error, DROVER_ERROR_PERMANENT,
                           "DRV-SNAPSHOT-MISSING: snapshot %s is not tracked by this agent",
                           asked->snapshot_id);
    if (*asked->status)
        drover_set_text(&record->status, asked->status);
    if (*asked->name)
        drover_set_text(&record->name, asked->name);
    record->updated_at_ms = drover_now_ms();
    drover_set_text(&operation->result.volume_id, record->volume_id);
    return drover_snapshot_book_put(context->snapshots, record, error);
}

bool drover_op_clear_snapshots(const DroverOpContext *context, DroverOperation *operation, GError **error)
{
    const Drover__V1__ClearSnapshots *asked = operation->asked->clear_snapshots;
    if ((*asked->snapshot_id != '\0') + (*asked->volume_id != '\0') + (*asked->vm_id != '\0') != 1)
        return drover_fail(error, DROVER_ERROR_PERMANENT,
                           "clear-snapshots needs exactly one of snapshot_id, volume_id and vm_id");
    if (*asked->snapshot_id)
        return drover_snapshot_book_remove(context->snapshots, asked->snapshot_id, error);
    g_autoptr(GPtrArray) all = drover_snapshot_book_list(context->snapshots, asked->volume_id, asked->vm_id);
    operation->result.already_done = all->len == 0;
    for (guint i = 0; i < all->len; i++)
        if (!drover_snapshot_book_remove(
                context->snapshots, ((DroverSnapshotRecord *)g_ptr_array_index(all, i))->snapshot_id, error))
            return false;
    return true;
}
