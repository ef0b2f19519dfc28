/* SPDX-License-Identifier: Apache-2.0 */
/* A TLS server in this process, on a Unix socket, with a certificate of its own for "localhost". */
#ifndef DROVER_TESTS_UNIT_TLS_PEER_H
#define DROVER_TESTS_UNIT_TLS_PEER_H

#include <glib.h>
#include <openssl/ssl.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define PEER_GREETING "NBDMAGICIHAVEOPT\0\3"
#define PEER_GREETING_BYTES 18
#define PEER_BYTE(at) ((uint8_t)((at) * 31 / 7))

typedef enum {
    PEER_TAKES,  /* handshake, greeting, then takes what comes once GO is set, and checks it */
    PEER_FLOODS, /* handshake, greeting, then sends FLOOD bytes */
    PEER_SILENT, /* greets in plain text, then never says a word */
} PeerKind;

typedef struct {
    PeerKind kind;
    char *directory, *socket_path, *ca_file;
    uint64_t flood;
    atomic_bool go, wrong;      /* WRONG: other bytes came than PEER_BYTE says */
    _Atomic uint64_t got, sent; /* bytes of all connections */
    int listener;
    SSL_CTX *context;
    GThread *thread;
} Peer;

Peer *peer_start(PeerKind kind);
void peer_stop(Peer *peer); /* waits for its connection to end */
/* Writes the certificate's file anew: the same content, another file. */
void peer_renew_ca(Peer *peer);

#endif
