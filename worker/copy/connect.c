/* SPDX-License-Identifier: Apache-2.0 */
/* Connections come and go: opening, looking at what is there, giving up, and who is suspected of having
 * broken them. */
#include "worker/copy/side_internal.h"

#include <string.h>
#include <sys/socket.h>

#define ALLOCATION "base:allocation"
/* A connection that lived this long was a good one, even if nothing was asked of it. */
#define LONG_US (INT64_C(30) * 1000000)

G_GNUC_PRINTF(4, 5)
static void say(DroverSide *side, DroverLogLevel level, const char *event, const char *format, ...)
{
    if (side->config.log == NULL)
        return;
    va_list args;
    va_start(args, format);
    g_autofree char *text = g_strdup_vprintf(format, args);
    va_end(args);
    g_autofree char *clean = drover_endpoint_clean(side->endpoint, text);
    side->config.log(side->config.data, level, event, clean);
}

static void say_tls(DroverSide *side)
{
    if (side->endpoint->tls == NULL)
        return;
    DroverTlsStats tls;
    drover_tls_client_stats(side->endpoint->tls, &tls);
    say(side, DROVER_LOG_DEBUG, "copy.tls", "%s %s: %s, %s, done by %s", side->config.name,
        side->endpoint->label, tls.version, tls.cipher, tls.how);
}

static bool set_up(DroverSide *side, struct nbd_handle *nbd)
{
    /* Buffers are never looked at unless their read succeeded, so zeroing them first would be wasted. */
    if (nbd_set_pread_initialize(nbd, false) == -1 || nbd_set_uri_allow_tls(nbd, LIBNBD_TLS_DISABLE) == -1)
        return false;
    return !side->config.want_extents || nbd_add_meta_context(nbd, ALLOCATION) == 0;
}

/* libnbd has begun to connect, or failed to (RC -1). */
static void began(DroverConn *conn, int rc, int64_t now_us)
{
    if (rc == -1)
        drover_conn_lost(conn, nbd_get_error(), now_us);
    else if (nbd_aio_is_ready(conn->nbd) == 1)
        drover_conn_ready(conn, now_us);
    else if (nbd_aio_is_dead(conn->nbd) == 1 || nbd_aio_is_closed(conn->nbd) == 1)
        drover_conn_lost(conn, nbd_get_error(), now_us);
}

static void open_tls(DroverConn *conn, int64_t now_us)
{
    g_autoptr(GError) error = NULL;
    conn->tls = drover_tls_session_new(conn->side->endpoint->tls, &error);
    conn->tls_waits = conn->tls != NULL;
    if (conn->tls == NULL)
        drover_conn_lost(conn, error->message, now_us);
}

void drover_conn_open(DroverConn *conn, int64_t now_us)
{
    DroverSide *side = conn->side;
    g_assert(conn->nbd == NULL);
    conn->nbd = nbd_create();
    conn->state = CONN_CONNECTING;
    conn->active_us = now_us;
    conn->doomed = conn->stalled = false;
    if (conn->nbd == NULL || !set_up(side, conn->nbd) ||
        nbd_set_export_name(conn->nbd, side->endpoint->export_name) == -1)
        drover_conn_lost(conn, nbd_get_error(), now_us);
    else if (side->endpoint->tls != NULL)
        open_tls(conn, now_us);
    else
        began(conn, drover_endpoint_connect(side->endpoint, conn->nbd), now_us);
}

void drover_conn_tls_answer(DroverConn *conn, int64_t now_us)
{
    g_autoptr(GError) error = NULL;
    int fd = drover_tls_session_take_fd(conn->tls, &error);
    conn->tls_waits = false;
    if (fd == -1)
        drover_conn_lost(conn, error->message, now_us);
    else
        began(conn, nbd_aio_connect_socket(conn->nbd, fd), now_us);
}

/*
 * A Unix socket's buffer holds 208 KiB by default, less than one request, so each write would be cut and wait
 * for the server once more. The kernel grants twice its default maximum without asking. TCP sizes its buffers
 * by itself and better.
 */
static void widen(struct nbd_handle *nbd)
{
    int fd = nbd_aio_get_fd(nbd), bytes = 1 << 20, domain = 0;
    socklen_t len = sizeof domain;
    if (fd >= 0 && getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &len) == 0 && domain == AF_UNIX)
        (void)setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes);
}

