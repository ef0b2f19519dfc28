/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The beginning of NBD's fixed newstyle handshake up to NBD_OPT_STARTTLS and its answer (NBD protocol,
 * "Handshake phase"). Pure: bytes in, bytes out. The caller then starts TLS, plays GREETING to its own NBD
 * client and takes that client's first four bytes, which must equal FLAGS, for sent.
 */
#ifndef DROVER_LIB_TLS_STARTTLS_H
#define DROVER_LIB_TLS_STARTTLS_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

enum { DROVER_STARTTLS_GREETING = 18, DROVER_STARTTLS_FLAGS = 4, DROVER_STARTTLS_REPLY = 20 };

typedef struct {
    uint8_t in[DROVER_STARTTLS_REPLY];
    size_t have;
    bool greeted, done;
    uint8_t greeting[DROVER_STARTTLS_GREETING];
    uint8_t flags[DROVER_STARTTLS_FLAGS];
    uint8_t out[DROVER_STARTTLS_FLAGS + 16]; /* to be sent when out_len is not 0; the caller sets that to 0 */
    size_t out_len;
} DroverStarttls; /* begins as zeroes */

/* How many bytes it can take now; 0: done. Never read more from the socket: what follows is TLS. */
size_t drover_starttls_wants(const DroverStarttls *starttls);
/* Takes N bytes (at most those wanted). False: PERMANENT, the server, which PEER names for people, has no TLS
 * or does not speak NBD (DRV-TLS-PLAIN). */
bool drover_starttls_feed(DroverStarttls *starttls, const uint8_t *bytes, size_t n, const char *peer,
                          GError **error);

#endif
