/* SPDX-License-Identifier: Apache-2.0 */
#include "worker/vsphere/vddk.h"

#include <errno.h>
#include <libnbd.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/base/drain.h"
#include "lib/base/ids.h"
#include "lib/base/log.h"

#define PASSWORD_FD 4
#define PASSWORD_NAME "/proc/self/fd/4"
#define OUTPUT_MAX 2048
#define LOOK_MS 100
#define STOP_MS 2000 /* VDDK closes its NFC session on SIGTERM */

struct DroverVddkChild {
    GPid pid;
    int pidfd;
    int output; /* memfd: a pipe would block the child when nobody reads */
    char *socket_path;
    bool reaped;
};

/* A memory file with TEXT, for this user alone; -1 with an error. */
static int hold_secret(const char *text, GError **error)
{
    int fd = memfd_create("drover-secret", MFD_CLOEXEC);
    size_t len = strlen(text);
    if (fd >= 0 && fchmod(fd, 0600) == 0 && write(fd, text, len) == (ssize_t)len)
        return fd;
    drover_fail(error, DROVER_ERROR_RETRYABLE, "DRV-SOURCE-CHILD: cannot hold the password for nbdkit: %s",
                g_strerror(errno));
    if (fd >= 0)
        close(fd);
    return -1;
}

/* VDDK writes its logs and locks below TMPDIR and looks for its configuration in HOME. */
static char **environment(void)
{
    char **envp = NULL;
    const char *const kept[] = {"HOME", "TMPDIR", "USER"};
    envp = g_environ_setenv(envp, "PATH", "/usr/sbin:/usr/bin:/sbin:/bin", TRUE);
    envp = g_environ_setenv(envp, "LC_ALL", "C", TRUE);
    for (size_t i = 0; i < G_N_ELEMENTS(kept); i++)
        if (g_getenv(kept[i]) != NULL)
            envp = g_environ_setenv(envp, kept[i], g_getenv(kept[i]), TRUE);
    return envp;
}

static bool spawn(DroverVddkChild *child, const DroverVddkParameters *parameters, int secret, GError **error)
{
    g_auto(GStrv) argv = drover_vddk_argv(parameters);
    g_auto(GStrv) envp = environment();
    const int target = PASSWORD_FD;
    g_autoptr(GError) failure = NULL;
    if (!g_spawn_async_with_pipes_and_fds("/", (const char *const *)argv, (const char *const *)envp,
                                          G_SPAWN_DO_NOT_REAP_CHILD, drover_drain_child_setup, NULL, -1,
                                          child->output, child->output, &secret, &target, 1, &child->pid, NULL, NULL,
                                          NULL, &failure))
        return drover_fail(error, DROVER_ERROR_RETRYABLE, "DRV-SOURCE-CHILD: cannot start %s: %s",
                           parameters->program, failure->message);
    child->pidfd = (int)syscall(SYS_pidfd_open, child->pid, 0);
    return true;
}

DroverVddkChild *drover_vddk_start(DroverVddkParameters *parameters, const char *password, const char *socket_dir,
                                   GError **error)
{
    g_autofree char *program = g_find_program_in_path(parameters->program);
    if (program == NULL) {
        drover_fail(error, DROVER_ERROR_PERMANENT,
                    "DRV-SOURCE-VDDK: %s is not on this worker; install nbdkit and its vddk plugin (docs/vmware.md, "
                    "\"VDDK installation\") or set [worker] nbdkit",
                    parameters->program);
        return NULL;
    }
    g_autoptr(DroverVddkChild) child = g_new0(DroverVddkChild, 1);
    child->pidfd = -1;
    child->output = memfd_create("nbdkit", MFD_CLOEXEC);
    g_autofree char *id = drover_id_new("vddk-");
    child->socket_path = g_strdup_printf("%s/%s.sock", socket_dir, id);
    if (strlen(child->socket_path) >= sizeof(((struct sockaddr_un *)NULL)->sun_path)) {
        drover_fail(error, DROVER_ERROR_PERMANENT,
                    "DRV-WORKER-RUN-DIR: the socket name %s is too long; choose a shorter [worker] run-dir",
                    child->socket_path);
        return NULL;
    }
    int secret = hold_secret(password, error);
    if (secret < 0)
        return NULL;
    DroverVddkParameters all = *parameters;
    all.program = program;
    all.socket_path = child->socket_path;
    all.password_file = PASSWORD_NAME;
    bool ok = spawn(child, &all, secret, error);
    close(secret);
    return ok ? g_steal_pointer(&child) : NULL;
}

const char *drover_vddk_socket(const DroverVddkChild *child)
{
    return child->socket_path;
}

