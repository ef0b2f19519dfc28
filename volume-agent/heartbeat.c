/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>
#include <unistd.h>

#include "drover/v1/fleet.pb-c.h"
#include "lib/base/drain.h"
#include "lib/base/ids.h"
#include "lib/base/log.h"
#include "volume-agent/agent.h"
#include "volume-agent/operations/operations.h"

#define CHANGE_POLL_US 250000

struct DroverAgentHeart {
    DroverAgent *agent;
    GThread *thread;
    GThread *probe;
    GMutex lock;
    GCond cond;
    bool stop;
    char *host;
    int64_t started_at_ms;
    int64_t interval_ms;
    uint64_t sequence;
};

static void stats_unref(GArray *stats)
{
    if (stats)
        g_array_unref(stats);
}

static uint64_t written_by(const GArray *stats, const DroverExportRecord *record)
{
    for (guint i = 0; stats && i < stats->len; i++) {
        const DroverExportStat *s = &g_array_index(stats, DroverExportStat, i);
        if (g_strcmp0(s->volume_id, record->volume_id) == 0 && s->generation == record->generation)
            return s->bytes_written;
    }
    return 0;
}

/* Nothing ahead in its log either. */
static bool is_drained(const DroverAgent *agent)
{
    return drover_rest_intake_is_current(&agent->intake) && drover_op_is_drained(&agent->context);
}

static void beat(DroverAgentHeart *heart, bool stopped)
{
    DroverAgent *agent = heart->agent;
    const DroverConfig *config = agent->config;
    g_autoptr(GPtrArray) records = drover_export_book_list(agent->book);
    GArray *stats = drover_nbd_server_stat(agent->server, NULL);
    g_autofree Drover__V1__OpenExportStatus *exports = g_new0(Drover__V1__OpenExportStatus, records->len + 1);
    g_autofree Drover__V1__OpenExportStatus **pointers = g_new0(Drover__V1__OpenExportStatus *, records->len + 1);
    for (guint i = 0; i < records->len; i++) {
        const DroverExportRecord *record = g_ptr_array_index(records, i);
        drover__v1__open_export_status__init(&exports[i]);
        exports[i].volume_id = record->volume_id;
        exports[i].generation = record->generation;
        exports[i].writable = record->writable;
        exports[i].bytes_written = written_by(stats, record);
        pointers[i] = &exports[i];
    }
    uint32_t slots = (uint32_t)drover_config_int(config, "agent.device-slots");
    Drover__V1__AgentStatus status = DROVER__V1__AGENT_STATUS__INIT;
    status.agent = (char *)agent->name;
    status.appliance_vm_id = (char *)agent->context.appliance_vm_id;
    status.device_slots = slots;
    status.free_device_slots = slots - MIN(slots, drover_device_count(&agent->context.roots));
    status.nbd_host = (char *)agent->context.nbd_public_host;
    status.nbd_port = agent->context.nbd_public_port;
    status.n_exports = records->len;
    status.exports = pointers;
    status.draining = drover_appliance_drain_since(agent->context.drain) != 0;
    status.drained = is_drained(agent);
    status.scope = (char *)drover_config_string(config, "agent.scope");
    status.cloudstack_reachable = drover_cloudstack_is_reachable(agent->context.cloud);

    Drover__V1__Heartbeat message = DROVER__V1__HEARTBEAT__INIT;
    message.process_id = (char *)agent->name;
    message.instance_id = agent->instance_id;
    message.role = DROVER__V1__ROLE__ROLE_VOLUME_AGENT;
    message.site = (char *)agent->name;
    message.host = heart->host;
    message.pid = (uint32_t)getpid();
    message.version = (char *)DROVER_VERSION;
    message.started_at_ms = heart->started_at_ms;
    message.at_ms = drover_now_ms();
    message.interval_ms = (uint64_t)heart->interval_ms;
    message.sequence = ++heart->sequence;
    message.draining = drover_drain_requested();
    message.stopped = stopped;
    message.agent = &status;
    g_autoptr(GError) error = NULL;
    if (!drover_producer_send_pb(agent->producer, "drover.fleet", DROVER_PARTITION_BY_KEY, agent->name, &message.base, NULL,
                                 NULL, &error))
        drover_warning("heartbeat.lost", error->message);
    stats_unref(stats);
}

