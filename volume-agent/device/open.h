/* SPDX-License-Identifier: Apache-2.0 */
/* Opens a guest's disk so that nothing else on the appliance can take it. Without GLib: the NBD server's plugin uses it too. */
#ifndef DROVER_VOLUME_AGENT_DEVICE_OPEN_H
#define DROVER_VOLUME_AGENT_DEVICE_OPEN_H

#include <stdbool.h>
#include <stdint.h>

/*
 * Opens PATH, the device of VOLUME_ID or a file, for reading and writing. A block device is opened O_EXCL: the kernel refuses it to us
 * while somebody holds it or a partition of it (a mount, swap, LVM, md), and to them after. What was opened is then asked for its
 * serial: since PATH was looked up, another disk may have got its letter. 0, with *FD the caller's to close and *SIZE in bytes; else
 * an errno: EBUSY - held, ENODEV - neither a block device nor a file, ENXIO - a disk, but not VOLUME_ID's.
 */
int drover_device_open(const char *path, const char *volume_id, int *fd, bool *block_device, uint64_t *size);

/* The disk behind the block device FD has been taken away since it was opened. The kernel answers reads with the end of the device
 * then, writes with ENOSPC and other requests with EINVAL, as if the caller had gone beyond its end. */
bool drover_device_is_gone(int fd);

#endif
