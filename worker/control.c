/* SPDX-License-Identifier: Apache-2.0 */
#include "worker/control.h"

#include <stdatomic.h>
#include <string.h>

#include "lib/base/drain.h"
#include "lib/base/ids.h"
#include "lib/base/log.h"

#define TOPIC "drover.control"
#define POLL_MS 200
#define METADATA_TIMEOUT_MS 10000
#define STOOD_STILL_MS 3000   /* polls return far more often */
#define POLLS_TO_CATCH_UP 3   /* the first may have begun before the stop */
#define LEFT_OVER_MS 60000 /* more than control may lag, and than clocks may differ */

struct DroverControl {
    DroverWorker *worker;
    DroverConsumer *consumer;
    GThread *thread;
    atomic_bool stop;
    GMutex lock; /* the rest */
    GCond ready_cond;
    bool ready;
    int64_t polled_ms; /* boot time of the last poll's end */
    unsigned behind;   /* polls to do before the topic counts as read again */
    GHashTable *jobs; /* job id -> DroverJobControl */
};

/* Under the control's lock. */
static void apply_one(DroverControl *control, DroverRunning *running)
{
    const DroverTask *task = drover_running_task(running);
    const DroverLiveTask *live = NULL;
    DroverVerdict verdict = drover_verdict(g_hash_table_lookup(control->jobs, task->job_id), task,
                                           control->worker->name.instance_id, drover_running_seen(running), &live);
    drover_running_set_rate(running, live);
    if (live != NULL && strcmp(live->owner_instance, control->worker->name.instance_id) == 0)
        drover_running_set_confirmed(running);
    drover_running_set_verdict(running, verdict);
}

typedef struct {
    DroverControl *control;
    const char *job_id;
} JobOf;

static void apply_to_job(DroverRunning *running, void *user_data)
{
    const JobOf *of = user_data;
    if (strcmp(drover_running_task(running)->job_id, of->job_id) == 0)
        apply_one(of->control, running);
}

/* Lock order: control, then table, then entry. */
static void take_record(DroverControl *control, const DroverRecord *record)
{
    if (record->key == NULL)
        return;
    g_autoptr(DroverJobControl) snapshot = NULL;
    if (record->value != NULL) {
        g_autoptr(GError) error = NULL;
        snapshot = drover_codec_control(record->value, record->len, &error);
        if (snapshot == NULL) {
            if (!control->ready) { /* every start reads the whole topic again, the dead letter is there already */
                drover_warning("control.poison", error->message, F_I("offset", record->offset));
                return;
            }
            drover_dlq_send(control->worker->producer, record, control->worker->name.process_id, error->message, NULL);
            return;
        }
    }
    g_mutex_lock(&control->lock);
    const DroverJobControl *known = g_hash_table_lookup(control->jobs, record->key);
    if (snapshot == NULL)
        g_hash_table_remove(control->jobs, record->key);
    else if (known == NULL || snapshot->version >= known->version)
        g_hash_table_replace(control->jobs, g_strdup(record->key), g_steal_pointer(&snapshot));
    JobOf of = {.control = control, .job_id = record->key};
    drover_running_each(control->worker->running, apply_to_job, &of);
    g_mutex_unlock(&control->lock);
}

static void note_poll(DroverControl *control)
{
    int64_t now = drover_boottime_ms();
    g_mutex_lock(&control->lock);
    if (now - control->polled_ms > STOOD_STILL_MS)
        control->behind = POLLS_TO_CATCH_UP;
    else if (control->behind > 0)
        control->behind--;
    control->polled_ms = now;
    g_mutex_unlock(&control->lock);
}

bool drover_control_is_current(DroverControl *control)
{
    g_mutex_lock(&control->lock);
    bool current = control->behind == 0 && drover_boottime_ms() - control->polled_ms <= STOOD_STILL_MS;
    g_mutex_unlock(&control->lock);
    return current;
}

static gpointer serve(gpointer data)
{
    DroverControl *control = data;
    while (!atomic_load(&control->stop)) {
        g_autoptr(GError) error = NULL;
        g_autoptr(DroverRecord) record = drover_consumer_poll(control->consumer, POLL_MS, &error);
        if (record != NULL)
            take_record(control, record);
        if (error != NULL) {
            drover_warning("control.read_failed", error->message);
            g_usleep(POLL_MS * 1000);
        } else {
            note_poll(control);
        }
        if (!control->ready && drover_consumer_at_end(control->consumer)) {
            g_mutex_lock(&control->lock);
            control->ready = true;
            g_cond_broadcast(&control->ready_cond);
            g_mutex_unlock(&control->lock);
        }
    }
    return NULL;
}

static void free_control(gpointer data)
{
    drover_job_control_free(data);
}

DroverControl *drover_control_start(DroverWorker *worker, GError **error)
{
    g_autoptr(DroverConsumer) consumer = drover_consumer_new_manual(worker->kafka, error);
    if (consumer == NULL ||
        !drover_consumer_assign_topic(consumer, TOPIC, DROVER_OFFSET_BEGINNING, METADATA_TIMEOUT_MS, error))
        return NULL;
    DroverControl *control = g_new0(DroverControl, 1);
    control->worker = worker;
    control->consumer = g_steal_pointer(&consumer);
    control->jobs = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, free_control);
    g_mutex_init(&control->lock);
    g_cond_init(&control->ready_cond);
    control->thread = g_thread_new("control", serve, control);
    worker->control = control;
    return control;
}

void drover_control_stop(DroverControl *control)
{
    if (control == NULL)
        return;
    atomic_store(&control->stop, true);
    g_thread_join(control->thread);
    drover_consumer_free(control->consumer);
    g_hash_table_unref(control->jobs);
    g_mutex_clear(&control->lock);
    g_cond_clear(&control->ready_cond);
    g_free(control);
}

bool drover_control_wait_ready(DroverControl *control)
{
    bool ready = false;
    while (!ready && !drover_drain_requested()) {
        g_mutex_lock(&control->lock);
        if (!control->ready)
            g_cond_wait_until(&control->ready_cond, &control->lock, g_get_monotonic_time() + POLL_MS * 1000);
        ready = control->ready;
        g_mutex_unlock(&control->lock);
    }
    return ready;
}

DroverVerdict drover_control_judge(DroverControl *control, const DroverTask *task)
{
    bool seen = false;
    g_mutex_lock(&control->lock);
    const DroverJobControl *snapshot = g_hash_table_lookup(control->jobs, task->job_id);
    DroverVerdict verdict = drover_verdict(snapshot, task, control->worker->name.instance_id, &seen, NULL);
    if (snapshot == NULL && drover_now_ms() - task->created_at_ms > LEFT_OVER_MS)
        verdict = DROVER_VERDICT_REVOKED;
    g_mutex_unlock(&control->lock);
    return verdict;
}

void drover_control_apply(DroverControl *control, DroverRunning *running)
{
    g_mutex_lock(&control->lock);
    apply_one(control, running);
    g_mutex_unlock(&control->lock);
}
