/* SPDX-License-Identifier: Apache-2.0 */
#include "volume-agent/operations/operations.h"

#include <string.h>

#include "lib/base/error.h"
#include "lib/base/ids.h"
#include "lib/base/log.h"
#include "volume-agent/operations/call.h"
#include "volume-agent/operations/look.h"
#include "volume-agent/operations/owner.h"
#include "volume-agent/operations/place.h"

#define GIB (UINT64_C(1) << 30)
#define UNPLUG_TIMEOUT_MS 10000

static uint64_t size_of(const json_t *volume)
{
    return (uint64_t)json_integer_value(json_object_get(volume, "size"));
}

/* ---- create, delete ------------------------------------------------------------------------------------------- */

/* Offering and zone are the snapshot's, and so is the size, whatever is asked for. */
static bool send_create_from(const DroverOpContext *context, DroverOperation *operation, const Drover__V1__CreateVolume *asked,
                             GError **error)
{
    json_t *snapshot = NULL;
    if (!drover_op_claim(context, operation, asked->snapshot_id, error) ||
        !drover_look_snapshot(context, asked->snapshot_id, &snapshot, error))
        return false;
    if (!snapshot)
        return drover_fail(error, DROVER_ERROR_PERMANENT, "DRV-SNAPSHOT-MISSING: CloudStack has no snapshot %s", asked->snapshot_id);
    json_decref(snapshot);
    const char *const parameters[] = {"name", asked->name, "snapshotid", asked->snapshot_id, "customid", asked->custom_id, NULL};
    return drover_op_call(context, operation, "createVolume", parameters, NULL, error);
}

static bool send_create(const DroverOpContext *context, DroverOperation *operation,
                        const Drover__V1__CreateVolume *asked, GError **error)
{
    bool custom_size = false;
    uint64_t offered_bytes = 0;
    g_autofree char *offering = drover_look_disk_offering(context, asked->disk_offering, &custom_size, &offered_bytes, error);
    g_autofree char *zone = offering ? drover_look_zone(context, asked->zone, error) : NULL;
    if (!zone)
        return false;
    if (!custom_size && offered_bytes < asked->size_bytes)
        return drover_fail(error, DROVER_ERROR_PERMANENT,
                           "DRV-TARGET-TOO-SMALL: disk offering '%s' gives %" G_GUINT64_FORMAT " bytes, the source has %" G_GUINT64_FORMAT,
                           asked->disk_offering, offered_bytes, asked->size_bytes);
    g_autofree char *gib = g_strdup_printf("%" G_GUINT64_FORMAT, (asked->size_bytes + GIB - 1) / GIB);
    const char *const parameters[] = {"name", asked->name, "zoneid", zone, "diskofferingid", offering, "customid",
                                      asked->custom_id, "size", custom_size ? gib : "", NULL};
    json_t *result = NULL;
    if (!drover_op_call(context, operation, "createVolume", parameters, &result, error))
        return false;
    drover_set_text(&operation->result.volume_id, drover_json_text(json_object_get(result, "volume"), "id"));
    json_decref(result);
    return true;
}

bool drover_op_create_volume(const DroverOpContext *context, DroverOperation *operation, GError **error)
{
    const Drover__V1__CreateVolume *asked = operation->asked->create_volume;
    if (!*asked->custom_id || asked->size_bytes == 0)
        return drover_fail(error, DROVER_ERROR_PERMANENT, "create-volume without custom_id or size");
    json_t *volume = NULL;
    if (!drover_look_volume(context, asked->custom_id, &volume, error))
        return false;
    operation->result.already_done = volume != NULL;
    bool of_snapshot = *asked->snapshot_id;
    if (!volume && !(of_snapshot ? send_create_from : send_create)(context, operation, asked, error))
        return false;
    if (of_snapshot) {
        json_decref(g_steal_pointer(&volume));
        if (!drover_op_grow(context, operation, asked->custom_id, asked->size_bytes, error))
            return false;
    }
    if (!volume && !drover_look_volume(context, asked->custom_id, &volume, error))
        return false;
    if (!volume)
        return drover_fail(error, DROVER_ERROR_RETRYABLE, "Volume %s was created and is not there", asked->custom_id);
    drover_set_text(&operation->result.volume_id, drover_json_text(volume, "id"));
    operation->result.device_size_bytes = size_of(volume);
    json_decref(volume);
    return true;
}

