/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <unistd.h>

#include "lib/base/drain.h"
#include "lib/base/error.h"
#include "lib/base/ids.h"
#include "lib/base/log.h"
#include "volume-agent/agent.h"
#include "volume-agent/housekeeping.h"
#include "volume-agent/stopped.h"

#define STRING(name, value, argument, help, flags) {"agent", name, DROVER_OPTION_STRING, value, argument, help, flags}
#define TIME(name, value, help) {"agent", name, DROVER_OPTION_DURATION, value, "TIME", help, 0}

const DroverOption drover_agent_options[] = {
    STRING("name", NULL, "NAME", "Name of this agent, one of [fleet] agents (default: the only one there)", 0),
    STRING("run-dir", "/run/drover", "DIR", "Private sockets and process ids", 0),
    STRING("cloudstack-url", NULL, "URL", "CloudStack's API, http(s)://HOST:PORT/client/api", DROVER_OPTION_REQUIRED),
    STRING("cloudstack-key-file", NULL, "FILE", "API key and secret key, one a line; mode 0600", DROVER_OPTION_REQUIRED),
    TIME("cloudstack-timeout", "30s", "Longest wait for one answer of CloudStack"),
    TIME("call-expiry", "20s", "A signed call dies this long after it was journalled; a successor waits that long"),
    TIME("job-timeout", "30m", "Longest wait for one async job of CloudStack before it is asked about anew"),
    {"agent", "max-attempts", DROVER_OPTION_INT, "6", "N", "Attempts of one operation that fails for a passing reason", 0},
    TIME("outage-timeout", "1h", "How long an operation waits for a CloudStack that cannot be reached"),
    STRING("appliance-vm-id", NULL, "ID", "CloudStack's id of the VM that this agent runs on", DROVER_OPTION_REQUIRED),
    STRING("scope", "", "NAME", "Appliances of the same scope reach the same storage: VMs move among them when one is drained", 0),
    STRING("sysfs-root", "/sys", "DIR", "Where the kernel describes its block devices", 0),
    STRING("dev-root", "/dev", "DIR", "Where device nodes are", 0),
    TIME("device-timeout", "30s", "Longest wait for a hot-plugged device"),
    {"agent", "device-slots", DROVER_OPTION_INT, "24", "N", "Disks that the appliance can hold at once", 0},
    STRING("nbdkit", "nbdkit", "PROGRAM", "nbdkit to run", 0),
    STRING("plugin", NULL, "FILE", "nbdkit-drover-plugin.so (default: beside this program, or as installed)", 0),
    STRING("nbd-host", "127.0.0.1", "ADDRESS", "Address that nbdkit listens on", 0),
    {"agent", "nbd-port", DROVER_OPTION_INT, "10809", "PORT", "Port that nbdkit listens on", 0},
    STRING("nbd-public-host", NULL, "HOST", "Host that workers connect to (default: nbd-host)", 0),
    {"agent", "nbd-public-port", DROVER_OPTION_INT, "0", "PORT", "Port that workers connect to; 0: nbd-port", 0},
    STRING("disk-offering", NULL, "NAME", "For volumes whose job names none, by id or name; default: the first of custom size", 0),
    STRING("service-offering", NULL, "NAME", "For VMs whose job names none; default: the first of fixed size", 0),
    STRING("template", NULL, "NAME", "For VMs whose job names none; its root disk is replaced; default: the first", 0),
    {"agent", "networks", DROVER_OPTION_LIST, NULL, "NAME,...", "For VMs whose job names none; default: the first", 0},
    TIME("verify-delay", "0", "Wait this long after cells are flushed before reading them back"),
    {"agent", "verify-rate", DROVER_OPTION_SIZE, "0", "BYTES", "Most bytes per second to read back; 0: no limit", 0},
    {"agent", "verify-threads", DROVER_OPTION_INT, "4", "N", "Batches of cells that are read back at a time, beside the copies", 0},
    TIME("reconcile-interval", "10m", "How often to compare journal, CloudStack and machine; 0: only when asked to"),
    {"agent", "reconcile-repair", DROVER_OPTION_BOOL, "true", NULL, "Repair the differences found that are safe to repair", 0},
    TIME("keep-operations", "168h", "Operations that ended longer ago are forgotten, except the last ones of what still exists"),
    TIME("heartbeat-interval", "10s", "How often to tell that it is alive"),
    DROVER_OPTION_END,
};

/* Whoever lost the journal must do nothing more: another instance may be at work already. */
static void on_journal_lost(const GError *error)
{
    drover_error("agent.fenced", error->message);
    _exit(3);
}

