/* SPDX-License-Identifier: Apache-2.0 */
#include "worker/intake.h"

#include <string.h>

#include "lib/base/drain.h"
#include "lib/base/error.h"
#include "lib/base/log.h"
#include "worker/post.h"

#define POLL_MS 200

typedef struct {
    DroverWorker *worker;
    DroverControl *control;
    DroverSlots *slots;
    DroverHeart *heart;
} Intake;

static void partitions_changed(DroverConsumer *consumer, void *user_data)
{
    Intake *intake = user_data;
    g_autoptr(GArray) copy = drover_consumer_owned(consumer, intake->worker->copy_topic);
    g_autoptr(GArray) source = drover_consumer_owned(consumer, intake->worker->source_topic);
    drover_info("intake.partitions", "Partitions have changed hands", F_U("copy", copy->len),
                F_U("source", source->len));
    drover_heart_set_partitions(intake->heart, copy, source);
}

static void publish(const Intake *intake, const DroverTask *task, GBytes *event)
{
    drover_post_loose(intake->worker->producer, intake->worker->events_topic, task->job_id, event);
}

/* The leader listens to the owner of an attempt only: whatever is said about one begins with a claim. Events of a job
 * have one key, so the claim arrives first. */
static void claim(const Intake *intake, const DroverTask *task)
{
    g_autoptr(GBytes) event = drover_codec_claimed(&intake->worker->name, task);
    publish(intake, task, event);
}

/* A record that cannot be read goes to the dead letters; the job learns of it when the task names it. */
static void refuse(const Intake *intake, const DroverRecord *record, const DroverTask *header, const GError *why)
{
    g_autoptr(GError) error = NULL;
    if (!drover_dlq_send(intake->worker->producer, record, intake->worker->name.process_id, why->message, &error))
        drover_warning("dlq.lost", error->message);
    if (header == NULL)
        return;
    claim(intake, header);
    g_autoptr(GBytes) event = drover_codec_failed(&intake->worker->name, header, why, NULL);
    publish(intake, header, event);
}

static void release(const Intake *intake, const DroverTask *task, const char *reason)
{
    drover_info("task.released", reason, F_S("task_id", task->task_id), F_U("attempt", task->attempt));
    claim(intake, task);
    g_autoptr(GBytes) event = drover_codec_released(&intake->worker->name, task, reason);
    publish(intake, task, event);
}

static void start(const Intake *intake, DroverTask *task)
{
    DroverRunning *running = NULL;
    g_autoptr(DroverTask) refused = NULL;
    switch (drover_running_start(intake->worker->running, task, &running, &refused)) {
    case DROVER_START_OK:
        break;
    case DROVER_START_DUPLICATE:
        drover_info("task.duplicate", "This attempt runs here already", F_S("task_id", refused->task_id));
        return;
    case DROVER_START_STALE:
        drover_info("task.stale", "A younger attempt runs here", F_S("task_id", refused->task_id));
        return;
    case DROVER_START_NO_SLOT:
        release(intake, refused, "all slots of this worker are taken");
        return;
    case DROVER_START_CLOSED:
        release(intake, refused, "the worker drains");
        return;
    }
    drover_info("task.claimed", "Claimed a task", F_S("job_id", task->job_id), F_S("disk_id", task->disk_id),
                F_S("task_id", task->task_id), F_U("attempt", task->attempt));
    claim(intake, task);
    drover_control_apply(intake->control, running);
    drover_slots_run(intake->slots, running);
}

static void take(const Intake *intake, DroverConsumer *consumer, const DroverRecord *record)
{
    g_autoptr(GError) error = NULL;
    if (!drover_consumer_commit(consumer, record, &error)) {
        drover_warning("intake.not_ours", error->message, F_S("topic", record->topic), F_I("offset", record->offset));
        return;
    }
    g_autoptr(DroverTask) header = NULL;
    g_autoptr(DroverTask) task = drover_codec_task(record->value, record->len, &header, &error);
    if (header != NULL)
        header->partition = record->partition;
    if (task == NULL) {
        refuse(intake, record, header, error);
        return;
    }
    task->partition = record->partition;
    switch (drover_control_judge(intake->control, task)) {
    case DROVER_VERDICT_REVOKED:
        drover_info("task.revoked", "The task was revoked before it was taken", F_S("task_id", task->task_id),
                    F_U("attempt", task->attempt));
        return;
    case DROVER_VERDICT_RELEASE:
        release(intake, task, "the job is paused");
        return;
    case DROVER_VERDICT_RUN:
        start(intake, g_steal_pointer(&task));
        return;
    }
}

bool drover_intake_run(DroverWorker *worker, DroverControl *control, DroverSlots *slots, DroverHeart *heart,
                       GError **error)
{
    Intake intake = {.worker = worker, .control = control, .slots = slots, .heart = heart};
    g_autofree char *group = g_strconcat("workers.", worker->name.site, NULL);
    const char *const topics[] = {worker->source_topic, worker->copy_topic, NULL};
    /* With prefetching: its queue limit of one message makes librdkafka 2.0 look for the next one only after a second
     * (measured), and what is fetched early does no harm, since the offset is committed only when a task is taken. */
    g_autoptr(DroverConsumer) consumer =
        drover_consumer_new_group(worker->kafka, group, topics, 0, true, partitions_changed, &intake, error);
    if (consumer == NULL)
        return false;
    while (!drover_drain_requested()) {
        g_autoptr(GError) failure = NULL;
        g_autoptr(DroverRecord) record = drover_consumer_poll(consumer, POLL_MS, &failure);
        if (record != NULL)
            take(&intake, consumer, record);
        if (failure != NULL) {
            drover_warning("intake.read_failed", failure->message);
            drover_drain_wait(POLL_MS);
        }
    }
    return true;
}
