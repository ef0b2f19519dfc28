/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <string.h>

#include "core/preflight/preflight.h"

#define MIB (UINT64_C(1) << 20)
#define GIB (UINT64_C(1) << 30)

/* A VM that nothing can be said against: one Linux disk of 100 GiB on a datastore with 500 GiB free. */
typedef struct {
    DroverVsphereVm vm;
    DroverVsphereDisk disk, second;
    DroverVsphereDatastore datastore;
    DroverVsphereSnapshot snapshot;
    DroverPreflightFacts more;
} World;

static DroverVsphereDisk a_disk(int32_t key)
{
    return (DroverVsphereDisk){.key = key, .controller = (char *)"ParaVirtualSCSIController", .label = (char *)"Hard disk 1",
                               .backing = (char *)"VirtualDiskFlatVer2BackingInfo", .backing_path = (char *)"[ds] a/a.vmdk",
                               .backing_uuid = (char *)"", .disk_mode = (char *)"persistent",
                               .sharing = (char *)"sharingNone", .bus_sharing = (char *)"noSharing",
                               .datastore = (char *)"datastore-1", .change_id = (char *)"", .capacity_bytes = 100 * GIB};
}

static World *world(void)
{
    World *w = g_new0(World, 1);
    w->disk = a_disk(2000);
    w->second = a_disk(2001);
    w->datastore = (DroverVsphereDatastore){.moref = (char *)"datastore-1", .name = (char *)"fast", .accessible = true,
                                            .capacity_bytes = 1000 * GIB, .free_bytes = 500 * GIB};
    w->snapshot = (DroverVsphereSnapshot){.moref = (char *)"snapshot-1", .name = (char *)"before patch", .parent = (char *)""};
    char *empty = (char *)"";
    w->vm = (DroverVsphereVm){.moref = (char *)"vm-1", .name = (char *)"web", .inventory_path = empty, .instance_uuid = empty,
                              .bios_uuid = empty, .power_state = (char *)"poweredOn", .connection_state = (char *)"connected",
                              .version = (char *)"vmx-19", .guest_id = (char *)"debian12_64Guest",
                              .guest_full_name = (char *)"Debian GNU/Linux 12", .guest_family = (char *)"linuxGuest",
                              .host_name = empty, .tools_status = (char *)"guestToolsRunning", .tools_version_status = empty,
                              .firmware = (char *)"bios", .has_change_tracking = true, .change_tracking = true,
                              .annotation = empty, .host = (char *)"host-1", .host_address = (char *)"esx1.example"};
    w->vm.disks = g_ptr_array_new();
    w->vm.nics = g_ptr_array_new();
    w->vm.snapshots = g_ptr_array_new();
    w->vm.datastores = g_ptr_array_new();
    g_ptr_array_add(w->vm.disks, &w->disk);
    g_ptr_array_add(w->vm.datastores, &w->datastore);
    return w;
}

static void world_free(World *w)
{
    g_ptr_array_unref(w->vm.disks);
    g_ptr_array_unref(w->vm.nics);
    g_ptr_array_unref(w->vm.snapshots);
    g_ptr_array_unref(w->vm.datastores);
    g_free(w);
}

static int setup(void **state)
{
    *state = world();
    return 0;
}

static int teardown(void **state)
{
    world_free(*state);
    return 0;
}

/* The findings must be just CODES, "severity CODE key", sorted by severity and joined by newlines. */
static void assert_keys(const World *w, const int32_t *keys, size_t n, const char *expected)
{
    g_autoptr(GPtrArray) findings = drover_preflight_source(&w->vm, keys, n, &w->more);
    g_autoptr(GString) found = g_string_new(NULL);
    bool stops = false;
    for (guint i = 0; i < findings->len; i++) {
        const DroverFinding *f = g_ptr_array_index(findings, i);
        g_string_append_printf(found, "%s%s %s %d", i ? "\n" : "", drover_severity_name(f->severity), f->code, f->disk_key);
        assert_true(*f->message);
        stops |= f->severity == DROVER_FINDING_ERROR;
    }
    assert_string_equal(found->str, expected);
    assert_int_equal(drover_preflight_stops(findings), stops);
}

static void assert_found(const World *w, const char *expected)
{
    assert_keys(w, NULL, 0, expected);
}

