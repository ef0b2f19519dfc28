/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One heartbeat on drover.fleet every interval, and at once when slots or partitions change. It renews the leases of
 * all running tasks. Has a thread of its own.
 */
#ifndef DROVER_WORKER_HEARTBEAT_H
#define DROVER_WORKER_HEARTBEAT_H

#include <stdbool.h>

#include "worker/worker.h"

typedef struct DroverHeart DroverHeart;

DroverHeart *drover_heart_new(DroverWorker *worker);
/* Begin to beat; the worker must be complete. */
void drover_heart_start(DroverHeart *heart);
/* Something changed: beat now. Any thread, does not block. */
void drover_heart_now(DroverHeart *heart);
/* Owned partitions (int32_t), copied. Any thread. */
void drover_heart_set_partitions(DroverHeart *heart, const GArray *copy, const GArray *source);
/* From now on heartbeats say that no new work is taken. */
void drover_heart_set_draining(DroverHeart *heart);
/* Ends the thread. LAST: says goodbye with a last heartbeat, waiting a few seconds for it. NULL is allowed. */
void drover_heart_free(DroverHeart *heart, bool last);

#endif
