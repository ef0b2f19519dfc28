/* SPDX-License-Identifier: Apache-2.0 */
/* One connection up to the end of its handshake, and its beginning and end as the caller sees them. */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "lib/tls/internal.h"

#define SECOND_US INT64_C(1000000)
#define CONNECT_S 20
#define HANDSHAKE_US (30 * SECOND_US)
#define LINGER_US (SECOND_US / 2)

static void describe_names(GString *out, X509 *certificate)
{
    GENERAL_NAMES *names = X509_get_ext_d2i(certificate, NID_subject_alt_name, NULL, NULL);
    for (int i = 0; names != NULL && i < sk_GENERAL_NAME_num(names) && i < 8; i++) {
        const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);
        if (name->type != GEN_DNS && name->type != GEN_IPADD)
            continue;
        g_string_append(out, out->len > 0 ? ", " : " ");
        const ASN1_STRING *text = name->type == GEN_DNS ? name->d.dNSName : name->d.iPAddress;
        const unsigned char *bytes = ASN1_STRING_get0_data(text);
        int len = ASN1_STRING_length(text);
        if (name->type == GEN_DNS)
            for (int at = 0; at < len && at < 255; at++)
                g_string_append_c(out, g_ascii_isgraph(bytes[at]) ? (char)bytes[at] : '?');
        else if (len == 4)
            g_string_append_printf(out, "%u.%u.%u.%u", bytes[0], bytes[1], bytes[2], bytes[3]);
        else
            g_string_append(out, "an IPv6 address");
    }
    GENERAL_NAMES_free(names);
}

static void describe_time(GString *out, const char *word, const ASN1_TIME *time)
{
    struct tm when;
    char text[32];
    if (ASN1_TIME_to_tm(time, &when) == 1 && strftime(text, sizeof text, "%Y-%m-%d %H:%M:%SZ", &when) > 0)
        g_string_append_printf(out, " (%s %s)", word, text);
}

/* Takes notes about a certificate that is refused, while it is at hand. */
static int on_verify(int ok, X509_STORE_CTX *context)
{
    if (ok)
        return ok;
    const SSL *ssl = X509_STORE_CTX_get_ex_data(context, SSL_get_ex_data_X509_STORE_CTX_idx());
    DroverTlsSession *session = SSL_get_app_data(ssl);
    X509 *certificate = X509_STORE_CTX_get_current_cert(context);
    int code = X509_STORE_CTX_get_error(context);
    GString *detail = g_string_new(NULL);
    if (certificate != NULL &&
        (code == X509_V_ERR_HOSTNAME_MISMATCH || code == X509_V_ERR_IP_ADDRESS_MISMATCH))
        describe_names(detail, certificate);
    else if (certificate != NULL && code == X509_V_ERR_CERT_HAS_EXPIRED)
        describe_time(detail, "until", X509_get0_notAfter(certificate));
    else if (certificate != NULL && code == X509_V_ERR_CERT_NOT_YET_VALID)
        describe_time(detail, "from", X509_get0_notBefore(certificate));
    session->verify_error = code;
    g_free(session->verify_detail);
    session->verify_detail = g_string_free(detail, FALSE);
    return 0;
}

bool drover_tls_session_fail(DroverTlsSession *session, int ssl_result, GError **error)
{
    const DroverTlsClient *client = session->client;
    int saved = errno;
    int code = SSL_get_error(session->ssl, ssl_result);
    DroverTlsTrouble trouble = {
        .peer = client->peer,
        .name = client->name,
        .have_cert = *client->cert_file != '\0',
        .plain_nbd = drover_tls_wire_is_plain_nbd(&session->wire),
        .established = session->established,
        .got_data = session->got_data,
        .allow_tls12 = client->allow_tls12,
        .verify_error = session->verify_error,
        .detail = session->verify_detail,
    };
    int system_error = session->offload ? saved : session->wire.error;
    return drover_tls_fail(&trouble, code, system_error, error);
}

