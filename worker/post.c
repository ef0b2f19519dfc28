/* SPDX-License-Identifier: Apache-2.0 */
#include "worker/post.h"

#include "lib/base/drain.h"
#include "lib/base/error.h"
#include "lib/base/log.h"

#define RETRY_PAUSE_US (500 * 1000)
#define CANCEL_POLL_US (200 * 1000) /* a delivery has no file descriptor to wait on together with the cancellable */

/* Shared with the delivery callback, which may come after the waiter has gone. */
typedef struct {
    gatomicrefcount refs;
    GMutex lock;
    GCond cond;
    bool done;
    GError *failure;
} Delivery;

static void delivery_unref(Delivery *delivery)
{
    if (!g_atomic_ref_count_dec(&delivery->refs))
        return;
    g_clear_error(&delivery->failure);
    g_mutex_clear(&delivery->lock);
    g_cond_clear(&delivery->cond);
    g_free(delivery);
}

static void delivered(const GError *error, void *user_data)
{
    Delivery *delivery = user_data;
    g_mutex_lock(&delivery->lock);
    delivery->done = true;
    delivery->failure = error == NULL ? NULL : g_error_copy(error);
    g_cond_signal(&delivery->cond);
    g_mutex_unlock(&delivery->lock);
    delivery_unref(delivery);
}

static bool wait_for(Delivery *delivery, int64_t deadline_us, GCancellable *cancel, const char *topic, GError **error)
{
    bool timed_out = false;
    g_mutex_lock(&delivery->lock);
    while (!delivery->done && !timed_out && !g_cancellable_is_cancelled(cancel)) {
        g_cond_wait_until(&delivery->cond, &delivery->lock, MIN(deadline_us, g_get_monotonic_time() + CANCEL_POLL_US));
        timed_out = g_get_monotonic_time() >= deadline_us;
    }
    bool done = delivery->done;
    GError *failure = g_steal_pointer(&delivery->failure);
    g_mutex_unlock(&delivery->lock);
    if (failure != NULL) {
        g_propagate_error(error, failure);
        return false;
    }
    if (done)
        return true;
    if (g_cancellable_set_error_if_cancelled(cancel, error))
        return false;
    return drover_fail(error, DROVER_ERROR_RETRYABLE,
                       "DRV-KAFKA-TIMEOUT: Kafka did not acknowledge a record for %s in time", topic);
}

static bool send_once(DroverProducer *producer, const char *topic, const char *key, GBytes *value, int64_t deadline_us,
                      GCancellable *cancel, GError **error)
{
    Delivery *delivery = g_new0(Delivery, 1);
    g_atomic_ref_count_init(&delivery->refs);
    g_atomic_ref_count_inc(&delivery->refs); /* the callback's */
    g_mutex_init(&delivery->lock);
    g_cond_init(&delivery->cond);
    gsize len;
    const void *data = g_bytes_get_data(value, &len);
    bool ok =
        drover_producer_send(producer, topic, DROVER_PARTITION_BY_KEY, key, data, len, delivered, delivery, error);
    if (!ok)
        delivery_unref(delivery);
    ok = ok && wait_for(delivery, deadline_us, cancel, topic, error);
    delivery_unref(delivery);
    return ok;
}

/* A producer that is beyond repair takes the process with it: whoever restarts it gets a new one. */
static void look_for_the_end(const GError *error)
{
    if (drover_error_class(error) != DROVER_ERROR_FATAL)
        return;
    drover_error("kafka.fatal", error->message);
    drover_drain_request();
}

bool drover_post(DroverProducer *producer, const char *topic, const char *key, GBytes *value, int timeout_ms,
                 GCancellable *cancel, GError **error)
{
    int64_t deadline = timeout_ms > 0 ? g_get_monotonic_time() + (int64_t)timeout_ms * 1000 : G_MAXINT64;
    for (;;) {
        g_autoptr(GError) failure = NULL;
        if (send_once(producer, topic, key, value, deadline, cancel, &failure))
            return true;
        if (drover_error_class(failure) != DROVER_ERROR_RETRYABLE || g_cancellable_is_cancelled(cancel) ||
            g_get_monotonic_time() + RETRY_PAUSE_US >= deadline) {
            look_for_the_end(failure);
            g_propagate_error(error, g_steal_pointer(&failure));
            return false;
        }
        drover_warning("kafka.retry", failure->message, F_S("topic", topic), F_S("key", key));
        g_usleep(RETRY_PAUSE_US);
    }
}

void drover_post_loose(DroverProducer *producer, const char *topic, const char *key, GBytes *value)
{
    g_autoptr(GError) error = NULL;
    gsize len;
    const void *data = g_bytes_get_data(value, &len);
    if (!drover_producer_send(producer, topic, DROVER_PARTITION_BY_KEY, key, data, len, NULL, NULL, &error)) {
        drover_warning("kafka.send_failed", error->message, F_S("topic", topic), F_S("key", key));
        look_for_the_end(error);
    }
}
