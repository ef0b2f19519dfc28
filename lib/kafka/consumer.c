/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/kafka/internal.h"

#include <string.h>

#include "lib/base/log.h"

typedef struct {
    char *topic; /* with the "drover." prefix */
    int32_t partition;
    bool at_end;
    int64_t next_offset; /* after what was polled; -1: nothing yet */
} Owned;

struct DroverConsumer {
    rd_kafka_t *client;
    const DroverKafka *kafka;
    bool group;
    bool paused;
    GMutex lock; /* owned: written by the polling thread, read by any */
    GPtrArray *owned;
    DroverAssignmentFunc changed;
    void *changed_data;
    DroverStartFunc start;
    void *start_data;
};

static void owned_free(gpointer data)
{
    Owned *o = data;
    g_free(o->topic);
    g_free(o);
}

static Owned *find_owned(const DroverConsumer *consumer, const char *topic, int32_t partition)
{
    for (guint i = 0; i < consumer->owned->len; i++) {
        Owned *o = g_ptr_array_index(consumer->owned, i);
        if (o->partition == partition && strcmp(o->topic, topic) == 0)
            return o;
    }
    return NULL;
}

static void add_owned(DroverConsumer *consumer, const char *topic, int32_t partition)
{
    Owned *o = g_new0(Owned, 1);
    o->topic = g_strdup(topic);
    o->partition = partition;
    o->next_offset = -1;
    g_mutex_lock(&consumer->lock);
    g_ptr_array_add(consumer->owned, o);
    g_mutex_unlock(&consumer->lock);
}

static void on_rebalance(rd_kafka_t *client, rd_kafka_resp_err_t code, rd_kafka_topic_partition_list_t *partitions,
                         void *opaque)
{
    DroverConsumer *consumer = opaque;
    g_mutex_lock(&consumer->lock);
    g_ptr_array_set_size(consumer->owned, 0);
    g_mutex_unlock(&consumer->lock);
    if (code == RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS) {
        for (int i = 0; i < partitions->cnt; i++) {
            rd_kafka_topic_partition_t *p = &partitions->elems[i];
            g_autofree char *topic = drover_kafka_local_topic(consumer->kafka, p->topic);
            add_owned(consumer, topic, p->partition);
            if (consumer->start)
                p->offset = consumer->start(topic, p->partition, consumer->start_data);
        }
        rd_kafka_assign(client, partitions);
        if (consumer->paused)
            rd_kafka_pause_partitions(client, partitions);
    } else {
        rd_kafka_assign(client, NULL);
    }
    if (consumer->changed)
        consumer->changed(consumer, consumer->changed_data);
}

static DroverConsumer *consumer_new(const DroverKafka *kafka, rd_kafka_conf_t *conf, bool group, GError **error)
{
    DroverConsumer *consumer = g_new0(DroverConsumer, 1);
    drover_kafka_set(conf, "enable.auto.commit", "false");
    drover_kafka_set(conf, "enable.auto.offset.store", "false");
    drover_kafka_set(conf, "auto.offset.reset", "earliest");
    drover_kafka_set(conf, "allow.auto.create.topics", "false");
    drover_kafka_set(conf, "enable.partition.eof", "true");
    drover_kafka_set(conf, "isolation.level", "read_committed");
    drover_kafka_set(conf, "fetch.wait.max.ms", "100");
    drover_kafka_set(conf, "fetch.error.backoff.ms", "100");
    rd_kafka_conf_set_opaque(conf, consumer);
    consumer->kafka = kafka;
    consumer->group = group;
    consumer->owned = g_ptr_array_new_with_free_func(owned_free);
    g_mutex_init(&consumer->lock);
    consumer->client = drover_kafka_client(RD_KAFKA_CONSUMER, conf, error);
    if (!consumer->client) {
        drover_consumer_free(consumer);
        return NULL;
    }
    rd_kafka_poll_set_consumer(consumer->client);
    return consumer;
}

