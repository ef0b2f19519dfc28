/* SPDX-License-Identifier: Apache-2.0 */
/* Our files, protocol versions and ciphers in one SSL_CTX. Made anew for each connection: reading some PEM
 * costs nothing beside a handshake, and rotated files count at once. */
#include <errno.h>
#include <glib/gstdio.h>
#include <openssl/err.h>
#include <sys/stat.h>
#if defined(__aarch64__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

#include "lib/tls/internal.h"

#define GCM "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384"
#define CHACHA "TLS_CHACHA20_POLY1305_SHA256"
#define GCM_12 "ECDHE+AESGCM"
#define CHACHA_12 "ECDHE+CHACHA20"

/* Without instructions for it AES-GCM is several times slower than ChaCha20. */
static bool has_aes(void)
{
#if defined(__x86_64__) || defined(__i386__)
    return __builtin_cpu_supports("aes") && __builtin_cpu_supports("pclmul");
#elif defined(__aarch64__)
    return (getauxval(AT_HWCAP) & HWCAP_AES) != 0;
#else
    return false;
#endif
}

static bool bad_file(const char *what, const char *path, GError **error)
{
    unsigned long code = ERR_peek_last_error();
    const char *reason = ERR_reason_error_string(code);
    int missing = g_access(path, R_OK) == -1 ? errno : 0;
    ERR_clear_error();
    return drover_fail(error, DROVER_ERROR_PERMANENT, "DRV-TLS-FILES: the %s in %s cannot be used: %s", what,
                       path,
                       missing != 0     ? g_strerror(missing)
                       : reason != NULL ? reason
                                        : "not PEM");
}

/* A key that is locked by a passphrase is refused; nobody is there to be asked. */
static int no_passphrase(char *buffer, int size, int writing, void *data)
{
    (void)buffer, (void)size, (void)writing, (void)data;
    return 0;
}

static bool load_own(SSL_CTX *context, const DroverTlsClient *client, GError **error)
{
    if (*client->cert_file == '\0')
        return true;
    const char *key = *client->key_file != '\0' ? client->key_file : client->cert_file;
    if (SSL_CTX_use_certificate_chain_file(context, client->cert_file) != 1)
        return bad_file("certificate", client->cert_file, error);
    if (SSL_CTX_use_PrivateKey_file(context, key, SSL_FILETYPE_PEM) != 1)
        return bad_file("private key", key, error);
    if (SSL_CTX_check_private_key(context) != 1)
        return bad_file("private key, which is not that of the certificate,", key, error);
    /* Most servers would only say that they do not like it. */
    X509 *own = SSL_CTX_get0_certificate(context);
    if (X509_cmp_current_time(X509_get0_notAfter(own)) < 0)
        return drover_fail(error, DROVER_ERROR_PERMANENT,
                           "DRV-TLS-CLIENT: our certificate in %s has expired; renew it", client->cert_file);
    return true;
}

static bool load_authorities(SSL_CTX *context, const DroverTlsClient *client, GError **error)
{
    if (*client->ca_file != '\0')
        return SSL_CTX_load_verify_file(context, client->ca_file) == 1 ||
               bad_file("list of authorities", client->ca_file, error);
    return SSL_CTX_set_default_verify_paths(context) == 1 ||
           drover_fail(error, DROVER_ERROR_PERMANENT,
                       "DRV-TLS-FILES: the system has no list of authorities; set tls-ca");
}

static int on_ticket(SSL *ssl, SSL_SESSION *ticket)
{
    DroverTlsSession *session = SSL_get_app_data(ssl);
    drover_tls_client_add_ticket(session->client, session->files, ticket);
    return 1;
}

static bool set_rules(SSL_CTX *context, const DroverTlsClient *client)
{
    static const unsigned char alpn[] = {3, 'n', 'b', 'd'};
    bool aes = has_aes();
    SSL_CTX_set_default_passwd_cb(context, no_passphrase);
    SSL_CTX_set_options(context, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
    SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    /* Many records a system call. */
    SSL_CTX_set_read_ahead(context, 1);
    SSL_CTX_set_default_read_buffer_len(context, DROVER_TLS_BUFFER / 2);
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(context, on_ticket);
    return SSL_CTX_set_min_proto_version(context, client->allow_tls12 ? TLS1_2_VERSION : TLS1_3_VERSION) ==
               1 &&
           SSL_CTX_set_ciphersuites(context, aes ? GCM ":" CHACHA : CHACHA ":" GCM) == 1 &&
           SSL_CTX_set_cipher_list(context, aes ? GCM_12 ":" CHACHA_12 : CHACHA_12 ":" GCM_12) == 1 &&
           SSL_CTX_set_alpn_protos(context, alpn, sizeof alpn) == 0;
}

SSL_CTX *drover_tls_context_new(const DroverTlsClient *client, GError **error)
{
    SSL_CTX *context = SSL_CTX_new(TLS_client_method());
    if (context == NULL || !set_rules(context, client)) {
        drover_fail(error, DROVER_ERROR_PERMANENT, "DRV-TLS-FILES: this OpenSSL cannot do TLS 1.3: %s",
                    ERR_reason_error_string(ERR_peek_error()));
    } else if (load_authorities(context, client, error) && load_own(context, client, error)) {
        return context;
    }
    SSL_CTX_free(context);
    return NULL;
}

char *drover_tls_context_files(const DroverTlsClient *client)
{
    const char *const paths[] = {client->ca_file, client->cert_file, client->key_file};
    GString *state = g_string_new(NULL);
    for (size_t i = 0; i < G_N_ELEMENTS(paths); i++) {
        struct stat st;
        if (*paths[i] != '\0' && stat(paths[i], &st) == 0)
            g_string_append_printf(state, "%llu:%llu:%lld:%lld.%09ld;", (unsigned long long)st.st_dev,
                                   (unsigned long long)st.st_ino, (long long)st.st_size,
                                   (long long)st.st_mtim.tv_sec, st.st_mtim.tv_nsec);
    }
    return g_string_free(state, FALSE);
}
