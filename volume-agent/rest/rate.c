/* SPDX-License-Identifier: Apache-2.0 */
#include "volume-agent/rest/rate.h"

#include <math.h>

typedef struct {
    char *caller;
    double filled; /* requests that may be made, as of AT_MS */
    int64_t at_ms;
    GList link; /* in BY_AGE, DATA is the bucket */
} Bucket;

struct DroverRestRate {
    double rate;
    double burst;
    unsigned callers;
    GHashTable *buckets; /* caller -> Bucket */
    GQueue by_age;       /* the longest silent one first */
};

static void bucket_free(gpointer data)
{
    Bucket *bucket = data;
    g_free(bucket->caller);
    g_free(bucket);
}

DroverRestRate *drover_rest_rate_new(double rate, unsigned burst, unsigned callers)
{
    DroverRestRate *limit = g_new0(DroverRestRate, 1);
    limit->rate = rate;
    limit->burst = MAX(burst, 1);
    limit->callers = MAX(callers, 1);
    limit->buckets = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, bucket_free);
    g_queue_init(&limit->by_age);
    return limit;
}

void drover_rest_rate_free(DroverRestRate *limit)
{
    if (!limit)
        return;
    g_hash_table_unref(limit->buckets);
    g_free(limit);
}

static Bucket *bucket_of(DroverRestRate *limit, const char *caller, int64_t now_ms)
{
    Bucket *bucket = g_hash_table_lookup(limit->buckets, caller);
    if (bucket) {
        g_queue_unlink(&limit->by_age, &bucket->link);
    } else {
        if (g_hash_table_size(limit->buckets) >= limit->callers) {
            GList *oldest = g_queue_pop_head_link(&limit->by_age);
            g_hash_table_remove(limit->buckets, ((Bucket *)oldest->data)->caller);
        }
        bucket = g_new0(Bucket, 1);
        bucket->caller = g_strdup(caller);
        bucket->filled = limit->burst;
        bucket->at_ms = now_ms;
        bucket->link.data = bucket;
        g_hash_table_insert(limit->buckets, bucket->caller, bucket);
    }
    g_queue_push_tail_link(&limit->by_age, &bucket->link);
    return bucket;
}

bool drover_rest_rate_take(DroverRestRate *limit, const char *caller, int64_t now_ms, unsigned *retry_s)
{
    if (limit->rate <= 0)
        return true;
    Bucket *bucket = bucket_of(limit, caller, now_ms);
    if (now_ms > bucket->at_ms) {
        bucket->filled =
            MIN(bucket->filled + (double)(now_ms - bucket->at_ms) / 1000 * limit->rate, limit->burst);
        bucket->at_ms = now_ms;
    }
    if (bucket->filled >= 1) {
        bucket->filled -= 1;
        return true;
    }
    *retry_s = (unsigned)MAX(ceil((1 - bucket->filled) / limit->rate), 1);
    return false;
}
