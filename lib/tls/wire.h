/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The TCP side of a session. OpenSSL writes one record (16 KiB) a call; here they are gathered, so that many
 * leave in one system call. Reads go straight to the socket. Also keeps the first bytes that came, to tell a
 * plain NBD server.
 */
#ifndef DROVER_LIB_TLS_WIRE_H
#define DROVER_LIB_TLS_WIRE_H

#include <openssl/bio.h>
#include <stdbool.h>
#include <stdint.h>

typedef struct {
    int fd; /* non-blocking; not owned */
    uint8_t *out;
    size_t start, end, capacity; /* out[start, end) waits to be sent */
    uint8_t first[8];
    unsigned n_first;
    bool eof;
    int error; /* of the last failed recv or send; 0: none */
} DroverTlsWire;

/* A BIO on WIRE, which must outlive it. NULL: no memory. */
BIO *drover_tls_wire_bio(DroverTlsWire *wire);
/* Sends what waits. 1: all is sent; 0: the socket is full; -1: broken, see error. */
int drover_tls_wire_flush(DroverTlsWire *wire);
bool drover_tls_wire_is_plain_nbd(const DroverTlsWire *wire);
void drover_tls_wire_clear(DroverTlsWire *wire);

#endif
