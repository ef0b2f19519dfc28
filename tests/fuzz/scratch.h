/* SPDX-License-Identifier: Apache-2.0 */
/* A file in memory for targets that read files. */
#ifndef DROVER_TESTS_FUZZ_SCRATCH_H
#define DROVER_TESTS_FUZZ_SCRATCH_H

#include <glib.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

/* Path of a file with these bytes, one file for the whole process. */
static inline const char *scratch_file(const uint8_t *data, size_t size)
{
    static int fd = -1;
    static char path[64];
    if (fd == -1) {
        fd = memfd_create("fuzz", MFD_CLOEXEC);
        g_snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    }
    if (fd == -1 || ftruncate(fd, 0) == -1 || pwrite(fd, data, size, 0) != (ssize_t)size)
        abort();
    return path;
}

#endif
