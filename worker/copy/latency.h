/* SPDX-License-Identifier: Apache-2.0 */
/* A histogram of latencies: eight buckets per power of two, so a percentile is right within 10 %. Pure; one
 * thread. */
#ifndef DROVER_WORKER_COPY_LATENCY_H
#define DROVER_WORKER_COPY_LATENCY_H

#include <stdint.h>

enum { DROVER_LATENCY_BUCKETS = 8 * 40 };

typedef struct {
    uint64_t count;
    uint64_t buckets[DROVER_LATENCY_BUCKETS];
} DroverLatency; /* all zero: empty */

void drover_latency_add(DroverLatency *latency, uint64_t us);
/* Upper bound of the bucket that holds the PERCENT-th percentile, microseconds; 0 when empty. */
uint64_t drover_latency_percentile(const DroverLatency *latency, unsigned percent);

#endif
