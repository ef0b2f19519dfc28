/* SPDX-License-Identifier: Apache-2.0 */
#include "scheduler/rebuild.h"

#include "lib/base/ids.h"
#include "lib/base/log.h"
#include "scheduler/apply.h"
#include "scheduler/codec.h"
#include "scheduler/dispatch.h"

#define METADATA_TIMEOUT_MS 10000
#define POLL_MS 100

typedef void (*RecordFunc)(DroverRecord *record, void *data); /* takes the record */

typedef struct {
    RebuildAlive alive;
    void *data;
} Watch;

static bool read_to_end(DroverConsumer *consumer, const Watch *watch, RecordFunc take, void *data,
                        GError **error)
{
    for (unsigned n = 0; !drover_consumer_at_end(consumer); n++) {
        if (n % 256 == 0 && !watch->alive(watch->data))
            return false;
        g_autoptr(GError) failure = NULL;
        DroverRecord *record = drover_consumer_poll(consumer, POLL_MS, &failure);
        if (record != NULL) {
            take(record, data);
        } else if (failure != NULL) {
            if (drover_error_class(failure) != DROVER_ERROR_RETRYABLE) {
                g_propagate_error(error, g_steal_pointer(&failure));
                return false;
            }
            drover_debug("kafka.read", failure->message);
        } else {
            n |= 255; /* nothing came: look whether we are still wanted */
        }
    }
    return true;
}

static void record_free(void *data)
{
    drover_record_free(data);
}

/* The last record of each key of drover.state, and all of drover.control. */
typedef struct {
    World *world;
    GHashTable *state; /* key -> DroverRecord */
} Snapshot;

static void take_snapshot_record(DroverRecord *record, void *data)
{
    Snapshot *snapshot = data;
    if (!g_str_equal(record->topic, "drover.state")) {
        apply_record(snapshot->world, record);
        drover_record_free(record);
    } else if (record->key == NULL) {
        drover_record_free(record);
    } else if (record->value == NULL) {
        g_hash_table_remove(snapshot->state, record->key);
        drover_record_free(record);
    } else {
        g_hash_table_replace(snapshot->state, record->key, record);
    }
}

static bool load_kind(World *world, GHashTable *state, CodecStateKind wanted, GError **error)
{
    GHashTableIter iter;
    void *value;
    g_hash_table_iter_init(&iter, state);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        const DroverRecord *record = value;
        CodecStateKind kind = CODEC_STATE_OTHER;
        bool ok = codec_state_kind(record->value, record->len, &kind, error);
        if (ok && kind == wanted) {
            if (kind == CODEC_STATE_JOB)
                ok = codec_load_job(record->value, record->len, world->jobs, error);
            else if (kind == CODEC_STATE_DISK)
                ok = codec_load_disk(record->value, record->len, world->jobs, error);
            else if (kind == CODEC_STATE_TASK)
                ok = codec_load_task(record->value, record->len, world->jobs, error);
            else if (kind == CODEC_STATE_OFFSETS)
                ok = codec_load_offsets(record->value, record->len, world->offsets, error);
        }
        if (!ok) {
            g_prefix_error(error, "drover.state, key %s, offset %" G_GINT64_FORMAT ": ", record->key,
                           record->offset);
            return false;
        }
    }
    return true;
}

static int by_range(const void *a, const void *b)
{
    const DroverTask *x = *(const DroverTask *const *)a, *y = *(const DroverTask *const *)b;
    if (x->kind != y->kind)
        return (int)x->kind - (int)y->kind;
    if (x->range.offset != y->range.offset)
        return x->range.offset < y->range.offset ? -1 : 1;
    return g_strcmp0(x->task_id, y->task_id);
}

/* Records come in any order; tasks go out in the order of the disk. */
static void sort_tasks(World *world)
{
    GHashTableIter iter;
    void *value;
    g_hash_table_iter_init(&iter, world->jobs);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        DroverJob *job = value;
        for (guint d = 0; d < job->disks->len; d++)
            g_ptr_array_sort(((DroverDisk *)job->disks->pdata[d])->tasks, by_range);
    }
}

