/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the tasks about source VMs share: one vCenter session, observing, waiting, telling. A task's functions run on
 * its slot's thread and block; they stop when the task is revoked or to be released.
 */
#ifndef DROVER_WORKER_VSPHERE_TASK_H
#define DROVER_WORKER_VSPHERE_TASK_H

#include "worker/handlers.h"
#include "worker/vsphere/decide.h"
#include "worker/vsphere/pool.h"

typedef struct {
    DroverWorker *worker;
    DroverRunning *running;
    const DroverTask *task;
    const DroverVmOrder *order;
    DroverVcenterSession *session;
    DroverVsphereWait wait;
    DroverVmStep step; /* the last one */
    unsigned times;    /* in a row */
    char *told; /* what the last notice of progress said */
    int64_t told_us;
} DroverVmTask;

/* The VM as it is once nobody else's task runs on it. */
DroverVsphereVm *drover_vm_task_observe(DroverVmTask *task, GError **error);
/* Sleeps without holding the session. */
bool drover_vm_task_pause(DroverVmTask *task, unsigned ms, GError **error);
/*
 * True when *FAILURE only says that somebody else works on the VM: it is cleared, a moment has passed, observe again.
 * Without any limit: consolidation may take hours.
 */
bool drover_vm_task_try_again(DroverVmTask *task, GError **failure);
/* Call before STEP. RETRYABLE when it was done several times in a row and the VM does not show it: never a tight loop. */
bool drover_vm_task_has_effect(DroverVmTask *task, DroverVmStep step, GError **error);
/* Tells the job's log. */
void drover_vm_task_notice(DroverVmTask *task, const char *level, const char *event, const char *format, ...)
    G_GNUC_PRINTF(4, 5);

/* Ends the task well. DISKS: DroverVsphereDisk, those of the job are told; NULL: none. */
typedef struct {
    const DroverVsphereVm *vm; /* NULL: it is gone */
    const GPtrArray *disks;
    const char *snapshot_moref; /* NULL: none */
    bool quiesced;
    int64_t snapshot_at_ms;
    const DroverVmFinding *findings;
    size_t n_findings;
} DroverVmOutcome;
void drover_vm_task_finish(DroverVmTask *task, const DroverVmOutcome *outcome);

/* One action each; each ends with drover_vm_task_finish or an error. */
bool drover_vm_preflight(DroverVmTask *task, GError **error);
bool drover_vm_look(DroverVmTask *task, GError **error);
bool drover_vm_snapshot(DroverVmTask *task, GError **error);
bool drover_vm_remove_snapshot(DroverVmTask *task, GError **error);
bool drover_vm_power_off(DroverVmTask *task, GError **error);
bool drover_vm_power_on(DroverVmTask *task, GError **error);

#endif
