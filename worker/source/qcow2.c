/* SPDX-License-Identifier: Apache-2.0 */
#include "worker/source/qcow2.h"

#include "lib/base/error.h"
#include "worker/source/bytes.h"

#define MAGIC "QFI\xfb"
#define HEADER_V2 72u
#define HEADER_V3 104u
#define OFFSET_MASK UINT64_C(0x00fffffffffffe00)
#define L2_COMPRESSED (UINT64_C(1) << 62)
#define L2_ZERO UINT64_C(1)
#define INCOMPATIBLE_CORRUPT (UINT64_C(1) << 1)
#define INCOMPATIBLE_DATA_FILE (UINT64_C(1) << 2)
#define INCOMPATIBLE_EXTENDED_L2 (UINT64_C(1) << 4)
#define MAX_L1_BYTES (32u << 20)             /* QEMU's QCOW_MAX_L1_SIZE */
#define MAX_REFCOUNT_TABLE_BYTES (8u << 20)  /* QEMU's QCOW_MAX_REFTABLE_SIZE */
#define COMPRESSED_SECTOR 512u

typedef struct {
    uint32_t version;
    uint64_t backing_offset;
    uint32_t cluster_bits;
    uint64_t size;
    uint32_t crypt_method;
    uint32_t l1_entries;
    uint64_t l1_offset;
    uint64_t refcount_table_offset;
    uint32_t refcount_table_clusters;
    uint64_t incompatible;
} Header;

typedef struct {
    int fd;
    uint64_t file_size;
    Header header;
    uint64_t cluster_bytes;
    uint64_t clusters; /* of the guest's disk */
    size_t entry_bytes;
    uint64_t l2_entries;
    DroverQcow2Info *info;
    GCancellable *cancel;
} Walk;

bool drover_qcow2_probe(const uint8_t *head, size_t len)
{
    return len >= 4 && memcmp(head, MAGIC, 4) == 0;
}

static bool corrupt(GError **error, const char *what, uint64_t value)
{
    return drover_fail(error, DROVER_ERROR_PERMANENT,
                       "DRV-SOURCE-CORRUPT: the qcow2 image is damaged: %s is %" G_GUINT64_FORMAT
                       "; copy the image again, or repair it with qemu-img check -r all",
                       what, value);
}

static bool read_header(Walk *walk, GError **error)
{
    uint8_t raw[HEADER_V3] = {0};
    Header *h = &walk->header;
    if (!drover_image_read(walk->fd, walk->file_size, 0, raw, 8, "the header", error))
        return false;
    if (!drover_qcow2_probe(raw, 4))
        return drover_fail(error, DROVER_ERROR_PERMANENT,
                           "DRV-SOURCE-FORMAT: this is not a qcow2 image: its first bytes say so");
    h->version = be32_at(raw + 4);
    if (h->version != 2 && h->version != 3)
        return drover_fail(
            error, DROVER_ERROR_PERMANENT,
            "DRV-SOURCE-FORMAT: qcow version %u is not supported; convert the image with qemu-img convert -O qcow2",
            h->version);
    size_t len = h->version == 2 ? HEADER_V2 : HEADER_V3;
    if (!drover_image_read(walk->fd, walk->file_size, 0, raw, len, "the header", error))
        return false;
    h->backing_offset = be64_at(raw + 8);
    h->cluster_bits = be32_at(raw + 20);
    h->size = be64_at(raw + 24);
    h->crypt_method = be32_at(raw + 32);
    h->l1_entries = be32_at(raw + 36);
    h->l1_offset = be64_at(raw + 40);
    h->refcount_table_offset = be64_at(raw + 48);
    h->refcount_table_clusters = be32_at(raw + 56);
    h->incompatible = h->version == 2 ? 0 : be64_at(raw + 72);
    return true;
}

static bool header_is_sane(Walk *walk, GError **error)
{
    const Header *h = &walk->header;
    if (h->backing_offset != 0)
        return drover_fail(error, DROVER_ERROR_PERMANENT,
                           "DRV-SOURCE-EXTERNAL: the qcow2 image needs a backing file; flatten it first "
                           "(qemu-img convert -O qcow2)");
    if ((h->incompatible & INCOMPATIBLE_DATA_FILE) != 0)
        return drover_fail(
            error, DROVER_ERROR_PERMANENT,
            "DRV-SOURCE-EXTERNAL: the qcow2 image keeps its data in another file; convert it to a single "
            "file (qemu-img convert -O qcow2)");
    if (h->crypt_method != 0)
        return drover_fail(error, DROVER_ERROR_PERMANENT,
                           "DRV-SOURCE-ENCRYPTED: the qcow2 image is encrypted; decrypt it first");
    if ((h->incompatible & INCOMPATIBLE_CORRUPT) != 0)
        return drover_fail(error, DROVER_ERROR_PERMANENT,
                           "DRV-SOURCE-CORRUPT: QEMU has marked the qcow2 image as corrupt; repair it with qemu-img "
                           "check -r all");
    if (h->cluster_bits < 9 || h->cluster_bits > 21)
        return corrupt(error, "the cluster size's exponent", h->cluster_bits);
    if (h->size > UINT64_C(1) << 60)
        return corrupt(error, "the size", h->size);
    walk->cluster_bytes = UINT64_C(1) << h->cluster_bits;
    walk->clusters = (h->size + walk->cluster_bytes - 1) >> h->cluster_bits;
    walk->entry_bytes = (h->incompatible & INCOMPATIBLE_EXTENDED_L2) != 0 ? 16 : 8;
    walk->l2_entries = walk->cluster_bytes / walk->entry_bytes;
    if ((uint64_t)h->l1_entries * 8 > MAX_L1_BYTES)
        return corrupt(error, "the number of L1 entries", h->l1_entries);
    if (h->l1_entries < (walk->clusters + walk->l2_entries - 1) / walk->l2_entries)
        return corrupt(error, "the number of L1 entries", h->l1_entries);
    if (h->refcount_table_clusters > MAX_REFCOUNT_TABLE_BYTES >> h->cluster_bits)
        return corrupt(error, "the size of the refcount table in clusters", h->refcount_table_clusters);
    return true;
}