bool drover_tls_session_wait(DroverTlsSession *session, short events, int64_t deadline_us, GError **error)
{
    for (;;) {
        int64_t left_ms = (deadline_us - g_get_monotonic_time() + 999) / 1000;
        struct pollfd fds[] = {{.fd = session->tcp, .events = events},
                               {.fd = session->cancel_fd, .events = POLLIN}};
        int n = poll(fds, 2, (int)CLAMP(left_ms, 0, 60000));
        if (fds[1].revents != 0 && n > 0)
            return drover_fail(error, DROVER_ERROR_RETRYABLE, "the connection to %s was given up",
                               session->client->peer);
        if (n > 0)
            return true;
        if (left_ms <= 0)
            return drover_fail(error, DROVER_ERROR_RETRYABLE, "%s does not answer: it owes %s",
                               session->client->peer, drover_tls_session_waits_for(session));
    }
}

static void now_wait_for(DroverTlsSession *session, const char *what)
{
    g_mutex_lock(&session->lock);
    session->waits_for = what;
    g_mutex_unlock(&session->lock);
}

const char *drover_tls_session_waits_for(DroverTlsSession *session)
{
    g_mutex_lock(&session->lock);
    const char *what = session->waits_for;
    g_mutex_unlock(&session->lock);
    return what;
}

static bool connect_unix(DroverTlsSession *session, GError **error)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    const char *path = session->client->socket_path;
    session->tcp = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (strlen(path) >= sizeof address.sun_path)
        return drover_fail(error, DROVER_ERROR_PERMANENT, "%s is too long for a Unix socket", path);
    g_strlcpy(address.sun_path, path, sizeof address.sun_path);
    return (session->tcp != -1 && connect(session->tcp, (struct sockaddr *)&address, sizeof address) == 0) ||
           drover_fail(error, DROVER_ERROR_RETRYABLE, "cannot connect to %s: %s", path, g_strerror(errno));
}

static void set_number(int fd, int level, int option, int value)
{
    (void)setsockopt(fd, level, option, &value, sizeof value); /* each only makes things better */
}

static bool connect_tcp(DroverTlsSession *session, GError **error)
{
    const DroverTlsClient *client = session->client;
    g_autoptr(GSocketClient) connector = g_socket_client_new();
    g_autoptr(GError) cause = NULL;
    g_socket_client_set_enable_proxy(connector, FALSE);
    g_socket_client_set_timeout(connector, CONNECT_S);
    g_autoptr(GSocketConnectable) address = g_network_address_new(client->host, client->port);
    g_autoptr(GSocketConnection) connection =
        g_socket_client_connect(connector, address, session->cancellable, &cause);
    if (connection == NULL)
        return drover_fail(error, DROVER_ERROR_RETRYABLE, "cannot connect to %s: %s", client->peer,
                           cause->message);
    session->tcp = fcntl(g_socket_get_fd(g_socket_connection_get_socket(connection)), F_DUPFD_CLOEXEC, 3);
    if (session->tcp == -1)
        return drover_fail(error, DROVER_ERROR_RETRYABLE, "no file descriptor is left: %s",
                           g_strerror(errno));
    /* A peer that vanished is found out within a minute, also when nothing is under way. */
    set_number(session->tcp, SOL_SOCKET, SO_KEEPALIVE, 1);
    set_number(session->tcp, IPPROTO_TCP, TCP_KEEPIDLE, 30);
    set_number(session->tcp, IPPROTO_TCP, TCP_KEEPINTVL, 10);
    set_number(session->tcp, IPPROTO_TCP, TCP_KEEPCNT, 3);
    set_number(session->tcp, IPPROTO_TCP, TCP_USER_TIMEOUT, 60000);
    set_number(session->tcp, IPPROTO_TCP, TCP_NODELAY, 1);
    return true;
}