/* The last 2 KiB on one line; newly allocated. */
static char *output_of(const DroverVddkChild *child)
{
    char buf[OUTPUT_MAX + 1];
    off_t end = lseek(child->output, 0, SEEK_END);
    ssize_t n = pread(child->output, buf, OUTPUT_MAX, end > OUTPUT_MAX ? end - OUTPUT_MAX : 0);
    buf[n > 0 ? n : 0] = '\0';
    g_strstrip(g_strdelimit(buf, "\n\r\t", ' '));
    g_autofree char *valid = g_utf8_make_valid(buf, -1);
    return drover_redact(valid);
}

static bool child_ended(DroverVddkChild *child, int timeout_ms)
{
    if (child->reaped)
        return true;
    if (child->pidfd >= 0) {
        struct pollfd p = {.fd = child->pidfd, .events = POLLIN};
        if (poll(&p, 1, timeout_ms) <= 0)
            return false;
    }
    child->reaped = waitpid(child->pid, NULL, WNOHANG) == child->pid;
    return child->reaped;
}

typedef enum { NOT_YET, ANSWERED, REFUSED } Answer;

/* One connection: NOT_YET while nobody listens. */
static Answer ask(DroverVddkChild *child, int64_t deadline_ms, GCancellable *cancel, uint64_t *size, bool *extents)
{
    struct nbd_handle *nbd = nbd_create();
    Answer answer = NOT_YET;
    if (nbd != NULL && nbd_add_meta_context(nbd, LIBNBD_CONTEXT_BASE_ALLOCATION) == 0 &&
        nbd_aio_connect_unix(nbd, child->socket_path) == 0) {
        answer = REFUSED;
        while (!nbd_aio_is_ready(nbd) && !nbd_aio_is_dead(nbd) && !nbd_aio_is_closed(nbd) &&
               drover_boottime_ms() < deadline_ms && !g_cancellable_is_cancelled(cancel))
            if (nbd_poll(nbd, LOOK_MS) < 0)
                break;
        int64_t found = nbd_aio_is_ready(nbd) ? nbd_get_size(nbd) : -1;
        if (found >= 0) {
            *size = (uint64_t)found;
            *extents = nbd_can_meta_context(nbd, LIBNBD_CONTEXT_BASE_ALLOCATION) == 1;
            nbd_shutdown(nbd, 0);
            answer = ANSWERED;
        } else if (nbd_get_errno() == ENOENT || nbd_get_errno() == ECONNREFUSED) {
            answer = NOT_YET;
        }
    }
    nbd_close(nbd);
    return answer;
}

bool drover_vddk_wait(DroverVddkChild *child, int timeout_ms, GCancellable *cancel, uint64_t *size_bytes,
                      bool *extents, GError **error)
{
    int64_t deadline = drover_boottime_ms() + timeout_ms;
    Answer answer = NOT_YET;
    bool ended = false;
    while (answer == NOT_YET && !ended && drover_boottime_ms() < deadline) {
        if (g_cancellable_set_error_if_cancelled(cancel, error))
            return false;
        /* A socket that is not there yet is no news; asking libnbd for it would only make it complain. */
        if (access(child->socket_path, F_OK) == 0)
            answer = ask(child, deadline, cancel, size_bytes, extents);
        ended = answer != ANSWERED && child_ended(child, answer == NOT_YET ? LOOK_MS : 0);
    }
    if (answer == ANSWERED)
        return true;
    if (g_cancellable_set_error_if_cancelled(cancel, error))
        return false;
    g_autofree char *output = output_of(child);
    if (!ended && answer == NOT_YET)
        return drover_fail(error, DROVER_ERROR_RETRYABLE, "DRV-SOURCE-CHILD: nbdkit does not listen within %d s%s%s",
                           timeout_ms / 1000, *output != '\0' ? ": " : "", output);
    return drover_vddk_failed(error, ended, output);
}

bool drover_vddk_alive(DroverVddkChild *child, GError **error)
{
    if (!child_ended(child, 0))
        return true;
    g_autofree char *output = output_of(child);
    return drover_fail(error, DROVER_ERROR_RETRYABLE, "DRV-SOURCE-CHILD: nbdkit ended while it was needed%s%s",
                       *output != '\0' ? ": " : "", output);
}

void drover_vddk_stop(DroverVddkChild *child)
{
    if (child == NULL)
        return;
    if (child->pid > 0 && !child->reaped) {
        kill(child->pid, SIGTERM);
        if (!child_ended(child, STOP_MS)) {
            kill(child->pid, SIGKILL);
            waitpid(child->pid, NULL, 0);
        }
    }
    if (child->pidfd >= 0)
        close(child->pidfd);
    if (child->output >= 0)
        close(child->output);
    if (child->socket_path != NULL)
        unlink(child->socket_path);
    g_free(child->socket_path);
    g_free(child);
}
