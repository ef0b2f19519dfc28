/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/vsphere/describe.h"

#include <string.h>

#include "lib/vsphere/device.h"
#include "lib/vsphere/vm-make.h"

/* More levels than an inventory can have; a loop in the answer ends here. */
#define LEVELS_MAX 64

static const char *const vm_paths[] = {
    "name", "parent", "parentVApp", "snapshot", "datastore",
    "capability.changeTrackingSupported",
    "config.annotation", "config.bootOptions", "config.changeTrackingEnabled", "config.firmware",
    "config.guestFullName", "config.guestId", "config.hardware", "config.instanceUuid", "config.keyId",
    "config.template", "config.uuid", "config.version",
    "guest.guestFamily", "guest.guestFullName", "guest.hostName", "guest.net", "guest.toolsRunningStatus",
    "guest.toolsVersionStatus2",
    "runtime.connectionState", "runtime.consolidationNeeded", "runtime.faultToleranceState", "runtime.host",
    "runtime.powerState",
    "summary.storage", NULL};
static const char *const entity_paths[] = {"name", "parent", NULL};
static const char *const vapp_paths[] = {"name", "parentFolder", "parentVApp", NULL};
static const char *const host_paths[] = {"name", NULL};
static const char *const datastore_paths[] = {"name", "summary", NULL};
static const char *const network_paths[] = {"name", NULL};

const DroverVspherePropertySet drover_vsphere_description[] = {
    {"VirtualMachine", vm_paths},   {"HostSystem", host_paths},   {"Datastore", datastore_paths}, {"Network", network_paths},
    {"Folder", entity_paths},       {"Datacenter", entity_paths}, {"VirtualApp", vapp_paths},
};
const size_t drover_vsphere_description_n = G_N_ELEMENTS(drover_vsphere_description);

static void take(char **field, char *text)
{
    g_free(*field);
    *field = text;
}

static void set_value(char **field, const DroverVsphereObject *object, const char *path)
{
    take(field, drover_vsphere_value_text(object, path));
}

/* vCenter writes '/', '\' and '%' in names as %2f, %5c and %25. */
static char *plain_name(const char *name)
{
    GString *out = g_string_new(NULL);
    for (; *name; name++) {
        const char *found = NULL;
        if (*name == '%' && name[1] && name[2]) {
            char code[] = {g_ascii_tolower(name[1]), g_ascii_tolower(name[2]), '\0'};
            found = strcmp(code, "2f") == 0 ? "/" : strcmp(code, "5c") == 0 ? "\\" : strcmp(code, "25") == 0 ? "%" : NULL;
        }
        g_string_append_c(out, found ? *found : *name);
        name += found ? 2 : 0;
    }
    return g_string_free(out, FALSE);
}

static uint64_t positive(const xmlNode *node, const char *path)
{
    int64_t n = drover_soap_int(node, path, 0);
    return n > 0 ? (uint64_t)n : 0;
}

/* ---- place ----------------------------------------------------------------------------------------------------- */

/* A VM in a vApp has no folder of its own, nor has a vApp inside another. */
static char *holder_of(const DroverVsphereObject *object)
{
    static const char *const properties[] = {"parentVApp", "parentFolder", "parent"};
    for (guint i = 0; i < G_N_ELEMENTS(properties); i++) {
        g_autofree char *moref = drover_vsphere_value_text(object, properties[i]);
        if (*moref)
            return g_steal_pointer(&moref);
    }
    return g_strdup("");
}

/* Names of all that hold the VM, as vCenter escapes them, without the root folder: "/DC0/vm/folder/name". */
static char *inventory_path(const DroverVsphereProperties *all, const DroverVsphereObject *vm)
{
    g_autoptr(GString) path = g_string_new(NULL);
    const DroverVsphereObject *at = vm;
    for (int i = 0; at != NULL && i < LEVELS_MAX; i++) {
        g_autofree char *name = drover_vsphere_value_text(at, "name");
        g_autofree char *parent = holder_of(at);
        if (*parent == '\0' && at != vm)
            break; /* the root */
        g_string_prepend(path, name);
        g_string_prepend_c(path, '/');
        at = drover_vsphere_object(all, parent);
    }
    return g_string_free(g_steal_pointer(&path), FALSE);
}

/* ---- parts ----------------------------------------------------------------------------------------------------- */

