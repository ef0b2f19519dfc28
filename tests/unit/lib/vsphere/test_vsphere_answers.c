/* SPDX-License-Identifier: Apache-2.0 */
/* From vCenter's answers to facts: virtual machines, changed areas. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "lib/base/error.h"
#include "lib/vsphere/areas.h"
#include "lib/vsphere/describe.h"
#include "tests/unit/lib/vsphere/envelope.h"

#define PROPERTY(name, type, content) "<propSet><name>" name "</name><val xsi:type=\"" type "\">" content "</val></propSet>"
#define OBJECT(type, moref, properties) "<objects><obj type=\"" type "\">" moref "</obj>" properties "</objects>"
#define TEXT(name, content) PROPERTY(name, "xsd:string", content)

static const char vm_answer[] = VCENTER(
    "<RetrievePropertiesExResponse xmlns=\"urn:vim25\"><returnval>"
    OBJECT("VirtualMachine", "vm-7",
           TEXT("name", "web%2f01%25") PROPERTY("parent", "ManagedObjectReference", "group-v9")
           TEXT("config.instanceUuid", "50-1") TEXT("config.firmware", "efi") TEXT("runtime.powerState", "poweredOn")
           PROPERTY("runtime.host", "ManagedObjectReference", "host-1") TEXT("runtime.faultToleranceState", "notConfigured")
           PROPERTY("config.bootOptions", "VirtualMachineBootOptions", "<efiSecureBootEnabled>true</efiSecureBootEnabled>")
           PROPERTY("config.changeTrackingEnabled", "xsd:boolean", "true")
           PROPERTY("datastore", "ArrayOfManagedObjectReference",
                    "<ManagedObjectReference type=\"Datastore\">ds-1</ManagedObjectReference>"
                    "<ManagedObjectReference type=\"Datastore\">ds-2</ManagedObjectReference>")
           PROPERTY("config.hardware", "VirtualHardware",
                    "<numCPU>4</numCPU><numCoresPerSocket>2</numCoresPerSocket><memoryMB>8192</memoryMB>"
                    "<device xsi:type=\"ParaVirtualSCSIController\"><key>1000</key></device>"
                    "<device xsi:type=\"VirtualDisk\"><key>2001</key><deviceInfo><label>Hard disk 2</label></deviceInfo>"
                    "<backing xsi:type=\"VirtualDiskRawDiskMappingVer1BackingInfo\"><fileName>[ds] web/r.vmdk</fileName>"
                    "</backing><controllerKey>1000</controllerKey><unitNumber>1</unitNumber><capacityInKB>1024</capacityInKB>"
                    "</device>"
                    "<device xsi:type=\"VirtualDisk\"><key>2000</key><deviceInfo><label>Hard disk 1</label></deviceInfo>"
                    "<backing xsi:type=\"VirtualDiskFlatVer2BackingInfo\"><fileName>[ds] web/web.vmdk</fileName>"
                    "<datastore type=\"Datastore\">ds-2</datastore><diskMode>persistent</diskMode>"
                    "<thinProvisioned>true</thinProvisioned><uuid>6000C29</uuid><changeId>52 3c/1</changeId>"
                    "<sharing>sharingNone</sharing></backing><controllerKey>1000</controllerKey><unitNumber>0</unitNumber>"
                    "<capacityInKB>1</capacityInKB><capacityInBytes>17179869184</capacityInBytes></device>"
                    "<device xsi:type=\"VirtualTPM\"><key>11000</key></device>"
                    "<device xsi:type=\"VirtualVmxnet3\"><key>4000</key><deviceInfo><label>Network adapter 1</label>"
                    "</deviceInfo><backing xsi:type=\"VirtualEthernetCardDistributedVirtualPortBackingInfo\"><port>"
                    "<switchUuid>50 2f</switchUuid><portgroupKey>dvportgroup-3</portgroupKey></port></backing><connectable>"
                    "<startConnected>true</startConnected><allowGuestControl>true</allowGuestControl>"
                    "<connected>true</connected></connectable><macAddress>00:50:56:AA:bb:01</macAddress></device>")
           PROPERTY("guest.net", "ArrayOfGuestNicInfo",
                    "<GuestNicInfo><macAddress>00:50:56:aa:bb:01</macAddress><ipAddress>10.0.0.5</ipAddress>"
                    "<ipAddress>fe80::1</ipAddress><deviceConfigId>4000</deviceConfigId></GuestNicInfo>")
           PROPERTY("snapshot", "VirtualMachineSnapshotInfo",
                    "<currentSnapshot type=\"VirtualMachineSnapshot\">snapshot-2</currentSnapshot>"
                    "<rootSnapshotList><snapshot type=\"VirtualMachineSnapshot\">snapshot-1</snapshot><name>a</name>"
                    "<description>d</description><createTime>2026-01-01T00:00:00Z</createTime><quiesced>true</quiesced>"
                    "<childSnapshotList><snapshot type=\"VirtualMachineSnapshot\">snapshot-2</snapshot><name>b</name>"
                    "</childSnapshotList></rootSnapshotList>"))
    OBJECT("Folder", "group-v9", TEXT("name", "prod") PROPERTY("parent", "ManagedObjectReference", "group-v3"))
    OBJECT("Folder", "group-v3", TEXT("name", "vm") PROPERTY("parent", "ManagedObjectReference", "datacenter-2"))
    OBJECT("Datacenter", "datacenter-2", TEXT("name", "DC0") PROPERTY("parent", "ManagedObjectReference", "group-d1"))
    OBJECT("Folder", "group-d1", TEXT("name", "Datacenters"))
    OBJECT("HostSystem", "host-1", TEXT("name", "esx1.example"))
    OBJECT("DistributedVirtualPortgroup", "dvportgroup-3", TEXT("name", "LAN"))
    OBJECT("Datastore", "ds-2", TEXT("name", "fast") PROPERTY("summary", "DatastoreSummary",
           "<url>ds:///x</url><capacity>100</capacity><freeSpace>40</freeSpace><accessible>true</accessible><type>VMFS</type>"))
    "</returnval></RetrievePropertiesExResponse>");

static DroverSoapAnswer *parse(const char *method, const char *text)
{
    g_autoptr(GError) error = NULL;
    DroverSoapAnswer *answer = drover_soap_answer_parse(method, text, strlen(text), &error);
    if (answer == NULL)
        fail_msg("%s", error->message);
    return answer;
}

static DroverVsphereVm *described(const char *text, const char *moref)
{
    g_autoptr(DroverVsphereProperties) all = drover_vsphere_properties_new();
    drover_vsphere_properties_add(all, parse("RetrievePropertiesEx", text));
    return drover_vsphere_describe(all, drover_vsphere_object(all, moref));
}

/* What forbids snapshots stands at the controller, and in how a raw device is mapped. */
static void sharing_is_told_apart(void **state)
{
    (void)state;
    g_autoptr(DroverVsphereVm) vm = described(
        VCENTER("<RetrievePropertiesExResponse xmlns=\"urn:vim25\"><returnval>" OBJECT(
            "VirtualMachine", "vm-8",
            PROPERTY("config.hardware", "VirtualHardware",
                     "<device xsi:type=\"VirtualLsiLogicSASController\"><key>1001</key><sharedBus>physicalSharing</sharedBus>"
                     "</device>"
                     "<device xsi:type=\"VirtualDisk\"><key>1</key><backing xsi:type=\"VirtualDiskFlatVer2BackingInfo\"/>"
                     "<controllerKey>1001</controllerKey></device>"
                     "<device xsi:type=\"VirtualDisk\"><key>2</key><backing "
                     "xsi:type=\"VirtualDiskRawDiskMappingVer1BackingInfo\"><compatibilityMode>virtualMode</compatibilityMode>"
                     "</backing><controllerKey>9</controllerKey></device>"
                     "<device xsi:type=\"VirtualDisk\"><key>3</key><backing "
                     "xsi:type=\"VirtualDiskRawDiskMappingVer1BackingInfo\"><compatibilityMode>physicalMode</compatibilityMode>"
                     "</backing></device>")) "</returnval></RetrievePropertiesExResponse>"),
        "vm-8");
    const DroverVsphereDisk *shared = vm->disks->pdata[0], *virtual = vm->disks->pdata[1], *physical = vm->disks->pdata[2];
    assert_string_equal(shared->bus_sharing, "physicalSharing");
    assert_string_equal(shared->controller, "VirtualLsiLogicSASController");
    assert_false(shared->rdm || shared->rdm_physical);
    assert_string_equal(virtual->bus_sharing, "");
    assert_string_equal(virtual->controller, "");
    assert_true(virtual->rdm && !virtual->rdm_physical);
    assert_true(physical->rdm && physical->rdm_physical);
}

