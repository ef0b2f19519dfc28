/* SPDX-License-Identifier: Apache-2.0 */
#include "volume-agent/verify/verifier.h"

#include "lib/base/error.h"
#include "volume-agent/verify/read_back.h"

typedef struct {
    DroverVerifyRequest *request;
    gint64 due_us;
} Queued;

struct DroverVerifier {
    DroverVerifyLimits limits;
    DroverVerifyCallbacks callbacks;
    GPtrArray *threads; /* GThread */
    GMutex lock;
    GCond changed;
    GQueue queue; /* Queued, in the order of arrival */
    bool stopping;
    GPtrArray *current; /* char *, owned by the requests: volumes that are being read, once for each thread */
    gint64 budget_us;   /* when the rate limit lets the next read begin */
};

static void cell_clear(gpointer data)
{
    DroverVerifyCell *cell = data;
    g_clear_pointer(&cell->ranges, g_array_unref);
}

DroverVerifyRequest *drover_verify_request_new(void)
{
    DroverVerifyRequest *request = g_new0(DroverVerifyRequest, 1);
    request->cells = g_array_new(FALSE, TRUE, sizeof(DroverVerifyCell));
    g_array_set_clear_func(request->cells, cell_clear);
    return request;
}

void drover_verify_request_free(DroverVerifyRequest *request)
{
    if (!request)
        return;
    g_free(request->job_id);
    g_free(request->disk_id);
    g_free(request->task_id);
    g_free(request->volume_id);
    g_array_unref(request->cells);
    g_free(request);
}

static void queued_free(gpointer data)
{
    Queued *queued = data;
    drover_verify_request_free(queued->request);
    g_free(queued);
}

/* Waits until UNTIL_US or the end; true when it is time to end. */
static bool wait_until(DroverVerifier *verifier, gint64 until_us)
{
    g_mutex_lock(&verifier->lock);
    while (!verifier->stopping && g_get_monotonic_time() < until_us)
        g_cond_wait_until(&verifier->changed, &verifier->lock, until_us);
    bool stopping = verifier->stopping;
    g_mutex_unlock(&verifier->lock);
    return stopping;
}

/* A token bucket of one cell a thread: READ_BYTES just read push the next read into the future. */
static bool throttle(DroverVerifier *verifier, uint64_t read_bytes)
{
    if (verifier->limits.rate_bytes_per_second == 0)
        return false;
    gint64 now = g_get_monotonic_time();
    gint64 cost = (gint64)(read_bytes * G_USEC_PER_SEC / verifier->limits.rate_bytes_per_second);
    g_mutex_lock(&verifier->lock);
    gint64 until = verifier->budget_us = MAX(verifier->budget_us, now) + cost;
    g_mutex_unlock(&verifier->lock);
    return wait_until(verifier, until);
}

static bool compare_cells(DroverVerifier *verifier, const DroverVerifyRequest *request, const char *path,
                          DroverVerifyOutcome *outcome, GError **error)
{
    g_autoptr(DroverReadBack) back = drover_read_back_open(path, error);
    if (!back)
        return false;
    for (guint i = 0; i < request->cells->len; i++) {
        const DroverVerifyCell *cell = &g_array_index(request->cells, DroverVerifyCell, i);
        DroverDigest root = {0};
        uint64_t read_bytes = 0;
        const DroverRange *ranges = cell->ranges ? (const DroverRange *)(void *)cell->ranges->data : NULL;
        if (!drover_read_back_cell(back, request->digest, cell->cell, request->capacity_bytes, ranges,
                                   cell->ranges ? cell->ranges->len : 0, &root, &read_bytes, error))
            return false;
        GArray *list = drover_digest_equal(&root, &cell->expected) ? outcome->verified : outcome->mismatched;
        g_array_append_val(list, cell->cell);
        outcome->read_bytes += read_bytes;
        if (throttle(verifier, read_bytes))
            return drover_fail(error, DROVER_ERROR_RETRYABLE, "The agent is stopping");
        /* Somebody may be waiting to take the device away. */
        g_autofree char *still = verifier->callbacks.locate(verifier->callbacks.data, request->volume_id,
                                                            request->generation, error);
        if (!still)
            return false;
    }
    return true;
}

