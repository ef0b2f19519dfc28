/* SPDX-License-Identifier: Apache-2.0 */
/* Read-back: cells of an export, hashed and compared with what was read from the source. */
#include <errno.h>

#include "worker/copy/allocation.h"
#include "worker/copy/pool.h"
#include "worker/copy/side.h"

#define SECOND_US INT64_C(1000000)
#define REQUEST_BYTES (UINT64_C(256) << 10)
#define MEMORY_BYTES (UINT64_C(32) << 20)
#define CONNECTIONS 4
#define MAX_TRIES 6

typedef struct {
    const DroverCopyCell *want;
    uint64_t offset, end;
    uint64_t remaining;
    DroverCellDigest *digest;
    DroverAllocation *map; /* NULL: all data */
    GArray *segments;      /* of DroverSegment; NULL: extents are not known yet */
    guint segment;         /* next to read */
    uint64_t segment_done;
} Back;

typedef struct {
    Back *back;
    uint64_t offset, len;
    uint8_t *buffer;
    unsigned pending;
} Piece;

typedef struct {
    const DroverCopyVerify *verify;
    DroverSide *side;
    DroverPool *pool;
    GQueue open; /* of Back */
    GPtrArray *pieces;
    size_t next, compared;
    uint64_t different;
    bool use_extents;
    uint64_t request;
} Verifier;

static void back_free(gpointer data)
{
    Back *back = data;
    drover_cell_digest_free(back->digest);
    drover_allocation_free(back->map);
    if (back->segments != NULL)
        g_array_unref(back->segments);
    g_free(back);
}

static void compare(Verifier *v, Back *back)
{
    DroverDigest root;
    bool complete = drover_cell_digest_root(back->digest, &root);
    g_assert(complete);
    if (!drover_digest_equal(&root, &back->want->digest)) {
        v->different++;
        v->verify->on_different(v->verify->data, back->want->cell,
                                (DroverRange){back->offset, back->end - back->offset});
    }
    v->compared++;
    g_queue_remove(&v->open, back);
    back_free(back);
}

/* Extents are known (or not wanted): from here on the cell can be read. */
static void cut(Back *back)
{
    DroverRange whole = {back->offset, back->end - back->offset};
    const DroverRange *ranges = back->want->n_ranges > 0 ? back->want->ranges : &whole;
    size_t n = MAX(back->want->n_ranges, 1);
    back->segments = g_array_new(FALSE, FALSE, sizeof(DroverSegment));
    for (size_t i = 0; i < n; i++) {
        back->remaining += ranges[i].length;
        if (back->map != NULL) {
            drover_allocation_cut(back->map, &ranges[i], back->segments);
        } else {
            DroverSegment data = {ranges[i].offset, ranges[i].length, false};
            g_array_append_val(back->segments, data);
        }
    }
}

static void ask(Verifier *v, Back *back, int64_t now_us)
{
    uint64_t from = back->map->known_to;
    drover_side_submit(v->side, drover_op_new(DROVER_OP_EXTENTS, from, back->map->end - from, NULL, back), 0,
                       now_us);
}

static void open_cells(Verifier *v, int64_t now_us)
{
    while (v->next < v->verify->n && v->open.length < 8) {
        const DroverCopyCell *want = &v->verify->cells[v->next++];
        Back *back = g_new0(Back, 1);
        back->want = want;
        back->offset = want->cell * DROVER_CELL_BYTES;
        back->end = MIN(back->offset + DROVER_CELL_BYTES, v->verify->size_bytes);
        back->digest = drover_cell_digest_new(v->verify->digest, back->offset, back->end - back->offset,
                                              want->ranges, want->n_ranges);
        g_queue_push_tail(&v->open, back);
        if (v->use_extents) {
            back->map = drover_allocation_new(back->offset, back->end);
            ask(v, back, now_us);
        } else {
            cut(back);
        }
    }
}

static void read_piece(Verifier *v, Back *back, uint64_t offset, uint64_t len, uint8_t *buffer,
                       int64_t now_us)
{
    Piece *piece = g_new(Piece, 1);
    *piece = (Piece){back, offset, len, buffer, 0};
    g_ptr_array_add(v->pieces, piece);
    for (uint64_t done = 0, step; done < len; done += step) {
        step = MIN(len - done, v->request);
        piece->pending++;
        drover_side_submit(v->side, drover_op_new(DROVER_OP_READ, offset + done, step, buffer + done, piece),
                           0, now_us);
    }
}

