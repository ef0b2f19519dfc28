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

bool drover_op_open_export(const DroverOpContext *context, DroverOperation *operation, GError **error);
bool drover_op_close_export(const DroverOpContext *context, DroverOperation *operation, GError **error);

bool drover_op_deploy_vm(const DroverOpContext *context, DroverOperation *operation, GError **error);
bool drover_op_swap_root(const DroverOpContext *context, DroverOperation *operation, GError **error);
bool drover_op_attach_to_vm(const DroverOpContext *context, DroverOperation *operation, GError **error);
bool drover_op_start_vm(const DroverOpContext *context, DroverOperation *operation, GError **error);
bool drover_op_stop_vm(const DroverOpContext *context, DroverOperation *operation, GError **error);
bool drover_op_destroy_vm(const DroverOpContext *context, DroverOperation *operation, GError **error);

/* Runs whatever OPERATION is. */
bool drover_op_run(const DroverOpContext *context, DroverOperation *operation, GError **error);

/* Takes a volume off the VM it is attached to, its export and readers first. Nothing attached: success. */
bool drover_op_take_off(const DroverOpContext *context, DroverOperation *operation, const char *volume_id, GError **error);

#endif
