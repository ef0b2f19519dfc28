/* SPDX-License-Identifier: Apache-2.0 */
#include "worker/source/vhdx.h"

#include "lib/base/error.h"
#include "worker/source/bytes.h"

#define SIGNATURE "vhdxfile"
#define MIB (UINT64_C(1) << 20)
#define REGION_TABLE_1 (192u << 10)
#define REGION_TABLE_2 (256u << 10)
#define REGION_TABLE_BYTES (64u << 10)
#define MAX_REGIONS 2047u
#define METADATA_TABLE_BYTES (64u << 10)
#define MAX_METADATA 2047u
#define PAYLOAD_FULLY_PRESENT 6u
#define PAYLOAD_PARTIALLY_PRESENT 7u
#define FLAG_HAS_PARENT 2u
#define MAX_CAPACITY (UINT64_C(64) << 40) /* the format's limit */

/* GUIDs as they stand in the file. */
static const uint8_t guid_bat[16] = {0x66, 0x77, 0xc2, 0x2d, 0x23, 0xf6, 0x00, 0x42,
                                     0x9d, 0x64, 0x11, 0x5e, 0x9b, 0xfd, 0x4a, 0x08};
static const uint8_t guid_metadata[16] = {0x06, 0xa2, 0x7c, 0x8b, 0x90, 0x47, 0x9a, 0x4b,
                                          0xb8, 0xfe, 0x57, 0x5f, 0x05, 0x0f, 0x88, 0x6e};
static const uint8_t guid_file_parameters[16] = {0x37, 0x67, 0xa1, 0xca, 0x36, 0xfa, 0x43, 0x4d,
                                                 0xb3, 0xb6, 0x33, 0xf0, 0xaa, 0x44, 0xe7, 0x6b};
static const uint8_t guid_virtual_size[16] = {0x24, 0x42, 0xa5, 0x2f, 0x1b, 0xcd, 0x76, 0x48,
                                              0xb2, 0x11, 0x5d, 0xbe, 0xd8, 0x3b, 0xf4, 0xb8};
static const uint8_t guid_sector_size[16] = {0x1d, 0xbf, 0x41, 0x81, 0x6f, 0xa9, 0x09, 0x47,
                                             0xba, 0x47, 0xf2, 0x33, 0xa8, 0xfa, 0xab, 0x5f};

typedef struct {
    int fd;
    uint64_t file_size;
    uint64_t bat_offset, metadata_offset;
    uint32_t bat_bytes, metadata_bytes;
    uint32_t block_bytes, flags, sector_bytes;
    uint64_t capacity;
} Image;

static bool corrupt(GError **error, const char *what, uint64_t value)
{
    return drover_fail(error, DROVER_ERROR_PERMANENT,
                       "DRV-SOURCE-CORRUPT: the VHDX is damaged: %s is %" G_GUINT64_FORMAT
                       "; copy the image again from where it came from",
                       what, value);
}

bool drover_vhdx_probe(const uint8_t *head, size_t len)
{
    return len >= 8 && memcmp(head, SIGNATURE, 8) == 0;
}

static bool read_regions(Image *image, uint64_t at, GError **error)
{
    g_autofree uint8_t *table = g_malloc(REGION_TABLE_BYTES);
    if (!drover_image_read(image->fd, image->file_size, at, table, REGION_TABLE_BYTES, "the region table", error))
        return false;
    uint32_t count = le32_at(table + 8);
    if (memcmp(table, "regi", 4) != 0 || count > MAX_REGIONS)
        return corrupt(error, "the number of regions", count);
    for (uint32_t i = 0; i < count; i++) {
        const uint8_t *entry = table + 16 + (size_t)i * 32;
        if (memcmp(entry, guid_bat, 16) == 0) {
            image->bat_offset = le64_at(entry + 16);
            image->bat_bytes = le32_at(entry + 24);
        } else if (memcmp(entry, guid_metadata, 16) == 0) {
            image->metadata_offset = le64_at(entry + 16);
            image->metadata_bytes = le32_at(entry + 24);
        }
    }
    if (image->bat_bytes == 0 || image->metadata_bytes < METADATA_TABLE_BYTES)
        return corrupt(error, "the size of the metadata region", image->metadata_bytes);
    return true;
}

static bool read_item(Image *image, const uint8_t *entry, void *buf, size_t len, GError **error)
{
    uint32_t offset = le32_at(entry + 16);
    if (!inside(offset, len, image->metadata_bytes))
        return corrupt(error, "the offset of a metadata item", offset);
    return drover_image_read(image->fd, image->file_size, image->metadata_offset + offset, buf, len, "the metadata",
                             error);
}

