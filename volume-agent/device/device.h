/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Finds the block device that a CloudStack volume is attached as, by its serial: the first 20 hex digits of the volume's
 * UUID, which KVM hands to the guest (/sys/block/vdX/serial; for SCSI disks VPD page 0x80). Never by letter and never by
 * novelty. The roots are options, so that a double can provide a tree of its own.
 */
#ifndef DROVER_VOLUME_AGENT_DEVICE_DEVICE_H
#define DROVER_VOLUME_AGENT_DEVICE_DEVICE_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

typedef struct {
    const char *sysfs_root; /* "/sys" */
    const char *dev_root;   /* "/dev" */
} DroverDeviceRoots;

typedef struct {
    char *path;   /* below dev_root */
    char *serial;
    uint64_t size_bytes;
} DroverDevice;
void drover_device_clear(DroverDevice *device);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(DroverDevice, drover_device_clear)

/* The serial that a volume's device has; newly allocated. */
char *drover_device_serial(const char *volume_id);

/*
 * The device of VOLUME_ID as it is now. False without ERROR: there is none. Errors: PERMANENT - in use on the appliance
 * (it or a partition of it has holders or is mounted, as the appliance's own disks are: DRV-DEVICE-BUSY), two devices with
 * this serial; RETRYABLE - sysfs cannot be read.
 */
bool drover_device_find(const DroverDeviceRoots *roots, const char *volume_id, DroverDevice *device, GError **error);

/* How many disks are plugged in: block devices with a serial. */
unsigned drover_device_count(const DroverDeviceRoots *roots);

/* Their serials: a new array of strings with a free function. The appliance's own disks may be among them. */
GPtrArray *drover_device_serials(const DroverDeviceRoots *roots);

/*
 * Waits for the hot-plug of VOLUME_ID's device, at least MINIMUM_SIZE bytes large, and until udevd (where one runs) has applied
 * its rules to it, up to TIMEOUT_MS; less when CANCELLED (may be NULL) returns true. Errors: RETRYABLE DRV-DEVICE-MISSING,
 * PERMANENT DRV-TARGET-TOO-SMALL, and those above.
 */
bool drover_device_wait(const DroverDeviceRoots *roots, const char *volume_id, uint64_t minimum_size,
                        int64_t timeout_ms, bool (*cancelled)(void), DroverDevice *device, GError **error);

#endif
