/* SPDX-License-Identifier: Apache-2.0 */
#include "volume-agent/operations/operations.h"

#include <string.h>

#include "lib/base/error.h"
#include "volume-agent/operations/call.h"
#include "volume-agent/operations/look.h"

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
    drover_set_text(&operation->result.vm_id, vm_id);
    return drover_op_journal(context, operation, error);
}

bool drover_op_cleanup_test_failover(const DroverOpContext *context, DroverOperation *operation,
                                     GError **error)
{
    const char *vm_id = operation->asked->cleanup_test_failover->vm_id;
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
    if (exists && (!note_volumes(context, operation, vm_id, error) ||
                   !drover_op_remove_vm(context, operation, vm_id, error)))
        return false;
    const GPtrArray *volumes = operation->result.volume_ids;
    for (guint i = 0; volumes && i < volumes->len; i++)
        if (!drover_op_attach_to_appliance(context, operation, g_ptr_array_index(volumes, i), 0, error))
            return false;
    operation->result.already_done = false;
    return true;
}
