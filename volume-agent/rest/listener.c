/* SPDX-License-Identifier: Apache-2.0 */
#include "volume-agent/rest/listener.h"

#include <fcntl.h>
#include <gnutls/gnutls.h>
#include <microhttpd.h>
#include <netdb.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/base/drain.h"
#include "lib/base/error.h"
#include "lib/base/ids.h"
#include "lib/base/log.h"

#define MEMORY_LIMIT (32u << 10) /* of one connection, for the head of a request */

struct DroverRestListener {
    struct MHD_Daemon *daemon;
    const DroverRestSettings *settings;
    DroverRestApi *api;
    DroverRestPem pem;
    GMutex lock;
    GList *connections; /* Connection */
    unsigned active;
    bool quiesced;
};

typedef struct {
    int fd;
    gint64 deadline_us; /* G_MAXINT64: we are at work */
} Connection;

typedef struct {
    DroverRestCall call;
    char *method;
    char *path;
    char *request_id;
    char *remote;
    GByteArray *body;
    bool too_large;
    gint64 began_us;
} Request;

void drover_rest_pem_clear(DroverRestPem *pem)
{
    if (pem->key)
        memset(pem->key, 0, strlen(pem->key));
    g_free(pem->certificate);
    g_free(pem->key);
    g_free(pem->client_ca);
    *pem = (DroverRestPem){0};
}

/* ---- connections
 * -------------------------------------------------------------------------------------------------- */

static gint64 deadline_from_now(const DroverRestListener *listener)
{
    return g_get_monotonic_time() + listener->settings->timeout_ms * 1000;
}

static void on_connection(void *cls, struct MHD_Connection *mhd, void **socket_context,
                          enum MHD_ConnectionNotificationCode code)
{
    DroverRestListener *listener = cls;
    g_mutex_lock(&listener->lock);
    if (code == MHD_CONNECTION_NOTIFY_STARTED) {
        Connection *connection = g_new0(Connection, 1);
        connection->fd = MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd;
        connection->deadline_us = deadline_from_now(listener);
        listener->connections = g_list_prepend(listener->connections, connection);
        *socket_context = connection;
    } else if (*socket_context) {
        listener->connections = g_list_remove(listener->connections, *socket_context);
        g_free(*socket_context);
        *socket_context = NULL;
    }
    g_mutex_unlock(&listener->lock);
}

static void set_deadline(DroverRestListener *listener, struct MHD_Connection *mhd, gint64 deadline_us)
{
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    g_mutex_lock(&listener->lock);
    if (info && info->socket_context)
        ((Connection *)info->socket_context)->deadline_us = deadline_us;
    g_mutex_unlock(&listener->lock);
}

void drover_rest_listener_sweep(DroverRestListener *listener)
{
    gint64 now_us = g_get_monotonic_time();
    g_mutex_lock(&listener->lock);
    for (GList *at = listener->connections; at; at = at->next) {
        Connection *connection = at->data;
        if (now_us > connection->deadline_us)
            shutdown(connection->fd, SHUT_RDWR);
    }
    g_mutex_unlock(&listener->lock);
}

unsigned drover_rest_listener_active(DroverRestListener *listener)
{
    g_mutex_lock(&listener->lock);
    unsigned active = listener->active;
    g_mutex_unlock(&listener->lock);
    return active;
}

static void count_active(DroverRestListener *listener, int change)
{
    g_mutex_lock(&listener->lock);
    listener->active = (unsigned)((int)listener->active + change);
    g_mutex_unlock(&listener->lock);
}

static bool is_quiesced(DroverRestListener *listener)
{
    g_mutex_lock(&listener->lock);
    bool quiesced = listener->quiesced;
    g_mutex_unlock(&listener->lock);
    return quiesced;
}

/* ---- a request
 * ---------------------------------------------------------------------------------------------------- */

