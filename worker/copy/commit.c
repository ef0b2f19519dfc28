/* SPDX-License-Identifier: Apache-2.0 */
/* From written to reported: one flush in flight for all who wait, then the checkpointer; and back, when the
 * target breaks. */
#include "worker/copy/engine.h"

#include <errno.h>
#include <pthread.h>

/* So many cells of holes without data are worth a flush of their own. */
#define FLUSH_CELLS 64

/* Each costs its deadline and all that is not flushed is written again: no good for ever. */
#define MAX_FLUSH_STALLS 3

/* Calls on_cells_done from a thread of its own, one batch at a time. */
struct Checkpointer {
    DroverCopy *copy;
    GThread *thread;
    pthread_mutex_t lock; /* not GLib's, whose locks the thread sanitizer does not see */
    pthread_cond_t changed;
    DroverCopyCell *batch; /* NULL: nothing to do */
    size_t n;
    bool done; /* the batch was reported, or failed */
    bool quit;
    GError *error;
};

static gpointer checkpoint(gpointer data)
{
    Checkpointer *checkpointer = data;
    const DroverCopyCallbacks *callbacks = &checkpointer->copy->params.callbacks;
    pthread_mutex_lock(&checkpointer->lock);
    for (;;) {
        while (!checkpointer->quit && (checkpointer->batch == NULL || checkpointer->done))
            pthread_cond_wait(&checkpointer->changed, &checkpointer->lock);
        if (checkpointer->quit)
            break;
        pthread_mutex_unlock(&checkpointer->lock);
        GError *error = NULL;
        bool ok = callbacks->on_cells_done(callbacks->data, checkpointer->batch, checkpointer->n, &error);
        if (!ok && error == NULL)
            drover_fail(&error, DROVER_ERROR_RETRYABLE,
                        "DRV-COPY-CHECKPOINT: the checkpoint failed without a reason");
        pthread_mutex_lock(&checkpointer->lock);
        if (ok)
            g_clear_error(&error);
        checkpointer->error = error;
        checkpointer->done = true;
        engine_wake(checkpointer->copy);
    }
    pthread_mutex_unlock(&checkpointer->lock);
    return NULL;
}

void engine_commit_start(DroverCopy *copy)
{
    Checkpointer *checkpointer = g_new0(Checkpointer, 1);
    checkpointer->copy = copy;
    pthread_mutex_init(&checkpointer->lock, NULL);
    pthread_cond_init(&checkpointer->changed, NULL);
    copy->checkpointer = checkpointer;
    if (copy->params.callbacks.on_cells_done != NULL)
        checkpointer->thread = g_thread_new("checkpoint", checkpoint, checkpointer);
}

void engine_commit_stop(DroverCopy *copy)
{
    Checkpointer *checkpointer = g_steal_pointer(&copy->checkpointer);
    if (checkpointer == NULL)
        return;
    if (checkpointer->thread != NULL) {
        pthread_mutex_lock(&checkpointer->lock);
        checkpointer->quit = true;
        pthread_cond_signal(&checkpointer->changed);
        pthread_mutex_unlock(&checkpointer->lock);
        g_thread_join(checkpointer->thread);
    }
    g_clear_error(&checkpointer->error);
    g_free(checkpointer->batch);
    pthread_mutex_destroy(&checkpointer->lock);
    pthread_cond_destroy(&checkpointer->changed);
    g_free(checkpointer);
}

static void cell_reported(DroverCopy *copy, GList *link)
{
    Cell *cell = link->data;
    copy->counts.data_bytes += cell->out.data_bytes;
    copy->counts.zero_found_bytes += cell->out.zero_found_bytes;
    copy->counts.skipped_bytes += cell->out.skipped_bytes;
    copy->unflushed_bytes -= cell->reserved;
    copy->result->cells_done++;
    if (copy->issuing == link)
        copy->issuing = link->next;
    g_queue_delete_link(&copy->active, link);
    engine_cell_free(cell);
}

/* All cells of state FROM are reported. */
static void reported(DroverCopy *copy, CellState from)
{
    for (GList *link = copy->active.head, *next; link != NULL; link = next) {
        next = link->next;
        if (((Cell *)link->data)->state == from)
            cell_reported(copy, link);
    }
}

void engine_report(DroverCopy *copy)
{
    Checkpointer *checkpointer = copy->checkpointer;
    if (checkpointer->thread == NULL) {
        reported(copy, CELL_FLUSHED);
        return;
    }
    if (checkpointer->batch != NULL)
        return;
    g_autoptr(GArray) batch = g_array_new(FALSE, FALSE, sizeof(DroverCopyCell));
    for (GList *link = copy->active.head; link != NULL; link = link->next) {
        Cell *cell = link->data;
        if (cell->state == CELL_FLUSHED) {
            cell->state = CELL_REPORTING;
            g_array_append_val(batch, cell->out);
        }
    }
    if (batch->len == 0)
        return;
    pthread_mutex_lock(&checkpointer->lock);
    checkpointer->n = batch->len;
    checkpointer->batch = (DroverCopyCell *)g_array_free(g_steal_pointer(&batch), FALSE);
    checkpointer->done = false;
    pthread_cond_signal(&checkpointer->changed);
    pthread_mutex_unlock(&checkpointer->lock);
}

