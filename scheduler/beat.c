/* SPDX-License-Identifier: Apache-2.0 */
#include "scheduler/beat.h"

#include "lib/base/ids.h"
#include "lib/base/log.h"
#include "scheduler/codec.h"

struct Beat {
    const SchedulerOptions *options;
    DroverProducer *producer;
    uint64_t sequence;
    int64_t next_ms;
    bool leader;
};

Beat *beat_new(const DroverKafka *kafka, const SchedulerOptions *options, GError **error)
{
    g_autoptr(DroverProducer) producer = drover_producer_new(kafka, error);
    if (producer == NULL)
        return NULL;
    Beat *beat = g_new0(Beat, 1);
    beat->options = options;
    beat->producer = g_steal_pointer(&producer);
    return beat;
}

void beat_free(Beat *beat)
{
    if (beat == NULL)
        return;
    drover_producer_free(beat->producer);
    g_free(beat);
}

static void send(Beat *beat, const BeatStatus *status, bool stopped)
{
    CodecBeat message = {
        .process_id = beat->options->process_id,
        .instance_id = beat->options->instance_id,
        .started_at_ms = beat->options->started_at_ms,
        .interval_ms = beat->options->heartbeat_interval_ms,
        .sequence = ++beat->sequence,
        .draining = stopped,
        .stopped = stopped,
        .leader = status->leader,
        .jobs_active = status->jobs_active,
        .tasks_ready = status->tasks_ready,
        .tasks_running = status->tasks_running,
    };
    g_autoptr(GBytes) value = codec_beat(&message, drover_now_ms());
    g_autoptr(GError) error = NULL;
    gsize len = 0;
    const void *bytes = g_bytes_get_data(value, &len);
    if (!drover_producer_send(beat->producer, "drover.fleet", DROVER_PARTITION_BY_KEY,
                              beat->options->process_id, bytes, len, NULL, NULL, &error))
        drover_warning("fleet.heartbeat", error->message);
}

void beat_send(Beat *beat, const BeatStatus *status, bool now)
{
    int64_t boot_ms = drover_boottime_ms();
    if (!now && status->leader == beat->leader && boot_ms < beat->next_ms)
        return;
    beat->leader = status->leader;
    beat->next_ms = boot_ms + beat->options->heartbeat_interval_ms;
    send(beat, status, false);
}

void beat_stop(Beat *beat)
{
    static const BeatStatus nothing = {0};
    send(beat, &nothing, true);
}
