/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/tls/peer.h"

#include <glib/gstdio.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static X509 *make_certificate(EVP_PKEY *key)
{
    X509 *certificate = X509_new();
    X509_NAME *name = X509_get_subject_name(certificate);
    X509_set_version(certificate, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(certificate), 1);
    X509_gmtime_adj(X509_getm_notBefore(certificate), -3600);
    X509_gmtime_adj(X509_getm_notAfter(certificate), 3600);
    X509_set_pubkey(certificate, key);
    X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)"localhost", -1, -1, 0);
    X509_set_issuer_name(certificate, name);
    X509_EXTENSION *names = X509V3_EXT_conf_nid(NULL, NULL, NID_subject_alt_name, "DNS:localhost");
    X509_add_ext(certificate, names, -1);
    X509_EXTENSION_free(names);
    g_assert(X509_sign(certificate, key, EVP_sha256()) > 0);
    return certificate;
}

static void make_context(Peer *peer)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *certificate = make_certificate(key);
    peer->context = SSL_CTX_new(TLS_server_method());
    g_assert(SSL_CTX_use_certificate(peer->context, certificate) == 1);
    g_assert(SSL_CTX_use_PrivateKey(peer->context, key) == 1);
    FILE *file = fopen(peer->ca_file, "w");
    g_assert(file != NULL && PEM_write_X509(file, certificate) == 1);
    fclose(file);
    X509_free(certificate);
    EVP_PKEY_free(key);
}

static void take(Peer *peer, SSL *ssl)
{
    uint8_t bytes[65536];
    while (!atomic_load(&peer->go))
        g_usleep(1000);
    uint64_t at = 0;
    for (size_t n; SSL_read_ex(ssl, bytes, sizeof bytes, &n) == 1; at += n) {
        for (size_t i = 0; i < n; i++)
            if (bytes[i] != PEER_BYTE(at + i))
                atomic_store(&peer->wrong, true);
        atomic_fetch_add(&peer->got, n);
    }
}

static void flood(Peer *peer, SSL *ssl)
{
    uint8_t bytes[16384];
    for (uint64_t at = 0; at < peer->flood; at += sizeof bytes) {
        for (size_t i = 0; i < sizeof bytes; i++)
            bytes[i] = PEER_BYTE(at + i);
        if (SSL_write(ssl, bytes, sizeof bytes) <= 0)
            return;
        atomic_fetch_add(&peer->sent, sizeof bytes);
    }
}

static void serve(Peer *peer, int fd)
{
    uint8_t byte;
    if (peer->kind == PEER_SILENT) {
        g_assert(send(fd, PEER_GREETING, PEER_GREETING_BYTES, MSG_NOSIGNAL) == PEER_GREETING_BYTES);
        while (recv(fd, &byte, 1, 0) == 1)
            atomic_fetch_add(&peer->got, 1);
        return;
    }
    SSL *ssl = SSL_new(peer->context);
    SSL_set_fd(ssl, fd);
    if (SSL_accept(ssl) == 1 && SSL_write(ssl, PEER_GREETING, PEER_GREETING_BYTES) == PEER_GREETING_BYTES) {
        if (peer->kind == PEER_TAKES)
            take(peer, ssl);
        else
            flood(peer, ssl);
    }
    SSL_shutdown(ssl);
    SSL_free(ssl);
}

static gpointer run(gpointer data)
{
    Peer *peer = data;
    for (int fd; (fd = accept(peer->listener, NULL, NULL)) != -1; close(fd))
        serve(peer, fd);
    return NULL;
}

Peer *peer_start(PeerKind kind)
{
    Peer *peer = g_new0(Peer, 1);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    signal(SIGPIPE, SIG_IGN); /* SSL_write of the server's side */
    peer->kind = kind;
    peer->directory = g_dir_make_tmp("drover-tls-XXXXXX", NULL);
    peer->socket_path = g_build_filename(peer->directory, "s", NULL);
    peer->ca_file = g_build_filename(peer->directory, "ca", NULL);
    make_context(peer);
    g_strlcpy(address.sun_path, peer->socket_path, sizeof address.sun_path);
    peer->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    g_assert(bind(peer->listener, (struct sockaddr *)&address, sizeof address) == 0 && listen(peer->listener, 4) == 0);
    peer->thread = g_thread_new("peer", run, peer);
    return peer;
}

void peer_stop(Peer *peer)
{
    shutdown(peer->listener, SHUT_RDWR);
    g_thread_join(peer->thread);
    close(peer->listener);
    SSL_CTX_free(peer->context);
    g_unlink(peer->socket_path);
    g_unlink(peer->ca_file);
    g_rmdir(peer->directory);
    g_free(peer->directory);
    g_free(peer->socket_path);
    g_free(peer->ca_file);
    g_free(peer);
}

void peer_renew_ca(Peer *peer)
{
    g_autofree char *text = NULL;
    gsize len;
    g_assert(g_file_get_contents(peer->ca_file, &text, &len, NULL));
    g_assert(g_file_set_contents(peer->ca_file, text, (gssize)len, NULL)); /* a new file under the old name */
}
