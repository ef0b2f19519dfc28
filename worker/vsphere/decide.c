/* SPDX-License-Identifier: Apache-2.0 */
#include "worker/vsphere/decide.h"

#include <stdlib.h>
#include <string.h>

#include "lib/base/error.h"

#define TRACKING_SINCE_HARDWARE 7
#define GUARD_MARK "[drover] "

char *drover_vm_initial_name(const DroverVmOrder *order)
{
    return g_strconcat(order->snapshot_name, "-init", NULL);
}

static const DroverVsphereSnapshot *named(const DroverVsphereVm *vm, const char *name)
{
    for (guint i = 0; i < vm->snapshots->len; i++) {
        const DroverVsphereSnapshot *snapshot = g_ptr_array_index(vm->snapshots, i);
        if (strcmp(snapshot->name, name) == 0)
            return snapshot;
    }
    return NULL;
}

static const DroverVsphereDisk *disk_of(const DroverVsphereVm *vm, int32_t key)
{
    for (guint i = 0; i < vm->disks->len; i++) {
        const DroverVsphereDisk *disk = g_ptr_array_index(vm->disks, i);
        if (disk->key == key)
            return disk;
    }
    return NULL;
}

static DroverVmStep refuse(GError **error, const DroverVsphereVm *vm, const char *code, const char *why)
{
    drover_fail(error, DROVER_ERROR_PERMANENT, "%s: VM %s: %s", code, vm->name, why);
    return DROVER_VM_STEP_REFUSE;
}

static bool hardware_is_old(const char *version)
{
    return g_str_has_prefix(version, "vmx-") && atoi(version + strlen("vmx-")) < TRACKING_SINCE_HARDWARE;
}

/* Change tracking is off: may it be switched on? */
static DroverVmStep enable_step(const DroverVsphereVm *vm, GError **error)
{
    if (hardware_is_old(vm->version))
        return refuse(error, vm, "DRV-SOURCE-HARDWARE",
                      "its virtual hardware is too old for changed block tracking; upgrade it to version 7 or later");
    if (!vm->has_change_tracking)
        return refuse(error, vm, "DRV-SOURCE-CBT-IMPOSSIBLE", "vCenter says that it cannot track changed blocks");
    if (vm->snapshots->len > 0)
        return refuse(error, vm, "DRV-SOURCE-CBT-SNAPSHOTS",
                      "changed block tracking cannot be switched on while the VM has snapshots; remove or consolidate "
                      "them");
    return DROVER_VM_STEP_ENABLE_TRACKING;
}

/* A disk without change id is not tracked yet, though tracking is switched on. */
static bool is_tracked(const DroverVsphereVm *vm, const DroverVmOrder *order)
{
    for (size_t i = 0; i < order->n_disk_keys; i++)
        if (*disk_of(vm, order->disk_keys[i])->change_id == '\0')
            return false;
    return true;
}

DroverVmStep drover_vm_snapshot_step(const DroverVsphereVm *vm, const DroverVmOrder *order, bool initialised,
                                     GError **error)
{
    g_autofree char *initial = drover_vm_initial_name(order);
    if (named(vm, initial) != NULL)
        return DROVER_VM_STEP_REMOVE_INITIAL;
    if (named(vm, order->snapshot_name) != NULL)
        return DROVER_VM_STEP_DONE;
    for (size_t i = 0; i < order->n_disk_keys; i++)
        if (disk_of(vm, order->disk_keys[i]) == NULL)
            return refuse(error, vm, "DRV-SOURCE-MISSING", "a disk of the job was removed from it");
    if (!vm->change_tracking)
        return enable_step(vm, error);
    return initialised || is_tracked(vm, order) ? DROVER_VM_STEP_TAKE : DROVER_VM_STEP_TAKE_INITIAL;
}

static bool guest_answers(const DroverVsphereVm *vm)
{
    return strcmp(vm->power_state, "poweredOn") == 0 && strcmp(vm->tools_status, "guestToolsRunning") == 0;
}

bool drover_vm_can_quiesce(const DroverVsphereVm *vm, const DroverVmOrder *order)
{
    return !order->crash_consistent && guest_answers(vm);
}