static bool read_metadata(Image *image, GError **error)
{
    g_autofree uint8_t *table = g_malloc(METADATA_TABLE_BYTES);
    if (!inside(image->metadata_offset, image->metadata_bytes, image->file_size))
        return drover_image_truncated(error, "the metadata", image->metadata_offset, image->metadata_bytes,
                                      image->file_size);
    if (!drover_image_read(image->fd, image->file_size, image->metadata_offset, table, METADATA_TABLE_BYTES,
                           "the metadata", error))
        return false;
    uint16_t count = (uint16_t)(table[10] | table[11] << 8);
    if (memcmp(table, "metadata", 8) != 0 || count > MAX_METADATA)
        return corrupt(error, "the number of metadata items", count);
    uint8_t value[8];
    for (uint16_t i = 0; i < count; i++) {
        const uint8_t *entry = table + 32 + (size_t)i * 32;
        bool parameters = memcmp(entry, guid_file_parameters, 16) == 0;
        bool size = memcmp(entry, guid_virtual_size, 16) == 0;
        bool sector = memcmp(entry, guid_sector_size, 16) == 0;
        if (!parameters && !size && !sector)
            continue;
        if (!read_item(image, entry, value, sector ? 4 : 8, error))
            return false;
        if (parameters) {
            image->block_bytes = le32_at(value);
            image->flags = le32_at(value + 4);
        } else if (size) {
            image->capacity = le64_at(value);
        } else {
            image->sector_bytes = le32_at(value);
        }
    }
    return true;
}

static bool metadata_is_sane(const Image *image, GError **error)
{
    if ((image->flags & FLAG_HAS_PARENT) != 0)
        return drover_fail(
            error, DROVER_ERROR_PERMANENT,
            "DRV-SOURCE-EXTERNAL: the VHDX is a differencing disk that needs its parent; merge it first");
    if (image->block_bytes < MIB || image->block_bytes > 256 * MIB ||
        (image->block_bytes & (image->block_bytes - 1)) != 0)
        return corrupt(error, "the block size", image->block_bytes);
    if (image->sector_bytes != 512 && image->sector_bytes != 4096)
        return corrupt(error, "the sector size", image->sector_bytes);
    if (image->capacity == 0 || image->capacity > MAX_CAPACITY || image->capacity % image->sector_bytes != 0)
        return corrupt(error, "the capacity", image->capacity);
    return true;
}

/* Between the entries of payload blocks stands one for a sector bitmap, after every CHUNK of them. */
static bool check_blocks(const Image *image, GError **error)
{
    uint64_t blocks = (image->capacity + image->block_bytes - 1) / image->block_bytes;
    uint64_t chunk = (UINT64_C(1) << 23) * image->sector_bytes / image->block_bytes;
    uint64_t entries = blocks + (blocks - 1) / chunk;
    if (entries > image->bat_bytes / 8)
        return corrupt(error, "the size of the block table", image->bat_bytes);
    if (!inside(image->bat_offset, entries * 8, image->file_size))
        return drover_image_truncated(error, "the block table", image->bat_offset, entries * 8, image->file_size);
    g_autofree uint8_t *bat = g_try_malloc(entries * 8);
    if (bat == NULL)
        return drover_fail(error, DROVER_ERROR_RETRYABLE, "DRV-WORKER-MEMORY: no memory for the block table");
    if (!drover_image_read(image->fd, image->file_size, image->bat_offset, bat, entries * 8, "the block table", error))
        return false;
    for (uint64_t i = 0; i < blocks; i++) {
        uint64_t entry = le64_at(bat + (i + i / chunk) * 8);
        unsigned state = (unsigned)(entry & 7);
        uint64_t at = (entry >> 20) * MIB;
        if (state == PAYLOAD_PARTIALLY_PRESENT)
            return corrupt(error, "the state of a block", state);
        if (state == PAYLOAD_FULLY_PRESENT && !inside(at, image->block_bytes, image->file_size))
            return drover_image_truncated(error, "a block", at, image->block_bytes, image->file_size);
    }
    return true;
}

bool drover_vhdx_check(int fd, uint64_t file_size, uint64_t *capacity_bytes, GError **error)
{
    Image image = {.fd = fd, .file_size = file_size};
    uint8_t head[8];
    if (!drover_image_read(fd, file_size, 0, head, sizeof head, "the header", error))
        return false;
    if (!drover_vhdx_probe(head, sizeof head))
        return drover_fail(error, DROVER_ERROR_PERMANENT,
                           "DRV-SOURCE-FORMAT: this is not a VHDX: its first bytes say so");
    /* Everything in the file is made of whole MiB. */
    if (file_size < MIB || file_size % MIB != 0)
        return drover_image_truncated(error, "the last MiB", file_size / MIB * MIB, MIB, file_size);
    g_autoptr(GError) first = NULL;
    if (!read_regions(&image, REGION_TABLE_1, &first) && !read_regions(&image, REGION_TABLE_2, NULL)) {
        g_propagate_error(error, g_steal_pointer(&first));
        return false;
    }
    if (!read_metadata(&image, error) || !metadata_is_sane(&image, error) || !check_blocks(&image, error))
        return false;
    *capacity_bytes = image.capacity;
    return true;
}
