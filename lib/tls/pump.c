/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Moves bytes between the caller's socket and the server. Each direction has one buffer and takes no more
 * before that is empty, so a slow reader on one side stops the writer on the other. The end of the caller's
 * stream is passed on as a TLS goodbye after all that came before; the end of the server's as the end of the
 * caller's socket.
 */
#include <errno.h>
#include <openssl/err.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#include "lib/tls/internal.h"

typedef struct {
    DroverTlsSession *session;
    uint8_t *up; /* plain text for the server */
    size_t up_start, up_end;
    size_t swallow;      /* of the caller's first bytes: STARTTLS sent them already */
    bool caller_ended;   /* no more will come from the caller */
    bool caller_gone;    /* it takes nothing any more */
    bool caller_hung_up; /* its socket is closed, but may hold bytes that we have not taken */
    bool server_ended;
    bool said_goodbye;
    bool write_full; /* OpenSSL itself waits for the socket (kernel TLS) */
    GError *error;   /* why the server's side ended */
} Pump;

static void server_failed(Pump *pump, int rc)
{
    if (pump->error == NULL)
        drover_tls_session_fail(pump->session, rc, &pump->error);
    pump->server_ended = pump->said_goodbye = true;
    pump->up_start = pump->up_end = 0;
}

/* The caller's first bytes in answer to the greeting that we played to it. */
static bool swallow(Pump *pump)
{
    const uint8_t *flags =
        pump->session->starttls.flags + sizeof pump->session->starttls.flags - pump->swallow;
    size_t n = MIN(pump->swallow, pump->up_end);
    if (memcmp(pump->up, flags, n) != 0)
        return drover_fail(
            &pump->error, DROVER_ERROR_PERMANENT,
            "DRV-TLS-VERSION: libnbd chose other handshake flags than were sent before STARTTLS");
    pump->up_start = n;
    pump->swallow -= n;
    return true;
}

/* True when something moved. */
static bool take_from_caller(Pump *pump)
{
    if (pump->up_start < pump->up_end || pump->caller_ended || pump->server_ended)
        return false;
    ssize_t n = recv(pump->session->pair, pump->up, DROVER_TLS_BUFFER, MSG_DONTWAIT);
    if (n == -1 && (errno == EAGAIN || errno == EINTR))
        return false;
    if (n <= 0) {
        pump->caller_ended = true;
        return true;
    }
    pump->up_start = 0;
    pump->up_end = (size_t)n;
    if (pump->swallow > 0 && !swallow(pump)) {
        pump->caller_ended = pump->caller_gone = true;
        pump->up_end = 0;
    }
    return true;
}

/* False: nothing more can be sent now. */
static bool send_to_server(Pump *pump)
{
    DroverTlsSession *session = pump->session;
    int flushed = drover_tls_wire_flush(&session->wire);
    if (flushed == -1)
        server_failed(pump, -1);
    pump->write_full = false;
    while (flushed == 1 && pump->up_start < pump->up_end) {
        size_t n = 0;
        ERR_clear_error();
        int rc = SSL_write_ex(session->ssl, pump->up + pump->up_start, pump->up_end - pump->up_start, &n);
        pump->up_start += n;
        int code = rc == 1 ? SSL_ERROR_NONE : SSL_get_error(session->ssl, rc);
        if (code == SSL_ERROR_WANT_WRITE || code == SSL_ERROR_WANT_READ) {
            pump->write_full = code == SSL_ERROR_WANT_WRITE;
            break;
        }
        if (rc != 1) {
            server_failed(pump, rc);
            return false;
        }
    }
    if (flushed == 1 && drover_tls_wire_flush(&session->wire) == -1)
        server_failed(pump, -1);
    return !pump->server_ended && session->wire.start == session->wire.end && !pump->write_full &&
           pump->up_start == pump->up_end;
}

static bool move_up(Pump *pump)
{
    bool moved = false;
    for (unsigned i = 0; i < 4 && send_to_server(pump) && take_from_caller(pump); i++)
        moved = true;
    if (pump->caller_ended && pump->up_start == pump->up_end && !pump->said_goodbye && !pump->server_ended) {
        ERR_clear_error();
        pump->said_goodbye = true;
        (void)SSL_shutdown(pump->session->ssl); /* the server's own goodbye is not waited for */
        send_to_server(pump);
    }
    return moved;
}

