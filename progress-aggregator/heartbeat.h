/* SPDX-License-Identifier: Apache-2.0 */
/* The aggregator's own heartbeat on drover.fleet. */
#ifndef DROVER_PROGRESS_AGGREGATOR_HEARTBEAT_H
#define DROVER_PROGRESS_AGGREGATOR_HEARTBEAT_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/kafka/kafka.h"

typedef struct DroverHeartbeat DroverHeartbeat;

/* PRODUCER and PROCESS_ID must outlive the result. */
DroverHeartbeat *drover_heartbeat_new(DroverProducer *producer, const char *process_id, uint64_t interval_ms);
void drover_heartbeat_free(DroverHeartbeat *heartbeat);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(DroverHeartbeat, drover_heartbeat_free)

/* Sends one when it is due, or at once when STOPPED: the last of this process. Does not wait; a heartbeat that is lost
 * is made good by the next. */
void drover_heartbeat_beat(DroverHeartbeat *heartbeat, bool stopped);

#endif
