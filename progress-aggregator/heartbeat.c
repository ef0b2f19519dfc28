/* SPDX-License-Identifier: Apache-2.0 */
#include "progress-aggregator/heartbeat.h"

#include <unistd.h>

#include "drover/v1/fleet.pb-c.h"
#include "lib/base/ids.h"
#include "lib/base/log.h"

struct DroverHeartbeat {
    DroverProducer *producer;
    const char *process_id;
    char *instance_id;
    uint64_t interval_ms;
    uint64_t sequence;
    int64_t started_at_ms;
    int64_t due_ms; /* BOOTTIME */
};

DroverHeartbeat *drover_heartbeat_new(DroverProducer *producer, const char *process_id, uint64_t interval_ms)
{
    DroverHeartbeat *h = g_new0(DroverHeartbeat, 1);
    h->producer = producer;
    h->process_id = process_id;
    h->instance_id = drover_id_new("");
    h->interval_ms = interval_ms;
    h->started_at_ms = drover_now_ms();
    return h;
}

void drover_heartbeat_free(DroverHeartbeat *h)
{
    if (!h)
        return;
    g_free(h->instance_id);
    g_free(h);
}

void drover_heartbeat_beat(DroverHeartbeat *h, bool stopped)
{
    int64_t now = drover_boottime_ms();
    if (!stopped && now < h->due_ms)
        return;
    h->due_ms = now + (int64_t)h->interval_ms;
    Drover__V1__Heartbeat message = DROVER__V1__HEARTBEAT__INIT;
    message.process_id = (char *)h->process_id;
    message.instance_id = h->instance_id;
    message.role = DROVER__V1__ROLE__ROLE_PROGRESS_AGGREGATOR;
    message.host = (char *)g_get_host_name();
    message.pid = (uint32_t)getpid();
    message.version = (char *)DROVER_VERSION;
    message.started_at_ms = h->started_at_ms;
    message.at_ms = drover_now_ms();
    message.interval_ms = h->interval_ms;
    message.sequence = ++h->sequence;
    message.stopped = stopped;
    message.draining = stopped;
    g_autoptr(GError) error = NULL;
    if (!drover_producer_send_pb(h->producer, "drover.fleet", DROVER_PARTITION_BY_KEY, h->process_id, &message.base, NULL,
                                 NULL, &error))
        drover_warning("heartbeat.failed", error->message);
}
