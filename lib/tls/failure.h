/* SPDX-License-Identifier: Apache-2.0 */
/* From the numbers of a failed handshake to an error that people can act on. Pure but for reading OpenSSL's
 * error queue in drover_tls_fail. */
#ifndef DROVER_LIB_TLS_FAILURE_H
#define DROVER_LIB_TLS_FAILURE_H

#include <glib.h>
#include <stdbool.h>

/* What is known about one connection attempt. */
typedef struct {
    const char *peer; /* host:port, or the socket's path */
    const char *name; /* that the certificate must be for */
    bool have_cert;   /* we showed a certificate, or could have */
    bool plain_nbd;   /* the first bytes were NBD's greeting */
    bool established; /* the handshake was over on our side */
    bool got_data;    /* ... and data came */
    bool allow_tls12;
    int verify_error;   /* X509_V_ERR_*, 0: none */
    const char *detail; /* about the certificate, e.g. whose and until when; may be NULL */
} DroverTlsTrouble;

/* The alert (RFC 8446 section 6) that the server sent. False always. */
bool drover_tls_fail_alert(const DroverTlsTrouble *trouble, int alert, GError **error);
/* The server's certificate was not accepted. False always. */
bool drover_tls_fail_verify(const DroverTlsTrouble *trouble, GError **error);
/* A call of OpenSSL failed: SSL_ERROR is SSL_get_error's answer, SYSTEM_ERROR an errno value or 0 for the end
 * of the stream. Empties the thread's error queue. False always. */
bool drover_tls_fail(const DroverTlsTrouble *trouble, int ssl_error, int system_error, GError **error);

#endif