static void a_vm_is_described(void **state)
{
    (void)state;
    g_autoptr(DroverVsphereVm) vm = described(vm_answer, "vm-7");
    assert_string_equal(vm->name, "web/01%");
    assert_string_equal(vm->inventory_path, "/DC0/vm/prod/web%2f01%25");
    assert_string_equal(vm->instance_uuid, "50-1");
    assert_string_equal(vm->firmware, "efi");
    assert_string_equal(vm->host_address, "esx1.example");
    assert_true(vm->secure_boot && vm->vtpm && vm->change_tracking);
    assert_false(vm->fault_tolerant || vm->encrypted || vm->pci_passthrough || vm->template);
    assert_int_equal(vm->cpus, 4);
    assert_true(vm->memory_bytes == UINT64_C(8) << 30);
    assert_int_equal(vm->disks->len, 2);
    const DroverVsphereDisk *disk = vm->disks->pdata[0];
    assert_ptr_equal(disk, drover_vsphere_vm_disk(vm, 2000));
    assert_int_equal(disk->key, 2000);
    assert_string_equal(disk->controller, "ParaVirtualSCSIController");
    assert_string_equal(disk->backing_path, "[ds] web/web.vmdk");
    assert_string_equal(disk->change_id, "52 3c/1");
    assert_true(disk->thin && !disk->rdm && disk->capacity_bytes == UINT64_C(16) << 30);
    const DroverVsphereDisk *rdm = vm->disks->pdata[1];
    assert_true(rdm->rdm && rdm->capacity_bytes == 1 << 20);
    assert_string_equal(rdm->change_id, "");
    assert_int_equal(vm->nics->len, 1);
    const DroverVsphereNic *nic = vm->nics->pdata[0];
    assert_string_equal(nic->kind, "VirtualVmxnet3");
    assert_string_equal(nic->network, "LAN");
    assert_int_equal(g_strv_length(nic->addresses), 2);
    assert_string_equal(nic->addresses[1], "fe80::1");
    assert_int_equal(vm->snapshots->len, 2);
    const DroverVsphereSnapshot *child = drover_vsphere_vm_snapshot(vm, "b");
    assert_string_equal(child->parent, "snapshot-1");
    assert_true(child->current && !child->quiesced);
    assert_int_equal(vm->datastores->len, 1);
    assert_string_equal(((const DroverVsphereDatastore *)vm->datastores->pdata[0])->name, "fast");
}

