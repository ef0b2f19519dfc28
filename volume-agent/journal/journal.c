/* SPDX-License-Identifier: Apache-2.0 */
#include "volume-agent/journal/journal.h"

#include "lib/base/error.h"
#include "lib/base/log.h"

#define TIMEOUT_MS 30000
#define COMMIT_ATTEMPTS 10

/* Entries of one caller, who waits for DONE. */
typedef struct {
    DroverJournalEntry *entries;
    size_t n;
    bool done;
    bool ok;
} Batch;

struct DroverJournal {
    char *topic;
    DroverProducer *producer;
    void (*on_lost)(const GError *error);
    DroverJournalSeen seen; /* with SEEN_DATA, guarded by SEEN_LOCK */
    void *seen_data;
    GMutex seen_lock;
    GThread *thread;
    GMutex lock;
    GCond changed;
    GQueue waiting; /* Batch */
    bool stopping;
    bool lost;
};

static void free_operation(gpointer data)
{
    drover_operation_free(data);
}

static void free_export(gpointer data)
{
    drover_export_record_free(data);
}

static void free_snapshot(gpointer data)
{
    drover_snapshot_record_free(data);
}

void drover_journal_content_clear(DroverJournalContent *content)
{
    g_clear_pointer(&content->operations, g_ptr_array_unref);
    g_clear_pointer(&content->exports, g_ptr_array_unref);
    g_clear_pointer(&content->snapshots, g_ptr_array_unref);
}

/* ---- reading -------------------------------------------------------------------------------------------------- */

typedef struct {
    GHashTable *operations; /* key -> DroverOperation */
    GHashTable *exports;    /* key -> DroverExportRecord */
    GHashTable *snapshots;  /* key -> DroverSnapshotRecord */
    int64_t draining_since_ms;
    int64_t drained_until_ms;
    int64_t next_offset;
} Loaded;

static void load_record(Loaded *loaded, const DroverRecord *record)
{
    if (!record->key)
        return;
    if (!record->value) {
        g_hash_table_remove(loaded->operations, record->key);
        g_hash_table_remove(loaded->exports, record->key);
        g_hash_table_remove(loaded->snapshots, record->key);
        return;
    }
    Drover__V1__JournalRecord *value = drover__v1__journal_record__unpack(NULL, record->len, record->value);
    if (!value) {
        drover_error("journal.unreadable", "A journal record cannot be read and is skipped", F_S("key", record->key),
                     F_I("offset", record->offset));
        return;
    }
    if (value->record_case == DROVER__V1__JOURNAL_RECORD__RECORD_OPERATION) {
        DroverOperation *operation = drover_operation_unpack(value->operation);
        if (operation)
            g_hash_table_replace(loaded->operations, g_strdup(record->key), operation);
    } else if (value->record_case == DROVER__V1__JOURNAL_RECORD__RECORD_EXPORT) {
        g_hash_table_replace(loaded->exports, g_strdup(record->key), drover_export_record_unpack(value->export));
    } else if (value->record_case == DROVER__V1__JOURNAL_RECORD__RECORD_SNAPSHOT) {
        g_hash_table_replace(loaded->snapshots, g_strdup(record->key), drover_snapshot_record_unpack(value->snapshot));
    } else if (value->record_case == DROVER__V1__JOURNAL_RECORD__RECORD_DRAIN) {
        loaded->draining_since_ms = value->drain->since_ms;
        loaded->drained_until_ms = value->drain->until_ms;
    } else if (value->record_case == DROVER__V1__JOURNAL_RECORD__RECORD_OFFSET) {
        loaded->next_offset = value->offset->next_offset;
    }
    drover__v1__journal_record__free_unpacked(value, NULL);
}

static gint by_sequence(gconstpointer a, gconstpointer b)
{
    const DroverOperation *x = *(DroverOperation *const *)a, *y = *(DroverOperation *const *)b;
    return (x->sequence > y->sequence) - (x->sequence < y->sequence);
}

