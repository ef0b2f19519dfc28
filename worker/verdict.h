/* SPDX-License-Identifier: Apache-2.0 */
/* What drover.control means for one task that we have. Pure. */
#ifndef DROVER_WORKER_VERDICT_H
#define DROVER_WORKER_VERDICT_H

#include <stdbool.h>

#include "worker/task.h"

typedef enum {
    DROVER_VERDICT_RUN = 1,
    DROVER_VERDICT_RELEASE = 2, /* stop at the next checkpoint and hand back */
    DROVER_VERDICT_REVOKED = 3, /* somebody else owns it, or nobody shall: stop without a word */
} DroverVerdict;

/* A snapshot of the batch that hands a task out may have been taken a moment before it. */
#define DROVER_CONTROL_GRACE_MS 2000

/*
 * SNAPSHOT is the job's last one, NULL when there is none (any more). *SEEN remembers across calls that the task was in
 * one: once seen and then missing, it is revoked. A task that was never seen is revoked only by a snapshot that was
 * written after it was handed out, since control and tasks are different topics and may be read in any order.
 * *LIVE (may be NULL): the task's own entry, with its rate grant, or NULL; points into SNAPSHOT.
 */
DroverVerdict drover_verdict(const DroverJobControl *snapshot, const DroverTask *task, const char *instance_id,
                             bool *seen, const DroverLiveTask **live);

#endif
