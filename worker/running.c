/* SPDX-License-Identifier: Apache-2.0 */
#include "worker/running.h"

#include <string.h>

#include "lib/base/error.h"
#include "lib/base/log.h"

struct DroverRunning {
    DroverTask *task;
    GCancellable *cancel;
    GMutex lock; /* the rest */
    GCond changed; /* verdict or confirmed */
    DroverVerdict verdict;
    bool confirmed;
    bool seen;
    bool has_rate;
    DroverLiveTask rate; /* numbers only */
    DroverCopy *engine;
};

struct DroverRunningTable {
    GMutex lock;
    GCond ended;
    GPtrArray *running;
    unsigned copy_slots;
    unsigned source_slots;
    bool closed;
    void (*changed)(void *user_data);
    void *user_data;
};

DroverRunningTable *drover_running_table_new(unsigned copy_slots, unsigned source_slots,
                                             void (*changed)(void *user_data), void *user_data)
{
    DroverRunningTable *table = g_new0(DroverRunningTable, 1);
    table->running = g_ptr_array_new();
    table->copy_slots = copy_slots;
    table->source_slots = source_slots;
    table->changed = changed;
    table->user_data = user_data;
    g_mutex_init(&table->lock);
    g_cond_init(&table->ended);
    return table;
}

void drover_running_table_free(DroverRunningTable *table)
{
    if (table == NULL)
        return;
    g_assert(table->running->len == 0);
    g_ptr_array_unref(table->running);
    g_mutex_clear(&table->lock);
    g_cond_clear(&table->ended);
    g_free(table);
}

/* Under the table's lock. Revokes an older attempt of the same task on the way. */
static DroverStart may_start(DroverRunningTable *table, const DroverTask *task)
{
    unsigned used = 0;
    for (guint i = 0; i < table->running->len; i++) {
        DroverRunning *other = g_ptr_array_index(table->running, i);
        used += drover_task_kind_copies(other->task->kind) == drover_task_kind_copies(task->kind);
        if (strcmp(other->task->task_id, task->task_id) != 0)
            continue;
        if (other->task->attempt == task->attempt)
            return DROVER_START_DUPLICATE;
        if (other->task->attempt > task->attempt)
            return DROVER_START_STALE;
        drover_running_set_verdict(other, DROVER_VERDICT_REVOKED);
    }
    if (table->closed)
        return DROVER_START_CLOSED;
    return used < (drover_task_kind_copies(task->kind) ? table->copy_slots : table->source_slots) ? DROVER_START_OK : DROVER_START_NO_SLOT;
}

DroverStart drover_running_start(DroverRunningTable *table, DroverTask *task, DroverRunning **running,
                                 DroverTask **keep)
{
    g_mutex_lock(&table->lock);
    DroverStart start = may_start(table, task);
    if (start == DROVER_START_OK) {
        DroverRunning *entry = g_new0(DroverRunning, 1);
        entry->task = task;
        entry->cancel = g_cancellable_new();
        entry->verdict = DROVER_VERDICT_RUN;
        g_mutex_init(&entry->lock);
        g_cond_init(&entry->changed);
        g_ptr_array_add(table->running, entry);
        *running = entry;
    }
    g_mutex_unlock(&table->lock);
    if (start == DROVER_START_OK)
        table->changed(table->user_data);
    else if (keep != NULL)
        *keep = task;
    else
        drover_task_free(task);
    return start;
}

void drover_running_end(DroverRunningTable *table, DroverRunning *running)
{
    g_mutex_lock(&table->lock);
    g_ptr_array_remove_fast(table->running, running);
    g_cond_broadcast(&table->ended);
    g_mutex_unlock(&table->lock);
    drover_task_free(running->task);
    g_object_unref(running->cancel);
    g_mutex_clear(&running->lock);
    g_cond_clear(&running->changed);
    g_free(running);
    table->changed(table->user_data);
}

void drover_running_each(DroverRunningTable *table, void (*func)(DroverRunning *running, void *user_data),
                         void *user_data)
{
    g_mutex_lock(&table->lock);
    for (guint i = 0; i < table->running->len; i++)
        func(g_ptr_array_index(table->running, i), user_data);
    g_mutex_unlock(&table->lock);
}

static void give_verdict(DroverRunning *running, void *verdict)
{
    drover_running_set_verdict(running, (DroverVerdict)GPOINTER_TO_INT(verdict));
}

void drover_running_close(DroverRunningTable *table)
{
    g_mutex_lock(&table->lock);
    table->closed = true;
    g_mutex_unlock(&table->lock);
    drover_running_each(table, give_verdict, GINT_TO_POINTER(DROVER_VERDICT_RELEASE));
}

