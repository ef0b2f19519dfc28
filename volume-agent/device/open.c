/* SPDX-License-Identifier: Apache-2.0 */
#include "volume-agent/device/open.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "volume-agent/device/serial.h"

static bool is_disk_of(const struct stat *st, const char *volume_id)
{
    char directory[64], wanted[DROVER_VOLUME_SERIAL_LEN + 1], serial[DROVER_DISK_SERIAL_MAX + 1];
    snprintf(directory, sizeof directory, "/sys/dev/block/%u:%u", major(st->st_rdev), minor(st->st_rdev));
    drover_volume_serial(volume_id, wanted);
    return strlen(wanted) == DROVER_VOLUME_SERIAL_LEN && drover_disk_serial(directory, serial) && strcmp(serial, wanted) == 0;
}

static int inspect(int fd, const char *volume_id, bool *block_device, uint64_t *size)
{
    struct stat st;
    if (fstat(fd, &st) < 0)
        return errno;
    *block_device = S_ISBLK(st.st_mode);
    if (*block_device && !is_disk_of(&st, volume_id))
        return ENXIO;
    if (*block_device)
        return ioctl(fd, BLKGETSIZE64, size) < 0 ? errno : 0;
    if (!S_ISREG(st.st_mode))
        return ENODEV;
    *size = (uint64_t)st.st_size;
    return 0;
}

int drover_device_open(const char *path, const char *volume_id, int *fd, bool *block_device, uint64_t *size)
{
    struct stat st;
    if (stat(path, &st) < 0)
        return errno;
    *fd = open(path, O_RDWR | O_CLOEXEC | O_NOCTTY | (S_ISBLK(st.st_mode) ? O_EXCL : 0));
    if (*fd < 0)
        return errno;
    int err = inspect(*fd, volume_id, block_device, size);
    if (err)
        close(*fd);
    return err;
}

bool drover_device_is_gone(int fd)
{
    uint64_t size = 0;
    return ioctl(fd, BLKGETSIZE64, &size) < 0 || size == 0;
}