static void give_to_caller(Pump *pump)
{
    DroverTlsSession *session = pump->session;
    while (session->down_start < session->down_end) {
        ssize_t n = send(session->pair, session->down + session->down_start,
                         session->down_end - session->down_start, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n > 0) {
            session->down_start += (size_t)n;
        } else if (n == -1 && errno == EAGAIN) {
            return;
        } else if (n == -1 && errno != EINTR) {
            pump->caller_gone = true;
            session->down_start = session->down_end;
        }
    }
    session->down_start = session->down_end = 0;
}

static bool take_from_server(Pump *pump)
{
    DroverTlsSession *session = pump->session;
    if (pump->server_ended || session->down_start < session->down_end)
        return false;
    session->down_start = session->down_end = 0;
    while (session->down_end < DROVER_TLS_BUFFER) {
        size_t n = 0;
        ERR_clear_error();
        int rc = SSL_read_ex(session->ssl, session->down + session->down_end,
                             DROVER_TLS_BUFFER - session->down_end, &n);
        int code = rc == 1 ? SSL_ERROR_NONE : SSL_get_error(session->ssl, rc);
        session->down_end += n;
        if (code == SSL_ERROR_WANT_READ || code == SSL_ERROR_WANT_WRITE)
            break;
        if (rc != 1) {
            server_failed(pump, rc);
            break;
        }
        session->got_data = true;
    }
    return session->down_end > 0;
}

static bool move_down(Pump *pump)
{
    bool moved = false;
    for (unsigned i = 0; i < 4; i++) {
        give_to_caller(pump);
        if (!take_from_server(pump))
            break;
        moved = true;
    }
    give_to_caller(pump);
    return moved;
}

/* False: cancelled. */
static bool wait_for_more(Pump *pump)
{
    DroverTlsSession *session = pump->session;
    bool full = session->wire.start < session->wire.end || pump->write_full;
    bool down = session->down_start < session->down_end;
    bool ask_caller = pump->up_start == pump->up_end && !full && !pump->caller_ended;
    struct pollfd fds[] = {
        {.fd = session->cancel_fd, .events = POLLIN},
        {.fd = session->pair, .events = (short)((ask_caller ? POLLIN : 0) | (down ? POLLOUT : 0))},
        {.fd = session->tcp, .events = (short)((down ? 0 : POLLIN) | (full ? POLLOUT : 0))},
    };
    /* The end of a side is reported whether asked for or not, again and again: look only where something is
     * to be done. */
    if ((pump->caller_ended || (pump->caller_hung_up && !ask_caller)) && !down)
        fds[1].fd = -1;
    if (pump->server_ended)
        fds[2].fd = -1;
    if (poll(fds, 3, -1) == -1)
        return errno == EINTR;
    /* A reset while the caller does not read: nobody will need what is left. */
    if (down && (fds[2].revents & POLLERR) != 0) {
        int code = 0;
        socklen_t len = sizeof code;
        (void)getsockopt(session->tcp, SOL_SOCKET, SO_ERROR, &code, &len);
        session->wire.error = errno = code;
        server_failed(pump, -1);
    }
    pump->caller_hung_up = pump->caller_hung_up || (fds[1].revents & (POLLERR | POLLHUP)) != 0;
    return fds[0].revents == 0;
}

static bool is_over(const Pump *pump)
{
    const DroverTlsSession *session = pump->session;
    bool delivered = session->down_start == session->down_end || pump->caller_gone;
    if (pump->server_ended)
        return delivered;
    return pump->caller_ended && pump->said_goodbye && session->wire.start == session->wire.end &&
           !pump->write_full;
}

bool drover_tls_pump(DroverTlsSession *session, GError **error)
{
    Pump pump = {.session = session};
    pump.up = g_malloc(DROVER_TLS_BUFFER);
    if (session->client->mode == DROVER_TLS_STARTTLS)
        pump.swallow = sizeof session->starttls.flags;
    while (!is_over(&pump)) {
        bool moved = move_up(&pump);
        moved = move_down(&pump) || moved;
        if (!moved && !is_over(&pump) && !wait_for_more(&pump))
            break;
    }
    g_free(pump.up);
    if (pump.error == NULL)
        return true;
    g_propagate_error(error, pump.error);
    return false;
}