static void test_nothing(void **state)
{
    World *w = *state;
    assert_found(w, "");
    g_autoptr(GPtrArray) findings = drover_preflight_source(&w->vm, NULL, 0, NULL);
    assert_int_equal(findings->len, 0);
    assert_false(drover_preflight_stops(findings));
}

static void test_states(void **state)
{
    World *w = *state;
    w->vm.template = true;
    assert_found(w, "error DRV-SOURCE-TEMPLATE 0");
    w->vm.template = false;
    w->vm.connection_state = (char *)"inaccessible";
    assert_found(w, "error DRV-SOURCE-VM-DISCONNECTED 0");
    w->vm.connection_state = (char *)"connected";
    w->vm.power_state = (char *)"suspended";
    assert_found(w, "error DRV-SOURCE-SUSPENDED 0");
    w->vm.power_state = (char *)"poweredOff";
    w->vm.fault_tolerant = true;
    assert_found(w, "error DRV-SOURCE-FAULT-TOLERANT 0");
    w->vm.fault_tolerant = false;
    w->vm.pci_passthrough = true;
    assert_found(w, "error DRV-SOURCE-PASSTHROUGH 0");
    w->vm.pci_passthrough = false;
    assert_found(w, "");
}

static void test_rights(void **state)
{
    World *w = *state;
    const char *none[] = {NULL}, *two[] = {"VirtualMachine.State.CreateSnapshot", "VirtualMachine.Interact.PowerOff", NULL};
    w->more.missing_privileges = none;
    assert_found(w, "");
    w->more.missing_privileges = two;
    assert_found(w, "error DRV-SOURCE-RIGHTS 0");
    g_autoptr(GPtrArray) findings = drover_preflight_source(&w->vm, NULL, 0, &w->more);
    const DroverFinding *f = g_ptr_array_index(findings, 0);
    assert_non_null(strstr(f->message, two[0]));
    assert_non_null(strstr(f->message, two[1]));
    size_t n = 0;
    for (const char *const *name = drover_privilege_names(); *name; name++)
        assert_string_equal(*name, drover_privileges[n++].privilege);
    assert_int_equal(n, drover_privileges_n);
}

/* A VM that may not be read looks as if it had nothing. */
static void test_no_right_to_read(void **state)
{
    World *w = *state;
    const char *missing[] = {"System.Read", NULL};
    w->vm.version = w->vm.connection_state = w->vm.firmware = (char *)"";
    g_ptr_array_set_size(w->vm.disks, 0);
    w->more.missing_privileges = missing;
    assert_found(w, "error DRV-SOURCE-RIGHTS 0");
}

static void test_encryption(void **state)
{
    World *w = *state;
    w->disk.encrypted = true;
    w->vm.encrypted = true;
    assert_found(w, "error DRV-SOURCE-DISK-ENCRYPTED 2000");
    w->disk.encrypted = false;
    assert_found(w, "warning DRV-SOURCE-VM-ENCRYPTED 0");
    w->vm.vtpm = true;
    assert_found(w, "warning DRV-SOURCE-VTPM 0\ninfo DRV-SOURCE-VM-ENCRYPTED 0");
}

static void test_firmware(void **state)
{
    World *w = *state;
    w->vm.firmware = (char *)"csm";
    assert_found(w, "error DRV-SOURCE-FIRMWARE 0");
    w->vm.firmware = (char *)"";
    assert_found(w, "");
    w->vm.firmware = (char *)"efi";
    assert_found(w, "");
    w->more.target_known = true;
    assert_found(w, "error DRV-SOURCE-FIRMWARE-TARGET 0");
    w->more.target_boot_type = "uefi";
    assert_found(w, "");
    w->vm.firmware = (char *)"bios";
    assert_found(w, "error DRV-SOURCE-FIRMWARE-TARGET 0");
    w->more.target_boot_type = "BIOS";
    assert_found(w, "");
}

static void test_secure_boot(void **state)
{
    World *w = *state;
    w->vm.firmware = (char *)"efi";
    w->vm.secure_boot = true;
    assert_found(w, "info DRV-SOURCE-SECURE-BOOT 0");
    w->more.target_known = true;
    w->more.target_boot_type = "UEFI";
    assert_found(w, "warning DRV-SOURCE-SECURE-BOOT 0");
    w->more.target_boot_mode = "SECURE";
    assert_found(w, "");
}