static void add_snapshots(DroverVsphereVm *vm, const xmlNode *tree, const char *parent, const char *current)
{
    for (; tree; tree = drover_soap_next(tree)) {
        DroverVsphereSnapshot *snapshot = drover_vsphere_snapshot_new();
        take(&snapshot->moref, drover_soap_text(tree, "snapshot"));
        g_autofree char *name = drover_soap_text(tree, "name");
        take(&snapshot->name, plain_name(name));
        take(&snapshot->description, drover_soap_text(tree, "description"));
        take(&snapshot->created_at, drover_soap_text(tree, "createTime"));
        snapshot->quiesced = drover_soap_bool(tree, "quiesced");
        snapshot->current = strcmp(snapshot->moref, current) == 0;
        drover_vsphere_set(&snapshot->parent, parent);
        g_ptr_array_add(vm->snapshots, snapshot);
        add_snapshots(vm, drover_soap_child(tree, "childSnapshotList"), snapshot->moref, current);
    }
}

static char *network_name(const DroverVsphereProperties *all, const xmlNode *backing)
{
    const char *const references[] = {"network", "port.portgroupKey", "opaqueNetworkId"};
    for (guint i = 0; i < G_N_ELEMENTS(references); i++) {
        g_autofree char *moref = drover_soap_text(backing, references[i]);
        g_autofree char *name = drover_vsphere_value_text(drover_vsphere_object(all, moref), "name");
        if (*name)
            return plain_name(name);
    }
    return drover_soap_text(backing, "deviceName");
}

static void add_nic(DroverVsphereVm *vm, const DroverVsphereProperties *all, const xmlNode *device, const xmlNode *guest)
{
    DroverVsphereNic *nic = drover_vsphere_nic_new();
    g_ptr_array_add(vm->nics, nic);
    nic->key = (int32_t)drover_soap_int(device, "key", 0);
    take(&nic->label, drover_soap_text(device, "deviceInfo.label"));
    take(&nic->kind, drover_soap_type(device));
    take(&nic->mac, drover_soap_text(device, "macAddress"));
    take(&nic->network, network_name(all, drover_soap_child(device, "backing")));
    nic->connected = drover_soap_bool(device, "connectable.connected");
    for (const xmlNode *seen = drover_soap_child(guest, "GuestNicInfo"); seen; seen = drover_soap_next(seen)) {
        g_autofree char *mac = drover_soap_text(seen, "macAddress");
        if (drover_soap_int(seen, "deviceConfigId", -1) != nic->key && g_ascii_strcasecmp(mac, nic->mac) != 0)
            continue;
        g_autoptr(GStrvBuilder) addresses = g_strv_builder_new();
        for (const xmlNode *ip = drover_soap_child(seen, "ipAddress"); ip; ip = drover_soap_next(ip)) {
            g_autofree char *text = drover_soap_content(ip);
            g_strv_builder_add(addresses, text);
        }
        g_strfreev(nic->addresses);
        nic->addresses = g_strv_builder_end(addresses);
        if (*nic->network == '\0')
            take(&nic->network, drover_soap_text(seen, "network"));
        break;
    }
}

static void look_at_devices(DroverVsphereVm *vm, const DroverVsphereProperties *all, const xmlNode *hardware,
                            const xmlNode *guest)
{
    for (const xmlNode *device = drover_vsphere_first_device(hardware); device; device = drover_soap_next(device)) {
        g_autofree char *kind = drover_soap_type(device);
        if (drover_vsphere_device_is_nic(device))
            add_nic(vm, all, device, guest);
        vm->vtpm |= strcmp(kind, "VirtualTPM") == 0;
        vm->pci_passthrough |= strcmp(kind, "VirtualPCIPassthrough") == 0;
    }
    g_ptr_array_unref(vm->disks);
    vm->disks = drover_vsphere_device_disks(hardware);
}

static bool has_disk_on(const DroverVsphereVm *vm, const char *datastore)
{
    for (guint i = 0; i < vm->disks->len; i++)
        if (strcmp(((const DroverVsphereDisk *)vm->disks->pdata[i])->datastore, datastore) == 0)
            return true;
    return false;
}