bool drover_op_delete_volume(const DroverOpContext *context, DroverOperation *operation, GError **error)
{
    const char *id = operation->asked->delete_volume->volume_id;
    json_t *volume = NULL;
    if (!drover_op_take_off(context, operation, id, error) || !drover_look_volume(context, id, &volume, error))
        return false;
    operation->result.already_done = !volume;
    if (!volume)
        return true;
    json_decref(volume);
    const char *const parameters[] = {"id", id, NULL};
    return drover_op_call(context, operation, "deleteVolume", parameters, NULL, error);
}

/* ---- attach, detach ------------------------------------------------------------------------------------------- */

static bool wait_for_device(const DroverOpContext *context, DroverOperation *operation, const char *volume_id,
                            uint64_t minimum_size, GError **error)
{
    g_auto(DroverDevice) device = {0};
    if (!drover_device_wait(&context->roots, volume_id, minimum_size, context->device_timeout_ms, context->stopping, &device,
                            error))
        return false;
    drover_set_text(&operation->result.device_path, device.path);
    drover_set_text(&operation->result.device_serial, device.serial);
    operation->result.device_size_bytes = device.size_bytes;
    return true;
}

/* A detached volume is attached; then, or when it already was, its device is waited for. */
static bool plug_in(const DroverOpContext *context, DroverOperation *operation, const char *volume_id, uint64_t minimum_size,
                    bool attached, GError **error)
{
    /* The source has grown since the volume was made. Clients of the REST API ask for that by itself. */
    if (minimum_size && !*operation->asked->requested_by && !drover_op_grow(context, operation, volume_id, minimum_size, error))
        return false;
    const char *const parameters[] = {"id", volume_id, "virtualmachineid", context->appliance_vm_id, NULL};
    if (!attached && (!drover_owner_hand_over(context, operation, volume_id, context->appliance_vm_id, error) ||
                      !drover_op_call(context, operation, "attachVolume", parameters, NULL, error)))
        return false;
    return wait_for_device(context, operation, volume_id, minimum_size, error);
}

bool drover_op_attach_to_appliance(const DroverOpContext *context, DroverOperation *operation, const char *volume_id,
                                   uint64_t minimum_size, GError **error)
{
    json_t *volume = NULL;
    if (!drover_op_claim(context, operation, volume_id, error) ||
        !drover_op_claim(context, operation, context->appliance_vm_id, error) ||
        !drover_look_volume(context, volume_id, &volume, error))
        return false;
    if (!volume)
        return drover_fail(error, DROVER_ERROR_PERMANENT, "DRV-VOLUME-MISSING: CloudStack has no volume %s", volume_id);
    g_autofree char *where = g_strdup(drover_json_text(volume, "virtualmachineid"));
    bool root = strcmp(drover_json_text(volume, "type"), "ROOT") == 0;
    /* Whoever gives a volume back needs it, wherever it lies by now. */
    bool first = operation->asked->operation_case == DROVER__V1__VOLUME_OPERATION__OPERATION_ATTACH_VOLUME && !operation->asked->undo;
    bool reached = *where || !first || drover_place_is_reached(context, volume, error);
    json_decref(volume);
    if (!reached)
        return false;
    if (*where && (strcmp(where, context->appliance_vm_id) != 0 || root))
        return drover_fail(error, DROVER_ERROR_PERMANENT, "DRV-VOLUME-ELSEWHERE: volume %s is attached to VM %s%s",
                           volume_id, where, root ? " as its root disk" : "");
    drover_set_text(&operation->result.volume_id, volume_id);
    operation->result.already_done = *where != '\0';
    g_autoptr(GError) why = NULL;
    if (plug_in(context, operation, volume_id, minimum_size, *where, &why))
        return true;
    if (g_str_has_prefix(why->message, "DRV-DEVICE-MISSING") && !context->stopping()) {
        /* The host lost it: taking it off lets the next attempt plug it in anew. */
        drover_warning("device.missing", why->message, F_S("volume_id", volume_id));
        if (!drover_op_take_off(context, operation, volume_id, error))
            return false;
    }
    g_propagate_error(error, g_steal_pointer(&why));
    return false;
}

