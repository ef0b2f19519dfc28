/* SPDX-License-Identifier: Apache-2.0 */
#include "volume-agent/plugin/punch.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>

/* 0, EOPNOTSUPP when it cannot be done for this range, or what went wrong. */
static int allocate(int fd, bool block_device, int mode, uint64_t offset, uint64_t len)
{
    if (fallocate(fd, mode | FALLOC_FL_KEEP_SIZE, (off_t)offset, (off_t)len) == 0)
        return 0;
    /* Block devices zero whole logical sectors only (block/fops.c), and NBD clients may ask for less. */
    if (errno == ENODEV || (errno == EINVAL && block_device))
        return EOPNOTSUPP;
    return errno;
}

int punch_zeroes(int fd, bool block_device, uint64_t offset, uint64_t len, bool may_free, bool fast_only)
{
    /* On block devices PUNCH_HOLE is the kernel's zeroing without a fallback to writing: the fast one. */
    bool only_punch = fast_only && block_device;
    int err = EOPNOTSUPP;
    if (may_free || only_punch)
        err = allocate(fd, block_device, FALLOC_FL_PUNCH_HOLE, offset, len);
    if (err == EOPNOTSUPP && !only_punch)
        err = allocate(fd, block_device, FALLOC_FL_ZERO_RANGE, offset, len);
    return err;
}

int punch_away(int fd, bool block_device, uint64_t offset, uint64_t len)
{
    int err = allocate(fd, block_device, FALLOC_FL_PUNCH_HOLE, offset, len);
    return err == EOPNOTSUPP ? 0 : err;
}
