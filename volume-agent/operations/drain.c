/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/base/log.h"
#include "volume-agent/device/serial.h"
#include "volume-agent/operations/operations.h"

bool drover_op_drain_appliance(const DroverOpContext *context, DroverOperation *operation, GError **error)
{
    bool on = operation->asked->drain_appliance->on, changed = false;
    if (!drover_appliance_drain_set(context->drain, on, operation->asked->requested_by, &changed, error))
        return false;
    operation->result.already_done = !changed;
    if (changed)
        drover_info("agent.drain", on ? "This appliance is to be emptied" : "This appliance takes VMs again",
                    F_S("agent", context->agent), F_S("requested_by", operation->asked->requested_by));
    return true;
}

/* The appliance's own disks, and those of nobody's, do not count. */
static bool holds_a_volume(const DroverOpContext *context)
{
    g_autofree char *block = g_build_filename(context->roots.sysfs_root, "block", NULL);
    g_autoptr(GDir) dir = g_dir_open(block, 0, NULL);
    for (const char *name; dir && (name = g_dir_read_name(dir));) {
        g_autofree char *disk = g_build_filename(block, name, NULL);
        char serial[DROVER_DISK_SERIAL_MAX + 1];
        if (drover_disk_serial(disk, serial) && context->plugged(context->claim_data, serial))
            return true;
    }
    return false;
}

bool drover_op_is_drained(const DroverOpContext *context)
{
    if (!drover_appliance_drain_since(context->drain) || context->busy(context->claim_data))
        return false;
    g_autoptr(GPtrArray) exports = drover_export_book_list(context->exports);
    return exports->len == 0 && !holds_a_volume(context);
}
