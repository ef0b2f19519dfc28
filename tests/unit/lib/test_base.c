/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <gio/gio.h>
#include <string.h>

#include "lib/base/error.h"
#include "lib/base/ids.h"
#include "lib/base/log.h"

static void expect_redacted(const char *in, const char *out)
{
    g_autofree char *got = drover_redact(in);
    assert_string_equal(got, out);
}

static void tokens_are_blanked_wherever_they_stand(void **state)
{
    (void)state;
    expect_redacted("plain text", "plain text");
    expect_redacted("migration-vol-7a3f@12.00112233445566778899aabbccddeeff",
                    "migration-vol-7a3f@12.[redacted]");
    expect_redacted("nbd://h:10809/migration-vol-7a3f%4012%2E0011aa: refused",
                    "nbd://h:10809/migration-vol-7a3f%4012%2E[redacted]: refused");
    expect_redacted("two: migration-vol-a@1.ff and migration-vol-b@2.ee.", "two: migration-vol-a@1.[redacted] and migration-vol-b@2.[redacted].");
    /* A name without its token is no secret. */
    expect_redacted("migration-vol-7a3f closed", "migration-vol-7a3f closed");
    expect_redacted("migration-vol-7a3f@12 closed", "migration-vol-7a3f@12 closed");
}

static void names_are_checked(void **state)
{
    (void)state;
    assert_true(drover_id_is_valid("web01.prod_A-1"));
    assert_false(drover_id_is_valid(""));
    assert_false(drover_id_is_valid(".."));
    assert_false(drover_id_is_valid("a/b"));
    assert_false(drover_id_is_valid("0123456789012345678901234567890123456789012345678901234567890123X"));
    assert_true(drover_id_is_valid("0123456789012345678901234567890123456789012345678901234567890123"));
    assert_true(drover_site_is_valid("site-1"));
    assert_false(drover_site_is_valid("Site"));
    assert_false(drover_site_is_valid("a.b"));
    assert_true(drover_vm_name_is_valid("web01"));
    assert_false(drover_vm_name_is_valid("1web"));
    assert_false(drover_vm_name_is_valid("web-"));
    assert_false(drover_vm_name_is_valid("web_1"));
}

static void derived_ids_are_stable(void **state)
{
    (void)state;
    g_autofree char *a = drover_task_id("job", "disk0", 0, "copy", "0-134217728");
    assert_string_equal(a, "job/disk0/r0/copy/0-134217728");
    g_autofree char *b = drover_task_id("job", NULL, 1, "start", NULL);
    assert_string_equal(b, "job/-/r1/start");
    g_autofree char *u = drover_uuid_from("x");
    g_autofree char *v = drover_uuid_from("x");
    g_autofree char *w = drover_uuid_from("y");
    assert_string_equal(u, v);
    assert_string_not_equal(u, w);
    assert_int_equal(strlen(u), 36);
    assert_int_equal(u[14], '5');
    assert_true(g_uuid_string_is_valid(u));
    g_autofree char *t1 = drover_token_new();
    g_autofree char *t2 = drover_token_new();
    assert_int_equal(strlen(t1), 32);
    assert_string_not_equal(t1, t2);
}

static void errors_carry_their_class(void **state)
{
    (void)state;
    g_autoptr(GError) error = NULL;
    assert_false(drover_fail(&error, DROVER_ERROR_FENCED, "DRV-X-1: %s", "why"));
    assert_int_equal(drover_error_class(error), DROVER_ERROR_FENCED);
    g_autofree char *code = drover_error_code(error->message);
    assert_string_equal(code, "DRV-X-1");
    g_autofree char *none = drover_error_code("DRV without a colon");
    assert_string_equal(none, "");
    g_autoptr(GError) io = g_error_new_literal(G_IO_ERROR, G_IO_ERROR_TIMED_OUT, "late");
    assert_int_equal(drover_error_class(io), DROVER_ERROR_RETRYABLE);
    g_autoptr(GError) missing = g_error_new_literal(G_IO_ERROR, G_IO_ERROR_NOT_FOUND, "gone");
    assert_int_equal(drover_error_class(missing), DROVER_ERROR_PERMANENT);
    assert_false(drover_fail(NULL, DROVER_ERROR_FATAL, "nobody listens"));
}

static void times_are_utc(void **state)
{
    (void)state;
    g_autofree char *t = drover_iso8601(INT64_C(1795439290123));
    assert_string_equal(t, "2026-11-23T13:08:10.123Z");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tokens_are_blanked_wherever_they_stand),
        cmocka_unit_test(names_are_checked),
        cmocka_unit_test(derived_ids_are_stable),
        cmocka_unit_test(errors_carry_their_class),
        cmocka_unit_test(times_are_utc),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
