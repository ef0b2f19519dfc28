/* SPDX-License-Identifier: Apache-2.0 */
/* The way of the bytes: a block is read, looked at, and written as data and zeroes. */
#include "worker/copy/engine.h"

#include <errno.h>
#include <libnbd.h>
#include <string.h>

#define MAX_ACTIVE_CELLS 512
/* Zeroes wait in the target's queue; more than this and cells of holes would run ahead of their answers. */
#define MAX_TARGET_QUEUE 512
#define MAX_TRIES 6
#define RETRY_US INT64_C(25000)

static Block *block_new(DroverCopy *copy, Cell *cell, uint64_t offset, uint64_t len, uint8_t *buffer)
{
    Block *block = g_slice_new(Block);
    *block = (Block){.next = copy->blocks,
                     .cell = cell,
                     .epoch = copy->epoch,
                     .offset = offset,
                     .len = len,
                     .buffer = buffer};
    if (copy->blocks != NULL)
        copy->blocks->prev = block;
    copy->blocks = block;
    return block;
}

static void block_free(DroverCopy *copy, Block *block)
{
    *(block->prev != NULL ? &block->prev->next : &copy->blocks) = block->next;
    if (block->next != NULL)
        block->next->prev = block->prev;
    copy->writing_bytes -= block->writing;
    drover_pool_put(copy->pool, block->buffer);
    g_slice_free(Block, block);
}

void engine_blocks_clear(DroverCopy *copy)
{
    while (copy->blocks != NULL)
        block_free(copy, copy->blocks);
}

static void cell_written(DroverCopy *copy, Cell *cell, int64_t now_us)
{
    DroverDigest root = {0};
    if (cell->digest != NULL) {
        bool complete = drover_cell_digest_root(cell->digest, &root);
        g_assert(complete);
        drover_cell_digest_free(cell->digest);
        cell->digest = NULL;
    }
    if (cell->had_root && !drover_digest_equal(&root, &cell->out.digest)) {
        engine_fail(copy, DROVER_ERROR_PERMANENT, &(DroverRange){cell->offset, cell->end - cell->offset},
                    "DRV-SOURCE-CHANGED: %s gave other bytes for cell %" G_GUINT64_FORMAT
                    " when it was read again; somebody writes to it",
                    drover_side_label(copy->source), cell->out.cell);
        return;
    }
    cell->out.digest = root;
    cell->had_root = true;
    cell->state = CELL_WRITTEN;
    cell->written_us = now_us;
}

static void cell_advance(DroverCopy *copy, Cell *cell, uint64_t len, int64_t now_us)
{
    g_assert(cell->remaining >= len);
    cell->remaining -= len;
    if (cell->remaining == 0)
        cell_written(copy, cell, now_us);
}

/* An operation of BLOCK is over for good. */
static void block_put(DroverCopy *copy, Block *block, int64_t now_us)
{
    if (--block->pending > 0)
        return;
    if (block->epoch == copy->epoch)
        cell_advance(copy, block->cell, block->len, now_us);
    block_free(copy, block);
}

/* A server that dies of a request will die of it again; storage that hangs may come back. */
static DroverErrorClass lost_class(const DroverOp *op)
{
    return op->stalled ? DROVER_ERROR_RETRYABLE : DROVER_ERROR_PERMANENT;
}

static const char *lost_how(const DroverOp *op)
{
    return op->stalled ? "got no answer until the deadline" : "broke the connection";
}

/* True when OP was queued again: the server may do better next time. */
static bool try_again(DroverSide *side, DroverWindow *window, DroverOp *op, int64_t now_us)
{
    if (op->lost) {
        drover_side_submit(side, op, 0, now_us);
        return true;
    }
    /* nbdkit and others send EINVAL for whatever NBD has no number for, so it says little. */
    if (op->error == ENOSPC || op->error == EPERM || op->error == EOVERFLOW || op->error == ENOTSUP ||
        ++op->tries >= MAX_TRIES)
        return false;
    drover_window_refused(window);
    drover_side_submit(side, op, RETRY_US << op->tries, now_us);
    return true;
}

/* ---- writing ---- */

static void submit_write(DroverCopy *copy, Block *block, uint64_t offset, const uint8_t *data, uint64_t len,
                         int64_t now_us)
{
    for (uint64_t done = 0, step; done < len; done += step) {
        step = MIN(len - done, copy->write_max);
        block->pending++;
        drover_side_submit(copy->target,
                           drover_op_new(DROVER_OP_WRITE, offset + done, step, (void *)(data + done), block),
                           0, now_us);
    }
}

