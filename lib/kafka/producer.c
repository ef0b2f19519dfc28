/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/kafka/internal.h"

#include <stdatomic.h>
#include <string.h>

#include "lib/base/log.h"

struct DroverProducer {
    rd_kafka_t *client;
    char *prefix; /* of topics */
    GThread *thread;
    atomic_bool stop;
    bool transactional;
    GMutex lock;
    GError *first_failure; /* since the last flush or commit */
};

typedef struct {
    DroverDeliveryFunc callback;
    void *user_data;
} Pending;

static void remember_failure(DroverProducer *producer, const GError *error)
{
    g_mutex_lock(&producer->lock);
    if (!producer->first_failure)
        producer->first_failure = g_error_copy(error);
    g_mutex_unlock(&producer->lock);
}

static bool take_failure(DroverProducer *producer, GError **error)
{
    g_mutex_lock(&producer->lock);
    GError *failure = g_steal_pointer(&producer->first_failure);
    g_mutex_unlock(&producer->lock);
    if (!failure)
        return true;
    g_propagate_error(error, failure);
    return false;
}

static void on_delivery(rd_kafka_t *client, const rd_kafka_message_t *message, void *opaque)
{
    (void)client;
    DroverProducer *producer = opaque;
    Pending *pending = message->_private;
    g_autoptr(GError) error = NULL;
    if (message->err) {
        g_autofree char *what = g_strdup_printf("Record for topic %s was not stored", rd_kafka_topic_name(message->rkt));
        drover_kafka_fail(&error, message->err, what, NULL);
    }
    if (pending && pending->callback) {
        pending->callback(error, pending->user_data);
    } else if (error) {
        /* What a transaction purges when it is aborted is expected. */
        if (!producer->transactional)
            drover_warning("kafka.delivery_failed", error->message);
        remember_failure(producer, error);
    }
    g_free(pending);
}

static gpointer serve(gpointer data)
{
    DroverProducer *producer = data;
    while (!atomic_load(&producer->stop))
        rd_kafka_poll(producer->client, 100);
    return NULL;
}

static DroverProducer *producer_new(const DroverKafka *kafka, rd_kafka_conf_t *conf, bool transactional, GError **error)
{
    drover_kafka_set(conf, "enable.idempotence", "true");
    drover_kafka_set(conf, "acks", "all");
    drover_kafka_set(conf, "compression.type", "lz4");
    drover_kafka_set(conf, "linger.ms", "2");
    drover_kafka_set(conf, "message.max.bytes", "1000000");
    rd_kafka_conf_set_dr_msg_cb(conf, on_delivery);
    DroverProducer *producer = g_new0(DroverProducer, 1);
    rd_kafka_conf_set_opaque(conf, producer);
    producer->client = drover_kafka_client(RD_KAFKA_PRODUCER, conf, error);
    if (!producer->client) {
        g_free(producer);
        return NULL;
    }
    producer->prefix = g_strdup(kafka->prefix);
    producer->transactional = transactional;
    g_mutex_init(&producer->lock);
    producer->thread = g_thread_new("kafka-producer", serve, producer);
    return producer;
}

DroverProducer *drover_producer_new(const DroverKafka *kafka, GError **error)
{
    rd_kafka_conf_t *conf = drover_kafka_base_conf(kafka);
    drover_kafka_set(conf, "message.timeout.ms", "120000");
    return producer_new(kafka, conf, false, error);
}

/* Turns a transactional error into its class: see the header. Takes FAILURE. */
static bool transaction_fail(GError **error, rd_kafka_error_t *failure, const char *what)
{
    rd_kafka_resp_err_t code = rd_kafka_error_code(failure);
    DroverErrorClass error_class = DROVER_ERROR_FATAL;
    if (code == RD_KAFKA_RESP_ERR__FENCED || code == RD_KAFKA_RESP_ERR_PRODUCER_FENCED ||
        code == RD_KAFKA_RESP_ERR_INVALID_PRODUCER_EPOCH)
        error_class = DROVER_ERROR_FENCED;
    else if (rd_kafka_error_is_fatal(failure))
        error_class = DROVER_ERROR_FATAL;
    else if (rd_kafka_error_txn_requires_abort(failure) || rd_kafka_error_is_retriable(failure))
        error_class = DROVER_ERROR_RETRYABLE;
    drover_fail(error, error_class, "%s: %s", what, rd_kafka_error_string(failure));
    rd_kafka_error_destroy(failure);
    return false;
}

