/* SPDX-License-Identifier: Apache-2.0 */
#include "worker/copy/throttle.h"

#define SECOND_US INT64_C(1000000)
/* What may be saved up while nothing is sent: long enough to hide the loop's own pauses, short enough to stay
 * smooth. */
#define BURST_US (SECOND_US / 20)

void drover_throttle_init(DroverThrottle *throttle, uint64_t rate, int64_t now_us)
{
    *throttle = (DroverThrottle){.rate = rate, .filled_us = now_us};
    pthread_mutex_init(&throttle->lock, NULL);
}

void drover_throttle_clear(DroverThrottle *throttle)
{
    pthread_mutex_destroy(&throttle->lock);
}

static double earned(uint64_t rate, int64_t from_us, int64_t to_us)
{
    return to_us > from_us ? (double)rate * (double)(to_us - from_us) / (double)SECOND_US : 0;
}

/* Fills the bucket up to NOW_US, across the moment when a grant expires. */
static void fill(DroverThrottle *throttle, int64_t now_us)
{
    if (throttle->expires_us != 0 && now_us >= throttle->expires_us) {
        if (throttle->rate != DROVER_RATE_UNLIMITED)
            throttle->tokens += earned(throttle->rate, throttle->filled_us, throttle->expires_us);
        throttle->filled_us = MAX(throttle->filled_us, throttle->expires_us);
        throttle->rate = throttle->floor;
        throttle->expires_us = 0;
    }
    if (throttle->rate != DROVER_RATE_UNLIMITED) {
        throttle->tokens += earned(throttle->rate, throttle->filled_us, now_us);
        throttle->tokens = MIN(throttle->tokens, earned(throttle->rate, 0, BURST_US));
    } else {
        throttle->tokens = 0;
    }
    throttle->filled_us = MAX(throttle->filled_us, now_us);
}

void drover_throttle_set(DroverThrottle *throttle, uint64_t rate, int64_t ttl_us, uint64_t floor,
                         int64_t now_us)
{
    pthread_mutex_lock(&throttle->lock);
    fill(throttle, now_us);
    throttle->rate = rate;
    throttle->floor = floor;
    throttle->expires_us = ttl_us > 0 ? now_us + ttl_us : 0;
    /* A debt made at a high rate must not stop a low one for minutes. */
    throttle->tokens = MAX(throttle->tokens, -earned(rate == DROVER_RATE_UNLIMITED ? 0 : rate, 0, SECOND_US));
    pthread_mutex_unlock(&throttle->lock);
}

int64_t drover_throttle_take(DroverThrottle *throttle, uint64_t bytes, int64_t now_us)
{
    int64_t wait = 0;
    pthread_mutex_lock(&throttle->lock);
    fill(throttle, now_us);
    if (throttle->rate == DROVER_RATE_UNLIMITED)
        ;
    else if (throttle->rate == 0)
        wait = SECOND_US;
    else if (throttle->tokens < 0)
        wait = CLAMP((int64_t)(-throttle->tokens * (double)SECOND_US / (double)throttle->rate) + 1, 1,
                     SECOND_US);
    else
        throttle->tokens -= (double)bytes;
    pthread_mutex_unlock(&throttle->lock);
    return wait;
}
