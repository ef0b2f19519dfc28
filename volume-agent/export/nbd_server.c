/* SPDX-License-Identifier: Apache-2.0 */
#include "volume-agent/export/nbd_server.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/base/drain.h"
#include "lib/base/error.h"
#include "lib/base/ids.h"
#include "lib/base/log.h"
#include "volume-agent/export/control_client.h"
#include "volume-agent/export/owner.h"

#define READY_TIMEOUT_US (15 * G_USEC_PER_SEC)
#define PLUGIN_FILE "nbdkit-drover-plugin.so"

typedef enum { SERVER_STARTING, SERVER_READY, SERVER_FAILED } ServerState;

struct DroverNbdServer {
    char *nbdkit;
    char *plugin;
    char *name;
    char *host;
    uint16_t port;
    char *control_path;
    char *pid_path;
    char *owner_path;
    char *token; /* of this process, in the file at owner_path as long as the name is its own */
    void (*taken_over)(void);
    GThread *supervisor;

    GMutex lock; /* everything below; held by the supervisor while a new nbdkit gets its exports back */
    GCond changed;
    GHashTable *exports; /* volume id -> DroverExport: what must be open */
    ServerState state;
    bool stopping;
    bool lost; /* the name is another process's */
    GPid pid;       /* 0 while it is down */
    char *last_words; /* of a nbdkit that ended before it was ready */
};

static void export_free(gpointer data)
{
    DroverExport *e = data;
    g_free(e->volume_id);
    if (e->token)
        memset(e->token, 0, strlen(e->token));
    g_free(e->token);
    g_free(e->path);
    g_free(e);
}

static DroverExport *export_copy(const DroverExport *e)
{
    DroverExport *copy = g_new0(DroverExport, 1);
    *copy = *e;
    copy->volume_id = g_strdup(e->volume_id);
    copy->token = g_strdup(e->token);
    copy->path = g_strdup(e->path);
    return copy;
}

static bool request_open(const DroverNbdServer *server, const DroverExport *e, GError **error)
{
    int refused = 0;
    char *request = g_strdup_printf("open %s %" G_GUINT64_FORMAT " %s %" G_GUINT64_FORMAT " %s", e->volume_id,
                                    e->generation, e->token, e->minimum_size_bytes, e->path);
    bool ok = drover_control_request(server->control_path, request, NULL, &refused, error);
    memset(request, 0, strlen(request));
    g_free(request);
    if (!ok)
        g_prefix_error(error, "%sVolume %s cannot be exported: ",
                       refused == EBUSY    ? "DRV-DEVICE-BUSY: "
                       : refused == ENOSPC ? "DRV-TARGET-TOO-SMALL: "
                       : refused == ENXIO  ? "DRV-DEVICE-MOVED: "
                                           : "",
                       e->volume_id);
    return ok;
}

/* ---- a left-over of an earlier life --------------------------------------------------------------------------- */

static bool is_ours(GPid pid, const char *control_path)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/cmdline", pid);
    g_autofree char *words = NULL;
    gsize len = 0;
    if (!g_file_get_contents(path, &words, &len, NULL))
        return false;
    g_autofree char *parameter = g_strconcat("control=", control_path, NULL);
    for (gsize i = 0; i < len; i += strlen(words + i) + 1)
        if (strcmp(words + i, parameter) == 0)
            return true;
    return false;
}

/* Two nbdkits must never have one device open: the old one is gone before a new one starts. */
static void reap_leftover(const DroverNbdServer *server)
{
    g_autofree char *text = NULL;
    if (!g_file_get_contents(server->pid_path, &text, NULL, NULL))
        return;
    GPid pid = (GPid)strtol(text, NULL, 10);
    if (pid > 1 && is_ours(pid, server->control_path)) {
        drover_warning("nbdkit.leftover", "Ending a left-over nbdkit", F_I("pid", pid));
        kill(pid, SIGKILL);
        while (is_ours(pid, server->control_path))
            g_usleep(10000);
    }
    g_unlink(server->pid_path);
}

/* ---- the child ------------------------------------------------------------------------------------------------ */

static bool spawn(DroverNbdServer *server, GPid *pid, int *output_fd, GError **error)
{
    g_autofree char *port = g_strdup_printf("%u", server->port);
    g_autofree char *control = g_strconcat("control=", server->control_path, NULL);
    const char *argv[] = {server->nbdkit,  "--foreground", "--exit-with-parent", "--threads=1", "-i", server->host, "-p",
                          port, server->plugin, control, NULL};
    return g_spawn_async_with_pipes(NULL, (char **)argv, NULL,
                                    G_SPAWN_DO_NOT_REAP_CHILD | G_SPAWN_SEARCH_PATH | G_SPAWN_STDOUT_TO_DEV_NULL,
                                    drover_drain_child_setup, NULL, pid, NULL, NULL, output_fd, error);
}

