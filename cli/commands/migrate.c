/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/request.h"
#include "cli/watch.h"
#include "lib/base/drain.h"
#include "lib/base/error.h"

/* What GOption fills in; texts that need a look of their own. */
typedef struct {
    GStrv sources;
    GStrv disks;
    char *bandwidth_limit, *range_size, *target_size, *disk_offering;
    int priority;
    gboolean failover, wait, watch;
} Flags;

static void flags_clear(Flags *f)
{
    g_strfreev(f->sources);
    g_strfreev(f->disks);
    g_free(f->bandwidth_limit);
    g_free(f->range_size);
    g_free(f->target_size);
    g_free(f->disk_offering);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Flags, flags_clear)

static bool read_size(const char *flag, const char *text, uint64_t *out, GError **error)
{
    if (!text || drover_parse_size(text, out, error))
        return true;
    g_prefix_error(error, "--%s: ", flag);
    return false;
}

static bool add_disks(DroverRequest *request, GStrv texts, const Flags *flags, uint64_t target_size, GError **error)
{
    for (guint i = 0; texts && texts[i]; i++) {
        DroverSource source = {0};
        if (!drover_source_parse(texts[i], &source, error))
            return false;
        if (!source.target_size_bytes)
            source.target_size_bytes = target_size;
        if (!source.disk_offering)
            source.disk_offering = g_strdup(flags->disk_offering);
        g_array_append_val(request->disks, source);
    }
    return true;
}

static bool read_flags(DroverRequest *request, const Flags *flags, GError **error)
{
    uint64_t target_size = 0;
    request->failover = flags->failover;
    if (!flags->sources && !flags->disks)
        return drover_fail(error, DROVER_ERROR_PERMANENT, "--source is missing: file:/PATH/OF/DISK");
    if (flags->priority < 0)
        return drover_fail(error, DROVER_ERROR_PERMANENT, "--priority: a number from 0 up is expected");
    request->priority = (uint32_t)flags->priority;
    return read_size("bandwidth-limit", flags->bandwidth_limit, &request->bandwidth_limit, error) &&
           read_size("range-size", flags->range_size, &request->range_bytes, error) &&
           read_size("target-size", flags->target_size, &target_size, error) &&
           add_disks(request, flags->sources, flags, target_size, error) &&
           add_disks(request, flags->disks, flags, target_size, error) && drover_request_complete(request, NULL, error);
}

static DroverExitCode run(const DroverCommand *command, int argc, char **argv)
{
    g_auto(Flags) f = {0};
    g_auto(DroverRequest) r;
    drover_request_init(&r);
    const GOptionEntry flags[] = {
        {"source", 0, 0, G_OPTION_ARG_STRING_ARRAY, &f.sources,
         "Root disk: file:/PATH[,format=F][,size=S][,sha256=H], nbd://HOST/EXPORT[,frozen=yes] or "
         "vsphere:VCENTER/VM/KEY[,uuid=U], and [,id=I]"
         "[,name=VOLUME][,offering=O][,target-size=S]. size is that of a raw file, which must keep it",
         "DISK"},
        {"disk", 0, 0, G_OPTION_ARG_STRING_ARRAY, &f.disks, "A further disk, written like --source; may be repeated",
         "DISK"},
        {"name", 0, 0, G_OPTION_ARG_STRING, &r.name, "Name of the VM (default: from the first disk's file name)", "NAME"},
        {"job-id", 0, 0, G_OPTION_ARG_STRING, &r.job_id,
         "Id of the job; submitting one id twice is one job (default: a random one)", "ID"},
        {"failover", 0, 0, G_OPTION_ARG_NONE, &f.failover, "Hand the volumes over to a new VM at the end and start it",
         NULL},
        {"site", 0, 0, G_OPTION_ARG_STRING, &r.site, "Workers of this site read the sources", "NAME"},
        {"agent", 0, 0, G_OPTION_ARG_STRING, &r.agent, "Volume agent at the target (default: the scheduler's choice)",
         "NAME"},
        {"zone", 0, 0, G_OPTION_ARG_STRING, &r.zone, "Zone, by id or name", "ZONE"},
        {"service-offering", 0, 0, G_OPTION_ARG_STRING, &r.service_offering, "Of the target VM, by id or name", "NAME"},
        {"disk-offering", 0, 0, G_OPTION_ARG_STRING, &f.disk_offering, "Of all volumes that name none of their own", "NAME"},
        {"template", 0, 0, G_OPTION_ARG_STRING, &r.template_id, "Template to deploy from; its root disk is replaced", "ID"},
        {"network", 0, 0, G_OPTION_ARG_STRING_ARRAY, &r.networks, "Network of the target VM; may be repeated", "ID"},
        {"os-type", 0, 0, G_OPTION_ARG_STRING, &r.os_type, "OS type, by id or description", "TYPE"},
        {"account", 0, 0, G_OPTION_ARG_STRING, &r.account, "Owner of VM and volumes", "NAME"},
        {"domain", 0, 0, G_OPTION_ARG_STRING, &r.domain, "Domain of the owner", "ID"},
        {"project", 0, 0, G_OPTION_ARG_STRING, &r.project, "Project that owns VM and volumes", "ID"},
        {"bandwidth-limit", 0, 0, G_OPTION_ARG_STRING, &f.bandwidth_limit, "Bytes per second of the whole job, e.g. 100M",
         "SIZE"},
        {"digest", 0, 0, G_OPTION_ARG_STRING, &r.digest, "For the read-back: xxh3 (default), sha256 or none", "NAME"},
        {"range-size", 0, 0, G_OPTION_ARG_STRING, &f.range_size, "Wanted size of one task (default: the planner's choice)",
         "SIZE"},
        {"target-size", 0, 0, G_OPTION_ARG_STRING, &f.target_size, "Size of volumes that name none of their own", "SIZE"},
        {"priority", 0, 0, G_OPTION_ARG_INT, &f.priority, "Larger goes first", "NUMBER"},
        {"label", 0, 0, G_OPTION_ARG_STRING_ARRAY, &r.labels, "For your own use; may be repeated", "KEY=VALUE"},
        {"wait", 0, 0, G_OPTION_ARG_NONE, &f.wait, "Wait for the end and exit by the outcome", NULL},
        {"watch", 0, 0, G_OPTION_ARG_NONE, &f.watch, "Show progress until the end and exit by the outcome", NULL},
        {NULL},
    };
    g_auto(DroverSession) session = {0};
    g_autoptr(GError) error = NULL;
    DroverExitCode code;
    if (!drover_session_open(&session, command, flags, argc, argv, 0, 0, &code))
        return code;
    if (!read_flags(&r, &f, &error))
        return drover_session_usage(&session, "%s", error->message);
    if (f.wait || f.watch)
        drover_drain_install();
    drover_request_look(&r);
    if (!drover_request_submit(&session, &r, &error))
        return drover_session_fail(&session, error);
    g_print("%s\n", r.job_id);
    if (!f.wait && !f.watch) {
        g_printerr("Accepted. Follow it with: drover watch %s\n", r.job_id);
        return DROVER_EXIT_OK;
    }
    const char *const ids[] = {r.job_id, NULL};
    return drover_watch(&session, ids, &(DroverWatchOptions){.quiet = !f.watch, .appear_ms = -1});
}

const DroverCommand drover_command_migrate = {
    .name = "migrate",
    .synopsis = "",
    .summary = "submit a migration, described by flags",
    .description = "Submits the migration of one VM's disks and prints the job's id once Kafka has it. From then on the job\n"
                   "is not lost, whatever happens to this command.",
    .run = run,
};
