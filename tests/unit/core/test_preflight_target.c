/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <string.h>

#include "core/preflight/target_rules.h"

/* A cloud that nothing can be said against: two clusters, one disk of 100 GiB, one network card. */
typedef struct {
    DroverTargetFacts f;
} World;

static const char *const os_types[] = {"Other (64-bit)", "Debian GNU/Linux 11 (64-bit)", "Debian GNU/Linux 12 (32-bit)",
                                       "Debian GNU/Linux 12 (64-bit)", "CentOS 7.2", "Windows 10 (64-bit)",
                                       "Windows Server 2022 (64-bit)", "Red Hat Enterprise Linux 8.x", NULL};

static DroverTargetDisk a_disk(const char *id, uint64_t gib)
{
    return (DroverTargetDisk){.disk_id = id, .size_bytes = gib * DROVER_GIB, .wanted = "", .offering = "Custom", .tags = "",
                              .custom_size = true, .volume_id = "", .pool_id = ""};
}

static DroverTargetPool a_pool(const char *id, const char *cluster)
{
    return (DroverTargetPool){.id = id, .name = id, .scope = "CLUSTER", .cluster_id = cluster, .zone_id = "z", .tags = "", .up = true,
                              .capacity_bytes = 1000 * DROVER_GIB, .size_bytes = 500 * DROVER_GIB};
}

static DroverTargetHost a_host(const char *name, const char *cluster)
{
    return (DroverTargetHost){.name = name, .cluster_id = cluster, .tags = "", .up = true, .uefi = true, .cpus = 8,
                              .memory_bytes = 32 * DROVER_GIB};
}

static int setup(void **state)
{
    World *w = g_new0(World, 1);
    DroverTargetNetwork network = {.wanted = "", .name = "net", .account = "admin", .can_deploy = true, .cidr = "10.1.1.0/24",
                                   .gateway = "10.1.1.1", .taken = g_array_new(FALSE, FALSE, sizeof(DroverTargetTaken))};
    DroverTargetTaken taken = {"neighbour", "02:01:00:cc:00:07", "10.1.1.7"};
    g_array_append_val(network.taken, taken);
    DroverTargetNic nic = {.mac = "00:50:56:aa:00:01", .ip = "10.1.1.9", .keep = true};
    DroverTargetQuota quota = {.account = "admin", .for_vm = true, .for_volumes = true, .vms = 1, .volumes = 2, .storage_gib = 100,
                               .cpus = 2, .memory_mib = 2048, .ips = -1};
    w->f = (DroverTargetFacts){
        .appliance_known = true, .wants_vm = true, .name = "web", .boot_type = "", .boot_mode = "", .firmware = "bios", .guest_id = "debian12_64Guest",
        .account = "", .pools_known = true, .hosts_known = true, .zone = "", .zone_id = "z", .appliance_zone_id = "z",
        .appliance_cluster_id = "c0", .appliance_cluster = "C0", .hypervisor = "KVM", .vm_id = "", .vm_cluster_id = "",
        .account_known = true, .template_wanted = "", .template_name = "blank", .template_ready = true,
        .template_hypervisor = "KVM", .template_os_type = "Debian GNU/Linux 12 (64-bit)", .service_wanted = "",
        .service_name = "Small", .service_host_tags = "", .cpus = 2, .memory_bytes = 2 * DROVER_GIB, .os_type_wanted = "",
        .os_types = os_types, .custom_min_gib = 1, .custom_max_gib = 1024, .volume_max_gib = 2000, .name_taken_by = "",
        .disks = g_array_new(FALSE, FALSE, sizeof(DroverTargetDisk)), .pools = g_array_new(FALSE, FALSE, sizeof(DroverTargetPool)),
        .hosts = g_array_new(FALSE, FALSE, sizeof(DroverTargetHost)),
        .networks = g_array_new(FALSE, FALSE, sizeof(DroverTargetNetwork)),
        .nics = g_array_new(FALSE, FALSE, sizeof(DroverTargetNic)), .quotas = g_array_new(FALSE, FALSE, sizeof(DroverTargetQuota))};
    DroverTargetDisk disk = a_disk("disk0", 100);
    DroverTargetPool p0 = a_pool("p0", "c0"), p1 = a_pool("p1", "c1");
    DroverTargetHost h0 = a_host("h0", "c0"), h1 = a_host("h1", "c1");
    g_array_append_val(w->f.disks, disk);
    g_array_append_val(w->f.pools, p0);
    g_array_append_val(w->f.pools, p1);
    g_array_append_val(w->f.hosts, h0);
    g_array_append_val(w->f.hosts, h1);
    g_array_append_val(w->f.networks, network);
    g_array_append_val(w->f.nics, nic);
    g_array_append_val(w->f.quotas, quota);
    *state = w;
    return 0;
}

