/* SPDX-License-Identifier: Apache-2.0 */
#include "volume-agent/operations/operations.h"

#include <string.h>

#include "lib/base/error.h"
#include "volume-agent/operations/call.h"
#include "volume-agent/operations/look.h"

/* The newest snapshot that is tracked for VOLUME_ID and VM_ID, or NULL. */
static DroverSnapshotRecord *newest_of(const DroverOpContext *context, const char *volume_id, const char *vm_id)
{
    g_autoptr(GPtrArray) everything = drover_snapshot_book_list(context->snapshots, volume_id, vm_id);
    return everything->len ? drover_snapshot_record_copy(g_ptr_array_index(everything, everything->len - 1)) : NULL;
}

/* Before anything is taken away. */
static bool have_snapshots(const DroverOpContext *context, const DroverOperation *operation, const char *vm_id, GError **error)
{
    const GPtrArray *volumes = operation->result.volume_ids;
    for (guint i = 0; volumes && i < volumes->len; i++) {
        g_autoptr(DroverSnapshotRecord) record = newest_of(context, g_ptr_array_index(volumes, i), vm_id);
        if (!record)
            return drover_fail(error, DROVER_ERROR_PERMANENT,
                               "DRV-SNAPSHOT-MISSING: no snapshot of volume %s is tracked for VM %s, so there is nothing to go back to",
                               (const char *)g_ptr_array_index(volumes, i), vm_id);
    }
    return true;
}

/*
 * The volumes that are to come back, journalled before the first of them is taken off: afterwards nothing at
 * CloudStack tells that they were there.
 */
static bool note_volumes(const DroverOpContext *context, DroverOperation *operation, const char *vm_id,
                         GError **error)
{
    json_t *volumes = drover_look_volumes_of(context, vm_id, error);
    if (!volumes)
        return false;
    size_t i;
    json_t *volume;
    json_array_foreach(volumes, i, volume)
    {
        bool own =
            strcmp(drover_json_text(volume, "type"), "ROOT") == 0 && *drover_json_text(volume, "templateid");
        if (!own)
            drover_operation_add_volume(operation, drover_json_text(volume, "id"));
    }
    json_decref(volumes);
    bool begun = operation->result.vm_id && *operation->result.vm_id;
    if (!begun && operation->asked->cleanup_test_failover->revert && !have_snapshots(context, operation, vm_id, error))
        return false;
    drover_set_text(&operation->result.vm_id, vm_id);
    return drover_op_journal(context, operation, error);
}

/*
 * Each volume back to its snapshot, and the snapshots away: they would stand against giving the volume back to the appliance's owner.
 * One that was reverted says so in the book; one that has no snapshot any more is through.
 */
static bool revert_all(const DroverOpContext *context, DroverOperation *operation, const char *vm_id, GError **error)
{
    const GPtrArray *volumes = operation->result.volume_ids;
    for (guint i = 0; volumes && i < volumes->len; i++) {
        const char *volume_id = g_ptr_array_index(volumes, i);
        g_autoptr(DroverSnapshotRecord) record = newest_of(context, volume_id, vm_id);
        if (record && strcmp(record->status, "reverted") != 0 && !drover_op_revert_to(context, operation, record->snapshot_id, error))
            return false;
        g_autoptr(GPtrArray) all = drover_snapshot_book_list(context->snapshots, volume_id, vm_id);
        /* The one that was gone back to goes last: until then it is the newest. */
        for (guint n = 0; n < all->len; n++) {
            const DroverSnapshotRecord *other = g_ptr_array_index(all, n);
            if (strcmp(other->snapshot_id, record->snapshot_id) != 0 &&
                !drover_op_remove_snapshot(context, operation, other->snapshot_id, error))
                return false;
        }
        if (record && !drover_op_remove_snapshot(context, operation, record->snapshot_id, error))
            return false;
    }
    return true;
}

bool drover_op_cleanup_test_failover(const DroverOpContext *context, DroverOperation *operation,
                                     GError **error)
{
    const char *vm_id = operation->asked->cleanup_test_failover->vm_id;
    bool reverts = operation->asked->cleanup_test_failover->revert;
    if (strcmp(vm_id, context->appliance_vm_id) == 0)
        return drover_fail(error, DROVER_ERROR_PERMANENT,
                           "DRV-APPLIANCE: %s is the VM of this agent, not of a test failover", vm_id);
    json_t *vm = NULL;
    if (!drover_look_vm(context, vm_id, &vm, error))
        return false;
    bool exists = vm != NULL;
    json_decref(vm);
    /* Its destruction may have been the call whose answer was lost. */
    bool begun = operation->result.vm_id && *operation->result.vm_id;
    if (!exists && !begun)
        return drover_fail(error, DROVER_ERROR_PERMANENT, "DRV-VM-MISSING: CloudStack has no VM %s", vm_id);
    if (exists && !note_volumes(context, operation, vm_id, error))
        return false;
    if (reverts && ((exists && !drover_op_strip_vm(context, operation, vm_id, error)) || !revert_all(context, operation, vm_id, error)))
        return false;
    if (exists && !drover_op_remove_vm(context, operation, vm_id, error))
        return false;
    const GPtrArray *volumes = operation->result.volume_ids;
    for (guint i = 0; volumes && i < volumes->len; i++)
        if (!drover_op_attach_to_appliance(context, operation, g_ptr_array_index(volumes, i), 0, error))
            return false;
    operation->result.already_done = false;
    return true;
}