static void serve(DroverVerifier *verifier, const DroverVerifyRequest *request)
{
    const DroverVerifyCallbacks *callbacks = &verifier->callbacks;
    if (callbacks->is_obsolete(callbacks->data, request->job_id))
        return;
    g_autoptr(GError) error = NULL;
    g_autoptr(GArray) verified = g_array_new(FALSE, FALSE, sizeof(uint64_t));
    g_autoptr(GArray) mismatched = g_array_new(FALSE, FALSE, sizeof(uint64_t));
    DroverVerifyOutcome outcome = {.verified = verified, .mismatched = mismatched};
    g_autofree char *path = NULL;
    if (request->digest == DROVER_DIGEST_NONE)
        drover_fail(&error, DROVER_ERROR_PERMANENT, "Without digests nothing can be compared");
    else
        path = callbacks->locate(callbacks->data, request->volume_id, request->generation, &error);
    if (path) {
        compare_cells(verifier, request, path, &outcome, &error);
        g_autoptr(GError) gone = NULL;
        g_autofree char *after =
            callbacks->locate(callbacks->data, request->volume_id, request->generation, &gone);
        if (!after) { /* another generation was opened meanwhile: what was read may be its bytes */
            g_array_set_size(verified, 0);
            g_array_set_size(mismatched, 0);
            g_clear_error(&error);
            error = g_steal_pointer(&gone);
        }
    }
    outcome.error = error;
    callbacks->answer(callbacks->data, request, &outcome);
}

static void begin(DroverVerifier *verifier, const DroverVerifyRequest *request)
{
    g_mutex_lock(&verifier->lock);
    g_ptr_array_add(verifier->current, request->volume_id);
    g_mutex_unlock(&verifier->lock);
}

static void end(DroverVerifier *verifier, const DroverVerifyRequest *request)
{
    g_mutex_lock(&verifier->lock);
    g_ptr_array_remove_fast(verifier->current, request->volume_id);
    g_cond_broadcast(&verifier->changed);
    g_mutex_unlock(&verifier->lock);
}

void drover_verifier_release(DroverVerifier *verifier, const char *volume_id)
{
    g_mutex_lock(&verifier->lock);
    while (g_ptr_array_find_with_equal_func(verifier->current, volume_id, g_str_equal, NULL))
        g_cond_wait(&verifier->changed, &verifier->lock);
    g_mutex_unlock(&verifier->lock);
}

static gpointer run(gpointer data)
{
    DroverVerifier *verifier = data;
    for (;;) {
        g_mutex_lock(&verifier->lock);
        while (!verifier->stopping && g_queue_is_empty(&verifier->queue))
            g_cond_wait(&verifier->changed, &verifier->lock);
        Queued *next = verifier->stopping ? NULL : g_queue_pop_head(&verifier->queue);
        g_mutex_unlock(&verifier->lock);
        if (!next)
            return NULL;
        if (!wait_until(verifier, next->due_us)) {
            begin(verifier, next->request);
            serve(verifier, next->request);
            end(verifier, next->request);
        }
        queued_free(next);
    }
}

DroverVerifier *drover_verifier_new(const DroverVerifyLimits *limits, const DroverVerifyCallbacks *callbacks)
{
    DroverVerifier *verifier = g_new0(DroverVerifier, 1);
    verifier->limits = *limits;
    verifier->callbacks = *callbacks;
    g_mutex_init(&verifier->lock);
    g_cond_init(&verifier->changed);
    g_queue_init(&verifier->queue);
    verifier->current = g_ptr_array_new();
    verifier->threads = g_ptr_array_new();
    for (unsigned i = 0; i < MAX(limits->threads, 1); i++)
        g_ptr_array_add(verifier->threads, g_thread_new("verify", run, verifier));
    return verifier;
}

void drover_verifier_submit(DroverVerifier *verifier, DroverVerifyRequest *request)
{
    Queued *queued = g_new0(Queued, 1);
    queued->request = request;
    queued->due_us = g_get_monotonic_time() + (gint64)verifier->limits.delay_ms * 1000;
    g_mutex_lock(&verifier->lock);
    g_queue_push_tail(&verifier->queue, queued);
    g_cond_broadcast(&verifier->changed);
    g_mutex_unlock(&verifier->lock);
}

void drover_verifier_free(DroverVerifier *verifier)
{
    if (!verifier)
        return;
    g_mutex_lock(&verifier->lock);
    verifier->stopping = true;
    g_cond_broadcast(&verifier->changed);
    g_mutex_unlock(&verifier->lock);
    for (guint i = 0; i < verifier->threads->len; i++)
        g_thread_join(g_ptr_array_index(verifier->threads, i));
    g_ptr_array_unref(verifier->threads);
    g_ptr_array_unref(verifier->current);
    g_queue_clear_full(&verifier->queue, queued_free);
    g_mutex_clear(&verifier->lock);
    g_cond_clear(&verifier->changed);
    g_free(verifier);
}