static int teardown(void **state)
{
    World *w = *state;
    g_array_unref(g_array_index(w->f.networks, DroverTargetNetwork, 0).taken);
    GArray *const arrays[] = {w->f.disks, w->f.pools, w->f.hosts, w->f.networks, w->f.nics, w->f.quotas};
    for (size_t i = 0; i < G_N_ELEMENTS(arrays); i++)
        g_array_unref(arrays[i]);
    g_free(w);
    return 0;
}

#define DISK(i) (&g_array_index(w->f.disks, DroverTargetDisk, i))
#define POOL(i) (&g_array_index(w->f.pools, DroverTargetPool, i))
#define HOST(i) (&g_array_index(w->f.hosts, DroverTargetHost, i))
#define NETWORK(i) (&g_array_index(w->f.networks, DroverTargetNetwork, i))
#define NIC(i) (&g_array_index(w->f.nics, DroverTargetNic, i))
#define QUOTA(i) (&g_array_index(w->f.quotas, DroverTargetQuota, i))

/* The findings must be just EXPECTED, "severity CODE" behind DRV-TARGET-, sorted by severity and joined by commas. */
static void assert_found(const World *w, const char *expected)
{
    g_autoptr(GPtrArray) findings = drover_preflight_target(&w->f);
    g_autoptr(GString) found = g_string_new(NULL);
    for (guint i = 0; i < findings->len; i++) {
        const DroverFinding *f = g_ptr_array_index(findings, i);
        assert_true(g_str_has_prefix(f->code, "DRV-TARGET-"));
        assert_true(strlen(f->message) > 20);
        g_string_append_printf(found, "%s%s %s", i ? "," : "", drover_severity_name(f->severity), f->code + 11);
    }
    assert_string_equal(found->str, expected);
}

static void test_nothing_to_say(void **state)
{
    World *w = *state;
    assert_found(w, "");
    w->f.wants_vm = false;
    w->f.name = "_";
    w->f.template_name = w->f.service_name = "";
    assert_found(w, "");
}

static void test_rights(void **state)
{
    World *w = *state;
    const char *const missing[] = {"attachVolume", "listHosts", NULL};
    const char *const none[] = {NULL};
    w->f.missing_apis = none;
    assert_found(w, "");
    w->f.missing_apis = missing;
    w->f.hosts_known = false;
    assert_found(w, "error RIGHTS,warning UNSEEN");
    w->f.missing_apis = NULL;
    w->f.pools_known = false;
    POOL(0)->up = HOST(0)->up = false; /* what is not known is not judged */
    assert_found(w, "warning UNSEEN");
    w->f.appliance_known = false;
    w->f.zone_id = w->f.name = "";
    assert_found(w, "error APPLIANCE,warning UNSEEN");
}

static void test_zone_and_names(void **state)
{
    World *w = *state;
    w->f.zone_id = "";
    assert_found(w, "error ZONE");
    w->f.zone_id = "elsewhere";
    assert_found(w, "error PLACEMENT-ZONE");
    w->f.zone_id = "z";
    const char *const bad[] = {"", "1web", "-web", "web-", "we_b", "we b", "w\xc3\xa9" "b",
                               "a23456789012345678901234567890123456789012345678901234567890abcd"};
    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        w->f.name = bad[i];
        assert_found(w, "error NAME");
    }
    w->f.name = "a23456789012345678901234567890123456789012345678901234567890abc";
    assert_found(w, "");
    w->f.name_taken_by = "vm-7";
    assert_found(w, "error NAME-TAKEN");
    w->f.vm_id = "vm-7"; /* it is there: its name is its own */
    assert_found(w, "");
    w->f.account = "tenant";
    w->f.account_known = false;
    assert_found(w, "error ACCOUNT");
}