DroverProducer *drover_producer_new_transactional(const DroverKafka *kafka, const char *transactional_id,
                                                  int timeout_ms, GError **error)
{
    rd_kafka_conf_t *conf = drover_kafka_base_conf(kafka);
    g_autofree char *id = g_strdup_printf("%s.%s", kafka->prefix, transactional_id);
    g_autofree char *timeout = g_strdup_printf("%" G_GINT64_FORMAT, kafka->transaction_timeout_ms);
    drover_kafka_set(conf, "transactional.id", id);
    drover_kafka_set(conf, "transaction.timeout.ms", timeout);
    g_autoptr(DroverProducer) producer = producer_new(kafka, conf, true, error);
    if (!producer)
        return NULL;
    int64_t deadline = g_get_monotonic_time() + (int64_t)timeout_ms * 1000;
    for (;;) {
        rd_kafka_error_t *failure = rd_kafka_init_transactions(producer->client, timeout_ms);
        if (!failure)
            return g_steal_pointer(&producer);
        if (!rd_kafka_error_is_retriable(failure) || g_get_monotonic_time() >= deadline) {
            transaction_fail(error, failure, "Transactional producer cannot start");
            return NULL;
        }
        rd_kafka_error_destroy(failure);
        g_usleep(100 * 1000);
    }
}

void drover_producer_free(DroverProducer *producer)
{
    if (!producer)
        return;
    rd_kafka_flush(producer->client, 5000);
    atomic_store(&producer->stop, true);
    g_thread_join(producer->thread);
    /* What is still queued gets its callback, with an error, so that nobody waits for it. */
    rd_kafka_purge(producer->client, RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT);
    rd_kafka_flush(producer->client, 1000);
    rd_kafka_destroy(producer->client);
    g_clear_error(&producer->first_failure);
    g_mutex_clear(&producer->lock);
    g_free(producer->prefix);
    g_free(producer);
}

bool drover_producer_send(DroverProducer *producer, const char *topic, int32_t partition, const char *key,
                          const void *value, size_t len, DroverDeliveryFunc callback, void *user_data, GError **error)
{
    if (len > DROVER_MAX_MESSAGE_BYTES)
        return drover_fail(error, DROVER_ERROR_PERMANENT, "Record '%s' for topic %s has %zu bytes, more than the %u allowed",
                           key ? key : "", topic, len, DROVER_MAX_MESSAGE_BYTES);
    g_assert(g_str_has_prefix(topic, "drover."));
    g_autofree char *wire = g_strconcat(producer->prefix, topic + strlen("drover"), NULL);
    Pending *pending = NULL;
    if (callback) {
        pending = g_new(Pending, 1);
        *pending = (Pending){callback, user_data};
    }
    for (;;) {
        rd_kafka_resp_err_t code = rd_kafka_producev(
            producer->client, RD_KAFKA_V_TOPIC(wire), RD_KAFKA_V_PARTITION(partition),
            RD_KAFKA_V_KEY(key, key ? strlen(key) : 0), RD_KAFKA_V_VALUE((void *)value, len),
            RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY), RD_KAFKA_V_OPAQUE(pending), RD_KAFKA_V_END);
        if (!code)
            return true;
        if (code != RD_KAFKA_RESP_ERR__QUEUE_FULL) {
            g_free(pending);
            g_autofree char *what = g_strdup_printf("Record for topic %s cannot be queued", wire);
            return drover_kafka_fail(error, code, what, NULL);
        }
        g_usleep(10 * 1000); /* the serving thread empties the queue */
    }
}

bool drover_producer_send_pb(DroverProducer *producer, const char *topic, int32_t partition, const char *key,
                             const ProtobufCMessage *message, DroverDeliveryFunc callback, void *user_data,
                             GError **error)
{
    if (!message)
        return drover_producer_send(producer, topic, partition, key, NULL, 0, callback, user_data, error);
    size_t len = protobuf_c_message_get_packed_size(message);
    g_autofree uint8_t *bytes = g_malloc(len + 1); /* never NULL: an empty message is not a tombstone */
    protobuf_c_message_pack(message, bytes);
    return drover_producer_send(producer, topic, partition, key, bytes, len, callback, user_data, error);
}

/* Shared with the delivery callback, which may come after the waiter has given up. */
typedef struct {
    gatomicrefcount refs;
    GMutex lock;
    GCond cond;
    bool done;
    GError *error;
} Waiter;

