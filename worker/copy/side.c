/* SPDX-License-Identifier: Apache-2.0 */
#include "worker/copy/side_internal.h"

#include <errno.h>
#include <string.h>

/* More does not help (nbdkit serves 16 at a time a connection) and would make one connection's loss
 * expensive. */
#define MAX_IN_FLIGHT 64
#define HANDSHAKE_DEADLINE_US (INT64_C(15) * 1000000)
#define FOREVER_US INT64_MAX

void drover_op_list_push(DroverOpList *list, DroverOp *op)
{
    op->prev = list->tail;
    op->next = NULL;
    *(list->tail != NULL ? &list->tail->next : &list->head) = op;
    list->tail = op;
    list->len++;
}

void drover_op_list_push_front(DroverOpList *list, DroverOp *op)
{
    op->prev = NULL;
    op->next = list->head;
    *(list->head != NULL ? &list->head->prev : &list->tail) = op;
    list->head = op;
    list->len++;
}

void drover_op_list_remove(DroverOpList *list, DroverOp *op)
{
    *(op->prev != NULL ? &op->prev->next : &list->head) = op->next;
    *(op->next != NULL ? &op->next->prev : &list->tail) = op->prev;
    op->prev = op->next = NULL;
    list->len--;
}

DroverOp *drover_op_new(DroverOpKind kind, uint64_t offset, uint64_t len, void *data, void *owner)
{
    DroverOp *op = g_slice_new0(DroverOp);
    op->kind = kind;
    op->offset = offset;
    op->len = len;
    op->data = data;
    op->owner = owner;
    return op;
}

void drover_op_free(DroverOp *op)
{
    if (op == NULL)
        return;
    if (op->runs != NULL)
        g_array_unref(op->runs);
    g_slice_free(DroverOp, op);
}

static void free_list(DroverOpList *list)
{
    for (DroverOp *op; (op = list->head) != NULL;) {
        drover_op_list_remove(list, op);
        drover_op_free(op);
    }
}

DroverSide *drover_side_new(const DroverSideConfig *config, int64_t now_us)
{
    DroverSide *side = g_new0(DroverSide, 1);
    side->config = *config;
    side->endpoint = config->endpoint;
    side->n_start = MAX(config->connections, 1);
    side->n_conns = MAX(config->max_connections, side->n_start);
    side->n_wanted = 1;
    side->conns = g_new0(DroverConn, side->n_conns);
    for (unsigned i = 0; i < side->n_conns; i++)
        side->conns[i].side = side;
    side->suspects = g_hash_table_new(g_direct_hash, g_direct_equal);
    side->down_since_us = side->trouble_since_us = side->next_attempt_us = now_us;
    return side;
}

void drover_side_free(DroverSide *side)
{
    if (side == NULL)
        return;
    for (unsigned i = 0; i < side->n_conns; i++) {
        nbd_close(side->conns[i].nbd);
        free_list(&side->conns[i].ops);
    }
    for (unsigned i = 0; i < side->n_conns; i++)
        drover_tls_session_free(side->conns[i].tls, side->conns[i].state == CONN_READY);
    free_list(&side->queue);
    free_list(&side->delayed);
    free_list(&side->completed);
    g_hash_table_unref(side->suspects);
    drover_endpoint_free(side->endpoint);
    g_clear_error(&side->fatal);
    g_free(side->last_error);
    g_free(side->conns);
    g_free(side);
}

void drover_side_submit(DroverSide *side, DroverOp *op, int64_t delay_us, int64_t now_us)
{
    op->error = 0;
    op->issued_us = 0;
    op->lost = op->stalled = op->alone = op->broke_often = false;
    op->not_before_us = delay_us > 0 ? now_us + delay_us : 0;
    drover_op_list_push(delay_us > 0 ? &side->delayed : &side->queue, op);
}