/* True when it answers; false when it ended before, or the time is over. */
static bool wait_until_ready(const DroverNbdServer *server, GPid pid)
{
    gint64 deadline = g_get_monotonic_time() + READY_TIMEOUT_US;
    while (g_get_monotonic_time() < deadline) {
        int refused = 0;
        if (drover_control_request(server->control_path, "ping", NULL, &refused, NULL))
            return true;
        siginfo_t info = {0};
        if (waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid == pid)
            return false;
        g_usleep(10000);
    }
    return false;
}

/* Called with the lock held. */
static void reopen_all(DroverNbdServer *server)
{
    GHashTableIter iter;
    gpointer value;
    g_hash_table_iter_init(&iter, server->exports);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        g_autoptr(GError) error = NULL;
        const DroverExport *e = value;
        if (!request_open(server, e, &error))
            drover_error("export.reopen_failed", error->message, F_S("volume_id", e->volume_id));
    }
}

/* Passes nbdkit's messages on until it closes its standard error, that is, until it ends. */
static char *relay_output(int fd, bool keep)
{
    g_autoptr(GString) kept = g_string_new(NULL);
    FILE *in = fdopen(fd, "r");
    char line[4096];
    while (in && fgets(line, sizeof line, in)) {
        g_strchomp(line);
        g_autofree char *text = drover_redact(line);
        drover_info("nbdkit.log", text);
        if (keep && kept->len < sizeof line)
            g_string_append_printf(kept, "%s%s", kept->len ? "; " : "", text);
    }
    if (in)
        fclose(in);
    return g_string_free(g_steal_pointer(&kept), FALSE);
}

/* Another process has this name now, and starts servers of its own. */
static bool lose(DroverNbdServer *server)
{
    g_mutex_lock(&server->lock);
    server->lost = true;
    g_free(server->last_words);
    server->last_words = g_strdup("another process runs under this agent's name");
    g_mutex_unlock(&server->lock);
    return false;
}

/* Files of a server that has ended, unless they are another process's by now. */
static void clean_up(const DroverNbdServer *server, bool all)
{
    int owned = drover_owner_lock(server->owner_path, server->token);
    if (owned < 0)
        return;
    g_unlink(server->pid_path);
    if (all)
        g_unlink(server->control_path);
    close(owned);
}

/* One life of nbdkit. False when it never became ready. */
static bool live_once(DroverNbdServer *server)
{
    g_autoptr(GError) error = NULL;
    GPid pid = 0;
    int output_fd = -1;
    int owned = drover_owner_lock(server->owner_path, server->token);
    if (owned < 0)
        return lose(server);
    g_unlink(server->control_path);
    if (!spawn(server, &pid, &output_fd, &error)) {
        close(owned);
        g_mutex_lock(&server->lock);
        g_free(server->last_words);
        server->last_words = g_strdup(error->message);
        g_mutex_unlock(&server->lock);
        return false;
    }
    g_autofree char *pid_text = g_strdup_printf("%d\n", pid);
    if (!g_file_set_contents(server->pid_path, pid_text, -1, &error))
        drover_warning("nbdkit.pid_file", error->message);
    close(owned);

    bool ready = wait_until_ready(server, pid);
    g_mutex_lock(&server->lock);
    if (ready && !server->stopping) {
        reopen_all(server);
        server->pid = pid;
        server->state = SERVER_READY;
        g_cond_broadcast(&server->changed);
        drover_info("nbdkit.ready", "NBD server is up", F_I("pid", pid), F_U("port", server->port),
                    F_U("exports", g_hash_table_size(server->exports)));
    } else {
        kill(pid, SIGKILL);
    }
    g_mutex_unlock(&server->lock);

    g_autofree char *words = relay_output(output_fd, !ready);
    int status = 0;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    g_mutex_lock(&server->lock);
    server->pid = 0;
    server->state = SERVER_STARTING;
    if (!ready) {
        g_free(server->last_words);
        server->last_words = g_steal_pointer(&words);
    }
    bool stopping = server->stopping;
    g_mutex_unlock(&server->lock);
    clean_up(server, false);
    if (!stopping)
        drover_warning("nbdkit.ended", "NBD server ended and is started again", F_I("wait_status", status));
    return ready;
}

