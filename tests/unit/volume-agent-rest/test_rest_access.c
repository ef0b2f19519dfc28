/* SPDX-License-Identifier: Apache-2.0 */
/* clang-format off: cmocka wants these first */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
/* clang-format on */
#include <glib/gstdio.h>
#include <string.h>

#include "lib/base/error.h"
#include "volume-agent/rest/access.h"
#include "volume-agent/rest/rate.h"

/* ---- tokens
 * ----------------------------------------------------------------------------------------------------- */

static char *line(const char *name, const char *role, const char *salt, const char *token)
{
    g_autofree char *salted = g_strconcat(salt, token, NULL);
    g_autofree char *hex = g_compute_checksum_for_string(G_CHECKSUM_SHA256, salted, -1);
    return g_strdup_printf("%s %s sha256:%s%s%s\n", name, role, salt, *salt ? ":" : "", hex);
}

static void expect(const DroverRestTokens *tokens, const char *presented, const char *name,
                   DroverRestRole role)
{
    g_autofree char *found = NULL;
    DroverRestRole has = DROVER_REST_PUBLIC;
    bool ok = drover_rest_tokens_find(tokens, presented, &found, &has);
    assert_int_equal(ok, name != NULL);
    if (name) {
        assert_string_equal(found, name);
        assert_int_equal(has, role);
    }
}

static void test_tokens(void **state)
{
    (void)state;
    g_autofree char *a = line("script", "read", "", "first");
    g_autofree char *b = line("ops.1", "operate", "pepper", "second");
    g_autofree char *c = line("root", "admin", "salt", "third");
    g_autofree char *text = g_strconcat("# who may\n\n  ", a, b, "\t", c, "\r\n", NULL);
    g_autoptr(GError) error = NULL;
    g_autoptr(DroverRestTokens) tokens = drover_rest_tokens_parse(text, &error);
    assert_null(error);
    expect(tokens, "first", "script", DROVER_REST_READ);
    expect(tokens, "second", "ops.1", DROVER_REST_OPERATE);
    expect(tokens, "third", "root", DROVER_REST_ADMIN);
    expect(tokens, "pepper", NULL, 0);
    expect(tokens, "peppersecond", NULL, 0); /* the salt is not a part of the token */
    expect(tokens, "saltthird", NULL, 0);
    expect(tokens, "First", NULL, 0);
    expect(tokens, "first ", NULL, 0);
    expect(tokens, "", NULL, 0);
    expect(tokens, strstr(a, "sha256:") + 7, NULL, 0); /* nor is the digest */
    g_autofree char *very_long = g_strnfill(100000, 'x');
    expect(tokens, very_long, NULL, 0);
}

static void test_token_files_that_are_wrong(void **state)
{
    (void)state;
    g_autofree char *good = line("a", "read", "", "x");
    g_autofree char *again = g_strconcat(good, good, NULL);
    const char *const texts[] = {
        "",
        "# nothing\n",
        "a read\n",
        "a read secret\n",
        "a read sha256:abc\n",
        again,
        "a read sha256:zz3bf2c8d1e0a4f5b6c7d8e9fa0b1c2d3e4f5061728394a5b6c7d8e9f0a1b2c3\n",
        "a read md5:0b3bf2c8d1e0a4f5b6c7d8e9fa0b1c2d3e4f5061728394a5b6c7d8e9f0a1b2c3\n",
        "a write sha256:0b3bf2c8d1e0a4f5b6c7d8e9fa0b1c2d3e4f5061728394a5b6c7d8e9f0a1b2c3\n",
        "a public sha256:0b3bf2c8d1e0a4f5b6c7d8e9fa0b1c2d3e4f5061728394a5b6c7d8e9f0a1b2c3\n",
        "a/b read sha256:0b3bf2c8d1e0a4f5b6c7d8e9fa0b1c2d3e4f5061728394a5b6c7d8e9f0a1b2c3\n",
        "a read sha256:s:t:0b3bf2c8d1e0a4f5b6c7d8e9fa0b1c2d3e4f5061728394a5b6c7d8e9f0a1b2c3\n",
        "a read sha256:0b3bf2c8d1e0a4f5b6c7d8e9fa0b1c2d3e4f5061728394a5b6c7d8e9f0a1b2c3 more\n",
    };
    for (size_t i = 0; i < G_N_ELEMENTS(texts); i++) {
        g_autoptr(GError) error = NULL;
        assert_null(drover_rest_tokens_parse(texts[i], &error));
        assert_int_equal(drover_error_class(error), DROVER_ERROR_PERMANENT);
        assert_null(strstr(error->message, "secret")); /* somebody may have put the token there */
    }
}