/* libnbd's completion: only takes notes, since no handle may be called from here. */
static int on_complete(void *user, int *error)
{
    DroverOp *op = user;
    DroverConn *conn = op->conn;
    DroverSide *side = conn->side;
    op->error = *error;
    /* Without an answer: stays in flight, so that drover_conn_lost finds it. ESHUTDOWN is an answer, but the
     * server goes. */
    if (*error == ENOTCONN)
        return 1;
    if (*error == ESHUTDOWN) {
        conn->doomed = true;
        return 1;
    }
    drover_op_list_remove(&conn->ops, op);
    side->in_flight--;
    if (op->kind == DROVER_OP_FLUSH)
        conn->flushes--;
    if (op->alone)
        side->alone = false;
    drover_op_list_push(&side->completed, op);
    return 1;
}

static bool is_answer(const DroverOp *op, const char *context, uint64_t offset, int error)
{
    return error == 0 && strcmp(context, LIBNBD_CONTEXT_BASE_ALLOCATION) == 0 && offset == op->offset &&
           op->runs->len == 0;
}

static void add_run(DroverOp *op, uint64_t length, bool zero)
{
    DroverRun run = {length, zero};
    if (length > 0)
        g_array_append_val(op->runs, run);
}

/* With extended headers (libnbd 1.18) servers tell runs of 4 GiB and more; older ones are asked in the older way. */
#ifdef LIBNBD_HAVE_NBD_AIO_BLOCK_STATUS_64
static int on_extents(void *user, const char *context, uint64_t offset, nbd_extent *entries, size_t n, int *error)
{
    DroverOp *op = user;
    if (!is_answer(op, context, offset, *error))
        return 0;
    for (size_t i = 0; i < n; i++)
        add_run(op, entries[i].length, (entries[i].flags & LIBNBD_STATE_ZERO) != 0);
    return 0;
}
#define ask_extents nbd_aio_block_status_64
#define EXTENTS_CALLBACK nbd_extent64_callback
#else
static int on_extents(void *user, const char *context, uint64_t offset, uint32_t *entries, size_t n,
                      int *error)
{
    DroverOp *op = user;
    if (!is_answer(op, context, offset, *error))
        return 0;
    for (size_t i = 0; i + 1 < n; i += 2)
        add_run(op, entries[i], (entries[i + 1] & LIBNBD_STATE_ZERO) != 0);
    return 0;
}
#define ask_extents nbd_aio_block_status
#define EXTENTS_CALLBACK nbd_extent_callback
#endif

static int64_t send_op(DroverConn *conn, DroverOp *op)
{
    nbd_completion_callback done = {.callback = on_complete, .user_data = op};
    switch (op->kind) {
    case DROVER_OP_READ:
        return nbd_aio_pread(conn->nbd, op->data, op->len, op->offset, done, op->flags);
    case DROVER_OP_WRITE:
        return nbd_aio_pwrite(conn->nbd, op->data, op->len, op->offset, done, op->flags);
    case DROVER_OP_ZERO:
        return nbd_aio_zero(conn->nbd, op->len, op->offset, done, op->flags);
    case DROVER_OP_FLUSH:
        return nbd_aio_flush(conn->nbd, done, op->flags);
    case DROVER_OP_EXTENTS:
        if (op->runs != NULL)
            g_array_unref(op->runs);
        op->runs = g_array_new(FALSE, FALSE, sizeof(DroverRun));
        return ask_extents(conn->nbd, op->len, op->offset,
                           (EXTENTS_CALLBACK){.callback = on_extents, .user_data = op}, done, op->flags);
    }
    g_assert_not_reached();
}

/* False when the connection turned out to be dead: OP is in the queue again. */
static bool issue(DroverConn *conn, DroverOp *op, int64_t now_us)
{
    DroverSide *side = conn->side;
    if (conn->ops.len == 0)
        conn->active_us = now_us;
    op->conn = conn;
    op->issued_us = now_us;
    drover_op_list_push(&conn->ops, op);
    side->in_flight++;
    if (op->kind == DROVER_OP_FLUSH)
        conn->flushes++;
    if (op->alone)
        side->alone = true;
    if (send_op(conn, op) != -1)
        return true;

    int code = nbd_get_errno();
    drover_op_list_remove(&conn->ops, op);
    side->in_flight--;
    if (op->kind == DROVER_OP_FLUSH)
        conn->flushes--;
    if (op->alone)
        side->alone = false;
    if (nbd_aio_is_dead(conn->nbd) == 1 || nbd_aio_is_closed(conn->nbd) == 1 || code == ENOTCONN) {
        g_autofree char *text = g_strdup(nbd_get_error());
        drover_op_list_push_front(&side->queue, op);
        drover_conn_lost(conn, text, now_us);
        return false;
    }
    op->error = code != 0 ? code : EINVAL;
    drover_op_list_push(&side->completed, op);
    return true;
}

