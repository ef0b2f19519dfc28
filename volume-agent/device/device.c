/* SPDX-License-Identifier: Apache-2.0 */
#include "volume-agent/device/device.h"

#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "lib/base/error.h"

#define SERIAL_LEN 20 /* VIRTIO_BLK_ID_BYTES */
#define SECTOR_BYTES 512
#define POLL_US 20000

void drover_device_clear(DroverDevice *device)
{
    g_clear_pointer(&device->path, g_free);
    g_clear_pointer(&device->serial, g_free);
}

char *drover_device_serial(const char *volume_id)
{
    GString *serial = g_string_new(NULL);
    for (const char *p = volume_id; *p && serial->len < SERIAL_LEN; p++)
        if (g_ascii_isxdigit(*p))
            g_string_append_c(serial, g_ascii_tolower(*p));
    return g_string_free(serial, FALSE);
}

/* VPD page 0x80: a header of four bytes, the last two the length of the serial that follows. */
static char *parse_vpd_serial(const char *page, gsize len)
{
    if (len < 4 || (guchar)page[1] != 0x80)
        return NULL;
    gsize serial_len = (gsize)(((guchar)page[2] << 8) | (guchar)page[3]);
    return g_strstrip(g_strndup(page + 4, MIN(serial_len, len - 4)));
}

/* Serial of one disk, or NULL when it says none. */
static char *read_serial(const char *disk)
{
    g_autofree char *virtio = g_build_filename(disk, "serial", NULL);
    g_autofree char *scsi = g_build_filename(disk, "device", "vpd_pg80", NULL);
    char *text = NULL;
    gsize len = 0;
    if (g_file_get_contents(virtio, &text, &len, NULL))
        return g_strstrip(text);
    if (!g_file_get_contents(scsi, &text, &len, NULL))
        return NULL;
    g_autofree char *page = text;
    return parse_vpd_serial(page, len);
}

static bool has_holders(const char *disk)
{
    g_autofree char *holders = g_build_filename(disk, "holders", NULL);
    g_autoptr(GDir) dir = g_dir_open(holders, 0, NULL);
    return dir && g_dir_read_name(dir);
}

/* A file system of this process's mount namespace, or what it sees as the root (which is not listed in a chroot), lies on the
 * device whose "dev" file (MAJOR:MINOR) is in DIRECTORY. Where mounts cannot be read, nothing may be called free. */
static bool is_mounted(const char *directory)
{
    g_autofree char *path = g_build_filename(directory, "dev", NULL);
    g_autofree char *number = NULL, *mounts = NULL;
    if (!g_file_get_contents(path, &number, NULL, NULL))
        return false;
    g_strstrip(number);
    struct stat root;
    if (stat("/", &root) != 0 || !g_file_get_contents("/proc/self/mountinfo", &mounts, NULL, NULL))
        return true;
    g_autofree char *root_number = g_strdup_printf("%u:%u", major(root.st_dev), minor(root.st_dev));
    if (strcmp(number, root_number) == 0)
        return true;
    g_auto(GStrv) lines = g_strsplit(mounts, "\n", -1);
    for (char **line = lines; *line; line++) {
        g_auto(GStrv) fields = g_strsplit(*line, " ", 4); /* mount id, parent id, major:minor, ... */
        if (g_strv_length(fields) == 4 && strcmp(fields[2], number) == 0)
            return true;
    }
    return false;
}

/* The disk or one of its partitions (directories of sysfs that hold a file "partition") serves the appliance itself. */
static bool is_in_use(const char *disk)
{
    if (has_holders(disk) || is_mounted(disk))
        return true;
    g_autoptr(GDir) dir = g_dir_open(disk, 0, NULL);
    for (const char *name; dir && (name = g_dir_read_name(dir));) {
        g_autofree char *part = g_build_filename(disk, name, NULL);
        g_autofree char *mark = g_build_filename(part, "partition", NULL);
        if (g_file_test(mark, G_FILE_TEST_EXISTS) && (has_holders(part) || is_mounted(part)))
            return true;
    }
    return false;
}