void engine_take_reports(DroverCopy *copy)
{
    Checkpointer *checkpointer = copy->checkpointer;
    pthread_mutex_lock(&checkpointer->lock);
    bool done = checkpointer->batch != NULL && checkpointer->done;
    GError *error = done ? g_steal_pointer(&checkpointer->error) : NULL;
    if (done)
        g_clear_pointer(&checkpointer->batch, g_free);
    pthread_mutex_unlock(&checkpointer->lock);
    if (!done)
        return;
    if (error != NULL) {
        if (copy->error == NULL)
            copy->error = error;
        else
            g_error_free(error);
        return;
    }
    reported(copy, CELL_REPORTING);
}

static void change_state(DroverCopy *copy, CellState from, CellState to)
{
    for (GList *link = copy->active.head; link != NULL; link = link->next)
        if (((Cell *)link->data)->state == from)
            ((Cell *)link->data)->state = to;
}

bool engine_is_settled(const DroverCopy *copy)
{
    for (const GList *link = copy->active.head; link != NULL; link = link->next)
        if (((const Cell *)link->data)->state != CELL_ACTIVE)
            return false;
    return copy->flush == NULL;
}

/* How long until the written cells are worth a flush; INT64_MAX: there are none. */
static int64_t due_in(const DroverCopy *copy, int64_t now_us)
{
    guint written = 0, active = 0;
    uint64_t bytes = 0;
    int64_t oldest = INT64_MAX;
    for (const GList *link = copy->active.head; link != NULL; link = link->next) {
        const Cell *cell = link->data;
        active += cell->state == CELL_ACTIVE;
        if (cell->state != CELL_WRITTEN)
            continue;
        written++;
        bytes += cell->sent;
        oldest = MIN(oldest, cell->written_us);
    }
    if (written == 0)
        return INT64_MAX;
    bool last = copy->exhausted && active == 0;
    if (copy->blocked || last || atomic_load(&copy->stop) || written >= FLUSH_CELLS ||
        bytes >= copy->params.unflushed_bytes / 4)
        return 0;
    return MAX(oldest + (int64_t)copy->params.flush_interval_ms * 1000 - now_us, 0);
}

int64_t engine_flush_wait_us(const DroverCopy *copy, int64_t now_us)
{
    return copy->flush != NULL ? INT64_MAX : due_in(copy, now_us);
}

void engine_flush_if_due(DroverCopy *copy, int64_t now_us)
{
    if (copy->flush != NULL || due_in(copy, now_us) > 0)
        return;
    if (copy->params.no_flush || !drover_side_info(copy->target)->can_flush) {
        change_state(copy, CELL_WRITTEN, CELL_FLUSHED);
        return;
    }
    change_state(copy, CELL_WRITTEN, CELL_FLUSHING);
    copy->flush = drover_op_new(DROVER_OP_FLUSH, 0, 0, NULL, NULL);
    drover_side_submit(copy->target, copy->flush, 0, now_us);
}

void engine_flush_done(DroverCopy *copy, DroverOp *op, int64_t now_us)
{
    g_assert(op == copy->flush);
    copy->flush = NULL;
    if (op->lost) {
        /* the cells are void already */
        if (op->stalled && ++copy->flush_stalls >= MAX_FLUSH_STALLS)
            engine_fail(copy, DROVER_ERROR_RETRYABLE, NULL,
                        "DRV-TARGET-FLUSH: %s did not answer a flush within %u s, %u times in a row; its storage is "
                        "slow or hangs",
                        drover_side_label(copy->target), copy->params.flush_deadline_ms / 1000, copy->flush_stalls);
    } else if (op->error == 0) {
        copy->flush_stalls = 0;
        copy->result->flush_requests++;
        copy->last_write_us = now_us;
        change_state(copy, CELL_FLUSHING, CELL_FLUSHED);
    } else {
        /* The system reports a lost write once: what it concerns is unknown, so a second flush proves
         * nothing. */
        copy->result->flush_failed = true;
        engine_fail(copy, op->error == ENOSPC ? DROVER_ERROR_PERMANENT : DROVER_ERROR_RETRYABLE, NULL,
                    "%s: flushing %s failed: %s; data that was not read back counts as lost",
                    op->error == ENOSPC ? "DRV-TARGET-NO-SPACE" : "DRV-TARGET-FLUSH",
                    drover_side_label(copy->target), g_strerror(op->error));
    }
    drover_op_free(op);
}

/*
 * A server that was restarted, or a path that broke, may have lost any write that no flush confirmed, so all
 * of them are made again. All connections go: their writes must not meet the new ones at the server.
 */
void engine_void_target(DroverCopy *copy, int64_t now_us)
{
    uint64_t bytes = 0;
    copy->epoch++;
    for (GList *link = copy->active.head; link != NULL; link = link->next) {
        Cell *cell = link->data;
        if (cell->state > CELL_FLUSHING)
            continue;
        bytes += cell->sent;
        engine_cell_reset(copy, cell);
    }
    copy->counts.resent_bytes += bytes;
    copy->issuing = copy->active.head;
    drover_side_break(copy->target, now_us);
    drover_side_take_loss(copy->target);
    drover_side_drop_queue(copy->target);
    drover_side_drop_queue(copy->source);
    engine_log(copy, DROVER_LOG_INFO, "copy.void",
               "%" G_GUINT64_FORMAT
               " bytes written to %s since the last flush count as lost and are written again",
               bytes, drover_side_label(copy->target));
}
