/* SPDX-License-Identifier: Apache-2.0 */
#include "worker/copy/endpoint.h"

#include <libnbd.h>
#include <string.h>

#define NBD_PORT 10809
#define FRONT_DOOR_PORT 443

void drover_endpoint_free(DroverEndpoint *endpoint)
{
    if (endpoint == NULL)
        return;
    g_free(endpoint->host);
    g_free(endpoint->port);
    g_free(endpoint->socket_path);
    g_free(endpoint->export_name);
    g_free(endpoint->token);
    g_free(endpoint->label);
    drover_tls_client_free(endpoint->tls);
    g_free(endpoint);
}

/* What a URI or the fields say, before it becomes an endpoint. */
typedef struct {
    DroverEndpoint *endpoint;
    DroverTlsMode mode;
    DroverTlsSettings tls;
    uint16_t port;
    char *files[3]; /* that ?tls-certificates= stands for */
    char *name;
} Parsed;

static void parsed_clear(Parsed *parsed)
{
    for (size_t i = 0; i < G_N_ELEMENTS(parsed->files); i++)
        g_free(parsed->files[i]);
    g_free(parsed->name);
}

G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Parsed, parsed_clear)

static bool is_given(const char *text)
{
    return text != NULL && *text != '\0';
}

/* As nbdcopy's users know it: libnbd's and QEMU's names of the files. */
static void take_directory(Parsed *parsed, const char *directory)
{
    static const char *const names[] = {"ca-cert.pem", "client-cert.pem", "client-key.pem"};
    for (size_t i = 0; i < G_N_ELEMENTS(names); i++)
        parsed->files[i] = g_build_filename(directory, names[i], NULL);
    bool own = g_file_test(parsed->files[1], G_FILE_TEST_EXISTS);
    if (!is_given(parsed->tls.ca_file))
        parsed->tls.ca_file = parsed->files[0];
    if (!is_given(parsed->tls.cert_file) && own) {
        parsed->tls.cert_file = parsed->files[1];
        parsed->tls.key_file = parsed->files[2];
    }
}

static bool take_parameters(Parsed *parsed, GHashTable *params, const char *shown, GError **error)
{
    const char *directory = g_hash_table_lookup(params, "tls-certificates");
    const char *name = g_hash_table_lookup(params, "tls-hostname");
    if (g_hash_table_contains(params, "tls-psk-file"))
        return drover_fail(error, DROVER_ERROR_PERMANENT,
                           "%s: TLS goes by certificates here, not by pre-shared keys", shown);
    if (parsed->mode == DROVER_TLS_OFF && (directory != NULL || name != NULL))
        return drover_fail(error, DROVER_ERROR_PERMANENT,
                           "%s: tls-... in a URI without TLS; nbds:// and nbd+tls:// have it", shown);
    if (is_given(directory))
        take_directory(parsed, directory);
    if (is_given(name) && !is_given(parsed->tls.name))
        parsed->tls.name = parsed->name = g_strdup(name);
    return true;
}

static bool parse_uri(Parsed *parsed, const char *text, GError **error)
{
    static const struct {
        const char *scheme;
        bool is_unix;
        DroverTlsMode mode;
    } schemes[] = {
        {"nbd", false, DROVER_TLS_OFF},        {"nbd+unix", true, DROVER_TLS_OFF},
        {"nbds", false, DROVER_TLS_STARTTLS},  {"nbds+unix", true, DROVER_TLS_STARTTLS},
        {"nbd+tls", false, DROVER_TLS_DIRECT},
    };
    DroverEndpoint *endpoint = parsed->endpoint;
    g_autofree char *shown = drover_redact(text);
    g_autoptr(GError) cause = NULL;
    g_autoptr(GUri) uri = g_uri_parse(text, G_URI_FLAGS_ENCODED_QUERY | G_URI_FLAGS_HAS_PASSWORD, &cause);
    if (uri == NULL)
        return drover_fail(error, DROVER_ERROR_PERMANENT, "%s is no NBD URI: %s", shown, cause->message);

    size_t at = 0;
    while (at < G_N_ELEMENTS(schemes) && strcmp(g_uri_get_scheme(uri), schemes[at].scheme) != 0)
        at++;
    if (at == G_N_ELEMENTS(schemes))
        return drover_fail(error, DROVER_ERROR_PERMANENT,
                           "%s: the scheme must be nbd, nbd+unix, nbds, nbds+unix or nbd+tls", shown);
    parsed->mode = schemes[at].mode;
    if (g_uri_get_userinfo(uri) != NULL)
        return drover_fail(error, DROVER_ERROR_PERMANENT, "%s: NBD URIs take no user name here", shown);

    const char *query = g_uri_get_query(uri);
    g_autoptr(GHashTable) params = NULL;
    if (query != NULL) {
        params = g_uri_parse_params(query, -1, "&", G_URI_PARAMS_NONE, &cause);
        if (params == NULL)
            return drover_fail(error, DROVER_ERROR_PERMANENT, "%s: %s", shown, cause->message);
        if (!take_parameters(parsed, params, shown, error))
            return false;
    }
    const char *socket_path = params != NULL ? g_hash_table_lookup(params, "socket") : NULL;
    const char *path = g_uri_get_path(uri);
    endpoint->export_name = g_strdup(path[0] == '/' ? path + 1 : path);
    if (schemes[at].is_unix) {
        if (!is_given(socket_path))
            return drover_fail(error, DROVER_ERROR_PERMANENT, "%s: nbd+unix needs ?socket=PATH", shown);
        endpoint->socket_path = g_strdup(socket_path);
        return true;
    }
    const char *host = g_uri_get_host(uri);
    if (!is_given(host))
        return drover_fail(error, DROVER_ERROR_PERMANENT, "%s: no host in it", shown);
    int port = g_uri_get_port(uri);
    endpoint->host = g_strdup(host);
    parsed->port = port > 0 ? (uint16_t)port : 0;
    return true;
}

