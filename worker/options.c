/* SPDX-License-Identifier: Apache-2.0 */
#include "worker/options.h"

#include <string.h>

#include "lib/base/error.h"
#include "lib/base/ids.h"

#define MIN_MEMORY (4u << 20)

const DroverOption drover_worker_options[] = {
    {"worker", "name", DROVER_OPTION_STRING, NULL, "NAME",
     "Stable name of this process in the fleet; default worker-HOSTNAME", 0},
    {"worker", "site", DROVER_OPTION_STRING, NULL, "SITE",
     "Site whose sources it reads; default: the only one of [fleet] sites", 0},
    {"worker", "run-dir", DROVER_OPTION_STRING, "/run/drover", "DIR",
     "Directory for private sockets; a subdirectory with the process name is made, and emptied at start", 0},
    {"worker", "file-roots", DROVER_OPTION_LIST, NULL, "DIR,...",
     "Image files must lie below one of these directories; empty: anywhere", 0},
    {"worker", "copy-slots", DROVER_OPTION_INT, "2", "N", "Copy tasks at once", 0},
    {"worker", "source-slots", DROVER_OPTION_INT, "2", "N", "Inspections at once", 0},
    {"worker", "memory", DROVER_OPTION_SIZE, "64M", "BYTES", "Buffers of one copy slot", 0},
    {"worker", "connections", DROVER_OPTION_INT, "4", "N", "NBD connections of one copy to each side", 0},
    {"worker", "request-size", DROVER_OPTION_SIZE, "512K", "BYTES", "NBD request size", 0},
    {"worker", "target-tls", DROVER_OPTION_BOOL, "false", NULL,
     "Reach targets in TLS from the first byte, through a front door (docs/network.md)", 0},
    {"worker", "tls-ca", DROVER_OPTION_STRING, NULL, "FILE", "PEM: who signs the certificates of front doors; without it: the system's list", 0},
    {"worker", "tls-cert", DROVER_OPTION_STRING, NULL, "FILE", "PEM: this worker's certificate; read again for each connection", 0},
    {"worker", "tls-key", DROVER_OPTION_STRING, NULL, "FILE", "PEM: its key; without it: in the file of tls-cert", 0},
    {"worker", "tls-name", DROVER_OPTION_STRING, NULL, "NAME",
     "The certificates of all front doors must be for this name; without it: each for the host that is connected to", 0},
    {"worker", "tls-min", DROVER_OPTION_STRING, "1.3", "1.2|1.3", "Oldest version of TLS that is accepted", 0},
    {"worker", "nbdkit", DROVER_OPTION_STRING, "nbdkit", "PROGRAM", "Program that serves disks of vCenters", 0},
    {"worker", "vddk-plugin", DROVER_OPTION_STRING, "vddk", "NAME", "nbdkit's plugin for VDDK, or the path of one", 0},
    {"worker", "nfc-port", DROVER_OPTION_INT, "902", "PORT",
     "Port of ESXi hosts that a preflight tries to reach; 0: none, where disks are read over san or hotadd", 0},
    {"worker", "heartbeat-interval", DROVER_OPTION_DURATION, "10s", "TIME", "How often to tell that it is alive", 0},
    {"worker", "connect-timeout", DROVER_OPTION_DURATION, "30s", "TIME", "Longest wait for the first NBD connection",
     0},
    {"worker", "reconnect-timeout", DROVER_OPTION_DURATION, "10m", "TIME",
     "Longest time without a working NBD connection before a copy fails", 0},
    {"worker", "checkpoint-wait", DROVER_OPTION_DURATION, "10s", "TIME",
     "How long a copy waits for Kafka to store a checkpoint before it goes on without", 0},
    {"worker", "drain-timeout", DROVER_OPTION_DURATION, "20s", "TIME",
     "How long running tasks may take to reach a checkpoint when the worker is told to stop", 0},
    DROVER_OPTION_END,
};

static char *default_name(void)
{
    g_autofree char *host = g_strdup(g_get_host_name());
    g_strcanon(host, G_CSET_A_2_Z G_CSET_a_2_z G_CSET_DIGITS ".-_", '-');
    return g_strdup_printf("worker-%.50s", host);
}

static bool bounded(const DroverConfig *config, const char *key, int64_t min, int64_t max, unsigned *out,
                    GError **error)
{
    int64_t value = drover_config_int(config, key);
    if (value < min || value > max)
        return drover_fail(error, DROVER_ERROR_PERMANENT,
                           "%s is %" G_GINT64_FORMAT "; %" G_GINT64_FORMAT " to %" G_GINT64_FORMAT " is possible", key,
                           value, min, max);
    *out = (unsigned)value;
    return true;
}

