/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/copy/server.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static void die(const char *what)
{
    fprintf(stderr, "%s: %s\n", what, g_strerror(errno));
    exit(1);
}

void server_require(void)
{
    g_autofree char *found = g_find_program_in_path("nbdkit");
    if (found != NULL)
        return;
    fprintf(stderr, "nbdkit is not installed (Debian package nbdkit)\n");
    exit(g_getenv("CI") != NULL ? 1 : 77);
}

Server *server_new(const char *name, uint64_t size)
{
    Server *server = g_new0(Server, 1);
    g_mutex_init(&server->mutex);
    server->directory = g_dir_make_tmp("drover-copy-test-XXXXXX", NULL);
    if (server->directory == NULL)
        die("temporary directory");
    g_autofree char *file = g_strconcat(name, ".raw", NULL);
    server->disk = g_build_filename(server->directory, file, NULL);
    server->socket = g_build_filename(server->directory, "nbd", NULL);
    int fd = open(server->disk, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd == -1 || ftruncate(fd, (off_t)size) == -1)
        die(server->disk);
    close(fd);
    return server;
}

static void die_with_parent(gpointer unused)
{
    (void)unused;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
}

static bool listens(const Server *server)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    g_strlcpy(address.sun_path, server->socket, sizeof address.sun_path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool ok = connect(fd, (struct sockaddr *)&address, sizeof address) == 0;
    close(fd);
    return ok;
}

static void run(Server *server)
{
    g_autoptr(GError) error = NULL;
    g_unlink(server->socket);
    if (!g_spawn_async(NULL, server->argv, NULL,
                       G_SPAWN_SEARCH_PATH | G_SPAWN_DO_NOT_REAP_CHILD | G_SPAWN_STDERR_TO_DEV_NULL,
                       die_with_parent, NULL, &server->pid, &error)) {
        fprintf(stderr, "%s\n", error->message);
        exit(1);
    }
    while (!listens(server)) {
        if (waitpid(server->pid, NULL, WNOHANG) != 0)
            die("nbdkit ended at once");
        g_usleep(5000);
    }
}

/* Under the mutex. */
static bool has_aborted(const Server *server)
{
    siginfo_t info = {0};
    return server->pid != 0 && waitid(P_PID, (id_t)server->pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0 &&
           info.si_pid == server->pid && info.si_code != CLD_EXITED && info.si_status == SIGABRT;
}

static void *keep(void *data)
{
    Server *server = data;
    bool over = false;
    while (!over) {
        g_usleep(20000);
        g_mutex_lock(&server->mutex);
        over = server->over;
        if (!over && has_aborted(server)) {
            waitpid(server->pid, NULL, 0);
            run(server);
        }
        g_mutex_unlock(&server->mutex);
    }
    return NULL;
}

void server_restart(Server *server)
{
    g_mutex_lock(&server->mutex);
    run(server);
    if (server->keeper == NULL)
        server->keeper = g_thread_new("keeper", keep, server);
    g_mutex_unlock(&server->mutex);
}

void server_start_command(Server *server, const char *command)
{
    g_auto(GStrv) parts = g_strsplit(command, "%s", -1);
    g_autofree char *filled = g_strjoinv(server->disk, parts);
    g_autofree char *line = g_strdup_printf("nbdkit -f -U %s %s", server->socket, filled);
    g_strfreev(server->argv);
    if (!g_shell_parse_argv(line, NULL, &server->argv, NULL))
        die(line);
    server_restart(server);
}

void server_start(Server *server, const char *args, const char *params)
{
    g_autofree char *command = g_strdup_printf("%s file file=%%s %s", args, params);
    server_start_command(server, command);
}

void server_signal(Server *server, int signal_number)
{
    g_mutex_lock(&server->mutex);
    kill(server->pid, signal_number);
    g_mutex_unlock(&server->mutex);
}

void server_kill(Server *server)
{
    g_mutex_lock(&server->mutex);
    if (server->pid != 0) {
        kill(server->pid, SIGKILL);
        waitpid(server->pid, NULL, 0);
        server->pid = 0;
    }
    g_mutex_unlock(&server->mutex);
}

bool server_is_running(Server *server)
{
    g_mutex_lock(&server->mutex);
    if (server->pid != 0 && !has_aborted(server) && waitpid(server->pid, NULL, WNOHANG) != 0)
        server->pid = 0;
    bool running = server->pid != 0;
    g_mutex_unlock(&server->mutex);
    return running;
}

void server_free(Server *server)
{
    if (server == NULL)
        return;
    server_kill(server);
    g_mutex_lock(&server->mutex);
    server->over = true;
    g_mutex_unlock(&server->mutex);
    if (server->keeper != NULL)
        g_thread_join(server->keeper);
    g_mutex_clear(&server->mutex);
    g_unlink(server->socket);
    g_unlink(server->disk);
    g_rmdir(server->directory);
    g_strfreev(server->argv);
    g_free(server->directory);
    g_free(server->disk);
    g_free(server->socket);
    g_free(server);
}

DroverCopyEndpoint server_endpoint(const Server *server)
{
    return (DroverCopyEndpoint){.socket_path = server->socket};
}

uint8_t *server_read(const Server *server, size_t *len)
{
    char *data;
    g_autoptr(GError) error = NULL;
    if (!g_file_get_contents(server->disk, &data, len, &error)) {
        fprintf(stderr, "%s\n", error->message);
        exit(1);
    }
    return (uint8_t *)data;
}

void server_write(const Server *server, uint64_t offset, const void *data, size_t len)
{
    int fd = open(server->disk, O_WRONLY | O_CLOEXEC);
    if (fd == -1 || pwrite(fd, data, len, (off_t)offset) != (ssize_t)len)
        die(server->disk);
    close(fd);
}

void server_fill(const Server *server, uint64_t unit, unsigned percent, uint32_t seed)
{
    g_autoptr(GRand) rand = g_rand_new_with_seed(seed);
    g_autofree uint32_t *block = g_malloc(unit);
    size_t len;
    g_free(server_read(server, &len));
    for (uint64_t at = 0; at < len; at += unit) {
        if (g_rand_int_range(rand, 0, 100) >= (int)percent)
            continue;
        for (uint64_t i = 0; i < unit / 4; i++)
            block[i] = g_rand_int(rand);
        server_write(server, at, block, MIN(unit, len - at));
    }
}
