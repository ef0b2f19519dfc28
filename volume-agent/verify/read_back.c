/* SPDX-License-Identifier: Apache-2.0 */
#include "volume-agent/verify/read_back.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/base/error.h"

#define ALIGNMENT 4096u
#define BUFFER_BYTES (UINT64_C(1) << 20)

struct DroverReadBack {
    char *path;
    int fd;
    bool direct;
    bool regular;
    uint64_t size;
    uint8_t *buffer; /* BUFFER_BYTES, aligned */
};

static bool device_size(DroverReadBack *back, GError **error)
{
    struct stat st;
    int rc = fstat(back->fd, &st);
    back->regular = rc == 0 && S_ISREG(st.st_mode);
    if (rc == 0 && back->regular)
        back->size = (uint64_t)st.st_size;
    else if (rc == 0)
        rc = ioctl(back->fd, BLKGETSIZE64, &back->size);
    if (rc < 0)
        return drover_fail(error, DROVER_ERROR_RETRYABLE, "Size of %s cannot be read: %s", back->path, g_strerror(errno));
    return true;
}

DroverReadBack *drover_read_back_open(const char *path, GError **error)
{
    g_autoptr(DroverReadBack) back = g_new0(DroverReadBack, 1);
    back->path = g_strdup(path);
    back->fd = open(path, O_RDONLY | O_CLOEXEC | O_DIRECT);
    back->direct = back->fd >= 0;
    if (back->fd < 0 && errno == EINVAL) /* a file system without O_DIRECT, such as tmpfs */
        back->fd = open(path, O_RDONLY | O_CLOEXEC);
    if (back->fd < 0) {
        drover_fail(error, DROVER_ERROR_RETRYABLE, "%s cannot be opened for reading back: %s", path, g_strerror(errno));
        return NULL;
    }
    if (!device_size(back, error))
        return NULL;
    back->buffer = aligned_alloc(ALIGNMENT, BUFFER_BYTES);
    g_assert(back->buffer);
    return g_steal_pointer(&back);
}

void drover_read_back_close(DroverReadBack *back)
{
    if (!back)
        return;
    if (back->fd >= 0)
        close(back->fd);
    free(back->buffer);
    g_free(back->path);
    g_free(back);
}

bool drover_read_back_is_direct(const DroverReadBack *back)
{
    return back->direct;
}

/* Reads [offset, offset + len) into the buffer, and a little more around it where O_DIRECT wants that; *DATA points at
 * offset's byte. LEN is at most BUFFER_BYTES - 2 * ALIGNMENT unless both ends are aligned. */
