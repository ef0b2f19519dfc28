/* SPDX-License-Identifier: Apache-2.0 */
#include "volume-agent/operations/compare.h"

#include <string.h>

#include "lib/base/log.h"
#include "volume-agent/operations/look.h"

typedef struct {
    const DroverOpContext *context;
    bool repair;
    json_t *differences;
} Pass;

static void found(Pass *pass, const char *kind, const char *volume_id, const char *message, bool repaired)
{
    drover_warning("compare.difference", message, F_S("kind", kind), F_S("volume_id", volume_id),
                   F_S("repaired", repaired ? "yes" : "no"));
    json_array_append_new(pass->differences, json_pack("{s:s, s:o, s:s, s:b}", "kind", kind, "volume_id",
                                                       volume_id ? json_string(volume_id) : json_null(),
                                                       "message", message, "repaired", repaired));
}

/* Nobody can use this export any more. */
static bool lost(Pass *pass, const char *kind, const char *volume_id, const char *message, GError **error)
{
    if (pass->repair) {
        if (!drover_export_book_forget(pass->context->exports, volume_id, error))
            return false;
        pass->context->release_device(pass->context->release_data, volume_id);
    }
    found(pass, kind, volume_id, message, pass->repair);
    return true;
}

static bool compare_export(Pass *pass, const DroverExportRecord *record, GError **error)
{
    const char *id = record->volume_id;
    json_t *volume = NULL;
    if (!drover_look_volume(pass->context, id, &volume, error))
        return false;
    bool exists = volume != NULL;
    bool here =
        exists && strcmp(drover_json_text(volume, "virtualmachineid"), pass->context->appliance_vm_id) == 0;
    json_decref(volume);
    if (!exists)
        return lost(pass, "export-volume-missing", id,
                    "The journal has an export of a volume that CloudStack does not have", error);
    if (!here)
        return lost(
            pass, "export-volume-elsewhere", id,
            "The journal has an export of a volume that CloudStack does not have attached to the appliance",
            error);
    g_auto(DroverDevice) device = {0};
    g_autoptr(GError) why = NULL;
    if (!drover_device_find(&pass->context->roots, id, &device, &why))
        /* One that cannot be looked at may be in use: it is reported, and kept. */
        return why ? (found(pass, "export-device-missing", id, why->message, false), true)
                   : lost(pass, "export-device-missing", id,
                          "The journal has an export of a volume that has no device on the appliance", error);
    if (strcmp(device.path, record->device_path) != 0)
        found(pass, "export-device-moved", id,
              "The device of an export has another name than when it was opened; a new generation finds it",
              false);
    return true;
}

static bool compare_exports(Pass *pass, guint *n, GError **error)
{
    g_autoptr(GPtrArray) records = drover_export_book_list(pass->context->exports);
    *n = records->len;
    for (guint i = 0; i < records->len; i++)
        if (!compare_export(pass, g_ptr_array_index(records, i), error))
            return false;
    return true;
}

/* What CloudStack has attached to the appliance should be there; its root disk is the appliance's own. */
static bool compare_attached(Pass *pass, size_t *n_volumes, unsigned *n_found, GError **error)
{
    json_t *volumes = drover_look_volumes_of(pass->context, pass->context->appliance_vm_id, error);
    if (!volumes)
        return false;
    *n_volumes = json_array_size(volumes);
    size_t i;
    json_t *volume;
    json_array_foreach(volumes, i, volume)
    {
        const char *id = drover_json_text(volume, "id");
        g_auto(DroverDevice) device = {0};
        g_autoptr(GError) why = NULL;
        bool is_there = drover_device_find(&pass->context->roots, id, &device, &why);
        bool root = strcmp(drover_json_text(volume, "type"), "ROOT") == 0;
        *n_found += is_there || why;
        if (root || is_there)
            continue;
        if (why)
            found(pass, "volume-device-unusable", id, why->message, false);
        else
            found(pass, "volume-device-missing", id,
                  "CloudStack has the volume attached to the appliance, where it has no device; attaching it "
                  "again plugs it in anew",
                  false);
    }
    json_decref(volumes);
    return true;
}

bool drover_op_compare(const DroverOpContext *context, bool repair, json_t **report, GError **error)
{
    Pass pass = {context, repair, json_array()};
    guint n_exports = 0;
    size_t n_volumes = 0;
    unsigned n_found = 0;
    if (!compare_exports(&pass, &n_exports, error) || !compare_attached(&pass, &n_volumes, &n_found, error)) {
        json_decref(pass.differences);
        return false;
    }
    unsigned n_devices = drover_device_count(&context->roots);
    if (n_devices > n_found) {
        g_autofree char *message = g_strdup_printf(
            "%u disks with a serial are plugged into the appliance that belong to none of the "
            "volumes which CloudStack has attached to it",
            n_devices - n_found);
        found(&pass, "devices-left-over", NULL, message, false);
    }
    *report = json_pack("{s:{s:i, s:i, s:i}, s:o}", "checked", "exports", (int)n_exports, "volumes",
                        (int)n_volumes, "devices", (int)n_devices, "differences", pass.differences);
    return true;
}
