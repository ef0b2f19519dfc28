/* SPDX-License-Identifier: Apache-2.0 */
#include "scheduler/options.h"

#include "lib/base/error.h"
#include "lib/base/ids.h"

#define DURATION(name, value, help)                                                                          \
    {                                                                                                        \
        "scheduler", name, DROVER_OPTION_DURATION, value, "TIME", help, 0                                    \
    }
#define NUMBER(name, value, help)                                                                            \
    {                                                                                                        \
        "scheduler", name, DROVER_OPTION_INT, value, "N", help, 0                                            \
    }

const DroverOption scheduler_options[] = {
    {"scheduler", "name", DROVER_OPTION_STRING, NULL, "NAME",
     "Stable name of this process; default: scheduler-<host name>", 0},
    DURATION("claim-timeout", "15s",
             "A task that was handed out and not claimed this long is handed out again"),
    DURATION("lease", "60s", "A worker that is silent this long loses its tasks"),
    DURATION("heartbeat-interval", "10s", "How often this process reports to the fleet"),
    DURATION("leader-session-timeout", "6s", "A leader that is silent this long loses the nomination"),
    NUMBER("batch-inputs", "500", "Most inputs in one transaction"),
    DURATION("batch-time", "50ms", "Longest time that a transaction collects inputs"),
    NUMBER("max-failures", "5", "Counted attempts of a task before the job fails"),
    NUMBER("max-repairs", "3", "Repairs of one cell whose read-back differs before the job fails"),
    DURATION("backoff-first", "1s", "Wait before the first repetition; doubles"),
    DURATION("backoff-max", "60s", "Longest wait before a repetition"),
    NUMBER("verify-cells", "64", "Most cells in one read-back request"),
    DURATION("verify-wait", "500ms", "A read-back request that is not full goes out after this"),
    DURATION("verify-timeout", "5m", "A read-back request that is not answered this long is sent again"),
    NUMBER("verify-batches", "4", "Most read-back requests outstanding at one agent"),
    NUMBER("transfers-per-target", "0", "Most copies running at a time towards one volume agent; 0: any number"),
    NUMBER("transfers-per-vcenter", "32", "Most copies running at a time from disks of one vCenter; 0: any number"),
    NUMBER("transfers-per-host", "8", "Most copies running at a time from disks of one ESXi host; 0: any number"),
    NUMBER("transfers-per-datastore", "0", "Most copies running at a time from one datastore; 0: any number"),
    NUMBER("transfers-per-vm-disk", "1", "Most copies running at a time from one disk of a VM; 0: any number"),
    DURATION("source-look-interval", "5m",
             "How often a source VM and the room on its datastores are looked at while a round holds its snapshot"),
    DURATION("grant-ttl", "30s", "A bandwidth grant expires after this"),
    DURATION("job-retention", "720h", "An ended job that left nothing behind is forgotten after this"),
    DROVER_OPTION_END,
};

static bool check_names(const char *const *names, const char *what, GError **error)
{
    for (size_t i = 0; names[i] != NULL; i++)
        if (!drover_site_is_valid(names[i]))
            return drover_fail(error, DROVER_ERROR_PERMANENT,
                               "[fleet] %s: \"%s\" is not of the form [a-z0-9-]{1,40}", what, names[i]);
    return true;
}

static bool check(const SchedulerOptions *options, GError **error)
{
    if (!check_names(options->sites, "sites", error) || !check_names(options->agents, "agents", error))
        return false;
    for (size_t i = 0; options->sites[i] != NULL; i++)
        if (g_strv_contains(options->agents, options->sites[i]))
            return drover_fail(error, DROVER_ERROR_PERMANENT,
                               "[fleet]: \"%s\" is both a site and an agent; they share drover.events.*",
                               options->sites[i]);
    const DroverLimits *limits = &options->limits;
    if (options->batch_inputs == 0 || limits->max_failures == 0 || limits->verify_cells == 0 ||
        limits->verify_batches == 0)
        return drover_fail(
            error, DROVER_ERROR_PERMANENT,
            "[scheduler]: batch-inputs, max-failures, verify-cells and verify-batches must be at least 1");
    return true;
}

SchedulerOptions *scheduler_options_read(const DroverConfig *config, GError **error)
{
    g_autoptr(SchedulerOptions) options = g_new0(SchedulerOptions, 1);
    const char *name = drover_config_string(config, "scheduler.name");
    options->process_id = *name != '\0' ? g_strdup(name) : g_strdup_printf("scheduler-%s", g_get_host_name());
    options->instance_id = drover_id_new("scheduler-");
    options->started_at_ms = drover_now_ms();
    options->sites = drover_config_list(config, "fleet.sites");
    options->agents = drover_config_list(config, "fleet.agents");
    options->limits = (DroverLimits){
        .claim_timeout_ms = drover_config_int(config, "scheduler.claim-timeout"),
        .lease_ms = drover_config_int(config, "scheduler.lease"),
        .backoff_first_ms = drover_config_int(config, "scheduler.backoff-first"),
        .backoff_max_ms = drover_config_int(config, "scheduler.backoff-max"),
        .max_failures = (uint32_t)drover_config_int(config, "scheduler.max-failures"),
        .max_repairs = (uint32_t)drover_config_int(config, "scheduler.max-repairs"),
        .verify_cells = (uint32_t)drover_config_int(config, "scheduler.verify-cells"),
        .verify_wait_ms = drover_config_int(config, "scheduler.verify-wait"),
        .verify_timeout_ms = drover_config_int(config, "scheduler.verify-timeout"),
        .verify_batches = (uint32_t)drover_config_int(config, "scheduler.verify-batches"),
        .transfers_per_target = (uint32_t)drover_config_int(config, "scheduler.transfers-per-target"),
        .transfers_per_vcenter = (uint32_t)drover_config_int(config, "scheduler.transfers-per-vcenter"),
        .transfers_per_host = (uint32_t)drover_config_int(config, "scheduler.transfers-per-host"),
        .transfers_per_datastore = (uint32_t)drover_config_int(config, "scheduler.transfers-per-datastore"),
        .transfers_per_vm_disk = (uint32_t)drover_config_int(config, "scheduler.transfers-per-vm-disk"),
        .source_look_ms = drover_config_int(config, "scheduler.source-look-interval"),
    };
    options->heartbeat_interval_ms = drover_config_int(config, "scheduler.heartbeat-interval");
    options->batch_inputs = (unsigned)drover_config_int(config, "scheduler.batch-inputs");
    options->batch_time_ms = drover_config_int(config, "scheduler.batch-time");
    options->leader_session_timeout_ms = (int)drover_config_int(config, "scheduler.leader-session-timeout");
    options->grant_ttl_ms = drover_config_int(config, "scheduler.grant-ttl");
    options->retention_ms = drover_config_int(config, "scheduler.job-retention");
    return check(options, error) ? g_steal_pointer(&options) : NULL;
}

void scheduler_options_free(SchedulerOptions *options)
{
    if (options == NULL)
        return;
    g_free(options->process_id);
    g_free(options->instance_id);
    g_free(options);
}
