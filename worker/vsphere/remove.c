/* SPDX-License-Identifier: Apache-2.0 */
/* The end of a round's snapshot: removed, and its files consolidated, however long vSphere takes. */
#include <string.h>

#include "lib/base/error.h"
#include "worker/vsphere/decide.h"
#include "worker/vsphere/task.h"

#define CONSOLIDATIONS_MAX 3
#define CONSOLIDATION_PAUSE_MS 2000

static bool is_gone(const GError *failure)
{
    g_autofree char *code = drover_error_code(failure->message);
    return strcmp(code, "DRV-VCENTER-GONE") == 0;
}

/* vSphere may say that it consolidated, and that it needs to: then the next attempt asks again, later. */
static bool consolidate(DroverVmTask *task, const DroverVsphereVm *vm, unsigned *times, GError **error)
{
    if ((*times)++ >= CONSOLIDATIONS_MAX)
        return drover_fail(error, DROVER_ERROR_RETRYABLE,
                           "DRV-SOURCE-CONSOLIDATION: VM %s still needs its disks consolidated after %d times; look at "
                           "its events in vCenter, a file may be locked",
                           vm->name, CONSOLIDATIONS_MAX);
    if (*times > 1 && !drover_vm_task_pause(task, CONSOLIDATION_PAUSE_MS, error))
        return false;
    drover_vm_task_notice(task, "info", "vm.consolidate", "Consolidating the disks of VM %s", vm->name);
    g_autoptr(DroverVsphereVm) again = drover_vm_task_observe(task, error); /* has a session, whatever the pause did */
    return again != NULL && drover_vsphere_consolidate(task->session->vsphere, vm->moref, &task->wait, error);
}

static void finish(DroverVmTask *task, const DroverVsphereVm *vm)
{
    DroverVmOutcome outcome = {.vm = vm};
    drover_vm_task_finish(task, &outcome);
}

/* One look and one thing done; *DONE when nothing is left. */
static bool turn(DroverVmTask *task, unsigned *consolidations, bool *done, GError **error)
{
    g_autoptr(GError) failure = NULL;
    g_autoptr(DroverVsphereVm) vm = drover_vm_task_observe(task, &failure);
    if (vm == NULL && is_gone(failure)) {
        drover_vm_task_notice(task, "warning", "vm.gone", "The VM is gone, and its snapshots with it: %s",
                              failure->message);
        finish(task, NULL);
        *done = true;
        return true;
    }
    if (vm == NULL) {
        g_propagate_error(error, g_steal_pointer(&failure));
        return false;
    }
    const DroverVsphereSnapshot *snapshot = NULL;
    switch (drover_vm_remove_step(vm, task->order, &snapshot)) {
    case DROVER_VM_STEP_REMOVE:
        return drover_vsphere_remove_snapshot(task->session->vsphere, snapshot->moref, &task->wait, error);
    case DROVER_VM_STEP_CONSOLIDATE:
        return consolidate(task, vm, consolidations, error);
    default:
        finish(task, vm);
        *done = true;
        return true;
    }
}

bool drover_vm_remove_snapshot(DroverVmTask *task, GError **error)
{
    bool done = false;
    unsigned consolidations = 0;
    while (!done) {
        g_autoptr(GError) failure = NULL;
        if (turn(task, &consolidations, &done, &failure) || drover_vm_task_try_again(task, &failure))
            continue;
        g_propagate_error(error, g_steal_pointer(&failure));
        return false;
    }
    return true;
}