/* Every refcount block, which QEMU writes whole, must be there: it may be what the file's tail held. */
static bool refcounts_are_whole(Walk *walk, GError **error)
{
    uint64_t len = (uint64_t)walk->header.refcount_table_clusters << walk->header.cluster_bits;
    g_autofree uint8_t *table = g_malloc(MAX(len, 1));
    if (!drover_image_read(walk->fd, walk->file_size, walk->header.refcount_table_offset, table, len,
                           "the refcount table", error))
        return false;
    for (uint64_t i = 0; i < len; i += 8) {
        uint64_t block = be64_at(table + i) & OFFSET_MASK;
        if (block != 0 && !inside(block, walk->cluster_bytes, walk->file_size))
            return drover_image_truncated(error, "a refcount block", block, walk->cluster_bytes, walk->file_size);
    }
    return true;
}

static bool compressed_is_whole(Walk *walk, uint64_t entry, GError **error)
{
    unsigned shift = 62 - (walk->header.cluster_bits - 8);
    uint64_t offset = entry & ((UINT64_C(1) << shift) - 1);
    uint64_t sectors = (entry & (L2_COMPRESSED - 1)) >> shift;
    uint64_t len = (sectors + 1) * COMPRESSED_SECTOR - (offset & (COMPRESSED_SECTOR - 1));
    return inside(offset, len, walk->file_size) ||
           drover_image_truncated(error, "a compressed cluster", offset, len, walk->file_size);
}

/* Bytes of the cluster up to the last subcluster that holds data; 0: none does. */
static uint64_t extended_data_end(const Walk *walk, uint64_t bitmap)
{
    uint32_t allocated = (uint32_t)bitmap;
    if (allocated == 0)
        return 0;
    unsigned last = 31 - (unsigned)__builtin_clz(allocated);
    return walk->cluster_bytes / 32 * (last + 1);
}

static bool cluster_is_whole(Walk *walk, uint64_t cluster, const uint8_t *raw, GError **error)
{
    uint64_t entry = be64_at(raw);
    if ((entry & L2_COMPRESSED) != 0) {
        walk->info->allocated_clusters++;
        return compressed_is_whole(walk, entry, error);
    }
    uint64_t offset = entry & OFFSET_MASK;
    uint64_t len = walk->cluster_bytes;
    if (walk->entry_bytes == 16)
        len = extended_data_end(walk, be64_at(raw + 8));
    else if ((entry & L2_ZERO) != 0 && walk->header.version >= 3)
        len = 0;
    if (offset == 0 || len == 0)
        return true;
    walk->info->allocated_clusters++;
    len = MIN(len, walk->header.size - (cluster << walk->header.cluster_bits));
    return inside(offset, len, walk->file_size) ||
           drover_image_truncated(error, "a cluster", offset, len, walk->file_size);
}

static bool walk_tables(Walk *walk, GError **error)
{
    size_t len = (size_t)walk->header.l1_entries * 8;
    g_autofree uint8_t *l1 = g_malloc(MAX(len, 1));
    if (!drover_image_read(walk->fd, walk->file_size, walk->header.l1_offset, l1, len, "the L1 table", error))
        return false;
    g_autofree uint8_t *l2 = g_malloc(walk->cluster_bytes);
    for (uint64_t i = 0; i < walk->header.l1_entries; i++) {
        uint64_t offset = be64_at(l1 + i * 8) & OFFSET_MASK;
        if (offset == 0)
            continue;
        if (!drover_image_read(walk->fd, walk->file_size, offset, l2, walk->cluster_bytes, "an L2 table", error))
            return false;
        uint64_t first = i * walk->l2_entries;
        for (uint64_t j = 0; j < walk->l2_entries && first + j < walk->clusters; j++)
            if (!cluster_is_whole(walk, first + j, l2 + j * walk->entry_bytes, error))
                return false;
        if (g_cancellable_set_error_if_cancelled(walk->cancel, error))
            return false;
    }
    return true;
}

bool drover_qcow2_check(int fd, uint64_t file_size, DroverQcow2Info *info, GCancellable *cancel, GError **error)
{
    DroverQcow2Info found = {0};
    Walk walk = {.fd = fd, .file_size = file_size, .info = &found, .cancel = cancel};
    if (!read_header(&walk, error) || !header_is_sane(&walk, error) || !walk_tables(&walk, error) ||
        !refcounts_are_whole(&walk, error))
        return false;
    found.capacity_bytes = walk.header.size;
    found.cluster_bytes = walk.cluster_bytes;
    *info = found;
    return true;
}