static bool numbers(DroverWorker *worker, const DroverConfig *config, GError **error)
{
    worker->memory_bytes = (uint64_t)drover_config_int(config, "worker.memory");
    worker->request_bytes = (uint64_t)drover_config_int(config, "worker.request-size");
    if (worker->memory_bytes < MIN_MEMORY)
        return drover_fail(error, DROVER_ERROR_PERMANENT, "worker.memory is less than %u bytes", MIN_MEMORY);
    return bounded(config, "worker.copy-slots", 0, 64, &worker->copy_slots, error) &&
           bounded(config, "worker.source-slots", 0, 64, &worker->source_slots, error) &&
           bounded(config, "worker.nfc-port", 0, 65535, &worker->nfc_port, error) &&
           bounded(config, "worker.connections", 1, 16, &worker->connections, error) &&
           bounded(config, "worker.heartbeat-interval", 100, 30000, &worker->heartbeat_interval_ms, error) &&
           bounded(config, "worker.connect-timeout", 100, 3600000, &worker->connect_timeout_ms, error) &&
           bounded(config, "worker.reconnect-timeout", 100, 86400000, &worker->reconnect_timeout_ms, error) &&
           bounded(config, "worker.drain-timeout", 0, 3600000, &worker->drain_timeout_ms, error) &&
           bounded(config, "worker.checkpoint-wait", 0, 3600000, &worker->checkpoint_wait_ms, error);
}

static bool tls(DroverWorker *worker, const DroverConfig *config, GError **error)
{
    const char *min = drover_config_string(config, "worker.tls-min");
    worker->target_tls = drover_config_bool(config, "worker.target-tls");
    worker->tls = (DroverTlsSettings){
        .ca_file = drover_config_string(config, "worker.tls-ca"),
        .cert_file = drover_config_string(config, "worker.tls-cert"),
        .key_file = drover_config_string(config, "worker.tls-key"),
        .name = drover_config_string(config, "worker.tls-name"),
        .allow_tls12 = strcmp(min, "1.2") == 0,
    };
    if (!worker->tls.allow_tls12 && strcmp(min, "1.3") != 0)
        return drover_fail(error, DROVER_ERROR_PERMANENT, "worker.tls-min is \"%s\"; 1.2 and 1.3 are possible", min);
    /* Whoever configures certificates wants TLS: a forgotten option must not become a copy in plain text. */
    if (!worker->target_tls &&
        (*worker->tls.ca_file || *worker->tls.cert_file || *worker->tls.key_file || *worker->tls.name))
        return drover_fail(error, DROVER_ERROR_PERMANENT,
                           "worker.tls-ca, tls-cert, tls-key and tls-name mean nothing without worker.target-tls");
    return true;
}

bool drover_worker_configure(DroverWorker *worker, const DroverConfig *config, GError **error)
{
    const char *name = drover_config_string(config, "worker.name");
    g_autofree char *process_id = *name != '\0' ? g_strdup(name) : default_name();
    if (!drover_id_is_valid(process_id))
        return drover_fail(error, DROVER_ERROR_PERMANENT, "worker.name \"%s\" is not a name: [A-Za-z0-9._-]{1,64}",
                           process_id);
    const char *site = drover_config_string(config, "worker.site");
    const char *const *sites = drover_config_list(config, "fleet.sites");
    if (*site == '\0' && sites[0] != NULL && sites[1] == NULL)
        site = sites[0];
    if (!drover_site_is_valid(site))
        return drover_fail(error, DROVER_ERROR_PERMANENT,
                           "worker.site \"%s\" is not a site: set it to one of [fleet] sites", site);
    if (!numbers(worker, config, error))
        return false;
    if (worker->copy_slots + worker->source_slots == 0)
        return drover_fail(error, DROVER_ERROR_PERMANENT, "worker.copy-slots and worker.source-slots are both 0");
    if (!tls(worker, config, error))
        return false;
    /* The file's usual place may be empty; a place that was named may not. */
    worker->vcenters_file = drover_config_string(config, "vsphere.vcenters");
    if (!drover_config_is_set(config, "vsphere.vcenters") && !g_file_test(worker->vcenters_file, G_FILE_TEST_EXISTS))
        worker->vcenters_file = "";
    worker->vsphere.nbdkit = drover_config_string(config, "worker.nbdkit");
    worker->vsphere.vddk_plugin = drover_config_string(config, "worker.vddk-plugin");
    worker->file_roots = drover_config_list(config, "worker.file-roots");
    worker->name.process_id = g_steal_pointer(&process_id);
    worker->name.instance_id = drover_id_new("");
    worker->name.site = g_strdup(site);
    worker->source_topic = g_strdup_printf("drover.tasks.%s.source", site);
    worker->copy_topic = g_strdup_printf("drover.tasks.%s.copy", site);
    worker->events_topic = g_strdup_printf("drover.events.%s", site);
    return true;
}

void drover_worker_clear(DroverWorker *worker)
{
    g_free((char *)worker->name.process_id);
    g_free((char *)worker->name.instance_id);
    g_free((char *)worker->name.site);
    g_free(worker->source_topic);
    g_free(worker->copy_topic);
    g_free(worker->events_topic);
}