static bool load_state(World *world, const DroverKafka *kafka, const Watch *watch, GError **error)
{
    static const CodecStateKind order[] = {CODEC_STATE_OFFSETS, CODEC_STATE_JOB, CODEC_STATE_DISK,
                                           CODEC_STATE_TASK};
    g_autoptr(DroverConsumer) consumer = drover_consumer_new_manual(kafka, error);
    g_autoptr(GHashTable) state = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, record_free);
    Snapshot snapshot = {world, state};
    if (consumer == NULL ||
        !drover_consumer_assign_topic(consumer, "drover.state", DROVER_OFFSET_BEGINNING, METADATA_TIMEOUT_MS,
                                      error) ||
        !drover_consumer_assign_topic(consumer, "drover.control", DROVER_OFFSET_BEGINNING,
                                      METADATA_TIMEOUT_MS, error) ||
        !read_to_end(consumer, watch, take_snapshot_record, &snapshot, error))
        return false;
    for (size_t i = 0; i < G_N_ELEMENTS(order); i++)
        if (!load_kind(world, state, order[i], error))
            return false;
    sort_tasks(world);
    return true;
}

static void take_fact(DroverRecord *record, void *data)
{
    apply_record(data, record);
    drover_record_free(record);
}

static bool assign_each(DroverConsumer *consumer, const char *prefix, const char *const *names,
                        GError **error)
{
    for (size_t i = 0; names[i] != NULL; i++) {
        g_autofree char *topic = g_strconcat(prefix, names[i], NULL);
        if (!drover_consumer_assign_topic(consumer, topic, DROVER_OFFSET_BEGINNING, METADATA_TIMEOUT_MS,
                                          error))
            return false;
    }
    return true;
}

static bool assign_facts(DroverConsumer *consumer, const SchedulerOptions *options, GError **error)
{
    return drover_consumer_assign_topic(consumer, "drover.fleet", DROVER_OFFSET_BEGINNING,
                                        METADATA_TIMEOUT_MS, error) &&
           assign_each(consumer, "drover.checkpoints.", options->sites, error) &&
           assign_each(consumer, "drover.journal.", options->agents, error);
}

static bool assign_stored(DroverConsumer *consumer, const World *world, const char *topic, GError **error)
{
    int count = drover_kafka_partition_count(consumer, topic, METADATA_TIMEOUT_MS, error);
    for (int partition = 0; partition < count; partition++) {
        g_autofree char *key = g_strdup_printf("%s/%d", topic, partition);
        const int64_t *next = g_hash_table_lookup(world->offsets, key);
        if (!drover_consumer_assign_partition(consumer, topic, partition,
                                              next != NULL ? *next : DROVER_OFFSET_BEGINNING, error))
            return false;
    }
    return count >= 0;
}

static bool assign_inputs(DroverConsumer *consumer, const World *world, GError **error)
{
    const char *const *lists[] = {world->options->sites, world->options->agents};
    for (size_t l = 0; l < G_N_ELEMENTS(lists); l++)
        for (size_t i = 0; lists[l][i] != NULL; i++) {
            g_autofree char *topic = g_strconcat("drover.events.", lists[l][i], NULL);
            if (!assign_stored(consumer, world, topic, error))
                return false;
        }
    return assign_stored(consumer, world, "drover.jobs", error);
}

World *rebuild_world(const DroverKafka *kafka, const SchedulerOptions *options, RebuildAlive alive,
                     void *data, DroverConsumer **inputs, GError **error)
{
    Watch watch = {alive, data};
    int64_t began_ms = drover_boottime_ms();
    g_autoptr(World) world = world_new(options);
    world->lease_ms = began_ms;
    if (!load_state(world, kafka, &watch, error))
        return NULL;
    g_autoptr(DroverConsumer) consumer = drover_consumer_new_manual(kafka, error);
    if (consumer == NULL || !assign_facts(consumer, options, error) ||
        !read_to_end(consumer, &watch, take_fact, world, error) || !assign_inputs(consumer, world, error))
        return NULL;
    dispatch_takeover(world);
    drover_info("state.rebuilt", "Read the state of all jobs", F_U("jobs", g_hash_table_size(world->jobs)),
                F_I("ms", drover_boottime_ms() - began_ms));
    *inputs = g_steal_pointer(&consumer);
    return g_steal_pointer(&world);
}