static void request_free(Request *request)
{
    drover_rest_call_clear(&request->call);
    g_free(request->method);
    g_free(request->path);
    g_free(request->request_id);
    g_free(request->remote);
    g_byte_array_unref(request->body);
    g_free(request);
}

static enum MHD_Result add_argument(void *cls, enum MHD_ValueKind kind, const char *key, const char *value)
{
    (void)kind;
    g_ptr_array_add(cls, g_strdup(key));
    g_ptr_array_add(cls, g_strdup(value ? value : ""));
    return MHD_YES;
}

static char *address_of(struct MHD_Connection *mhd)
{
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
    char host[NI_MAXHOST] = "";
    if (info && info->client_addr) {
        socklen_t len = info->client_addr->sa_family == AF_INET6 ? sizeof(struct sockaddr_in6)
                                                                 : sizeof(struct sockaddr_in);
        (void)getnameinfo(info->client_addr, len, host, sizeof host, NULL, 0, NI_NUMERICHOST);
    }
    return g_strdup(host);
}

static Request *request_new(struct MHD_Connection *mhd, const char *url, const char *method)
{
    Request *request = g_new0(Request, 1);
    request->began_us = g_get_monotonic_time();
    request->body = g_byte_array_new();
    request->method = g_strdup(method);
    request->path = g_strdup(url);
    request->remote = address_of(mhd);
    const char *given = MHD_lookup_connection_value(mhd, MHD_HEADER_KIND, "X-Request-Id");
    request->request_id = given && drover_id_is_valid(given) ? g_strdup(given) : drover_id_new("req-");
    GPtrArray *query = g_ptr_array_new();
    MHD_get_connection_values(mhd, MHD_GET_ARGUMENT_KIND, add_argument, query);
    g_ptr_array_add(query, NULL);
    request->call = (DroverRestCall){
        .method = request->method,
        .path = request->path,
        .query = (char **)g_ptr_array_free(query, FALSE),
        .authorization = MHD_lookup_connection_value(mhd, MHD_HEADER_KIND, MHD_HTTP_HEADER_AUTHORIZATION),
        .content_type = MHD_lookup_connection_value(mhd, MHD_HEADER_KIND, MHD_HTTP_HEADER_CONTENT_TYPE),
        .remote = request->remote,
        .request_id = request->request_id,
    };
    return request;
}

static void report(DroverRestListener *listener, const Request *request, unsigned status)
{
    const DroverRestRoute *route = request->call.route;
    gint64 took_us = g_get_monotonic_time() - request->began_us;
    g_autofree char *code = g_strdup_printf("%u", status);
    g_autofree char *name = route ? g_strconcat(route->method, " ", route->path, NULL) : g_strdup("none");
    g_autofree char *labels = drover_rest_labels("route", name, "status", code, NULL);
    g_autofree char *route_label = drover_rest_labels("route", name, NULL);
    drover_rest_metrics_add(listener->api->metrics, "drover_agent_rest_requests_total", labels, 1);
    drover_rest_metrics_observe(listener->api->metrics, "drover_agent_rest_request_seconds", route_label,
                                (double)took_us / 1e6);
    /* Probes come every few seconds. */
    bool probe =
        route && (route->id == DROVER_ROUTE_HEALTH || route->id == DROVER_ROUTE_METRICS) && status == 200;
    const DroverField fields[] = {F_S("request_id", request->request_id),
                                  F_S("method", request->method),
                                  F_S("path", request->path),
                                  F_U("status", status),
                                  F_S("caller", request->call.caller),
                                  F_S("remote", request->remote),
                                  F_U("took_ms", (uint64_t)(took_us / 1000)),
                                  {0}};
    if (drover_log_enabled(probe ? DROVER_LOG_DEBUG : DROVER_LOG_INFO))
        drover_log_emit(probe ? DROVER_LOG_DEBUG : DROVER_LOG_INFO, "rest.request", name, fields);
}

