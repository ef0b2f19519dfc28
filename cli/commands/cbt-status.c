/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/bar.h"
#include "cli/columns.h"
#include "cli/inventory.h"
#include "cli/vm-json.h"

static bool is_about_tracking(const DroverFinding *finding)
{
    static const char *const codes[] = {"DRV-SOURCE-HARDWARE", "DRV-SOURCE-CBT-IMPOSSIBLE", "DRV-SOURCE-CBT-SNAPSHOTS",
                                        "DRV-SOURCE-CBT-OFF",  "DRV-SOURCE-SNAPSHOTS",      "DRV-SOURCE-CONSOLIDATION",
                                        "DRV-SOURCE-DISK-RDM", "DRV-SOURCE-DISK-INDEPENDENT", "DRV-SOURCE-DISK-SHARED",
                                        "DRV-SOURCE-DISK-BUS", NULL};
    return g_strv_contains(codes, finding->code);
}

/* Only what bears upon change tracking. */
static GPtrArray *choose(const GPtrArray *findings)
{
    GPtrArray *chosen = g_ptr_array_new();
    for (guint i = 0; i < findings->len; i++)
        if (is_about_tracking(findings->pdata[i]))
            g_ptr_array_add(chosen, findings->pdata[i]);
    return chosen;
}

static void print_text(const DroverVsphereVm *vm, const GPtrArray *findings)
{
    g_print("%s (%s): changed block tracking is %s\n\n", vm->name, vm->moref,
            vm->change_tracking ? "on" : drover_preflight_stops(findings) ? "off, and cannot be switched on" : "off");
    static const char *const headings[] = {"KEY", "LABEL", ">CAPACITY", "CHANGE ID", "FILE", NULL};
    g_autoptr(DroverColumns) columns = drover_columns_new(headings);
    for (guint i = 0; i < vm->disks->len; i++) {
        const DroverVsphereDisk *disk = g_ptr_array_index(vm->disks, i);
        drover_columns_add(columns, g_strdup_printf("%d", disk->key));
        drover_columns_add(columns, g_strdup(disk->label));
        drover_columns_add(columns, drover_size_text(disk->capacity_bytes));
        drover_columns_add(columns, g_strdup(*disk->change_id ? disk->change_id : "-"));
        drover_columns_add(columns, g_strdup(disk->backing_path));
    }
    g_autofree char *text = drover_columns_text(columns);
    g_print("%s", text);
    for (guint i = 0; i < findings->len; i++) {
        const DroverFinding *finding = g_ptr_array_index(findings, i);
        g_print("\n%s %s: %s\n", drover_severity_name(finding->severity), finding->code, finding->message);
    }
}

static DroverExitCode run(const DroverCommand *command, int argc, char **argv)
{
    g_auto(DroverInventory) inventory = {0};
    gboolean json = FALSE;
    const GOptionEntry flags[] = {
        DROVER_INVENTORY_FLAGS(&inventory),
        {"json", 0, 0, G_OPTION_ARG_NONE, &json, "One JSON object", NULL},
        {NULL},
    };
    g_auto(DroverSession) session = {0};
    g_autoptr(GError) error = NULL;
    DroverExitCode code;
    if (!drover_session_open(&session, command, flags, argc, argv, 1, 1, &code))
        return code;
    if (!drover_inventory_open(&inventory, &session, &error))
        return drover_session_fail(&session, error);
    g_autoptr(DroverVsphereVm) vm = drover_inventory_vm(&inventory, session.argv[0], &error);
    if (!vm)
        return drover_session_fail(&session, error);
    g_autoptr(GPtrArray) all = drover_preflight_source(vm, NULL, 0, NULL);
    g_autoptr(GPtrArray) findings = choose(all);
    if (!json) {
        print_text(vm, findings);
        return DROVER_EXIT_OK;
    }
    json_t *o = json_object(), *disks = json_array();
    for (guint i = 0; i < vm->disks->len; i++) {
        const DroverVsphereDisk *disk = g_ptr_array_index(vm->disks, i);
        json_array_append_new(disks, json_pack("{s:i, s:o}", "key", (int)disk->key, "change_id", drover_json_text(disk->change_id)));
    }
    json_object_set_new(o, "moref", drover_json_text(vm->moref));
    json_object_set_new(o, "name", drover_json_text(vm->name));
    json_object_set_new(o, "supported", json_boolean(vm->has_change_tracking));
    json_object_set_new(o, "enabled", json_boolean(vm->change_tracking));
    json_object_set_new(o, "possible", json_boolean(!drover_preflight_stops(findings)));
    json_object_set_new(o, "disks", disks);
    json_object_set_new(o, "findings", drover_findings_json(findings));
    drover_json_print(o);
    return DROVER_EXIT_OK;
}

const DroverCommand drover_command_cbt_status = {
    .name = "cbt-status",
    .synopsis = "VM",
    .summary = "tell whether changed blocks of a VM are tracked",
    .description = "Tells whether changed block tracking is on for a VM, by name, inventory path, UUID or id, which change ids\n"
                   "its disks have, and what stands in the way. Nothing is changed: a job switches tracking on by itself.",
    .run = run,
};
