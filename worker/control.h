/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads drover.control from its beginning, keeps the last snapshot of each job, and applies it to the running tasks:
 * revocation, pause, rate grants. Has a thread of its own; other calls from any thread.
 */
#ifndef DROVER_WORKER_CONTROL_H
#define DROVER_WORKER_CONTROL_H

#include <stdbool.h>

#include "worker/worker.h"

/* WORKER outlives it, and knows it from now on. Blocks for metadata; RETRYABLE when the topic is not there. */
DroverControl *drover_control_start(DroverWorker *worker, GError **error);
/* Ends the thread. NULL is allowed. */
void drover_control_stop(DroverControl *control);

/* Waits until the topic was read to its end once, so that old tasks are judged by what is known; false: draining. */
bool drover_control_wait_ready(DroverControl *control);

/*
 * The verdict on a task that is not running yet. The leader writes a snapshot with every hand-out, so a task of a job
 * without one, handed out a while ago, is a left-over of a job that has ended: REVOKED.
 */
DroverVerdict drover_control_judge(DroverControl *control, const DroverTask *task);
/*
 * Whether the topic has been read without a break until now. False for a moment after this process stood still (stopped,
 * its VM paused): what was revoked meanwhile is not known yet.
 */
bool drover_control_is_current(DroverControl *control);
/* Applies what is known to one task that has just started. */
void drover_control_apply(DroverControl *control, DroverRunning *running);

#endif
