/* SPDX-License-Identifier: Apache-2.0 */
#include "progress-aggregator/aggregator.h"

#include <string.h>

#include "lib/base/drain.h"
#include "lib/base/error.h"
#include "lib/base/ids.h"
#include "lib/base/log.h"
#include "lib/kafka/kafka.h"
#include "lib/redis/redis.h"
#include "progress-aggregator/catch-up.h"
#include "progress-aggregator/fold.h"
#include "progress-aggregator/heartbeat.h"

#define GROUP "aggregators"
#define STATE_TOPIC "drover.state"
#define POLL_MS 200
#define BACKOFF_FIRST_MS 200
#define BACKOFF_MOST_MS 5000
#define CHECK_EVERY_MS 1000
#define TICK_EVERY_MS 5000
#define FLUSH_MS 10000

const DroverOption drover_aggregator_options[] = {
    {"aggregator", "name", DROVER_OPTION_STRING, NULL, "NAME",
     "Name in the fleet, one per process (default: aggregator- and the host's name)", 0},
    {"aggregator", "batch", DROVER_OPTION_INT, "500", "RECORDS", "Most records sent to Redis in one go", 0},
    {"aggregator", "heartbeat-interval", DROVER_OPTION_DURATION, "10s", "TIME", "How often to tell that it is alive", 0},
    DROVER_OPTION_END,
};

typedef struct {
    DroverRedis *redis;
    DroverFold *fold;
    DroverConsumer *consumer;
    DroverProducer *producer;
    DroverHeartbeat *heartbeat;
    DroverCatchUp *catch_up;
    char *name;
    GStrv topics;
    guint batch;
    bool uncertain;       /* positions must be taken from Redis before anything is folded */
    unsigned backoff_ms;  /* 0: the last attempt succeeded */
    int64_t retry_at_ms;  /* BOOTTIME */
    int64_t check_at_ms;
    int64_t tick_at_ms;
    int64_t kafka_warned_ms;
} Aggregator;

static char *process_name(const DroverConfig *config)
{
    const char *name = drover_config_string(config, "aggregator.name");
    if (*name)
        return g_strdup(name);
    g_autofree char *host = g_strdelimit(g_strdup(g_get_host_name()), " /:", '-');
    return g_strconcat("aggregator-", host, NULL);
}

static GStrv topic_list(const DroverConfig *config)
{
    static const char *const by_site[] = {"drover.events.", "drover.progress.", "drover.checkpoints."};
    GPtrArray *topics = g_ptr_array_new();
    const char *const shared[] = {STATE_TOPIC, "drover.audit", "drover.fleet"};
    for (guint i = 0; i < G_N_ELEMENTS(shared); i++)
        g_ptr_array_add(topics, g_strdup(shared[i]));
    for (const char *const *site = drover_config_list(config, "fleet.sites"); *site; site++)
        for (guint i = 0; i < G_N_ELEMENTS(by_site); i++)
            g_ptr_array_add(topics, g_strconcat(by_site[i], *site, NULL));
    for (const char *const *agent = drover_config_list(config, "fleet.agents"); *agent; agent++)
        g_ptr_array_add(topics, g_strconcat("drover.events.", *agent, NULL));
    g_ptr_array_add(topics, NULL);
    return (GStrv)g_ptr_array_free(topics, FALSE);
}

/* ---- where to read -------------------------------------------------------------------------------------------- */

/* Redis failed, or is no longer what it was: nothing is folded until positions have been read from it again. */
static void become_uncertain(Aggregator *a, const GError *error)
{
    a->uncertain = true;
    if (!error) {
        a->retry_at_ms = 0;
        return;
    }
    if (a->backoff_ms == 0)
        drover_warning("fold.failed", error->message);
    else
        drover_debug("fold.failed", error->message);
    a->backoff_ms = CLAMP(a->backoff_ms * 2, BACKOFF_FIRST_MS, BACKOFF_MOST_MS);
    /* Jitter, so that many aggregators do not return at the same moment. */
    a->retry_at_ms = drover_boottime_ms() + a->backoff_ms / 2 + g_random_int_range(0, (gint32)a->backoff_ms / 2 + 1);
}

