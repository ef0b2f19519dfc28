/* SPDX-License-Identifier: Apache-2.0 */
#include "worker/drover-copy/serve.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <signal.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/base/drain.h"
#include "lib/base/error.h"

#define PREFIX "drover-copy-"
#define SOCKET "nbd"

struct DroverServe {
    char *directory;
    int lock; /* the directory, locked as long as we live; -1: none */
    char *socket;
    GPid pid; /* 0: none */
};

/* The directory, locked, when it is ours (this user's) and nobody else holds it; -1 otherwise. */
static int lock_directory(const char *path)
{
    struct stat st;
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd != -1 && fstat(fd, &st) == 0 && st.st_uid == geteuid() && flock(fd, LOCK_EX | LOCK_NB) == 0 &&
        access(path, F_OK) == 0)
        return fd;
    if (fd != -1)
        close(fd);
    return -1;
}

/* Removes what killed processes left: directories of our kind that nobody holds locked. */
static void sweep(void)
{
    g_autoptr(GDir) dir = g_dir_open(g_get_tmp_dir(), 0, NULL);
    for (const char *name; dir != NULL && (name = g_dir_read_name(dir)) != NULL;) {
        if (!g_str_has_prefix(name, PREFIX) || strlen(name) != strlen(PREFIX "XXXXXX"))
            continue;
        g_autofree char *path = g_build_filename(g_get_tmp_dir(), name, NULL);
        g_autofree char *left = g_build_filename(path, SOCKET, NULL);
        int fd = lock_directory(path);
        if (fd == -1)
            continue;
        g_unlink(left);
        g_rmdir(path);
        close(fd);
    }
}

/* Another process that sweeps may be faster than our lock, hence the tries. */
static bool make_directory(DroverServe *serve, GError **error)
{
    g_autoptr(GError) cause = NULL;
    sweep();
    for (int i = 0; i < 10; i++) {
        g_clear_pointer(&serve->directory, g_free);
        serve->directory = g_dir_make_tmp(PREFIX "XXXXXX", &cause);
        if (serve->directory == NULL)
            return drover_fail(error, DROVER_ERROR_RETRYABLE, "No private directory for a socket: %s", cause->message);
        serve->lock = lock_directory(serve->directory);
        if (serve->lock != -1)
            return true;
    }
    return drover_fail(error, DROVER_ERROR_RETRYABLE, "%s cannot be locked", serve->directory);
}

static int listen_on(const char *path, GError **error)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof address.sun_path) {
        drover_fail(error, DROVER_ERROR_PERMANENT,
                    "%s is too long for a Unix socket; set TMPDIR to a shorter directory", path);
        return -1;
    }
    g_strlcpy(address.sun_path, path, sizeof address.sun_path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd != -1 && bind(fd, (struct sockaddr *)&address, sizeof address) == 0 && listen(fd, 64) == 0)
        return fd;
    drover_fail(error, DROVER_ERROR_RETRYABLE, "Cannot listen on %s: %s", path, g_strerror(errno));
    if (fd != -1)
        close(fd);
    return -1;
}

/* The listening socket is the child's descriptor 3 (systemd's convention, which both servers know). */
static bool spawn(DroverServe *serve, char **argv, int fd, GError **error)
{
    g_auto(GStrv) environment = g_environ_setenv(g_get_environ(), "LISTEN_FDS", "1", TRUE);
    const int source[] = {fd}, target[] = {3};
    g_autoptr(GError) cause = NULL;
    GPid pid;
    if (!g_spawn_async_with_pipes_and_fds(
            NULL, (const char *const *)argv, (const char *const *)environment,
            G_SPAWN_SEARCH_PATH | G_SPAWN_DO_NOT_REAP_CHILD | G_SPAWN_STDOUT_TO_DEV_NULL,
            drover_drain_child_setup, NULL, -1, -1, -1, source, target, 1, &pid, NULL, NULL, NULL, &cause))
        return drover_fail(error, DROVER_ERROR_PERMANENT, "%s cannot be started: %s", argv[4],
                           cause->message);
    serve->pid = pid;
    return true;
}