static bool send_all(DroverTlsSession *session, const uint8_t *bytes, size_t n, int64_t deadline_us,
                     GError **error)
{
    while (n > 0) {
        ssize_t sent = send(session->tcp, bytes, n, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent > 0) {
            bytes += sent;
            n -= (size_t)sent;
        } else if (errno != EAGAIN && errno != EINTR) {
            return drover_fail(error, DROVER_ERROR_RETRYABLE, "the connection to %s broke: %s",
                               session->client->peer, g_strerror(errno));
        } else if (!drover_tls_session_wait(session, POLLOUT, deadline_us, error)) {
            return false;
        }
    }
    return true;
}

static bool start_tls(DroverTlsSession *session, int64_t deadline_us, GError **error)
{
    DroverStarttls *starttls = &session->starttls;
    const char *peer = session->client->peer;
    for (size_t wanted; (wanted = drover_starttls_wants(starttls)) > 0;) {
        now_wait_for(session, starttls->greeted ? "an answer to NBD_OPT_STARTTLS" : "NBD's greeting");
        uint8_t bytes[DROVER_STARTTLS_REPLY];
        ssize_t n = recv(session->tcp, bytes, wanted, MSG_DONTWAIT);
        if (n == 0)
            return drover_fail(error, DROVER_ERROR_RETRYABLE, "%s closed the connection", peer);
        if (n == -1 && errno != EAGAIN && errno != EINTR)
            return drover_fail(error, DROVER_ERROR_RETRYABLE, "the connection to %s broke: %s", peer,
                               g_strerror(errno));
        if (n == -1) {
            if (!drover_tls_session_wait(session, POLLIN, deadline_us, error))
                return false;
        } else if (!drover_starttls_feed(starttls, bytes, (size_t)n, peer, error)) {
            return false;
        }
        if (!send_all(session, starttls->out, starttls->out_len, deadline_us, error))
            return false;
        starttls->out_len = 0;
    }
    return true;
}

static bool set_name(SSL *ssl, const char *name)
{
    if (g_hostname_is_ip_address(name))
        return X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), name) == 1;
    SSL_set_hostflags(ssl, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    return SSL_set1_host(ssl, name) == 1 && SSL_set_tlsext_host_name(ssl, name) == 1;
}

static bool make_ssl(DroverTlsSession *session, GError **error)
{
    DroverTlsClient *client = session->client;
    session->files = drover_tls_context_files(client);
    SSL_CTX *context = drover_tls_context_new(client, error);
    if (context == NULL)
        return false;
    session->ssl = SSL_new(context);
    SSL_CTX_free(context); /* the session holds on to it */
    session->offload = drover_tls_kernel_offers(session->tcp);
    session->wire.fd = session->tcp;
    BIO *bio =
        session->offload ? BIO_new_socket(session->tcp, BIO_NOCLOSE) : drover_tls_wire_bio(&session->wire);
    if (session->ssl == NULL || bio == NULL || !set_name(session->ssl, client->name)) {
        BIO_free(bio);
        ERR_clear_error();
        return drover_fail(error, DROVER_ERROR_PERMANENT,
                           "DRV-TLS-NAME: \"%s\" cannot be the name of a server", client->name);
    }
    SSL_set_bio(session->ssl, bio, bio);
    SSL_set_app_data(session->ssl, session);
    SSL_set_verify(session->ssl, SSL_VERIFY_PEER, on_verify);
#ifdef SSL_OP_ENABLE_KTLS
    if (session->offload)
        SSL_set_options(session->ssl, SSL_OP_ENABLE_KTLS);
#endif
    SSL_SESSION *ticket = drover_tls_client_take_ticket(client, session->files);
    if (ticket != NULL)
        (void)SSL_set_session(session->ssl, ticket); /* else it is a full handshake */
    SSL_SESSION_free(ticket);
    return true;
}

/* One step of CALL's answer RC: true when it is to be repeated. */
static bool again(DroverTlsSession *session, int rc, int64_t deadline_us, GError **error)
{
    int code = SSL_get_error(session->ssl, rc);
    bool wants = code == SSL_ERROR_WANT_READ || code == SSL_ERROR_WANT_WRITE;
    int flushed = drover_tls_wire_flush(&session->wire); /* an alert of ours, too */
    if (!wants)
        return drover_tls_session_fail(session, rc, error);
    short events = (short)((code == SSL_ERROR_WANT_READ ? POLLIN : POLLOUT) | (flushed == 0 ? POLLOUT : 0));
    return drover_tls_session_wait(session, events, deadline_us, error);
}

