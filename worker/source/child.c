/* SPDX-License-Identifier: Apache-2.0 */
#include "worker/source/child.h"

#include <errno.h>
#include <fcntl.h>
#include <libnbd.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "lib/base/error.h"
#include "lib/base/ids.h"
#include "worker/source/process.h"

#define LISTEN_FD 3 /* fixed by socket activation */
#define IMAGE_FD 4
#define IMAGE_NAME "/dev/fd/4"
#define PID_DIGITS 12
#define STOP_MS 1000

struct DroverNbdChild {
    DroverProcess process;
};

static int listen_privately(const char *path, GError **error)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    g_strlcpy(address.sun_path, path, sizeof address.sun_path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof address) < 0 || chmod(path, 0600) < 0 ||
        listen(fd, SOMAXCONN) < 0) {
        drover_fail(error, DROVER_ERROR_RETRYABLE, "DRV-WORKER-RUN-DIR: cannot listen on %s: %s", path,
                    g_strerror(errno));
        if (fd >= 0)
            close(fd);
        unlink(path);
        return -1;
    }
    return fd;
}

/* Between fork and exec: async-signal-safe calls only. LISTEN_PID is written into DIGITS, which stands in ENVP. */
static G_NORETURN void become_child(char *const *argv, char *const *envp, char *digits, int listen_fd, int image_fd,
                                    int output_fd, pid_t parent)
{
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    signal(SIGPIPE, SIG_DFL);
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != parent)
        _exit(126);
    pid_t pid = getpid();
    for (int i = PID_DIGITS - 1; i >= 0; i--) {
        digits[i] = (char)('0' + pid % 10);
        pid /= 10;
    }
    /* All three fds are above IMAGE_FD (the parent saw to it), so no dup2 overwrites another's source. */
    int null = open("/dev/null", O_RDWR);
    if (null < 0 || dup2(null, 0) < 0 || dup2(output_fd, 1) < 0 || dup2(output_fd, 2) < 0 ||
        dup2(listen_fd, LISTEN_FD) < 0 || dup2(image_fd, IMAGE_FD) < 0)
        _exit(126);
    syscall(SYS_close_range, IMAGE_FD + 1, ~0U, 0);
    execve(argv[0], argv, envp);
    static const char text[] = "cannot execute qemu-nbd\n";
    if (write(2, text, sizeof text - 1) < 0)
        _exit(126);
    _exit(127);
}

