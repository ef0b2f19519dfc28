/* SPDX-License-Identifier: Apache-2.0 */
#include "volume-agent/operations/compare.h"

#include <string.h>

#include "lib/base/log.h"
#include "volume-agent/operations/call.h"
#include "volume-agent/operations/compare_pass.h"
#include "volume-agent/operations/look.h"

static json_t *text_or_null(const char *text)
{
    return text ? json_string(text) : json_null();
}

bool drover_compare_found(DroverComparePass *pass, const DroverDifference *d, GError **error)
{
    const char *id = d->volume_id ? d->volume_id : d->vm_id ? d->vm_id : "";
    if (pass->looking) {
        g_hash_table_add(pass->suspects, g_strdup(id));
        return true;
    }
    if (!g_hash_table_contains(pass->suspects, id)) /* it came up just now: it may be on its way */
        return true;
    bool repaired = pass->repair && d->repair;
    if (repaired && !d->repair(pass, id, d->data, error))
        return false;
    drover_warning("compare.difference", d->message, F_S("kind", d->kind), F_S("volume_id", d->volume_id ? d->volume_id : ""),
                   F_S("vm_id", d->vm_id ? d->vm_id : ""), F_S("repaired", repaired ? "yes" : "no"));
    if (pass->context->differs)
        pass->context->differs(pass->context->differs_data, d->kind, d->volume_id, d->vm_id, d->message, repaired);
    json_array_append_new(pass->differences, json_pack("{s:s, s:o, s:o, s:s, s:b}", "kind", d->kind, "volume_id",
                                                       text_or_null(d->volume_id), "vm_id", text_or_null(d->vm_id), "message",
                                                       d->message, "repaired", repaired));
    return true;
}

static bool found(DroverComparePass *pass, const char *kind, const char *volume_id, const char *message, GError **error)
{
    const DroverDifference difference = {.kind = kind, .volume_id = volume_id, .message = message};
    return drover_compare_found(pass, &difference, error);
}

static bool forget_export(DroverComparePass *pass, const char *volume_id, const void *unused, GError **error)
{
    (void)unused;
    if (!drover_export_book_forget(pass->context->exports, volume_id, error))
        return false;
    pass->context->release_device(pass->context->release_data, volume_id);
    return true;
}

/* Nobody can use this export any more. */
static bool lost(DroverComparePass *pass, const char *kind, const char *volume_id, const char *message, GError **error)
{
    const DroverDifference difference = {.kind = kind, .volume_id = volume_id, .message = message, .repair = forget_export};
    return drover_compare_found(pass, &difference, error);
}

static bool compare_export(DroverComparePass *pass, const DroverExportRecord *record, GError **error)
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
        return why ? found(pass, "export-device-missing", id, why->message, error)
                   : lost(pass, "export-device-missing", id,
                          "The journal has an export of a volume that has no device on the appliance", error);
    return strcmp(device.path, record->device_path) == 0 ||
           found(pass, "export-device-moved", id,
                 "The device of an export has another name than when it was opened; a new generation finds it", error);
}

static bool compare_exports(DroverComparePass *pass, guint *n, GError **error)
{
    g_autoptr(GPtrArray) records = drover_export_book_list(pass->context->exports);
    *n = records->len;
    for (guint i = 0; i < records->len; i++)
        if (!compare_export(pass, g_ptr_array_index(records, i), error))
            return false;
    return true;
}

/* What CloudStack has attached to the appliance should be there; its root disk is the appliance's own. */
static bool compare_attached(DroverComparePass *pass, size_t *n_volumes, unsigned *n_found, GError **error)
{
    json_t *volumes = drover_look_volumes_of(pass->context, pass->context->appliance_vm_id, error);
    if (!volumes)
        return false;
    *n_volumes = json_array_size(volumes);
    bool ok = true;
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
        if (root || is_there || !ok)
            continue;
        ok = why ? found(pass, "volume-device-unusable", id, why->message, error)
                 : found(pass, "volume-device-missing", id,
                         "CloudStack has the volume attached to the appliance, where it has no device; attaching it again plugs "
                         "it in anew", error);
    }
    json_decref(volumes);
    return ok;
}

typedef struct {
    guint exports;
    size_t volumes;
    unsigned devices;
} Counts;

static bool run(DroverComparePass *pass, Counts *counts, GError **error)
{
    size_t n_attached = 0;
    unsigned n_found = 0;
    if (!compare_exports(pass, &counts->exports, error) || !drover_compare_served(pass, error) ||
        !compare_attached(pass, &n_attached, &n_found, error) ||
        !drover_compare_cloud(pass, &counts->volumes, error))
        return false;
    counts->volumes = MAX(counts->volumes, n_attached);
    counts->devices = drover_device_count(&pass->context->roots);
    if (counts->devices <= n_found)
        return true;
    g_autofree char *message =
        g_strdup_printf("%u disks with a serial are plugged into the appliance that belong to none of the volumes which CloudStack "
                        "has attached to it", counts->devices - n_found);
    return found(pass, "devices-left-over", NULL, message, error);
}

/* Once for suspects, and once more for what is still so when nobody else is at work on them. */
static bool run_twice(DroverComparePass *pass, Counts *counts, GError **error)
{
    if (!run(pass, counts, error))
        return false;
    GHashTableIter iter;
    gpointer id;
    g_hash_table_iter_init(&iter, pass->suspects);
    while (g_hash_table_iter_next(&iter, &id, NULL))
        if (*(const char *)id && !drover_op_claim(pass->context, pass->operation, id, error))
            return false;
    pass->looking = false;
    return g_hash_table_size(pass->suspects) == 0 || run(pass, counts, error);
}

bool drover_op_compare(const DroverOpContext *context, DroverOperation *operation, json_t **report, GError **error)
{
    g_autoptr(GHashTable) suspects = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    DroverComparePass pass = {context, operation, true, operation->asked->force_sync->repair, suspects, json_array()};
    Counts counts = {0};
    if (!run_twice(&pass, &counts, error)) {
        json_decref(pass.differences);
        return false;
    }
    *report = json_pack("{s:{s:i, s:i, s:i}, s:o}", "checked", "exports", (int)counts.exports, "volumes", (int)counts.volumes,
                        "devices", (int)counts.devices, "differences", pass.differences);
    return true;
}