/* Where to start in the log of a partition whose next offset is NEXT. */
static int64_t begin(Aggregator *a, const char *topic, int64_t next)
{
    if (strcmp(topic, STATE_TOPIC) == 0)
        drover_catch_up_reset(a->catch_up, next == 0, drover_now_ms());
    return next > 0 ? next : DROVER_OFFSET_BEGINNING;
}

static int64_t start_at(const char *topic, int32_t partition, void *user_data)
{
    Aggregator *a = user_data;
    int64_t next = 0;
    g_autoptr(GError) error = NULL;
    if (!a->uncertain && !drover_fold_next_offset(a->fold, topic, partition, &next, &error))
        become_uncertain(a, error);
    return begin(a, topic, next);
}

/* After a change of partitions: what was kept back of a topic that somebody else reads now is theirs to fold. */
static void changed(DroverConsumer *consumer, void *user_data)
{
    Aggregator *a = user_data;
    g_autoptr(GArray) owned = drover_consumer_owned(consumer, STATE_TOPIC);
    if (owned->len == 0)
        drover_catch_up_reset(a->catch_up, false, drover_now_ms());
}

static bool seek_all(Aggregator *a, GError **error)
{
    for (char **topic = a->topics; *topic; topic++) {
        g_autoptr(GArray) owned = drover_consumer_owned(a->consumer, *topic);
        for (guint i = 0; i < owned->len; i++) {
            int32_t partition = g_array_index(owned, int32_t, i);
            int64_t next = 0;
            if (!drover_fold_next_offset(a->fold, *topic, partition, &next, error) ||
                !drover_consumer_seek(a->consumer, *topic, partition, begin(a, *topic, next), 5000, error))
                return false;
        }
    }
    return true;
}

/* Takes all positions from Redis. The consumer stays paused until that has worked. */
static void become_certain(Aggregator *a)
{
    g_autoptr(GError) error = NULL;
    if (!drover_consumer_pause(a->consumer, true, &error) || !drover_fold_open(a->fold, &error) || !seek_all(a, &error) ||
        !drover_consumer_pause(a->consumer, false, &error)) {
        become_uncertain(a, error);
        return;
    }
    if (a->backoff_ms)
        drover_info("redis.back", "Redis is back; going on from the offsets that it holds",
                    F_S("redis", drover_redis_where(a->redis)));
    a->uncertain = false;
    a->backoff_ms = 0;
}

/* ---- folding -------------------------------------------------------------------------------------------------- */

static bool put_aside(const DroverRecord *record, const char *reason, void *user_data, GError **error)
{
    Aggregator *a = user_data;
    return drover_dlq_send(a->producer, record, a->name, reason, error) &&
           drover_producer_flush(a->producer, FLUSH_MS, error);
}

static void kafka_failed(Aggregator *a, const GError *error)
{
    int64_t now = drover_boottime_ms();
    if (now - a->kafka_warned_ms > 10000) {
        drover_warning("kafka.failed", error->message);
        a->kafka_warned_ms = now;
    }
}

/* What there is to read now, at most a batch; waits up to POLL_MS for the first record. */
static GPtrArray *read_batch(Aggregator *a)
{
    GPtrArray *records = g_ptr_array_new_with_free_func((GDestroyNotify)drover_record_free);
    while (records->len < a->batch) {
        g_autoptr(GError) error = NULL;
        DroverRecord *record = drover_consumer_poll(a->consumer, records->len ? 0 : POLL_MS, &error);
        if (error)
            kafka_failed(a, error);
        if (!record)
            break;
        if (drover_catch_up_is_active(a->catch_up) && strcmp(record->topic, STATE_TOPIC) == 0)
            drover_catch_up_add(a->catch_up, record, drover_now_ms());
        else
            g_ptr_array_add(records, record);
    }
    return records;
}