static void test_tracking(void **state)
{
    World *w = *state;
    w->vm.version = (char *)"vmx-04";
    w->vm.has_change_tracking = false;
    assert_found(w, "error DRV-SOURCE-HARDWARE 0");
    w->vm.version = (char *)"vmx-07";
    assert_found(w, "error DRV-SOURCE-CBT-IMPOSSIBLE 0");
    w->vm.has_change_tracking = true;
    assert_found(w, "");
    w->vm.change_tracking = false;
    assert_found(w, "info DRV-SOURCE-CBT-OFF 0");
    g_ptr_array_add(w->vm.snapshots, &w->snapshot);
    assert_found(w, "error DRV-SOURCE-CBT-SNAPSHOTS 0");
    w->vm.change_tracking = true;
    assert_found(w, "warning DRV-SOURCE-SNAPSHOTS 0");
    w->snapshot.name = (char *)"drover-mig-1-round-2";
    assert_found(w, "");
    w->more.own_snapshot_prefix = "ours ";
    assert_found(w, "warning DRV-SOURCE-SNAPSHOTS 0");
    w->snapshot.name = (char *)"Ours 1";
    assert_found(w, "");
}

static void test_consolidation(void **state)
{
    World *w = *state;
    w->vm.consolidation_needed = true;
    assert_found(w, "warning DRV-SOURCE-CONSOLIDATION 0");
}

static void test_which_disks(void **state)
{
    World *w = *state;
    int32_t both[] = {2000, 2001};
    assert_keys(w, both, 1, "");
    assert_keys(w, both, 2, "error DRV-SOURCE-DISK-UNKNOWN 2001");
    g_ptr_array_add(w->vm.disks, &w->second);
    assert_keys(w, both, 2, "");
    w->second.encrypted = true; /* a disk that is left out is not judged */
    assert_keys(w, both, 1, "warning DRV-SOURCE-DISK-LEFT-OUT 2001");
    g_ptr_array_set_size(w->vm.disks, 0);
    assert_found(w, "error DRV-SOURCE-NO-DISKS 0");
}

static void test_disk_kinds(void **state)
{
    World *w = *state;
    w->disk.disk_mode = (char *)"independent_nonpersistent";
    assert_found(w, "error DRV-SOURCE-DISK-INDEPENDENT 2000");
    w->disk.rdm = true;
    assert_found(w, "warning DRV-SOURCE-DISK-RDM-VIRTUAL 2000");
    w->disk.rdm_physical = true;
    assert_found(w, "error DRV-SOURCE-DISK-RDM 2000");
    w->disk = a_disk(2000);
    w->disk.sharing = (char *)"sharingMultiWriter";
    assert_found(w, "error DRV-SOURCE-DISK-SHARED 2000\nwarning DRV-GUEST-CLUSTER 0");
    w->disk = a_disk(2000);
    w->disk.bus_sharing = (char *)"physicalSharing";
    assert_found(w, "error DRV-SOURCE-DISK-BUS 2000\nwarning DRV-GUEST-CLUSTER 0");
    w->disk.bus_sharing = (char *)"";
    assert_found(w, "");
}

static void test_space(void **state)
{
    World *w = *state;
    w->datastore.free_bytes = 10 * GIB;
    assert_found(w, "");
    w->datastore.free_bytes -= 1;
    assert_found(w, "warning DRV-SOURCE-SPACE 0");
    w->datastore.free_bytes = 2 * GIB;
    assert_found(w, "warning DRV-SOURCE-SPACE 0");
    w->datastore.free_bytes -= 1;
    assert_found(w, "error DRV-SOURCE-SPACE 0");
    w->more.changed_bytes_per_hour = GIB; /* 24 GiB in a day */
    w->datastore.free_bytes = 24 * GIB - 1;
    assert_found(w, "error DRV-SOURCE-SPACE 0");
    w->datastore.free_bytes = 24 * GIB;
    assert_found(w, "");
    w->more.snapshot_max_age_ms = 48 * 3600000;
    assert_found(w, "error DRV-SOURCE-SPACE 0");
    w->disk.datastore = (char *)"datastore-2"; /* of which nothing is known */
    assert_found(w, "");
}

static void test_room(void **state)
{
    (void)state;
    DroverSnapshotRoom small = drover_snapshot_room(100 * MIB, NULL, 100 * MIB);
    assert_int_equal(small.least_bytes, 100 * MIB);
    assert_int_equal(small.likely_bytes, 100 * MIB);
    DroverPreflightFacts busy = {.changed_bytes_per_hour = 1000 * GIB};
    DroverSnapshotRoom half = drover_snapshot_room(100 * GIB, &busy, 200 * GIB);
    assert_int_equal(half.likely_bytes, 100 * GIB);
    busy.changed_bytes_per_hour = 2 * GIB; /* half of it on this datastore, for a day */
    assert_int_equal(drover_snapshot_room(100 * GIB, &busy, 200 * GIB).likely_bytes, 24 * GIB);
}

