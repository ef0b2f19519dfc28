/* SPDX-License-Identifier: Apache-2.0 */
#include "progress-aggregator/catch-up.h"

#define QUIET_MS 500
#define QUIET_AT_FIRST_MS 3000
#define LONGEST_MS 60000

struct DroverCatchUp {
    bool active;
    int64_t begun_ms;
    int64_t added_ms;
    bool reached; /* a record newer than the beginning was seen */
    GHashTable *records; /* key -> DroverRecord, which owns the key */
};

DroverCatchUp *drover_catch_up_new(void)
{
    DroverCatchUp *c = g_new0(DroverCatchUp, 1);
    c->records = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, (GDestroyNotify)drover_record_free);
    return c;
}

void drover_catch_up_free(DroverCatchUp *c)
{
    if (!c)
        return;
    g_hash_table_unref(c->records);
    g_free(c);
}

void drover_catch_up_reset(DroverCatchUp *c, bool active, int64_t now_ms)
{
    g_hash_table_remove_all(c->records);
    c->active = active;
    c->begun_ms = c->added_ms = now_ms;
    c->reached = false;
}

bool drover_catch_up_is_active(const DroverCatchUp *c)
{
    return c->active;
}

void drover_catch_up_add(DroverCatchUp *c, DroverRecord *record, int64_t now_ms)
{
    if (!record->key)
        record->key = g_strdup("");
    c->added_ms = now_ms;
    c->reached = c->reached || record->timestamp_ms >= c->begun_ms;
    g_hash_table_replace(c->records, record->key, record);
}

bool drover_catch_up_is_done(const DroverCatchUp *c, int64_t now_ms)
{
    int64_t quiet_ms = g_hash_table_size(c->records) ? QUIET_MS : QUIET_AT_FIRST_MS;
    return c->reached || now_ms - c->added_ms >= quiet_ms || now_ms - c->begun_ms >= LONGEST_MS;
}

static int by_offset(gconstpointer a, gconstpointer b)
{
    const DroverRecord *x = *(DroverRecord *const *)a, *y = *(DroverRecord *const *)b;
    return (x->offset > y->offset) - (x->offset < y->offset);
}

GPtrArray *drover_catch_up_take(DroverCatchUp *c)
{
    GPtrArray *records = g_ptr_array_new_with_free_func((GDestroyNotify)drover_record_free);
    GHashTableIter iter;
    gpointer record;
    g_hash_table_iter_init(&iter, c->records);
    while (g_hash_table_iter_next(&iter, NULL, &record)) {
        g_hash_table_iter_steal(&iter);
        g_ptr_array_add(records, record);
    }
    g_ptr_array_sort(records, by_offset);
    c->active = false;
    return records;
}