static void add_datastores(DroverVsphereVm *vm, const DroverVsphereProperties *all, const DroverVsphereObject *object)
{
    const xmlNode *reference = drover_soap_child(drover_vsphere_value(object, "datastore"), "ManagedObjectReference");
    for (; reference; reference = drover_soap_next(reference)) {
        g_autofree char *moref = drover_soap_content(reference);
        if (!has_disk_on(vm, moref))
            continue;
        const DroverVsphereObject *found = drover_vsphere_object(all, moref);
        const xmlNode *summary = drover_vsphere_value(found, "summary");
        DroverVsphereDatastore *datastore = drover_vsphere_datastore_new();
        g_ptr_array_add(vm->datastores, datastore);
        drover_vsphere_set(&datastore->moref, moref);
        g_autofree char *name = drover_vsphere_value_text(found, "name");
        take(&datastore->name, plain_name(name));
        take(&datastore->url, drover_soap_text(summary, "url"));
        take(&datastore->type, drover_soap_text(summary, "type"));
        datastore->accessible = drover_soap_bool(summary, "accessible");
        datastore->capacity_bytes = positive(summary, "capacity");
        datastore->free_bytes = positive(summary, "freeSpace");
    }
}

/* ---- the whole ------------------------------------------------------------------------------------------------- */

static void set_texts(DroverVsphereVm *vm, const DroverVsphereObject *object)
{
    drover_vsphere_set(&vm->moref, object->moref);
    g_autofree char *name = drover_vsphere_value_text(object, "name");
    take(&vm->name, plain_name(name));
    set_value(&vm->instance_uuid, object, "config.instanceUuid");
    set_value(&vm->bios_uuid, object, "config.uuid");
    set_value(&vm->power_state, object, "runtime.powerState");
    set_value(&vm->connection_state, object, "runtime.connectionState");
    set_value(&vm->version, object, "config.version");
    set_value(&vm->guest_id, object, "config.guestId");
    set_value(&vm->guest_full_name, object, "config.guestFullName");
    if (*vm->guest_full_name == '\0')
        set_value(&vm->guest_full_name, object, "guest.guestFullName");
    set_value(&vm->guest_family, object, "guest.guestFamily");
    set_value(&vm->host_name, object, "guest.hostName");
    set_value(&vm->tools_status, object, "guest.toolsRunningStatus");
    set_value(&vm->tools_version_status, object, "guest.toolsVersionStatus2");
    set_value(&vm->firmware, object, "config.firmware");
    set_value(&vm->annotation, object, "config.annotation");
    set_value(&vm->host, object, "runtime.host");
}

DroverVsphereVm *drover_vsphere_describe(const DroverVsphereProperties *all, const DroverVsphereObject *object)
{
    DroverVsphereVm *vm = drover_vsphere_vm_new();
    set_texts(vm, object);
    take(&vm->inventory_path, inventory_path(all, object));
    set_value(&vm->host_address, drover_vsphere_object(all, vm->host), "name");
    vm->template = drover_vsphere_value_bool(object, "config.template");
    vm->has_change_tracking = drover_vsphere_value_bool(object, "capability.changeTrackingSupported");
    vm->change_tracking = drover_vsphere_value_bool(object, "config.changeTrackingEnabled");
    vm->consolidation_needed = drover_vsphere_value_bool(object, "runtime.consolidationNeeded");
    vm->secure_boot = drover_soap_bool(drover_vsphere_value(object, "config.bootOptions"), "efiSecureBootEnabled");
    vm->encrypted = drover_vsphere_value(object, "config.keyId") != NULL;
    g_autofree char *tolerance = drover_vsphere_value_text(object, "runtime.faultToleranceState");
    vm->fault_tolerant = *tolerance && strcmp(tolerance, "notConfigured") != 0;
    const xmlNode *hardware = drover_vsphere_value(object, "config.hardware");
    vm->cpus = (uint32_t)positive(hardware, "numCPU");
    vm->cores_per_socket = (uint32_t)positive(hardware, "numCoresPerSocket");
    vm->memory_bytes = positive(hardware, "memoryMB") << 20;
    const xmlNode *storage = drover_vsphere_value(object, "summary.storage");
    vm->committed_bytes = positive(storage, "committed");
    vm->uncommitted_bytes = positive(storage, "uncommitted");
    look_at_devices(vm, all, hardware, drover_vsphere_value(object, "guest.net"));
    const xmlNode *snapshots = drover_vsphere_value(object, "snapshot");
    g_autofree char *current = drover_soap_text(snapshots, "currentSnapshot");
    add_snapshots(vm, drover_soap_child(snapshots, "rootSnapshotList"), "", current);
    add_datastores(vm, all, object);
    return vm;
}
