/* SPDX-License-Identifier: Apache-2.0 */
/* What one transaction writes, collected while inputs are applied. Nothing is sent before the batch is
 * complete, so that an aborted one leaves no trace. */
#ifndef DROVER_SCHEDULER_OUTBOX_H
#define DROVER_SCHEDULER_OUTBOX_H

#include "lib/kafka/kafka.h"

typedef struct {
    char *topic; /* with the "drover." prefix */
    int32_t partition;
    char *key;
    GBytes *value; /* NULL: tombstone */
} OutboxRecord;

typedef struct {
    GPtrArray *records; /* OutboxRecord */
    GPtrArray *letters; /* poison, for drover.dlq */
} Outbox;

Outbox *outbox_new(void);
void outbox_free(Outbox *outbox);
void outbox_clear(Outbox *outbox);
bool outbox_is_empty(const Outbox *outbox);

/* Takes VALUE. */
void outbox_add(Outbox *outbox, const char *topic, int32_t partition, const char *key, GBytes *value);
/* Copies RECORD. */
void outbox_add_letter(Outbox *outbox, const DroverRecord *record, const char *reason);

/* Queues everything with PRODUCER, inside the transaction under way. CONSUMER_ID goes into dead letters. */
bool outbox_send(const Outbox *outbox, DroverProducer *producer, const char *consumer_id, GError **error);

#endif