DroverConsumer *drover_consumer_new_group(const DroverKafka *kafka, const char *group, const char *const *topics,
                                          int session_timeout_ms, bool prefetch, DroverAssignmentFunc changed,
                                          void *user_data, GError **error)
{
    rd_kafka_conf_t *conf = drover_kafka_base_conf(kafka);
    int64_t session = session_timeout_ms > 0 ? session_timeout_ms : kafka->session_timeout_ms;
    g_autofree char *group_id = g_strdup_printf("%s.%s", kafka->prefix, group);
    g_autofree char *session_text = g_strdup_printf("%" G_GINT64_FORMAT, session);
    g_autofree char *heartbeat_text = g_strdup_printf("%" G_GINT64_FORMAT, MAX(session / 6, 200));
    drover_kafka_set(conf, "group.id", group_id);
    drover_kafka_set(conf, "session.timeout.ms", session_text);
    drover_kafka_set(conf, "heartbeat.interval.ms", heartbeat_text);
    drover_kafka_set(conf, "max.poll.interval.ms", "300000");
    drover_kafka_set(conf, "partition.assignment.strategy", "range,roundrobin");
    if (!prefetch) {
        drover_kafka_set(conf, "queued.min.messages", "1");
        drover_kafka_set(conf, "queued.max.messages.kbytes", "1024");
    }
    rd_kafka_conf_set_rebalance_cb(conf, on_rebalance);
    g_autoptr(DroverConsumer) consumer = consumer_new(kafka, conf, true, error);
    if (!consumer)
        return NULL;
    consumer->changed = changed;
    consumer->changed_data = user_data;
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(4);
    for (; *topics; topics++) {
        g_autofree char *wire = drover_kafka_topic(kafka, *topics);
        rd_kafka_topic_partition_list_add(list, wire, RD_KAFKA_PARTITION_UA);
    }
    rd_kafka_resp_err_t code = rd_kafka_subscribe(consumer->client, list);
    rd_kafka_topic_partition_list_destroy(list);
    if (code) {
        drover_kafka_fail(error, code, "Cannot subscribe", group_id);
        return NULL;
    }
    return g_steal_pointer(&consumer);
}

void drover_consumer_set_start(DroverConsumer *consumer, DroverStartFunc start, void *user_data)
{
    consumer->start = start;
    consumer->start_data = user_data;
}

DroverConsumer *drover_consumer_new_manual(const DroverKafka *kafka, GError **error)
{
    rd_kafka_conf_t *conf = drover_kafka_base_conf(kafka);
    /* librdkafka wants a group id even for a consumer that never joins or commits. */
    g_autofree char *group_id = g_strdup_printf("%s.manual.%s", kafka->prefix, kafka->process_id);
    drover_kafka_set(conf, "group.id", group_id);
    return consumer_new(kafka, conf, false, error);
}

int drover_kafka_partition_count(DroverConsumer *consumer, const char *topic, int timeout_ms, GError **error)
{
    g_autofree char *wire = drover_kafka_topic(consumer->kafka, topic);
    rd_kafka_topic_t *handle = rd_kafka_topic_new(consumer->client, wire, NULL);
    const struct rd_kafka_metadata *metadata = NULL;
    int64_t deadline = g_get_monotonic_time() + (int64_t)timeout_ms * 1000;
    int count = -1;
    rd_kafka_resp_err_t code;
    do {
        code = rd_kafka_metadata(consumer->client, 0, handle, &metadata, MIN(timeout_ms, 5000));
        if (!code) {
            g_assert(metadata->topic_cnt == 1);
            code = metadata->topics[0].err;
            count = code ? -1 : metadata->topics[0].partition_cnt;
            rd_kafka_metadata_destroy(metadata);
        }
        if (code == RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART)
            break;
        if (code)
            g_usleep(100 * 1000);
    } while (count < 0 && g_get_monotonic_time() < deadline);
    rd_kafka_topic_destroy(handle);
    if (count < 0 && code == RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART)
        drover_fail(error, DROVER_ERROR_RETRYABLE, "Kafka has no topic %s: run `drover topics apply`", wire);
    else if (count < 0)
        drover_kafka_fail(error, code, "Kafka does not answer", consumer->kafka->brokers);
    return count;
}

