/* SPDX-License-Identifier: Apache-2.0 */
#include "volume-agent/operations/operations.h"

#include <stdlib.h>
#include <string.h>

#include "lib/base/error.h"
#include "lib/base/log.h"
#include "volume-agent/operations/call.h"
#include "volume-agent/operations/compare.h"
#include "volume-agent/operations/look.h"

bool drover_op_open_export(const DroverOpContext *context, DroverOperation *operation, GError **error)
{
    const Drover__V1__OpenExport *asked = operation->asked->open_export;
    if (asked->generation == 0)
        return drover_fail(error, DROVER_ERROR_PERMANENT, "open-export without a generation");
    g_auto(DroverDevice) device = {0};
    if (!drover_device_wait(&context->roots, asked->volume_id, 0, context->device_timeout_ms, context->stopping, &device, error))
        return false;
    if (device.size_bytes < asked->minimum_size_bytes) {
        /* It stayed attached since the last round, and its source has grown. */
        if (!*operation->asked->requested_by &&
            !drover_op_grow(context, operation, asked->volume_id, asked->minimum_size_bytes, error))
            return false;
        drover_device_clear(&device);
        if (!drover_device_wait(&context->roots, asked->volume_id, asked->minimum_size_bytes, context->device_timeout_ms,
                                context->stopping, &device, error))
            return false;
    }
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

static bool forget(const DroverOpContext *context, DroverOperation *operation, const char *volume_id, GError **error)
{
    if (!drover_op_claim(context, operation, volume_id, error) || !drover_export_book_forget(context->exports, volume_id, error))
        return false;
    context->release_device(context->release_data, volume_id);
    return true;
}

bool drover_op_remove_export(const DroverOpContext *context, DroverOperation *operation, GError **error)
{
    const char *id = operation->asked->remove_export->volume_id;
    g_autoptr(DroverExportRecord) known = drover_export_book_find(context->exports, id);
    operation->result.already_done = !known;
    operation->result.generation = known ? known->generation : 0;
    drover_set_text(&operation->result.volume_id, id);
    return forget(context, operation, id, error);
}

/* Nobody can use it: its volume is gone or elsewhere, or attached without a device. */
static bool is_orphan(const DroverOpContext *context, const char *volume_id, bool *orphan, GError **error)
{
    json_t *volume = NULL;
    if (!drover_look_volume(context, volume_id, &volume, error))
        return false;
    *orphan = !volume || strcmp(drover_json_text(volume, "virtualmachineid"), context->appliance_vm_id) != 0;
    json_decref(volume);
    g_auto(DroverDevice) device = {0};
    g_autoptr(GError) why = NULL;
    if (!*orphan && !drover_device_find(&context->roots, volume_id, &device, &why))
        *orphan = !why; /* a device that cannot be looked at is not a missing one */
    return true;
}

bool drover_op_remove_orphan_exports(const DroverOpContext *context, DroverOperation *operation, GError **error)
{
    g_autoptr(GPtrArray) records = drover_export_book_list(context->exports);
    for (guint i = 0; i < records->len; i++) {
        const char *id = ((DroverExportRecord *)g_ptr_array_index(records, i))->volume_id;
        bool orphan = false;
        if (!is_orphan(context, id, &orphan, error))
            return false;
        if (!orphan)
            continue;
        drover_warning("export.orphan", "Removing an export that nobody can use", F_S("volume_id", id));
        if (!forget(context, operation, id, error))
            return false;
        drover_operation_add_volume(operation, id);
    }
    operation->result.already_done = !operation->result.volume_ids;
    return true;
}

bool drover_op_force_sync(const DroverOpContext *context, DroverOperation *operation, GError **error)
{
    json_t *report = NULL;
    if (!drover_op_compare(context, operation, &report, error))
        return false;
    char *text = json_dumps(report, JSON_COMPACT);
    json_decref(report);
    drover_set_text(&operation->result.report, text);
    free(text);
    return true;
}
