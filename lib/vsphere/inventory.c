/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "lib/base/error.h"
#include "lib/vsphere/describe.h"
#include "lib/vsphere/device.h"
#include "lib/vsphere/fault.h"
#include "lib/vsphere/property.h"
#include "lib/vsphere/vsphere.h"

static void free_vm(gpointer data)
{
    drover_vsphere_vm_free(data);
}

static int by_path(gconstpointer a, gconstpointer b)
{
    const DroverVsphereVm *const *x = a, *const *y = b;
    int order = strcmp((*x)->inventory_path, (*y)->inventory_path);
    return order ? order : strcmp((*x)->moref, (*y)->moref);
}

static bool matches(const DroverVsphereVm *vm, GPatternSpec *pattern)
{
    const char *const names[] = {vm->name, vm->inventory_path, vm->instance_uuid, vm->bios_uuid, vm->moref};
    for (guint i = 0; i < G_N_ELEMENTS(names); i++)
        if (pattern == NULL || g_pattern_spec_match_string(pattern, names[i]))
            return true;
    return false;
}

typedef struct {
    const DroverVsphereProperties *around; /* hosts, datastores, networks, folders */
    GPatternSpec *pattern;
    GPtrArray *vms;
} Listing;

static void take_page(void *data, const DroverVsphereProperties *page)
{
    Listing *listing = data;
    if (page == NULL) {
        g_ptr_array_set_size(listing->vms, 0);
        return;
    }
    for (guint i = 0; i < page->objects->len; i++) {
        g_autoptr(DroverVsphereVm) vm = drover_vsphere_describe(listing->around, page->objects->pdata[i]);
        if (matches(vm, listing->pattern))
            g_ptr_array_add(listing->vms, g_steal_pointer(&vm));
    }
}

GPtrArray *drover_vsphere_vms(DroverVsphere *vsphere, const char *filter, GCancellable *cancel, GError **error)
{
    static const char *const around_types[] = {"HostSystem", "Datastore", "Network", "Folder", "Datacenter", "VirtualApp",
                                               NULL};
    static const char *const vm_types[] = {"VirtualMachine", NULL};
    const DroverVsphereQuestion around = {.sets = drover_vsphere_description + 1,
                                          .n_sets = drover_vsphere_description_n - 1,
                                          .all_of = around_types};
    const DroverVsphereQuestion vms = {.sets = drover_vsphere_description, .n_sets = 1, .all_of = vm_types};
    g_autoptr(DroverVsphereProperties) found = drover_vsphere_retrieve(vsphere, &around, cancel, error);
    if (found == NULL)
        return NULL;
    g_autoptr(GPatternSpec) pattern = filter != NULL && *filter ? g_pattern_spec_new(filter) : NULL;
    g_autoptr(GPtrArray) list = g_ptr_array_new_with_free_func(free_vm);
    Listing listing = {found, pattern, list};
    if (!drover_vsphere_retrieve_pages(vsphere, &vms, take_page, &listing, cancel, error))
        return NULL;
    g_ptr_array_sort(list, by_path);
    return g_steal_pointer(&list);
}

DroverVsphereVm *drover_vsphere_vm(DroverVsphere *vsphere, const char *moref, const char *uuid, GCancellable *cancel,
                                   GError **error)
{
    static const DroverVsphereStep steps[] = {
        {"VirtualMachine", "runtime.host", false},   {"VirtualMachine", "datastore", false},
        {"VirtualMachine", "network", false},        {"VirtualMachine", "parentVApp", true},
        {"VirtualApp", "parentVApp", true},          {"VirtualApp", "parentFolder", true},
        {"ManagedEntity", "parent", true},
    };
    const DroverVsphereQuestion question = {.sets = drover_vsphere_description,
                                            .n_sets = drover_vsphere_description_n,
                                            .object_type = "VirtualMachine",
                                            .moref = moref,
                                            .steps = steps,
                                            .n_steps = G_N_ELEMENTS(steps)};
    g_autoptr(DroverVsphereProperties) all = drover_vsphere_retrieve(vsphere, &question, cancel, error);
    if (all == NULL)
        return NULL;
    const DroverVsphereObject *object = drover_vsphere_object(all, moref);
    if (object == NULL) {
        drover_fail(error, DROVER_ERROR_PERMANENT, "DRV-VCENTER-GONE: vCenter tells nothing about VM %s", moref);
        return NULL;
    }
    if (drover_vsphere_value(object, "config.hardware") == NULL && object->denied != NULL) {
        g_autofree char *what = g_strdup_printf("reading the configuration of VM %s", moref);
        drover_vsphere_fault_fail(object->denied, what, error);
        return NULL;
    }
    g_autoptr(DroverVsphereVm) vm = drover_vsphere_describe(all, object);
    if (uuid != NULL && *uuid && g_ascii_strcasecmp(uuid, vm->instance_uuid) != 0) {
        drover_fail(error, DROVER_ERROR_PERMANENT,
                    "DRV-VCENTER-GONE: %s is another VM now, %s with instance UUID %s instead of %s", moref, vm->name,
                    *vm->instance_uuid ? vm->instance_uuid : "(none)", uuid);
        return NULL;
    }
    return g_steal_pointer(&vm);
}

GPtrArray *drover_vsphere_snapshot_disks(DroverVsphere *vsphere, const char *snapshot, GCancellable *cancel,
                                         GError **error)
{
    static const char *const paths[] = {"config.hardware.device", NULL};
    static const DroverVspherePropertySet set = {"VirtualMachineSnapshot", paths};
    const DroverVsphereQuestion question = {
        .sets = &set, .n_sets = 1, .object_type = "VirtualMachineSnapshot", .moref = snapshot};
    g_autoptr(DroverVsphereProperties) all = drover_vsphere_retrieve(vsphere, &question, cancel, error);
    if (all == NULL)
        return NULL;
    const DroverVsphereObject *object = drover_vsphere_object(all, snapshot);
    const xmlNode *devices = drover_vsphere_value(object, paths[0]);
    if (devices == NULL && object != NULL && object->denied != NULL) {
        g_autofree char *what = g_strdup_printf("reading snapshot %s", snapshot);
        drover_vsphere_fault_fail(object->denied, what, error);
        return NULL;
    }
    if (devices == NULL) {
        drover_fail(error, DROVER_ERROR_PERMANENT, "DRV-VCENTER-GONE: vCenter tells nothing about snapshot %s", snapshot);
        return NULL;
    }
    return drover_vsphere_device_disks(devices);
}
