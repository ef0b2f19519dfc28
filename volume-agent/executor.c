/* SPDX-License-Identifier: Apache-2.0 */
#include "volume-agent/executor.h"

#include <string.h>

#include "lib/base/error.h"
#include "lib/base/ids.h"
#include "lib/base/log.h"
#include "volume-agent/device/serial.h"
#include "volume-agent/operations/call.h"
#include "volume-agent/operations/operations.h"
#include "volume-agent/preflight/preflight.h"

#define THREADS 8
#define PRUNE_BATCH 500
#define BACKOFF_FIRST_MS 300
#define BACKOFF_MAX_MS 10000

struct DroverExecutor {
    const DroverOpContext *context;
    DroverExecutorLimits limits;
    GThreadPool *pool;
    GMutex lock;
    GHashTable *by_id; /* operation id -> DroverOperation, owned */
    GPtrArray *open;   /* DroverOperation, not ended, by sequence */
    uint64_t sequence;
};

static void operation_free(gpointer data)
{
    drover_operation_free(data);
}

static bool same(const char *a, const char *b)
{
    return *a && strcmp(a, b) == 0;
}

/* OPERATION changes the VM or volume ID, as far as is known by now. */
static bool touches(const DroverExecutor *executor, const DroverOperation *operation, const char *id)
{
    return same(drover_operation_volume_id(operation), id) || same(drover_operation_vm_id(operation), id) ||
           (drover_operation_uses_appliance(operation) && same(executor->context->appliance_vm_id, id)) ||
           (operation->claims && g_ptr_array_find_with_equal_func(operation->claims, id, g_str_equal, NULL));
}

static bool conflicts(const DroverExecutor *executor, const DroverOperation *a, const DroverOperation *b)
{
    if (same(a->asked->job_id, b->asked->job_id) || touches(executor, a, drover_operation_volume_id(b)) ||
        touches(executor, a, drover_operation_vm_id(b)) ||
        (drover_operation_uses_appliance(b) && touches(executor, a, executor->context->appliance_vm_id)))
        return true;
    for (guint i = 0; b->claims && i < b->claims->len; i++)
        if (touches(executor, a, g_ptr_array_index(b->claims, i)))
            return true;
    return false;
}

/* Nothing before it that is open, and nothing behind it that is running, touches the same. */
static bool is_due(const DroverExecutor *executor, guint index)
{
    const DroverOperation *operation = g_ptr_array_index(executor->open, index);
    if (operation->running)
        return false;
    for (guint i = 0; i < executor->open->len; i++) {
        const DroverOperation *other = g_ptr_array_index(executor->open, i);
        if (i != index && (i < index || other->running) && conflicts(executor, other, operation))
            return false;
    }
    return true;
}

/* Called with the lock held. */
static void start_due(DroverExecutor *executor)
{
    for (guint i = 0; i < executor->open->len && !executor->context->stopping(); i++) {
        DroverOperation *operation = g_ptr_array_index(executor->open, i);
        if (!is_due(executor, i))
            continue;
        operation->running = true;
        g_thread_pool_push(executor->pool, operation, NULL);
    }
}

/* One attempt. */
static bool attempt(const DroverOpContext *context, DroverOperation *operation, GError **error)
{
    if (operation->asked->operation_case == DROVER__V1__VOLUME_OPERATION__OPERATION_PREFLIGHT_TARGET)
        return drover_op_preflight_target(context, operation, error);
    return drover_op_settle(context, operation, error) && drover_op_run(context, operation, error);
}

/* What came last counts; what came first explains it. */
static GError *conclude(const GError *last, const GError *first, unsigned attempts)
{
    GError *error = g_error_copy(last);
    if (attempts < 2 || strcmp(last->message, first->message) == 0)
        return error;
    g_autofree char *message = error->message;
    error->message = g_strdup_printf("%s (attempt %u; the first failed with: %s)", message, attempts, first->message);
    return error;
}

/*
 * True when it has ended, with ERROR when it failed; false when the process drains, or when it yields.
 * Attempts count only while CloudStack can be reached: its restart must not fail a migration. And nothing fails while a call
 * may still take effect: whoever undoes it next would look too early, and the effect would stay.
 */
