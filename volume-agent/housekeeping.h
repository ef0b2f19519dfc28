/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the agent does of its own accord: at every interval it forgets operations that ended long ago, and asks itself for a
 * comparison of journal, CloudStack and machine (a force-sync operation like any other, of job "reconcile").
 */
#ifndef DROVER_VOLUME_AGENT_HOUSEKEEPING_H
#define DROVER_VOLUME_AGENT_HOUSEKEEPING_H

#include "volume-agent/agent.h"

typedef struct DroverHousekeeping DroverHousekeeping;
/* From a thread of its own, until stopped. The executor runs. */
DroverHousekeeping *drover_housekeeping_start(DroverAgent *agent);
void drover_housekeeping_stop(DroverHousekeeping *housekeeping);

/* For DroverOpContext.differs; AGENT is a DroverAgent: on drover.audit, and counted. Never blocks. */
void drover_agent_differs(void *agent, const char *kind, const char *volume_id, const char *vm_id, const char *message,
                          bool repaired);

#endif
