/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a slot does with a task. Each handler runs on its slot's thread, blocks until the task has ended, and reports
 * its end: finished, failed, released, or nothing when the task was revoked. It does not end the entry in the table.
 */
#ifndef DROVER_WORKER_HANDLERS_H
#define DROVER_WORKER_HANDLERS_H

#include "worker/worker.h"

void drover_handle_inspect(DroverWorker *worker, DroverRunning *running);
/* Hashes the source and reports its cells; nothing is written. */
void drover_handle_compare(DroverWorker *worker, DroverRunning *running);
void drover_handle_copy(DroverWorker *worker, DroverRunning *running);
/* worker/vsphere/task.c */
void drover_handle_source_vm(DroverWorker *worker, DroverRunning *running);

/* ---- for handlers ---- */

/* Publishes EVENT of RUNNING's task and waits until it is stored, or the task is revoked. */
void drover_handler_publish(DroverWorker *worker, DroverRunning *running, GBytes *event);

/*
 * How a task that did not finish ends: nothing when it was revoked or fenced, released when that was asked for, else
 * failed with FAILURE.
 */
void drover_handler_unfinished(DroverWorker *worker, DroverRunning *running, const GError *failure,
                               const DroverRange *failed_range);

/* The context for sources of RUNNING's task; points into WORKER and RUNNING. */
DroverSourceContext drover_handler_source_context(const DroverWorker *worker, const DroverRunning *running);

#endif
