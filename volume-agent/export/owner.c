/* SPDX-License-Identifier: Apache-2.0 */
#include "volume-agent/export/owner.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#define TOKEN_MAX 128

static int open_locked(const char *path)
{
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0)
        return -1;
    int rc;
    while ((rc = flock(fd, LOCK_EX)) < 0 && errno == EINTR)
        ;
    if (rc == 0)
        return fd;
    close(fd);
    return -1;
}

int drover_owner_claim(const char *path, const char *token)
{
    int fd = open_locked(path);
    size_t len = strlen(token);
    if (fd >= 0 && (ftruncate(fd, 0) < 0 || pwrite(fd, token, len, 0) != (ssize_t)len)) {
        close(fd);
        return -1;
    }
    return fd;
}

int drover_owner_lock(const char *path, const char *token)
{
    int fd = open_locked(path);
    char owner[TOKEN_MAX + 1] = "";
    if (fd >= 0 && (pread(fd, owner, TOKEN_MAX, 0) < 0 || strcmp(owner, token) != 0)) {
        close(fd);
        return -1;
    }
    return fd;
}
