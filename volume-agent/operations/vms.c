/* SPDX-License-Identifier: Apache-2.0 */
#include "volume-agent/operations/operations.h"

#include <string.h>

#include "lib/base/error.h"
#include "lib/base/log.h"
#include "volume-agent/operations/call.h"
#include "volume-agent/operations/look.h"
#include "volume-agent/operations/owner.h"
#include "volume-agent/reconcile/history.h"

static bool vm_must_exist(const DroverOpContext *context, const char *vm_id, json_t **vm, GError **error)
{
    if (!drover_look_vm(context, vm_id, vm, error))
        return false;
    if (*vm && strcmp(drover_json_text(*vm, "state"), "Destroyed") == 0)
        g_clear_pointer(vm, json_decref);
    return *vm || drover_fail(error, DROVER_ERROR_PERMANENT, "DRV-VM-MISSING: CloudStack has no VM %s", vm_id);
}

static bool is_missing(const GError *error)
{
    return g_str_has_prefix(error->message, "DRV-VM-MISSING:");
}

static void note_vm(DroverOperation *operation, const json_t *vm)
{
    drover_set_text(&operation->result.vm_id, drover_json_text(vm, "id"));
    drover_set_text(&operation->result.vm_state, drover_json_text(vm, "state"));
}

/* ---- deploy --------------------------------------------------------------------------------------------------- */

static void add(GPtrArray *parameters, const char *name, const char *value)
{
    g_ptr_array_add(parameters, g_strdup(name));
    g_ptr_array_add(parameters, g_strdup(value));
}

static bool send_deploy(const DroverOpContext *context, DroverOperation *operation, const Drover__V1__DeployVm *asked,
                        GError **error)
{
    static Drover__V1__TargetSpec nothing = DROVER__V1__TARGET_SPEC__INIT;
    const Drover__V1__TargetSpec *target = asked->target ? asked->target : &nothing;
    g_auto(DroverOwner) owner = {0};
    if (!drover_owner_resolve(context, target, &owner, error))
        return false;
    g_autofree char *zone = drover_look_zone(context, target->zone, error);
    g_autofree char *offering = zone ? drover_look_service_offering(context, target->service_offering, error) : NULL;
    g_autofree char *template = offering ? drover_look_template(context, target->template_id, zone, error) : NULL;
    g_autofree char *networks =
        template ? drover_look_networks(context, target->network_ids, target->n_network_ids, zone, owner.project_id, error) : NULL;
    if (!networks)
        return false;
    g_autoptr(GPtrArray) parameters = g_ptr_array_new_with_free_func(g_free);
    add(parameters, "name", asked->name);
    add(parameters, "displayname", asked->name);
    add(parameters, "zoneid", zone);
    add(parameters, "serviceofferingid", offering);
    add(parameters, "templateid", template);
    add(parameters, "networkids", networks);
    add(parameters, "customid", asked->custom_id);
    add(parameters, "startvm", "false");
    add(parameters, "account", owner.account);
    add(parameters, "domainid", owner.domain_id);
    add(parameters, "projectid", owner.project_id);
    if (*target->boot_type) {
        add(parameters, "boottype", target->boot_type);
        add(parameters, "bootmode", *target->boot_mode ? target->boot_mode : "LEGACY");
    }
    for (size_t i = 0; i < target->n_details; i++) {
        g_autofree char *name = g_strdup_printf("details[0].%s", target->details[i]->key);
        add(parameters, name, target->details[i]->value);
    }
    g_ptr_array_add(parameters, NULL);
    return drover_op_call(context, operation, "deployVirtualMachine", (const char *const *)parameters->pdata, NULL, error);
}

