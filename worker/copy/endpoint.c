/* SPDX-License-Identifier: Apache-2.0 */
#include "worker/copy/endpoint.h"

#include <libnbd.h>
#include <string.h>

#define NBD_PORT 10809

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
    g_free(endpoint);
}

static bool parse_uri(DroverEndpoint *endpoint, const char *text, GError **error)
{
    g_autofree char *shown = drover_redact(text);
    g_autoptr(GError) cause = NULL;
    g_autoptr(GUri) uri = g_uri_parse(text, G_URI_FLAGS_ENCODED_QUERY | G_URI_FLAGS_HAS_PASSWORD, &cause);
    if (uri == NULL)
        return drover_fail(error, DROVER_ERROR_PERMANENT, "%s is no NBD URI: %s", shown, cause->message);

    const char *scheme = g_uri_get_scheme(uri);
    bool is_unix = strcmp(scheme, "nbd+unix") == 0;
    if (g_str_has_prefix(scheme, "nbds") || strcmp(scheme, "nbd+tls") == 0)
        return drover_fail(error, DROVER_ERROR_PERMANENT,
                           "%s: this build speaks plain NBD only; use nbd:// or nbd+unix://", shown);
    if (!is_unix && strcmp(scheme, "nbd") != 0)
        return drover_fail(error, DROVER_ERROR_PERMANENT, "%s: the scheme must be nbd or nbd+unix", shown);
    if (g_uri_get_userinfo(uri) != NULL)
        return drover_fail(error, DROVER_ERROR_PERMANENT, "%s: NBD URIs take no user name here", shown);

    const char *query = g_uri_get_query(uri);
    g_autoptr(GHashTable) params = NULL;
    if (query != NULL) {
        params = g_uri_parse_params(query, -1, "&", G_URI_PARAMS_NONE, &cause);
        if (params == NULL)
            return drover_fail(error, DROVER_ERROR_PERMANENT, "%s: %s", shown, cause->message);
    }
    const char *socket_path = params != NULL ? g_hash_table_lookup(params, "socket") : NULL;
    const char *path = g_uri_get_path(uri);
    endpoint->export_name = g_strdup(path[0] == '/' ? path + 1 : path);
    if (is_unix) {
        if (socket_path == NULL || *socket_path == '\0')
            return drover_fail(error, DROVER_ERROR_PERMANENT, "%s: nbd+unix needs ?socket=PATH", shown);
        endpoint->socket_path = g_strdup(socket_path);
        return true;
    }
    const char *host = g_uri_get_host(uri);
    if (host == NULL || *host == '\0')
        return drover_fail(error, DROVER_ERROR_PERMANENT, "%s: no host in it", shown);
    int port = g_uri_get_port(uri);
    endpoint->host = g_strdup(host);
    endpoint->port = g_strdup_printf("%d", port > 0 ? port : NBD_PORT);
    return true;
}

static bool take_fields(DroverEndpoint *endpoint, const DroverCopyEndpoint *from, GError **error)
{
    endpoint->export_name = g_strdup(from->export_name != NULL ? from->export_name : "");
    if (from->socket_path != NULL) {
        endpoint->socket_path = g_strdup(from->socket_path);
    } else if (from->host != NULL && *from->host != '\0') {
        endpoint->host = g_strdup(from->host);
        endpoint->port = g_strdup_printf("%u", from->port != 0 ? from->port : NBD_PORT);
    } else {
        return drover_fail(error, DROVER_ERROR_PERMANENT, "An NBD endpoint needs a URI, a host or a socket");
    }
    return true;
}

DroverEndpoint *drover_endpoint_new(const DroverCopyEndpoint *from, GError **error)
{
    g_autoptr(DroverEndpoint) endpoint = g_new0(DroverEndpoint, 1);
    if (!(from->uri != NULL ? parse_uri(endpoint, from->uri, error) : take_fields(endpoint, from, error)))
        return NULL;

    const char *colon = endpoint->host != NULL && strchr(endpoint->host, ':') != NULL ? "[" : "";
    g_autofree char *label =
        endpoint->socket_path != NULL
            ? g_strdup_printf("nbd+unix:///%s?socket=%s", endpoint->export_name, endpoint->socket_path)
            : g_strdup_printf("nbd://%s%s%s:%s/%s", colon, endpoint->host, *colon != '\0' ? "]" : "",
                              endpoint->port, endpoint->export_name);
    endpoint->label = drover_redact(label);
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
    if (nbd_set_export_name(nbd, endpoint->export_name) == -1)
        return -1;
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
