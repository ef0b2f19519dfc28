/* SPDX-License-Identifier: Apache-2.0 */
#include "worker/vsphere/vddk.h"

#include <errno.h>
#include <libnbd.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/base/drain.h"
#include "lib/base/error.h"
#include "lib/base/ids.h"
#include "worker/source/process.h"

#define PASSWORD_FD 4
#define PASSWORD_NAME "/proc/self/fd/4"
#define LOOK_MS 100
#define STOP_MS 2000 /* VDDK closes its NFC session on SIGTERM */

struct DroverVddkChild {
    DroverProcess process;
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
    GPid pid = -1;
    if (!g_spawn_async_with_pipes_and_fds("/", (const char *const *)argv, (const char *const *)envp,
                                          G_SPAWN_DO_NOT_REAP_CHILD, drover_drain_child_setup, NULL, -1,
                                          child->process.output, child->process.output, &secret, &target, 1, &pid, NULL, NULL,
                                          NULL, &failure))
        return drover_fail(error, DROVER_ERROR_RETRYABLE, "DRV-SOURCE-CHILD: cannot start %s: %s",
                           parameters->program, failure->message);
    drover_process_started(&child->process, pid);
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
    g_autofree char *id = drover_id_new("vddk-");
    if (!drover_process_init(&child->process, "nbdkit", g_strdup_printf("%s/%s.sock", socket_dir, id), error))
        return NULL;
    int secret = hold_secret(password, error);
    if (secret < 0)
        return NULL;
    DroverVddkParameters all = *parameters;
    all.program = program;
    all.socket_path = child->process.socket_path;
    all.password_file = PASSWORD_NAME;
    bool ok = spawn(child, &all, secret, error);
    close(secret);
    return ok ? g_steal_pointer(&child) : NULL;
}

const char *drover_vddk_socket(const DroverVddkChild *child)
{
    return child->process.socket_path;
}

typedef enum { NOT_YET, ANSWERED, REFUSED } Answer;

/* One connection: NOT_YET while nobody listens. */
static Answer ask(DroverVddkChild *child, int64_t deadline_ms, GCancellable *cancel, uint64_t *size, bool *extents)
{
    struct nbd_handle *nbd = nbd_create();
    Answer answer = NOT_YET;
    if (nbd != NULL && nbd_add_meta_context(nbd, LIBNBD_CONTEXT_BASE_ALLOCATION) == 0 &&
        nbd_aio_connect_unix(nbd, child->process.socket_path) == 0) {
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
        if (access(child->process.socket_path, F_OK) == 0)
            answer = ask(child, deadline, cancel, size_bytes, extents);
        ended = answer != ANSWERED && drover_process_ended(&child->process, answer == NOT_YET ? LOOK_MS : 0);
    }
    if (answer == ANSWERED)
        return true;
    if (g_cancellable_set_error_if_cancelled(cancel, error))
        return false;
    g_autofree char *output = drover_process_output(&child->process);
    if (!ended && answer == NOT_YET)
        return drover_fail(error, DROVER_ERROR_RETRYABLE, "DRV-SOURCE-CHILD: nbdkit does not listen within %d s%s%s",
                           timeout_ms / 1000, *output != '\0' ? ": " : "", output);
    return drover_vddk_failed(error, ended, output);
}

bool drover_vddk_alive(DroverVddkChild *child, GError **error)
{
    return drover_process_alive(&child->process, error);
}

void drover_vddk_stop(DroverVddkChild *child)
{
    if (child == NULL)
        return;
    drover_process_clear(&child->process, STOP_MS);
    g_free(child);
}