static void test_template_and_offerings(void **state)
{
    World *w = *state;
    w->f.template_ready = false;
    w->f.template_hypervisor = "VMware";
    assert_found(w, "error TEMPLATE-STATE,error TEMPLATE-HYPERVISOR");
    w->f.template_name = "";
    w->f.service_name = "";
    w->f.template_wanted = w->f.service_wanted = "mine";
    assert_found(w, "error TEMPLATE,error SERVICE-OFFERING");
    w->f.template_name = "blank";
    w->f.template_ready = true;
    w->f.template_hypervisor = "kvm";
    w->f.service_name = "Custom";
    w->f.service_custom = true;
    assert_found(w, "error OFFERING-CUSTOM");
    w->f.service_complete = true;
    assert_found(w, "");
    w->f.memory_bytes = 33 * DROVER_GIB;
    QUOTA(0)->memory_mib = -1;
    assert_found(w, "error OFFERING-SIZE");
    HOST(1)->memory_bytes = 64 * DROVER_GIB; /* there it fits: but the volumes lie here */
    assert_found(w, "error PLACEMENT");
}

static void test_disks(void **state)
{
    World *w = *state;
    DISK(0)->offering = "";
    assert_found(w, "error DISK-OFFERING");
    DISK(0)->offering = "Large";
    DISK(0)->custom_size = false;
    DISK(0)->offering_bytes = 100 * DROVER_GIB;
    assert_found(w, "");
    DISK(0)->size_bytes++;
    assert_found(w, "error TOO-SMALL");
    DISK(0)->size_bytes--;
    DISK(0)->custom_iops = DISK(0)->local = true;
    assert_found(w, "error DISK-IOPS,error POOL-LOCAL");
    *DISK(0) = a_disk("disk0", 1025);
    POOL(0)->capacity_bytes = 10000 * DROVER_GIB;
    QUOTA(0)->storage_gib = -1;
    assert_found(w, "error SIZE");
    w->f.custom_max_gib = 0;
    assert_found(w, "");
    DISK(0)->size_bytes = 2000 * DROVER_GIB + 1;
    assert_found(w, "error SIZE");
    DISK(0)->size_bytes = 100 * DROVER_GIB;
    w->f.custom_min_gib = 200;
    assert_found(w, "error SIZE");
}

static void test_pools(void **state)
{
    World *w = *state;
    POOL(0)->allocated_bytes = 900 * DROVER_GIB + 1;
    assert_found(w, "error POOL-SPACE");
    POOL(0)->allocated_bytes = 800 * DROVER_GIB;
    assert_found(w, "warning POOL-SPACE");
    POOL(0)->allocated_bytes = 700 * DROVER_GIB;
    assert_found(w, "");
    POOL(0)->used_bytes = 450 * DROVER_GIB;
    assert_found(w, "warning POOL-SPACE");
    POOL(0)->used_bytes = 0;
    DroverTargetDisk second = a_disk("disk1", 250);
    g_array_append_val(w->f.disks, second);
    QUOTA(0)->volumes = QUOTA(0)->storage_gib = -1;
    assert_found(w, "error POOL-SPACE,warning POOL-SPACE");
    POOL(0)->allocated_bytes = 0;
    assert_found(w, "");

    POOL(0)->managed = true; /* of no matter for data disks */
    assert_found(w, "error POOL-MANAGED");
    DroverTargetPool other = a_pool("p2", "c0");
    g_array_append_val(w->f.pools, other);
    assert_found(w, "warning POOL-MANAGED");
    w->f.wants_vm = false;
    assert_found(w, "");
    POOL(0)->scope = POOL(2)->scope = "HOST";
    POOL(1)->up = false;
    assert_found(w, "error POOL,error POOL");
}