static void waiter_unref(Waiter *w)
{
    if (!g_atomic_ref_count_dec(&w->refs))
        return;
    g_clear_error(&w->error);
    g_mutex_clear(&w->lock);
    g_cond_clear(&w->cond);
    g_free(w);
}

static void on_sync_delivery(const GError *error, void *user_data)
{
    Waiter *w = user_data;
    g_mutex_lock(&w->lock);
    w->done = true;
    w->error = error ? g_error_copy(error) : NULL;
    g_cond_signal(&w->cond);
    g_mutex_unlock(&w->lock);
    waiter_unref(w);
}

bool drover_producer_send_sync(DroverProducer *producer, const char *topic, int32_t partition, const char *key,
                               const ProtobufCMessage *message, int timeout_ms, GError **error)
{
    Waiter *w = g_new0(Waiter, 1);
    g_atomic_ref_count_init(&w->refs);
    g_atomic_ref_count_inc(&w->refs);
    g_mutex_init(&w->lock);
    g_cond_init(&w->cond);
    bool ok = drover_producer_send_pb(producer, topic, partition, key, message, on_sync_delivery, w, error);
    if (!ok) {
        waiter_unref(w);
        waiter_unref(w);
        return false;
    }
    int64_t deadline = g_get_monotonic_time() + (int64_t)timeout_ms * 1000;
    g_mutex_lock(&w->lock);
    while (!w->done && g_cond_wait_until(&w->cond, &w->lock, deadline))
        ;
    if (!w->done)
        ok = drover_fail(error, DROVER_ERROR_RETRYABLE, "No acknowledgement from Kafka for topic %s within %d s", topic,
                         timeout_ms / 1000);
    else if (w->error) {
        g_propagate_error(error, g_steal_pointer(&w->error));
        ok = false;
    }
    g_mutex_unlock(&w->lock);
    waiter_unref(w);
    return ok;
}

bool drover_producer_flush(DroverProducer *producer, int timeout_ms, GError **error)
{
    rd_kafka_resp_err_t code = rd_kafka_flush(producer->client, timeout_ms);
    if (!take_failure(producer, error))
        return false;
    if (code)
        return drover_kafka_fail(error, code, "Records were not acknowledged by Kafka in time", NULL);
    return true;
}

bool drover_producer_begin(DroverProducer *producer, GError **error)
{
    take_failure(producer, NULL);
    rd_kafka_error_t *failure = rd_kafka_begin_transaction(producer->client);
    return failure ? transaction_fail(error, failure, "Transaction cannot begin") : true;
}

bool drover_producer_commit(DroverProducer *producer, int timeout_ms, GError **error)
{
    rd_kafka_error_t *failure = rd_kafka_commit_transaction(producer->client, timeout_ms);
    /* A time-out leaves the commit in progress: only repeating the same call can tell how it ended. */
    for (int again = 0; failure && again < 3 && rd_kafka_error_is_retriable(failure) &&
                        !rd_kafka_error_txn_requires_abort(failure);
         again++) {
        rd_kafka_error_destroy(failure);
        failure = rd_kafka_commit_transaction(producer->client, timeout_ms);
    }
    if (!failure)
        return true;
    bool must_abort = rd_kafka_error_txn_requires_abort(failure);
    g_autoptr(GError) why = NULL;
    transaction_fail(&why, failure, "Transaction was not committed");
    if (why->code == DROVER_ERROR_RETRYABLE && must_abort) {
        if (!drover_producer_abort(producer, timeout_ms, error))
            return false;
    } else if (why->code == DROVER_ERROR_RETRYABLE) {
        why->code = DROVER_ERROR_FATAL; /* outcome unknown */
    }
    g_propagate_error(error, g_steal_pointer(&why));
    return false;
}

bool drover_producer_abort(DroverProducer *producer, int timeout_ms, GError **error)
{
    rd_kafka_error_t *failure = rd_kafka_abort_transaction(producer->client, timeout_ms);
    take_failure(producer, NULL);
    if (!failure)
        return true;
    g_autoptr(GError) why = NULL;
    transaction_fail(&why, failure, "Transaction was not aborted");
    if (why->code == DROVER_ERROR_RETRYABLE)
        why->code = DROVER_ERROR_FATAL;
    g_propagate_error(error, g_steal_pointer(&why));
    return false;
}