/* For servers that cannot zero: the same few zeroes again and again. */
static void submit_written_zeroes(DroverCopy *copy, Block *block, uint64_t offset, uint64_t len,
                                  int64_t now_us)
{
    for (uint64_t done = 0, step; done < len; done += step) {
        step = MIN(len - done, copy->write_max);
        submit_write(copy, block, offset + done, copy->zeroes, step, now_us);
    }
}

static void submit_zero(DroverCopy *copy, Block *block, uint64_t offset, uint64_t len, int64_t now_us)
{
    const DroverExportInfo *info = drover_side_info(copy->target);
    if (!info->can_zero) {
        submit_written_zeroes(copy, block, offset, len, now_us);
        return;
    }
    DroverOp *op = drover_op_new(DROVER_OP_ZERO, offset, len, NULL, block);
    op->flags = (info->can_fast_zero ? LIBNBD_CMD_FLAG_FAST_ZERO : 0) |
                (copy->params.allocated ? LIBNBD_CMD_FLAG_NO_HOLE : 0);
    block->pending++;
    drover_side_submit(copy->target, op, 0, now_us);
}

/* One run of equal kind inside a block that was read. */
static void send_run(DroverCopy *copy, Block *block, uint64_t from, uint64_t to, bool zero, int64_t now_us)
{
    Cell *cell = block->cell;
    uint64_t len = to - from;
    const uint8_t *data = block->buffer + (from - block->offset);
    if (!zero) {
        cell->out.data_bytes += len;
        if (cell->digest != NULL)
            drover_cell_digest_add(cell->digest, from, data, (size_t)len);
        copy->writing_bytes += len;
        block->writing += len;
        submit_write(copy, block, from, data, len, now_us);
        return;
    }
    cell->out.zero_found_bytes += len;
    cell->reserved -= len;
    copy->unflushed_bytes -= len;
    if (cell->digest != NULL)
        drover_cell_digest_add_zero(cell->digest, from, len);
    if (!copy->params.target_is_zero)
        submit_zero(copy, block, from, len, now_us);
}

static void look_and_write(DroverCopy *copy, Block *block, int64_t now_us)
{
    uint64_t end = block->offset + block->len, run = block->offset;
    bool run_zero = false;
    block->pending++; /* holds the block while its runs are sent */
    for (uint64_t at = block->offset, next; at < end; at = next) {
        next = MIN((at / DROVER_LEAF_BYTES + 1) * DROVER_LEAF_BYTES, end);
        bool zero = drover_is_zero(block->buffer + (at - block->offset), (size_t)(next - at));
        if (at > run && zero != run_zero) {
            send_run(copy, block, run, at, run_zero, now_us);
            run = at;
        }
        run_zero = zero;
    }
    send_run(copy, block, run, end, run_zero, now_us);
    block_put(copy, block, now_us);
}

static void write_failed(DroverCopy *copy, const DroverOp *op)
{
    DroverRange region = {op->offset, op->len};
    const char *what = op->kind == DROVER_OP_ZERO ? "zeroing" : "writing";
    const char *label = drover_side_label(copy->target);
    if (op->lost)
        engine_fail(copy, lost_class(op), &region,
                    "DRV-TARGET-WRITE: %s: %s [%" G_GUINT64_FORMAT ", +%" G_GUINT64_FORMAT ") %s five times", label,
                    what, op->offset, op->len, lost_how(op));
    else if (op->error == ENOSPC)
        engine_fail(copy, DROVER_ERROR_PERMANENT, &region,
                    "DRV-TARGET-NO-SPACE: %s has no space left at [%" G_GUINT64_FORMAT ", +%" G_GUINT64_FORMAT
                    "); give its storage more room",
                    label, op->offset, op->len);
    else if (op->error == EPERM)
        engine_fail(copy, DROVER_ERROR_PERMANENT, &region, "DRV-TARGET-READ-ONLY: %s does not allow %s",
                    label, what);
    else
        engine_fail(copy, DROVER_ERROR_PERMANENT, &region,
                    "DRV-TARGET-WRITE: %s: %s [%" G_GUINT64_FORMAT ", +%" G_GUINT64_FORMAT
                    ") failed %u times: %s",
                    label, what, op->offset, op->len, op->tries + 1, g_strerror(op->error));
}