/* Issues what the cell BACK still needs; false when buffers are out. Frees BACK when nothing is left of it.
 */
static bool issue_cell(Verifier *v, Back *back, int64_t now_us)
{
    while (back->segment < back->segments->len) {
        DroverSegment *segment = &g_array_index(back->segments, DroverSegment, back->segment);
        uint64_t offset = segment->offset + back->segment_done, end = segment->offset + segment->length;
        if (segment->hole) {
            drover_cell_digest_add_zero(back->digest, segment->offset, segment->length);
            back->remaining -= segment->length;
            back->segment++;
            continue;
        }
        uint8_t *buffer = drover_pool_get(v->pool);
        if (buffer == NULL)
            return false;
        uint64_t len = MIN((offset / REQUEST_BYTES + 1) * REQUEST_BYTES, end) - offset;
        read_piece(v, back, offset, len, buffer, now_us);
        back->segment_done += len;
        if (offset + len == end) {
            back->segment++;
            back->segment_done = 0;
        }
    }
    if (back->remaining == 0)
        compare(v, back);
    return true;
}

static void issue(Verifier *v, int64_t now_us)
{
    for (GList *link = v->open.head, *next; link != NULL; link = next) {
        next = link->next;
        Back *back = link->data;
        if (back->segments != NULL && !issue_cell(v, back, now_us))
            return;
    }
}

static void extents_answer(Verifier *v, DroverOp *op, int64_t now_us)
{
    Back *back = op->owner;
    if (op->lost) {
        ask(v, back, now_us);
        return;
    }
    if (op->error != 0)
        drover_allocation_append(back->map, back->map->end - back->map->known_to, false);
    else
        for (guint i = 0; i < op->runs->len; i++) {
            const DroverRun *run = &g_array_index(op->runs, DroverRun, i);
            drover_allocation_append(back->map, run->length, run->hole);
        }
    if (drover_allocation_is_complete(back->map))
        cut(back);
    else
        ask(v, back, now_us);
}

static void piece_done(Verifier *v, Piece *piece)
{
    Back *back = piece->back;
    drover_cell_digest_add(back->digest, piece->offset, piece->buffer, (size_t)piece->len);
    drover_pool_put(v->pool, piece->buffer);
    back->remaining -= piece->len;
    g_ptr_array_remove_fast(v->pieces, piece);
    if (back->remaining == 0 && back->segment == back->segments->len)
        compare(v, back);
}

static bool read_answer(Verifier *v, DroverOp *op, int64_t now_us, GError **error)
{
    Piece *piece = op->owner;
    if ((op->lost && !op->broke_often) || (!op->lost && op->error != 0 && ++op->tries < MAX_TRIES)) {
        drover_side_submit(v->side, op, op->lost ? 0 : INT64_C(50000) << op->tries, now_us);
        return true;
    }
    bool ok = !op->lost && op->error == 0;
    if (!ok)
        drover_fail(error, op->lost && op->stalled ? DROVER_ERROR_RETRYABLE : DROVER_ERROR_PERMANENT,
                    "DRV-TARGET-READ: reading back [%" G_GUINT64_FORMAT ", +%" G_GUINT64_FORMAT
                    ") of %s failed: %s",
                    op->offset, op->len, drover_side_label(v->side),
                    !op->lost     ? g_strerror(op->error)
                    : op->stalled ? "it got no answer until the deadline, five times"
                                  : "it broke the connection five times");
    drover_op_free(op);
    if (ok && --piece->pending == 0)
        piece_done(v, piece);
    return ok;
}

static bool take_answers(Verifier *v, int64_t now_us, GError **error)
{
    for (DroverOp *op; (op = drover_side_take(v->side)) != NULL;) {
        if (op->kind == DROVER_OP_EXTENTS) {
            extents_answer(v, op, now_us);
            drover_op_free(op);
        } else if (!read_answer(v, op, now_us, error)) {
            return false;
        }
    }
    return true;
}

