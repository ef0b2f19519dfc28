/* SPDX-License-Identifier: Apache-2.0 */
/* Whether the appliance itself uses a disk: its own root, or a guest's disk that LVM, md, swap or a mount has taken. */
#ifndef DROVER_VOLUME_AGENT_DEVICE_IN_USE_H
#define DROVER_VOLUME_AGENT_DEVICE_IN_USE_H

#include <glib.h>

/*
 * Why the disk NAME (below SYSFS_ROOT/block) must be left alone, newly allocated, as what follows the disk's name in a sentence
 * ("is mounted on /srv", "is held by dm-0 (guest-root) through its partition vdb2"); NULL: nothing uses it or a partition of it.
 * What other mount namespaces have mounted shows only when the device is opened (open.h). Reads files of the kernel, no device.
 */
char *drover_device_in_use(const char *sysfs_root, const char *name);

#endif
