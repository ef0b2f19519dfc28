/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Kafka as Drover uses it: idempotent and transactional producers whose every delivery report is looked at, consumers
 * without automatic commits, and the declared topics. A thin layer over librdkafka (the reasons for the settings are in
 * docs/architecture.md, "Kafka").
 *
 * Topic names in this API are written with the prefix "drover." as in the documentation; [kafka] topic-prefix replaces
 * "drover" on the wire, so several installations can share a broker.
 */
#ifndef DROVER_LIB_KAFKA_KAFKA_H
#define DROVER_LIB_KAFKA_KAFKA_H

#include <glib.h>
#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/base/config.h"

#define DROVER_MAX_MESSAGE_BYTES (512u << 10)

/* Connection settings, read once from [kafka]; immutable, shared by any number of clients. */
typedef struct DroverKafka DroverKafka;
/* PROCESS_ID becomes client.id. CONFIG must outlive the result. */
DroverKafka *drover_kafka_new(const DroverConfig *config, const char *process_id, GError **error);
void drover_kafka_free(DroverKafka *kafka);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(DroverKafka, drover_kafka_free)

/* Name on the wire of "drover.x", and back; newly allocated. */
char *drover_kafka_topic(const DroverKafka *kafka, const char *topic);

/* ---- producer ------------------------------------------------------------------------------------------------- */

typedef struct DroverProducer DroverProducer;

/* Idempotent, acks=all, lz4. Has a thread of its own that serves delivery reports. */
DroverProducer *drover_producer_new(const DroverKafka *kafka, GError **error);
/* Transactional; INIT fences every older producer of the same TRANSACTIONAL_ID (prefixed like topics). Blocks up to
 * TIMEOUT_MS. The transaction times out at the broker after [kafka] transaction-timeout. */
DroverProducer *drover_producer_new_transactional(const DroverKafka *kafka, const char *transactional_id,
                                                  int timeout_ms, GError **error);
/* Waits up to 5 s for what is queued. NULL is allowed. */
void drover_producer_free(DroverProducer *producer);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(DroverProducer, drover_producer_free)

#define DROVER_PARTITION_BY_KEY (-1)

/* Called on the producer's thread once per message, ERROR is NULL when all in-sync replicas have it. */
typedef void (*DroverDeliveryFunc)(const GError *error, void *user_data);

/*
 * Queues one message; any thread. VALUE NULL is a tombstone. Waits while the local queue is full. Without a callback a
 * failed delivery is reported by the next drover_producer_flush or commit, and logged.
 * Fails with PERMANENT when the message is larger than DROVER_MAX_MESSAGE_BYTES, FATAL when the client is beyond repair.
 */
bool drover_producer_send(DroverProducer *producer, const char *topic, int32_t partition, const char *key,
                          const void *value, size_t len, DroverDeliveryFunc callback, void *user_data, GError **error);
/* The same for a message of protobuf-c (NULL: tombstone). */
bool drover_producer_send_pb(DroverProducer *producer, const char *topic, int32_t partition, const char *key,
                             const ProtobufCMessage *message, DroverDeliveryFunc callback, void *user_data,
                             GError **error);
/* Sends and waits for the acknowledgement of this one message. */
bool drover_producer_send_sync(DroverProducer *producer, const char *topic, int32_t partition, const char *key,
                               const ProtobufCMessage *message, int timeout_ms, GError **error);
/* Waits until all queued messages are acknowledged; the first failure since the last flush is the error. */
bool drover_producer_flush(DroverProducer *producer, int timeout_ms, GError **error);

/*
 * Transactions. Errors by class: FENCED - a newer producer of this id exists; FATAL - outcome unknown or client broken:
 * exit; RETRYABLE - the transaction was aborted, nothing of it is visible: drop what was derived from it and replay.
 */
bool drover_producer_begin(DroverProducer *producer, GError **error);
bool drover_producer_commit(DroverProducer *producer, int timeout_ms, GError **error);
bool drover_producer_abort(DroverProducer *producer, int timeout_ms, GError **error);

/* ---- consumer ------------------------------------------------------------------------------------------------- */

typedef struct DroverConsumer DroverConsumer;

typedef struct {
    char *topic; /* with the "drover." prefix */
    int32_t partition;
    int64_t offset;
    int64_t timestamp_ms; /* of the record, or -1 */
    char *key;            /* NUL-terminated copy; NULL when the record has none */
    uint8_t *value;       /* NULL: tombstone */
    size_t len;
} DroverRecord;
void drover_record_free(DroverRecord *record);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(DroverRecord, drover_record_free)

#define DROVER_OFFSET_BEGINNING (-2) /* RD_KAFKA_OFFSET_BEGINNING */
#define DROVER_OFFSET_END (-1)       /* RD_KAFKA_OFFSET_END */

