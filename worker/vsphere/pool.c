/* SPDX-License-Identifier: Apache-2.0 */
#include "worker/vsphere/pool.h"

#include <string.h>
#include <sys/stat.h>

#define CANCEL_POLL_US (200 * 1000)

struct DroverVcenterPool {
    char *file;
    GMutex lock; /* the rest */
    GCond free;
    GPtrArray *idle;  /* DroverVcenterSession */
    GHashTable *open; /* name -> how many are borrowed, idle or being opened */
    int64_t file_changed_ns; /* idle sessions are of this state of the file */
};

DroverVcenterPool *drover_vcenter_pool_new(const char *file)
{
    DroverVcenterPool *pool = g_new0(DroverVcenterPool, 1);
    pool->file = g_strdup(file);
    pool->idle = g_ptr_array_new();
    pool->open = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    g_mutex_init(&pool->lock);
    g_cond_init(&pool->free);
    return pool;
}

static void end_session(DroverVcenterSession *session)
{
    drover_vsphere_close(session->vsphere);
    drover_vcenter_free(session->vcenter);
    g_free(session);
}

void drover_vcenter_pool_free(DroverVcenterPool *pool)
{
    if (pool == NULL)
        return;
    for (guint i = 0; i < pool->idle->len; i++)
        end_session(g_ptr_array_index(pool->idle, i));
    g_ptr_array_unref(pool->idle);
    g_hash_table_unref(pool->open);
    g_mutex_clear(&pool->lock);
    g_cond_clear(&pool->free);
    g_free(pool->file);
    g_free(pool);
}

static int64_t file_changed_ns(const char *file)
{
    struct stat st;
    return stat(file, &st) < 0 ? -1 : (int64_t)st.st_mtim.tv_sec * G_GINT64_CONSTANT(1000000000) + st.st_mtim.tv_nsec;
}

/* Under the lock. */
static void count(DroverVcenterPool *pool, const char *name, int by)
{
    unsigned now = GPOINTER_TO_UINT(g_hash_table_lookup(pool->open, name));
    g_hash_table_replace(pool->open, g_strdup(name), GUINT_TO_POINTER(now + (unsigned)by));
}

/* Under the lock. Takes the idle sessions out whose settings may be out of date; the caller ends them. */
static GPtrArray *take_outdated(DroverVcenterPool *pool)
{
    GPtrArray *outdated = g_ptr_array_new();
    int64_t changed = file_changed_ns(pool->file);
    if (changed == pool->file_changed_ns)
        return outdated;
    pool->file_changed_ns = changed;
    while (pool->idle->len > 0) {
        DroverVcenterSession *session = g_ptr_array_steal_index_fast(pool->idle, 0);
        count(pool, session->vcenter->name, -1);
        g_ptr_array_add(outdated, session);
    }
    return outdated;
}

/* Under the lock. */
static DroverVcenterSession *take_idle(DroverVcenterPool *pool, const char *name)
{
    for (guint i = 0; i < pool->idle->len; i++) {
        DroverVcenterSession *session = g_ptr_array_index(pool->idle, i);
        if (strcmp(session->vcenter->name, name) == 0)
            return g_ptr_array_steal_index_fast(pool->idle, i);
    }
    return NULL;
}

/* An idle session, or NULL and the right to open one; false when cancelled. */
static bool wait_for_one(DroverVcenterPool *pool, const DroverVcenter *vcenter, GCancellable *cancel,
                         DroverVcenterSession **session, GError **error)
{
    bool granted = false;
    g_mutex_lock(&pool->lock);
    g_autoptr(GPtrArray) outdated = take_outdated(pool);
    while (!granted && !g_cancellable_is_cancelled(cancel)) {
        *session = take_idle(pool, vcenter->name);
        granted = *session != NULL;
        if (!granted && GPOINTER_TO_UINT(g_hash_table_lookup(pool->open, vcenter->name)) < MAX(vcenter->sessions, 1)) {
            count(pool, vcenter->name, 1);
            granted = true;
        }
        if (!granted)
            g_cond_wait_until(&pool->free, &pool->lock, g_get_monotonic_time() + CANCEL_POLL_US);
    }
    g_mutex_unlock(&pool->lock);
    for (guint i = 0; i < outdated->len; i++)
        end_session(g_ptr_array_index(outdated, i));
    return granted || !g_cancellable_set_error_if_cancelled(cancel, error);
}

DroverVcenterSession *drover_vcenter_pool_borrow(DroverVcenterPool *pool, const char *name, GCancellable *cancel,
                                                 GError **error)
{
    g_autoptr(DroverVcenter) vcenter = drover_vcenter_load(pool->file, name, error);
    DroverVcenterSession *session = NULL;
    if (vcenter == NULL || !wait_for_one(pool, vcenter, cancel, &session, error))
        return NULL;
    if (session != NULL)
        return session;
    session = g_new0(DroverVcenterSession, 1);
    session->pool = pool;
    session->vcenter = g_steal_pointer(&vcenter);
    session->vsphere = drover_vsphere_open(session->vcenter, cancel, error);
    if (session->vsphere != NULL)
        return session;
    g_mutex_lock(&pool->lock);
    count(pool, name, -1);
    g_cond_broadcast(&pool->free);
    g_mutex_unlock(&pool->lock);
    drover_vcenter_free(session->vcenter);
    g_free(session);
    return NULL;
}

void drover_vcenter_session_give_back(DroverVcenterSession *session)
{
    if (session == NULL)
        return;
    DroverVcenterPool *pool = session->pool;
    g_mutex_lock(&pool->lock);
    g_ptr_array_add(pool->idle, session);
    g_cond_broadcast(&pool->free);
    g_mutex_unlock(&pool->lock);
}