static void little_is_told_of_vms_without_rights(void **state)
{
    (void)state;
    g_autoptr(DroverVsphereVm) vm = described(
        VCENTER("<RetrievePropertiesExResponse xmlns=\"urn:vim25\"><returnval>"
                "<objects><obj type=\"VirtualMachine\">vm-1</obj><missingSet><path>config.hardware</path><fault><fault "
                "xsi:type=\"NoPermission\"><privilegeId>System.Read</privilegeId></fault><localizedMessage>No.</localizedMessage>"
                "</fault></missingSet></objects></returnval></RetrievePropertiesExResponse>"), "vm-1");
    assert_string_equal(vm->name, "");
    assert_int_equal(vm->disks->len, 0);
    assert_string_equal(vm->moref, "vm-1");
}

static void a_folder_above_itself_ends_somewhere(void **state)
{
    (void)state;
    g_autoptr(DroverVsphereVm) vm = described(
        VCENTER("<RetrievePropertiesExResponse xmlns=\"urn:vim25\"><returnval>"
                OBJECT("VirtualMachine", "vm-1", TEXT("name", "v") PROPERTY("parent", "ManagedObjectReference", "g"))
                OBJECT("Folder", "g", TEXT("name", "g") PROPERTY("parent", "ManagedObjectReference", "g"))
                "</returnval></RetrievePropertiesExResponse>"), "vm-1");
    assert_true(g_str_has_suffix(vm->inventory_path, "/g/g/v"));
    assert_true(strlen(vm->inventory_path) < 1000);
}