static uint64_t block_size(struct nbd_handle *nbd, int type)
{
    int64_t size = nbd_get_block_size(nbd, type);
    return size > 0 ? (uint64_t)size : 0;
}

static bool inspect(DroverSide *side, struct nbd_handle *nbd, DroverExportInfo *info)
{
    int64_t size = nbd_get_size(nbd);
    if (size < 0)
        return false;
    *info = (DroverExportInfo){
        .size = (uint64_t)size,
        .read_only = nbd_is_read_only(nbd) == 1,
        .can_flush = nbd_can_flush(nbd) == 1,
        .can_zero = nbd_can_zero(nbd) == 1,
        .can_fast_zero = nbd_can_fast_zero(nbd) == 1,
        .can_multi_conn = nbd_can_multi_conn(nbd) == 1,
        .has_extents = side->config.want_extents && nbd_can_meta_context(nbd, ALLOCATION) == 1,
        .min_block = block_size(nbd, LIBNBD_SIZE_MINIMUM),
        .preferred_block = block_size(nbd, LIBNBD_SIZE_PREFERRED),
        .max_block = block_size(nbd, LIBNBD_SIZE_MAXIMUM),
    };
    return true;
}

/* After a reconnect the export must be what it was; the copy's plan rests on it. */
static bool check_same(DroverSide *side, const DroverExportInfo *now)
{
    const DroverExportInfo *was = &side->info;
    const char *code = strcmp(side->config.name, "source") == 0 ? "DRV-SOURCE-CHANGED" : "DRV-TARGET-CHANGED";
    if (now->size != was->size)
        return drover_fail(&side->fatal, DROVER_ERROR_PERMANENT,
                           "%s: %s came back with %" G_GUINT64_FORMAT
                           " bytes after a reconnect, it had %" G_GUINT64_FORMAT,
                           code, side->endpoint->label, now->size, was->size);
    if (now->read_only && !was->read_only && strcmp(side->config.name, "target") == 0)
        return drover_fail(&side->fatal, DROVER_ERROR_PERMANENT,
                           "DRV-TARGET-READ-ONLY: %s came back read-only after a reconnect",
                           side->endpoint->label);
    if (now->min_block > was->min_block ||
        (now->max_block != 0 && (was->max_block == 0 || now->max_block < was->max_block)))
        return drover_fail(&side->fatal, DROVER_ERROR_RETRYABLE,
                           "%s: %s came back with other block sizes after a reconnect", code,
                           side->endpoint->label);
    return true;
}

void drover_conn_ready(DroverConn *conn, int64_t now_us)
{
    DroverSide *side = conn->side;
    DroverExportInfo info;
    if (!inspect(side, conn->nbd, &info)) {
        drover_conn_lost(conn, nbd_get_error(), now_us);
        return;
    }
    if (!side->known) {
        side->known = true;
        side->info = info;
        say(side, DROVER_LOG_DEBUG, "copy.connected",
            "%s %s: %" G_GUINT64_FORMAT
            " bytes, multi-conn %d, zero %d, fast zero %d, extents %d, largest request %" G_GUINT64_FORMAT,
            side->config.name, side->endpoint->label, info.size, info.can_multi_conn, info.can_zero,
            info.can_fast_zero, info.has_extents, info.max_block);
        say_tls(side);
    } else if (!check_same(side, &info)) {
        return;
    } else {
        /* What was found out about zeroes stays; what the server no longer offers is gone. */
        side->info.can_zero = side->info.can_zero && info.can_zero;
        side->info.can_fast_zero = side->info.can_fast_zero && info.can_fast_zero;
        side->info.has_extents = side->info.has_extents && info.has_extents;
        side->info.can_multi_conn = info.can_multi_conn;
        side->info.can_flush = info.can_flush;
    }
    widen(conn->nbd);
    side->n_wanted = info.can_multi_conn ? side->n_start : 1;
    conn->state = CONN_READY;
    conn->active_us = conn->ready_us = now_us;
    conn->failures = 0;
    if (side->n_ready++ == 0 && side->reconnects > 0)
        say(side, DROVER_LOG_INFO, "copy.reconnected", "%s %s is back after %" G_GINT64_FORMAT " ms",
            side->config.name, side->endpoint->label, (now_us - side->down_since_us) / 1000);
}

