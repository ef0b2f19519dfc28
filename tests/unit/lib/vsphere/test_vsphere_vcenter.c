/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <glib/gstdio.h>
#include <string.h>
#include <sys/stat.h>

#include "lib/base/error.h"
#include "lib/vsphere/vcenter.h"
#include "lib/vsphere/vsphere.h"

typedef struct {
    char *dir;
    char *file;
    char *password;
} Place;

static int set_up(void **state)
{
    Place *place = g_new0(Place, 1);
    place->dir = g_dir_make_tmp("drover-vcenter-XXXXXX", NULL);
    place->file = g_build_filename(place->dir, "vcenters.conf", NULL);
    place->password = g_build_filename(place->dir, "password", NULL);
    g_file_set_contents(place->password, "s3cr3t words \r\n", -1, NULL);
    chmod(place->password, 0600);
    g_unsetenv("DROVER_VCENTER_DC_1_PASSWORD");
    *state = place;
    return 0;
}

static int tear_down(void **state)
{
    Place *place = *state;
    g_unlink(place->file);
    g_unlink(place->password);
    g_rmdir(place->dir);
    g_free(place->dir);
    g_free(place->file);
    g_free(place->password);
    g_free(place);
    return 0;
}

static DroverVcenter *load(const Place *place, const char *keys, GError **error)
{
    g_autofree char *text = g_strdup_printf("[drover]\nx=1\n[vcenter dc-1]\n%s\n[vcenter other]\nurl=x\n", keys);
    g_file_set_contents(place->file, text, -1, NULL);
    return drover_vcenter_load(place->file, "dc-1", error);
}

#define BASE "url=https://vc.example/sdk\nuser=drover@vsphere.local\n"

static void keys_have_defaults(void **state)
{
    const Place *place = *state;
    g_autofree char *keys = g_strconcat(BASE "password-file=", place->password, NULL);
    g_autoptr(GError) error = NULL;
    g_autoptr(DroverVcenter) vcenter = load(place, keys, &error);
    assert_null(error);
    assert_string_equal(vcenter->password, "s3cr3t words ");
    assert_string_equal(vcenter->thumbprint, "");
    assert_string_equal(vcenter->transports, "nbdssl:nbd");
    assert_string_equal(vcenter->compression, "none");
    assert_int_equal(vcenter->call_timeout_ms, 120000);
    assert_int_equal(vcenter->sessions, 4);
    assert_false(vcenter->single_link);
    g_auto(GStrv) names = drover_vcenter_names(place->file, NULL);
    assert_int_equal(g_strv_length(names), 2);
    assert_string_equal(names[1], "other");
}

static void the_environment_wins(void **state)
{
    const Place *place = *state;
    g_setenv("DROVER_VCENTER_DC_1_PASSWORD", "from outside", TRUE);
    g_autoptr(GError) error = NULL;
    g_autoptr(DroverVcenter) vcenter = load(place, BASE
                                            "password-file=/nowhere\n"
                                            "thumbprint=aabbccddeeff00112233445566778899aabbccdd\nsingle-link=true\n"
                                            "call-timeout=5s\nsessions=2\ntransports=san:nbd\ncompression=skipz",
                                            &error);
    assert_null(error);
    assert_string_equal(vcenter->password, "from outside");
    assert_string_equal(vcenter->password_file, "");
    assert_string_equal(vcenter->thumbprint, "AA:BB:CC:DD:EE:FF:00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD");
    assert_true(vcenter->single_link);
    assert_int_equal(vcenter->call_timeout_ms, 5000);
}

static void expect_refused(const Place *place, const char *keys, const char *code, const char *word)
{
    g_autofree char *all = g_strdup_printf("%s\npassword-file=%s", keys, place->password);
    g_autoptr(GError) error = NULL;
    g_autoptr(DroverVcenter) vcenter = load(place, all, &error);
    assert_null(vcenter);
    assert_non_null(error);
    assert_int_equal(error->code, DROVER_ERROR_PERMANENT);
    g_autofree char *found = drover_error_code(error->message);
    assert_string_equal(found, code);
    if (strstr(error->message, word) == NULL)
        fail_msg("'%s' does not speak of %s", error->message, word);
    assert_null(strstr(error->message, "s3cr3t"));
}

