/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A virtual machine as vCenter describes it: plain facts, no calls. Strings are never NULL ("" when vCenter said
 * nothing), arrays never NULL. Sizes are bytes. Names follow the vSphere API (VirtualMachineConfigInfo,
 * VirtualDevice, VirtualMachineSnapshotTree). Pure.
 */
#ifndef DROVER_LIB_VSPHERE_VM_H
#define DROVER_LIB_VSPHERE_VM_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

typedef struct {
    int32_t key; /* VirtualDevice.key */
    int32_t unit;
    int32_t controller_key;
    char *controller; /* type, e.g. "ParaVirtualSCSIController" */
    char *label;
    char *backing;       /* type, e.g. "VirtualDiskFlatVer2BackingInfo" */
    char *backing_path;  /* "[datastore] dir/file.vmdk" */
    char *backing_uuid;
    char *disk_mode;     /* persistent, independent_persistent, … */
    char *sharing;       /* "sharingMultiWriter", "sharingNone", "" */
    char *bus_sharing;   /* of the controller: "noSharing", "virtualSharing", "physicalSharing", "" */
    char *datastore;     /* moref */
    char *change_id;     /* of the backing as asked for: running VM or snapshot; "" when not tracked */
    bool thin;
    bool eagerly_scrubbed;
    bool rdm;
    bool rdm_physical; /* commands go through to the LUN: no snapshots */
    bool encrypted;
    uint64_t capacity_bytes;
} DroverVsphereDisk;

typedef struct {
    int32_t key;
    char *label;
    char *kind; /* device type, e.g. "VirtualVmxnet3" */
    char *mac;
    char *network; /* name */
    bool connected;
    char **addresses; /* from the guest tools; NULL-terminated */
} DroverVsphereNic;

typedef struct {
    char *moref;
    char *name;
    char *description;
    char *created_at; /* as sent, ISO 8601 */
    bool quiesced;
    bool current;
    char *parent; /* moref of the parent snapshot, "" for a root */
} DroverVsphereSnapshot;

typedef struct {
    char *moref;
    char *name;
    char *url;
    char *type; /* VMFS, vsan, NFS, … */
    bool accessible;
    uint64_t capacity_bytes;
    uint64_t free_bytes;
} DroverVsphereDatastore;

typedef struct {
    char *moref;
    char *name;
    char *inventory_path; /* "/DC0/vm/folder/name" */
    char *instance_uuid;
    char *bios_uuid;
    bool template;
    char *power_state;      /* poweredOn, poweredOff, suspended */
    char *connection_state; /* connected, disconnected, … */
    char *version;          /* hardware, "vmx-19" */
    char *guest_id;         /* e.g. "windows2019srv_64Guest" */
    char *guest_full_name;
    char *guest_family;     /* linuxGuest, windowsGuest, … */
    char *host_name;        /* inside the guest */
    char *tools_status;     /* guestToolsRunning, guestToolsNotRunning, "" */
    char *tools_version_status;
    char *firmware;         /* bios, efi */
    bool secure_boot;
    bool vtpm;
    bool encrypted;
    bool fault_tolerant;
    bool pci_passthrough;
    bool has_change_tracking;   /* capability.changeTrackingSupported */
    bool change_tracking;       /* config.changeTrackingEnabled */
    bool consolidation_needed;
    uint32_t cpus;
    uint32_t cores_per_socket;
    uint64_t memory_bytes;
    uint64_t committed_bytes;   /* summary.storage.committed */
    uint64_t uncommitted_bytes;
    char *annotation;
    char *host;      /* moref of the ESXi host */
    char *host_address; /* its name or address, for port 902 */
    GPtrArray *disks;      /* DroverVsphereDisk, by key */
    GPtrArray *nics;       /* DroverVsphereNic */
    GPtrArray *snapshots;  /* DroverVsphereSnapshot, parents first */
    GPtrArray *datastores; /* DroverVsphereDatastore, those that its disks lie on */
} DroverVsphereVm;

DroverVsphereVm *drover_vsphere_vm_new(void);
void drover_vsphere_vm_free(DroverVsphereVm *vm);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(DroverVsphereVm, drover_vsphere_vm_free)

DroverVsphereDisk *drover_vsphere_disk_new(void);
void drover_vsphere_disk_free(DroverVsphereDisk *disk);
const DroverVsphereDisk *drover_vsphere_vm_disk(const DroverVsphereVm *vm, int32_t key); /* NULL: none */
const DroverVsphereSnapshot *drover_vsphere_vm_snapshot(const DroverVsphereVm *vm, const char *name); /* NULL: none */

#endif
