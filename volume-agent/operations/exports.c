/* SPDX-License-Identifier: Apache-2.0 */
#include "volume-agent/operations/operations.h"

#include "lib/base/error.h"

bool drover_op_open_export(const DroverOpContext *context, DroverOperation *operation, GError **error)
{
    const Drover__V1__OpenExport *asked = operation->asked->open_export;
    if (asked->generation == 0)
        return drover_fail(error, DROVER_ERROR_PERMANENT, "open-export without a generation");
    g_auto(DroverDevice) device = {0};
    if (!drover_device_wait(&context->roots, asked->volume_id, asked->minimum_size_bytes, context->device_timeout_ms,
                            context->stopping, &device, error))
        return false;
    g_autofree char *name = g_strconcat("migration-vol-", asked->volume_id, NULL);
    const DroverExportRecord record = {.volume_id = asked->volume_id,
                                       .job_id = operation->asked->job_id,
                                       .disk_id = operation->asked->disk_id,
                                       .export_name = name,
                                       .generation = asked->generation,
                                       .device_path = device.path,
                                       .device_serial = device.serial,
                                       .size_bytes = device.size_bytes};
    g_autofree char *token = NULL;
    if (!drover_export_book_open(context->exports, &record, &token, error))
        return false;
    DroverOperationResult *result = &operation->result;
    drover_set_text(&result->volume_id, asked->volume_id);
    drover_set_text(&result->device_path, device.path);
    drover_set_text(&result->device_serial, device.serial);
    result->device_size_bytes = device.size_bytes;
    drover_set_text(&result->export_name, name);
    result->generation = asked->generation;
    drover_set_text(&result->token, token);
    drover_set_text(&result->nbd_host, context->nbd_public_host);
    result->nbd_port = context->nbd_public_port;
    return true;
}

bool drover_op_close_export(const DroverOpContext *context, DroverOperation *operation, GError **error)
{
    const Drover__V1__CloseExport *asked = operation->asked->close_export;
    drover_set_text(&operation->result.volume_id, asked->volume_id);
    operation->result.generation = asked->generation;
    return drover_export_book_close(context->exports, asked->volume_id, asked->generation, error);
}
