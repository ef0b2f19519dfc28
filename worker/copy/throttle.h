/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A token bucket in bytes, with grants that expire. A taker may overdraw by one request and then waits until
 * the debt is paid, so a request larger than the burst passes, too, and the average holds. Time is passed in
 * (microseconds of any clock that does not go back). drover_throttle_set may be called from any thread, the
 * rest from one.
 */
#ifndef DROVER_WORKER_COPY_THROTTLE_H
#define DROVER_WORKER_COPY_THROTTLE_H

#include <glib.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#define DROVER_RATE_UNLIMITED UINT64_MAX

typedef struct {
    pthread_mutex_t lock; /* not GLib's, whose locks the thread sanitizer does not see */
    uint64_t rate;        /* bytes per second; DROVER_RATE_UNLIMITED: none */
    uint64_t floor;       /* after expiry */
    int64_t expires_us;   /* 0: never */
    double tokens;        /* bytes; negative: debt */
    int64_t filled_us;
} DroverThrottle;

void drover_throttle_init(DroverThrottle *throttle, uint64_t rate, int64_t now_us);
void drover_throttle_clear(DroverThrottle *throttle);
/* TTL_US 0: for ever; afterwards FLOOR counts. */
void drover_throttle_set(DroverThrottle *throttle, uint64_t rate, int64_t ttl_us, uint64_t floor,
                         int64_t now_us);
/* Takes BYTES and returns 0, or returns how many microseconds to wait before asking again (a second at most).
 */
int64_t drover_throttle_take(DroverThrottle *throttle, uint64_t bytes, int64_t now_us);

#endif
