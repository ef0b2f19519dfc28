/* SPDX-License-Identifier: Apache-2.0 */
#include "volume-agent/device/device.h"

#include <string.h>

#include "lib/base/error.h"
#include "volume-agent/device/hotplug.h"
#include "volume-agent/device/in_use.h"
#include "volume-agent/device/serial.h"

#define SECTOR_BYTES 512

void drover_device_clear(DroverDevice *device)
{
    g_clear_pointer(&device->path, g_free);
    g_clear_pointer(&device->serial, g_free);
}

char *drover_device_serial(const char *volume_id)
{
    char serial[DROVER_VOLUME_SERIAL_LEN + 1];
    drover_volume_serial(volume_id, serial);
    return g_strdup(serial);
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
    g_autofree char *use = drover_device_in_use(roots->sysfs_root, name);
    if (use)
        return drover_fail(error, DROVER_ERROR_PERMANENT,
                           "DRV-DEVICE-BUSY: %s (serial %s) %s on the appliance, which must not touch guests' disks: release it, and "
                           "run deploy/appliance/protect.sh (docs/appliance.md)", name, serial, use);
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
    if (strlen(wanted) < DROVER_VOLUME_SERIAL_LEN)
        return drover_fail(error, DROVER_ERROR_PERMANENT, "'%s' is no id of a volume", volume_id);
    for (const char *name; (name = g_dir_read_name(dir));) {
        g_autofree char *disk = g_build_filename(block, name, NULL);
        char serial[DROVER_DISK_SERIAL_MAX + 1];
        if (!drover_disk_serial(disk, serial) || strcmp(serial, wanted) != 0)
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
        char serial[DROVER_DISK_SERIAL_MAX + 1];
        n += drover_disk_serial(disk, serial);
    }
    return n;
}

/* Kernel and udevd have both finished with the device. FOUND->path is below the dev root, its last part the kernel's name. */
static bool is_ready(DroverHotplug *hotplug, const DroverDevice *found)
{
    g_autofree char *name = g_path_get_basename(found->path);
    return g_file_test(found->path, G_FILE_TEST_EXISTS) && drover_hotplug_is_settled(hotplug, name);
}

bool drover_device_wait(const DroverDeviceRoots *roots, const char *volume_id, uint64_t minimum_size,
                        int64_t timeout_ms, bool (*cancelled)(void), DroverDevice *device, GError **error)
{
    gint64 deadline = g_get_monotonic_time() + timeout_ms * 1000;
    g_autoptr(DroverHotplug) hotplug = drover_hotplug_new(roots->sysfs_root);
    for (;;) {
        g_autoptr(GError) why = NULL;
        g_auto(DroverDevice) found = {0};
        bool is_there = drover_device_find(roots, volume_id, &found, &why);
        if (is_there && is_ready(hotplug, &found)) {
            if (found.size_bytes < minimum_size)
                return drover_fail(error, DROVER_ERROR_PERMANENT,
                                   "DRV-TARGET-TOO-SMALL: %s (volume %s) has %" G_GUINT64_FORMAT " bytes, %" G_GUINT64_FORMAT
                                   " are needed", found.path, volume_id, found.size_bytes, minimum_size);
            *device = found;
            found = (DroverDevice){0};
            return true;
        }
        if (why && drover_error_class(why) == DROVER_ERROR_PERMANENT) {
            g_propagate_error(error, g_steal_pointer(&why));
            return false;
        }
        gint64 left_ms = (deadline - g_get_monotonic_time()) / 1000;
        if (left_ms <= 0 || (cancelled && cancelled()))
            return drover_fail(error, DROVER_ERROR_RETRYABLE,
                               "DRV-DEVICE-MISSING: volume %s is attached, but no device with its serial has appeared within %"
                               G_GINT64_FORMAT " s%s%s", volume_id, timeout_ms / 1000, why || is_there ? ": " : "",
                               why        ? why->message
                               : is_there ? "the kernel has it, udevd has not finished with it"
                                          : "");
        drover_hotplug_wait(hotplug, left_ms);
    }
}
