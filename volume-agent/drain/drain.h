/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whether the appliance is to be emptied. Durable in the journal before it is known here, so that a restart does not forget
 * it. The agent goes on working; taking its disks away is the leader's business. Any thread.
 */
#ifndef DROVER_VOLUME_AGENT_DRAIN_DRAIN_H
#define DROVER_VOLUME_AGENT_DRAIN_DRAIN_H

#include "volume-agent/journal/journal.h"

typedef struct DroverApplianceDrain DroverApplianceDrain;

/* JOURNAL is not owned. SINCE_MS: what it holds; 0: the appliance is not being emptied; UNTIL_MS: when it was
 * last; 0: never. */
DroverApplianceDrain *drover_appliance_drain_new(DroverJournal *journal, int64_t since_ms, int64_t until_ms);
void drover_appliance_drain_free(DroverApplianceDrain *drain);

/* Since when, in ms since the epoch; 0: it is not. */
int64_t drover_appliance_drain_since(DroverApplianceDrain *drain);

/* What was off the appliance by then belongs to others: now, while it is being emptied, else the last moment of that; 0: it never was. */
int64_t drover_appliance_drain_horizon(DroverApplianceDrain *drain);

/* Switches it on or off; *CHANGED: it was not so before. Returns when that is durable. FATAL when the journal is lost. */
bool drover_appliance_drain_set(DroverApplianceDrain *drain, bool on, const char *requested_by, bool *changed, GError **error);

#endif
