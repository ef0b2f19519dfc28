/* SPDX-License-Identifier: Apache-2.0 */
#include "worker/drover-copy/rate_file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "lib/base/config.h"
#include "lib/base/error.h"

#define LONGEST 64 /* bytes that a size can need, and more */

static bool read_size(const char *path, uint64_t *rate, GError **error)
{
    char text[LONGEST + 1];
    /* Never waits for a writer, should the path be a FIFO. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    ssize_t n = fd != -1 ? read(fd, text, sizeof text) : -1;
    int failure = errno;
    if (fd != -1)
        close(fd);
    if (n == -1)
        return drover_fail(error, DROVER_ERROR_PERMANENT, "The rate file %s cannot be read: %s", path,
                           g_strerror(failure));
    g_autoptr(GError) cause = NULL;
    bool fits = n < (ssize_t)sizeof text;
    if (fits) {
        text[n] = '\0';
        fits = strlen(text) == (size_t)n && drover_parse_size(g_strstrip(text), rate, &cause);
    }
    return fits || drover_fail(error, DROVER_ERROR_PERMANENT,
                               "The rate file %s must hold one size in bytes a second, as in 100M, or 0 for no limit",
                               path);
}

DroverRateNews drover_rate_file_look(DroverRateFile *file, GError **error)
{
    uint64_t rate;
    g_autoptr(GError) cause = NULL;
    if (!read_size(file->path, &rate, &cause)) {
        if (file->bad)
            return DROVER_RATE_SAME;
        file->bad = true;
        g_propagate_error(error, g_steal_pointer(&cause));
        return DROVER_RATE_BAD;
    }
    file->bad = false;
    if (rate == file->rate)
        return DROVER_RATE_SAME;
    file->rate = rate;
    return DROVER_RATE_CHANGED;
}