/*
 * Member of GROUP (prefixed like topics). Partitions change hands inside drover_consumer_poll, on the caller's thread;
 * CHANGED (may be NULL) is called there after each change, with the partitions now owned.
 * read_committed. SESSION_TIMEOUT_MS 0: [kafka] session-timeout. PREFETCH false: holds no more than a few messages
 * (task consumers).
 */
typedef void (*DroverAssignmentFunc)(DroverConsumer *consumer, void *user_data);
DroverConsumer *drover_consumer_new_group(const DroverKafka *kafka, const char *group, const char *const *topics,
                                          int session_timeout_ms, bool prefetch, DroverAssignmentFunc changed,
                                          void *user_data, GError **error);

/*
 * For groups that keep their offsets elsewhere: START is asked for every partition that is assigned, on the thread that
 * polls, and gives the offset to begin at (>= 0, or DROVER_OFFSET_*). Set it before the first poll.
 */
typedef int64_t (*DroverStartFunc)(const char *topic, int32_t partition, void *user_data);
void drover_consumer_set_start(DroverConsumer *consumer, DroverStartFunc start, void *user_data);

/* Continues one assigned partition at OFFSET (>= 0, or DROVER_OFFSET_*); records fetched before are dropped. */
bool drover_consumer_seek(DroverConsumer *consumer, const char *topic, int32_t partition, int64_t offset,
                          int timeout_ms, GError **error);

/* Without a group: all partitions of TOPICS (or those named later), read_committed. Positions are the caller's. */
DroverConsumer *drover_consumer_new_manual(const DroverKafka *kafka, GError **error);
/* Adds all partitions of TOPIC, each at OFFSET (>= 0, or DROVER_OFFSET_*). Blocks for metadata up to TIMEOUT_MS; an unknown topic is
 * RETRYABLE and named in the message with "drover topics apply" as the way out. */
bool drover_consumer_assign_topic(DroverConsumer *consumer, const char *topic, int64_t offset, int timeout_ms,
                                  GError **error);
bool drover_consumer_assign_partition(DroverConsumer *consumer, const char *topic, int32_t partition, int64_t offset,
                                      GError **error);
int drover_kafka_partition_count(DroverConsumer *consumer, const char *topic, int timeout_ms, GError **error);

/*
 * The next record, or NULL: with *ERROR set on failure, without when nothing came within TIMEOUT_MS. Partition ends are
 * remembered (see drover_consumer_at_end). Call it at least every second in a group, even when paused.
 */
DroverRecord *drover_consumer_poll(DroverConsumer *consumer, int timeout_ms, GError **error);

/* True when every assigned partition has been read to the end that it had when it was last reached. For state rebuilds
 * (control records of transactions make offset arithmetic wrong; this uses librdkafka's partition EOF). */
bool drover_consumer_at_end(const DroverConsumer *consumer);

/* About how many records are ahead of what was polled, as of the last fetch; 0 at the end. Offsets that transactions take for
 * themselves count. Any thread. */
int64_t drover_consumer_lag(const DroverConsumer *consumer);

/* Group: commits OFFSET + 1 of RECORD synchronously. Any error means: drop the record, somebody else will get it. */
bool drover_consumer_commit(DroverConsumer *consumer, const DroverRecord *record, GError **error);

/* Partitions of TOPIC owned now, as a newly allocated GArray of int32_t, sorted. */
GArray *drover_consumer_owned(const DroverConsumer *consumer, const char *topic);
bool drover_consumer_pause(DroverConsumer *consumer, bool pause, GError **error);

/* Leaves the group (so that partitions move at once) and frees. NULL is allowed. */
void drover_consumer_free(DroverConsumer *consumer);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(DroverConsumer, drover_consumer_free)

/* ---- poison --------------------------------------------------------------------------------------------------- */

/* Puts RECORD on drover.dlq with REASON, asynchronously, and logs it. */
bool drover_dlq_send(DroverProducer *producer, const DroverRecord *record, const char *consumer_id, const char *reason,
                     GError **error);

/* ---- topics --------------------------------------------------------------------------------------------------- */

/*
 * The declarative list (deploy/topics.yaml): "{site}" and "{agent}" in a name expand over [fleet] sites and agents.
 * apply creates what is missing and sets the declared configuration; a differing partition count is an error that says
 * so. check changes nothing. REPORT is called once a topic: "created", "ok", "updated", "missing", "differs: ...".
 */
typedef void (*DroverTopicReport)(const char *topic, const char *outcome, void *user_data);
bool drover_topics_apply(const DroverKafka *kafka, const char *path, const char *const *sites,
                         const char *const *agents, bool check_only, DroverTopicReport report, void *user_data,
                         GError **error);

#endif