static bool take_fields(Parsed *parsed, const DroverCopyEndpoint *from, GError **error)
{
    DroverEndpoint *endpoint = parsed->endpoint;
    endpoint->export_name = g_strdup(from->export_name != NULL ? from->export_name : "");
    parsed->mode = from->tls_mode;
    if (from->socket_path != NULL) {
        endpoint->socket_path = g_strdup(from->socket_path);
    } else if (is_given(from->host)) {
        endpoint->host = g_strdup(from->host);
        parsed->port = from->port;
    } else {
        return drover_fail(error, DROVER_ERROR_PERMANENT, "An NBD endpoint needs a URI, a host or a socket");
    }
    return true;
}

static char *make_label(const DroverEndpoint *endpoint, DroverTlsMode mode)
{
    const char *scheme = mode == DROVER_TLS_STARTTLS ? "nbds" : mode == DROVER_TLS_DIRECT ? "nbd+tls" : "nbd";
    bool bracket = endpoint->host != NULL && strchr(endpoint->host, ':') != NULL;
    g_autofree char *label =
        endpoint->socket_path != NULL
            ? g_strdup_printf("%s+unix:///%s?socket=%s", scheme, endpoint->export_name, endpoint->socket_path)
            : g_strdup_printf("%s://%s%s%s:%s/%s", scheme, bracket ? "[" : "", endpoint->host,
                              bracket ? "]" : "", endpoint->port, endpoint->export_name);
    return drover_redact(label);
}

DroverEndpoint *drover_endpoint_new(const DroverCopyEndpoint *from, GError **error)
{
    g_autoptr(DroverEndpoint) endpoint = g_new0(DroverEndpoint, 1);
    g_auto(Parsed) parsed = {.endpoint = endpoint, .tls = from->tls};
    if (!(from->uri != NULL ? parse_uri(&parsed, from->uri, error) : take_fields(&parsed, from, error)))
        return NULL;

    if (endpoint->host != NULL) {
        if (parsed.port == 0)
            parsed.port = parsed.mode == DROVER_TLS_DIRECT ? FRONT_DOOR_PORT : NBD_PORT;
        endpoint->port = g_strdup_printf("%u", parsed.port);
    }
    endpoint->label = make_label(endpoint, parsed.mode);
    if (parsed.mode != DROVER_TLS_OFF) {
        endpoint->tls = drover_tls_client_new(parsed.mode, endpoint->host, parsed.port, endpoint->socket_path,
                                              &parsed.tls, error);
        if (endpoint->tls == NULL)
            return NULL;
    }
    if (from->token != NULL) {
        g_autofree char *base = g_steal_pointer(&endpoint->export_name);
        endpoint->token = g_strdup(from->token);
        endpoint->export_name =
            g_strdup_printf("%s@%" G_GUINT64_FORMAT ".%s", base, from->generation, from->token);
    }
    if (strlen(endpoint->export_name) > 4096) {
        drover_fail(error, DROVER_ERROR_PERMANENT, "%.80s...: the export's name is too long for NBD",
                    endpoint->label);
        return NULL;
    }
    return g_steal_pointer(&endpoint);
}

int drover_endpoint_connect(const DroverEndpoint *endpoint, struct nbd_handle *nbd)
{
    return endpoint->socket_path != NULL ? nbd_aio_connect_unix(nbd, endpoint->socket_path)
                                         : nbd_aio_connect_tcp(nbd, endpoint->host, endpoint->port);
}

char *drover_endpoint_clean(const DroverEndpoint *endpoint, const char *text)
{
    if (text == NULL)
        return g_strdup("no reason given");
    if (endpoint->token == NULL || *endpoint->token == '\0')
        return drover_redact(text);
    g_auto(GStrv) parts = g_strsplit(text, endpoint->token, -1);
    g_autofree char *joined = g_strjoinv("[redacted]", parts);
    return drover_redact(joined);
}