/* CloudStack chooses disk and network adapters by it when the VM starts; a deployment takes the template's. */
static bool set_os_type(const DroverOpContext *context, DroverOperation *operation, const char *os_type, json_t **vm, GError **error)
{
    g_autofree char *id = g_strdup(drover_json_text(*vm, "id"));
    if (strcmp(drover_json_text(*vm, "ostypeid"), os_type) == 0 || strcmp(drover_json_text(*vm, "state"), "Stopped") != 0)
        return true;
    drover_set_text(&operation->wanted, os_type);
    const char *const parameters[] = {"id", id, "ostypeid", os_type, NULL};
    json_decref(g_steal_pointer(vm));
    return drover_op_call(context, operation, "updateVirtualMachine", parameters, NULL, error) && vm_must_exist(context, id, vm, error);
}

bool drover_op_deploy_vm(const DroverOpContext *context, DroverOperation *operation, GError **error)
{
    const Drover__V1__DeployVm *asked = operation->asked->deploy_vm;
    if (!*asked->custom_id)
        return drover_fail(error, DROVER_ERROR_PERMANENT, "deploy-vm without custom_id");
    const char *wanted = asked->target ? asked->target->os_type : "";
    g_autofree char *os_type = *wanted ? drover_look_os_type(context, wanted, error) : NULL;
    json_t *vm = NULL;
    if ((*wanted && !os_type) || !drover_look_vm(context, asked->custom_id, &vm, error))
        return false;
    operation->result.already_done = vm != NULL;
    if (!vm) {
        /* Known before it exists: a deployment that fails leaves a VM in Error behind, which must be found again. */
        drover_set_text(&operation->result.vm_id, asked->custom_id);
        if (!send_deploy(context, operation, asked, error) || !vm_must_exist(context, asked->custom_id, &vm, error))
            return false;
    }
    if (os_type && !set_os_type(context, operation, os_type, &vm, error))
        return false;
    note_vm(operation, vm);
    json_decref(vm);
    if (strcmp(operation->result.vm_state, "Error") == 0)
        return drover_fail(error, DROVER_ERROR_PERMANENT, "DRV-VM-ERROR: the deployment of VM %s failed and left it in Error",
                           asked->custom_id);
    return true;
}

/* ---- disks ---------------------------------------------------------------------------------------------------- */

/* The ROOT volume of VM_ID; *ROOT is a new reference or NULL. */
static bool find_root(const DroverOpContext *context, const char *vm_id, json_t **root, GError **error)
{
    json_t *volumes = drover_look_volumes_of(context, vm_id, error);
    if (!volumes)
        return false;
    size_t i;
    json_t *volume;
    *root = NULL;
    json_array_foreach(volumes, i, volume)
        if (strcmp(drover_json_text(volume, "type"), "ROOT") == 0)
            *root = json_incref(volume);
    json_decref(volumes);
    return true;
}

/* VOLUME_ID exists, and no other VM has it. *SLOT is its deviceid at VM_ID, -1 when it is not attached. */
static bool is_free_for(const DroverOpContext *context, const char *volume_id, const char *vm_id, json_int_t *slot, GError **error)
{
    json_t *volume = NULL;
    if (!drover_look_volume(context, volume_id, &volume, error))
        return false;
    if (!volume)
        return drover_fail(error, DROVER_ERROR_PERMANENT, "DRV-VOLUME-MISSING: CloudStack has no volume %s", volume_id);
    g_autofree char *where = g_strdup(drover_json_text(volume, "virtualmachineid"));
    *slot = *where ? json_integer_value(json_object_get(volume, "deviceid")) : -1;
    json_decref(volume);
    return !*where || strcmp(where, vm_id) == 0 ||
           drover_fail(error, DROVER_ERROR_PERMANENT, "DRV-VOLUME-ELSEWHERE: volume %s is attached to VM %s", volume_id, where);
}

