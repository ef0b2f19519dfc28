/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/assessment.h"
#include "cli/inventory.h"
#include "cli/vm-json.h"
#include "lib/base/error.h"

typedef struct {
    char *throughput, *change_rate, *window;
    int parallel, most_vms;
    gboolean all, json, csv, port;
} Flags;

static void flags_clear(Flags *f)
{
    g_free(f->throughput);
    g_free(f->change_rate);
    g_free(f->window);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Flags, flags_clear)

/* "80M" or "60M-120M" */
static bool read_span(const char *flag, const char *text, DroverSpan *out, GError **error)
{
    if (!text)
        return true;
    g_auto(GStrv) ends = g_strsplit(text, "-", 2);
    if (drover_parse_size(ends[0], &out->low, error) && drover_parse_size(ends[1] ? ends[1] : ends[0], &out->high, error)) {
        if (out->high && out->low <= out->high)
            return true;
        drover_fail(error, DROVER_ERROR_PERMANENT, "'%s' is no range: the larger number comes last, and is not 0", text);
    }
    g_prefix_error(error, "--%s: ", flag);
    return false;
}

static bool read_flags(const Flags *f, DroverEstimateFacts *facts, DroverWaveLimits *limits, GError **error)
{
    if (f->parallel < 1 || f->most_vms < 1)
        return drover_fail(error, DROVER_ERROR_PERMANENT, "--parallel and --wave-vms: a number from 1 up is expected");
    limits->parallel = (unsigned)f->parallel;
    limits->most_vms = (unsigned)f->most_vms;
    return read_span("throughput", f->throughput, &facts->throughput, error) &&
           read_span("change-rate", f->change_rate, &facts->changed_bytes_per_hour, error) &&
           (!f->window || drover_parse_duration(f->window, &limits->window_ms, error));
}

static DroverAssessed *assess(DroverInventory *inventory, DroverVsphereVm *vm, const Flags *f, DroverEstimateFacts facts,
                              GError **error)
{
    GPtrArray *findings = drover_inventory_preflight(inventory, vm, f->port, error);
    if (!findings) {
        drover_vsphere_vm_free(vm);
        return NULL;
    }
    DroverAssessed *a = g_new0(DroverAssessed, 1);
    a->vm = vm;
    a->findings = findings;
    a->used_bytes = facts.used_bytes = drover_used_bytes(vm);
    a->estimate = drover_estimate(&facts);
    return a;
}

/* Takes VMS over. */
static GPtrArray *assess_all(DroverInventory *inventory, GPtrArray *vms, const Flags *f, const DroverEstimateFacts *facts,
                             GError **error)
{
    g_autoptr(GPtrArray) owned = vms;
    g_autoptr(GPtrArray) all = g_ptr_array_new_with_free_func((GDestroyNotify)drover_assessed_free);
    while (owned->len) {
        DroverAssessed *a = assess(inventory, g_ptr_array_steal_index(owned, 0), f, *facts, error);
        if (!a)
            return NULL;
        g_ptr_array_add(all, a);
    }
    return g_steal_pointer(&all);
}

static void print_summary(const GPtrArray *vms, unsigned waves)
{
    guint go = 0;
    bool throughput = false, rate = false;
    for (guint i = 0; i < vms->len; i++) {
        const DroverAssessed *a = g_ptr_array_index(vms, i);
        go += a->wave != 0;
        throughput |= a->estimate.throughput_assumed;
        rate |= a->estimate.change_rate_assumed;
    }
    g_print("\n%u of %u VMs can go, in %u wave%s.\n", go, vms->len, waves, waves == 1 ? "" : "s");
    if (throughput)
        g_print("Throughput is assumed, %u to %u MiB/s: give --throughput once it was measured.\n",
                (unsigned)(DROVER_ASSUMED_SLOW >> 20), (unsigned)(DROVER_ASSUMED_FAST >> 20));
    if (rate)
        g_print("Change rates are assumed, %d to %d %% of the used bytes a day: give --change-rate.\n",
                DROVER_ASSUMED_QUIET_PERCENT, DROVER_ASSUMED_BUSY_PERCENT);
}