static bool run_to_the_end(DroverExecutor *executor, DroverOperation *operation, GError **error)
{
    const DroverOpContext *context = executor->context;
    unsigned limit = executor->limits.attempts * (operation->asked->undo ? 2 : 1);
    int64_t give_up_ms = drover_boottime_ms() + executor->limits.outage_ms;
    int64_t pause_ms = BACKOFF_FIRST_MS;
    g_autoptr(GError) first = NULL;
    for (unsigned attempts = 1, counted = 0;; attempts++) {
        g_autoptr(GError) why = NULL;
        if (attempt(context, operation, &why))
            return true;
        if (context->stopping() || operation->yields)
            return false;
        if (!first)
            first = g_error_copy(why);
        counted += !drover_cloudstack_is_down(why);
        bool enough = drover_boottime_ms() > give_up_ms || (counted >= limit && drover_op_is_settled(operation));
        if (enough || drover_error_class(why) != DROVER_ERROR_RETRYABLE) {
            g_propagate_error(error, conclude(why, first, attempts));
            return true;
        }
        drover_warning("operation.retry", why->message, F_S("operation_id", operation->asked->operation_id),
                       F_S("kind", drover_operation_kind(operation)), F_U("attempt", attempts));
        if (!drover_op_sleep(context, pause_ms + g_random_int_range(0, (gint32)pause_ms), NULL))
            return false;
        pause_ms = MIN(pause_ms * 2, BACKOFF_MAX_MS);
    }
}

static void execute(gpointer data, gpointer user_data)
{
    DroverOperation *operation = data;
    DroverExecutor *executor = user_data;
    g_autoptr(GError) error = NULL;
    bool ended = !executor->context->stopping() && run_to_the_end(executor, operation, &error);
    if (ended) {
        operation->state = error ? DROVER__V1__OPERATION_STATE__OPERATION_STATE_FAILED
                                 : DROVER__V1__OPERATION_STATE__OPERATION_STATE_DONE;
        operation->error_class = error ? (int)drover_error_class(error) : 0;
        drover_set_text(&operation->error_message, error ? error->message : NULL);
        const DroverField about[] = {F_S("operation_id", operation->asked->operation_id),
                                     F_S("job_id", operation->asked->job_id),
                                     F_S("kind", drover_operation_kind(operation)), {0}};
        drover_log_emit(error ? DROVER_LOG_ERROR : DROVER_LOG_INFO, error ? "operation.failed" : "operation.done",
                        error ? error->message : "Operation is done", about);
        g_autoptr(GError) lost = NULL;
        ended = drover_op_journal(executor->context, operation, &lost);
    }
    g_mutex_lock(&executor->lock);
    if (ended)
        g_ptr_array_remove(executor->open, operation);
    operation->running = operation->yields = false;
    start_due(executor);
    g_mutex_unlock(&executor->lock);
}

DroverExecutor *drover_executor_new(const DroverOpContext *context, const DroverExecutorLimits *limits, GPtrArray *operations)
{
    DroverExecutor *executor = g_new0(DroverExecutor, 1);
    executor->context = context;
    executor->limits = *limits;
    g_mutex_init(&executor->lock);
    executor->by_id = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, operation_free);
    executor->open = g_ptr_array_new();
    executor->pool = g_thread_pool_new(execute, executor, THREADS, FALSE, NULL);
    while (operations->len > 0) {
        DroverOperation *operation = g_ptr_array_steal_index(operations, 0);
        executor->sequence = MAX(executor->sequence, operation->sequence);
        g_hash_table_replace(executor->by_id, operation->asked->operation_id, operation);
        if (!drover_operation_is_ended(operation))
            g_ptr_array_add(executor->open, operation);
    }
    return executor;
}

bool drover_executor_claim(void *data, DroverOperation *operation, const char *id)
{
    DroverExecutor *executor = data;
    g_mutex_lock(&executor->lock);
    for (guint i = 0; i < executor->open->len && !operation->yields; i++) {
        const DroverOperation *other = g_ptr_array_index(executor->open, i);
        operation->yields = other != operation && other->running && touches(executor, other, id);
    }
    drover_operation_add_claim(operation, id);
    bool granted = !operation->yields;
    g_mutex_unlock(&executor->lock);
    return granted;
}

static gint by_sequence(gconstpointer a, gconstpointer b)
{
    const DroverOperation *x = *(DroverOperation *const *)a, *y = *(DroverOperation *const *)b;
    return x->sequence < y->sequence ? -1 : x->sequence > y->sequence;
}

/* Called with the lock held. One that is in the open list still has its thread. */
static bool is_over(const DroverExecutor *executor, const DroverOperation *operation)
{
    return drover_operation_is_ended(operation) && !g_ptr_array_find(executor->open, operation, NULL);
}

