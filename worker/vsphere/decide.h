/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What to do next with a source VM, given what vCenter says of it now. Handlers observe, ask here, do one thing, and
 * observe again: so an attempt that follows a killed one goes on where that one stopped. Pure.
 */
#ifndef DROVER_WORKER_VSPHERE_DECIDE_H
#define DROVER_WORKER_VSPHERE_DECIDE_H

#include "lib/vsphere/vm.h"
#include "worker/task.h"

typedef enum {
    DROVER_VM_STEP_REFUSE = 0,       /* with an error */
    DROVER_VM_STEP_DONE,
    DROVER_VM_STEP_ENABLE_TRACKING,
    DROVER_VM_STEP_TAKE_INITIAL,     /* change tracking begins with a snapshot that is taken and removed */
    DROVER_VM_STEP_REMOVE_INITIAL,
    DROVER_VM_STEP_TAKE,             /* the round's own */
    DROVER_VM_STEP_REMOVE,
    DROVER_VM_STEP_CONSOLIDATE,
    DROVER_VM_STEP_SHUT_DOWN,        /* ask the guest */
    DROVER_VM_STEP_POWER_OFF,
    DROVER_VM_STEP_WAIT_OFF,
    DROVER_VM_STEP_GUARD,
    DROVER_VM_STEP_UNGUARD,
    DROVER_VM_STEP_POWER_ON,
} DroverVmStep;

/* The name of the snapshot that initialises tracking for ORDER; newly allocated. */
char *drover_vm_initial_name(const DroverVmOrder *order);

/*
 * Towards the round's snapshot. INITIALISED: this attempt has seen tracking begin, whatever the VM's change ids say.
 * REFUSE: PERMANENT, with the codes of core/preflight/preflight.h: DRV-SOURCE-HARDWARE, -CBT-IMPOSSIBLE, -CBT-SNAPSHOTS, DRV-SOURCE-MISSING (a disk of the job).
 */
DroverVmStep drover_vm_snapshot_step(const DroverVsphereVm *vm, const DroverVmOrder *order, bool initialised,
                                     GError **error);
/* Whether the guest is to be asked to quiesce. */
bool drover_vm_can_quiesce(const DroverVsphereVm *vm, const DroverVmOrder *order);
/* Whether FAILURE of a quiesced snapshot says that one without quiescing may succeed. */
bool drover_vm_is_quiesce_failure(const GError *failure);

/* Towards no snapshot of the round; *SNAPSHOT (of VM) is the one to remove. A snapshot that bears the reference that
 * ORDER knows, but another name, is somebody else's: references are used again. */
DroverVmStep drover_vm_remove_step(const DroverVsphereVm *vm, const DroverVmOrder *order,
                                   const DroverVsphereSnapshot **snapshot);

/* Towards a guarded VM that is off. ASKED: the guest was asked; LATE: its time is over. REFUSE: PERMANENT
 * DRV-SOURCE-POWER-WAIT. */
DroverVmStep drover_vm_power_off_step(const DroverVsphereVm *vm, const DroverVmOrder *order, bool asked, bool late,
                                      GError **error);
/* Towards a VM without guard, running unless it is to stay off. */
DroverVmStep drover_vm_power_on_step(const DroverVsphereVm *vm, const DroverVmOrder *order);

/* The guard is a line in the VM's notes, written together with the disconnected NICs. */
bool drover_vm_is_guarded(const DroverVsphereVm *vm);
char *drover_vm_guarded_annotation(const char *annotation, const char *job_id);
char *drover_vm_unguarded_annotation(const char *annotation);

#endif
