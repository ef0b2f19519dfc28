/* SPDX-License-Identifier: Apache-2.0 */
/*
 * TLS towards an NBD server: connections as sockets that speak plain NBD, for a library (libnbd) that takes a
 * connected socket. A client is what all connections to one server share: addresses, files, session tickets.
 * A session is one connection: a thread of its own resolves, connects, shakes hands, and then either is done,
 * because the kernel does TLS on the very socket (kernel TLS in both directions), or moves bytes between the
 * server and one end of a socket pair, whose other end the caller has.
 *
 * Always: TLS 1.3 (1.2 only when allowed), the server's chain and name are verified, SNI and ALPN "nbd" are
 * sent, the files are read anew for each connection, so that rotated certificates count. Nothing is ever sent
 * in plain text but the few bytes of NBD_OPT_STARTTLS, and nothing that came in plain text is passed on.
 *
 * Errors are DROVER_ERROR. PERMANENT ones begin with their code: DRV-TLS-CA, -NAME, -EXPIRED, -CERTIFICATE
 * (the server's), -CLIENT (our certificate is missing or refused), -PLAIN (no TLS there), -VERSION (nothing
 * in common), -FILES (our own cannot be used). All others (connection refused, reset, closed) are RETRYABLE.
 */
#ifndef DROVER_LIB_TLS_TLS_H
#define DROVER_LIB_TLS_TLS_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "lib/base/error.h"

typedef enum {
    DROVER_TLS_OFF = 0,
    DROVER_TLS_DIRECT,   /* TLS from the first byte: nbd+tls://, a front door on port 443 */
    DROVER_TLS_STARTTLS, /* NBD's own negotiation: nbds:// */
} DroverTlsMode;

/* Strings may be NULL or "". */
typedef struct {
    const char *ca_file;   /* PEM: who may have signed the server's certificate; none: the system's list */
    const char *cert_file; /* PEM: our certificate, intermediate ones behind it */
    const char *key_file;  /* PEM: its key; none: in cert_file */
    const char *name;      /* what the server's certificate must be for; none: the host */
    bool allow_tls12;
} DroverTlsSettings;

/* What was agreed on last, and how often. */
typedef struct {
    char how[16]; /* "ktls": by the kernel; "ktls-send": sending only; "openssl": in this process; "": not yet
                   */
    char version[12]; /* "TLSv1.3" */
    char cipher[48];  /* "TLS_AES_128_GCM_SHA256" */
    unsigned handshakes;
    unsigned resumed; /* of them, by a session ticket */
} DroverTlsStats;

typedef struct DroverTlsClient DroverTlsClient;
typedef struct DroverTlsSession DroverTlsSession;

/* HOST and PORT, or SOCKET_PATH (then SETTINGS must have a name). All is copied; no file is read yet. NULL
 * with a PERMANENT error. Any thread may use a client. */
DroverTlsClient *drover_tls_client_new(DroverTlsMode mode, const char *host, uint16_t port,
                                       const char *socket_path, const DroverTlsSettings *settings,
                                       GError **error);
void drover_tls_client_free(DroverTlsClient *client); /* after its sessions; NULL is allowed */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(DroverTlsClient, drover_tls_client_free)
void drover_tls_client_stats(DroverTlsClient *client, DroverTlsStats *stats);

/* Begins to connect; never blocks. NULL (RETRYABLE) when the system gives no thread or descriptor. */
DroverTlsSession *drover_tls_session_new(DroverTlsClient *client, GError **error);
/* Becomes readable when drover_tls_session_take_fd has an answer. Owned by the session. */
int drover_tls_session_event_fd(const DroverTlsSession *session);
/* What the server owes before there is an answer, for messages: "an answer to NBD_OPT_STARTTLS". Static. */
const char *drover_tls_session_waits_for(DroverTlsSession *session);
/* Once, after that: a non-blocking socket that speaks plain NBD and now is the caller's; -1 with an error. */
int drover_tls_session_take_fd(DroverTlsSession *session, GError **error);
/* Why the caller's socket ended or broke, or NULL when nothing is known against it; newly allocated. */
GError *drover_tls_session_error(DroverTlsSession *session);
/*
 * Ends it. With LINGER, and the caller's socket closed before, what was written there still goes out, for at
 * most half a second; otherwise the connection is dropped at once. NULL is allowed.
 */
void drover_tls_session_free(DroverTlsSession *session, bool linger);

#endif
