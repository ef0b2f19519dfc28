/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Kernel TLS (Linux Documentation/networking/tls.rst). Which directions are possible depends on kernel,
 * OpenSSL, version and cipher: OpenSSL 3.0 offloads TLS 1.3 for sending only, 3.2 and newer for both.
 */
#include <errno.h>
#include <linux/tls.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/tls/internal.h"

#ifndef SOL_TLS
#define SOL_TLS 282
#endif
#define RECORD_DATA 23

/* The protocol can only be attached to a connected socket, and it stays: so a scratch connection is used. */
static bool probe(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0),
        client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool ok = listener != -1 && client != -1 && bind(listener, (struct sockaddr *)&address, len) == 0 &&
              listen(listener, 1) == 0 && getsockname(listener, (struct sockaddr *)&address, &len) == 0 &&
              connect(client, (struct sockaddr *)&address, len) == 0 &&
              setsockopt(client, IPPROTO_TCP, TCP_ULP, "tls", sizeof "tls") == 0;
    if (listener != -1)
        close(listener);
    if (client != -1)
        close(client);
    return ok;
}

static gpointer probe_once(gpointer data)
{
    (void)data;
#ifdef OPENSSL_NO_KTLS
    return GINT_TO_POINTER(0);
#else
    return GINT_TO_POINTER(probe());
#endif
}

bool drover_tls_kernel_offers(int tcp)
{
    static GOnce once = G_ONCE_INIT;
    int domain = 0;
    socklen_t len = sizeof domain;
    return getsockopt(tcp, SOL_SOCKET, SO_DOMAIN, &domain, &len) == 0 &&
           (domain == AF_INET || domain == AF_INET6) && GPOINTER_TO_INT(g_once(&once, probe_once, NULL)) != 0;
}

const char *drover_tls_kernel_does(const SSL *ssl)
{
    BIO *out = SSL_get_wbio(ssl), *in = SSL_get_rbio(ssl);
    if (!BIO_get_ktls_send(out))
        return "openssl";
    return BIO_get_ktls_recv(in) ? "ktls" : "ktls-send";
}

/* The type of the record that is next in line; 0 when the stream is at its end, -1 when there is none yet. */
static int next_record(int tcp)
{
    char byte;
    union {
        char bytes[CMSG_SPACE(sizeof(unsigned char))];
        struct cmsghdr align;
    } control;
    struct iovec piece = {.iov_base = &byte, .iov_len = 1};
    struct msghdr message = {.msg_iov = &piece,
                             .msg_iovlen = 1,
                             .msg_control = control.bytes,
                             .msg_controllen = sizeof control.bytes};
    ssize_t n = recvmsg(tcp, &message, MSG_PEEK | MSG_DONTWAIT);
    if (n <= 0)
        return n == -1 && (errno == EAGAIN || errno == EINTR) ? -1 : 0;
    const struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    if (header == NULL || header->cmsg_level != SOL_TLS || header->cmsg_type != TLS_GET_RECORD_TYPE)
        return RECORD_DATA;
    return *(const unsigned char *)CMSG_DATA(header);
}

bool drover_tls_kernel_settle(DroverTlsSession *session, int64_t deadline_us, bool *direct, GError **error)
{
    for (;;) {
        int type = next_record(session->tcp);
        *direct = type == RECORD_DATA && !SSL_has_pending(session->ssl);
        if (*direct)
            return true;
        if (type == -1) {
            if (!drover_tls_session_wait(session, POLLIN, deadline_us, error))
                return false;
            continue;
        }
        /* A ticket, an alert, the end. If data came meanwhile it is read, too, and passed on by the pump. */
        size_t n = 0;
        int rc = SSL_read_ex(session->ssl, session->down, DROVER_TLS_BUFFER, &n);
        session->down_end = n;
        if (rc == 1)
            return true;
        if (SSL_get_error(session->ssl, rc) != SSL_ERROR_WANT_READ)
            return drover_tls_session_fail(session, rc, error);
    }
}
