/* SPDX-License-Identifier: Apache-2.0 */
#include "volume-agent/device/serial.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

#define VPD_HEADER 4 /* the last two bytes are the length of what follows */

void drover_volume_serial(const char *volume_id, char serial[DROVER_VOLUME_SERIAL_LEN + 1])
{
    size_t len = 0;
    for (const char *p = volume_id; *p && len < DROVER_VOLUME_SERIAL_LEN; p++)
        if (isxdigit((unsigned char)*p))
            serial[len++] = (char)tolower((unsigned char)*p);
    serial[len] = '\0';
}

/* Bytes read, or -1. The kernel gives such files in one piece. */
static ssize_t read_file(const char *directory, const char *name, char *buffer, size_t size)
{
    char path[PATH_MAX];
    if (snprintf(path, sizeof path, "%s/%s", directory, name) >= (int)sizeof path)
        return -1;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    ssize_t n;
    do
        n = read(fd, buffer, size);
    while (n < 0 && errno == EINTR);
    close(fd);
    return n;
}

static bool is_blank(char c)
{
    return c == '\0' || isspace((unsigned char)c);
}

/* Without what pads it: disks fill up with spaces or zeroes, the kernel ends some files with a newline. */
static bool take(const char *text, size_t len, char serial[DROVER_DISK_SERIAL_MAX + 1])
{
    while (len > 0 && is_blank(text[len - 1]))
        len--;
    while (len > 0 && is_blank(*text))
        text++, len--;
    memcpy(serial, text, len);
    serial[len] = '\0';
    return len > 0;
}

bool drover_disk_serial(const char *directory, char serial[DROVER_DISK_SERIAL_MAX + 1])
{
    char page[VPD_HEADER + DROVER_DISK_SERIAL_MAX];
    ssize_t n = read_file(directory, "serial", page, DROVER_DISK_SERIAL_MAX);
    if (n >= 0)
        return take(page, (size_t)n, serial);
    n = read_file(directory, "device/vpd_pg80", page, sizeof page);
    if (n < VPD_HEADER || (unsigned char)page[1] != 0x80)
        return false;
    size_t len = (size_t)((unsigned char)page[2] << 8 | (unsigned char)page[3]);
    size_t there = (size_t)n - VPD_HEADER;
    return take(page + VPD_HEADER, len < there ? len : there, serial);
}
