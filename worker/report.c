/* SPDX-License-Identifier: Apache-2.0 */
#include "worker/report.h"

#include <string.h>

#include "lib/base/log.h"

#define PROGRESS_INTERVAL_US (250 * 1000) /* at most that often for each task */
#define RETRY_INTERVAL_US (1000 * 1000)
#define MAX_CELLS_A_CHECKPOINT 2048 /* about 100 bytes each: far below the largest message */

struct DroverReporter {
    DroverProducer *producer;
    const DroverReporterName *name;
    int checkpoint_wait_ms;
    char *checkpoint_topic;
    char *progress_topic;
    GMutex lock; /* everything below, and every report's fields */
    GCond work;  /* for the thread */
    GCond acked; /* for those who wait for acknowledgements */
    GPtrArray *reports;
    GThread *thread;
    bool stop;
};

typedef enum { BATCH_SENT, BATCH_FAILED, BATCH_ACKED } BatchState;

typedef struct {
    DroverTaskReport *report; /* a reference */
    char *key;
    GBytes *value;
    DroverByteCounts counts;
    BatchState state;
} Batch;

struct DroverTaskReport {
    gatomicrefcount refs; /* the opener, every batch in flight, the thread while it publishes */
    DroverReporter *reporter;
    const DroverTask *task; /* NULL after close */
    GCancellable *cancel;
    GPtrArray *pending; /* Batch *, not yet acknowledged */
    uint64_t checkpoint_sequence;
    uint64_t progress_sequence;
    DroverByteCounts acked;
    DroverCopyProgress latest;
    bool dirty;
    int64_t published_us;
};

static void report_unref(DroverTaskReport *report)
{
    if (!g_atomic_ref_count_dec(&report->refs))
        return;
    g_ptr_array_unref(report->pending);
    g_clear_object(&report->cancel);
    g_free(report);
}

static void batch_free(Batch *batch)
{
    report_unref(batch->report);
    g_free(batch->key);
    g_bytes_unref(batch->value);
    g_free(batch);
}

static void add_counts(DroverByteCounts *to, const DroverByteCounts *more)
{
    to->data_bytes += more->data_bytes;
    to->zero_found_bytes += more->zero_found_bytes;
    to->skipped_bytes += more->skipped_bytes;
}

/* On the producer's thread. The batch is the callback's from sending to here. */
static void checkpoint_delivered(const GError *error, void *user_data)
{
    Batch *batch = user_data;
    DroverTaskReport *report = batch->report;
    DroverReporter *reporter = report->reporter;
    bool closed;
    g_mutex_lock(&reporter->lock);
    closed = report->task == NULL;
    if (!closed && error == NULL) {
        batch->state = BATCH_ACKED;
        g_ptr_array_remove(report->pending, batch);
        add_counts(&report->acked, &batch->counts);
        report->dirty = true;
        g_cond_broadcast(&reporter->acked);
    } else if (!closed) {
        batch->state = BATCH_FAILED;
    }
    bool keep = !closed && error != NULL;
    g_cond_signal(&reporter->work);
    g_mutex_unlock(&reporter->lock);
    if (!keep)
        batch_free(batch);
}

static bool send_batch(DroverReporter *reporter, Batch *batch, GError **error)
{
    gsize len;
    const void *data = g_bytes_get_data(batch->value, &len);
    return drover_producer_send(reporter->producer, reporter->checkpoint_topic, DROVER_PARTITION_BY_KEY, batch->key,
                                data, len, checkpoint_delivered, batch, error);
}

/* Sends again what failed. The lock is held on entry and exit, not while sending. */
static void retry_failed(DroverReporter *reporter, DroverTaskReport *report)
{
    for (guint i = 0; report->task != NULL && i < report->pending->len; i++) {
        Batch *batch = g_ptr_array_index(report->pending, i);
        if (batch->state != BATCH_FAILED)
            continue;
        batch->state = BATCH_SENT;
        g_mutex_unlock(&reporter->lock);
        g_autoptr(GError) error = NULL;
        bool ok = send_batch(reporter, batch, &error);
        g_mutex_lock(&reporter->lock);
        if (!ok) {
            drover_warning("checkpoint.not_sent", error->message, F_S("key", batch->key));
            batch->state = BATCH_FAILED;
            if (report->task == NULL) /* closed meanwhile, and close left what was being sent to us */
                batch_free(batch);
            return;
        }
        i = (guint)-1; /* acknowledgements may have changed the list meanwhile */
    }
}

static void fill_progress(DroverTaskReport *report, DroverTaskProgress *out)
{
    *out = (DroverTaskProgress){
        .sequence = ++report->progress_sequence,
        .counts = report->acked,
        .rate_bytes_per_second = report->latest.rate_bytes_per_second,
        .stall_cause = report->latest.stall_cause,
        .in_flight_bytes = report->latest.in_flight_bytes,
    };
    out->counts.resent_bytes += report->latest.counts.resent_bytes;
    out->counts.read_bytes += report->latest.counts.read_bytes;
}

