/* SPDX-License-Identifier: Apache-2.0 */
#include "scheduler/outbox.h"

#include "lib/base/log.h"

typedef struct {
    DroverRecord *record;
    char *reason;
} Letter;

static void record_free(void *data)
{
    OutboxRecord *record = data;
    g_free(record->topic);
    g_free(record->key);
    g_clear_pointer(&record->value, g_bytes_unref);
    g_free(record);
}

static void letter_free(void *data)
{
    Letter *letter = data;
    drover_record_free(letter->record);
    g_free(letter->reason);
    g_free(letter);
}

Outbox *outbox_new(void)
{
    Outbox *outbox = g_new0(Outbox, 1);
    outbox->records = g_ptr_array_new_with_free_func(record_free);
    outbox->letters = g_ptr_array_new_with_free_func(letter_free);
    return outbox;
}

void outbox_free(Outbox *outbox)
{
    if (outbox == NULL)
        return;
    g_ptr_array_unref(outbox->records);
    g_ptr_array_unref(outbox->letters);
    g_free(outbox);
}

void outbox_clear(Outbox *outbox)
{
    g_ptr_array_set_size(outbox->records, 0);
    g_ptr_array_set_size(outbox->letters, 0);
}

bool outbox_is_empty(const Outbox *outbox)
{
    return outbox->records->len == 0 && outbox->letters->len == 0;
}

void outbox_add(Outbox *outbox, const char *topic, int32_t partition, const char *key, GBytes *value)
{
    OutboxRecord *record = g_new0(OutboxRecord, 1);
    record->topic = g_strdup(topic);
    record->partition = partition;
    record->key = g_strdup(key);
    record->value = value;
    g_ptr_array_add(outbox->records, record);
}

void outbox_add_letter(Outbox *outbox, const DroverRecord *record, const char *reason)
{
    Letter *letter = g_new0(Letter, 1);
    letter->record = g_memdup2(record, sizeof *record);
    letter->record->topic = g_strdup(record->topic);
    letter->record->key = g_strdup(record->key);
    letter->record->value = record->value != NULL ? g_memdup2(record->value, MAX(record->len, 1)) : NULL;
    letter->reason = g_strdup(reason);
    g_ptr_array_add(outbox->letters, letter);
}

bool outbox_send(const Outbox *outbox, DroverProducer *producer, const char *consumer_id, GError **error)
{
    for (guint i = 0; i < outbox->records->len; i++) {
        const OutboxRecord *record = outbox->records->pdata[i];
        gsize len = 0;
        const void *value = record->value != NULL ? g_bytes_get_data(record->value, &len) : NULL;
        /* an empty message is not a tombstone */
        const void *bytes = record->value != NULL && value == NULL ? "" : value;
        if (!drover_producer_send(producer, record->topic, record->partition, record->key, bytes, len, NULL,
                                  NULL, error))
            return false;
    }
    for (guint i = 0; i < outbox->letters->len; i++) {
        const Letter *letter = outbox->letters->pdata[i];
        if (!drover_dlq_send(producer, letter->record, consumer_id, letter->reason, error))
            return false;
    }
    return true;
}