static bool assign_add(DroverConsumer *consumer, const char *topic, int32_t first, int32_t count, int64_t offset,
                       GError **error)
{
    g_autofree char *wire = drover_kafka_topic(consumer->kafka, topic);
    rd_kafka_topic_partition_list_t *list = NULL;
    rd_kafka_resp_err_t code = rd_kafka_assignment(consumer->client, &list);
    if (!code) {
        /* assign() starts every partition again at the offset in the list: keep positions of those that we have. */
        rd_kafka_topic_partition_list_t *kept = rd_kafka_topic_partition_list_copy(list);
        if (rd_kafka_position(consumer->client, kept) == RD_KAFKA_RESP_ERR_NO_ERROR)
            for (int i = 0; i < list->cnt; i++)
                if (kept->elems[i].offset >= 0)
                    list->elems[i].offset = kept->elems[i].offset;
        rd_kafka_topic_partition_list_destroy(kept);
        for (int32_t p = first; p < first + count; p++)
            rd_kafka_topic_partition_list_add(list, wire, p)->offset = offset;
        code = rd_kafka_assign(consumer->client, list);
        rd_kafka_topic_partition_list_destroy(list);
    }
    if (code)
        return drover_kafka_fail(error, code, "Cannot read topic", wire);
    for (int32_t p = first; p < first + count; p++)
        add_owned(consumer, topic, p);
    return true;
}

bool drover_consumer_assign_topic(DroverConsumer *consumer, const char *topic, int64_t offset, int timeout_ms,
                                  GError **error)
{
    int count = drover_kafka_partition_count(consumer, topic, timeout_ms, error);
    return count >= 0 && assign_add(consumer, topic, 0, count, offset, error);
}

bool drover_consumer_assign_partition(DroverConsumer *consumer, const char *topic, int32_t partition, int64_t offset,
                                      GError **error)
{
    return assign_add(consumer, topic, partition, 1, offset, error);
}

bool drover_consumer_seek(DroverConsumer *consumer, const char *topic, int32_t partition, int64_t offset,
                          int timeout_ms, GError **error)
{
    g_autofree char *wire = drover_kafka_topic(consumer->kafka, topic);
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);
    rd_kafka_topic_partition_list_add(list, wire, partition)->offset = offset;
    rd_kafka_error_t *failure = rd_kafka_seek_partitions(consumer->client, list, timeout_ms);
    rd_kafka_resp_err_t code = failure ? rd_kafka_error_code(failure) : list->elems[0].err;
    if (failure)
        rd_kafka_error_destroy(failure);
    rd_kafka_topic_partition_list_destroy(list);
    if (code)
        return drover_kafka_fail(error, code, "Cannot continue at an earlier offset of topic", wire);
    g_mutex_lock(&consumer->lock);
    Owned *o = find_owned(consumer, topic, partition);
    if (o)
        o->at_end = false;
    g_mutex_unlock(&consumer->lock);
    return true;
}

void drover_record_free(DroverRecord *record)
{
    if (!record)
        return;
    g_free(record->topic);
    g_free(record->key);
    g_free(record->value);
    g_free(record);
}

static DroverRecord *record_from(const DroverConsumer *consumer, const rd_kafka_message_t *message)
{
    DroverRecord *record = g_new0(DroverRecord, 1);
    record->topic = drover_kafka_local_topic(consumer->kafka, rd_kafka_topic_name(message->rkt));
    record->partition = message->partition;
    record->offset = message->offset;
    rd_kafka_timestamp_type_t type;
    record->timestamp_ms = rd_kafka_message_timestamp(message, &type);
    record->key = message->key ? g_strndup(message->key, message->key_len) : NULL;
    record->len = message->len;
    if (message->payload) {
        record->value = g_malloc(message->len + 1);
        memcpy(record->value, message->payload, message->len);
        record->value[message->len] = 0;
    }
    return record;
}

static void set_at_end(DroverConsumer *consumer, const rd_kafka_message_t *message, bool at_end)
{
    g_autofree char *topic = drover_kafka_local_topic(consumer->kafka, rd_kafka_topic_name(message->rkt));
    g_mutex_lock(&consumer->lock);
    Owned *o = find_owned(consumer, topic, message->partition);
    if (o) {
        o->at_end = at_end;
        o->next_offset = message->offset + !at_end;
    }
    g_mutex_unlock(&consumer->lock);
}