static bool read_piece(DroverReadBack *back, uint64_t offset, uint64_t len, const uint8_t **data, GError **error)
{
    uint64_t start = back->direct ? offset / ALIGNMENT * ALIGNMENT : offset;
    uint64_t end = offset + len;
    uint64_t want = back->direct ? (end - start + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT : end - start;
    uint64_t got = 0;
    g_assert(want <= BUFFER_BYTES);
    while (start + got < end) {
        ssize_t n = pread(back->fd, back->buffer + got, want - got, (off_t)(start + got));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return drover_fail(error, DROVER_ERROR_RETRYABLE, "%s cannot be read back at byte %" G_GUINT64_FORMAT ": %s",
                               back->path, start + got, g_strerror(errno));
        if (n == 0)
            return drover_fail(error, DROVER_ERROR_PERMANENT, "%s ends at byte %" G_GUINT64_FORMAT ", more was expected",
                               back->path, start + got);
        got += (uint64_t)n;
        if (back->direct && got % ALIGNMENT != 0 && start + got < end) { /* the rest cannot be read directly */
            back->direct = false;
            if (fcntl(back->fd, F_SETFL, 0) < 0)
                return drover_fail(error, DROVER_ERROR_RETRYABLE, "%s: %s", back->path, g_strerror(errno));
        }
    }
    if (!back->direct)
        posix_fadvise(back->fd, (off_t)start, (off_t)want, POSIX_FADV_DONTNEED);
    *data = back->buffer + (offset - start);
    return true;
}

/* Without O_DIRECT clean pages must go before the read, or memory is compared with itself. */
static void forget_pages(const DroverReadBack *back, uint64_t offset, uint64_t len)
{
    if (!back->direct)
        posix_fadvise(back->fd, (off_t)offset, (off_t)len, POSIX_FADV_DONTNEED);
}

/* End of the hole that begins at OFFSET, cut at END; OFFSET itself when there is data. */
static uint64_t hole_end(const DroverReadBack *back, uint64_t offset, uint64_t end)
{
    if (!back->regular)
        return offset;
    off_t data = lseek(back->fd, (off_t)offset, SEEK_DATA);
    if (data < 0)
        return errno == ENXIO ? end : offset;
    return MIN((uint64_t)data, end);
}

/* End of the data that begins at OFFSET, up to the grid, cut at END. */
static uint64_t data_end(const DroverReadBack *back, uint64_t offset, uint64_t end)
{
    off_t hole = back->regular ? lseek(back->fd, (off_t)offset, SEEK_HOLE) : -1;
    if (hole < 0)
        return end;
    return MIN(end, ((uint64_t)hole + DROVER_LEAF_BYTES - 1) / DROVER_LEAF_BYTES * DROVER_LEAF_BYTES);
}

/* Digests the pieces of [offset, end), cut at the 64 KiB grid. */
static bool add_range(DroverReadBack *back, DroverCellDigest *digest, uint64_t offset, uint64_t end,
                      uint64_t *read_bytes, GError **error)
{
    forget_pages(back, offset, end - offset);
    while (offset < end) {
        uint64_t hole = hole_end(back, offset, end);
        /* Only whole pieces of the grid are holes; one that is half a hole is read. */
        uint64_t hole_pieces = hole >= end ? end : hole / DROVER_LEAF_BYTES * DROVER_LEAF_BYTES;
        if (hole_pieces > offset) {
            drover_cell_digest_add_zero(digest, offset, hole_pieces - offset);
            offset = hole_pieces;
            continue;
        }
        uint64_t stop = (offset / DROVER_LEAF_BYTES + BUFFER_BYTES / DROVER_LEAF_BYTES - 1) * DROVER_LEAF_BYTES;
        stop = MIN(stop, data_end(back, MAX(offset, hole), end));
        const uint8_t *data = NULL;
        if (!read_piece(back, offset, stop - offset, &data, error))
            return false;
        drover_cell_digest_add(digest, offset, data, stop - offset);
        *read_bytes += stop - offset;
        offset = stop;
    }
    return true;
}

bool drover_read_back_cell(DroverReadBack *back, DroverDigestAlgorithm algorithm, uint64_t cell, uint64_t capacity,
                           const DroverRange *ranges, size_t n_ranges, DroverDigest *root, uint64_t *read_bytes,
                           GError **error)
{
    uint64_t offset = cell * DROVER_CELL_BYTES;
    if (offset >= capacity)
        return drover_fail(error, DROVER_ERROR_PERMANENT, "Cell %" G_GUINT64_FORMAT " lies behind the end of the disk", cell);
    if (back->size < capacity)
        return drover_fail(error, DROVER_ERROR_PERMANENT,
                           "DRV-TARGET-TOO-SMALL: %s has %" G_GUINT64_FORMAT " bytes, the disk %" G_GUINT64_FORMAT, back->path,
                           back->size, capacity);
    uint64_t len = MIN(DROVER_CELL_BYTES, capacity - offset);
    for (size_t i = 0; i < n_ranges; i++) {
        bool inside = ranges[i].length > 0 && ranges[i].offset >= offset && ranges[i].length <= len &&
                      ranges[i].offset - offset <= len - ranges[i].length;
        bool sorted = i == 0 || ranges[i].offset > ranges[i - 1].offset + ranges[i - 1].length;
        if (!inside || !sorted)
            return drover_fail(error, DROVER_ERROR_PERMANENT, "Cell %" G_GUINT64_FORMAT ": malformed range list", cell);
    }
    const DroverRange whole = {offset, len};
    if (n_ranges == 0) {
        ranges = &whole;
        n_ranges = 1;
    }
    g_autoptr(DroverCellDigest) digest = drover_cell_digest_new(algorithm, offset, len, ranges, n_ranges);
    for (size_t i = 0; i < n_ranges; i++)
        if (!add_range(back, digest, ranges[i].offset, ranges[i].offset + ranges[i].length, read_bytes, error))
            return false;
    bool complete = drover_cell_digest_root(digest, root);
    g_assert(complete);
    return true;
}