static bool shake_hands(DroverTlsSession *session, int64_t deadline_us, GError **error)
{
    now_wait_for(session, "its part of the TLS handshake");
    for (int rc; ERR_clear_error(), (rc = SSL_connect(session->ssl)) != 1;)
        if (!again(session, rc, deadline_us, error))
            return false;
    session->established = true;
    while (drover_tls_wire_flush(&session->wire) == 0)
        if (!drover_tls_session_wait(session, POLLOUT, deadline_us, error))
            return false;
    return true;
}

/* A server that does not like our certificate says so after our side of the handshake is over. So the first
 * bytes, NBD's greeting, are waited for before anybody believes in the connection. */
static bool await_greeting(DroverTlsSession *session, int64_t deadline_us, GError **error)
{
    int rc;
    now_wait_for(session, "NBD's greeting inside TLS");
    while (ERR_clear_error(),
           (rc = SSL_read_ex(session->ssl, session->down, DROVER_TLS_BUFFER, &session->down_end)) != 1)
        if (!again(session, rc, deadline_us, error))
            return false;
    session->got_data = true;
    return true;
}

static bool establish(DroverTlsSession *session, bool *direct, GError **error)
{
    DroverTlsClient *client = session->client;
    int64_t deadline_us = g_get_monotonic_time() + HANDSHAKE_US;
    bool starttls = client->mode == DROVER_TLS_STARTTLS;
    if (!(client->host != NULL ? connect_tcp(session, error) : connect_unix(session, error)) ||
        (starttls && !start_tls(session, deadline_us, error)) || !make_ssl(session, error) ||
        !shake_hands(session, deadline_us, error))
        return false;
    session->down = g_malloc(DROVER_TLS_BUFFER);
    const char *how = drover_tls_kernel_does(session->ssl);
    if (starttls) {
        /* The caller's NBD library wants to be greeted, too. */
        memcpy(session->down, session->starttls.greeting, DROVER_STARTTLS_GREETING);
        session->down_end = DROVER_STARTTLS_GREETING;
    } else if (!(strcmp(how, "ktls") == 0 ? drover_tls_kernel_settle(session, deadline_us, direct, error)
                                          : await_greeting(session, deadline_us, error))) {
        return false;
    }
    drover_tls_client_count(client, session->ssl, how);
    return true;
}

static bool make_pair(DroverTlsSession *session, int *caller, GError **error)
{
    int fds[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) == -1)
        return drover_fail(error, DROVER_ERROR_RETRYABLE, "no file descriptor is left: %s",
                           g_strerror(errno));
    session->pair = fds[0];
    *caller = fds[1];
    /* As much as the kernel gives without asking for more rights. */
    set_number(fds[0], SOL_SOCKET, SO_SNDBUF, 1 << 20);
    set_number(fds[1], SOL_SOCKET, SO_SNDBUF, 1 << 20);
    return true;
}

void drover_tls_session_answer(DroverTlsSession *session, int fd)
{
    uint64_t one = 1;
    g_mutex_lock(&session->lock);
    session->caller_fd = fd;
    g_mutex_unlock(&session->lock);
    ssize_t n;
    do
        n = write(session->event_fd, &one, sizeof one);
    while (n == -1 && errno == EINTR);
}

static void set_error(DroverTlsSession *session, GError *error)
{
    g_mutex_lock(&session->lock);
    session->error = error;
    g_mutex_unlock(&session->lock);
}

static void run(DroverTlsSession *session)
{
    GError *error = NULL;
    bool direct = false;
    int caller = -1;
    if (!establish(session, &direct, &error) || (!direct && !make_pair(session, &caller, &error))) {
        set_error(session, error);
        drover_tls_session_answer(session, -1);
        return;
    }
    if (direct) {
        drover_tls_session_answer(session, g_steal_fd(&session->tcp));
        return;
    }
    drover_tls_session_answer(session, caller);
    if (!drover_tls_pump(session, &error))
        set_error(session, error);
}

