/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/source.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void files(void **state)
{
    (void)state;
    g_auto(DroverSource) s = {0};
    assert_true(drover_source_parse("file:/img/a,,b.vmdk,format=vmdk,size=1G,target-size=2G,id=root,name=web root,offering=Fast", &s, NULL));
    assert_int_equal(s.kind, DROVER_SOURCE_FILE);
    assert_string_equal(s.path_or_uri, "/img/a,b.vmdk");
    assert_string_equal(s.format, "vmdk");
    assert_string_equal(s.disk_id, "root");
    assert_string_equal(s.volume_name, "web root");
    assert_string_equal(s.disk_offering, "Fast");
    assert_int_equal(s.target_size_bytes, UINT64_C(2) << 30);
    assert_int_equal(s.expected_size_bytes, UINT64_C(1) << 30);
    drover_source_clear(&s);
    s = (DroverSource){0};
    assert_true(drover_source_parse("file:///img/x.raw", &s, NULL));
    assert_string_equal(s.path_or_uri, "/img/x.raw");
    assert_null(s.format);
    drover_source_clear(&s);
    s = (DroverSource){0};
    assert_true(drover_source_parse("some/dir/../x.raw", &s, NULL));
    assert_true(g_path_is_absolute(s.path_or_uri) && g_str_has_suffix(s.path_or_uri, "/some/x.raw"));
}

static void nbd(void **state)
{
    (void)state;
    g_auto(DroverSource) s = {0};
    assert_true(drover_source_parse("nbd+unix:///disk?socket=/run/x,frozen=yes,bitmap=b0", &s, NULL));
    assert_int_equal(s.kind, DROVER_SOURCE_NBD);
    assert_string_equal(s.path_or_uri, "nbd+unix:///disk?socket=/run/x");
    assert_true(s.frozen);
    assert_string_equal(s.bitmap, "b0");
}

static void vsphere(void **state)
{
    (void)state;
    g_auto(DroverSource) s = {0};
    assert_true(drover_source_parse("vsphere:dc1/vm-12/2001,uuid=502B3F0E-5d1c-8a3e-1f6b-0d9a7c4e2b11,id=data", &s, NULL));
    assert_int_equal(s.kind, DROVER_SOURCE_VSPHERE);
    assert_string_equal(s.vcenter, "dc1");
    assert_string_equal(s.vm_moref, "vm-12");
    assert_string_equal(s.vm_uuid, "502b3f0e-5d1c-8a3e-1f6b-0d9a7c4e2b11");
    assert_int_equal(s.disk_key, 2001);
    assert_string_equal(s.disk_id, "data");
}

static void refused(void **state)
{
    (void)state;
    static const struct {
        const char *text, *reason;
    } wrong[] = {
        {"file:", "the path is empty"},
        {"", "the path is empty"},
        {"/a,format=vdi", "none of raw, qcow2"},
        {"/a,format=raw,format=raw", "given twice"},
        {"/a,b", "not key=value"},
        {"/a,=b", "not key=value"},
        {"/a,size=", "not key=value"},
        {"/a,size=many", "not a size"},
        {"/a,colour=red", "unknown key 'colour'"},
        {"/a,id=../x", "id: '../x'"},
        {"file:relative.raw", "'relative.raw' is not absolute"},
        {"nbd://h/x,size=1", "does not apply to nbd"},
        {"/a,frozen=yes", "does not apply to file"},
        {"nbd://h/x,sha256=00", "does not apply to nbd"},
        {"/a,sha256=00", "64 hex digits"},
        {"s3://bucket/x", "no kind of source"},
        {"vsphere:dc1/vm-1", "is not VCENTER/VM/KEY"},
        {"vsphere:dc1//2000", "is not VCENTER/VM/KEY"},
        {"vsphere:dc1/web/2000", "'web' is no id of a VM like vm-12"},
        {"vsphere:d c/vm-1/2000", "no name of a vCenter"},
        {"vsphere:dc1/vm-1/0", "'0' is no key of a disk"},
        {"vsphere:dc1/vm-1/2000,uuid=1", "'1' is no UUID"},
        {"vsphere:dc1/vm-1/2000,size=1", "does not apply to vsphere"},
        {"/a,uuid=502b3f0e-5d1c-8a3e-1f6b-0d9a7c4e2b11", "does not apply to file"},
        {"nbds://me:secret@host/x", "must not carry a password"},
    };
    for (guint i = 0; i < G_N_ELEMENTS(wrong); i++) {
        g_autoptr(GError) error = NULL;
        DroverSource s = {0};
        assert_false(drover_source_parse(wrong[i].text, &s, &error));
        assert_null(s.path_or_uri);
        if (!strstr(error->message, wrong[i].reason))
            fail_msg("'%s': %s", wrong[i].text, error->message);
    }
}

static void probes(void **state)
{
    (void)state;
    assert_string_equal(drover_source_probe("QFI\xfb\0\0\0\3", 8), "qcow2");
    assert_string_equal(drover_source_probe("# Disk DescriptorFile\n", 22), "vmdk");
    assert_string_equal(drover_source_probe("KDMV", 4), "vmdk");
    assert_null(drover_source_probe("QFI", 3));
    assert_null(drover_source_probe("", 0));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(files), cmocka_unit_test(nbd), cmocka_unit_test(vsphere), cmocka_unit_test(refused),
                                       cmocka_unit_test(probes)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
