/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/job-file.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void example(void **state)
{
    (void)state;
    g_autofree char *text = NULL;
    g_autoptr(GError) error = NULL;
    g_auto(DroverRequest) r;
    drover_request_init(&r);
    assert_true(g_file_get_contents(EXAMPLE, &text, NULL, NULL));
    if (!drover_job_file_parse("job.yaml", text, &r, &error))
        fail_msg("%s", error->message);
    assert_string_equal(r.job_id, "mig-web01");
    assert_int_equal(r.disks->len, 2);
    const DroverSource *data = &g_array_index(r.disks, DroverSource, 1);
    assert_string_equal(data->format, "raw");
    assert_string_equal(data->disk_id, "data");
    assert_int_equal(g_array_index(r.disks, DroverSource, 0).target_size_bytes, UINT64_C(40) << 30);
    assert_int_equal(r.bandwidth_limit, 200 << 20);
    assert_int_equal(g_strv_length(r.labels), 2);
    assert_string_equal(r.details[0], "rootDiskController=virtio");
}

static void example_of_a_vm(void **state)
{
    (void)state;
    g_autofree char *text = NULL;
    g_autoptr(GError) error = NULL;
    g_auto(DroverRequest) r;
    drover_request_init(&r);
    assert_true(g_file_get_contents(VM_EXAMPLE, &text, NULL, NULL));
    if (!drover_job_file_parse("job-vm.yaml", text, &r, &error))
        fail_msg("%s", error->message);
    assert_int_equal(r.disks->len, 2);
    const DroverSource *data = &g_array_index(r.disks, DroverSource, 1);
    assert_int_equal(data->kind, DROVER_SOURCE_VSPHERE);
    assert_string_equal(data->vcenter, "dc1");
    assert_string_equal(data->vm_moref, "vm-1042");
    assert_string_equal(data->vm_uuid, "502b3f0e-5d1c-8a3e-1f6b-0d9a7c4e2b11");
    assert_int_equal(data->disk_key, 2001);
    assert_true(r.deep_verify);
    assert_string_equal(r.source_policy.power, "ask");
    assert_int_equal(r.source_policy.shutdown_timeout_ms, 10 * 60000);
    assert_int_equal(r.source_policy.snapshot_max_age_ms, 24 * 3600000);
    assert_false(r.source_policy.crash_consistent || r.source_policy.keep_source_on);
}

static void left_out(void **state)
{
    (void)state;
    g_auto(DroverRequest) r;
    drover_request_init(&r);
    assert_true(drover_job_file_parse("x", "disks: [{source: '/img/9 Web_Server.01.vmdk'}]", &r, NULL));
    assert_string_equal(r.name, "Web-Server-01");
    assert_true(g_str_has_prefix(r.job_id, "mig-"));
}

static void told_with_line_and_key(void **state)
{
    (void)state;
    static const struct {
        const char *text, *message;
    } wrong[] = {
        {"", "j is empty"},
        {"name: x\ndisks:\n  - id: a\n    sourc: b\n", "j, line 4, disks[0].sourc: unknown key; there are source"},
        {"name: x\ndisks:\n  - id: a\n", "j, line 3, disks[0]: it has no source"},
        {"name: x\n", "Missing required mapping field: disks"},
        {"name: x\ndisks:\n  - key: 2000\n", "j, line 3, disks[0]: a key is that of a disk of the job's vm, and the job has no"},
        {"vm: {vcenter: dc1, moref: vm-1}\nname: x\ndisks:\n  - key: 2000\n    source: /a\n", "j, line 4, disks[0]: it has a source and"},
        {"vm: {vcenter: dc1, moref: vm-1}\nname: x\ndisks:\n  - key: one\n", "j, line 4, disks[0].key: source"},
        {"vm: {vcenter: dc1}\nname: x\ndisks: [{key: 1}]\n", "Missing required mapping field: moref"},
        {"vm:\n  vcentre: dc1\nname: x\ndisks: [{key: 1}]\n", "j, line 2, vm.vcentre: unknown key; there are vcenter"},
        {"vm: {vcenter: dc1, moref: vm-1}\nname: x\ndisks:\n  - key: 2000\n  - key: 2000\n", "is the source of two disks"},
        {"vm: {vcenter: dc1, moref: vm-1}\nname: x\ndisks:\n  - key: 2000\n  - source: vsphere:dc1/vm-2/2000\n",
         "j, line 5, disks[1].source: the disks of a job are those of one VM"},
        {"name: x\nsource_policy:\n  power: never\ndisks: [{source: /a}]\n", "j, line 3, source_policy.power: power 'never'"},
        {"name: x\nsource_policy:\n  shutdown_timeout: soon\ndisks: [{source: /a}]\n", "j, line 3, source_policy.shutdown_timeout:"},
        {"disks: 5\n", "j, line 1, disks: Expecting SEQUENCE"},
        {"name: x\nname: y\ndisks: [{source: /a}]\n", "already seen: name"},
        {"name: x\ndisks: [}\n", "j, line 2"},
        {"name: x\n\n\nfailover: maybe\ndisks: [{source: /a}]\n", "j, line 4, failover: expected true or false"},
        {"disks:\n - source: /a\n - source: /b\n   target_size: 4Q\n", "j, line 4, disks[1].target_size: '4Q' is not a size"},
        {"disks:\n - source: /a\n   id: d\n - source: /b\n   id: d\n", "j, line 5, disks[1].id: two disks"},
        {"disks:\n - source: /a\n - source: /a\n", "j, line 3, disks[1].source: '/a' is the source of two"},
        {"target:\n  networks: [a]\n  zon: b\ndisks: [{source: /a}]\n", "j, line 3, target.zon: unknown key"},
        {"labels: [a=b, c]\ndisks: [{source: /a}]\n", "j, line 1, labels[1]: 'c' is not key=value"},
        {"digest: md5\ndisks: [{source: /a}]\n", "j, line 1, digest: digest 'md5' is none of"},
        {"priority: -1\ndisks: [{source: /a}]\n", "j, line 1, priority: expected a whole number"},
        {"job_id: a/b\ndisks: [{source: /a}]\n", "j, line 1, job_id: job id 'a/b'"},
        {"name: -x\ndisks: [{source: /a}]\n", "j, line 1, name: name '-x'"},
        {"a: &x [*x]\n", "j, line 1, a: unknown key"},
    };
    for (guint i = 0; i < G_N_ELEMENTS(wrong); i++) {
        g_autoptr(GError) error = NULL;
        g_auto(DroverRequest) r;
        drover_request_init(&r);
        assert_false(drover_job_file_parse("j", wrong[i].text, &r, &error));
        if (!strstr(error->message, wrong[i].message))
            fail_msg("%s\n-> %s", wrong[i].text, error->message);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(example), cmocka_unit_test(example_of_a_vm), cmocka_unit_test(left_out),
                                       cmocka_unit_test(told_with_line_and_key)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
