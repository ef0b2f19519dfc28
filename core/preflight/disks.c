/* SPDX-License-Identifier: Apache-2.0 */
/* Rules about the disks, and about what they lie on and are read through. */
#include <string.h>

#include "core/preflight/findings.h"

#define MIB (UINT64_C(1) << 20)
#define GIB (UINT64_C(1) << 30)
#define HOUR_MS 3600000.0

static bool is_shared(const DroverVsphereDisk *disk)
{
    return strcmp(disk->sharing, "sharingMultiWriter") == 0;
}

static bool on_shared_bus(const DroverVsphereDisk *disk)
{
    return *disk->bus_sharing && strcmp(disk->bus_sharing, "noSharing") != 0;
}

static void check_disk(DroverPreflight *p, const DroverVsphereDisk *disk)
{
    g_autofree char *words = drover_disk_words(disk);
    if (disk->rdm && disk->rdm_physical)
        drover_find(p, DROVER_FINDING_ERROR, "DRV-SOURCE-DISK-RDM", disk->key,
                    "%s is a physical raw device mapping, of which no snapshot can be made: convert it to a virtual one or "
                    "to a VMDK, or leave it out and move the LUN by other means", words);
    else if (disk->rdm)
        drover_find(p, DROVER_FINDING_WARNING, "DRV-SOURCE-DISK-RDM-VIRTUAL", disk->key,
                    "%s is a virtual raw device mapping: it is copied like a disk, the LUN itself stays where it is", words);
    else if (g_str_has_prefix(disk->disk_mode, "independent"))
        drover_find(p, DROVER_FINDING_ERROR, "DRV-SOURCE-DISK-INDEPENDENT", disk->key,
                    "%s is independent (%s), so that snapshots leave it out: make it dependent while the VM is off", words,
                    disk->disk_mode);
    if (is_shared(disk))
        drover_find(p, DROVER_FINDING_ERROR, "DRV-SOURCE-DISK-SHARED", disk->key,
                    "%s may be written by several VMs (multi-writer), which forbids snapshots: leave it out, or end the "
                    "sharing", words);
    if (on_shared_bus(disk))
        drover_find(p, DROVER_FINDING_ERROR, "DRV-SOURCE-DISK-BUS", disk->key,
                    "%s hangs on a controller with bus sharing (%s), which forbids snapshots of a running VM: end the sharing",
                    words, disk->bus_sharing);
}

void drover_preflight_disks(DroverPreflight *p)
{
    bool shared = false;
    for (guint i = 0; i < p->disks->len; i++) {
        const DroverVsphereDisk *disk = g_ptr_array_index(p->disks, i);
        check_disk(p, disk);
        shared |= is_shared(disk) || on_shared_bus(disk);
    }
    if (shared)
        drover_find(p, DROVER_FINDING_WARNING, "DRV-GUEST-CLUSTER", 0,
                    "shared disks mean cluster services in the guest (WSFC, RAC, GFS2, …): migrate the application, or all of "
                    "its nodes in one downtime");
}

/* ---- datastores ------------------------------------------------------------------------------------------------ */

DroverSnapshotRoom drover_snapshot_room(uint64_t capacity, const DroverPreflightFacts *more, uint64_t vm_capacity)
{
    DroverSnapshotRoom room = {.least_bytes = MAX(capacity / 50, 512 * MIB), .likely_bytes = MAX(capacity / 10, GIB)};
    if (more && more->changed_bytes_per_hour && vm_capacity) {
        double hours = more->snapshot_max_age_ms ? (double)more->snapshot_max_age_ms / HOUR_MS : 24;
        double share = (double)capacity / (double)vm_capacity;
        double growth = (double)more->changed_bytes_per_hour * hours * share;
        room.likely_bytes = growth < (double)capacity ? (uint64_t)growth : capacity;
    }
    room.likely_bytes = MIN(room.likely_bytes, capacity);
    room.least_bytes = MIN(room.least_bytes, capacity);
    return room;
}

static void check_room(DroverPreflight *p, const DroverVsphereDatastore *datastore, uint64_t capacity, uint64_t all)
{
    DroverSnapshotRoom room = drover_snapshot_room(capacity, p->more, all);
    bool known = p->more->changed_bytes_per_hour != 0;
    uint64_t needed = MAX(room.likely_bytes, room.least_bytes);
    if (datastore->free_bytes >= needed)
        return;
    g_autofree char *free_text = g_format_size_full(datastore->free_bytes, G_FORMAT_SIZE_IEC_UNITS);
    g_autofree char *needed_text = g_format_size_full(needed, G_FORMAT_SIZE_IEC_UNITS);
    bool stop = known || datastore->free_bytes < room.least_bytes;
    drover_find(p, stop ? DROVER_FINDING_ERROR : DROVER_FINDING_WARNING, "DRV-SOURCE-SPACE", 0,
                "datastore %s has %s free, and a snapshot during a round may grow to %s: make room, or move disks (Storage "
                "vMotion)", datastore->name, free_text, needed_text);
}

void drover_preflight_datastores(DroverPreflight *p)
{
    uint64_t all = 0;
    for (guint k = 0; k < p->disks->len; k++)
        all += ((const DroverVsphereDisk *)g_ptr_array_index(p->disks, k))->capacity_bytes;
    for (guint i = 0; i < p->vm->datastores->len; i++) {
        const DroverVsphereDatastore *datastore = g_ptr_array_index(p->vm->datastores, i);
        uint64_t capacity = 0;
        for (guint k = 0; k < p->disks->len; k++) {
            const DroverVsphereDisk *disk = g_ptr_array_index(p->disks, k);
            capacity += strcmp(disk->datastore, datastore->moref) == 0 ? disk->capacity_bytes : 0;
        }
        if (!capacity)
            continue;
        if (!datastore->accessible)
            drover_find(p, DROVER_FINDING_ERROR, "DRV-SOURCE-DATASTORE", 0,
                        "datastore %s is not accessible: bring it back", datastore->name);
        else
            check_room(p, datastore, capacity, all);
    }
}

/* ---- the host -------------------------------------------------------------------------------------------------- */

void drover_preflight_place(DroverPreflight *p)
{
    drover_preflight_datastores(p);
    const char *host = *p->vm->host_address ? p->vm->host_address : "the ESXi host";
    if (p->more->port_902 == DROVER_REACH_CLOSED)
        drover_find(p, DROVER_FINDING_ERROR, "DRV-SOURCE-PORT-902", 0,
                    "port 902 of %s cannot be reached from here, through which VDDK reads (nbd, nbdssl): open it from the "
                    "workers to all ESXi hosts, and check that the host's name resolves", host);
    if (p->more->nfc_limit && p->more->nfc_running >= p->more->nfc_limit)
        drover_find(p, DROVER_FINDING_WARNING, "DRV-SOURCE-NFC", 0,
                    "%u transfers run on %s, and %u are allowed: its copy waits until one ends", p->more->nfc_running, host,
                    p->more->nfc_limit);
}
