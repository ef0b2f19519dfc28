/* SPDX-License-Identifier: Apache-2.0 */
/* Which jobs the leader wants stopped, from drover.control, followed by a thread of its own. */
#ifndef DROVER_VOLUME_AGENT_STOPPED_H
#define DROVER_VOLUME_AGENT_STOPPED_H

#include "lib/kafka/kafka.h"

typedef struct DroverStopped DroverStopped;
DroverStopped *drover_stopped_start(const DroverKafka *kafka, GError **error);
void drover_stopped_free(DroverStopped *stopped);
/* Any thread. */
bool drover_stopped_has(DroverStopped *stopped, const char *job_id);

#endif