static bool describe(const DroverDeviceRoots *roots, const char *disk, const char *name, const char *serial,
                     DroverDevice *device, GError **error)
{
    g_autofree char *size_path = g_build_filename(disk, "size", NULL);
    g_autofree char *sectors = NULL;
    if (!g_file_get_contents(size_path, &sectors, NULL, error)) {
        (*error)->domain = DROVER_ERROR;
        (*error)->code = DROVER_ERROR_RETRYABLE; /* it may be on its way out */
        return false;
    }
    if (is_in_use(disk))
        return drover_fail(error, DROVER_ERROR_PERMANENT,
                           "DRV-DEVICE-BUSY: %s is mounted or held on the appliance (see %s/holders): it must not touch guest "
                           "disks; exclude them from LVM, md, multipath and automount", name, disk);
    device->path = g_build_filename(roots->dev_root, name, NULL);
    device->serial = g_strdup(serial);
    device->size_bytes = g_ascii_strtoull(sectors, NULL, 10) * SECTOR_BYTES;
    return true;
}

bool drover_device_find(const DroverDeviceRoots *roots, const char *volume_id, DroverDevice *device, GError **error)
{
    g_autofree char *block = g_build_filename(roots->sysfs_root, "block", NULL);
    g_autofree char *wanted = drover_device_serial(volume_id);
    g_autofree char *found = NULL;
    g_autoptr(GError) why = NULL;
    g_autoptr(GDir) dir = g_dir_open(block, 0, &why);
    if (!dir)
        return drover_fail(error, DROVER_ERROR_RETRYABLE, "Block devices cannot be listed: %s", why->message);
    if (strlen(wanted) < SERIAL_LEN)
        return drover_fail(error, DROVER_ERROR_PERMANENT, "'%s' is no id of a volume", volume_id);
    for (const char *name; (name = g_dir_read_name(dir));) {
        g_autofree char *disk = g_build_filename(block, name, NULL);
        g_autofree char *serial = read_serial(disk);
        if (g_strcmp0(serial, wanted) != 0)
            continue;
        if (found)
            return drover_fail(error, DROVER_ERROR_PERMANENT, "%s and %s both have serial %s: which one is volume %s?",
                               found, name, wanted, volume_id);
        found = g_strdup(name);
    }
    if (!found)
        return false;
    g_autofree char *disk = g_build_filename(block, found, NULL);
    GError *failure = NULL;
    if (describe(roots, disk, found, wanted, device, &failure))
        return true;
    g_propagate_error(error, failure);
    return false;
}

unsigned drover_device_count(const DroverDeviceRoots *roots)
{
    g_autofree char *block = g_build_filename(roots->sysfs_root, "block", NULL);
    g_autoptr(GDir) dir = g_dir_open(block, 0, NULL);
    unsigned n = 0;
    for (const char *name; dir && (name = g_dir_read_name(dir));) {
        g_autofree char *disk = g_build_filename(block, name, NULL);
        g_autofree char *serial = read_serial(disk);
        n += serial && *serial;
    }
    return n;
}

bool drover_device_wait(const DroverDeviceRoots *roots, const char *volume_id, uint64_t minimum_size,
                        int64_t timeout_ms, bool (*cancelled)(void), DroverDevice *device, GError **error)
{
    gint64 deadline = g_get_monotonic_time() + timeout_ms * 1000;
    for (;;) {
        g_autoptr(GError) why = NULL;
        g_auto(DroverDevice) found = {0};
        if (drover_device_find(roots, volume_id, &found, &why)) {
            bool present = g_file_test(found.path, G_FILE_TEST_EXISTS); /* udev may be behind the kernel */
            if (present && found.size_bytes < minimum_size)
                return drover_fail(error, DROVER_ERROR_PERMANENT,
                                   "DRV-TARGET-TOO-SMALL: %s (volume %s) has %" G_GUINT64_FORMAT " bytes, %" G_GUINT64_FORMAT
                                   " are needed", found.path, volume_id, found.size_bytes, minimum_size);
            if (present) {
                *device = found;
                found = (DroverDevice){0};
                return true;
            }
        }
        if (why && drover_error_class(why) == DROVER_ERROR_PERMANENT) {
            g_propagate_error(error, g_steal_pointer(&why));
            return false;
        }
        if (g_get_monotonic_time() >= deadline || (cancelled && cancelled()))
            return drover_fail(error, DROVER_ERROR_RETRYABLE,
                               "DRV-DEVICE-MISSING: volume %s is attached, but no device with its serial has appeared within %"
                               G_GINT64_FORMAT " s%s%s", volume_id, timeout_ms / 1000, why ? ": " : "", why ? why->message : "");
        g_usleep(POLL_US);
    }
}
