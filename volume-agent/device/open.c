/* SPDX-License-Identifier: Apache-2.0 */
#include "volume-agent/device/open.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

static int measure(int fd, bool *block_device, uint64_t *size)
{
    struct stat st;
    if (fstat(fd, &st) < 0)
        return errno;
    *block_device = S_ISBLK(st.st_mode);
    if (*block_device)
        return ioctl(fd, BLKGETSIZE64, size) < 0 ? errno : 0;
    if (!S_ISREG(st.st_mode))
        return ENODEV;
    *size = (uint64_t)st.st_size;
    return 0;
}

int drover_device_open(const char *path, int *fd, bool *block_device, uint64_t *size)
{
    struct stat st;
    if (stat(path, &st) < 0)
        return errno;
    *fd = open(path, O_RDWR | O_CLOEXEC | O_NOCTTY | (S_ISBLK(st.st_mode) ? O_EXCL : 0));
    if (*fd < 0)
        return errno;
    int err = measure(*fd, block_device, size);
    if (err)
        close(*fd);
    return err;
}

bool drover_device_is_gone(int fd)
{
    uint64_t size = 0;
    return ioctl(fd, BLKGETSIZE64, &size) < 0 || size == 0;
}