static void what_does_not_fit_is_refused(void **state)
{
    const Place *place = *state;
    const char *const cases[][2] = {
        {"user=u", "url"},
        {"url=vc.example\nuser=u", "url"},
        {"url=https://u:p@vc.example/sdk\nuser=u", "credentials"},
        {"url=http://vc.example/sdk\nuser=u", "plain text"},
        {"url=https://vc.example/sdk", "user"},
        {BASE "thumbprint=aa:bb", "thumbprint"},
        {BASE "thumbprint=zz", "thumbprint"},
        {BASE "call-timeout=0", "call-timeout"},
        {BASE "call-timeout=two", "call-timeout"},
        {BASE "sessions=0", "sessions"},
        {BASE "compression=lzma", "compression"},
        {BASE "transports=nbd,san", "transports"},
        {BASE "transports=", "transports"},
        {BASE "unbuffered=perhaps", "unbuffered"},
        {BASE "pasword=x", "pasword"},
    };
    for (guint i = 0; i < G_N_ELEMENTS(cases); i++)
        expect_refused(place, cases[i][0], "DRV-VCENTER-CONFIG", cases[i][1]);
    g_autoptr(GError) error = NULL;
    g_autoptr(DroverVcenter) local = load(place, "url=http://127.0.0.1:8989/sdk\nuser=u\npassword-file=/nowhere", &error);
    assert_null(local);
    assert_true(g_str_has_prefix(error->message, "DRV-VCENTER-PASSWORD: "));
}

static void unknown_names_are_told_with_the_known(void **state)
{
    const Place *place = *state;
    g_file_set_contents(place->file, "[vcenter one]\nurl=x\n", -1, NULL);
    g_autoptr(GError) error = NULL;
    g_autoptr(DroverVcenter) vcenter = drover_vcenter_load(place->file, "two", &error);
    assert_null(vcenter);
    assert_true(g_str_has_prefix(error->message, "DRV-VCENTER-UNKNOWN: "));
    assert_non_null(strstr(error->message, "it has: one"));
}

static void passwords_that_others_can_read_are_refused(void **state)
{
    const Place *place = *state;
    chmod(place->password, 0640);
    expect_refused(place, BASE, "DRV-VCENTER-PASSWORD", "chmod 600");
    g_file_set_contents(place->password, "\n", -1, NULL); /* makes a new file */
    chmod(place->password, 0600);
    expect_refused(place, BASE, "DRV-VCENTER-PASSWORD", "no password");
    g_autoptr(GError) error = NULL;
    g_autoptr(DroverVcenter) vcenter = load(place, BASE, &error);
    assert_null(vcenter);
    assert_non_null(strstr(error->message, "DROVER_VCENTER_DC_1_PASSWORD"));
}

static void change_ids_are_checked(void **state)
{
    (void)state;
    const char *id = "52 3c ec 11 9e 2c 4c 3d-87 4a c3 4e 85 f2 ea 95/4446";
    assert_true(drover_vsphere_change_id_is_valid(id));
    const char *const wrong[] = {
        NULL, "", "*", "52 3c ec 11 9e 2c 4c 3d-87 4a c3 4e 85 f2 ea 95", "52 3c ec 11 9e 2c 4c 3d-87 4a c3 4e 85 f2 ea 95/",
        "52 3c ec 11 9e 2c 4c 3d-87 4a c3 4e 85 f2 ea 95/x", "52 3c ec 11 9e 2c 4c 3d-87 4a c3 4e 85 f2 ea 95/-1",
        "52-3c ec 11 9e 2c 4c 3d 87 4a c3 4e 85 f2 ea 95/4446", "g2 3c ec 11 9e 2c 4c 3d-87 4a c3 4e 85 f2 ea 95/4446",
        "52 3c ec 11 9e 2c 4c 3d-87 4a c3 4e 85 f2 ea 95/99999999999999999999"};
    for (guint i = 0; i < G_N_ELEMENTS(wrong); i++)
        assert_false(drover_vsphere_change_id_is_valid(wrong[i]));
    assert_true(drover_vsphere_change_id_same_epoch(id, "52 3C ec 11 9e 2c 4c 3d-87 4a c3 4e 85 f2 ea 95/1"));
    assert_false(drover_vsphere_change_id_same_epoch(id, "52 3c ec 11 9e 2c 4c 3d-87 4a c3 4e 85 f2 ea 96/4446"));
    assert_false(drover_vsphere_change_id_same_epoch(id, "*"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(keys_have_defaults, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_environment_wins, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_does_not_fit_is_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(unknown_names_are_told_with_the_known, set_up, tear_down),
        cmocka_unit_test_setup_teardown(passwords_that_others_can_read_are_refused, set_up, tear_down),
        cmocka_unit_test(change_ids_are_checked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