static bool attach(const DroverOpContext *context, DroverOperation *operation, const char *volume_id, const char *vm_id,
                   uint32_t device_id, GError **error)
{
    json_int_t slot = -1;
    if (!is_free_for(context, volume_id, vm_id, &slot, error))
        return false;
    if (slot == (json_int_t)device_id)
        return true;
    if (slot >= 0 && !drover_op_take_off(context, operation, volume_id, error))
        return false;
    if (!drover_owner_hand_over(context, operation, volume_id, vm_id, error))
        return false;
    g_autofree char *device = g_strdup_printf("%u", device_id);
    const char *const parameters[] = {"id", volume_id, "virtualmachineid", vm_id, "deviceid", device, NULL};
    if (!drover_op_call(context, operation, "attachVolume", parameters, NULL, error) ||
        !is_free_for(context, volume_id, vm_id, &slot, error))
        return false;
    /* A straggler may have undone it (CloudStack #14214): what counts is how it is now. */
    return slot == (json_int_t)device_id ||
           drover_fail(error, DROVER_ERROR_RETRYABLE, "Volume %s was attached to VM %s and is not there", volume_id, vm_id);
}

/*
 * The effect of an older detach may come after the attach has ended (CloudStack #14214): a VM is not started without the disks that
 * operations gave to it.
 */
static bool attach_what_fell_off(const DroverOpContext *context, DroverOperation *operation, const char *vm_id, GError **error)
{
    g_autoptr(GPtrArray) ended = context->ended(context->claim_data);
    g_autoptr(DroverHistory) history = drover_history_new(ended, context->appliance_vm_id);
    for (guint i = ended->len; i-- > 0;) { /* the last attach of each tells its device id */
        const DroverOperation *other = g_ptr_array_index(ended, i);
        const Drover__V1__AttachToVm *data =
            other->asked->operation_case == DROVER__V1__VOLUME_OPERATION__OPERATION_ATTACH_TO_VM ? other->asked->attach_to_vm : NULL;
        bool root = other->asked->operation_case == DROVER__V1__VOLUME_OPERATION__OPERATION_SWAP_ROOT;
        const char *volume_id = drover_operation_volume_id(other);
        const DroverKnownVolume *known = data || root ? g_hash_table_lookup(history->volumes, volume_id) : NULL;
        if (!known || g_strcmp0(known->where, vm_id) != 0)
            continue;
        json_int_t slot = -1;
        if (!drover_op_claim(context, operation, volume_id, error) || !is_free_for(context, volume_id, vm_id, &slot, error))
            return false;
        if (slot >= 0)
            continue;
        if (!attach(context, operation, volume_id, vm_id, data ? data->device_id : 0, error))
            return false;
        if (context->differs)
            context->differs(context->differs_data, "volume-detached-late", volume_id, vm_id,
                             "The volume was attached to a VM, and was found detached when that was to start", true);
    }
    return true;
}

/* The swap is refused for good: the VM gets the disk again that it had. Where that fails too, comparing finds the disk. */
static void put_root_back(const DroverOpContext *context, DroverOperation *operation, const char *vm_id)
{
    const char *old = operation->result.old_root_volume_id;
    g_autoptr(GError) why = NULL;
    if (old && *old && !attach(context, operation, old, vm_id, 0, &why))
        drover_error("swap_root.old_root_left", why->message, F_S("volume_id", old), F_S("vm_id", vm_id));
}