static void add_headers(DroverRestListener *listener, struct MHD_Response *response, const Request *request,
                        const DroverRestReply *reply)
{
    MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, reply->content_type);
    MHD_add_response_header(response, "X-Request-Id", request->request_id);
    MHD_add_response_header(response, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store");
    MHD_add_response_header(response, "X-Content-Type-Options", "nosniff");
    if (reply->status == 401)
        MHD_add_response_header(response, MHD_HTTP_HEADER_WWW_AUTHENTICATE, "Bearer");
    if (reply->retry_after_s > 0) {
        g_autofree char *seconds = g_strdup_printf("%u", reply->retry_after_s);
        MHD_add_response_header(response, MHD_HTTP_HEADER_RETRY_AFTER, seconds);
    }
    if (reply->allow)
        MHD_add_response_header(response, MHD_HTTP_HEADER_ALLOW, reply->allow);
    if (reply->location)
        MHD_add_response_header(response, MHD_HTTP_HEADER_LOCATION, reply->location);
    if (drover_drain_requested() || is_quiesced(listener))
        MHD_add_response_header(response, MHD_HTTP_HEADER_CONNECTION, "close");
}

/* Answers with REPLY, or with PROBLEM where there is one. */
static enum MHD_Result answer(DroverRestListener *listener, struct MHD_Connection *mhd, Request *request,
                              DroverRestReply *reply, const DroverRestProblem *problem)
{
    if (problem->status) {
        drover_rest_reply_problem(reply, problem, request->request_id);
        reply->allow = g_strdup(request->call.allow);
        if (problem->status >= 500)
            drover_warning("rest.failed", problem->message, F_S("request_id", request->request_id),
                           F_S("code", problem->code));
    }
    struct MHD_Response *response =
        MHD_create_response_from_buffer(reply->len, reply->body, MHD_RESPMEM_MUST_COPY);
    add_headers(listener, response, request, reply);
    set_deadline(listener, mhd, deadline_from_now(listener));
    report(listener, request, reply->status);
    enum MHD_Result result = MHD_queue_response(mhd, reply->status, response);
    MHD_destroy_response(response);
    return result;
}

static bool has_good_certificate(DroverRestListener *listener, struct MHD_Connection *mhd,
                                 DroverRestProblem *problem)
{
    if (!listener->pem.client_ca)
        return true;
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_GNUTLS_SESSION);
    unsigned status = 0;
    if (info && info->tls_session &&
        gnutls_certificate_verify_peers2(info->tls_session, &status) == GNUTLS_E_SUCCESS && status == 0)
        return true;
    return drover_rest_problem(problem, 403, "DRV-REST-CERTIFICATE",
                               "A client certificate of an authority that this agent trusts is needed");
}

static bool fits(const DroverRestListener *listener, struct MHD_Connection *mhd, DroverRestProblem *problem)
{
    const char *length = MHD_lookup_connection_value(mhd, MHD_HEADER_KIND, MHD_HTTP_HEADER_CONTENT_LENGTH);
    guint64 n = length ? g_ascii_strtoull(length, NULL, 10) : 0;
    return n <= (guint64)listener->settings->body_limit ||
           drover_rest_problem(problem, 413, "DRV-REST-SIZE", "A body may be %" G_GINT64_FORMAT " bytes long",
                               listener->settings->body_limit);
}

static enum MHD_Result on_head(DroverRestListener *listener, struct MHD_Connection *mhd, const char *url,
                               const char *method, void **con_cls)
{
    Request *request = request_new(mhd, url, method);
    *con_cls = request;
    count_active(listener, 1);
    g_auto(DroverRestProblem) problem = {0};
    g_auto(DroverRestReply) reply = {0};
    if (has_good_certificate(listener, mhd, &problem) &&
        drover_rest_admit(listener->api, &request->call, &problem) && fits(listener, mhd, &problem))
        return MHD_YES;
    return answer(listener, mhd, request, &reply, &problem);
}

