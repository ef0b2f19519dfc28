/* SPDX-License-Identifier: Apache-2.0 */
#include "volume-agent/export/control_client.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "lib/base/error.h"
#include "volume-agent/export/send_all.h"

static int connect_to(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof address.sun_path) {
        errno = ENAMETOOLONG;
        return -1;
    }
    memcpy(address.sun_path, path, strlen(path) + 1);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof address) < 0) {
        int err = errno;
        close(fd);
        errno = err;
        return -1;
    }
    return fd;
}

/* Reads up to the line that ends the answer; NULL when the connection ends before. */
static GString *read_answer(int fd, size_t *last_line)
{
    g_autoptr(GString) all = g_string_new(NULL);
    for (;;) {
        char buffer[4096];
        ssize_t n = recv(fd, buffer, sizeof buffer, 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return NULL;
        g_string_append_len(all, buffer, n);
        if (all->str[all->len - 1] != '\n')
            continue;
        g_string_truncate(all, all->len - 1);
        const char *newline = strrchr(all->str, '\n');
        const char *last = newline ? newline + 1 : all->str;
        if (strcmp(last, "ok") == 0 || g_str_has_prefix(last, "error ")) {
            *last_line = (size_t)(last - all->str);
            return g_steal_pointer(&all);
        }
        g_string_append_c(all, '\n');
    }
}

static DroverErrorClass class_of(int err)
{
    switch (err) {
    case ESTALE:
        return DROVER_ERROR_FENCED;
    case EAGAIN:
    case ENOMEM:
    case EMFILE:
    case ENFILE:
    case ENXIO: /* the disk has another letter by now */
        return DROVER_ERROR_RETRYABLE;
    default:
        return DROVER_ERROR_PERMANENT;
    }
}

bool drover_control_request(const char *socket_path, const char *request, char **answer, int *refused, GError **error)
{
    *refused = 0;
    int fd = connect_to(socket_path);
    if (fd < 0)
        return drover_fail(error, DROVER_ERROR_RETRYABLE, "nbdkit does not answer at %s: %s", socket_path,
                           g_strerror(errno));
    g_autofree char *line = g_strconcat(request, "\n", NULL);
    size_t last = 0;
    g_autoptr(GString) all = drover_send_all(fd, line, strlen(line)) ? read_answer(fd, &last) : NULL;
    memset(line, 0, strlen(line));
    close(fd);
    if (!all)
        return drover_fail(error, DROVER_ERROR_RETRYABLE, "nbdkit at %s ended before it answered", socket_path);
    if (g_str_has_prefix(all->str + last, "error ")) {
        char *text = NULL;
        *refused = (int)strtol(all->str + last + strlen("error "), &text, 10);
        return drover_fail(error, class_of(*refused), "nbdkit refuses:%s", text);
    }
    g_string_truncate(all, last);
    if (answer)
        *answer = g_string_free(g_steal_pointer(&all), FALSE);
    return true;
}