bool drover_op_swap_root(const DroverOpContext *context, DroverOperation *operation, GError **error)
{
    const Drover__V1__SwapRoot *asked = operation->asked->swap_root;
    json_t *vm = NULL, *root = NULL;
    if (!vm_must_exist(context, asked->vm_id, &vm, error))
        return false;
    note_vm(operation, vm);
    json_decref(vm);
    if (!find_root(context, asked->vm_id, &root, error))
        return false;
    g_autofree char *present = g_strdup(root ? drover_json_text(root, "id") : "");
    bool from_template = root && *drover_json_text(root, "templateid");
    json_decref(root);
    bool ours = strcmp(present, asked->volume_id) == 0;
    if (!ours && strcmp(operation->result.vm_state, "Stopped") != 0)
        return drover_fail(error, DROVER_ERROR_PERMANENT, "DRV-VM-RUNNING: VM %s is %s; its root disk can be swapped only while it is Stopped",
                           asked->vm_id, operation->result.vm_state);
    if (*present && !ours && !from_template)
        return drover_fail(error, DROVER_ERROR_PERMANENT,
                           "DRV-ROOT-FOREIGN: the root disk %s of VM %s came from no template; it may be the only copy of something, "
                           "so it is not deleted: detach it first", present, asked->vm_id);
    /* Whatever can be known to fail fails before the VM has lost its disk. */
    json_int_t slot = -1;
    if (!ours && !is_free_for(context, asked->volume_id, asked->vm_id, &slot, error))
        return false;
    if (!ours && slot < 0 && !drover_owner_hand_over(context, operation, asked->volume_id, asked->vm_id, error))
        return false;
    if (*present && !ours) {
        /* Journalled with the intent of the detach: once detached it is a data disk like any other. */
        drover_set_text(&operation->result.old_root_volume_id, present);
        const char *const parameters[] = {"id", present, NULL};
        if (!drover_op_claim(context, operation, present, error) ||
            !drover_op_call(context, operation, "detachVolume", parameters, NULL, error))
            return false;
    }
    g_autoptr(GError) why = NULL;
    if (!ours && !attach(context, operation, asked->volume_id, asked->vm_id, 0, &why)) {
        if (drover_error_class(why) == DROVER_ERROR_PERMANENT)
            put_root_back(context, operation, asked->vm_id);
        g_propagate_error(error, g_steal_pointer(&why));
        return false;
    }
    operation->result.already_done = ours;
    drover_set_text(&operation->result.volume_id, asked->volume_id);
    const char *old = operation->result.old_root_volume_id;
    if (!old || !*old || strcmp(old, asked->volume_id) == 0)
        return true;
    json_t *left = NULL;
    if (!drover_look_volume(context, old, &left, error))
        return false;
    bool attached = left && *drover_json_text(left, "virtualmachineid");
    bool exists = left != NULL;
    json_decref(left);
    if (attached)
        return drover_fail(error, DROVER_ERROR_RETRYABLE, "The old root disk %s is attached again", old);
    const char *const parameters[] = {"id", old, NULL};
    return !exists || drover_op_call(context, operation, "deleteVolume", parameters, NULL, error);
}

bool drover_op_attach_to_vm(const DroverOpContext *context, DroverOperation *operation, GError **error)
{
    const Drover__V1__AttachToVm *asked = operation->asked->attach_to_vm;
    json_t *vm = NULL;
    if (!vm_must_exist(context, asked->vm_id, &vm, error))
        return false;
    note_vm(operation, vm);
    json_decref(vm);
    drover_set_text(&operation->result.volume_id, asked->volume_id);
    return attach(context, operation, asked->volume_id, asked->vm_id, asked->device_id, error);
}

/* ---- power ---------------------------------------------------------------------------------------------------- */

static bool bring_to(const DroverOpContext *context, DroverOperation *operation, const char *vm_id, const char *state,
                     const char *command, const char *const *parameters, GError **error)
{
    json_t *vm = NULL;
    g_autoptr(GError) why = NULL;
    if (!vm_must_exist(context, vm_id, &vm, &why)) {
        operation->result.already_done = is_missing(why) && operation->asked->undo;
        if (!operation->result.already_done)
            g_propagate_error(error, g_steal_pointer(&why));
        return operation->result.already_done;
    }
    note_vm(operation, vm);
    json_decref(vm);
    /* What a failed deployment left can neither be started nor stopped, however often it is tried; and it does not run. */
    bool wreck = strcmp(operation->result.vm_state, "Error") == 0, stops = strcmp(state, "Stopped") == 0;
    operation->result.already_done = strcmp(operation->result.vm_state, state) == 0 || (wreck && stops && operation->asked->undo);
    if (operation->result.already_done)
        return true;
    if (wreck)
        return drover_fail(error, DROVER_ERROR_PERMANENT, "DRV-VM-ERROR: the deployment of VM %s failed and left it in Error: destroy it",
                           vm_id);
    if (!drover_op_call(context, operation, command, parameters, NULL, error) ||
        !vm_must_exist(context, vm_id, &vm, error))
        return false;
    note_vm(operation, vm);
    json_decref(vm);
    return strcmp(operation->result.vm_state, state) == 0 ||
           drover_fail(error, DROVER_ERROR_RETRYABLE, "VM %s is %s after %s", vm_id, operation->result.vm_state, command);
}

