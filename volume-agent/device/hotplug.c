/* SPDX-License-Identifier: Apache-2.0 */
#include "volume-agent/device/hotplug.h"

#include <libudev.h>
#include <poll.h>
#include <string.h>

#include "lib/base/log.h"

#define UDEVD "/run/udev/control" /* udevd listens here as long as it runs */
#define POLL_MS 20
#define POLL_BESIDE_UDEV_MS 250 /* the callers look whether they are to stop; and a lost event costs no more than this */

struct DroverHotplug {
    struct udev *udev;
    struct udev_monitor *monitor; /* NULL: no udevd */
};

static struct udev_monitor *monitor_block_devices(struct udev *udev)
{
    struct udev_monitor *monitor = udev_monitor_new_from_netlink(udev, "udev");
    if (monitor && udev_monitor_filter_add_match_subsystem_devtype(monitor, "block", NULL) >= 0 &&
        udev_monitor_enable_receiving(monitor) >= 0)
        return monitor;
    if (monitor)
        udev_monitor_unref(monitor);
    drover_warning("device.no_monitor", "udevd's events cannot be followed; looking for devices again and again instead");
    return NULL;
}

DroverHotplug *drover_hotplug_new(const char *sysfs_root)
{
    DroverHotplug *hotplug = g_new0(DroverHotplug, 1);
    if (strcmp(sysfs_root, "/sys") == 0 && g_file_test(UDEVD, G_FILE_TEST_EXISTS))
        hotplug->udev = udev_new();
    if (hotplug->udev)
        hotplug->monitor = monitor_block_devices(hotplug->udev);
    return hotplug;
}

void drover_hotplug_free(DroverHotplug *hotplug)
{
    if (!hotplug)
        return;
    if (hotplug->monitor)
        udev_monitor_unref(hotplug->monitor);
    if (hotplug->udev)
        udev_unref(hotplug->udev);
    g_free(hotplug);
}

void drover_hotplug_wait(DroverHotplug *hotplug, int64_t timeout_ms)
{
    if (!hotplug->monitor) {
        g_usleep((gulong)(CLAMP(timeout_ms, 0, POLL_MS) * 1000));
        return;
    }
    struct pollfd descriptor = {.fd = udev_monitor_get_fd(hotplug->monitor), .events = POLLIN};
    if (poll(&descriptor, 1, (int)CLAMP(timeout_ms, 0, POLL_BESIDE_UDEV_MS)) <= 0)
        return;
    /* What happened does not matter, the caller looks for itself: so all that has come is taken, not one event a look. */
    for (struct udev_device *device; (device = udev_monitor_receive_device(hotplug->monitor));)
        udev_device_unref(device);
}

bool drover_hotplug_is_settled(DroverHotplug *hotplug, const char *name)
{
    if (!hotplug->udev)
        return true;
    struct udev_device *device = udev_device_new_from_subsystem_sysname(hotplug->udev, "block", name);
    bool settled = device && udev_device_get_is_initialized(device) > 0;
    if (device)
        udev_device_unref(device);
    return settled;
}