static DroverConn *least_loaded(DroverSide *side)
{
    DroverConn *best = NULL;
    for (unsigned i = 0; i < side->n_conns; i++) {
        DroverConn *conn = &side->conns[i];
        if (conn->state == CONN_READY && !conn->doomed && conn->ops.len < MAX_IN_FLIGHT &&
            (best == NULL || conn->ops.len < best->ops.len))
            best = conn;
    }
    return best;
}

void drover_side_pump(DroverSide *side, int64_t now_us)
{
    for (DroverOp *op = side->delayed.head, *next; op != NULL; op = next) {
        next = op->next;
        if (op->not_before_us <= now_us) {
            drover_op_list_remove(&side->delayed, op);
            drover_op_list_push(&side->queue, op);
        }
    }
    DroverConn *conn;
    while (side->queue.head != NULL && !side->alone && (conn = least_loaded(side)) != NULL) {
        DroverOp *op = side->queue.head;
        bool alone =
            g_hash_table_size(side->suspects) > 0 &&
            GPOINTER_TO_UINT(g_hash_table_lookup(side->suspects, GSIZE_TO_POINTER(op->offset))) >= 2 &&
            op->kind != DROVER_OP_FLUSH && op->kind != DROVER_OP_EXTENTS;
        if (alone && side->in_flight > 0)
            return;
        drover_op_list_remove(&side->queue, op);
        op->alone = alone;
        issue(conn, op, now_us);
    }
}

DroverOp *drover_side_take(DroverSide *side)
{
    DroverOp *op = side->completed.head;
    if (op == NULL)
        return NULL;
    drover_op_list_remove(&side->completed, op);
    if (op->lost)
        return op;
    op->latency_us = g_get_monotonic_time() - op->issued_us;
    if (op->kind == DROVER_OP_EXTENTS && op->error == 0 && op->runs->len == 0)
        op->error = EPROTO;
    if (op->error == 0) {
        side->attempts = 0;
        if (g_hash_table_size(side->suspects) > 0 && op->kind != DROVER_OP_FLUSH &&
            op->kind != DROVER_OP_EXTENTS)
            g_hash_table_remove(side->suspects, GSIZE_TO_POINTER(op->offset));
    }
    return op;
}

static void check_stall(DroverConn *conn, int64_t now_us)
{
    const DroverSideConfig *config = &conn->side->config;
    int64_t idle = now_us - conn->active_us;
    if (conn->state == CONN_CONNECTING && idle > MIN(HANDSHAKE_DEADLINE_US, config->stall_deadline_us)) {
        g_autofree char *text = g_strdup_printf("the handshake took too long%s%s", conn->tls_waits ? ": the server owes " : "",
                                                conn->tls_waits ? drover_tls_session_waits_for(conn->tls) : "");
        drover_conn_lost(conn, text, now_us);
    } else if (conn->state == CONN_READY && conn->ops.len > 0) {
        int64_t limit = conn->flushes > 0 ? config->flush_deadline_us : config->stall_deadline_us;
        if (idle <= limit)
            return;
        conn->stalled = true;
        g_autofree char *text = g_strdup_printf("no answer for %" G_GINT64_FORMAT " s", idle / 1000000);
        drover_conn_lost(conn, text, now_us);
    }
}

/* Why there is no connection, as far as it is known. */
static char *why_down(const DroverSide *side)
{
    if (side->last_error != NULL)
        return g_strdup(side->last_error);
    for (unsigned i = 0; i < side->n_conns; i++)
        if (side->conns[i].state == CONN_CONNECTING && side->conns[i].tls_waits)
            return g_strconcat("no answer, the server owes ", drover_tls_session_waits_for(side->conns[i].tls), NULL);
    return g_strdup("no answer");
}

