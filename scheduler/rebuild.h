/* SPDX-License-Identifier: Apache-2.0 */
/* From topics to a world: the state record by record to its end, then what grows by itself (checkpoints,
 * journals, heartbeats), from the beginning. */
#ifndef DROVER_SCHEDULER_REBUILD_H
#define DROVER_SCHEDULER_REBUILD_H

#include "lib/kafka/kafka.h"
#include "scheduler/world.h"

/* Called now and then while it reads; false ends it. */
typedef bool (*RebuildAlive)(void *data);

/*
 * Call after init_transactions: nobody else writes any more. On success *INPUTS reads on: checkpoints,
 * journals and heartbeats from where the world has them, commands and events from the stored offsets. The
 * world is dirty where the facts went beyond the stored state. NULL with an error, or without one when ALIVE
 * said no.
 */
World *rebuild_world(const DroverKafka *kafka, const SchedulerOptions *options, RebuildAlive alive,
                     void *data, DroverConsumer **inputs, GError **error);

#endif
