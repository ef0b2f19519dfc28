/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/vsphere/turn.h"

/* How late a cancellation may be noticed. */
#define LOOK_US (100 * G_TIME_SPAN_MILLISECOND)

void drover_vsphere_turn_init(DroverVsphereTurn *turn)
{
    g_mutex_init(&turn->lock);
    g_cond_init(&turn->passed);
    g_queue_init(&turn->waiting);
}

void drover_vsphere_turn_clear(DroverVsphereTurn *turn)
{
    g_assert(g_queue_is_empty(&turn->waiting));
    g_mutex_clear(&turn->lock);
    g_cond_clear(&turn->passed);
}

bool drover_vsphere_turn_take(DroverVsphereTurn *turn, GCancellable *cancel, GError **error)
{
    char place; /* its address is unique among those who wait */
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&turn->lock);
    g_queue_push_tail(&turn->waiting, &place);
    while (g_queue_peek_head(&turn->waiting) != &place) {
        if (g_cancellable_set_error_if_cancelled(cancel, error)) {
            g_queue_remove(&turn->waiting, &place);
            return false;
        }
        g_cond_wait_until(&turn->passed, &turn->lock, g_get_monotonic_time() + LOOK_US);
    }
    /* The place goes with this call: whoever has the turn stands for it by the queue's head alone. */
    turn->waiting.head->data = turn;
    return true;
}

void drover_vsphere_turn_give(DroverVsphereTurn *turn)
{
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&turn->lock);
    g_queue_pop_head(&turn->waiting);
    g_cond_broadcast(&turn->passed);
}
