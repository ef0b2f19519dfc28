/* SPDX-License-Identifier: Apache-2.0 */
#include "volume-agent/rest/server.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/base/error.h"
#include "lib/base/log.h"
#include "volume-agent/rest/listener.h"

#define SWEEP_US (G_USEC_PER_SEC / 2)
#define BIND_PATIENCE_US (5 * G_USEC_PER_SEC) /* an earlier instance may be on its way out */
#define DRAIN_US (10 * G_USEC_PER_SEC)
#define BACKLOG 128
#define N_FILES 3

struct DroverRestServer {
    const DroverRestSettings *settings;
    DroverRestApi *api;
    int fd;
    struct stat seen[N_FILES]; /* of the certificate files, as they are served */
    GMutex lock;
    GCond wake;
    bool stop;
    GThread *keeper;
    DroverRestListener *listener; /* the keeper's, while it runs */
    GPtrArray *retired;
};

/* ---- the socket
 * --------------------------------------------------------------------------------------------------- */

static int listen_at(const DroverRestSettings *settings, GError **error)
{
    gint64 deadline = g_get_monotonic_time() + BIND_PATIENCE_US;
    const int on = 1;
    const struct sockaddr *address = (const void *)settings->address;
    for (;;) {
        int fd = socket(address->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) == 0 &&
            bind(fd, address, settings->address_len) == 0 && listen(fd, BACKLOG) == 0)
            return fd;
        int why = errno;
        if (fd >= 0)
            close(fd);
        if (why != EADDRINUSE || g_get_monotonic_time() > deadline) {
            drover_fail(error, DROVER_ERROR_PERMANENT, "DRV-REST-CONFIG: [agent] rest-listen %s: %s",
                        settings->listen, g_strerror(why));
            return -1;
        }
        g_usleep(100000);
    }
}

/* ---- certificates
 * ------------------------------------------------------------------------------------------------- */

static void look_at(const DroverRestSettings *settings, struct stat *seen)
{
    const char *const files[N_FILES] = {settings->certificate, settings->key, settings->client_ca};
    memset(seen, 0, N_FILES * sizeof *seen);
    for (int i = 0; i < N_FILES; i++)
        if (*files[i])
            (void)stat(files[i], &seen[i]);
}

static bool differ(const struct stat *a, const struct stat *b)
{
    bool same = true;
    for (int i = 0; i < N_FILES; i++)
        same = same && a[i].st_ino == b[i].st_ino && a[i].st_size == b[i].st_size &&
               a[i].st_mtim.tv_sec == b[i].st_mtim.tv_sec && a[i].st_mtim.tv_nsec == b[i].st_mtim.tv_nsec;
    return !same;
}

static bool read_pem(const DroverRestSettings *settings, DroverRestPem *pem, GError **error)
{
    struct stat st;
    if (!*settings->certificate)
        return true;
    if (stat(settings->key, &st) == 0 && (st.st_mode & 077))
        return drover_fail(error, DROVER_ERROR_PERMANENT,
                           "DRV-REST-CONFIG: key file %s can be read by others: chmod 600 it", settings->key);
    if (g_file_get_contents(settings->certificate, &pem->certificate, NULL, error) &&
        g_file_get_contents(settings->key, &pem->key, NULL, error) &&
        (!*settings->client_ca || g_file_get_contents(settings->client_ca, &pem->client_ca, NULL, error)))
        return true;
    drover_rest_pem_clear(pem);
    g_prefix_error(error, "DRV-REST-CONFIG: ");
    return false;
}

static DroverRestListener *start_listener(DroverRestServer *server, GError **error)
{
    DroverRestPem pem = {0};
    look_at(server->settings, server->seen);
    return read_pem(server->settings, &pem, error)
               ? drover_rest_listener_start(server->settings, server->api, server->fd, &pem, error)
               : NULL;
}

/*
 * The new files are served from here on; requests that are under way end with the old ones. Files that cannot
 * be used (they may be half written) change nothing; they are looked at again when they change again.
 */
static void renew(DroverRestServer *server)
{
    g_autoptr(GError) error = NULL;
    DroverRestListener *fresh = start_listener(server, &error);
    if (!fresh) {
        drover_error("rest.certificate", error->message);
        return;
    }
    drover_rest_listener_quiesce(server->listener);
    g_ptr_array_add(server->retired, server->listener);
    server->listener = fresh;
    drover_info("rest.certificate", "Serving the REST API with renewed certificate files");
}

/* ---- keeping
 * ------------------------------------------------------------------------------------------------------ */

static void look_after(DroverRestServer *server)
{
    struct stat now[N_FILES];
    look_at(server->settings, now);
    if (differ(now, server->seen))
        renew(server);
    drover_rest_listener_sweep(server->listener);
    for (guint i = server->retired->len; i-- > 0;) {
        DroverRestListener *retired = g_ptr_array_index(server->retired, i);
        drover_rest_listener_sweep(retired);
        if (drover_rest_listener_active(retired) == 0) {
            g_ptr_array_remove_index_fast(server->retired, i);
            drover_rest_listener_free(retired);
        }
    }
}

static gpointer keep(gpointer data)
{
    DroverRestServer *server = data;
    g_mutex_lock(&server->lock);
    while (!server->stop) {
        g_cond_wait_until(&server->wake, &server->lock, g_get_monotonic_time() + SWEEP_US);
        if (server->stop)
            break;
        g_mutex_unlock(&server->lock);
        look_after(server);
        g_mutex_lock(&server->lock);
    }
    g_mutex_unlock(&server->lock);
    return NULL;
}

DroverRestServer *drover_rest_server_start(const DroverRestSettings *settings, DroverRestApi *api,
                                           GError **error)
{
    DroverRestServer *server = g_new0(DroverRestServer, 1);
    server->settings = settings;
    server->api = api;
    server->retired = g_ptr_array_new();
    g_mutex_init(&server->lock);
    g_cond_init(&server->wake);
    server->fd = listen_at(settings, error);
    server->listener = server->fd >= 0 ? start_listener(server, error) : NULL;
    if (!server->listener) {
        drover_rest_server_stop(server);
        return NULL;
    }
    server->keeper = g_thread_new("rest", keep, server);
    drover_info("rest.listening", "Serving the REST API", F_S("address", settings->listen),
                F_S("transport", *settings->certificate ? "TLS" : "plain"),
                F_S("tokens", *settings->tokens ? "needed" : "none"));
    return server;
}

static unsigned active(const DroverRestServer *server)
{
    unsigned n = server->listener ? drover_rest_listener_active(server->listener) : 0;
    for (guint i = 0; i < server->retired->len; i++)
        n += drover_rest_listener_active(g_ptr_array_index(server->retired, i));
    return n;
}

void drover_rest_server_stop(DroverRestServer *server)
{
    if (!server)
        return;
    g_mutex_lock(&server->lock);
    server->stop = true;
    g_cond_broadcast(&server->wake);
    g_mutex_unlock(&server->lock);
    if (server->keeper)
        g_thread_join(server->keeper);
    if (server->listener)
        drover_rest_listener_quiesce(server->listener);
    for (gint64 deadline = g_get_monotonic_time() + DRAIN_US;
         active(server) > 0 && g_get_monotonic_time() < deadline;)
        g_usleep(20000);
    drover_rest_listener_free(server->listener);
    for (guint i = 0; i < server->retired->len; i++)
        drover_rest_listener_free(g_ptr_array_index(server->retired, i));
    if (server->fd >= 0)
        close(server->fd);
    g_ptr_array_unref(server->retired);
    g_mutex_clear(&server->lock);
    g_cond_clear(&server->wake);
    g_free(server);
}