static void test_placement(void **state)
{
    World *w = *state;
    DISK(0)->tags = "ssd,fast";
    POOL(1)->tags = "fast, ssd,big";
    assert_found(w, "error PLACEMENT");
    POOL(0)->tags = "ssd";
    assert_found(w, "error PLACEMENT");
    POOL(1)->scope = "ZONE"; /* every cluster reaches it */
    assert_found(w, "");
    POOL(1)->zone_id = "other";
    assert_found(w, "error PLACEMENT");
    POOL(1)->up = false;
    assert_found(w, "error POOL");
    DISK(0)->tags = "";

    w->f.vm_id = "vm-1";
    w->f.vm_cluster_id = "c1";
    POOL(1)->zone_id = "z";
    POOL(1)->up = true;
    assert_found(w, "error PLACEMENT");
    w->f.vm_cluster_id = "c0";
    assert_found(w, "");
    w->f.vm_cluster_id = "c1";
    POOL(0)->up = false; /* only the zone-wide pool is left, whose tags keep nothing away */
    assert_found(w, "");
}

static void test_volumes_that_exist(void **state)
{
    World *w = *state;
    DISK(0)->volume_id = "v1";
    DISK(0)->offering = "";
    DISK(0)->custom_size = false;
    DISK(0)->offering_bytes = 100 * DROVER_GIB;
    QUOTA(0)->storage_gib = 0;
    assert_found(w, ""); /* not placed yet */
    DISK(0)->pool_id = "p0";
    assert_found(w, "");
    DISK(0)->pool_id = "p1";
    assert_found(w, "error PLACEMENT");
    POOL(1)->scope = "ZONE";
    assert_found(w, "");
    POOL(1)->managed = true;
    assert_found(w, "error POOL-MANAGED");
    POOL(1)->scope = "HOST";
    assert_found(w, "error POOL-LOCAL");
    DISK(0)->pool_id = "p0";
    DISK(0)->offering_bytes--;
    assert_found(w, "error TOO-SMALL");
}

static void test_hosts(void **state)
{
    World *w = *state;
    HOST(0)->up = HOST(1)->up = false;
    assert_found(w, "error HOSTS");
    HOST(1)->up = true;
    assert_found(w, "error PLACEMENT");
    POOL(0)->scope = "ZONE";
    assert_found(w, "");
    POOL(0)->scope = "CLUSTER";
    HOST(0)->up = true;
    w->f.service_host_tags = "gpu";
    assert_found(w, "error HOSTS");
    HOST(0)->tags = "gpu";
    assert_found(w, "");
    w->f.appliance_cluster_id = "";
    assert_found(w, "");
}

static void test_boot(void **state)
{
    World *w = *state;
    w->f.boot_type = "UEFI";
    assert_found(w, "error FIRMWARE");
    w->f.firmware = "efi";
    assert_found(w, "");
    w->f.secure_boot = true;
    assert_found(w, "warning SECURE-BOOT");
    w->f.boot_mode = "SECURE";
    assert_found(w, "warning SECURE-BOOT");
    HOST(0)->uefi = false;
    assert_found(w, "error PLACEMENT,warning SECURE-BOOT");
    HOST(1)->uefi = false;
    assert_found(w, "error UEFI,warning SECURE-BOOT");
    w->f.boot_type = "BIOS";
    assert_found(w, "error BOOT");
    w->f.boot_mode = "";
    assert_found(w, "error FIRMWARE");
    w->f.boot_type = "coreboot";
    assert_found(w, "error BOOT");
}

