/* SPDX-License-Identifier: Apache-2.0 */
#include "worker/source/lock.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include "lib/base/error.h"

/* One byte per permission: locked at PERM + bit by who uses it, at SHARED + bit by who does not let others use it. */
#define PERM_BASE 100
#define SHARED_BASE 200
#define BIT_WRITE 1
#define BIT_RESIZE 3

static bool busy(GError **error, const char *path)
{
    return drover_fail(
        error, DROVER_ERROR_RETRYABLE,
        "DRV-SOURCE-BUSY: %s is open for writing in another program; shut the VM down or close the program", path);
}

static bool no_locks_here(int failure)
{
    return failure == ENOLCK || failure == EOPNOTSUPP || failure == EINVAL || failure == ENOSYS;
}

/* Denies PERMISSION to others, then looks whether one of them has it already. */
static int deny(int fd, int bit)
{
    struct flock lock = {.l_type = F_RDLCK, .l_whence = SEEK_SET, .l_start = SHARED_BASE + bit, .l_len = 1};
    if (fcntl(fd, F_OFD_SETLK, &lock) < 0)
        return errno == EACCES ? EAGAIN : errno;
    struct flock probe = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = PERM_BASE + bit, .l_len = 1};
    if (fcntl(fd, F_OFD_GETLK, &probe) < 0)
        return errno;
    return probe.l_type == F_UNLCK ? 0 : EAGAIN;
}

bool drover_source_lock(int fd, const char *path, bool *locked, GError **error)
{
    static const int bits[] = {BIT_WRITE, BIT_RESIZE};
    *locked = false;
    for (size_t i = 0; i < G_N_ELEMENTS(bits); i++) {
        int failure = deny(fd, bits[i]);
        if (failure == EAGAIN)
            return busy(error, path);
        if (no_locks_here(failure))
            return true;
        if (failure != 0)
            return drover_fail(error, DROVER_ERROR_RETRYABLE, "DRV-SOURCE-IO: cannot lock %s: %s", path,
                               g_strerror(failure));
    }
    if (flock(fd, LOCK_SH | LOCK_NB) < 0) {
        if (errno == EWOULDBLOCK)
            return busy(error, path);
        return no_locks_here(errno) ||
               drover_fail(error, DROVER_ERROR_RETRYABLE, "DRV-SOURCE-IO: cannot lock %s: %s", path, g_strerror(errno));
    }
    *locked = true;
    return true;
}
