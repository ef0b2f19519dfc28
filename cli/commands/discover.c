/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "cli/bar.h"
#include "cli/columns.h"
#include "cli/inventory.h"
#include "cli/job-template.h"
#include "cli/vm-json.h"

static void print_table(const GPtrArray *vms)
{
    static const char *const headings[] = {"VM", "NAME", "POWER", ">CPUS", ">MEMORY", ">DISKS", ">CAPACITY", ">USED", "FIRMWARE",
                                           "CBT", ">SNAPSHOTS", "TOOLS", "GUEST", NULL};
    g_autoptr(DroverColumns) columns = drover_columns_new(headings);
    for (guint i = 0; i < vms->len; i++) {
        const DroverVsphereVm *vm = g_ptr_array_index(vms, i);
        uint64_t capacity = 0;
        for (guint k = 0; k < vm->disks->len; k++)
            capacity += ((const DroverVsphereDisk *)vm->disks->pdata[k])->capacity_bytes;
        const char *power = g_str_has_prefix(vm->power_state, "powered") ? vm->power_state + strlen("powered") : vm->power_state;
        drover_columns_add(columns, g_strdup(vm->moref));
        drover_columns_add(columns, g_strdup_printf("%s%s", vm->name, vm->template ? " (template)" : ""));
        drover_columns_add(columns, g_ascii_strdown(power, -1));
        drover_columns_add(columns, g_strdup_printf("%u", vm->cpus));
        drover_columns_add(columns, drover_size_text(vm->memory_bytes));
        drover_columns_add(columns, g_strdup_printf("%u", vm->disks->len));
        drover_columns_add(columns, drover_size_text(capacity));
        drover_columns_add(columns, vm->committed_bytes ? drover_size_text(vm->committed_bytes) : g_strdup("-"));
        drover_columns_add(columns, g_strdup_printf("%s%s", vm->firmware, vm->secure_boot ? "+secure" : ""));
        drover_columns_add(columns, g_strdup(vm->change_tracking ? "on" : vm->has_change_tracking ? "off" : "impossible"));
        drover_columns_add(columns, g_strdup_printf("%u", vm->snapshots->len));
        drover_columns_add(columns, g_strdup(strcmp(vm->tools_status, "guestToolsRunning") == 0 ? "running" : "-"));
        drover_columns_add(columns, g_strdup(*vm->guest_full_name ? vm->guest_full_name : vm->guest_id));
    }
    g_autofree char *text = drover_columns_text(columns);
    g_print("%s", text);
}

static DroverExitCode print_template(const DroverSession *session, DroverInventory *inventory, const char *name)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(DroverVsphereVm) vm = drover_inventory_vm(inventory, name, &error);
    g_autoptr(GPtrArray) findings = vm ? drover_inventory_preflight(inventory, vm, false, &error) : NULL;
    if (!findings)
        return drover_session_fail(session, error);
    g_autofree char *text = drover_job_template(inventory->vcenter->name, vm, findings);
    g_print("%s", text);
    return DROVER_EXIT_OK;
}

static DroverExitCode run(const DroverCommand *command, int argc, char **argv)
{
    g_auto(DroverInventory) inventory = {0};
    g_autofree char *filter = NULL, *template = NULL;
    gboolean json = FALSE;
    const GOptionEntry flags[] = {
        DROVER_INVENTORY_FLAGS(&inventory),
        {"filter", 0, 0, G_OPTION_ARG_STRING, &filter, "VMs whose name, inventory path, UUID or id matches, e.g. 'web*'", "GLOB"},
        {"json", 0, 0, G_OPTION_ARG_NONE, &json, "One JSON array with all that is known of each VM", NULL},
        {"job-template", 0, 0, G_OPTION_ARG_STRING, &template,
         "A job file for one VM, by name, inventory path, UUID or id, which 'drover submit' takes as it is", "VM"},
        {NULL},
    };
    g_auto(DroverSession) session = {0};
    g_autoptr(GError) error = NULL;
    DroverExitCode code;
    if (!drover_session_open(&session, command, flags, argc, argv, 0, 0, &code))
        return code;
    if (!drover_inventory_open(&inventory, &session, &error))
        return drover_session_fail(&session, error);
    if (template)
        return print_template(&session, &inventory, template);
    g_autoptr(GPtrArray) vms = drover_vsphere_vms(inventory.vsphere, filter, NULL, &error);
    if (!vms)
        return drover_session_fail(&session, error);
    if (json) {
        json_t *list = json_array();
        for (guint i = 0; i < vms->len; i++)
            json_array_append_new(list, drover_vm_json(inventory.vcenter->name, vms->pdata[i]));
        drover_json_print(list);
    } else if (!vms->len) {
        g_print("No VM of vCenter %s matches that user %s may see.\n", inventory.vcenter->name, inventory.vcenter->user);
    } else {
        print_table(vms);
    }
    return DROVER_EXIT_OK;
}

const DroverCommand drover_command_discover = {
    .name = "discover",
    .synopsis = "",
    .summary = "list the VMs of a vCenter",
    .description = "Lists the VMs of a vCenter with what planning needs, or writes a job file for one of them. Nothing is\n"
                   "changed there. docs/vmware.md tells how vCenters are configured and which rights are needed.",
    .run = run,
};
