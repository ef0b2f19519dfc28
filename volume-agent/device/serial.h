/* SPDX-License-Identifier: Apache-2.0 */
/* The serial that says which volume a disk is. Without GLib: the NBD server's plugin uses it too. */
#ifndef DROVER_VOLUME_AGENT_DEVICE_SERIAL_H
#define DROVER_VOLUME_AGENT_DEVICE_SERIAL_H

#include <stdbool.h>

#define DROVER_VOLUME_SERIAL_LEN 20 /* VIRTIO_BLK_ID_BYTES */
#define DROVER_DISK_SERIAL_MAX 252  /* VPD page 0x80: 255 bytes with its header */

/* The first 20 hex digits of VOLUME_ID, in lower case; fewer when it has fewer, and is no volume's id. */
void drover_volume_serial(const char *volume_id, char serial[DROVER_VOLUME_SERIAL_LEN + 1]);

/* What the disk described in DIRECTORY of sysfs says of itself: the file "serial" of virtio disks, VPD page 0x80 of SCSI disks, without
 * white space around it. False: it says nothing, or is a partition, or DIRECTORY is not there. */
bool drover_disk_serial(const char *directory, char serial[DROVER_DISK_SERIAL_MAX + 1]);

#endif
