/* SPDX-License-Identifier: Apache-2.0 */
/* One pass over all that the journal knows, CloudStack has and the machine shows: where they differ, and what was done
 * about it. */
#ifndef DROVER_VOLUME_AGENT_OPERATIONS_COMPARE_H
#define DROVER_VOLUME_AGENT_OPERATIONS_COMPARE_H

#include "volume-agent/operations/context.h"

/*
 * *REPORT: {"checked": {"exports": N, "volumes": N, "devices": N}, "differences": [{"kind", "volume_id", "vm_id",
 * "message", "repaired"}]}, a new reference. Each difference goes to context->differs, too. With OPERATION's force_sync.repair
 * the following are repaired; all others are for people to decide, and so is whatever is not this agent's own:
 *
 *   kind                     repaired   why that is safe, or why not
 *   export-volume-missing    yes        nobody can use the export: its volume is gone
 *   export-volume-elsewhere  yes        nor this one: its volume hangs on another VM, or on none
 *   export-device-missing    yes        nor this one; but a device that cannot be looked at may be in use, and is kept
 *   export-device-moved      no         the next generation finds the device; until then writers hold the right one open
 *   volume-device-missing    no         attaching it again plugs it in anew, which its job does
 *   volume-device-unusable   no         something of the appliance holds it
 *   volume-missing           no         what an operation made is gone at CloudStack: somebody deleted it
 *   volume-in-destroy        yes        made by an operation, and marked for destruction: nothing can use it, so it is deleted
 *   volume-detached          no         should be on the appliance, is on no VM; somebody may have had a reason
 *   volume-elsewhere         no         hangs on a VM that no operation put it on
 *   volume-attached-late     yes        an operation took it off and it is on the appliance again (CloudStack #14214): nobody
 *                                       here uses it, so it is taken off again
 *   volume-unknown           no         on the appliance, and no operation here put it there: not ours
 *   old-root-left            yes        a root disk from a template that a swap took off and could not put back or delete: put
 *                                       back where the VM has none, else deleted, as the swap would have
 *   vm-in-error              no         its job destroys it, and needs to find it in Error to know what happened
 *   devices-left-over        no         no volume of the appliance's is behind them
 *
 * Also told, though not found here: job-vanished (a job of CloudStack that an operation waited for), volume-detached-late (found when a
 * VM is to start, and attached again). RETRYABLE when CloudStack
 * cannot be asked, or when another operation is at work on a suspect. The caller keeps others from attaching to the appliance
 * and detaching from it meanwhile.
 */
bool drover_op_compare(const DroverOpContext *context, DroverOperation *operation, json_t **report, GError **error);

#endif