/* The lock is held on entry and exit. The message is made under it, since the task may go away with close. */
static void publish(DroverReporter *reporter, DroverTaskReport *report)
{
    if (report->task == NULL)
        return;
    DroverTaskProgress progress;
    fill_progress(report, &progress);
    g_autoptr(GBytes) value = drover_codec_progress(reporter->name, report->task, &progress);
    g_autofree char *key = g_strdup(report->task->job_id);
    report->dirty = false;
    report->published_us = g_get_monotonic_time();
    g_mutex_unlock(&reporter->lock);
    gsize len;
    const void *data = g_bytes_get_data(value, &len);
    g_autoptr(GError) error = NULL;
    if (!drover_producer_send(reporter->producer, reporter->progress_topic, DROVER_PARTITION_BY_KEY, key, data, len,
                              NULL, NULL, &error))
        drover_warning("progress.not_sent", error->message);
    g_mutex_lock(&reporter->lock);
}

static void serve_reports(DroverReporter *reporter)
{
    g_autoptr(GPtrArray) now = g_ptr_array_new();
    for (guint i = 0; i < reporter->reports->len; i++) {
        DroverTaskReport *report = g_ptr_array_index(reporter->reports, i);
        g_atomic_ref_count_inc(&report->refs);
        g_ptr_array_add(now, report);
    }
    for (guint i = 0; i < now->len; i++) {
        DroverTaskReport *report = g_ptr_array_index(now, i);
        retry_failed(reporter, report);
        if (report->dirty && g_get_monotonic_time() - report->published_us >= PROGRESS_INTERVAL_US)
            publish(reporter, report);
    }
    g_mutex_unlock(&reporter->lock);
    for (guint i = 0; i < now->len; i++)
        report_unref(g_ptr_array_index(now, i));
    g_mutex_lock(&reporter->lock);
}

static bool anything_dirty(const DroverReporter *reporter)
{
    for (guint i = 0; i < reporter->reports->len; i++)
        if (((DroverTaskReport *)g_ptr_array_index(reporter->reports, i))->dirty)
            return true;
    return false;
}

static gpointer serve(gpointer data)
{
    DroverReporter *reporter = data;
    g_mutex_lock(&reporter->lock);
    while (!reporter->stop) {
        serve_reports(reporter);
        int64_t pause = anything_dirty(reporter) ? PROGRESS_INTERVAL_US : RETRY_INTERVAL_US;
        if (!reporter->stop)
            g_cond_wait_until(&reporter->work, &reporter->lock, g_get_monotonic_time() + pause);
    }
    g_mutex_unlock(&reporter->lock);
    return NULL;
}

DroverReporter *drover_reporter_new(DroverProducer *producer, const DroverReporterName *name, int checkpoint_wait_ms)
{
    DroverReporter *reporter = g_new0(DroverReporter, 1);
    reporter->producer = producer;
    reporter->name = name;
    reporter->checkpoint_wait_ms = checkpoint_wait_ms;
    reporter->checkpoint_topic = g_strconcat("drover.checkpoints.", name->site, NULL);
    reporter->progress_topic = g_strconcat("drover.progress.", name->site, NULL);
    reporter->reports = g_ptr_array_new();
    g_mutex_init(&reporter->lock);
    g_cond_init(&reporter->work);
    g_cond_init(&reporter->acked);
    reporter->thread = g_thread_new("reporter", serve, reporter);
    return reporter;
}

void drover_reporter_free(DroverReporter *reporter)
{
    if (reporter == NULL)
        return;
    g_mutex_lock(&reporter->lock);
    g_assert(reporter->reports->len == 0);
    reporter->stop = true;
    g_cond_signal(&reporter->work);
    g_mutex_unlock(&reporter->lock);
    g_thread_join(reporter->thread);
    /* Late delivery callbacks still lock this: the producer must be gone before the memory is. */
    g_ptr_array_unref(reporter->reports);
    g_free(reporter->checkpoint_topic);
    g_free(reporter->progress_topic);
    g_mutex_clear(&reporter->lock);
    g_cond_clear(&reporter->work);
    g_cond_clear(&reporter->acked);
    g_free(reporter);
}

DroverTaskReport *drover_task_report_open(DroverReporter *reporter, const DroverTask *task, GCancellable *cancel)
{
    DroverTaskReport *report = g_new0(DroverTaskReport, 1);
    g_atomic_ref_count_init(&report->refs);
    report->reporter = reporter;
    report->task = task;
    report->cancel = g_object_ref(cancel);
    report->pending = g_ptr_array_new();
    report->acked = task->done_counts;
    report->latest.stall_cause = DROVER_STALL_NONE;
    report->dirty = true; /* a first record says that the attempt has begun, and what it begins with */
    g_mutex_lock(&reporter->lock);
    g_ptr_array_add(reporter->reports, report);
    g_cond_signal(&reporter->work);
    g_mutex_unlock(&reporter->lock);
    return report;
}

