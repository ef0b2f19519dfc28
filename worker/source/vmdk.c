/* SPDX-License-Identifier: Apache-2.0 */
#include "worker/source/vmdk.h"

#include "lib/base/error.h"
#include "worker/source/bytes.h"

#define SECTOR 512u
#define GD_AT_END UINT64_MAX
#define FLAG_COMPRESSED (1u << 16)
#define FLAG_MARKERS (1u << 17)
#define MARKER_FOOTER 3u
#define GRAIN_MARKER_BYTES 12u
#define MAX_GTES 512u                    /* the format's fixed value; smaller ones are legal for QEMU */
#define MAX_GRAIN_SECTORS 0x200000u      /* 1 GiB; QEMU's own limit */
#define MAX_GD_ENTRIES (64u << 20)       /* 256 MiB of directory: 2^26 tables of 32 MiB are 2 PiB */
#define DESCRIPTOR_MAX (1u << 20)
#define DESCRIPTOR_QEMU_READS (20u * SECTOR) /* where QEMU looks for a parent, whatever the header says */

typedef struct {
    uint32_t version;
    uint32_t flags;
    uint64_t capacity;    /* sectors */
    uint64_t grain_size;  /* sectors */
    uint64_t desc_offset; /* sectors */
    uint64_t desc_size;   /* sectors */
    uint32_t gtes;        /* entries a grain table */
    uint64_t gd_offset;   /* sectors */
    uint16_t compression;
} Header;

typedef struct {
    int fd;
    uint64_t file_size;
    uint64_t data_end; /* grains must end here: the footer, or the end of the file */
    Header header;
    DroverVmdkInfo *info;
    GCancellable *cancel;
} Walk;

static bool corrupt(GError **error, const char *what, uint64_t value)
{
    return drover_fail(error, DROVER_ERROR_PERMANENT,
                       "DRV-SOURCE-CORRUPT: the VMDK is damaged: %s is %" G_GUINT64_FORMAT
                       "; copy the image again from where it came from",
                       what, value);
}

bool drover_vmdk_probe(const uint8_t *head, size_t len)
{
    static const char text[] = "# Disk DescriptorFile";
    return (len >= 4 && (memcmp(head, "KDMV", 4) == 0 || memcmp(head, "COWD", 4) == 0)) ||
           (len >= sizeof text - 1 && memcmp(head, text, sizeof text - 1) == 0);
}

static void parse_header(const uint8_t *raw, Header *h)
{
    h->version = le32_at(raw + 4);
    h->flags = le32_at(raw + 8);
    h->capacity = le64_at(raw + 12);
    h->grain_size = le64_at(raw + 20);
    h->desc_offset = le64_at(raw + 28);
    h->desc_size = le64_at(raw + 36);
    h->gtes = le32_at(raw + 44);
    h->gd_offset = le64_at(raw + 56);
    h->compression = (uint16_t)(raw[77] | raw[78] << 8);
}

static bool header_is_sane(const Header *h, GError **error)
{
    /* With a capacity of 0 QEMU follows the embedded descriptor to any file it names. */
    if (h->capacity == 0)
        return drover_fail(error, DROVER_ERROR_PERMANENT,
                           "DRV-SOURCE-EXTERNAL: the VMDK keeps its data in other files; convert it to a single file "
                           "(qemu-img convert -O vmdk, or export it as OVA)");
    if (h->version < 1 || h->version > 3)
        return corrupt(error, "the version", h->version);
    if (h->capacity > UINT64_MAX / SECTOR / 2)
        return corrupt(error, "the capacity in sectors", h->capacity);
    if (h->grain_size < 8 || h->grain_size > MAX_GRAIN_SECTORS || (h->grain_size & (h->grain_size - 1)) != 0)
        return corrupt(error, "the grain size in sectors", h->grain_size);
    if (h->gtes == 0 || h->gtes > MAX_GTES)
        return corrupt(error, "the number of entries of a grain table", h->gtes);
    bool compressed = (h->flags & FLAG_COMPRESSED) != 0;
    if (compressed != ((h->flags & FLAG_MARKERS) != 0) || (compressed && h->compression != 1))
        return corrupt(error, "the compression algorithm", h->compression);
    return true;
}