static void test_roles(void **state)
{
    (void)state;
    for (DroverRestRole has = DROVER_REST_PUBLIC; has <= DROVER_REST_ADMIN; has++)
        for (DroverRestRole needs = DROVER_REST_PUBLIC; needs <= DROVER_REST_ADMIN; needs++)
            assert_int_equal(drover_rest_role_allows(has, needs), has >= needs);
}

static void test_bearer(void **state)
{
    (void)state;
    assert_string_equal(drover_rest_bearer("Bearer abc"), "abc");
    assert_string_equal(drover_rest_bearer("bearer  abc"), "abc");
    const char *const others[] = {"", "Bearer", "Bearer ", "Bearer    ", "Basic YTpi", "abc", "Bearerabc"};
    for (size_t i = 0; i < G_N_ELEMENTS(others); i++)
        assert_null(drover_rest_bearer(others[i]));
    assert_null(drover_rest_bearer(NULL));
}

static void test_keyring(void **state)
{
    (void)state;
    g_autoptr(GError) error = NULL;
    g_autofree char *dir = g_dir_make_tmp("drover-rest-XXXXXX", NULL);
    g_autofree char *path = g_build_filename(dir, "tokens", NULL);
    assert_null(drover_rest_keyring_new(path, &error)); /* not there */
    g_clear_error(&error);
    g_autofree char *first = line("a", "read", "", "first");
    g_autofree char *second = line("bb", "admin", "", "second");
    assert_true(g_file_set_contents(path, first, -1, NULL));
    g_chmod(path, 0666);
    assert_null(drover_rest_keyring_new(path, &error)); /* anybody could make himself an administrator */
    g_clear_error(&error);
    g_chmod(path, 0600);
    DroverRestKeyring *keyring = drover_rest_keyring_new(path, &error);
    assert_non_null(keyring);
    g_autofree char *name = NULL;
    DroverRestRole role = DROVER_REST_PUBLIC;
    assert_false(drover_rest_keyring_find(keyring, NULL, &name, &role));
    assert_true(drover_rest_keyring_find(keyring, "first", &name, &role));
    assert_string_equal(name, "a");

    /* A broken file takes nobody's rights away; a new one counts within a second or so. */
    assert_true(g_file_set_contents(path, "what?", -1, NULL));
    g_usleep(600000);
    g_clear_pointer(&name, g_free);
    assert_true(drover_rest_keyring_find(keyring, "first", &name, &role));
    assert_true(g_file_set_contents(path, second, -1, NULL));
    g_usleep(600000);
    g_clear_pointer(&name, g_free);
    assert_false(drover_rest_keyring_find(keyring, "first", &name, &role));
    assert_true(drover_rest_keyring_find(keyring, "second", &name, &role));
    assert_int_equal(role, DROVER_REST_ADMIN);
    drover_rest_keyring_free(keyring);

    keyring = drover_rest_keyring_new("", &error); /* no tokens at all: who can connect may do all */
    g_clear_pointer(&name, g_free);
    assert_true(drover_rest_keyring_find(keyring, NULL, &name, &role));
    assert_int_equal(role, DROVER_REST_ADMIN);
    drover_rest_keyring_free(keyring);
    g_unlink(path);
    g_rmdir(dir);
}

