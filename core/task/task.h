/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The life of one task: ready, assigned (handed out), claimed, copied (checkpointed, not read back), done.
 * Each attempt has at most one executor: reports of any other attempt or instance change nothing. An attempt
 * that is not claimed in time, or is handed back, is not counted; one that failed or whose owner went silent
 * is. Pure.
 */
#ifndef DROVER_CORE_TASK_TASK_H
#define DROVER_CORE_TASK_TASK_H

#include "core/at.h"
#include "core/dispatch/fleet.h"
#include "core/job/model.h"

typedef enum {
    DROVER_TASK_STALE,    /* not from the attempt or instance that counts: nothing changed */
    DROVER_TASK_ACCEPTED, /* the task went on */
    DROVER_TASK_AGAIN,    /* it waits for another attempt */
    DROVER_TASK_GIVEN_UP, /* it failed for good; task->error says why */
} DroverTaskVerdict;

/* Hands a READY task out: attempt + 1. */
void drover_task_assign(DroverTask *task, const char *process_id, int32_t partition, const DroverAt *at);

DroverTaskVerdict drover_task_claimed(DroverTask *task, uint32_t attempt, const char *process_id,
                                      const char *instance_id, const DroverAt *at);

/* The worker has nothing left to do: COPIED for tasks that move data, DONE for others. */
DroverTaskVerdict drover_task_finished(DroverTask *task, uint32_t attempt, const char *instance_id,
                                       const DroverAt *at);

/* Permanent errors give up at once with this error; others after LIMITS->max_failures counted attempts. */
DroverTaskVerdict drover_task_failed(DroverTask *task, uint32_t attempt, const char *instance_id,
                                     const DroverFault *fault, const DroverLimits *limits,
                                     const DroverAt *at);

/* Handed back by a draining or pausing worker: not counted. */
DroverTaskVerdict drover_task_released(DroverTask *task, uint32_t attempt, const char *instance_id,
                                       const DroverAt *at);

/* A heartbeat of INSTANCE says that it still runs ATTEMPT. */
void drover_task_seen(DroverTask *task, uint32_t attempt, const char *instance_id, const DroverAt *at);

/* Claim time-out and lease. STALE: nothing is due. */
DroverTaskVerdict drover_task_check(DroverTask *task, const DroverFleet *fleet, const DroverLimits *limits,
                                    const DroverAt *at);

/* After a takeover: time-outs begin anew. */
void drover_task_restart_clocks(DroverTask *task, const DroverAt *at);

/* Back to READY without counting, whoever has it: the next attempt fences the present one. */
void drover_task_revoke(DroverTask *task, const DroverAt *at);
/* Every cell read back. */
void drover_task_done(DroverTask *task, const DroverAt *at);
/* The job ends: nothing of this task may go on. Ended tasks stay as they are. */
void drover_task_cancel(DroverTask *task, const DroverAt *at);

#endif
