/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/redis/address.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "lib/base/error.h"
#include "lib/redis/redis.h"

static void good(void **state)
{
    (void)state;
    static const struct {
        const char *text, *host, *path;
        int port;
    } cases[] = {
        {"redis.example", "redis.example", NULL, 6379}, {"10.0.0.1:7000", "10.0.0.1", NULL, 7000},
        {"[::1]:7000", "::1", NULL, 7000},              {"[::1]", "::1", NULL, 6379},
        {"/run/redis.sock", NULL, "/run/redis.sock", 6379}, {"unix:/run/r", NULL, "/run/r", 6379},
    };
    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_auto(DroverRedisAddress) a = {0};
        assert_true(drover_redis_address_parse(cases[i].text, 6379, &a, NULL));
        assert_int_equal(g_strcmp0(a.host, cases[i].host), 0);
        assert_int_equal(g_strcmp0(a.path, cases[i].path), 0);
        assert_int_equal(a.port, cases[i].port);
    }
}

static void bad(void **state)
{
    (void)state;
    static const char *const cases[] = {"", ":1", "h:", "h:0", "h:65536", "h:x", "[::1", "[]:1", "[::1]x", "unix:run/r", "::1"};
    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(GError) error = NULL;
        DroverRedisAddress a = {0};
        assert_false(drover_redis_address_parse(cases[i], 6379, &a, &error));
        assert_non_null(strstr(error->message, "HOST:PORT"));
    }
}

static void classes(void **state)
{
    (void)state;
    assert_int_equal(drover_redis_error_class("LOADING Redis is loading the dataset in memory"), DROVER_ERROR_RETRYABLE);
    assert_int_equal(drover_redis_error_class("READONLY You can't write against a read only replica."),
                     DROVER_ERROR_RETRYABLE);
    assert_int_equal(drover_redis_error_class("NOSCRIPT No matching script."), DROVER_ERROR_RETRYABLE);
    assert_int_equal(drover_redis_error_class("WRONGTYPE Operation against a key"), DROVER_ERROR_PERMANENT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(good), cmocka_unit_test(bad), cmocka_unit_test(classes)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
