/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/vsphere/device.h"

#include <string.h>

#include "lib/vsphere/vm-make.h"

const xmlNode *drover_vsphere_first_device(const xmlNode *list)
{
    const xmlNode *device = drover_soap_child(list, "VirtualDevice");
    return device != NULL ? device : drover_soap_child(list, "device");
}

bool drover_vsphere_device_is_disk(const xmlNode *device)
{
    g_autofree char *type = drover_soap_type(device);
    return strcmp(type, "VirtualDisk") == 0;
}

/* There is no list of kinds that future versions could not add to: only network cards have a MAC address. */
bool drover_vsphere_device_is_nic(const xmlNode *device)
{
    return drover_soap_child(device, "macAddress") != NULL || drover_soap_child(device, "addressType") != NULL;
}

static void set_path(char **field, const xmlNode *node, const char *path)
{
    g_autofree char *text = drover_soap_text(node, path);
    drover_vsphere_set(field, text);
}

static const xmlNode *device_of_key(const xmlNode *list, int32_t key)
{
    for (const xmlNode *device = drover_vsphere_first_device(list); device; device = drover_soap_next(device))
        if (drover_soap_int(device, "key", -1) == key)
            return device;
    return NULL;
}

static uint64_t capacity_of(const xmlNode *device)
{
    int64_t bytes = drover_soap_int(device, "capacityInBytes", 0);
    if (bytes > 0)
        return (uint64_t)bytes;
    int64_t kilobytes = drover_soap_int(device, "capacityInKB", 0); /* all that old hosts tell */
    return kilobytes > 0 && kilobytes <= G_MAXINT64 / 1024 ? (uint64_t)kilobytes * 1024 : 0;
}

static DroverVsphereDisk *disk_of(const xmlNode *device, const xmlNode *list)
{
    DroverVsphereDisk *disk = drover_vsphere_disk_new();
    const xmlNode *backing = drover_soap_child(device, "backing");
    disk->key = (int32_t)drover_soap_int(device, "key", 0);
    disk->unit = (int32_t)drover_soap_int(device, "unitNumber", -1);
    disk->controller_key = (int32_t)drover_soap_int(device, "controllerKey", 0);
    const xmlNode *holder = device_of_key(list, disk->controller_key);
    g_autofree char *controller = holder ? drover_soap_type(holder) : NULL;
    drover_vsphere_set(&disk->controller, controller);
    set_path(&disk->bus_sharing, holder, "sharedBus");
    g_autofree char *kind = drover_soap_type(backing);
    drover_vsphere_set(&disk->backing, kind);
    set_path(&disk->label, device, "deviceInfo.label");
    set_path(&disk->backing_path, backing, "fileName");
    set_path(&disk->backing_uuid, backing, "uuid");
    set_path(&disk->disk_mode, backing, "diskMode");
    set_path(&disk->sharing, backing, "sharing");
    set_path(&disk->datastore, backing, "datastore");
    set_path(&disk->change_id, backing, "changeId");
    disk->thin = drover_soap_bool(backing, "thinProvisioned");
    disk->eagerly_scrubbed = drover_soap_bool(backing, "eagerlyScrub");
    disk->rdm = g_str_has_prefix(kind, "VirtualDiskRawDisk");
    g_autofree char *compatibility = drover_soap_text(backing, "compatibilityMode");
    disk->rdm_physical = disk->rdm && strcmp(compatibility, "virtualMode") != 0;
    disk->encrypted = drover_soap_child(backing, "keyId") != NULL;
    disk->capacity_bytes = capacity_of(device);
    return disk;
}

static void free_disk(gpointer data)
{
    drover_vsphere_disk_free(data);
}

static int by_key(gconstpointer a, gconstpointer b)
{
    const DroverVsphereDisk *const *x = a, *const *y = b;
    return ((*x)->key > (*y)->key) - ((*x)->key < (*y)->key);
}

GPtrArray *drover_vsphere_device_disks(const xmlNode *list)
{
    GPtrArray *disks = g_ptr_array_new_with_free_func(free_disk);
    for (const xmlNode *device = drover_vsphere_first_device(list); device; device = drover_soap_next(device))
        if (drover_vsphere_device_is_disk(device))
            g_ptr_array_add(disks, disk_of(device, list));
    g_ptr_array_sort(disks, by_key);
    return disks;
}
