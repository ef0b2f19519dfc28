/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/vsphere/vm.h"

#include <string.h>

#include "lib/vsphere/vm-make.h"

static void nic_free(gpointer data)
{
    DroverVsphereNic *nic = data;
    g_free(nic->label);
    g_free(nic->kind);
    g_free(nic->mac);
    g_free(nic->network);
    g_strfreev(nic->addresses);
    g_free(nic);
}

static void snapshot_free(gpointer data)
{
    DroverVsphereSnapshot *snapshot = data;
    g_free(snapshot->moref);
    g_free(snapshot->name);
    g_free(snapshot->description);
    g_free(snapshot->created_at);
    g_free(snapshot->parent);
    g_free(snapshot);
}

static void datastore_free(gpointer data)
{
    DroverVsphereDatastore *datastore = data;
    g_free(datastore->moref);
    g_free(datastore->name);
    g_free(datastore->url);
    g_free(datastore->type);
    g_free(datastore);
}

static void disk_free(gpointer data)
{
    drover_vsphere_disk_free(data);
}

void drover_vsphere_set(char **field, const char *text)
{
    g_free(*field);
    *field = g_strdup(text ? text : "");
}

DroverVsphereDisk *drover_vsphere_disk_new(void)
{
    DroverVsphereDisk *disk = g_new0(DroverVsphereDisk, 1);
    char **const texts[] = {&disk->controller, &disk->label,   &disk->backing,   &disk->backing_path, &disk->backing_uuid,
                            &disk->disk_mode,  &disk->sharing, &disk->bus_sharing, &disk->datastore, &disk->change_id};
    for (guint i = 0; i < G_N_ELEMENTS(texts); i++)
        drover_vsphere_set(texts[i], NULL);
    return disk;
}

void drover_vsphere_disk_free(DroverVsphereDisk *disk)
{
    if (disk == NULL)
        return;
    g_free(disk->controller);
    g_free(disk->label);
    g_free(disk->backing);
    g_free(disk->backing_path);
    g_free(disk->backing_uuid);
    g_free(disk->disk_mode);
    g_free(disk->sharing);
    g_free(disk->bus_sharing);
    g_free(disk->datastore);
    g_free(disk->change_id);
    g_free(disk);
}

DroverVsphereNic *drover_vsphere_nic_new(void)
{
    DroverVsphereNic *nic = g_new0(DroverVsphereNic, 1);
    char **const texts[] = {&nic->label, &nic->kind, &nic->mac, &nic->network};
    for (guint i = 0; i < G_N_ELEMENTS(texts); i++)
        drover_vsphere_set(texts[i], NULL);
    nic->addresses = g_new0(char *, 1);
    return nic;
}

DroverVsphereSnapshot *drover_vsphere_snapshot_new(void)
{
    DroverVsphereSnapshot *snapshot = g_new0(DroverVsphereSnapshot, 1);
    char **const texts[] = {&snapshot->moref, &snapshot->name, &snapshot->description, &snapshot->created_at,
                            &snapshot->parent};
    for (guint i = 0; i < G_N_ELEMENTS(texts); i++)
        drover_vsphere_set(texts[i], NULL);
    return snapshot;
}

DroverVsphereDatastore *drover_vsphere_datastore_new(void)
{
    DroverVsphereDatastore *datastore = g_new0(DroverVsphereDatastore, 1);
    char **const texts[] = {&datastore->moref, &datastore->name, &datastore->url, &datastore->type};
    for (guint i = 0; i < G_N_ELEMENTS(texts); i++)
        drover_vsphere_set(texts[i], NULL);
    return datastore;
}

/* All strings of a VM: what makes one and what frees one must not differ. */
#define VM_TEXTS(vm)                                                                                                    \
    {                                                                                                                   \
        &(vm)->moref, &(vm)->name, &(vm)->inventory_path, &(vm)->instance_uuid, &(vm)->bios_uuid, &(vm)->power_state,   \
            &(vm)->connection_state, &(vm)->version, &(vm)->guest_id, &(vm)->guest_full_name, &(vm)->guest_family,      \
            &(vm)->host_name, &(vm)->tools_status, &(vm)->tools_version_status, &(vm)->firmware, &(vm)->annotation,     \
            &(vm)->host, &(vm)->host_address                                                                            \
    }

DroverVsphereVm *drover_vsphere_vm_new(void)
{
    DroverVsphereVm *vm = g_new0(DroverVsphereVm, 1);
    char **const texts[] = VM_TEXTS(vm);
    for (guint i = 0; i < G_N_ELEMENTS(texts); i++)
        drover_vsphere_set(texts[i], NULL);
    vm->disks = g_ptr_array_new_with_free_func(disk_free);
    vm->nics = g_ptr_array_new_with_free_func(nic_free);
    vm->snapshots = g_ptr_array_new_with_free_func(snapshot_free);
    vm->datastores = g_ptr_array_new_with_free_func(datastore_free);
    return vm;
}

void drover_vsphere_vm_free(DroverVsphereVm *vm)
{
    if (vm == NULL)
        return;
    char **const texts[] = VM_TEXTS(vm);
    for (guint i = 0; i < G_N_ELEMENTS(texts); i++)
        g_free(*texts[i]);
    g_ptr_array_unref(vm->disks);
    g_ptr_array_unref(vm->nics);
    g_ptr_array_unref(vm->snapshots);
    g_ptr_array_unref(vm->datastores);
    g_free(vm);
}

const DroverVsphereDisk *drover_vsphere_vm_disk(const DroverVsphereVm *vm, int32_t key)
{
    for (guint i = 0; i < vm->disks->len; i++) {
        const DroverVsphereDisk *disk = vm->disks->pdata[i];
        if (disk->key == key)
            return disk;
    }
    return NULL;
}

const DroverVsphereSnapshot *drover_vsphere_vm_snapshot(const DroverVsphereVm *vm, const char *name)
{
    for (guint i = 0; i < vm->snapshots->len; i++) {
        const DroverVsphereSnapshot *snapshot = vm->snapshots->pdata[i];
        if (strcmp(snapshot->name, name) == 0)
            return snapshot;
    }
    return NULL;
}