static void test_os_types(void **state)
{
    World *w = *state;
    w->f.os_type_wanted = "Debian 12";
    assert_found(w, "error OS-TYPE");
    w->f.os_type_known = true;
    assert_found(w, "");
    w->f.os_type_wanted = "";
    w->f.template_os_type = "Other (64-bit)";
    assert_found(w, "warning OS-TYPE-OTHER");
    w->f.guest_id = "solaris11_64Guest";
    assert_found(w, "warning OS-TYPE-OTHER");
    w->f.guest_id = "";
    assert_found(w, "");
    static const char *const expected[][2] = {
        {"debian12_64Guest", "Debian GNU/Linux 12 (64-bit)"}, {"debian12Guest", "Debian GNU/Linux 12 (32-bit)"},
        {"debian10_64Guest", NULL}, {"debian_64Guest", NULL}, {"debian12_64GuestX", NULL}, {"centos7_64Guest", "CentOS 7.2"},
        {"rhel8_64Guest", "Red Hat Enterprise Linux 8.x"}, {"windows9_64Guest", "Windows 10 (64-bit)"},
        {"windows2019srvNext_64Guest", "Windows Server 2022 (64-bit)"}, {"windows2022srvNext_64Guest", "Windows Server 2022 (64-bit)"},
        {"otherGuest64", "Other (64-bit)"}, {"", NULL}};
    for (size_t i = 0; i < G_N_ELEMENTS(expected); i++) {
        const char *found = drover_os_type_for(expected[i][0], os_types);
        assert_true(found == expected[i][1] || (found && expected[i][1] && strcmp(found, expected[i][1]) == 0));
    }
}

static void test_networks(void **state)
{
    World *w = *state;
    w->f.account = "tenant";
    QUOTA(0)->for_vm = false;
    NETWORK(0)->can_deploy = false;
    assert_found(w, "error NETWORK-STATE,error NETWORK-OWNER");
    NETWORK(0)->account = "";
    NETWORK(0)->can_deploy = true;
    assert_found(w, "");
    DroverTargetNic second = {.mac = "00-50-56-AA-00-01", .ip = "", .keep = true};
    g_array_append_val(w->f.nics, second);
    assert_found(w, "error MAC,warning NICS");
    NIC(1)->mac = "0050.56aa.0002";
    assert_found(w, "warning NICS");
    g_array_set_size(w->f.nics, 1);
    NETWORK(0)->name = "";
    assert_found(w, "error NETWORK");
}

static void test_addresses(void **state)
{
    World *w = *state;
    NIC(0)->mac = "02:01:00:CC:00:07";
    NIC(0)->ip = "10.1.1.7";
    assert_found(w, "error MAC,error IP");
    NIC(0)->keep = false;
    assert_found(w, "warning MAC,warning IP");
    NIC(0)->keep = true;
    NIC(0)->mac = "";
    NIC(0)->ip = "10.1.1.1";
    assert_found(w, "error IP");
    NIC(0)->ip = "10.1.2.9";
    assert_found(w, "error IP");
    NIC(0)->ip = "2001:db8::9"; /* other networks, other rules */
    assert_found(w, "");
    NIC(0)->mac = "01:00:5e:00:00:01";
    assert_found(w, "error MAC");
    NIC(0)->mac = "00:50:56:aa:00";
    assert_found(w, "error MAC");
}

static void test_quotas(void **state)
{
    World *w = *state;
    QUOTA(0)->vms = 0;
    QUOTA(0)->volumes = 1;
    QUOTA(0)->storage_gib = 99;
    QUOTA(0)->cpus = 1;
    QUOTA(0)->memory_mib = 2047;
    assert_found(w, "error QUOTA,error QUOTA,error QUOTA,error QUOTA,error QUOTA");
    QUOTA(0)->for_vm = false;
    assert_found(w, "error QUOTA");
    QUOTA(0)->for_volumes = false;
    assert_found(w, "");
    QUOTA(0)->for_vm = QUOTA(0)->for_volumes = true;
    QUOTA(0)->vms = QUOTA(0)->volumes = QUOTA(0)->storage_gib = QUOTA(0)->cpus = QUOTA(0)->memory_mib = -1;
    assert_found(w, "");
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_nothing_to_say), TEST(test_rights), TEST(test_zone_and_names), TEST(test_template_and_offerings),
        TEST(test_disks), TEST(test_pools), TEST(test_placement), TEST(test_volumes_that_exist), TEST(test_hosts), TEST(test_boot),
        TEST(test_os_types), TEST(test_networks), TEST(test_addresses), TEST(test_quotas),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
