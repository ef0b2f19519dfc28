/* SPDX-License-Identifier: Apache-2.0 */
/* The VM that a job's disks belong to: names and questions. What is done with it, and when, is in source.c. Pure. */
#ifndef DROVER_CORE_JOB_SOURCE_VM_H
#define DROVER_CORE_JOB_SOURCE_VM_H

#include "core/job/model.h"

/* A call to vCenter may take effect this long after its caller was last heard of. */
#define DROVER_SOURCE_CALL_MS 30000

const char *drover_source_action_name(int action); /* "preflight", "snapshot", … */
/* Puts back in order what another action changed: goes on while a job is undone. */
bool drover_source_action_undoes(int action);
/* Changes something outside: must have ended before it can be undone. */
bool drover_source_action_changes(int action);

/* Of the round under way: derived from job and round, no longer than 70 characters (vSphere takes 80). Newly
 * allocated. */
char *drover_source_snapshot_name(const DroverJob *job);
/* For people who find the snapshot in vCenter; newly allocated. */
char *drover_source_snapshot_description(const DroverJob *job);
/* The reference of the round's snapshot; "" while there is none. */
const char *drover_source_snapshot(const DroverJob *job);
/* Switched off and guarded by this job. */
bool drover_source_is_off(const DroverJob *job);
/* It was off before this job switched it off. */
bool drover_source_was_off(const DroverJob *job);
/* A failover of the job must switch its source off first. */
bool drover_source_goes_off(const DroverJob *job);

/* The task about the source VM that has not ended, or NULL; at most one at a time. */
DroverTask *drover_source_task(const DroverJob *job);

#endif
