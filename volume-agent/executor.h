/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Executes accepted operations in order: one at a time per job, volume, VM and appliance, in the order of acceptance;
 * unrelated ones side by side. Some learn only on the way what else they touch (the VM that a volume hangs on): that is theirs
 * alone, too, but the order towards others of it is then the order of learning, unless they are of one job. RETRYABLE errors are tried again with backoff, within limits. Every end is journalled.
 * Operations that ended stay known, so that a repeated id is no second execution.
 */
#ifndef DROVER_VOLUME_AGENT_EXECUTOR_H
#define DROVER_VOLUME_AGENT_EXECUTOR_H

#include "volume-agent/operations/context.h"

typedef struct DroverExecutor DroverExecutor;

typedef struct {
    unsigned attempts; /* of one operation that fails for a passing reason; twice as many where it undoes something */
    int64_t outage_ms; /* an operation is given up at the latest after this long, also while CloudStack is away */
} DroverExecutorLimits;

/* CONTEXT must outlive the executor. OPERATIONS (by sequence, taken over) is what the journal knows; it is not started yet. */
DroverExecutor *drover_executor_new(const DroverOpContext *context, const DroverExecutorLimits *limits, GPtrArray *operations);
/* Starts what is due. */
void drover_executor_start(DroverExecutor *executor);
/* Waits for the running steps; CONTEXT->stopping() must be true by then. */
void drover_executor_free(DroverExecutor *executor);

/* For DroverOpContext.claim and .ended. EXECUTOR is a DroverExecutor. */
bool drover_executor_claim(void *executor, DroverOperation *operation, const char *id);
GPtrArray *drover_executor_ended(void *executor);
/* Forgets operations that have ended, by id, in the journal first. False: the journal is lost. */
bool drover_executor_prune(DroverExecutor *executor, const GPtrArray *ids);

bool drover_executor_knows(DroverExecutor *executor, const char *operation_id);
/* Sequence number for the next operation. */
/* Something is to be done, or under way, that works on volumes or VMs for somebody. */
bool drover_executor_is_busy(void *executor);
/* The disk with SERIAL is of a volume that an operation was asked to plug in here. */
bool drover_executor_plugged(void *executor, const char *serial);

uint64_t drover_executor_next_sequence(DroverExecutor *executor);
/* Takes OPERATION, which is journalled as accepted. */
void drover_executor_add(DroverExecutor *executor, DroverOperation *operation);

#endif