/* The footer repeats the header with the true grain directory; behind it stands the end-of-stream marker. */
static bool read_footer(Walk *walk, GError **error)
{
    uint8_t tail[3 * SECTOR];
    if (walk->file_size < sizeof tail + SECTOR)
        return drover_image_truncated(error, "the footer", walk->file_size, sizeof tail, walk->file_size);
    uint64_t at = walk->file_size - sizeof tail;
    if (!drover_image_read(walk->fd, walk->file_size, at, tail, sizeof tail, "the footer", error))
        return false;
    const uint8_t *marker = tail, *footer = tail + SECTOR, *end = tail + 2 * SECTOR;
    if (le64_at(marker) != 1 || le32_at(marker + 8) != 0 || le32_at(marker + 12) != MARKER_FOOTER ||
        memcmp(footer, "KDMV", 4) != 0 || le64_at(end) != 0 || le32_at(end + 8) != 0 || le32_at(end + 12) != 0)
        return drover_fail(error, DROVER_ERROR_PERMANENT,
                           "DRV-SOURCE-TRUNCATED: the image is cut off: the stream-optimised VMDK has no footer and "
                           "end-of-stream marker at its end (byte %" G_GUINT64_FORMAT
                           "); copy the image again from where it came from",
                           walk->file_size);
    Header found;
    parse_header(footer, &found);
    if (found.capacity != walk->header.capacity || found.grain_size != walk->header.grain_size ||
        found.gtes != walk->header.gtes || found.flags != walk->header.flags || found.gd_offset == GD_AT_END)
        return corrupt(error, "the footer's capacity in sectors", found.capacity);
    walk->header.gd_offset = found.gd_offset;
    walk->data_end = at;
    walk->info->footer = true;
    return true;
}

static bool descriptor_stands_alone(Walk *walk, GError **error)
{
    if (walk->header.desc_offset == 0)
        return true;
    if (walk->header.desc_offset > walk->file_size / SECTOR)
        return drover_image_truncated(error, "the descriptor", walk->file_size, SECTOR, walk->file_size);
    uint64_t at = walk->header.desc_offset * SECTOR;
    if (walk->header.desc_size > DESCRIPTOR_MAX / SECTOR)
        return corrupt(error, "the size of the descriptor in sectors", walk->header.desc_size);
    uint64_t declared = walk->header.desc_size * SECTOR;
    if (!inside(at, declared, walk->file_size))
        return drover_image_truncated(error, "the descriptor", at, declared, walk->file_size);
    uint64_t len = MIN(MAX(declared, DESCRIPTOR_QEMU_READS), walk->file_size - at);
    g_autofree char *text = g_malloc0(len + 1);
    if (!drover_image_read(walk->fd, walk->file_size, at, text, len, "the descriptor", error))
        return false;
    if (strstr(text, "parentFileNameHint") != NULL)
        return drover_fail(error, DROVER_ERROR_PERMANENT,
                           "DRV-SOURCE-EXTERNAL: the VMDK is a snapshot that needs its parent disk; consolidate the "
                           "snapshots, or export the VM, and migrate the whole disk");
    return true;
}

static uint64_t guest_bytes_of_grain(const Walk *walk, uint64_t grain)
{
    uint64_t first = grain * walk->header.grain_size;
    return MIN(walk->header.grain_size, walk->header.capacity - first) * SECTOR;
}

static bool grain_is_whole(Walk *walk, uint64_t grain, uint32_t sector, GError **error)
{
    uint64_t at = (uint64_t)sector * SECTOR;
    if (!walk->info->compressed) {
        uint64_t len = guest_bytes_of_grain(walk, grain);
        return inside(at, len, walk->data_end) || drover_image_truncated(error, "a grain", at, len, walk->data_end);
    }
    uint8_t marker[GRAIN_MARKER_BYTES];
    if (!drover_image_read(walk->fd, walk->data_end, at, marker, sizeof marker, "the marker of a grain", error))
        return false;
    uint64_t lba = le64_at(marker);
    uint32_t size = le32_at(marker + 8);
    if (lba != grain * walk->header.grain_size)
        return corrupt(error, "the sector number in the marker of a grain", lba);
    if (size == 0 || size > 2 * walk->info->grain_bytes + SECTOR)
        return corrupt(error, "the size in the marker of a grain", size);
    uint64_t padded = ((uint64_t)sizeof marker + size + SECTOR - 1) / SECTOR * SECTOR;
    return inside(at, padded, walk->data_end) ||
           drover_image_truncated(error, "a compressed grain", at, padded, walk->data_end);
}