static void on_taken_over(void)
{
    drover_error("agent.fenced", "Another process runs under this agent's name on this machine");
    _exit(3);
}

static void fill_context(DroverAgent *agent)
{
    const DroverConfig *config = agent->config;
    DroverOpContext *c = &agent->context;
    c->agent = agent->name;
    c->instance_id = agent->instance_id;
    c->appliance_vm_id = drover_config_string(config, "agent.appliance-vm-id");
    c->roots.sysfs_root = drover_config_string(config, "agent.sysfs-root");
    c->roots.dev_root = drover_config_string(config, "agent.dev-root");
    c->call_expiry_ms = drover_config_int(config, "agent.call-expiry");
    c->job_timeout_ms = drover_config_int(config, "agent.job-timeout");
    c->device_timeout_ms = drover_config_int(config, "agent.device-timeout");
    const char *public_host = drover_config_string(config, "agent.nbd-public-host");
    int64_t public_port = drover_config_int(config, "agent.nbd-public-port");
    c->nbd_public_host = *public_host ? public_host : drover_config_string(config, "agent.nbd-host");
    c->nbd_public_port = (uint16_t)(public_port ? public_port : drover_config_int(config, "agent.nbd-port"));
    c->default_disk_offering = drover_config_string(config, "agent.disk-offering");
    c->default_service_offering = drover_config_string(config, "agent.service-offering");
    c->default_template = drover_config_string(config, "agent.template");
    c->default_networks = drover_config_list(config, "agent.networks");
    c->release_device = drover_agent_release_device;
    c->release_data = agent;
    c->stopping = drover_drain_requested;
}

/* Letters change when the appliance is booted: what is opened again must be the volume's device of today. One that is not
 * there stays closed until the leader opens a new generation. */
static void find_devices_again(const DroverAgent *agent, GPtrArray *exports)
{
    for (guint i = 0; i < exports->len; i++) {
        DroverExportRecord *record = g_ptr_array_index(exports, i);
        g_autoptr(GError) error = NULL;
        g_auto(DroverDevice) device = {0};
        bool found = drover_device_find(&agent->context.roots, record->volume_id, &device, &error);
        if (!found)
            drover_error("export.device_missing", error ? error->message : "An open export has lost its device",
                         F_S("volume_id", record->volume_id), F_S("job_id", record->job_id));
        drover_set_text(&record->device_path, found ? device.path : "");
    }
}

/* Wires the parts and runs until the process drains. The order of starting is the order of dependence: the journal fences
 * an earlier instance before the NBD server of that instance is ended and its exports are opened again. */