static void settle(Aggregator *a, DroverFoldResult result, const GError *error)
{
    if (result == DROVER_FOLD_FAILED)
        become_uncertain(a, error);
    else if (result == DROVER_FOLD_LOST)
        become_uncertain(a, NULL);
}

static void fold(Aggregator *a, GPtrArray *records)
{
    g_autoptr(GError) error = NULL;
    if (records->len)
        settle(a, drover_fold_apply(a->fold, records, put_aside, a, &error), error);
}

/* Folds what was kept back of drover.state, by batches. */
static void end_catch_up(Aggregator *a)
{
    g_autoptr(GPtrArray) kept = drover_catch_up_take(a->catch_up);
    for (guint done = 0; done < kept->len && !a->uncertain;) {
        g_autoptr(GPtrArray) batch = g_ptr_array_new();
        for (; done < kept->len && batch->len < a->batch; done++)
            g_ptr_array_add(batch, g_ptr_array_index(kept, done));
        fold(a, batch);
    }
}

static void keep_time(Aggregator *a)
{
    int64_t now = drover_boottime_ms();
    g_autoptr(GError) error = NULL;
    if (now >= a->check_at_ms) {
        a->check_at_ms = now + CHECK_EVERY_MS;
        settle(a, drover_fold_check(a->fold, &error), error);
    }
    if (!a->uncertain && now >= a->tick_at_ms) {
        a->tick_at_ms = now + TICK_EVERY_MS;
        if (!drover_fold_tick(a->fold, &error))
            become_uncertain(a, error);
    }
}

static void step(Aggregator *a)
{
    drover_heartbeat_beat(a->heartbeat, false);
    if (a->uncertain && drover_boottime_ms() >= a->retry_at_ms)
        become_certain(a);
    g_autoptr(GPtrArray) records = read_batch(a);
    /* Partitions may have changed hands while reading, and Redis may have failed then: what was read comes again. */
    if (a->uncertain)
        return;
    fold(a, records);
    if (!a->uncertain && drover_catch_up_is_active(a->catch_up) &&
        drover_catch_up_is_done(a->catch_up, drover_now_ms()))
        end_catch_up(a);
    if (!a->uncertain)
        keep_time(a);
}

bool drover_aggregator_run(const DroverConfig *config, GError **error)
{
    Aggregator a = {.uncertain = true};
    g_autofree char *name = a.name = process_name(config);
    g_auto(GStrv) topics = a.topics = topic_list(config);
    a.batch = (guint)CLAMP(drover_config_int(config, "aggregator.batch"), 1, 10000);
    if (!drover_id_is_valid(name))
        return drover_fail(error, DROVER_ERROR_PERMANENT, "[aggregator] name '%s' is not of [A-Za-z0-9._-]{1,64}", name);
    g_autoptr(DroverKafka) kafka = drover_kafka_new(config, name, error);
    g_autoptr(DroverRedis) redis = a.redis = kafka ? drover_redis_new(config, error) : NULL;
    if (!redis)
        return false;
    g_autoptr(DroverFold) folder = a.fold = drover_fold_new(redis);
    g_autoptr(DroverCatchUp) catch_up = a.catch_up = drover_catch_up_new();
    g_autoptr(DroverProducer) producer = a.producer = drover_producer_new(kafka, error);
    if (!producer)
        return false;
    g_autoptr(DroverHeartbeat) heartbeat = a.heartbeat =
        drover_heartbeat_new(producer, name, (uint64_t)drover_config_int(config, "aggregator.heartbeat-interval"));
    g_autoptr(DroverConsumer) consumer = a.consumer =
        drover_consumer_new_group(kafka, GROUP, (const char *const *)topics, 0, true, changed, &a, error);
    if (!consumer)
        return false;
    drover_consumer_set_start(consumer, start_at, &a);
    drover_info("aggregator.started", "Folding the fleet's messages into Redis", F_S("process_id", name),
                F_S("redis", drover_redis_where(redis)));
    while (!drover_drain_requested())
        step(&a);
    drover_heartbeat_beat(heartbeat, true);
    drover_info("aggregator.stopped", "Drained");
    return true;
}
