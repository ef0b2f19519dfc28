/* SPDX-License-Identifier: Apache-2.0 */
#include "progress-aggregator/catch-up.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static DroverRecord *record(const char *key, int64_t offset, int64_t timestamp_ms)
{
    DroverRecord *r = g_new0(DroverRecord, 1);
    r->topic = g_strdup("drover.state");
    r->key = g_strdup(key);
    r->offset = offset;
    r->timestamp_ms = timestamp_ms;
    return r;
}

static void newest_per_key(void **state)
{
    (void)state;
    g_autoptr(DroverCatchUp) c = drover_catch_up_new();
    assert_false(drover_catch_up_is_active(c));
    drover_catch_up_reset(c, true, 1000);
    assert_true(drover_catch_up_is_active(c));
    drover_catch_up_add(c, record("job/a", 1, 10), 1001);
    drover_catch_up_add(c, record("job/b", 2, 11), 1001);
    drover_catch_up_add(c, record("job/a", 7, 12), 1002);
    drover_catch_up_add(c, record(NULL, 8, 12), 1002);
    g_autoptr(GPtrArray) kept = drover_catch_up_take(c);
    assert_false(drover_catch_up_is_active(c));
    assert_int_equal(kept->len, 3);
    assert_int_equal(((DroverRecord *)kept->pdata[0])->offset, 2);
    assert_int_equal(((DroverRecord *)kept->pdata[1])->offset, 7);
    assert_int_equal(((DroverRecord *)kept->pdata[2])->offset, 8);
}

static void ends(void **state)
{
    (void)state;
    g_autoptr(DroverCatchUp) c = drover_catch_up_new();
    drover_catch_up_reset(c, true, 1000);
    assert_false(drover_catch_up_is_done(c, 3999));
    assert_true(drover_catch_up_is_done(c, 4000)); /* an empty topic */
    drover_catch_up_add(c, record("a", 1, 10), 2000);
    assert_false(drover_catch_up_is_done(c, 2499));
    assert_true(drover_catch_up_is_done(c, 2500)); /* no more for a while */
    drover_catch_up_add(c, record("a", 2, 1000), 2001);
    assert_true(drover_catch_up_is_done(c, 2001)); /* written after we began */
    drover_catch_up_reset(c, true, 1000);
    for (int64_t now = 1000; now < 61000; now += 100) {
        assert_false(drover_catch_up_is_done(c, now));
        drover_catch_up_add(c, record("a", now, 10), now);
    }
    assert_true(drover_catch_up_is_done(c, 61000)); /* a clock that is behind for ever */
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(newest_per_key), cmocka_unit_test(ends)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