static bool begin(Verifier *v, GError **error)
{
    const DroverExportInfo *info = drover_side_info(v->side);
    if (info->size < v->verify->size_bytes)
        return drover_fail(error, DROVER_ERROR_PERMANENT,
                           "DRV-TARGET-TOO-SMALL: %s has %" G_GUINT64_FORMAT " bytes, %" G_GUINT64_FORMAT
                           " are to be compared",
                           drover_side_label(v->side), info->size, v->verify->size_bytes);
    v->use_extents = info->has_extents;
    uint64_t align = MAX(info->min_block, 1);
    v->request = REQUEST_BYTES;
    if (info->max_block != 0 && info->max_block < REQUEST_BYTES)
        v->request = MAX(info->max_block / align * align, align);
    return true;
}

static bool verify_all(Verifier *v, GCancellable *cancellable, GError **error)
{
    struct pollfd fds[CONNECTIONS];
    bool begun = false;
    int64_t next_progress_us = 0;
    for (;;) {
        int64_t now_us = g_get_monotonic_time();
        if (g_cancellable_is_cancelled(cancellable))
            return drover_fail(error, DROVER_ERROR_RETRYABLE, "DRV-COPY-STOPPED: the read-back was stopped");
        if (!drover_side_tick(v->side, now_us, error))
            return false;
        if (!begun && drover_side_info(v->side) != NULL) {
            if (!begin(v, error))
                return false;
            begun = true;
        }
        if (begun) {
            if (!take_answers(v, now_us, error))
                return false;
            open_cells(v, now_us);
            issue(v, now_us);
            if (v->compared == v->verify->n)
                return true;
            if (now_us >= next_progress_us && v->verify->on_progress != NULL) {
                v->verify->on_progress(v->verify->data, v->compared);
                next_progress_us = now_us + SECOND_US / 2;
            }
        }
        drover_side_pump(v->side, now_us);
        size_t n = drover_side_fill_fds(v->side, fds);
        /* Short enough to notice a cancellation. */
        int64_t wait_us = MIN(drover_side_wait_us(v->side, now_us), SECOND_US / 5);
        if (begun && v->open.length < 8 && v->next < v->verify->n)
            wait_us = 0;
        if (poll(fds, (nfds_t)n, (int)((wait_us + 999) / 1000)) > 0)
            drover_side_handle_fds(v->side, fds, n, g_get_monotonic_time());
    }
}

static void log_line(void *data, DroverLogLevel level, const char *event, const char *message)
{
    (void)data;
    DROVER_LOG(level, event, message);
}

static int64_t deadline_us(uint32_t given_ms, int64_t default_seconds)
{
    return given_ms != 0 ? (int64_t)given_ms * 1000 : default_seconds * SECOND_US;
}

bool drover_copy_verify(const DroverCopyEndpoint *endpoint, const DroverCopyVerify *verify,
                        GCancellable *cancellable, uint64_t *different, GError **error)
{
    g_assert(verify->digest == DROVER_DIGEST_XXH3 || verify->digest == DROVER_DIGEST_SHA256);
    DroverEndpoint *parsed = drover_endpoint_new(endpoint, error);
    if (parsed == NULL)
        return false;
    DroverSideConfig config = {
        .name = "target",
        .endpoint = parsed,
        .want_extents = true,
        .connections = CONNECTIONS,
        .connect_deadline_us = deadline_us(verify->connect_deadline_ms, 30),
        .reconnect_deadline_us = deadline_us(verify->reconnect_deadline_ms, 600),
        .stall_deadline_us = deadline_us(verify->stall_deadline_ms, 60),
        .flush_deadline_us = 60 * SECOND_US,
        .log = log_line,
    };
    g_autoptr(DroverSide) side = drover_side_new(&config, g_get_monotonic_time());
    g_autoptr(DroverPool) pool = drover_pool_new(REQUEST_BYTES, MEMORY_BYTES);
    if (pool == NULL)
        return drover_fail(error, DROVER_ERROR_RETRYABLE, "The system gives no memory for the read-back");
    g_autoptr(GPtrArray) pieces = g_ptr_array_new_with_free_func(g_free);
    Verifier v = {.verify = verify, .side = side, .pool = pool, .pieces = pieces, .open = G_QUEUE_INIT};
    bool ok = verify_all(&v, cancellable, error);
    if (ok) {
        drover_side_disconnect(side);
        *different = v.different;
    }
    /* Requests that are still open point into the buffers: their connections go first. */
    g_clear_pointer(&side, drover_side_free);
    g_queue_clear_full(&v.open, back_free);
    return ok;
}