static gpointer supervise(gpointer data)
{
    DroverNbdServer *server = data;
    bool was_ready = false;
    unsigned pause_ms = 20;
    for (;;) {
        bool ready = live_once(server);
        was_ready = was_ready || ready;
        g_mutex_lock(&server->lock);
        if (!was_ready)
            server->state = SERVER_FAILED;
        g_cond_broadcast(&server->changed);
        pause_ms = ready ? 20 : MIN(pause_ms * 2, 2000);
        gint64 until = g_get_monotonic_time() + pause_ms * 1000;
        while (was_ready && !server->stopping && !server->lost && g_cond_wait_until(&server->changed, &server->lock, until))
            ;
        bool lost = server->lost;
        bool end = server->stopping || !was_ready || lost;
        g_mutex_unlock(&server->lock);
        if (lost && server->taken_over)
            server->taken_over();
        if (end)
            return NULL;
    }
}

/* ---- public --------------------------------------------------------------------------------------------------- */

static char *find_plugin(void)
{
    g_autofree char *program = g_file_read_link("/proc/self/exe", NULL);
    g_autofree char *directory = program ? g_path_get_dirname(program) : g_strdup(".");
    char *beside = g_build_filename(directory, PLUGIN_FILE, NULL);
    if (g_file_test(beside, G_FILE_TEST_EXISTS))
        return beside;
    g_free(beside);
    return g_build_filename(DROVER_PLUGIN_DIR, PLUGIN_FILE, NULL);
}

DroverNbdServer *drover_nbd_server_start(const DroverNbdServerOptions *options, GError **error)
{
    DroverNbdServer *server = g_new0(DroverNbdServer, 1);
    server->nbdkit = g_strdup(options->nbdkit && *options->nbdkit ? options->nbdkit : "nbdkit");
    server->plugin = options->plugin && *options->plugin ? g_strdup(options->plugin) : find_plugin();
    server->name = g_strdup(options->name);
    server->host = g_strdup(options->host);
    server->port = options->port;
    g_autofree char *control = g_strconcat(options->name, ".nbdkit.sock", NULL);
    g_autofree char *pid = g_strconcat(options->name, ".nbdkit.pid", NULL);
    server->control_path = g_build_filename(options->run_dir, control, NULL);
    server->pid_path = g_build_filename(options->run_dir, pid, NULL);
    g_autofree char *owner = g_strconcat(options->name, ".nbdkit.owner", NULL);
    server->owner_path = g_build_filename(options->run_dir, owner, NULL);
    server->token = drover_id_new("");
    server->taken_over = options->taken_over;
    server->exports = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, export_free);
    g_mutex_init(&server->lock);
    g_cond_init(&server->changed);

    bool ok = true;
    if (!g_file_test(server->plugin, G_FILE_TEST_EXISTS))
        ok = drover_fail(error, DROVER_ERROR_PERMANENT, "nbdkit's plugin %s is missing: install Drover completely, or set [agent] plugin",
                         server->plugin);
    else if (g_mkdir_with_parents(options->run_dir, 0700) < 0)
        ok = drover_fail(error, DROVER_ERROR_PERMANENT, "Directory %s cannot be made: %s", options->run_dir,
                         g_strerror(errno));
    if (ok) {
        int owned = drover_owner_claim(server->owner_path, server->token);
        if (owned < 0)
            ok = drover_fail(error, DROVER_ERROR_PERMANENT, "%s cannot be locked: %s", server->owner_path, g_strerror(errno));
        else
            reap_leftover(server);
        if (owned >= 0)
            close(owned);
    }
    if (ok) {
        server->supervisor = g_thread_new("nbdkit", supervise, server);
        g_mutex_lock(&server->lock);
        while (server->state == SERVER_STARTING)
            g_cond_wait(&server->changed, &server->lock);
        ok = server->state == SERVER_READY;
        if (!ok)
            drover_fail(error, DROVER_ERROR_PERMANENT, "nbdkit does not start on %s:%u: %s", server->host, server->port,
                        server->last_words && *server->last_words ? server->last_words : "no answer within 15 s");
        g_mutex_unlock(&server->lock);
    }
    if (!ok)
        g_clear_pointer(&server, drover_nbd_server_stop);
    return server;
}

void drover_nbd_server_stop(DroverNbdServer *server)
{
    if (!server)
        return;
    g_mutex_lock(&server->lock);
    server->stopping = true;
    if (server->pid) /* on SIGTERM nbdkit would wait for its clients */
        kill(server->pid, SIGKILL);
    g_cond_broadcast(&server->changed);
    g_mutex_unlock(&server->lock);
    if (server->supervisor)
        g_thread_join(server->supervisor);
    clean_up(server, true);
    g_hash_table_unref(server->exports);
    g_mutex_clear(&server->lock);
    g_cond_clear(&server->changed);
    g_free(server->nbdkit);
    g_free(server->plugin);
    g_free(server->name);
    g_free(server->host);
    g_free(server->control_path);
    g_free(server->pid_path);
    g_free(server->owner_path);
    g_free(server->token);
    g_free(server->last_words);
    g_free(server);
}

