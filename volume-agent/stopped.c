/* SPDX-License-Identifier: Apache-2.0 */
#include "volume-agent/stopped.h"

#include <stdatomic.h>

#include "drover/v1/control.pb-c.h"
#include "lib/base/log.h"

struct DroverStopped {
    DroverConsumer *consumer;
    GThread *thread;
    atomic_bool end;
    GMutex lock;
    GHashTable *versions; /* job id -> uint64_t, newest seen */
    GHashTable *jobs;     /* set of stopped job ids */
};

static void apply(DroverStopped *stopped, const DroverRecord *record)
{
    if (!record->key || !record->value) {
        if (record->key) {
            g_mutex_lock(&stopped->lock);
            g_hash_table_remove(stopped->jobs, record->key);
            g_hash_table_remove(stopped->versions, record->key);
            g_mutex_unlock(&stopped->lock);
        }
        return;
    }
    Drover__V1__ControlRecord *control = drover__v1__control_record__unpack(NULL, record->len, record->value);
    if (!control || control->record_case != DROVER__V1__CONTROL_RECORD__RECORD_JOB) {
        if (control)
            drover__v1__control_record__free_unpacked(control, NULL);
        return;
    }
    const char *job_id = control->job->job_id;
    g_mutex_lock(&stopped->lock);
    const uint64_t *known = g_hash_table_lookup(stopped->versions, job_id);
    if (!known || *known <= control->version) {
        g_hash_table_replace(stopped->versions, g_strdup(job_id), g_memdup2(&control->version, sizeof control->version));
        if (control->job->desired == DROVER__V1__DESIRED_STATE__DESIRED_STATE_STOP)
            g_hash_table_add(stopped->jobs, g_strdup(job_id));
        else
            g_hash_table_remove(stopped->jobs, job_id);
    }
    g_mutex_unlock(&stopped->lock);
    drover__v1__control_record__free_unpacked(control, NULL);
}

static gpointer follow(gpointer data)
{
    DroverStopped *stopped = data;
    while (!atomic_load(&stopped->end)) {
        g_autoptr(GError) error = NULL;
        g_autoptr(DroverRecord) record = drover_consumer_poll(stopped->consumer, 200, &error);
        if (record)
            apply(stopped, record);
        else if (error)
            drover_debug("control.read", error->message);
    }
    return NULL;
}

DroverStopped *drover_stopped_start(const DroverKafka *kafka, GError **error)
{
    g_autoptr(DroverConsumer) consumer = drover_consumer_new_manual(kafka, error);
    if (!consumer || !drover_consumer_assign_topic(consumer, "drover.control", DROVER_OFFSET_BEGINNING, 30000, error))
        return NULL;
    DroverStopped *stopped = g_new0(DroverStopped, 1);
    stopped->consumer = g_steal_pointer(&consumer);
    stopped->versions = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    stopped->jobs = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    g_mutex_init(&stopped->lock);
    stopped->thread = g_thread_new("control", follow, stopped);
    return stopped;
}

void drover_stopped_free(DroverStopped *stopped)
{
    if (!stopped)
        return;
    atomic_store(&stopped->end, true);
    g_thread_join(stopped->thread);
    drover_consumer_free(stopped->consumer);
    g_hash_table_unref(stopped->versions);
    g_hash_table_unref(stopped->jobs);
    g_mutex_clear(&stopped->lock);
    g_free(stopped);
}

bool drover_stopped_has(DroverStopped *stopped, const char *job_id)
{
    g_mutex_lock(&stopped->lock);
    bool has = g_hash_table_contains(stopped->jobs, job_id);
    g_mutex_unlock(&stopped->lock);
    return has;
}