bool drover_vm_is_quiesce_failure(const GError *failure)
{
    g_autofree char *code = drover_error_code(failure->message);
    g_autofree char *lower = g_ascii_strdown(failure->message, -1);
    if (strcmp(code, "DRV-VCENTER-QUIESCE") == 0 || strcmp(code, "DRV-VCENTER-STATE") == 0)
        return true;
    /* "An error occurred while quiescing the virtual machine" comes as a fault of many types. */
    return strcmp(code, "DRV-VCENTER-FAULT") == 0 && strstr(lower, "quiesc") != NULL;
}

DroverVmStep drover_vm_remove_step(const DroverVsphereVm *vm, const DroverVmOrder *order,
                                   const DroverVsphereSnapshot **snapshot)
{
    g_autofree char *initial = drover_vm_initial_name(order);
    *snapshot = named(vm, order->snapshot_name);
    if (*snapshot == NULL)
        *snapshot = named(vm, initial);
    if (*snapshot != NULL)
        return DROVER_VM_STEP_REMOVE;
    return vm->consolidation_needed ? DROVER_VM_STEP_CONSOLIDATE : DROVER_VM_STEP_DONE;
}

bool drover_vm_is_guarded(const DroverVsphereVm *vm)
{
    g_auto(GStrv) lines = g_strsplit(vm->annotation, "\n", -1);
    for (size_t i = 0; lines[i] != NULL; i++)
        if (g_str_has_prefix(lines[i], GUARD_MARK))
            return true;
    return false;
}

static DroverVmStep not_off_in_time(const DroverVsphereVm *vm, const DroverVmOrder *order, const char *why,
                                    GError **error)
{
    if (order->power_policy == DROVER_POWER_FORCE)
        return DROVER_VM_STEP_POWER_OFF;
    return refuse(error, vm, "DRV-SOURCE-POWER-WAIT", why);
}

DroverVmStep drover_vm_power_off_step(const DroverVsphereVm *vm, const DroverVmOrder *order, bool asked, bool late,
                                      GError **error)
{
    if (strcmp(vm->power_state, "poweredOff") == 0)
        return drover_vm_is_guarded(vm) ? DROVER_VM_STEP_DONE : DROVER_VM_STEP_GUARD;
    if (order->power_policy == DROVER_POWER_MANUAL)
        return DROVER_VM_STEP_WAIT_OFF;
    if (late)
        return not_off_in_time(vm, order,
                               "the guest has not shut itself down in time; shut it down, or repeat the cutover with "
                               "the power policy force",
                               error);
    if (asked)
        return DROVER_VM_STEP_WAIT_OFF;
    if (guest_answers(vm))
        return DROVER_VM_STEP_SHUT_DOWN;
    return not_off_in_time(vm, order,
                           "its guest tools do not run, so it cannot be asked to shut down; shut it down, or repeat the "
                           "cutover with the power policy force",
                           error);
}

DroverVmStep drover_vm_power_on_step(const DroverVsphereVm *vm, const DroverVmOrder *order)
{
    if (drover_vm_is_guarded(vm))
        return DROVER_VM_STEP_UNGUARD;
    return order->stay_off || strcmp(vm->power_state, "poweredOn") == 0 ? DROVER_VM_STEP_DONE : DROVER_VM_STEP_POWER_ON;
}

char *drover_vm_unguarded_annotation(const char *annotation)
{
    g_auto(GStrv) lines = g_strsplit(annotation, "\n", -1);
    GString *rest = g_string_new(NULL);
    bool first = true;
    for (size_t i = 0; lines[i] != NULL; i++) {
        if (g_str_has_prefix(lines[i], GUARD_MARK))
            continue;
        g_string_append_printf(rest, "%s%s", first ? "" : "\n", lines[i]);
        first = false;
    }
    return g_string_free(rest, FALSE);
}

char *drover_vm_guarded_annotation(const char *annotation, const char *job_id)
{
    g_autofree char *old = drover_vm_unguarded_annotation(annotation);
    return g_strdup_printf("%s%s" GUARD_MARK "Migrated by job %s. Do not start this VM: its copy has taken over. Its "
                           "NICs are disconnected.",
                           old, *old == '\0' ? "" : "\n", job_id);
}