DroverRecord *drover_consumer_poll(DroverConsumer *consumer, int timeout_ms, GError **error)
{
    int64_t deadline = g_get_monotonic_time() + (int64_t)timeout_ms * 1000;
    for (;;) {
        int64_t left = (deadline - g_get_monotonic_time()) / 1000;
        rd_kafka_message_t *message = rd_kafka_consumer_poll(consumer->client, (int)MAX(left, 0));
        if (!message)
            return NULL;
        DroverRecord *record = NULL;
        rd_kafka_resp_err_t code = message->err;
        if (!code) {
            record = record_from(consumer, message);
            set_at_end(consumer, message, false);
        } else if (code == RD_KAFKA_RESP_ERR__PARTITION_EOF) {
            set_at_end(consumer, message, true);
        } else {
            g_autofree char *detail = g_strdup(rd_kafka_message_errstr(message));
            rd_kafka_message_destroy(message);
            drover_kafka_fail(error, code, "Reading from Kafka failed", detail);
            return NULL;
        }
        rd_kafka_message_destroy(message);
        if (record)
            return record;
        if (code == RD_KAFKA_RESP_ERR__PARTITION_EOF && drover_consumer_at_end(consumer))
            return NULL; /* the caller may be waiting for just this */
    }
}

bool drover_consumer_at_end(const DroverConsumer *consumer)
{
    GMutex *lock = (GMutex *)&consumer->lock;
    g_mutex_lock(lock);
    bool all = true;
    for (guint i = 0; all && i < consumer->owned->len; i++)
        all = ((Owned *)g_ptr_array_index(consumer->owned, i))->at_end;
    g_mutex_unlock(lock);
    return all;
}

int64_t drover_consumer_lag(const DroverConsumer *consumer)
{
    GMutex *lock = (GMutex *)&consumer->lock;
    int64_t lag = 0;
    g_mutex_lock(lock);
    for (guint i = 0; i < consumer->owned->len; i++) {
        const Owned *o = g_ptr_array_index(consumer->owned, i);
        int64_t low = 0, high = 0;
        g_autofree char *wire = drover_kafka_topic(consumer->kafka, o->topic);
        if (!o->at_end && !rd_kafka_get_watermark_offsets(consumer->client, wire, o->partition, &low, &high) && high >= 0)
            lag += MAX(high - MAX(o->next_offset, low), 0);
    }
    g_mutex_unlock(lock);
    return lag;
}

bool drover_consumer_commit(DroverConsumer *consumer, const DroverRecord *record, GError **error)
{
    g_autofree char *wire = drover_kafka_topic(consumer->kafka, record->topic);
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);
    rd_kafka_topic_partition_list_add(list, wire, record->partition)->offset = record->offset + 1;
    rd_kafka_resp_err_t code = rd_kafka_commit(consumer->client, list, 0);
    if (!code)
        code = list->elems[0].err;
    rd_kafka_topic_partition_list_destroy(list);
    if (code)
        return drover_kafka_fail(error, code, "Offset was not committed", wire);
    return true;
}

static gint compare_int32(gconstpointer a, gconstpointer b)
{
    gint32 x = *(const gint32 *)a, y = *(const gint32 *)b;
    return (x > y) - (x < y);
}

GArray *drover_consumer_owned(const DroverConsumer *consumer, const char *topic)
{
    GArray *out = g_array_new(FALSE, FALSE, sizeof(int32_t));
    GMutex *lock = (GMutex *)&consumer->lock;
    g_mutex_lock(lock);
    for (guint i = 0; i < consumer->owned->len; i++) {
        Owned *o = g_ptr_array_index(consumer->owned, i);
        if (strcmp(o->topic, topic) == 0)
            g_array_append_val(out, o->partition);
    }
    g_mutex_unlock(lock);
    g_array_sort(out, compare_int32);
    return out;
}

bool drover_consumer_pause(DroverConsumer *consumer, bool pause, GError **error)
{
    rd_kafka_topic_partition_list_t *list = NULL;
    rd_kafka_resp_err_t code = rd_kafka_assignment(consumer->client, &list);
    if (!code) {
        code = pause ? rd_kafka_pause_partitions(consumer->client, list)
                     : rd_kafka_resume_partitions(consumer->client, list);
        rd_kafka_topic_partition_list_destroy(list);
    }
    if (code)
        return drover_kafka_fail(error, code, pause ? "Cannot pause" : "Cannot resume", NULL);
    consumer->paused = pause;
    return true;
}

void drover_consumer_free(DroverConsumer *consumer)
{
    if (!consumer)
        return;
    if (consumer->client) {
        consumer->changed = NULL;
        rd_kafka_consumer_close(consumer->client);
        rd_kafka_destroy(consumer->client);
    }
    g_ptr_array_unref(consumer->owned);
    g_mutex_clear(&consumer->lock);
    g_free(consumer);
}