void drover_running_revoke_all(DroverRunningTable *table)
{
    drover_running_each(table, give_verdict, GINT_TO_POINTER(DROVER_VERDICT_REVOKED));
}

bool drover_running_wait_empty(DroverRunningTable *table, int64_t deadline_us)
{
    g_mutex_lock(&table->lock);
    while (table->running->len > 0 && g_cond_wait_until(&table->ended, &table->lock, deadline_us))
        ;
    bool empty = table->running->len == 0;
    g_mutex_unlock(&table->lock);
    return empty;
}

const DroverTask *drover_running_task(const DroverRunning *running)
{
    return running->task;
}

GCancellable *drover_running_cancellable(const DroverRunning *running)
{
    return running->cancel;
}

DroverVerdict drover_running_verdict(DroverRunning *running)
{
    g_mutex_lock(&running->lock);
    DroverVerdict verdict = running->verdict;
    g_mutex_unlock(&running->lock);
    return verdict;
}

/* Under the entry's lock. */
static void apply_verdict(DroverRunning *running)
{
    if (running->verdict == DROVER_VERDICT_REVOKED) {
        g_cancellable_cancel(running->cancel);
        if (running->engine != NULL)
            drover_copy_cancel(running->engine);
    } else if (running->verdict == DROVER_VERDICT_RELEASE) {
        if (running->engine != NULL)
            drover_copy_stop(running->engine);
        else if (running->task->kind != DROVER_TASK_COPY)
            g_cancellable_cancel(running->cancel);
    }
}

void drover_running_set_verdict(DroverRunning *running, DroverVerdict verdict)
{
    g_mutex_lock(&running->lock);
    if (verdict > running->verdict) {
        running->verdict = verdict;
        g_cond_broadcast(&running->changed);
        drover_info(verdict == DROVER_VERDICT_RELEASE ? "task.release" : "task.revoked",
                    verdict == DROVER_VERDICT_RELEASE ? "The task stops at its next checkpoint"
                                                      : "The task is not ours any more",
                    F_S("task_id", running->task->task_id), F_U("attempt", running->task->attempt));
        apply_verdict(running);
    }
    g_mutex_unlock(&running->lock);
}

void drover_running_set_confirmed(DroverRunning *running)
{
    g_mutex_lock(&running->lock);
    running->confirmed = true;
    g_cond_broadcast(&running->changed);
    g_mutex_unlock(&running->lock);
}

static bool may_go_on(DroverVerdict verdict, GError **error)
{
    switch (verdict) {
    case DROVER_VERDICT_RUN:
        return true;
    case DROVER_VERDICT_RELEASE:
        return drover_fail(error, DROVER_ERROR_RETRYABLE,
                           "DRV-TASK-STOPPED: the job is paused or the worker drains; the next attempt goes on");
    case DROVER_VERDICT_REVOKED:
        break;
    }
    return drover_fail(error, DROVER_ERROR_FENCED, "DRV-FENCED: the task is not ours any more");
}

bool drover_running_wait_confirmed(DroverRunning *running, GError **error)
{
    g_mutex_lock(&running->lock);
    while (!running->confirmed && running->verdict == DROVER_VERDICT_RUN)
        g_cond_wait(&running->changed, &running->lock);
    DroverVerdict verdict = running->verdict;
    g_mutex_unlock(&running->lock);
    return may_go_on(verdict, error);
}

bool drover_running_may_go_on(DroverRunning *running, GError **error)
{
    return may_go_on(drover_running_verdict(running), error);
}

bool *drover_running_seen(DroverRunning *running)
{
    return &running->seen;
}

static void apply_rate(DroverRunning *running)
{
    if (running->engine != NULL && running->has_rate)
        drover_copy_set_rate(running->engine, running->rate.rate_bytes_per_second, running->rate.rate_ttl_ms,
                             running->rate.rate_floor_bytes_per_second);
}

void drover_running_set_rate(DroverRunning *running, const DroverLiveTask *live)
{
    if (live == NULL)
        return;
    g_mutex_lock(&running->lock);
    running->has_rate = true;
    running->rate.rate_bytes_per_second = live->rate_bytes_per_second;
    running->rate.rate_ttl_ms = live->rate_ttl_ms;
    running->rate.rate_floor_bytes_per_second = live->rate_floor_bytes_per_second;
    apply_rate(running);
    g_mutex_unlock(&running->lock);
}

void drover_running_set_engine(DroverRunning *running, DroverCopy *engine)
{
    g_mutex_lock(&running->lock);
    running->engine = engine;
    if (engine != NULL) {
        apply_rate(running);
        apply_verdict(running);
    }
    g_mutex_unlock(&running->lock);
}
