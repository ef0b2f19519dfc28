/* SPDX-License-Identifier: Apache-2.0 */
/* Records that must arrive: sent, waited for, and sent again when Kafka gave up on them. */
#ifndef DROVER_WORKER_POST_H
#define DROVER_WORKER_POST_H

#include <gio/gio.h>
#include <stdbool.h>

#include "lib/kafka/kafka.h"

/*
 * Sends VALUE and waits for its acknowledgement, repeating while the failure is retryable, until CANCEL (may be NULL)
 * or, with TIMEOUT_MS > 0, the time-out. Blocks. After a time-out or cancellation the record may still arrive.
 */
bool drover_post(DroverProducer *producer, const char *topic, const char *key, GBytes *value, int timeout_ms,
                 GCancellable *cancel, GError **error);

/* Sends and forgets; a failure is logged by the producer. For what the next record repairs. Waits for nothing. */
void drover_post_loose(DroverProducer *producer, const char *topic, const char *key, GBytes *value);

#endif
