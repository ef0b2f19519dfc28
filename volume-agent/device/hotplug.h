/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Waits for something to change among the block devices. Where udevd runs and the roots are the kernel's own, it says when, and
 * whether it has finished with a device: before that its rules may still open the device, or have LVM or md take it. Elsewhere
 * (containers, the trees of tests) there is only looking again.
 */
#ifndef DROVER_VOLUME_AGENT_DEVICE_HOTPLUG_H
#define DROVER_VOLUME_AGENT_DEVICE_HOTPLUG_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

typedef struct DroverHotplug DroverHotplug;

/* Events from now on are kept for drover_hotplug_wait: who looks after this misses nothing. Never NULL. */
DroverHotplug *drover_hotplug_new(const char *sysfs_root);
void drover_hotplug_free(DroverHotplug *hotplug);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(DroverHotplug, drover_hotplug_free)

/* Blocks until there is reason to look again: an event, or some time has passed; never longer than TIMEOUT_MS. */
void drover_hotplug_wait(DroverHotplug *hotplug, int64_t timeout_ms);

/* udevd is done with the block device NAME; true where there is no udevd. */
bool drover_hotplug_is_settled(DroverHotplug *hotplug, const char *name);

#endif
