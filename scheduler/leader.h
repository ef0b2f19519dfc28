/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Being the leader. The single partition of drover.leader nominates; the epoch of the transactional id
 * decides: a newer producer fences every older one, so at most one leader's writes count.
 */
#ifndef DROVER_SCHEDULER_LEADER_H
#define DROVER_SCHEDULER_LEADER_H

#include "lib/kafka/kafka.h"
#include "scheduler/options.h"

/*
 * Stands by, leads when nominated, until draining is asked for. Returns true then. False with an error when
 * the process must end: FENCED when somebody newer leads, FATAL when the outcome of a transaction is not
 * known.
 */
bool scheduler_run(const DroverKafka *kafka, const SchedulerOptions *options, GError **error);

#endif