bool drover_op_start_vm(const DroverOpContext *context, DroverOperation *operation, GError **error)
{
    const char *id = operation->asked->start_vm->vm_id;
    json_t *vm = NULL;
    if (!drover_look_vm(context, id, &vm, error))
        return false;
    bool stopped = strcmp(drover_json_text(vm, "state"), "Stopped") == 0;
    json_decref(vm);
    if (stopped && !attach_what_fell_off(context, operation, id, error))
        return false;
    const char *const parameters[] = {"id", id, NULL};
    return bring_to(context, operation, id, "Running", "startVirtualMachine", parameters, error);
}

bool drover_op_stop_vm(const DroverOpContext *context, DroverOperation *operation, GError **error)
{
    const Drover__V1__StopVm *asked = operation->asked->stop_vm;
    const char *const parameters[] = {"id", asked->vm_id, "forced", asked->forced ? "true" : "", NULL};
    return bring_to(context, operation, asked->vm_id, "Stopped", "stopVirtualMachine", parameters, error);
}

/* Volumes that are not the VM's own: all data disks, and a root disk that came from no template (it was swapped in).
 * Expunging the VM would take the latter with it. */
static bool take_foreign_volumes_off(const DroverOpContext *context, DroverOperation *operation, const char *vm_id,
                                     GError **error)
{
    json_t *volumes = drover_look_volumes_of(context, vm_id, error);
    if (!volumes)
        return false;
    size_t i;
    json_t *volume;
    bool ok = true;
    json_array_foreach(volumes, i, volume) {
        bool own = strcmp(drover_json_text(volume, "type"), "ROOT") == 0 && *drover_json_text(volume, "templateid");
        ok = ok && drover_op_claim(context, operation, drover_json_text(volume, "id"), error);
        if (ok && !own)
            ok = drover_op_take_off(context, operation, drover_json_text(volume, "id"), error);
    }
    json_decref(volumes);
    return ok;
}

/* By the claims, which are journalled: an earlier attempt may have got no further than taking them off. */
static bool hand_all_back(const DroverOpContext *context, DroverOperation *operation, GError **error)
{
    bool ok = true;
    for (guint i = 0; ok && operation->claims && i < operation->claims->len; i++)
        ok = drover_owner_hand_back(context, operation, g_ptr_array_index(operation->claims, i), error);
    return ok;
}

bool drover_op_strip_vm(const DroverOpContext *context, DroverOperation *operation, const char *id, GError **error)
{
    json_t *vm = NULL;
    if (!drover_look_vm(context, id, &vm, error))
        return false;
    bool exists = vm != NULL, runs = strcmp(drover_json_text(vm, "state"), "Running") == 0;
    json_decref(vm);
    const char *const stop[] = {"id", id, "forced", "true", NULL};
    return (!runs || drover_op_call(context, operation, "stopVirtualMachine", stop, NULL, error)) &&
           (!exists || take_foreign_volumes_off(context, operation, id, error));
}

bool drover_op_remove_vm(const DroverOpContext *context, DroverOperation *operation, const char *id, GError **error)
{
    json_t *vm = NULL;
    if (!drover_look_vm(context, id, &vm, error))
        return false;
    drover_set_text(&operation->result.vm_id, id);
    operation->result.already_done = !vm;
    if (!vm)
        return true;
    json_decref(vm);
    if (!drover_op_strip_vm(context, operation, id, error) || !hand_all_back(context, operation, error))
        return false;
    const char *const destroy[] = {"id", id, "expunge", "true", NULL};
    if (!drover_op_call(context, operation, "destroyVirtualMachine", destroy, NULL, error) ||
        !drover_look_vm(context, id, &vm, error))
        return false;
    bool gone = !vm;
    json_decref(vm);
    return gone || drover_fail(error, DROVER_ERROR_RETRYABLE, "VM %s is still there after its destruction", id);
}