/* Zeroing in a way that the server does not know after all: another way. True when that took care of OP. */
static bool zero_otherwise(DroverCopy *copy, DroverOp *op, int64_t now_us)
{
    Block *block = op->owner;
    uint64_t max = drover_side_info(copy->target)->max_block;
    if (op->kind != DROVER_OP_ZERO || op->lost)
        return false;
    if (op->error == ENOTSUP && (op->flags & LIBNBD_CMD_FLAG_FAST_ZERO)) {
        drover_side_forget_fast_zero(copy->target);
        op->flags &= ~(uint32_t)LIBNBD_CMD_FLAG_FAST_ZERO;
        drover_side_submit(copy->target, op, 0, now_us);
        return true;
    }
    if (op->error == EINVAL && max != 0 && op->len > max) {
        for (uint64_t done = 0, step; done < op->len; done += step) {
            step = MIN(op->len - done, copy->write_max);
            submit_zero(copy, block, op->offset + done, step, now_us);
        }
    } else if (op->error == ENOTSUP) {
        drover_side_forget_zero(copy->target);
        submit_written_zeroes(copy, block, op->offset, op->len, now_us);
    } else {
        return false;
    }
    block_put(copy, block, now_us);
    drover_op_free(op);
    return true;
}

void engine_write_done(DroverCopy *copy, DroverOp *op, int64_t now_us)
{
    Block *block = op->owner;
    bool payload = op->kind == DROVER_OP_WRITE;
    bool current = block->epoch == copy->epoch;
    if (op->broke_often) {
        write_failed(copy, op);
        drover_op_free(op);
        return; /* the run ends here, and its blocks as a whole */
    }
    if (!current) {
        /* Nobody knows whether it arrived; its cell is written again. */
        if (payload && op->issued_us != 0 && block->buffer != NULL)
            copy->counts.resent_bytes += op->len;
    } else if (op->lost || op->error != 0) {
        if (zero_otherwise(copy, op, now_us))
            return;
        if (try_again(copy->target, &copy->write_window, op, now_us))
            return;
        write_failed(copy, op);
        drover_op_free(op);
        return;
    } else {
        *(payload ? &copy->result->write_requests : &copy->result->zero_requests) += 1;
        copy->last_write_us = now_us;
        if (payload) {
            drover_latency_add(&copy->write_latency, (uint64_t)op->latency_us);
            drover_window_answered(&copy->write_window, op->len, (uint64_t)op->latency_us, now_us);
            copy->written_bytes += op->len;
            block->cell->sent += op->len;
        }
    }
    drover_op_free(op);
    block_put(copy, block, now_us);
}

/* ---- reading ---- */

static void read_failed(DroverCopy *copy, const DroverOp *op)
{
    DroverRange region = {op->offset, op->len};
    if (op->lost)
        engine_fail(copy, lost_class(op), &region,
                    "DRV-SOURCE-READ: %s: reading [%" G_GUINT64_FORMAT ", +%" G_GUINT64_FORMAT ") %s five times",
                    drover_side_label(copy->source), op->offset, op->len, lost_how(op));
    else
        engine_fail(copy, DROVER_ERROR_PERMANENT, &region,
                    "DRV-SOURCE-READ: %s: reading [%" G_GUINT64_FORMAT ", +%" G_GUINT64_FORMAT
                    ") failed %u times: %s",
                    drover_side_label(copy->source), op->offset, op->len, op->tries + 1,
                    g_strerror(op->error));
}

void engine_read_done(DroverCopy *copy, DroverOp *op, int64_t now_us)
{
    Block *block = op->owner;
    if (block->epoch == copy->epoch && (op->lost || op->error != 0)) {
        if (!op->broke_often && try_again(copy->source, &copy->read_window, op, now_us))
            return;
        read_failed(copy, op);
        drover_op_free(op);
        return;
    }
    copy->reading_bytes -= op->len;
    if (!op->lost && op->error == 0) {
        copy->result->read_requests++;
        copy->counts.read_bytes += op->len;
        drover_latency_add(&copy->read_latency, (uint64_t)op->latency_us);
        drover_window_answered(&copy->read_window, op->len, (uint64_t)op->latency_us, now_us);
    }
    drover_op_free(op);
    if (--block->pending > 0)
        return;
    if (block->epoch == copy->epoch)
        look_and_write(copy, block, now_us);
    else
        block_free(copy, block);
}

/* ---- issuing ---- */

static Cell *activate_next(DroverCopy *copy)
{
    uint64_t at = copy->next_cell, offset, end;
    size_t area = copy->next_area;
    if (!engine_next_cell(copy, &at, &area, &offset, &end)) {
        copy->exhausted = true;
        return NULL;
    }
    if (copy->active.length >= MAX_ACTIVE_CELLS) {
        copy->blocked = true;
        return NULL;
    }
    if (!engine_extents_known(copy, offset, end))
        return NULL;
    Cell *cell = engine_cell_new(copy, offset, end);
    cell->segments = g_array_new(FALSE, FALSE, sizeof(DroverSegment));
    DroverRange whole = {offset, end - offset};
    const DroverRange *ranges = cell->own_ranges != NULL ? cell->own_ranges : &whole;
    size_t n = cell->own_ranges != NULL ? cell->out.n_ranges : 1;
    for (size_t i = 0; i < n; i++)
        engine_extents_cut(copy, &ranges[i], cell->segments);
    engine_cell_reset(copy, cell);
    g_queue_push_tail(&copy->active, cell);
    copy->issuing = copy->active.tail;
    copy->next_cell = at;
    copy->next_area = area;
    return cell;
}