GPtrArray *drover_executor_ended(void *data)
{
    DroverExecutor *executor = data;
    GPtrArray *out = g_ptr_array_new_with_free_func(operation_free);
    GHashTableIter iter;
    gpointer value;
    g_mutex_lock(&executor->lock);
    g_hash_table_iter_init(&iter, executor->by_id);
    while (g_hash_table_iter_next(&iter, NULL, &value))
        if (is_over(executor, value))
            g_ptr_array_add(out, drover_operation_copy(value));
    g_mutex_unlock(&executor->lock);
    g_ptr_array_sort(out, by_sequence);
    return out;
}

bool drover_executor_prune(DroverExecutor *executor, const GPtrArray *ids)
{
    for (guint begin = 0; begin < ids->len; begin += PRUNE_BATCH) {
        guint n = MIN(PRUNE_BATCH, ids->len - begin);
        g_autofree DroverJournalEntry *entries = g_new0(DroverJournalEntry, n);
        for (guint i = 0; i < n; i++)
            entries[i].key = g_strconcat("op/", (const char *)g_ptr_array_index(ids, begin + i), NULL);
        if (!drover_journal_write(executor->context->journal, entries, n))
            return false;
        g_mutex_lock(&executor->lock);
        for (guint i = 0; i < n; i++) {
            const char *id = g_ptr_array_index(ids, begin + i);
            const DroverOperation *operation = g_hash_table_lookup(executor->by_id, id);
            if (operation && is_over(executor, operation))
                g_hash_table_remove(executor->by_id, id);
        }
        g_mutex_unlock(&executor->lock);
    }
    return true;
}

void drover_executor_start(DroverExecutor *executor)
{
    g_mutex_lock(&executor->lock);
    start_due(executor);
    g_mutex_unlock(&executor->lock);
}

void drover_executor_free(DroverExecutor *executor)
{
    if (!executor)
        return;
    g_thread_pool_free(executor->pool, FALSE, TRUE);
    g_ptr_array_unref(executor->open);
    g_hash_table_unref(executor->by_id);
    g_mutex_clear(&executor->lock);
    g_free(executor);
}

bool drover_executor_knows(DroverExecutor *executor, const char *operation_id)
{
    g_mutex_lock(&executor->lock);
    bool known = g_hash_table_contains(executor->by_id, operation_id);
    g_mutex_unlock(&executor->lock);
    return known;
}

bool drover_executor_is_busy(void *data)
{
    DroverExecutor *executor = data;
    bool busy = false;
    g_mutex_lock(&executor->lock);
    for (guint i = 0; i < executor->open->len && !busy; i++) {
        const DroverOperation *operation = g_ptr_array_index(executor->open, i);
        busy = operation->asked->operation_case != DROVER__V1__VOLUME_OPERATION__OPERATION_DRAIN_APPLIANCE &&
               operation->asked->operation_case != DROVER__V1__VOLUME_OPERATION__OPERATION_FORCE_SYNC;
    }
    g_mutex_unlock(&executor->lock);
    return busy;
}

bool drover_executor_plugged(void *data, const char *serial)
{
    DroverExecutor *executor = data;
    bool plugged = false;
    GHashTableIter iter;
    gpointer value;
    g_mutex_lock(&executor->lock);
    g_hash_table_iter_init(&iter, executor->by_id);
    while (!plugged && g_hash_table_iter_next(&iter, NULL, &value)) {
        const char *volume_id = drover_operation_volume_id(value);
        char of_volume[DROVER_VOLUME_SERIAL_LEN + 1];
        if (!drover_operation_uses_appliance(value) || !*volume_id)
            continue;
        drover_volume_serial(volume_id, of_volume);
        plugged = strcmp(of_volume, serial) == 0;
    }
    g_mutex_unlock(&executor->lock);
    return plugged;
}

uint64_t drover_executor_next_sequence(DroverExecutor *executor)
{
    g_mutex_lock(&executor->lock);
    uint64_t sequence = ++executor->sequence;
    g_mutex_unlock(&executor->lock);
    return sequence;
}

void drover_executor_add(DroverExecutor *executor, DroverOperation *operation)
{
    g_mutex_lock(&executor->lock);
    g_hash_table_replace(executor->by_id, operation->asked->operation_id, operation);
    g_ptr_array_add(executor->open, operation);
    start_due(executor);
    g_mutex_unlock(&executor->lock);
}
