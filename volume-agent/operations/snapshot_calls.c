/* SPDX-License-Identifier: Apache-2.0 */
/* Snapshots of volumes at CloudStack. What this agent takes it tracks, and it changes only what it tracks. */
#include <string.h>

#include "lib/base/error.h"
#include "lib/base/ids.h"
#include "volume-agent/operations/call.h"
#include "volume-agent/operations/look.h"
#include "volume-agent/operations/operations.h"

#define LONGEST_NAME 255

static DroverSnapshotRecord *tracked(const DroverOpContext *context, const char *snapshot_id, GError **error)
{
    DroverSnapshotRecord *record = drover_snapshot_book_find(context->snapshots, snapshot_id);
    if (!record)
        drover_fail(error, DROVER_ERROR_PERMANENT, "DRV-SNAPSHOT-MISSING: snapshot %s is not tracked by this agent", snapshot_id);
    return record;
}

/* ---- create --------------------------------------------------------------------------------------------------- */

/* CloudStack lets names repeat, and a repeated call would take another snapshot: the operation's id tells them apart. */
static char *name_of(const DroverOperation *operation)
{
    const char *wanted = *operation->asked->create_snapshot->name ? operation->asked->create_snapshot->name : "drover";
    size_t room = LONGEST_NAME - 1 - MIN(strlen(operation->asked->operation_id), (size_t)LONGEST_NAME / 2);
    g_autofree char *head = g_strndup(wanted, room);
    g_autofree char *valid = g_utf8_make_valid(head, -1);
    while (strlen(valid) > room) /* a character was cut through, and its mark takes more room than it had */
        *g_utf8_find_prev_char(valid, valid + strlen(valid)) = '\0';
    return g_strdup_printf("%s-%.*s", valid, LONGEST_NAME / 2, operation->asked->operation_id);
}

static bool may_snapshot(const DroverOpContext *context, const char *volume_id, GError **error)
{
    g_autoptr(DroverExportRecord) export = drover_export_book_find(context->exports, volume_id);
    if (export && export->writable)
        return drover_fail(error, DROVER_ERROR_PERMANENT,
                           "DRV-SNAPSHOT-WRITTEN: volume %s is being written through its export; what is not flushed yet would not be in the snapshot",
                           volume_id);
    json_t *volume = NULL;
    if (!drover_look_volume(context, volume_id, &volume, error))
        return false;
    bool exists = volume != NULL;
    json_decref(volume);
    return exists || drover_fail(error, DROVER_ERROR_PERMANENT, "DRV-VOLUME-MISSING: CloudStack has no volume %s", volume_id);
}

bool drover_op_create_snapshot(const DroverOpContext *context, DroverOperation *operation, GError **error)
{
    const Drover__V1__CreateSnapshot *asked = operation->asked->create_snapshot;
    g_autofree char *name = name_of(operation);
    json_t *row = NULL;
    if (!drover_look_snapshot_named(context, asked->volume_id, name, &row, error))
        return false;
    operation->result.already_done = row != NULL;
    if (!row) {
        if (!may_snapshot(context, asked->volume_id, error))
            return false;
        drover_set_text(&operation->wanted, name);
        const char *const parameters[] = {"volumeid", asked->volume_id, "name", name, NULL};
        if (!drover_op_call(context, operation, "createSnapshot", parameters, NULL, error) ||
            !drover_look_snapshot_named(context, asked->volume_id, name, &row, error))
            return false;
    }
    if (!row)
        return drover_fail(error, DROVER_ERROR_RETRYABLE, "Snapshot '%s' of volume %s was taken and is not there", name, asked->volume_id);
    int64_t now_ms = drover_now_ms();
    const DroverSnapshotRecord record = {.snapshot_id = (char *)drover_json_text(row, "id"),
                                         .volume_id = asked->volume_id,
                                         .vm_id = asked->vm_id,
                                         .name = *asked->name ? asked->name : name,
                                         .status = (char *)"created",
                                         .created_at_ms = now_ms,
                                         .updated_at_ms = now_ms};
    drover_set_text(&operation->result.snapshot_id, record.snapshot_id);
    drover_set_text(&operation->result.volume_id, asked->volume_id);
    bool ok = drover_snapshot_book_put(context->snapshots, &record, error);
    json_decref(row);
    return ok;
}

/* ---- revert --------------------------------------------------------------------------------------------------- */

