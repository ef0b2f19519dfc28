/* SPDX-License-Identifier: Apache-2.0 */
#include "progress-aggregator/fold.h"

#include <string.h>

#include "lib/base/error.h"
#include "lib/base/ids.h"
#include "lib/base/log.h"

#define STALE_SPEED_MS "30000"
#define FORGET_SILENT_MS "3600000"
#define FORGET_STOPPED_MS "600000"

struct DroverFold {
    DroverRedis *redis;
    char *offsets_key;
    char *epoch;
    char sha[DROVER_FOLD_KINDS][41];
    GHashTable *held; /* "topic/partition" -> int64_t next offset, what we know to be folded */
};

DroverFold *drover_fold_new(DroverRedis *redis)
{
    DroverFold *fold = g_new0(DroverFold, 1);
    fold->redis = redis;
    fold->offsets_key = g_strconcat(drover_redis_prefix(redis), "offsets", NULL);
    fold->held = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    return fold;
}

void drover_fold_free(DroverFold *fold)
{
    if (!fold)
        return;
    g_hash_table_unref(fold->held);
    g_free(fold->offsets_key);
    g_free(fold->epoch);
    g_free(fold);
}

static void hold(DroverFold *fold, const char *name, int64_t next)
{
    int64_t *value = g_new(int64_t, 1);
    *value = next;
    g_hash_table_replace(fold->held, g_strdup(name), value);
}

static int64_t held(const DroverFold *fold, const char *name)
{
    const int64_t *value = g_hash_table_lookup(fold->held, name);
    return value ? *value : -1;
}

static char *partition_name(const char *topic, int32_t partition)
{
    return g_strdup_printf("%s/%" G_GINT32_FORMAT, topic, partition);
}

/* ---- opening -------------------------------------------------------------------------------------------------- */

bool drover_fold_open(DroverFold *fold, GError **error)
{
    g_hash_table_remove_all(fold->held);
    for (int i = 0; i < DROVER_FOLD_KINDS; i++)
        if (!drover_redis_load(fold->redis, drover_fold_scripts[i], fold->sha[i], error))
            return false;
    g_autofree char *fresh = drover_id_new("");
    g_autoptr(DroverRedisReply) set =
        drover_redis_call(fold->redis, error, "HSETNX", fold->offsets_key, "epoch", fresh, NULL);
    if (!set)
        return false;
    g_autoptr(DroverRedisReply) get = drover_redis_call(fold->redis, error, "HGET", fold->offsets_key, "epoch", NULL);
    if (!get)
        return false;
    if (get->type != REDIS_REPLY_STRING)
        return drover_fail(error, DROVER_ERROR_RETRYABLE, "Redis at %s lost its epoch while it was read",
                           drover_redis_where(fold->redis));
    if (g_strcmp0(fold->epoch, get->str) != 0)
        drover_info("redis.epoch", fold->epoch ? "Redis lost its data: everything is read again"
                                               : "Connected to Redis",
                    F_S("redis", drover_redis_where(fold->redis)), F_S("epoch", get->str));
    g_free(fold->epoch);
    fold->epoch = g_strdup(get->str);
    return true;
}

bool drover_fold_next_offset(DroverFold *fold, const char *topic, int32_t partition, int64_t *next, GError **error)
{
    g_autofree char *name = partition_name(topic, partition);
    g_autoptr(DroverRedisReply) r = drover_redis_call(fold->redis, error, "HGET", fold->offsets_key, name, NULL);
    if (!r)
        return false;
    *next = r->type == REDIS_REPLY_STRING ? g_ascii_strtoll(r->str, NULL, 10) : 0;
    hold(fold, name, r->type == REDIS_REPLY_STRING ? *next : -1);
    return true;
}

/* ---- applying ------------------------------------------------------------------------------------------------- */

