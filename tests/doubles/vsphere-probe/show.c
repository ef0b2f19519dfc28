/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/doubles/vsphere-probe/show.h"

#include "lib/rangeset/rangeset.h"

#define TEXT(object, from, field) json_object_set_new(object, #field, json_string((from)->field))
#define INT(object, from, field) json_object_set_new(object, #field, json_integer((json_int_t)(from)->field))
#define BOOL(object, from, field) json_object_set_new(object, #field, json_boolean((from)->field))

json_t *show_strings(char **strings)
{
    json_t *list = json_array();
    for (; *strings; strings++)
        json_array_append_new(list, json_string(*strings));
    return list;
}

json_t *show_ranges(const GArray *ranges)
{
    json_t *list = json_array();
    for (guint i = 0; i < ranges->len; i++) {
        const DroverRange *range = &g_array_index(ranges, DroverRange, i);
        json_t *pair = json_array();
        json_array_append_new(pair, json_integer((json_int_t)range->offset));
        json_array_append_new(pair, json_integer((json_int_t)range->length));
        json_array_append_new(list, pair);
    }
    return list;
}

json_t *show_disks(const GPtrArray *disks)
{
    json_t *list = json_array();
    for (guint i = 0; i < disks->len; i++) {
        const DroverVsphereDisk *disk = disks->pdata[i];
        json_t *o = json_object();
        INT(o, disk, key), INT(o, disk, unit), INT(o, disk, controller_key), TEXT(o, disk, controller);
        TEXT(o, disk, label), TEXT(o, disk, backing), TEXT(o, disk, backing_path), TEXT(o, disk, backing_uuid);
        TEXT(o, disk, disk_mode), TEXT(o, disk, sharing), TEXT(o, disk, datastore), TEXT(o, disk, change_id);
        BOOL(o, disk, thin), BOOL(o, disk, eagerly_scrubbed), BOOL(o, disk, rdm), BOOL(o, disk, encrypted);
        INT(o, disk, capacity_bytes);
        json_array_append_new(list, o);
    }
    return list;
}

static json_t *show_nics(const GPtrArray *nics)
{
    json_t *list = json_array();
    for (guint i = 0; i < nics->len; i++) {
        const DroverVsphereNic *nic = nics->pdata[i];
        json_t *o = json_object();
        INT(o, nic, key), TEXT(o, nic, label), TEXT(o, nic, kind), TEXT(o, nic, mac), TEXT(o, nic, network);
        BOOL(o, nic, connected);
        json_object_set_new(o, "addresses", show_strings(nic->addresses));
        json_array_append_new(list, o);
    }
    return list;
}

static json_t *show_snapshots(const GPtrArray *snapshots)
{
    json_t *list = json_array();
    for (guint i = 0; i < snapshots->len; i++) {
        const DroverVsphereSnapshot *snapshot = snapshots->pdata[i];
        json_t *o = json_object();
        TEXT(o, snapshot, moref), TEXT(o, snapshot, name), TEXT(o, snapshot, description), TEXT(o, snapshot, created_at);
        TEXT(o, snapshot, parent), BOOL(o, snapshot, quiesced), BOOL(o, snapshot, current);
        json_array_append_new(list, o);
    }
    return list;
}

static json_t *show_datastores(const GPtrArray *datastores)
{
    json_t *list = json_array();
    for (guint i = 0; i < datastores->len; i++) {
        const DroverVsphereDatastore *datastore = datastores->pdata[i];
        json_t *o = json_object();
        TEXT(o, datastore, moref), TEXT(o, datastore, name), TEXT(o, datastore, url), TEXT(o, datastore, type);
        BOOL(o, datastore, accessible), INT(o, datastore, capacity_bytes), INT(o, datastore, free_bytes);
        json_array_append_new(list, o);
    }
    return list;
}

json_t *show_vm(const DroverVsphereVm *vm)
{
    json_t *o = json_object();
    TEXT(o, vm, moref), TEXT(o, vm, name), TEXT(o, vm, inventory_path), TEXT(o, vm, instance_uuid), TEXT(o, vm, bios_uuid);
    TEXT(o, vm, power_state), TEXT(o, vm, connection_state), TEXT(o, vm, version), TEXT(o, vm, guest_id);
    TEXT(o, vm, guest_full_name), TEXT(o, vm, guest_family), TEXT(o, vm, host_name), TEXT(o, vm, tools_status);
    TEXT(o, vm, tools_version_status), TEXT(o, vm, firmware), TEXT(o, vm, annotation), TEXT(o, vm, host);
    TEXT(o, vm, host_address);
    BOOL(o, vm, template), BOOL(o, vm, secure_boot), BOOL(o, vm, vtpm), BOOL(o, vm, encrypted), BOOL(o, vm, fault_tolerant);
    BOOL(o, vm, pci_passthrough), BOOL(o, vm, has_change_tracking), BOOL(o, vm, change_tracking);
    BOOL(o, vm, consolidation_needed);
    INT(o, vm, cpus), INT(o, vm, cores_per_socket), INT(o, vm, memory_bytes), INT(o, vm, committed_bytes);
    INT(o, vm, uncommitted_bytes);
    json_object_set_new(o, "disks", show_disks(vm->disks));
    json_object_set_new(o, "nics", show_nics(vm->nics));
    json_object_set_new(o, "snapshots", show_snapshots(vm->snapshots));
    json_object_set_new(o, "datastores", show_datastores(vm->datastores));
    return o;
}