/* ---- rate
 * ------------------------------------------------------------------------------------------------------- */

static void test_rate(void **state)
{
    (void)state;
    g_autoptr(DroverRestRate) limit = drover_rest_rate_new(2, 5, 100);
    unsigned retry_s = 0;
    for (int i = 0; i < 5; i++)
        assert_true(drover_rest_rate_take(limit, "a", 1000, &retry_s));
    assert_false(drover_rest_rate_take(limit, "a", 1000, &retry_s));
    assert_int_equal(retry_s, 1);
    assert_true(drover_rest_rate_take(limit, "b", 1000, &retry_s)); /* somebody else's bucket */
    assert_false(drover_rest_rate_take(limit, "a", 1499, &retry_s));
    assert_true(drover_rest_rate_take(limit, "a", 1500, &retry_s));
    assert_false(drover_rest_rate_take(limit, "a", 1500, &retry_s));
    assert_false(
        drover_rest_rate_take(limit, "a", 1400, &retry_s)); /* a clock that went back fills nothing */
    for (int i = 0; i < 5; i++) /* never more than the burst, however long the pause */
        assert_true(drover_rest_rate_take(limit, "a", 1000000, &retry_s));
    assert_false(drover_rest_rate_take(limit, "a", 1000000, &retry_s));
}

static void test_rate_over_time(void **state)
{
    (void)state;
    g_autoptr(DroverRestRate) limit = drover_rest_rate_new(10, 20, 100);
    unsigned retry_s = 0, taken = 0;
    for (int64_t now_ms = 0; now_ms < 60000; now_ms += 3)
        taken += drover_rest_rate_take(limit, "greedy", now_ms, &retry_s);
    assert_in_range(taken, 20 + 595, 20 + 600);
}

static void test_rate_slow_and_off(void **state)
{
    (void)state;
    unsigned retry_s = 0;
    g_autoptr(DroverRestRate) slow = drover_rest_rate_new(0.1, 1, 100);
    assert_true(drover_rest_rate_take(slow, "a", 0, &retry_s));
    assert_false(drover_rest_rate_take(slow, "a", 0, &retry_s));
    assert_int_equal(retry_s, 10);
    assert_true(drover_rest_rate_take(slow, "a", 10000, &retry_s));
    g_autoptr(DroverRestRate) off = drover_rest_rate_new(0, 1, 100);
    for (int i = 0; i < 1000; i++)
        assert_true(drover_rest_rate_take(off, "a", 0, &retry_s));
}

static void test_rate_is_bounded(void **state)
{
    (void)state;
    g_autoptr(DroverRestRate) limit = drover_rest_rate_new(0.001, 1, 3);
    unsigned retry_s = 0;
    const char *const callers[] = {"a", "b", "c"};
    for (size_t i = 0; i < 3; i++)
        assert_true(drover_rest_rate_take(limit, callers[i], 0, &retry_s));
    assert_false(drover_rest_rate_take(limit, "a", 1, &retry_s)); /* "b" is the longest silent one now */
    assert_true(drover_rest_rate_take(limit, "d", 2, &retry_s));
    assert_false(drover_rest_rate_take(limit, "a", 3, &retry_s));
    assert_false(drover_rest_rate_take(limit, "c", 3, &retry_s));
    assert_true(drover_rest_rate_take(limit, "b", 4, &retry_s)); /* forgotten, so new */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tokens),          cmocka_unit_test(test_token_files_that_are_wrong),
        cmocka_unit_test(test_roles),           cmocka_unit_test(test_bearer),
        cmocka_unit_test(test_keyring),         cmocka_unit_test(test_rate),
        cmocka_unit_test(test_rate_over_time),  cmocka_unit_test(test_rate_slow_and_off),
        cmocka_unit_test(test_rate_is_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