static GPtrArray *take_values(GHashTable *table, GDestroyNotify free_value)
{
    GPtrArray *out = g_ptr_array_new_with_free_func(free_value);
    GHashTableIter iter;
    gpointer key, value;
    g_hash_table_iter_init(&iter, table);
    while (g_hash_table_iter_next(&iter, &key, &value)) {
        g_ptr_array_add(out, value);
        g_hash_table_iter_steal(&iter);
        g_free(key);
    }
    return out;
}

static bool load(const DroverKafka *kafka, const char *topic, DroverJournalContent *content, GError **error)
{
    g_autoptr(DroverConsumer) consumer = drover_consumer_new_manual(kafka, error);
    if (!consumer || !drover_consumer_assign_topic(consumer, topic, DROVER_OFFSET_BEGINNING, TIMEOUT_MS, error))
        return false;
    g_autoptr(GHashTable) operations = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, free_operation);
    g_autoptr(GHashTable) exports = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, free_export);
    g_autoptr(GHashTable) snapshots = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, free_snapshot);
    Loaded loaded = {operations, exports, snapshots, 0, 0, -1};
    gint64 deadline = g_get_monotonic_time() + 10 * (gint64)TIMEOUT_MS * 1000;
    while (!drover_consumer_at_end(consumer)) {
        g_autoptr(GError) failure = NULL;
        g_autoptr(DroverRecord) record = drover_consumer_poll(consumer, 200, &failure);
        if (record)
            load_record(&loaded, record);
        else if (failure && drover_error_class(failure) != DROVER_ERROR_RETRYABLE) {
            g_propagate_error(error, g_steal_pointer(&failure));
            return false;
        } else if (g_get_monotonic_time() > deadline)
            return drover_fail(error, DROVER_ERROR_RETRYABLE, "The journal %s cannot be read to its end", topic);
    }
    content->operations = take_values(operations, free_operation);
    g_ptr_array_sort(content->operations, by_sequence);
    content->exports = take_values(exports, free_export);
    content->snapshots = take_values(snapshots, free_snapshot);
    content->draining_since_ms = loaded.draining_since_ms;
    content->drained_until_ms = loaded.drained_until_ms;
    content->next_offset = loaded.next_offset;
    return true;
}

/* ---- writing -------------------------------------------------------------------------------------------------- */

static bool write_once(DroverJournal *journal, GPtrArray *batches, GError **error)
{
    if (!drover_producer_begin(journal->producer, error))
        return false;
    for (guint i = 0; i < batches->len; i++) {
        const Batch *batch = g_ptr_array_index(batches, i);
        for (size_t e = 0; e < batch->n; e++) {
            gsize len = 0;
            const void *data = batch->entries[e].value ? g_bytes_get_data(batch->entries[e].value, &len) : NULL;
            g_autoptr(GError) why = NULL;
            if (!drover_producer_send(journal->producer, journal->topic, 0, batch->entries[e].key, data, len, NULL, NULL, &why)) {
                if (!drover_producer_abort(journal->producer, TIMEOUT_MS, error))
                    return false;
                g_propagate_error(error, g_steal_pointer(&why));
                return false;
            }
        }
    }
    return drover_producer_commit(journal->producer, TIMEOUT_MS, error);
}

/* An aborted transaction left nothing behind: it is simply written again. */
static bool write_batches(DroverJournal *journal, GPtrArray *batches, GError **error)
{
    for (int attempt = 1;; attempt++) {
        g_autoptr(GError) why = NULL;
        if (write_once(journal, batches, &why))
            return true;
        if (drover_error_class(why) != DROVER_ERROR_RETRYABLE || attempt == COMMIT_ATTEMPTS) {
            g_propagate_error(error, g_steal_pointer(&why));
            return false;
        }
        drover_warning("journal.retry", why->message, F_I("attempt", attempt));
        g_usleep((gulong)attempt * 100000);
    }
}

