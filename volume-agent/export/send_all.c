/* SPDX-License-Identifier: Apache-2.0 */
#include "volume-agent/export/send_all.h"

#include <errno.h>
#include <sys/socket.h>

bool drover_send_all(int fd, const char *text, size_t len)
{
    while (len > 0) {
        ssize_t n = send(fd, text, len, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        text += n;
        len -= (size_t)n;
    }
    return true;
}