/* Queues one script call. OWN are the script's own arguments. */
static bool send(DroverFold *fold, DroverFoldKind kind, const char *name, int64_t offset, int64_t expected,
                 const GPtrArray *own, GError **error)
{
    g_autoptr(GPtrArray) args = g_ptr_array_new();
    g_autofree char *offset_text = g_strdup_printf("%" G_GINT64_FORMAT, offset);
    g_autofree char *expected_text = g_strdup_printf("%" G_GINT64_FORMAT, expected);
    g_autofree char *now_text = g_strdup_printf("%" G_GINT64_FORMAT, drover_now_ms());
    const char *const common[] = {"EVALSHA",     fold->sha[kind], "1",  fold->offsets_key, drover_redis_prefix(fold->redis),
                                  fold->epoch,   name,            offset_text, expected_text, now_text};
    for (guint i = 0; i < G_N_ELEMENTS(common); i++)
        g_ptr_array_add(args, (gpointer)common[i]);
    for (guint i = 0; own && i < own->len; i++)
        g_ptr_array_add(args, g_ptr_array_index(own, i));
    return drover_redis_append(fold->redis, (int)args->len, (const char **)args->pdata, NULL, error);
}

/* A log that goes back has been made anew (or lost its end): what Redis says about its offsets is about another log. */
static bool log_went_back(DroverFold *fold, const DroverRecord *record, const char *name, GError **error)
{
    drover_warning("kafka.log_restarted", "The topic's log begins anew: its offsets in Redis are forgotten",
                   F_S("topic", record->topic), F_I("partition", record->partition), F_I("offset", record->offset),
                   F_I("expected", held(fold, name)));
    g_autoptr(DroverRedisReply) r = drover_redis_call(fold->redis, error, "HDEL", fold->offsets_key, name, NULL);
    if (!r)
        return false;
    g_hash_table_remove(fold->held, name);
    return true;
}

typedef struct {
    char *name;
    const DroverRecord *record;
} Sent;

static void sent_clear(gpointer data)
{
    g_free(((Sent *)data)->name);
}

static bool queue_record(DroverFold *fold, const DroverRecord *record, GHashTable *predicted, GArray *sent,
                         DroverPoisonFunc poison, void *user_data, GError **error)
{
    g_autoptr(GPtrArray) own = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GError) why = NULL;
    DroverFoldKind kind;
    if (!drover_codec_decode(record, &kind, own, &why) && !poison(record, why->message, user_data, error))
        return false;
    g_autofree char *name = partition_name(record->topic, record->partition);
    const int64_t *ahead = g_hash_table_lookup(predicted, name);
    if (!send(fold, kind, name, record->offset, ahead ? *ahead : held(fold, name), own, error))
        return false;
    int64_t *next = g_new(int64_t, 1);
    *next = record->offset + 1;
    g_hash_table_replace(predicted, g_strdup(name), next);
    Sent s = {g_steal_pointer(&name), record};
    g_array_append_val(sent, s);
    return true;
}

/* A script that refuses a record does so for good: the record is put aside and its offset moves on. */
static bool pass_over(DroverFold *fold, const Sent *s, const char *reason, DroverPoisonFunc poison, void *user_data,
                      GError **error)
{
    if (!poison(s->record, reason, user_data, error) ||
        !send(fold, DROVER_FOLD_SKIP, s->name, s->record->offset, -1, NULL, error))
        return false;
    g_autoptr(DroverRedisReply) r = drover_redis_next(fold->redis, error);
    return r != NULL;
}