static bool check_deadline(DroverSide *side, int64_t now_us, GError **error)
{
    if (side->n_ready > 0)
        return true;
    int64_t limit = side->known ? side->config.reconnect_deadline_us : side->config.connect_deadline_us;
    if (now_us - side->trouble_since_us <= limit)
        return true;
    g_autofree char *why = why_down(side);
    return drover_fail(error, DROVER_ERROR_RETRYABLE,
                       "%s: cannot %s the %s %s for %" G_GINT64_FORMAT " s: %s",
                       side->known ? "DRV-COPY-LOST" : "DRV-COPY-CONNECT",
                       side->known ? "get back" : "connect to", side->config.name, side->endpoint->label,
                       limit / 1000000, why);
}

/* The connection to open next: one at a time until the first works. */
static DroverConn *next_to_open(const DroverSide *side)
{
    for (unsigned i = 0; i < side->n_conns; i++)
        if (side->n_ready == 0 && side->conns[i].state == CONN_CONNECTING)
            return NULL;
    for (unsigned i = 0, open = 0; i < side->n_conns; i++) {
        DroverConn *conn = &side->conns[i];
        if (conn->state != CONN_DOWN)
            open++;
        else if (!conn->retired || side->n_ready == 0)
            return side->n_ready == 0 || open < side->n_wanted ? conn : NULL;
    }
    return NULL;
}

bool drover_side_tick(DroverSide *side, int64_t now_us, GError **error)
{
    for (unsigned i = 0; i < side->n_conns; i++) {
        DroverConn *conn = &side->conns[i];
        if (conn->doomed && conn->state == CONN_READY)
            drover_conn_lost(conn, "the server is shutting down", now_us);
        check_stall(conn, now_us);
    }
    if (side->fatal != NULL || !check_deadline(side, now_us, &side->fatal)) {
        g_propagate_error(error, g_steal_pointer(&side->fatal));
        return false;
    }
    for (DroverConn *conn; now_us >= side->next_attempt_us && (conn = next_to_open(side)) != NULL;) {
        if (side->config.is_fenced != NULL && side->config.is_fenced(side->config.data))
            return drover_fail(error, DROVER_ERROR_FENCED, "DRV-FENCED: somebody newer owns %s",
                               side->endpoint->label);
        drover_conn_open(conn, now_us);
        if (side->fatal != NULL)
            break;
    }
    return true;
}

int64_t drover_side_wait_us(const DroverSide *side, int64_t now_us)
{
    int64_t wait = FOREVER_US;
    for (const DroverOp *op = side->delayed.head; op != NULL; op = op->next)
        wait = MIN(wait, MAX(op->not_before_us - now_us, 0));
    if (next_to_open(side) != NULL)
        wait = MIN(wait, MAX(side->next_attempt_us - now_us, 0));
    return side->fatal != NULL ? 0 : wait;
}

size_t drover_side_max_fds(const DroverSide *side)
{
    return side->n_conns;
}

size_t drover_side_fill_fds(DroverSide *side, struct pollfd *fds)
{
    size_t n = 0;
    for (unsigned i = 0; i < side->n_conns; i++) {
        DroverConn *conn = &side->conns[i];
        if (conn->nbd == NULL)
            continue;
        if (conn->tls_waits) {
            fds[n++] = (struct pollfd){.fd = drover_tls_session_event_fd(conn->tls), .events = POLLIN};
            continue;
        }
        unsigned direction = nbd_aio_get_direction(conn->nbd);
        short events = (short)((direction & LIBNBD_AIO_DIRECTION_READ ? POLLIN : 0) |
                               (direction & LIBNBD_AIO_DIRECTION_WRITE ? POLLOUT : 0));
        fds[n++] = (struct pollfd){.fd = nbd_aio_get_fd(conn->nbd), .events = events};
    }
    return n;
}

