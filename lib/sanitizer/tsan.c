/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What ThreadSanitizer must be told about libraries that it does not see into. Linked into programs of the `tsan` preset only.
 *
 * - GLib's GMutex and GCond are made of futexes, which ThreadSanitizer does not know: here their calls are passed on, with
 *   a note of who follows whom. The same goes for the queue inside a GThreadPool.
 * - librdkafka uses C11 threads, which GCC 12's ThreadSanitizer does not intercept, and a thread it does not know crashes it.
 *   In glibc they are POSIX threads by another name, so they are called by that name.
 * - What GIO, librdkafka and libnbd do among themselves is theirs: calls made from within them are not examined.
 */
#include <dlfcn.h>
#include <errno.h>
#include <glib.h>
#include <pthread.h>
#include <sanitizer/tsan_interface.h>
#include <threads.h>

const char *__tsan_default_suppressions(void);

const char *__tsan_default_suppressions(void) {
    return "race:libgio-2.0.so\n"
           "race:libgobject-2.0.so\n"
           "called_from_lib:librdkafka.so\n"
           "called_from_lib:libnbd.so\n"
           "called_from_lib:libcurl.so\n"
           "called_from_lib:libcurl-gnutls.so\n"
           /* GLib's own worker thread and its callers, who hand over to each other through a GMainContext: */
           "race:g_strconcat\n"
           "race:g_realloc\n";
}

#define NEXT(function)                                                                                                          \
    static __typeof__(&function) found;                                                                                         \
    __typeof__(&function) next = __atomic_load_n(&found, __ATOMIC_RELAXED);                                                     \
    if (!next)                                                                                                                  \
    __atomic_store_n(&found, next = (__typeof__(&function))dlsym(RTLD_NEXT, #function), __ATOMIC_RELAXED)

/* -- GLib ------------------------------------------------------------------------------------------------------------ */

void g_mutex_lock(GMutex *mutex) {
    NEXT(g_mutex_lock);
    next(mutex);
    __tsan_acquire(mutex);
}

gboolean g_mutex_trylock(GMutex *mutex) {
    NEXT(g_mutex_trylock);
    gboolean locked = next(mutex);
    if (locked)
        __tsan_acquire(mutex);
    return locked;
}

void g_mutex_unlock(GMutex *mutex) {
    NEXT(g_mutex_unlock);
    __tsan_release(mutex);
    next(mutex);
}

void g_cond_wait(GCond *cond, GMutex *mutex) {
    NEXT(g_cond_wait);
    __tsan_release(mutex);
    next(cond, mutex);
    __tsan_acquire(mutex);
}

gboolean g_cond_wait_until(GCond *cond, GMutex *mutex, gint64 end_time) {
    NEXT(g_cond_wait_until);
    __tsan_release(mutex);
    gboolean signalled = next(cond, mutex, end_time);
    __tsan_acquire(mutex);
    return signalled;
}

static char pools; /* one place of synchronisation for all thread pools: coarser than the truth, but never wrong about it */

typedef struct {
    GFunc function;
    gpointer data;
} PoolFunction;

static void run_in_pool(gpointer item, gpointer data) {
    PoolFunction *wrapped = data;
    __tsan_acquire(&pools);
    wrapped->function(item, wrapped->data);
    __tsan_release(&pools);
}

GThreadPool *g_thread_pool_new(GFunc function, gpointer data, gint max_threads, gboolean exclusive, GError **error) {
    NEXT(g_thread_pool_new);
    PoolFunction *wrapped = g_new(PoolFunction, 1); /* lives as long as the program: a pool's end is not seen here */
    *wrapped = (PoolFunction){function, data};
    return next(run_in_pool, wrapped, max_threads, exclusive, error);
}

gboolean g_thread_pool_push(GThreadPool *pool, gpointer item, GError **error) {
    NEXT(g_thread_pool_push);
    __tsan_release(&pools);
    return next(pool, item, error);
}

void g_thread_pool_free(GThreadPool *pool, gboolean immediate, gboolean wait) {
    NEXT(g_thread_pool_free);
    next(pool, immediate, wait);
    __tsan_acquire(&pools);
}

/* Slices go from thread to thread through magazines without a lock that ThreadSanitizer sees. */
gpointer g_slice_alloc(gsize size) {
    return g_malloc(size);
}

gpointer g_slice_alloc0(gsize size) {
    return g_malloc0(size);
}

void g_slice_free1(gsize size, gpointer block) {
    (void)size;
    g_free(block);
}

/* -- C11 threads ------------------------------------------------------------------------------------------------------- */

typedef struct {
    thrd_start_t function;
    void *data;
} Start;

static void *start(void *data) {
    Start begun = *(Start *)data;
    g_free(data);
    return GINT_TO_POINTER(begun.function(begun.data));
}

int thrd_create(thrd_t *thread, thrd_start_t function, void *data) {
    Start *begin = g_new(Start, 1);
    *begin = (Start){function, data};
    int rc = pthread_create(thread, NULL, start, begin);
    if (rc == 0)
        return thrd_success;
    g_free(begin);
    return rc == ENOMEM ? thrd_nomem : thrd_error;
}

int thrd_join(thrd_t thread, int *result) {
    void *value;
    if (pthread_join(thread, &value) != 0)
        return thrd_error;
    if (result)
        *result = GPOINTER_TO_INT(value);
    return thrd_success;
}

int thrd_detach(thrd_t thread) {
    return pthread_detach(thread) == 0 ? thrd_success : thrd_error;
}

static int c11(int rc) {
    return rc == 0 ? thrd_success : rc == EBUSY ? thrd_busy : rc == ETIMEDOUT ? thrd_timedout : thrd_error;
}

int mtx_init(mtx_t *mutex, int type) {
    pthread_mutexattr_t attributes;
    pthread_mutexattr_init(&attributes);
    if (type & mtx_recursive)
        pthread_mutexattr_settype(&attributes, PTHREAD_MUTEX_RECURSIVE);
    int rc = pthread_mutex_init((pthread_mutex_t *)mutex, &attributes);
    pthread_mutexattr_destroy(&attributes);
    return c11(rc);
}

void mtx_destroy(mtx_t *mutex) {
    pthread_mutex_destroy((pthread_mutex_t *)mutex);
}

int mtx_lock(mtx_t *mutex) {
    return c11(pthread_mutex_lock((pthread_mutex_t *)mutex));
}

int mtx_trylock(mtx_t *mutex) {
    return c11(pthread_mutex_trylock((pthread_mutex_t *)mutex));
}

int mtx_unlock(mtx_t *mutex) {
    return c11(pthread_mutex_unlock((pthread_mutex_t *)mutex));
}

int cnd_init(cnd_t *cond) {
    return c11(pthread_cond_init((pthread_cond_t *)cond, NULL));
}

void cnd_destroy(cnd_t *cond) {
    pthread_cond_destroy((pthread_cond_t *)cond);
}

int cnd_signal(cnd_t *cond) {
    return c11(pthread_cond_signal((pthread_cond_t *)cond));
}

int cnd_broadcast(cnd_t *cond) {
    return c11(pthread_cond_broadcast((pthread_cond_t *)cond));
}

int cnd_wait(cnd_t *cond, mtx_t *mutex) {
    return c11(pthread_cond_wait((pthread_cond_t *)cond, (pthread_mutex_t *)mutex));
}

int cnd_timedwait(cnd_t *cond, mtx_t *mutex, const struct timespec *until) {
    return c11(pthread_cond_timedwait((pthread_cond_t *)cond, (pthread_mutex_t *)mutex, until));
}