bool drover_op_attach_volume(const DroverOpContext *context, DroverOperation *operation, GError **error)
{
    const Drover__V1__AttachVolume *asked = operation->asked->attach_volume;
    return drover_op_attach_to_appliance(context, operation, asked->volume_id, asked->minimum_size_bytes, error);
}

/* Until the guest has let go of the device: a volume that is attached again would else find the old one. */
static bool wait_until_unplugged(const DroverOpContext *context, const char *volume_id, GError **error)
{
    gint64 deadline = g_get_monotonic_time() + UNPLUG_TIMEOUT_MS * 1000;
    g_auto(DroverDevice) device = {0};
    while (drover_device_find(&context->roots, volume_id, &device, NULL)) {
        drover_device_clear(&device);
        if (g_get_monotonic_time() > deadline) {
            drover_warning("device.lingers", "CloudStack has detached a volume, its device is still there",
                           F_S("volume_id", volume_id));
            return true;
        }
        if (!drover_op_sleep(context, 50, error))
            return false;
    }
    return true;
}

bool drover_op_take_off(const DroverOpContext *context, DroverOperation *operation, const char *volume_id, GError **error)
{
    /* Fence first: nobody may write or read while the device goes. */
    if (!drover_op_claim(context, operation, volume_id, error) ||
        !drover_export_book_forget(context->exports, volume_id, error))
        return false;
    context->release_device(context->release_data, volume_id);
    json_t *volume = NULL;
    if (!drover_look_volume(context, volume_id, &volume, error))
        return false;
    g_autofree char *where = g_strdup(volume ? drover_json_text(volume, "virtualmachineid") : "");
    json_decref(volume);
    if (!*where)
        return true;
    const char *const parameters[] = {"id", volume_id, NULL};
    if (!drover_op_claim(context, operation, where, error) ||
        !drover_op_call(context, operation, "detachVolume", parameters, NULL, error))
        return false;
    if (strcmp(where, context->appliance_vm_id) == 0 && !wait_until_unplugged(context, volume_id, error))
        return false;
    /* A straggler may have undone it (CloudStack #14214): what counts is how it is now. */
    if (!drover_look_volume(context, volume_id, &volume, error))
        return false;
    bool off = !volume || !*drover_json_text(volume, "virtualmachineid");
    json_decref(volume);
    return off || drover_fail(error, DROVER_ERROR_RETRYABLE, "Volume %s is attached again", volume_id);
}

bool drover_op_detach_volume(const DroverOpContext *context, DroverOperation *operation, GError **error)
{
    const char *id = operation->asked->detach_volume->volume_id;
    json_t *volume = NULL;
    if (!drover_look_volume(context, id, &volume, error))
        return false;
    bool exists = volume != NULL;
    operation->result.already_done = !exists || !*drover_json_text(volume, "virtualmachineid");
    json_decref(volume);
    if (!exists && !operation->asked->undo)
        return drover_fail(error, DROVER_ERROR_PERMANENT, "DRV-VOLUME-MISSING: CloudStack has no volume %s", id);
    drover_set_text(&operation->result.volume_id, id);
    return drover_op_take_off(context, operation, id, error) &&
           (!operation->asked->undo || drover_owner_hand_back(context, operation, id, error));
}
