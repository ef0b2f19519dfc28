/* SPDX-License-Identifier: Apache-2.0 */
/* Growing a volume. CloudStack does it detached, attached to a VM that runs, and before the volume has a place. */
#include <string.h>

#include "lib/base/error.h"
#include "lib/base/ids.h"
#include "volume-agent/operations/call.h"
#include "volume-agent/operations/look.h"
#include "volume-agent/operations/operations.h"

#define GIB (UINT64_C(1) << 30)
#define POLL_MS 100

static bool send_resize(const DroverOpContext *context, DroverOperation *operation, const char *volume_id, uint64_t gib, GError **error)
{
    g_autofree char *size = g_strdup_printf("%" G_GUINT64_FORMAT, gib);
    g_autofree char *wanted = g_strdup_printf("%" G_GUINT64_FORMAT, gib * GIB);
    drover_set_text(&operation->wanted, wanted);
    const char *const parameters[] = {"id", volume_id, "size", size, NULL};
    g_autoptr(GError) why = NULL;
    if (drover_op_call(context, operation, "resizeVolume", parameters, NULL, &why))
        return true;
    if (drover_error_class(why) == DROVER_ERROR_PERMANENT)
        return drover_fail(error, DROVER_ERROR_PERMANENT, "DRV-VOLUME-RESIZE: volume %s cannot grow to %s GiB: %s", volume_id, size, why->message);
    g_propagate_error(error, g_steal_pointer(&why));
    return false;
}

/* The guest hears of it after CloudStack does. */
static bool wait_for_size(const DroverOpContext *context, const char *volume_id, uint64_t size_bytes, GError **error)
{
    int64_t deadline_ms = drover_boottime_ms() + context->device_timeout_ms;
    for (;;) {
        g_auto(DroverDevice) device = {0};
        g_autoptr(GError) why = NULL;
        bool found = drover_device_find(&context->roots, volume_id, &device, &why);
        if (found && device.size_bytes >= size_bytes)
            return true;
        if (drover_boottime_ms() > deadline_ms)
            return drover_fail(error, DROVER_ERROR_RETRYABLE, "DRV-DEVICE-MISSING: no device of volume %s shows its %" G_GUINT64_FORMAT " bytes within %" G_GINT64_FORMAT " s%s%s",
                               volume_id, size_bytes, context->device_timeout_ms / 1000, why ? ": " : "", why ? why->message : "");
        if (!drover_op_sleep(context, POLL_MS, error))
            return false;
    }
}

bool drover_op_grow(const DroverOpContext *context, DroverOperation *operation, const char *volume_id, uint64_t size_bytes, GError **error)
{
    uint64_t gib = (size_bytes + GIB - 1) / GIB;
    json_t *volume = NULL;
    bool called = false;
    for (;;) {
        if (!drover_look_volume(context, volume_id, &volume, error))
            return false;
        if (!volume)
            return drover_fail(error, DROVER_ERROR_PERMANENT, "DRV-VOLUME-MISSING: CloudStack has no volume %s", volume_id);
        uint64_t present = (uint64_t)json_integer_value(json_object_get(volume, "size"));
        g_autofree char *where = g_strdup(drover_json_text(volume, "virtualmachineid"));
        json_decref(volume);
        /* A volume need not be a whole number of GiB: what counts is what was asked for. */
        if (present >= size_bytes)
            return strcmp(where, context->appliance_vm_id) != 0 || wait_for_size(context, volume_id, size_bytes, error);
        if (called)
            return drover_fail(error, DROVER_ERROR_RETRYABLE, "Volume %s has %" G_GUINT64_FORMAT " bytes after it was grown to %" G_GUINT64_FORMAT " GiB",
                               volume_id, present, gib);
        if ((*where && !drover_op_claim(context, operation, where, error)) || !send_resize(context, operation, volume_id, gib, error))
            return false;
        called = true;
    }
}

bool drover_op_resize_volume(const DroverOpContext *context, DroverOperation *operation, GError **error)
{
    const Drover__V1__ResizeVolume *asked = operation->asked->resize_volume;
    if (asked->size_bytes == 0)
        return drover_fail(error, DROVER_ERROR_PERMANENT, "resize-volume without a size");
    uint32_t before = operation->step;
    if (!drover_op_grow(context, operation, asked->volume_id, asked->size_bytes, error))
        return false;
    json_t *volume = NULL;
    if (!drover_look_volume(context, asked->volume_id, &volume, error))
        return false;
    drover_set_text(&operation->result.volume_id, asked->volume_id);
    operation->result.device_size_bytes = (uint64_t)json_integer_value(json_object_get(volume, "size"));
    operation->result.already_done = before == 0 && operation->step == 0;
    json_decref(volume);
    return true;
}