bool drover_nbd_server_open(DroverNbdServer *server, const DroverExport *export, GError **error)
{
    g_mutex_lock(&server->lock);
    const DroverExport *known = g_hash_table_lookup(server->exports, export->volume_id);
    if (known && known->generation > export->generation) {
        guint64 newer = known->generation;
        g_mutex_unlock(&server->lock);
        return drover_fail(error, DROVER_ERROR_FENCED,
                           "Volume %s: generation %" G_GUINT64_FORMAT " is over, %" G_GUINT64_FORMAT " is open",
                           export->volume_id, export->generation, newer);
    }
    DroverExport *before = known ? export_copy(known) : NULL;
    /* Remembered before it is asked for: should nbdkit die in between, the next one opens it. */
    DroverExport *copy = export_copy(export);
    g_hash_table_replace(server->exports, copy->volume_id, copy);
    g_mutex_unlock(&server->lock);
    bool ok = request_open(server, export, error);
    if (!ok) {
        g_mutex_lock(&server->lock);
        known = g_hash_table_lookup(server->exports, export->volume_id);
        if (known && known->generation == export->generation) {
            g_hash_table_remove(server->exports, export->volume_id);
            if (before) {
                g_hash_table_replace(server->exports, before->volume_id, before);
                before = NULL;
            }
        }
        g_mutex_unlock(&server->lock);
    }
    if (before)
        export_free(before);
    return ok;
}

bool drover_nbd_server_close(DroverNbdServer *server, const char *volume_id, uint64_t generation, GError **error)
{
    g_mutex_lock(&server->lock);
    const DroverExport *known = g_hash_table_lookup(server->exports, volume_id);
    if (known && known->generation > generation) {
        g_mutex_unlock(&server->lock);
        return true;
    }
    g_hash_table_remove(server->exports, volume_id);
    g_mutex_unlock(&server->lock);
    g_autofree char *request = g_strdup_printf("close %s %" G_GUINT64_FORMAT, volume_id, generation);
    for (int i = 0;; i++) {
        int refused = 0;
        g_autoptr(GError) why = NULL;
        if (drover_control_request(server->control_path, request, NULL, &refused, &why))
            return true;
        /* nbdkit ended: the next one does not get this export any more. Only its answer is a success. */
        if (refused || i >= 300) {
            g_propagate_error(error, g_steal_pointer(&why));
            return false;
        }
        g_usleep(100000);
    }
}

static void stat_clear(gpointer data)
{
    g_free(((DroverExportStat *)data)->volume_id);
}

GArray *drover_nbd_server_stat(DroverNbdServer *server, GError **error)
{
    int refused = 0;
    g_autofree char *answer = NULL;
    if (!drover_control_request(server->control_path, "stat", &answer, &refused, error))
        return NULL;
    GArray *out = g_array_new(FALSE, TRUE, sizeof(DroverExportStat));
    g_array_set_clear_func(out, stat_clear);
    g_auto(GStrv) lines = g_strsplit(answer, "\n", -1);
    for (char **line = lines; *line; line++) {
        g_auto(GStrv) words = g_strsplit(*line, " ", -1);
        if (g_strv_length(words) < 9)
            continue;
        DroverExportStat s = {
            .volume_id = g_strdup(words[0]),
            .generation = g_ascii_strtoull(words[1], NULL, 10),
            .poisoned = words[2][0] == '1',
            .bytes_written = g_ascii_strtoull(words[3], NULL, 10),
            .bytes_zeroed = g_ascii_strtoull(words[4], NULL, 10),
            .bytes_read = g_ascii_strtoull(words[5], NULL, 10),
            .requests = g_ascii_strtoull(words[6], NULL, 10),
            .flushes = g_ascii_strtoull(words[7], NULL, 10),
            .connections = (uint32_t)g_ascii_strtoull(words[8], NULL, 10),
        };
        g_array_append_val(out, s);
    }
    return out;
}

int drover_nbd_server_pid(const DroverNbdServer *server)
{
    GMutex *lock = (GMutex *)&server->lock;
    g_mutex_lock(lock);
    int pid = server->pid;
    g_mutex_unlock(lock);
    return pid;
}
