/* SPDX-License-Identifier: Apache-2.0 */
/* Copy tasks: the source is opened and proven to be the inspected one, the engine runs, cells become checkpoints. */
#include "lib/base/error.h"
#include "lib/base/ids.h"
#include "lib/base/log.h"
#include "worker/copy/copy.h"
#include "worker/handlers.h"

#define LAST_CHECKPOINTS_MS 10000 /* for a task that ends unfinished */

typedef struct {
    DroverWorker *worker;
    DroverRunning *running;
    const DroverTask *task;
    DroverSource *source;
    DroverTaskReport *report;
    DroverCopy *engine;
    GError *source_lost; /* the source's endpoint ended; loop thread only */
} Transfer;

/* Engine's second thread. A cell that was read after the source changed must never become a checkpoint. */
static bool on_cells_done(void *data, const DroverCopyCell *cells, size_t n, GError **error)
{
    Transfer *transfer = data;
    return drover_source_verify(transfer->source, &transfer->source->identity, error) &&
           drover_task_report_cells(transfer->report, cells, n, error);
}

static void on_progress(void *data, const DroverCopyProgress *progress)
{
    Transfer *transfer = data;
    drover_task_report_progress(transfer->report, progress);
}

static void on_log(void *data, DroverLogLevel level, const char *event, const char *message)
{
    const Transfer *transfer = data;
    DROVER_LOG(level, event, message, F_S("job_id", transfer->task->job_id), F_S("disk_id", transfer->task->disk_id),
               F_S("task_id", transfer->task->task_id), F_U("attempt", transfer->task->attempt));
}

/* Loop thread, which is the slot's. Asked before each reconnect: also the moment to notice that the child is gone,
 * which the engine would otherwise take for a restart and wait for. */
static bool is_fenced(void *data)
{
    Transfer *transfer = data;
    if (transfer->source_lost == NULL && !drover_source_alive(transfer->source, &transfer->source_lost))
        drover_copy_cancel(transfer->engine);
    return drover_running_verdict(transfer->running) == DROVER_VERDICT_REVOKED;
}

static void fill_params(const Transfer *transfer, DroverCopyParams *params)
{
    const DroverWorker *worker = transfer->worker;
    const DroverTask *task = transfer->task;
    const DroverSource *source = transfer->source;
    *params = (DroverCopyParams){
        .source = {.uri = source->endpoint.uri, .socket_path = source->endpoint.socket_path},
        .target = {.host = task->target.host,
                   .port = task->target.port,
                   .export_name = task->target.export_name,
                   .generation = task->target.generation,
                   .token = *task->target.token == '\0' ? NULL : task->target.token,
                   .tls_mode = worker->target_tls ? DROVER_TLS_DIRECT : DROVER_TLS_OFF,
                   .tls = worker->tls},
        .offset = task->range.offset,
        .length = task->range.length,
        .areas = task->areas,
        .n_areas = task->n_areas,
        .done_cells = task->done_cells,
        .done_cells_len = task->done_cells_len,
        .source_size = task->capacity_bytes,
        .digest = task->digest,
        .no_extents = !source->endpoint.extents,
        .target_is_zero = task->target_is_zero,
        .connections = worker->connections,
        .memory_bytes = task->memory_bytes > 0 ? MIN(task->memory_bytes, worker->memory_bytes) : worker->memory_bytes,
        .request_bytes = worker->request_bytes,
        .rate_bytes_per_second = task->rate_bytes_per_second,
        .connect_deadline_ms = worker->connect_timeout_ms,
        .reconnect_deadline_ms = worker->reconnect_timeout_ms,
        .callbacks = {.data = (void *)transfer,
                      .on_cells_done = on_cells_done,
                      .on_progress = on_progress,
                      .on_log = on_log,
                      .is_fenced = is_fenced},
    };
}

