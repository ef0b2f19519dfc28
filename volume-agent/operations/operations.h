/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What each kind of operation does. All of them look first and act only on what is missing, so an operation may be run
 * any number of times until it is done; whoever runs it settles it before (see call.h). They fill in
 * operation->result; RETRYABLE errors mean "run it again".
 */
#ifndef DROVER_VOLUME_AGENT_OPERATIONS_OPERATIONS_H
#define DROVER_VOLUME_AGENT_OPERATIONS_OPERATIONS_H

#include "volume-agent/operations/context.h"

typedef bool (*DroverOpFunc)(const DroverOpContext *context, DroverOperation *operation, GError **error);

bool drover_op_create_volume(const DroverOpContext *context, DroverOperation *operation, GError **error);
bool drover_op_attach_volume(const DroverOpContext *context, DroverOperation *operation, GError **error);
bool drover_op_detach_volume(const DroverOpContext *context, DroverOperation *operation, GError **error);
bool drover_op_delete_volume(const DroverOpContext *context, DroverOperation *operation, GError **error);
bool drover_op_resize_volume(const DroverOpContext *context, DroverOperation *operation, GError **error);

bool drover_op_open_export(const DroverOpContext *context, DroverOperation *operation, GError **error);
bool drover_op_close_export(const DroverOpContext *context, DroverOperation *operation, GError **error);

bool drover_op_deploy_vm(const DroverOpContext *context, DroverOperation *operation, GError **error);
bool drover_op_swap_root(const DroverOpContext *context, DroverOperation *operation, GError **error);
bool drover_op_attach_to_vm(const DroverOpContext *context, DroverOperation *operation, GError **error);
bool drover_op_start_vm(const DroverOpContext *context, DroverOperation *operation, GError **error);
bool drover_op_stop_vm(const DroverOpContext *context, DroverOperation *operation, GError **error);
bool drover_op_destroy_vm(const DroverOpContext *context, DroverOperation *operation, GError **error);

bool drover_op_remove_export(const DroverOpContext *context, DroverOperation *operation, GError **error);
bool drover_op_remove_orphan_exports(const DroverOpContext *context, DroverOperation *operation, GError **error);
bool drover_op_cleanup_test_failover(const DroverOpContext *context, DroverOperation *operation, GError **error);
bool drover_op_create_snapshot(const DroverOpContext *context, DroverOperation *operation, GError **error);
bool drover_op_revert_snapshot(const DroverOpContext *context, DroverOperation *operation, GError **error);
bool drover_op_delete_snapshot(const DroverOpContext *context, DroverOperation *operation, GError **error);
bool drover_op_track_snapshot(const DroverOpContext *context, DroverOperation *operation, GError **error);
bool drover_op_update_snapshot(const DroverOpContext *context, DroverOperation *operation, GError **error);
bool drover_op_clear_snapshots(const DroverOpContext *context, DroverOperation *operation, GError **error);
bool drover_op_force_sync(const DroverOpContext *context, DroverOperation *operation, GError **error);
bool drover_op_drain_appliance(const DroverOpContext *context, DroverOperation *operation, GError **error);

/* The appliance is to be emptied, and nothing is left: no operation, no disk that one plugged in, no export. */
bool drover_op_is_drained(const DroverOpContext *context);

/* Runs whatever OPERATION is. */
bool drover_op_run(const DroverOpContext *context, DroverOperation *operation, GError **error);

/* Takes a volume off the VM it is attached to, its export and readers first. Nothing attached: success. */
bool drover_op_take_off(const DroverOpContext *context, DroverOperation *operation, const char *volume_id, GError **error);
/* Grows a volume to SIZE_BYTES, rounded up to GiB, and waits until its device on the appliance, if it has one there, shows it. Large
 * enough: success. PERMANENT, DRV-VOLUME-RESIZE: CloudStack refuses. */
bool drover_op_grow(const DroverOpContext *context, DroverOperation *operation, const char *volume_id, uint64_t size_bytes, GError **error);
/* Puts a volume back to a tracked snapshot of it, which is then tracked as "reverted". */
bool drover_op_revert_to(const DroverOpContext *context, DroverOperation *operation, const char *snapshot_id, GError **error);
/* Deletes a snapshot at CloudStack, and forgets it. None there: success. */
bool drover_op_remove_snapshot(const DroverOpContext *context, DroverOperation *operation, const char *snapshot_id, GError **error);
/* Attaches a volume to the appliance and finds its device, into operation->result. */
bool drover_op_attach_to_appliance(const DroverOpContext *context, DroverOperation *operation, const char *volume_id,
                                   uint64_t minimum_size, GError **error);
/* Takes the volumes off a VM that are not its own: all data disks, and a root disk that was swapped in. A VM that runs is stopped
 * before. No such VM: success. */
bool drover_op_strip_vm(const DroverOpContext *context, DroverOperation *operation, const char *vm_id, GError **error);
/* Stops and expunges a VM; volumes that are not its own are taken off first. No such VM: success, with already_done. */
bool drover_op_remove_vm(const DroverOpContext *context, DroverOperation *operation, const char *vm_id, GError **error);

#endif
