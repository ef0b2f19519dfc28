/* SPDX-License-Identifier: Apache-2.0 */
/* Where a volume's data lies, seen from the appliance. */
#ifndef DROVER_VOLUME_AGENT_OPERATIONS_PLACE_H
#define DROVER_VOLUME_AGENT_OPERATIONS_PLACE_H

#include "volume-agent/operations/context.h"

/*
 * The appliance's cluster reaches the storage of VOLUME, CloudStack's row of it: attaching it there moves no data. PERMANENT
 * DRV-TARGET-PLACEMENT, or -POOL-LOCAL, when it does not. What has no place yet, or what the agent's account may not see, is not
 * held against it.
 */
bool drover_place_is_reached(const DroverOpContext *context, const json_t *volume, GError **error);

#endif