static enum MHD_Result on_request(void *cls, struct MHD_Connection *mhd, const char *url, const char *method,
                                  const char *version, const char *data, size_t *len, void **con_cls)
{
    (void)version;
    DroverRestListener *listener = cls;
    if (!*con_cls)
        return on_head(listener, mhd, url, method, con_cls);
    Request *request = *con_cls;
    if (*len > 0) {
        request->too_large =
            request->too_large || request->body->len + *len > (size_t)listener->settings->body_limit;
        if (!request->too_large)
            g_byte_array_append(request->body, (const guint8 *)data, (guint)*len);
        *len = 0;
        return MHD_YES;
    }
    set_deadline(listener, mhd, G_MAXINT64);
    g_auto(DroverRestProblem) problem = {0};
    g_auto(DroverRestReply) reply = {0};
    request->call.body = (const char *)request->body->data;
    request->call.body_len = request->body->len;
    if (request->too_large)
        drover_rest_problem(&problem, 413, "DRV-REST-SIZE", "A body may be %" G_GINT64_FORMAT " bytes long",
                            listener->settings->body_limit);
    else
        drover_rest_handle(listener->api, &request->call, &reply, &problem);
    return answer(listener, mhd, request, &reply, &problem);
}

static void on_completed(void *cls, struct MHD_Connection *mhd, void **con_cls,
                         enum MHD_RequestTerminationCode code)
{
    (void)code;
    DroverRestListener *listener = cls;
    if (!*con_cls)
        return;
    request_free(*con_cls);
    *con_cls = NULL;
    set_deadline(listener, mhd, deadline_from_now(listener));
    count_active(listener, -1);
}

/* ---- the daemon
 * --------------------------------------------------------------------------------------------------- */

/* Paths and arguments come as they were sent: what is decoded, and when, decides what a request means. */
static size_t keep_escapes(void *cls, struct MHD_Connection *mhd, char *text)
{
    (void)cls;
    (void)mhd;
    return strlen(text);
}

static void on_log(void *cls, const char *format, va_list arguments) G_GNUC_PRINTF(2, 0);
static void on_log(void *cls, const char *format, va_list arguments)
{
    (void)cls;
    g_autofree char *text = g_strdup_vprintf(format, arguments);
    g_strchomp(text);
    drover_debug("rest.transport", text);
}

/* What the library would refuse only after it has the socket, which it then closes. */
static bool check_pem(const DroverRestPem *pem, GError **error)
{
    if (!pem->certificate)
        return true;
    gnutls_certificate_credentials_t credentials = NULL;
    const gnutls_datum_t certificate = {(unsigned char *)pem->certificate,
                                        (unsigned)strlen(pem->certificate)};
    const gnutls_datum_t key = {(unsigned char *)pem->key, (unsigned)strlen(pem->key)};
    const gnutls_datum_t ca = {(unsigned char *)pem->client_ca,
                               pem->client_ca ? (unsigned)strlen(pem->client_ca) : 0};
    const char *what = "rest-certificate and rest-key";
    int rc = gnutls_certificate_allocate_credentials(&credentials);
    if (rc >= 0)
        rc = gnutls_certificate_set_x509_key_mem(credentials, &certificate, &key, GNUTLS_X509_FMT_PEM);
    if (rc >= 0 && pem->client_ca) {
        what = "rest-client-ca";
        rc = gnutls_certificate_set_x509_trust_mem(credentials, &ca, GNUTLS_X509_FMT_PEM);
        rc = rc == 0 ? GNUTLS_E_NO_CERTIFICATE_FOUND : rc;
    }
    if (credentials)
        gnutls_certificate_free_credentials(credentials);
    return rc >= 0 ||
           drover_fail(error, DROVER_ERROR_PERMANENT, "DRV-REST-CONFIG: [agent] %s cannot be used: %s", what,
                       gnutls_strerror(rc));
}