static void tell(DroverJournal *journal, const GPtrArray *batches)
{
    g_mutex_lock(&journal->seen_lock);
    for (guint i = 0; journal->seen && i < batches->len; i++) {
        const Batch *batch = g_ptr_array_index(batches, i);
        for (size_t e = 0; e < batch->n; e++)
            journal->seen(journal->seen_data, batch->entries[e].key, batch->entries[e].value);
    }
    g_mutex_unlock(&journal->seen_lock);
}

void drover_journal_observe(DroverJournal *journal, DroverJournalSeen seen, void *data)
{
    g_mutex_lock(&journal->seen_lock);
    journal->seen = seen;
    journal->seen_data = data;
    g_mutex_unlock(&journal->seen_lock);
}

static gpointer serve(gpointer data)
{
    DroverJournal *journal = data;
    g_mutex_lock(&journal->lock);
    for (;;) {
        while (!journal->stopping && g_queue_is_empty(&journal->waiting))
            g_cond_wait(&journal->changed, &journal->lock);
        if (g_queue_is_empty(&journal->waiting))
            break;
        g_autoptr(GPtrArray) batches = g_ptr_array_new();
        for (Batch *batch; (batch = g_queue_pop_head(&journal->waiting));)
            g_ptr_array_add(batches, batch);
        bool lost = journal->lost;
        g_mutex_unlock(&journal->lock);
        g_autoptr(GError) error = NULL;
        bool ok = !lost && write_batches(journal, batches, &error);
        if (!ok && !lost)
            journal->on_lost(error);
        if (ok)
            tell(journal, batches);
        g_mutex_lock(&journal->lock);
        journal->lost = !ok;
        for (guint i = 0; i < batches->len; i++) {
            Batch *batch = g_ptr_array_index(batches, i);
            batch->ok = ok;
            batch->done = true;
        }
        g_cond_broadcast(&journal->changed);
    }
    g_mutex_unlock(&journal->lock);
    return NULL;
}

bool drover_journal_write(DroverJournal *journal, DroverJournalEntry *entries, size_t n)
{
    Batch batch = {.entries = entries, .n = n};
    g_mutex_lock(&journal->lock);
    g_queue_push_tail(&journal->waiting, &batch);
    g_cond_broadcast(&journal->changed);
    while (!batch.done)
        g_cond_wait(&journal->changed, &journal->lock);
    g_mutex_unlock(&journal->lock);
    for (size_t i = 0; i < n; i++) {
        g_free(entries[i].key);
        if (entries[i].value)
            g_bytes_unref(entries[i].value);
    }
    return batch.ok;
}

DroverJournal *drover_journal_open(const DroverKafka *kafka, const char *agent, void (*lost)(const GError *error),
                                   DroverJournalContent *content, GError **error)
{
    g_autofree char *topic = g_strconcat("drover.journal.", agent, NULL);
    g_autofree char *id = g_strconcat("agent.", agent, NULL);
    /* Fence first, read then: nothing can be written any more by whoever came before. */
    g_autoptr(DroverProducer) producer = drover_producer_new_transactional(kafka, id, TIMEOUT_MS, error);
    if (!producer || !load(kafka, topic, content, error))
        return NULL;
    DroverJournal *journal = g_new0(DroverJournal, 1);
    journal->topic = g_steal_pointer(&topic);
    journal->producer = g_steal_pointer(&producer);
    journal->on_lost = lost;
    g_mutex_init(&journal->lock);
    g_mutex_init(&journal->seen_lock);
    g_cond_init(&journal->changed);
    g_queue_init(&journal->waiting);
    journal->thread = g_thread_new("journal", serve, journal);
    return journal;
}

void drover_journal_close(DroverJournal *journal)
{
    if (!journal)
        return;
    g_mutex_lock(&journal->lock);
    journal->stopping = true;
    g_cond_broadcast(&journal->changed);
    g_mutex_unlock(&journal->lock);
    g_thread_join(journal->thread);
    drover_producer_free(journal->producer);
    g_mutex_clear(&journal->lock);
    g_mutex_clear(&journal->seen_lock);
    g_cond_clear(&journal->changed);
    g_free(journal->topic);
    g_free(journal);
}
