/* SPDX-License-Identifier: Apache-2.0 */
#include "worker/handlers.h"

#include "lib/base/error.h"
#include "lib/base/log.h"
#include "worker/post.h"

void drover_handler_publish(DroverWorker *worker, DroverRunning *running, GBytes *event)
{
    const DroverTask *task = drover_running_task(running);
    /* A released inspection has cancelled its own cancellable, and its last event must go out all the same. */
    bool revoked = drover_running_verdict(running) == DROVER_VERDICT_REVOKED;
    GCancellable *cancel = task->kind == DROVER_TASK_COPY ? drover_running_cancellable(running) : NULL;
    int timeout_ms = task->kind == DROVER_TASK_COPY ? 0 : (int)worker->drain_timeout_ms;
    g_autoptr(GError) error = NULL;
    if (!revoked &&
        !drover_post(worker->producer, worker->events_topic, task->job_id, event, timeout_ms, cancel, &error))
        drover_error("event.lost", error->message, F_S("task_id", task->task_id), F_U("attempt", task->attempt));
}

#define RELEASE_REASON "stopped at a checkpoint: the job is paused or the worker drains"
#define REVOKED_REASON "stopped: the task was revoked"

void drover_handler_unfinished(DroverWorker *worker, DroverRunning *running, const GError *failure,
                               const DroverRange *failed_range)
{
    const DroverTask *task = drover_running_task(running);
    DroverVerdict verdict = drover_running_verdict(running);
    if (verdict == DROVER_VERDICT_REVOKED || drover_error_class(failure) == DROVER_ERROR_FENCED) {
        drover_info("task.dropped", "The task was revoked and has stopped", F_S("task_id", task->task_id),
                    F_U("attempt", task->attempt));
        /* Nobody waits for this, but its share of the bandwidth is free for others. */
        g_autoptr(GBytes) stopped = drover_codec_released(&worker->name, task, REVOKED_REASON);
        if (task->kind == DROVER_TASK_COPY)
            drover_post_loose(worker->producer, worker->events_topic, task->job_id, stopped);
        return;
    }
    /* Asked to stop, a permanent failure is still news. */
    bool released = verdict == DROVER_VERDICT_RELEASE &&
                    (drover_error_class(failure) == DROVER_ERROR_RETRYABLE ||
                     g_error_matches(failure, G_IO_ERROR, G_IO_ERROR_CANCELLED));
    g_autoptr(GBytes) event = released ? drover_codec_released(&worker->name, task, RELEASE_REASON)
                                       : drover_codec_failed(&worker->name, task, failure, failed_range);
    if (released)
        drover_info("task.released", failure->message, F_S("job_id", task->job_id), F_S("disk_id", task->disk_id),
                    F_S("task_id", task->task_id), F_U("attempt", task->attempt));
    else
        drover_error("task.failed", failure->message, F_S("job_id", task->job_id), F_S("disk_id", task->disk_id),
                     F_S("task_id", task->task_id), F_U("attempt", task->attempt),
                     F_S("class", drover_error_class_name(drover_error_class(failure))));
    drover_handler_publish(worker, running, event);
}

DroverSourceContext drover_handler_source_context(const DroverWorker *worker, const DroverRunning *running)
{
    return (DroverSourceContext){
        .socket_dir = worker->socket_dir,
        .file_roots = worker->file_roots,
        .connections = worker->connections,
        .cancel = drover_running_cancellable(running),
        .vsphere = worker->vsphere.vcenters == NULL ? NULL : &worker->vsphere,
    };
}
