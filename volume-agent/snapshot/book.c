/* SPDX-License-Identifier: Apache-2.0 */
#include "volume-agent/snapshot/book.h"

#include <string.h>

#include "lib/base/error.h"

struct DroverSnapshotBook {
    DroverJournal *journal;
    GMutex lock;
    GHashTable *records; /* snapshot id -> DroverSnapshotRecord */
};

static void record_free(gpointer data)
{
    drover_snapshot_record_free(data);
}

static void remember(DroverSnapshotBook *book, const DroverSnapshotRecord *record)
{
    DroverSnapshotRecord *copy = drover_snapshot_record_copy(record);
    g_mutex_lock(&book->lock);
    g_hash_table_replace(book->records, copy->snapshot_id, copy);
    g_mutex_unlock(&book->lock);
}

DroverSnapshotBook *drover_snapshot_book_new(DroverJournal *journal, GPtrArray *records)
{
    DroverSnapshotBook *book = g_new0(DroverSnapshotBook, 1);
    book->journal = journal;
    g_mutex_init(&book->lock);
    book->records = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, record_free);
    for (guint i = 0; records && i < records->len; i++)
        remember(book, g_ptr_array_index(records, i));
    return book;
}

void drover_snapshot_book_free(DroverSnapshotBook *book)
{
    if (!book)
        return;
    g_hash_table_unref(book->records);
    g_mutex_clear(&book->lock);
    g_free(book);
}

static bool journal_record(DroverSnapshotBook *book, const char *snapshot_id,
                           const DroverSnapshotRecord *record, GError **error)
{
    DroverJournalEntry entry = {g_strconcat("snapshot/", snapshot_id, NULL),
                                record ? drover_snapshot_record_pack(record) : NULL};
    if (drover_journal_write(book->journal, &entry, 1))
        return true;
    return drover_fail(error, DROVER_ERROR_FATAL, "The journal of this agent is lost");
}

bool drover_snapshot_book_put(DroverSnapshotBook *book, const DroverSnapshotRecord *record, GError **error)
{
    if (!journal_record(book, record->snapshot_id, record, error))
        return false;
    remember(book, record);
    return true;
}

bool drover_snapshot_book_remove(DroverSnapshotBook *book, const char *snapshot_id, GError **error)
{
    g_autoptr(DroverSnapshotRecord) known = drover_snapshot_book_find(book, snapshot_id);
    if (!known)
        return true;
    if (!journal_record(book, snapshot_id, NULL, error))
        return false;
    g_mutex_lock(&book->lock);
    g_hash_table_remove(book->records, snapshot_id);
    g_mutex_unlock(&book->lock);
    return true;
}

DroverSnapshotRecord *drover_snapshot_book_find(DroverSnapshotBook *book, const char *snapshot_id)
{
    g_mutex_lock(&book->lock);
    const DroverSnapshotRecord *known = g_hash_table_lookup(book->records, snapshot_id);
    DroverSnapshotRecord *copy = known ? drover_snapshot_record_copy(known) : NULL;
    g_mutex_unlock(&book->lock);
    return copy;
}

static gint by_time(gconstpointer a, gconstpointer b)
{
    const DroverSnapshotRecord *x = *(DroverSnapshotRecord *const *)a, *y = *(DroverSnapshotRecord *const *)b;
    if (x->created_at_ms != y->created_at_ms)
        return x->created_at_ms > y->created_at_ms ? 1 : -1;
    return strcmp(x->snapshot_id, y->snapshot_id);
}

static bool matches(const char *wanted, const char *value)
{
    return !wanted || !*wanted || strcmp(wanted, value) == 0;
}

GPtrArray *drover_snapshot_book_list(DroverSnapshotBook *book, const char *volume_id, const char *vm_id)
{
    GPtrArray *out = g_ptr_array_new_with_free_func(record_free);
    g_mutex_lock(&book->lock);
    GHashTableIter iter;
    gpointer value;
    g_hash_table_iter_init(&iter, book->records);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        const DroverSnapshotRecord *record = value;
        if (matches(volume_id, record->volume_id) && matches(vm_id, record->vm_id))
            g_ptr_array_add(out, drover_snapshot_record_copy(record));
    }
    g_mutex_unlock(&book->lock);
    g_ptr_array_sort(out, by_time);
    return out;
}
