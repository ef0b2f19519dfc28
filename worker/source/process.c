/* SPDX-License-Identifier: Apache-2.0 */
#include "worker/source/process.h"

#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/base/error.h"
#include "lib/base/log.h"

#define OUTPUT_MAX 2048

bool drover_process_init(DroverProcess *process, const char *name, char *socket_path, GError **error)
{
    *process = (DroverProcess){.name = name, .pid = -1, .pidfd = -1, .output = -1, .socket_path = socket_path};
    const size_t longest = sizeof(((struct sockaddr_un *)NULL)->sun_path) - 1;
    if (strlen(socket_path) > longest)
        return drover_fail(
            error, DROVER_ERROR_PERMANENT,
            "DRV-WORKER-RUN-DIR: the socket name %s is longer than %zu bytes; choose a shorter [worker] run-dir",
            socket_path, longest);
    process->output = memfd_create(name, MFD_CLOEXEC);
    return true;
}

void drover_process_started(DroverProcess *process, GPid pid)
{
    process->pid = pid;
    process->pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
}

bool drover_process_ended(DroverProcess *process, int timeout_ms)
{
    if (process->reaped)
        return true;
    if (process->pidfd >= 0) { /* without one, waitpid below asks without waiting */
        struct pollfd p = {.fd = process->pidfd, .events = POLLIN};
        if (poll(&p, 1, timeout_ms) <= 0)
            return false;
    }
    process->reaped = waitpid(process->pid, NULL, WNOHANG) == process->pid;
    return process->reaped;
}

char *drover_process_output(const DroverProcess *process)
{
    char buf[OUTPUT_MAX + 1];
    off_t end = lseek(process->output, 0, SEEK_END);
    ssize_t n = pread(process->output, buf, OUTPUT_MAX, end > OUTPUT_MAX ? end - OUTPUT_MAX : 0);
    buf[n > 0 ? n : 0] = '\0';
    g_strstrip(g_strdelimit(buf, "\n\r\t", ' '));
    g_autofree char *valid = g_utf8_make_valid(buf, -1);
    return drover_redact(valid);
}

bool drover_process_alive(DroverProcess *process, GError **error)
{
    if (!drover_process_ended(process, 0))
        return true;
    g_autofree char *output = drover_process_output(process);
    return drover_fail(error, DROVER_ERROR_RETRYABLE, "DRV-SOURCE-CHILD: %s ended while it was needed%s%s",
                       process->name, *output != '\0' ? ": " : "", output);
}

void drover_process_clear(DroverProcess *process, int grace_ms)
{
    if (process->pid > 0 && !process->reaped) {
        kill(process->pid, SIGTERM);
        if (!drover_process_ended(process, grace_ms)) {
            kill(process->pid, SIGKILL);
            waitpid(process->pid, NULL, 0);
        }
    }
    if (process->pidfd >= 0)
        close(process->pidfd);
    if (process->output >= 0)
        close(process->output);
    if (process->socket_path != NULL) /* it may be there before the process is */
        unlink(process->socket_path);
    g_free(process->socket_path);
    *process = (DroverProcess){.pid = -1, .pidfd = -1, .output = -1};
}
