/* SPDX-License-Identifier: Apache-2.0 */
#include "worker/heartbeat.h"

#include <string.h>

#include "lib/base/ids.h"
#include "lib/base/log.h"
#include "worker/post.h"

#define TOPIC "drover.fleet"
#define LAST_BEAT_MS 3000
#define GATHER_US (20 * 1000) /* changes come in groups; one heartbeat tells them all */

struct DroverHeart {
    DroverWorker *worker;
    GThread *thread;
    char *host;
    int64_t started_at_ms;
    GMutex lock; /* the rest */
    GCond cond;
    GArray *copy_partitions;
    GArray *source_partitions;
    uint64_t sequence;
    bool changed;
    bool draining;
    bool stop;
};

DroverHeart *drover_heart_new(DroverWorker *worker)
{
    DroverHeart *heart = g_new0(DroverHeart, 1);
    heart->worker = worker;
    heart->host = g_strdup(g_get_host_name());
    heart->started_at_ms = drover_now_ms();
    heart->copy_partitions = g_array_new(false, false, sizeof(int32_t));
    heart->source_partitions = g_array_new(false, false, sizeof(int32_t));
    g_mutex_init(&heart->lock);
    g_cond_init(&heart->cond);
    return heart;
}

/* Copies what the heartbeat needs: the task itself belongs to its handler. */
static void copy_running(DroverRunning *running, void *user_data)
{
    const DroverTask *task = drover_running_task(running);
    DroverTask *copy = g_new0(DroverTask, 1);
    copy->task_id = g_strdup(task->task_id);
    copy->attempt = task->attempt;
    g_ptr_array_add(user_data, copy);
}

static void free_task(gpointer task)
{
    drover_task_free(task);
}

/* Under the heart's lock. */
static GBytes *make_beat(DroverHeart *heart, bool stopped)
{
    DroverWorker *worker = heart->worker;
    g_autoptr(GPtrArray) running = g_ptr_array_new_with_free_func(free_task);
    drover_running_each(worker->running, copy_running, running);
    DroverWorkerHeartbeat beat = {
        .host = heart->host,
        .started_at_ms = heart->started_at_ms,
        .interval_ms = worker->heartbeat_interval_ms,
        .sequence = ++heart->sequence,
        .draining = heart->draining || stopped,
        .stopped = stopped,
        .copy_slots = worker->copy_slots,
        .source_slots = worker->source_slots,
        .copy_partitions = heart->copy_partitions,
        .source_partitions = heart->source_partitions,
        .running = running,
    };
    return drover_codec_heartbeat(&worker->name, &beat);
}

static gpointer serve(gpointer data)
{
    DroverHeart *heart = data;
    g_mutex_lock(&heart->lock);
    while (!heart->stop) {
        heart->changed = false;
        g_autoptr(GBytes) beat = make_beat(heart, false);
        g_mutex_unlock(&heart->lock);
        drover_post_loose(heart->worker->producer, TOPIC, heart->worker->name.process_id, beat);
        g_usleep(GATHER_US);
        g_mutex_lock(&heart->lock);
        int64_t next = g_get_monotonic_time() + (int64_t)heart->worker->heartbeat_interval_ms * 1000;
        while (!heart->changed && !heart->stop && g_cond_wait_until(&heart->cond, &heart->lock, next))
            ;
    }
    g_mutex_unlock(&heart->lock);
    return NULL;
}

void drover_heart_start(DroverHeart *heart)
{
    heart->thread = g_thread_new("heartbeat", serve, heart);
}

void drover_heart_now(DroverHeart *heart)
{
    g_mutex_lock(&heart->lock);
    heart->changed = true;
    g_cond_signal(&heart->cond);
    g_mutex_unlock(&heart->lock);
}

void drover_heart_set_partitions(DroverHeart *heart, const GArray *copy, const GArray *source)
{
    g_mutex_lock(&heart->lock);
    g_array_set_size(heart->copy_partitions, 0);
    g_array_append_vals(heart->copy_partitions, copy->data, copy->len);
    g_array_set_size(heart->source_partitions, 0);
    g_array_append_vals(heart->source_partitions, source->data, source->len);
    heart->changed = true;
    g_cond_signal(&heart->cond);
    g_mutex_unlock(&heart->lock);
}

void drover_heart_set_draining(DroverHeart *heart)
{
    g_mutex_lock(&heart->lock);
    heart->draining = true;
    heart->changed = true;
    g_cond_signal(&heart->cond);
    g_mutex_unlock(&heart->lock);
}

void drover_heart_free(DroverHeart *heart, bool last)
{
    if (heart == NULL)
        return;
    g_mutex_lock(&heart->lock);
    heart->stop = true;
    g_cond_signal(&heart->cond);
    g_mutex_unlock(&heart->lock);
    if (heart->thread != NULL)
        g_thread_join(heart->thread);
    if (last) {
        g_autoptr(GError) error = NULL;
        g_mutex_lock(&heart->lock);
        g_autoptr(GBytes) beat = make_beat(heart, true);
        g_mutex_unlock(&heart->lock);
        if (!drover_post(heart->worker->producer, TOPIC, heart->worker->name.process_id, beat, LAST_BEAT_MS, NULL,
                         &error))
            drover_warning("heartbeat.last_lost", error->message);
    }
    g_array_unref(heart->copy_partitions);
    g_array_unref(heart->source_partitions);
    g_mutex_clear(&heart->lock);
    g_cond_clear(&heart->cond);
    g_free(heart->host);
    g_free(heart);
}
