/* SPDX-License-Identifier: Apache-2.0 */
/* The round's snapshot, and what must be before it: change tracking, begun by a snapshot that is taken and removed. */
#include "lib/base/error.h"
#include "lib/base/ids.h"
#include "worker/vsphere/decide.h"
#include "worker/vsphere/task.h"

typedef struct {
    DroverVmTask *task;
    bool initialised;
    bool not_quiesced; /* quiescing has failed in this attempt */
} Snapshot;

static bool take(Snapshot *snapshot, const DroverVsphereVm *vm, const char *name, const char *description,
                 bool quiesce, GError **error)
{
    DroverVmTask *task = snapshot->task;
    g_autofree char *moref = NULL;
    g_autoptr(GError) failure = NULL;
    if (drover_vsphere_create_snapshot(task->session->vsphere, vm->moref, name, description, quiesce, &task->wait,
                                       &moref, &failure))
        return true;
    if (!quiesce || !drover_vm_is_quiesce_failure(failure)) {
        g_propagate_error(error, g_steal_pointer(&failure));
        return false;
    }
    drover_vm_task_notice(task, "warning", "vm.not-quiesced",
                          "The guest of VM %s could not be quiesced; its snapshot is taken as after a power failure: "
                          "%s",
                          vm->name, failure->message);
    snapshot->not_quiesced = true; /* what is there now is observed before the next try */
    return true;
}

static bool remove_named(DroverVmTask *task, const DroverVsphereVm *vm, const char *name, GError **error)
{
    const DroverVsphereSnapshot *found = drover_vsphere_vm_snapshot(vm, name);
    return found == NULL ||
           drover_vsphere_remove_snapshot(task->session->vsphere, found->moref, &task->wait, error);
}

static bool do_step(Snapshot *snapshot, const DroverVsphereVm *vm, DroverVmStep step, GError **error)
{
    DroverVmTask *task = snapshot->task;
    const DroverVmOrder *order = task->order;
    g_autofree char *initial = drover_vm_initial_name(order);
    switch (step) {
    case DROVER_VM_STEP_ENABLE_TRACKING:
        drover_vm_task_notice(task, "info", "vm.tracking", "Switching changed block tracking of VM %s on", vm->name);
        return drover_vsphere_set_change_tracking(task->session->vsphere, vm->moref, true, &task->wait, error);
    case DROVER_VM_STEP_TAKE_INITIAL:
        return take(snapshot, vm, initial, "Drover: begins changed block tracking, is removed at once", false, error);
    case DROVER_VM_STEP_REMOVE_INITIAL:
        if (!remove_named(task, vm, initial, error))
            return false;
        snapshot->initialised = true;
        return true;
    case DROVER_VM_STEP_TAKE:
        return take(snapshot, vm, order->snapshot_name, order->snapshot_description,
                    !snapshot->not_quiesced && drover_vm_can_quiesce(vm, order), error);
    default:
        return drover_fail(error, DROVER_ERROR_PERMANENT, "DRV-TASK-INVALID: step %d towards a snapshot", (int)step);
    }
}

static int64_t taken_at_ms(const DroverVsphereSnapshot *snapshot)
{
    g_autoptr(GTimeZone) utc = g_time_zone_new_utc();
    g_autoptr(GDateTime) at = g_date_time_new_from_iso8601(snapshot->created_at, utc);
    return at == NULL ? drover_now_ms() : g_date_time_to_unix(at) * 1000 + g_date_time_get_microsecond(at) / 1000;
}

static bool finish(DroverVmTask *task, const DroverVsphereVm *vm, GError **error)
{
    const DroverVsphereSnapshot *snapshot = drover_vsphere_vm_snapshot(vm, task->order->snapshot_name);
    g_autoptr(GPtrArray) disks =
        drover_vsphere_snapshot_disks(task->session->vsphere, snapshot->moref, task->wait.cancel, error);
    if (disks == NULL)
        return false;
    DroverVmOutcome outcome = {
        .vm = vm,
        .disks = disks,
        .snapshot_moref = snapshot->moref,
        .quiesced = snapshot->quiesced,
        .snapshot_at_ms = taken_at_ms(snapshot),
    };
    drover_vm_task_finish(task, &outcome);
    return true;
}

bool drover_vm_snapshot(DroverVmTask *task, GError **error)
{
    Snapshot snapshot = {.task = task};
    for (;;) {
        g_autoptr(GError) failure = NULL;
        g_autoptr(DroverVsphereVm) vm = drover_vm_task_observe(task, &failure);
        DroverVmStep step = vm == NULL ? DROVER_VM_STEP_REFUSE
                                       : drover_vm_snapshot_step(vm, task->order, snapshot.initialised, &failure);
        if (step == DROVER_VM_STEP_DONE ? finish(task, vm, &failure)
                                        : step != DROVER_VM_STEP_REFUSE &&
                                              drover_vm_task_has_effect(task, step, &failure) &&
                                              do_step(&snapshot, vm, step, &failure)) {
            if (step == DROVER_VM_STEP_DONE)
                return true;
        } else if (!drover_vm_task_try_again(task, &failure)) {
            g_propagate_error(error, g_steal_pointer(&failure));
            return false;
        }
    }
}
