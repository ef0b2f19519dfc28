/* SPDX-License-Identifier: Apache-2.0 */
#include "volume-agent/plugin/control.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "volume-agent/export/send_all.h"
#include "volume-agent/plugin/exports.h"

#define LINE_MAX_BYTES 8192
#define OUT_OF_RESOURCES_US 50000

static char *socket_path;
static int listen_fd = -1;

/* The next word of *CURSOR, which moves behind it; NULL when there is none. */
static char *word(char **cursor)
{
    char *start = *cursor;
    if (!start || !*start)
        return NULL;
    char *space = strchr(start, ' ');
    if (space)
        *space = '\0';
    *cursor = space ? space + 1 : NULL;
    return start;
}

static bool number(const char *text, uint64_t *out)
{
    if (!text || *text < '0' || *text > '9')
        return false;
    char *end = NULL;
    errno = 0;
    *out = strtoull(text, &end, 10);
    return errno == 0 && *end == '\0';
}

static bool volume_id_is_valid(const char *text)
{
    return text && *text && strlen(text) <= DROVER_VOLUME_ID_MAX &&
           strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_") == strlen(text);
}

static void answer_open(char *rest, FILE *out)
{
    uint64_t generation = 0, minimum = 0;
    const char *volume = word(&rest);
    bool ok = volume_id_is_valid(volume) && number(word(&rest), &generation) && generation > 0;
    const char *token = ok ? word(&rest) : NULL;
    ok = ok && token && *token && strlen(token) <= DROVER_TOKEN_MAX && number(word(&rest), &minimum) &&
         rest && *rest;
    if (!ok) {
        fprintf(out, "error %d malformed open\n", EINVAL);
        return;
    }
    char why[512] = "";
    int err = exports_open(volume, generation, token, rest, minimum, why, sizeof why);
    if (err)
        fprintf(out, "error %d %s\n", err, why);
    else
        fprintf(out, "ok\n");
}

static void answer_close(char *rest, FILE *out)
{
    uint64_t generation = 0;
    const char *volume = word(&rest);
    if (!volume_id_is_valid(volume) || !number(word(&rest), &generation)) {
        fprintf(out, "error %d malformed close\n", EINVAL);
        return;
    }
    exports_close(volume, generation);
    fprintf(out, "ok\n");
}

static void answer(char *line, FILE *out)
{
    char *rest = line;
    const char *command = word(&rest);
    if (command && strcmp(command, "ping") == 0) {
        fprintf(out, "ok\n");
    } else if (command && strcmp(command, "open") == 0) {
        answer_open(rest, out);
    } else if (command && strcmp(command, "close") == 0) {
        answer_close(rest, out);
    } else if (command && strcmp(command, "stat") == 0) {
        exports_print(out);
        fprintf(out, "ok\n");
    } else {
        fprintf(out, "error %d unknown command\n", EINVAL);
    }
}

/* The answer is made in memory: a second descriptor for it could be the one that is not to be had. */
static bool answer_on(int fd, char *line)
{
    char *text = NULL;
    size_t len = 0;
    FILE *out = open_memstream(&text, &len);
    if (!out)
        return false;
    answer(line, out);
    bool ok = fclose(out) == 0 && drover_send_all(fd, text, len);
    free(text);
    return ok;
}

static void *serve(void *data)
{
    int fd = (int)(intptr_t)data;
    FILE *in = fdopen(fd, "r");
    char line[LINE_MAX_BYTES];
    while (in && fgets(line, sizeof line, in)) {
        size_t len = strlen(line);
        if (len == 0 || line[len - 1] != '\n')
            break; /* too long, or cut off: nothing that follows can be trusted */
        line[len - 1] = '\0';
        if (!answer_on(fd, line))
            break;
    }
    explicit_bzero(line, sizeof line);
    if (in)
        fclose(in);
    else
        close(fd);
    return NULL;
}

static void start_thread(void *(*function)(void *), void *data, int fd_on_failure)
{
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old); /* signals are nbdkit's business */
    pthread_t thread;
    if (pthread_create(&thread, NULL, function, data) == 0)
        pthread_detach(thread);
    else if (fd_on_failure >= 0)
        close(fd_on_failure);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
}

static void *accept_all(void *unused)
{
    (void)unused;
    for (;;) {
        int fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC);
        if (fd >= 0) {
            start_thread(serve, (void *)(intptr_t)fd, fd);
        } else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
            usleep(OUT_OF_RESOURCES_US); /* clients took them all; the agent must get through when some have
                                            gone */
        } else if (errno != EINTR && errno != ECONNABORTED) {
            return NULL;
        }
    }
}

int control_start(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof address.sun_path)
        return ENAMETOOLONG;
    memcpy(address.sun_path, path, strlen(path) + 1);
    listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (listen_fd < 0)
        return errno;
    unlink(path);
    mode_t old = umask(0177);
    int rc = bind(listen_fd, (struct sockaddr *)&address, sizeof address);
    int err = errno;
    umask(old);
    if (rc < 0 || listen(listen_fd, 8) < 0) {
        err = rc < 0 ? err : errno;
        close(listen_fd);
        return err;
    }
    socket_path = strdup(path);
    start_thread(accept_all, NULL, -1);
    return 0;
}

void control_stop(void)
{
    if (socket_path)
        unlink(socket_path);
    free(socket_path);
    socket_path = NULL;
}
