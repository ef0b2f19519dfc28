/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which ready task goes to which worker. A task is handed out only to a slot that is free by the worker's
 * heartbeat and our own assignments, into a partition that the worker owns, so nothing waits behind a busy
 * worker. Every job gets one slot before another job gets a second one; beyond that a larger priority goes
 * first. Pure and deterministic.
 */
#ifndef DROVER_CORE_DISPATCH_QUEUE_H
#define DROVER_CORE_DISPATCH_QUEUE_H

#include <glib.h>

#include "core/at.h"
#include "core/dispatch/fleet.h"
#include "core/job/model.h"

/* Most tasks of one bandwidth-limited job at a time: each needs a floor that is part of the limit. */
#define DROVER_LIMITED_TASKS_MAX 32

typedef struct {
    DroverJob *job;
    DroverDisk *disk;
    DroverTask *task;
} DroverAssignment;

/* The task may be handed out now. */
bool drover_queue_is_eligible(const DroverJob *job, const DroverDisk *disk, const DroverTask *task,
                              const DroverAt *at);

/*
 * Assigns (drover_task_assign) whatever fits. JOBS: DroverJob, the active ones. Returns a new array of
 * DroverAssignment; *READY becomes the number of eligible tasks that found no slot, *RUNNING that of live
 * tasks. Of LIMITS the transfers_per_* count (core/dispatch/admission.h). The last rounds before a cutover go first.
 */
GArray *drover_queue_assign(GPtrArray *jobs, const DroverFleet *fleet, const DroverLimits *limits, const DroverAt *at,
                            uint64_t *ready, uint64_t *running);

/* Device slots that chosen jobs will still take at AGENT. */
uint32_t drover_queue_reserved_slots(GPtrArray *jobs, const char *agent);

/* Device slots at AGENT that no chosen job will take. */
int64_t drover_queue_slots_left(const DroverProcess *agent, GPtrArray *jobs);

/*
 * The home appliance for a job: its wanted agent or, among the configured AGENTS (NULL-terminated), the ready
 * one with most free device slots. None that is to be emptied. Enough slots for all disks in either case. NULL with a reason for people
 * in *WHY.
 */
const char *drover_queue_choose_agent(const DroverJob *job, GPtrArray *jobs, const char *const *agents,
                                      const DroverFleet *fleet, const DroverAt *at, char **why);

#endif