/* What others wait for; a heartbeat goes out at once when it changes. */
static char *describe(DroverAgent *agent)
{
    GString *text = g_string_new(NULL);
    g_autoptr(GPtrArray) records = drover_export_book_list(agent->book);
    for (guint i = 0; i < records->len; i++) {
        const DroverExportRecord *record = g_ptr_array_index(records, i);
        g_string_append_printf(text, "%s %" G_GUINT64_FORMAT " %d\n", record->volume_id, record->generation, record->writable);
    }
    g_string_append_printf(text, "%u %d %d %d %d", drover_device_count(&agent->context.roots),
                           drover_cloudstack_is_reachable(agent->context.cloud), drover_drain_requested(),
                           drover_appliance_drain_since(agent->context.drain) != 0, is_drained(agent));
    return g_string_free(text, FALSE);
}

/* Sleeps; true when it is time to end. */
static bool pause_us(DroverAgentHeart *heart, gint64 us)
{
    g_mutex_lock(&heart->lock);
    gint64 until = g_get_monotonic_time() + us;
    while (!heart->stop && g_cond_wait_until(&heart->cond, &heart->lock, until))
        ;
    bool stop = heart->stop;
    g_mutex_unlock(&heart->lock);
    return stop;
}

static gpointer serve(gpointer data)
{
    DroverAgentHeart *heart = data;
    g_autofree char *told = NULL;
    gint64 due = 0;
    do {
        g_autofree char *now = describe(heart->agent);
        if (g_get_monotonic_time() < due && strcmp(now, told) == 0)
            continue;
        g_free(told);
        told = g_steal_pointer(&now);
        due = g_get_monotonic_time() + heart->interval_ms * 1000;
        beat(heart, false);
    } while (!pause_us(heart, MIN(CHANGE_POLL_US, MAX(due - g_get_monotonic_time(), 1))));
    return NULL;
}

/* An agent that has nothing to do still tells the truth about CloudStack. Its own thread: the question may hang. */
static gpointer probe(gpointer data)
{
    DroverAgentHeart *heart = data;
    static const char *const parameters[] = {"page", "1", "pagesize", "1", NULL};
    do {
        DroverCloudStack *cloud = heart->agent->context.cloud;
        g_autoptr(GError) error = NULL;
        if (drover_cloudstack_is_reachable(cloud) && drover_cloudstack_silence_ms(cloud) < heart->interval_ms)
            continue;
        json_t *answer = drover_cloudstack_call(cloud, "listZones", 0, parameters, NULL, &error);
        if (!answer && !drover_cloudstack_is_down(error))
            drover_warning("cloudstack.probe", error->message);
        json_decref(answer);
    } while (!pause_us(heart, heart->interval_ms * 1000));
    return NULL;
}

DroverAgentHeart *drover_agent_heart_start(DroverAgent *agent)
{
    DroverAgentHeart *heart = g_new0(DroverAgentHeart, 1);
    heart->agent = agent;
    heart->host = g_strdup(g_get_host_name());
    heart->started_at_ms = drover_now_ms();
    heart->interval_ms = drover_config_int(agent->config, "agent.heartbeat-interval");
    g_mutex_init(&heart->lock);
    g_cond_init(&heart->cond);
    heart->thread = g_thread_new("heartbeat", serve, heart);
    heart->probe = g_thread_new("probe", probe, heart);
    return heart;
}

void drover_agent_heart_stop(DroverAgentHeart *heart)
{
    if (!heart)
        return;
    g_mutex_lock(&heart->lock);
    heart->stop = true;
    g_cond_broadcast(&heart->cond);
    g_mutex_unlock(&heart->lock);
    g_thread_join(heart->thread);
    g_thread_join(heart->probe);
    beat(heart, true);
    g_mutex_clear(&heart->lock);
    g_cond_clear(&heart->cond);
    g_free(heart->host);
    g_free(heart);
}