DroverServe *drover_serve_start(const char *path, const char *format, bool writable, unsigned connections,
                                GError **error)
{
    g_autofree char *real = realpath(path, NULL);
    if (real == NULL || access(real, writable ? R_OK | W_OK : R_OK) != 0) {
        drover_fail(error, DROVER_ERROR_PERMANENT, "%s: %s cannot be %s: %s",
                    writable ? "DRV-TARGET-MISSING" : "DRV-SOURCE-MISSING", path,
                    writable ? "written" : "read", g_strerror(errno));
        return NULL;
    }
    g_autoptr(DroverServe) serve = g_new0(DroverServe, 1);
    serve->lock = -1;
    if (!make_directory(serve, error))
        return NULL;
    serve->socket = g_build_filename(serve->directory, SOCKET, NULL);
    int fd = listen_on(serve->socket, error);
    if (fd == -1)
        return NULL;

    /* The shell is there to tell the child its own process id, which the convention asks for. */
    g_autoptr(GPtrArray) argv = g_ptr_array_new_with_free_func(g_free);
    const char *const shell[] = {"sh", "-c", "LISTEN_PID=$$ exec \"$@\"", "sh"};
    for (size_t i = 0; i < G_N_ELEMENTS(shell); i++)
        g_ptr_array_add(argv, g_strdup(shell[i]));
    if (strcmp(format, "raw") == 0) {
        g_ptr_array_add(argv, g_strdup("nbdkit"));
        g_ptr_array_add(argv, g_strdup("--foreground"));
        if (!writable)
            g_ptr_array_add(argv, g_strdup("--readonly"));
        g_ptr_array_add(argv, g_strdup("file"));
        g_ptr_array_add(argv, g_strconcat("file=", real, NULL));
    } else {
        g_ptr_array_add(argv, g_strdup("qemu-nbd"));
        g_ptr_array_add(argv, g_strdup("--persistent"));
        g_ptr_array_add(argv, g_strdup_printf("--shared=%u", connections));
        g_ptr_array_add(argv, g_strconcat("--format=", format, NULL));
        g_ptr_array_add(argv, g_strdup(writable ? "--discard=unmap" : "--read-only"));
        g_ptr_array_add(argv, g_strdup(real));
    }
    g_ptr_array_add(argv, NULL);
    bool ok = spawn(serve, (char **)argv->pdata, fd, error);
    close(fd);
    return ok ? g_steal_pointer(&serve) : NULL;
}

const char *drover_serve_socket(const DroverServe *serve)
{
    return serve->socket;
}

/* The copy is flushed by now, so a child that does not go by itself (nbdkit waits for clients) loses nothing.
 */
static void end_child(GPid pid)
{
    kill(pid, SIGTERM);
    for (int i = 0; i < 200; i++) {
        if (waitpid(pid, NULL, WNOHANG) != 0)
            return;
        g_usleep(10000);
    }
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
}

void drover_serve_stop(DroverServe *serve)
{
    if (serve == NULL)
        return;
    if (serve->pid != 0)
        end_child(serve->pid);
    if (serve->socket != NULL)
        g_unlink(serve->socket);
    if (serve->directory != NULL)
        g_rmdir(serve->directory);
    if (serve->lock != -1)
        close(serve->lock);
    g_free(serve->socket);
    g_free(serve->directory);
    g_free(serve);
}

bool drover_serve_prepare(const char *path, uint64_t size, bool *created, GError **error)
{
    *created = false;
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd == -1 && errno == ENOENT) {
        fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        *created = fd != -1;
    }
    struct stat st = {0};
    bool ok = fd != -1 && fstat(fd, &st) == 0;
    if (ok && S_ISREG(st.st_mode) && (uint64_t)st.st_size < size)
        ok = ftruncate(fd, (off_t)size) == 0;
    if (!ok)
        drover_fail(error, DROVER_ERROR_PERMANENT,
                    "%s cannot be prepared as a target of %" G_GUINT64_FORMAT " bytes: %s", path, size,
                    g_strerror(errno));
    if (fd != -1)
        close(fd);
    return ok;
}