DroverRestListener *drover_rest_listener_start(const DroverRestSettings *settings, DroverRestApi *api, int fd,
                                               DroverRestPem *pem, GError **error)
{
    DroverRestListener *listener = g_new0(DroverRestListener, 1);
    listener->settings = settings;
    listener->api = api;
    listener->pem = *pem;
    *pem = (DroverRestPem){0};
    g_mutex_init(&listener->lock);
    if (!check_pem(&listener->pem, error)) {
        drover_rest_listener_free(listener);
        return NULL;
    }
    unsigned flags = MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_THREAD_PER_CONNECTION | MHD_USE_POLL |
                     MHD_USE_ITC | MHD_USE_ERROR_LOG;
    struct MHD_OptionItem tls[5];
    size_t n = 0;
    if (listener->pem.certificate) {
        flags |= MHD_USE_TLS;
        tls[n++] = (struct MHD_OptionItem){MHD_OPTION_HTTPS_MEM_CERT, 0, listener->pem.certificate};
        tls[n++] = (struct MHD_OptionItem){MHD_OPTION_HTTPS_MEM_KEY, 0, listener->pem.key};
        tls[n++] = (struct MHD_OptionItem){MHD_OPTION_HTTPS_PRIORITIES, 0,
                                           (void *)"NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2"};
        if (listener->pem.client_ca)
            tls[n++] = (struct MHD_OptionItem){MHD_OPTION_HTTPS_MEM_TRUST, 0, listener->pem.client_ca};
    }
    tls[n] = (struct MHD_OptionItem){MHD_OPTION_END, 0, NULL};
    /* No time-out of the library's: it would count the time that a handler waits. See
     * drover_rest_listener_sweep. */
    unsigned connections = (unsigned)settings->connections;
    listener->daemon = MHD_start_daemon(
        flags, 0, NULL, NULL, on_request, listener, MHD_OPTION_EXTERNAL_LOGGER, on_log, NULL,
        MHD_OPTION_LISTEN_SOCKET, fcntl(fd, F_DUPFD_CLOEXEC, 0), MHD_OPTION_CONNECTION_LIMIT, connections,
        MHD_OPTION_PER_IP_CONNECTION_LIMIT, MAX(connections * 3 / 4, 1), MHD_OPTION_CONNECTION_MEMORY_LIMIT,
        (size_t)MEMORY_LIMIT, MHD_OPTION_STRICT_FOR_CLIENT, 1, MHD_OPTION_UNESCAPE_CALLBACK, keep_escapes,
        NULL, MHD_OPTION_NOTIFY_CONNECTION, on_connection, listener, MHD_OPTION_NOTIFY_COMPLETED,
        on_completed, listener, MHD_OPTION_ARRAY, tls, MHD_OPTION_END);
    if (!listener->daemon) {
        drover_rest_listener_free(listener);
        drover_fail(error, DROVER_ERROR_PERMANENT,
                    "DRV-REST-CONFIG: the REST API cannot be served (see the log with --log-level=debug)");
        return NULL;
    }
    return listener;
}

void drover_rest_listener_quiesce(DroverRestListener *listener)
{
    g_mutex_lock(&listener->lock);
    bool done = listener->quiesced;
    listener->quiesced = true;
    g_mutex_unlock(&listener->lock);
    int fd = done ? -1 : MHD_quiesce_daemon(listener->daemon);
    if (fd >= 0)
        close(fd);
}

void drover_rest_listener_free(DroverRestListener *listener)
{
    if (!listener)
        return;
    if (listener->daemon) {
        drover_rest_listener_quiesce(listener);
        MHD_stop_daemon(listener->daemon);
    }
    g_list_free_full(listener->connections, g_free);
    drover_rest_pem_clear(&listener->pem);
    g_mutex_clear(&listener->lock);
    g_free(listener);
}