/* Under a VM that runs CloudStack refuses it, or does it without an effect (#4356). */
static bool is_at_rest(const DroverOpContext *context, DroverOperation *operation, const char *volume_id, GError **error)
{
    json_t *volume = NULL, *vm = NULL;
    if (!drover_op_claim(context, operation, volume_id, error) || !drover_look_volume(context, volume_id, &volume, error))
        return false;
    if (!volume)
        return drover_fail(error, DROVER_ERROR_PERMANENT, "DRV-VOLUME-MISSING: CloudStack has no volume %s", volume_id);
    g_autofree char *where = g_strdup(drover_json_text(volume, "virtualmachineid"));
    json_decref(volume);
    if (!*where)
        return true;
    if (!drover_op_claim(context, operation, where, error) || !drover_look_vm(context, where, &vm, error))
        return false;
    g_autofree char *state = g_strdup(drover_json_text(vm, "state"));
    json_decref(vm);
    return strcmp(state, "Stopped") == 0 ||
           drover_fail(error, DROVER_ERROR_PERMANENT, "DRV-VM-RUNNING: volume %s is attached to VM %s, which is %s; detach the volume or stop the VM",
                       volume_id, where, state);
}

/* Called again after a crash it does the same once more: nothing was written meanwhile, since the volume is this operation's. */
bool drover_op_revert_to(const DroverOpContext *context, DroverOperation *operation, const char *snapshot_id, GError **error)
{
    g_autoptr(DroverSnapshotRecord) record = tracked(context, snapshot_id, error);
    json_t *row = NULL;
    if (!record || !is_at_rest(context, operation, record->volume_id, error) || !drover_look_snapshot(context, snapshot_id, &row, error))
        return false;
    bool exists = row != NULL;
    json_decref(row);
    if (!exists)
        return drover_fail(error, DROVER_ERROR_PERMANENT, "DRV-SNAPSHOT-MISSING: CloudStack has no snapshot %s", snapshot_id);
    const char *const parameters[] = {"id", snapshot_id, NULL};
    if (!drover_op_call(context, operation, "revertSnapshot", parameters, NULL, error))
        return false;
    drover_set_text(&record->status, "reverted");
    record->updated_at_ms = drover_now_ms();
    return drover_snapshot_book_put(context->snapshots, record, error);
}

bool drover_op_revert_snapshot(const DroverOpContext *context, DroverOperation *operation, GError **error)
{
    const char *id = operation->asked->revert_snapshot->snapshot_id;
    g_autoptr(DroverSnapshotRecord) record = tracked(context, id, error);
    if (!record || !drover_op_revert_to(context, operation, id, error))
        return false;
    drover_set_text(&operation->result.snapshot_id, id);
    drover_set_text(&operation->result.volume_id, record->volume_id);
    return true;
}

/* ---- delete --------------------------------------------------------------------------------------------------- */

bool drover_op_remove_snapshot(const DroverOpContext *context, DroverOperation *operation, const char *snapshot_id, GError **error)
{
    json_t *row = NULL;
    if (!drover_look_snapshot(context, snapshot_id, &row, error))
        return false;
    g_autofree char *volume_id = g_strdup(drover_json_text(row, "volumeid"));
    bool exists = row != NULL;
    json_decref(row);
    if (!exists)
        return drover_snapshot_book_remove(context->snapshots, snapshot_id, error);
    const char *const parameters[] = {"id", snapshot_id, NULL};
    if (!drover_op_claim(context, operation, volume_id, error) ||
        !drover_op_call(context, operation, "deleteSnapshot", parameters, NULL, error) ||
        !drover_look_snapshot(context, snapshot_id, &row, error))
        return false;
    bool gone = row == NULL;
    json_decref(row);
    if (!gone)
        return drover_fail(error, DROVER_ERROR_RETRYABLE, "Snapshot %s is still there after its deletion", snapshot_id);
    return drover_snapshot_book_remove(context->snapshots, snapshot_id, error);
}

bool drover_op_delete_snapshot(const DroverOpContext *context, DroverOperation *operation, GError **error)
{
    const char *id = operation->asked->delete_snapshot->snapshot_id;
    bool begun = operation->result.snapshot_id && *operation->result.snapshot_id;
    g_autoptr(DroverSnapshotRecord) record = drover_snapshot_book_find(context->snapshots, id);
    if (!record && !begun) {
        operation->result.already_done = operation->asked->undo;
        return operation->asked->undo || drover_fail(error, DROVER_ERROR_PERMANENT, "DRV-SNAPSHOT-MISSING: snapshot %s is not tracked by this agent", id);
    }
    drover_set_text(&operation->result.snapshot_id, id); /* journalled with the intent: the book forgets it before this operation ends */
    if (record)
        drover_set_text(&operation->result.volume_id, record->volume_id);
    return drover_op_remove_snapshot(context, operation, id, error);
}
