/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Comparing rounds: the source's cells are hashed here, the target's by its agent; only digests travel. What differs is
 * copied by repair tasks. Nothing is written by this task, so its cells count as skipped.
 */
#include "lib/base/error.h"
#include "lib/base/log.h"
#include "worker/handlers.h"
#include "worker/hash.h"

#define LAST_CHECKPOINTS_MS 10000 /* for a task that ends unfinished */

static DroverSource *open_source(const DroverWorker *worker, const DroverRunning *running, GError **error)
{
    const DroverTask *task = drover_running_task(running);
    DroverSourceContext context = drover_handler_source_context(worker, running);
    g_autoptr(DroverSource) source = drover_source_open(&task->source, &context, error);
    if (source == NULL)
        return NULL;
    source->believed = *task->identity.kind != '\0';
    if ((source->believed && !drover_source_verify(source, &task->identity, error)) ||
        !drover_source_serve(source, error))
        return NULL;
    if (source->capacity_bytes != task->capacity_bytes) {
        drover_fail(error, DROVER_ERROR_PERMANENT,
                    "DRV-SOURCE-CHANGED: the source disk has %" G_GUINT64_FORMAT " bytes now, it had %" G_GUINT64_FORMAT
                    " when the round began",
                    source->capacity_bytes, task->capacity_bytes);
        return NULL;
    }
    return g_steal_pointer(&source);
}

static bool is_done(const DroverTask *task, uint64_t index)
{
    return index / 8 < task->done_cells_len && (task->done_cells[index / 8] >> index % 8 & 1) != 0;
}

static bool may_go_on(DroverRunning *running, GError **error)
{
    return (drover_running_verdict(running) == DROVER_VERDICT_RUN &&
            !g_cancellable_is_cancelled(drover_running_cancellable(running))) ||
           drover_fail(error, DROVER_ERROR_RETRYABLE, "DRV-COPY-STOPPED: the comparison was stopped");
}

static bool compare_cells(DroverRunning *running, DroverSource *source, DroverTaskReport *report, GError **error)
{
    const DroverTask *task = drover_running_task(running);
    g_autoptr(DroverHasher) hasher = drover_hasher_new(source, task->digest, error);
    if (hasher == NULL)
        return false;
    uint64_t begin = task->range.offset / DROVER_CELL_BYTES, read_bytes = 0;
    uint64_t end = (task->range.offset + task->range.length + DROVER_CELL_BYTES - 1) / DROVER_CELL_BYTES;
    for (uint64_t i = begin; i < end; i++) {
        if (is_done(task, i - begin))
            continue;
        DroverCopyCell cell = {.cell = i};
        cell.skipped_bytes = MIN(DROVER_CELL_BYTES, task->capacity_bytes - i * DROVER_CELL_BYTES);
        if (!may_go_on(running, error) || !drover_source_alive(source, error) ||
            !drover_hasher_cell(hasher, i, &cell.digest, &read_bytes, error) ||
            !drover_source_verify(source, &source->identity, error) ||
            !drover_task_report_cells(report, &cell, 1, error))
            return false;
    }
    return true;
}

static void publish_finished(DroverWorker *worker, DroverRunning *running, DroverTaskReport *report, int64_t began_us)
{
    const DroverTask *task = drover_running_task(running);
    DroverFinished finished = {.extents_available = true,
                               .duration_ms = (uint64_t)(g_get_monotonic_time() - began_us) / 1000};
    finished.counts = drover_task_report_counts(report, &finished.checkpoints);
    drover_info("task.finished", "The range is hashed", F_S("job_id", task->job_id), F_S("disk_id", task->disk_id),
                F_S("task_id", task->task_id), F_U("attempt", task->attempt));
    g_autoptr(GBytes) event = drover_codec_finished(&worker->name, task, &finished);
    drover_handler_publish(worker, running, event);
}

void drover_handle_compare(DroverWorker *worker, DroverRunning *running)
{
    const DroverTask *task = drover_running_task(running);
    int64_t began_us = g_get_monotonic_time();
    g_autoptr(GError) error = NULL;
    g_autoptr(DroverSource) source = open_source(worker, running, &error);
    DroverTaskReport *report = NULL;
    bool ok = source != NULL;
    if (ok) {
        report = drover_task_report_open(worker->reporter, task, drover_running_cancellable(running));
        ok = compare_cells(running, source, report, &error);
        bool acked = drover_task_report_drain(report, ok ? 0 : LAST_CHECKPOINTS_MS);
        if (ok && !acked)
            ok = drover_fail(&error, DROVER_ERROR_RETRYABLE,
                             "DRV-COPY-STOPPED: the task was stopped before its last checkpoint was stored");
    }
    if (ok)
        publish_finished(worker, running, report, began_us);
    else
        drover_handler_unfinished(worker, running, error, NULL);
    drover_task_report_close(report);
}