void drover_task_report_close(DroverTaskReport *report)
{
    if (report == NULL)
        return;
    DroverReporter *reporter = report->reporter;
    g_autoptr(GPtrArray) failed = g_ptr_array_new();
    g_mutex_lock(&reporter->lock);
    report->task = NULL;
    g_ptr_array_remove(reporter->reports, report);
    for (guint i = 0; i < report->pending->len; i++) {
        Batch *batch = g_ptr_array_index(report->pending, i);
        if (batch->state == BATCH_FAILED) /* nobody else holds these; sent ones are their callback's */
            g_ptr_array_add(failed, batch);
    }
    g_mutex_unlock(&reporter->lock);
    for (guint i = 0; i < failed->len; i++)
        batch_free(g_ptr_array_index(failed, i));
    report_unref(report);
}

static Batch *new_batch(DroverTaskReport *report, const DroverCopyCell *cells, size_t n)
{
    const DroverTask *task = report->task;
    Batch *batch = g_new0(Batch, 1);
    uint64_t sequence = ++report->checkpoint_sequence;
    g_atomic_ref_count_inc(&report->refs);
    batch->report = report;
    batch->state = BATCH_SENT;
    batch->key = g_strdup_printf("%s/%u/%" G_GUINT64_FORMAT, task->task_id, task->attempt, sequence);
    batch->value = drover_codec_checkpoint(report->reporter->name, task, sequence, cells, n);
    for (size_t i = 0; i < n; i++) {
        batch->counts.data_bytes += cells[i].data_bytes;
        batch->counts.zero_found_bytes += cells[i].zero_found_bytes;
        batch->counts.skipped_bytes += cells[i].skipped_bytes;
    }
    return batch;
}

/* The lock is held. Waits until nothing is pending. */
static bool wait_acked(DroverTaskReport *report, int64_t deadline_us)
{
    DroverReporter *reporter = report->reporter;
    while (report->pending->len > 0 && !g_cancellable_is_cancelled(report->cancel) &&
           g_get_monotonic_time() < deadline_us)
        g_cond_wait_until(&reporter->acked, &reporter->lock,
                          MIN(deadline_us, g_get_monotonic_time() + PROGRESS_INTERVAL_US));
    return report->pending->len == 0;
}

bool drover_task_report_cells(DroverTaskReport *report, const DroverCopyCell *cells, size_t n, GError **error)
{
    DroverReporter *reporter = report->reporter;
    for (size_t at = 0; at < n; at += MAX_CELLS_A_CHECKPOINT) {
        size_t some = MIN(n - at, MAX_CELLS_A_CHECKPOINT);
        g_mutex_lock(&reporter->lock);
        Batch *batch = new_batch(report, cells + at, some);
        g_ptr_array_add(report->pending, batch);
        g_mutex_unlock(&reporter->lock);
        if (!send_batch(reporter, batch, error)) {
            g_mutex_lock(&reporter->lock);
            g_ptr_array_remove(report->pending, batch);
            g_mutex_unlock(&reporter->lock);
            batch_free(batch);
            return false;
        }
    }
    g_mutex_lock(&reporter->lock);
    if (!wait_acked(report, g_get_monotonic_time() + (int64_t)reporter->checkpoint_wait_ms * 1000) &&
        !g_cancellable_is_cancelled(report->cancel))
        drover_warning("checkpoint.unacknowledged", "Kafka is slow or away; copying goes on",
                       F_S("task_id", report->task->task_id), F_U("pending", report->pending->len));
    g_mutex_unlock(&reporter->lock);
    return true;
}

void drover_task_report_progress(DroverTaskReport *report, const DroverCopyProgress *progress)
{
    DroverReporter *reporter = report->reporter;
    g_mutex_lock(&reporter->lock);
    if (report->latest.rate_bytes_per_second != progress->rate_bytes_per_second ||
        report->latest.stall_cause != progress->stall_cause ||
        report->latest.in_flight_bytes != progress->in_flight_bytes)
        report->dirty = true;
    report->latest = *progress;
    g_mutex_unlock(&reporter->lock);
}

bool drover_task_report_drain(DroverTaskReport *report, int timeout_ms)
{
    DroverReporter *reporter = report->reporter;
    g_mutex_lock(&reporter->lock);
    bool ok = wait_acked(report, timeout_ms > 0 ? g_get_monotonic_time() + (int64_t)timeout_ms * 1000 : G_MAXINT64);
    report->latest.rate_bytes_per_second = 0;
    publish(reporter, report);
    g_mutex_unlock(&reporter->lock);
    return ok;
}

DroverByteCounts drover_task_report_counts(DroverTaskReport *report, uint64_t *checkpoints)
{
    g_mutex_lock(&report->reporter->lock);
    DroverByteCounts counts = report->acked;
    counts.resent_bytes += report->latest.counts.resent_bytes;
    counts.read_bytes += report->latest.counts.read_bytes;
    *checkpoints = report->checkpoint_sequence;
    g_mutex_unlock(&report->reporter->lock);
    return counts;
}