static bool spawn(DroverNbdChild *child, int fd, const char *format, unsigned connections, int listener,
                  GError **error)
{
    g_autofree char *program = g_find_program_in_path("qemu-nbd");
    if (program == NULL)
        return drover_fail(error, DROVER_ERROR_RETRYABLE,
                           "DRV-SOURCE-CHILD: qemu-nbd is not installed on this worker (Debian package qemu-utils)");
    g_autofree char *shared = g_strdup_printf("%u", connections + 1);
    /* The description is for people: it says in the process list whose child this is. */
    const char *argv[] = {program, "-r", "-t", "-e", shared, "-f", format, "-D", child->process.socket_path, IMAGE_NAME, NULL};
    g_autofree char *listen_pid = g_strdup("LISTEN_PID=000000000000");
    const char *envp[] = {listen_pid, "LISTEN_FDS=1", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C", NULL};
    g_assert(strlen(listen_pid) == strlen("LISTEN_PID=") + PID_DIGITS);

    int high[3] = {fcntl(listener, F_DUPFD_CLOEXEC, 16), fcntl(fd, F_DUPFD_CLOEXEC, 16),
                   fcntl(child->process.output, F_DUPFD_CLOEXEC, 16)};
    pid_t parent = getpid();
    pid_t pid = high[0] < 0 || high[1] < 0 || high[2] < 0 ? -1 : fork();
    int failure = errno;
    if (pid == 0)
        become_child((char *const *)argv, (char *const *)envp, listen_pid + strlen("LISTEN_PID="), high[0], high[1],
                     high[2], parent);
    for (size_t i = 0; i < G_N_ELEMENTS(high); i++)
        if (high[i] >= 0)
            close(high[i]);
    if (pid < 0)
        return drover_fail(error, DROVER_ERROR_RETRYABLE, "DRV-SOURCE-CHILD: cannot start qemu-nbd: %s",
                           g_strerror(failure));
    drover_process_started(&child->process, pid);
    return true;
}

DroverNbdChild *drover_nbd_child_start(int fd, const char *format, unsigned connections, const char *socket_dir,
                                       GError **error)
{
    g_autoptr(DroverNbdChild) child = g_new0(DroverNbdChild, 1);
    g_autofree char *id = drover_id_new("src-");
    if (!drover_process_init(&child->process, "qemu-nbd", g_strdup_printf("%s/%s.sock", socket_dir, id), error))
        return NULL;
    int listener = listen_privately(child->process.socket_path, error);
    if (listener < 0)
        return NULL;
    bool ok = spawn(child, fd, format, connections, listener, error);
    close(listener); /* the child's copy is the only one: when the child ends, clients see it */
    return ok ? g_steal_pointer(&child) : NULL;
}

const char *drover_nbd_child_socket(const DroverNbdChild *child)
{
    return child->process.socket_path;
}

bool drover_qemu_failed(GError **error, const char *program, const char *output)
{
    bool busy = strstr(output, "Failed to get") != NULL && strstr(output, "lock") != NULL;
    if (busy)
        return drover_fail(error, DROVER_ERROR_RETRYABLE,
                           "DRV-SOURCE-BUSY: another program has the image open for writing; shut the VM down or close "
                           "the program (%s says: %s)",
                           program, output);
    if (strstr(output, "Cannot allocate memory") != NULL || strstr(output, "Too many open files") != NULL ||
        strstr(output, "Input/output error") != NULL || strstr(output, "cannot execute") != NULL)
        return drover_fail(error, DROVER_ERROR_RETRYABLE, "DRV-SOURCE-CHILD: %s cannot serve the image: %s", program,
                           output);
    return drover_fail(error, DROVER_ERROR_PERMANENT, "DRV-SOURCE-FORMAT: %s refuses the image: %s", program,
                       *output == '\0' ? "it gives no reason" : output);
}

/* Drives the handshake until the handle is ready; libnbd's own connect calls have no deadline. */
static bool connect_within(struct nbd_handle *nbd, const char *path, int timeout_ms)
{
    int64_t deadline = drover_boottime_ms() + timeout_ms;
    if (nbd_aio_connect_unix(nbd, path) < 0)
        return false;
    while (!nbd_aio_is_ready(nbd)) {
        int64_t left = deadline - drover_boottime_ms();
        if (nbd_aio_is_dead(nbd) || nbd_aio_is_closed(nbd) || left <= 0)
            return false;
        if (nbd_poll(nbd, (int)left) < 0)
            return false;
    }
    return true;
}

bool drover_nbd_child_size(DroverNbdChild *child, int timeout_ms, uint64_t *size_bytes, GError **error)
{
    struct nbd_handle *nbd = nbd_create();
    bool connected = nbd != NULL && connect_within(nbd, child->process.socket_path, timeout_ms);
    int64_t size = connected ? nbd_get_size(nbd) : -1;
    if (connected)
        nbd_shutdown(nbd, 0);
    nbd_close(nbd);
    if (size >= 0) {
        *size_bytes = (uint64_t)size;
        return true;
    }
    bool ended = drover_process_ended(&child->process, 1000);
    g_autofree char *output = drover_process_output(&child->process);
    if (ended)
        return drover_qemu_failed(error, "qemu-nbd", output);
    return drover_fail(error, DROVER_ERROR_RETRYABLE, "DRV-SOURCE-CHILD: qemu-nbd does not answer within %d s%s%s",
                       timeout_ms / 1000, *output != '\0' ? ": " : "", output);
}

bool drover_nbd_child_alive(DroverNbdChild *child, GError **error)
{
    return drover_process_alive(&child->process, error);
}

void drover_nbd_child_stop(DroverNbdChild *child)
{
    if (child == NULL)
        return;
    drover_process_clear(&child->process, STOP_MS);
    g_free(child);
}
