/* SPDX-License-Identifier: Apache-2.0 */
#include "worker/vsphere/thumbprint.h"

#include <glib-unix.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>

#include "lib/base/error.h"
#include "worker/vsphere/vddk_words.h"

#define HTTPS_PORT 443
#define TIMEOUT_S 30
#define SHA1_TEXT (20 * 3 - 1)

G_DEFINE_AUTOPTR_CLEANUP_FUNC(SSL_CTX, SSL_CTX_free)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(SSL, SSL_free)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(X509, X509_free)

static bool tls_failed(GError **error, const DroverVcenter *vcenter, const char *what)
{
    return drover_fail(error, DROVER_ERROR_PERMANENT, "DRV-VCENTER-TLS: vCenter %s: %s", vcenter->name, what);
}

/* Trust is by thumbprint when one is configured, as for the SOAP calls; else by authority and name. */
static SSL_CTX *make_context(const DroverVcenter *vcenter, GError **error)
{
    g_autoptr(SSL_CTX) context = SSL_CTX_new(TLS_client_method());
    if (context == NULL || SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION) != 1) {
        tls_failed(error, vcenter, "OpenSSL gives no client");
        return NULL;
    }
    if (*vcenter->thumbprint != '\0')
        return g_steal_pointer(&context);
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER, NULL);
    if (*vcenter->ca_file != '\0' ? SSL_CTX_load_verify_file(context, vcenter->ca_file) == 1
                                  : SSL_CTX_set_default_verify_paths(context) == 1)
        return g_steal_pointer(&context);
    tls_failed(error, vcenter, "its ca-file cannot be read");
    return NULL;
}

static bool expect_name(SSL *ssl, const char *host)
{
    if (g_hostname_is_ip_address(host))
        return X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), host) == 1;
    return SSL_set1_host(ssl, host) == 1 && SSL_set_tlsext_host_name(ssl, host) == 1;
}

/* The socket is blocking with a time-out, so that a silent server is not waited for. */
static bool shake_hands(SSL *ssl, GSocketConnection *connection, const char *host, const DroverVcenter *vcenter,
                        GError **error)
{
    GSocket *socket = g_socket_connection_get_socket(connection);
    struct timeval limit = {.tv_sec = TIMEOUT_S};
    int fd = g_socket_get_fd(socket);
    g_unix_set_fd_nonblocking(fd, FALSE, NULL);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    ERR_clear_error();
    if (!expect_name(ssl, host) || SSL_set_fd(ssl, fd) != 1)
        return tls_failed(error, vcenter, "its name is not one for TLS");
    if (SSL_connect(ssl) == 1)
        return true;
    long verdict = SSL_get_verify_result(ssl);
    if (verdict != X509_V_OK)
        return tls_failed(error, vcenter, X509_verify_cert_error_string(verdict));
    return drover_fail(error, DROVER_ERROR_RETRYABLE,
                       "DRV-VCENTER-UNREACHABLE: no TLS handshake with vCenter %s for its thumbprint", vcenter->name);
}

static char *digest_of(const X509 *certificate, const EVP_MD *kind)
{
    unsigned char bytes[EVP_MAX_MD_SIZE];
    unsigned len = 0;
    return X509_digest(certificate, kind, bytes, &len) == 1 ? drover_vddk_hex(bytes, len) : g_strdup("");
}

static char *ask(const DroverVcenter *vcenter, const char *host, uint16_t port, GCancellable *cancel, GError **error)
{
    g_autoptr(SSL_CTX) context = make_context(vcenter, error);
    if (context == NULL)
        return NULL;
    g_autoptr(GSocketClient) client = g_socket_client_new();
    g_socket_client_set_enable_proxy(client, FALSE);
    g_socket_client_set_timeout(client, TIMEOUT_S);
    g_autoptr(GError) failure = NULL;
    g_autoptr(GSocketConnection) connection = g_socket_client_connect_to_host(client, host, port, cancel, &failure);
    if (connection == NULL) {
        drover_fail(error, DROVER_ERROR_RETRYABLE, "DRV-VCENTER-UNREACHABLE: vCenter %s: %s", vcenter->name,
                    failure->message);
        return NULL;
    }
    g_autoptr(SSL) ssl = SSL_new(context);
    if (ssl == NULL || !shake_hands(ssl, connection, host, vcenter, error))
        return NULL;
    g_autoptr(X509) certificate = SSL_get1_peer_certificate(ssl);
    if (certificate == NULL) {
        tls_failed(error, vcenter, "it shows no certificate");
        return NULL;
    }
    g_autofree char *sha256 = digest_of(certificate, EVP_sha256());
    if (*vcenter->thumbprint != '\0' && strcmp(sha256, vcenter->thumbprint) != 0) {
        tls_failed(error, vcenter, "its certificate does not have the configured thumbprint");
        return NULL;
    }
    return digest_of(certificate, EVP_sha1());
}

char *drover_vcenter_thumbprint(const DroverVcenter *vcenter, GCancellable *cancel, GError **error)
{
    if (strlen(vcenter->thumbprint) == SHA1_TEXT)
        return g_strdup(vcenter->thumbprint);
    g_autoptr(GUri) uri = g_uri_parse(vcenter->url, G_URI_FLAGS_NONE, error);
    if (uri == NULL)
        return NULL;
    if (strcmp(g_uri_get_scheme(uri), "https") != 0)
        return g_strdup("");
    int port = g_uri_get_port(uri);
    return ask(vcenter, g_uri_get_host(uri), (uint16_t)(port > 0 ? port : HTTPS_PORT), cancel, error);
}