static bool open_source(Transfer *transfer, GError **error)
{
    const DroverTask *task = transfer->task;
    DroverSourceContext context = drover_handler_source_context(transfer->worker, transfer->running);
    transfer->source = drover_source_open(&task->source, &context, error);
    if (transfer->source == NULL)
        return false;
    transfer->source->believed = *task->identity.kind != '\0';
    if ((transfer->source->believed && !drover_source_verify(transfer->source, &task->identity, error)) ||
        !drover_source_serve(transfer->source, error))
        return false;
    return transfer->source->capacity_bytes == task->capacity_bytes ||
           drover_fail(error, DROVER_ERROR_PERMANENT,
                       "DRV-SOURCE-CHANGED: the source disk has %" G_GUINT64_FORMAT
                       " bytes now, it had %" G_GUINT64_FORMAT " when the job began",
                       transfer->source->capacity_bytes, task->capacity_bytes);
}

static bool run_engine(Transfer *transfer, DroverCopyResult *result, GError **error)
{
    DroverCopyParams params;
    /* Without the option there is no authority to check the target's certificate against. */
    if (transfer->task->target.tls && !transfer->worker->target_tls)
        return drover_fail(error, DROVER_ERROR_PERMANENT,
                           "DRV-TLS-WORKER: the target %s:%u asks for TLS, and this worker is not set up for it: set "
                           "[worker] target-tls, tls-ca and tls-cert",
                           transfer->task->target.host, (unsigned)transfer->task->target.port);
    fill_params(transfer, &params);
    transfer->engine = drover_copy_new(&params, error);
    if (transfer->engine == NULL)
        return false;
    drover_running_set_engine(transfer->running, transfer->engine);
    g_autoptr(GError) failure = NULL;
    bool ok = drover_copy_run(transfer->engine, result, &failure);
    drover_running_set_engine(transfer->running, NULL);
    g_clear_pointer(&transfer->engine, drover_copy_free);
    if (!ok && transfer->source_lost != NULL)
        g_propagate_error(error, g_steal_pointer(&transfer->source_lost));
    else if (!ok)
        g_propagate_error(error, g_steal_pointer(&failure));
    return ok && drover_source_verify(transfer->source, &transfer->source->identity, error);
}

static void publish_finished(Transfer *transfer, const DroverCopyResult *result)
{
    DroverFinished finished = {
        .extents_available = result->extents_available && transfer->source->endpoint.extents,
        .duration_ms = result->duration_us / 1000,
        .reconnects = result->reconnects,
    };
    finished.counts = drover_task_report_counts(transfer->report, &finished.checkpoints);
    const DroverTask *task = transfer->task;
    drover_info("task.finished", "The range is copied", F_S("job_id", task->job_id), F_S("disk_id", task->disk_id),
                F_S("task_id", task->task_id), F_U("attempt", task->attempt),
                F_U("data_bytes", finished.counts.data_bytes), F_U("duration_ms", finished.duration_ms),
                F_U("reconnects", finished.reconnects));
    g_autoptr(GBytes) event = drover_codec_finished(&transfer->worker->name, task, &finished);
    drover_handler_publish(transfer->worker, transfer->running, event);
}

static void close_transfer(Transfer *transfer)
{
    drover_task_report_close(transfer->report);
    drover_source_close(transfer->source);
    g_clear_error(&transfer->source_lost);
}

void drover_handle_copy(DroverWorker *worker, DroverRunning *running)
{
    Transfer transfer = {.worker = worker, .running = running, .task = drover_running_task(running)};
    DroverCopyResult result = {0};
    g_autoptr(GError) error = NULL;
    bool ok = open_source(&transfer, &error);
    if (ok) {
        transfer.report =
            drover_task_report_open(worker->reporter, transfer.task, drover_running_cancellable(running));
        ok = run_engine(&transfer, &result, &error);
        /* What is acknowledged now need not be copied again by the next attempt. */
        bool acked = drover_task_report_drain(transfer.report, ok ? 0 : LAST_CHECKPOINTS_MS);
        if (ok && !acked)
            ok = drover_fail(&error, DROVER_ERROR_RETRYABLE, "DRV-COPY-STOPPED: the task was stopped before its last "
                                                             "checkpoint was stored");
    }
    if (ok)
        publish_finished(&transfer, &result);
    else
        drover_handler_unfinished(worker, running, error, &result.failed_range);
    close_transfer(&transfer);
}