/* 0.1 s, 0.2 s, ... up to 10 s, each between half and the whole of it. */
static int64_t backoff_us(unsigned attempts)
{
    int64_t full = INT64_C(100000) << MIN(attempts, 7);
    full = MIN(full, INT64_C(10000000));
    return full / 2 + (int64_t)(g_random_double() * (double)(full / 2));
}

/*
 * Any operation in flight may be what the server died of. After the second time it is sent alone; when that
 * breaks three more connections, it is the culprit. So a server that is restarted again and again does not
 * make a region bad, unless it goes down five times and each time under the same request.
 */
#define SUSPICIOUS 2
#define CULPRIT 5

static void suspect(DroverSide *side, DroverOp *op)
{
    if (op->kind == DROVER_OP_FLUSH || op->kind == DROVER_OP_EXTENTS)
        return;
    gpointer key = GSIZE_TO_POINTER(op->offset);
    guint count = GPOINTER_TO_UINT(g_hash_table_lookup(side->suspects, key));
    if (count >= SUSPICIOUS && !op->alone)
        return;
    g_hash_table_insert(side->suspects, key, GUINT_TO_POINTER(count + 1));
    op->broke_often = count + 1 >= CULPRIT;
}

/*
 * What TLS knows is better than libnbd's "the server closed the connection". A refusal ends the copy:
 * repeating does not help. But once it worked, files of ours that do not fit together are being changed at
 * this moment, and refusals of one more connection beside those that work are not final.
 */
static GError *take_tls_error(DroverConn *conn)
{
    DroverSide *side = conn->side;
    GError *error = conn->tls != NULL ? drover_tls_session_error(conn->tls) : NULL;
    if (error == NULL || side->fatal != NULL || side->n_ready > (conn->state == CONN_READY ? 1 : 0) ||
        drover_error_class(error) != DROVER_ERROR_PERMANENT)
        return error;
    if (!side->known || !g_str_has_prefix(error->message, "DRV-TLS-FILES"))
        side->fatal = g_error_copy(error);
    return error;
}

void drover_conn_lost(DroverConn *conn, const char *text, int64_t now_us)
{
    DroverSide *side = conn->side;
    bool was_ready = conn->state == CONN_READY;
    g_autoptr(GError) tls_error = take_tls_error(conn);
    char *reason = drover_endpoint_clean(side->endpoint, tls_error != NULL ? tls_error->message : text);
    g_free(side->last_error);
    side->last_error = reason;

    /* Operations that libnbd still holds stay ours until the handle is gone: it may call back while it
     * closes. */
    nbd_close(conn->nbd);
    conn->nbd = NULL;
    drover_tls_session_free(g_steal_pointer(&conn->tls), false);
    conn->tls_waits = false;
    conn->state = CONN_DOWN;
    for (DroverOp *op; (op = conn->ops.head) != NULL;) {
        drover_op_list_remove(&conn->ops, op);
        side->in_flight--;
        op->lost = true;
        op->stalled = conn->stalled;
        suspect(side, op);
        if (op->alone)
            side->alone = false;
        drover_op_list_push(&side->completed, op);
    }
    conn->flushes = 0;

    if (was_ready) {
        side->loss = true;
        side->reconnects++;
        side->n_ready--;
        /* One that answered nothing until its deadline was none, however long that took. */
        if (!conn->stalled && now_us - conn->ready_us > LONG_US)
            side->attempts = 0;
    } else if (side->n_ready > 0 && ++conn->failures >= 3) {
        conn->retired = true;
        say(side, DROVER_LOG_INFO, "copy.fewer-connections", "%s %s takes no more than %u connections: %s",
            side->config.name, side->endpoint->label, side->n_ready, side->last_error);
    }
    if (side->n_ready > 0) {
        side->next_attempt_us = now_us + backoff_us(conn->failures);
        return;
    }
    if (was_ready) {
        side->down_since_us = now_us;
        if (side->attempts == 0)
            side->trouble_since_us = now_us;
        say(side, DROVER_LOG_WARNING, "copy.lost", "%s %s is lost, connecting again: %s", side->config.name,
            side->endpoint->label, side->last_error);
    }
    side->next_attempt_us = now_us + (was_ready && side->attempts == 0 ? 0 : backoff_us(side->attempts));
    side->attempts++;
}
