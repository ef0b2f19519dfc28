/* SPDX-License-Identifier: Apache-2.0 */
/* The words of the Redis view (docs/redis.md) for the numbers of drover.v1. Pure; strings are constants. */
#ifndef DROVER_PROGRESS_AGGREGATOR_VOCABULARY_H
#define DROVER_PROGRESS_AGGREGATOR_VOCABULARY_H

#include <stdbool.h>

#include "drover/v1/event.pb-c.h"
#include "drover/v1/fleet.pb-c.h"
#include "drover/v1/state.pb-c.h"

/* queued, running, paused, replicating, completed, failed, cancelled or rolled-back; NULL for a phase not known here. */
const char *drover_word_status(Drover__V1__JobPhase phase, bool paused);
/* The phase while the job runs, then Completed or Failed (also for cancelled and rolled-back jobs). */
const char *drover_word_operation(Drover__V1__JobPhase phase);
/* Discover, Transfer or Complete. COPY_STARTED: round 0 has begun at some time; decides for jobs that ended early. */
const char *drover_word_phase(Drover__V1__JobPhase phase, bool copy_started);
bool drover_phase_is_end(Drover__V1__JobPhase phase);
/* full or incremental; initial or incremental. */
const char *drover_word_sync_type(Drover__V1__SyncType type);
const char *drover_word_replication_type(Drover__V1__SyncType type);
/* none, source, target, throttle, reconnect, nfc; "" when not said. */
const char *drover_word_stall(Drover__V1__StallCause cause);
/* scheduler, worker, volume-agent, progress-aggregator; NULL for an unknown role. */
const char *drover_word_role(Drover__V1__Role role);

#endif
