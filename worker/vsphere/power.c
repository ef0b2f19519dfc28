/* SPDX-License-Identifier: Apache-2.0 */
/* The source VM off for good, and on again for a rollback. */
#include "lib/base/error.h"
#include "worker/vsphere/decide.h"
#include "worker/vsphere/task.h"

#define LOOK_MS 2000

typedef struct {
    DroverVmTask *task;
    bool asked;
    bool waiting;        /* said so */
    int64_t deadline_us; /* of the guest; counted anew by each attempt */
} PowerOff;

static bool set_guard(DroverVmTask *task, const DroverVsphereVm *vm, bool guarded, GError **error)
{
    g_autofree char *annotation = guarded ? drover_vm_guarded_annotation(vm->annotation, task->task->job_id)
                                          : drover_vm_unguarded_annotation(vm->annotation);
    /* Not every vCenter takes an empty text for "no notes" rather than for "as they are". */
    return drover_vsphere_guard(task->session->vsphere, vm->moref, !guarded, *annotation == '\0' ? " " : annotation,
                                &task->wait, error);
}

static bool wait_off(PowerOff *off, const DroverVsphereVm *vm, GError **error)
{
    if (!off->waiting)
        drover_vm_task_notice(off->task, "info", "vm.wait-off", "Waiting until VM %s is off", vm->name);
    off->waiting = true;
    return drover_vm_task_pause(off->task, LOOK_MS, error);
}

static bool do_off_step(PowerOff *off, const DroverVsphereVm *vm, DroverVmStep step, GError **error)
{
    DroverVmTask *task = off->task;
    switch (step) {
    case DROVER_VM_STEP_SHUT_DOWN:
        drover_vm_task_notice(task, "info", "vm.shutdown", "Asking the guest of VM %s to shut down", vm->name);
        off->asked = true;
        return drover_vsphere_shutdown_guest(task->session->vsphere, vm->moref, &task->wait, error);
    case DROVER_VM_STEP_POWER_OFF:
        drover_vm_task_notice(task, "warning", "vm.power-off", "Switching VM %s off without its guest", vm->name);
        return drover_vsphere_power_off(task->session->vsphere, vm->moref, &task->wait, error);
    case DROVER_VM_STEP_WAIT_OFF:
        return wait_off(off, vm, error);
    case DROVER_VM_STEP_GUARD:
        return set_guard(task, vm, true, error);
    default:
        return drover_fail(error, DROVER_ERROR_PERMANENT, "DRV-TASK-INVALID: step %d towards power off", (int)step);
    }
}

static void finish(DroverVmTask *task, const DroverVsphereVm *vm)
{
    DroverVmOutcome outcome = {.vm = vm};
    drover_vm_task_finish(task, &outcome);
}

bool drover_vm_power_off(DroverVmTask *task, GError **error)
{
    PowerOff off = {.task = task};
    off.deadline_us = g_get_monotonic_time() + (int64_t)MIN(task->order->shutdown_timeout_ms, G_MAXINT32) * 1000;
    for (;;) {
        g_autoptr(GError) failure = NULL;
        g_autoptr(DroverVsphereVm) vm = drover_vm_task_observe(task, &failure);
        DroverVmStep step =
            vm == NULL ? DROVER_VM_STEP_REFUSE
                       : drover_vm_power_off_step(vm, task->order, off.asked,
                                                  off.asked && g_get_monotonic_time() >= off.deadline_us, &failure);
        if (step == DROVER_VM_STEP_DONE) {
            finish(task, vm);
            return true;
        }
        if ((step != DROVER_VM_STEP_REFUSE && drover_vm_task_has_effect(task, step, &failure) &&
             do_off_step(&off, vm, step, &failure)) ||
            drover_vm_task_try_again(task, &failure))
            continue;
        g_propagate_error(error, g_steal_pointer(&failure));
        return false;
    }
}

bool drover_vm_power_on(DroverVmTask *task, GError **error)
{
    for (;;) {
        g_autoptr(GError) failure = NULL;
        g_autoptr(DroverVsphereVm) vm = drover_vm_task_observe(task, &failure);
        bool ok = vm != NULL;
        if (ok) {
            DroverVmStep step = drover_vm_power_on_step(vm, task->order);
            if (step == DROVER_VM_STEP_DONE) {
                finish(task, vm);
                return true;
            }
            ok = !drover_vm_task_has_effect(task, step, &failure) ? false
                 : step == DROVER_VM_STEP_UNGUARD
                     ? set_guard(task, vm, false, &failure)
                     : drover_vsphere_power_on(task->session->vsphere, vm->moref, &task->wait, &failure);
        }
        if (ok || drover_vm_task_try_again(task, &failure))
            continue;
        g_propagate_error(error, g_steal_pointer(&failure));
        return false;
    }
}