static void test_datastore(void **state)
{
    World *w = *state;
    w->datastore.accessible = false;
    assert_found(w, "error DRV-SOURCE-DATASTORE 0");
}

static void test_host(void **state)
{
    World *w = *state;
    w->more.port_902 = DROVER_REACH_OPEN;
    assert_found(w, "");
    w->more.port_902 = DROVER_REACH_CLOSED;
    assert_found(w, "error DRV-SOURCE-PORT-902 0");
    w->more.port_902 = DROVER_REACH_UNKNOWN;
    w->more.nfc_running = 19;
    w->more.nfc_limit = 20;
    assert_found(w, "");
    w->more.nfc_running = 20;
    assert_found(w, "warning DRV-SOURCE-NFC 0");
    w->more.nfc_limit = 0;
    assert_found(w, "");
}

#define WINDOWS "info DRV-GUEST-BITLOCKER 0\ninfo DRV-GUEST-HIBERNATION 0\ninfo DRV-GUEST-DYNAMIC-DISKS 0"

static void test_windows(void **state)
{
    World *w = *state;
    w->vm.guest_id = (char *)"windows2019srv_64Guest";
    w->vm.guest_family = (char *)"windowsGuest";
    assert_found(w, WINDOWS);
    w->vm.guest_family = (char *)"";
    assert_found(w, WINDOWS);
    w->vm.guest_id = (char *)"winNetStandardGuest";
    assert_found(w, "warning DRV-GUEST-OLD 0\n" WINDOWS);
}

static void test_guests(void **state)
{
    World *w = *state;
    static const char *const old[] = {"rhel4Guest", "centosGuest", "winXPProGuest", "sles10_64Guest", "debian5Guest"};
    static const char *const fine[] = {"rhel9_64Guest", "centos8_64Guest", "sles15_64Guest", "debian11_64Guest", "ubuntu64Guest",
                                       "oracleLinux8_64Guest", "rockylinux_64Guest"};
    for (guint i = 0; i < G_N_ELEMENTS(fine); i++) {
        w->vm.guest_id = (char *)fine[i];
        assert_found(w, "");
    }
    for (guint i = 0; i < G_N_ELEMENTS(old); i++) {
        w->vm.guest_id = (char *)old[i];
        g_autoptr(GPtrArray) findings = drover_preflight_source(&w->vm, NULL, 0, NULL);
        assert_true(findings->len >= 1);
        assert_string_equal(((DroverFinding *)findings->pdata[0])->code, "DRV-GUEST-OLD");
    }
    w->vm.guest_id = (char *)"solaris11_64Guest";
    assert_found(w, "warning DRV-GUEST-UNSUPPORTED 0");
    w->vm.guest_id = (char *)"otherGuest64";
    assert_found(w, "info DRV-GUEST-UNKNOWN 0");
}

static void test_tools(void **state)
{
    World *w = *state;
    w->vm.tools_status = (char *)"guestToolsNotRunning";
    assert_found(w, "warning DRV-GUEST-TOOLS 0");
    w->vm.power_state = (char *)"poweredOff";
    assert_found(w, "");
}

/* The worst comes first, however late its rule. */
static void test_order(void **state)
{
    World *w = *state;
    w->vm.change_tracking = false;
    w->vm.tools_status = (char *)"";
    w->more.port_902 = DROVER_REACH_CLOSED;
    assert_found(w, "error DRV-SOURCE-PORT-902 0\nwarning DRV-GUEST-TOOLS 0\ninfo DRV-SOURCE-CBT-OFF 0");
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_nothing),     TEST(test_states),     TEST(test_rights), TEST(test_no_right_to_read), TEST(test_encryption), TEST(test_firmware),
        TEST(test_secure_boot), TEST(test_tracking),   TEST(test_consolidation), TEST(test_which_disks),
        TEST(test_disk_kinds),  TEST(test_space),      TEST(test_room),   TEST(test_datastore),  TEST(test_host),
        TEST(test_windows),     TEST(test_guests),     TEST(test_tools),  TEST(test_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
