/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/inventory.h"
#include "cli/vm-json.h"

static DroverExitCode run(const DroverCommand *command, int argc, char **argv)
{
    g_auto(DroverInventory) inventory = {0};
    gboolean json = FALSE, port = FALSE;
    const GOptionEntry flags[] = {
        DROVER_INVENTORY_FLAGS(&inventory),
        {"port-902", 0, 0, G_OPTION_ARG_NONE, &port, "Try port 902 of its ESXi host, from here", NULL},
        {"json", 0, 0, G_OPTION_ARG_NONE, &json, "One JSON array of findings", NULL},
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
    g_autoptr(GPtrArray) findings = vm ? drover_inventory_preflight(&inventory, vm, port, &error) : NULL;
    if (!findings)
        return drover_session_fail(&session, error);
    bool stops = drover_preflight_stops(findings);
    if (json)
        drover_json_print(drover_findings_json(findings));
    for (guint i = 0; !json && i < findings->len; i++) {
        const DroverFinding *finding = g_ptr_array_index(findings, i);
        g_print("%-7s %s: %s\n", drover_severity_name(finding->severity), finding->code, finding->message);
    }
    if (!json)
        g_print("%s%s: %s\n", findings->len ? "\n" : "", vm->name, stops ? "no-go" : "go");
    return stops ? DROVER_EXIT_REFUSED : DROVER_EXIT_OK;
}

const DroverCommand drover_command_preflight = {
    .name = "preflight",
    .synopsis = "VM",
    .summary = "check whether a VM of a vCenter can be migrated",
    .description = "Checks a VM, by name, inventory path, UUID or id, and changes nothing. Ends with 5 when something stops a\n"
                   "migration. docs/vmware.md tells cause and way out of each code.",
    .run = run,
};
