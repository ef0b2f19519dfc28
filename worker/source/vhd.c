/* SPDX-License-Identifier: Apache-2.0 */
#include "worker/source/vhd.h"

#include "lib/base/error.h"
#include "worker/source/bytes.h"

#define SECTOR 512u
#define COOKIE "conectix"
#define DYNAMIC_COOKIE "cxsparse"
#define DYNAMIC_HEADER_BYTES 1024u
#define UNUSED_BLOCK UINT32_MAX
#define MAX_BAT_ENTRIES (4u << 20) /* 2 TiB, the format's limit, in blocks of 512 KiB */
enum { TYPE_FIXED = 2, TYPE_DYNAMIC = 3, TYPE_DIFFERENCING = 4 };

static bool corrupt(GError **error, const char *what, uint64_t value)
{
    return drover_fail(error, DROVER_ERROR_PERMANENT,
                       "DRV-SOURCE-CORRUPT: the VHD is damaged: %s is %" G_GUINT64_FORMAT
                       "; copy the image again from where it came from",
                       what, value);
}

bool drover_vhd_probe(const uint8_t *head, size_t len)
{
    return len >= 8 && memcmp(head, COOKIE, 8) == 0;
}

bool drover_vhd_probe_tail(int fd, uint64_t file_size)
{
    uint8_t tail[8];
    return file_size >= 2 * SECTOR && file_size % SECTOR == 0 &&
           drover_image_read(fd, file_size, file_size - SECTOR, tail, sizeof tail, "the footer", NULL) &&
           memcmp(tail, COOKIE, 8) == 0;
}

static bool check_blocks(int fd, uint64_t file_size, uint64_t header_at, uint64_t disk_size, GError **error)
{
    uint8_t header[DYNAMIC_HEADER_BYTES];
    if (!drover_image_read(fd, file_size, header_at, header, sizeof header, "the dynamic header", error))
        return false;
    if (memcmp(header, DYNAMIC_COOKIE, 8) != 0)
        return drover_fail(error, DROVER_ERROR_PERMANENT, "DRV-SOURCE-CORRUPT: the VHD's dynamic header is missing");
    uint64_t bat_at = be64_at(header + 16);
    uint32_t entries = be32_at(header + 28), block = be32_at(header + 32);
    if (block < SECTOR || (block & (block - 1)) != 0)
        return corrupt(error, "the block size", block);
    if (entries > MAX_BAT_ENTRIES || entries < (disk_size + block - 1) / block)
        return corrupt(error, "the number of blocks", entries);
    g_autofree uint8_t *bat = g_malloc((size_t)entries * 4 + 1);
    if (!drover_image_read(fd, file_size, bat_at, bat, (size_t)entries * 4, "the block table", error))
        return false;
    uint64_t bitmap = ((uint64_t)block / SECTOR / 8 + SECTOR - 1) / SECTOR * SECTOR;
    for (uint32_t i = 0; i < entries; i++) {
        uint32_t sector = be32_at(bat + (size_t)i * 4);
        if (sector == UNUSED_BLOCK)
            continue;
        uint64_t at = (uint64_t)sector * SECTOR;
        if (!inside(at, bitmap + block, file_size - SECTOR))
            return drover_image_truncated(error, "a block", at, bitmap + block, file_size - SECTOR);
    }
    return true;
}

bool drover_vhd_check(int fd, uint64_t file_size, uint64_t *capacity_bytes, GError **error)
{
    uint8_t footer[SECTOR];
    if (file_size < 2 * SECTOR || file_size % SECTOR != 0)
        return drover_image_truncated(error, "the footer", file_size / SECTOR * SECTOR, SECTOR, file_size);
    if (!drover_image_read(fd, file_size, file_size - SECTOR, footer, sizeof footer, "the footer", error))
        return false;
    if (memcmp(footer, COOKIE, 8) != 0)
        return drover_fail(
            error, DROVER_ERROR_PERMANENT,
            "DRV-SOURCE-TRUNCATED: the image is cut off: the VHD has no footer at its end (byte %" G_GUINT64_FORMAT
            "); copy the image again from where it came from",
            file_size);
    uint64_t header_at = be64_at(footer + 16), disk_size = be64_at(footer + 48);
    *capacity_bytes = disk_size;
    switch (be32_at(footer + 60)) {
    case TYPE_FIXED:
        return disk_size <= file_size - SECTOR ||
               drover_image_truncated(error, "the data", 0, disk_size, file_size - SECTOR);
    case TYPE_DYNAMIC:
        return check_blocks(fd, file_size, header_at, disk_size, error);
    case TYPE_DIFFERENCING:
        return drover_fail(error, DROVER_ERROR_PERMANENT,
                           "DRV-SOURCE-EXTERNAL: the VHD is a differencing disk that needs its parent; merge it first");
    default:
        return corrupt(error, "the type", be32_at(footer + 60));
    }
}