static bool walk_table(Walk *walk, uint64_t table_index, uint32_t table_sector, uint64_t grains, GError **error)
{
    uint8_t table[MAX_GTES * 4];
    uint64_t at = (uint64_t)table_sector * SECTOR;
    if (!drover_image_read(walk->fd, walk->file_size, at, table, (size_t)walk->header.gtes * 4, "a grain table", error))
        return false;
    uint64_t first = table_index * walk->header.gtes;
    for (uint64_t i = 0; i < walk->header.gtes && first + i < grains; i++) {
        uint32_t sector = le32_at(table + i * 4);
        /* 1 stands for "reads as zero" where the header allows it; QEMU takes it so in any case. */
        if (sector <= 1)
            continue;
        walk->info->allocated_grains++;
        if (!grain_is_whole(walk, first + i, sector, error))
            return false;
    }
    return !g_cancellable_set_error_if_cancelled(walk->cancel, error);
}

static bool walk_directory(Walk *walk, GError **error)
{
    const Header *h = &walk->header;
    uint64_t grains = (h->capacity + h->grain_size - 1) / h->grain_size;
    uint64_t tables = (grains + h->gtes - 1) / h->gtes;
    if (tables > MAX_GD_ENTRIES)
        return corrupt(error, "the number of grain tables", tables);
    if (h->gd_offset > walk->file_size / SECTOR || !inside(h->gd_offset * SECTOR, tables * 4, walk->file_size))
        return drover_image_truncated(error, "the grain directory",
                                      h->gd_offset > walk->file_size / SECTOR ? walk->file_size : h->gd_offset * SECTOR,
                                      tables * 4, walk->file_size);
    g_autofree uint8_t *directory = g_try_malloc(tables * 4);
    if (directory == NULL)
        return drover_fail(error, DROVER_ERROR_RETRYABLE, "DRV-WORKER-MEMORY: no memory for the grain directory");
    if (!drover_image_read(walk->fd, walk->file_size, h->gd_offset * SECTOR, directory, tables * 4,
                           "the grain directory", error))
        return false;
    for (uint64_t i = 0; i < tables; i++) {
        uint32_t sector = le32_at(directory + i * 4);
        if (sector != 0 && !walk_table(walk, i, sector, grains, error))
            return false;
    }
    return true;
}

static bool refuse_other_kinds(const uint8_t *magic, GError **error)
{
    if (memcmp(magic, "COWD", 4) == 0)
        return drover_fail(error, DROVER_ERROR_PERMANENT,
                           "DRV-SOURCE-FORMAT: this VMDK is an ESXi redo log (COWD), not a whole disk; consolidate the "
                           "snapshots, or export the VM");
    if (memcmp(magic, "# Di", 4) == 0)
        return drover_fail(error, DROVER_ERROR_PERMANENT,
                           "DRV-SOURCE-EXTERNAL: this VMDK is a descriptor that only names other files; give the "
                           "\"-flat.vmdk\" file itself with format raw, or convert the disk to a single file");
    return drover_fail(error, DROVER_ERROR_PERMANENT, "DRV-SOURCE-FORMAT: this is not a VMDK: its first bytes say so");
}

bool drover_vmdk_check(int fd, uint64_t file_size, DroverVmdkInfo *info, GCancellable *cancel, GError **error)
{
    uint8_t raw[SECTOR] = {0};
    DroverVmdkInfo found = {0};
    Walk walk = {.fd = fd, .file_size = file_size, .data_end = file_size, .info = &found, .cancel = cancel};
    if (!drover_image_read(fd, file_size, 0, raw, MIN(sizeof raw, MAX(file_size, 4)), "the header", error))
        return false;
    if (memcmp(raw, "KDMV", 4) != 0)
        return refuse_other_kinds(raw, error);
    if (file_size < SECTOR)
        return drover_image_truncated(error, "the header", 0, SECTOR, file_size);
    parse_header(raw, &walk.header);
    if (!header_is_sane(&walk.header, error) || !descriptor_stands_alone(&walk, error))
        return false;
    /* Everything in such a file is made of sectors. */
    if (file_size % SECTOR != 0)
        return drover_image_truncated(error, "the last sector", file_size / SECTOR * SECTOR, SECTOR, file_size);
    found.compressed = (walk.header.flags & FLAG_COMPRESSED) != 0;
    found.capacity_bytes = walk.header.capacity * SECTOR;
    found.grain_bytes = walk.header.grain_size * SECTOR;
    if (walk.header.gd_offset == GD_AT_END && !read_footer(&walk, error))
        return false;
    if (!walk_directory(&walk, error))
        return false;
    *info = found;
    return true;
}