static void print_all(const Flags *f, const char *vcenter, const GPtrArray *vms, unsigned waves)
{
    if (f->json) {
        drover_json_print(drover_assessment_json(vcenter, vms));
        return;
    }
    g_autofree char *text = f->csv ? drover_assessment_csv(vms) : drover_assessment_table(vms);
    g_print("%s", text);
    if (!f->csv)
        print_summary(vms, waves);
}

static DroverExitCode run(const DroverCommand *command, int argc, char **argv)
{
    g_auto(DroverInventory) inventory = {0};
    g_auto(Flags) f = {.parallel = 4, .most_vms = 20};
    const GOptionEntry flags[] = {
        DROVER_INVENTORY_FLAGS(&inventory),
        {"all", 0, 0, G_OPTION_ARG_NONE, &f.all, "All VMs, in place of a FILTER", NULL},
        {"csv", 0, 0, G_OPTION_ARG_NONE, &f.csv, "Comma-separated values", NULL},
        {"json", 0, 0, G_OPTION_ARG_NONE, &f.json, "One JSON array with all facts, findings and estimates", NULL},
        {"port-902", 0, 0, G_OPTION_ARG_NONE, &f.port, "Try port 902 of the ESXi hosts, from here", NULL},
        {"throughput", 0, 0, G_OPTION_ARG_STRING, &f.throughput, "Measured bytes per second of one VM, e.g. 60M-120M", "SIZE[-SIZE]"},
        {"change-rate", 0, 0, G_OPTION_ARG_STRING, &f.change_rate, "Measured changes of one VM in an hour, e.g. 1G-5G", "SIZE[-SIZE]"},
        {"window", 0, 0, G_OPTION_ARG_STRING, &f.window, "First rounds of a wave end within this time (default: 8h)", "TIME"},
        {"parallel", 0, 0, G_OPTION_ARG_INT, &f.parallel, "VMs that are copied at the same time (default: 4)", "NUMBER"},
        {"wave-vms", 0, 0, G_OPTION_ARG_INT, &f.most_vms, "Most VMs of a wave (default: 20)", "NUMBER"},
        {NULL},
    };
    g_auto(DroverSession) session = {0};
    g_autoptr(GError) error = NULL;
    DroverEstimateFacts facts = {0};
    DroverWaveLimits limits = {.window_ms = 8 * 3600000};
    DroverExitCode code;
    if (!drover_session_open(&session, command, flags, argc, argv, 0, 1, &code))
        return code;
    if (!read_flags(&f, &facts, &limits, &error))
        return drover_session_usage(&session, "%s", error->message);
    if (f.all == (session.argc == 1))
        return drover_session_usage(&session, "name VMs by a FILTER, or all by --all");
    if (!drover_inventory_open(&inventory, &session, &error))
        return drover_session_fail(&session, error);
    GPtrArray *found = drover_vsphere_vms(inventory.vsphere, f.all ? NULL : session.argv[0], NULL, &error);
    g_autoptr(GPtrArray) vms = found ? assess_all(&inventory, found, &f, &facts, &error) : NULL;
    if (!vms)
        return drover_session_fail(&session, error);
    print_all(&f, inventory.vcenter->name, vms, drover_assess_waves(vms, &limits));
    return DROVER_EXIT_OK;
}

const DroverCommand drover_command_assess = {
    .name = "assess",
    .synopsis = "[FILTER]",
    .summary = "judge many VMs: go or no-go, size, time, waves",
    .description = "Checks the VMs that match FILTER (a glob over name, inventory path, UUID and id), or all, and changes\n"
                   "nothing: go or no-go with codes, how much there is to copy, how long that and the downtime take, and in\n"
                   "which waves to migrate them. Numbers that were not measured are assumed, and told to be.",
    .run = run,
};