static gpointer thread_main(gpointer data)
{
    DroverTlsSession *session = data;
    /* OpenSSL writes to its sockets without MSG_NOSIGNAL. */
    sigset_t pipe_signal;
    sigemptyset(&pipe_signal);
    sigaddset(&pipe_signal, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &pipe_signal, NULL);
    run(session);
    if (session->ssl != NULL) {
        /* Otherwise OpenSSL takes the ticket of a connection that broke for spoiled. */
        SSL_set_shutdown(session->ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
        SSL_free(session->ssl);
    }
    drover_tls_wire_clear(&session->wire);
    g_clear_pointer(&session->down, g_free);
    if (session->tcp != -1)
        close(session->tcp);
    /* Last: the caller, who sees its socket end, finds the error. */
    if (session->pair != -1)
        close(session->pair);
    g_mutex_lock(&session->lock);
    session->ended = true;
    g_cond_signal(&session->ended_cond);
    g_mutex_unlock(&session->lock);
    return NULL;
}

DroverTlsSession *drover_tls_session_new(DroverTlsClient *client, GError **error)
{
    DroverTlsSession *session = g_new0(DroverTlsSession, 1);
    session->client = client;
    session->waits_for = "a connection";
    session->tcp = session->pair = session->caller_fd = session->wire.fd = -1;
    g_mutex_init(&session->lock);
    g_cond_init(&session->ended_cond);
    session->cancellable = g_cancellable_new();
    session->cancel_fd = g_cancellable_get_fd(session->cancellable);
    session->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    g_autoptr(GError) cause = NULL;
    if (session->cancel_fd != -1 && session->event_fd != -1)
        session->thread = g_thread_try_new("drover-tls", thread_main, session, &cause);
    if (session->thread == NULL) {
        drover_fail(error, DROVER_ERROR_RETRYABLE,
                    "the system gives no thread or file descriptor for TLS: %s",
                    cause != NULL ? cause->message : g_strerror(errno));
        drover_tls_session_free(session, false);
        return NULL;
    }
    return session;
}

int drover_tls_session_event_fd(const DroverTlsSession *session)
{
    return session->event_fd;
}

int drover_tls_session_take_fd(DroverTlsSession *session, GError **error)
{
    g_mutex_lock(&session->lock);
    int fd = g_steal_fd(&session->caller_fd);
    GError *reason = fd == -1 && session->error != NULL ? g_error_copy(session->error) : NULL;
    g_mutex_unlock(&session->lock);
    if (reason != NULL)
        g_propagate_error(error, reason);
    else if (fd == -1)
        drover_fail(error, DROVER_ERROR_RETRYABLE, "there is no connection");
    return fd;
}

GError *drover_tls_session_error(DroverTlsSession *session)
{
    g_mutex_lock(&session->lock);
    GError *error = session->error != NULL ? g_error_copy(session->error) : NULL;
    g_mutex_unlock(&session->lock);
    return error;
}

void drover_tls_session_free(DroverTlsSession *session, bool linger)
{
    if (session == NULL)
        return;
    if (session->thread != NULL) {
        int64_t until_us = g_get_monotonic_time() + LINGER_US;
        g_mutex_lock(&session->lock);
        while (linger && !session->ended && g_cond_wait_until(&session->ended_cond, &session->lock, until_us))
            ;
        g_mutex_unlock(&session->lock);
        g_cancellable_cancel(session->cancellable);
        g_thread_join(session->thread);
    }
    if (session->caller_fd != -1)
        close(session->caller_fd);
    if (session->event_fd != -1)
        close(session->event_fd);
    if (session->cancel_fd != -1)
        g_cancellable_release_fd(session->cancellable);
    g_object_unref(session->cancellable);
    g_mutex_clear(&session->lock);
    g_cond_clear(&session->ended_cond);
    g_clear_error(&session->error);
    g_free(session->files);
    g_free(session->verify_detail);
    g_free(session);
}
