/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by the parts of lib/tls: client.c (what connections share), context.c (files), session.c (one
 * connection up to the end of its handshake), pump.c (its bytes), ktls.c (when the kernel does it). */
#ifndef DROVER_LIB_TLS_INTERNAL_H
#define DROVER_LIB_TLS_INTERNAL_H

#include <gio/gio.h>
#include <openssl/ssl.h>

#include "lib/tls/failure.h"
#include "lib/tls/starttls.h"
#include "lib/tls/tls.h"
#include "lib/tls/wire.h"

struct DroverTlsClient {
    /* set once */
    DroverTlsMode mode;
    char *host; /* NULL: socket_path */
    uint16_t port;
    char *socket_path;
    char *ca_file, *cert_file, *key_file, *name; /* "" when there is none, but for name */
    bool allow_tls12;
    char *peer; /* for people */

    GMutex lock;
    GQueue tickets;     /* of SSL_SESSION, the newest at the tail */
    char *ticket_files; /* state of the files when they were got */
    DroverTlsStats stats;
};

struct DroverTlsSession {
    DroverTlsClient *client;
    GThread *thread;
    GCancellable *cancellable;
    int cancel_fd;
    int event_fd;

    GMutex lock;
    GCond ended_cond;
    int caller_fd; /* -1: not there or taken */
    bool ended;
    GError *error;
    const char *waits_for; /* static text */

    /* the thread's own */
    int tcp;      /* to the server; -1 when handed over */
    int pair;     /* our end of the caller's socket */
    bool offload; /* the kernel may do TLS */
    SSL *ssl;
    DroverTlsWire wire;
    DroverStarttls starttls;
    char *files; /* their state when they were read */
    int verify_error;
    char *verify_detail;
    bool established, got_data;
    uint8_t *down; /* plain text for the caller */
    size_t down_start, down_end;
};

/* Bytes that one direction of a session holds: some requests of the usual 256 KiB are better than many system
 * calls. */
#define DROVER_TLS_BUFFER (256 * 1024)

/* context.c: a context from the client's files as they are now; NULL with a PERMANENT error (DRV-TLS-FILES).
 */
SSL_CTX *drover_tls_context_new(const DroverTlsClient *client, GError **error);
char *drover_tls_context_files(const DroverTlsClient *client); /* changes when one of them does */

/* client.c: tickets of the same files only, each of TLS 1.3 once. NULL: none. */
SSL_SESSION *drover_tls_client_take_ticket(DroverTlsClient *client, const char *files);
void drover_tls_client_add_ticket(DroverTlsClient *client, const char *files,
                                  SSL_SESSION *ticket); /* takes over */
void drover_tls_client_count(DroverTlsClient *client, const SSL *ssl, const char *how);

/* session.c */
bool drover_tls_session_fail(DroverTlsSession *session, int ssl_result, GError **error); /* false always */
/* Waits for EVENTS on the server's socket. False: cancelled, or DEADLINE_US (monotonic) is over. */
bool drover_tls_session_wait(DroverTlsSession *session, short events, int64_t deadline_us, GError **error);
/* Gives the caller FD, which is -1 for "failed", for which an error is set before. */
void drover_tls_session_answer(DroverTlsSession *session, int fd);

/* pump.c: until one side ends. False with the reason when it was not the caller who ended it. */
bool drover_tls_pump(DroverTlsSession *session, GError **error);

/* ktls.c */
bool drover_tls_kernel_offers(int tcp); /* asks the kernel, once per process; TCP is left as it was */
const char *drover_tls_kernel_does(const SSL *ssl); /* "ktls", "ktls-send" or "openssl" */
/*
 * With TLS in the kernel for both directions: waits until data is next in line, so that no ticket is left for
 * somebody who does not know TLS. *DIRECT: the socket itself can be given away. Otherwise bytes were read
 * into session->down.
 */
bool drover_tls_kernel_settle(DroverTlsSession *session, int64_t deadline_us, bool *direct, GError **error);

#endif
