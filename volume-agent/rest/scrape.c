/* SPDX-License-Identifier: Apache-2.0 */
/* What can be measured now, in front of what was counted. */
#include "lib/base/drain.h"
#include "lib/base/ids.h"
#include "volume-agent/operations/operations.h"
#include "volume-agent/rest/api.h"

static void one(GString *out, const char *name, const char *help, double value)
{
    drover_rest_metrics_head(out, name, "gauge", help);
    drover_rest_metrics_sample(out, name, "", value);
}

static void operations_of(void *data, const char *kind, const char *state, uint64_t n)
{
    g_autofree char *labels = drover_rest_labels("kind", kind, "state", state, NULL);
    drover_rest_metrics_sample(data, "drover_agent_operations", labels, (double)n);
}

typedef uint64_t (*StatField)(const DroverExportStat *stat);

static uint64_t written(const DroverExportStat *s)
{
    return s->bytes_written;
}
static uint64_t zeroed(const DroverExportStat *s)
{
    return s->bytes_zeroed;
}
static uint64_t bytes_read(const DroverExportStat *s)
{
    return s->bytes_read;
}
static uint64_t connections(const DroverExportStat *s)
{
    return s->connections;
}
static uint64_t poisoned(const DroverExportStat *s)
{
    return s->poisoned;
}

static void write_exports(DroverRestApi *api, GString *out)
{
    static const struct {
        const char *name, *type, *help;
        StatField field;
    } families[] = {
        {"drover_agent_export_written_bytes_total", "counter", "Bytes written to an export's generation",
         written},
        {"drover_agent_export_zeroed_bytes_total", "counter", "Bytes zeroed or trimmed without data", zeroed},
        {"drover_agent_export_read_bytes_total", "counter", "Bytes read from an export's generation",
         bytes_read},
        {"drover_agent_export_connections", "gauge", "Connections to an export", connections},
        {"drover_agent_export_poisoned", "gauge", "1: a flush failed, what was not read back is void",
         poisoned},
    };
    g_autoptr(GPtrArray) records = drover_export_book_list(api->context->exports);
    unsigned writable = 0;
    for (guint i = 0; i < records->len; i++)
        writable += ((const DroverExportRecord *)g_ptr_array_index(records, i))->writable;
    one(out, "drover_agent_exports_open", "Exports that can be written to", writable);
    one(out, "drover_agent_exports_closed", "Exports that are kept for read-back", records->len - writable);
    GArray *stats = drover_nbd_server_stat(api->server, NULL);
    for (size_t f = 0; f < G_N_ELEMENTS(families); f++) {
        drover_rest_metrics_head(out, families[f].name, families[f].type, families[f].help);
        for (guint i = 0; stats && i < stats->len; i++) {
            const DroverExportStat *stat = &g_array_index(stats, DroverExportStat, i);
            g_autofree char *generation = g_strdup_printf("%" G_GUINT64_FORMAT, stat->generation);
            g_autofree char *labels =
                drover_rest_labels("volume_id", stat->volume_id, "generation", generation, NULL);
            drover_rest_metrics_sample(out, families[f].name, labels, (double)families[f].field(stat));
        }
    }
    if (stats)
        g_array_unref(stats);
}

/* Seconds since a moment of the boot clock; -1: never. */
static double since(int64_t at_ms)
{
    return at_ms ? (double)MAX(drover_boottime_ms() - at_ms, 0) / 1000 : -1;
}

char *drover_rest_scrape(DroverRestApi *api)
{
    GString *out = g_string_new(NULL);
    const DroverOpContext *context = api->context;
    g_autofree char *build = drover_rest_labels("version", DROVER_VERSION, "agent", context->agent, NULL);
    drover_rest_metrics_head(out, "drover_agent_build_info", "gauge", "Always 1; the labels say what runs");
    drover_rest_metrics_sample(out, "drover_agent_build_info", build, 1);
    drover_rest_metrics_head(out, "drover_agent_operations", "gauge",
                             "Operations in the journal, by kind and state");
    drover_rest_view_count(api->view, operations_of, out);
    write_exports(api, out);
    one(out, "drover_agent_device_slots", "Disks that the appliance can hold", api->device_slots);
    one(out, "drover_agent_devices", "Disks that are plugged into the appliance",
        drover_device_count(&context->roots));
    one(out, "drover_agent_nbd_server_up", "nbdkit runs", drover_nbd_server_pid(api->server) != 0);
    one(out, "drover_agent_cloudstack_up", "CloudStack answered the last request",
        drover_cloudstack_is_reachable(context->cloud));
    one(out, "drover_agent_log_lag_records", "Records of the agent's log that are not read yet",
        (double)atomic_load(&api->intake->lag));
    one(out, "drover_agent_log_behind_seconds",
        "Time since the agent's log was last read to its end; -1: not yet",
        since(atomic_load(&api->intake->current_at_ms)));
    one(out, "drover_agent_log_error_seconds", "Time since reading the agent's log last failed; -1: never",
        since(atomic_load(&api->intake->error_at_ms)));
    one(out, "drover_agent_draining", "The agent is stopping", drover_drain_requested());
    one(out, "drover_agent_appliance_draining", "The appliance is to be emptied",
        drover_appliance_drain_since(context->drain) != 0);
    one(out, "drover_agent_appliance_drained", "The appliance is to be emptied, and nothing is left on it",
        drover_rest_intake_is_current(api->intake) && drover_op_is_drained(context));
    drover_rest_metrics_write(api->metrics, out);
    return g_string_free(out, FALSE);
}
