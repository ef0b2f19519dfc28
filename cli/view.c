/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/view.h"

#include <string.h>

#include "lib/base/error.h"

void drover_job_view_free(DroverJobView *view)
{
    if (!view)
        return;
    g_free(view->job_id);
    g_hash_table_unref(view->fields);
    g_ptr_array_unref(view->disks);
    g_hash_table_unref(view->failover);
    g_free(view);
}

static GHashTable *read_hash(DroverRedis *redis, const char *key, GError **error)
{
    g_autoptr(DroverRedisReply) r = drover_redis_call(redis, error, "HGETALL", key, NULL);
    if (!r)
        return NULL;
    GHashTable *fields = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    for (size_t i = 0; r->type == REDIS_REPLY_ARRAY && i + 1 < r->elements; i += 2)
        g_hash_table_insert(fields, g_strdup(r->element[i]->str), g_strdup(r->element[i + 1]->str));
    return fields;
}

bool drover_view_job(DroverRedis *redis, const char *job_id, DroverJobView **out, GError **error)
{
    const char *prefix = drover_redis_prefix(redis);
    g_autofree char *job_key = g_strconcat(prefix, "job:", job_id, NULL);
    g_autofree char *failover_key = g_strconcat(prefix, "failover:", job_id, NULL);
    g_autoptr(DroverJobView) view = g_new0(DroverJobView, 1);
    view->job_id = g_strdup(job_id);
    view->disks = g_ptr_array_new_with_free_func((GDestroyNotify)g_hash_table_unref);
    view->fields = read_hash(redis, job_key, error);
    if (view->fields)
        view->failover = read_hash(redis, failover_key, error);
    if (!view->fields || !view->failover) {
        g_clear_pointer(&view->fields, g_hash_table_unref);
        view->fields = g_hash_table_new(g_str_hash, g_str_equal);
        view->failover = g_hash_table_new(g_str_hash, g_str_equal);
        return false;
    }
    /* Progress may be there before the job's own record is. */
    if (!g_hash_table_contains(view->fields, "status")) {
        *out = NULL;
        return true;
    }
    g_auto(GStrv) ids = g_strsplit(drover_view_text(view->fields, "disks"), ",", -1);
    for (char **id = ids; *id; id++) {
        g_autofree char *key = g_strconcat(prefix, "disk:", job_id, ":", *id, NULL);
        GHashTable *disk = read_hash(redis, key, error);
        if (!disk)
            return false;
        g_hash_table_insert(disk, g_strdup("disk_id"), g_strdup(*id));
        g_ptr_array_add(view->disks, disk);
    }
    *out = g_steal_pointer(&view);
    return true;
}

GPtrArray *drover_view_jobs(DroverRedis *redis, const char *status, int64_t limit, GError **error)
{
    g_autofree char *key =
        g_strconcat(drover_redis_prefix(redis), "jobs", status ? ":" : "", status ? status : "", NULL);
    g_autofree char *last = g_strdup_printf("%" G_GINT64_FORMAT, limit > 0 ? limit - 1 : -1);
    g_autoptr(DroverRedisReply) r = drover_redis_call(redis, error, "ZREVRANGE", key, "0", last, NULL);
    if (!r)
        return NULL;
    GPtrArray *ids = g_ptr_array_new_with_free_func(g_free);
    for (size_t i = 0; r->type == REDIS_REPLY_ARRAY && i < r->elements; i++)
        g_ptr_array_add(ids, g_strdup(r->element[i]->str));
    return ids;
}

const char *drover_view_text(GHashTable *fields, const char *name)
{
    const char *text = g_hash_table_lookup(fields, name);
    return text ? text : "";
}

uint64_t drover_view_number(GHashTable *fields, const char *name)
{
    return g_ascii_strtoull(drover_view_text(fields, name), NULL, 10);
}

bool drover_view_ended(const DroverJobView *view)
{
    static const char *const ends[] = {"completed", "failed", "cancelled", "rolled-back", NULL};
    return g_strv_contains(ends, drover_view_text(view->fields, "status"));
}

bool drover_view_succeeded(const DroverJobView *view)
{
    return strcmp(drover_view_text(view->fields, "status"), "completed") == 0;
}

/* ---- JSON ----------------------------------------------------------------------------------------------------- */

static json_t *json_value(const char *name, const char *text)
{
    static const char *const integers[] = {
        "bytes_transferred", "total_bytes",     "transfer_speed_bps", "setup_progress_percent", "round",
        "bytes_synced",      "capacity_bytes",  "target_size_bytes",  "generation",             "verified_bytes",
        "repaired_cells",    "zero_found_bytes", "resent_bytes",      "state_version",          "ledger_entries",
        "vma_eta_seconds",   "eta_seconds",     NULL};
    static const char *const reals[] = {"progress_percent", "sync_progress_percent", "vma_throughput_mbps", NULL};
    static const char *const flags[] = {"failover_requested", "extents_available", "export_open", "diverged", NULL};
    if (g_strv_contains(integers, name))
        return *text ? json_integer((json_int_t)g_ascii_strtoll(text, NULL, 10)) : json_null();
    if (g_strv_contains(reals, name))
        return json_real(g_ascii_strtod(text, NULL));
    if (g_strv_contains(flags, name))
        return json_boolean(strcmp(text, "1") == 0);
    return json_string(text);
}

static json_t *json_hash(GHashTable *fields)
{
    json_t *object = json_object();
    g_autoptr(GList) names = g_list_sort(g_hash_table_get_keys(fields), (GCompareFunc)strcmp);
    for (GList *n = names; n; n = n->next)
        json_object_set_new(object, n->data, json_value(n->data, g_hash_table_lookup(fields, n->data)));
    return object;
}

json_t *drover_view_json(const DroverJobView *view)
{
    json_t *object = json_hash(view->fields);
    json_object_set_new(object, "job_id", json_string(view->job_id));
    json_t *disks = json_array();
    for (guint i = 0; i < view->disks->len; i++)
        json_array_append_new(disks, json_hash(g_ptr_array_index(view->disks, i)));
    json_object_set_new(object, "disks", disks);
    if (g_hash_table_size(view->failover))
        json_object_set_new(object, "failover", json_hash(view->failover));
    return object;
}