static Cell *cell_to_issue(DroverCopy *copy)
{
    for (; copy->issuing != NULL; copy->issuing = copy->issuing->next) {
        Cell *cell = copy->issuing->data;
        if (cell->state == CELL_ACTIVE && cell->segment < cell->segments->len)
            return cell;
    }
    return activate_next(copy);
}

static void segment_issued(Cell *cell, const DroverSegment *segment, uint64_t len)
{
    cell->segment_done += len;
    if (cell->segment_done == segment->length) {
        cell->segment++;
        cell->segment_done = 0;
    }
}

static void issue_hole(DroverCopy *copy, Cell *cell, const DroverSegment *segment, int64_t now_us)
{
    DroverSegment hole = *segment;
    cell->out.skipped_bytes += hole.length;
    if (cell->digest != NULL)
        drover_cell_digest_add_zero(cell->digest, hole.offset, hole.length);
    segment_issued(cell, segment, hole.length);
    Block *block = block_new(copy, cell, hole.offset, hole.length, NULL);
    block->pending = 1;
    if (!copy->params.target_is_zero)
        submit_zero(copy, block, hole.offset, hole.length, now_us);
    block_put(copy, block, now_us);
}

/* False when it must wait. */
static bool issue_data(DroverCopy *copy, Cell *cell, const DroverSegment *segment, int64_t now_us)
{
    uint64_t offset = segment->offset + cell->segment_done;
    uint64_t grid = drover_window_request(&copy->read_window, copy->params.request_bytes, copy->request_least);
    uint64_t grid_end = (offset / grid + 1) * grid;
    uint64_t len = MIN(grid_end, segment->offset + segment->length) - offset;
    if (copy->unflushed_bytes + len > copy->params.unflushed_bytes) {
        copy->blocked = true;
        return false;
    }
    /* Reads have their window. What waits for the target beyond its own window slows them down, too: more
     * buffers in use than the two paths need would only fall out of the cache. */
    uint64_t backlog =
        copy->writing_bytes > copy->write_window.bytes ? copy->writing_bytes - copy->write_window.bytes : 0;
    if (copy->reading_bytes + backlog > 0 && copy->reading_bytes + backlog + len > copy->read_window.bytes)
        return false;
    if (drover_pool_in_use(copy->pool) == drover_pool_count(copy->pool))
        return false;
    copy->throttle_wait_us = drover_throttle_take(&copy->throttle, len, now_us);
    if (copy->throttle_wait_us > 0)
        return false;

    copy->unflushed_bytes += len;
    cell->reserved += len;
    copy->reading_bytes += len;
    Block *block = block_new(copy, cell, offset, len, drover_pool_get(copy->pool));
    segment_issued(cell, segment, len);
    for (uint64_t done = 0, step; done < len; done += step) {
        step = MIN(len - done, copy->read_max);
        block->pending++;
        drover_side_submit(copy->source,
                           drover_op_new(DROVER_OP_READ, offset + done, step, block->buffer + done, block), 0,
                           now_us);
    }
    return true;
}

void engine_issue(DroverCopy *copy, int64_t now_us)
{
    copy->blocked = false;
    copy->throttle_wait_us = 0;
    if (atomic_load(&copy->stop))
        return;
    Cell *cell;
    while (copy->error == NULL && drover_side_queued(copy->target) < MAX_TARGET_QUEUE &&
           (cell = cell_to_issue(copy)) != NULL) {
        const DroverSegment *segment = &g_array_index(cell->segments, DroverSegment, cell->segment);
        if (segment->hole)
            issue_hole(copy, cell, segment, now_us);
        else if (!issue_data(copy, cell, segment, now_us))
            break;
    }
    if (copy->throttle_wait_us > 0 && copy->throttled_since_us == 0) {
        copy->throttled_since_us = now_us;
    } else if (copy->throttle_wait_us == 0 && copy->throttled_since_us != 0) {
        copy->result->throttled_us += (uint64_t)(now_us - copy->throttled_since_us);
        copy->throttled_since_us = 0;
    }
}
