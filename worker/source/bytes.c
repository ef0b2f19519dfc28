/* SPDX-License-Identifier: Apache-2.0 */
#include "worker/source/bytes.h"

#include <errno.h>
#include <unistd.h>

#include "lib/base/error.h"

bool drover_image_truncated(GError **error, const char *what, uint64_t offset, uint64_t len, uint64_t file_size)
{
    return drover_fail(error, DROVER_ERROR_PERMANENT,
                       "DRV-SOURCE-TRUNCATED: the image is cut off: %s at byte %" G_GUINT64_FORMAT
                       " needs %" G_GUINT64_FORMAT " bytes, the file has only %" G_GUINT64_FORMAT
                       "; copy the image again from where it came from",
                       what, offset, len, file_size);
}

bool drover_image_read(int fd, uint64_t file_size, uint64_t offset, void *buf, size_t len, const char *what,
                       GError **error)
{
    if (!inside(offset, len, file_size))
        return drover_image_truncated(error, what, offset, len, file_size);
    size_t done = 0;
    while (done < len) {
        ssize_t n = pread(fd, (char *)buf + done, len - done, (off_t)(offset + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return drover_fail(error, DROVER_ERROR_RETRYABLE, "DRV-SOURCE-IO: reading %s failed: %s", what,
                               g_strerror(errno));
        if (n == 0)
            return drover_image_truncated(error, what, offset, len, file_size);
        done += (size_t)n;
    }
    return true;
}
