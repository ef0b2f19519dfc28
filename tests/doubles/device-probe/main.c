/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The agent's code for devices as a program, for a guest in which there is no agent.
 *
 *   device-probe find VOLUME_ID                         the device as it is now
 *   device-probe wait VOLUME_ID MIN_BYTES TIMEOUT_MS    waits for its hot-plug
 *   device-probe hold VOLUME_ID                         opens it as the NBD server does, and reads and writes until it fails
 *   device-probe open VOLUME_ID PATH                    opens it as the NBD server does, without looking first
 *   device-probe count                                  how many disks have a serial
 *
 * "PATH SERIAL BYTES" on success; exit code 0, 3 when there is no such device, 4 when it is refused, 5 when trying again may help.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/base/error.h"
#include "volume-agent/device/device.h"
#include "volume-agent/device/open.h"

#define USE_EVERY_US 20000
#define STEP ((1 << 20) + 4096)

static const DroverDeviceRoots roots = {"/sys", "/dev"};

static int report(bool found, const DroverDevice *device, const GError *error)
{
    if (found)
        printf("%s %s %" G_GUINT64_FORMAT "\n", device->path, device->serial, device->size_bytes);
    else
        printf("%s\n", error ? error->message : "no such device");
    fflush(stdout);
    return found ? 0 : !error ? 3 : drover_error_class(error) == DROVER_ERROR_PERMANENT ? 4 : 5;
}

/* Writes, flushes, and reads elsewhere. True, and said, when one of them fails. */
static bool use(int fd, off_t offset)
{
    static char block[4096];
    int read_error = 0, write_error = 0, flush_error = 0;
    ssize_t n = pread(fd, block, sizeof block, offset);
    read_error = n < 0 ? errno : n == 0 ? ENODATA : 0;
    if (pwrite(fd, block, sizeof block, offset) < 0)
        write_error = errno;
    if (fdatasync(fd) < 0)
        flush_error = errno;
    if (!read_error && !write_error && !flush_error)
        return false;
    printf("%s: ", drover_device_is_gone(fd) ? "gone" : "failed");
    printf("read: %s, ", strerror(read_error));
    printf("write: %s, ", strerror(write_error));
    printf("flush: %s\n", strerror(flush_error));
    return true;
}

static int open_and_use(const char *volume_id, const char *path, bool once)
{
    int fd = -1;
    bool block_device = false;
    uint64_t size = 0;
    int err = drover_device_open(path, volume_id, &fd, &block_device, &size);
    if (err) {
        printf("not opened: %s\n", strerror(err));
        return 4;
    }
    printf("held %s %d %" G_GUINT64_FORMAT "\n", path, block_device, size);
    fflush(stdout);
    for (uint64_t i = 0; !once; i++) {
        if (use(fd, (off_t)(i * STEP % size))) {
            close(fd);
            return 0;
        }
        g_usleep(USE_EVERY_US);
    }
    close(fd);
    return 0;
}

int main(int argc, char **argv)
{
    g_autoptr(GError) error = NULL;
    g_auto(DroverDevice) device = {0};
    if (argc == 2 && strcmp(argv[1], "count") == 0) {
        printf("%u\n", drover_device_count(&roots));
        return 0;
    }
    if (argc == 4 && strcmp(argv[1], "open") == 0)
        return open_and_use(argv[2], argv[3], true);
    if (argc == 5 && strcmp(argv[1], "wait") == 0) {
        bool found = drover_device_wait(&roots, argv[2], g_ascii_strtoull(argv[3], NULL, 10), g_ascii_strtoll(argv[4], NULL, 10), NULL,
                                        &device, &error);
        return report(found, &device, error);
    }
    if (argc == 3 && (strcmp(argv[1], "find") == 0 || strcmp(argv[1], "hold") == 0)) {
        bool found = drover_device_find(&roots, argv[2], &device, &error);
        int code = report(found, &device, error);
        return code || strcmp(argv[1], "find") == 0 ? code : open_and_use(argv[2], device.path, false);
    }
    fprintf(stderr, "usage: device-probe find|hold VOLUME_ID, open VOLUME_ID PATH, wait VOLUME_ID MIN_BYTES TIMEOUT_MS, count\n");
    return 2;
}