static DroverFoldResult take_answers(DroverFold *fold, GArray *sent, DroverPoisonFunc poison, void *user_data,
                                     GError **error)
{
    DroverFoldResult result = DROVER_FOLD_DONE;
    const Sent *refused = NULL;
    g_autofree char *reason = NULL;
    g_autoptr(GError) first = NULL;
    for (guint i = 0; i < sent->len; i++) {
        const Sent *s = &g_array_index(sent, Sent, i);
        g_autoptr(DroverRedisReply) r = drover_redis_next(fold->redis, error);
        if (!r)
            return DROVER_FOLD_FAILED;
        bool is_error = r->type == REDIS_REPLY_ERROR;
        if (is_error && drover_redis_error_class(r->str) == DROVER_ERROR_RETRYABLE) {
            if (!first)
                drover_fail(&first, DROVER_ERROR_RETRYABLE, "Redis at %s does not take changes: %s",
                            drover_redis_where(fold->redis), r->str);
        } else if (is_error) {
            if (!refused) {
                refused = s;
                reason = g_strdup(r->str);
            }
            result = DROVER_FOLD_LOST;
        } else if (r->str && strcmp(r->str, "LOST") == 0) {
            result = DROVER_FOLD_LOST;
        } else if (result == DROVER_FOLD_DONE && !first) {
            hold(fold, s->name, s->record->offset + 1);
        }
    }
    if (first) {
        /* A replica, or a server in trouble: ask anew where the master is. */
        drover_redis_disconnect(fold->redis);
        g_propagate_error(error, g_steal_pointer(&first));
        return DROVER_FOLD_FAILED;
    }
    if (refused && !pass_over(fold, refused, reason, poison, user_data, error))
        return DROVER_FOLD_FAILED;
    return result;
}

DroverFoldResult drover_fold_apply(DroverFold *fold, GPtrArray *records, DroverPoisonFunc poison, void *user_data,
                                   GError **error)
{
    g_autoptr(GHashTable) predicted = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    g_autoptr(GArray) sent = g_array_new(FALSE, FALSE, sizeof(Sent));
    g_array_set_clear_func(sent, sent_clear);
    for (guint i = 0; i < records->len; i++) {
        const DroverRecord *record = g_ptr_array_index(records, i);
        g_autofree char *name = partition_name(record->topic, record->partition);
        if (!g_hash_table_contains(predicted, name) && record->offset < held(fold, name) &&
            !log_went_back(fold, record, name, error))
            return DROVER_FOLD_FAILED;
    }
    for (guint i = 0; i < records->len; i++) {
        if (!queue_record(fold, g_ptr_array_index(records, i), predicted, sent, poison, user_data, error)) {
            drover_redis_disconnect(fold->redis); /* answers to what was queued must not be taken for others */
            return DROVER_FOLD_FAILED;
        }
    }
    return take_answers(fold, sent, poison, user_data, error);
}

/* ---- time ----------------------------------------------------------------------------------------------------- */

DroverFoldResult drover_fold_check(DroverFold *fold, GError **error)
{
    g_autoptr(DroverRedisReply) r = drover_redis_call(fold->redis, error, "HGETALL", fold->offsets_key, NULL);
    if (!r)
        return DROVER_FOLD_FAILED;
    g_autoptr(GHashTable) found = g_hash_table_new(g_str_hash, g_str_equal);
    for (size_t i = 0; r->type == REDIS_REPLY_ARRAY && i + 1 < r->elements; i += 2)
        g_hash_table_insert(found, r->element[i]->str, r->element[i + 1]->str);
    if (g_strcmp0(g_hash_table_lookup(found, "epoch"), fold->epoch) != 0)
        return DROVER_FOLD_LOST;
    GHashTableIter iter;
    gpointer name, value;
    g_hash_table_iter_init(&iter, fold->held);
    while (g_hash_table_iter_next(&iter, &name, &value)) {
        const char *text = g_hash_table_lookup(found, name);
        if ((text ? g_ascii_strtoll(text, NULL, 10) : -1) < *(int64_t *)value)
            return DROVER_FOLD_LOST;
    }
    return DROVER_FOLD_DONE;
}

bool drover_fold_tick(DroverFold *fold, GError **error)
{
    g_autofree char *now = g_strdup_printf("%" G_GINT64_FORMAT, drover_now_ms());
    g_autoptr(DroverRedisReply) r =
        drover_redis_call(fold->redis, error, "EVALSHA", fold->sha[DROVER_FOLD_TICK], "1", fold->offsets_key,
                          drover_redis_prefix(fold->redis), now, STALE_SPEED_MS, FORGET_SILENT_MS, FORGET_STOPPED_MS, NULL);
    return r != NULL;
}
