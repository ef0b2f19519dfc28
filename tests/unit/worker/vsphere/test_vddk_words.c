/* SPDX-License-Identifier: Apache-2.0 */
/* What `nbdkit vddk` is told, and what we make of its complaints. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "worker/vsphere/vddk_words.h"

static const DroverVddkParameters sample = {
    .program = "/usr/bin/nbdkit",
    .plugin = "vddk",
    .socket_path = "/run/drover/w/src-1.sock",
    .libdir = "/opt/vmware-vix-disklib-distrib",
    .server = "vcenter.example",
    .user = "drover@vsphere.local",
    .password_file = "/proc/self/fd/4",
    .thumbprint = "AA:BB",
    .vm = "vm-7",
    .snapshot = "snapshot-3",
    .file = "[data store 1] a b/a b.vmdk",
    .transports = "nbdssl:nbd",
    .compression = "none",
};

static void test_argv(void **state)
{
    (void)state;
    g_auto(GStrv) argv = drover_vddk_argv(&sample);
    const char *const wanted[] = {"/usr/bin/nbdkit", "--foreground", "--readonly", "--exit-with-parent", "--unix",
                                  "/run/drover/w/src-1.sock", "vddk", "libdir=/opt/vmware-vix-disklib-distrib",
                                  "server=vcenter.example", "user=drover@vsphere.local", "password=+/proc/self/fd/4",
                                  "thumbprint=AA:BB", "vm=moref=vm-7", "snapshot=snapshot-3",
                                  "file=[data store 1] a b/a b.vmdk", "transports=nbdssl:nbd", NULL};
    for (size_t i = 0; wanted[i] != NULL || argv[i] != NULL; i++)
        assert_string_equal(argv[i], wanted[i]);
}

static void test_tuning(void **state)
{
    (void)state;
    DroverVddkParameters p = sample;
    p.port = 8443;
    p.thumbprint = p.transports = "";
    p.compression = "fastlz";
    p.single_link = p.unbuffered = true;
    g_auto(GStrv) argv = drover_vddk_argv(&p);
    const char *const *has = (const char *const *)argv;
    assert_true(g_strv_contains(has, "port=8443"));
    assert_true(g_strv_contains(has, "compression=fastlz"));
    assert_true(g_strv_contains(has, "single-link=true"));
    assert_true(g_strv_contains(has, "unbuffered=true"));
    for (size_t i = 0; argv[i] != NULL; i++) {
        assert_false(g_str_has_prefix(argv[i], "thumbprint="));
        assert_false(g_str_has_prefix(argv[i], "transports="));
    }
}

static void expect(bool ended, const char *output, const char *code, DroverErrorClass error_class)
{
    g_autoptr(GError) error = NULL;
    assert_false(drover_vddk_failed(&error, ended, output));
    g_autofree char *found = drover_error_code(error->message);
    assert_string_equal(found, code);
    assert_int_equal(drover_error_class(error), error_class);
    assert_non_null(strstr(error->message, *output == '\0' ? "no reason" : output));
}

static void test_complaints(void **state)
{
    (void)state;
    expect(true, "nbdkit: error: cannot open plugin \"vddk\": /usr/lib/nbdkit/plugins/nbdkit-vddk-plugin.so: no such file",
           "DRV-SOURCE-VDDK", DROVER_ERROR_PERMANENT);
    expect(true, "nbdkit: error: libvixDiskLib.so.8: cannot open shared object file", "DRV-SOURCE-VDDK",
           DROVER_ERROR_PERMANENT);
    expect(false, "VixDiskLib_ConnectEx: Cannot complete login due to an incorrect user name or password.",
           "DRV-VCENTER-LOGIN", DROVER_ERROR_PERMANENT);
    expect(false, "VixDiskLib: SSL certificate thumbprint does not match", "DRV-VCENTER-TLS", DROVER_ERROR_PERMANENT);
    expect(false, "NFC_NO_MEMORY", "DRV-SOURCE-NFC", DROVER_ERROR_RETRYABLE);
    expect(true, "nbdkit: error: something else", "DRV-SOURCE-CHILD", DROVER_ERROR_RETRYABLE);
    expect(true, "", "DRV-SOURCE-CHILD", DROVER_ERROR_RETRYABLE);
}

static void test_libdir(void **state)
{
    (void)state;
    const char *const none[] = {"/nonexistent/a", NULL};
    const char *const some[] = {"/nonexistent/a", "/usr", NULL};
    g_autoptr(GError) error = NULL;
    assert_null(drover_vddk_libdir("", none, &error));
    assert_int_equal(drover_error_class(error), DROVER_ERROR_PERMANENT);
    assert_true(g_str_has_prefix(error->message, "DRV-SOURCE-VDDK: "));
    g_clear_error(&error);
    assert_null(drover_vddk_libdir("/nonexistent/b", some, &error)); /* what is configured is not second-guessed */
    assert_non_null(strstr(error->message, "/nonexistent/b"));
    g_autofree char *found = drover_vddk_libdir("", some, NULL);
    assert_string_equal(found, "/usr");
}

static void test_hex(void **state)
{
    (void)state;
    const unsigned char bytes[] = {0x00, 0xab, 0x1f};
    g_autofree char *text = drover_vddk_hex(bytes, sizeof bytes);
    assert_string_equal(text, "00:AB:1F");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_argv),   cmocka_unit_test(test_tuning), cmocka_unit_test(test_complaints),
        cmocka_unit_test(test_libdir), cmocka_unit_test(test_hex),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
