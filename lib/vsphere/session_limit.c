/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/vsphere/session_limit.h"

/* How late a cancellation may be noticed. */
#define LOOK_US (100 * G_TIME_SPAN_MILLISECOND)

static GMutex lock;
static GCond given;
static GHashTable *taken; /* key -> count; made by the first, and kept: others may be waiting */

bool drover_vsphere_session_take(const char *key, unsigned most, GCancellable *cancel, GError **error)
{
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&lock);
    if (taken == NULL)
        taken = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    while (GPOINTER_TO_UINT(g_hash_table_lookup(taken, key)) >= most) {
        if (g_cancellable_set_error_if_cancelled(cancel, error))
            return false;
        g_cond_wait_until(&given, &lock, g_get_monotonic_time() + LOOK_US);
    }
    unsigned n = GPOINTER_TO_UINT(g_hash_table_lookup(taken, key));
    g_hash_table_insert(taken, g_strdup(key), GUINT_TO_POINTER(n + 1));
    return true;
}

void drover_vsphere_session_give(const char *key)
{
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&lock);
    unsigned n = GPOINTER_TO_UINT(g_hash_table_lookup(taken, key));
    g_assert(n > 0);
    if (n == 1)
        g_hash_table_remove(taken, key);
    else
        g_hash_table_insert(taken, g_strdup(key), GUINT_TO_POINTER(n - 1));
    g_cond_broadcast(&given);
}
