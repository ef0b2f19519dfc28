/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "lib/tls/internal.h"

#define MAX_TICKETS 32 /* two are usual per connection, and 16 connections */

static char *copy_of(const char *text)
{
    return g_strdup(text != NULL ? text : "");
}

DroverTlsClient *drover_tls_client_new(DroverTlsMode mode, const char *host, uint16_t port,
                                       const char *socket_path, const DroverTlsSettings *settings,
                                       GError **error)
{
    g_assert(mode != DROVER_TLS_OFF && (host != NULL || socket_path != NULL));
    const char *name = settings->name != NULL && *settings->name != '\0' ? settings->name : host;
    if (name == NULL) {
        drover_fail(
            error, DROVER_ERROR_PERMANENT,
            "TLS over the Unix socket %s needs the name that the server's certificate is for (tls-name)",
            socket_path);
        return NULL;
    }
    if (settings->key_file != NULL && *settings->key_file != '\0' &&
        (settings->cert_file == NULL || *settings->cert_file == '\0')) {
        drover_fail(error, DROVER_ERROR_PERMANENT, "tls-key is of no use without tls-cert");
        return NULL;
    }
    DroverTlsClient *client = g_new0(DroverTlsClient, 1);
    client->mode = mode;
    client->host = g_strdup(host);
    client->port = port;
    client->socket_path = g_strdup(socket_path);
    client->ca_file = copy_of(settings->ca_file);
    client->cert_file = copy_of(settings->cert_file);
    client->key_file = copy_of(settings->key_file);
    client->name = g_strdup(name);
    client->allow_tls12 = settings->allow_tls12;
    client->peer = host == NULL                ? g_strdup(socket_path)
                   : strchr(host, ':') != NULL ? g_strdup_printf("[%s]:%u", host, port)
                                               : g_strdup_printf("%s:%u", host, port);
    g_mutex_init(&client->lock);
    g_queue_init(&client->tickets);
    return client;
}

void drover_tls_client_free(DroverTlsClient *client)
{
    if (client == NULL)
        return;
    g_queue_clear_full(&client->tickets, (GDestroyNotify)SSL_SESSION_free);
    g_mutex_clear(&client->lock);
    g_free(client->host);
    g_free(client->socket_path);
    g_free(client->ca_file);
    g_free(client->cert_file);
    g_free(client->key_file);
    g_free(client->name);
    g_free(client->peer);
    g_free(client->ticket_files);
    g_free(client);
}

/* A ticket stands for a chain that was verified when it was got; the server's certificate may have expired
 * since. */
static bool is_good(SSL_SESSION *ticket)
{
    X509 *peer = SSL_SESSION_get0_peer(ticket);
    return SSL_SESSION_is_resumable(ticket) && peer != NULL &&
           X509_cmp_current_time(X509_get0_notAfter(peer)) > 0;
}

SSL_SESSION *drover_tls_client_take_ticket(DroverTlsClient *client, const char *files)
{
    g_mutex_lock(&client->lock);
    SSL_SESSION *ticket = NULL;
    if (g_strcmp0(files, client->ticket_files) != 0)
        g_queue_clear_full(&client->tickets, (GDestroyNotify)SSL_SESSION_free);
    while (ticket == NULL && (ticket = g_queue_pop_tail(&client->tickets)) != NULL)
        if (!is_good(ticket))
            g_clear_pointer(&ticket, SSL_SESSION_free);
    if (ticket != NULL && SSL_SESSION_get_protocol_version(ticket) < TLS1_3_VERSION &&
        SSL_SESSION_up_ref(ticket))
        g_queue_push_tail(&client->tickets, ticket);
    g_mutex_unlock(&client->lock);
    return ticket;
}

void drover_tls_client_add_ticket(DroverTlsClient *client, const char *files, SSL_SESSION *ticket)
{
    g_mutex_lock(&client->lock);
    if (g_strcmp0(files, client->ticket_files) != 0) {
        g_queue_clear_full(&client->tickets, (GDestroyNotify)SSL_SESSION_free);
        g_free(client->ticket_files);
        client->ticket_files = g_strdup(files);
    }
    g_queue_push_tail(&client->tickets, ticket);
    if (g_queue_get_length(&client->tickets) > MAX_TICKETS)
        SSL_SESSION_free(g_queue_pop_head(&client->tickets));
    g_mutex_unlock(&client->lock);
}

void drover_tls_client_count(DroverTlsClient *client, const SSL *ssl, const char *how)
{
    g_mutex_lock(&client->lock);
    DroverTlsStats *stats = &client->stats;
    g_strlcpy(stats->how, how, sizeof stats->how);
    g_strlcpy(stats->version, SSL_get_version(ssl), sizeof stats->version);
    g_strlcpy(stats->cipher, SSL_get_cipher_name(ssl), sizeof stats->cipher);
    stats->handshakes++;
    stats->resumed += SSL_session_reused(ssl) == 1;
    g_mutex_unlock(&client->lock);
}

void drover_tls_client_stats(DroverTlsClient *client, DroverTlsStats *stats)
{
    g_mutex_lock(&client->lock);
    *stats = client->stats;
    g_mutex_unlock(&client->lock);
}
