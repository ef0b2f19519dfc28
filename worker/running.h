/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The tasks that this worker executes now: who may start, who must stop. The handler of a task owns it; others reach it
 * only through this table, which tells the handler by its cancellable, its verdict and its engine. Any thread.
 */
#ifndef DROVER_WORKER_RUNNING_H
#define DROVER_WORKER_RUNNING_H

#include <gio/gio.h>
#include <stdbool.h>

#include "worker/copy/copy.h"
#include "worker/verdict.h"

typedef struct DroverRunning DroverRunning; /* one task in execution */
typedef struct DroverRunningTable DroverRunningTable;

/* CHANGED is called after each start and end, outside of locks. */
DroverRunningTable *drover_running_table_new(unsigned copy_slots, unsigned source_slots,
                                             void (*changed)(void *user_data), void *user_data);
void drover_running_table_free(DroverRunningTable *table); /* must be empty; NULL is allowed */

typedef enum {
    DROVER_START_OK,
    DROVER_START_DUPLICATE, /* this very attempt runs here */
    DROVER_START_STALE,     /* a younger attempt runs here */
    DROVER_START_NO_SLOT,
    DROVER_START_CLOSED,    /* draining */
} DroverStart;

/*
 * Enters TASK and takes it over (also on failure: then it is freed unless KEEP gets it). An older attempt of the same
 * task that runs here is revoked. On success *RUNNING is the handler's until drover_running_end.
 */
DroverStart drover_running_start(DroverRunningTable *table, DroverTask *task, DroverRunning **running,
                                 DroverTask **keep);
/* Leaves the table and frees. */
void drover_running_end(DroverRunningTable *table, DroverRunning *running);

/* Calls FUNC for each one, under the table's lock: it must not block. */
void drover_running_each(DroverRunningTable *table, void (*func)(DroverRunning *running, void *user_data),
                         void *user_data);
/* No more starts; every task gets the verdict RELEASE. */
void drover_running_close(DroverRunningTable *table);
/* Revokes everything: handlers end without a word. */
void drover_running_revoke_all(DroverRunningTable *table);
/* Waits until the table is empty or DEADLINE_US (monotonic) has passed. */
bool drover_running_wait_empty(DroverRunningTable *table, int64_t deadline_us);

const DroverTask *drover_running_task(const DroverRunning *running);
/* Cancelled when the task is revoked, and for tasks without an engine when it is to be released. */
GCancellable *drover_running_cancellable(const DroverRunning *running);
DroverVerdict drover_running_verdict(DroverRunning *running);
/* A verdict never becomes milder. */
void drover_running_set_verdict(DroverRunning *running, DroverVerdict verdict);
/* Whether drover.control has shown the task; only the control thread uses it. */
bool *drover_running_seen(DroverRunning *running);

/* The leader has listed this attempt on drover.control as this instance's. */
void drover_running_set_confirmed(DroverRunning *running);
/*
 * Waits until then, however long that takes: before it, another worker may hold the same attempt, and what the task
 * does outside would happen twice. FENCED when the task is revoked, RETRYABLE DRV-TASK-STOPPED when it is to be
 * released.
 */
bool drover_running_wait_confirmed(DroverRunning *running, GError **error);
/* The same errors without waiting. */
bool drover_running_may_go_on(DroverRunning *running, GError **error);

/* A grant, for the engine that runs now and the one that will. LIVE NULL: nothing changes. */
void drover_running_set_rate(DroverRunning *running, const DroverLiveTask *live);
/* The engine that executes the task, NULL when it has ended. Verdict and rate so far are applied to it at once. */
void drover_running_set_engine(DroverRunning *running, DroverCopy *engine);

#endif
