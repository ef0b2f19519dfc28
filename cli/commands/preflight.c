/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "cli/inventory.h"
#include "cli/job-file.h"
#include "cli/preflight-target.h"
#include "cli/vm-json.h"
#include "lib/base/config.h"

#define DEFAULT_TIMEOUT_MS 60000

typedef struct {
    char *job_file; /* --job */
    char *agent;    /* --agent */
    char *timeout;  /* --timeout */
    gboolean json, port, volumes_only;
    uint64_t timeout_ms;
} Options;

static void options_clear(Options *options)
{
    g_free(options->job_file);
    g_free(options->agent);
    g_free(options->timeout);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Options, options_clear)

/* The VM of the job's first disk, unless one is named. */
static const char *vm_of(DroverInventory *inventory, const DroverSession *session, const DroverRequest *request)
{
    if (session->argc > 0)
        return session->argv[0];
    if (request->disks->len == 0)
        return NULL;
    const DroverSource *disk = &g_array_index(request->disks, DroverSource, 0);
    if (disk->kind != DROVER_SOURCE_VSPHERE)
        return NULL;
    if (!inventory->vcenter_name)
        inventory->vcenter_name = g_strdup(disk->vcenter);
    return disk->vm_moref;
}

static void print(const GPtrArray *findings)
{
    for (guint i = 0; i < findings->len; i++) {
        const DroverFinding *finding = g_ptr_array_index(findings, i);
        g_print("%-7s %s: %s\n", drover_severity_name(finding->severity), finding->code, finding->message);
    }
}

static DroverExitCode show(const GPtrArray *source, const GPtrArray *target, const char *name, bool json)
{
    bool stops = (source && drover_preflight_stops(source)) || (target && drover_preflight_stops(target));
    if (json) {
        json_t *all = source ? drover_findings_json(source) : json_array();
        json_t *more = target ? drover_findings_json(target) : json_array();
        json_array_extend(all, more);
        json_decref(more);
        drover_json_print(all);
        return stops ? DROVER_EXIT_REFUSED : DROVER_EXIT_OK;
    }
    if (source)
        print(source);
    if (target)
        print(target);
    bool any = (source && source->len) || (target && target->len);
    g_print("%s%s: %s\n", any ? "\n" : "", name, stops ? "no-go" : "go");
    return stops ? DROVER_EXIT_REFUSED : DROVER_EXIT_OK;
}

static bool read_job(const char *file, DroverRequest *request, GError **error)
{
    g_autofree char *text = NULL;
    if (!g_file_get_contents(file, &text, NULL, error) || !drover_job_file_parse(file, text, request, error))
        return false;
    drover_request_look(request);
    return true;
}

static DroverExitCode check(DroverSession *session, DroverInventory *inventory, const Options *options, DroverRequest *request)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(DroverVsphereVm) vm = NULL;
    g_autoptr(GPtrArray) source = NULL, target = NULL;
    const char *text = vm_of(inventory, session, request);
    if (text) {
        if (!drover_inventory_open(inventory, session, &error))
            return drover_session_fail(session, error);
        vm = drover_inventory_vm(inventory, text, &error);
        source = vm ? drover_inventory_preflight(inventory, vm, options->port, &error) : NULL;
        if (!source)
            return drover_session_fail(session, error);
    }
    if (options->job_file || options->agent) {
        if (!options->job_file)
            drover_request_for_vm(request, vm);
        target = drover_preflight_by_agent(session, request, vm, options->volumes_only, (int64_t)options->timeout_ms, &error);
        if (!target)
            return drover_session_fail(session, error);
    }
    return show(source, target, vm ? vm->name : request->name, options->json);
}

static DroverExitCode run(const DroverCommand *command, int argc, char **argv)
{
    g_auto(DroverInventory) inventory = {0};
    g_auto(Options) options = {.timeout_ms = DEFAULT_TIMEOUT_MS};
    const GOptionEntry flags[] = {
        DROVER_INVENTORY_FLAGS(&inventory),
        {"port-902", 0, 0, G_OPTION_ARG_NONE, &options.port, "Try port 902 of its ESXi host, from here", NULL},
        {"job", 0, 0, G_OPTION_ARG_FILENAME, &options.job_file,
         "Also check the target that this job file describes; its source VM may be left out then", "JOB.yaml"},
        {"agent", 0, 0, G_OPTION_ARG_STRING, &options.agent,
         "Also check the target, by this volume agent (with --job: instead of the file's)", "AGENT"},
        {"volumes-only", 0, 0, G_OPTION_ARG_NONE, &options.volumes_only, "No VM will be made at the target, only volumes", NULL},
        {"timeout", 0, 0, G_OPTION_ARG_STRING, &options.timeout, "Longest wait for the volume agent (default: 1m)", "TIME"},
        {"json", 0, 0, G_OPTION_ARG_NONE, &options.json, "One JSON array of findings", NULL},
        {NULL},
    };
    g_auto(DroverSession) session = {0};
    g_autoptr(GError) error = NULL;
    DroverExitCode code;
    if (!drover_session_open(&session, command, flags, argc, argv, 0, 1, &code))
        return code;
    if (session.argc == 0 && !options.job_file)
        return drover_session_usage(&session, "Name a VM, or a job file with --job");
    if (options.timeout && !drover_parse_duration(options.timeout, &options.timeout_ms, &error))
        return drover_session_usage(&session, "--timeout: %s", error->message);
    g_auto(DroverRequest) request;
    drover_request_init(&request);
    if (options.job_file && !read_job(options.job_file, &request, &error))
        return drover_session_usage(&session, "%s", error->message);
    if (options.agent) {
        g_free(request.agent);
        request.agent = g_strdup(options.agent);
    }
    return check(&session, &inventory, &options, &request);
}

const DroverCommand drover_command_preflight = {
    .name = "preflight",
    .synopsis = "[VM]",
    .summary = "check whether a VM can be migrated, and whether the target can take it",
    .description = "Checks a VM of a vCenter, by name, inventory path, UUID or id, and changes nothing. With --job or --agent the\n"
                   "volume agent checks the target, too: rights, offerings, storage, hosts, networks, limits. Ends with 5 when\n"
                   "something stops a migration. docs/vmware.md and docs/cloudstack.md tell cause and way out of each code.",
    .run = run,
};
