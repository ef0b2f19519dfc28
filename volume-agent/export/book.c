/* SPDX-License-Identifier: Apache-2.0 */
#include "volume-agent/export/book.h"

#include <string.h>

#include "lib/base/error.h"
#include "lib/base/ids.h"
#include "lib/base/log.h"

struct DroverExportBook {
    DroverJournal *journal;
    DroverNbdServer *server;
    GMutex lock;
    GHashTable *records; /* volume id -> DroverExportRecord */
};

static void record_free(gpointer data)
{
    drover_export_record_free(data);
}

DroverExportBook *drover_export_book_new(DroverJournal *journal, DroverNbdServer *server)
{
    DroverExportBook *book = g_new0(DroverExportBook, 1);
    book->journal = journal;
    book->server = server;
    book->records = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, record_free);
    g_mutex_init(&book->lock);
    return book;
}

void drover_export_book_free(DroverExportBook *book)
{
    if (!book)
        return;
    g_hash_table_unref(book->records);
    g_mutex_clear(&book->lock);
    g_free(book);
}

static void remember(DroverExportBook *book, const DroverExportRecord *record)
{
    DroverExportRecord *copy = drover_export_record_copy(record);
    g_mutex_lock(&book->lock);
    g_hash_table_replace(book->records, copy->volume_id, copy);
    g_mutex_unlock(&book->lock);
}

static bool open_at_server(DroverExportBook *book, const DroverExportRecord *record, GError **error)
{
    const DroverExport export = {record->volume_id, record->generation, record->token, record->device_path,
                                 record->size_bytes};
    return drover_nbd_server_open(book->server, &export, error);
}

void drover_export_book_restore(DroverExportBook *book, GPtrArray *records)
{
    for (guint i = 0; i < records->len; i++) {
        const DroverExportRecord *record = g_ptr_array_index(records, i);
        remember(book, record);
        g_autoptr(GError) error = NULL;
        if (record->writable && *record->device_path && !open_at_server(book, record, &error))
            drover_error("export.restore_failed", error->message, F_S("volume_id", record->volume_id),
                         F_S("job_id", record->job_id));
    }
}

static bool journal_record(DroverExportBook *book, const char *volume_id, const DroverExportRecord *record, GError **error)
{
    DroverJournalEntry entry = {g_strconcat("export/", volume_id, NULL), record ? drover_export_record_pack(record) : NULL};
    if (drover_journal_write(book->journal, &entry, 1))
        return true;
    return drover_fail(error, DROVER_ERROR_FATAL, "The journal of this agent is lost");
}

bool drover_export_book_open(DroverExportBook *book, const DroverExportRecord *record, char **token, GError **error)
{
    g_autoptr(DroverExportRecord) known = drover_export_book_find(book, record->volume_id);
    if (known && (known->generation > record->generation || (known->generation == record->generation && !known->writable)))
        return drover_fail(error, DROVER_ERROR_FENCED,
                           "Volume %s: generation %" G_GUINT64_FORMAT " is over, the newest is %" G_GUINT64_FORMAT,
                           record->volume_id, record->generation, known->generation);
    g_autoptr(DroverExportRecord) opened = drover_export_record_copy(record);
    g_free(opened->token);
    bool same = known && known->generation == record->generation;
    opened->token = same ? g_strdup(known->token) : drover_token_new();
    opened->writable = true;
    if (!journal_record(book, opened->volume_id, opened, error))
        return false;
    remember(book, opened);
    if (!open_at_server(book, opened, error))
        return false;
    *token = g_strdup(opened->token);
    return true;
}

bool drover_export_book_close(DroverExportBook *book, const char *volume_id, uint64_t generation, GError **error)
{
    if (!drover_nbd_server_close(book->server, volume_id, generation, error))
        return false;
    g_autoptr(DroverExportRecord) known = drover_export_book_find(book, volume_id);
    if (!known || known->generation > generation || !known->writable)
        return true;
    known->writable = false;
    if (!journal_record(book, volume_id, known, error))
        return false;
    remember(book, known);
    return true;
}

bool drover_export_book_forget(DroverExportBook *book, const char *volume_id, GError **error)
{
    g_autoptr(DroverExportRecord) known = drover_export_book_find(book, volume_id);
    if (!known)
        return true;
    if (!drover_nbd_server_close(book->server, volume_id, known->generation, error) ||
        !journal_record(book, volume_id, NULL, error))
        return false;
    g_mutex_lock(&book->lock);
    g_hash_table_remove(book->records, volume_id);
    g_mutex_unlock(&book->lock);
    return true;
}

GArray *drover_export_book_served(DroverExportBook *book, GError **error)
{
    return drover_nbd_server_stat(book->server, error);
}

bool drover_export_book_reopen(DroverExportBook *book, const char *volume_id, const char *path, GError **error)
{
    g_autoptr(DroverExportRecord) known = drover_export_book_find(book, volume_id);
    if (!known || !known->writable)
        return true;
    bool moved = strcmp(known->device_path, path) != 0;
    drover_set_text(&known->device_path, path);
    if (moved && !journal_record(book, volume_id, known, error))
        return false;
    if (moved)
        remember(book, known);
    return open_at_server(book, known, error);
}

bool drover_export_book_end(DroverExportBook *book, const char *volume_id, uint64_t generation, GError **error)
{
    return drover_nbd_server_close(book->server, volume_id, generation, error);
}

DroverExportRecord *drover_export_book_find(DroverExportBook *book, const char *volume_id)
{
    g_mutex_lock(&book->lock);
    const DroverExportRecord *known = g_hash_table_lookup(book->records, volume_id);
    DroverExportRecord *copy = known ? drover_export_record_copy(known) : NULL;
    g_mutex_unlock(&book->lock);
    return copy;
}

GPtrArray *drover_export_book_list(DroverExportBook *book)
{
    GPtrArray *out = g_ptr_array_new_with_free_func(record_free);
    g_mutex_lock(&book->lock);
    GHashTableIter iter;
    gpointer value;
    g_hash_table_iter_init(&iter, book->records);
    while (g_hash_table_iter_next(&iter, NULL, &value))
        g_ptr_array_add(out, drover_export_record_copy(value));
    g_mutex_unlock(&book->lock);
    return out;
}