bool drover_op_destroy_vm(const DroverOpContext *context, DroverOperation *operation, GError **error)
{
    return drover_op_remove_vm(context, operation, operation->asked->destroy_vm->vm_id, error);
}

bool drover_op_run(const DroverOpContext *context, DroverOperation *operation, GError **error)
{
    static const struct {
        Drover__V1__VolumeOperation__OperationCase kind;
        DroverOpFunc run;
    } table[] = {
        {DROVER__V1__VOLUME_OPERATION__OPERATION_CREATE_VOLUME, drover_op_create_volume},
        {DROVER__V1__VOLUME_OPERATION__OPERATION_ATTACH_VOLUME, drover_op_attach_volume},
        {DROVER__V1__VOLUME_OPERATION__OPERATION_DETACH_VOLUME, drover_op_detach_volume},
        {DROVER__V1__VOLUME_OPERATION__OPERATION_DELETE_VOLUME, drover_op_delete_volume},
        {DROVER__V1__VOLUME_OPERATION__OPERATION_OPEN_EXPORT, drover_op_open_export},
        {DROVER__V1__VOLUME_OPERATION__OPERATION_CLOSE_EXPORT, drover_op_close_export},
        {DROVER__V1__VOLUME_OPERATION__OPERATION_DEPLOY_VM, drover_op_deploy_vm},
        {DROVER__V1__VOLUME_OPERATION__OPERATION_SWAP_ROOT, drover_op_swap_root},
        {DROVER__V1__VOLUME_OPERATION__OPERATION_DRAIN_APPLIANCE, drover_op_drain_appliance},
        {DROVER__V1__VOLUME_OPERATION__OPERATION_ATTACH_TO_VM, drover_op_attach_to_vm},
        {DROVER__V1__VOLUME_OPERATION__OPERATION_START_VM, drover_op_start_vm},
        {DROVER__V1__VOLUME_OPERATION__OPERATION_STOP_VM, drover_op_stop_vm},
        {DROVER__V1__VOLUME_OPERATION__OPERATION_DESTROY_VM, drover_op_destroy_vm},
        {DROVER__V1__VOLUME_OPERATION__OPERATION_CLEANUP_TEST_FAILOVER, drover_op_cleanup_test_failover},
        {DROVER__V1__VOLUME_OPERATION__OPERATION_TRACK_SNAPSHOT, drover_op_track_snapshot},
        {DROVER__V1__VOLUME_OPERATION__OPERATION_UPDATE_SNAPSHOT, drover_op_update_snapshot},
        {DROVER__V1__VOLUME_OPERATION__OPERATION_CLEAR_SNAPSHOTS, drover_op_clear_snapshots},
        {DROVER__V1__VOLUME_OPERATION__OPERATION_REMOVE_EXPORT, drover_op_remove_export},
        {DROVER__V1__VOLUME_OPERATION__OPERATION_REMOVE_ORPHAN_EXPORTS, drover_op_remove_orphan_exports},
        {DROVER__V1__VOLUME_OPERATION__OPERATION_FORCE_SYNC, drover_op_force_sync},
        {DROVER__V1__VOLUME_OPERATION__OPERATION_RESIZE_VOLUME, drover_op_resize_volume},
        {DROVER__V1__VOLUME_OPERATION__OPERATION_CREATE_SNAPSHOT, drover_op_create_snapshot},
        {DROVER__V1__VOLUME_OPERATION__OPERATION_REVERT_SNAPSHOT, drover_op_revert_snapshot},
        {DROVER__V1__VOLUME_OPERATION__OPERATION_DELETE_SNAPSHOT, drover_op_delete_snapshot},
    };
    for (size_t i = 0; i < G_N_ELEMENTS(table); i++)
        if (table[i].kind == operation->asked->operation_case)
            return table[i].run(context, operation, error);
    return drover_fail(error, DROVER_ERROR_PERMANENT, "DRV-OPERATION-UNKNOWN: this agent does not know the operation %s; is it older than the scheduler?",
                       operation->asked->operation_id);
}