static void handle(DroverConn *conn, short revents, int64_t now_us)
{
    if (revents == 0)
        return;
    if (conn->tls_waits) {
        drover_conn_tls_answer(conn, now_us);
        return;
    }
    int rc = 0;
    conn->active_us = now_us;
    if ((revents & (POLLIN | POLLHUP | POLLERR)) &&
        (nbd_aio_get_direction(conn->nbd) & LIBNBD_AIO_DIRECTION_READ))
        rc = nbd_aio_notify_read(conn->nbd);
    if (rc == 0 && (revents & (POLLOUT | POLLERR)) &&
        (nbd_aio_get_direction(conn->nbd) & LIBNBD_AIO_DIRECTION_WRITE))
        rc = nbd_aio_notify_write(conn->nbd);
    if (rc == -1 || nbd_aio_is_dead(conn->nbd) == 1 || nbd_aio_is_closed(conn->nbd) == 1) {
        g_autofree char *text = g_strdup(rc == -1 ? nbd_get_error() : "the server closed the connection");
        drover_conn_lost(conn, text, now_us);
    } else if (conn->doomed) {
        drover_conn_lost(conn, "the server is shutting down", now_us);
    } else if (conn->state == CONN_CONNECTING && nbd_aio_is_ready(conn->nbd) == 1) {
        drover_conn_ready(conn, now_us);
    }
}

void drover_side_handle_fds(DroverSide *side, const struct pollfd *fds, size_t n, int64_t now_us)
{
    size_t at = 0;
    for (unsigned i = 0; i < side->n_conns && at < n; i++)
        if (side->conns[i].nbd != NULL)
            handle(&side->conns[i], fds[at++].revents, now_us);
}

void drover_side_grow(DroverSide *side, uint64_t connections)
{
    if (!side->known || !side->info.can_multi_conn || side->n_ready != side->n_wanted)
        return;
    uint64_t most = MIN(2 * side->n_wanted, side->n_conns);
    if (connections > side->n_wanted)
        side->n_start = side->n_wanted = (unsigned)MIN(connections, most);
}

bool drover_side_is_up(const DroverSide *side)
{
    return side->n_ready > 0;
}

const DroverExportInfo *drover_side_info(const DroverSide *side)
{
    return side->known ? &side->info : NULL;
}

const char *drover_side_label(const DroverSide *side)
{
    return side->endpoint->label;
}

unsigned drover_side_open_connections(const DroverSide *side)
{
    return side->n_ready;
}

unsigned drover_side_reconnects(const DroverSide *side)
{
    return side->reconnects;
}

void drover_side_tls(const DroverSide *side, DroverTlsStats *stats)
{
    if (side->endpoint->tls != NULL)
        drover_tls_client_stats(side->endpoint->tls, stats);
}

size_t drover_side_in_flight(const DroverSide *side)
{
    return side->in_flight;
}

size_t drover_side_queued(const DroverSide *side)
{
    return side->queue.len + side->delayed.len;
}

bool drover_side_take_loss(DroverSide *side)
{
    bool loss = side->loss;
    side->loss = false;
    return loss;
}

void drover_side_break(DroverSide *side, int64_t now_us)
{
    g_autofree char *reason = g_strdup(side->last_error);
    for (unsigned i = 0; i < side->n_conns; i++)
        if (side->conns[i].nbd != NULL)
            drover_conn_lost(&side->conns[i], reason, now_us);
}

void drover_side_drop_queue(DroverSide *side)
{
    DroverOpList *lists[] = {&side->queue, &side->delayed};
    for (size_t i = 0; i < G_N_ELEMENTS(lists); i++)
        for (DroverOp *op; (op = lists[i]->head) != NULL;) {
            drover_op_list_remove(lists[i], op);
            op->lost = true;
            drover_op_list_push(&side->completed, op);
        }
}

void drover_side_forget_fast_zero(DroverSide *side)
{
    side->info.can_fast_zero = false;
}

void drover_side_forget_zero(DroverSide *side)
{
    side->info.can_fast_zero = side->info.can_zero = false;
}

void drover_side_disconnect(DroverSide *side)
{
    for (unsigned i = 0; i < side->n_conns; i++)
        if (side->conns[i].state == CONN_READY && side->conns[i].ops.len == 0)
            nbd_aio_disconnect(side->conns[i].nbd, 0);
}
