/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A client of the vSphere Web Services API (SOAP 1.1, namespace urn:vim25), as far as a migration needs it. Facts:
 * the vSphere Web Services SDK reference; method and type names below are its own.
 *
 * One DroverVsphere is one session. Calls block; they may come from any thread, one at a time is on the wire, in the order
 * of asking (a thread that waits for a task has it for 2 s at a time). The session is kept alive between calls; a call that
 * answers NotAuthenticated logs in again and is repeated once. CANCEL (may be NULL) ends every wait.
 *
 * Errors: DROVER_ERROR with vCenter's own message kept.
 *   retryable  DRV-VCENTER-UNREACHABLE, -TIMEOUT, -BUSY (TaskInProgress, ConcurrentAccess), -FAULT
 *   permanent  DRV-VCENTER-TLS, -LOGIN, -RIGHTS (NoPermission, with the privilege), -GONE (ManagedObjectNotFound), -STATE
 *              (InvalidState, InvalidPowerState), -SPACE (NoDiskSpace), -QUIESCE (the guest could not be quiesced for a
 *              snapshot), -ARGUMENT, -ANSWER (not understood); from changed areas DRV-SOURCE-CHANGE-ID and
 *              DRV-SOURCE-NO-CHANGE-TRACKING
 * What CANCEL ended is G_IO_ERROR_CANCELLED. A retryable error of something that changes says nothing about whether it was
 * done: it is sent once, and its answer may be lost; look before doing it again.
 */
#ifndef DROVER_LIB_VSPHERE_VSPHERE_H
#define DROVER_LIB_VSPHERE_VSPHERE_H

#include <gio/gio.h>

#include "lib/rangeset/rangeset.h"
#include "lib/vsphere/vcenter.h"
#include "lib/vsphere/vm.h"

typedef struct DroverVsphere DroverVsphere;

/* Logs in; waits while the process has as many sessions as VCENTER allows. VCENTER stays the caller's and must live as
 * long. */
DroverVsphere *drover_vsphere_open(const DroverVcenter *vcenter, GCancellable *cancel, GError **error);
/* Logs out; best effort. */
void drover_vsphere_close(DroverVsphere *vsphere);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(DroverVsphere, drover_vsphere_close)

const char *drover_vsphere_api_version(const DroverVsphere *vsphere); /* "8.0.2.0" */
const char *drover_vsphere_instance_uuid(const DroverVsphere *vsphere); /* of this vCenter */

/* ---- inventory */

/* All VMs whose name, inventory path, UUID or moref matches the glob FILTER ("" or NULL: all), by inventory path;
 * DroverVsphereVm. */
GPtrArray *drover_vsphere_vms(DroverVsphere *vsphere, const char *filter, GCancellable *cancel, GError **error);
/* The VM MOREF as it is now. UUID, unless "", must be its instance UUID: morefs are used again. DRV-VCENTER-GONE. */
DroverVsphereVm *drover_vsphere_vm(DroverVsphere *vsphere, const char *moref, const char *uuid, GCancellable *cancel,
                                   GError **error);
/* Those of PRIVILEGES (NULL-terminated, e.g. "VirtualMachine.State.CreateSnapshot") that the session lacks on the VM;
 * newly allocated, NULL-terminated. */
char **drover_vsphere_missing_privileges(DroverVsphere *vsphere, const char *vm, const char *const *privileges,
                                         GCancellable *cancel, GError **error);

/* ---- things that change: each waits for its task, however long that takes */

typedef struct {
    GCancellable *cancel;
    /* While a task runs: PERCENT (-1: not told), STATE (queued, running), REASON why it is queued. May be NULL. */
    void (*progress)(void *data, int percent, const char *state, const char *reason);
    /* Asked right before each call that changes something; false stops with its error. Must not use this session. May be
     * NULL. */
    bool (*may_go_on)(void *data, GError **error);
    void *data;
} DroverVsphereWait;

bool drover_vsphere_set_change_tracking(DroverVsphere *vsphere, const char *vm, bool enabled,
                                        const DroverVsphereWait *wait, GError **error);
/* *SNAPSHOT: moref. No memory image. */
bool drover_vsphere_create_snapshot(DroverVsphere *vsphere, const char *vm, const char *name, const char *description,
                                    bool quiesce, const DroverVsphereWait *wait, char **snapshot, GError **error);
/* Without its children. Gone already is success. */
bool drover_vsphere_remove_snapshot(DroverVsphere *vsphere, const char *snapshot, const DroverVsphereWait *wait,
                                    GError **error);
bool drover_vsphere_consolidate(DroverVsphere *vsphere, const char *vm, const DroverVsphereWait *wait, GError **error);
bool drover_vsphere_power_on(DroverVsphere *vsphere, const char *vm, const DroverVsphereWait *wait, GError **error);
bool drover_vsphere_power_off(DroverVsphere *vsphere, const char *vm, const DroverVsphereWait *wait, GError **error);
/* Asks the guest; returns at once. */
bool drover_vsphere_shutdown_guest(DroverVsphere *vsphere, const char *vm, const DroverVsphereWait *wait,
                                   GError **error);
/* ReconfigVM_Task: whether the NICs are connected (now and at power-on), and the annotation (NULL: as it is). */
bool drover_vsphere_guard(DroverVsphere *vsphere, const char *vm, bool nics_connected, const char *annotation,
                          const DroverVsphereWait *wait, GError **error);
/* Waits for tasks that others started on the VM (recentTask), so that ours is not refused with TaskInProgress. */
bool drover_vsphere_wait_idle(DroverVsphere *vsphere, const char *vm, const DroverVsphereWait *wait, GError **error);

/* ---- changed block tracking */

/* The disks as SNAPSHOT has them, with change ids, sizes and backing paths; DroverVsphereDisk. */
GPtrArray *drover_vsphere_snapshot_disks(DroverVsphere *vsphere, const char *snapshot, GCancellable *cancel,
                                         GError **error);
/* Areas that changed between CHANGE_ID ("*": all that are allocated) and SNAPSHOT: asks until CAPACITY_BYTES are
 * covered, however few a call returns; DroverRange, sorted, merged, inside the capacity. */
bool drover_vsphere_changed_areas(DroverVsphere *vsphere, const char *vm, const char *snapshot, int32_t disk_key,
                                  const char *change_id, uint64_t capacity_bytes, GArray *areas, GCancellable *cancel,
                                  GError **error);
/* "52 3c …-87 4a …/4446": a UUID and a sequence number. */
bool drover_vsphere_change_id_is_valid(const char *change_id);
/* Both valid and of the same tracking epoch (equal UUIDs). */
bool drover_vsphere_change_id_same_epoch(const char *a, const char *b);

#endif