/* ---- changed areas --------------------------------------------------------------------------------------------- */

#define CAPACITY 1000000u

static bool add(const char *info, uint64_t *next, DroverRangeset *areas, GError **error)
{
    g_autofree char *text = g_strdup_printf(
        GO("<QueryChangedDiskAreasResponse xmlns=\"urn:vim25\"><returnval>%s</returnval></QueryChangedDiskAreasResponse>"), info);
    g_autoptr(DroverSoapAnswer) answer = parse("QueryChangedDiskAreas", text);
    return drover_vsphere_areas_add(drover_soap_answer_value(answer), CAPACITY, next, areas, error);
}

static void pages_add_up(void **state)
{
    (void)state;
    g_autoptr(DroverRangeset) areas = drover_rangeset_new();
    uint64_t next = 0;
    assert_true(add("<startOffset>0</startOffset><length>500000</length><changedArea><start>1000</start><length>10</length>"
                    "</changedArea><changedArea><start>499990</start><length>10</length></changedArea>", &next, areas, NULL));
    assert_int_equal(next, 500000);
    assert_true(add("<startOffset>500000</startOffset><length>500000</length><changedArea><start>500000</start>"
                    "<length>500000</length></changedArea>", &next, areas, NULL));
    assert_int_equal(next, CAPACITY);
    size_t n = 0;
    const DroverRange *ranges = drover_rangeset_ranges(areas, &n);
    assert_int_equal(n, 2);
    assert_int_equal(ranges[1].offset, 499990);
    assert_int_equal(ranges[1].length, 500010);
}

static void pages_that_lead_nowhere_are_errors(void **state)
{
    (void)state;
    const char *const wrong[] = {
        "",
        "<startOffset>1000</startOffset><length>0</length>",
        "<startOffset>0</startOffset><length>1000</length>",
        "<startOffset>0</startOffset><length>10</length>",
        "<startOffset>1001</startOffset><length>1000</length>",
        "<startOffset>-1</startOffset><length>100000</length>",
        "<startOffset>1000</startOffset><length>9223372036854775807</length>",
        "<startOffset>1000</startOffset><length>100000000000000000000</length>",
        "<startOffset>1000</startOffset><length>5000</length><changedArea><start>999999</start><length>2</length></changedArea>",
        "<startOffset>1000</startOffset><length>5000</length><changedArea><start>-5</start><length>2</length></changedArea>",
        "<startOffset>1000</startOffset><length>5000</length><changedArea><start>2000</start></changedArea>",
        "<startOffset>1000</startOffset><length>5000</length><changedArea><start>9223372036854775807</start>"
        "<length>9223372036854775807</length></changedArea>",
    };
    for (guint i = 0; i < G_N_ELEMENTS(wrong); i++) {
        g_autoptr(DroverRangeset) areas = drover_rangeset_new();
        g_autoptr(GError) error = NULL;
        uint64_t next = 1000;
        if (add(wrong[i], &next, areas, &error))
            fail_msg("taken: %s", wrong[i]);
        assert_int_equal(next, 1000);
        assert_true(g_str_has_prefix(error->message, "DRV-VCENTER-ANSWER: "));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_vm_is_described),
        cmocka_unit_test(sharing_is_told_apart),
        cmocka_unit_test(little_is_told_of_vms_without_rights),
        cmocka_unit_test(a_folder_above_itself_ends_somewhere),
        cmocka_unit_test(pages_add_up),
        cmocka_unit_test(pages_that_lead_nowhere_are_errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