static bool run(DroverAgent *agent, GError **error)
{
    const DroverConfig *config = agent->config;
    DroverJournalContent content = {0};
    DroverAgentHeart *heart = NULL;
    DroverHousekeeping *housekeeping = NULL;
    const DroverNbdServerOptions server_options = {
        .nbdkit = drover_config_string(config, "agent.nbdkit"),
        .plugin = drover_config_string(config, "agent.plugin"),
        .run_dir = drover_config_string(config, "agent.run-dir"),
        .name = agent->name,
        .host = drover_config_string(config, "agent.nbd-host"),
        .port = (uint16_t)drover_config_int(config, "agent.nbd-port"),
        .taken_over = on_taken_over,
    };
    const DroverVerifyLimits verify_limits = {(uint64_t)drover_config_int(config, "agent.verify-delay"),
                                              (uint64_t)drover_config_int(config, "agent.verify-rate"),
                                              (unsigned)drover_config_int(config, "agent.verify-threads")};
    bool ok = false;
    fill_context(agent);
    agent->context.cloud =
        drover_cloudstack_new(drover_config_string(config, "agent.cloudstack-url"),
                              drover_config_string(config, "agent.cloudstack-key-file"),
                              drover_config_int(config, "agent.cloudstack-timeout"), error);
    if (agent->context.cloud)
        agent->producer = drover_producer_new(agent->kafka, error);
    if (agent->producer)
        agent->stopped = drover_stopped_start(agent->kafka, error);
    if (agent->stopped)
        agent->context.journal = drover_journal_open(agent->kafka, agent->name, on_journal_lost, &content, error);
    if (agent->context.journal)
        agent->server = drover_nbd_server_start(&server_options, error);
    if (agent->server) {
        agent->book = agent->context.exports = drover_export_book_new(agent->context.journal, agent->server);
        agent->context.snapshots = drover_snapshot_book_new(agent->context.journal, content.snapshots);
        agent->context.drain = drover_appliance_drain_new(agent->context.journal, content.draining_since_ms,
                                                          content.drained_until_ms);
        find_devices_again(agent, content.exports);
        drover_export_book_restore(agent->book, content.exports);
        DroverVerifyCallbacks callbacks = drover_agent_verify_callbacks(agent);
        agent->verifier = drover_verifier_new(&verify_limits, &callbacks);
        drover_info("agent.started", "Ready to take operations", F_S("agent", agent->name),
                    F_S("instance_id", agent->instance_id), F_U("operations", content.operations->len),
                    F_U("exports", content.exports->len));
        const DroverExecutorLimits limits = {(unsigned)drover_config_int(config, "agent.max-attempts"),
                                             drover_config_int(config, "agent.outage-timeout")};
        const DroverRestParts rest_parts = {&agent->rest_settings, &agent->context, agent->producer, agent->server,
                                            &agent->intake, drover_agent_job_is_stopped, agent};
        g_autoptr(GError) why = NULL;
        agent->rest = drover_rest_new(&rest_parts, content.operations, &why);
        agent->executor = drover_executor_new(&agent->context, &limits, content.operations);
        agent->context.claim = drover_executor_claim;
        agent->context.claim_data = agent->executor;
        agent->context.busy = drover_executor_is_busy;
        agent->context.plugged = drover_executor_plugged;
        agent->context.ended = drover_executor_ended;
        agent->context.differs = drover_agent_differs;
        agent->context.differs_data = agent;
        drover_executor_start(agent->executor);
        heart = drover_agent_heart_start(agent);
        housekeeping = drover_housekeeping_start(agent);
        ok = !why && drover_rest_start(agent->rest, &why) && drover_agent_intake(agent, content.next_offset, &why);
        if (why)
            g_propagate_error(error, g_steal_pointer(&why));
        drover_drain_request(); /* also when the intake failed: steps under way end at their next journal record */
    }
    drover_housekeeping_stop(housekeeping);
    drover_executor_free(agent->executor);
    drover_verifier_free(agent->verifier);
    drover_agent_heart_stop(heart);
    drover_rest_free(agent->rest);
    drover_nbd_server_stop(agent->server);
    drover_export_book_free(agent->book);
    drover_snapshot_book_free(agent->context.snapshots);
    drover_appliance_drain_free(agent->context.drain);
    drover_journal_close(agent->context.journal);
    drover_stopped_free(agent->stopped);
    drover_producer_free(agent->producer);
    drover_cloudstack_free(agent->context.cloud);
    drover_journal_content_clear(&content);
    return ok;
}

int main(int argc, char **argv)
{
    drover_drain_install();
    g_autoptr(GError) error = NULL;
    const DroverOption *const tables[] = {drover_fleet_options, drover_agent_options, drover_rest_options, NULL};
    g_autoptr(DroverConfig) config = drover_config_parse(
        "drover-volume-agent", "",
        "Does everything that Drover does at one CloudStack cluster: volumes, VMs, devices, NBD exports, read-back.\n"
        "Runs on an appliance VM, to which the volumes are attached while data is written. Operations are journalled\n"
        "on Kafka before they are done; a restart goes on where the last life ended. SIGTERM drains.",
        tables, &argc, &argv, &error);
    if (config && argc > 1)
        drover_fail(&error, DROVER_ERROR_PERMANENT, "Unexpected argument '%s'; see --help", argv[1]);
    DroverAgent agent = {.config = config};
    if (!error) {
        const char *const *agents = drover_config_list(config, "fleet.agents");
        agent.name = drover_config_string(config, "agent.name");
        if (!*agent.name && agents[0] && !agents[1])
            agent.name = agents[0];
        if (!g_strv_contains(agents, agent.name) || !drover_site_is_valid(agent.name))
            drover_fail(&error, DROVER_ERROR_PERMANENT, "[agent] name '%s' is none of [fleet] agents", agent.name);
    }
    if (!error)
        drover_rest_settings_read(config, &agent.rest_settings, &error);
    if (error) {
        g_printerr("drover-volume-agent: %s\n", error->message);
        return 2;
    }
    agent.instance_id = drover_id_new("");
    agent.events_topic = g_strconcat("drover.events.", agent.name, NULL);
    g_autoptr(DroverKafka) kafka = drover_kafka_new(config, agent.name, &error);
    agent.kafka = kafka;
    bool ok = kafka && run(&agent, &error);
    if (!ok)
        drover_error("agent.failed", error ? error->message : "unknown");
    g_free(agent.instance_id);
    g_free(agent.events_topic);
    return ok ? EXIT_SUCCESS : EXIT_FAILURE;
}
